package imds_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2imds "github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/imds"
	"github.com/ami-factory/ami-factory/test/golden"
)

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func instance() imds.Instance {
	return imds.Instance{
		InstanceID: "i-0123456789abcdef0", ImageID: "ami-0123456789abcdef0", InstanceType: "t3.medium",
		PrivateIP: "172.31.16.20", MAC: "0a:ff:d3:00:00:14", Account: "123456789012",
		Region: "eu-central-1", AvailabilityZone: "eu-central-1a", AvailabilityZoneID: "euc1-az2",
		PendingTime: testTime, ReservationID: "r-0123456789abcdef0", InterfaceID: "eni-0123456789abcdef0",
		SubnetID: "subnet-01", SubnetCIDR: "172.31.16.0/20", VPCID: "vpc-01", VPCCIDR: "172.31.0.0/16",
		SecurityGroups: []string{"default"}, SecurityGroupIDs: []string{"sg-01"},
		UserData: []byte("#cloud-config\n"), KeyName: "mine", SSHKey: "ssh-ed25519 AAAA me",
		TokensRequired: true, Tags: map[string]string{"Name": "builder"}, TagsEnabled: true,
		Profile: "arn:aws:iam::123456789012:instance-profile/builder", ProfileID: "AIPA0123456789ABCDEF", Role: "builder",
		Credentials: func(context.Context, string) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret", SessionToken: "session", Expires: testTime.Add(time.Hour)}, nil
		},
		Now: func() time.Time { return testTime },
	}
}

// call sends one request to h; header comes in pairs.
func call(t *testing.T, h http.Handler, method, path string, header ...string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(method, "http://169.254.169.254"+path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	return w.Code, string(body)
}

func token(t *testing.T, h http.Handler, ttl string) string {
	t.Helper()
	status, body := call(t, h, http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", ttl)
	require.Equal(t, http.StatusOK, status, body)
	return body
}

func TestTokenRequests(t *testing.T) {
	const ttl = "X-aws-ec2-metadata-token-ttl-seconds"
	for name, c := range map[string]struct {
		method string
		header []string
		want   int
	}{
		"the shortest life is a second":                  {http.MethodPut, []string{ttl, "1"}, http.StatusOK},
		"the longest life is six hours":                  {http.MethodPut, []string{ttl, "21600"}, http.StatusOK},
		"a life of nothing is refused":                   {http.MethodPut, []string{ttl, "0"}, http.StatusBadRequest},
		"more than six hours is refused":                 {http.MethodPut, []string{ttl, "21601"}, http.StatusBadRequest},
		"a life that is no number is refused":            {http.MethodPut, []string{ttl, "1h"}, http.StatusBadRequest},
		"the header may not be missing":                  {http.MethodPut, nil, http.StatusBadRequest},
		"a token is not had by GET":                      {http.MethodGet, []string{ttl, "60"}, http.StatusMethodNotAllowed},
		"a request that came through a proxy is refused": {http.MethodPut, []string{ttl, "60", "X-Forwarded-For", "10.0.0.1"}, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			status, _ := call(t, imds.New(instance()), c.method, "/latest/api/token", c.header...)
			assert.Equal(t, c.want, status)
		})
	}
}

func TestTokensAreCheckedOnEveryCall(t *testing.T) {
	now := testTime
	in := instance()
	in.Now = func() time.Time { return now }
	required := imds.New(in)
	in.TokensRequired = false
	optional := imds.New(in)
	good := token(t, required, "60")

	for name, c := range map[string]struct {
		handler http.Handler
		token   string
		after   time.Duration
		want    int
	}{
		"version 1 is refused where tokens are required":            {required, "", 0, http.StatusUnauthorized},
		"version 1 is served where tokens are optional":             {optional, "", 0, http.StatusOK},
		"a good token is taken":                                     {required, good, 0, http.StatusOK},
		"a token lives until its end":                               {required, good, 59 * time.Second, http.StatusOK},
		"a token dies at its end":                                   {required, good, 60 * time.Second, http.StatusUnauthorized},
		"another instance's token is refused":                       {optional, good, 0, http.StatusUnauthorized},
		"a made-up token is refused":                                {required, strings.Repeat("A", 54) + "==", 0, http.StatusUnauthorized},
		"a made-up token is refused even where tokens are optional": {optional, "nonsense", 0, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			now = testTime.Add(c.after)
			var header []string
			if c.token != "" {
				header = []string{"X-aws-ec2-metadata-token", c.token}
			}
			status, _ := call(t, c.handler, http.MethodGet, "/latest/meta-data/instance-id", header...)
			assert.Equal(t, c.want, status)
		})
	}
}

func TestPaths(t *testing.T) {
	bare := instance()
	bare.UserData, bare.Profile, bare.SSHKey, bare.TagsEnabled = nil, "", "", false
	failing := instance()
	failing.Credentials = func(context.Context, string) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("no trust policy")
	}
	for name, c := range map[string]struct {
		in         imds.Instance
		method     string
		path       string
		want       int
		body, with string // exact, or contained
	}{
		"cloud-init's newest version":             {in: instance(), path: "/2021-03-23/meta-data/instance-id", want: 200, body: "i-0123456789abcdef0"},
		"cloud-init's middle version":             {in: instance(), path: "/2016-09-02/meta-data/instance-id", want: 200, body: "i-0123456789abcdef0"},
		"cloud-init's oldest version":             {in: instance(), path: "/2009-04-04/meta-data/instance-id", want: 200, body: "i-0123456789abcdef0"},
		"a version that never was":                {in: instance(), path: "/2010-10-10/meta-data/instance-id", want: 404},
		"the root lists the versions":             {in: instance(), path: "/", want: 200, with: "2021-03-23\n"},
		"a version lists its three parts":         {in: instance(), path: "/latest/", want: 200, body: "dynamic\nmeta-data\nuser-data"},
		"without user data it is not listed":      {in: bare, path: "/latest", want: 200, body: "dynamic\nmeta-data"},
		"user data":                               {in: instance(), path: "/latest/user-data", want: 200, body: "#cloud-config\n"},
		"no user data":                            {in: bare, path: "/latest/user-data", want: 404},
		"no profile, no iam":                      {in: bare, path: "/latest/meta-data/iam/info", want: 404},
		"no key, no public-keys":                  {in: bare, path: "/latest/meta-data/public-keys/", want: 404},
		"tags only when enabled":                  {in: bare, path: "/latest/meta-data/tags/instance", want: 404},
		"tags by key":                             {in: instance(), path: "/latest/meta-data/tags/instance/Name", want: 200, body: "builder"},
		"the listing of keys has their names":     {in: instance(), path: "/latest/meta-data/public-keys/", want: 200, body: "0=mine"},
		"a key has one format":                    {in: instance(), path: "/latest/meta-data/public-keys/0/", want: 200, body: "openssh-key"},
		"a key":                                   {in: instance(), path: "/latest/meta-data/public-keys/0/openssh-key", want: 200, body: "ssh-ed25519 AAAA me\n"},
		"a directory without its slash":           {in: instance(), path: "/latest/meta-data/placement", want: 200, body: "availability-zone\navailability-zone-id\nregion"},
		"the role's name":                         {in: instance(), path: "/latest/meta-data/iam/security-credentials/", want: 200, body: "builder"},
		"another role":                            {in: instance(), path: "/latest/meta-data/iam/security-credentials/admin", want: 404},
		"a role that cannot be taken says why":    {in: failing, path: "/latest/meta-data/iam/security-credentials/builder", want: 200, with: "no trust policy"},
		"the signed identity is not served":       {in: instance(), path: "/latest/dynamic/instance-identity/pkcs7", want: 404},
		"the host name is EC2's private DNS name": {in: instance(), path: "/latest/meta-data/local-hostname", want: 200, body: "ip-172-31-16-20.eu-central-1.compute.internal"},
		"nothing can be written":                  {in: instance(), method: http.MethodPost, path: "/latest/meta-data/instance-id", want: 405},
	} {
		t.Run(name, func(t *testing.T) {
			h := imds.New(c.in)
			method := c.method
			if method == "" {
				method = http.MethodGet
			}
			status, body := call(t, h, method, c.path, "X-aws-ec2-metadata-token", token(t, h, "60"))
			assert.Equal(t, c.want, status)
			if c.body != "" {
				assert.Equal(t, c.body, body)
			}
			assert.Contains(t, body, c.with)
		})
	}
}

func TestPrivateNameInNorthVirginiaIsItsOwnDomain(t *testing.T) {
	in := instance()
	in.Region, in.TokensRequired = "us-east-1", false
	_, body := call(t, imds.New(in), http.MethodGet, "/latest/meta-data/hostname")
	assert.Equal(t, "ip-172-31-16-20.ec2.internal", body)
}

// The golden file is the whole tree as a crawler such as cloud-init's sees it.
func TestTreeCrawledFromTheTop(t *testing.T) {
	h := imds.New(instance())
	tok := token(t, h, "60")
	var out strings.Builder
	var crawl func(dir string)
	crawl = func(dir string) {
		status, listing := call(t, h, http.MethodGet, dir, "X-aws-ec2-metadata-token", tok)
		require.Equal(t, http.StatusOK, status, dir)
		for name := range strings.SplitSeq(listing, "\n") {
			if index, _, isKey := strings.Cut(name, "="); isKey {
				name = index + "/"
			}
			if strings.HasSuffix(name, "/") {
				crawl(dir + name)
				continue
			}
			status, body := call(t, h, http.MethodGet, dir+name, "X-aws-ec2-metadata-token", tok)
			require.Equal(t, http.StatusOK, status, dir+name)
			out.WriteString(dir + name + "\n\t" + strings.ReplaceAll(strings.TrimSpace(body), "\n", "\n\t") + "\n")
		}
	}
	crawl("/latest/meta-data/")
	crawl("/latest/dynamic/")

	golden.Testdata(t, "tree.golden", out.String())
}

func TestSDKClient(t *testing.T) {
	in := instance()
	in.Now = time.Now // the client caches tokens by the real time
	srv := httptest.NewServer(imds.New(in))
	defer srv.Close()
	client := ec2imds.New(ec2imds.Options{Endpoint: srv.URL})
	ctx := t.Context()

	region, err := client.GetRegion(ctx, nil)
	require.NoError(t, err)
	assert.Equal(t, "eu-central-1", region.Region)

	doc, err := client.GetInstanceIdentityDocument(ctx, nil)
	require.NoError(t, err)
	assert.Equal(t, "i-0123456789abcdef0", doc.InstanceID)
	assert.Equal(t, "123456789012", doc.AccountID)
	assert.Equal(t, testTime, doc.PendingTime)

	info, err := client.GetIAMInfo(ctx, nil)
	require.NoError(t, err)
	assert.Equal(t, in.Profile, info.InstanceProfileArn)

	data, err := client.GetUserData(ctx, nil)
	require.NoError(t, err)
	userData, err := io.ReadAll(data.Content)
	require.NoError(t, err)
	assert.Equal(t, in.UserData, userData)

	mac, err := client.GetMetadata(ctx, &ec2imds.GetMetadataInput{Path: "network/interfaces/macs/"})
	require.NoError(t, err)
	listing, err := io.ReadAll(mac.Content)
	require.NoError(t, err)
	assert.Equal(t, in.MAC+"/", string(listing))

	_, err = client.GetMetadata(ctx, &ec2imds.GetMetadataInput{Path: "no-such-category"})
	assert.Error(t, err)
}
