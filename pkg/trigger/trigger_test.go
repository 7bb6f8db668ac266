package trigger

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

func (w *world) moved(t *testing.T) Considered {
	t.Helper()
	out, err := w.send(t, contract.SourceChangedEvent, `{"parameter":"/aws/service/base"}`)
	require.NoError(t, err)
	require.Len(t, out.Recipes, 1)
	return out.Recipes[0]
}

func (w *world) ends(t *testing.T, e *sfn.DescribeExecutionOutput, status sfntypes.ExecutionStatus) StartBuildsOutput {
	t.Helper()
	e.Status = status
	detail, err := json.Marshal(map[string]any{"executionArn": *e.ExecutionArn, "status": status, "input": *e.Input, "output": nil})
	require.NoError(t, err)
	out, err := w.send(t, contract.ExecutionChangedEvent, string(detail))
	require.NoError(t, err)
	return out
}

func TestASourceThatMovesAgainIsBuiltOnceMoreAfterTheBuildThatRuns(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, decide.Start, w.moved(t).Action)
	assert.Equal(t, decide.Skip, w.moved(t).Action, "the build that runs absorbs it")

	w.sourceIs("ami-0123456789abcdef1")
	for range 3 {
		assert.Equal(t, decide.Wait, w.moved(t).Action)
	}
	require.Len(t, w.executions, 1)

	after := w.ends(t, w.executions[0], sfntypes.ExecutionStatusFailed)
	require.Len(t, after.Recipes, 1)
	assert.Equal(t, decide.Start, after.Recipes[0].Action, after.Recipes[0].Why)
	require.Len(t, w.executions, 2)
	assert.NotEqual(t, *w.executions[0].Name, *w.executions[1].Name)
	assert.JSONEq(t, `{"recipe":"sample"}`, *w.executions[1].Input)

	again := w.ends(t, w.executions[0], sfntypes.ExecutionStatusFailed)
	assert.Empty(t, again.Recipes, "there was one follow-up")
	assert.Len(t, w.executions, 2)
}

func TestBeyondTheLimitABuildWaitsForAnEnd(t *testing.T) {
	w := newWorld(t)
	first := w.byTrigger("other-1", `{"recipe":"other"}`)
	w.byTrigger("other-2", `{"recipe":"other"}`)
	assert.Equal(t, decide.Wait, w.moved(t).Action)
	require.Len(t, w.executions, 2)
	// Step Functions may still say that the one runs whose end it reports.
	_, err := w.send(t, contract.ExecutionChangedEvent, `{"executionArn":"`+*first.ExecutionArn+`","status":"SUCCEEDED","input":"{\"recipe\":\"other\"}"}`)
	require.NoError(t, err)
	assert.Len(t, w.executions, 3)
}

func TestTheSecondFailureInARowPausesAndIsToldOnce(t *testing.T) {
	w := newWorld(t)
	for n, name := range []string{"first", "first", "second", "second", "third"} {
		e := w.byTrigger(name, `{"recipe":"sample"}`)
		w.ends(t, e, sfntypes.ExecutionStatusFailed)
		assert.Len(t, w.messages, min(n/2, 1), name)
	}
	assert.Equal(t, []string{"ami-factory: Paused: sample"}, w.messages)
	assert.Contains(t, w.moved(t).Why, "ami-factory resume sample")

	was, err := Resume(t.Context(), w.store(), "sample")
	require.NoError(t, err)
	assert.True(t, was)
	assert.Equal(t, decide.Start, w.moved(t).Action)
}

// TestWhoeverStartsExecutionsPausesNoRecipe is the attack as it was made, and its
// like: wrong inputs, delays, and names that a trigger would give.
func TestWhoeverStartsExecutionsPausesNoRecipe(t *testing.T) {
	record := func(w *world) (r decide.Record) {
		_, err := w.store().ReadJSON(t.Context(), contract.RecordKey("sample"), &r)
		require.NoError(t, err)
		return r
	}
	t.Run("three wrong inputs", func(t *testing.T) {
		w := newWorld(t)
		for _, name := range []string{"a", "b", "c"} {
			w.ends(t, w.byHand(name, `{"recipe":"sample","colour":"red"}`), sfntypes.ExecutionStatusFailed)
		}
		assert.Zero(t, record(w).Failures)
		assert.Empty(t, w.messages)
		assert.Equal(t, decide.Start, w.moved(t).Action)
	})
	t.Run("the name of a trigger's execution with another input", func(t *testing.T) {
		w := newWorld(t)
		own := w.byTrigger("own", `{"recipe":"sample"}`)
		own.Input = aws.String(`{"recipe":"sample","force":true}`)
		w.ends(t, own, sfntypes.ExecutionStatusFailed)
		assert.Zero(t, record(w).Failures)
	})
	t.Run("what a trigger started wrongly, or somebody stopped, says nothing of the recipe", func(t *testing.T) {
		w := newWorld(t)
		e := w.byTrigger("own", `{"recipe":"sample"}`)
		detail, err := json.Marshal(map[string]any{"executionArn": *e.ExecutionArn, "status": "FAILED", "input": *e.Input, "error": "InvalidInput"})
		require.NoError(t, err)
		_, err = w.send(t, contract.ExecutionChangedEvent, string(detail))
		require.NoError(t, err)
		w.ends(t, w.byTrigger("stopped", `{"recipe":"sample"}`), sfntypes.ExecutionStatusAborted)
		assert.Zero(t, record(w).Failures)
	})
	t.Run("three that are delayed", func(t *testing.T) {
		w := newWorld(t)
		for _, name := range []string{"a", "b", "c"} {
			w.byHand(name, `{"recipe":"other","delaySeconds":3600}`)
		}
		w.byHand("d", `{"recipe":"sample","delaySeconds":3599.5}`)
		assert.Equal(t, decide.Start, w.moved(t).Action)
	})
	t.Run("the name that the trigger is about to give", func(t *testing.T) {
		probe := newWorld(t)
		name := probe.moved(t).Execution
		w := newWorld(t)
		w.byHand(name, `{"recipe":"sample","colour":"red"}`).Status = sfntypes.ExecutionStatusFailed
		got := w.moved(t)
		assert.Equal(t, decide.Start, got.Action)
		assert.NotEqual(t, name, got.Execution)
		assert.True(t, strings.HasPrefix(got.Execution, name+"-"))
		require.Len(t, w.executions, 2)
		w.ends(t, w.executions[1], sfntypes.ExecutionStatusFailed)
		assert.Equal(t, 1, record(w).Failures, "its end is counted under the other name")
	})
	t.Run("its own name, which has run, is not started again", func(t *testing.T) {
		w := newWorld(t)
		w.moved(t)
		w.executions[0].Status = sfntypes.ExecutionStatusFailed
		assert.Equal(t, decide.Skip, w.moved(t).Action)
		assert.Len(t, w.executions, 1)
	})
}

func TestStartBuildsFails(t *testing.T) {
	for sentence, tc := range map[string]struct {
		kind, detail, fault, code string
		want                      failure.Code
	}{
		"an event that nobody sends":       {"Other", `{}`, "", "", failure.InvalidInput},
		"a source without a parameter":     {contract.SourceChangedEvent, `{}`, "", "", failure.InvalidInput},
		"an end of no execution":           {contract.ExecutionChangedEvent, `{}`, "", "", failure.InvalidInput},
		"a finding that is none":           {contract.InspectorEvent, `{}`, "", "", failure.InvalidInput},
		"Step Functions throttles":         {contract.NightlyEvent, `{}`, "StartExecution", "ThrottlingException", failure.Throttled},
		"too many executions":              {contract.NightlyEvent, `{}`, "StartExecution", "ExecutionLimitExceeded", failure.QuotaExceeded},
		"the list of executions is denied": {contract.NightlyEvent, `{}`, "ListExecutions", "AccessDeniedException", failure.AccessDenied},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			if tc.fault != "" {
				w.faults[tc.fault] = []error{awsErr(tc.code)}
			}
			_, err := w.send(t, tc.kind, tc.detail)
			require.Error(t, err)
			assert.Equal(t, tc.want, failure.CodeOf(err))
		})
	}
}

func TestAnEventThatWasNotTakenIsSentAgain(t *testing.T) {
	w := newWorld(t)
	_, err := w.watcher().Run(t.Context(), WatchInput{})
	require.NoError(t, err)
	w.sourceIs("ami-0123456789abcdef1")
	w.faults["PutEvents"] = []error{awsErr("ThrottlingException")}
	_, err = w.watcher().Run(t.Context(), WatchInput{})
	assert.Equal(t, failure.Throttled, failure.CodeOf(err))
	delete(w.faults, "PutEvents")
	out, err := w.watcher().Run(t.Context(), WatchInput{})
	require.NoError(t, err)
	assert.Len(t, out.Changed, 1)
	require.Len(t, w.events, 1)
	assert.Equal(t, "bus", *w.events[0].EventBusName)
}

func TestAnAnnouncementThatComesFiveTimesMakesTheWatcherLookOnce(t *testing.T) {
	w := newWorld(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})

	const topic, id = "arn:aws:sns:us-east-1:137112412989:updates", "95df01b4-ee98-5cb9-9903-4c221d41eb5e"
	sum := sha256.Sum256([]byte("Message\nm\nMessageId\n" + id + "\nTimestamp\nt\nTopicArn\n" + topic + "\nType\nNotification\n"))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	require.NoError(t, err)
	payload := `{"Records":[{"EventSource":"aws:sns","Sns":{"Type":"Notification","MessageId":"` + id + `","TopicArn":"` + topic + `",
		"Subject":null,"Message":"m","Timestamp":"t","SignatureVersion":"2","Signature":"` + base64.StdEncoding.EncodeToString(signature) + `",
		"SigningCertUrl":"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem"}}]}`
	var fetched []string
	var down error
	hear := func(payload string) (AnnouncedOutput, error) {
		var in Announcements
		require.NoError(t, json.Unmarshal([]byte(payload), &in))
		return ReleaseAnnounced{
			Settings: Settings{AnnouncementTopics: []string{topic}}, Store: w.store(), Watch: w.watcher(),
			Certificate: func(_ context.Context, address string) ([]byte, error) {
				fetched = append(fetched, address)
				return certificate, down
			},
		}.Run(t.Context(), in)
	}

	down = errors.New("no route to host")
	_, err = hear(payload)
	assert.Equal(t, failure.ServiceUnavailable, failure.CodeOf(err))
	down = nil
	looks := 0
	for range 5 {
		out, err := hear(payload)
		require.NoError(t, err)
		if out.Watched != nil {
			looks++
			assert.Equal(t, 1, out.Watched.Sources)
		}
	}
	assert.Equal(t, 1, looks)

	_, err = hear(strings.Replace(payload, `"Message":"m"`, `"Message":"another"`, 1))
	assert.Equal(t, failure.AnnouncementRefused, failure.CodeOf(err))
	fetched = nil
	_, err = hear(strings.Replace(payload, "sns.us-east-1.amazonaws.com", "sns.example.org", 1))
	assert.Equal(t, failure.AnnouncementRefused, failure.CodeOf(err))
	assert.Empty(t, fetched, "nothing is fetched from anybody's address")
}

func TestANightWritesAgesAndPauses(t *testing.T) {
	w := newWorld(t)
	const paused0, paused1 = `"RecipesPaused":0`, `"RecipesPaused":1`
	none := w.night(t)
	assert.Contains(t, none, paused0)
	assert.NotContains(t, none, `"NewestImageAge":`, "nothing is published yet")

	w.publish(home, publishedID, start.Add(-36*time.Hour))
	w.fs["components/motd/install.sh"].Data = []byte("#!/bin/bash\necho other > /etc/motd\n")
	assert.Contains(t, w.night(t), `"NewestImageAge":129600`, "whatever it was built from")

	w.keep(contract.RecordKey("sample"), `{"failures":3,"paused":true}`)
	assert.Contains(t, w.night(t), paused1)

	w.point(home, "ami-0ffffffffffffffff")
	gone := w.night(t)
	assert.Contains(t, gone, paused1)
	assert.NotContains(t, gone, `"NewestImageAge":`, "the pointer names an image that no longer exists")
}
