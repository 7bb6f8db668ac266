// Package imds serves the EC2 instance metadata service of one instance, which
// its guest reaches at http://169.254.169.254: versions 1 and 2 of the protocol,
// the tree of categories, the instance identity document and the user data.
//
// Sources: "Instance metadata and user data" and "Instance metadata categories"
// of the EC2 user guide.
package imds

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Instance describes the instance of the service. Empty optional fields are
// missing in the tree, as on EC2.
type Instance struct {
	InstanceID       string
	ImageID          string
	InstanceType     string
	Architecture     string // EC2's name; x86_64 if empty
	PrivateIP        string
	MAC              string
	Account          string
	Region           string
	AvailabilityZone string
	Hostname         string // private DNS name; derived from PrivateIP and Region if empty
	PendingTime      time.Time

	AvailabilityZoneID string   // optional, as use1-az1
	ReservationID      string   // optional
	InterfaceID        string   // optional
	SubnetID           string   // optional
	SubnetCIDR         string   // optional
	VPCID              string   // optional
	VPCCIDR            string   // optional
	SecurityGroups     []string // names, optional
	SecurityGroupIDs   []string // optional
	RootDevice         string   // /dev/xvda if empty

	UserData []byte // if empty, GET returns 404
	KeyName  string // of SSHKey; "default" if empty
	SSHKey   string // an OpenSSH public key line; if empty, there is no category public-keys

	// TokensRequired is HttpTokens=required: calls without a session token
	// (version 1) get 401.
	TokensRequired bool
	// Tags are shown under tags/instance if TagsEnabled (InstanceMetadataTags).
	Tags        map[string]string
	TagsEnabled bool

	// Profile is the ARN of the instance profile. If it is empty, there is no
	// category iam.
	Profile   string
	ProfileID string // optional
	Role      string // name of the profile's role
	// Credentials issues credentials of the role. The guest gets its errors in
	// EC2's form, with Code AssumeRoleUnauthorizedAccess.
	Credentials func(ctx context.Context, role string) (aws.Credentials, error)

	// Now returns the time for tokens and documents; time.Now if nil.
	Now func() time.Time
}

// versions of the API that EC2 lists at "/". The tree is the same for all.
func versions() []string {
	return []string{
		"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15",
		"2008-02-01", "2008-09-01", "2009-04-04", "2011-01-01", "2011-05-01",
		"2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19",
		"2016-06-30", "2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24",
		"2019-10-01", "2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15",
		"2022-07-09", "2022-09-24", "latest",
	}
}

// New returns the metadata service of in. Its session tokens are valid for this
// handler only.
func New(in Instance) http.Handler {
	if in.Now == nil {
		in.Now = time.Now
	}
	if in.Architecture == "" {
		in.Architecture = "x86_64"
	}
	if in.RootDevice == "" {
		in.RootDevice = "/dev/xvda"
	}
	if in.KeyName == "" {
		in.KeyName = "default"
	}
	if in.Hostname == "" {
		in.Hostname = privateDNSName(in.PrivateIP, in.Region)
	}
	return &service{instance: in, tree: newTree(in), tokens: newTokens(in.Now), versions: versions()}
}

// privateDNSName returns EC2's IP-based name: in us-east-1 the domain is
// ec2.internal, elsewhere <region>.compute.internal.
func privateDNSName(ip, region string) string {
	domain := region + ".compute.internal"
	if region == "us-east-1" || region == "" {
		domain = "ec2.internal"
	}
	return "ip-" + strings.ReplaceAll(ip, ".", "-") + "." + domain
}

type service struct {
	instance Instance
	tree     tree
	tokens   *tokens
	versions []string
}

// ServeHTTP implements http.Handler.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "EC2ws")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")

	if r.URL.Path == tokenPath {
		s.tokens.serve(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	// A wrong or expired token is refused even if none is required.
	if token := r.Header.Get(tokenHeader); token != "" || s.instance.TokensRequired {
		if !s.tokens.valid(token) {
			refuse(w, http.StatusUnauthorized)
			return
		}
	}
	body, ok := s.get(r.Context(), r.URL.Path)
	if !ok {
		refuse(w, http.StatusNotFound)
		return
	}
	// An error means that the guest has disconnected; the status line is already
	// sent.
	_, _ = w.Write(body)
}

// get returns the content of a path, or false if it does not exist.
func (s *service) get(ctx context.Context, path string) ([]byte, bool) {
	version, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if version == "" {
		return []byte(strings.Join(s.versions, "\n")), true
	}
	if !slices.Contains(s.versions, version) {
		return nil, false
	}
	switch rest {
	case "":
		listing := "dynamic\nmeta-data"
		if len(s.instance.UserData) > 0 {
			listing += "\nuser-data"
		}
		return []byte(listing), true
	case "user-data":
		return s.instance.UserData, len(s.instance.UserData) > 0
	}
	return s.tree.get(ctx, rest)
}

// refuse answers with an error page like that of EC2.
func refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
	"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>%[1]d - %[2]s</title>
 </head>
 <body>
  <h1>%[1]d - %[2]s</h1>
 </body>
</html>
`, status, http.StatusText(status))
}
