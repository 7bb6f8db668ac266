package factory

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/program"
)

// The architectures a deployment's functions can have, as context names them.
const (
	ARM64 = "arm64"
	X86   = "x86_64"
)

// The stacks that the app can make.
const (
	StackFactory = "factory"
	StackTarget  = "target"
	StackForward = "forward"
)

// What EncryptionKey and AccessLogs can be beside an ARN or a name.
const (
	None = "none"
	New  = "new"
)

// Props is what an operator chooses. Begin with Defaults; README.md of infra
// says what each is allowed to be, under the name that it has in the context.
type Props struct {
	Stack              string // which stack the app makes: StackFactory, StackTarget or StackForward
	Architecture       string // of the functions: ARM64 or X86
	FunctionsDir       string // holds <stage>/bootstrap; empty: where make builds them for the architecture
	GossDir            string // holds a static check engine for each architecture of guests, amd64 and arm64; empty: where make builds them
	Version            string // of the factory, in every plan and report; empty: what the build wrote into FunctionsDir
	DualStack          bool   // functions use AWS's dual-stack endpoints
	Parameters         string // of components, for all recipes: JSON, or empty
	Prices             string // that differ from AWS's: a cost.Table as JSON, or empty
	ReserveConcurrency bool   // keep the triggers to one run at a time
	Network            NetworkProps
	EncryptionKey      string   // of what is at rest: None (AWS's own keys), New, or a key's ARN
	Approvers          []string // ARNs of roles whose sessions are named after people, beside those of IAM Identity Center
	KeyARNs            []string // customer keys of recipes; any key of the account, by way of EC2, when empty
	SourceOwners       []string // further owners whose images may be launched, beside those of the recipes' sources
	Storage            StorageProps
	Logs               LogProps
	Alarms             AlarmProps
	Dashboard          bool
	InspectorScan      bool     // recipes may have Amazon Inspector scan what is installed
	SecurityHub        bool     // send findings to Security Hub
	Subscribers        []string // addresses that are told how every execution ended
	Triggers           TriggerProps
	Roles              RoleProps
	Targets            TargetProps
	Tags               map[string]string // of everything that can be tagged
}

// TargetProps are of the accounts that get pointers, where the stack of
// NewTargetStack is deployed.
type TargetProps struct {
	Accounts   []string
	ExternalID string // as those stacks have it
}

// Defaults are the props of a deployment whose context says nothing.
func Defaults() Props {
	p := Props{Tags: map[string]string{}}
	for _, s := range settings() {
		if s.fallback == "" {
			continue
		}
		if err := s.kind.parse(&p, s.fallback); err != nil {
			panic(fmt.Sprintf("the default of %s: %v", s.name, err))
		}
	}
	return p
}

// Validate says everything that is wrong with the props, each with what is
// allowed. It looks at the functions' and the engines' files as well.
func (p *Props) Validate() error {
	errs := p.wrongSettings()
	if p.Stack == StackFactory { // the others deploy no program
		errs = append(errs, p.wrongPrograms()...)
	}
	return errors.Join(errs...)
}

// wrongSettings are all that need no file to judge.
func (p *Props) wrongSettings() []error {
	var errs []error
	for _, s := range settings() {
		for _, value := range s.kind.wrong(p) {
			errs = append(errs, s.refuse(value))
		}
	}
	if p.Stack != StackFactory {
		return errs // the others have parameters, and nothing of the rest
	}
	errs = append(errs, p.Network.contradictions()...)
	if len(p.Alarms.TopicARNs) > 0 && len(p.Alarms.Subscribers) > 0 {
		errs = append(errs, errors.New("context alarmSubscribers are told by a topic of the stack's own, which is not made when alarmTopicArns names others: subscribe to those"))
	}
	if (len(p.Targets.Accounts) > 0) != (p.Targets.ExternalID != "") {
		errs = append(errs, errors.New("context targetAccounts and targetExternalId go together: the role of target accounts trusts nobody who does not name its external id"))
	}
	return errs
}

// wrongPrograms are those that are missing, or built for another processor. A
// function built for another one fails at its first invocation, after everything
// is deployed.
func (p *Props) wrongPrograms() []error {
	var errs []error
	check := func(file, architecture, target string) {
		err := program.MustRunOn(file, architecture)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s is missing", file)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: build it with `make %s GOARCH=%s`", err, target, program.GOARCH(architecture)))
		}
	}
	for _, fn := range blueprint.Functions() {
		check(filepath.Join(p.functionsDir(), fn.Name, "bootstrap"), p.Architecture, "functions")
	}
	for _, architecture := range GuestArchitectures() {
		check(p.gossFile(architecture), architecture, "goss")
	}
	if p.version() == "" {
		errs = append(errs, fmt.Errorf("the version of the factory is not known: %s is missing or empty; build it with `make functions`, or set context version", p.versionFile()))
	}
	return errs
}

// functionsDir is where the functions' programs are.
func (p *Props) functionsDir() string {
	return cmp.Or(p.FunctionsDir, filepath.Join("build", "lambda", program.GOARCH(p.Architecture)))
}

// versionFile is where the build writes the version of what it built.
func (p *Props) versionFile() string { return filepath.Join(p.functionsDir(), "version") }

// version is the factory's: as given, or as built.
func (p *Props) version() string {
	if p.Version != "" {
		return p.Version
	}
	built, err := os.ReadFile(p.versionFile())
	if err != nil {
		return "" // which Validate refuses
	}
	return strings.TrimSpace(string(built))
}

// tagsOf reads tags as the context has them: JSON, or name=value with commas.
func tagsOf(value string) (map[string]string, error) {
	tags := map[string]string{}
	for pair := range strings.SplitSeq(value, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok {
			return nil, errForm
		}
		tags[name] = value
	}
	return tags, nil
}

// wrongTags are those that AWS does not take, or that the factory decides by.
func wrongTags(tags map[string]string) []string {
	var out []string
	for name, value := range tags {
		if !tagText.MatchString(name) || !tagText.MatchString(value) || len(name) > 128 || len(value) > 256 ||
			strings.HasPrefix(strings.ToLower(name), "aws:") || strings.HasPrefix(name, contract.TagPrefix) {
			out = append(out, name+"="+value)
		}
	}
	slices.Sort(out)
	return out
}
