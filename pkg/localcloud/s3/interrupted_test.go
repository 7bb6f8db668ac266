package s3_test

import (
	"bytes"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

// serverLog is what net/http reports of a server.
type serverLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// An answer that has begun cannot become an error: what is sent of the object
// would be followed by XML, and net/http would report a second WriteHeader.
func TestAnObjectThatCannotBeReadToItsEndCutsTheConnection(t *testing.T) {
	const size = 4 << 20
	for sentence, interrupt := range map[string]func(t *testing.T, r *rig){
		"the object's file is too short": func(t *testing.T, r *rig) {
			require.NoError(t, filepath.WalkDir(r.dir, func(path string, entry fs.DirEntry, err error) error {
				if info, infoErr := entry.Info(); err == nil && infoErr == nil && info.Size() == size {
					return os.Truncate(path, size/2)
				}
				return err
			}))
			out, err := r.client(account, "eu-west-1").GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
			require.NoError(t, err)
			defer out.Body.Close()
			got, err := io.ReadAll(out.Body)
			require.Error(t, err)
			assert.NotContains(t, string(got), "<Error>")
		},
		"the client goes away": func(t *testing.T, r *rig) {
			out, err := r.client(account, "eu-west-1").GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
			require.NoError(t, err)
			require.NoError(t, out.Body.Close())
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t)
			var logged serverLog
			server := httptest.NewUnstartedServer(wire.Handler(wiretest.Options(), r.service.Wire()))
			server.Config.ErrorLog = log.New(&logged, "", 0)
			server.Start()
			r.url = server.URL
			makeBucket(t, r.service, "b-1")
			putText(t, r.service, "k", strings.Repeat("x", size))
			interrupt(t, r)
			server.Close() // waits for the handler
			assert.Empty(t, logged.String())
		})
	}
}
