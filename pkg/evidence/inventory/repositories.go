package inventory

import "strings"

// repositories reads a file that names repositories: the formats of sources.list(5),
// both of them, and of yum.conf(5).
func repositories(file string, lines []string) []Repository {
	switch {
	case strings.HasSuffix(file, ".repo"):
		return yumRepositories(file, lines)
	case strings.HasSuffix(file, ".sources"):
		return deb822Repositories(file, lines)
	}
	return listRepositories(file, lines)
}

func listRepositories(file string, lines []string) []Repository {
	var out []Repository
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "deb" {
			continue
		}
		r := Repository{File: file, Enabled: true}
		fields = fields[1:]
		if strings.HasPrefix(fields[0], "[") {
			var options []string
			for len(fields) > 0 {
				options = append(options, strings.Trim(fields[0], "[]"))
				end := strings.HasSuffix(fields[0], "]")
				fields = fields[1:]
				if end {
					break
				}
			}
			for _, o := range options {
				name, value, _ := strings.Cut(o, "=")
				r.option(name, value)
			}
		}
		if len(fields) < 2 {
			continue
		}
		r.URI, r.Suites, r.Parts = fields[0], fields[1], strings.Join(fields[2:], " ")
		out = append(out, r)
	}
	return out
}

// option reads what decides whose signature is needed.
func (r *Repository) option(name, value string) {
	switch strings.ToLower(name) {
	case "signed-by":
		r.Keys = strings.TrimSpace(r.Keys + " " + value)
	case "trusted", "allow-insecure", "allow-weak", "allow-downgrade-to-insecure":
		if on(value) {
			r.Keys = strings.TrimSpace(r.Keys + " [" + strings.ToLower(name) + "]")
		}
	}
}

func on(value string) bool {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "yes", "true", "1", "on", "enable":
		return true
	}
	return false
}

func deb822Repositories(file string, lines []string) []Repository {
	var out []Repository
	current, types, some := Repository{File: file, Enabled: true}, "", false
	flush := func() {
		if some && strings.Contains(" "+types+" ", " deb ") {
			out = append(out, current)
		}
		current, types, some = Repository{File: file, Enabled: true}, "", false
	}
	for _, line := range lines {
		if strings.TrimSpace(line) == "" {
			flush()
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.Join(strings.Fields(value), " ")
		if !ok || strings.HasPrefix(line, " ") {
			continue
		}
		some = true
		switch strings.ToLower(name) {
		case "types":
			types = value
		case "uris":
			current.URI = value
		case "suites":
			current.Suites = value
		case "components":
			current.Parts = value
		case "enabled":
			current.Enabled = on(value)
		default:
			if strings.EqualFold(name, "Signed-By") && value == "" {
				value = "[in the file]"
			}
			current.option(name, value)
		}
	}
	flush()
	return out
}

func yumRepositories(file string, lines []string) []Repository {
	var out []Repository
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			out = append(out, Repository{File: file, Name: strings.Trim(line, "[]"), Enabled: true})
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || len(out) == 0 {
			continue
		}
		r, value := &out[len(out)-1], strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "baseurl", "mirrorlist", "metalink":
			r.URI = strings.TrimSpace(r.URI + " " + value)
		case "enabled":
			r.Enabled = on(value)
		case "gpgkey":
			r.Keys = strings.TrimSpace(r.Keys + " " + value)
		case "gpgcheck", "repo_gpgcheck":
			if !on(value) && strings.TrimSpace(name) == "gpgcheck" {
				r.Keys = strings.TrimSpace(r.Keys + " [unsigned]")
			}
		}
	}
	return out
}
