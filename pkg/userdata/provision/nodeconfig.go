package provision

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

// nodeConfigType is the content type of nodeadm's part of the user data:
// https://awslabs.github.io/amazon-eks-ami/nodeadm/
const nodeConfigType = "application/node.eks.aws"

// nodeConfig is nodeadm's document, with the names of
// https://awslabs.github.io/amazon-eks-ami/nodeadm/doc/api/
type nodeConfig struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Spec       struct {
		Cluster struct {
			Name                 string `yaml:"name"`
			APIServerEndpoint    string `yaml:"apiServerEndpoint"`
			CertificateAuthority string `yaml:"certificateAuthority"`
			CIDR                 string `yaml:"cidr"`
		} `yaml:"cluster"`
		Kubelet *nodeKubelet `yaml:"kubelet,omitempty"`
	} `yaml:"spec"`
}

type nodeKubelet struct {
	Config map[string]int `yaml:"config,omitempty"`
	Flags  []string       `yaml:"flags,omitempty"`
}

// renderNodeConfig returns the document for the node of a spec.
func renderNodeConfig(e *spec.EKS) (string, error) {
	c := nodeConfig{APIVersion: "node.eks.aws/v1alpha1", Kind: "NodeConfig"}
	c.Spec.Cluster.Name, c.Spec.Cluster.APIServerEndpoint = e.ClusterName, e.APIServer
	c.Spec.Cluster.CertificateAuthority, c.Spec.Cluster.CIDR = e.ClusterCertificate, e.ServiceCIDR
	var kubelet nodeKubelet
	if e.MaxPods > 0 {
		kubelet.Config = map[string]int{"maxPods": e.MaxPods}
	}
	var labels, taints []string
	for _, key := range slices.Sorted(maps.Keys(e.NodeLabels)) {
		labels = append(labels, key+"="+e.NodeLabels[key])
	}
	for _, key := range slices.Sorted(maps.Keys(e.NodeTaints)) {
		for _, taint := range e.NodeTaints[key] {
			taints = append(taints, key+"="+taint)
		}
	}
	if len(labels) > 0 {
		kubelet.Flags = append(kubelet.Flags, "--node-labels="+strings.Join(labels, ","))
	}
	if len(taints) > 0 {
		kubelet.Flags = append(kubelet.Flags, "--register-with-taints="+strings.Join(taints, ","))
	}
	if kubelet.Config != nil || kubelet.Flags != nil {
		c.Spec.Kubelet = &kubelet
	}
	var b bytes.Buffer
	dump, err := yaml.NewDumper(&b, yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return "", fmt.Errorf("write the NodeConfig: %w", err)
	}
	if err := dump.Dump(c); err != nil {
		return "", fmt.Errorf("write the NodeConfig: %w", err)
	}
	if err := dump.Close(); err != nil {
		return "", fmt.Errorf("write the NodeConfig: %w", err)
	}
	return "---\n" + b.String(), nil
}

// ReadableSizeError reports that user data which must not be compressed is too large.
type ReadableSizeError struct {
	Size, Max int // bytes
}

func (e *ReadableSizeError) Error() string {
	return "the user data would be " + strconv.Itoa(e.Size) + " bytes, but with eks at most " + strconv.Itoa(e.Max) +
		" fit: nodeadm reads it as it is, so it is not compressed; put long files and scripts into the image or into S3, and fetch them by a command"
}
