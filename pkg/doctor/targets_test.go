package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	localiam "github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

const (
	auditor    = "auditor"
	externalID = "the-factory's-id"
)

// withTargets deploys a factory whose recipe keeps its pointers in accounts too.
func withTargets(t *testing.T, accounts ...string) *account {
	t.Helper()
	a := newAccount(t, func(cfg *localcloud.Config) { cfg.EnforceIAM = true })
	a.deployRoles()
	a.deployFunctions(map[string]string{contract.EnvTargetRole: blueprint.TargetRoleARN("aws", "*", "some"), contract.EnvTargetExternal: externalID})
	a.recipe.Pointers.Accounts = accounts
	return a
}

// put makes a role in an account.
func (a *account) put(of, name, trust string, policy any) {
	a.Helper()
	raw, err := json.Marshal(policy)
	require.NoError(a, err)
	require.NoError(a, a.cloud.IAM.PutRole(localiam.Role{
		ARN: blueprint.TargetRoleARN("aws", of, name), Trust: json.RawMessage(trust), Policies: map[string]json.RawMessage{"p": raw},
	}))
}

// target makes what the stack of target accounts makes, and a role that looks at it.
func (a *account) target(of string, external func(string) string, callers func([]string) []string, without ...string) {
	a.Helper()
	a.put(of, auditor, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+home+`:root"},"Action":"sts:AssumeRole"}}`,
		map[string]any{"Version": "2012-10-17", "Statement": map[string]any{"Effect": "Allow", "Action": []string{"iam:GetRole", "iam:SimulatePrincipalPolicy"}, "Resource": "*"}})
	for _, role := range blueprint.TargetRoles() {
		var arns []string
		for _, name := range role.Callers {
			arns = append(arns, "arn:aws:iam::"+home+":role/"+name)
		}
		trust, err := role.TrustPolicy("aws", home, external(externalID), callers(arns))
		require.NoError(a, err)
		if len(without) == 0 || without[0] != role.Name {
			a.put(of, role.Name, string(trust), role.Policy("aws", of))
		}
	}
}

func same[T any](v T) T { return v }

// examined is what the check says of target accounts.
func (a *account) examined(role string) []Finding {
	a.Helper()
	arns := map[workflow.Stage]string{}
	for _, spec := range workflow.Stages() {
		arns[spec.Stage] = functionsARN + string(spec.Stage)
	}
	return checkTargets(a.Context(), &examination{
		aws: a.aws, opts: Options{Recipes: []Recipe{a.recipe}, TargetRole: role}, account: home, partition: "aws", region: region, deployed: factory{machine: machine, functions: arns},
	})
}

func TestTargetAccountsAreLookedAtFromInside(t *testing.T) {
	const good, noWriter, otherID, otherRoles, noParameter, noAuditor = "210987654321", "222222222222", "333333333333", "444444444444", "555555555555", "666666666666"
	a := withTargets(t, noAuditor, noParameter, otherRoles, otherID, noWriter, good)
	a.target(good, same, same)
	a.target(noWriter, same, same, blueprint.TargetWriterName)
	a.target(otherID, func(string) string { return "somebody's" }, same)
	a.target(otherRoles, same, func(arns []string) []string { return arns[1:] })
	a.target(noParameter, same, same)
	for _, role := range blueprint.TargetRoles() {
		r, ok := a.cloud.IAM.Role(blueprint.TargetRoleARN("aws", noParameter, role.Name))
		require.True(t, ok)
		r.Policies["p"] = json.RawMessage(strings.ReplaceAll(string(r.Policies["p"]), "parameter/ami-factory/", "parameter/another/"))
		require.NoError(t, a.cloud.IAM.PutRole(r))
	}

	found := a.examined(auditor)
	of := func(looked string) string {
		var out []string
		for _, f := range found {
			if f.Looked == looked {
				out = append(out, string(f.Verdict)+": "+f.Means)
			}
		}
		return strings.Join(out, "\n")
	}
	assert.Equal(t, "ok: role ami-factory-target-read trusts the factory's roles\nok: role ami-factory-target-write trusts the factory's roles", of("account "+good))
	for _, in := range []string{"eu-west-1", "eu-central-1"} {
		assert.Equal(t, "ok: the roles may read and move /ami-factory/debian-12-docker/latest", of("account "+good+" in "+in))
		assert.Contains(t, of("account "+noParameter+" in "+in), "problem: ami-factory-target-read may not ssm:GetParameter on /ami-factory/debian-12-docker/latest")
		assert.Contains(t, of("account "+noParameter+" in "+in), "ami-factory-target-write may not ssm:PutParameter on /ami-factory/debian-12-docker/latest")
	}
	assert.Contains(t, of("account "+noWriter), "problem: role ami-factory-target-write does not exist")
	assert.Contains(t, of("account "+otherID), "problem: role ami-factory-target-read does not trust the factory: it asks for another external id than the factory's, "+externalID)
	assert.Contains(t, of("account "+otherRoles), "problem: role ami-factory-target-write does not trust the factory: it does not name arn:aws:iam::"+home+":role/")
	assert.Contains(t, of("account "+noAuditor), "not checked: role auditor cannot be assumed")
	for _, f := range found {
		assert.Equal(t, f.Verdict == OK, f.Fix == "", "%s: %s", f.Looked, f.Means)
	}
}

func TestTargetAccountsAreLookedAtAsTheReaderWhereThatIsAllowed(t *testing.T) {
	const closed, open, blind = "210987654321", "222222222222", "333333333333"
	a := withTargets(t, closed, open, blind)
	a.target(closed, same, same)
	trust := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + home + `:root"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"` + externalID + `"}}}}`
	reader := blueprint.TargetRoles()[0]
	a.put(open, reader.Name, trust, reader.Policy("aws", open))
	a.put(blind, reader.Name, trust, reader.Policy("aws", open)) // another account's parameters
	says := map[string]string{}
	for _, f := range a.examined("") {
		says[f.Looked] = string(f.Verdict) + ": " + f.Means + " " + f.Fix
	}
	assert.Contains(t, says["account "+closed], "not checked: whoever runs this may not assume ami-factory-target-read there")
	assert.Contains(t, says["account "+closed], "--target-role")
	assert.Contains(t, says["account "+open+" in eu-central-1"], "ok: role ami-factory-target-read can be assumed and reads the pointers")
	assert.Contains(t, says["account "+blind+" in eu-west-1"], "problem: role ami-factory-target-read may not read /ami-factory/debian-12-docker/latest")
}

func TestAFactoryWithoutTargetAccountsIsNamed(t *testing.T) {
	a := withTargets(t)
	found := a.examined(auditor)
	require.Len(t, found, 1)
	assert.Equal(t, OK, found[0].Verdict)
	a.recipe.Pointers.Accounts = []string{"210987654321"}
	a.deployFunctions(nil)
	found = a.examined(auditor)
	require.Len(t, found, 1)
	assert.Equal(t, Problem, found[0].Verdict)
	assert.Contains(t, found[0].Means, "deployed without target accounts")
	assert.Contains(t, found[0].Fix, "targetAccounts")
}

// gate lets calls of AssumeRole through in groups: none before as many are under way.
type gate struct {
	size int
	next http.RoundTripper

	mu           sync.Mutex
	running, top int
	open         chan struct{}
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		return g.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	if strings.Contains(string(body), "Action=AssumeRole") {
		g.mu.Lock()
		g.running++
		g.top = max(g.top, g.running)
		mine := g.open
		if g.running == g.size {
			g.running, g.open = 0, make(chan struct{})
			close(mine)
		}
		g.mu.Unlock()
		select {
		case <-mine:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	return g.next.RoundTrip(r)
}

// 40 accounts that do not answer must not take 40 time-outs, and 40 calls at once would
// be throttled.
func TestManyTargetAccountsAreLookedAtSeveralAtATime(t *testing.T) {
	var accounts []string
	for i := range 5 * targetsAtOnce {
		accounts = append(accounts, fmt.Sprintf("2109876543%02d", i))
	}
	a := withTargets(t, accounts...)
	g := &gate{size: targetsAtOnce, next: http.DefaultTransport, open: make(chan struct{})}
	a.aws.cfg.HTTPClient = &http.Client{Transport: g}
	found := a.examined(auditor)
	require.Len(t, found, len(accounts))
	for i, f := range found {
		assert.Equal(t, "account "+accounts[i], f.Looked)
		assert.Contains(t, f.Means, "cannot be assumed")
	}
	assert.Equal(t, targetsAtOnce, g.top)
}

func TestATargetAccountThatDoesNotAnswerIsNotChecked(t *testing.T) {
	a := withTargets(t, "210987654321")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := &examination{aws: a.aws, opts: Options{TargetRole: auditor}, account: home, partition: "aws", region: region}
	found := e.target(ctx, target{account: "210987654321"}, []targetRole{{externalID: externalID}})
	require.Len(t, found, 1)
	assert.Equal(t, NotChecked, found[0].Verdict)
	assert.Contains(t, found[0].Means, "did not answer")
}
