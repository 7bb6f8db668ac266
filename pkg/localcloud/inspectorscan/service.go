// Package inspectorscan is the Amazon Inspector Scan of the embedded AWS: one operation,
// which says which vulnerabilities are known in a bill of materials
// (https://docs.aws.amazon.com/inspector/v2/APIReference/API_scan_ScanSbom.html). What is
// known is up to whoever runs the embedded AWS.
package inspectorscan

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const (
	maxComponents = 5000     // of a request, as AWS documents it
	maxBody       = 16 << 20 // bytes
)

// Scan returns a bill of materials in CycloneDX 1.5 JSON with the vulnerabilities that
// are known in it.
type Scan func(ctx context.Context, bom []byte) ([]byte, error)

// Service implements ScanSbom.
type Service struct{ scan Scan }

// New returns a Service that knows what scan knows. Nil: it is not available.
func New(scan Scan) *Service { return &Service{scan} }

func routes() wire.Routes { return wire.Routes{"POST /scan/sbom": "ScanSbom"} }

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	handler := routes().Handler("Inspector Scan", map[string]http.HandlerFunc{"ScanSbom": s.serve}, fail)
	return wire.Service{ID: "inspector-scan", Name: "Inspector Scan", Protocol: wire.REST, Version: "2023-08-08", Handler: handler}
}

// Permissions returns the permission rule of the call, which IAM cannot narrow to a
// resource (https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoninspectorscan.html).
func (s *Service) Permissions() authz.Permissions {
	return authz.Permissions{Service: "inspector-scan", Rules: map[string]authz.Rule{http.MethodPost: func(_ authz.Call, input any) ([]authz.Request, error) {
		r, err := authz.HTTPRequest(input)
		if err != nil {
			return nil, err
		}
		operation, err := routes().Operation("Inspector Scan", r)
		return []authz.Request{{Action: "inspector-scan:" + operation, Resource: "*"}}, err
	}}}
}

// component is what a request is checked for.
type component struct {
	Components []component `json:"components"`
}

func count(list []component) int {
	n := len(list)
	for _, c := range list {
		n += count(c.Components)
	}
	return n
}

func invalid(format string, args ...any) error {
	return &smithy.GenericAPIError{Code: "ValidationException", Message: fmt.Sprintf(format, args...)}
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	answer, err := s.run(r)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]json.RawMessage{"sbom": answer}) // an error means that the client has disconnected
}

func (s *Service) run(r *http.Request) ([]byte, error) {
	if s.scan == nil {
		return nil, &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "The embedded AWS has no data of vulnerabilities."}
	}
	raw, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, invalid("The request cannot be read: %v", err)
	}
	var in struct {
		SBOM   json.RawMessage `json:"sbom"`
		Format string          `json:"outputFormat"`
	}
	var bom struct {
		Format     string      `json:"bomFormat"`
		Version    string      `json:"specVersion"`
		Components []component `json:"components"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, invalid("The request is not JSON: %v", err)
	}
	if in.Format != "CYCLONE_DX_1_5" {
		return nil, invalid("outputFormat is %q; the embedded AWS answers in CYCLONE_DX_1_5.", in.Format)
	}
	if err := json.Unmarshal(in.SBOM, &bom); err != nil || bom.Format != "CycloneDX" || bom.Version != "1.5" {
		return nil, invalid("The SBOM is not in CycloneDX 1.5 format.")
	}
	if n := count(bom.Components); n > maxComponents {
		return nil, invalid("The SBOM has %d components; at most %d are allowed.", n, maxComponents)
	}
	return s.scan(r.Context(), in.SBOM)
}

// status returns the HTTP status of an error, from the API reference.
func status(code string) int {
	return map[string]int{"AccessDeniedException": http.StatusForbidden, "ThrottlingException": http.StatusTooManyRequests}[code]
}

func fail(w http.ResponseWriter, err error) { wire.FailJSON(w, err, status, nil) }
