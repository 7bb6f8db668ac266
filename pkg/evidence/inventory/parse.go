package inventory

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// Bounds of what a guest sends. 900 packages with all else take 250 KB, 80 KB packed.
const (
	MaxPacked   = 8 << 20
	maxUnpacked = 64 << 20
	maxLine     = 2 << 20
	maxField    = 4096
	maxFacts    = 200_000
	maxKeyFile  = 1 << 20
)

// header is the first line of an answer.
const header = "ami-factory-inventory\t1"

// Unpack reads a guest's answer, packed by gzip.
func Unpack(packed []byte) (Inventory, error) {
	if len(packed) > MaxPacked {
		return Inventory{}, fmt.Errorf("the inventory has %d bytes, %d are allowed", len(packed), MaxPacked)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return Inventory{}, fmt.Errorf("unpack the inventory: %w", err)
	}
	return Parse(z)
}

// Parse reads what verify/inventory.sh prints. An error means that nothing of the
// answer is to be used: it is cut off, too large, or not an inventory.
func Parse(in io.Reader) (Inventory, error) {
	p := parser{sections: map[string]section{}, counted: map[string]int{}, files: map[string][]string{}, passwords: map[string]string{}}
	bounded := &io.LimitedReader{R: in, N: maxUnpacked + 1}
	lines := bufio.NewScanner(bounded)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	number := 0
	for lines.Scan() {
		number++
		line := lines.Text()
		if number == 1 {
			if line != header {
				return Inventory{}, fmt.Errorf("line 1 of the inventory is %q, not %q", plaintext.Clip(plaintext.Clean(line), 100), header)
			}
			continue
		}
		if p.ended {
			return Inventory{}, fmt.Errorf("line %d of the inventory follows its end", number)
		}
		if number > maxFacts {
			return Inventory{}, fmt.Errorf("the inventory has more than %d lines", maxFacts)
		}
		if err := p.line(line); err != nil {
			return Inventory{}, fmt.Errorf("line %d of the inventory: %w", number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return Inventory{}, fmt.Errorf("read the inventory after line %d: %w", number, err)
	}
	if bounded.N <= 0 {
		return Inventory{}, fmt.Errorf("the inventory unpacks to more than %d bytes", maxUnpacked)
	}
	return p.finish()
}

type section struct {
	status string
	lines  int
	errors string
}

type parser struct {
	out       Inventory
	ended     bool
	sections  map[string]section
	counted   map[string]int
	files     map[string][]string // lines of files of repositories
	passwords map[string]string
	raw       [][]string
}

// kinds are the sections of an answer, each with the least number of fields of its
// lines.
func kinds() map[string]int {
	return map[string]int{
		"system": 2, "kernel": 2, "deb": 6, "rpm": 5, "file": 5, "unit": 2, "socket": 1, "account": 3, "sysctl": 2, "repository": 2,
		"key": 2, "docker": 4, "podman": 4, "containerd": 4, "pending-apt": 4, "pending-dnf": 4,
	}
}

// clean neutralises and bounds one field.
func clean(s string) string {
	s = strings.ReplaceAll(plaintext.Clean(s), "\n", " ")
	return plaintext.Clip(strings.TrimSpace(s), maxField)
}

func (p *parser) line(line string) error {
	if line == "end" {
		p.ended = true
		return nil
	}
	kind, rest, _ := strings.Cut(line, "\t")
	if kind == "section" {
		return p.section(strings.Split(rest, "\t"))
	}
	least, known := kinds()[kind]
	if !known {
		return fmt.Errorf("%q is no kind of fact", plaintext.Clip(clean(kind), 60))
	}
	if _, again := p.sections[kind]; again {
		return fmt.Errorf("a fact of kind %s follows the end of its section", kind)
	}
	p.counted[kind]++
	if kind == "key" {
		return p.key(rest)
	}
	fields := strings.Split(rest, "\t")
	for i := range fields {
		fields[i] = clean(fields[i])
	}
	if len(fields) < least {
		return fmt.Errorf("a fact of kind %s has %d fields, not %d", kind, len(fields), least)
	}
	return p.fact(kind, fields)
}

func (p *parser) section(f []string) error {
	if len(f) < 3 {
		return errors.New("the end of a section has too few fields")
	}
	name := f[0]
	if _, known := kinds()[name]; !known {
		return fmt.Errorf("%q is no section", plaintext.Clip(clean(name), 60))
	}
	if _, again := p.sections[name]; again {
		return fmt.Errorf("the section %s ends twice", name)
	}
	n, err := strconv.Atoi(f[2])
	if err != nil || n != p.counted[name] {
		return fmt.Errorf("the section %s has %d lines, it says %q", name, p.counted[name], plaintext.Clip(clean(f[2]), 20))
	}
	s := section{status: clean(f[1]), lines: n}
	if len(f) > 3 {
		s.errors = clean(f[3])
	}
	if _, err := strconv.Atoi(s.status); err != nil && s.status != "absent" {
		return fmt.Errorf("the section %s has the status %q", name, plaintext.Clip(s.status, 20))
	}
	p.sections[name] = s
	return nil
}

func (p *parser) fact(kind string, f []string) error {
	v := &p.out
	switch kind {
	case "system":
		switch f[0] {
		case "ID":
			v.System.ID = strings.ToLower(f[1])
		case "VERSION_ID":
			v.System.Version = f[1]
		case "VERSION_CODENAME":
			v.System.Codename = f[1]
		case "PRETTY_NAME":
			v.System.Name = f[1]
		case "MACHINE":
			v.System.Machine = f[1]
		}
	case "kernel":
		switch f[0] {
		case "running":
			v.Kernel.Running = f[1]
		case "installed":
			v.Kernel.Installed = append(v.Kernel.Installed, f[1])
		case "default":
			v.Kernel.Default = f[1]
		}
	case "deb":
		if f[0] == "config-files" || f[0] == "not-installed" {
			return nil
		}
		name, _, _ := strings.Cut(f[1], ":")
		return p.add(Package{Type: Deb, Name: name, Version: f[2], Arch: f[3], Source: f[4], SourceVersion: f[5]})
	case "rpm":
		if f[0] == "gpg-pubkey" { // a key, which is listed as one
			return nil
		}
		epoch := f[1]
		if epoch == "0" || epoch == "(none)" {
			epoch = ""
		}
		source, version := sourceRPM(f[4], f[0], f[2])
		return p.add(Package{Type: RPM, Name: f[0], Epoch: epoch, Version: f[2], Arch: f[3], Source: source, SourceVersion: version})
	case "file":
		owner := f[3]
		if owner == "-" {
			owner = ""
		}
		v.Files = append(v.Files, File{Mode: f[0], Owner: f[1], Group: f[2], Package: owner, Path: strings.Join(f[4:], "?")})
	case "unit":
		v.Units = append(v.Units, Unit{Name: f[0], State: f[1]})
	case "socket":
		p.raw = append(p.raw, f)
	case "account":
		return p.account(f)
	case "sysctl":
		v.Sysctls = append(v.Sysctls, Sysctl{Name: f[0], Value: f[1]})
	case "repository":
		p.files[f[0]] = append(p.files[f[0]], f[1])
	case "docker", "podman", "containerd":
		v.Images = append(v.Images, Image{Engine: kind, Repository: f[0], Tag: unnamed(f[1]), Digest: unnamed(f[2]), ID: f[3]})
	case "pending-apt":
		v.Pending.Updates = append(v.Pending.Updates, Update{Package: f[0], Installed: f[1], Version: f[2], Origin: f[3]})
	case "pending-dnf":
		v.Pending.Updates = append(v.Pending.Updates, Update{Package: nameOfRPM(f[0]), Installed: f[1], Version: f[0], Origin: f[2], Severity: f[3]})
	}
	return nil
}

func unnamed(s string) string {
	if s == "<none>" {
		return ""
	}
	return s
}

func (p *parser) add(x Package) error {
	if x.Name == "" || x.Version == "" || x.Arch == "" || strings.ContainsAny(x.Name+x.Version+x.Arch, " <>") {
		return fmt.Errorf("%q is no installed package", plaintext.Clip(x.Name+" "+x.Version+" "+x.Arch, 100))
	}
	if x.Source == "" {
		x.Source, x.SourceVersion = x.Name, x.Version
	}
	p.out.Packages = append(p.out.Packages, x)
	return nil
}

// sourceRPM takes the name of a source package apart: bash-5.2.15-1.amzn2023.src.rpm.
// A package that names none is its own.
func sourceRPM(file, name, version string) (string, string) {
	base, ok := strings.CutSuffix(file, ".src.rpm")
	if !ok {
		if base, ok = strings.CutSuffix(file, ".nosrc.rpm"); !ok {
			return name, version
		}
	}
	release := strings.LastIndexByte(base, '-')
	if release < 0 {
		return name, version
	}
	upstream := strings.LastIndexByte(base[:release], '-')
	if upstream <= 0 {
		return name, version
	}
	return base[:upstream], base[upstream+1:]
}

// nameOfRPM is the name in NAME-VERSION-RELEASE.ARCH.
func nameOfRPM(nevra string) string {
	name := nevra
	for range 2 {
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
	}
	return name
}

func (p *parser) account(f []string) error {
	switch {
	case f[0] == "user" && len(f) >= 6:
		p.out.Users = append(p.out.Users, User{Name: f[1], UID: f[2], GID: f[3], Home: f[4], Shell: f[5]})
	case f[0] == "group" && len(f) >= 4:
		members := strings.Split(f[3], ",")
		slices.Sort(members)
		p.out.Groups = append(p.out.Groups, Group{Name: f[1], GID: f[2], Members: slices.Compact(members)})
	case f[0] == "password":
		p.passwords[f[1]] = f[2]
	default:
		return fmt.Errorf("%q is no fact of an account", plaintext.Clip(strings.Join(f, " "), 100))
	}
	return nil
}

func (p *parser) key(rest string) error {
	file, text, _ := strings.Cut(rest, "\t")
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) > maxKeyFile {
		return fmt.Errorf("the key file %q cannot be decoded", plaintext.Clip(clean(file), 100))
	}
	sum := sha256.Sum256(raw)
	p.out.Keys = append(p.out.Keys, Key{File: clean(file), SHA256: hex.EncodeToString(sum[:]), Fingerprints: fingerprints(raw)})
	return nil
}

// fingerprints returns those of the primary keys in a file, sorted. What cannot be
// read gives none; the digest of the file still shows a change.
func fingerprints(raw []byte) []string {
	found := map[string]bool{}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("-----BEGIN")) {
		in := bufio.NewReader(bytes.NewReader(raw))
		for {
			block, err := armor.Decode(in)
			if err != nil {
				break
			}
			primaryKeys(block.Body, found)
		}
	} else {
		primaryKeys(bytes.NewReader(raw), found)
	}
	out := slices.AppendSeq([]string{}, maps.Keys(found))
	slices.Sort(out)
	return out
}

func primaryKeys(in io.Reader, found map[string]bool) {
	packets := packet.NewReader(in)
	for {
		next, err := packets.Next()
		var unsupported pgperrors.UnsupportedError
		if errors.As(err, &unsupported) {
			continue
		}
		if err != nil {
			return
		}
		if key, ok := next.(*packet.PublicKey); ok && !key.IsSubkey {
			found[strings.ToUpper(hex.EncodeToString(key.Fingerprint))] = true
		}
	}
}

// finish checks that the answer is complete, and joins what belongs together.
func (p *parser) finish() (Inventory, error) {
	v := p.out
	if !p.ended {
		return Inventory{}, errors.New("the inventory is cut off: it has no end")
	}
	for _, name := range slices.Sorted(maps.Keys(kinds())) {
		s, ok := p.sections[name]
		pending := strings.HasPrefix(name, "pending-")
		switch {
		case pending && !ok:
		case !ok:
			return Inventory{}, fmt.Errorf("the inventory has no section %s", name)
		case s.status == "0":
		case pending && s.status == "absent":
			v.Pending.Unknown = "the guest has no package manager that knows security updates"
		case pending:
			v.Pending.Unknown = strings.TrimSpace(fmt.Sprintf("exit code %s: %s", s.status, s.errors))
		case s.status == "absent" && (name == "unit" || name == "socket"):
			v.Incomplete = append(v.Incomplete, name+": the program for it is not installed")
		case s.status == "absent":
		case name == "deb" || name == "rpm" || name == "system":
			return Inventory{}, fmt.Errorf("the section %s failed with exit code %s: %s", name, s.status, s.errors)
		default:
			v.Incomplete = append(v.Incomplete, strings.TrimSpace(fmt.Sprintf("%s: exit code %s: %s", name, s.status, s.errors)))
		}
	}
	_, apt := p.sections["pending-apt"]
	_, dnf := p.sections["pending-dnf"]
	if !apt && !dnf {
		return Inventory{}, errors.New("the inventory has no section of pending security updates")
	}
	if v.System.ID == "" {
		return Inventory{}, errors.New("the inventory does not name the distribution")
	}
	if len(v.Packages) == 0 {
		return Inventory{}, errors.New("the inventory names no package")
	}
	for i := range v.Users {
		v.Users[i].Password = p.passwords[v.Users[i].Name]
	}
	if err := p.sockets(&v); err != nil {
		return Inventory{}, err
	}
	for _, file := range slices.Sorted(maps.Keys(p.files)) {
		v.Repositories = append(v.Repositories, repositories(file, p.files[file])...)
	}
	return v.sorted(), nil
}

// sockets reads the lines of ss(8). The last line has the range of ports that the
// kernel picks.
func (p *parser) sockets(v *Inventory) error {
	low, high := 32768, 60999 // Linux's own
	for _, f := range p.raw {
		if len(f) == 2 {
			a, errA := strconv.Atoi(f[0])
			b, errB := strconv.Atoi(f[1])
			if errA != nil || errB != nil {
				return fmt.Errorf("%q is no range of ports", plaintext.Clip(strings.Join(f, " "), 60))
			}
			low, high = a, b
		}
	}
	for _, f := range p.raw {
		if len(f) != 3 {
			continue
		}
		i := strings.LastIndexByte(f[1], ':')
		if i < 0 {
			return fmt.Errorf("%q is no address of a socket", plaintext.Clip(f[1], 60))
		}
		s := Socket{Protocol: f[0], Address: scope(f[1][:i]), Port: f[1][i+1:], Process: f[2]}
		if n, err := strconv.Atoi(s.Port); err != nil {
			return fmt.Errorf("%q is no address of a socket", plaintext.Clip(f[1], 60))
		} else if n >= low && n <= high && (s.Protocol == "udp" || s.Address == "loopback") {
			// A client's, or that of a server which tells its own clients the port, as
			// containerd does with its streaming server: it changes with every boot.
			s.Port = "ephemeral"
		}
		if s.Process == "-" {
			s.Process = ""
		}
		v.Sockets = append(v.Sockets, s)
	}
	return nil
}

// scope says who reaches an address: other is one of the guest's own.
func scope(address string) string {
	address, _, _ = strings.Cut(strings.Trim(address, "[]"), "%")
	if address == "*" {
		return "any"
	}
	ip := net.ParseIP(strings.Trim(address, "[]"))
	switch {
	case ip == nil:
		return "other"
	case ip.IsUnspecified():
		return "any"
	case ip.IsLoopback():
		return "loopback"
	}
	return "other"
}
