package sqs

import (
	"crypto/md5" // #nosec G501 -- required by SQS's protocol; nothing here relies on it
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

func digest(text string) string {
	sum := md5.Sum([]byte(text)) // #nosec G401 -- see above
	return hex.EncodeToString(sum[:])
}

// digestOf returns the digest of attributes that clients verify
// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html),
// or "" without attributes.
func digestOf(attributes map[string]types.MessageAttributeValue) string {
	if len(attributes) == 0 {
		return ""
	}
	var b []byte
	add := func(text string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a := attributes[name]
		add(name)
		add(aws.ToString(a.DataType))
		if strings.HasPrefix(aws.ToString(a.DataType), "Binary") {
			b = append(b, 2)
			add(string(a.BinaryValue))
			continue
		}
		b = append(b, 1)
		add(aws.ToString(a.StringValue))
	}
	return digest(string(b))
}
