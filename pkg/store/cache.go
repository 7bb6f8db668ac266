package store

import (
	"context"
	"slices"
	"sync"
)

// mostCached is how many objects a Cache keeps: a function works on one execution at
// a time, and side by side on few.
const mostCached = 4

// maxCached is the size of the largest object that is kept, in bytes, so that a
// function's memory stays bounded.
const maxCached = 4 << 20

// Cache keeps what the objects read last decode to, for a function that is called
// many times for one execution. An entry is of one object with one digest, so that a
// value is never that of other content. It is safe for concurrent use.
type Cache struct {
	mu      sync.Mutex
	entries []entry // the one used last is last
}

type entry struct {
	object Object
	value  any
}

// Load is Get of an object, decoded. With a cache in the store the value is shared
// with later calls for the same object and type, so do not change it. Of such calls
// the object is not read again: what was decoded is of the very digest.
func Load[T any](ctx context.Context, s Store, o Object, decode func([]byte) (*T, error)) (*T, error) {
	if err := s.checkBucket(o); err != nil {
		return nil, err
	}
	if known, ok := cached[T](s.Cache, o); ok {
		return known, nil
	}
	raw, err := s.Get(ctx, o)
	if err != nil {
		return nil, err
	}
	value, err := decode(raw)
	if err != nil {
		return nil, err
	}
	if s.Cache != nil && len(raw) <= maxCached {
		s.Cache.keep(entry{o, value})
	}
	return value, nil
}

func cached[T any](c *Cache, o Object) (*T, bool) {
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, e := range c.entries {
		if value, ok := e.value.(*T); ok && e.object == o {
			c.entries = append(slices.Delete(c.entries, i, i+1), e)
			return value, true
		}
	}
	return nil, false
}

func (c *Cache) keep(e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) == mostCached {
		c.entries = slices.Delete(c.entries, 0, 1)
	}
	c.entries = append(c.entries, e)
}
