package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

type quotaAPI interface {
	GetServiceQuota(context.Context, *servicequotas.GetServiceQuotaInput, ...func(*servicequotas.Options)) (*servicequotas.GetServiceQuotaOutput, error)
	GetAWSDefaultServiceQuota(context.Context, *servicequotas.GetAWSDefaultServiceQuotaInput, ...func(*servicequotas.Options)) (*servicequotas.GetAWSDefaultServiceQuotaOutput, error)
}

type usageAPI interface {
	ec2.DescribeInstancesAPIClient
	ec2.DescribeInstanceTypesAPIClient
	ec2.DescribeImagesAPIClient
	ec2.DescribeSnapshotsAPIClient
}

// quota is one of Service Quotas, and what it bounds.
type quota struct{ service, code, of string }

var (
	onDemand    = quota{"ec2", "L-1216C47A", "vCPUs of running On-Demand Standard instances"}
	imageQuota  = quota{"ec2", "L-B665C33B", "AMIs"}
	snapshots   = quota{"ebs", "L-309BACF6", "snapshots"}
	concurrency = quota{"lambda", "L-B99A9384", "concurrent executions of Lambda functions"}
)

func (q quota) looked(region string) string { return q.of + " in " + region }

func (q quota) fix(region string, want int) string {
	return fmt.Sprintf("aws service-quotas request-service-quota-increase --region %s --service-code %s --quota-code %s --desired-value %d", region, q.service, q.code, want)
}

// value is what the account has of a quota; where nothing was ever changed, AWS
// may answer the default only.
func (q quota) value(ctx context.Context, api quotaAPI) (int, error) {
	out, err := api.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: &q.service, QuotaCode: &q.code})
	if err == nil && out.Quota != nil {
		return int(aws.ToFloat64(out.Quota.Value)), nil
	}
	if err != nil && !awserr.Is(err, "NoSuchResourceException") {
		return 0, err
	}
	byDefault, err := api.GetAWSDefaultServiceQuota(ctx, &servicequotas.GetAWSDefaultServiceQuotaInput{ServiceCode: &q.service, QuotaCode: &q.code})
	if err != nil || byDefault.Quota == nil {
		return 0, err
	}
	return int(aws.ToFloat64(byDefault.Quota.Value)), nil
}

func checkQuotas(ctx context.Context, e *examination) []Finding {
	home := e.home()
	out := []Finding{
		vcpus(ctx, e.aws.quotas(e.region), e.aws.ec2(e.region), e.region, home),
		functionsAtOnce(ctx, e.aws.quotas(e.region), e.region, home),
	}
	for _, region := range e.regions() {
		out = append(out, kept(ctx, e.aws.quotas(region), e.aws.ec2(region), region, home)...)
	}
	return out
}

// vcpus compares what runs, and what executions will start, with the quota.
func vcpus(ctx context.Context, api quotaAPI, usage usageAPI, region string, recipes []Recipe) Finding {
	looked := onDemand.looked(region)
	limit, err := onDemand.value(ctx, api)
	if err != nil {
		return unread(looked, err)
	}
	running, err := runningTypes(ctx, usage)
	if err != nil {
		return unread(looked, err)
	}
	var asked []string
	for _, r := range recipes {
		asked = append(asked, r.Builder.InstanceTypes...)
	}
	asked = slices.DeleteFunc(asked, func(t string) bool { return !standard(t) })
	size, err := sizes(ctx, usage, append(slices.Clone(running), asked...))
	if err != nil {
		return unread(looked, err)
	}
	used, largest := 0, 0
	for _, t := range running {
		used += size[t]
	}
	for _, t := range asked {
		largest = max(largest, size[t])
	}
	return judgeVCPUs(looked, region, limit, used, largest)
}

// judgeVCPUs: an execution has one running instance at a time, the builder or
// the verifier, of any type that its recipe lists.
func judgeVCPUs(looked, region string, limit, used, largest int) Finding {
	many := decide.DefaultLimits().MaxRunning
	want := used + many*largest
	switch {
	case largest == 0:
		return notChecked(looked, "no recipe launches a type that this quota bounds")
	case used+largest > limit:
		return problem(looked, onDemand.fix(region, want), "%d, of which %d are in use, and the largest type of the recipes takes %d: it cannot start", limit, used, largest)
	case want > limit:
		return warning(looked, onDemand.fix(region, want), "%d, of which %d are in use: too few for %d executions at a time of up to %d vCPUs each", limit, used, many, largest)
	}
	return fine(looked, "%d, %d in use; %d executions at a time take up to %d", limit, used, many, many*largest)
}

// standard says whether a type counts against the quota of Standard instances:
// those of families A, C, D, H, I, M, R, T and Z
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-on-demand-instances.html).
func standard(instanceType string) bool {
	for _, other := range []string{"dl", "hpc", "inf", "mac", "trn"} {
		if strings.HasPrefix(instanceType, other) {
			return false
		}
	}
	return instanceType != "" && strings.Contains("acdhimrtz", instanceType[:1])
}

func runningTypes(ctx context.Context, api ec2.DescribeInstancesAPIClient) ([]string, error) {
	var out []string
	pages := ec2.NewDescribeInstancesPaginator(api, &ec2.DescribeInstancesInput{
		Filters: []types.Filter{{Name: aws.String("instance-state-name"), Values: []string{"pending", "running"}}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Reservations {
			for _, i := range r.Instances {
				if standard(string(i.InstanceType)) && i.InstanceLifecycle == "" { // neither Spot nor scheduled
					out = append(out, string(i.InstanceType))
				}
			}
		}
	}
	return out, nil
}

// sizes are the vCPUs of types, which the quota counts as they are by default.
func sizes(ctx context.Context, api ec2.DescribeInstanceTypesAPIClient, names []string) (map[string]int, error) {
	out := map[string]int{}
	slices.Sort(names)
	names = slices.Compact(names)
	for len(names) > 0 {
		some := names[:min(len(names), 100)] // as many as a call takes
		names = names[len(some):]
		in := &ec2.DescribeInstanceTypesInput{Filters: []types.Filter{{Name: aws.String("instance-type"), Values: some}}}
		for pages := ec2.NewDescribeInstanceTypesPaginator(api, in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, t := range page.InstanceTypes {
				if t.VCpuInfo != nil {
					out[string(t.InstanceType)] = int(aws.ToInt32(t.VCpuInfo.DefaultVCpus))
				}
			}
		}
	}
	return out, nil
}

// functionsAtOnce: an execution invokes one function at a time, and one for each
// region while it distributes; the three triggers come on top.
func functionsAtOnce(ctx context.Context, api quotaAPI, region string, recipes []Recipe) Finding {
	looked := concurrency.looked(region)
	limit, err := concurrency.value(ctx, api)
	if err != nil {
		return unread(looked, err)
	}
	regions := 1
	for _, r := range recipes {
		regions = max(regions, len(r.Distribution.Regions))
	}
	return judgeConcurrency(looked, region, limit, decide.DefaultLimits().MaxRunning*min(regions, 10)+3)
}

func judgeConcurrency(looked, region string, limit, need int) Finding {
	if need > limit {
		return warning(looked, concurrency.fix(region, max(1000, need)), "%d for the whole account, and the factory alone may want %d: invocations are throttled and retried", limit, need)
	}
	return fine(looked, "%d for the whole account; the factory wants %d at most", limit, need)
}

// kept compares images and snapshots with their quotas in a region.
func kept(ctx context.Context, api quotaAPI, usage usageAPI, region string, recipes []Recipe) []Finding {
	need := 0
	for _, r := range recipes {
		for _, to := range r.Distribution.Regions {
			if to.Name == region {
				need += r.Retention.Keep + 1
			}
		}
	}
	var out []Finding
	for _, q := range []struct {
		quota
		count func(context.Context, usageAPI) (int, error)
	}{{imageQuota, countImages}, {snapshots, countSnapshots}} {
		limit, err := q.value(ctx, api)
		used := 0
		if err == nil {
			used, err = q.count(ctx, usage)
		}
		if err != nil {
			out = append(out, unread(q.looked(region), err))
			continue
		}
		out = append(out, judgeKept(q.quota, region, limit, used, need))
	}
	return out
}

func judgeKept(q quota, region string, limit, used, need int) Finding {
	switch {
	case used >= limit:
		return problem(q.looked(region), q.fix(region, used+max(need, 100))+"; or remove what is not needed", "%d, all in use: no image can be made or copied there", limit)
	case used+need > limit:
		return warning(q.looked(region), q.fix(region, used+max(need, 100))+"; or remove what is not needed", "%d, of which %d are in use, and the recipes keep up to %d", limit, used, need)
	}
	return fine(q.looked(region), "%d, %d in use; the recipes keep up to %d", limit, used, need)
}

func countImages(ctx context.Context, api usageAPI) (n int, err error) {
	pages := ec2.NewDescribeImagesPaginator(api, &ec2.DescribeImagesInput{
		Owners: []string{"self"}, IncludeDeprecated: aws.Bool(true), IncludeDisabled: aws.Bool(true), MaxResults: aws.Int32(1000),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return 0, err
		}
		n += len(page.Images)
	}
	return n, nil
}

func countSnapshots(ctx context.Context, api usageAPI) (n int, err error) {
	pages := ec2.NewDescribeSnapshotsPaginator(api, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, MaxResults: aws.Int32(1000)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return 0, err
		}
		n += len(page.Snapshots)
	}
	return n, nil
}
