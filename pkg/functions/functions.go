// Package functions puts each stage together with its clients. The programs in
// lambdas/ use one maker each, so that the linker leaves the others out; tests
// and rehearsals in one process use them all.
package functions

import (
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/lambdafn"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/planner"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/source"
	"github.com/ami-factory/ami-factory/pkg/stage"
	"github.com/ami-factory/ami-factory/pkg/trigger"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
	"github.com/ami-factory/ami-factory/pkg/wake"
)

// All returns every function's maker by the function's name, which is also the
// name of its folder in lambdas/.
func All() map[string]lambdafn.Maker {
	return map[string]lambdafn.Maker{
		"resolve":            Resolve,
		"launch":             Launch,
		"wake":               Wake,
		"check-instance":     CheckInstance,
		"seal":               Seal,
		"create-image":       CreateImage,
		"check-image":        CheckImage,
		"run-compliance":     RunCompliance,
		"check-compliance":   CheckCompliance,
		"distribute":         Distribute,
		"check-distribution": CheckDistribution,
		"sign":               Sign,
		"request-approval":   RequestApproval,
		"share":              Share,
		"approve":            Approve,
		"publish":            Publish,
		"retire":             Retire,
		"cleanup":            Cleanup,
		"notify":             Notify,
		"start-builds":       StartBuilds,
		"watch-sources":      WatchSources,
		"release-announced":  ReleaseAnnounced,
	}
}

// Resolve makes the function of stage.Resolve.
func Resolve(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(resolve(e).Run)
}

func resolve(e lambdafn.Environment) stage.Resolve {
	return stage.Resolve{
		Settings: e.Settings, Store: e.Store(), Planner: plans(e), Targets: pointerReader(e), Metrics: e.Output,
	}
}

// plans is the planner of Resolve and of the triggers.
func plans(e lambdafn.Environment) planner.Planner {
	return planner.Planner{
		Region: e.Region, Version: e.Version, OnEC2: e.OnEC2(), Engines: e.Engines, Parameters: e.Parameters,
		Files:  e.Files(),
		Source: source.Resolver{Images: e.EC2(e.Region), Parameters: e.SSM(e.Region)},
		EC2:    func(region string) ec2.DescribeImagesAPIClient { return e.EC2(region) },
		SSM:    func(region string) release.ParameterReader { return e.SSM(region) },
	}
}

// Launch makes the function of stage.Launch.
func Launch(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.Launch{Settings: e.Settings, Store: e.PresigningStore(), EC2: e.EC2(e.Region)}.Run)
}

// Wake makes the function of wake.Wake.
func Wake(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(wake.Wake{Store: e.Store(), Keys: e.Directory(), Tasks: sfn.NewFromConfig(e.AWS)}.Run)
}

// CheckInstance makes the function of stage.CheckInstance.
func CheckInstance(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.CheckInstance{Store: e.Store(), EC2: e.EC2(e.Region), SSM: e.SSM(e.Region)}.Run)
}

// Seal makes the function of stage.Seal.
func Seal(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.Seal{Store: e.Store(), EC2: e.EC2(e.Region), SSM: e.SSM(e.Region)}.Run)
}

// CreateImage makes the function of stage.CreateImage.
func CreateImage(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.CreateImage{Store: e.Store(), EC2: e.EC2(e.Region)}.Run)
}

// CheckImage makes the function of stage.CheckImage.
func CheckImage(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.CheckImage{Store: e.Store(), EC2: e.EC2(e.Region)}.Run)
}

// RunCompliance makes the function of stage.RunCompliance.
func RunCompliance(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.RunCompliance{
		Settings: e.Settings, Store: e.PresigningStore(), SSM: e.SSM(e.Region), Files: e.Files(),
	}.Run)
}

// CheckCompliance makes the function of stage.CheckCompliance.
func CheckCompliance(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.CheckCompliance{
		Settings: e.Settings, Store: e.Store(), SSM: e.SSM(e.Region), EC2: e.EC2(e.Region), EBS: e.EBS(e.Region), Inspector: e.Inspector(),
	}.Run)
}

// Distribute makes the function of stage.Distribute.
func Distribute(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.Distribute{
		Settings: e.Settings, Store: e.Store(),
		EC2: func(region string) stage.CopyEC2 { return e.EC2(region) },
	}.Run)
}

// CheckDistribution makes the function of stage.CheckDistribution.
func CheckDistribution(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.CheckDistribution{
		Store: e.Store(),
		EC2:   func(region string) stage.FinishCopyEC2 { return e.EC2(region) },
	}.Run)
}

// Sign makes the function of stage.Sign.
func Sign(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.Sign{
		Settings: e.Settings, Store: e.Store(), KeyID: e.SigningKey, KMS: e.KMS(), Desk: desk(e),
		EC2: func(region string) stage.SignEC2 { return e.EC2(region) },
	}.Run)
}

// evidence is what a release is compared with.
func evidence(e lambdafn.Environment) stage.SignedEvidence {
	return stage.SignedEvidence{
		Store: e.Store(), KeyID: e.SigningKey, KMS: e.KMS(),
		EC2: func(region string) stage.EvidenceEC2 { return e.EC2(region) },
	}
}

// RequestApproval makes the function of stage.RequestApproval.
func RequestApproval(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.RequestApproval{Settings: e.Settings, Desk: desk(e), Topics: sns.NewFromConfig(e.AWS)}.Run)
}

// desk is where requests and answers are kept.
func desk(e lambdafn.Environment) approval.Desk {
	return approval.Desk{Store: e.Store(), Keys: e.Directory()}
}

// Approve makes the function of approval.Door.
func Approve(e lambdafn.Environment) lambdafn.Handler {
	door := approval.Door{
		Desk: desk(e), People: approval.People{Account: partition.AccountOf(e.Triggers.StateMachineARN), Roles: e.Approvers}, Tasks: sfn.NewFromConfig(e.AWS), Machine: e.Triggers.StateMachineARN,
	}
	return lambdafn.AdaptURL(func(ctx context.Context, in lambdafn.URLRequest) (lambdafn.URLResponse, error) {
		out, err := door.Handle(ctx, approval.Call(in))
		return lambdafn.URLResponse(out), err
	})
}

// Share makes the function of stage.Share.
func Share(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.Share{
		Store: e.Store(), Evidence: evidence(e), Approvals: stage.Approvals{Desk: desk(e)},
		EC2: func(region string) stage.ShareEC2 { return e.EC2(region) },
	}.Run)
}

// Publish makes the function of stage.Publish.
func Publish(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.Publish{
		Store: e.Store(), Evidence: evidence(e), Approvals: stage.Approvals{Desk: desk(e)},
		EC2: func(region string) stage.PublishEC2 { return e.EC2(region) },
		SSM: pointers(e),
	}.Run)
}

// pointers are the parameters of accounts.
func pointers(e lambdafn.Environment) func(account, region string) release.ParameterAPI {
	in := e.Targets()
	return func(account, region string) release.ParameterAPI { return in(account, region) }
}

func pointerReader(e lambdafn.Environment) func(account, region string) release.ParameterReader {
	in := e.Targets()
	return func(account, region string) release.ParameterReader { return in(account, region) }
}

// Retire makes the function of stage.Retire.
func Retire(e lambdafn.Environment) lambdafn.Handler {
	in := e.Targets()
	return lambdafn.Adapt(stage.Retire{
		Store: e.Store(),
		EC2:   func(region string) stage.RetireEC2 { return e.EC2(region) },
		AutoScaling: func(region string) autoscaling.DescribeLaunchConfigurationsAPIClient {
			return autoscaling.NewFromConfig(e.AWS, func(o *autoscaling.Options) { o.Region = region })
		},
		SSM: func(account, region string) release.HistoryAPI { return in(account, region) },
	}.Run)
}

// Cleanup makes the function of stage.Cleanup.
func Cleanup(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(stage.Cleanup{
		Settings: e.Settings, Store: e.Store(), Keys: e.Directory(),
		EC2: func(region string) stage.CleanupEC2 { return e.EC2(region) },
		SSM: pointers(e),
	}.Run)
}

// Notify makes the function of stage.Notify.
func Notify(e lambdafn.Environment) lambdafn.Handler {
	s := stage.Notify{
		Settings: e.Settings, Store: e.Store(), Keys: e.Directory(),
		SNS: sns.NewFromConfig(e.AWS), Events: eventbridge.NewFromConfig(e.AWS), Metrics: e.Output,
	}
	if e.SecurityHub {
		s.Hub = securityhub.NewFromConfig(e.AWS)
	}
	return lambdafn.Adapt(s.Run)
}

// StartBuilds makes the function of trigger.StartBuilds.
func StartBuilds(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(trigger.StartBuilds{
		Settings: e.Triggers, TopicARN: e.TopicARN, Store: e.Store(), Planner: plans(e),
		Executions: sfn.NewFromConfig(e.AWS), SNS: sns.NewFromConfig(e.AWS), Limits: limits(e), Metrics: e.Output,
	}.Run)
}

// WatchSources makes the function of trigger.WatchSources.
func WatchSources(e lambdafn.Environment) lambdafn.Handler {
	return lambdafn.Adapt(watch(e).Run)
}

func watch(e lambdafn.Environment) trigger.WatchSources {
	return trigger.WatchSources{
		Settings: e.Triggers, Region: e.Region, Store: e.Store(), SSM: e.SSM(e.Region), Events: eventbridge.NewFromConfig(e.AWS), Files: e.Files(), Limits: limits(e),
	}
}

// limits are those of every deployment, with what this one has chosen.
func limits(e lambdafn.Environment) decide.Limits {
	l := decide.DefaultLimits()
	if e.Triggers.FindingHours > 0 {
		l.FindingLimit = time.Duration(e.Triggers.FindingHours) * time.Hour
	}
	return l
}

// certificateTimeout bounds how long a certificate may take.
const certificateTimeout = 10 * time.Second

// ReleaseAnnounced makes the function of trigger.ReleaseAnnounced.
func ReleaseAnnounced(e lambdafn.Environment) lambdafn.Handler {
	client := &http.Client{
		Timeout: certificateTimeout,
		// A redirect would lead away from the address that was checked.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return lambdafn.Adapt(trigger.ReleaseAnnounced{
		Settings: e.Triggers, Store: e.Store(), Watch: watch(e), Endpoint: e.Endpoint, Certificate: trigger.FetchCertificate(client),
	}.Run)
}
