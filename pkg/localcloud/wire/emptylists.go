package wire

import (
	"reflect"
	"slices"
	"strings"
)

// Empty lists. AWS sends the list that is the result of an operation even when it is
// empty: "executions": [], <reservationSet/>. boto3 scripts rely on this and read
// response["executions"] without checking for it. The rule for every service and
// protocol that wire encodes:
//
//   - a list at the top of an answer is always sent, unless leavesOut says that
//     AWS leaves it out;
//   - a list in a nested structure is sent when the service sets it, empty or
//     not, or when alwaysSent names it. AWS leaves most of them out if they are
//     empty, such as the tags of an instance.

// sends reports whether a member is written. top is set for the output structure.
func sends(in *call, shape reflect.Type, f reflect.StructField, v reflect.Value, top bool) bool {
	if !absent(v) {
		// Some services here return empty lists of tags; EC2 never does.
		return top || f.Name != "Tags" || v.Kind() != reflect.Slice || v.Len() > 0 || !strings.HasPrefix(shapeName(shape), "ec2.")
	}
	if v.Kind() != reflect.Slice || v.Type().Elem().Kind() == reflect.Uint8 {
		return false
	}
	if top {
		return !leavesOut(in)
	}
	return slices.Contains(alwaysSent[shapeName(shape)], f.Name)
}

// leavesOut reports whether AWS leaves empty lists out of the answer to a call.
func leavesOut(in *call) bool {
	if in == nil {
		return false // a REST service
	}
	switch in.service.ID {
	case "sqs":
		// An answer to ReceiveMessage has no empty Messages, one to SendMessageBatch no
		// empty Failed.
		return true
	case "secretsmanager":
		return in.operation == "DescribeSecret" // it returns only members that are set
	case "ec2":
		// The answer has only the attribute that was asked for.
		return strings.HasPrefix(in.operation, "Describe") && strings.HasSuffix(in.operation, "Attribute")
	}
	return false
}

// alwaysSent names the lists of nested structures that AWS sends even when they are
// empty, by service and shape.
var alwaysSent = map[string][]string{
	"cloudformation.Stack":  {"NotificationARNs", "Tags"},
	"ec2.Image":             {"BlockDeviceMappings"},
	"ec2.Instance":          {"BlockDeviceMappings", "NetworkInterfaces", "ProductCodes", "SecurityGroups"},
	"ec2.IpPermission":      {"IpRanges", "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs"},
	"ec2.Reservation":       {"Groups", "Instances"},
	"ec2.SecurityGroup":     {"IpPermissions", "IpPermissionsEgress"},
	"ec2.Volume":            {"Attachments"},
	"iam.InstanceProfile":   {"Roles"},
	"ssm.Command":           {"InstanceIds", "Targets"},
	"ssm.CommandInvocation": {"CommandPlugins"},
	"ssm.ParameterHistory":  {"Labels", "Policies"},
	"ssm.ParameterMetadata": {"Policies"},
}

// shapeName returns the service and name of an SDK structure: ec2.Instance.
func shapeName(t reflect.Type) string {
	path, ok := strings.CutSuffix(t.PkgPath(), "/types")
	if !ok {
		return ""
	}
	return path[strings.LastIndex(path, "/")+1:] + "." + t.Name()
}
