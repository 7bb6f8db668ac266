package release

import (
	"context"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// Current is what consumers of a recipe get in a region: the image ids that its
// pointers in the factory's account name, in the recipe's order, and "" for one that
// names none.
type Current []string

// ReadCurrent reads the pointers of a recipe with api, which is of the region.
func ReadCurrent(ctx context.Context, api ParameterReader, r recipe.Recipe, region string) (Current, error) {
	var out Current
	for _, name := range r.Pointers.Parameters {
		id, err := ReadPointer(ctx, api, name)
		if err != nil {
			return nil, awserr.Wrap(err, failure.Internal, "read pointer %s in %s", name, region)
		}
		out = append(out, id)
	}
	return out, nil
}

// Image is the image that all pointers name; "" if they differ or one names none.
func (c Current) Image() string {
	for _, id := range c {
		if id != c[0] {
			return ""
		}
	}
	if len(c) == 0 {
		return ""
	}
	return c[0]
}
