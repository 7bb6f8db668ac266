package spec_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
	"github.com/ami-factory/ami-factory/userdata"
)

// imageOf is the image of a recipe with components, which are YAML.
func imageOf(t *testing.T, family, components string) *spec.Image {
	t.Helper()
	r, problems := recipe.Parse("recipes/web.yaml", []byte("name: web\ndescription: web\nfamily: "+family+"\narchitecture: x86_64\ncomponents: "+components+"\n"), recipe.Options{Now: time.Now()})
	require.NotNil(t, r, problems)
	selected, _, err := component.Select(userdata.FS, r, nil)
	require.NoError(t, err)
	return &spec.Image{Recipe: r.Name, Family: r.Family, Components: selected}
}

const (
	base   = "[{name: hardening, parameters: {variant: base}}, {name: hygiene}]"
	docker = "[{name: hardening}, {name: docker}, {name: hygiene}]"
	ecs    = "[{name: hardening, parameters: {variant: ecs}}, {name: docker}, {name: hygiene}]"
	eks    = "[{name: hardening, parameters: {variant: eks}}, {name: docker}, {name: hygiene}]"
	full   = "[{name: hardening}, {name: docker}, {name: filesystem}, {name: newrelic-infra}, {name: hygiene}]"
)

func TestASpecIsCheckedForItsImage(t *testing.T) {
	container := "containers: [{name: web, image: '111122223333.dkr.ecr.eu-west-1.amazonaws.com/web@sha256:" + digest + "'}]\n"
	xfs := "mounts: {volumes: [{volumeId: vol-0123456789abcdef0, fileSystem: xfs, mountPoint: /data}]}\n"
	forward := "kernel: {sysctl: {net.ipv4.ip_forward: 1}}\n"
	const errors, warnings, nothing = problem.Error, problem.Warning, problem.Severity("")
	for sentence, tc := range map[string]struct {
		image    string // components; empty where the image is not known
		text     string
		severity problem.Severity
		says     string
	}{
		"forwarding, on an image that is not known":       {"", forward, warnings, "in images of variant base, where 1 would hold until the next boot only"},
		"forwarding, on one of variant base":              {base, forward, errors, "set by the hardening of the image of recipe web, variant base (/etc/sysctl.d/99-zz-ami-factory-variant.conf), and a spec may not change it to 1"},
		"forwarding, on one of variant docker":            {docker, forward, nothing, ""},
		"no forwarding, on an image that is not known":    {"", strings.Replace(forward, "1}", "0}", 1), warnings, "in images of variant docker, ecs, eks"},
		"no forwarding, on one of variant ecs":            {ecs, strings.Replace(forward, "1}", "0}", 1), errors, "variant ecs"},
		"forwarding by its name with slashes":             {base, "kernel: {sysctl: {net/ipv4/ip_forward: 1}}\n", errors, "variant base"},
		"forwarding by a command":                         {base, "commands: [{name: a, script: sysctl -w net.ipv4.ip_forward=1}]\n", errors, "sets sysctl net.ipv4.ip_forward to 1, which is set by the hardening of the image of recipe web, variant base"},
		"forwarding by a command, image not known":        {"", "commands: [{name: a, script: sysctl -w net.ipv4.ip_forward=1}]\n", warnings, "in images of variant base"},
		"what a later file of the variant sets":           {eks, "kernel: {sysctl: {net.ipv4.conf.all.rp_filter: 1}}\n", errors, "variant eks (/etc/sysctl.d/99-zz-ami-factory-z-eks.conf)"},
		"what only another variant sets":                  {docker, "kernel: {sysctl: {kernel.panic: 30}}\n", nothing, ""},
		"what one variant sets, on one not known":         {"", "kernel: {sysctl: {kernel.panic: 30}}\n", warnings, "in images of variant eks"},
		"what every variant sets":                         {"", "kernel: {sysctl: {net.ipv4.tcp_syncookies: 0}}\n", errors, "set by the hardening of the image (/etc/sysctl.d/99-zz-ami-factory.conf)"},
		"what the hardening sets, on an image without it": {"[{name: hygiene}]", "kernel: {sysctl: {net.ipv4.tcp_syncookies: 0}}\n", nothing, ""},
		"a container, on an image without filesystem":     {docker, container, errors, "the image of recipe web has no component filesystem, whose service@.service would run container web"},
		"a container, on one with filesystem":             {full, container, nothing, ""},
		"a container, on an image that is not known":      {"", container, nothing, ""},
		"an agent that is not on the image":               {docker, "agents: {newrelic-infra: {DISPLAY_NAME: web}}\n", errors, "has no component newrelic-infra"},
		"an agent that is on the image":                   {full, "agents: {newrelic-infra: {DISPLAY_NAME: web}}\n", nothing, ""},
		"a user of a component that is not on the image":  {docker, "users: [{name: svc}]\n", nothing, ""},
		"a user of a component of the image":              {full, "users: [{name: svc}]\n", errors, "user svc belongs to the system: it is of the component filesystem"},
		"a user by a parameter of the recipe":             {strings.Replace(full, "filesystem}", "filesystem, parameters: {user: app, group: app}}", 1), "users: [{name: app}]\n", errors, "user app belongs to the system"},
		"a file of a component that is not on the image":  {docker, "files: [{path: /etc/logrotate.d/services, content: x}]\n", nothing, ""},
		"xfs without its tools":                           {"", xfs, errors, "fileSystem xfs needs the package xfsprogs, whose mkfs.xfs images of debian-12 do not have"},
		"xfs without its tools, on a known image":         {full, xfs, errors, "needs the package xfsprogs"},
		"xfs with its tools":                              {"", xfs + "packages: [{name: xfsprogs}]\n", nothing, ""},
		"xfs that is there already":                       {"", strings.Replace(xfs, "volumeId: vol-0123456789abcdef0", "label: data", 1), nothing, ""},
		"EFS by its own helper":                           {"", "mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /mnt/x}]}\n", errors, "transport efs-utils needs the package amazon-efs-utils, which debian-12 does not have"},
		"EFS by NFS":                                      {"", "mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, transport: nfs4, region: eu-west-1, mountPoint: /mnt/x}]}\n", nothing, ""},
		"the helper of EFS from nowhere":                  {"", "packages: [{name: amazon-efs-utils}]\n", errors, "package amazon-efs-utils is not in debian-12"},
		"the helper of EFS by another name":               {"", "packages: [{name: efs-utils}]\n", errors, "package efs-utils is not in debian-12"},
		"an image of another family":                      {"al2023", "", errors, "the spec is for images of debian-12, and recipe web makes one of al2023"},
	} {
		t.Run(sentence, func(t *testing.T) {
			var of *spec.Image
			switch tc.image {
			case "":
			case "al2023":
				of = imageOf(t, "al2023", docker)
			default:
				of = imageOf(t, "debian-12", tc.image)
			}
			_, problems, err := spec.Parse("web.yaml", []byte(head+tc.text), userdata.FS, of)
			require.NoError(t, err)
			if tc.severity == nothing {
				assert.Empty(t, problems)
				return
			}
			require.Len(t, problems, 1, "%v", problems)
			assert.Equal(t, tc.severity, problems[0].Severity)
			assert.Contains(t, problems[0].Message, tc.says)
			assert.Positive(t, problems[0].Line)
		})
	}
}

func TestAmazonLinuxHasItsOwnTools(t *testing.T) {
	text := strings.Replace(head, "debian-12", "al2023", 1) + "mounts: {volumes: [{volumeId: vol-0123456789abcdef0, fileSystem: xfs, mountPoint: /data}], efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /mnt/x}]}\n"
	_, problems := parse(t, text)
	assert.Empty(t, problems)
}

// A component of one's own may bring what the distribution's images lack.
func TestAComponentBringsThePackage(t *testing.T) {
	of := imageOf(t, "debian-12", docker)
	of.Components = append(of.Components, component.Selected{Component: &component.Component{
		Name: "storage", Packages: []component.Package{{Name: "xfsprogs"}, {Name: "amazon-efs-utils"}, {Name: "jq", Families: []string{"al2023"}}},
	}, Family: "debian-12"})
	text := head + "mounts: {volumes: [{volumeId: vol-0123456789abcdef0, fileSystem: xfs, mountPoint: /data}], efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /mnt/x}]}\n"
	_, problems, err := spec.Parse("web.yaml", []byte(text), userdata.FS, of)
	require.NoError(t, err)
	assert.Empty(t, problems)
}
