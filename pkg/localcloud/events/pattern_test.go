package events_test

import (
	"encoding/json"
	"fmt"
	"strings"
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

func TestBadPatternsAreRefusedInEventBridgesWords(t *testing.T) {
	for sentence, tc := range map[string]struct{ pattern, reason string }{
		"not JSON":                                   {`{`, "Unexpected end-of-input"},
		"empty text":                                 {``, "Filter is not an object"},
		"not an object":                              {`["a"]`, "Filter is not an object"},
		"empty":                                      {`{}`, "Empty objects are not allowed"},
		"a bare value":                               {`{"source":"aws.ec2"}`, `"source" must be an object or an array`},
		"null":                                       {`{"source":null}`, `"source" must be an object or an array`},
		"an empty list":                              {`{"source":[]}`, "Empty arrays are not allowed\n at [Source: (String)\"{\"source\":[]}\"; line: 1, column: 13]"},
		"the line is counted":                        {"{\n \"source\":\n []}", "line: 3, column: 4]"},
		"a list in a list":                           {`{"source":[["a"]]}`, "Match value must be String, number, true, false, or null"},
		"an unknown filter":                          {`{"source":[{"regex":"a"}]}`, "Unrecognized match type regex"},
		"an operator in capitals":                    {`{"source":[{"Prefix":"a"}]}`, "Unrecognized match type Prefix"},
		"an empty filter":                            {`{"source":[{}]}`, "Match expression name not found"},
		"a filter with two keys":                     {`{"source":[{"prefix":"a","suffix":"b"}]}`, "Only one key allowed in match expression"},
		"prefix of a number":                         {`{"source":[{"prefix":1}]}`, "prefix match pattern must be a string"},
		"prefix of null":                             {`{"source":[{"prefix":null}]}`, "prefix match pattern must be a string"},
		"prefix of a list":                           {`{"source":[{"prefix":["a"]}]}`, "prefix match pattern must be a string"},
		"suffix of a number":                         {`{"source":[{"suffix":1}]}`, "suffix match pattern must be a string"},
		"prefix of an unknown filter":                {`{"source":[{"prefix":{"wildcard":"a"}}]}`, "Unsupported prefix pattern: wildcard"},
		"suffix of nothing":                          {`{"source":[{"suffix":{}}]}`, "Suffix expression name not found"},
		"prefix ignoring the case of a list":         {`{"source":[{"prefix":{"equals-ignore-case":["a"]}}]}`, "equals-ignore-case match pattern must be a string"},
		"equals-ignore-case of a list":               {`{"source":[{"equals-ignore-case":["a","b"]}]}`, "equals-ignore-case match pattern must be a string"},
		"equals-ignore-case of a number":             {`{"source":[{"equals-ignore-case":5}]}`, "equals-ignore-case match pattern must be a string"},
		"wildcard of a number":                       {`{"source":[{"wildcard":5}]}`, "wildcard match pattern must be a string"},
		"exists of text":                             {`{"detail":{"n":[{"exists":"yes"}]}}`, "exists match pattern must be either true or false."},
		"consecutive wildcards":                      {`{"detail":{"n":[{"wildcard":"a**"}]}}`, "Consecutive wildcard characters at pos 2"},
		"a bad escape":                               {`{"detail":{"n":[{"wildcard":"a\\b"}]}}`, "Invalid escape character at pos 2"},
		"an escape of nothing":                       {`{"detail":{"n":[{"wildcard":"a\\"}]}}`, "Invalid escape character at pos 2"},
		"numeric without a list":                     {`{"detail":{"n":[{"numeric":5}]}}`, "Value of numeric must be an array."},
		"numeric of a number alone":                  {`{"detail":{"n":[{"numeric":[5]}]}}`, "Invalid member in numeric match: 5"},
		"numeric with text":                          {`{"detail":{"n":[{"numeric":[">","1"]}]}}`, "Value of > must be numeric"},
		"numeric equal to text":                      {`{"detail":{"n":[{"numeric":["=","1"]}]}}`, "Value of equals must be numeric"},
		"an unknown operator":                        {`{"detail":{"n":[{"numeric":["!=",1]}]}}`, "Unrecognized numeric range operator: !="},
		"two lower bounds":                           {`{"detail":{"n":[{"numeric":[">",1,">",2]}]}}`, "Bad numeric range operator: >"},
		"an upper bound first":                       {`{"detail":{"n":[{"numeric":["<",5,">",1]}]}}`, "Too many elements in numeric expression"},
		"equal and more":                             {`{"detail":{"n":[{"numeric":["=",5,"<",9]}]}}`, "Too many elements in numeric expression"},
		"three bounds":                               {`{"detail":{"n":[{"numeric":[">",1,"<",5,"<",9]}]}}`, "Too many terms in numeric range expression"},
		"an empty range":                             {`{"detail":{"n":[{"numeric":[">",5,"<",3]}]}}`, "Bottom must be less than top"},
		"a range of one number":                      {`{"detail":{"n":[{"numeric":[">=",5,"<=",5]}]}}`, "Bottom must be less than top"},
		"a number beyond the limit":                  {`{"detail":{"n":[{"numeric":[">",5000000001]}]}}`, "Value must be between -5.0E9 and 5.0E9, inclusive"},
		"anything-but nothing":                       {`{"detail":{"n":[{"anything-but":[]}]}}`, "either all values are number or string"},
		"anything-but text and numbers":              {`{"detail":{"n":[{"anything-but":["a",1]}]}}`, "either all values are number or string"},
		"anything-but null":                          {`{"detail":{"n":[{"anything-but":null}]}}`, "Value of anything-but must be an array or single string/number value."},
		"anything-but a list with null":              {`{"detail":{"n":[{"anything-but":[null]}]}}`, "Inside anything but list, start|null|boolean is not supported."},
		"anything-but a list in a list":              {`{"detail":{"n":[{"anything-but":[["a"]]}]}}`, "Inside anything but list, start|null|boolean is not supported."},
		"anything-but with numeric":                  {`{"detail":{"n":[{"anything-but":{"numeric":[">",1]}}]}}`, "Unsupported anything-but pattern: numeric"},
		"anything-but an empty filter":               {`{"detail":{"n":[{"anything-but":{}}]}}`, "Anything-But expression name not found"},
		"anything-but an empty prefix":               {`{"detail":{"n":[{"anything-but":{"prefix":""}}]}}`, "Null prefix/suffix not allowed"},
		"anything-but an empty suffix":               {`{"detail":{"n":[{"anything-but":{"suffix":["a",""]}}]}}`, "Null prefix/suffix not allowed"},
		"anything-but prefix of a number":            {`{"detail":{"n":[{"anything-but":{"prefix":1}}]}}`, "prefix/suffix match pattern must be a string"},
		"anything-but prefix ignoring case":          {`{"detail":{"n":[{"anything-but":{"prefix":{"equals-ignore-case":"a"}}}]}}`, "Value of anything-but must be an array or single string/number value."},
		"anything-but ignoring the case of a number": {`{"detail":{"n":[{"anything-but":{"equals-ignore-case":[1]}}]}}`, "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported."},
		"anything-but two filters":                   {`{"detail":{"n":[{"anything-but":{"prefix":"a","suffix":"b"}}]}}`, "Too many elements in numeric expression"},
		"a network without a mask":                   {`{"detail":{"n":[{"cidr":"10.0.0.0"}]}}`, "Malformed CIDR, one '/' required"},
		"a network with text for a mask":             {`{"detail":{"n":[{"cidr":"10.0.0.0/a"}]}}`, "Malformed CIDR, mask bits must be an integer"},
		"a network of one address":                   {`{"detail":{"n":[{"cidr":"10.0.0.1/32"}]}}`, "IPv4 mask bits must be < 32"},
		"an IPv6 network of one address":             {`{"detail":{"n":[{"cidr":"::1/128"}]}}`, "IPv6 mask bits must be < 128"},
		"a network of no address":                    {`{"detail":{"n":[{"cidr":"xx/8"}]}}`, "Nonstandard IP address: xx"},
		"a network that is a number":                 {`{"detail":{"n":[{"cidr":5}]}}`, "prefix match pattern must be a string"},
		"an empty alternative of $or":                {`{"$or":[{},{"a":["b"]}]}`, "Empty objects are not allowed"},
		"a wrong alternative of $or":                 {`{"$or":[{"a":"b"},{"a":["b"]}]}`, `"a" must be an object or an array`},
		"$or with one alternative":                   {`{"$or":[{"a":["b"]}]}`, "Unrecognized match type a"},
		"many wildcards in one text":                 {`{"detail":{"n":[{"wildcard":"*a*a*a*a*a*a*a*a*"}]}}`, "Rule is too complex - try using fewer wildcard characters or fewer repeating character sequences after a wildcard character"},
		"eleven beginnings of one wildcard":          {`{"detail":{"n":[{"wildcard":"a*a*a*a*a*a*"}]}}`, "Rule is too complex"},
		"repetition behind a wildcard":               {`{"detail":{"n":[{"wildcard":"a*bbbbbbbbbbbbbbbbb"}]}}`, "Rule is too complex"},
		"many wildcards that begin alike":            {`{"detail":{"k":[{"wildcard":"*/data/*.a"},{"wildcard":"*/data/*.b"},{"wildcard":"*/data/*.c"},{"wildcard":"*/data/*.d"}]}}`, "Rule is too complex"},
		"wildcards within anything-but":              {`{"detail":{"n":[{"anything-but":{"wildcard":"*a*a*a*a*a*a*a*a*"}}]}}`, "Rule is too complex"},
		"too many combinations of $or":               {manyCombinations(), "more than 1000 combinations"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := events.ParsePattern(tc.pattern)
			assert.ErrorContains(t, err, tc.reason)
		})
	}
}

// manyCombinations is a pattern of 4^6 alternatives.
func manyCombinations() string {
	var parts []string
	for _, field := range []string{"a", "b", "c", "d", "e", "f"} {
		parts = append(parts, fmt.Sprintf(`%q:{"$or":[{"w":["1"]},{"x":["1"]},{"y":["1"]},{"z":["1"]}]}`, field))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestPatternsThatAreNotTooComplexPass(t *testing.T) {
	for sentence, pattern := range map[string]string{
		"nine beginnings of one wildcard":    `{"detail":{"n":[{"wildcard":"a*a*a*a*a*"}]}}`,
		"several wildcards":                  `{"detail":{"n":[{"wildcard":"*/one/*/two/*.txt"}]}}`,
		"two wildcards that begin alike":     `{"detail":{"k":[{"wildcard":"*/data/*.a"},{"wildcard":"*/data/*.b"}]}}`,
		"many wildcards that do not":         `{"detail":{"k":[{"wildcard":"a/*.a"},{"wildcard":"b/*.b"},{"wildcard":"c/*.c"},{"wildcard":"d/*.d"},{"wildcard":"e/*.e"},{"wildcard":"f/*.f"}]}}`,
		"many wildcards in different fields": `{"a":[{"wildcard":"*x*y*"}],"b":[{"wildcard":"*x*y*"}],"c":[{"wildcard":"*x*y*"}],"d":[{"wildcard":"*x*y*"}]}`,
		"the same wildcard in every branch":  `{"$or":[{"a":[{"wildcard":"*x*y*"}],"b":["1"]},{"a":[{"wildcard":"*x*y*"}],"c":["1"]},{"a":[{"wildcard":"*x*y*"}],"d":["1"]}]}`,
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := events.ParsePattern(pattern)
			assert.NoError(t, err)
		})
	}
}

func TestPatternsSeeTheEventAsFields(t *testing.T) {
	for sentence, tc := range map[string]struct {
		pattern, event string
		want           bool
	}{
		"a dotted key matches nested fields":                  {`{"detail.state":["x"]}`, `{"detail":{"state":"x"}}`, true},
		"nested fields match a dotted key":                    {`{"detail":{"state":["x"]}}`, `{"detail.state":"x"}`, true},
		"a dotted key below an object":                        {`{"detail":{"a.b":["x"]}}`, `{"detail":{"a":{"b":"x"}}}`, true},
		"a dotted key wants the whole path":                   {`{"detail.a":["x"]}`, `{"detail":{"b":{"a":"x"}}}`, false},
		"a dotted key keeps to one element":                   {`{"l.a":["1"],"l.b":["2"]}`, `{"l":[{"a":"1","b":"3"},{"a":"4","b":"2"}]}`, false},
		"a dotted key finds one element":                      {`{"l.a":["1"],"l.b":["2"]}`, `{"l":[{"a":"4","b":"3"},{"a":"1","b":"2"}]}`, true},
		"arrays in arrays keep to one element":                {`{"l":{"a":["1"],"b":["2"]}}`, `{"l":[[{"a":"1"},{"b":"2"}],[{"a":"1"}]]}`, false},
		"the key is case-sensitive":                           {`{"Source":["x"]}`, `{"source":"x"}`, false},
		"exists true fails for an object":                     {`{"a":[{"exists":true}]}`, `{"a":{"b":1}}`, false},
		"exists false holds for an object":                    {`{"a":[{"exists":false}]}`, `{"a":{"b":1}}`, true},
		"exists false fails for a list with a leaf":           {`{"a":[{"exists":false}]}`, `{"a":[{"b":1},2]}`, false},
		"exists true fails for an empty list":                 {`{"a":[{"exists":true}]}`, `{"a":[]}`, false},
		"exists false holds for an empty list":                {`{"a":[{"exists":false}]}`, `{"a":[]}`, true},
		"exists false holds below an absent object":           {`{"a":{"b":{"c":[{"exists":false}]}}}`, `{"x":1}`, true},
		"exists true holds for null":                          {`{"a":[{"exists":true}]}`, `{"a":null}`, true},
		"exists false or a value: absent":                     {`{"a":["x",{"exists":false}]}`, `{"b":1}`, true},
		"exists false or a value: another value":              {`{"a":["x",{"exists":false}]}`, `{"a":"y"}`, false},
		"exists false in the element that matched":            {`{"l":{"a":["1"],"b":[{"exists":false}]}}`, `{"l":[{"a":"1"},{"b":"2"}]}`, true},
		"anything-but fails for an object":                    {`{"a":[{"anything-but":"x"}]}`, `{"a":{"b":1}}`, false},
		"anything-but holds for null":                         {`{"a":[{"anything-but":"x"}]}`, `{"a":null}`, true},
		"anything-but a number holds for its text":            {`{"a":[{"anything-but":1}]}`, `{"a":"1"}`, true},
		"anything-but holds for one of a list":                {`{"a":[{"anything-but":["x"]}]}`, `{"a":["x","y"]}`, true},
		"anything-but no case":                                {`{"a":[{"anything-but":{"equals-ignore-case":["X","y"]}}]}`, `{"a":"x"}`, false},
		"anything-but a list of wildcards":                    {`{"a":[{"anything-but":{"wildcard":["*.jar","*.war"]}}]}`, `{"a":"x.war"}`, false},
		"an empty prefix holds for every text":                {`{"a":[{"prefix":""}]}`, `{"a":"x"}`, true},
		"an empty prefix holds for empty text":                {`{"a":[{"prefix":""}]}`, `{"a":""}`, true},
		"an empty prefix fails for a number":                  {`{"a":[{"prefix":""}]}`, `{"a":1}`, false},
		"an empty suffix holds for every text":                {`{"a":[{"suffix":""}]}`, `{"a":"x"}`, true},
		"an empty suffix fails for an absent field":           {`{"a":[{"suffix":""}]}`, `{"b":"x"}`, false},
		"equals-ignore-case of empty text":                    {`{"a":[{"equals-ignore-case":""}]}`, `{"a":""}`, true},
		"equals-ignore-case of empty text, other":             {`{"a":[{"equals-ignore-case":""}]}`, `{"a":"x"}`, false},
		"suffix ignoring case":                                {`{"a":[{"suffix":{"equals-ignore-case":".PNG"}}]}`, `{"a":"x.png"}`, true},
		"exactly":                                             {`{"a":[{"exactly":"x"}]}`, `{"a":"x"}`, true},
		"a wildcard alone holds for empty text":               {`{"a":[{"wildcard":"*"}]}`, `{"a":""}`, true},
		"a wildcard fails for a number":                       {`{"a":[{"wildcard":"*"}]}`, `{"a":1}`, false},
		"an escaped star in a wildcard":                       {`{"a":[{"wildcard":"x\\*y*"}]}`, `{"a":"x*yz"}`, true},
		"numbers in another notation":                         {`{"a":[300]}`, `{"a":3.0e2}`, true},
		"numeric fails for its text":                          {`{"a":[{"numeric":["=",1]}]}`, `{"a":"1"}`, false},
		"numeric fails beyond the limit":                      {`{"a":[{"numeric":[">",1]}]}`, `{"a":5000000001}`, false},
		"a large number is equal to itself":                   {`{"a":[123456789012]}`, `{"a":123456789012}`, true},
		"numeric negative":                                    {`{"a":[{"numeric":[">=",-2.5,"<",0]}]}`, `{"a":-2.5}`, true},
		"an address in its network":                           {`{"a":[{"cidr":"10.0.0.5/24"}]}`, `{"a":"10.0.0.255"}`, true},
		"an address outside":                                  {`{"a":[{"cidr":"10.0.0.0/24"}]}`, `{"a":"10.0.1.0"}`, false},
		"an IPv6 address in its network":                      {`{"a":[{"cidr":"2001:db8::/32"}]}`, `{"a":"2001:0db8:0::1"}`, true},
		"no address in a network":                             {`{"a":[{"cidr":"10.0.0.0/24"}]}`, `{"a":"host"}`, false},
		"an address in another notation":                      {`{"a":["2001:db8::1"]}`, `{"a":"2001:0db8:0:0:0:0:0:1"}`, true},
		"$or and a field that it repeats: first wins no more": {`{"a":["x"],"$or":[{"a":["y"]},{"b":["z"]}]}`, `{"a":"y"}`, true},
		"$or in $or":                          {`{"$or":[{"a":["1"]},{"$or":[{"b":["2"]},{"c":["3"]}]}]}`, `{"c":"3"}`, true},
		"two $or":                             {`{"x":{"$or":[{"a":["1"]},{"b":["2"]}]},"y":{"$or":[{"a":["1"]},{"b":["2"]}]}}`, `{"x":{"a":"1"},"y":{"b":"2"}}`, true},
		"two $or, one fails":                  {`{"x":{"$or":[{"a":["1"]},{"b":["2"]}]},"y":{"$or":[{"a":["1"]},{"b":["2"]}]}}`, `{"x":{"a":"1"},"y":{"b":"3"}}`, false},
		"$or with an absent field":            {`{"$or":[{"a":["1"]},{"b":[{"exists":false}]}]}`, `{"c":1}`, true},
		"$or of an object is a field":         {`{"$or":{"a":["1"]}}`, `{"$or":{"a":"1"}}`, true},
		"$or of values is a field":            {`{"$or":["a","b"]}`, `{"$or":"b"}`, true},
		"$or with reserved words is a field":  {`{"$or":[{"prefix":"a"},{"suffix":"b"}]}`, `{"$or":"xb"}`, true},
		"a repeated key: the last one counts": {`{"a":["x"],"a":["y"]}`, `{"a":"x"}`, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			pattern, err := events.ParsePattern(tc.pattern)
			require.NoError(t, err)
			var event any
			require.NoError(t, json.Unmarshal([]byte(tc.event), &event))
			assert.Equal(t, tc.want, pattern.Match(event))
		})
	}
}
