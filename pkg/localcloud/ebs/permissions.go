package ebs

import (
	"fmt"
	"net/http"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions are the rules of EBS's calls.
func (s *Service) Permissions() authz.Permissions {
	return authz.Permissions{Service: "ebs", Rules: map[string]authz.Rule{http.MethodGet: s.requests}}
}

func (s *Service) requests(c authz.Call, input any) ([]authz.Request, error) {
	r, err := authz.HTTPRequest(input)
	if err != nil {
		return nil, err
	}
	var out []authz.Request
	mux := http.NewServeMux()
	for _, route := range Routes() {
		mux.HandleFunc(route.Method+" "+route.Pattern, func(_ http.ResponseWriter, r *http.Request) {
			out = s.snapshots.ReadingSnapshot(c, "ebs:"+route.Operation, r.PathValue("id"), route.Operation == "GetSnapshotBlock")
		})
	}
	_, pattern := mux.Handler(r)
	if pattern == "" {
		return nil, fmt.Errorf("EBS has no operation for %s %s", r.Method, r.URL.Path)
	}
	mux.ServeHTTP(nil, r.Clone(c.Context))
	return out, nil
}
