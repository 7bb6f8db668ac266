package ebs

import (
	"net/http"
	"path"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions returns the permission rules of EBS's calls.
func (s *Service) Permissions() authz.Permissions {
	return authz.Permissions{Service: "ebs", Rules: map[string]authz.Rule{http.MethodGet: s.requests}}
}

func (s *Service) requests(c authz.Call, input any) ([]authz.Request, error) {
	r, err := authz.HTTPRequest(input)
	if err != nil {
		return nil, err
	}
	operation, err := routes().Operation("EBS", r)
	if err != nil {
		return nil, err
	}
	id := strings.Split(path.Clean(r.URL.Path), "/")[2] // third element, as in the route's pattern
	return s.snapshots.ReadingSnapshot(c, "ebs:"+operation, id, operation == "GetSnapshotBlock"), nil
}
