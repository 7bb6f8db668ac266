package provision

import (
	"fmt"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

// files lets cloud-init write files. cloud-init writes files before it creates users, so
// steps do what needs a user: they set owners, and write files below a home. If such a
// file were written first, the home would belong to root and lack the files of /etc/skel.
func (p *plan) files() {
	reload := false
	for i, f := range p.spec.Files {
		home := strings.HasPrefix(f.Path, "/home/") && strings.Count(f.Path, "/") > 2
		target, mode := f.Path, f.Mode
		if home {
			target, mode = fmt.Sprintf("%s/files/%d", State, i+1), "0600"
		}
		if f.ContentBase64 != "" {
			p.config.WriteFiles = append(p.config.WriteFiles, CloudFile{
				Path: target, Permissions: mode, Encoding: "b64", Content: strings.Join(strings.Fields(f.ContentBase64), ""),
			})
		} else {
			p.write(target, mode, f.Content)
		}
		owner, group, _ := strings.Cut(f.Owner, ":")
		switch {
		case home:
			p.need("file")
			p.add("files", "file "+f.Path, true, strings.Join([]string{"home_file", target, f.Mode, f.Owner, f.Path}, " "))
			p.after(userStep(owner), userStep(group), userStep(strings.Split(f.Path, "/")[2]))
		case f.Owner != spec.DefaultOwner:
			p.need("file")
			p.add("files", "file "+f.Path, true, "owned "+f.Owner+" "+f.Path)
			p.after(userStep(owner), userStep(group))
		}
		// systemd does not know a unit that has just been written.
		reload = reload || strings.HasPrefix(f.Path, "/etc/systemd/system/") || strings.HasPrefix(f.Path, "/usr/local/lib/systemd/system/")
	}
	if reload {
		p.add("files", "read the units that were written", true, "systemctl daemon-reload")
	}
}
