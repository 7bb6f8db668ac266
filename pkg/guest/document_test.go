package guest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/guest"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	cloudec2 "github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
)

// rig is an embedded AWS that serves, with one instance whose agent answers every
// script with its text in capitals.
type rig struct {
	*ssm.Client
	instance string
}

func newRig(t *testing.T) rig {
	t.Helper()
	cloud, err := localcloud.New(t.Context(), localcloud.Config{Clock: clock.NewReal(), Driver: simulated.New(simulated.Options{
		Clock: clock.NewReal(),
		Respond: func(_ context.Context, _ vm.Launch, cmd vm.Command) vm.Result {
			return vm.Result{Stdout: []byte(strings.ToUpper(string(cmd.Stdin)))}
		},
	})})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cloud.Close(context.Background())) })
	_, err = cloud.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: "ba5e"}))
	ids, err := cloud.EC2.RegisterBase(cloudec2.BaseImage{Name: "debian-12", OwnerID: "136693071363", ImageDir: dir})
	require.NoError(t, err)
	cfg := cloud.AWSConfig("")
	out, err := ec2.NewFromConfig(cfg).RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: aws.String(ids[cfg.Region]), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
	})
	require.NoError(t, err)
	r := rig{ssm.NewFromConfig(cfg), *out.Instances[0].InstanceId}
	require.Eventually(t, func() bool {
		up, err := guest.Online(t.Context(), r, r.instance)
		return err == nil && up
	}, time.Minute, 10*time.Millisecond)
	return r
}

func (r rig) step() guest.Step {
	return guest.Step{InstanceID: r.instance, Execution: "run", Name: "seal", Script: "true", Timeout: 10 * time.Minute}
}

// change adds a version to the document, and makes it the default if it is to run.
func (r rig) change(t *testing.T, runs bool) {
	t.Helper()
	other := strings.Replace(contract.ScriptDocumentContent, "{{ commands }}", "id; {{ commands }}", 1)
	out, err := r.UpdateDocument(t.Context(), &ssm.UpdateDocumentInput{Name: aws.String(contract.ScriptDocument), Content: &other, DocumentVersion: aws.String("$LATEST")})
	require.NoError(t, err)
	if runs {
		_, err = r.UpdateDocumentDefaultVersion(t.Context(), &ssm.UpdateDocumentDefaultVersionInput{Name: aws.String(contract.ScriptDocument), DocumentVersion: out.DocumentDescription.DocumentVersion})
		require.NoError(t, err)
	}
}

func TestScriptsRunInTheFactorysOwnDocument(t *testing.T) {
	r := newRig(t)
	require.NoError(t, guest.StoreDocument(t.Context(), r))
	described, err := r.DescribeDocument(t.Context(), &ssm.DescribeDocumentInput{Name: aws.String(contract.ScriptDocument)})
	require.NoError(t, err)
	assert.Equal(t, guest.DocumentHash(), *described.Document.Hash, "what this program computes is what the service reports")
	id, err := guest.Send(t.Context(), r, r.step())
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		out, err := guest.Poll(t.Context(), r, r.instance, id)
		return err == nil && out.OK() && out.Stdout == "TRUE\n"
	}, time.Minute, 10*time.Millisecond)
	listed, err := r.ListCommands(t.Context(), &ssm.ListCommandsInput{CommandId: &id})
	require.NoError(t, err)
	assert.Equal(t, contract.ScriptDocument, *listed.Commands[0].DocumentName)
}

func TestAChangedDocumentRunsNothing(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(*testing.T, rig)
		runs   bool
	}{
		"another version is the default":                           {func(t *testing.T, r rig) { r.change(t, true) }, false},
		"another version that commands do not use changes nothing": {func(t *testing.T, r rig) { r.change(t, false) }, true},
		"it was deleted": {func(t *testing.T, r rig) {
			_, err := r.DeleteDocument(t.Context(), &ssm.DeleteDocumentInput{Name: aws.String(contract.ScriptDocument)})
			require.NoError(t, err)
		}, false},
		"the same document in other bytes": {func(t *testing.T, r rig) {
			var indented bytes.Buffer
			require.NoError(t, json.Indent(&indented, []byte(contract.ScriptDocumentContent), "", " "))
			_, err := r.DeleteDocument(t.Context(), &ssm.DeleteDocumentInput{Name: aws.String(contract.ScriptDocument)})
			require.NoError(t, err)
			_, err = r.CreateDocument(t.Context(), &ssm.CreateDocumentInput{Name: aws.String(contract.ScriptDocument), Content: aws.String(indented.String()), DocumentType: types.DocumentTypeCommand})
			require.NoError(t, err)
		}, false},
		"it was changed, and deployed again": {func(t *testing.T, r rig) {
			r.change(t, true)
			require.NoError(t, guest.StoreDocument(t.Context(), r))
		}, true},
		"the default was moved to an old version, and deployed again": {func(t *testing.T, r rig) {
			r.change(t, true)
			require.NoError(t, guest.StoreDocument(t.Context(), r))
			_, err := r.UpdateDocumentDefaultVersion(t.Context(), &ssm.UpdateDocumentDefaultVersionInput{Name: aws.String(contract.ScriptDocument), DocumentVersion: aws.String("2")})
			require.NoError(t, err)
			require.NoError(t, guest.StoreDocument(t.Context(), r))
		}, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t)
			require.NoError(t, guest.StoreDocument(t.Context(), r))
			tc.change(t, r)
			_, err := guest.Send(t.Context(), r, r.step())
			if tc.runs {
				require.NoError(t, err)
				return
			}
			require.Equal(t, failure.DocumentChanged, failure.CodeOf(err), "%v", err)
			assert.ErrorContains(t, err, contract.ScriptDocument)
			assert.ErrorContains(t, err, guest.DocumentHash())
			listed, err := r.ListCommands(t.Context(), &ssm.ListCommandsInput{})
			require.NoError(t, err)
			assert.Empty(t, listed.Commands)
		})
	}
}

// TestTheDocumentIsItsOwnCanonicalForm proves that whatever reads the document as JSON on
// its way to Systems Manager and writes it again, with sorted keys, keeps its bytes.
func TestTheDocumentIsItsOwnCanonicalForm(t *testing.T) {
	var v any
	require.NoError(t, json.Unmarshal([]byte(contract.ScriptDocumentContent), &v))
	var again bytes.Buffer
	encoder := json.NewEncoder(&again)
	encoder.SetEscapeHTML(false)
	require.NoError(t, encoder.Encode(v))
	assert.Equal(t, again.String(), contract.ScriptDocumentContent+"\n")
}

func TestADocumentThatCannotBeStoredIsAnError(t *testing.T) {
	r := newRig(t)
	cfg := r.Options()
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIAOTHER", SecretAccessKey: "x"}, nil
	})
	assert.ErrorContains(t, guest.StoreDocument(t.Context(), ssm.New(cfg)), "document "+contract.ScriptDocument)
}
