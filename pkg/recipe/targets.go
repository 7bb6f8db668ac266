package recipe

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

var (
	// https://docs.aws.amazon.com/organizations/latest/APIReference/API_Organization.html
	organizationARN = regexp.MustCompile(`^arn:(aws[a-z-]*):organizations::[0-9]{12}:organization/o-[a-z0-9]{10,32}$`)
	unitARN         = regexp.MustCompile(`^arn:(aws[a-z-]*):organizations::[0-9]{12}:ou/o-[a-z0-9]{10,32}/ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}$`)

	keyARN   = regexp.MustCompile(`^arn:(aws[a-z-]*):kms:([a-z0-9-]+):[0-9]{12}:(key/[A-Za-z0-9-]+|alias/[A-Za-z0-9/_-]+)$`)
	keyID    = regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)
	keyAlias = regexp.MustCompile(`^alias/[A-Za-z0-9/_-]{1,250}$`)
)

const (
	keyForms          = "a key id, a key or alias ARN, or alias/<name>"
	organizationForms = "arn:aws:organizations::<account>:organization/o-… or …:ou/o-…/ou-…"
)

func (c *checker) distribution() {
	d := c.recipe.Distribution
	c.regions()
	regions := map[string]int{}
	for i, r := range d.Regions {
		at := fmt.Sprintf("distribution.regions[%d]", i)
		if j, dup := regions[r.Name]; dup && r.Name != "" {
			c.fail(at+".name", "", "region %s is listed twice; the first is distribution.regions[%d]", r.Name, j)
		} else {
			regions[r.Name] = i
		}
		c.key(at+".kmsKey", r.KMSKey, r.Name)
	}
	home, volume := c.recipe.Home(), c.recipe.Builder.RootVolume.KMSKey
	told := c.keyed("builder.rootVolume.kmsKey", volume) && c.keyed("distribution.regions[0].kmsKey", home.KMSKey)
	if told && len(d.Regions) > 0 && home.KMSKey != volume && home.KMSKey != "" {
		c.fail("distribution.regions[0].kmsKey", "the key of builder.rootVolume, or none", "the image is not copied in its home region, so its key is that of builder.rootVolume: %s", orManaged(volume))
	}
	c.distinct("distribution.accounts", "account", d.Accounts)
	c.distinct("distribution.organizations", "organisation or unit", d.Organizations)
	for i, arn := range d.Organizations {
		at := fmt.Sprintf("distribution.organizations[%d]", i)
		m := organizationARN.FindStringSubmatch(arn)
		if m == nil {
			m = unitARN.FindStringSubmatch(arn)
		}
		if m == nil {
			c.fail(at, organizationForms, "%q is not the ARN of an organisation or organisational unit", arn)
			continue
		}
		if here, ok := partition.Of(home.Name); ok && m[1] != here.ID {
			c.fail(at, "an ARN of partition "+here.ID, "%q is of partition %s, but the image is built in %s, which is in %s: images cannot be shared between partitions", arn, m[1], home.Name, here.ID)
		}
	}
}

// regions must exist and be of one partition: an image can neither be copied
// to another one nor shared with it.
func (c *checker) regions() {
	home, _ := partition.Of(c.recipe.Home().Name)
	for i, r := range c.recipe.Distribution.Regions {
		at := fmt.Sprintf("distribution.regions[%d].name", i)
		if !c.recipe.doc.Valid(at) {
			continue
		}
		verdict, message, allowed := partition.Check(r.Name)
		switch verdict {
		case partition.Nowhere:
			c.fail(at, allowed, "%s", message)
			continue
		case partition.Plausible:
			c.warn(at, allowed, "%s", message)
		case partition.Exists:
		}
		if of, _ := partition.Of(r.Name); home.ID != "" && of.ID != home.ID {
			c.fail(at, strings.Join(home.Regions, ", "), "region %s is in partition %s, but the image is built in %s, which is in %s: images cannot be copied between partitions", r.Name, of.ID, c.recipe.Home().Name, home.ID)
		}
	}
}

func (c *checker) distinct(at, noun string, values []string) {
	seen := map[string]int{}
	for i, v := range values {
		if j, dup := seen[v]; dup && v != "" {
			c.fail(fmt.Sprintf("%s[%d]", at, i), "", "%s %s is listed twice; the first is %s[%d]", noun, v, at, j)
			continue
		}
		seen[v] = i
	}
}

// keyed says whether a key is left out or well-formed: what is wrong with it is
// said once.
func (c *checker) keyed(at, key string) bool {
	if !c.recipe.Has(at) {
		return true
	}
	return c.recipe.doc.Valid(at) && (keyARN.MatchString(key) || keyID.MatchString(key) || keyAlias.MatchString(key))
}

// key checks the form of a KMS key, and that an ARN is of the region it is
// used in.
func (c *checker) key(at, key, region string) {
	if key == "" {
		return
	}
	if m := keyARN.FindStringSubmatch(key); m != nil {
		of, known := partition.Of(region)
		switch {
		case region != "" && m[2] != region:
			c.fail(at, "a key of "+region, "the key is of region %s, but is used in %s", m[2], region)
		case known && m[1] != of.ID:
			c.fail(at, "arn:"+of.ID+":kms:"+region+":…", "the key's ARN is of partition %s, but region %s is in %s", m[1], region, of.ID)
		}
		return
	}
	if !keyID.MatchString(key) && !keyAlias.MatchString(key) {
		c.fail(at, keyForms, "%q does not name a KMS key", key)
	}
}

// sharing: an image encrypted under the AWS-managed key cannot be shared, for
// nobody else can be given that key. Every image here is encrypted.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/sharingamis-explicit.html
func (c *checker) sharing() {
	d := c.recipe.Distribution
	var with []string
	if n := len(d.Accounts); n > 0 {
		with = append(with, "accounts")
	}
	if n := len(d.Organizations); n > 0 {
		with = append(with, "organisations")
	}
	if len(with) == 0 {
		return
	}
	who := strings.Join(with, " and ")
	if c.recipe.Has("builder.rootVolume") {
		c.shareable("builder.rootVolume", c.recipe.Builder.RootVolume.KMSKey, "the home region", who)
	}
	for i, r := range d.Regions {
		if i > 0 {
			c.shareable(fmt.Sprintf("distribution.regions[%d]", i), r.KMSKey, r.Name, who)
		}
	}
}

func (c *checker) shareable(at, key, where, who string) {
	const allowed = "the id, ARN or alias of a customer-managed key"
	switch {
	case c.recipe.Has(at+".kmsKey") && !c.recipe.doc.Valid(at+".kmsKey"):
	case key == "":
		c.fail(at, allowed, "%s has no kmsKey: the image is shared with %s, and one encrypted under the AWS-managed key of %s cannot be", at, who, where)
	case IsManagedKey(key):
		c.fail(at+".kmsKey", allowed, "%s is the AWS-managed key: the image is shared with %s, and one encrypted under it in %s cannot be", key, who, where)
	}
}

// IsManagedKey says whether a key is by its name one that AWS manages, which
// cannot be shared.
func IsManagedKey(key string) bool {
	return strings.HasPrefix(key, "alias/aws/") || strings.Contains(key, ":alias/aws/")
}

func orManaged(key string) string {
	if key == "" {
		return "the AWS-managed key"
	}
	return key
}

// pointerAccounts: SSM takes no image id that the parameter's account may not see.
// Which accounts an organisation has is not known here.
func (c *checker) pointerAccounts() {
	d, accounts := c.recipe.Distribution, c.recipe.Pointers.Accounts
	c.distinct("pointers.accounts", "account", accounts)
	if len(d.Organizations) > 0 {
		return
	}
	for i, account := range accounts {
		if account == "" || slices.Contains(d.Accounts, account) {
			continue
		}
		allowed := "one of distribution.accounts: " + strings.Join(d.Accounts, ", ")
		if len(d.Accounts) == 0 {
			allowed = "an account of distribution.accounts, where none is listed"
		}
		c.fail(fmt.Sprintf("pointers.accounts[%d]", i), allowed, "account %s gets a pointer to an image that is not shared with it", account)
	}
}

var parameterName = regexp.MustCompile(`^(/[a-zA-Z0-9_.-]+)+$`)

// pointers checks the names of SSM parameters by AWS's rules.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
func (c *checker) pointers() {
	c.pointerAccounts()
	names := c.recipe.Pointers.Parameters
	c.distinct("pointers.parameters", "parameter", names)
	for i, n := range names {
		at := fmt.Sprintf("pointers.parameters[%d]", i)
		const form = "a path such as /ami-factory/<recipe>/latest of letters, digits and _ . - /"
		first := strings.ToLower(strings.Split(strings.TrimPrefix(n, "/"), "/")[0])
		switch {
		case n == "":
			continue
		case !parameterName.MatchString(n):
			c.fail(at, form, "%q is not the full path of an SSM parameter", n)
		case strings.HasPrefix(first, "aws"), strings.HasPrefix(first, "ssm"):
			c.fail(at, form, "%q begins with aws or ssm, which AWS keeps for itself", n)
		case first != contract.PointerPrefix:
			c.fail(at, form, "%q is not below /%s/, and the factory's functions may write nowhere else", n, contract.PointerPrefix)
		case len(n) > 1011:
			c.fail(at, "at most 1011 characters", "the parameter's name is too long: %d characters", len(n))
		case strings.Count(n, "/") > 15:
			c.fail(at, "at most 15 levels", "the parameter's path has %d levels", strings.Count(n, "/"))
		}
	}
}
