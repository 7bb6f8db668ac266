package blueprint

// BuilderPolicy is that of builders and verifiers: what the SSM agent needs to
// take commands, and nothing else. Components, checks and results go by presigned
// addresses, and the output of commands does not go to S3. A builder reads no
// parameter and no secret, for whatever it reads may be baked; and without a data
// channel nobody opens a session on one and changes what is being baked.
//
// AmazonSSMManagedInstanceCore allows more: parameters, inventory, patches,
// associations, sessions, and ec2messages, which agents since 3.3.40.0 do not use
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/systems-manager-setting-up-messageAPIs.html).
// Commands and their replies go through the control channel, as the agent's source
// says (https://github.com/aws/amazon-ssm-agent, agent/messageservice/interactor/mgsinteractor).
func BuilderPolicy() Policy {
	return Policy{{
		Actions: []string{
			"ssm:UpdateInstanceInformation", // the heartbeat
			"ssmmessages:CreateControlChannel",
			"ssmmessages:OpenControlChannel",
		},
		// As in AWS's own policy: none of these is narrowed to an instance there.
		Resources: []string{"*"},
	}}
}
