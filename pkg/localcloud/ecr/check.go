package ecr

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// The limits of ECR
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html and the
// constraints of the API reference).
const (
	maxManifest  = 4 << 20      // bytes
	maxLayer     = 52_000 << 20 // bytes
	maxTags      = 50           // of a repository
	maxBatch     = 100          // images or layers of one request
	maxPage      = 1000
	page         = 100
	maxReferrers = 50
	referrers    = 20
	maxPolicy    = 10240 // characters of a policy's text
	maxLifecycle = 30720
	maxFilters   = 5 // exclusions from tag mutability
)

const (
	namePattern   = `(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*`
	tagPattern    = `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,299}`
	imagePattern  = `[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+`
	filterPattern = `[0-9a-zA-Z._*-]{1,128}`
)

var (
	repositoryName = regexp.MustCompile(`^` + namePattern + `$`)
	imageTag       = regexp.MustCompile(`^` + tagPattern + `$`)
	tagFilter      = regexp.MustCompile(`^` + filterPattern + `$`)
	accountID      = regexp.MustCompile(`^[0-9]{12}$`)
)

// invalid is the error for a parameter that breaks a constraint, in ECR's words.
func invalid(parameter, constraint string, args ...any) error {
	return &types.InvalidParameterException{Message: aws.String(fmt.Sprintf("Invalid parameter at '%s' failed to satisfy constraint: '%s'", parameter, fmt.Sprintf(constraint, args...)))}
}

// checkName checks the name of a repository.
func checkName(name *string) (string, error) {
	text := aws.ToString(name)
	switch {
	case len(text) < 2 || len(text) > 256:
		return "", invalid("repositoryName", "must have a length between 2 and 256")
	case !repositoryName.MatchString(text):
		return "", invalid("repositoryName", "must satisfy regular expression '%s'", namePattern)
	}
	return text, nil
}

func checkRegistry(id *string) error {
	if id != nil && !accountID.MatchString(*id) {
		return invalid("registryId", "must satisfy regular expression '[0-9]{12}'")
	}
	return nil
}

// limit returns the number of results a page has.
func limit(asked *int32, usual, most int) (int, error) {
	if asked == nil {
		return usual, nil
	}
	if n := int(*asked); n >= 1 && n <= most {
		return n, nil
	}
	return 0, invalid("maxResults", "must be between 1 and %d", most)
}

// pageOf returns one page of a list.
func pageOf[T any](all []T, token *string, size int) ([]T, *string, error) {
	out, next, err := scope.Page(all, aws.ToString(token), size)
	if err != nil {
		return nil, nil, invalid("nextToken", "must be a token of this operation")
	}
	if out == nil {
		out = []T{}
	}
	return out, scope.Optional(next), nil
}

// checkMutability checks a setting for the mutability of tags, and its filters
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html).
func checkMutability(m types.ImageTagMutability, filters []types.ImageTagMutabilityExclusionFilter) error {
	switch m {
	case types.ImageTagMutabilityMutable, types.ImageTagMutabilityImmutable:
		if len(filters) > 0 {
			return invalid("imageTagMutabilityExclusionFilters", "must be empty unless imageTagMutability is IMMUTABLE_WITH_EXCLUSION or MUTABLE_WITH_EXCLUSION")
		}
		return nil
	case types.ImageTagMutabilityImmutableWithExclusion, types.ImageTagMutabilityMutableWithExclusion:
	default:
		return invalid("imageTagMutability", "must satisfy enum value set: [%s]", strings.Join(names(m.Values()), ", "))
	}
	if len(filters) < 1 || len(filters) > maxFilters {
		return invalid("imageTagMutabilityExclusionFilters", "must have a length between 1 and %d", maxFilters)
	}
	for _, f := range filters {
		switch {
		case f.FilterType != types.ImageTagMutabilityExclusionFilterTypeWildcard:
			return invalid("imageTagMutabilityExclusionFilters.filterType", "must satisfy enum value set: [WILDCARD]")
		case !tagFilter.MatchString(aws.ToString(f.Filter)):
			return invalid("imageTagMutabilityExclusionFilters.filter", "must satisfy regular expression '%s'", filterPattern)
		case strings.Count(*f.Filter, "*") > 2:
			return invalid("imageTagMutabilityExclusionFilters.filter", "must have at most 2 wildcards")
		}
	}
	return nil
}

func names[T ~string](values []T) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

// wildcard reports whether a text matches a pattern in which * stands for any text.
func wildcard(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

// immutable reports whether a tag of the repository can never be moved.
func (r *repository) immutable(tag string) bool {
	excluded := false
	for _, f := range r.Exclusions {
		excluded = excluded || wildcard(aws.ToString(f.Filter), tag)
	}
	switch r.Mutability {
	case types.ImageTagMutabilityImmutable:
		return true
	case types.ImageTagMutabilityImmutableWithExclusion:
		return !excluded
	case types.ImageTagMutabilityMutableWithExclusion:
		return excluded
	}
	return false
}
