package guests

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ebs"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/userdata"
)

type oneDisk string

func (oneDisk) FindSnapshot(wire.Caller, string) (int32, error) { return 64, nil }

func (d oneDisk) OpenSnapshot(context.Context, wire.Caller, string) (vm.Disk, error) {
	if strings.HasSuffix(string(d), ".qcow2") {
		return vm.OpenQCOW2(string(d))
	}
	return vm.OpenRaw(string(d), false)
}

func (oneDisk) ReadingSnapshot(authz.Call, string, string, bool) []authz.Request { return nil }

// BenchmarkOfflineLook judges all components' rules on the disk of a real image.
func BenchmarkOfflineLook(b *testing.B) {
	file := os.Getenv("AMI_FACTORY_LOOK_AT")
	if file == "" {
		b.Skip("set AMI_FACTORY_LOOK_AT to a disk of an image, raw or *.qcow2, such as one below the --cache folder")
	}
	service := ebs.New(clock.NewReal(), wire.Caller{Account: "111122223333", Region: "eu-west-1"}, oneDisk(file))
	defer func() { require.NoError(b, service.Close()) }()
	var controls []compliance.Control
	for _, name := range strings.Fields("hygiene hardening docker ssm-agent chef cloudwatch-agent newrelic-infra appdynamics-machine-agent") {
		c, problems, err := component.Load(userdata.FS, name)
		require.NoError(b, err)
		require.Empty(b, problems)
		for _, spec := range c.Controls {
			controls = append(controls, compliance.Control{ID: spec.ID, Snapshot: spec.Snapshot})
		}
	}
	for b.Loop() {
		blocks, err := ami.OpenBlocks(b.Context(), service, "snap-1")
		require.NoError(b, err)
		found, cost, err := compliance.JudgeSnapshot("snap-1", blocks, blocks.Size(), controls)
		require.NoError(b, err)
		require.Empty(b, found.Unreadable)
		for _, c := range controls {
			for _, f := range found.Findings[c.ID] {
				if !f.OK && b.Elapsed().Seconds() < 60 {
					b.Logf("%s: %s: %s", c.ID, f.Statement, f.Found)
				}
			}
		}
		b.ReportMetric(float64(blocks.Fetched), "blocks")
		b.ReportMetric(float64(blocks.Fetched)/2, "MiB-fetched")
		b.ReportMetric(float64(cost.Entries), "entries")
	}
}
