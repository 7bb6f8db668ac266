// Package spec is the schema of a provisioner's `kind: UserData` document, which describes
// an instance of a golden image after its first boot. Parsing is strict and collects every
// problem with its position, including violations of the golden image's rules.
package spec

import "github.com/ami-factory/ami-factory/pkg/strictyaml"

// Spec describes the first boot of one kind of instance.
type Spec struct {
	// Kind of the document, always UserData.
	Kind string `yaml:"kind" json:"kind" jsonschema:"required,enum=UserData"`
	// Name of this kind of instance, for logs and result.json.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z][a-z0-9]*(-[a-z0-9]+)*$,minLength=3,maxLength=40" hint:"lower-case letters, digits and single hyphens, beginning with a letter"`
	// Target is the default format in which the spec is rendered.
	Target string `yaml:"target" json:"target" jsonschema:"required,enum=cloud-init,enum=bottlerocket"`
	// Family of the image's operating system. It is required for cloud-init; Bottlerocket has none.
	Family string `yaml:"family,omitempty" json:"family,omitempty" jsonschema:"enum=debian-12,enum=debian-13,enum=ubuntu-22.04,enum=ubuntu-24.04,enum=al2023"`
	// Users to create, in addition to the image's default user. None has a password.
	Users []User `yaml:"users,omitempty" json:"users,omitempty" jsonschema:"maxItems=50"`
	// Kernel settings.
	Kernel Kernel `yaml:"kernel,omitempty" json:"kernel,omitempty"`
	// Mounts of file systems. A failed mount is recorded and does not stop the boot.
	Mounts Mounts `yaml:"mounts,omitempty" json:"mounts,omitempty"`
	// Repositories of packages. Each is trusted only with the key of its fingerprint.
	Repositories []Repository `yaml:"repositories,omitempty" json:"repositories,omitempty" jsonschema:"maxItems=20"`
	// Packages to install, by the family's package manager.
	Packages []Package `yaml:"packages,omitempty" json:"packages,omitempty" jsonschema:"maxItems=200"`
	// Files to write.
	Files []File `yaml:"files,omitempty" json:"files,omitempty" jsonschema:"maxItems=100"`
	// Services to enable, disable and start, by their systemd units.
	Services Services `yaml:"services,omitempty" json:"services,omitempty"`
	// Commands to run once, in order. After a failed command no other command runs.
	Commands []Command `yaml:"commands,omitempty" json:"commands,omitempty" jsonschema:"maxItems=50"`
	// Containers to run as services, on the image's template service@.service.
	Containers []Container `yaml:"containers,omitempty" json:"containers,omitempty" jsonschema:"maxItems=20"`
	// Proxy for outgoing connections of systemd's units, the package manager and Docker.
	Proxy Proxy `yaml:"proxy,omitempty" json:"proxy,omitempty"`
	// Timezone, by its name in the tz database, such as Europe/Zurich.
	Timezone string `yaml:"timezone,omitempty" json:"timezone,omitempty" jsonschema:"pattern=^[A-Za-z]+([/_+-][A-Za-z0-9]+)*$,maxLength=60" hint:"a name of the tz database, such as UTC or Europe/Zurich"`
	// Agents' parameters for the first boot, written to /etc/ami-factory/agents/<agent>.env. Secrets are only references.
	Agents Agents `yaml:"agents,omitempty" json:"agents,omitempty"`
	// EKS cluster to join, for images of al2023 with nodeadm, such as EKS's own. The user data then contains a NodeConfig.
	EKS *EKS `yaml:"eks,omitempty" json:"eks,omitempty"`
	// Bottlerocket's own settings.
	Bottlerocket Bottlerocket `yaml:"bottlerocket,omitempty" json:"bottlerocket,omitempty"`

	// doc has the positions of all values in the file.
	doc *strictyaml.Document
}

// User is one account. Users log in with keys or through Session Manager, never with a
// password.
type User struct {
	// Name of the user. sudo would read a name in capitals as an alias.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z_]([a-z0-9_.-]*[a-z0-9_-])?$,maxLength=32" hint:"lower-case letters, digits, _ . and -, beginning with a letter or _, not ending with a dot"`
	// UID of the user. Default: the next free one.
	UID int `yaml:"uid,omitempty" json:"uid,omitempty" jsonschema:"minimum=1,maximum=59999"`
	// Groups of the user, in addition to its own. Missing groups are created.
	Groups []string `yaml:"groups,omitempty" json:"groups,omitempty" jsonschema:"pattern=^[a-z_]([a-z0-9_.-]*[a-z0-9_-])?$,maxLength=32" hint:"the name of a group"`
	// SSHKeys are public keys as in authorized_keys, without options: ed25519, ECDSA, or RSA of 3072 bits and more.
	SSHKeys []string `yaml:"sshKeys,omitempty" json:"sshKeys,omitempty" jsonschema:"maxLength=4096"`
	// Sudo rules of the user. Default: none.
	Sudo []SudoRule `yaml:"sudo,omitempty" json:"sudo,omitempty"`
	// Shell of the user. Default: /bin/bash, or no login for a system user.
	Shell string `yaml:"shell,omitempty" json:"shell,omitempty" jsonschema:"enum=/bin/bash,enum=/bin/sh,enum=/usr/sbin/nologin,enum=/bin/false"`
	// System makes it a system user, which has no home and whose account does not expire.
	System bool `yaml:"system,omitempty" json:"system,omitempty"`
}

// SudoRule lets a user run commands as another.
type SudoRule struct {
	// Rule after the user's name, with NOPASSWD because no user has a password, such as "ALL=(root) NOPASSWD: /usr/bin/systemctl restart web.service".
	Rule string `yaml:"rule" json:"rule" jsonschema:"required,minLength=1,maxLength=500"`
	// Reason for the rule. It is required if the rule allows everything without a password.
	Reason string `yaml:"reason,omitempty" json:"reason,omitempty" jsonschema:"minLength=10,maxLength=300"`
}

// Kernel settings.
type Kernel struct {
	// Sysctl settings by name. Those of the hardening cannot be changed.
	Sysctl map[string]string `yaml:"sysctl,omitempty" json:"sysctl,omitempty"`
	// Modules to load at boot, and to block.
	Modules Modules `yaml:"modules,omitempty" json:"modules,omitempty"`
	// BootArguments of the kernel. At its first boot the instance reboots once if it was started without them.
	BootArguments []string `yaml:"bootArguments,omitempty" json:"bootArguments,omitempty" jsonschema:"maxItems=20,pattern=^[a-z][A-Za-z0-9_.-]*(=[A-Za-z0-9_.\\,:/-]+)?$,maxLength=200" hint:"name or name=value, without spaces and quotes"`
}

// Modules of the kernel.
type Modules struct {
	// Load at every boot.
	Load []string `yaml:"load,omitempty" json:"load,omitempty" jsonschema:"pattern=^[a-z0-9][a-z0-9_-]*$,maxLength=64" hint:"the name of a kernel module"`
	// Block lists modules that cannot be loaded.
	Block []string `yaml:"block,omitempty" json:"block,omitempty" jsonschema:"pattern=^[a-z0-9][a-z0-9_-]*$,maxLength=64" hint:"the name of a kernel module"`
}

// Mounts of file systems.
type Mounts struct {
	// EFS file systems.
	EFS []EFS `yaml:"efs,omitempty" json:"efs,omitempty" jsonschema:"maxItems=20"`
	// Volumes of EBS, by volume, device or label, or of the instance store.
	Volumes []Volume `yaml:"volumes,omitempty" json:"volumes,omitempty" jsonschema:"maxItems=20"`
}

// EFS is one file system of Elastic File System.
type EFS struct {
	// FileSystemID of the file system.
	FileSystemID string `yaml:"fileSystemId" json:"fileSystemId" jsonschema:"required,pattern=^fs-[0-9a-f]{8}([0-9a-f]{9})?$" hint:"fs- and 17 hexadecimal digits"`
	// Path in the file system to mount. Default: /.
	Path string `yaml:"path,omitempty" json:"path,omitempty" jsonschema:"pattern=^/[A-Za-z0-9._/-]*$,maxLength=255,default=/" hint:"an absolute path"`
	// MountPoint in the instance.
	MountPoint string `yaml:"mountPoint" json:"mountPoint" jsonschema:"required,pattern=^/[A-Za-z0-9._/-]+$,maxLength=255" hint:"an absolute path of letters, digits, . _ and -"`
	// AccessPoint to use; only with efs-utils.
	AccessPoint string `yaml:"accessPoint,omitempty" json:"accessPoint,omitempty" jsonschema:"pattern=^fsap-[0-9a-f]{8}([0-9a-f]{9})?$" hint:"fsap- and 17 hexadecimal digits"`
	// Transport: efs-utils encrypts with TLS and can authenticate with the instance's role. nfs4 does neither, and needs only an NFS client.
	Transport string `yaml:"transport,omitempty" json:"transport,omitempty" jsonschema:"enum=efs-utils,enum=nfs4,default=efs-utils"`
	// IAM authentication with the instance's role; only with efs-utils, where the default is true.
	IAM *bool `yaml:"iam,omitempty" json:"iam,omitempty"`
	// Region of the file system. It is required for nfs4, because the server's name contains it.
	Region string `yaml:"region,omitempty" json:"region,omitempty" jsonschema:"pattern=^[a-z]+(-[a-z]+)+-[0-9]+$" hint:"a region's name, such as eu-west-1"`
	// ReadOnly mounts the file system read-only.
	ReadOnly bool `yaml:"readOnly,omitempty" json:"readOnly,omitempty"`
	// Automount on first use instead of at boot.
	Automount bool `yaml:"automount,omitempty" json:"automount,omitempty"`
	// TimeoutSeconds after which the mount counts as failed; 5 to 120, default 30.
	TimeoutSeconds int `yaml:"timeoutSeconds,omitempty" json:"timeoutSeconds,omitempty" jsonschema:"minimum=5,maximum=120,default=30"`
}

// Volume is a file system on a block device. Exactly one of label, volumeId, device and
// instanceStore identifies the device.
type Volume struct {
	// Label of a file system that exists already.
	Label string `yaml:"label,omitempty" json:"label,omitempty" jsonschema:"oneof_required=label,pattern=^[A-Za-z0-9_.-]+$,maxLength=16" hint:"up to 16 letters, digits, _ . and -"`
	// VolumeID of an EBS volume.
	VolumeID string `yaml:"volumeId,omitempty" json:"volumeId,omitempty" jsonschema:"oneof_required=volumeId,pattern=^vol-[0-9a-f]{8}([0-9a-f]{9})?$" hint:"vol- and 17 hexadecimal digits"`
	// Device name with which it was attached, or its path below /dev/disk/by-id.
	Device string `yaml:"device,omitempty" json:"device,omitempty" jsonschema:"oneof_required=device,pattern=^/dev/((sd|xvd)[b-z][a-z]?|disk/by-id/[A-Za-z0-9._-]+)$" hint:"/dev/sdb to /dev/sdz, /dev/xvdb to /dev/xvdzz, or /dev/disk/by-id/NAME; numbers of NVMe devices change between boots"`
	// InstanceStore is the number of an instance-store disk, from 1. The disk is empty after each stop.
	InstanceStore int `yaml:"instanceStore,omitempty" json:"instanceStore,omitempty" jsonschema:"oneof_required=instanceStore,minimum=1,maximum=24"`
	// FileSystem on the device. It is created only if the device is empty.
	FileSystem string `yaml:"fileSystem,omitempty" json:"fileSystem,omitempty" jsonschema:"enum=ext4,enum=xfs,default=ext4"`
	// MountPoint in the instance.
	MountPoint string `yaml:"mountPoint" json:"mountPoint" jsonschema:"required,pattern=^/[A-Za-z0-9._/-]+$,maxLength=255" hint:"an absolute path of letters, digits, . _ and -"`
	// Options of the mount, in addition to nodev, nosuid and nofail.
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
	// Key of the signatures, ASCII-armoured. It may contain several keys while the vendor changes its key.
	Key string `yaml:"key" json:"key" jsonschema:"required,maxLength=12000"`
	// Fingerprint of the key. It is verified when the spec is checked and rendered. The first boot uses only this key.
	Fingerprint string `yaml:"fingerprint,omitempty" json:"fingerprint,omitempty" jsonschema:"oneof_required=fingerprint,pattern=^[0-9A-F]{40}$" hint:"40 hexadecimal digits, upper-case and without spaces, in quotes"`
	// Fingerprints of all keys in key, instead of fingerprint, while the vendor changes its key.
	Fingerprints []string `yaml:"fingerprints,omitempty" json:"fingerprints,omitempty" jsonschema:"oneof_required=fingerprints,minItems=1,maxItems=5,pattern=^[0-9A-F]{40}$" hint:"40 hexadecimal digits, upper-case and without spaces, in quotes"`
}

// Package to install.
type Package struct {
	// Name of the package.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9+._-]*$,maxLength=100" hint:"the name of a package"`
	// Version to install. Default: the newest one.
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
	// ContentBase64 is the content in base64, for binary files.
	ContentBase64 string `yaml:"contentBase64,omitempty" json:"contentBase64,omitempty" jsonschema:"oneof_required=contentBase64,maxLength=24000"`
}

// Services by systemd unit, in the order enable, disable, start. A service that is ordered
// after cloud-init's last stage is started after that stage.
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
	// Argv is the program with its arguments. It is not run by a shell.
	Argv []string `yaml:"argv,omitempty" json:"argv,omitempty" jsonschema:"oneof_required=argv,minItems=1,maxItems=100,maxLength=4096"`
	// Script for bash, run under set -euo pipefail.
	Script string `yaml:"script,omitempty" json:"script,omitempty" jsonschema:"oneof_required=script,minLength=1,maxLength=16384"`
	// TimeoutSeconds after which it is killed and counts as failed; 1 to 3600, default 600.
	TimeoutSeconds int `yaml:"timeoutSeconds,omitempty" json:"timeoutSeconds,omitempty" jsonschema:"minimum=1,maximum=3600,default=600"`
}

// Container to run as a service.
type Container struct {
	// Name of the service. It determines the unit service@<name> and the folder below the image's root of services, which is /opt/services unless the recipe changes it.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z][a-z0-9]*(-[a-z0-9]+)*$,maxLength=40" hint:"lower-case letters, digits and single hyphens, beginning with a letter"`
	// Image by digest, from a private registry of ECR that the recipe approves (registries of the component filesystem).
	Image string `yaml:"image" json:"image" jsonschema:"required,maxLength=500"`
	// Env is the container's environment. It must not contain secrets.
	Env map[string]string `yaml:"env,omitempty" json:"env,omitempty"`
	// Ports published, as [ADDRESS:]HOST:CONTAINER[/udp].
	Ports []string `yaml:"ports,omitempty" json:"ports,omitempty" jsonschema:"maxItems=20,pattern=^([0-9]{1\\,3}(\\.[0-9]{1\\,3}){3}:)?[0-9]{1\\,5}:[0-9]{1\\,5}(/(tcp|udp))?$" hint:"such as 8080:80, 127.0.0.1:9000:9000 or 53:53/udp, in quotes"`
	// Health is the host's check of whether the service works.
	Health Health `yaml:"health,omitempty" json:"health,omitempty"`
	// StopGraceSeconds from the request to stop to the kill; default 30.
	StopGraceSeconds int `yaml:"stopGraceSeconds,omitempty" json:"stopGraceSeconds,omitempty" jsonschema:"minimum=1,maximum=600,default=30"`
	// Memory limit, such as 512m or 2g.
	Memory string `yaml:"memory,omitempty" json:"memory,omitempty" jsonschema:"pattern=^[1-9][0-9]*[mg]$,maxLength=10" hint:"a number with m or g, such as 512m"`
	// CPUs limit, such as "0.5" or "2".
	CPUs string `yaml:"cpus,omitempty" json:"cpus,omitempty" jsonschema:"pattern=^([1-9][0-9]{0\\,2}|[0-9]{1\\,3}\\.[0-9]{1\\,2})$" hint:"a number in quotes, such as \"0.5\""`
}

// Health of a container, checked over HTTP.
type Health struct {
	// Port of the container.
	Port int `yaml:"port,omitempty" json:"port,omitempty" jsonschema:"minimum=1,maximum=65535"`
	// Path to get; default /.
	Path string `yaml:"path,omitempty" json:"path,omitempty" jsonschema:"pattern=^/[A-Za-z0-9._~/-]*$,maxLength=200,default=/" hint:"an absolute path without a query"`
	// WaitSeconds until the service must be healthy. Otherwise it is stopped and counts as failed; 1 to 600, default 60.
	WaitSeconds int `yaml:"waitSeconds,omitempty" json:"waitSeconds,omitempty" jsonschema:"minimum=1,maximum=600,default=60"`
}

// Proxy for outgoing connections of the instance.
type Proxy struct {
	// HTTP proxy's address.
	HTTP string `yaml:"http,omitempty" json:"http,omitempty" jsonschema:"pattern=^https?://[A-Za-z0-9.-]+(:[0-9]+)?/?$,maxLength=200" hint:"http://HOST:PORT without a user and a password"`
	// HTTPS proxy's address.
	HTTPS string `yaml:"https,omitempty" json:"https,omitempty" jsonschema:"pattern=^https?://[A-Za-z0-9.-]+(:[0-9]+)?/?$,maxLength=200" hint:"http://HOST:PORT without a user and a password"`
	// NoProxy lists hosts, domains and networks that are reached without a proxy. The loopback and the instance's metadata never use one.
	NoProxy []string `yaml:"noProxy,omitempty" json:"noProxy,omitempty" jsonschema:"maxItems=100,pattern=^[A-Za-z0-9.*:/-]+$,maxLength=253" hint:"a host, a domain such as .example.com, or a network"`
}

// Agents' parameters. Each is a mapping with upper-case keys. A secret is given by
// SECRET_ID (Secrets Manager) or SSM_PARAMETER (Parameter Store), and the agent's unit reads
// it with the instance's role.
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

// Bottlerocket's own settings. They do not include credentials of registries, because the
// instance's role pulls from ECR.
type Bottlerocket struct {
	// MOTD is the message of the day.
	MOTD string `yaml:"motd,omitempty" json:"motd,omitempty" jsonschema:"maxLength=2048"`
	// HostContainers that run in addition to the orchestrator's containers.
	HostContainers HostContainers `yaml:"hostContainers,omitempty" json:"hostContainers,omitempty"`
	// Kubernetes cluster to join, instead of ecs.
	Kubernetes *Kubernetes `yaml:"kubernetes,omitempty" json:"kubernetes,omitempty"`
	// ECS cluster to join, instead of kubernetes.
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
	// Admin container, which has root access to the host. Default: off.
	Admin *bool `yaml:"admin,omitempty" json:"admin,omitempty"`
	// Control container, through which Session Manager works. Default: on.
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

// EKS is the information about the cluster and the node that nodeadm needs.
type EKS struct {
	// ClusterName of the cluster.
	ClusterName string `yaml:"clusterName" json:"clusterName" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9_-]{0\\,99}$" hint:"the name of an EKS cluster"`
	// APIServer's address.
	APIServer string `yaml:"apiServer" json:"apiServer" jsonschema:"required,pattern=^https://[A-Za-z0-9.-]+(:[0-9]+)?$,maxLength=300" hint:"an https address"`
	// ClusterCertificate is the cluster's certificate authority in base64.
	ClusterCertificate string `yaml:"clusterCertificate" json:"clusterCertificate" jsonschema:"required,minLength=16,maxLength=8000"`
	// ServiceCIDR is the network of the cluster's services, IPv4 or IPv6. nodeadm derives the address of the cluster's DNS from it.
	ServiceCIDR string `yaml:"serviceCIDR" json:"serviceCIDR" jsonschema:"required,pattern=^[0-9a-fA-F.:]+/[0-9]+$,maxLength=50" hint:"a network such as 10.100.0.0/16"`
	// MaxPods of the node. Default: that of nodeadm for the instance type.
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
	// Registry to mirror, or * for all.
	Registry string `yaml:"registry" json:"registry" jsonschema:"required,pattern=^([*]|[A-Za-z0-9.-]+(:[0-9]+)?)$,maxLength=253" hint:"a registry's host, or *"`
	// Endpoints to ask, in order.
	Endpoints []string `yaml:"endpoints" json:"endpoints" jsonschema:"required,minItems=1,maxItems=10,pattern=^https://[A-Za-z0-9./:_-]+$,maxLength=300" hint:"an https address"`
}
