package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/ami-factory/ami-factory"

// layer says what the packages under a folder may import of this module.
// Packages of the same layer may import one another unless strict is set.
// Everything may import contract, failure, partition, plaintext, problem, secret, strictyaml and waiver.
type layer struct {
	folder string
	may    []string // folders; nil: nothing but itself
	strict bool
}

// everywhere are the folders that all may import.
var everywhere = []string{"pkg/contract", "pkg/failure", "pkg/partition", "pkg/plaintext", "pkg/problem", "pkg/secret", "pkg/strictyaml", "pkg/waiver"}

// layers are the design's arrows, from the outside in. The first folder that
// holds a package decides. A package that no folder holds fails the test, so
// that nobody adds one without saying where it belongs.
var layers = []layer{
	{folder: "cmd", may: []string{"pkg/cli"}},
	{folder: "lambdas", may: []string{"pkg/lambdafn", "pkg/functions", "pkg/stage"}, strict: true},
	{folder: "infra", may: []string{"pkg/blueprint", "pkg/workflow", "pkg/metric", "pkg/cost", "pkg/recipe", "pkg/program", "userdata"}},
	{folder: "test/golden", strict: true},
	{folder: "test/schema", strict: true},
	{folder: "test/breaks", strict: true},
	{folder: "test", may: []string{"pkg", "userdata", "infra"}},

	// The operator's side drives everything but the deployment.
	{folder: "pkg/cli", may: []string{
		"pkg/rehearsal", "pkg/localcloud", "pkg/approval", "pkg/workflow", "pkg/execution", "pkg/functions", "pkg/stage", "pkg/store", "pkg/trigger", "pkg/planner", "pkg/plan", "pkg/recipe", "pkg/source",
		"pkg/component", "pkg/compliance", "pkg/container", "pkg/oss", "pkg/baseline", "pkg/release", "pkg/evidence", "pkg/ami", "pkg/guest", "pkg/awserr", "pkg/userdata", "pkg/doctor", "pkg/program", "userdata",
	}},
	{folder: "pkg/doctor", may: []string{"pkg/lambdafn", "pkg/guest", "pkg/blueprint", "pkg/workflow", "pkg/source", "pkg/trigger", "pkg/recipe", "pkg/awserr"}},
	{folder: "pkg/rehearsal/guests", may: []string{"pkg/localcloud", "pkg/recipe", "pkg/component", "pkg/compliance", "pkg/evidence/inventory", "pkg/ami"}, strict: true},
	{folder: "pkg/rehearsal/try", may: []string{"pkg/localcloud", "pkg/guest"}, strict: true},
	{folder: "pkg/rehearsal/deploy", may: []string{
		"pkg/rehearsal/guests", "pkg/localcloud", "pkg/blueprint", "pkg/workflow", "pkg/functions", "pkg/lambdafn", "pkg/recipe", "pkg/component", "pkg/awserr", "pkg/program", "pkg/guest",
	}, strict: true},
	{folder: "pkg/rehearsal", may: []string{
		"pkg/localcloud", "pkg/approval", "pkg/blueprint", "pkg/workflow", "pkg/execution", "pkg/stage", "pkg/store", "pkg/component",
		"pkg/evidence", "pkg/cost", "pkg/guest", "pkg/ami", "pkg/awserr", "pkg/program", "pkg/recipe", "userdata",
	}},

	// The embedded AWS knows nothing of the factory. Its services say what their calls
	// take; who decides on that knows no service.
	{folder: "pkg/localcloud/wire", may: []string{"pkg/localcloud/clock", "pkg/localcloud/internal"}},
	{folder: "pkg/localcloud/authz", may: []string{"pkg/localcloud/wire", "pkg/localcloud/internal"}},
	{folder: "pkg/localcloud", may: []string{"pkg/program"}},

	// The functions: wiring, then stages, then what stages are made of.
	{folder: "pkg/functions", may: []string{
		"pkg/lambdafn", "pkg/stage", "pkg/approval", "pkg/planner", "pkg/trigger", "pkg/wake", "pkg/release", "pkg/source", "pkg/ami", "pkg/guest", "pkg/plan", "pkg/evidence", "userdata",
	}},
	{folder: "pkg/lambdafn", may: []string{"pkg/stage", "pkg/inspector", "pkg/approval", "pkg/trigger", "pkg/store", "pkg/awserr", "pkg/component", "pkg/cost", "pkg/program", "userdata"}},
	{folder: "pkg/stage", may: []string{
		"pkg/ami", "pkg/approval", "pkg/awserr", "pkg/guest", "pkg/store", "pkg/planner", "pkg/compliance", "pkg/component", "pkg/release", "pkg/evidence",
		"pkg/userdata", "pkg/plan", "pkg/baseline", "pkg/source", "pkg/recipe", "pkg/metric", "pkg/cost", "pkg/program",
	}},
	{folder: "pkg/program"},
	{folder: "pkg/store", may: []string{"pkg/awserr"}},
	{folder: "pkg/metric"},
	{folder: "pkg/cost"},
	{folder: "pkg/trigger/decide", may: []string{"pkg/recipe"}, strict: true},
	{folder: "pkg/trigger", may: []string{"pkg/planner", "pkg/plan", "pkg/source", "pkg/release", "pkg/store", "pkg/ami", "pkg/awserr", "pkg/recipe", "pkg/metric"}},
	{folder: "pkg/approval", may: []string{"pkg/store", "pkg/awserr"}},
	{folder: "pkg/wake", may: []string{"pkg/store", "pkg/awserr"}},
	{folder: "pkg/blueprint", may: []string{"pkg/workflow"}},
	{folder: "pkg/workflow"},
	{folder: "pkg/execution", may: []string{"pkg/workflow", "pkg/guest", "pkg/awserr"}},
	{folder: "pkg/planner", may: []string{"pkg/plan", "pkg/source", "pkg/release", "pkg/ami", "pkg/awserr", "pkg/recipe", "pkg/baseline", "pkg/component", "pkg/program"}},
	{folder: "pkg/source", may: []string{"pkg/ami", "pkg/awserr", "pkg/plan", "pkg/recipe"}},
	{folder: "pkg/release", may: []string{"pkg/ami", "pkg/awserr", "pkg/compliance", "pkg/plan", "pkg/recipe"}},
	{folder: "pkg/container", may: []string{"pkg/compliance"}},
	{folder: "pkg/oss", may: []string{"pkg/compliance", "pkg/evidence/inventory"}},
	{folder: "pkg/evidence/bundle", strict: true}, // auditors read what verifies evidence: it needs nothing of the rest
	{folder: "pkg/evidence/inventory"},
	{folder: "pkg/evidence/vulnerability", may: []string{"pkg/evidence/inventory", "pkg/compliance"}},
	{folder: "pkg/evidence/diff", may: []string{"pkg/evidence/inventory", "pkg/evidence/vulnerability", "pkg/evidence/bundle", "pkg/compliance", "pkg/plan", "pkg/recipe"}},
	{folder: "pkg/evidence", may: []string{"pkg/ami", "pkg/awserr", "pkg/plan", "pkg/recipe", "pkg/compliance", "pkg/cost"}},
	{folder: "pkg/ami", may: []string{"pkg/awserr"}},
	{folder: "pkg/inspector", may: []string{"pkg/awserr"}},
	{folder: "pkg/guest", may: []string{"pkg/awserr"}},
	{folder: "pkg/awserr"},
	{folder: "pkg/plan", may: []string{"pkg/recipe", "pkg/component", "pkg/compliance", "pkg/baseline", "pkg/userdata", "userdata"}},
	{folder: "pkg/baseline", may: []string{"pkg/recipe", "pkg/compliance"}},
	{folder: "pkg/userdata", may: []string{"pkg/component", "pkg/recipe"}},
	{folder: "pkg/component", may: []string{"pkg/compliance", "pkg/recipe"}},
	{folder: "pkg/compliance", may: []string{"pkg/snapshot"}},
	{folder: "pkg/snapshot", strict: true},
	{folder: "pkg/recipe"},
	{folder: "pkg/partition"},
	{folder: "pkg/problem"},
	{folder: "pkg/strictyaml", may: []string{"pkg/problem"}, strict: true},
	{folder: "pkg/waiver", may: []string{"pkg/problem", "pkg/strictyaml"}, strict: true},
	{folder: "pkg/failure", strict: true},
	{folder: "pkg/plaintext", strict: true},
	{folder: "pkg/secret", strict: true},
	{folder: "pkg/contract", strict: true},
	{folder: "userdata"},
	{folder: "pkg/archtest"},
}

// extra is what tests under a folder may import beside what their package may:
// the embedded AWS is everyone's fake, and some contracts have two sides.
var extra = []layer{
	{folder: "pkg/localcloud", may: []string{"pkg/workflow"}},
	{folder: "pkg/release", may: []string{"pkg/workflow"}}, // a hold outlives the waits of the machine
	{folder: "pkg", may: []string{"pkg/localcloud", "pkg/snapshot", "userdata", "pkg/recipe", "pkg/plan", "test/golden", "test/schema"}},
	{folder: "infra", may: []string{"pkg/stage", "pkg/trigger", "pkg/lambdafn", "test/golden"}},
	{folder: "userdata", may: []string{"test/golden", "test/breaks", "pkg/component", "pkg/compliance", "pkg/evidence/inventory", "pkg/recipe", "pkg/userdata", "pkg/localcloud"}},
}

// outside says which folders alone may import a library, and who may not.
type outside struct {
	library string // prefix of an import path
	only    []string
	never   []string
	why     string
	inTests bool // the rule holds for tests as well
}

var outsides = []outside{
	{library: "github.com/aws/aws-cdk-go", only: []string{"infra"}, why: "only infra knows the CDK: it takes minutes to compile", inTests: true},
	{library: "github.com/aws/jsii-runtime-go", only: []string{"infra"}, why: "only infra knows the CDK", inTests: true},
	{library: "github.com/aws/constructs-go", only: []string{"infra"}, why: "only infra knows the CDK", inTests: true},
	{library: "github.com/aws/aws-lambda-go", only: []string{"lambdas", "pkg/lambdafn", "pkg/localcloud/lambda"}, why: "stages are plain Go: lambdafn adapts them, and the embedded Lambda speaks their protocol"},
	{library: "github.com/johannesboyne/gofakes3", only: []string{"pkg/localcloud"}, why: "it is part of the embedded AWS"},
	{library: "github.com/containers/gvisor-tap-vsock", only: []string{"pkg/localcloud"}, why: "it is part of the embedded AWS"},
	{library: "github.com/xiatechs/jsonata-go", only: []string{"pkg/localcloud"}, why: "it is part of the embedded AWS"},
	{library: "github.com/reugn/go-quartz", only: []string{"pkg/localcloud/scheduler"}, why: "it is part of the embedded AWS"},
	{library: "github.com/CycloneDX/cyclonedx-go", only: []string{"pkg/evidence"}, why: "it writes inventories"},
	{library: "github.com/package-url/packageurl-go", only: []string{"pkg/evidence"}, why: "it names packages in inventories"},
	{library: "github.com/knqyf263/go-deb-version", only: []string{"pkg/evidence", "pkg/oss"}, why: "it compares versions of packages"},
	{library: "github.com/knqyf263/go-rpm-version", only: []string{"pkg/evidence", "pkg/oss"}, why: "it compares versions of packages"},
	{library: "github.com/ProtonMail/go-crypto", only: []string{"pkg/localcloud/standin", "pkg/evidence/inventory"}, why: "it signs what stands in for a vendor's repository, and reads the keys of a guest"},
	{library: "github.com/spf13/cobra", only: []string{"pkg/cli"}, why: "commands live in pkg/cli"},
	{library: "github.com/aws/aws-sdk-go-v2", never: []string{
		"cmd", "infra", "pkg/blueprint", "pkg/workflow", "pkg/trigger/decide", "pkg/metric", "pkg/cost", "pkg/plan", "pkg/recipe", "pkg/component", "pkg/compliance", "pkg/container", "pkg/oss", "pkg/snapshot", "pkg/baseline", "pkg/userdata", "pkg/partition", "pkg/problem", "pkg/failure", "userdata",
	}, why: "these are pure: what they need of AWS is resolved before"},
	{library: "github.com/aws/aws-sdk-go-v2", never: []string{"pkg/evidence/bundle"}, why: "it is pure: who signs is given"},
	{library: "github.com/google/go-containerregistry", only: []string{"pkg/container"}, why: "it reads container images"},
	{library: "github.com/github/go-spdx", only: []string{"pkg/oss"}, why: "it judges licenses"},
	{library: "k8s.io/api", only: []string{"pkg/archtest"}, why: "it is the oracle of tests"},
	{library: "github.com/secure-systems-lab/go-securesystemslib", only: []string{"pkg/archtest"}, why: "it is the oracle of tests"},
	{library: "github.com/stretchr/testify", never: []string{"cmd", "lambdas", "infra", "pkg", "userdata"}, why: "it is for tests"},
}

// source is one Go file and what it imports.
type source struct {
	file    string // path in the repository
	folder  string
	test    bool
	imports []string
}

// sources parses the imports of every Go file of the module.
func sources(t *testing.T) []source {
	t.Helper()
	root := repository(t)
	var all []source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			// What the go command leaves out, and what is built.
			base := entry.Name()
			if rel != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || rel == "build" || rel == "cdk.out" || base == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		s := source{file: filepath.ToSlash(rel), folder: path.Dir(filepath.ToSlash(rel))}
		// Helpers of tests are packages of their own, named as net/http/httptest is.
		s.test = strings.HasSuffix(rel, "_test.go") || strings.HasSuffix(s.folder, "test")
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, imported)
		}
		all = append(all, s)
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, all)
	return all
}

// under says whether a folder is another or lies in it.
func under(folder, in string) bool {
	return folder == in || strings.HasPrefix(folder, in+"/")
}

func underAny(folder string, in []string) bool {
	return slices.ContainsFunc(in, func(f string) bool { return under(folder, f) })
}

// layerOf finds the layer of a folder.
func layerOf(folder string) (layer, bool) {
	i := slices.IndexFunc(layers, func(l layer) bool { return under(folder, l.folder) })
	if i < 0 {
		return layer{}, false
	}
	return layers[i], true
}

// allowed says whether a file may import a package of this module.
func allowed(s source, imported string) bool {
	l, ok := layerOf(s.folder)
	if !ok {
		return false
	}
	switch {
	case s.folder == imported, // an external test of its own package
		underAny(imported, l.may),
		under(imported, l.folder) && !l.strict,
		underAny(imported, everywhere) && !(l.strict && l.folder == "pkg/failure"):
		return true
	}
	return s.test && slices.ContainsFunc(extra, func(e layer) bool { return under(s.folder, e.folder) && underAny(imported, e.may) })
}

func TestImportsFollowTheDesignsArrows(t *testing.T) {
	for _, s := range sources(t) {
		if _, known := layerOf(s.folder); !known {
			assert.Failf(t, "package without a layer", "%s: the design does not name %s: say in pkg/archtest what it may import", s.file, s.folder)
			continue
		}
		for _, imported := range s.imports {
			if imported == module {
				assert.Failf(t, "import of the root", "%s imports the module's root, which is no package", s.file)
			}
			if inner, ok := strings.CutPrefix(imported, module+"/"); ok && !allowed(s, inner) {
				assert.Failf(t, "arrow points back", "%s imports %s, which %s may not (see the layers in pkg/archtest)", s.file, inner, s.folder)
			}
		}
	}
}

func TestLibrariesAreUsedWhereTheyBelong(t *testing.T) {
	for _, s := range sources(t) {
		for _, rule := range outsides {
			if s.test && !rule.inTests {
				continue
			}
			for _, imported := range s.imports {
				if !under(imported, rule.library) {
					continue
				}
				if underAny(s.folder, rule.never) || len(rule.only) > 0 && !underAny(s.folder, rule.only) {
					assert.Failf(t, "library out of place", "%s imports %s: %s", s.file, imported, rule.why)
				}
			}
		}
	}
}

func TestTheRulesThemselves(t *testing.T) {
	for sentence, tc := range map[string]struct {
		file     source
		imported string
		want     bool
	}{
		"a stage may use the AMI package":                {source{folder: "pkg/stage"}, "pkg/ami", true},
		"the AMI package may not use a stage":            {source{folder: "pkg/ami"}, "pkg/stage", false},
		"the embedded AWS may use its own parts":         {source{folder: "pkg/localcloud/ec2"}, "pkg/localcloud/vm", true},
		"a service of it may say what its calls take":    {source{folder: "pkg/localcloud/ec2"}, "pkg/localcloud/authz", true},
		"who decides on calls may not use a service":     {source{folder: "pkg/localcloud/authz"}, "pkg/localcloud/ec2", false},
		"the embedded AWS may not use the factory":       {source{folder: "pkg/localcloud/ec2"}, "pkg/ami", false},
		"a stage may not use the embedded AWS":           {source{folder: "pkg/stage"}, "pkg/localcloud/ec2", false},
		"a stage's test may":                             {source{folder: "pkg/stage", test: true}, "pkg/localcloud/ec2", true},
		"the embedded AWS's tests may run the workflow":  {source{folder: "pkg/localcloud/states", test: true}, "pkg/workflow", true},
		"one function may not use another":               {source{folder: "lambdas/seal"}, "lambdas/launch", false},
		"everything may name failures":                   {source{folder: "pkg/workflow"}, "pkg/failure", true},
		"failures name nothing":                          {source{folder: "pkg/failure"}, "pkg/problem", false},
		"a folder whose name begins alike is another":    {source{folder: "pkg/amix"}, "pkg/failure", false},
		"infra may read the blueprint and no stage":      {source{folder: "infra"}, "pkg/stage", false},
		"the workflow does not know what is deployed":    {source{folder: "pkg/workflow"}, "pkg/blueprint", false},
		"only the command line may import the rehearsal": {source{folder: "pkg/functions"}, "pkg/rehearsal", false},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, tc.want, allowed(tc.file, tc.imported)) })
	}
}
