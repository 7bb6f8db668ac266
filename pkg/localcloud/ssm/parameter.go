package ssm

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Limits of Parameter Store
// (https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html).
const (
	standardValue  = 4 << 10 // bytes, standard tier
	advancedValue  = 8 << 10 // bytes, advanced tier
	longestName    = 1011
	deepestName    = 15 // levels
	mostVersions   = 100
	mostLabels     = 10
	imageDataType  = "aws:ec2:image"
	textDataType   = "text"
	publicPrefix   = "/aws/service/"
	defaultKeyName = "alias/aws/ssm"
)

var (
	parameterName = regexp.MustCompile(`^[a-zA-Z0-9_.\-/]+$`)
	labelName     = regexp.MustCompile(`^[a-zA-Z_.\-][a-zA-Z0-9_.\-]{0,99}$`)
)

// parameter is one parameter with all its versions, oldest first. It has no version
// while its first value is being validated.
type parameter struct {
	Name     string
	Versions []version
	Last     int64 // highest number of a version, including those under validation
	Tags     map[string]string
}

type version struct {
	Number         int64
	Value          string // of a SecureString: base64 of the ciphertext
	Type           types.ParameterType
	DataType       string
	Tier           types.ParameterTier
	Description    string
	KeyID          string
	AllowedPattern string
	Modified       time.Time
	By             string // ARN
	Labels         []string
}

func (p *parameter) current() (version, bool) {
	if p == nil || len(p.Versions) == 0 {
		return version{}, false
	}
	return p.Versions[len(p.Versions)-1], true
}

// pick returns the version for a selector, which is empty, a number or a label.
func (p *parameter) pick(selector string) (version, error) {
	v, ok := p.current()
	if selector == "" || !ok {
		return v, nil
	}
	n, err := strconv.ParseInt(selector, 10, 64)
	for _, v := range p.Versions {
		if err == nil && v.Number == n || slices.Contains(v.Labels, selector) {
			return v, nil
		}
	}
	return version{}, &types.ParameterVersionNotFound{Message: aws.String(fmt.Sprintf("Systems Manager could not find version %s of %s. Verify the version and try again.", selector, p.Name))}
}

// SetPublicParameter sets a parameter below /aws/service/ in a region, which every
// account can read and none can write.
func (s *Service) SetPublicParameter(region, name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.public[region] == nil {
		s.public[region] = map[string]*parameter{}
	}
	p, ok := s.public[region][name]
	if !ok {
		p = &parameter{Name: name}
		s.public[region][name] = p
	}
	if v, ok := p.current(); ok && v.Value == value {
		return
	}
	dataType := textDataType
	if strings.HasPrefix(value, "ami-") {
		dataType = imageDataType
	}
	p.Last++
	p.Versions = append(p.Versions, version{
		Number: p.Last, Value: value, Type: types.ParameterTypeString, DataType: dataType,
		Tier: types.ParameterTierStandard, Modified: s.cfg.Clock.Now(),
	})
}

// lookup returns a parameter by name or ARN. s.mu is held.
func (s *Service) lookup(at scope.Key, name string) (*parameter, bool) {
	if strings.HasPrefix(name, publicPrefix) {
		p, ok := s.public[at.Region][name]
		return p, ok
	}
	p, ok := s.params[at][name]
	if !ok || len(p.Versions) == 0 {
		return nil, false
	}
	return p, true
}

// ref splits a reference to a parameter into its name or ARN and the selector after a
// colon.
func ref(text string) (name, selector string) {
	if strings.HasPrefix(text, "arn:") {
		parts := strings.SplitN(text, ":", 7)
		if len(parts) >= 6 {
			text = strings.TrimPrefix(parts[5], "parameter")
			if strings.Count(text, "/") == 1 {
				text = strings.TrimPrefix(text, "/")
			}
			if len(parts) == 7 {
				text += ":" + parts[6]
			}
		}
	}
	name, selector, _ = strings.Cut(text, ":")
	return name, selector
}

func parameterARN(at scope.Key, name string) string {
	account := at.Account
	if strings.HasPrefix(name, publicPrefix) {
		account = "" // ARNs of public parameters have no account
	}
	return partition.ARN("ssm", at.Region, account, "parameter/"+strings.TrimPrefix(name, "/"))
}

// stored is a version that a call has read while it held s.mu.
type stored struct {
	name, selector string
	version        version
}

func (s *Service) read(at scope.Key, text string) (stored, error) {
	name, selector := ref(text)
	p, ok := s.lookup(at, name)
	if !ok {
		return stored{}, &types.ParameterNotFound{Message: aws.String(fmt.Sprintf("Parameter %s not found.", name))}
	}
	v, err := p.pick(selector)
	if err != nil {
		return stored{}, err
	}
	return stored{name: p.Name, selector: selector, version: v}, nil
}

// api returns the parameter for an answer. It decrypts a SecureString if asked to. s.mu
// is not held.
func (s *Service) api(ctx context.Context, at scope.Key, st stored, decrypt bool) (types.Parameter, error) {
	value, err := s.value(ctx, at, st.name, st.version, decrypt)
	if err != nil {
		return types.Parameter{}, err
	}
	out := types.Parameter{
		Name: aws.String(st.name), ARN: aws.String(parameterARN(at, st.name)), Type: st.version.Type, Value: aws.String(value),
		Version: st.version.Number, DataType: aws.String(st.version.DataType), LastModifiedDate: aws.Time(st.version.Modified),
	}
	if st.selector != "" {
		out.Selector = aws.String(":" + st.selector)
	}
	return out, nil
}

func (s *Service) value(ctx context.Context, at scope.Key, name string, v version, decrypt bool) (string, error) {
	if v.Type != types.ParameterTypeSecureString || !decrypt {
		return v.Value, nil
	}
	blob, err := base64.StdEncoding.DecodeString(v.Value)
	if err != nil {
		return "", fmt.Errorf("ciphertext of parameter %s: %w", name, err)
	}
	ctx = wire.WithCaller(ctx, wire.Caller{Account: at.Account, Region: at.Region})
	out, err := s.cfg.Keys.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: encryptionContext(at, name)})
	if err != nil {
		return "", &types.InvalidKeyId{Message: aws.String(err.Error())}
	}
	return string(out.Plaintext), nil
}

func (s *Service) encrypt(ctx context.Context, at scope.Key, name, keyID, plain string) (string, error) {
	if s.cfg.Keys == nil {
		return "", &types.UnsupportedParameterType{Message: aws.String("SecureString needs a KMS, and none is configured.")}
	}
	ctx = wire.WithCaller(ctx, wire.Caller{Account: at.Account, Region: at.Region})
	out, err := s.cfg.Keys.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(keyID), Plaintext: []byte(plain), EncryptionContext: encryptionContext(at, name)})
	if err != nil {
		return "", &types.InvalidKeyId{Message: aws.String(err.Error())}
	}
	return base64.StdEncoding.EncodeToString(out.CiphertextBlob), nil
}

// encryptionContext ties a ciphertext to its parameter, as SSM does
// (https://docs.aws.amazon.com/kms/latest/developerguide/services-parameter-store.html).
func encryptionContext(at scope.Key, name string) map[string]string {
	return map[string]string{"PARAMETER_ARN": parameterARN(at, name)}
}

// GetParameter returns one parameter, by name, name:version, name:label or ARN.
func (s *Service) GetParameter(ctx context.Context, in *ssm.GetParameterInput, optFns ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	st, err := s.read(at, aws.ToString(in.Name))
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	p, err := s.api(ctx, at, st, aws.ToBool(in.WithDecryption))
	if err != nil {
		return nil, err
	}
	return &ssm.GetParameterOutput{Parameter: &p}, nil
}

// GetParameters returns up to ten parameters, and the names that it does not find.
func (s *Service) GetParameters(ctx context.Context, in *ssm.GetParametersInput, optFns ...func(*ssm.Options)) (*ssm.GetParametersOutput, error) {
	if len(in.Names) == 0 || len(in.Names) > 10 {
		return nil, wire.Errorf("ValidationException", "%d Names given; 1 to 10 are allowed", len(in.Names))
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	out := &ssm.GetParametersOutput{Parameters: []types.Parameter{}, InvalidParameters: []string{}}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(in.Names))) {
		s.mu.Lock()
		st, err := s.read(at, name)
		s.mu.Unlock()
		if err != nil {
			out.InvalidParameters = append(out.InvalidParameters, name)
			continue
		}
		p, err := s.api(ctx, at, st, aws.ToBool(in.WithDecryption))
		if err != nil {
			return nil, err
		}
		out.Parameters = append(out.Parameters, p)
	}
	return out, nil
}

// GetParametersByPath lists the parameters below a path by name.
func (s *Service) GetParametersByPath(ctx context.Context, in *ssm.GetParametersByPathInput, optFns ...func(*ssm.Options)) (*ssm.GetParametersByPathOutput, error) {
	path := aws.ToString(in.Path)
	if !strings.HasPrefix(path, "/") {
		return nil, wire.Errorf("ValidationException", "The parameter path %q must begin with a slash.", path)
	}
	if n := aws.ToInt32(in.MaxResults); n < 0 || n > 10 {
		return nil, wire.Errorf("ValidationException", "MaxResults is %d; 1 to 10 are allowed", n)
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	below := strings.TrimSuffix(path, "/") + "/"
	s.mu.Lock()
	source := s.params[at]
	if strings.HasPrefix(below, publicPrefix) {
		source = s.public[at.Region]
	}
	var found []stored
	for name, p := range source {
		rest, ok := strings.CutPrefix(name, below)
		v, has := p.current()
		if !ok || !has || !aws.ToBool(in.Recursive) && strings.Contains(rest, "/") {
			continue
		}
		keep, selector, err := filtered(p, &v, in.ParameterFilters)
		if err != nil {
			s.mu.Unlock()
			return nil, err
		}
		if keep {
			found = append(found, stored{name: name, selector: selector, version: v})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(found, func(a, b stored) int { return strings.Compare(a.name, b.name) })
	page, next, err := scope.Page(found, aws.ToString(in.NextToken), limitOf(in.MaxResults, 10))
	if err != nil {
		return nil, err
	}
	out := &ssm.GetParametersByPathOutput{Parameters: []types.Parameter{}, NextToken: token(next)}
	for _, st := range page {
		p, err := s.api(ctx, at, st, aws.ToBool(in.WithDecryption))
		if err != nil {
			return nil, err
		}
		out.Parameters = append(out.Parameters, p)
	}
	return out, nil
}

// filtered applies the filters of GetParametersByPath. A Label filter sets v to the
// version with that label.
func filtered(p *parameter, v *version, filters []types.ParameterStringFilter) (keep bool, selector string, err error) {
	for _, f := range filters {
		switch aws.ToString(f.Key) {
		case "Type":
			if !slices.Contains(f.Values, string(v.Type)) {
				return false, "", nil
			}
		case "KeyId":
			if !slices.Contains(f.Values, v.KeyID) {
				return false, "", nil
			}
		case "Label":
			i := slices.IndexFunc(p.Versions, func(v version) bool {
				return slices.ContainsFunc(f.Values, func(l string) bool { return slices.Contains(v.Labels, l) })
			})
			if i < 0 {
				return false, "", nil
			}
			*v, selector = p.Versions[i], f.Values[0]
		default:
			return false, "", &types.InvalidFilterKey{Message: aws.String(fmt.Sprintf("Filter %q is not one of Type, KeyId, Label.", aws.ToString(f.Key)))}
		}
	}
	return true, selector, nil
}

// DescribeParameters lists parameters by name, without their values
// (https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_DescribeParameters.html).
func (s *Service) DescribeParameters(ctx context.Context, in *ssm.DescribeParametersInput, optFns ...func(*ssm.Options)) (*ssm.DescribeParametersOutput, error) {
	if len(in.Filters) > 0 && len(in.ParameterFilters) > 0 {
		return nil, wire.Errorf("ValidationException", "You can use either Filters or ParameterFilters in a single request.")
	}
	filters := slices.Clone(in.ParameterFilters)
	for _, f := range in.Filters { // the older form, in which a name is a prefix
		option := "Equals"
		if f.Key == types.ParametersFilterKeyName {
			option = "BeginsWith"
		}
		filters = append(filters, types.ParameterStringFilter{Key: aws.String(string(f.Key)), Option: &option, Values: f.Values})
	}
	if n := aws.ToInt32(in.MaxResults); n < 0 || n > 50 {
		return nil, wire.Errorf("ValidationException", "MaxResults is %d; 1 to 50 are allowed", n)
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []types.ParameterMetadata{}
	for _, name := range slices.Sorted(maps.Keys(s.params[at])) {
		p := s.params[at][name]
		v, has := p.current()
		if !has {
			continue
		}
		keep, err := described(p, v, filters)
		if err != nil {
			return nil, err
		}
		if !keep {
			continue
		}
		found = append(found, types.ParameterMetadata{
			Name: aws.String(name), ARN: aws.String(parameterARN(at, name)), Type: v.Type, DataType: scope.Optional(v.DataType), Tier: v.Tier,
			Version: v.Number, Description: scope.Optional(v.Description), KeyId: scope.Optional(v.KeyID), AllowedPattern: scope.Optional(v.AllowedPattern),
			LastModifiedDate: aws.Time(v.Modified), LastModifiedUser: scope.Optional(v.By), Policies: []types.ParameterInlinePolicy{},
		})
	}
	page, next, err := scope.Page(found, aws.ToString(in.NextToken), limitOf(in.MaxResults, 10))
	if err != nil {
		return nil, err
	}
	return &ssm.DescribeParametersOutput{Parameters: page, NextToken: token(next)}, nil
}

// described applies the filters of DescribeParameters.
func described(p *parameter, v version, filters []types.ParameterStringFilter) (bool, error) {
	for _, f := range filters {
		key, option := aws.ToString(f.Key), aws.ToString(f.Option)
		has := func(value string) bool {
			return slices.ContainsFunc(f.Values, func(want string) bool {
				switch option {
				case "BeginsWith":
					return strings.HasPrefix(value, want) || strings.HasPrefix(value, "/"+want)
				case "Contains":
					return strings.Contains(value, want)
				}
				return value == want || strings.TrimPrefix(value, "/") == want
			})
		}
		var keep bool
		switch {
		case key == "Name":
			keep = has(p.Name)
		case key == "Type":
			keep = has(string(v.Type))
		case key == "KeyId":
			keep = has(v.KeyID)
		case key == "DataType":
			keep = has(v.DataType)
		case key == "Tier":
			keep = has(string(v.Tier))
		case key == "Path":
			keep = slices.ContainsFunc(f.Values, func(path string) bool {
				rest, below := strings.CutPrefix(p.Name, strings.TrimSuffix(path, "/")+"/")
				return below && (option == "Recursive" || !strings.Contains(rest, "/"))
			})
		case strings.HasPrefix(key, "tag:"):
			value, tagged := p.Tags[strings.TrimPrefix(key, "tag:")]
			keep = tagged && (len(f.Values) == 0 || has(value))
		default:
			return false, &types.InvalidFilterKey{Message: aws.String(fmt.Sprintf("Filter %q is not one of Name, Type, KeyId, DataType, Tier, Path, tag:NAME.", key))}
		}
		if !keep {
			return false, nil
		}
	}
	return true, nil
}

// GetParameterHistory lists all versions, oldest first.
func (s *Service) GetParameterHistory(ctx context.Context, in *ssm.GetParameterHistoryInput, optFns ...func(*ssm.Options)) (*ssm.GetParameterHistoryOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	name, _ := ref(aws.ToString(in.Name))
	s.mu.Lock()
	p, ok := s.lookup(at, name)
	var versions []version
	if ok {
		versions = slices.Clone(p.Versions)
	}
	s.mu.Unlock()
	if !ok {
		return nil, &types.ParameterNotFound{Message: aws.String(fmt.Sprintf("Parameter %s not found.", name))}
	}
	page, next, err := scope.Page(versions, aws.ToString(in.NextToken), limitOf(in.MaxResults, 50))
	if err != nil {
		return nil, err
	}
	out := &ssm.GetParameterHistoryOutput{NextToken: token(next)}
	for _, v := range page {
		value, err := s.value(ctx, at, name, v, aws.ToBool(in.WithDecryption))
		if err != nil {
			return nil, err
		}
		out.Parameters = append(out.Parameters, types.ParameterHistory{
			Name: aws.String(name), Value: aws.String(value), Version: v.Number, Type: v.Type, DataType: aws.String(v.DataType), Tier: v.Tier,
			Description: scope.Optional(v.Description), KeyId: scope.Optional(v.KeyID), AllowedPattern: scope.Optional(v.AllowedPattern),
			LastModifiedDate: aws.Time(v.Modified), LastModifiedUser: scope.Optional(v.By), Labels: slices.Clone(v.Labels), Policies: []types.ParameterInlinePolicy{},
		})
	}
	return out, nil
}

// ImageParameters returns the ARNs, sorted, of an account's parameters in a region that
// have the data type aws:ec2:image and whose current value is an image.
func (s *Service) ImageParameters(account, region, imageID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := scope.Key{Account: account, Region: region}
	var out []string
	for name, p := range s.params[at] {
		if v, ok := p.current(); ok && v.DataType == imageDataType && v.Value == imageID {
			out = append(out, parameterARN(at, name))
		}
	}
	slices.Sort(out)
	return out
}
