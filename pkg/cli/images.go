package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// imageAPI is what the commands about images need of EC2.
type imageAPI interface {
	ec2.DescribeImagesAPIClient
	DescribeRegions(context.Context, *ec2.DescribeRegionsInput, ...func(*ec2.Options)) (*ec2.DescribeRegionsOutput, error)
	DescribeImageAttribute(context.Context, *ec2.DescribeImageAttributeInput, ...func(*ec2.Options)) (*ec2.DescribeImageAttributeOutput, error)
}

// image is an image as the commands print it.
type image struct {
	ImageID     string            `json:"imageId"`
	Region      string            `json:"region"`
	Guests      string            `json:"guests,omitempty"` // what it was baked in: vm, container or simulated
	Name        string            `json:"name"`
	State       string            `json:"state"`
	Created     string            `json:"created"`
	Recipe      string            `json:"recipe,omitempty"`
	Fingerprint string            `json:"fingerprint,omitempty"`
	SnapshotIDs []string          `json:"snapshotIds"`
	SizeGiB     int32             `json:"sizeGiB"`
	Encrypted   bool              `json:"encrypted"`
	ImdsSupport string            `json:"imdsSupport,omitempty"`
	Deprecation string            `json:"deprecationTime,omitempty"`
	SharedWith  []string          `json:"sharedWith,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
}

func (a *app) images() *cobra.Command {
	var l local
	var region string
	list := &cobra.Command{
		Use: "list", Short: "List the factory's images",
		Example: "  ami-factory images list\n  ami-factory images list --guests container --region eu-central-1 --output json",
		Args:    takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withImages(c, l, region, func(apis []imageAPI, guests string) error {
				return a.listImages(c.Context(), apis, region, guests)
			})
		},
	}
	show := &cobra.Command{
		Use: "show IMAGE", Short: "Show one image: sharing, snapshots and tags",
		Example: "  ami-factory images show ami-0123456789abcdef0",
		Args:    takes("one IMAGE"),
		RunE: func(c *cobra.Command, given []string) error {
			if err := checkImageID(given[0]); err != nil {
				return err
			}
			return a.withImages(c, l, region, func(apis []imageAPI, guests string) error {
				return a.showImage(c.Context(), apis, region, given[0], guests)
			})
		},
	}
	export := &cobra.Command{
		Use: "export IMAGE FILE", Short: "Write an image's disk as a qcow2 file that any QEMU boots",
		Example: "  ami-factory images export ami-0123456789abcdef0 disk.qcow2\n" +
			"  qemu-system-x86_64 -m 2048 -nographic -drive file=disk.qcow2,if=virtio",
		Args: takes("one IMAGE", "the qcow2 FILE to write"),
		RunE: func(c *cobra.Command, given []string) error {
			file := given[1]
			if err := checkImageID(given[0]); err != nil {
				return err
			}
			return a.withStates(c.Context(), l, func(states []*rehearsal.Factory) error {
				of, found, err := find(c.Context(), imagesOf(states), region, given[0])
				if err != nil {
					return err
				}
				if err := states[of].Export(c.Context(), found.Region, found.ImageID, file); err != nil {
					return err
				}
				if a.format == "json" {
					return a.json(map[string]string{"imageId": found.ImageID, "region": found.Region, "file": file})
				}
				_, err = fmt.Fprintln(a.out, file)
				return err
			})
		},
	}
	show.ValidArgsFunction = once(a.imagesOf(&l))
	export.ValidArgsFunction = func(c *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(given) == 1 {
			return nil, cobra.ShellCompDirectiveDefault // a file
		}
		return once(a.imagesOf(&l))(c, given, begun)
	}
	for _, c := range []*cobra.Command{list, show, export} {
		l.registerState(c)
		c.Flags().StringVar(&region, "region", "", "look in this region only")
	}
	return group(&cobra.Command{
		Use:   "images",
		Short: "List, show and export what was baked",
		Long: `List, show and export images of the embedded AWS, read from its state folder. It
need not run.

If the environment names an AWS endpoint (AWS_ENDPOINT_URL), a profile or
credentials, list and show read the images of that AWS instead, and say so on
stderr. With --state or --guests they read the state folder all the same.`,
		Example: `  ami-factory images list
  ami-factory images show ami-0123456789abcdef0
  ami-factory images export ami-0123456789abcdef0 disk.qcow2`,
	}, list, show, export)
}

// withStates does something with the states of the guests, one for each home region.
func (a *app) withStates(ctx context.Context, l local, do func([]*rehearsal.Factory) error) (err error) {
	opts, err := a.options(l)
	if err != nil {
		return err
	}
	homes := rehearsal.Homes(l.state, opts.Guests)
	if len(homes) == 0 {
		homes = []string{opts.Region} // Inspect says that it is missing
	}
	var states []*rehearsal.Factory
	defer func() {
		for _, f := range states {
			err = errors.Join(err, f.Close(ctx))
		}
	}()
	for _, home := range homes {
		opts.Region = home
		f, err := rehearsal.Inspect(ctx, opts)
		if err != nil {
			return err
		}
		states = append(states, f)
	}
	return do(states)
}

// withState does something with one state: that of the home region of the flags, or
// the only one, or that of most recipes.
func (a *app) withState(ctx context.Context, l local, do func(*rehearsal.Factory) error) (err error) {
	opts, err := a.options(l)
	if err != nil {
		return err
	}
	if homes := rehearsal.Homes(l.state, opts.Guests); l.region == "" && len(homes) == 1 {
		opts.Region = homes[0]
	}
	f, err := rehearsal.Inspect(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(ctx)) }()
	return do(f)
}

// imagesOf are the images of states.
func imagesOf(states []*rehearsal.Factory) []imageAPI {
	var out []imageAPI
	for _, f := range states {
		out = append(out, f.Cloud.EC2)
	}
	return out
}

// withImages does something with the embedded AWS's images, and what its guests
// are, or with those of the AWS that the environment names, where only AWS's own
// answers are known.
func (a *app) withImages(c *cobra.Command, l local, region string, do func(apis []imageAPI, guests string) error) error {
	if region != "" {
		if err := checkRegion("--region", region); err != nil {
			return err
		}
	}
	named := namesAWS()
	if named == "" || c.Flags().Changed("state") || c.Flags().Changed("guests") {
		return a.withStates(c.Context(), l, func(states []*rehearsal.Factory) error { return do(imagesOf(states), l.guests) })
	}
	cfg, err := awsConfig(c.Context(), region)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(a.err, "images of %s, because of %s; --state FOLDER shows those of a state folder\n", whichAWS(), named)
	return do([]imageAPI{ec2.NewFromConfig(cfg)}, "")
}

func (a *app) listImages(ctx context.Context, apis []imageAPI, region, guests string) error {
	found, err := allImages(ctx, apis, region)
	if err != nil {
		return err
	}
	for i := range found {
		found[i].Guests = guests
	}
	if a.format == "json" {
		return a.json(found)
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(a.err, "no images; bake one with `ami-factory bake`")
		return err
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "IMAGE\tREGION\tGUESTS\tSTATE\tCREATED\tRECIPE\tFINGERPRINT\tNAME")
	for _, i := range found {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.12s\t%s\n", i.ImageID, i.Region, cmp.Or(i.Guests, "-"), i.State, i.Created, i.Recipe, i.Fingerprint, i.Name)
	}
	return w.Flush()
}

func (a *app) showImage(ctx context.Context, apis []imageAPI, region, id, guests string) error {
	of, found, err := find(ctx, apis, region, id)
	if err != nil {
		return err
	}
	found.Guests = guests
	out, err := apis[of].DescribeImageAttribute(ctx, &ec2.DescribeImageAttributeInput{
		ImageId: &id, Attribute: types.ImageAttributeNameLaunchPermission,
	}, inRegion(found.Region))
	if err != nil {
		return err
	}
	for _, p := range out.LaunchPermissions {
		found.SharedWith = append(found.SharedWith, cmp.Or(aws.ToString(p.UserId), aws.ToString(p.OrganizationArn),
			aws.ToString(p.OrganizationalUnitArn), string(p.Group)))
	}
	if a.format == "json" {
		return a.json(found)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"image", found.ImageID}, {"region", found.Region}, {"guests", found.Guests}, {"name", found.Name}, {"state", found.State}, {"created", found.Created},
		{"size", fmt.Sprintf("%d GiB, encrypted: %t", found.SizeGiB, found.Encrypted)}, {"IMDS", found.ImdsSupport},
		{"snapshots", strings.Join(found.SnapshotIDs, ", ")}, {"deprecated", found.Deprecation},
		{"shared with", strings.Join(found.SharedWith, ", ")},
	} {
		if row[1] != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
		}
	}
	keys := make([]string, 0, len(found.Tags))
	for k := range found.Tags {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		_, _ = fmt.Fprintf(w, "tag %s\t%s\n", k, found.Tags[k])
	}
	return w.Flush()
}

var imageID = regexp.MustCompile(`^ami-[0-9a-f]{8,17}$`)

func checkImageID(id string) error {
	if !imageID.MatchString(id) {
		return usage("%q is not an AMI id such as ami-0123456789abcdef0; `ami-factory images list` lists the images", id)
	}
	return nil
}

func inRegion(region string) func(*ec2.Options) { return func(o *ec2.Options) { o.Region = region } }

// ownImages lists the account's images in one region, or in all, newest first.
func ownImages(ctx context.Context, api imageAPI, region string) ([]image, error) {
	regions := []string{region}
	if region == "" {
		out, err := api.DescribeRegions(ctx, &ec2.DescribeRegionsInput{})
		if err != nil {
			return nil, err
		}
		regions = nil
		for _, r := range out.Regions {
			regions = append(regions, aws.ToString(r.RegionName))
		}
	}
	found := []image{}
	for _, region := range regions {
		pages := ec2.NewDescribeImagesPaginator(api, &ec2.DescribeImagesInput{Owners: []string{"self"}})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx, inRegion(region))
			if err != nil {
				return nil, fmt.Errorf("images in %s: %w", region, err)
			}
			for _, i := range page.Images {
				found = append(found, describe(region, i))
			}
		}
	}
	sortImages(found)
	return found, nil
}

// sortImages puts the newest first.
func sortImages(found []image) {
	slices.SortFunc(found, func(a, b image) int {
		return cmp.Or(cmp.Compare(b.Created, a.Created), cmp.Compare(a.Region, b.Region), cmp.Compare(a.ImageID, b.ImageID))
	})
}

// allImages lists the images of several accounts or states.
func allImages(ctx context.Context, apis []imageAPI, region string) ([]image, error) {
	all := []image{}
	for _, api := range apis {
		found, err := ownImages(ctx, api, region)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	sortImages(all)
	return all, nil
}

// errNoImage is in the chain of find's error when the account has no such image.
var errNoImage = errors.New("there is no image")

// find finds an image, and says which of the APIs has it.
func find(ctx context.Context, apis []imageAPI, region, id string) (int, image, error) {
	for n, api := range apis {
		found, err := ownImages(ctx, api, region)
		if err != nil && !awserr.IsNotFound(err) {
			return 0, image{}, err
		}
		for _, i := range found {
			if i.ImageID == id {
				return n, i, nil
			}
		}
	}
	return 0, image{}, fmt.Errorf("%w %s; `ami-factory images list` lists the images", errNoImage, id)
}

func describe(region string, i types.Image) image {
	out := image{
		ImageID: aws.ToString(i.ImageId), Region: region, Name: aws.ToString(i.Name), State: string(i.State),
		Created: aws.ToString(i.CreationDate), SnapshotIDs: ami.Snapshots(i), ImdsSupport: string(i.ImdsSupport),
		Deprecation: aws.ToString(i.DeprecationTime), Tags: map[string]string{},
	}
	for _, t := range i.Tags {
		out.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	out.Recipe, out.Fingerprint = out.Tags[contract.TagRecipe], out.Tags[contract.TagFingerprint]
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs != nil {
			out.SizeGiB += aws.ToInt32(m.Ebs.VolumeSize)
			out.Encrypted = out.Encrypted || aws.ToBool(m.Ebs.Encrypted)
		}
	}
	return out
}
