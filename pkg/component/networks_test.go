package component_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ami-factory/ami-factory/pkg/component"
)

func TestParametersThatAreNetworks(t *testing.T) {
	for sentence, tc := range map[string]struct {
		kind, value string
		want        string // the message; empty: it is taken
	}{
		"a bridge":                             {"cidr", "172.26.0.1/24", ""},
		"none":                                 {"cidr", "", ""},
		"an address without a network":         {"cidr", "172.26.0.1", `"172.26.0.1" is not an IPv4 address with a prefix length`},
		"an invalid address":                   {"cidr", "172.26.0.256/24", `"172.26.0.256/24" is not an IPv4 address with a prefix length`},
		"IPv6":                                 {"cidr", "fd00::1/64", `"fd00::1/64" is not an IPv4 address with a prefix length`},
		"leading zeros":                        {"cidr", "172.026.0.1/24", `"172.026.0.1/24" is not an IPv4 address with a prefix length`},
		"the network of the metadata service":  {"cidr", "169.254.169.1/24", "169.254.169.1/24 overlaps the link-local addresses of EC2's services (169.254.0.0/16)"},
		"a network around the metadata":        {"cidr", "168.0.0.1/7", "168.0.0.1/7 overlaps the link-local addresses of EC2's services (169.254.0.0/16)"},
		"two pools":                            {"pools", "10.210.0.0/16:24 10.211.0.0/16:26", ""},
		"no pools":                             {"pools", "", ""},
		"a pool without a size":                {"pools", "10.210.0.0/16", `"10.210.0.0/16" has no size of its networks`},
		"an invalid size":                      {"pools", "10.210.0.0/16:024", `"10.210.0.0/16:024" has no size of its networks`},
		"networks larger than their pool":      {"pools", "10.210.0.0/16:8", `"10.210.0.0/16:8" has networks of /8, which a pool of /16 cannot have`},
		"networks without room for containers": {"pools", "10.210.0.0/16:31", `"10.210.0.0/16:31" has networks of /31, which a pool of /16 cannot have`},
		"a base in the middle":                 {"pools", "10.210.1.0/16:24", "10.210.1.0/16 is not the first address of its network, 10.210.0.0/16"},
		"pools that overlap":                   {"pools", "10.0.0.0/8:24 10.210.0.0/16:24", "the pools 10.0.0.0/8 and 10.210.0.0/16 overlap"},
		"a pool around the metadata":           {"pools", "169.254.0.0/16:24", "169.254.0.0/16 overlaps the link-local addresses of EC2's services (169.254.0.0/16)"},
	} {
		t.Run(sentence, func(t *testing.T) {
			message, allowed := component.Parameter{Type: tc.kind}.Refuse(tc.value)
			assert.Equal(t, tc.want, message)
			assert.Equal(t, tc.want != "", strings.Contains(allowed, "such as "), "what is allowed is said to whom something is refused")
		})
	}
}
