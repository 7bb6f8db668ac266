package spec_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

func TestAccountsThatTheImageHasAreRefused(t *testing.T) {
	for sentence, tc := range map[string]struct {
		family, user string
		want         []what
	}{
		"a group of Debian":               {"debian-12", "name: users", []what{{"users, uid", "group users is of debian-12"}}},
		"a group of a package of Debian":  {"debian-13", "name: crontab", []what{{"crontab", "group crontab is of debian-13"}}},
		"a user of Debian":                {"debian-12", "name: www-data", []what{{"www-data", "user www-data belongs to the system: it is of debian-12"}}},
		"a user of Ubuntu":                {"ubuntu-24.04", "name: syslog", []what{{"syslog", "it is of ubuntu-24.04"}}},
		"the same name elsewhere":         {"al2023", "name: syslog", nil},
		"a group of Amazon Linux":         {"al2023", "name: wheel", []what{{"wheel", "group wheel is of al2023"}}},
		"a user of Amazon Linux":          {"al2023", "name: chrony", []what{{"chrony", "it is of al2023"}}},
		"the group of docker":             {"debian-12", "name: docker", []what{{"docker", "group docker is of the component docker"}}},
		"the user of services":            {"debian-12", "name: svc", []what{{"svc", "it is of the component filesystem"}}},
		"the group of the hardening":      {"debian-12", "name: sugroup", []what{{"sugroup", "group sugroup is of the component hardening"}}},
		"an agent's user":                 {"al2023", "name: cwagent", []what{{"cwagent", "it is of the component cloudwatch-agent"}}},
		"the number of services":          {"debian-12", "name: web, system: true, uid: 950", []what{{"950", "uid 950 is of the component filesystem"}}},
		"a number that adduser gives out": {"debian-12", "name: web, system: true, uid: 101", []what{{"101", "may be one of the distribution's own"}}},
		"a number that sysusers give out": {"debian-12", "name: web, system: true, uid: 998", []what{{"998", "may be one of the distribution's own"}}},
		"a number that is free":           {"debian-12", "name: web, system: true, uid: 801", nil},
		"a user of no system":             {"debian-12", "name: alice, uid: 1001", nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			text := "kind: UserData\nname: web\ntarget: cloud-init\nfamily: " + tc.family + "\nusers:\n  - {" + tc.user + "}\n"
			if sentence == "a group of Debian" {
				text = "kind: UserData\nname: web\ntarget: cloud-init\nfamily: " + tc.family + "\nusers:\n  - {name: users, uid: 2001}\n"
			}
			_, problems := parse(t, text)
			found(t, text, problems, tc.want)
		})
	}
}

func TestSysctlsThatNoKernelTakesAreRefused(t *testing.T) {
	for sentence, tc := range map[string]struct {
		setting string
		want    []what
		allowed string
	}{
		"a name with a slip":              {"net.core.somaxcon: 4096", []what{{"net.core.somaxcon", "there is no sysctl net.core.somaxcon; did you mean net.core.somaxconn?"}}, "net.core.somaxconn"},
		"another":                         {"vm.swapiness: 10", []what{{"vm.swapiness", "did you mean vm.swappiness?"}}, "vm.swappiness"},
		"a name below another":            {"net.ipv4.somaxconn: 4096", []what{{"net.ipv4.somaxconn", "did you mean net.core.somaxconn?"}}, "net.core.somaxconn"},
		"a dot for a line":                {"kernel.pid.max: 4194304", []what{{"kernel.pid.max", "did you mean kernel.pid_max"}}, "kernel.pid_max"},
		"with slashes":                    {"vm/swapiness: 10", []what{{"vm/swapiness", "did you mean vm.swappiness?"}}, ""},
		"of an interface":                 {"net.ipv4.conf.eth0.rp_filtr: 1", []what{{"net.ipv4.conf", "did you mean net.ipv4.conf.*.rp_filter?"}}, ""},
		"a name that only a kernel knows": {"net.quux.frobnicate: 1", []what{{"net.quux", "sysctl net.quux.frobnicate is not known here"}}, ""},
		"text for a number":               {"net.core.somaxconn: lots", []what{{"lots", `sysctl net.core.somaxconn takes a whole number from 0 to 2147483647, not "lots"`}}, ""},
		"a number that is too great":      {"vm.swappiness: 500", []what{{"500", "sysctl vm.swappiness takes no 500"}}, "a whole number from 0 to 200"},
		"a number that is too small":      {"vm.page-cluster: -1", []what{{"-1", "takes no -1"}}, "from 0 to 31"},
		"a number with a unit":            {"fs.file-max: 1M", []what{{"1M", "takes a whole number"}}, ""},
		"one number of three":             {"net.ipv4.tcp_rmem: 4096", []what{{"4096", "takes 3 whole numbers"}}, ""},
		"three numbers":                   {"net.ipv4.tcp_rmem: '4096 87380 6291456'", nil, ""},
		"ports that end before they begin": {
			"net.ipv4.ip_local_port_range: '65000 1024'", []what{{"'65000", "begins at 65000, which is after its end 1024"}}, "",
		},
		"a name that is only read":     {"kernel.osrelease: '6.1'", []what{{"'6.1'", "cannot be set"}}, ""},
		"an algorithm that is none":    {"net.ipv4.tcp_congestion_control: bbq", []what{{"bbq", "is not bbq"}}, "bbr"},
		"an algorithm":                 {"net.ipv4.tcp_congestion_control: bbr", nil, ""},
		"a text":                       {"kernel.core_pattern: /var/crash/%e", nil, ""},
		"a hexadecimal number":         {"kernel.sysrq: 0xb0", nil, ""},
		"a number beyond 64 bits":      {"kernel.shmmax: 18446744073692774399", nil, ""},
		"one of a module":              {"net.netfilter.nf_conntrack_max: 262144", nil, ""},
		"one of a module, by its name": {"net.bridge.bridge-nf-call-iptables: 1", nil, ""},
		"one of an interface":          {"net.ipv6.conf.ens5.accept_ra_rt_info_max_plen: 64", nil, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			text := head + "kernel:\n  sysctl:\n    " + tc.setting + "\n"
			_, problems := parse(t, text)
			found(t, text, problems, tc.want)
			if len(problems) > 0 {
				assert.Contains(t, problems[0].Allowed, tc.allowed)
			}
		})
	}
	_, problems := parse(t, head+"kernel: {sysctl: {net.quux.frobnicate: 1}}\n")
	require.Len(t, problems, 1)
	assert.Equal(t, problem.Warning, problems[0].Severity)
}

func TestASysctlOfAModuleThatIsBlockedIsRefused(t *testing.T) {
	text := head + "kernel:\n  modules: {block: [nf_conntrack]}\n  sysctl: {net.netfilter.nf_conntrack_max: 1}\n"
	_, problems := parse(t, text)
	found(t, text, problems, []what{{"net.netfilter", "exists only with the kernel module nf_conntrack, which kernel.modules.block blocks"}})
	s, _ := parse(t, head+"kernel:\n  modules: {load: [nf-conntrack, ip_vs]}\n  sysctl: {net.netfilter.nf_conntrack_max: 1, net.bridge.bridge-nf-call-iptables: 1}\n")
	assert.Equal(t, []string{"nf-conntrack", "ip_vs", "br_netfilter"}, s.ModulesToLoad(), "what brings a sysctl is loaded, and nothing twice")
}
