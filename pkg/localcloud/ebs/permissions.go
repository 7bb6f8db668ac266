package ebs

import (
	"fmt"
	"net/http"
	"path"
	"strings"

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
	mux := http.NewServeMux()
	operations := map[string]string{}
	for _, route := range Routes() {
		pattern := route.Method + " " + route.Pattern
		operations[pattern] = route.Operation
		mux.Handle(pattern, http.NotFoundHandler())
	}
	_, pattern := mux.Handler(r)
	operation, ok := operations[pattern]
	if !ok {
		return nil, fmt.Errorf("EBS has no operation for %s %s", r.Method, r.URL.Path)
	}
	id := strings.Split(path.Clean(r.URL.Path), "/")[2] // as in the pattern
	return s.snapshots.ReadingSnapshot(c, "ebs:"+operation, id, operation == "GetSnapshotBlock"), nil
}
