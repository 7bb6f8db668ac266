package factory

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// PropsFromContext reads what the operator may choose, from cdk.json or
// `cdk deploy -c name=value`, and reports every fault at once.
func PropsFromContext(app awscdk.App) (*Props, error) {
	read := func(name, fallback string) string {
		if v, ok := app.Node().TryGetContext(jsii.String(name)).(string); ok && v != "" {
			return v
		}
		return fallback
	}
	list := func(name string) []string {
		return strings.FieldsFunc(read(name, ""), func(r rune) bool { return r == ',' || r == ' ' })
	}
	arch := read("architecture", ARM64)
	parameters, err := parametersOf(app.Node().TryGetContext(jsii.String("componentParameters")))
	topics := list("announcementTopics")
	switch {
	case len(topics) == 0:
		topics = workflow.AnnouncementTopics()
	case slices.Equal(topics, []string{"none"}):
		topics = nil
	}
	severities := list("findingSeverities")
	switch {
	case len(severities) == 0:
		severities = workflow.FindingSeverities()
	case slices.Equal(severities, []string{"none"}):
		severities = nil
	}
	props := &Props{
		Architecture:     arch,
		FunctionsDir:     read("functions", filepath.Join("build", "lambda")),
		GossFile:         read("goss", filepath.Join("build", "tools", "goss")),
		Version:          read("version", "dev"),
		SubnetIDs:        list("subnetIds"),
		SecurityGroupIDs: list("securityGroupIds"),
		KeyARNs:          list("keyArns"),
		Parameters:       parameters,
		Triggers: TriggerProps{
			Nightly:  read("nightly", workflow.DefaultNightly),
			Timezone: read("timezone", workflow.DefaultTimezone),
			Watch:    read("watch", workflow.DefaultWatch),
			Topics:   topics,

			Severities: severities,
		},
	}
	window := read("nightlyWindowMinutes", strconv.Itoa(workflow.DefaultWindowMinutes))
	if props.Triggers.Window, _ = strconv.Atoi(window); props.Triggers.Window < 1 || props.Triggers.Window > 1440 {
		err = errors.Join(err, fmt.Errorf("context nightlyWindowMinutes is %q (allowed: 1 to 1440)", window))
	}
	hours := read("findingHours", "24")
	if props.Triggers.FindingHours, _ = strconv.Atoi(hours); props.Triggers.FindingHours < 1 || props.Triggers.FindingHours > 720 {
		err = errors.Join(err, fmt.Errorf("context findingHours is %q (allowed: 1 to 720)", hours))
	}
	return props, errors.Join(err, props.validate(), props.Triggers.validate())
}

// parametersOf is the context componentParameters as the functions take it: an
// object of cdk.json, or the same as the text of `-c`. Whether there are such
// components and parameters is checked when a build is planned.
func parametersOf(context any) (string, error) {
	if context == nil || context == "" {
		return "", nil
	}
	raw, isText := context.(string)
	if !isText {
		encoded, err := json.Marshal(context)
		if err != nil {
			return "", fmt.Errorf("context componentParameters: %w", err)
		}
		raw = string(encoded)
	}
	var parsed map[string]map[string]any
	if err := json.Unmarshal([]byte(raw), &parsed); err != nil {
		return "", fmt.Errorf(`context componentParameters is not an object of components, such as {"docker":{"logMaxSize":"10m"}}: %w`, err)
	}
	for component, values := range parsed {
		for name, value := range values {
			switch value.(type) {
			case string, float64, bool:
			default:
				return "", fmt.Errorf("context componentParameters: %s.%s is neither text nor a number, true or false", component, name)
			}
		}
	}
	return raw, nil
}

func (p *Props) validate() error {
	var errs []error
	if p.Architecture != ARM64 && p.Architecture != X86 {
		errs = append(errs, fmt.Errorf("context architecture is %q (allowed: %s, %s)", p.Architecture, ARM64, X86))
	}
	for _, spec := range workflow.Functions() {
		if err := mustExist(filepath.Join(p.FunctionsDir, string(spec.Stage), "bootstrap")); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, mustExist(p.GossFile))...)
}

var (
	schedule = regexp.MustCompile(`^(cron|rate)\([^()]+\)$`)
	timezone = regexp.MustCompile(`^[A-Za-z]+([/_+-][A-Za-z0-9]+)*$`)
	topicARN = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$`)
)

func (p *TriggerProps) validate() error {
	var errs []error
	for _, s := range []struct{ name, value string }{{"nightly", p.Nightly}, {"watch", p.Watch}} {
		if !schedule.MatchString(s.value) {
			errs = append(errs, fmt.Errorf("context %s is %q (allowed: a schedule such as cron(0 3 * * ? *) or rate(30 minutes))", s.name, s.value))
		}
	}
	if !timezone.MatchString(p.Timezone) {
		errs = append(errs, fmt.Errorf("context timezone is %q (allowed: a name such as Europe/Berlin)", p.Timezone))
	}
	for _, topic := range p.Topics {
		if !topicARN.MatchString(topic) {
			errs = append(errs, fmt.Errorf("context announcementTopics: %q is not the ARN of a topic (or write none)", topic))
		}
	}
	for _, s := range p.Severities {
		if !slices.Contains(workflow.Severities(), s) {
			errs = append(errs, fmt.Errorf("context findingSeverities: %q is no severity (allowed: %s, or none)", s, strings.Join(workflow.Severities(), ", ")))
		}
	}
	return errors.Join(errs...)
}

func mustExist(file string) error {
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("%s is missing: build it with `make functions GOARCH=arm64` (amd64 for x86_64) and `make goss GOARCH=amd64` (of the recipes' guests): %w", file, err)
	}
	return nil
}
