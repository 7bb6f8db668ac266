package inventory

import "fmt"

// Simulated is what a simulated guest answers in the words of verify/inventory.sh.
// It describes no system: whoever keeps it labels it.
func Simulated() []byte {
	packages := [][2]string{{"base-files", "12.4"}, {"bash", "5.2.15-2"}, {"libc6", "2.36-9"}, {"openssl", "3.0.15-1"}}
	out := header + "\n" +
		"system\tID\tdebian\nsystem\tVERSION_ID\t12\nsystem\tVERSION_CODENAME\tbookworm\nsystem\tPRETTY_NAME\tsimulated\nsystem\tMACHINE\tsimulated\nsection\tsystem\t0\t5\t\n" +
		"kernel\trunning\tsimulated\nsection\tkernel\t0\t1\t\n"
	for _, p := range packages {
		source := p[0]
		if source == "libc6" {
			source = "glibc"
		}
		out += fmt.Sprintf("deb\tinstalled\t%s\t%s\tamd64\t%s\t%s\n", p[0], p[1], source, p[1])
	}
	out += fmt.Sprintf("section\tdeb\t0\t%d\t\n", len(packages)) +
		"account\tuser\troot\t0\t0\t/root\t/bin/bash\naccount\tpassword\troot\tlocked\nsection\taccount\t0\t2\t\n" +
		"unit\tssh.service\tenabled\nsection\tunit\t0\t1\t\n" +
		"socket\ttcp\t0.0.0.0:22\tsshd\nsection\tsocket\t0\t1\t\n"
	for _, name := range []string{"file", "sysctl", "repository", "key", "pending-apt"} {
		out += "section\t" + name + "\t0\t0\t\n"
	}
	for _, name := range []string{"rpm", "docker", "podman", "containerd"} {
		out += "section\t" + name + "\tabsent\t0\t\n"
	}
	return []byte(out + "end\n")
}
