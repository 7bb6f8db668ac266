package container

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Formats of Render.
const (
	FormatEnv        = "env"        // service.env of the unit service@NAME
	FormatECS        = "ecs"        // part of an ECS task definition, JSON
	FormatKubernetes = "kubernetes" // part of a pod's specification, YAML
	FormatLabels     = "labels"     // labels of an image, JSON
)

// Formats lists the formats of Render.
func Formats() []string {
	return []string{FormatEnv, FormatECS, FormatKubernetes, FormatLabels}
}

// Unknown stands for an image whose repository or digest is not known. service-run, ECS
// and Kubernetes refuse it.
const Unknown = "REGISTRY/REPOSITORY@sha256:DIGEST"

// Rendered is a contract in the words of what runs the image.
type Rendered struct {
	Text  string
	Notes []string // what the format cannot express, and what to do instead
}

// Render writes the contract for what runs the image. name is the name of the service,
// image the reference of the image, by digest. It is an error if the format cannot keep
// the contract.
func (c Contract) Render(format, name, image string) (Rendered, error) {
	c = c.clone()
	c.fill()
	switch format {
	case FormatEnv:
		return c.serviceEnv(image)
	case FormatECS:
		return c.ecs(name, image)
	case FormatKubernetes:
		return c.kubernetes(name, image)
	case FormatLabels:
		labels, err := c.Labels()
		if err != nil {
			return Rendered{}, err
		}
		text, err := indented(labels)
		return Rendered{Text: text}, err
	}
	return Rendered{}, fmt.Errorf("there is no format %q (allowed: %s)", format, strings.Join(Formats(), ", "))
}

// ServiceUser is the user as whom service@ runs containers, unless the recipe of the host
// changes the parameter uid of the component filesystem.
const ServiceUser = 950

// serviceWritable are the folders in which a container of service@ can write.
func serviceWritable() []string { return []string{"/tmp", "/var/lib/service", "/var/log/service"} }

// serviceEnv writes the file service.env that service-run of the component filesystem reads.
// service-run decides user, root and capabilities itself, so a contract that needs others
// cannot be kept there.
func (c Contract) serviceEnv(image string) (Rendered, error) {
	var refused []string
	for _, w := range c.Writable {
		if !slices.Contains(serviceWritable(), w) {
			refused = append(refused, fmt.Sprintf("writable: %s (service@ offers %s)", w, strings.Join(serviceWritable(), ", ")))
		}
	}
	if !c.ReadOnly() {
		refused = append(refused, "readOnlyRoot: false (service@ mounts the root read-only)")
	}
	if len(c.Capabilities) > 0 {
		refused = append(refused, fmt.Sprintf("capabilities: %s (service@ drops all)", strings.Join(c.Capabilities, ", ")))
	}
	if len(refused) > 0 {
		return Rendered{}, fmt.Errorf("the unit service@ cannot keep this contract: %s", strings.Join(refused, "; "))
	}
	var out Rendered
	if c.User != ServiceUser || c.Group != ServiceUser {
		out.Notes = append(out.Notes, fmt.Sprintf("service@ runs containers as %d:%d, not as %s: set the parameter uid of the component filesystem in the host's recipe, or the user in the contract", ServiceUser, ServiceUser, c.Owner()))
	}
	lines := []string{"IMAGE=" + image}
	if len(c.Ports) > 0 {
		var ports []string
		for _, p := range c.Ports {
			port := fmt.Sprintf("%d:%d", p.Default, p.Default)
			if p.Protocol == "udp" {
				port += "/udp"
			}
			ports = append(ports, port)
		}
		lines = append(lines, "PORTS="+strings.Join(ports, " "))
	}
	lines = append(lines, "STOP_GRACE="+strconv.Itoa(c.Stop.GraceSeconds))
	if p, ok := c.healthPort(); ok {
		lines = append(lines, "HEALTH_PORT="+strconv.Itoa(p.Default), "HEALTH_PATH="+c.Health.Path, "HEALTH_WAIT="+strconv.Itoa(c.Health.StartSeconds))
	} else if c.Health != nil {
		out.Notes = append(out.Notes, "service@ asks over HTTP only: without a port it does not know whether the service works")
	}
	out.Text = strings.Join(lines, "\n") + "\n"
	return out, nil
}

func (c Contract) healthPort() (Port, bool) {
	if c.Health == nil {
		return Port{}, false
	}
	return c.port(c.Health.Port)
}

// The parts of an ECS task definition that a contract decides, in the words of
// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
type (
	ecsTask struct {
		ContainerDefinitions []ecsContainer `json:"containerDefinitions"`
		Volumes              []ecsVolume    `json:"volumes,omitempty"`
	}
	ecsContainer struct {
		Name                   string     `json:"name"`
		Image                  string     `json:"image"`
		Essential              bool       `json:"essential"`
		User                   string     `json:"user"`
		ReadonlyRootFilesystem bool       `json:"readonlyRootFilesystem"`
		Privileged             bool       `json:"privileged"`
		Environment            []ecsPair  `json:"environment,omitempty"`
		PortMappings           []ecsPort  `json:"portMappings,omitempty"`
		HealthCheck            *ecsHealth `json:"healthCheck,omitempty"`
		StopTimeout            int        `json:"stopTimeout"`
		MountPoints            []ecsMount `json:"mountPoints,omitempty"`
		LinuxParameters        ecsLinux   `json:"linuxParameters"`
	}
	ecsPair struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	ecsPort struct {
		Name          string `json:"name"`
		ContainerPort int    `json:"containerPort"`
		Protocol      string `json:"protocol"`
	}
	ecsHealth struct {
		Command     []string `json:"command"`
		Interval    int      `json:"interval"`
		Timeout     int      `json:"timeout"`
		Retries     int      `json:"retries"`
		StartPeriod int      `json:"startPeriod"`
	}
	ecsMount struct {
		SourceVolume  string `json:"sourceVolume"`
		ContainerPath string `json:"containerPath"`
		ReadOnly      bool   `json:"readOnly"`
	}
	ecsLinux struct {
		Capabilities ecsCapabilities `json:"capabilities"`
	}
	ecsCapabilities struct {
		Add  []string `json:"add,omitempty"`
		Drop []string `json:"drop"`
	}
	ecsVolume struct {
		Name string `json:"name"`
	}
)

func (c Contract) ecs(name, image string) (Rendered, error) {
	var out Rendered
	k := ecsContainer{
		Name: name, Image: image, Essential: true, User: c.Owner(), ReadonlyRootFilesystem: c.ReadOnly(), StopTimeout: c.Stop.GraceSeconds,
		LinuxParameters: ecsLinux{Capabilities: ecsCapabilities{Add: c.Capabilities, Drop: []string{"ALL"}}},
	}
	for _, p := range c.Ports {
		k.Environment = append(k.Environment, ecsPair{p.Env, strconv.Itoa(p.Default)})
		k.PortMappings = append(k.PortMappings, ecsPort{p.Name, p.Default, p.Protocol})
	}
	switch {
	case c.Health == nil:
	case len(c.Health.Command) > 0:
		k.HealthCheck = &ecsHealth{
			Command:  append([]string{"CMD"}, c.Health.Command...),
			Interval: c.Health.IntervalSeconds, Timeout: c.Health.TimeoutSeconds, Retries: c.Health.Retries, StartPeriod: c.Health.StartSeconds,
		}
	default:
		out.Notes = append(out.Notes, fmt.Sprintf("the contract has no health.command, and ECS asks nothing over HTTP itself: have the load balancer's target group ask %s, or add a command to the contract", c.Health.Path))
	}
	if len(c.Capabilities) > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("tasks on Fargate cannot add the capability %s: run the task on EC2, or use a port from 1024", strings.Join(c.Capabilities, ", ")))
	}
	var task ecsTask
	for _, w := range c.Writable {
		volume := volumeName(w)
		k.MountPoints = append(k.MountPoints, ecsMount{SourceVolume: volume, ContainerPath: w})
		task.Volumes = append(task.Volumes, ecsVolume{volume})
	}
	if len(c.Writable) > 0 {
		// ECS copies a path to its volume, with owner and mode, only if the image declares it:
		// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html
		out.Notes = append(out.Notes, fmt.Sprintf("ECS makes an empty volume of root's unless the image declares the folder: the Dockerfile needs VOLUME for %s", strings.Join(c.Writable, ", ")))
	}
	task.ContainerDefinitions = []ecsContainer{k}
	var err error
	out.Text, err = indented(task)
	return out, err
}

// volumeName makes a name of a path: letters, digits, hyphens.
func volumeName(folder string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return '-'
	}, folder), "-")
	if name == "" {
		return "data"
	}
	return name
}

// The parts of a pod's specification that a contract decides, in the words of
// https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
type (
	kubePod struct {
		Spec kubeSpec `yaml:"spec"`
	}
	kubeSpec struct {
		GracePeriod     int             `yaml:"terminationGracePeriodSeconds"`
		SecurityContext kubePodSecurity `yaml:"securityContext"`
		Containers      []kubeContainer `yaml:"containers"`
		Volumes         []kubeVolume    `yaml:"volumes,omitempty"`
	}
	kubePodSecurity struct {
		RunAsNonRoot bool        `yaml:"runAsNonRoot"`
		RunAsUser    int         `yaml:"runAsUser"`
		RunAsGroup   int         `yaml:"runAsGroup"`
		FSGroup      int         `yaml:"fsGroup"`
		Seccomp      kubeSeccomp `yaml:"seccompProfile"`
	}
	kubeSeccomp struct {
		Type string `yaml:"type"`
	}
	kubeContainer struct {
		Name            string       `yaml:"name"`
		Image           string       `yaml:"image"`
		Env             []kubePair   `yaml:"env,omitempty"`
		Ports           []kubePort   `yaml:"ports,omitempty"`
		StartupProbe    *kubeProbe   `yaml:"startupProbe,omitempty"`
		ReadinessProbe  *kubeProbe   `yaml:"readinessProbe,omitempty"`
		LivenessProbe   *kubeProbe   `yaml:"livenessProbe,omitempty"`
		SecurityContext kubeSecurity `yaml:"securityContext"`
		VolumeMounts    []kubeMount  `yaml:"volumeMounts,omitempty"`
	}
	kubePair struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	}
	kubePort struct {
		Name          string `yaml:"name"`
		ContainerPort int    `yaml:"containerPort"`
		Protocol      string `yaml:"protocol"`
	}
	kubeProbe struct {
		HTTPGet          *kubeGet  `yaml:"httpGet,omitempty"`
		Exec             *kubeExec `yaml:"exec,omitempty"`
		PeriodSeconds    int       `yaml:"periodSeconds"`
		TimeoutSeconds   int       `yaml:"timeoutSeconds"`
		FailureThreshold int       `yaml:"failureThreshold"`
	}
	kubeGet struct {
		Path string `yaml:"path"`
		Port string `yaml:"port"`
	}
	kubeExec struct {
		Command []string `yaml:"command"`
	}
	kubeSecurity struct {
		AllowPrivilegeEscalation bool             `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool             `yaml:"readOnlyRootFilesystem"`
		Capabilities             kubeCapabilities `yaml:"capabilities"`
	}
	kubeCapabilities struct {
		Drop []string `yaml:"drop"`
		Add  []string `yaml:"add,omitempty"`
	}
	kubeMount struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
	}
	kubeVolume struct {
		Name     string   `yaml:"name"`
		EmptyDir struct{} `yaml:"emptyDir"`
	}
)

func (c Contract) kubernetes(name, image string) (Rendered, error) {
	k := kubeContainer{
		Name: name, Image: image,
		SecurityContext: kubeSecurity{ReadOnlyRootFilesystem: c.ReadOnly(), Capabilities: kubeCapabilities{Drop: []string{"ALL"}, Add: c.Capabilities}},
	}
	for _, p := range c.Ports {
		k.Env = append(k.Env, kubePair{p.Env, strconv.Itoa(p.Default)})
		k.Ports = append(k.Ports, kubePort{p.Name, p.Default, strings.ToUpper(p.Protocol)})
	}
	if h := c.Health; h != nil {
		probe := kubeProbe{PeriodSeconds: h.IntervalSeconds, TimeoutSeconds: h.TimeoutSeconds, FailureThreshold: h.Retries}
		if p, ok := c.healthPort(); ok {
			probe.HTTPGet = &kubeGet{h.Path, p.Name}
		} else {
			probe.Exec = &kubeExec{h.Command}
		}
		start := probe
		// The threshold is what limits the time until the first right answer.
		start.FailureThreshold = max(1, (h.StartSeconds+h.IntervalSeconds-1)/h.IntervalSeconds)
		k.StartupProbe, k.ReadinessProbe, k.LivenessProbe = &start, &probe, &probe
	}
	spec := kubeSpec{
		GracePeriod:     c.Stop.GraceSeconds,
		SecurityContext: kubePodSecurity{RunAsNonRoot: true, RunAsUser: c.User, RunAsGroup: c.Group, FSGroup: c.Group, Seccomp: kubeSeccomp{"RuntimeDefault"}},
	}
	for _, w := range c.Writable {
		k.VolumeMounts = append(k.VolumeMounts, kubeMount{volumeName(w), w})
		spec.Volumes = append(spec.Volumes, kubeVolume{Name: volumeName(w)})
	}
	spec.Containers = []kubeContainer{k}
	var b bytes.Buffer
	enc, err := yaml.NewDumper(&b, yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return Rendered{}, err
	}
	if err := enc.Dump(kubePod{spec}); err != nil {
		return Rendered{}, err
	}
	if err := enc.Close(); err != nil {
		return Rendered{}, err
	}
	return Rendered{Text: b.String()}, nil
}

func indented(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.String(), err
}
