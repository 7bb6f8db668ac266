package workflow

import "slices"

// TargetRoleName is the name of the role in every account that gets pointers.
const TargetRoleName = "ami-factory-target"

// TargetRoleARN is that role's in an account; * for any.
func TargetRoleARN(partition, account string) string {
	return "arn:" + partition + ":iam::" + account + ":role/" + TargetRoleName
}

// TargetCallers are the stages that assume the target role.
func TargetCallers() []Stage {
	var out []Stage
	for _, spec := range Stages() {
		if slices.ContainsFunc(spec.Actions, func(a Action) bool { return a.On == TargetRoles }) {
			out = append(out, spec.Stage)
		}
	}
	return out
}

// TargetPolicy is that of the target role: what moves pointers. Parameter Store
// looks an image id up with the permissions of whoever writes it
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-ec2-aliases.html).
func TargetPolicy(partition, account string) Policy {
	spec := Spec{Actions: join(movePointers(), on(AnyResource, "ec2:DescribeImages"))}
	return spec.Policy(Deployment{Partition: partition, Account: account})
}
