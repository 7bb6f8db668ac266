package localcloud

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/states"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// noticeExecution reports that an execution starts or ends.
func (c *Cloud) noticeExecution(e states.Event) {
	if c.cfg.Notice == nil {
		return
	}
	var d struct {
		StateMachineArn, Name, Status, Output, Error string
		StartDate, StopDate                          int64
	}
	if err := json.Unmarshal(e.Detail, &d); err != nil {
		return // it is an event of another kind
	}
	machine := d.StateMachineArn[strings.LastIndex(d.StateMachineArn, ":")+1:]
	if d.StopDate == 0 {
		c.cfg.Notice(fmt.Sprintf("execution %s of %s started", d.Name, machine))
		return
	}
	var output struct{ Status string }
	_ = json.Unmarshal([]byte(d.Output), &output) // an output need not be an object
	result := strings.Join(slices.DeleteFunc([]string{d.Status, d.Error, output.Status}, func(s string) bool { return s == "" }), ", ")
	took := (time.Duration(d.StopDate-d.StartDate) * time.Millisecond).Round(time.Second)
	c.cfg.Notice(fmt.Sprintf("execution %s of %s ended after %s: %s", d.Name, machine, took, result))
}

// notices remembers what was said of describe calls that found nothing, by account and
// kind of resource: clients ask in all regions, and again and again.
type notices struct {
	mu   sync.Mutex
	said map[string]string
}

// isNew says whether a text differs from the last one under a key.
func (n *notices) isNew(key, text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.said[key] == text {
		return false
	}
	if n.said == nil {
		n.said = map[string]string{}
	}
	n.said[key] = text
	return true
}

// after reports to the user what a describe call that found nothing could have
// found elsewhere, once until that changes. What roles' sessions look for is the
// factory's own business.
func (c *Cloud) after(_ context.Context, who wire.Caller, service, operation string, output any) {
	if c.cfg.Notice == nil || service != "ec2" || !strings.HasSuffix(who.ARN, ":root") {
		return
	}
	var what string
	var count func(ec2.Holding) int
	switch out := output.(type) {
	case *sdkec2.DescribeImagesOutput:
		if len(out.Images) > 0 {
			return
		}
		what, count = "images", func(h ec2.Holding) int { return h.Images }
	case *sdkec2.DescribeInstancesOutput:
		if len(out.Reservations) > 0 {
			return
		}
		what, count = "instances", func(h ec2.Holding) int { return h.Instances }
	case *sdkec2.DescribeSnapshotsOutput:
		if len(out.Snapshots) > 0 {
			return
		}
		what, count = "snapshots", func(h ec2.Holding) int { return h.Snapshots }
	default:
		return
	}
	var found []string
	others := map[string]bool{} // regions in which other accounts have some
	for _, h := range c.EC2.Holdings() {
		switch n := count(h); {
		case n > 0 && h.Account == who.Account:
			found = append(found, fmt.Sprintf("%d of account %s in %s", n, h.Account, h.Region))
		case n > 0:
			others[h.Region] = true
		}
	}
	there := "that account has none in any region"
	if len(found) > 0 {
		there = "there are " + strings.Join(found, ", ")
	}
	if len(others) > 0 {
		there += fmt.Sprintf("; other accounts have some in %d regions", len(others))
	}
	if !c.noticed.isNew(who.Account+" "+what, there) {
		return
	}
	c.cfg.Notice(fmt.Sprintf("%s of account %s in %s found no %s: %s", operation, who.Account, who.Region, what, there))
}
