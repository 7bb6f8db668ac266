package blueprint

import "slices"

// The roles in every account that gets pointers, one to read them and one to move
// them.
const (
	TargetReaderName = "ami-factory-target-read"
	TargetWriterName = "ami-factory-target-write"
)

// TargetRoleARN is such a role's in an account; * for any.
func TargetRoleARN(partition, account, name string) string {
	return "arn:" + partition + ":iam::" + account + ":role/" + name
}

// TargetRole is a role in target accounts.
type TargetRole struct {
	Name    string
	Does    string
	Callers []string // names of the functions that assume it
	Policy  func(partition, account string) Policy
}

// Trust is the condition under which the callers, roles of the factory, may assume
// the role. The principal is the factory's account, narrowed to its roles: a principal
// that is a role stops matching when that role is deleted and made again.
// externalID and callerARNs are texts and lists of them, or what stands for such in a
// template.
func (TargetRole) Trust(externalID, callerARNs any) Conditions {
	return Conditions{
		"StringEquals": {"sts:ExternalId": externalID},
		"ArnEquals":    {"aws:PrincipalArn": callerARNs},
	}
}

// TrustPolicy is the role's, as IAM takes it, for a factory's account.
func (r TargetRole) TrustPolicy(partition, account, externalID string, callerARNs []string) ([]byte, error) {
	return trustPolicy(map[string]any{"AWS": "arn:" + partition + ":iam::" + account + ":root"}, r.Trust(externalID, callerARNs))
}

// TargetRoles are those of every target account.
func TargetRoles() []TargetRole {
	return []TargetRole{
		{
			Name: TargetReaderName, Does: "reads pointers to images in this account, and what they named", Callers: functionsOn(TargetReaders),
			Policy: targetPolicy(on(PointerParameters, "ssm:GetParameter", "ssm:GetParameterHistory")),
		},
		{
			// Parameter Store looks an image id up with the permissions of whoever writes it
			// (https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-ec2-aliases.html).
			Name: TargetWriterName, Does: "moves pointers to images in this account", Callers: functionsOn(TargetWriters),
			Policy: targetPolicy(join(movePointers(), on(AnyResource, "ec2:DescribeImages"))),
		},
	}
}

// TargetRoleOf is the name of the role that a function assumes; empty: none.
func TargetRoleOf(function string) string {
	for _, role := range TargetRoles() {
		if slices.Contains(role.Callers, function) {
			return role.Name
		}
	}
	return ""
}

func targetPolicy(actions []Action) func(partition, account string) Policy {
	return func(partition, account string) Policy {
		return Site{Partition: partition, Account: account}.policy(actions)
	}
}

// functionsOn are the functions with an action on a kind of resource.
func functionsOn(r Resource) []string {
	var out []string
	for _, f := range Functions() {
		if slices.ContainsFunc(f.Actions, func(a Action) bool { return a.On == r }) {
			out = append(out, f.Name)
		}
	}
	return out
}
