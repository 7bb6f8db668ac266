// Package spec is the schema of a provisioner's `kind: UserData` document: what
// an instance of a golden image is after its first boot. Parsing is strict
// and collects every problem with its position, those with what the golden
// image forbids included.
package spec

import "github.com/ami-factory/ami-factory/pkg/strictyaml"

// Spec is what one kind of instance is told at its first boot.
type Spec struct {
	// Kind of the document, always UserData.
	Kind string `yaml:"kind" json:"kind" jsonschema:"required,enum=UserData"`
	// Name of what the instances are; it is in logs and in result.json.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z][a-z0-9]*(-[a-z0-9]+)*$,minLength=3,maxLength=40" hint:"lower-case letters, digits and single hyphens, beginning with a letter"`
	// Target is the format that is rendered unless another is asked for.
	Target string `yaml:"target" json:"target" jsonschema:"required,enum=cloud-init,enum=bottlerocket"`
	// Family of the image's operating system; required for cloud-init, and Bottlerocket has none.
	Family string `yaml:"family,omitempty" json:"family,omitempty" jsonschema:"enum=debian-12,enum=debian-13,enum=ubuntu-22.04,enum=ubuntu-24.04,enum=al2023"`
	// Users to create, beside the image's own default user. None has a password.
	Users []User `yaml:"users,omitempty" json:"users,omitempty" jsonschema:"maxItems=50"`
	// Kernel settings.
	Kernel Kernel `yaml:"kernel,omitempty" json:"kernel,omitempty"`
	// Mounts of file systems. One that fails is recorded and does not stop the boot.
	Mounts Mounts `yaml:"mounts,omitempty" json:"mounts,omitempty"`
	// Repositories of packages, each in use with the one key of its fingerprint only.
	Repositories []Repository `yaml:"repositories,omitempty" json:"repositories,omitempty" jsonschema:"maxItems=20"`
	// Packages to install, by the family's package manager.
	Packages []Package `yaml:"packages,omitempty" json:"packages,omitempty" jsonschema:"maxItems=200"`
	// Files to write.
	Files []File `yaml:"files,omitempty" json:"files,omitempty" jsonschema:"maxItems=100"`
	// Services to enable, disable and start, by their systemd units.
	Services Services `yaml:"services,omitempty" json:"services,omitempty"`
	// Commands to run once, in order; after one that fails no other command runs.
	Commands []Command `yaml:"commands,omitempty" json:"commands,omitempty" jsonschema:"maxItems=50"`
	// Containers to run as services, on the image's template service@.service.
	Containers []Container `yaml:"containers,omitempty" json:"containers,omitempty" jsonschema:"maxItems=20"`
	// Proxy for what leaves the instance: systemd's units, the package manager and Docker.
	Proxy Proxy `yaml:"proxy,omitempty" json:"proxy,omitempty"`
	// Timezone, by its name in the tz database, such as Europe/Zurich.
	Timezone string `yaml:"timezone,omitempty" json:"timezone,omitempty" jsonschema:"pattern=^[A-Za-z]+([/_+-][A-Za-z0-9]+)*$,maxLength=60" hint:"a name of the tz database, such as UTC or Europe/Zurich"`
	// Agents' parameters of the first boot, one file /etc/ami-factory/agents/<agent>.env each; secrets only by reference.
	Agents Agents `yaml:"agents,omitempty" json:"agents,omitempty"`
	// EKS cluster to join, for images of al2023 that have nodeadm, as EKS's own: a NodeConfig is then part of the user data.
	EKS *EKS `yaml:"eks,omitempty" json:"eks,omitempty"`
	// Bottlerocket's own settings.
	Bottlerocket Bottlerocket `yaml:"bottlerocket,omitempty" json:"bottlerocket,omitempty"`

	// doc knows where everything stands in the file.
	doc *strictyaml.Document
}

// User is one account. Nobody logs in by password: keys, or Session Manager.
type User struct {
	// Name of the user. A name in capitals would be an alias to sudo.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z_]([a-z0-9_.-]*[a-z0-9_-])?$,maxLength=32" hint:"lower-case letters, digits, _ . and -, beginning with a letter or _, not ending with a dot"`
	// UID of the user; default: the next free one.
	UID int `yaml:"uid,omitempty" json:"uid,omitempty" jsonschema:"minimum=1,maximum=59999"`
	// Groups the user is in beside its own; those that do not exist are created.
	Groups []string `yaml:"groups,omitempty" json:"groups,omitempty" jsonschema:"pattern=^[a-z_]([a-z0-9_.-]*[a-z0-9_-])?$,maxLength=32" hint:"the name of a group"`
	// SSHKeys are public keys as in authorized_keys, without options: ed25519, ECDSA, or RSA of 3072 bits and more.
	SSHKeys []string `yaml:"sshKeys,omitempty" json:"sshKeys,omitempty" jsonschema:"maxLength=4096"`
	// Sudo rules of the user; none without them.
	Sudo []SudoRule `yaml:"sudo,omitempty" json:"sudo,omitempty"`
	// Shell of the user; default /bin/bash, or no login for a system user.
	Shell string `yaml:"shell,omitempty" json:"shell,omitempty" jsonschema:"enum=/bin/bash,enum=/bin/sh,enum=/usr/sbin/nologin,enum=/bin/false"`
	// System makes it a system user: no home, no ageing.
	System bool `yaml:"system,omitempty" json:"system,omitempty"`
}

// SudoRule lets a user run commands as another.
type SudoRule struct {
	// Rule after the user's name, with NOPASSWD because no user has a password, such as "ALL=(root) NOPASSWD: /usr/bin/systemctl restart web.service".
	Rule string `yaml:"rule" json:"rule" jsonschema:"required,minLength=1,maxLength=500"`
	// Reason why the user may; required where the rule gives everything without a password.
	Reason string `yaml:"reason,omitempty" json:"reason,omitempty" jsonschema:"minLength=10,maxLength=300"`
}

// Kernel settings.
type Kernel struct {
	// Sysctl settings by name; those of the hardening cannot be changed.
	Sysctl map[string]string `yaml:"sysctl,omitempty" json:"sysctl,omitempty"`
	// Modules to load at boot, and to block.
	Modules Modules `yaml:"modules,omitempty" json:"modules,omitempty"`
	// BootArguments of the kernel; the instance reboots once at its first boot when it was started without them.
	BootArguments []string `yaml:"bootArguments,omitempty" json:"bootArguments,omitempty" jsonschema:"maxItems=20,pattern=^[a-z][A-Za-z0-9_.-]*(=[A-Za-z0-9_.\\,:/-]+)?$,maxLength=200" hint:"name or name=value, without spaces and quotes"`
}

// Modules of the kernel.
type Modules struct {
	// Load at every boot.
	Load []string `yaml:"load,omitempty" json:"load,omitempty" jsonschema:"pattern=^[a-z0-9][a-z0-9_-]*$,maxLength=64" hint:"the name of a kernel module"`
	// Block, so that they cannot be loaded.
	Block []string `yaml:"block,omitempty" json:"block,omitempty" jsonschema:"pattern=^[a-z0-9][a-z0-9_-]*$,maxLength=64" hint:"the name of a kernel module"`
}

// Mounts of file systems.
type Mounts struct {
	// EFS file systems.
	EFS []EFS `yaml:"efs,omitempty" json:"efs,omitempty" jsonschema:"maxItems=20"`
	// Volumes: of EBS, by volume, device or label, or of the instance's own store.
	Volumes []Volume `yaml:"volumes,omitempty" json:"volumes,omitempty" jsonschema:"maxItems=20"`
}

// EFS is one file system of Elastic File System.
type EFS struct {
	// FileSystemID of the file system.
	FileSystemID string `yaml:"fileSystemId" json:"fileSystemId" jsonschema:"required,pattern=^fs-[0-9a-f]{8}([0-9a-f]{9})?$" hint:"fs- and 17 hexadecimal digits"`
	// Path in the file system to mount; default /.
	Path string `yaml:"path,omitempty" json:"path,omitempty" jsonschema:"pattern=^/[A-Za-z0-9._/-]*$,maxLength=255,default=/" hint:"an absolute path"`
	// MountPoint in the instance.
	MountPoint string `yaml:"mountPoint" json:"mountPoint" jsonschema:"required,pattern=^/[A-Za-z0-9._/-]+$,maxLength=255" hint:"an absolute path of letters, digits, . _ and -"`
	// AccessPoint to go through, by efs-utils only.
	AccessPoint string `yaml:"accessPoint,omitempty" json:"accessPoint,omitempty" jsonschema:"pattern=^fsap-[0-9a-f]{8}([0-9a-f]{9})?$" hint:"fsap- and 17 hexadecimal digits"`
	// Transport: efs-utils encrypts by TLS and can sign in by the instance's role; nfs4 does neither, and needs no more than an NFS client.
	Transport string `yaml:"transport,omitempty" json:"transport,omitempty" jsonschema:"enum=efs-utils,enum=nfs4,default=efs-utils"`
	// IAM sign-in by the instance's role, by efs-utils only; default true there.
	IAM *bool `yaml:"iam,omitempty" json:"iam,omitempty"`
	// Region of the file system; required for nfs4, whose server's name has it.
	Region string `yaml:"region,omitempty" json:"region,omitempty" jsonschema:"pattern=^[a-z]+(-[a-z]+)+-[0-9]+$" hint:"a region's name, such as eu-west-1"`
	// ReadOnly mounts for reading only.
	ReadOnly bool `yaml:"readOnly,omitempty" json:"readOnly,omitempty"`
	// Automount on first use, rather than at boot.
	Automount bool `yaml:"automount,omitempty" json:"automount,omitempty"`
	// TimeoutSeconds after which the mount counts as failed; 5 to 120, default 30.
	TimeoutSeconds int `yaml:"timeoutSeconds,omitempty" json:"timeoutSeconds,omitempty" jsonschema:"minimum=5,maximum=120,default=30"`
}

// Volume is a file system on a block device. Exactly one of label, volumeId,
// device and instanceStore says which.
type Volume struct {
	// Label of a file system that exists already.
	Label string `yaml:"label,omitempty" json:"label,omitempty" jsonschema:"oneof_required=label,pattern=^[A-Za-z0-9_.-]+$,maxLength=16" hint:"up to 16 letters, digits, _ . and -"`
	// VolumeID of an EBS volume.
	VolumeID string `yaml:"volumeId,omitempty" json:"volumeId,omitempty" jsonschema:"oneof_required=volumeId,pattern=^vol-[0-9a-f]{8}([0-9a-f]{9})?$" hint:"vol- and 17 hexadecimal digits"`
	// Device by the name that it was attached under, or by its identity below /dev/disk/by-id.
	Device string `yaml:"device,omitempty" json:"device,omitempty" jsonschema:"oneof_required=device,pattern=^/dev/((sd|xvd)[b-z][a-z]?|disk/by-id/[A-Za-z0-9._-]+)$" hint:"/dev/sdb to /dev/sdz, /dev/xvdb to /dev/xvdzz, or /dev/disk/by-id/NAME; numbers of NVMe devices change between boots"`
	// InstanceStore is the number of an instance-store disk, from 1; it is empty after each stop.
	InstanceStore int `yaml:"instanceStore,omitempty" json:"instanceStore,omitempty" jsonschema:"oneof_required=instanceStore,minimum=1,maximum=24"`
	// FileSystem that is on it; it is made when the device is empty, and only then.
	FileSystem string `yaml:"fileSystem,omitempty" json:"fileSystem,omitempty" jsonschema:"enum=ext4,enum=xfs,default=ext4"`
	// MountPoint in the instance.
	MountPoint string `yaml:"mountPoint" json:"mountPoint" jsonschema:"required,pattern=^/[A-Za-z0-9._/-]+$,maxLength=255" hint:"an absolute path of letters, digits, . _ and -"`
	// Options of the mount, beside nodev, nosuid and nofail.
	Options []string `yaml:"options,omitempty" json:"options,omitempty" jsonschema:"enum=noatime,enum=relatime,enum=noexec,enum=ro,enum=discard,enum=nodiratime,enum=lazytime,enum=pquota,enum=usrquota,enum=grpquota"`
	// TimeoutSeconds to wait for the device; 5 to 120, default 30.
	TimeoutSeconds int `yaml:"timeoutSeconds,omitempty" json:"timeoutSeconds,omitempty" jsonschema:"minimum=5,maximum=120,default=30"`
}

// Repository of packages. Every package in it is signed by its key.
type Repository struct {
	// Name of the repository's files.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z][a-z0-9-]*$,maxLength=40" hint:"lower-case letters, digits and hyphens"`
	// URI of the repository.
	URI string `yaml:"uri" json:"uri" jsonschema:"required,pattern=^https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~$/-]*)?$,maxLength=300" hint:"an http or https address without a user, a password or a query"`
	// Suite, for apt only.
	Suite string `yaml:"suite,omitempty" json:"suite,omitempty" jsonschema:"pattern=^[A-Za-z0-9._/-]+$,maxLength=60" hint:"such as bookworm or stable"`
	// Components, for apt only.
	Components []string `yaml:"components,omitempty" json:"components,omitempty" jsonschema:"pattern=^[A-Za-z0-9._/-]+$,maxLength=60" hint:"such as main"`
	// Key that signs, ASCII-armoured; several while the vendor changes its key.
	Key string `yaml:"key" json:"key" jsonschema:"required,maxLength=12000"`
	// Fingerprint of the key, which is verified when the spec is checked and rendered; the first boot takes that very key and no other.
	Fingerprint string `yaml:"fingerprint,omitempty" json:"fingerprint,omitempty" jsonschema:"oneof_required=fingerprint,pattern=^[0-9A-F]{40}$" hint:"40 hexadecimal digits, upper-case and without spaces, in quotes"`
	// Fingerprints of all keys in key, instead of fingerprint, while the vendor changes from one to another.
	Fingerprints []string `yaml:"fingerprints,omitempty" json:"fingerprints,omitempty" jsonschema:"oneof_required=fingerprints,minItems=1,maxItems=5,pattern=^[0-9A-F]{40}$" hint:"40 hexadecimal digits, upper-case and without spaces, in quotes"`
}

// Package to install.
type Package struct {
	// Name of the package.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9+._-]*$,maxLength=100" hint:"the name of a package"`
	// Version to install; default: the newest there is.
	Version string `yaml:"version,omitempty" json:"version,omitempty" jsonschema:"pattern=^[A-Za-z0-9][A-Za-z0-9.+:~^_-]*$,maxLength=100" hint:"a version of the package, in quotes"`
}

// File to write: text by content, anything by contentBase64.
type File struct {
	// Path of the file.
	Path string `yaml:"path" json:"path" jsonschema:"required,pattern=^/[A-Za-z0-9._@/-]+$,maxLength=255" hint:"an absolute path of letters, digits, . _ @ and -"`
	// Mode of the file; default 0644.
	Mode string `yaml:"mode,omitempty" json:"mode,omitempty" jsonschema:"pattern=^0[0-7]{3}$,default=0644" hint:"four octal digits in quotes, the first of them 0"`
	// Owner as user:group; default root:root.
	Owner string `yaml:"owner,omitempty" json:"owner,omitempty" jsonschema:"pattern=^[a-z_][a-z0-9_.-]*:[a-z_][a-z0-9_.-]*$,maxLength=65,default=root:root" hint:"user:group"`
	// Content as text.
	Content string `yaml:"content,omitempty" json:"content,omitempty" jsonschema:"oneof_required=content,maxLength=16384"`
	// ContentBase64 is the content in base64, for what is no text.
	ContentBase64 string `yaml:"contentBase64,omitempty" json:"contentBase64,omitempty" jsonschema:"oneof_required=contentBase64,maxLength=24000"`
}

// Services by systemd unit, in the order enable, disable, start. One that is
// ordered after cloud-init's last stage is started when that has ended.
type Services struct {
	// Enable so that they start at each boot.
	Enable []string `yaml:"enable,omitempty" json:"enable,omitempty" jsonschema:"pattern=^[A-Za-z0-9@._-]+\\.(service|socket|timer|path|target)$,maxLength=100" hint:"a unit's name with its suffix, such as nginx.service"`
	// Disable and stop.
	Disable []string `yaml:"disable,omitempty" json:"disable,omitempty" jsonschema:"pattern=^[A-Za-z0-9@._-]+\\.(service|socket|timer|path|target)$,maxLength=100" hint:"a unit's name with its suffix, such as nginx.service"`
	// Start now.
	Start []string `yaml:"start,omitempty" json:"start,omitempty" jsonschema:"pattern=^[A-Za-z0-9@._-]+\\.(service|socket|timer|path|target)$,maxLength=100" hint:"a unit's name with its suffix, such as nginx.service"`
	// TimeoutSeconds that each unit may take to stop or start; 1 to 3600, default 300.
	TimeoutSeconds int `yaml:"timeoutSeconds,omitempty" json:"timeoutSeconds,omitempty" jsonschema:"minimum=1,maximum=3600,default=300"`
}

// Command to run once: a program with arguments, or a script of bash.
type Command struct {
	// Name of the command, in logs and in result.json.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z0-9]+(-[a-z0-9]+)*$,maxLength=60" hint:"lower-case letters, digits and single hyphens"`
	// Argv is the program with its arguments; no shell reads it.
	Argv []string `yaml:"argv,omitempty" json:"argv,omitempty" jsonschema:"oneof_required=argv,minItems=1,maxItems=100,maxLength=4096"`
	// Script for bash, run under set -euo pipefail.
	Script string `yaml:"script,omitempty" json:"script,omitempty" jsonschema:"oneof_required=script,minLength=1,maxLength=16384"`
	// TimeoutSeconds after which it is killed and counts as failed; 1 to 3600, default 600.
	TimeoutSeconds int `yaml:"timeoutSeconds,omitempty" json:"timeoutSeconds,omitempty" jsonschema:"minimum=1,maximum=3600,default=600"`
}

// Container to run as a service.
type Container struct {
	// Name of the service: unit service@<name>, and its folder below the image's root of services, which is /opt/services unless the recipe renames it.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z][a-z0-9]*(-[a-z0-9]+)*$,maxLength=40" hint:"lower-case letters, digits and single hyphens, beginning with a letter"`
	// Image by digest, from a private registry of ECR that the recipe approves (registries of the component filesystem).
	Image string `yaml:"image" json:"image" jsonschema:"required,maxLength=500"`
	// Env is the container's environment; nothing secret.
	Env map[string]string `yaml:"env,omitempty" json:"env,omitempty"`
	// Ports published, as [ADDRESS:]HOST:CONTAINER[/udp].
	Ports []string `yaml:"ports,omitempty" json:"ports,omitempty" jsonschema:"maxItems=20,pattern=^([0-9]{1\\,3}(\\.[0-9]{1\\,3}){3}:)?[0-9]{1\\,5}:[0-9]{1\\,5}(/(tcp|udp))?$" hint:"such as 8080:80, 127.0.0.1:9000:9000 or 53:53/udp, in quotes"`
	// Health is how the host asks whether the service works.
	Health Health `yaml:"health,omitempty" json:"health,omitempty"`
	// StopGraceSeconds from the request to stop to the kill; default 30.
	StopGraceSeconds int `yaml:"stopGraceSeconds,omitempty" json:"stopGraceSeconds,omitempty" jsonschema:"minimum=1,maximum=600,default=30"`
	// Memory limit, such as 512m or 2g.
	Memory string `yaml:"memory,omitempty" json:"memory,omitempty" jsonschema:"pattern=^[1-9][0-9]*[mg]$,maxLength=10" hint:"a number with m or g, such as 512m"`
	// CPUs limit, such as "0.5" or "2".
	CPUs string `yaml:"cpus,omitempty" json:"cpus,omitempty" jsonschema:"pattern=^([1-9][0-9]{0\\,2}|[0-9]{1\\,3}\\.[0-9]{1\\,2})$" hint:"a number in quotes, such as \"0.5\""`
}

// Health of a container, asked by HTTP.
type Health struct {
	// Port of the container.
	Port int `yaml:"port,omitempty" json:"port,omitempty" jsonschema:"minimum=1,maximum=65535"`
	// Path to get; default /.
	Path string `yaml:"path,omitempty" json:"path,omitempty" jsonschema:"pattern=^/[A-Za-z0-9._~/-]*$,maxLength=200,default=/" hint:"an absolute path without a query"`
	// WaitSeconds that the service may take to become healthy, before it is stopped and has failed; 1 to 600, default 60.
	WaitSeconds int `yaml:"waitSeconds,omitempty" json:"waitSeconds,omitempty" jsonschema:"minimum=1,maximum=600,default=60"`
}

// Proxy for what leaves the instance.
type Proxy struct {
	// HTTP proxy's address.
	HTTP string `yaml:"http,omitempty" json:"http,omitempty" jsonschema:"pattern=^https?://[A-Za-z0-9.-]+(:[0-9]+)?/?$,maxLength=200" hint:"http://HOST:PORT without a user and a password"`
	// HTTPS proxy's address.
	HTTPS string `yaml:"https,omitempty" json:"https,omitempty" jsonschema:"pattern=^https?://[A-Za-z0-9.-]+(:[0-9]+)?/?$,maxLength=200" hint:"http://HOST:PORT without a user and a password"`
	// NoProxy lists hosts, domains and networks reached without; the loopback and the instance's metadata always are.
	NoProxy []string `yaml:"noProxy,omitempty" json:"noProxy,omitempty" jsonschema:"maxItems=100,pattern=^[A-Za-z0-9.*:/-]+$,maxLength=253" hint:"a host, a domain such as .example.com, or a network"`
}

// Agents' parameters, each a mapping of upper-case keys. A secret is named by
// SECRET_ID (Secrets Manager) or SSM_PARAMETER (Parameter Store), and the
// agent's unit reads it by the instance's role.
type Agents struct {
	// NewRelicInfra is New Relic's infrastructure agent.
	NewRelicInfra map[string]string `yaml:"newrelic-infra,omitempty" json:"newrelic-infra,omitempty"`
	// AppDynamics is AppDynamics' machine agent.
	AppDynamics map[string]string `yaml:"appdynamics-machine-agent,omitempty" json:"appdynamics-machine-agent,omitempty"`
	// Chef is Chef Infra's client, or Cinc's.
	Chef map[string]string `yaml:"chef,omitempty" json:"chef,omitempty"`
	// CloudWatch is Amazon's CloudWatch agent.
	CloudWatch map[string]string `yaml:"cloudwatch-agent,omitempty" json:"cloudwatch-agent,omitempty"`
}

// ByName returns the agents that have parameters, by the name of their component.
func (a Agents) ByName() map[string]map[string]string {
	out := map[string]map[string]string{}
	for name, parameters := range map[string]map[string]string{
		"newrelic-infra": a.NewRelicInfra, "appdynamics-machine-agent": a.AppDynamics, "chef": a.Chef, "cloudwatch-agent": a.CloudWatch,
	} {
		if parameters != nil {
			out[name] = parameters
		}
	}
	return out
}

// Bottlerocket's own settings. Credentials of registries are not among them:
// the instance's role pulls from ECR.
type Bottlerocket struct {
	// MOTD is the message of the day.
	MOTD string `yaml:"motd,omitempty" json:"motd,omitempty" jsonschema:"maxLength=2048"`
	// HostContainers that run beside the orchestrator's.
	HostContainers HostContainers `yaml:"hostContainers,omitempty" json:"hostContainers,omitempty"`
	// Kubernetes cluster to join; instead of ecs.
	Kubernetes *Kubernetes `yaml:"kubernetes,omitempty" json:"kubernetes,omitempty"`
	// ECS cluster to join; instead of kubernetes.
	ECS *ECS `yaml:"ecs,omitempty" json:"ecs,omitempty"`
	// KernelLockdown mode.
	KernelLockdown string `yaml:"kernelLockdown,omitempty" json:"kernelLockdown,omitempty" jsonschema:"enum=integrity,enum=confidentiality"`
	// NTP servers, instead of Amazon Time Sync.
	NTP []string `yaml:"ntp,omitempty" json:"ntp,omitempty" jsonschema:"maxItems=10,pattern=^[A-Za-z0-9.:-]+$,maxLength=253" hint:"a host or an address"`
	// RegistryMirrors to pull through.
	RegistryMirrors []RegistryMirror `yaml:"registryMirrors,omitempty" json:"registryMirrors,omitempty" jsonschema:"maxItems=20"`
}

// HostContainers of Bottlerocket.
type HostContainers struct {
	// Admin container, which is root on the host; off by default.
	Admin *bool `yaml:"admin,omitempty" json:"admin,omitempty"`
	// Control container, which is how Session Manager gets in; on by default.
	Control *bool `yaml:"control,omitempty" json:"control,omitempty"`
}

// Kubernetes cluster to join.
type Kubernetes struct {
	// ClusterName of the cluster.
	ClusterName string `yaml:"clusterName" json:"clusterName" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9_-]{0\\,99}$" hint:"the name of an EKS cluster"`
	// APIServer's address.
	APIServer string `yaml:"apiServer" json:"apiServer" jsonschema:"required,pattern=^https://[A-Za-z0-9.-]+(:[0-9]+)?$,maxLength=300" hint:"an https address"`
	// ClusterCertificate is the cluster's certificate authority in base64.
	ClusterCertificate string `yaml:"clusterCertificate" json:"clusterCertificate" jsonschema:"required,minLength=16,maxLength=8000"`
	// NodeLabels of the node.
	NodeLabels map[string]string `yaml:"nodeLabels,omitempty" json:"nodeLabels,omitempty"`
	// NodeTaints of the node: lists of VALUE:EFFECT by key.
	NodeTaints map[string][]string `yaml:"nodeTaints,omitempty" json:"nodeTaints,omitempty"`
}

// EKS is what nodeadm needs to know about the cluster and its node.
type EKS struct {
	// ClusterName of the cluster.
	ClusterName string `yaml:"clusterName" json:"clusterName" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9_-]{0\\,99}$" hint:"the name of an EKS cluster"`
	// APIServer's address.
	APIServer string `yaml:"apiServer" json:"apiServer" jsonschema:"required,pattern=^https://[A-Za-z0-9.-]+(:[0-9]+)?$,maxLength=300" hint:"an https address"`
	// ClusterCertificate is the cluster's certificate authority in base64.
	ClusterCertificate string `yaml:"clusterCertificate" json:"clusterCertificate" jsonschema:"required,minLength=16,maxLength=8000"`
	// ServiceCIDR is the network of the cluster's services, IPv4 or IPv6; nodeadm derives the address of the cluster's DNS from it.
	ServiceCIDR string `yaml:"serviceCIDR" json:"serviceCIDR" jsonschema:"required,pattern=^[0-9a-fA-F.:]+/[0-9]+$,maxLength=50" hint:"a network such as 10.100.0.0/16"`
	// MaxPods of the node; default: nodeadm's, by the instance type.
	MaxPods int `yaml:"maxPods,omitempty" json:"maxPods,omitempty" jsonschema:"minimum=1,maximum=1000"`
	// NodeLabels of the node.
	NodeLabels map[string]string `yaml:"nodeLabels,omitempty" json:"nodeLabels,omitempty"`
	// NodeTaints of the node: lists of VALUE:EFFECT by key.
	NodeTaints map[string][]string `yaml:"nodeTaints,omitempty" json:"nodeTaints,omitempty"`
}

// ECS cluster to join.
type ECS struct {
	// Cluster's name.
	Cluster string `yaml:"cluster" json:"cluster" jsonschema:"required,pattern=^[A-Za-z0-9_-]{1\\,255}$" hint:"the name of an ECS cluster"`
}

// RegistryMirror to pull through.
type RegistryMirror struct {
	// Registry that is mirrored, or * for all.
	Registry string `yaml:"registry" json:"registry" jsonschema:"required,pattern=^([*]|[A-Za-z0-9.-]+(:[0-9]+)?)$,maxLength=253" hint:"a registry's host, or *"`
	// Endpoints to ask, in order.
	Endpoints []string `yaml:"endpoints" json:"endpoints" jsonschema:"required,minItems=1,maxItems=10,pattern=^https://[A-Za-z0-9./:_-]+$,maxLength=300" hint:"an https address"`
}
