package standin

import (
	"bytes"
	"strings"
)

// SSMAgent is the vendor name of the stand-in for the bucket with the SSM agent.
const SSMAgent = "ssm-agent"

// ssmAgent has the layout of AWS's package for Debian; see
// Tools/src/create_deb.sh and packaging/ubuntu of the repository
// aws/amazon-ssm-agent.
func ssmAgent() product {
	return product{
		vendor: SSMAgent, name: "amazon-ssm-agent", versions: []string{"3.2.2303.0", "3.3.4851.0", "3.3.5226.0"},
		description: "Amazon SSM Agent",
		scripts:     serviceScripts("amazon-ssm-agent.service", ""),
		files: map[string]file{
			"/usr/bin/amazon-ssm-agent":                    program("amazon-ssm-agent"),
			"/lib/systemd/system/amazon-ssm-agent.service": text("amazon-ssm-agent.service"),
			"/etc/amazon/ssm/README.md":                    {content: "A stand-in, not Amazon's.\n", mode: 0o644},
			"/var/lib/amazon/ssm/.standin":                 {mode: 0o644},
		},
	}
}

// OldPackage is the fault of a bucket that has an old package, with its valid
// signature, in the place of a newer one.
const OldPackage Fault = "old package"

// fromBucket returns a file of the bucket, which has AWS's layout
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/verify-agent-signature.html):
// <version>/<debian_amd64 or debian_arm64>/amazon-ssm-agent.deb, and its
// detached signature with .sig.
func (c *content) fromBucket(parts []string) ([]byte, error) {
	if len(parts) != 3 || parts[1] != "debian_amd64" && parts[1] != "debian_arm64" {
		return nil, nil
	}
	version := parts[0]
	if c.fault == OldPackage {
		version = c.vendor.Versions[0]
	}
	data := c.pool[c.vendor.Package+"_"+version+"_all.deb"]
	file, signature := strings.CutSuffix(parts[2], ".sig")
	switch {
	case data == nil || file != c.vendor.Package+".deb":
		return nil, nil
	case !signature:
		return data, nil
	}
	if c.fault == TamperedPackage {
		data = c.untouched[c.vendor.Package+"_"+version+"_all.deb"]
	}
	if c.fault == BadSignature {
		data = bytes.ToUpper(data)
	}
	return c.signer.detachedSign(data, c.signed)
}
