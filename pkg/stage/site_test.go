package stage

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// endedReport is the report of an execution that published an image.
func endedReport(recipe, execution string, at time.Time) evidence.Report {
	r := evidence.Report{Recipe: recipe, Status: contract.Published}
	r.Execution.Name, r.Execution.Ended = execution, at
	r.SetImages(map[string]string{home: "ami-" + execution})
	return r
}

func siteOf(s *fakeS3, r evidence.Report) error {
	in := NotifyInput{}
	in.Now = r.Execution.Ended
	return Notify{Settings: settings(), Store: s.store(), Keys: s.directory()}.site(context.Background(), in, r)
}

func TestNotifyWritesTheIndexPageOfAllRecipes(t *testing.T) {
	w := newWorld(t)
	_, err := w.publish(t)
	require.NoError(t, err)
	require.NoError(t, siteOf(w.s3, endedReport("another", "another-1", start)))
	_, err = notify(t, w.s3, &fakeTopic{}, &fakeBus{}, settings(), NotifyInput{
		CleanupInput: CleanupInput{Job: w.in.Job, Outcome: "Published"}, Images: map[string]string{home: "ami-new", remote: "ami-copy"}, Results: w.in.Results, Left: []string{},
	})
	require.NoError(t, err)
	page := string(w.s3.get(contract.SitePage))
	for _, text := range []string{"another", "ami-another-1", "debian", "ami-new", "ami-copy", `href="../executions/run/report.html"`, `href="../executions/another-1/report.html"`} {
		assert.True(t, strings.Contains(page, text), text)
	}
	assert.Contains(t, string(w.s3.get(contract.SummaryKey("debian"))), `"execution":"run"`)
}

func TestAnExecutionWithoutARecipeIsNotOnTheIndexPage(t *testing.T) {
	s := newS3(t)
	require.NoError(t, siteOf(s, evidence.Report{Status: contract.FailedClean}))
	assert.Nil(t, s.get(contract.SitePage))
}

func TestASummaryThatCannotBeReadHidesNoOther(t *testing.T) {
	for name, broken := range map[string]string{
		"no JSON": `{"schema":`, "another type": `[1]`, "another schema": `{"schema":"x","recipe":"broken"}`, "of another recipe": `{"schema":"` + evidence.SummarySchema + `","recipe":"good"}`, "nothing": ``,
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			s.put(contract.SummaryKey("broken"), []byte(broken))
			require.NoError(t, siteOf(s, endedReport("good", "good-1", start)))
			page := string(s.get(contract.SitePage))
			assert.Equal(t, 1, strings.Count(page, "Its summary cannot be read"))
			assert.Equal(t, 1, strings.Count(page, "ami-good-1"))
		})
	}
}

// rival has somebody else write the page before a write of it, as often as it says.
type rival struct {
	store.ObjectAPI
	times int
	write func()
}

func (r *rival) PutObject(ctx context.Context, in *s3.PutObjectInput, opts ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	if *in.Key == contract.SitePage && r.times > 0 {
		r.times--
		r.write()
	}
	return r.ObjectAPI.PutObject(ctx, in, opts...)
}

func TestAnIndexPageThatAnotherWroteMeanwhileIsNotOverwrittenWithLess(t *testing.T) {
	s := newS3(t)
	require.NoError(t, siteOf(s, endedReport("mine", "mine-1", start)))
	other := endedReport("other", "other-1", start.Add(time.Minute))
	api := &rival{ObjectAPI: s, times: 1, write: func() { require.NoError(t, siteOf(s, other)) }}
	mine := endedReport("mine", "mine-2", start.Add(time.Minute))
	in := NotifyInput{}
	in.Now = start
	require.NoError(t, Notify{Store: store.Store{Bucket: bucket, API: api}, Keys: s.directory()}.site(t.Context(), in, mine))
	page := s.get(contract.SitePage)
	assert.True(t, evidence.ShowsExecution(page, "mine-2"))
	assert.True(t, evidence.ShowsExecution(page, "other-1"))
}

func TestAnIndexPageThatOthersKeepWritingIsTriedAgainLater(t *testing.T) {
	s := newS3(t)
	n := 0
	api := &rival{ObjectAPI: s, times: 1000}
	api.write = func() { n++; s.put(contract.SitePage, fmt.Appendf(nil, "%d", n)) } // which shows no execution
	in := NotifyInput{}
	in.Now = start
	err := Notify{Store: store.Store{Bucket: bucket, API: api}, Keys: s.directory()}.site(t.Context(), in, endedReport("mine", "mine-1", start))
	assert.EqualError(t, err, "s3://"+bucket+"/site/index.html was written by another execution in each of 8 attempts")
}

func TestExecutionsThatEndTogetherAreAllOnTheIndexPage(t *testing.T) {
	s := newS3(t)
	var wg sync.WaitGroup
	errs := make([]error, 24)
	for i := range errs {
		wg.Go(func() {
			recipe := fmt.Sprintf("recipe-%02d", i)
			for { // the state machine tries again
				if errs[i] = siteOf(s, endedReport(recipe, recipe+"-1", start)); errs[i] == nil || !strings.Contains(errs[i].Error(), "attempts") {
					return
				}
			}
		})
	}
	wg.Wait()
	page := s.get(contract.SitePage)
	for i, err := range errs {
		require.NoError(t, err)
		assert.True(t, evidence.ShowsExecution(page, fmt.Sprintf("recipe-%02d-1", i)), i)
	}
}
