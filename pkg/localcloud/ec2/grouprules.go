package ec2

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// changeIngress edits the rules of a group, given by id, or by name in the
// default VPC. Rules are stored and shown, but do not filter traffic.
func (s *Service) changeIngress(c wire.Caller, id, name *string, dry *bool, edit func(groupID string, rules []types.IpPermission) ([]types.IpPermission, error)) error {
	if id == nil && name == nil {
		return wire.Errorf("MissingParameter", "The request must contain the parameter GroupId or GroupName")
	}
	is := func(g types.SecurityGroup, vpc string) bool {
		if id != nil {
			return aws.ToString(g.GroupId) == *id
		}
		return aws.ToString(g.GroupName) == *name && aws.ToString(g.VpcId) == vpc
	}
	return s.change(c, func(n network, made *madeNetworks) error {
		if own := n.securityGroups()[0]; is(own, n.vpc) {
			r := s.reach(c)
			rules, err := edit(n.group, slices.Clone(r.Ingress))
			if err == nil {
				err = dryRun(dry)
			}
			if err == nil {
				r.Ingress = rules
			}
			return err
		}
		i := slices.IndexFunc(made.Groups, func(g types.SecurityGroup) bool { return is(g, n.vpc) })
		if i < 0 {
			return wire.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist", aws.ToString(id)+aws.ToString(name))
		}
		rules, err := edit(*made.Groups[i].GroupId, slices.Clone(made.Groups[i].IpPermissions))
		if err == nil {
			err = dryRun(dry)
		}
		if err != nil {
			return err
		}
		made.Groups = slices.Clone(made.Groups)
		made.Groups[i].IpPermissions = rules
		return nil
	})
}

// flatRule reads the older form of one rule, whose members are in the request
// itself.
func flatRule(rules []types.IpPermission, protocol, cidr *string, from, to *int32) ([]types.IpPermission, error) {
	if protocol == nil && cidr == nil {
		if len(rules) == 0 {
			return nil, wire.Errorf("MissingParameter", "The request must contain the parameter IpPermissions, or IpProtocol and CidrIp")
		}
		return rules, nil
	}
	if protocol == nil || cidr == nil || len(rules) > 0 {
		return nil, wire.Errorf("InvalidParameterCombination", "Specify a rule with IpPermissions, or with IpProtocol, FromPort, ToPort and CidrIp")
	}
	return []types.IpPermission{{IpProtocol: protocol, FromPort: from, ToPort: to, IpRanges: []types.IpRange{{CidrIp: cidr}}}}, nil
}

// AuthorizeSecurityGroupIngress adds rules to a group.
func (s *Service) AuthorizeSecurityGroupIngress(ctx context.Context, in *ec2.AuthorizeSecurityGroupIngressInput, optFns ...func(*ec2.Options)) (*ec2.AuthorizeSecurityGroupIngressOutput, error) {
	c := s.caller(ctx, optFns)
	added, err := flatRule(in.IpPermissions, in.IpProtocol, in.CidrIp, in.FromPort, in.ToPort)
	if err != nil {
		return nil, err
	}
	out := &ec2.AuthorizeSecurityGroupIngressOutput{Return: aws.Bool(true), SecurityGroupRules: []types.SecurityGroupRule{}}
	err = s.changeIngress(c, in.GroupId, in.GroupName, in.DryRun, func(group string, rules []types.IpPermission) ([]types.IpPermission, error) {
		for _, p := range added {
			for _, r := range p.IpRanges {
				if err := asciiOnly("IpPermissions.IpRanges.Description", r.Description); err != nil {
					return nil, err
				}
			}
			if slices.ContainsFunc(rules, func(have types.IpPermission) bool { return sameRule(have, p) }) {
				return nil, wire.Errorf("InvalidPermission.Duplicate", "the specified rule \"%s\" already exists", strings.TrimSpace(ruleText(p)))
			}
			rules = append(rules, p)
			for n, r := range p.IpRanges {
				out.SecurityGroupRules = append(out.SecurityGroupRules, types.SecurityGroupRule{
					SecurityGroupRuleId: aws.String(stableID("sgr-", group, ruleText(p), fmt.Sprint(n))), GroupId: aws.String(group), GroupOwnerId: aws.String(c.Account),
					IsEgress: aws.Bool(false), IpProtocol: p.IpProtocol, FromPort: p.FromPort, ToPort: p.ToPort, CidrIpv4: r.CidrIp, Description: r.Description,
				})
			}
		}
		return rules, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// RevokeSecurityGroupIngress removes rules that equal the given ones.
func (s *Service) RevokeSecurityGroupIngress(ctx context.Context, in *ec2.RevokeSecurityGroupIngressInput, optFns ...func(*ec2.Options)) (*ec2.RevokeSecurityGroupIngressOutput, error) {
	removed, err := flatRule(in.IpPermissions, in.IpProtocol, in.CidrIp, in.FromPort, in.ToPort)
	if err != nil {
		return nil, err
	}
	err = s.changeIngress(s.caller(ctx, optFns), in.GroupId, in.GroupName, in.DryRun, func(_ string, rules []types.IpPermission) ([]types.IpPermission, error) {
		for _, p := range removed {
			n := slices.IndexFunc(rules, func(have types.IpPermission) bool { return sameRule(have, p) })
			if n < 0 {
				return nil, wire.Errorf("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
			}
			rules = slices.Delete(rules, n, n+1)
		}
		return rules, nil
	})
	if err != nil {
		return nil, err
	}
	return &ec2.RevokeSecurityGroupIngressOutput{Return: aws.Bool(true)}, nil
}

// sameRule reports whether two rules allow the same traffic.
func sameRule(a, b types.IpPermission) bool { return ruleText(a) == ruleText(b) }

func ruleText(p types.IpPermission) string {
	out := fmt.Sprint(aws.ToString(p.IpProtocol), " ", aws.ToInt32(p.FromPort), "-", aws.ToInt32(p.ToPort))
	for _, r := range p.IpRanges {
		out += " " + aws.ToString(r.CidrIp)
	}
	for _, r := range p.Ipv6Ranges {
		out += " " + aws.ToString(r.CidrIpv6)
	}
	for _, r := range p.UserIdGroupPairs {
		out += " " + aws.ToString(r.GroupId)
	}
	return out
}
