package factory

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// LogProps say what is logged and traced, and for how long logs are kept.
type LogProps struct {
	Days          int    // one of those that CloudWatch Logs takes
	Executions    string // error, all, fatal, off
	ExecutionData bool   // log the stages' input and output too
	Tracing       bool   // X-Ray
}

// retentions are the days that PutRetentionPolicy takes.
func retentions() []int {
	return []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
}

// levels are what a state machine can log, by their names in the context.
func levels() map[string]awsstepfunctions.LogLevel {
	return map[string]awsstepfunctions.LogLevel{
		"error": awsstepfunctions.LogLevel_ERROR, "all": awsstepfunctions.LogLevel_ALL,
		"fatal": awsstepfunctions.LogLevel_FATAL, "off": awsstepfunctions.LogLevel_OFF,
	}
}

// logging makes log groups.
type logging struct {
	days int
	key  awskms.IKey // nil: CloudWatch's own
}

// group keeps its events for the days of the context. It is a plain log group: the
// functions' own option for retention deploys a function beside them.
func (l logging) group(scope constructs.Construct, id string) awslogs.LogGroup {
	group := awslogs.NewLogGroup(scope, &id, &awslogs.LogGroupProps{
		Retention:     awslogs.RetentionDays_INFINITE, // set below: the construct knows names of days, not days
		EncryptionKey: l.key,
		RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	})
	raw, ok := group.Node().DefaultChild().(awslogs.CfnLogGroup)
	if !ok {
		panic(fmt.Sprintf("log group %s is made of something else than a log group", id))
	}
	raw.SetRetentionInDays(jsii.Number(l.days))
	return group
}
