package decide_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

// What AWS documents, with other values: of an instance, of an image that was
// scanned on demand, and of Security Hub.
const (
	ofInstance = `{"awsAccountId":"111122223333","findingArn":"arn:aws:inspector2:eu-west-1:111122223333:finding/1","type":"PACKAGE_VULNERABILITY",
		"status":"ACTIVE","fixAvailable":"YES","severity":"HIGH","title":"CVE-2026-0001 - openssl",
		"packageVulnerabilityDetails":{"vulnerabilityId":"CVE-2026-0001","vulnerablePackages":[{"name":"openssl","fixedInVersion":"0:3.0.18-1"}]},
		"resources":[{"type":"AWS_EC2_INSTANCE","id":"i-0123456789abcdef0","region":"eu-west-1",
			"details":{"awsEc2Instance":{"imageId":"ami-0123456789abcdef0","platform":"DEBIAN_12"},"vm":{"vmImageReference":"ami-0123456789abcdef0"}}}]}`
	ofImage = `{"findingArn":"arn:aws:inspector2:eu-west-1:111122223333:finding/ondemand/1/2","scanId":"1","type":"PACKAGE_VULNERABILITY",
		"status":"ACTIVE","fixAvailable":"YES","severity":"HIGH","packageVulnerabilityDetails":{"vulnerabilityId":"CVE-2026-0001"},
		"resources":[{"type":"MACHINE_IMAGE","id":"ami-0123456789abcdef0","partition":"aws","region":"eu-west-1"}]}`
	ofHub = `{"findings":[{"SchemaVersion":"2018-10-08","ProductArn":"arn:aws:securityhub:eu-west-1::product/aws/inspector","RecordState":"ACTIVE","Workflow":{"Status":"NEW"},"Region":"eu-west-1","Severity":{"Label":"HIGH"},
		"Vulnerabilities":[{"Id":"CVE-2026-0001","FixAvailable":"YES"}],
		"Resources":[{"Type":"AwsEc2Instance","Id":"arn:aws:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0","Region":"eu-west-1",
			"Details":{"AwsEc2Instance":{"ImageId":"ami-0123456789abcdef0"}}}]}]}`
)

// Findings of Security Hub, not CSPM, in OCSF 1.6, of an instance: AWS documents
// the event and the class, and no place of the image.
const ofHubV2 = `{"findings":[{"class_uid":2002,"class_name":"Vulnerability Finding","activity_id":1,"status":"New","status_id":1,"severity":"High","severity_id":4,
	"metadata":{"version":"1.6.0","product":{"name":"Inspector","vendor_name":"AWS","uid":"arn:aws:securityhub:eu-west-1::productv2/aws/inspector"}},
	"cloud":{"account":{"uid":"111122223333"},"provider":"AWS","region":"eu-west-1"},
	"vulnerabilities":[{"cve":{"uid":"CVE-2026-0001"},"is_fix_available":true,"affected_packages":[{"name":"openssl","version":"3.0.17"}]}],
	"resources":[{"type":"AWS::EC2::Instance","uid":"arn:aws:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0","region":"eu-west-1",
		"data":{"awsEc2InstanceDetails":{"imageId":"ami-0123456789abcdef0","type":"t3.medium"}}}]}]}`

// with is a JSON document in which one text stands for another.
func with(t *testing.T, document, old, now string) string {
	t.Helper()
	require.Contains(t, document, old)
	return strings.ReplaceAll(document, old, now)
}

func TestFindingsThatANewerImageMayAnswer(t *testing.T) {
	one := []decide.Finding{{Vulnerability: "CVE-2026-0001", ImageID: "ami-0123456789abcdef0", Region: "eu-west-1"}}
	for sentence, tc := range map[string]struct {
		kind, detail string
		want         []decide.Finding
	}{
		"of an instance":                      {contract.InspectorEvent, ofInstance, one},
		"of an image, scanned continuously":   {contract.InspectorEvent, ofImage, one},
		"of an image, scanned on demand":      {contract.OnDemandEvent, ofImage, one},
		"of Security Hub":                     {contract.SecurityHubEvent, ofHub, one},
		"of the newer Security Hub, in OCSF":  {contract.SecurityHubV2Event, ofHubV2, one},
		"with data that are JSON in a text":   {contract.SecurityHubV2Event, with(t, ofHubV2, `{"awsEc2InstanceDetails":{"imageId":"ami-0123456789abcdef0","type":"t3.medium"}}`, `"{\"ImageId\":\"ami-0123456789abcdef0\"}"`), one},
		"with the image where OCSF has it":    {contract.SecurityHubV2Event, with(t, with(t, ofHubV2, `"imageId":"ami-0123456789abcdef0",`, ``), `"status_id":1`, `"status_id":1,"device":{"image":{"uid":"ami-0123456789abcdef0"}}`), one},
		"of an image in OCSF":                 {contract.SecurityHubV2Event, with(t, with(t, ofHubV2, `"imageId":"ami-0123456789abcdef0",`, ``), `arn:aws:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0`, `arn:aws:ec2:eu-west-1::image/ami-0123456789abcdef0`), one},
		"with a version that fixes it":        {contract.SecurityHubV2Event, with(t, ofHubV2, `"is_fix_available":true,"affected_packages":[{`, `"affected_packages":[{"fixed_in_version":"3.0.18",`), one},
		"not of OCSF without a fix":           {contract.SecurityHubV2Event, with(t, ofHubV2, `"is_fix_available":true`, `"is_fix_available":false`), nil},
		"not of OCSF's other classes":         {contract.SecurityHubV2Event, with(t, ofHubV2, `"class_uid":2002`, `"class_uid":2003`), nil},
		"not what is suppressed in OCSF":      {contract.SecurityHubV2Event, with(t, ofHubV2, `"status_id":1`, `"status_id":3`), nil},
		"not what is resolved in OCSF":        {contract.SecurityHubV2Event, with(t, ofHubV2, `"status_id":1`, `"status_id":4`), nil},
		"not of OCSF without an image":        {contract.SecurityHubV2Event, with(t, ofHubV2, `"imageId":"ami-0123456789abcdef0",`, ``), nil},
		"not one that is closed":              {contract.InspectorEvent, with(t, ofInstance, `"ACTIVE"`, `"CLOSED"`), nil},
		"not one without a fix":               {contract.InspectorEvent, with(t, ofInstance, `"YES"`, `"NO"`), nil},
		"not one of which a part has a fix":   {contract.InspectorEvent, with(t, ofInstance, `"YES"`, `"PARTIAL"`), nil},
		"not one of the network":              {contract.InspectorEvent, with(t, ofInstance, `"PACKAGE_VULNERABILITY"`, `"NETWORK_REACHABILITY"`), nil},
		"not of an instance without an image": {contract.InspectorEvent, with(t, ofInstance, `"imageId":"ami-0123456789abcdef0",`, ``), nil},
		"not of an image that is none":        {contract.InspectorEvent, with(t, ofImage, `"id":"ami-0123456789abcdef0"`, `"id":"../recipes/x"`), nil},
		"not of Security Hub's archive":       {contract.SecurityHubEvent, with(t, ofHub, `"RecordState":"ACTIVE"`, `"RecordState":"ARCHIVED"`), nil},
		"not what people have suppressed":     {contract.SecurityHubEvent, with(t, ofHub, `"NEW"`, `"SUPPRESSED"`), nil},
		"not of a hub's finding without fix":  {contract.SecurityHubEvent, with(t, ofHub, `"FixAvailable":"YES"`, `"FixAvailable":"NO"`), nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, ignored, err := decide.Reporters{OnDemand: true}.Findings(sources()[tc.kind], tc.kind, json.RawMessage(tc.detail))
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
			assert.Empty(t, ignored)
		})
	}
	for sentence, tc := range map[string][2]string{
		"no finding at all":        {contract.InspectorEvent, `{}`},
		"a finding that is a text": {contract.InspectorEvent, `"x"`},
		"a hub without findings":   {contract.SecurityHubEvent, `{}`},
		"OCSF without findings":    {contract.SecurityHubV2Event, `{}`},
		"OCSF of numbers":          {contract.SecurityHubV2Event, `{"findings":[1]}`},
		"a hub of numbers":         {contract.SecurityHubEvent, `{"findings":[1]}`},
		"another event":            {"EC2 Instance State-change Notification", ofInstance},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, _, err := decide.Reporters{}.Findings(sources()[tc[0]], tc[0], json.RawMessage(tc[1]))
			require.Error(t, err)
		})
	}
}

// sources are those that AWS sends events about vulnerabilities from.
func sources() map[string]string {
	return map[string]string{
		contract.InspectorEvent: "aws.inspector2", contract.OnDemandEvent: "inspector2.ami.ondemand",
		contract.SecurityHubEvent: "aws.securityhub", contract.SecurityHubV2Event: "aws.securityhub",
	}
}

func TestWhoseFindingsCount(t *testing.T) {
	const (
		own, ownV2 = "arn:aws:securityhub:eu-west-1:111122223333:product/111122223333/default", "arn:aws:securityhub:eu-west-1:111122223333:productv2/111122223333/default"
		inspector  = "arn:aws:securityhub:eu-west-1::product/aws/inspector"
		v2         = "arn:aws:securityhub:eu-west-1::productv2/aws/inspector"
	)
	one := []decide.Finding{{Vulnerability: "CVE-2026-0001", ImageID: "ami-0123456789abcdef0", Region: "eu-west-1"}}
	allOf := decide.Reporters{OnDemand: true, Products: []string{own, ownV2}}
	for sentence, tc := range map[string]struct {
		reporters            decide.Reporters
		source, kind, detail string
		ignored              string // empty: it counts
	}{
		"Inspector":                                  {decide.Reporters{}, "aws.inspector2", contract.InspectorEvent, ofInstance, ""},
		"Inspector through Security Hub":             {decide.Reporters{}, "aws.securityhub", contract.SecurityHubEvent, ofHub, ""},
		"Inspector of another region":                {decide.Reporters{}, "aws.securityhub", contract.SecurityHubEvent, with(t, ofHub, "hub:eu-west-1::", "hub:us-east-1::"), ""},
		"Inspector of another partition":             {decide.Reporters{}, "aws.securityhub", contract.SecurityHubEvent, with(t, ofHub, "aws:securityhub:eu-west-1::", "aws-us-gov:securityhub:us-gov-west-1::"), ""},
		"Inspector through the newer Security Hub":   {decide.Reporters{}, "aws.securityhub", contract.SecurityHubV2Event, ofHubV2, ""},
		"an on-demand scan, once that is chosen":     {decide.Reporters{OnDemand: true}, "inspector2.ami.ondemand", contract.OnDemandEvent, ofImage, ""},
		"a product, once it is chosen":               {allOf, "aws.securityhub", contract.SecurityHubEvent, with(t, ofHub, inspector, own), ""},
		"a product in OCSF, once it is chosen":       {allOf, "aws.securityhub", contract.SecurityHubV2Event, with(t, ofHubV2, v2, ownV2), ""},
		"not an on-demand scan by default":           {decide.Reporters{Products: allOf.Products}, "inspector2.ami.ondemand", contract.OnDemandEvent, ofImage, "onDemandFindings is false"},
		"not another source of an on-demand scan":    {allOf, "inspector2.ami", contract.OnDemandEvent, ofImage, `of source "inspector2.ami", which only inspector2.ami.ondemand sends`},
		"not an on-demand source as Inspector":       {allOf, "inspector2.ami.ondemand", contract.InspectorEvent, ofInstance, "which only aws.inspector2 sends"},
		"not an on-demand source as Security Hub":    {allOf, "inspector2.ami.ondemand", contract.SecurityHubEvent, ofHub, "which only aws.securityhub sends"},
		"not another source as Inspector":            {allOf, "my.inspector2", contract.InspectorEvent, ofInstance, "which only aws.inspector2 sends"},
		"not another service of AWS as Inspector":    {allOf, "aws.securityhub", contract.InspectorEvent, ofInstance, "which only aws.inspector2 sends"},
		"not another source as the hub in OCSF":      {allOf, "my.securityhub", contract.SecurityHubV2Event, ofHubV2, "which only aws.securityhub sends"},
		"not no source":                              {allOf, "", contract.InspectorEvent, ofInstance, "which only aws.inspector2 sends"},
		"not the account's own product":              {decide.Reporters{OnDemand: true}, "aws.securityhub", contract.SecurityHubEvent, with(t, ofHub, inspector, own), `is of product "` + own + `", which is neither Amazon Inspector nor in findingProducts`},
		"not the account's own product in OCSF":      {decide.Reporters{OnDemand: true}, "aws.securityhub", contract.SecurityHubV2Event, with(t, ofHubV2, v2, ownV2), "neither Amazon Inspector nor in findingProducts"},
		"not an account's product of that name":      {allOf, "aws.securityhub", contract.SecurityHubEvent, with(t, ofHub, inspector, "arn:aws:securityhub:eu-west-1:111122223333:product/aws/inspector"), "neither"},
		"not a partner's product that anybody fills": {allOf, "aws.securityhub", contract.SecurityHubEvent, with(t, ofHub, inspector, "arn:aws:securityhub:eu-west-1::product/prowler/prowler"), "neither"},
		"not a product whose name ends like it":      {allOf, "aws.securityhub", contract.SecurityHubEvent, with(t, ofHub, inspector, own+"::product/aws/inspector"), "neither"},
		"not a product whose name begins like it":    {allOf, "aws.securityhub", contract.SecurityHubEvent, with(t, ofHub, inspector, inspector+"2"), "neither"},
		"not AWS's other products":                   {allOf, "aws.securityhub", contract.SecurityHubEvent, with(t, ofHub, inspector, "arn:aws:securityhub:eu-west-1::product/aws/guardduty"), "neither"},
		"not a finding without a product":            {allOf, "aws.securityhub", contract.SecurityHubEvent, with(t, ofHub, `"ProductArn":"`+inspector+`",`, ""), "names no product"},
		"not a finding in OCSF without a product":    {allOf, "aws.securityhub", contract.SecurityHubV2Event, with(t, ofHubV2, `,"uid":"`+v2+`"`, ""), "names no product"},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, ignored, err := tc.reporters.Findings(tc.source, tc.kind, json.RawMessage(tc.detail))
			require.NoError(t, err)
			if tc.ignored == "" {
				assert.Equal(t, one, got)
				assert.Empty(t, ignored)
				return
			}
			assert.Empty(t, got)
			require.Len(t, ignored, 1)
			assert.Contains(t, ignored[0], tc.ignored)
		})
	}
	t.Run("of an event with two, that of Inspector", func(t *testing.T) {
		forged := strings.NewReplacer(inspector, own, "CVE-2026-0001", "CVE-2026-0666").Replace(ofHub)
		both := strings.TrimSuffix(ofHub, "]}") + "," + strings.TrimPrefix(forged, `{"findings":[`)
		got, ignored, err := decide.Reporters{}.Findings("aws.securityhub", contract.SecurityHubEvent, json.RawMessage(both))
		require.NoError(t, err)
		assert.Equal(t, one, got)
		assert.Len(t, ignored, 1)
	})
}

func TestAVulnerabilityThatARebuildDoesNotCureIsTriedLessAndLessOften(t *testing.T) {
	limits := decide.Limits{FindingLimit: day, MaxAge: 5 * day}
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	finding := func(image, cve string) decide.Finding {
		return decide.Finding{Vulnerability: cve, ImageID: image, Region: "eu-west-1"}
	}
	var r decide.Record
	note := func(image, cve string) {
		t.Helper()
		var changed bool
		r, changed = r.Noted(finding(image, cve), now)
		require.True(t, changed)
	}
	note("ami-1", "a")
	assert.True(t, r.Due(limits).IsZero(), "the first is at once")
	same, changed := r.Noted(finding("ami-1", "a"), now.Add(day))
	assert.False(t, changed, "it was heard before")
	assert.Equal(t, r, same)
	first := r.RebuildTrigger()
	assert.Equal(t, first, same.RebuildTrigger())
	r = r.Rebuilding(now)
	assert.NotEqual(t, first, r.RebuildTrigger(), "what comes next has another name")

	note("ami-2", "a")
	assert.Equal(t, now.Add(day), r.Due(limits))
	assert.Equal(t, []string{"a"}, r.Finding.Vulnerabilities, "those of the image before are answered")
	for _, wait := range []time.Duration{2 * day, 4 * day, 5 * day, 5 * day} {
		r = r.Rebuilding(now)
		r.Finding = nil
		note("ami-3", "a")
		assert.Equal(t, now.Add(wait), r.Due(limits))
	}
	note("ami-3", "b")
	assert.Equal(t, now.Add(day), r.Due(limits), "another one is worth a try")
	r = r.Rebuilding(now)
	assert.Zero(t, r.Futile)
	assert.Equal(t, []string{"a", "b"}, r.Tried)
}

func TestWhatIsDoneAboutAFinding(t *testing.T) {
	limits := decide.Limits{MaxRunning: 2, MaxFailures: 3, MaxAge: 30 * day, FindingLimit: day}
	now := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	open := decide.Record{Finding: &decide.Open{ImageID: "ami-1", Vulnerabilities: []string{"CVE-2026-0001", "CVE-2026-0002"}}}
	flawed := decide.Situation{Recipe: "a", Name: "a-0123", Same: "a-0123", UpToDate: true, Flawed: true, Now: now, Record: open}
	for sentence, tc := range map[string]struct {
		change func(*decide.Situation)
		want   decide.Decision
	}{
		"its image is built again": {
			func(*decide.Situation) {},
			decide.Decision{Action: decide.Start, Force: true, Fix: true, Why: "the published image ami-1 has CVE-2026-0001 and 1 more, for which there is a fix"},
		},
		"not when consumers get another image": {
			func(s *decide.Situation) { s.Flawed = false }, decide.Decision{Action: decide.Skip, Why: "the published image is up to date"},
		},
		"a stale recipe builds as ever": {
			func(s *decide.Situation) { s.UpToDate = false }, decide.Decision{Action: decide.Start, Why: "the published image is not what would be built now"},
		},
		"within the limit it waits": {
			func(s *decide.Situation) { s.Record.Rebuilt = now.Add(-time.Hour) },
			decide.Decision{Action: decide.Wait, Until: now.Add(23 * time.Hour), Why: "the published image ami-1 has CVE-2026-0001 and 1 more, for which there is a fix; " +
				"it was built for findings at 2026-11-01T23:00:00Z, and is not built for others before 2026-11-02T23:00:00Z"},
		},
		"but a night still builds what is old": {
			func(s *decide.Situation) { s.Record.Rebuilt, s.Nightly, s.Age = now, true, 31*day },
			decide.Decision{Action: decide.Start, Force: true, Why: "the published image is 31 days old"},
		},
		"a paused recipe does not build": {
			func(s *decide.Situation) { s.Record.Paused, s.Record.Failures = true, 3 },
			decide.Decision{Action: decide.Skip, Why: "paused after 3 failures in a row; after the fix: ami-factory resume a"},
		},
		"a build that runs absorbs it": {
			func(s *decide.Situation) {
				s.Running = []decide.Running{{Recipe: "a", Name: "a-0123-fix-01234567", Own: true}}
			},
			decide.Decision{Action: decide.Skip, Why: "execution a-0123-fix-01234567 builds it"},
		},
		"it waits for the image it builds on": {
			func(s *decide.Situation) { s.Parent = "base" },
			decide.Decision{Action: decide.Wait, Why: "it builds on the image of recipe base, which is about to get another"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := flawed
			tc.change(&s)
			assert.Equal(t, tc.want, decide.Decide(s, limits))
		})
	}
}

func TestAncestors(t *testing.T) {
	on := func(name, parameter string) *recipe.Recipe {
		return &recipe.Recipe{Name: name, Source: recipe.Source{Parameter: parameter}, Pointers: recipe.Pointers{Parameters: []string{"/f/" + name}}}
	}
	recipes := []*recipe.Recipe{on("c", "/f/b"), on("b", "/f/a"), on("a", "/aws/base"), on("d", ""), on("e", "/f/f"), on("f", "/f/e")}
	for name, want := range map[string][]string{"a": nil, "b": {"a"}, "c": {"a", "b"}, "d": nil, "e": {"f"}, "f": {"e"}, "g": nil} {
		assert.Equal(t, want, decide.Ancestors(recipes, name), name)
	}
}
