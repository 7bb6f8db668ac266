package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/source"
)

type regionAPI interface {
	DescribeRegions(context.Context, *ec2.DescribeRegionsInput, ...func(*ec2.Options)) (*ec2.DescribeRegionsOutput, error)
}

func checkRegions(ctx context.Context, e *examination) []Finding {
	var out []Finding
	for _, r := range e.opts.Recipes {
		if home := r.Home().Name; home != e.region {
			out = append(out, warning("home region of "+r.Name, "run the doctor with --region "+home+", or make "+e.region+" the first of distribution.regions",
				"the recipe is built in %s, and this factory is in %s: it refuses to build it", home, e.region))
		}
	}
	return append(out, regions(ctx, e.aws.ec2(e.region), e.regions())...)
}

func regions(ctx context.Context, api regionAPI, wanted []string) []Finding {
	looked := "regions " + list(wanted)
	// Those that are not enabled are listed only when all are asked for.
	known, err := api.DescribeRegions(ctx, &ec2.DescribeRegionsInput{AllRegions: aws.Bool(true)})
	if err != nil {
		return []Finding{unread(looked, err)}
	}
	status := map[string]string{}
	for _, r := range known.Regions {
		status[aws.ToString(r.RegionName)] = aws.ToString(r.OptInStatus)
	}
	var out []Finding
	for _, name := range wanted {
		if f, bad := judgeRegion(name, status[name]); bad {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		out = append(out, fine(looked, "all are enabled for the account"))
	}
	return out
}

// judgeRegion goes by a region's opt-in status; empty: AWS does not list it
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Region.html).
func judgeRegion(name, status string) (Finding, bool) {
	looked := "region " + name
	switch status {
	case "opt-in-not-required", "opted-in":
		return Finding{}, false
	case "":
		return problem(looked, "correct distribution.regions of the recipes", "there is no such region for this account"), true
	}
	return problem(looked, "aws account enable-region --region-name "+name+" (takes minutes to hours), or take it out of distribution.regions",
		"it is %s: every copy to it fails, and nothing is published", status), true
}

func checkSources(ctx context.Context, e *examination) []Finding {
	var out []Finding
	images, parameters := e.aws.ec2(e.region), e.aws.ssm()
	pointers := map[string]string{}
	for _, r := range e.opts.Recipes {
		for _, p := range r.Pointers.Parameters {
			pointers[p] = r.Name
		}
	}
	for _, r := range e.home() {
		out = append(out, baseImage(ctx, source.Resolver{Images: images, Parameters: parameters}, r, pointers))
	}
	return out
}

// baseImage resolves a recipe's source as an execution does. pointers are the
// parameters that recipes write, and the recipe of each.
func baseImage(ctx context.Context, resolver source.Resolver, r Recipe, pointers map[string]string) Finding {
	from := r.Source.Parameter
	if from == "" {
		from = "newest image of owner " + r.Source.Owner + " that matches the filters"
	}
	looked := fmt.Sprintf("source of %s: %s", r.Name, from)
	image, err := resolver.Resolve(ctx, source.Request{Source: r.Source, Architecture: r.Architecture})
	if err == nil {
		return fine(looked, "%s (%s), of the owner that the recipe wants", image.ImageID, image.Name)
	}
	var failed *failure.Error
	if !errors.As(err, &failed) {
		return unread(looked, err)
	}
	said := awserr.Brief(err)
	switch failed.Code {
	case failure.SourceOwnerMismatch:
		return problem(looked, "find out whose image it is before anything is built on it; then correct source.owner", "%s", said)
	case failure.SourceNotFound:
		if other := pointers[r.Source.Parameter]; other != "" {
			return warning(looked, "ami-factory build "+other, "recipe %s writes it, and has not been published here yet", other)
		}
		return problem(looked, "correct source of the recipe; list what there is: aws ssm get-parameters-by-path --recursive --path /aws/service/...", "%s", said)
	}
	return unread(looked, err)
}

type offeringAPI interface {
	ec2.DescribeInstanceTypeOfferingsAPIClient
}

func checkInstanceTypes(ctx context.Context, e *examination) []Finding {
	var out []Finding
	api := e.aws.ec2(e.region)
	g := grouped(e.home(), func(r Recipe) string {
		return strings.Join(r.Builder.InstanceTypes, ", ") + "|" + strings.Join(r.Builder.SubnetIDs, ",")
	})
	for _, key := range g.keys {
		recipes := g.of[key]
		wanted := recipes[0].Builder.InstanceTypes
		looked := fmt.Sprintf("%s (%s)", list(wanted), names(recipes))
		place := e.place(ctx, recipes[0].Builder.SubnetIDs)
		if place.err != nil {
			out = append(out, notChecked(looked, "the subnets could not be read, so their zones are not known: see subnets"))
			continue
		}
		out = append(out, instanceTypes(ctx, api, looked, wanted, place.zones()))
	}
	return out
}

func instanceTypes(ctx context.Context, api offeringAPI, looked string, wanted, zones []string) Finding {
	offered := map[string][]string{}
	pages := ec2.NewDescribeInstanceTypeOfferingsPaginator(api, &ec2.DescribeInstanceTypeOfferingsInput{
		LocationType: types.LocationTypeAvailabilityZone, Filters: []types.Filter{{Name: aws.String("instance-type"), Values: wanted}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return unread(looked, err)
		}
		for _, o := range page.InstanceTypeOfferings {
			offered[string(o.InstanceType)] = append(offered[string(o.InstanceType)], aws.ToString(o.Location))
		}
	}
	return judgeTypes(looked, wanted, zones, offered)
}

// judgeTypes: a build needs one of the types in one of the zones; each that is
// nowhere is one fewer to fall back on when capacity is short.
func judgeTypes(looked string, wanted, zones []string, offered map[string][]string) Finding {
	var nowhere []string
	for _, t := range wanted {
		if !slices.ContainsFunc(offered[t], func(zone string) bool { return slices.Contains(zones, zone) }) {
			nowhere = append(nowhere, t)
		}
	}
	const fix = "name types in builder.instanceTypes that the zones have (aws ec2 describe-instance-type-offerings --location-type availability-zone), or subnets in other zones"
	switch {
	case len(zones) == 0:
		return notChecked(looked, "there are no subnets, so no zones: see subnets")
	case len(nowhere) == len(wanted):
		return problem(looked, fix, "none of them is offered in %s: no builder can start", list(zones))
	case len(nowhere) > 0:
		return warning(looked, fix, "%s: not offered in %s; builds have only the others to fall back on", list(nowhere), list(zones))
	}
	return fine(looked, "offered in the zones of the subnets, %s", list(zones))
}
