package stage

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// uploadRecorder notes the uploads that are presigned, by the name of the object.
type uploadRecorder struct {
	*fakeS3
	uploads map[string]upload
}

// upload is what an address permits.
type upload struct {
	size int64 // 0: any
	once bool
}

func (u uploadRecorder) PresignPutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error) {
	u.uploads[path.Base(*in.Key)] = upload{aws.ToInt64(in.ContentLength), aws.ToString(in.IfNoneMatch) == "*"}
	return u.fakeS3.PresignPutObject(ctx, in, o...)
}

// presigned are all uploads that guests are given addresses for: of a builder, and of a
// verifier that runs every engine.
func presigned(t *testing.T) map[string]upload {
	t.Helper()
	l, s, _ := launchStage(t)
	recorded := uploadRecorder{s, map[string]upload{}}
	l.Store.Presign = recorded
	_, err := l.Run(t.Context(), LaunchInput{Job: job(t, s, "LaunchBuilder", testPlan()), Role: "builder"})
	require.NoError(t, err)

	p := testPlan()
	p.Engines = everyEngine()
	r := RunCompliance{Settings: settings(), Store: l.Store, SSM: newSSM(), Files: fstest.MapFS{
		checksScript: {Data: []byte("x")}, inventoryScript: {Data: []byte("x")}, enginesScript: {Data: []byte("x")},
	}}
	_, err = r.Run(t.Context(), ComplianceInput{Job: job(t, s, "RunCompliance", p), ImageID: "ami-new", InstanceID: "i-2"})
	require.NoError(t, err)
	return recorded.uploads
}

func everyEngine() compliance.Engines {
	return compliance.Engines{
		Script: &compliance.Script{}, OpenSCAP: &compliance.OpenSCAP{Stream: "s.xml", SHA256: "5e"}, Bottlerocket: &compliance.Bottlerocket{},
	}
}

// tooLarge is an S3 whose objects have one byte more than they may have. Reading them
// fails the test.
type tooLarge struct {
	*fakeS3
	t    *testing.T
	size int64
}

func (f tooLarge) GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	return &s3.GetObjectOutput{ContentLength: &f.size, Body: io.NopCloser(f)}, nil
}

func (f tooLarge) Read([]byte) (int, error) {
	assert.Fail(f.t, "an object that is too large is read")
	return 0, io.ErrUnexpectedEOF
}

// Whoever adds an address for an upload finds it missing here.
func TestWhatGuestsUploadIsBounded(t *testing.T) {
	type reader func(context.Context, store.Store) error
	e := Execution{Name: "run"}
	in := ComplianceInput{Job: Job{Execution: e}}
	p := testPlan()
	p.Engines = everyEngine()
	engine := func(name string) map[string]reader {
		only := p
		only.Engines = map[string]compliance.Engines{
			compliance.EngineScript:       {Script: p.Engines.Script},
			compliance.EngineOpenSCAP:     {OpenSCAP: p.Engines.OpenSCAP},
			compliance.EngineBottlerocket: {Bottlerocket: p.Engines.Bottlerocket},
		}[name]
		return map[string]reader{
			"ComplianceFailed": func(ctx context.Context, s store.Store) error {
				_, err := CheckCompliance{Store: s}.outputs(ctx, in, only, printed{Engines: map[string]string{name: "5e"}})
				return err
			},
			"RecordMismatch": func(ctx context.Context, s store.Store) error {
				_, err := keptOutputs(ctx, s, e, []string{name}, nil)
				return err
			},
		}
	}
	type object struct {
		most    int64
		upload  upload
		readers map[string]reader // by the failure's code
	}
	engineOutput := func(name string) object {
		return object{compliance.MaxPacked, upload{store.AnySize, true}, engine(name)}
	}
	objects := map[string]object{
		// Their size is signed. The readers of both beyond this package read as much.
		contract.ProvisionedObject: {contract.BuilderUploadBytes, upload{contract.BuilderUploadBytes, true}, nil},
		contract.StepsObject:       {contract.BuilderUploadBytes, upload{contract.BuilderUploadBytes, false}, nil},

		contract.RawResultsObject: {compliance.MaxOutput, upload{store.AnySize, true}, map[string]reader{
			"ComplianceFailed": func(ctx context.Context, s store.Store) error {
				_, err := CheckCompliance{Store: s}.results(ctx, in, "5e")
				return err
			},
			"RecordMismatch": func(ctx context.Context, s store.Store) error {
				_, err := keptOutput(ctx, s, rawResultsKey(e), "5e")
				return err
			},
		}},
		contract.RawInventoryObject: {inventory.MaxPacked, upload{store.AnySize, true}, map[string]reader{
			"ComplianceFailed": func(ctx context.Context, s store.Store) error {
				_, err := CheckCompliance{Store: s}.inventoryOf(ctx, in, "5e")
				return err
			},
		}},
		contract.EngineResultsObject(compliance.EngineScript):       engineOutput(compliance.EngineScript),
		contract.EngineResultsObject(compliance.EngineOpenSCAP):     engineOutput(compliance.EngineOpenSCAP),
		contract.EngineResultsObject(compliance.EngineBottlerocket): engineOutput(compliance.EngineBottlerocket),
	}
	signed := presigned(t)
	assert.Equal(t, slices.Sorted(maps.Keys(objects)), slices.Sorted(maps.Keys(signed)))
	for name, o := range objects {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, o.upload, signed[name], "an address that may be used again signs the size, or old versions pile up")
			for code, read := range o.readers {
				large := tooLarge{newS3(t), t, o.most + 1}
				err := read(t.Context(), store.Store{Bucket: bucket, API: large})
				requireCode(t, failure.Code(code), err)
				assert.Contains(t, err.Error(), fmt.Sprintf("s3://factory/executions/run/%s has %d bytes; at most %d are read", name, o.most+1, o.most))
			}
		})
	}
	t.Run("the verdict of a builder is asked over SSM instead", func(t *testing.T) {
		large := tooLarge{newS3(t), t, contract.BuilderUploadBytes + 1}
		report, came, err := CheckInstance{Store: store.Store{Bucket: bucket, API: large}}.uploaded(t.Context(), InstanceInput{Job: Job{Execution: e}})
		require.NoError(t, err)
		assert.True(t, came)
		assert.Nil(t, report)
	})
}
