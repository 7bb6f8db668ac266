package ec2

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// filterTable has a function for each filter name of a describe; it returns the
// values of a resource to match.
type filterTable[T any] map[string]func(T) []string

// apply keeps the items that match every filter. tags may be nil.
func (table filterTable[T]) apply(items []T, filters []types.Filter, tags func(T) []types.Tag) ([]T, error) {
	for _, f := range filters {
		values, err := table.values(aws.ToString(f.Name), tags)
		if err != nil {
			return nil, err
		}
		if len(f.Values) > 200 {
			return nil, wire.Errorf("FilterLimitExceeded", "The maximum length for a filter value list is 200")
		}
		items = slices.DeleteFunc(slices.Clone(items), func(item T) bool {
			return !slices.ContainsFunc(values(item), func(value string) bool {
				return slices.ContainsFunc(f.Values, func(pattern string) bool { return wildcard(pattern, value) })
			})
		})
	}
	return items, nil
}

func (table filterTable[T]) values(name string, tags func(T) []types.Tag) (func(T) []string, error) {
	if values, ok := table[name]; ok {
		return values, nil
	}
	if tags != nil {
		if key, ok := strings.CutPrefix(name, "tag:"); ok {
			return func(item T) []string {
				return collectTags(tags(item), func(t types.Tag) (string, bool) { return aws.ToString(t.Value), aws.ToString(t.Key) == key })
			}, nil
		}
		switch name {
		case "tag-key":
			return func(item T) []string {
				return collectTags(tags(item), func(t types.Tag) (string, bool) { return aws.ToString(t.Key), true })
			}, nil
		case "tag-value":
			return func(item T) []string {
				return collectTags(tags(item), func(t types.Tag) (string, bool) { return aws.ToString(t.Value), true })
			}, nil
		}
	}
	return nil, wire.Errorf("InvalidParameterValue", "The filter '%s' is invalid", name)
}

func collectTags(tags []types.Tag, pick func(types.Tag) (string, bool)) []string {
	var values []string
	for _, t := range tags {
		if value, ok := pick(t); ok {
			values = append(values, value)
		}
	}
	return values
}

// wildcard matches like EC2 filters: * is any text, ? any one character, and a
// backslash escapes the next character.
func wildcard(pattern, value string) bool {
	for pattern != "" {
		switch pattern[0] {
		case '*':
			for i := range len(value) + 1 {
				if wildcard(pattern[1:], value[i:]) {
					return true
				}
			}
			return false
		case '?':
			if value == "" {
				return false
			}
		case '\\':
			if len(pattern) > 1 {
				pattern = pattern[1:]
			}
			fallthrough
		default:
			if value == "" || value[0] != pattern[0] {
				return false
			}
		}
		pattern, value = pattern[1:], value[1:]
	}
	return value == ""
}

// page returns one page of sorted items. least is the smallest MaxResults that
// the operation accepts.
func page[T any](items []T, nextToken *string, maxResults *int32, least int32) ([]T, *string, error) {
	if maxResults != nil && (*maxResults < least || *maxResults > 1000) {
		return nil, nil, wire.Errorf("InvalidParameterValue",
			"Value ( %d ) for parameter maxResults is invalid. Expecting a value from %d to 1000.", *maxResults, least)
	}
	items, next, err := scope.Page(items, aws.ToString(nextToken), int(aws.ToInt32(maxResults)))
	if err != nil || next == "" {
		return items, nil, err
	}
	return items, &next, nil
}

// one returns a text as the only filter value; a nil text matches nothing.
func one(value *string) []string {
	if value == nil {
		return nil
	}
	return []string{*value}
}

func boolText(b bool) []string {
	if b {
		return []string{"true"}
	}
	return []string{"false"}
}
