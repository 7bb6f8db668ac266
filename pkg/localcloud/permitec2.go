package localcloud

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

func addEC2Rules(out map[string]rule) {
	for _, kind := range []string{
		"AvailabilityZones", "ImageAttribute", "Images", "InstanceStatus", "InstanceTypeOfferings", "InstanceTypes", "Instances", "KeyPairs", "Regions", "RouteTables",
		"SecurityGroups", "SnapshotAttribute", "Snapshots", "Subnets", "Tags", "Volumes", "VpcEndpoints", "Vpcs",
	} {
		out["ec2:Describe"+kind] = onAll("ec2:Describe" + kind)
	}
	for _, setting := range []string{"AllowedImagesSettings", "EbsDefaultKmsKeyId", "EbsEncryptionByDefault", "ImageBlockPublicAccessState", "SnapshotBlockPublicAccessState"} {
		out["ec2:Get"+setting] = onAll("ec2:Get" + setting)
	}
	out["ec2:DescribeImageReferences"] = of(asker.describeImageReferences)
	out["ec2:DescribeVpcAttribute"] = of(func(a asker, in *sdkec2.DescribeVpcAttributeInput) []iam.Request {
		return a.existing("ec2:DescribeVpcAttribute", aws.ToString(in.VpcId))
	})
	out["ec2:RunInstances"] = of(asker.runInstances)
	addKeyAndGroupRules(out)
	out["ec2:CreateImage"] = of(asker.createImage)
	out["ec2:CopyImage"] = of(asker.copyImage)
	out["ec2:CreateTags"] = of(asker.createTags)
	out["ec2:StopInstances"] = of(func(a asker, in *sdkec2.StopInstancesInput) []iam.Request {
		return a.existing("ec2:StopInstances", in.InstanceIds...)
	})
	out["ec2:TerminateInstances"] = of(func(a asker, in *sdkec2.TerminateInstancesInput) []iam.Request {
		return a.existing("ec2:TerminateInstances", in.InstanceIds...)
	})
	out["ec2:GetConsoleOutput"] = of(func(a asker, in *sdkec2.GetConsoleOutputInput) []iam.Request {
		return a.existing("ec2:GetConsoleOutput", aws.ToString(in.InstanceId))
	})
	out["ec2:DescribeInstanceAttribute"] = of(func(a asker, in *sdkec2.DescribeInstanceAttributeInput) []iam.Request {
		return a.existing("ec2:DescribeInstanceAttribute", aws.ToString(in.InstanceId))
	})
	out["ec2:ModifyImageAttribute"] = of(func(a asker, in *sdkec2.ModifyImageAttributeInput) []iam.Request {
		out := a.existing("ec2:ModifyImageAttribute", aws.ToString(in.ImageId))
		for _, r := range out {
			maps.Copy(r.Context, iam.Context(attributesOf(in)))
		}
		return out
	})
	out["ec2:EnableImageDeprecation"] = of(func(a asker, in *sdkec2.EnableImageDeprecationInput) []iam.Request {
		return a.existing("ec2:EnableImageDeprecation", aws.ToString(in.ImageId))
	})
	out["ec2:DeregisterImage"] = of(func(a asker, in *sdkec2.DeregisterImageInput) []iam.Request {
		requests := a.existing("ec2:DeregisterImage", aws.ToString(in.ImageId))
		if aws.ToBool(in.DeleteAssociatedSnapshots) {
			requests = append(requests, a.existing("ec2:DeleteSnapshot", a.snapshotsOf(aws.ToString(in.ImageId))...)...)
		}
		return requests
	})
	out["ec2:DeleteSnapshot"] = of(func(a asker, in *sdkec2.DeleteSnapshotInput) []iam.Request {
		return a.existing("ec2:DeleteSnapshot", aws.ToString(in.SnapshotId))
	})
}

// addKeyAndGroupRules are those of what a build with Packer makes beside images.
func addKeyAndGroupRules(out map[string]rule) {
	key := func(a asker, action, name string) []iam.Request {
		return []iam.Request{{Action: action, Resource: a.arn("ec2", a.who.Account, "key-pair/"+name), Context: iam.Context(map[string][]string{"ec2:Region": {a.who.Region}})}}
	}
	out["ec2:CreateKeyPair"] = of(func(a asker, in *sdkec2.CreateKeyPairInput) []iam.Request {
		return append(key(a, "ec2:CreateKeyPair", aws.ToString(in.KeyName)), a.tagging("CreateKeyPair", in.TagSpecifications)...)
	})
	out["ec2:ImportKeyPair"] = of(func(a asker, in *sdkec2.ImportKeyPairInput) []iam.Request {
		return append(key(a, "ec2:ImportKeyPair", aws.ToString(in.KeyName)), a.tagging("ImportKeyPair", in.TagSpecifications)...)
	})
	out["ec2:DeleteKeyPair"] = of(func(a asker, in *sdkec2.DeleteKeyPairInput) []iam.Request {
		return key(a, "ec2:DeleteKeyPair", cmp.Or(aws.ToString(in.KeyName), "*"))
	})
	out["ec2:CreateSecurityGroup"] = of(func(a asker, in *sdkec2.CreateSecurityGroupInput) []iam.Request {
		return append(a.made("ec2:CreateSecurityGroup", in.TagSpecifications, ec2types.ResourceTypeSecurityGroup), a.tagging("CreateSecurityGroup", in.TagSpecifications)...)
	})
	group := func(a asker, action string, id *string) []iam.Request {
		return a.existing(action, cmp.Or(aws.ToString(id), "sg-*"))
	}
	out["ec2:DeleteSecurityGroup"] = of(func(a asker, in *sdkec2.DeleteSecurityGroupInput) []iam.Request {
		return group(a, "ec2:DeleteSecurityGroup", in.GroupId)
	})
	out["ec2:AuthorizeSecurityGroupIngress"] = of(func(a asker, in *sdkec2.AuthorizeSecurityGroupIngressInput) []iam.Request {
		return group(a, "ec2:AuthorizeSecurityGroupIngress", in.GroupId)
	})
	out["ec2:RevokeSecurityGroupIngress"] = of(func(a asker, in *sdkec2.RevokeSecurityGroupIngressInput) []iam.Request {
		return group(a, "ec2:RevokeSecurityGroupIngress", in.GroupId)
	})
	out["ec2:ModifySnapshotAttribute"] = of(func(a asker, in *sdkec2.ModifySnapshotAttributeInput) []iam.Request {
		return a.existing("ec2:ModifySnapshotAttribute", aws.ToString(in.SnapshotId))
	})
	out["ssm:DescribeParameters"] = onAll("ssm:DescribeParameters")
}

// describeImageReferences asks for the call itself, and for those by which EC2
// looks at each kind of resource on the caller's behalf:
// https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AmazonEC2ImageReferencesAccessPolicy.html
func (a asker) describeImageReferences(in *sdkec2.DescribeImageReferencesInput) []iam.Request {
	looks := []struct {
		kind    ec2types.ImageReferenceResourceType
		actions []string
	}{
		{ec2types.ImageReferenceResourceTypeEc2Instance, []string{"ec2:DescribeInstances"}},
		{ec2types.ImageReferenceResourceTypeEc2LaunchTemplate, []string{"ec2:DescribeLaunchTemplates", "ec2:DescribeLaunchTemplateVersions"}},
		{ec2types.ImageReferenceResourceTypeSsmParameter, []string{"ssm:DescribeParameters", "ssm:GetParameters"}},
		{ec2types.ImageReferenceResourceTypeImageBuilderImageRecipe, []string{"imagebuilder:ListImageRecipes"}},
		{ec2types.ImageReferenceResourceTypeImageBuilderContainerRecipe, []string{"imagebuilder:ListContainerRecipes", "imagebuilder:GetContainerRecipe"}},
	}
	out := []iam.Request{{Action: "ec2:DescribeImageReferences", Resource: "*"}}
	for _, look := range looks {
		asked := slices.ContainsFunc(in.ResourceTypes, func(r ec2types.ResourceTypeRequest) bool { return r.ResourceType == look.kind })
		if !asked && !aws.ToBool(in.IncludeAllResourceTypes) {
			continue
		}
		for _, action := range look.actions {
			out = append(out, iam.Request{Action: action, Resource: "*"})
		}
	}
	return out
}

// ec2ARN is the ARN of an id. Images and snapshots have no account in theirs.
func (a asker) ec2ARN(id string) string {
	prefix, _, _ := strings.Cut(id, "-")
	switch kind := map[string]string{
		"ami": "image", "snap": "snapshot", "i": "instance", "vol": "volume", "eni": "network-interface", "subnet": "subnet", "sg": "security-group",
		"vpc": "vpc", "lt": "launch-template",
	}[prefix]; kind {
	case "image", "snapshot":
		return a.arn("ec2", "", kind+"/"+id)
	case "":
		return a.arn("ec2", a.who.Account, "unknown/"+id)
	default:
		return a.arn("ec2", a.who.Account, kind+"/"+id)
	}
}

// newARN is that of a resource which does not exist yet.
func (a asker) newARN(kind ec2types.ResourceType) string {
	account := a.who.Account
	if kind == ec2types.ResourceTypeImage || kind == ec2types.ResourceTypeSnapshot {
		account = ""
	}
	return a.arn("ec2", account, string(kind)+"/*")
}

// existing asks for an action on resources that are there, which have tags.
func (a asker) existing(action string, ids ...string) []iam.Request {
	var out []iam.Request
	for _, id := range ids {
		pairs := map[string][]string{"ec2:Region": {a.who.Region}}
		for key, value := range a.tagsOf(id) {
			pairs["aws:ResourceTag/"+key], pairs["ec2:ResourceTag/"+key] = []string{value}, []string{value}
		}
		out = append(out, iam.Request{Action: action, Resource: a.ec2ARN(id), Context: iam.Context(pairs)})
	}
	return out
}

// made asks for an action on a resource that it makes, which has the tags that
// the request gives it.
func (a asker) made(action string, specified []ec2types.TagSpecification, kinds ...ec2types.ResourceType) []iam.Request {
	var out []iam.Request
	for _, kind := range kinds {
		pairs := map[string][]string{"ec2:Region": {a.who.Region}}
		for _, s := range specified {
			if s.ResourceType == kind {
				addTags(pairs, s.Tags)
			}
		}
		out = append(out, iam.Request{Action: action, Resource: a.newARN(kind), Context: iam.Context(pairs)})
	}
	return out
}

// attributesOf are the keys of what a request sets of an image: the attribute's name,
// and its value where it is a text or an object that holds a value only
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/iam-policies-for-amazon-ec2.html#attribute-key).
func attributesOf(in *sdkec2.ModifyImageAttributeInput) map[string][]string {
	names := map[string]bool{}
	pairs := map[string][]string{}
	if name := aws.ToString(in.Attribute); name != "" {
		names[strings.ToUpper(name[:1])+name[1:]] = true
	}
	for name, v := range map[string]*ec2types.AttributeValue{"Description": in.Description, "ImdsSupport": in.ImdsSupport} {
		if v != nil {
			names[name] = true
			pairs["ec2:Attribute/"+name] = []string{aws.ToString(v.Value)}
		}
	}
	if in.LaunchPermission != nil || len(in.UserIds)+len(in.UserGroups)+len(in.OrganizationArns)+len(in.OrganizationalUnitArns) > 0 {
		names["LaunchPermission"] = true
	}
	if len(in.ProductCodes) > 0 {
		names["ProductCodes"] = true
	}
	if len(names) > 0 {
		pairs["ec2:Attribute"] = slices.Sorted(maps.Keys(names))
	}
	return pairs
}

// describeLaunch adds what a request says of the instance that it makes and of its
// network interface; what it leaves out is in no key.
func describeLaunch(in *sdkec2.RunInstancesInput, made []iam.Request) {
	for _, r := range made {
		pairs := map[string][]string{}
		switch {
		case strings.Contains(r.Resource, ":instance/") && in.MetadataOptions != nil:
			m := in.MetadataOptions
			if m.HttpTokens != "" {
				pairs["ec2:MetadataHttpTokens"] = []string{string(m.HttpTokens)}
			}
			if m.HttpEndpoint != "" {
				pairs["ec2:MetadataHttpEndpoint"] = []string{string(m.HttpEndpoint)}
			}
			if m.HttpPutResponseHopLimit != nil {
				pairs["ec2:MetadataHttpPutResponseHopLimit"] = []string{strconv.Itoa(int(*m.HttpPutResponseHopLimit))}
			}
		case strings.Contains(r.Resource, ":network-interface/"):
			for _, n := range in.NetworkInterfaces {
				if n.AssociatePublicIpAddress != nil {
					// One that asks for an address makes the call one that asks for it.
					asks := *n.AssociatePublicIpAddress || slices.Equal(pairs["ec2:AssociatePublicIpAddress"], []string{"true"})
					pairs["ec2:AssociatePublicIpAddress"] = []string{strconv.FormatBool(asks)}
				}
			}
		}
		maps.Copy(r.Context, iam.Context(pairs))
	}
}

// snapshotOwner is whose a snapshot is that the caller sees.
func (a asker) snapshotOwner(id string) map[string][]string {
	out, err := a.c.EC2.DescribeSnapshots(wire.WithCaller(a.ctx, a.who), &sdkec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil || len(out.Snapshots) == 0 {
		return nil
	}
	return map[string][]string{"ec2:Owner": {cmp.Or(aws.ToString(out.Snapshots[0].OwnerAlias), aws.ToString(out.Snapshots[0].OwnerId))}}
}

// tagging asks for the tags that a request gives to what it makes.
func (a asker) tagging(by string, specified []ec2types.TagSpecification) []iam.Request {
	var out []iam.Request
	for _, s := range specified {
		pairs := map[string][]string{"ec2:Region": {a.who.Region}, "ec2:CreateAction": {by}}
		addTags(pairs, s.Tags)
		out = append(out, iam.Request{Action: "ec2:CreateTags", Resource: a.newARN(s.ResourceType), Context: iam.Context(pairs)})
	}
	return out
}

func addTags(pairs map[string][]string, tags []ec2types.Tag) {
	for _, t := range tags {
		addTag(pairs, "aws:RequestTag/", t.Key, t.Value)
	}
}

func (a asker) createTags(in *sdkec2.CreateTagsInput) []iam.Request {
	out := a.existing("ec2:CreateTags", in.Resources...)
	for _, r := range out {
		pairs := map[string][]string{}
		addTags(pairs, in.Tags)
		maps.Copy(r.Context, iam.Context(pairs))
	}
	return out
}

// runInstances asks for everything that a launch touches or makes, for the role
// that it hands on, and for the key of the volume.
func (a asker) runInstances(in *sdkec2.RunInstancesInput) []iam.Request {
	const action = "ec2:RunInstances"
	image := aws.ToString(in.ImageId)
	subnets, groups := []string{aws.ToString(in.SubnetId)}, in.SecurityGroupIds
	for _, n := range in.NetworkInterfaces {
		subnets, groups = append(subnets, aws.ToString(n.SubnetId)), append(groups, n.Groups...)
	}
	var out []iam.Request
	if found, ok := a.image(image); ok {
		out = a.existing(action, image)
		// An alias stands in for the id of the owner that has one.
		owner := cmp.Or(aws.ToString(found.ImageOwnerAlias), aws.ToString(found.OwnerId))
		maps.Copy(out[0].Context, iam.Context(map[string][]string{"ec2:Owner": {owner}}))
	}
	key := ""
	for _, m := range in.BlockDeviceMappings {
		if m.Ebs != nil {
			key = aws.ToString(m.Ebs.KmsKeyId)
			if m.Ebs.SnapshotId != nil {
				of := a.existing(action, *m.Ebs.SnapshotId)
				maps.Copy(of[0].Context, iam.Context(a.snapshotOwner(*m.Ebs.SnapshotId)))
				out = append(out, of...)
			}
		}
	}
	out = append(out, a.chosen(action, "subnet", subnets)...)
	out = append(out, a.chosen(action, "security-group", groups)...)
	if in.KeyName != nil {
		out = append(out, iam.Request{Action: action, Resource: a.arn("ec2", a.who.Account, "key-pair/"+*in.KeyName), Context: iam.Context(map[string][]string{"ec2:Region": {a.who.Region}})})
	}
	made := a.made(action, in.TagSpecifications, ec2types.ResourceTypeInstance, ec2types.ResourceTypeVolume, ec2types.ResourceTypeNetworkInterface)
	describeLaunch(in, made)
	out = append(out, made...)
	out = append(out, a.tagging("RunInstances", in.TagSpecifications)...)
	out = append(out, a.passRole(in.IamInstanceProfile)...)
	keys := []string{key}
	if key == "" {
		keys = a.keysOfSnapshots(a.snapshotsOf(image))
	}
	return append(out, a.keys(keys...)...)
}

// chosen asks for the resources that a request names, or for one of the kind
// that EC2 chooses.
func (a asker) chosen(action, kind string, ids []string) []iam.Request {
	var out []iam.Request
	for _, id := range ids {
		if id != "" {
			out = append(out, a.existing(action, id)...)
		}
	}
	if len(out) == 0 {
		out = a.made(action, nil, ec2types.ResourceType(kind))
	}
	return out
}

// passRole asks for the role of an instance profile.
func (a asker) passRole(profile *ec2types.IamInstanceProfileSpecification) []iam.Request {
	if profile == nil {
		return nil
	}
	ref := aws.ToString(profile.Arn)
	if ref == "" {
		ref = aws.ToString(profile.Name)
	}
	found, err := a.c.profile(a.who.Account, ref)
	if err != nil {
		return nil // EC2 will say so
	}
	return passing(ec2Principal, a.c.IAM.RoleARN(a.who.Account, found.Role))
}

// createImage asks for the instance as it is, and for what is made of it.
func (a asker) createImage(in *sdkec2.CreateImageInput) []iam.Request {
	const action = "ec2:CreateImage"
	instance := aws.ToString(in.InstanceId)
	out := a.existing(action, instance)
	out = append(out, a.made(action, in.TagSpecifications, ec2types.ResourceTypeImage, ec2types.ResourceTypeSnapshot)...)
	out = append(out, a.tagging("CreateImage", in.TagSpecifications)...)
	return append(out, a.keys(a.keysOfVolumes(instance)...)...)
}

// copyImage asks for the source, which has been a resource of the call since
// October 2024, and for what is made. The documents do not say whether the
// source's snapshots are asked for, so they are
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/copy-ami-permissions.html).
func (a asker) copyImage(in *sdkec2.CopyImageInput) []iam.Request {
	const action = "ec2:CopyImage"
	there := a
	there.who.Region = aws.ToString(in.SourceRegion)
	source := aws.ToString(in.SourceImageId)
	snapshots := there.snapshotsOf(source)
	out := there.existing(action, append([]string{source}, snapshots...)...)
	out = append(out, a.made(action, in.TagSpecifications, ec2types.ResourceTypeImage, ec2types.ResourceTypeSnapshot)...)
	out = append(out, a.tagging("CopyImage", in.TagSpecifications)...)
	out = append(out, there.keys(there.keysOfSnapshots(snapshots)...)...)
	return append(out, a.keys(aws.ToString(in.KmsKeyId))...)
}

// keys asks for what EBS does with a customer's key in the caller's name
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html).
// AWS's own keys take no permission of the caller's role.
func (a asker) keys(refs ...string) []iam.Request {
	var out []iam.Request
	for _, ref := range refs {
		if ref == "" {
			continue
		}
		key, err := a.c.KMS.Resolve(a.who.Account, a.who.Region, ref)
		if err == nil && key.Managed {
			continue
		}
		arn := key.ARN
		if err != nil { // EC2 will say so
			arn = a.arn("kms", a.who.Account, "key/unknown")
		}
		for _, action := range []string{"CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"} {
			pairs := map[string][]string{"kms:ViaService": {"ec2." + a.who.Region + ".amazonaws.com"}, "kms:CallerAccount": {a.who.Account}}
			if action == "CreateGrant" {
				pairs["kms:GrantIsForAWSResource"] = []string{"true"}
			}
			out = append(out, iam.Request{Action: "kms:" + action, Resource: arn, Context: iam.Context(pairs)})
		}
	}
	return out
}

func (a asker) tagsOf(id string) map[string]string {
	out, err := a.c.EC2.DescribeTags(wire.WithCaller(a.ctx, a.who), &sdkec2.DescribeTagsInput{
		Filters: []ec2types.Filter{{Name: aws.String("resource-id"), Values: []string{id}}},
	})
	if err != nil {
		return nil // then nothing that depends on a tag is allowed
	}
	tags := map[string]string{}
	for _, t := range out.Tags {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags
}

// image is what the caller sees of an image; of what he does not see nothing is
// asked, and EC2 will not find it either.
func (a asker) image(id string) (ec2types.Image, bool) {
	out, err := a.c.EC2.DescribeImages(wire.WithCaller(a.ctx, a.who), &sdkec2.DescribeImagesInput{ImageIds: []string{id}, IncludeDeprecated: aws.Bool(true)})
	if err != nil || len(out.Images) == 0 {
		return ec2types.Image{}, false
	}
	return out.Images[0], true
}

func (a asker) snapshotsOf(image string) []string {
	found, _ := a.image(image)
	var ids []string
	for _, m := range found.BlockDeviceMappings {
		if m.Ebs != nil && m.Ebs.SnapshotId != nil {
			ids = append(ids, *m.Ebs.SnapshotId)
		}
	}
	return ids
}

func (a asker) keysOfSnapshots(ids []string) []string {
	var keys []string
	for _, id := range ids {
		// Those of a shared image may be none that the caller sees, and their key is
		// asked for all the same.
		keys = append(keys, a.c.EC2.SnapshotKey(id))
	}
	return keys
}

func (a asker) keysOfVolumes(instance string) []string {
	out, err := a.c.EC2.DescribeVolumes(wire.WithCaller(a.ctx, a.who), &sdkec2.DescribeVolumesInput{
		Filters: []ec2types.Filter{{Name: aws.String("attachment.instance-id"), Values: []string{instance}}},
	})
	if err != nil {
		return nil
	}
	var keys []string
	for _, v := range out.Volumes {
		keys = append(keys, aws.ToString(v.KmsKeyId))
	}
	return keys
}
