package localcloud

import (
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkkms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/kms"
)

// addKeyRules adds the rules of KMS, whose calls are about one key each.
func addKeyRules(out map[string]rule) {
	for _, operation := range []string{"CreateGrant", "DescribeKey", "Encrypt", "GenerateDataKey", "GetKeyPolicy", "ListGrants", "PutKeyPolicy", "RetireGrant", "ScheduleKeyDeletion"} {
		out["kms:"+operation] = func(a asker, input any) ([]iam.Request, error) {
			return []iam.Request{a.key("kms:"+operation, member(input, "KeyId"))}, nil
		}
	}
	out["kms:Decrypt"] = of(func(a asker, in *sdkkms.DecryptInput) []iam.Request {
		ref := aws.ToString(in.KeyId)
		if ref == "" {
			ref = kms.KeyOf(in.CiphertextBlob)
		}
		return []iam.Request{a.key("kms:Decrypt", ref)}
	})
	for _, operation := range []string{"CreateKey", "ListAliases", "ListKeys"} {
		out["kms:"+operation] = onAll("kms:" + operation)
	}
}

// key asks for an action on the key that a reference means.
func (a asker) key(action, ref string) iam.Request {
	arn := ref
	if key, err := a.c.KMS.Resolve(a.who.Account, a.who.Region, ref); err == nil {
		arn = key.ARN
	} else if !strings.HasPrefix(ref, "arn:") { // KMS will say so
		arn = a.arn("kms", a.who.Account, "key/unknown")
	}
	return iam.Request{Action: action, Resource: arn, Context: iam.Context(map[string][]string{"kms:CallerAccount": {a.who.Account}})}
}

// member is a text in an input of the SDK; empty where it has none of that name.
func member(input any, name string) string {
	v := reflect.Indirect(reflect.ValueOf(input))
	if v.Kind() != reflect.Struct {
		return ""
	}
	field := v.FieldByName(name)
	if !field.IsValid() {
		return ""
	}
	text, _ := field.Interface().(*string)
	return aws.ToString(text)
}
