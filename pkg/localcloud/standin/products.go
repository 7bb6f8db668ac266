package standin

import (
	"embed"
	"fmt"
	"strings"
)

// Suffix is the suffix of every version.
const Suffix = "+standin"

// scripts are the programs and units of the packages, as text.
//
//go:embed files
var scripts embed.FS

// product is a package of a vendor.
type product struct {
	vendor, name string
	versions     []string // ascending: an old one, the one to pin, a newer one
	depends      string
	description  string
	scripts      map[string]string // of the maintainer
	files        map[string]file
}

// products have the layout of the vendors' packages: units in
// /etc/systemd/system, which the package enables and starts as soon as it is
// configured. They contain nothing of the vendors.
func products() []product {
	return []product{
		{
			vendor: "newrelic", name: "newrelic-infra", versions: []string{"1.60.1", "1.62.0", "1.71.3"},
			description: "New Relic infrastructure agent",
			scripts:     serviceScripts("newrelic-infra.service", ""),
			files: map[string]file{
				"/etc/systemd/system/newrelic-infra.service": text("newrelic-infra.service"),
				"/usr/bin/newrelic-infra":                    program("newrelic-infra"),
				"/usr/bin/newrelic-infra-service":            {link: "newrelic-infra"},
			},
		},
		{
			vendor: "appdynamics", name: "appdynamics-machine-agent", versions: []string{"24.9.0.4408", "24.10.0.4461", "25.4.0.4712"},
			depends: "passwd", description: "AppDynamics machine agent",
			scripts: serviceScripts("appdynamics-machine-agent.service", appdynamicsUser),
			files: map[string]file{
				"/etc/systemd/system/appdynamics-machine-agent.service":     text("appdynamics-machine-agent.service"),
				"/opt/appdynamics/machine-agent/bin/machine-agent":          program("machine-agent"),
				"/opt/appdynamics/machine-agent/conf/controller-info.xml":   text("controller-info.xml"),
				"/opt/appdynamics/machine-agent/monitors/README.standin":    {content: "No monitors: this is a stand-in.\n", mode: 0o644},
				"/opt/appdynamics/machine-agent/logs/README.standin":        {content: "Logs of a stand-in.\n", mode: 0o644},
				"/usr/share/doc/appdynamics-machine-agent/copyright":        {content: "A stand-in, not AppDynamics'.\n", mode: 0o644},
				"/etc/appdynamics/machine-agent/README.standin":             {content: "The configuration is in /opt/appdynamics/machine-agent/conf.\n", mode: 0o644},
				"/opt/appdynamics/machine-agent/scripts/controlmanifest.sh": {content: "#!/bin/sh\nexit 0\n", mode: 0o755},
			},
		},
		{
			vendor: "cinc", name: "cinc", versions: []string{"18.4.12-1", "18.5.0-1", "18.8.54-1"},
			description: "Cinc client",
			files: map[string]file{
				"/opt/cinc/bin/cinc-client": program("cinc-client"),
				"/opt/cinc/bin/chef-client": {link: "cinc-client"},
				"/usr/bin/cinc-client":      {link: "/opt/cinc/bin/cinc-client"},
				"/usr/bin/chef-client":      {link: "/opt/cinc/bin/chef-client"},
			},
		},
		{
			vendor: "amazon", name: "amazon-cloudwatch-agent", versions: []string{"1.300048.1b904-1", "1.300051.0b992-1", "1.300064.0b1337-1"},
			description: "Amazon CloudWatch agent",
			scripts:     serviceScripts("amazon-cloudwatch-agent.service", ""),
			files: map[string]file{
				"/etc/systemd/system/amazon-cloudwatch-agent.service":                     text("amazon-cloudwatch-agent.service"),
				"/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl":        program("amazon-cloudwatch-agent-ctl"),
				"/opt/aws/amazon-cloudwatch-agent/bin/start-amazon-cloudwatch-agent":      program("start-amazon-cloudwatch-agent"),
				"/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent":            {link: "start-amazon-cloudwatch-agent"},
				"/opt/aws/amazon-cloudwatch-agent/bin/CWAGENT_VERSION":                    {content: "@VERSION@\n", mode: 0o644},
				"/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d/.standin": {mode: 0o644},
				"/opt/aws/amazon-cloudwatch-agent/logs/README.standin":                    {content: "Logs of a stand-in.\n", mode: 0o644},
				"/usr/bin/amazon-cloudwatch-agent-ctl":                                    {link: "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"},
			},
		},
	}
}

func read(name string) string {
	data, err := scripts.ReadFile("files/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	return string(data)
}

func text(name string) file    { return file{content: read(name), mode: 0o644} }
func program(name string) file { return file{content: read(name + ".sh"), mode: 0o755} }

// fields returns the package's control data.
func (p product) fields(version string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Nobody <nobody@standin.invalid>\nSection: admin\nPriority: optional\n", p.name, version)
	if p.depends != "" {
		fmt.Fprintf(&b, "Depends: %s\n", p.depends)
	}
	fmt.Fprintf(&b, "Description: stand-in for the %s\n Shell scripts in the place of the vendor's programs, for rehearsals. Nothing is\n measured and nothing is sent.\n", p.description)
	return b.String()
}

// filesOf returns the files for a version.
func (p product) filesOf(version string) map[string]file {
	out := map[string]file{}
	for name, f := range p.files {
		f.content = strings.ReplaceAll(f.content, "@VERSION@", version)
		out[name] = f
	}
	return out
}

// serviceScripts returns scripts that enable and start a unit when the package
// is configured, and stop it before its removal. As in real packages, the
// installation succeeds even if the service does not start.
func serviceScripts(unit, before string) map[string]string {
	return map[string]string{
		"postinst": "#!/bin/sh\nset -e\nif [ \"$1\" != configure ]; then exit 0; fi\n" + before +
			"if [ -d /run/systemd/system ]; then\n\tsystemctl daemon-reload\n\tsystemctl enable " + unit + " || true\n\tsystemctl restart " + unit + " || true\nfi\n",
		"prerm": "#!/bin/sh\nset -e\nif [ -d /run/systemd/system ]; then\n\tsystemctl stop " + unit + " || true\n\tif [ \"$1\" = remove ]; then systemctl disable " + unit + " || true; fi\nfi\n",
	}
}

// appdynamicsUser creates the user of the machine agent.
const appdynamicsUser = `if ! getent passwd appdynamics-machine-agent >/dev/null; then
	useradd --system --user-group --home-dir /opt/appdynamics/machine-agent --shell /usr/sbin/nologin appdynamics-machine-agent
fi
chown -R appdynamics-machine-agent:appdynamics-machine-agent /opt/appdynamics/machine-agent
`
