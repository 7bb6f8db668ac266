package provision

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

// The settings of Bottlerocket that a spec can have, by the names of
// https://bottlerocket.dev/en/os/latest/#/api/settings/
type (
	tomlFile struct {
		Settings tomlSettings `toml:"settings"`
	}
	tomlSettings struct {
		MOTD              string                   `toml:"motd,omitempty"`
		Kubernetes        *tomlKubernetes          `toml:"kubernetes,omitempty"`
		ECS               *tomlECS                 `toml:"ecs,omitempty"`
		HostContainers    map[string]tomlContainer `toml:"host-containers,omitempty"`
		Kernel            *tomlKernel              `toml:"kernel,omitempty"`
		Boot              *tomlBoot                `toml:"boot,omitempty"`
		Network           *tomlNetwork             `toml:"network,omitempty"`
		NTP               *tomlNTP                 `toml:"ntp,omitempty"`
		ContainerRegistry *tomlRegistry            `toml:"container-registry,omitempty"`
	}
	tomlKubernetes struct {
		ClusterName        string              `toml:"cluster-name"`
		APIServer          string              `toml:"api-server"`
		ClusterCertificate string              `toml:"cluster-certificate"`
		NodeLabels         map[string]string   `toml:"node-labels,omitempty"`
		NodeTaints         map[string][]string `toml:"node-taints,omitempty"`
	}
	tomlECS struct {
		Cluster string `toml:"cluster"`
	}
	tomlContainer struct {
		Enabled bool `toml:"enabled"`
	}
	tomlKernel struct {
		Lockdown string                `toml:"lockdown,omitempty"`
		Sysctl   map[string]string     `toml:"sysctl,omitempty"`
		Modules  map[string]tomlModule `toml:"modules,omitempty"`
	}
	tomlModule struct {
		Allowed  bool `toml:"allowed"`
		Autoload bool `toml:"autoload,omitempty"`
	}
	tomlBoot struct {
		Reconcile  bool                `toml:"reboot-to-reconcile"`
		Parameters map[string][]string `toml:"kernel-parameters"`
	}
	tomlNetwork struct {
		HTTPSProxy string   `toml:"https-proxy"`
		NoProxy    []string `toml:"no-proxy,omitempty"`
	}
	tomlNTP struct {
		Servers []string `toml:"time-servers"`
	}
	tomlRegistry struct {
		Mirrors []tomlMirror `toml:"mirrors"`
	}
	tomlMirror struct {
		Registry string   `toml:"registry"`
		Endpoint []string `toml:"endpoint"`
	}
)

func renderBottlerocket(s *spec.Spec) (UserData, error) {
	out := UserData{Format: spec.BottlerocketFmt, Steps: []Step{}}
	body, err := toml.Marshal(tomlFile{settings(s)})
	if err != nil {
		return out, fmt.Errorf("write the TOML: %w", err)
	}
	out.Data = append([]byte("# "+s.Name+", made by ami-factory from its user-data spec.\n"), body...)
	// Settings are not compressed, so that the console shows them. More than 16 KiB of
	// them are a mistake.
	return out, fits(out.Data)
}

func settings(s *spec.Spec) tomlSettings {
	b := s.Bottlerocket
	out := tomlSettings{MOTD: b.MOTD}
	if k := b.Kubernetes; k != nil {
		out.Kubernetes = &tomlKubernetes{k.ClusterName, k.APIServer, k.ClusterCertificate, k.NodeLabels, k.NodeTaints}
	}
	if b.ECS != nil {
		out.ECS = &tomlECS{b.ECS.Cluster}
	}
	for name, enabled := range map[string]*bool{"admin": b.HostContainers.Admin, "control": b.HostContainers.Control} {
		if enabled != nil {
			if out.HostContainers == nil {
				out.HostContainers = map[string]tomlContainer{}
			}
			out.HostContainers[name] = tomlContainer{*enabled}
		}
	}
	out.Kernel = kernelSettings(s)
	if list := s.Kernel.BootArguments; len(list) > 0 {
		out.Boot = &tomlBoot{Reconcile: true, Parameters: map[string][]string{}}
		for _, argument := range list {
			name, value, has := strings.Cut(argument, "=")
			values := out.Boot.Parameters[name]
			if values == nil {
				values = []string{}
			}
			if has {
				values = append(values, value)
			}
			out.Boot.Parameters[name] = values
		}
	}
	if s.Proxy.HTTPS != "" {
		out.Network = &tomlNetwork{s.Proxy.HTTPS, s.Proxy.NoProxy}
	}
	if len(b.NTP) > 0 {
		out.NTP = &tomlNTP{b.NTP}
	}
	if len(b.RegistryMirrors) > 0 {
		out.ContainerRegistry = &tomlRegistry{}
		for _, m := range b.RegistryMirrors {
			out.ContainerRegistry.Mirrors = append(out.ContainerRegistry.Mirrors, tomlMirror{m.Registry, m.Endpoints})
		}
	}
	return out
}

func kernelSettings(s *spec.Spec) *tomlKernel {
	k := s.Kernel
	out := &tomlKernel{Lockdown: s.Bottlerocket.KernelLockdown, Sysctl: k.Sysctl}
	for _, m := range k.Modules.Load {
		out.module(m, tomlModule{Allowed: true, Autoload: true})
	}
	for _, m := range k.Modules.Block {
		out.module(m, tomlModule{})
	}
	if out.Lockdown == "" && len(out.Sysctl) == 0 && out.Modules == nil {
		return nil
	}
	return out
}

func (k *tomlKernel) module(name string, m tomlModule) {
	if k.Modules == nil {
		k.Modules = map[string]tomlModule{}
	}
	k.Modules[name] = m
}
