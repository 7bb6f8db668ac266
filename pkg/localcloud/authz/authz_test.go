package authz

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	instance = "arn:aws:ec2:eu-west-1:111122223333:instance/i-1"
	object   = "arn:aws:s3:::bucket/plans/a:b.json"
)

func document(t *testing.T, statements string) Document {
	t.Helper()
	d, err := Parse([]byte(`{"Version":"2012-10-17","Statement":` + statements + `}`))
	require.NoError(t, err)
	return d
}

func TestWhatAPolicyAllows(t *testing.T) {
	stop := Request{Action: "ec2:StopInstances", Resource: instance}
	read := Request{Action: "s3:GetObject", Resource: object}
	with := func(r Request, pairs map[string][]string) Request {
		r.Context = Context(pairs)
		return r
	}
	tagged := func(value string) Request {
		return with(stop, map[string][]string{"aws:ResourceTag/Team": {value}})
	}
	tags := func(names ...string) Request { return with(stop, map[string][]string{"aws:TagKeys": names}) }
	when := func(condition string) string {
		return `{"Effect":"Allow","Action":"ec2:StopInstances","Resource":"*","Condition":{` + condition + `}}`
	}
	on := func(action, resource string) string {
		return `{"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}`
	}
	const all = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	for sentence, tc := range map[string]struct {
		policy  string
		request Request
		want    Verdict
	}{
		"nothing is allowed unless it is said":         {on("s3:GetObject", "*"), stop, NotAllowed},
		"an action by name":                            {on("ec2:StopInstances", "*"), stop, Allowed},
		"an action has no case":                        {on("EC2:stopinstances", "*"), stop, Allowed},
		"an action by wildcard":                        {on("ec2:Stop*", "*"), stop, Allowed},
		"a question mark is one character":             {on("ec2:StopInstance?", "*"), stop, Allowed},
		"and not none":                                 {on("ec2:StopInstances?", "*"), stop, NotAllowed},
		"a wildcard of another service":                {on("ssm:*", "*"), stop, NotAllowed},
		"an explicit deny wins over an allow":          {all + `,{"Effect":"Deny","Action":"ec2:*","Resource":"*"}`, stop, Denied},
		"whichever comes first":                        {`{"Effect":"Deny","Action":"ec2:*","Resource":"*"},` + all, stop, Denied},
		"a deny of something else does not":            {all + `,{"Effect":"Deny","Action":"s3:*","Resource":"*"}`, stop, Allowed},
		"NotAction allows all others":                  {`{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}`, stop, Allowed},
		"and not what it names":                        {`{"Effect":"Allow","NotAction":["iam:*","ec2:Stop*"],"Resource":"*"}`, stop, NotAllowed},
		"NotResource allows on all others":             {`{"Effect":"Allow","Action":"*","NotResource":"arn:aws:s3:::bucket/*"}`, stop, Allowed},
		"and not on what it names":                     {`{"Effect":"Allow","Action":"*","NotResource":"arn:aws:s3:::bucket/*"}`, read, NotAllowed},
		"a resource by wildcard":                       {on("ec2:*", "arn:aws:ec2:*:111122223333:instance/*"), stop, Allowed},
		"a resource of another account":                {on("ec2:*", "arn:aws:ec2:*:444455556666:instance/*"), stop, NotAllowed},
		"a resource of another kind":                   {on("ec2:*", "arn:aws:ec2:*:111122223333:volume/*"), stop, NotAllowed},
		"a resource has case":                          {on("s3:*", "arn:aws:s3:::BUCKET/*"), read, NotAllowed},
		"a bucket is not its objects":                  {on("s3:*", "arn:aws:s3:::bucket"), read, NotAllowed},
		"a wildcard reaches over slashes":              {on("s3:*", "arn:aws:s3:::bucket/*"), read, Allowed},
		"a wildcard within a part stays in it":         {on("ec2:*", "arn:aws:ec2:e*-1/i-1:x:y"), stop, NotAllowed},
		"one at the end of a part reaches beyond":      {on("ec2:*", "arn:aws:ec2:eu*:instance/i-1:*"), Request{Action: "ec2:X", Resource: instance + ":x"}, Allowed},
		"StringEquals":                                 {when(`"StringEquals":{"aws:ResourceTag/Team":["a","b"]}`), tagged("b"), Allowed},
		"StringEquals has case":                        {when(`"StringEquals":{"aws:ResourceTag/Team":"B"}`), tagged("b"), NotAllowed},
		"StringEquals takes a star as it is":           {when(`"StringEquals":{"aws:ResourceTag/Team":"*"}`), tagged("b"), NotAllowed},
		"the key has no case but the tag's name has":   {when(`"StringEquals":{"AWS:resourcetag/Team":"b"}`), tagged("b"), Allowed},
		"so another tag is not there":                  {when(`"StringEquals":{"aws:ResourceTag/team":"b"}`), tagged("b"), NotAllowed},
		"StringEqualsIgnoreCase":                       {when(`"StringEqualsIgnoreCase":{"aws:ResourceTag/Team":"B"}`), tagged("b"), Allowed},
		"StringLike":                                   {when(`"StringLike":{"aws:ResourceTag/Team":"x-*"}`), tagged("x-1"), Allowed},
		"StringLike of a key that is not there":        {when(`"StringLike":{"aws:ResourceTag/Team":"*"}`), stop, NotAllowed},
		"StringNotEquals":                              {when(`"StringNotEquals":{"aws:ResourceTag/Team":["a","b"]}`), tagged("c"), Allowed},
		"StringNotEquals of one of the values":         {when(`"StringNotEquals":{"aws:ResourceTag/Team":["a","b"]}`), tagged("b"), NotAllowed},
		"a negated operator holds without its key":     {when(`"StringNotEquals":{"aws:ResourceTag/Team":"a"}`), stop, Allowed},
		"StringNotLike":                                {when(`"StringNotLike":{"aws:ResourceTag/Team":"a*"}`), tagged("ab"), NotAllowed},
		"IfExists holds without its key":               {when(`"StringEqualsIfExists":{"aws:ResourceTag/Team":"a"}`), stop, Allowed},
		"IfExists compares where it is there":          {when(`"StringEqualsIfExists":{"aws:ResourceTag/Team":"a"}`), tagged("b"), NotAllowed},
		"all conditions must hold":                     {when(`"StringLike":{"aws:ResourceTag/Team":"*"},"StringEquals":{"aws:RequestedRegion":"eu-west-1"}`), tagged("a"), NotAllowed},
		"Null true wants the key absent":               {when(`"Null":{"aws:ResourceTag/Team":"true"}`), stop, Allowed},
		"Null true refuses it":                         {when(`"Null":{"aws:ResourceTag/Team":true}`), tagged("a"), NotAllowed},
		"Null false wants it":                          {when(`"Null":{"aws:ResourceTag/Team":"false"}`), tagged("a"), Allowed},
		"Bool":                                         {when(`"Bool":{"aws:ResourceTag/Team":true}`), tagged("True"), Allowed},
		"ForAllValues wants each value in the list":    {when(`"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}`), tags("a", "c"), NotAllowed},
		"ForAllValues of some of the list":             {when(`"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}`), tags("b"), Allowed},
		"ForAllValues holds without the key":           {when(`"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}`), stop, Allowed},
		"ForAnyValue wants one value in the list":      {when(`"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}`), tags("c", "b"), Allowed},
		"ForAnyValue without one":                      {when(`"ForAnyValue:StringLike":{"aws:TagKeys":"a*"}`), tags("b", "c"), NotAllowed},
		"ForAnyValue fails without the key":            {when(`"ForAnyValue:StringEquals":{"aws:TagKeys":"a"}`), stop, NotAllowed},
		"ForAnyValue does so even with IfExists":       {when(`"ForAnyValue:StringEqualsIfExists":{"aws:TagKeys":"a"}`), stop, NotAllowed},
		"ForAllValues negated wants none of the list":  {when(`"ForAllValues:StringNotEquals":{"aws:TagKeys":"a"}`), tags("b", "a"), NotAllowed},
		"ForAnyValue negated wants one that is not":    {when(`"ForAnyValue:StringNotEquals":{"aws:TagKeys":"a"}`), tags("b", "a"), Allowed},
		"ArnLike compares part by part":                {when(`"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/x*"}`), with(stop, map[string][]string{"aws:PrincipalArn": {"arn:aws:iam::1:role/xy"}}), Allowed},
		"ArnLike does not reach into another part":     {when(`"ArnLike":{"aws:PrincipalArn":"arn:*:role/x:::"}`), with(stop, map[string][]string{"aws:PrincipalArn": {"arn:aws:iam::1:role/x"}}), NotAllowed},
		"ArnNotLike":                                   {when(`"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::1:role/*"}`), with(stop, map[string][]string{"aws:PrincipalArn": {"arn:aws:iam::1:role/x"}}), NotAllowed},
		"a variable in a resource":                     {on("s3:*", "arn:aws:s3:::bucket/${aws:PrincipalAccount}/*"), with(Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::bucket/1/x"}, map[string][]string{"aws:PrincipalAccount": {"1"}}), Allowed},
		"a variable that has no value matches nothing": {on("s3:*", "arn:aws:s3:::bucket/${aws:PrincipalAccount}*"), Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::bucket/"}, NotAllowed},
		"a wildcard in a variable's value is none":     {when(`"StringLike":{"aws:ResourceTag/Team":"${aws:PrincipalArn}"}`), with(stop, map[string][]string{"aws:PrincipalArn": {"*"}, "aws:ResourceTag/Team": {"x"}}), NotAllowed},
		"a star that is meant":                         {on("s3:*", "arn:aws:s3:::bucket/${*}"), Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::bucket/*"}, Allowed},
		"is not a wildcard":                            {on("s3:*", "arn:aws:s3:::bucket/${*}"), Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::bucket/x"}, NotAllowed},
	} {
		t.Run(sentence, func(t *testing.T) {
			assert.Equal(t, tc.want, Evaluate(tc.request, []Document{document(t, "["+tc.policy+"]")}, nil))
		})
	}
}

func TestABoundaryOnlyTakesAway(t *testing.T) {
	stop := Request{Action: "ec2:StopInstances", Resource: instance}
	allow := func(action string) Document {
		return document(t, `{"Effect":"Allow","Action":"`+action+`","Resource":"*"}`)
	}
	deny := document(t, `{"Effect":"Deny","Action":"ec2:*","Resource":"*"}`)
	for sentence, tc := range map[string]struct {
		identity []Document
		boundary Document
		want     Verdict
	}{
		"both allow":                         {[]Document{allow("ec2:*")}, allow("ec2:Stop*"), Allowed},
		"the boundary does not":              {[]Document{allow("ec2:*")}, allow("ec2:Start*"), OutsideTheBoundary},
		"the boundary alone allows nothing":  {nil, allow("ec2:*"), NotAllowed},
		"the boundary denies":                {[]Document{allow("ec2:*")}, deny, DeniedByBoundary},
		"one policy of several allows":       {[]Document{allow("s3:*"), allow("ec2:*")}, allow("*"), Allowed},
		"one policy of several denies":       {[]Document{allow("ec2:*"), deny}, allow("*"), Denied},
		"a policy's deny is named before it": {[]Document{deny}, deny, Denied},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, tc.want, Evaluate(stop, tc.identity, &tc.boundary)) })
	}
}

func TestWhatIsNotKnownIsRefused(t *testing.T) {
	statement := func(rest string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` + rest + `}]}`
	}
	condition := func(c string) string {
		return statement(`"Action":"ec2:X","Resource":"*","Condition":{` + c + `}`)
	}
	for sentence, tc := range map[string]struct{ policy, want string }{
		"no JSON":                        {`{`, "policy document"},
		"a version that is none":         {`{"Version":"2012-10-18","Statement":{"Effect":"Allow","Action":"ec2:X","Resource":"*"}}`, "allowed: 2012-10-17, 2008-10-17, or none"},
		"no statement":                   {`{"Version":"2012-10-17","Statement":[]}`, "no statement"},
		"an element of the document":     {`{"Version":"2012-10-17","Statements":[]}`, "Statements"},
		"an element of a statement":      {statement(`"Action":"ec2:X","Resource":"*","Conditions":{}`), "Conditions"},
		"a principal":                    {statement(`"Action":"ec2:X","Resource":"*","Principal":"*"`), "should not specify a principal"},
		"an effect":                      {`{"Version":"2012-10-17","Statement":{"Effect":"allow","Action":"ec2:X","Resource":"*"}}`, `"allow"`},
		"no action":                      {statement(`"Resource":"*"`), "Action"},
		"an action and its opposite":     {statement(`"Action":"ec2:X","NotAction":"ec2:Y","Resource":"*"`), "NotAction"},
		"an action without service":      {statement(`"Action":"RunInstances","Resource":"*"`), "RunInstances"},
		"no resource":                    {statement(`"Action":"ec2:X"`), "Resource"},
		"a resource that is no ARN":      {statement(`"Action":"ec2:X","Resource":"i-1"`), "i-1"},
		"an operator":                    {condition(`"StringMatches":{"aws:RequestedRegion":"x"}`), "StringMatches"},
		"one for dates":                  {condition(`"DateLessThan":{"aws:RequestedRegion":"1"}`), "DateLessThan"},
		"a set operator":                 {condition(`"ForNoValue:StringEquals":{"aws:TagKeys":"x"}`), "ForNoValue"},
		"Null with IfExists":             {condition(`"NullIfExists":{"aws:TagKeys":"true"}`), "NullIfExists"},
		"Null of something else":         {condition(`"Null":{"aws:TagKeys":"no"}`), `"no"`},
		"a key":                          {condition(`"StringEquals":{"aws:SourceIp":"x"}`), "aws:SourceIp"},
		"a tag without a name":           {condition(`"StringEquals":{"aws:RequestTag/":"x"}`), "aws:RequestTag/"},
		"a list without a set operator":  {condition(`"StringEquals":{"aws:TagKeys":"x"}`), "ForAllValues"},
		"a condition without values":     {condition(`"StringEquals":{"aws:RequestedRegion":[]}`), "no value"},
		"a value that is an object":      {condition(`"StringEquals":{"aws:RequestedRegion":{}}`), "must be strings"},
		"a variable":                     {statement(`"Action":"ec2:X","Resource":"arn:aws:s3:::${aws:username}"`), "aws:username"},
		"a variable with a default":      {condition(`"StringEquals":{"aws:RequestedRegion":"${aws:PrincipalArn, 'x'}"}`), "PrincipalArn, 'x'"},
		"something after the document":   {statement(`"Action":"ec2:X","Resource":"*"`) + "{}", "text after"},
		"a wildcard for a service alone": {statement(`"Action":"e*:X","Resource":"*"`), "e*:X"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := Parse([]byte(tc.policy))
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestADocumentWithoutAVersionHasNoVariables(t *testing.T) {
	policy := func(version string) Document {
		d, err := Parse([]byte(`{` + version + `"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:PrincipalAccount}/*"}}`))
		require.NoError(t, err)
		return d
	}
	conditional := func(version string) Document {
		d, err := Parse([]byte(`{` + version + `"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"${aws:PrincipalAccount}"}}}}`))
		require.NoError(t, err)
		return d
	}
	get := func(path, region string) Request {
		return Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/" + path, Context: Context(map[string][]string{
			"aws:PrincipalAccount": {"111122223333"}, "aws:RequestedRegion": {region},
		})}
	}
	for sentence, tc := range map[string]struct {
		policy Document
		r      Request
		want   Verdict
	}{
		"2012: the variable is filled":          {policy(`"Version":"2012-10-17",`), get("111122223333/k", "x"), Allowed},
		"2008: it is text":                      {policy(`"Version":"2008-10-17",`), get("111122223333/k", "x"), NotAllowed},
		"2008: its text matches":                {policy(`"Version":"2008-10-17",`), get("${aws:PrincipalAccount}/k", "x"), Allowed},
		"none: it is text":                      {policy(``), get("111122223333/k", "x"), NotAllowed},
		"none: its text matches":                {policy(``), get("${aws:PrincipalAccount}/k", "x"), Allowed},
		"2012: a variable in a condition":       {conditional(`"Version":"2012-10-17",`), get("k", "111122223333"), Allowed},
		"none: no variable in a condition":      {conditional(``), get("k", "111122223333"), NotAllowed},
		"none: its text in a condition matches": {conditional(``), get("k", "${aws:PrincipalAccount}"), Allowed},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, tc.want, Evaluate(tc.r, []Document{tc.policy}, nil)) })
	}
	for sentence, read := range map[string]func([]byte) (Document, error){"of a resource": ParseResource, "of trust": ParseTrust} {
		resource := ""
		if sentence == "of a resource" {
			resource = `,"Resource":"*"`
		}
		_, err := read([]byte(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"` + resource + `}}`))
		assert.NoError(t, err, sentence)
	}
}
