package blueprint

import "slices"

// dataKeyUse is what a role needs of the key that encrypts the bucket, the topics and
// the queue, to do its actions on them; nil where it does none. Each service calls KMS
// in the caller's name.
func (site Site) dataKeyUse(actions []Action) Policy {
	if site.DataKey == "" {
		return nil
	}
	uses := []struct {
		action, service string
		needs           []string
	}{
		{"s3:GetObject", "s3", []string{"kms:Decrypt"}},
		{"s3:PutObject", "s3", []string{"kms:GenerateDataKey"}},
		{"sns:Publish", "sns", []string{"kms:Decrypt", "kms:GenerateDataKey"}},
		{"sqs:SendMessage", "sqs", []string{"kms:Decrypt", "kms:GenerateDataKey"}},
	}
	var needs, via []string
	for _, use := range uses {
		if slices.ContainsFunc(actions, func(a Action) bool { return a.Name == use.action }) {
			needs, via = append(needs, use.needs...), append(via, use.service+".*."+site.URLSuffix)
		}
	}
	if len(needs) == 0 {
		return nil
	}
	slices.Sort(needs)
	slices.Sort(via)
	return Policy{{
		Actions: slices.Compact(needs), Resources: []string{site.DataKey},
		Conditions: Conditions{"StringLike": {"kms:ViaService": slices.Compact(via)}},
	}}
}
