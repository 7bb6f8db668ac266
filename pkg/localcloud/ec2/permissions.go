package ec2

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Principal is the service that assumes the roles of instances in a region.
func Principal(region string) string { return partition.Principal("ec2", region) }

// asker determines the permissions that a call of EC2 needs.
type asker struct {
	authz.Call
	s *Service
}

// of makes a rule from a function of the operation's input.
func of[I any](s *Service, ask func(asker, *I) []authz.Request) authz.Rule {
	return authz.Of(func(c authz.Call, in *I) []authz.Request { return ask(asker{c, s}, in) })
}

// ctx returns the context for a look-up on the caller's behalf.
func (a asker) ctx() context.Context { return wire.WithCaller(a.Context, a.Caller) }

// Permissions returns the permission rules of EC2's calls.
func (s *Service) Permissions() authz.Permissions {
	out := map[string]authz.Rule{}
	s.addImageRules(out)
	s.addKeyAndGroupRules(out)
	return authz.Permissions{Service: "ec2", Rules: out, Denied: func(message string) error {
		return wire.Errorf("UnauthorizedOperation", "You are not authorized to perform this operation. %s", message)
	}}
}

func (s *Service) addImageRules(out map[string]authz.Rule) {
	for _, kind := range []string{
		"AvailabilityZones", "ImageAttribute", "Images", "InstanceStatus", "InstanceTypeOfferings", "InstanceTypes", "Instances", "KeyPairs", "Regions", "RouteTables",
		"SecurityGroups", "SnapshotAttribute", "Snapshots", "Subnets", "Tags", "Volumes", "VpcEndpoints", "Vpcs",
	} {
		out["Describe"+kind] = authz.OnAll("ec2:Describe" + kind)
	}
	for _, setting := range []string{"AllowedImagesSettings", "EbsDefaultKmsKeyId", "EbsEncryptionByDefault", "ImageBlockPublicAccessState", "SnapshotBlockPublicAccessState"} {
		out["Get"+setting] = authz.OnAll("ec2:Get" + setting)
	}
	out["DescribeImageReferences"] = of(s, asker.describeImageReferences)
	out["DescribeVpcAttribute"] = of(s, func(a asker, in *ec2.DescribeVpcAttributeInput) []authz.Request {
		return a.existing("ec2:DescribeVpcAttribute", aws.ToString(in.VpcId))
	})
	out["RunInstances"] = of(s, asker.runInstances)
	out["CreateImage"] = of(s, asker.createImage)
	out["CopyImage"] = of(s, asker.copyImage)
	out["CreateTags"] = of(s, asker.createTags)
	out["StopInstances"] = of(s, func(a asker, in *ec2.StopInstancesInput) []authz.Request {
		return a.existing("ec2:StopInstances", in.InstanceIds...)
	})
	out["TerminateInstances"] = of(s, func(a asker, in *ec2.TerminateInstancesInput) []authz.Request {
		return a.existing("ec2:TerminateInstances", in.InstanceIds...)
	})
	out["GetConsoleOutput"] = of(s, func(a asker, in *ec2.GetConsoleOutputInput) []authz.Request {
		return a.existing("ec2:GetConsoleOutput", aws.ToString(in.InstanceId))
	})
	out["DescribeInstanceAttribute"] = of(s, func(a asker, in *ec2.DescribeInstanceAttributeInput) []authz.Request {
		return a.existing("ec2:DescribeInstanceAttribute", aws.ToString(in.InstanceId))
	})
	out["ModifyImageAttribute"] = of(s, func(a asker, in *ec2.ModifyImageAttributeInput) []authz.Request {
		out := a.existing("ec2:ModifyImageAttribute", aws.ToString(in.ImageId))
		for _, r := range out {
			maps.Copy(r.Context, authz.Context(attributesOf(in)))
		}
		return out
	})
	out["EnableImageDeprecation"] = of(s, func(a asker, in *ec2.EnableImageDeprecationInput) []authz.Request {
		return a.existing("ec2:EnableImageDeprecation", aws.ToString(in.ImageId))
	})
	out["DisableImage"] = of(s, func(a asker, in *ec2.DisableImageInput) []authz.Request {
		return a.existing("ec2:DisableImage", aws.ToString(in.ImageId))
	})
	out["EnableImage"] = of(s, func(a asker, in *ec2.EnableImageInput) []authz.Request {
		return a.existing("ec2:EnableImage", aws.ToString(in.ImageId))
	})
	out["DeregisterImage"] = of(s, func(a asker, in *ec2.DeregisterImageInput) []authz.Request {
		requests := a.existing("ec2:DeregisterImage", aws.ToString(in.ImageId))
		if aws.ToBool(in.DeleteAssociatedSnapshots) {
			requests = append(requests, a.existing("ec2:DeleteSnapshot", a.snapshotsOf(aws.ToString(in.ImageId))...)...)
		}
		return requests
	})
	out["DeleteSnapshot"] = of(s, func(a asker, in *ec2.DeleteSnapshotInput) []authz.Request {
		return a.existing("ec2:DeleteSnapshot", aws.ToString(in.SnapshotId))
	})
}

// addKeyAndGroupRules adds the rules for key pairs and security groups, which
// Packer builds create.
func (s *Service) addKeyAndGroupRules(out map[string]authz.Rule) {
	key := func(a asker, action, name string) []authz.Request {
		return []authz.Request{{Action: action, Resource: a.ARN("ec2", a.Caller.Account, "key-pair/"+name), Context: authz.Context(map[string][]string{"ec2:Region": {a.Caller.Region}})}}
	}
	out["CreateKeyPair"] = of(s, func(a asker, in *ec2.CreateKeyPairInput) []authz.Request {
		return append(key(a, "ec2:CreateKeyPair", aws.ToString(in.KeyName)), a.tagging("CreateKeyPair", in.TagSpecifications)...)
	})
	out["ImportKeyPair"] = of(s, func(a asker, in *ec2.ImportKeyPairInput) []authz.Request {
		return append(key(a, "ec2:ImportKeyPair", aws.ToString(in.KeyName)), a.tagging("ImportKeyPair", in.TagSpecifications)...)
	})
	out["DeleteKeyPair"] = of(s, func(a asker, in *ec2.DeleteKeyPairInput) []authz.Request {
		return key(a, "ec2:DeleteKeyPair", cmp.Or(aws.ToString(in.KeyName), "*"))
	})
	out["CreateSecurityGroup"] = of(s, func(a asker, in *ec2.CreateSecurityGroupInput) []authz.Request {
		return append(a.made("ec2:CreateSecurityGroup", in.TagSpecifications, types.ResourceTypeSecurityGroup), a.tagging("CreateSecurityGroup", in.TagSpecifications)...)
	})
	group := func(a asker, action string, id *string) []authz.Request {
		return a.existing(action, cmp.Or(aws.ToString(id), "sg-*"))
	}
	out["DeleteSecurityGroup"] = of(s, func(a asker, in *ec2.DeleteSecurityGroupInput) []authz.Request {
		return group(a, "ec2:DeleteSecurityGroup", in.GroupId)
	})
	out["AuthorizeSecurityGroupIngress"] = of(s, func(a asker, in *ec2.AuthorizeSecurityGroupIngressInput) []authz.Request {
		return group(a, "ec2:AuthorizeSecurityGroupIngress", in.GroupId)
	})
	out["RevokeSecurityGroupIngress"] = of(s, func(a asker, in *ec2.RevokeSecurityGroupIngressInput) []authz.Request {
		return group(a, "ec2:RevokeSecurityGroupIngress", in.GroupId)
	})
	out["ModifySnapshotAttribute"] = of(s, func(a asker, in *ec2.ModifySnapshotAttributeInput) []authz.Request {
		return a.existing("ec2:ModifySnapshotAttribute", aws.ToString(in.SnapshotId))
	})
}

// describeImageReferences requires the call itself, and the calls by which EC2
// reads each kind of resource on the caller's behalf, with EC2 in aws:CalledVia:
// https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AmazonEC2ImageReferencesAccessPolicy.html
func (a asker) describeImageReferences(in *ec2.DescribeImageReferencesInput) []authz.Request {
	looks := []struct {
		kind    types.ImageReferenceResourceType
		actions []string
	}{
		{types.ImageReferenceResourceTypeEc2Instance, []string{"ec2:DescribeInstances"}},
		{types.ImageReferenceResourceTypeEc2LaunchTemplate, []string{"ec2:DescribeLaunchTemplates", "ec2:DescribeLaunchTemplateVersions"}},
		{types.ImageReferenceResourceTypeSsmParameter, []string{"ssm:DescribeParameters", "ssm:GetParameters"}},
		{types.ImageReferenceResourceTypeImageBuilderImageRecipe, []string{"imagebuilder:ListImageRecipes"}},
		{types.ImageReferenceResourceTypeImageBuilderContainerRecipe, []string{"imagebuilder:ListContainerRecipes", "imagebuilder:GetContainerRecipe"}},
	}
	out := []authz.Request{{Action: "ec2:DescribeImageReferences", Resource: "*"}}
	for _, look := range looks {
		asked := slices.ContainsFunc(in.ResourceTypes, func(r types.ResourceTypeRequest) bool { return r.ResourceType == look.kind })
		if !asked && !aws.ToBool(in.IncludeAllResourceTypes) {
			continue
		}
		for _, action := range look.actions {
			out = append(out, authz.Request{Action: action, Resource: "*", Context: authz.Context(map[string][]string{"aws:CalledVia": {"ec2-images.amazonaws.com"}})})
		}
	}
	return out
}

// ec2ARN returns the ARN of an id. ARNs of images and snapshots have no account.
func (a asker) ec2ARN(id string) string {
	prefix, _, _ := strings.Cut(id, "-")
	switch kind := map[string]string{
		"ami": "image", "snap": "snapshot", "i": "instance", "vol": "volume", "eni": "network-interface", "subnet": "subnet", "sg": "security-group",
		"vpc": "vpc", "lt": "launch-template",
	}[prefix]; kind {
	case "image", "snapshot":
		return a.ARN("ec2", "", kind+"/"+id)
	case "":
		return a.ARN("ec2", a.Caller.Account, "unknown/"+id)
	default:
		return a.ARN("ec2", a.Caller.Account, kind+"/"+id)
	}
}

// newARN returns the ARN pattern of a resource that does not exist yet.
func (a asker) newARN(kind types.ResourceType) string {
	account := a.Caller.Account
	if kind == types.ResourceTypeImage || kind == types.ResourceTypeSnapshot {
		account = ""
	}
	return a.ARN("ec2", account, string(kind)+"/*")
}

// existing requires an action on existing resources, with their tags and, for
// images and snapshots, owners.
func (a asker) existing(action string, ids ...string) []authz.Request {
	var out []authz.Request
	for _, id := range ids {
		pairs := map[string][]string{"ec2:Region": {a.Caller.Region}}
		for key, value := range a.tagsOf(id) {
			pairs["aws:ResourceTag/"+key], pairs["ec2:ResourceTag/"+key] = []string{value}, []string{value}
		}
		if owner := a.ownerOf(id); owner != "" {
			pairs["ec2:Owner"] = []string{owner}
		}
		out = append(out, authz.Request{Action: action, Resource: a.ec2ARN(id), Context: authz.Context(pairs)})
	}
	return out
}

// made requires an action on a resource that the call creates, with the tags in
// the request.
func (a asker) made(action string, specified []types.TagSpecification, kinds ...types.ResourceType) []authz.Request {
	var out []authz.Request
	for _, kind := range kinds {
		pairs := map[string][]string{"ec2:Region": {a.Caller.Region}}
		for _, s := range specified {
			if s.ResourceType == kind {
				addTags(pairs, s.Tags)
			}
		}
		out = append(out, authz.Request{Action: action, Resource: a.newARN(kind), Context: authz.Context(pairs)})
	}
	return out
}

// attributesOf returns the condition keys for the attribute of an image that a
// request sets: the attribute's name, and its value if that is a text or an
// object with only a value
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/iam-policies-for-amazon-ec2.html#attribute-key).
func attributesOf(in *ec2.ModifyImageAttributeInput) map[string][]string {
	names := map[string]bool{}
	pairs := map[string][]string{}
	if name := aws.ToString(in.Attribute); name != "" {
		names[strings.ToUpper(name[:1])+name[1:]] = true
	}
	for name, v := range map[string]*types.AttributeValue{"Description": in.Description, "ImdsSupport": in.ImdsSupport} {
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

// describeLaunch adds the condition keys of a launch for the instance and its
// network interface. A parameter that the request leaves out has no key.
func describeLaunch(in *ec2.RunInstancesInput, made []authz.Request) {
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
					// One interface that requests an address is enough.
					asks := *n.AssociatePublicIpAddress || slices.Equal(pairs["ec2:AssociatePublicIpAddress"], []string{"true"})
					pairs["ec2:AssociatePublicIpAddress"] = []string{strconv.FormatBool(asks)}
				}
			}
		}
		maps.Copy(r.Context, authz.Context(pairs))
	}
}

// ownerOf returns the owner of an image or a snapshot that the caller can see,
// otherwise "". It returns the alias of an owner that has one.
func (a asker) ownerOf(id string) string {
	switch prefix, _, _ := strings.Cut(id, "-"); prefix {
	case "ami":
		found, _ := a.image(id)
		return cmp.Or(aws.ToString(found.ImageOwnerAlias), aws.ToString(found.OwnerId))
	case "snap":
		out, err := a.s.DescribeSnapshots(a.ctx(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
		if err == nil && len(out.Snapshots) > 0 {
			return cmp.Or(aws.ToString(out.Snapshots[0].OwnerAlias), aws.ToString(out.Snapshots[0].OwnerId))
		}
	}
	return ""
}

// tagging requires ec2:CreateTags for the tags of the resources that a request
// creates.
func (a asker) tagging(by string, specified []types.TagSpecification) []authz.Request {
	var out []authz.Request
	for _, s := range specified {
		pairs := map[string][]string{"ec2:Region": {a.Caller.Region}, "ec2:CreateAction": {by}}
		addTags(pairs, s.Tags)
		out = append(out, authz.Request{Action: "ec2:CreateTags", Resource: a.newARN(s.ResourceType), Context: authz.Context(pairs)})
	}
	return out
}

func addTags(pairs map[string][]string, tags []types.Tag) {
	for _, t := range tags {
		authz.AddTag(pairs, "aws:RequestTag/", t.Key, t.Value)
	}
}

func (a asker) createTags(in *ec2.CreateTagsInput) []authz.Request {
	out := a.existing("ec2:CreateTags", in.Resources...)
	for _, r := range out {
		pairs := map[string][]string{}
		addTags(pairs, in.Tags)
		maps.Copy(r.Context, authz.Context(pairs))
	}
	return out
}

// runInstances requires all resources that a launch uses or creates, the role
// that it passes, and the key of the volume.
func (a asker) runInstances(in *ec2.RunInstancesInput) []authz.Request {
	const action = "ec2:RunInstances"
	image := aws.ToString(in.ImageId)
	subnets, groups := []string{aws.ToString(in.SubnetId)}, in.SecurityGroupIds
	for _, n := range in.NetworkInterfaces {
		subnets, groups = append(subnets, aws.ToString(n.SubnetId)), append(groups, n.Groups...)
	}
	var out []authz.Request
	if _, ok := a.image(image); ok {
		out = a.existing(action, image)
	}
	key := ""
	for _, m := range in.BlockDeviceMappings {
		if m.Ebs != nil {
			key = aws.ToString(m.Ebs.KmsKeyId)
			if m.Ebs.SnapshotId != nil {
				out = append(out, a.existing(action, *m.Ebs.SnapshotId)...)
			}
		}
	}
	out = append(out, a.chosen(action, "subnet", subnets)...)
	out = append(out, a.chosen(action, "security-group", groups)...)
	if in.KeyName != nil {
		out = append(out, authz.Request{Action: action, Resource: a.ARN("ec2", a.Caller.Account, "key-pair/"+*in.KeyName), Context: authz.Context(map[string][]string{"ec2:Region": {a.Caller.Region}})})
	}
	made := a.made(action, in.TagSpecifications, types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface)
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

// chosen requires the resources that a request names, or the one that EC2
// chooses.
func (a asker) chosen(action, kind string, ids []string) []authz.Request {
	var out []authz.Request
	for _, id := range ids {
		if id != "" {
			out = append(out, a.existing(action, id)...)
		}
	}
	if len(out) == 0 {
		out = a.made(action, nil, types.ResourceType(kind))
	}
	return out
}

// passRole requires iam:PassRole for the role of an instance profile.
func (a asker) passRole(profile *types.IamInstanceProfileSpecification) []authz.Request {
	if profile == nil {
		return nil
	}
	ref := aws.ToString(profile.Arn)
	if ref == "" {
		ref = aws.ToString(profile.Name)
	}
	found, err := a.s.cfg.Profile(a.Caller.Account, ref)
	if err != nil {
		return nil // RunInstances reports it
	}
	return authz.PassRole(Principal(a.Caller.Region), found.RoleARN)
}

// createImage requires the existing instance, and the new image and snapshot.
func (a asker) createImage(in *ec2.CreateImageInput) []authz.Request {
	const action = "ec2:CreateImage"
	instance := aws.ToString(in.InstanceId)
	out := a.existing(action, instance)
	out = append(out, a.made(action, in.TagSpecifications, types.ResourceTypeImage, types.ResourceTypeSnapshot)...)
	out = append(out, a.tagging("CreateImage", in.TagSpecifications)...)
	return append(out, a.keys(a.keysOfVolumes(instance)...)...)
}

// copyImage requires the source image, which has been a resource of the call
// since October 2024, and the new image and snapshot. The documentation does not
// say whether the source's snapshots are required, so they are
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/copy-ami-permissions.html).
func (a asker) copyImage(in *ec2.CopyImageInput) []authz.Request {
	const action = "ec2:CopyImage"
	there := a
	there.Caller.Region = aws.ToString(in.SourceRegion)
	source := aws.ToString(in.SourceImageId)
	snapshots := there.snapshotsOf(source)
	out := there.existing(action, append([]string{source}, snapshots...)...)
	out = append(out, a.made(action, in.TagSpecifications, types.ResourceTypeImage, types.ResourceTypeSnapshot)...)
	out = append(out, a.tagging("CopyImage", in.TagSpecifications)...)
	out = append(out, there.keys(there.keysOfSnapshots(snapshots)...)...)
	return append(out, a.keys(aws.ToString(in.KmsKeyId))...)
}

// keys requires the calls that EBS makes with a customer key on the caller's
// behalf
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html).
// AWS-managed keys need no permission of the caller's role.
func (a asker) keys(refs ...string) []authz.Request {
	var out []authz.Request
	for _, ref := range refs {
		if ref == "" {
			continue
		}
		key, err := a.s.cfg.ResolveKey(a.Caller.Account, a.Caller.Region, ref)
		if err == nil && key.Managed {
			continue
		}
		arn := key.ARN
		if err != nil { // EC2 reports it
			arn = a.ARN("kms", a.Caller.Account, "key/unknown")
		}
		for _, action := range []string{"CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"} {
			pairs := map[string][]string{"kms:ViaService": {partition.ViaService("ec2", a.Caller.Region, a.Caller.Region)}, "kms:CallerAccount": {a.Caller.Account}}
			if action == "CreateGrant" {
				pairs["kms:GrantIsForAWSResource"] = []string{"true"}
			}
			out = append(out, authz.Request{Action: "kms:" + action, Resource: arn, Context: authz.Context(pairs)})
		}
	}
	return out
}

// ReadingSnapshot requires an action of EBS on a snapshot. Reading the blocks of
// an encrypted snapshot also requires kms:Decrypt with its key:
// https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-permissions.html
func (s *Service) ReadingSnapshot(c authz.Call, action, id string, blocks bool) []authz.Request {
	a := asker{c, s}
	out := a.existing(action, id)
	if key := s.SnapshotKey(id); key != "" && blocks {
		out = append(out, authz.Request{Action: "kms:Decrypt", Resource: key, Context: authz.Context(map[string][]string{
			"kms:ViaService": {partition.ViaService("ec2", c.Caller.Region, c.Caller.Region)}, "kms:CallerAccount": {c.Caller.Account},
		})})
	}
	return out
}

func (a asker) tagsOf(id string) map[string]string {
	out, err := a.s.DescribeTags(a.ctx(), &ec2.DescribeTagsInput{
		Filters: []types.Filter{{Name: aws.String("resource-id"), Values: []string{id}}},
	})
	if err != nil {
		return nil // then no statement that depends on a tag applies
	}
	tags := map[string]string{}
	for _, t := range out.Tags {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags
}

// image returns an image that the caller can see. An invisible image needs no
// permission, because EC2 does not find it either.
func (a asker) image(id string) (types.Image, bool) {
	out, err := a.s.DescribeImages(a.ctx(), &ec2.DescribeImagesInput{ImageIds: []string{id}, IncludeDeprecated: aws.Bool(true), IncludeDisabled: aws.Bool(true)})
	if err != nil || len(out.Images) == 0 {
		return types.Image{}, false
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
		// The snapshots of a shared image may be invisible to the caller, but their
		// key is required.
		keys = append(keys, a.s.SnapshotKey(id))
	}
	return keys
}

func (a asker) keysOfVolumes(instance string) []string {
	out, err := a.s.DescribeVolumes(a.ctx(), &ec2.DescribeVolumesInput{
		Filters: []types.Filter{{Name: aws.String("attachment.instance-id"), Values: []string{instance}}},
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
