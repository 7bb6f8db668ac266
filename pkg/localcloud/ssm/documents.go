package ssm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// maxContent is the maximum size of a document, in bytes
// (https://docs.aws.amazon.com/general/latest/gr/ssm.html).
const maxContent = 64 * 1024

// storedDocument is a document of an account, with all its versions.
type storedDocument struct {
	Name     string
	Default  int // number of a version
	Versions []documentVersion
	Tags     []types.Tag
}

type documentVersion struct {
	Number  int
	Name    string // may be empty
	Content string
	Format  types.DocumentFormat
	Created time.Time
}

// hash is what DocumentHash is compared with.
func (v documentVersion) hash() string {
	sum := sha256.Sum256([]byte(v.Content))
	return hex.EncodeToString(sum[:])
}

var documentName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{3,128}$`)

func noDocument(name string) error {
	return &types.InvalidDocument{Message: aws.String(fmt.Sprintf("Document with name %s does not exist.", name))}
}

// ownDocument finds a document by its name or ARN. The caller holds s.mu.
func (s *Service) ownDocument(at scope.Key, ref string) (*storedDocument, error) {
	name := ref
	if parts := strings.SplitN(ref, ":", 6); len(parts) == 6 && parts[0] == "arn" {
		if parts[3] != at.Region || parts[4] != at.Account {
			return nil, noDocument(ref)
		}
		name = strings.TrimPrefix(parts[5], "document/")
	}
	d := s.documents[at][name]
	if d == nil {
		return nil, noDocument(ref)
	}
	return d, nil
}

// version finds a version by its number, $DEFAULT, $LATEST, or its name.
func (d *storedDocument) version(number, name *string) (documentVersion, error) {
	want := aws.ToString(number)
	i := slices.IndexFunc(d.Versions, func(v documentVersion) bool {
		switch {
		case aws.ToString(name) != "":
			return v.Name == *name && (want == "" || want == strconv.Itoa(v.Number))
		case want == "" || want == "$DEFAULT":
			return v.Number == d.Default
		}
		return want == strconv.Itoa(v.Number)
	})
	if want == "$LATEST" && aws.ToString(name) == "" {
		i = len(d.Versions) - 1
	}
	if i < 0 {
		return documentVersion{}, &types.InvalidDocumentVersion{Message: aws.String(fmt.Sprintf("Document version %s%s of %s does not exist.", want, aws.ToString(name), d.Name))}
	}
	return d.Versions[i], nil
}

func (d *storedDocument) latest() int { return d.Versions[len(d.Versions)-1].Number }

func (d *storedDocument) describe(at scope.Key, v documentVersion) types.DocumentDescription {
	out := types.DocumentDescription{
		Name: aws.String(d.Name), Owner: aws.String(at.Account), CreatedDate: aws.Time(v.Created), DefaultVersion: aws.String(strconv.Itoa(d.Default)),
		DocumentFormat: v.Format, DocumentType: types.DocumentTypeCommand, DocumentVersion: aws.String(strconv.Itoa(v.Number)),
		Hash: aws.String(v.hash()), HashType: types.DocumentHashTypeSha256, LatestVersion: aws.String(strconv.Itoa(d.latest())),
		PlatformTypes: []types.PlatformType{types.PlatformTypeLinux}, SchemaVersion: aws.String("2.2"), Status: types.DocumentStatusActive, Tags: d.Tags,
		VersionName: scope.Optional(v.Name),
	}
	doc, err := parseContent(v.Content, v.Format)
	if err != nil { // checked when it was stored
		return out
	}
	out.Description = scope.Optional(doc.Description)
	for _, name := range slices.Sorted(maps.Keys(doc.Parameters)) {
		p := doc.Parameters[name]
		one := types.DocumentParameter{Name: aws.String(name), Type: types.DocumentParameterType(p.Type), Description: scope.Optional(p.Description)}
		if p.Default != nil {
			text := string(p.Default)
			if values, err := p.defaults(); err == nil && p.Type == "String" {
				text = values[0]
			}
			one.DefaultValue = aws.String(text)
		}
		out.Parameters = append(out.Parameters, one)
	}
	return out
}

// newDocumentVersion validates the content of a version.
func (s *Service) newDocumentVersion(text, name *string, format types.DocumentFormat) (documentVersion, error) {
	v := documentVersion{Name: aws.ToString(name), Content: aws.ToString(text), Format: format, Created: s.cfg.Clock.Now()}
	if v.Format == "" {
		v.Format = types.DocumentFormatJson
	}
	switch {
	case v.Format != types.DocumentFormatJson && v.Format != types.DocumentFormatYaml:
		return v, wire.Errorf("ValidationException", "The DocumentFormat %q is not served: use JSON or YAML.", v.Format)
	case len(v.Content) > maxContent:
		return v, &types.MaxDocumentSizeExceeded{Message: aws.String(fmt.Sprintf("The document has %d bytes; at most %d are allowed.", len(v.Content), maxContent))}
	}
	_, err := parseContent(v.Content, v.Format)
	return v, err
}

// CreateDocument makes a Command document.
func (s *Service) CreateDocument(ctx context.Context, in *ssm.CreateDocumentInput, optFns ...func(*ssm.Options)) (*ssm.CreateDocumentOutput, error) {
	name := aws.ToString(in.Name)
	lower := strings.ToLower(name)
	switch {
	case !documentName.MatchString(name):
		return nil, wire.Errorf("ValidationException", "The document's name %q does not have 3 to 128 letters, digits, and _ - .", name)
	case strings.HasPrefix(lower, "aws"), strings.HasPrefix(lower, "amazon"), strings.HasPrefix(lower, "amzn"):
		return nil, wire.Errorf("ValidationException", "The document's name %q begins with aws, amazon or amzn, which are reserved.", name)
	case in.DocumentType != "" && in.DocumentType != types.DocumentTypeCommand:
		return nil, wire.Errorf("ValidationException", "The DocumentType %q is not served: use Command.", in.DocumentType)
	case len(in.Attachments) > 0 || len(in.Requires) > 0:
		return nil, wire.Errorf("ValidationException", "Attachments and Requires are not served.")
	}
	v, err := s.newDocumentVersion(in.Content, in.VersionName, in.DocumentFormat)
	if err != nil {
		return nil, err
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.documents[at][name] != nil {
		return nil, &types.DocumentAlreadyExists{Message: aws.String(fmt.Sprintf("Document with same name %s already exists.", name))}
	}
	v.Number = 1
	d := &storedDocument{Name: name, Default: 1, Versions: []documentVersion{v}, Tags: slices.Clone(in.Tags)}
	if s.documents[at] == nil {
		s.documents[at] = map[string]*storedDocument{}
	}
	s.documents[at][name] = d
	out := d.describe(at, v)
	return &ssm.CreateDocumentOutput{DocumentDescription: &out}, nil
}

// UpdateDocument adds a version to a document. The default version stays.
func (s *Service) UpdateDocument(ctx context.Context, in *ssm.UpdateDocumentInput, optFns ...func(*ssm.Options)) (*ssm.UpdateDocumentOutput, error) {
	v, err := s.newDocumentVersion(in.Content, in.VersionName, in.DocumentFormat)
	if err != nil {
		return nil, err
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.ownDocument(at, aws.ToString(in.Name))
	if err != nil {
		return nil, err
	}
	// Only the latest version can be updated; $LATEST avoids naming it.
	if n := aws.ToString(in.DocumentVersion); n != "" && n != "$LATEST" && n != strconv.Itoa(d.latest()) {
		return nil, &types.InvalidDocumentVersion{Message: aws.String(fmt.Sprintf("The document version %s is not the latest, which is %d.", n, d.latest()))}
	}
	last := d.Versions[len(d.Versions)-1]
	if last.Content == v.Content && last.Format == v.Format {
		return nil, &types.DuplicateDocumentContent{Message: aws.String("The content of the document is the same as that of its latest version.")}
	}
	if v.Name != "" && slices.ContainsFunc(d.Versions, func(o documentVersion) bool { return o.Name == v.Name }) {
		return nil, &types.DuplicateDocumentVersionName{Message: aws.String(fmt.Sprintf("The document has a version of the name %s.", v.Name))}
	}
	v.Number = d.latest() + 1
	d.Versions = append(d.Versions, v)
	out := d.describe(at, v)
	return &ssm.UpdateDocumentOutput{DocumentDescription: &out}, nil
}

// UpdateDocumentDefaultVersion sets the version that commands run by default.
func (s *Service) UpdateDocumentDefaultVersion(ctx context.Context, in *ssm.UpdateDocumentDefaultVersionInput, optFns ...func(*ssm.Options)) (*ssm.UpdateDocumentDefaultVersionOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.ownDocument(at, aws.ToString(in.Name))
	if err != nil {
		return nil, err
	}
	v, err := d.version(in.DocumentVersion, nil)
	if err != nil {
		return nil, err
	}
	d.Default = v.Number
	return &ssm.UpdateDocumentDefaultVersionOutput{Description: &types.DocumentDefaultVersionDescription{
		Name: aws.String(d.Name), DefaultVersion: aws.String(strconv.Itoa(d.Default)), DefaultVersionName: scope.Optional(v.Name),
	}}, nil
}

// DescribeDocument describes a version of a document, with its hash.
func (s *Service) DescribeDocument(ctx context.Context, in *ssm.DescribeDocumentInput, optFns ...func(*ssm.Options)) (*ssm.DescribeDocumentOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.ownDocument(at, aws.ToString(in.Name))
	if err != nil {
		return nil, err
	}
	v, err := d.version(in.DocumentVersion, in.VersionName)
	if err != nil {
		return nil, err
	}
	out := d.describe(at, v)
	return &ssm.DescribeDocumentOutput{Document: &out}, nil
}

// GetDocument returns the content of a version, in the format in which it was
// stored.
func (s *Service) GetDocument(ctx context.Context, in *ssm.GetDocumentInput, optFns ...func(*ssm.Options)) (*ssm.GetDocumentOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.ownDocument(at, aws.ToString(in.Name))
	if err != nil {
		return nil, err
	}
	v, err := d.version(in.DocumentVersion, in.VersionName)
	if err != nil {
		return nil, err
	}
	if in.DocumentFormat != "" && in.DocumentFormat != v.Format {
		return nil, wire.Errorf("ValidationException", "The document is stored as %s; the embedded SSM does not convert it to %s.", v.Format, in.DocumentFormat)
	}
	return &ssm.GetDocumentOutput{
		Name: aws.String(d.Name), Content: aws.String(v.Content), CreatedDate: aws.Time(v.Created), DocumentFormat: v.Format,
		DocumentType: types.DocumentTypeCommand, DocumentVersion: aws.String(strconv.Itoa(v.Number)), Status: types.DocumentStatusActive,
		VersionName: scope.Optional(v.Name),
	}, nil
}

// DeleteDocument deletes a document, or one of its versions other than the default.
func (s *Service) DeleteDocument(ctx context.Context, in *ssm.DeleteDocumentInput, optFns ...func(*ssm.Options)) (*ssm.DeleteDocumentOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.ownDocument(at, aws.ToString(in.Name))
	if err != nil {
		return nil, err
	}
	if in.DocumentVersion == nil && in.VersionName == nil {
		delete(s.documents[at], d.Name)
		return &ssm.DeleteDocumentOutput{}, nil
	}
	v, err := d.version(in.DocumentVersion, in.VersionName)
	if err != nil {
		return nil, err
	}
	if v.Number == d.Default {
		return nil, &types.InvalidDocumentOperation{Message: aws.String("The default version of a document cannot be deleted.")}
	}
	d.Versions = slices.DeleteFunc(slices.Clone(d.Versions), func(o documentVersion) bool { return o.Number == v.Number })
	return &ssm.DeleteDocumentOutput{}, nil
}

// runShellScript is AWS-RunShellScript, reduced to what its parameters do
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/documents-command-ssm-plugin-reference.html).
func runShellScript() content {
	doc := content{SchemaVersion: "1.2", Parameters: map[string]inputType{
		"commands":         {Type: "StringList"},
		"workingDirectory": {Type: "String", Default: json.RawMessage(`""`)},
		"executionTimeout": {Type: "String", Default: json.RawMessage(strconv.Quote(strconv.Itoa(defaultExecution))), AllowedPattern: `^([1-9][0-9]{0,4}|1[0-6][0-9]{4}|17[0-1][0-9]{3}|172[0-7][0-9]{2}|172800)$`},
	}}
	s := step{Action: pluginName, Name: "0.awsrunShellScript"}
	s.Inputs.RunCommand, s.Inputs.WorkingDirectory, s.Inputs.TimeoutSeconds = lines{"{{ commands }}"}, "{{ workingDirectory }}", "{{ executionTimeout }}"
	doc.MainSteps = []step{s}
	return doc
}

// document returns the document of a command, and its version as the command names
// it.
func (s *Service) document(at scope.Key, in *ssm.SendCommandInput) (name, version string, doc content, err error) {
	name = aws.ToString(in.DocumentName)
	hash := aws.ToString(in.DocumentHash)
	if hash != "" && in.DocumentHashType == types.DocumentHashTypeSha1 {
		return "", "", content{}, wire.Errorf("ValidationException", "Sha1 hashes have been deprecated: use Sha256.")
	}
	version = aws.ToString(in.DocumentVersion)
	if name == shellDocument || strings.HasSuffix(name, "::document/"+shellDocument) {
		switch {
		case hash != "":
			return "", "", content{}, &types.InvalidDocument{Message: aws.String("The hash of " + shellDocument + ", which AWS owns, is not known to the embedded SSM: give DocumentHash for own documents.")}
		case version != "" && version != "$DEFAULT" && version != "$LATEST" && version != "1":
			return "", "", content{}, &types.InvalidDocumentVersion{Message: aws.String(fmt.Sprintf("Document version %s of %s does not exist.", version, shellDocument))}
		}
		return shellDocument, "$DEFAULT", runShellScript(), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.ownDocument(at, name)
	if err != nil {
		return "", "", content{}, err
	}
	v, err := d.version(in.DocumentVersion, nil)
	if err != nil {
		return "", "", content{}, err
	}
	if hash != "" && !strings.EqualFold(hash, v.hash()) {
		return "", "", content{}, &types.InvalidDocument{Message: aws.String(fmt.Sprintf("document hash %s does not match Sha256.", hash))}
	}
	if version == "" {
		version = "$DEFAULT"
	}
	doc, err = parseContent(v.Content, v.Format)
	return d.Name, version, doc, err
}
