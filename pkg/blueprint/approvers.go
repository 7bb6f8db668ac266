package blueprint

// ApproverPolicy is what people need to answer requests for approvals, and to start
// builds, beside a role that says who they are. lambda:InvokeFunction is granted for the
// function URL only: by a plain Invoke they could write any caller into the event
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html).
func ApproverPolicy(functionARN string) Policy {
	on := []string{functionARN}
	return Policy{
		{Actions: []string{"lambda:GetFunctionUrlConfig", "lambda:InvokeFunctionUrl"}, Resources: on},
		{Actions: []string{"lambda:InvokeFunction"}, Resources: on, Conditions: Conditions{"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}},
	}
}
