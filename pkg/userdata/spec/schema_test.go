package spec_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
	"github.com/ami-factory/ami-factory/test/golden"
	"github.com/ami-factory/ami-factory/test/schema"
	"github.com/ami-factory/ami-factory/userdata"
)

const (
	module   = "github.com/ami-factory/ami-factory"
	examples = "../../../userdata/examples"
)

// reflected is the schema that the types, their comments and their tags make.
func reflected(t *testing.T) *jsonschema.Schema {
	t.Helper()
	r := jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		Mapper: func(typ reflect.Type) *jsonschema.Schema {
			if typ != reflect.TypeFor[map[string]string]() {
				return nil
			}
			return &jsonschema.Schema{
				Type: "object",
				AdditionalProperties: &jsonschema.Schema{
					OneOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}},
				},
			}
		},
	}
	require.NoError(t, r.AddGoComments(module+"/pkg/userdata/spec", "./"))
	s := r.ReflectFromType(reflect.TypeFor[spec.Spec]())
	exclude(t, s)
	s.ID = "https://" + module + "/userdata.schema.json"
	s.Title = "ami-factory user data"
	return s
}

// exclude adds what the tag oneof_required cannot say: fields of which there is one at
// most, and those that the value of another field excludes or requires.
func exclude(t *testing.T, root *jsonschema.Schema) {
	t.Helper()
	all := func(fields ...string) *jsonschema.Schema { return &jsonschema.Schema{Required: fields} }
	none := func(fields ...string) *jsonschema.Schema {
		var any []*jsonschema.Schema
		for _, f := range fields {
			any = append(any, all(f))
		}
		return &jsonschema.Schema{Not: &jsonschema.Schema{AnyOf: any}}
	}
	with := func(s *jsonschema.Schema, field string, value *jsonschema.Schema) *jsonschema.Schema {
		out := *s
		out.Properties = jsonschema.NewProperties()
		out.Properties.Set(field, value)
		return &out
	}
	definition := func(name string) *jsonschema.Schema {
		d := root.Definitions[name]
		require.NotNil(t, d, name)
		return d
	}
	definition("Bottlerocket").Not = all("kubernetes", "ecs")
	efs := definition("EFS")
	efs.If = with(all("transport"), "transport", &jsonschema.Schema{Const: "nfs4"})
	efs.Then = with(&jsonschema.Schema{Required: []string{"region"}, Not: all("accessPoint")}, "iam", &jsonschema.Schema{Const: false})
	agents := definition("Agents")
	for f := agents.Properties.Oldest(); f != nil; f = f.Next() {
		f.Value.Not = all("SECRET_ID", "SSM_PARAMETER")
	}
	root.If = with(all("target"), "target", &jsonschema.Schema{Const: spec.BottlerocketFmt})
	root.Then = with(none("family", "users", "repositories", "packages", "files", "services", "commands", "containers", "timezone", "eks", "agents"), "mounts", none("efs", "volumes"))
	root.Else = &jsonschema.Schema{Required: []string{"family"}, Not: all("bottlerocket")}
}

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	got, err := json.MarshalIndent(reflected(t), "", "  ")
	require.NoError(t, err)
	golden.File(t, "schema.json", append(got, '\n'))
}

func compile(t *testing.T) schema.Schema {
	t.Helper()
	return schema.Compile(t, spec.Schema())
}

func TestEveryExampleSatisfiesTheSchema(t *testing.T) {
	files, err := filepath.Glob(examples + "/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, 3)
	s := compile(t)
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		assert.NoError(t, s.Validate(t, data), f)
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compile(t)
	good, err := os.ReadFile(examples + "/web-service.yaml")
	require.NoError(t, err)
	for sentence, edit := range map[string][2]string{
		"an unknown key":                  {"timezone:", "timezon:"},
		"another kind":                    {"kind: UserData", "kind: Recipe"},
		"a password":                      {"    uid: 2001\n", "    uid: 2001\n    passwd: x\n"},
		"a file system that is none":      {"fs-0123456789abcdef0", "fs-012"},
		"a mode that is a number":         {`mode: "0640"`, "mode: 416"},
		"a port without a host port":      {`"8080:8080"`, `"8080"`},
		"a fingerprint that is too short": {"699A8B45A9768295A7A8832EE8DE369060CB80FD", "60CB80FD"},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.Contains(t, string(good), edit[0])
			assert.Error(t, s.Validate(t, bytes.Replace(good, []byte(edit[0]), []byte(edit[1]), 1)))
		})
	}
}

// TestFieldsThatExcludeOneAnother holds the schema and the parser to the same.
func TestFieldsThatExcludeOneAnother(t *testing.T) {
	const (
		cloud  = "kind: UserData\nname: web\ntarget: cloud-init\nfamily: debian-12\n"
		bottle = "kind: UserData\nname: web\ntarget: bottlerocket\n"
		key    = "699A8B45A9768295A7A8832EE8DE369060CB80FD"
	)
	s := compile(t)
	for sentence, tc := range map[string]struct {
		text, field string
		good        bool // the parser may know further reasons against it
	}{
		"a volume by its label":                 {cloud + "mounts: {volumes: [{mountPoint: /data, label: data}]}\n", "", true},
		"a volume by its id":                    {cloud + "mounts: {volumes: [{mountPoint: /data, volumeId: vol-0123456789abcdef0}]}\n", "", true},
		"a volume by device and label":          {cloud + "mounts: {volumes: [{mountPoint: /data, label: data, device: /dev/sdf}]}\n", "exactly one of label", false},
		"a volume by id and instance store":     {cloud + "mounts: {volumes: [{mountPoint: /data, volumeId: vol-0123456789abcdef0, instanceStore: 1}]}\n", "exactly one of label", false},
		"a volume by nothing":                   {cloud + "mounts: {volumes: [{mountPoint: /data}]}\n", "exactly one of label", false},
		"a file of text":                        {cloud + "files: [{path: /srv/x, content: a}]\n", "", true},
		"an empty file":                         {cloud + "files: [{path: /srv/x, content: ''}]\n", "", true},
		"a file of two contents":                {cloud + "files: [{path: /srv/x, content: a, contentBase64: YQ==}]\n", "either content or contentBase64", false},
		"a file without contents":               {cloud + "files: [{path: /srv/x}]\n", "either content or contentBase64", false},
		"a command of words":                    {cloud + "commands: [{name: a, argv: [/bin/true]}]\n", "", true},
		"a command of words and a script":       {cloud + "commands: [{name: a, argv: [/bin/true], script: 'true'}]\n", "either argv or script", false},
		"a command of nothing":                  {cloud + "commands: [{name: a}]\n", "either argv or script", false},
		"a repository of two fingerprints":      {cloud + "repositories: [{name: a, uri: https://a.test, suite: x, components: [main], key: k, fingerprint: " + key + ", fingerprints: [" + key + "]}]\n", "fingerprint for one key", false},
		"a repository without one":              {cloud + "repositories: [{name: a, uri: https://a.test, suite: x, components: [main], key: k}]\n", "fingerprint for one key", false},
		"NFS with a region":                     {cloud + "mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /data, transport: nfs4, region: eu-west-1}]}\n", "", true},
		"NFS without a region":                  {cloud + "mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /data, transport: nfs4}]}\n", "", false},
		"NFS with an access point":              {cloud + "mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /data, transport: nfs4, region: eu-west-1, accessPoint: fsap-0123456789abcdef0}]}\n", "transport: efs-utils", false},
		"NFS with sign-in":                      {cloud + "mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /data, transport: nfs4, region: eu-west-1, iam: true}]}\n", "false, or transport: efs-utils", false},
		"an agent's secret":                     {cloud + "agents: {chef: {SECRET_ID: a}}\n", "", true},
		"an agent's secret twice":               {cloud + "agents: {chef: {SECRET_ID: a, SSM_PARAMETER: /a}}\n", "one of SECRET_ID and SSM_PARAMETER", false},
		"a cluster of EKS":                      {bottle + "bottlerocket: {kubernetes: {clusterName: a, apiServer: 'https://a', clusterCertificate: YWFhYWFhYWFhYWFh}}\n", "", true},
		"a cluster of EKS and one of ECS":       {bottle + "bottlerocket: {ecs: {cluster: a}, kubernetes: {clusterName: a, apiServer: 'https://a', clusterCertificate: YWFhYWFhYWFhYWFh}}\n", "either kubernetes or ecs", false},
		"users of Bottlerocket":                 {bottle + "users: [{name: alice}]\nbottlerocket: {ecs: {cluster: a}}\n", "", false},
		"a family of Bottlerocket":              {bottle + "family: debian-12\nbottlerocket: {ecs: {cluster: a}}\n", "no family", false},
		"cloud-init without a family":           {"kind: UserData\nname: web\ntarget: cloud-init\ntimezone: UTC\n", "", false},
		"cloud-init with Bottlerocket's":        {cloud + "bottlerocket: {ecs: {cluster: a}}\n", "target: bottlerocket", false},
		"kernel settings of Bottlerocket":       {bottle + "kernel: {sysctl: {vm.max_map_count: 262144}}\nbottlerocket: {ecs: {cluster: a}}\n", "", true},
		"a volume that Bottlerocket shall have": {bottle + "mounts: {volumes: [{mountPoint: /data, label: data}]}\nbottlerocket: {ecs: {cluster: a}}\n", "a volume of the pod or task", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			parsed, problems, err := spec.Parse("web.yaml", []byte(tc.text), userdata.FS, nil)
			require.NoError(t, err)
			problems = append(problems, parsed.Unfit(parsed.Target)...)
			assert.Equal(t, tc.good, !problems.HasErrors(), "%v", problems)
			if tc.field != "" {
				assert.True(t, slices.ContainsFunc(problems, func(p problem.Problem) bool { return strings.Contains(p.Allowed, tc.field) }), "%v", problems)
			}
			err = s.Validate(t, []byte(tc.text))
			assert.Equal(t, tc.good, err == nil, "%v", err)
		})
	}
}
