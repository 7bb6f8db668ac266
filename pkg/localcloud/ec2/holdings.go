package ec2

import (
	"cmp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Holding counts the resources of an account in a region.
type Holding struct {
	Account   string `json:"account"`
	Region    string `json:"region"`
	Images    int    `json:"images"`
	Instances int    `json:"instances"`
	Snapshots int    `json:"snapshots"`
}

// Holdings returns the holdings of all accounts and regions with resources,
// sorted by region and account.
func (s *Service) Holdings() []Holding {
	s.mu.Lock()
	defer s.unlock()
	type place struct{ account, region string }
	all := map[place]*Holding{}
	in := func(account, region string) *Holding {
		p := place{account, region}
		if all[p] == nil {
			all[p] = &Holding{Account: account, Region: region}
		}
		return all[p]
	}
	for _, i := range s.st.Images {
		in(aws.ToString(i.OwnerId), i.Region).Images++
	}
	for _, i := range s.st.Instances {
		in(i.Account, i.Region).Instances++
	}
	for _, i := range s.st.Snapshots {
		in(aws.ToString(i.OwnerId), i.Region).Snapshots++
	}
	out := make([]Holding, 0, len(all))
	for _, h := range all {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b Holding) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Account, b.Account))
	})
	return out
}
