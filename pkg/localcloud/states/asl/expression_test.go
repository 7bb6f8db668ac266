package asl

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExpressions(t *testing.T) {
	const input = `{"a":[1,2,3],"o":{"x":null,"y":"s","z":{}},"n":5,"s":"str","b":true,"none":[],"one":[7],
		"url":"http://x/*y*/","people":[{"name":"B","age":2},{"name":"A","age":1}]}`
	tests := map[string]struct{ expression, want string }{
		"a member":                                  {`$states.input.n`, `5`},
		"a list of one stays a list":                {`$states.input.one`, `[7]`},
		"an empty list stays one":                   {`$states.input.none`, `[]`},
		"null is a value":                           {`$states.input.o.x`, `null`},
		"null is equal to null":                     {`$states.input.o.x = null`, `true`},
		"null exists":                               {`$exists($states.input.o.x)`, `true`},
		"null survives in a larger value":           {`$states.input.o`, `{"x":null,"y":"s","z":{}}`},
		"what is missing does not exist":            {`$exists($states.input.nothing)`, `false`},
		"a missing member is left out of an object": {`{"k": $states.input.nothing}`, `{}`},
		"condition":                                 {`$states.input.n > 4 and $states.input.b ? 'yes' : 'no'`, `"yes"`},
		"filter":                                    {`$states.input.a[$ > 1]`, `[2,3]`},
		"index from the end":                        {`$states.input.a[-1]`, `3`},
		"mapping over objects":                      {`$states.input.people.{"who": name}`, `[{"who":"B"},{"who":"A"}]`},
		"sorting":                                   {`$sort($states.input.people, function($l, $r) { $l.age > $r.age }).name`, `["A","B"]`},
		"lambda":                                    {`$map($states.input.a, function($v) { $v * 2 })`, `[2,4,6]`},
		"merge":                                     {`$merge([{"p": 1}, {"q": null}])`, `{"p":1,"q":null}`},
		"local variables":                           {`($x := 4; $y := $x * 2; $x + $y)`, `12`},
		"a variable of the execution":               {`$plan.id & '!'`, `"p-1!"`},
		"a point before a closing quote":            {`'ends.' & $states.input.s & '.'`, `"ends.str."`},
		"what looks like a comment in a string":     {`'http://*/ /* x */'`, `"http://*/ /* x */"`},
		"a comment":                                 {`1 /* one */ + 2`, `3`},
		"a quoted path step":                        {`$states.input."people".name`, `["B","A"]`},
		"escapes in a string":                       {`'a\\c\u0041\/d'`, `"a\\cA/d"`},
		"a regular expression with a quote":         {`$replace("it's", /'/, '"')`, `"it\"s"`},
		"characters that HTML escapes":              {`'<a&b>'`, `"<a&b>"`},
		"counts are plain numbers":                  {`$count($states.input.a)`, `3`},
		"the clock's time":                          {`$now()`, `"2026-03-01T12:00:00.500Z"`},
		"the clock's time in a picture":             {`$now('[Y0001]-[M01]-[D01]')`, `"2026-03-01"`},
		"the clock's milliseconds":                  {`$millis()`, `1772366400500`},
		"milliseconds of a time stamp":              {`$toMillis('2026-03-01T12:00:00Z')`, `1772366400000`},
		"keys are in order":                         {`$keys($states.input.o)`, `["x","y","z"]`},
		"each is in order":                          {`$each({"b": 1, "a": 2}, function($v, $k) { $k & $v })`, `["a2","b1"]`},
		"spread is in order":                        {`$spread({"b": 1, "a": 2})`, `[{"a":2},{"b":1}]`},
		"partition":                                 {`$partition([1,2,3,4,5], 2)`, `[[1,2],[3,4],[5]]`},
		"range":                                     {`$range(0, 10, 5)`, `[0,5,10]`},
		"range downwards":                           {`$range(3, 1, -1)`, `[3,2,1]`},
		"MD5":                                       {`$hash('a', 'MD5')`, `"0cc175b9c0f1b6a831c399e269772661"`},
		"SHA-1":                                     {`$hash('a', 'SHA-1')`, `"86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"`},
		"SHA-256":                                   {`$hash('a', 'SHA-256')`, `"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"`},
		"SHA-384 has 96 digits":                     {`$length($hash('a', 'SHA-384'))`, `96`},
		"SHA-512 has 128 digits":                    {`$length($hash('a', 'SHA-512'))`, `128`},
		"one seed, one number":                      {`$random(7) = $random(7)`, `true`},
		"a random number is below 1":                {`$random() < 1 and $random() >= 0`, `true`},
		"uuid":                                      {`$match($uuid(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/).match = '' `, `false`},
		"parse":                                     {`$parse('{"a":{"b":null}}').a`, `{"b":null}`},
		"an assertion that holds gives nothing back": {`{"a": $assert(true, 'no')}`, `{}`},
	}
	var decoded, err = decode([]byte(input))
	require.NoError(t, err)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e, err := compileExpression(tc.expression)
			require.NoError(t, err)
			got, err := e.eval(map[string]any{
				"states": map[string]any{"input": decoded},
				"plan":   map[string]any{"id": "p-1"},
			}, time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.UTC), func() float64 { return 0.25 })
			require.NoError(t, err)
			raw, err := encode(got)
			require.NoError(t, err)
			assert.Equal(t, tc.want, string(raw))
			assert.True(t, json.Valid(raw))
		})
	}
}

func TestExpressionsThatFail(t *testing.T) {
	tests := map[string]struct{ expression, because string }{
		"nothing":                    {`$states.input.nothing`, "returned nothing (undefined)"},
		"an unknown variable":        {`$unknown`, "returned nothing (undefined)"},
		"an unknown function":        {`$unknown()`, "cannot call non-function $unknown"},
		"adding to a string":         {`'a' + 1`, "must evaluate to a number"},
		"a function as result":       {`function($x) { $x }`, "returned a function"},
		"$eval":                      {`$eval('1')`, "no function of Step Functions has this name"},
		"the engine's own additions": {`$hash256('a')`, "no function of Step Functions has this name"},
		"an assertion":               {`$assert(1 = 2, 'one is not two')`, "one is not two"},
		"$error":                     {`$error('stop here')`, "stop here"},
		"$parse of something else":   {`$parse('{')`, "is not JSON"},
		"$hash with a wrong name":    {`$hash('a', 'CRC')`, "MD5, SHA-1"},
		"$partition by nothing":      {`$partition([1], 0)`, "at least 1"},
		"$range without a step":      {`$range(1, 2, 0)`, "the step is not 0"},
		"$range without an end":      {`$range(1, 2)`, "takes 3 to 3 arguments, not 2"},
		"a long $range":              {`$range(1, 2000, 1)`, "the maximum is 1000"},
		"the input at the top":       {`$`, "returned nothing"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e, err := compileExpression(tc.expression)
			require.NoError(t, err)
			_, err = e.eval(map[string]any{"states": map[string]any{}}, time.Time{}, func() float64 { return 0 })
			require.Error(t, err)
			assert.Contains(t, err.Error(), tc.because)
		})
	}
}

func TestExpressionsThatAreNotCompiled(t *testing.T) {
	tests := map[string]struct{ expression, because string }{
		"a syntax error":                      {`$a +`, "unexpected end"},
		"coalescing, which is of JSONata 2.1": {`$a ?? 1`, "not part of JSONata 2.0.6"},
		"the Elvis operator":                  {`$a ?: 1`, "not part of JSONata 2.0.6"},
		"an open string":                      {`'a`, "has no end"},
		"an open comment":                     {`1 /* a`, "has no end"},
		"an open name":                        {"$a.`b", "has no end"},
		"an open regular expression":          {`$match('a', /b`, "has no end"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := compileExpression(tc.expression)
			require.Error(t, err)
			assert.Contains(t, err.Error(), tc.because)
		})
	}
}

// Only the stack of a goroutine ends the process when it overflows, and nothing
// can recover from that.
func TestExpressionsWithoutEndFailAndEndNothingElse(t *testing.T) {
	for name, tc := range map[string]struct{ expression, because string }{
		"a function that calls itself":         {`($f := function($n) { $f($n + 1) }; $f(1))`, "calls itself too deeply"},
		"two that call each other":             {`($f := function($n) { $g($n) }; $g := function($n) { $f($n) }; $f(1))`, "calls itself too deeply"},
		"one with a signature":                 {`($f := function($n)<n:n> { $f($n) }; $f(1))`, "calls itself too deeply"},
		"one written with λ":                   {`($f := λ($n) { $f($n) }; $f(1))`, "calls itself too deeply"},
		"through $map":                         {`($f := function($n) { $map([1, 2], $f) }; $f(1))`, "calls itself too deeply"},
		"through $reduce, $sort and a context": {`($f := function($a, $b) { $reduce([1, 2, 3], $f) }; $f(1, 2))`, "calls itself too deeply"},
		"without parameters, among comments":   {`($f := function /* a */ () /* b { */ { [$f(), '}'] }; $f())`, "calls itself too deeply"},
		"a function in a function":             {`($f := function() { function() { $f()() } }; $f()())`, "calls itself too deeply"},
		"a fixed-point combinator":             {`(function($x) { $x($x) })(function($x) { $x($x) })`, "calls itself too deeply"},
		"partial application":                  {`($f := function($a, $b) { ($g := $f(?, $b); $g(1)) }; $f(1, 2))`, "calls itself too deeply"},
		"a loop of many calls":                 {`$sum($map([1..100000], function($i) { $sum($map([1..1000], function($j) { $j })) }))`, "too much"},
		"a product of ranges":                  {`$count([1..1000000].([1..1000000]))`, "too much"},
		"a range of ranges in an array":        {`$count([[1..500000], [1..500000], [1..500000]])`, "too much"},
		"a range with a computed end":          {`($n := 90000000; $count([1..$n]))`, "too much"},
		"padding to no end":                    {`$length($pad('x', 2000000000))`, "too much"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := compileExpression(tc.expression)
			require.NoError(t, err)
			_, err = e.eval(map[string]any{}, time.Time{}, func() float64 { return 0 })
			require.Error(t, err)
			assert.Contains(t, err.Error(), tc.because)
		})
	}
}

func TestExpressionsThatAreNestedTooDeeplyAreNotCompiled(t *testing.T) {
	for name, expression := range map[string]string{
		"parentheses": strings.Repeat("(", 500_000) + "1" + strings.Repeat(")", 500_000),
		"lists":       strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000),
		"open":        strings.Repeat("{\"a\":", 100_000),
		"signs":       strings.Repeat("- ", 400_000) + "1",
		"conditions":  strings.Repeat("1?1:", 200_000) + "1",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := compileExpression(expression)
			require.Error(t, err)
			assert.Contains(t, err.Error(), "at most")
		})
	}
}

func TestWhatIsNotWithoutEndGoesOnWorking(t *testing.T) {
	for name, tc := range map[string]struct{ expression, want string }{
		"a factorial":                      {`($f := function($n) { $n <= 1 ? 1 : $n * $f($n - 1) }; $f(20))`, `2432902008176640000`},
		"a hundred calls deep":             {`($f := function($n) { $n = 0 ? 0 : 1 + $f($n - 1) }; $f(100))`, `100`},
		"a thousand elements":              {`$sum($map([1..1000], function($v) { $v * 2 }))`, `1001000`},
		"an object as a function's result": {`(function($x) { {"a": $x} })(1)`, `{"a":1}`},
		"a block as a function's body":     {`(function($x) { ($y := $x; $y + 1) })(1)`, `2`},
		"nothing as a function's result":   {`{"a": (function() { $nothing })()}`, `{}`},
		"a list as a function's result":    {`(function() { [1, 2] })()`, `[1,2]`},
		"a field named function":           {`{"function": 1}.function`, `1`},
		"a range that counts down":         {`[3..1]`, `[]`},
		"ranges beside other elements":     {`[0, 2..4, 7]`, `[0,2,3,4,7]`},
		"a range of expressions":           {`($a := 1; [$a+1..$a+3])`, `[2,3,4]`},
		"padding":                          {`$pad('x', -3, '0')`, `"00x"`},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := compileExpression(tc.expression)
			require.NoError(t, err)
			got, err := e.eval(map[string]any{}, time.Time{}, func() float64 { return 0 })
			require.NoError(t, err)
			raw, err := encode(got)
			require.NoError(t, err)
			assert.Equal(t, tc.want, string(raw))
		})
	}
}
