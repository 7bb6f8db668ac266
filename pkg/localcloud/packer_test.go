package localcloud_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
)

// replayed is a recording of requests to EC2 that is sent again, with the ids
// that the answers give this time.
type replayed struct {
	*testing.T
	cfg    aws.Config
	url    string
	values map[string]string
	body   string // of the last request
	answer string
}

func (r *replayed) ask() {
	r.Helper()
	body := os.Expand(r.body, func(name string) string {
		require.Contains(r, r.values, name, "the recording names what no answer gave")
		return r.values[name]
	})
	request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, r.url, strings.NewReader(body))
	require.NoError(r, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	credentials, err := r.cfg.Credentials.Retrieve(r.Context())
	require.NoError(r, err)
	sum := sha256.Sum256([]byte(body))
	require.NoError(r, v4.NewSigner().SignHTTP(r.Context(), credentials, request, hex.EncodeToString(sum[:]), "ec2", region, time.Now()))
	response, err := http.DefaultClient.Do(request)
	require.NoError(r, err)
	raw, err := io.ReadAll(response.Body)
	require.NoError(r, err)
	require.NoError(r, response.Body.Close())
	require.Equal(r, http.StatusOK, response.StatusCode, "%s\n%s", body, raw)
	r.answer = string(raw)
}

// first is the text of the first element of a name in the last answer.
func (r *replayed) first(element string) string {
	r.Helper()
	decoder := xml.NewDecoder(strings.NewReader(r.answer))
	for {
		token, err := decoder.Token()
		require.NoError(r, err, "no <%s> in %s", element, r.answer)
		if begin, ok := token.(xml.StartElement); ok && begin.Name.Local == element {
			var text string
			require.NoError(r, decoder.DecodeElement(&text, &begin))
			return text
		}
	}
}

func (r *replayed) play(file string) {
	r.Helper()
	f, err := os.Open(file)
	require.NoError(r, err)
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "", "#":
		case ">":
			r.body = rest
			r.ask()
		case "?":
			require.Eventually(r, func() bool {
				if !strings.Contains(r.answer, rest) {
					r.ask()
				}
				return strings.Contains(r.answer, rest)
			}, time.Minute, 20*time.Millisecond, "%s: %s", r.body, rest)
		case "<":
			name, element, _ := strings.Cut(rest, " ")
			r.values[name] = r.first(element)
		default:
			r.Fatalf("the recording has the line %q", lines.Text())
		}
	}
	require.NoError(r, lines.Err())
}

func TestWhatPackerSendsBakesAnImageAndLeavesNothingElse(t *testing.T) {
	c := listening(t)
	dir := filepath.Join(t.TempDir(), "base")
	require.NoError(t, makeImage(dir))
	_, err := c.EC2.RegisterBase(ec2.BaseImage{Name: "debian-12-amd64-20260101-0042", OwnerID: "136693071363", ImageDir: dir})
	require.NoError(t, err)
	r := &replayed{T: t, cfg: c.AWSConfigFor(account, region), url: c.URL(), values: map[string]string{}}
	r.play("testdata/packer/amazon-ebs.txt")

	client := sdkec2.NewFromConfig(c.AWSConfigFor(account, region))
	images, err := client.DescribeImages(t.Context(), &sdkec2.DescribeImagesInput{Owners: []string{"self"}})
	require.NoError(t, err)
	require.Len(t, images.Images, 1)
	assert.Equal(t, r.values["image"], *images.Images[0].ImageId)
	assert.Equal(t, []ec2types.Tag{{Key: aws.String("built_by"), Value: aws.String("packer")}}, images.Images[0].Tags)
	shared, err := client.DescribeImageAttribute(t.Context(), &sdkec2.DescribeImageAttributeInput{ImageId: images.Images[0].ImageId, Attribute: ec2types.ImageAttributeNameLaunchPermission})
	require.NoError(t, err)
	require.Len(t, shared.LaunchPermissions, 1)
	assert.Equal(t, "444455556666", *shared.LaunchPermissions[0].UserId)
	keys, err := client.DescribeKeyPairs(t.Context(), &sdkec2.DescribeKeyPairsInput{})
	require.NoError(t, err)
	assert.Empty(t, keys.KeyPairs)
	groups, err := client.DescribeSecurityGroups(t.Context(), &sdkec2.DescribeSecurityGroupsInput{})
	require.NoError(t, err)
	require.Len(t, groups.SecurityGroups, 1)
	assert.Equal(t, "default", *groups.SecurityGroups[0].GroupName)
}
