package planner_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/planner"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/source"
	"github.com/ami-factory/ami-factory/userdata"
)

const (
	home     = "eu-west-1"
	debian   = "136693071363"
	docker12 = "debian-12-docker" // builds on the parameters below
	docker13 = "debian-13-docker"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// reads counts how often each file of the user data is read.
type reads struct {
	fs.FS
	of map[string]int
}

func (r *reads) Open(name string) (fs.File, error) {
	r.of[name]++
	return r.FS.Open(name)
}

// setUp is a planner over the project's user data and an embedded AWS with the images
// of Debian's that the recipes build on.
func setUp(t testing.TB) (planner.Planner, *reads) {
	t.Helper()
	cloud, err := localcloud.New(t.Context(), localcloud.Config{Driver: simulated.New(simulated.Options{}), Clock: clock.NewVirtual(start), Account: "111122223333", Region: home, Regions: []string{home}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cloud.Close(context.Background())) })
	dir := filepath.Join(t.TempDir(), "base")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: "ba5e"}))
	for parameter, name := range map[string]string{
		"/aws/service/debian/release/12/latest/amd64": "debian-12-amd64-20260101-1",
		"/aws/service/debian/release/13/latest/amd64": "debian-13-amd64-20260101-1",
	} {
		ids, err := cloud.EC2.RegisterBase(ec2.BaseImage{Name: name, OwnerID: debian, ImageDir: dir})
		require.NoError(t, err)
		cloud.SSM.SetPublicParameter(home, parameter, ids[home])
	}
	read := &reads{FS: userdata.FS, of: map[string]int{}}
	return planner.Planner{
		Region: home, Version: "1.0.0", OnEC2: true, Files: read,
		Source: source.Resolver{Images: cloud.EC2, Parameters: cloud.SSM},
		EC2:    func(string) sdkec2.DescribeImagesAPIClient { return cloud.EC2 },
		SSM:    func(string) release.ParameterReader { return cloud.SSM },
	}, read
}

func TestABuildIsPlannedWithOneAssembly(t *testing.T) {
	p, read := setUp(t)
	catalog, err := p.Open(start)
	require.NoError(t, err)
	built, bundle, err := p.Plan(t.Context(), catalog, planner.Request{Recipe: docker12, ExecutionName: "run", ExecutionStart: start})
	require.NoError(t, err)
	assert.Len(t, bundle, built.Bundle.Size)
	// These are read when a bundle is packed, and at no other time.
	assert.Equal(t, 1, read.of["components/docker/files/daemon.json"])
	assert.Equal(t, 1, read.of["components/hardening/families/debian.sh"])
}

func TestOneCatalogServesANight(t *testing.T) {
	p, read := setUp(t)
	catalog, err := p.Open(start)
	require.NoError(t, err)
	for _, name := range []string{docker12, docker13} {
		_, _, err := p.Plan(t.Context(), catalog, planner.Request{Recipe: name, ExecutionName: name, ExecutionStart: start})
		require.NoError(t, err)
	}
	assert.Equal(t, 1, read.of["baseline.yaml"])
	assert.Equal(t, 2, read.of["recipes/"+docker12+".yaml"], "for the comparison with all others, and to be planned")
	assert.Equal(t, 1, read.of["recipes/debian-12-full.yaml"])
	assert.Equal(t, 2, read.of["components/docker/files/daemon.json"], "once for each bundle")
}

func TestWhatIsWrongWithARecipeIsFoundBeforeItsSourceIsLookedUp(t *testing.T) {
	for what, tc := range map[string]struct {
		recipe string
		change func(*planner.Planner)
		code   failure.Code
		says   string
	}{
		"an unknown recipe":             {"debian-99", nil, failure.RecipeInvalid, `unknown recipe "debian-99"`},
		"a factory that runs elsewhere": {docker12, func(p *planner.Planner) { p.Region = "us-east-1" }, failure.RecipeInvalid, "this factory runs in us-east-1"},
	} {
		t.Run(what, func(t *testing.T) {
			p, _ := setUp(t)
			p.Source = source.Resolver{} // a look-up would panic
			if tc.change != nil {
				tc.change(&p)
			}
			catalog, err := p.Open(start)
			require.NoError(t, err)
			_, _, err = p.Plan(t.Context(), catalog, planner.Request{Recipe: tc.recipe, ExecutionName: "run", ExecutionStart: start})
			require.Error(t, err)
			assert.Equal(t, tc.code, failure.CodeOf(err), "%v", err)
			assert.ErrorContains(t, err, tc.says)
		})
	}
}

// BenchmarkPlan is what planning costs a night for one recipe, without a network.
func BenchmarkPlan(b *testing.B) {
	p, _ := setUp(b)
	catalog, err := p.Open(start)
	require.NoError(b, err)
	for b.Loop() {
		_, _, err := p.Plan(b.Context(), catalog, planner.Request{Recipe: docker12, ExecutionName: "run", ExecutionStart: start})
		require.NoError(b, err)
	}
}
