package spec

import "github.com/ami-factory/ami-factory/pkg/problem"

// The formats in which a spec can be rendered.
const (
	CloudInit       = "cloud-init"
	BottlerocketFmt = "bottlerocket"
)

// Unfit lists the fields of the spec that a format does not support, so that none is
// silently ignored.
func (s *Spec) Unfit(format string) problem.List {
	var problems problem.List
	// refuse reports the problem at the key, because the value may be long.
	refuse := func(at, allowed, why string) {
		if s.Has(at) {
			problems = append(problems, s.doc.KeyProblem(at, allowed, "%s", why))
		}
	}
	switch format {
	case CloudInit:
		refuse("bottlerocket", "target: bottlerocket", "cloud-init does not read bottlerocket's settings")
		if !s.Has("family") && s.Target == BottlerocketFmt {
			problems = append(problems, s.Problem("target", "a family, and target cloud-init", "the spec has no family, which cloud-init's format needs: package managers differ"))
		}
	case BottlerocketFmt:
		const own = "a container, or another image"
		refuse("users", own, "Bottlerocket has no users: Session Manager gets in by the control container")
		refuse("mounts.efs", "a volume of the pod or task", "Bottlerocket mounts no file systems of EFS on the host")
		refuse("mounts.volumes", "a volume of the pod or task", "Bottlerocket mounts no volumes on the host but its own data volume")
		refuse("repositories", own, "Bottlerocket has no package manager")
		refuse("packages", own, "Bottlerocket has no package manager")
		refuse("files", own, "Bottlerocket's file system is read-only")
		refuse("services", own, "Bottlerocket's services are its own")
		refuse("commands", own, "Bottlerocket has no shell")
		refuse("containers", "a pod or task of the cluster", "Bottlerocket runs containers for its orchestrator only")
		refuse("timezone", "no timezone", "Bottlerocket's time zone is UTC")
		refuse("eks", "bottlerocket.kubernetes", "Bottlerocket has no nodeadm")
		refuse("agents", "a pod or task of the cluster", "agents are not part of Bottlerocket")
		if p := s.Proxy; p.HTTP != "" && p.HTTP != p.HTTPS {
			refuse("proxy.http", "the same as proxy.https, or nothing", "Bottlerocket has one proxy, that of https")
		}
	}
	return problems
}
