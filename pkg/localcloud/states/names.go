package states

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

const maxName = 80

func machineARN(c wire.Caller, name string) string {
	return partition.ARN("states", c.Region, c.Account, "stateMachine:"+name)
}

func executionARN(c wire.Caller, machine, name string) string {
	return partition.ARN("states", c.Region, c.Account, "execution:"+machine+":"+name)
}

// checkName refuses names that Step Functions refuses.
func checkName(name string) error {
	bad := func(why string) error {
		return &types.InvalidName{Message: aws.String(fmt.Sprintf("Invalid Name: '%s' %s", name, why))}
	}
	if name == "" || utf8.RuneCountInString(name) > maxName {
		return bad(fmt.Sprintf("must have 1 to %d characters", maxName))
	}
	for _, r := range name {
		if unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("<>{}[]?*\"#%\\^|~`$&,;:/", r) {
			return bad(fmt.Sprintf("must not contain %q", r))
		}
	}
	return nil
}

// checkARN refuses what is not the ARN of such a resource of Step Functions.
func checkARN(arn *string, resource string) error {
	parts := strings.SplitN(aws.ToString(arn), ":", 7)
	if len(parts) == 7 && parts[0] == "arn" && parts[2] == "states" && parts[5] == resource && parts[6] != "" {
		return nil
	}
	return &types.InvalidArn{Message: aws.String(fmt.Sprintf("Invalid Arn: '%s' is not the ARN of a resource of type %s", aws.ToString(arn), resource))}
}

// ownedBy says whether arn is of the caller's account and region.
func ownedBy(arn string, c wire.Caller) bool {
	parts := strings.SplitN(arn, ":", 6)
	return len(parts) == 6 && parts[3] == c.Region && parts[4] == c.Account
}
