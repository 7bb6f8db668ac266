package spec

import (
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

// kubeletLabels lists the labels below kubernetes.io and k8s.io that a kubelet may set on
// its own node, and kubeletNamespaces the domains in which it may choose labels. The
// kubelet does not start with any other one in --node-labels:
// https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
var (
	kubeletLabels = []string{
		"beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type", "beta.kubernetes.io/os",
		"failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
		"kubernetes.io/arch", "kubernetes.io/hostname", "kubernetes.io/os", "node.kubernetes.io/instance-type",
		"topology.kubernetes.io/region", "topology.kubernetes.io/zone",
	}
	kubeletNamespaces = []string{"kubelet.kubernetes.io", "node.kubernetes.io"}
)

// inDomain reports whether a name is a domain or below it.
func inDomain(name, domain string) bool { return name == domain || strings.HasSuffix(name, "."+domain) }

// kubeletLabel refuses a label with which the kubelet would not start.
func (c *checker) kubeletLabel(at, key string) {
	namespace, _, found := strings.Cut(key, "/")
	below := func(domain string) bool { return inDomain(namespace, domain) }
	if !found || !slices.ContainsFunc([]string{"kubernetes.io", "k8s.io"}, below) ||
		slices.Contains(kubeletLabels, key) || slices.ContainsFunc(kubeletNamespaces, below) {
		return
	}
	allowed := "a domain of your own, such as example.com/NAME; node.kubernetes.io/NAME; kubelet.kubernetes.io/NAME; " + strings.Join(kubeletLabels, ", ")
	if near := problem.Nearest(key, kubeletLabels); near != "" {
		allowed = near + "; " + allowed
	}
	c.keyFail(at, allowed, "the kubelet refuses label %s and does not start: a node may not give itself this label of %s (admission plugin NodeRestriction)", key, namespace)
}
