package factory

import (
	"cmp"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/program"
)

// gossModule is the Go module of the check engine.
const gossModule = "github.com/goss-org/goss"

// GuestArchitectures are those of the recipes that the functions carry, in AWS's
// words: the deployment needs a check engine for each.
func GuestArchitectures() []string {
	found := map[string]bool{}
	for _, r := range carriedRecipes() {
		found[r.Architecture] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// gossFile is the check engine for guests of an architecture.
func (p *Props) gossFile(architecture string) string {
	return filepath.Join(cmp.Or(p.GossDir, filepath.Join("build", "goss")), program.GOARCH(architecture))
}

func newEngines(scope constructs.Construct, props *Props) map[string]awss3assets.Asset {
	out := map[string]awss3assets.Asset{}
	for _, architecture := range GuestArchitectures() {
		out[architecture] = awss3assets.NewAsset(scope, jsii.String("Goss-"+architecture), &awss3assets.AssetProps{
			Path: jsii.String(props.gossFile(architecture)),
		})
	}
	return out
}

// describeEngines is what the functions read of the check engines.
func (sh shared) describeEngines(props *Props) string {
	all := program.Engines{}
	for architecture, asset := range sh.engines {
		file := props.gossFile(architecture)
		all[architecture] = program.Engine{
			Bucket: *asset.S3BucketName(), Key: *asset.S3ObjectKey(), SHA256: fileSHA256(file), Version: program.ModuleVersion(file, gossModule),
		}
	}
	raw, err := json.Marshal(all)
	if err != nil {
		panic(err) // texts marshal
	}
	return string(raw)
}

// engineARNs are of the objects that hold the check engines.
func (sh shared) engineARNs() []string {
	var out []string
	for _, architecture := range slices.Sorted(maps.Keys(sh.engines)) {
		asset := sh.engines[architecture]
		out = append(out, *asset.Bucket().ArnForObjects(asset.S3ObjectKey()))
	}
	return out
}
