package stage

// Settings of a deployed factory, the same for all executions.
type Settings struct {
	Region           string // the home region, where builders run
	Version          string // of the factory, part of every fingerprint
	InstanceProfile  string // name or ARN
	SecurityGroupIDs []string
	SubnetIDs        []string // used where a recipe names none; none at all means the default VPC
	TopicARN         string   // empty: no message is sent
	GossKey          string   // of the check engine, in the bucket
	GossSHA256       string
	Guests           string // what instances really are: ec2, or vm|container|simulated and a description
}
