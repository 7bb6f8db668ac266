package events_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
)

const amiEvent = `{"source":"aws.ec2","detail-type":"EC2 AMI State Change","account":"111122223333","region":"eu-west-1",
 "resources":["arn:aws:ec2:eu-west-1::image/ami-1","arn:aws:ec2:eu-west-1::image/ami-2"],
 "detail":{"State":"available","ImageId":"ami-1","size":8,"nothing":null,"encrypted":true,"ip":"10.1.2.3","empty":"",
  "disks":[{"name":"xvda","gib":8},{"name":"xvdb","gib":20}]}}`

func TestPatternsDecideAsEventBridgeDoes(t *testing.T) {
	for sentence, tc := range map[string]struct {
		pattern string
		want    bool
	}{
		"an exact value matches":                            {`{"source":["aws.ec2"]}`, true},
		"any of several values matches":                     {`{"source":["aws.ssm","aws.ec2"]}`, true},
		"another value does not":                            {`{"source":["aws.ssm"]}`, false},
		"all fields must match":                             {`{"source":["aws.ec2"],"region":["us-east-1"]}`, false},
		"nested fields match":                               {`{"detail":{"State":["available"]}}`, true},
		"an element of an array is enough":                  {`{"resources":["arn:aws:ec2:eu-west-1::image/ami-2"]}`, true},
		"a field inside an array of objects matches":        {`{"detail":{"disks":{"name":["xvdb"]}}}`, true},
		"no element has both values":                        {`{"detail":{"disks":{"name":["xvda"],"gib":[20]}}}`, false},
		"numbers are compared as numbers":                   {`{"detail":{"size":[8.0]}}`, true},
		"a number is not its text":                          {`{"detail":{"size":["8"]}}`, false},
		"null matches null":                                 {`{"detail":{"nothing":[null]}}`, true},
		"null does not match an absent field":               {`{"detail":{"absent":[null]}}`, false},
		"a boolean matches":                                 {`{"detail":{"encrypted":[true]}}`, true},
		"prefix matches the beginning":                      {`{"detail":{"ImageId":[{"prefix":"ami-"}]}}`, true},
		"prefix does not match elsewhere":                   {`{"detail":{"ImageId":[{"prefix":"mi-"}]}}`, false},
		"prefix can ignore case":                            {`{"detail":{"ImageId":[{"prefix":{"equals-ignore-case":"AMI-"}}]}}`, true},
		"suffix matches the end":                            {`{"detail":{"ImageId":[{"suffix":"-1"}]}}`, true},
		"suffix does not match elsewhere":                   {`{"detail":{"ImageId":[{"suffix":"ami"}]}}`, false},
		"equals-ignore-case ignores case":                   {`{"detail":{"State":[{"equals-ignore-case":"AVAILABLE"}]}}`, true},
		"equals-ignore-case wants the whole":                {`{"detail":{"State":[{"equals-ignore-case":"AVAIL"}]}}`, false},
		"wildcard matches in the middle":                    {`{"detail":{"State":[{"wildcard":"av*l*ble"}]}}`, true},
		"wildcard wants the end":                            {`{"detail":{"State":[{"wildcard":"av*bl"}]}}`, false},
		"wildcard without a star is exact":                  {`{"detail":{"State":[{"wildcard":"available"}]}}`, true},
		"an escaped star is a star":                         {`{"detail":{"State":[{"wildcard":"av\\*"}]}}`, false},
		"wildcard parts do not overlap":                     {`{"detail":{"ImageId":[{"wildcard":"ami-1*1"}]}}`, false},
		"anything-but holds for another value":              {`{"detail":{"State":[{"anything-but":"failed"}]}}`, true},
		"anything-but fails for the value":                  {`{"detail":{"State":[{"anything-but":["failed","available"]}]}}`, false},
		"anything-but fails for an absent field":            {`{"detail":{"absent":[{"anything-but":"x"}]}}`, false},
		"anything-but takes a prefix":                       {`{"detail":{"ImageId":[{"anything-but":{"prefix":"ami-"}}]}}`, false},
		"anything-but takes several suffixes":               {`{"detail":{"ImageId":[{"anything-but":{"suffix":["-2","-3"]}}]}}`, true},
		"anything-but takes a wildcard":                     {`{"detail":{"State":[{"anything-but":{"wildcard":"*able"}}]}}`, false},
		"numeric compares":                                  {`{"detail":{"size":[{"numeric":[">",7,"<=",8]}]}}`, true},
		"numeric wants both comparisons":                    {`{"detail":{"size":[{"numeric":[">",8,"<",100]}]}}`, false},
		"numeric does not take text":                        {`{"detail":{"State":[{"numeric":[">",0]}]}}`, false},
		"exists true wants the field":                       {`{"detail":{"State":[{"exists":true}]}}`, true},
		"exists true fails without it":                      {`{"detail":{"ErrorMessage":[{"exists":true}]}}`, false},
		"exists false wants it absent":                      {`{"detail":{"ErrorMessage":[{"exists":false}]}}`, true},
		"exists false fails with it":                        {`{"detail":{"State":[{"exists":false}]}}`, false},
		"exists false holds in an object that is absent":    {`{"other":{"field":[{"exists":false}]}}`, true},
		"cidr contains":                                     {`{"detail":{"ip":[{"cidr":"10.0.0.0/8"}]}}`, true},
		"cidr does not contain":                             {`{"detail":{"ip":[{"cidr":"10.2.0.0/16"}]}}`, false},
		"one alternative of $or is enough":                  {`{"$or":[{"source":["x"]},{"detail":{"State":["available"]}}]}`, true},
		"no alternative of $or holds":                       {`{"$or":[{"source":["x"]},{"detail":{"State":["failed"]}}]}`, false},
		"$or adds to its siblings":                          {`{"source":["x"],"$or":[{"region":["eu-west-1"]},{"region":["x"]}]}`, false},
		"$or works in a nested object":                      {`{"detail":{"$or":[{"State":["failed"]},{"size":[{"numeric":["=",8]}]}]}}`, true},
		"an object does not match a leaf":                   {`{"detail":["available"]}`, false},
		"the empty string matches itself":                   {`{"detail":{"empty":[""]}}`, true},
		"an exact value next to a filter: either is enough": {`{"detail":{"State":["failed",{"prefix":"avail"}]}}`, true},
		"a pattern over two events of the AMI life matches": {`{"source":["aws.ec2"],"detail-type":["EC2 AMI State Change"],"detail":{"State":["available","failed"]}}`, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			pattern, err := events.ParsePattern(tc.pattern)
			require.NoError(t, err)
			var event any
			require.NoError(t, json.Unmarshal([]byte(amiEvent), &event))
			assert.Equal(t, tc.want, pattern.Match(event))
		})
	}
}

func TestBadPatternsAreRefusedWithAReason(t *testing.T) {
	for sentence, tc := range map[string]struct{ pattern, reason string }{
		"not JSON":                    {`{`, "not JSON"},
		"not an object":               {`["a"]`, "must be a JSON object"},
		"empty":                       {`{}`, "empty objects"},
		"a bare value":                {`{"source":"aws.ec2"}`, `"source" must be an object or an array`},
		"an empty list":               {`{"source":[]}`, "event pattern at source: empty arrays"},
		"a list in a list":            {`{"source":[["a"]]}`, "an array in an array"},
		"an unknown filter":           {`{"source":[{"regex":"a"}]}`, `unrecognized match type "regex"`},
		"a filter with two keys":      {`{"source":[{"prefix":"a","suffix":"b"}]}`, "exactly one key"},
		"prefix of a number":          {`{"source":[{"prefix":1}]}`, "prefix must be a string"},
		"numeric with text":           {`{"detail":{"n":[{"numeric":[">","1"]}]}}`, "event pattern at detail.n: numeric"},
		"an unknown operator":         {`{"detail":{"n":[{"numeric":["!=",1]}]}}`, `operator "!="`},
		"exists of text":              {`{"detail":{"n":[{"exists":"yes"}]}}`, "exists must be true or false"},
		"consecutive wildcards":       {`{"detail":{"n":[{"wildcard":"a**"}]}}`, "consecutive wildcards"},
		"a bad escape":                {`{"detail":{"n":[{"wildcard":"a\\b"}]}}`, "invalid escape"},
		"anything-but nothing":        {`{"detail":{"n":[{"anything-but":[]}]}}`, "must not be empty"},
		"anything-but with numeric":   {`{"detail":{"n":[{"anything-but":{"numeric":[">",1]}}]}}`, "unrecognized anything-but"},
		"a bad network":               {`{"detail":{"n":[{"cidr":"10.0.0.0"}]}}`, "cidr"},
		"an empty alternative of $or": {`{"$or":[{},{"a":["b"]}]}`, "empty objects"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := events.ParsePattern(tc.pattern)
			assert.ErrorContains(t, err, tc.reason)
		})
	}
}
