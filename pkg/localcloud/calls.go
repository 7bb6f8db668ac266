package localcloud

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Calls is how often a principal called an operation over HTTP.
type Calls struct {
	ARN       string // of the caller
	Service   string // signing name
	Operation string // the method of a request to a REST service
	Count     int    // faults that were injected included
}

// counter counts calls.
type counter struct {
	mu     sync.Mutex
	counts map[Calls]int // by what it counts, with a Count of 0
}

func (c *counter) add(arn, service, operation string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[Calls]int{}
	}
	c.counts[Calls{ARN: arn, Service: service, Operation: operation}]++
}

// before is asked before each call.
func (c *Cloud) before(ctx context.Context, who wire.Caller, service, operation string) error {
	c.calls.add(who.ARN, service, operation)
	return c.Faults.Before(ctx, who, service, operation)
}

// Calls are all calls so far, by caller, service and operation. Calls of methods
// in process are not among them.
func (c *Cloud) Calls() []Calls {
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	var out []Calls
	for call, n := range c.calls.counts {
		call.Count = n
		out = append(out, call)
	}
	slices.SortFunc(out, func(a, b Calls) int {
		return cmp.Or(cmp.Compare(a.ARN, b.ARN), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Operation, b.Operation))
	})
	return out
}
