// Package try boots an instance of the embedded AWS to see what becomes of its first
// boot.
package try

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2api "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/guest"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

//go:embed collect.py
var collectScript string

const (
	// endTimeout bounds how long an instance is waited for to go.
	endTimeout = time.Minute
	// defaultTimeout bounds a try where the caller names no limit: an emulated
	// machine takes two minutes to boot, and packages as long again.
	defaultTimeout = 20 * time.Minute
	poll           = 2 * time.Second
	// instanceType is what an instance is launched as; the rehearsal's machines are
	// of one size, whatever their type.
	instanceType = ec2types.InstanceTypeT3Medium
)

// Input says what to boot, and with what.
type Input struct {
	ImageID  string
	Region   string // default: the home region
	UserData []byte // before base64; may be empty
	Profile  string // instance profile's name; empty: none
	Timeout  time.Duration
	// Inspect is one more script to run when the boot has finished; what it
	// prints is in the result.
	Inspect string
}

// Result is what became of an instance's first boot.
type Result struct {
	Image       string     `json:"image"`
	Instance    string     `json:"instance"`
	Guests      vm.Kind    `json:"guests"`
	Description string     `json:"guestsDescription"`
	OK          bool       `json:"ok"`
	Problems    []string   `json:"problems"` // why not
	Steps       []Step     `json:"steps"`
	Boot        *BootState `json:"boot,omitempty"` // of the component boot, where the image has it
	// Agents are what the agents' first-boot units say of themselves.
	Agents      map[string]AgentState `json:"agents,omitempty"`
	FailedUnits map[string]string     `json:"failedUnits,omitempty"` // unit: its last words
	Startup     string                `json:"startup,omitempty"`     // as systemd-analyze prints it
	Seconds     float64               `json:"seconds"`
	MachineID   string                `json:"machineIdSha256,omitempty"`
	HostKeys    []string              `json:"hostKeySha256,omitempty"`
	Inspected   string                `json:"inspected,omitempty"`
	Console     string                `json:"-"` // the serial console's text, as plaintext.Clean leaves it
}

// Step is one stage of the boot: the machine's own, cloud-init's, or a step
// of the user data.
type Step struct {
	Kind    string  `json:"kind"` // machine | cloud-init | user-data
	Name    string  `json:"name"`
	Status  string  `json:"status"` // ok | queued (systemd starts it later) | failed | not run
	Seconds float64 `json:"seconds"`
	Detail  string  `json:"detail,omitempty"`
}

// BootState is what ami-factory-boot.service found.
type BootState struct {
	Status   string         `json:"status"`
	Services []ServiceState `json:"services,omitempty"`
}

// ServiceState is how a service that the image declares is.
type ServiceState struct {
	Unit    string  `json:"unit"`
	Healthy bool    `json:"healthy"`
	State   string  `json:"state"` // as systemd names it
	Seconds float64 `json:"seconds"`
	Message string  `json:"message,omitempty"`
}

// AgentState is what the first-boot unit of an agent says of it.
type AgentState struct {
	State  string `json:"state"` // started | failed | not-configured
	Reason string `json:"reason,omitempty"`
	Unit   string `json:"unit,omitempty"`
	HostID string `json:"hostId,omitempty"`
}

// collected is what collect.py prints.
type collected struct {
	BootID   string
	Finished bool
	Jobs     int
	Stages   []struct {
		Name    string
		Seconds *float64
		Errors  []string
	}
	UserData *struct {
		Status string
		Reboot bool
		Steps  []struct {
			Kind, Name, Status, Command, Message string
			Seconds                              float64
			Exit, Line                           int
		}
	}
	Boot        *BootState
	Agents      map[string]AgentState
	FailedUnits map[string]string
	Startup     string
	MachineID   string
	HostKeys    []string
}

// Machine is what the instance runs on.
type Machine struct {
	Cloud       *localcloud.Cloud
	Clock       clock.Clock
	Guests      vm.Kind
	Description string // of the guests
}

// Run launches an instance, waits until its boot has finished, reads what became of
// it, and terminates it, whatever happens.
func Run(ctx context.Context, m Machine, in Input) (result Result, err error) {
	if in.Region == "" {
		in.Region = m.Cloud.Region()
	}
	if in.Timeout == 0 {
		in.Timeout = defaultTimeout
	}
	// The embedded AWS's services are asked in this account and region.
	ctx = wire.WithCaller(ctx, wire.Caller{Account: m.Cloud.Account(), Region: in.Region})
	if err := guest.StoreDocument(ctx, m.Cloud.SSM); err != nil {
		return Result{}, err
	}
	started := m.Clock.Now()
	id, err := m.launch(ctx, in)
	if err != nil {
		return Result{}, fmt.Errorf("launch an instance from %s: %w", in.ImageID, err)
	}
	result = Result{
		Image: in.ImageID, Instance: id, Guests: m.Guests, Description: m.Description, Problems: []string{}, Steps: []Step{},
	}
	defer func() {
		if out, consoleErr := m.Cloud.EC2.GetConsoleOutput(ctx, &ec2api.GetConsoleOutputInput{InstanceId: &id}); consoleErr == nil {
			result.Console = consoleText(out)
		}
		err = errors.Join(err, m.end(context.WithoutCancel(ctx), id))
		result.Seconds = m.Clock.Now().Sub(started).Seconds()
	}()
	limited, cancel := context.WithTimeout(ctx, in.Timeout)
	defer cancel()
	found, online, err := m.wait(limited, id, started)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("the boot had not finished after %s", in.Timeout)
		}
		result.add(found)
		return result, err
	}
	result.Steps = append(result.Steps, Step{Kind: "machine", Name: "launch to the agent's first answer", Status: "ok", Seconds: online.Seconds()})
	result.add(found)
	if in.Inspect != "" {
		out, err := m.run(ctx, id, in.Inspect, in.Timeout)
		if err != nil {
			return result, err
		}
		result.Inspected = out
	}
	return result, nil
}

func (m Machine) launch(ctx context.Context, in Input) (string, error) {
	request := &ec2api.RunInstancesInput{
		ImageId: &in.ImageID, InstanceType: instanceType, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		MetadataOptions: &ec2types.InstanceMetadataOptionsRequest{
			HttpTokens: ec2types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(2),
		},
		TagSpecifications: []ec2types.TagSpecification{{
			ResourceType: ec2types.ResourceTypeInstance, Tags: []ec2types.Tag{{Key: aws.String("Name"), Value: aws.String("ami-factory try")}},
		}},
	}
	if len(in.UserData) > 0 {
		request.UserData = aws.String(base64.StdEncoding.EncodeToString(in.UserData))
	}
	if in.Profile != "" {
		request.IamInstanceProfile = &ec2types.IamInstanceProfileSpecification{Name: &in.Profile}
	}
	out, err := m.Cloud.EC2.RunInstances(ctx, request)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.Instances[0].InstanceId), nil
}

// wait polls until the boot has finished. online is how long the agent took
// to answer.
func (m Machine) wait(ctx context.Context, id string, started time.Time) (found collected, online time.Duration, err error) {
	first := ""
	for {
		state, err := m.instanceState(ctx, id)
		if err != nil {
			return found, online, err
		}
		if !slices.Contains([]ec2types.InstanceStateName{ec2types.InstanceStateNamePending, ec2types.InstanceStateNameRunning}, state) {
			return found, online, fmt.Errorf("the instance is %s before its boot has finished", state)
		}
		up, err := guest.Online(ctx, m.Cloud.SSM, id)
		if err != nil {
			return found, online, err
		}
		if up {
			if online == 0 {
				online = m.Clock.Now().Sub(started)
			}
			// While a machine reboots its agent is gone, which is no failure.
			if now, err := m.collect(ctx, id); err == nil {
				found = now
				if first == "" {
					first = now.BootID
				}
				if now.done(first) {
					return found, online, nil
				}
			}
		}
		if err := m.Clock.Sleep(ctx, poll); err != nil {
			return found, online, err
		}
	}
}

// done says whether nothing more is to come: cloud-init and systemd's jobs have
// ended, and a reboot that the user data asked for has happened.
func (c collected) done(first string) bool {
	if !c.Finished || c.Jobs > 0 {
		return false
	}
	return c.UserData == nil || !c.UserData.Reboot || c.BootID != first
}

func (m Machine) instanceState(ctx context.Context, id string) (ec2types.InstanceStateName, error) {
	out, err := m.Cloud.EC2.DescribeInstances(ctx, &ec2api.DescribeInstancesInput{
		Filters: []ec2types.Filter{{Name: aws.String("instance-id"), Values: []string{id}}},
	})
	if err != nil {
		return "", err
	}
	if len(out.Reservations) == 0 {
		return ec2types.InstanceStateNamePending, nil // not visible yet
	}
	return out.Reservations[0].Instances[0].State.Name, nil
}

func (m Machine) collect(ctx context.Context, id string) (collected, error) {
	out, err := m.run(ctx, id, "python3 -I - <<'PYTHON'\n"+collectScript+"PYTHON\n", 2*time.Minute)
	if err != nil {
		return collected{}, err
	}
	return readCollected(out)
}

// readCollected reads what collect.py has printed. Its strings are of the guest, and
// JSON escapes what is not clean in them.
func readCollected(out string) (collected, error) {
	var c collected
	clean, err := plaintext.JSON([]byte(out))
	if err == nil {
		err = json.Unmarshal(clean, &c)
	}
	if err != nil {
		return collected{}, fmt.Errorf("the instance answered what is no JSON of collect.py (%w): %.200s", err, out)
	}
	return c, nil
}

// consoleText is what the guest has written to its console.
func consoleText(out *ec2api.GetConsoleOutputOutput) string {
	text, _ := base64.StdEncoding.DecodeString(aws.ToString(out.Output)) // EC2 encodes it
	return plaintext.Clean(string(text))
}

// run runs a script in the instance to its end and returns what it printed.
func (m Machine) run(ctx context.Context, id, script string, limit time.Duration) (string, error) {
	step := guest.Step{InstanceID: id, Execution: "try", Name: uuid.NewString(), Script: script, Timeout: limit}
	command, err := guest.Send(ctx, m.Cloud.SSM, step)
	if err != nil {
		return "", err
	}
	for {
		r, err := guest.Poll(ctx, m.Cloud.SSM, id, command)
		if err != nil {
			return "", err
		}
		if r.Done && !r.OK() {
			return "", fmt.Errorf("a script in the instance ended with %s, exit code %d: %.500s", r.Status, r.ExitCode, r.Stderr)
		}
		if r.Done {
			return r.Stdout, nil
		}
		if err := m.Clock.Sleep(ctx, poll/4); err != nil {
			return "", err
		}
	}
}

func (m Machine) end(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	if _, err := m.Cloud.EC2.TerminateInstances(ctx, &ec2api.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		return fmt.Errorf("instance %s could not be terminated: %w", id, err)
	}
	for {
		state, err := m.instanceState(ctx, id)
		if err != nil || state == ec2types.InstanceStateNameTerminated {
			return err
		}
		if err := m.Clock.Sleep(ctx, poll/4); err != nil {
			return fmt.Errorf("instance %s is still %s: %w", id, state, err)
		}
	}
}

// add takes over what the instance reported, and what is wrong with it.
func (r *Result) add(c collected) {
	problem := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	for _, s := range c.Stages {
		step := Step{Kind: "cloud-init", Name: s.Name, Status: "ok"}
		if s.Seconds != nil {
			step.Seconds = *s.Seconds
		} else {
			step.Status = "not finished"
			problem("cloud-init's stage %s has not finished", s.Name)
		}
		if len(s.Errors) > 0 {
			step.Status, step.Detail = "failed", strings.Join(s.Errors, "; ")
			problem("cloud-init's stage %s: %s", s.Name, step.Detail)
		}
		r.Steps = append(r.Steps, step)
	}
	if c.UserData != nil {
		for _, s := range c.UserData.Steps {
			// Why a step did not run, or what it is queued behind.
			step := Step{Kind: "user-data", Name: s.Name, Status: s.Status, Seconds: s.Seconds, Detail: strings.TrimSpace(s.Message)}
			if s.Status == "failed" {
				step.Detail = fmt.Sprintf("exit code %d at line %d, %s: %s", s.Exit, s.Line, s.Command, strings.TrimSpace(s.Message))
				problem("step %q of the user data failed: %s", s.Name, step.Detail)
			}
			r.Steps = append(r.Steps, step)
		}
	}
	if r.Boot = c.Boot; c.Boot != nil {
		for _, s := range c.Boot.Services {
			if !s.Healthy {
				problem("service %s of the image is %s: %s", s.Unit, s.State, s.Message)
			}
		}
		// A degraded boot is one of agents, which are listed below.
		if c.Boot.Status != "ok" && c.Boot.Status != "degraded" && len(r.Problems) == 0 {
			problem("the image's services: %s", c.Boot.Status)
		}
	}
	for name, agent := range c.Agents {
		if agent.State == "failed" {
			problem("agent %s failed: %s", name, agent.Reason)
		}
	}
	for unit, words := range c.FailedUnits {
		problem("unit %s failed: %s", unit, strings.TrimSpace(words))
	}
	slices.Sort(r.Problems)
	r.Agents, r.FailedUnits, r.Startup, r.MachineID, r.HostKeys = c.Agents, c.FailedUnits, c.Startup, c.MachineID, c.HostKeys
	r.OK = len(r.Problems) == 0 && c.Finished
}
