package provision

import (
	"fmt"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

// direct lists the hosts that an instance reaches without a proxy: itself, EC2's
// link-local services (metadata, time, name servers), the credentials of ECS tasks and
// EKS pods, and EC2's private names:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
// https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
var direct = []string{
	"localhost", "127.0.0.1", "::1",
	"169.254.169.254", "fd00:ec2::254", "169.254.169.123", "fd00:ec2::123", "169.254.169.253", "fd00:ec2::253",
	"169.254.170.2", "169.254.170.23", "fd00:ec2::23",
	".internal",
}

// proxied lists units of images that connect to other hosts and start before the user
// data runs. They must be restarted to get a new environment.
var proxied = []string{
	"containerd.service", "docker.service", "ecs.service", "snapd.service",
	"amazon-ssm-agent.service", "snap.amazon-ssm-agent.amazon-ssm-agent.service",
}

// proxy sets the proxy in the environment of all units, including those that run
// already, in that of the steps of this first boot, and in the settings of the package
// manager.
func (p *plan) proxy() {
	x := p.spec.Proxy
	if x.HTTP == "" && x.HTTPS == "" {
		return
	}
	var pairs []string
	for _, v := range [][2]string{{"http_proxy", x.HTTP}, {"https_proxy", x.HTTPS}, {"no_proxy", noProxy(x)}} {
		if v[1] != "" {
			for _, name := range []string{v[0], strings.ToUpper(v[0])} {
				pairs = append(pairs, fmt.Sprintf("%q", name+"="+v[1]))
				p.environment = append(p.environment, name+"="+quote(v[1]))
			}
		}
	}
	p.write(spec.ProxyOfSystemd, "0644", "[Manager]\nDefaultEnvironment="+strings.Join(pairs, " ")+"\n")
	p.write(spec.ProxyOfDocker, "0644", "[Service]\nEnvironment="+strings.Join(pairs, " ")+"\n")
	p.need("service")
	body := []string{"systemctl daemon-reexec"}
	if p.dnf() {
		// dnf has one setting for both.
		body = append(body,
			"sed -i '/^proxy=/d' /etc/dnf/dnf.conf",
			"sed -i "+quote(`/^\[main\]/a proxy=`+or(x.HTTPS, x.HTTP))+" /etc/dnf/dnf.conf")
	} else {
		var b strings.Builder
		if x.HTTP != "" {
			fmt.Fprintf(&b, "Acquire::http::Proxy %q;\n", x.HTTP)
		}
		if x.HTTPS != "" {
			fmt.Fprintf(&b, "Acquire::https::Proxy %q;\n", x.HTTPS)
		}
		for _, host := range x.NoProxy {
			if !strings.ContainsAny(host, "*/:") && !strings.HasPrefix(host, ".") {
				fmt.Fprintf(&b, "Acquire::http::Proxy::%s \"DIRECT\";\nAcquire::https::Proxy::%s \"DIRECT\";\n", host, host)
			}
		}
		p.write("/etc/apt/apt.conf.d/90userdata-proxy", "0644", b.String())
	}
	body = append(body, "restarted 120 "+strings.Join(proxied, " "))
	p.add("proxy", "take the proxy into use", true, body...)
}

// noProxy returns the value of the variable no_proxy.
func noProxy(x spec.Proxy) string {
	list := append([]string{}, direct...)
	return strings.Join(append(list, x.NoProxy...), ",")
}
