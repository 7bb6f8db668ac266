// Package container holds reference container images: the contract between an image
// and what runs it, and the static checks of an image against its contract.
package container

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// File is a file that holds a contract. Recipes of kind ContainerImage have the same key.
type File struct {
	// Contract is what the image promises to whatever runs it.
	Contract Contract `yaml:"contract" json:"contract" jsonschema:"required"`
}

// Contract is what an image promises to whatever runs it, and what it may rely on: how
// the service is started, who it runs as, where it answers, how it is stopped and where it
// may write.
type Contract struct {
	// Entrypoint is the program and its fixed arguments, without a shell. The program is an absolute path.
	Entrypoint []string `yaml:"entrypoint" json:"entrypoint" jsonschema:"required,minItems=1,maxItems=50,minLength=1,maxLength=1000"`
	// Arguments are the default arguments after the entrypoint, which whoever runs the image may replace (CMD).
	Arguments []string `yaml:"arguments,omitempty" json:"arguments,omitempty" jsonschema:"minItems=1,maxItems=50,maxLength=1000"`
	// User is the number of the user that the service runs as; never 0. Hosts of the factory run services as 950.
	User int `yaml:"user" json:"user" jsonschema:"required,minimum=1,maximum=65535"`
	// Group is the number of the user's group; default the user's number.
	Group int `yaml:"group,omitempty" json:"group,omitempty" jsonschema:"minimum=1,maximum=65535"`
	// Ports are those on which the service listens. An environment variable decides each.
	Ports []Port `yaml:"ports,omitempty" json:"ports,omitempty" jsonschema:"minItems=1,maxItems=20"`
	// Health is the question that tells whether the service works. A service with ports needs one.
	Health *Health `yaml:"health,omitempty" json:"health,omitempty"`
	// Stop is how the service is ended.
	Stop Stop `yaml:"stop,omitempty" json:"stop,omitempty"`
	// Writable are the folders to which the service writes; everything else is read-only. None of them outlives the container unless something is mounted there.
	Writable []string `yaml:"writable,omitempty" json:"writable,omitempty" jsonschema:"minItems=1,maxItems=20,pattern=^(/[A-Za-z0-9._-]+)+$,maxLength=60" hint:"an absolute path of a folder, such as /var/lib/service"`
	// ReadOnlyRoot is whether the root of the container is read-only; default true.
	ReadOnlyRoot *bool `yaml:"readOnlyRoot,omitempty" json:"readOnlyRoot,omitempty" jsonschema:"default=true"`
	// Capabilities are those that the service keeps; all others are dropped. Kubernetes' restricted Pod Security Standard allows no other than this one.
	Capabilities []string `yaml:"capabilities,omitempty" json:"capabilities,omitempty" jsonschema:"minItems=1,enum=NET_BIND_SERVICE"`
}

// Port is a port on which the service listens.
type Port struct {
	// Name of the port, for Kubernetes; default the variable's name in lower case.
	Name string `yaml:"name,omitempty" json:"name,omitempty" jsonschema:"pattern=^[a-z][a-z0-9]*(-[a-z0-9]+)*$,maxLength=15" hint:"lower-case letters, digits and single hyphens, beginning with a letter, at most 15"`
	// Env is the environment variable that decides the port's number.
	Env string `yaml:"env" json:"env" jsonschema:"required,pattern=^[A-Z][A-Z0-9_]*$,maxLength=60" hint:"a name in capitals, such as PORT"`
	// Default is the number in the image's own environment. A number below 1024 needs the capability NET_BIND_SERVICE.
	Default int `yaml:"default" json:"default" jsonschema:"required,minimum=1,maximum=65535"`
	// Protocol is tcp or udp; default tcp.
	Protocol string `yaml:"protocol,omitempty" json:"protocol,omitempty" jsonschema:"enum=tcp,enum=udp,default=tcp"`
}

// Health is how to ask whether the service works: HTTP GET of a path, which answers with
// status 200 to 399.
type Health struct {
	// Path to get; default /.
	Path string `yaml:"path,omitempty" json:"path,omitempty" jsonschema:"pattern=^/[A-Za-z0-9._~/-]*$,maxLength=200,default=/" hint:"an absolute path without a query"`
	// Port is the variable of the port that answers; default the first port's.
	Port string `yaml:"port,omitempty" json:"port,omitempty" jsonschema:"pattern=^[A-Z][A-Z0-9_]*$,maxLength=60" hint:"the env of one of the ports, such as PORT"`
	// Command does the same inside the container and ends with 0 if the service works. ECS needs it: it asks nothing over HTTP.
	Command []string `yaml:"command,omitempty" json:"command,omitempty" jsonschema:"minItems=1,maxItems=20,minLength=1,maxLength=1000"`
	// IntervalSeconds is the time between two questions, in seconds; default 10. ECS allows 5 to 300.
	IntervalSeconds int `yaml:"intervalSeconds,omitempty" json:"intervalSeconds,omitempty" jsonschema:"minimum=5,maximum=300,default=10"`
	// TimeoutSeconds is how long an answer may take, in seconds; default 3. ECS allows 2 to 60.
	TimeoutSeconds int `yaml:"timeoutSeconds,omitempty" json:"timeoutSeconds,omitempty" jsonschema:"minimum=2,maximum=60,default=3"`
	// Retries is after how many wrong answers in a row the service has failed; default 3. ECS allows 1 to 10.
	Retries int `yaml:"retries,omitempty" json:"retries,omitempty" jsonschema:"minimum=1,maximum=10,default=3"`
	// StartSeconds is how long the service may take until its first right answer, in seconds; default 60.
	StartSeconds int `yaml:"startSeconds,omitempty" json:"startSeconds,omitempty" jsonschema:"minimum=1,maximum=300,default=60"`
}

// Stop is how the service is ended.
type Stop struct {
	// Signal that asks the service to end; default SIGTERM.
	Signal string `yaml:"signal,omitempty" json:"signal,omitempty" jsonschema:"enum=SIGTERM,enum=SIGINT,enum=SIGQUIT,enum=SIGHUP,enum=SIGUSR1,enum=SIGUSR2,default=SIGTERM"`
	// GraceSeconds from the signal to the kill, in seconds; default 30. ECS allows at most 120.
	GraceSeconds int `yaml:"graceSeconds,omitempty" json:"graceSeconds,omitempty" jsonschema:"minimum=1,maximum=120,default=30"`
}

//go:embed schema.json
var schema []byte

// Schema is the JSON Schema of a file with a contract, for editors. It is generated from the
// types of this package by its tests (go test ./pkg/container -update).
func Schema() []byte { return slices.Clone(schema) }

// Parse reads a file with a contract and fills in what it leaves to defaults.
func Parse(file string, data []byte) (Contract, problem.List) {
	var f File
	doc, problems := strictyaml.Decode(file, data, &f)
	f.Contract.fill()
	return f.Contract, append(problems, f.Contract.check(doc, "contract")...).Sort()
}

// fill sets what is not given.
func (c *Contract) fill() {
	c.Group = either(c.Group, c.User)
	for i := range c.Ports {
		p := &c.Ports[i]
		if p.Name == "" {
			p.Name = strings.ReplaceAll(strings.ToLower(p.Env), "_", "-")
		}
		p.Protocol = either(p.Protocol, "tcp")
	}
	if h := c.Health; h != nil {
		h.Path = either(h.Path, "/")
		if h.Port == "" && len(c.Ports) > 0 {
			h.Port = c.Ports[0].Env
		}
		h.IntervalSeconds = either(h.IntervalSeconds, 10)
		h.TimeoutSeconds = either(h.TimeoutSeconds, 3)
		h.Retries = either(h.Retries, 3)
		h.StartSeconds = either(h.StartSeconds, 60)
	}
	c.Stop.Signal = either(c.Stop.Signal, "SIGTERM")
	c.Stop.GraceSeconds = either(c.Stop.GraceSeconds, 30)
	if c.ReadOnlyRoot == nil {
		c.ReadOnlyRoot = new(true)
	}
}

func either[T comparable](given, otherwise T) T {
	var zero T
	if given == zero {
		return otherwise
	}
	return given
}

// check finds what the types cannot say. Values with a problem of their own are left out.
func (c Contract) check(doc *strictyaml.Document, at string) problem.List {
	var out problem.List
	fail := func(field, allowed, format string, args ...any) {
		out = append(out, doc.Problem(strictyaml.Join(at, field), allowed, format, args...))
	}
	if doc.Valid(strictyaml.Join(at, "entrypoint")) && len(c.Entrypoint) > 0 {
		for _, p := range wrongEntrypoint(append(slices.Clone(c.Entrypoint), c.Arguments...)) {
			fail("entrypoint[0]", "the absolute path of a program", "%s", p)
		}
	}
	names, envs, numbers := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i, p := range c.Ports {
		field := func(name string) string { return strictyaml.Join(strictyaml.Index("ports", i), name) }
		valid := func(name string) bool { return doc.Valid(strictyaml.Join(at, field(name))) }
		if valid("env") && envs[p.Env] {
			fail(field("env"), "", "two ports have the variable %s", p.Env)
		}
		number := strconv.Itoa(p.Default) + "/" + p.Protocol
		if valid("default") && numbers[number] {
			fail(field("default"), "", "two ports have the number %s", number)
		}
		switch {
		case doc.Has(strictyaml.Join(at, field("name"))):
		case valid("env") && len(p.Name) > 15:
			fail(field("env"), "a shorter variable, or a name of at most 15 characters", "the port has no name, and its variable %s is too long to be one in Kubernetes", p.Env)
		case valid("env") && strings.Contains(p.Name+"-", "--"):
			fail(field("env"), "a name", "the port has no name, and its variable %s cannot be one in Kubernetes", p.Env)
		}
		if names[p.Name] && p.Name != "" && !envs[p.Env] {
			fail(field("name"), "", "two ports have the name %s", p.Name)
		}
		if valid("default") && p.Default < 1024 && !slices.Contains(c.Capabilities, "NET_BIND_SERVICE") {
			fail(field("default"), "1024 to 65535, or the capability NET_BIND_SERVICE", "port %d is privileged, and the service has no right to it", p.Default)
		}
		names[p.Name], envs[p.Env], numbers[number] = true, true, true
	}
	c.checkHealth(doc, at, fail)
	for i, w := range c.Writable {
		field := strictyaml.Index("writable", i)
		switch {
		case !doc.Valid(strictyaml.Join(at, field)):
		case path.Clean(w) != w:
			fail(field, "a path without . and ..", "%s is not a plain path", w)
		case slices.Contains(unwritable(), w), slices.ContainsFunc(unwritable(), func(s string) bool { return strings.HasPrefix(w, s+"/") }):
			fail(field, "a folder for data, such as /tmp, /var/lib/service or /var/log/service", "%s is the system's: a service that can change it can change itself", w)
		}
		for _, other := range c.Writable[:i] {
			if other == w || strings.HasPrefix(w, other+"/") || strings.HasPrefix(other, w+"/") {
				fail(field, "folders outside one another", "%s and %s overlap", w, other)
			} else if volumeName(other) == volumeName(w) {
				fail(field, "names that differ in letters and digits", "the volumes of %s and %s would both have the name %s", w, other, volumeName(w))
			}
		}
	}
	for i, name := range c.Capabilities {
		if slices.Index(c.Capabilities, name) < i {
			fail(strictyaml.Index("capabilities", i), "", "%s is listed twice", name)
		}
	}
	return out
}

func (c Contract) checkHealth(doc *strictyaml.Document, at string, fail func(field, allowed, format string, args ...any)) {
	if c.Health == nil {
		if len(c.Ports) > 0 {
			fail("", "health: {path: /health}", "the service has ports and no health: nothing could tell whether it works")
		}
		return
	}
	h := *c.Health
	var envs []string
	for _, p := range c.Ports {
		if p.Protocol == "tcp" {
			envs = append(envs, p.Env)
		}
	}
	valid := func(field string) bool { return doc.Valid(strictyaml.Join(at, "health."+field)) }
	switch {
	case len(c.Ports) == 0 && len(h.Command) == 0:
		fail("health", "a port, or command", "the service has no port that could answer")
	case len(c.Ports) > 0 && !slices.Contains(envs, h.Port):
		field := "health.port"
		if !doc.Has(strictyaml.Join(at, field)) {
			field = "health"
		}
		near := ""
		if name := problem.Nearest(h.Port, envs); name != "" {
			near = fmt.Sprintf("; did you mean %q?", name)
		}
		fail(field, strings.Join(envs, ", "), "no TCP port of the contract has the variable %q%s", h.Port, near)
	}
	if valid("timeoutSeconds") && h.TimeoutSeconds >= h.IntervalSeconds {
		fail("health.timeoutSeconds", fmt.Sprintf("less than intervalSeconds, %d", h.IntervalSeconds), "an answer may take %d seconds, as long as the time between two questions", h.TimeoutSeconds)
	}
	if len(h.Command) > 0 && valid("command[0]") && !plainPath(h.Command[0]) {
		fail("health.command[0]", "the absolute path of a program", "%q is not an absolute path", h.Command[0])
	}
}

// unwritable are folders that hold programs and settings of the system.
func unwritable() []string {
	return []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys", "/usr", "/var/lib/dpkg", "/var/lib/rpm"}
}

func plainPath(s string) bool {
	return strings.HasPrefix(s, "/") && path.Clean(s) == s && !strings.ContainsAny(s, " \t\n\"'`$;&|<>*?")
}

// shells are programs that read a command line from their arguments.
func shells() []string { return []string{"sh", "bash", "dash", "ash", "ksh", "zsh", "busybox"} }

// wrongEntrypoint says why a vector is not a service's program.
func wrongEntrypoint(vector []string) []string {
	if !plainPath(vector[0]) {
		if strings.ContainsAny(vector[0], " \t") {
			return []string{fmt.Sprintf("the entrypoint %q is a command line: write a list of the program and each argument", vector[0])}
		}
		return []string{fmt.Sprintf("the entrypoint's program %q is not an absolute path", vector[0])}
	}
	return shellCommand(throughInit(vector))
}

// shellCommand says whether a program is a shell that reads its command from its arguments.
func shellCommand(program string, rest []string) []string {
	if slices.Contains(shells(), path.Base(program)) && slices.ContainsFunc(rest, func(a string) bool {
		return strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && strings.Contains(a, "c")
	}) {
		return []string{fmt.Sprintf("the entrypoint runs its service in the shell %s, which passes no signal on: the service would never get the signal to stop", program)}
	}
	return nil
}

// throughInit returns the program that a small init, such as tini, starts, and its
// arguments; the vector's own if it starts with none.
func throughInit(vector []string) (program string, rest []string) {
	if !slices.Contains([]string{"tini", "tini-static", "dumb-init", "catatonit", "docker-init"}, path.Base(vector[0])) {
		return vector[0], vector[1:]
	}
	// Options may have values, so that only what follows -- is certain to be the program.
	if i := slices.Index(vector, "--"); i > 0 && i+1 < len(vector) {
		return vector[i+1], vector[i+2:]
	}
	for i, word := range vector[1:] {
		if !strings.HasPrefix(word, "-") {
			return word, vector[i+2:]
		}
	}
	return vector[0], nil
}

// ReadOnly reports whether the root of the container is read-only.
func (c Contract) ReadOnly() bool { return c.ReadOnlyRoot == nil || *c.ReadOnlyRoot }

// port finds a port by its variable.
func (c Contract) port(env string) (Port, bool) {
	i := slices.IndexFunc(c.Ports, func(p Port) bool { return p.Env == env })
	if i < 0 {
		return Port{}, false
	}
	return c.Ports[i], true
}

// Owner is user and group as an image's configuration has them: 950:950.
func (c Contract) Owner() string { return fmt.Sprintf("%d:%d", c.User, c.Group) }

// Labels of an image.
const (
	LabelContract     = "io.ami-factory.contract"      // the contract, as JSON
	LabelRecipeDigest = "io.ami-factory.recipe.digest" // of a reference image: what it was made from
	LabelEOL          = "io.ami-factory.eol"           // YYYY-MM-DD, the last day on which the image is maintained
	LabelOwner        = "io.ami-factory.owner"         // who answers for the image
)

// Labels are the labels of an image that keeps the contract.
func (c Contract) Labels() (map[string]string, error) {
	c = c.clone()
	c.fill()
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("write the contract: %w", err)
	}
	return map[string]string{LabelContract: string(text)}, nil
}

func (c Contract) clone() Contract {
	c.Ports = slices.Clone(c.Ports)
	if c.Health != nil {
		c.Health = new(*c.Health)
	}
	return c
}

// ErrNoContract is the error for an image without the label of the contract.
var ErrNoContract = errors.New("the image has no label " + LabelContract + ": it was not built on a reference image, or the label was removed")

// FromLabels reads the contract from an image's labels. It is as strict as Parse, since
// anybody can label an image.
func FromLabels(labels map[string]string) (Contract, error) {
	text, ok := labels[LabelContract]
	if !ok {
		return Contract{}, ErrNoContract
	}
	if len(text) > 64<<10 {
		return Contract{}, fmt.Errorf("the label %s has %d bytes, 65536 are allowed", LabelContract, len(text))
	}
	if !json.Valid([]byte(text)) {
		return Contract{}, fmt.Errorf("the label %s is not JSON", LabelContract)
	}
	var c Contract
	doc, problems := strictyaml.Decode("label "+LabelContract, []byte(text), &c)
	c.fill()
	if err := append(problems, c.check(doc, "")...).Err(); err != nil {
		return Contract{}, err
	}
	return c, nil
}
