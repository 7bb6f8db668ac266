package scheduler

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions returns the permission rules of EventBridge Scheduler's calls.
func (s *Service) Permissions() authz.Permissions {
	rules := map[string]authz.Rule{}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		rules[method] = requests
	}
	return authz.Permissions{Service: "scheduler", Rules: rules}
}

// requests requires the operation of a request, and iam:PassRole for a
// schedule's role in the request.
func requests(c authz.Call, input any) ([]authz.Request, error) {
	r, err := authz.HTTPRequest(input)
	if err != nil {
		return nil, err
	}
	operation, err := routes().Operation("EventBridge Scheduler", r)
	if err != nil {
		return nil, err
	}
	var body struct {
		GroupName string
		Target    struct{ RoleArn string }
	}
	if err := authz.PeekJSON(r, maxBody, &body); err != nil {
		return nil, err
	}
	request := authz.Request{Action: "scheduler:" + operation, Resource: "*"}
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	switch {
	case strings.HasPrefix(r.URL.Path, "/tags/"):
		request.Resource = strings.TrimPrefix(r.URL.Path, "/tags/")
	case strings.HasPrefix(r.URL.Path, "/schedule-groups/"):
		request.Resource = c.ARN("scheduler", c.Caller.Account, "schedule-group/"+name)
	case strings.HasPrefix(r.URL.Path, "/schedules/"):
		group := cmp.Or(body.GroupName, r.URL.Query().Get("groupName"), DefaultGroup)
		request.Resource = c.ARN("scheduler", c.Caller.Account, "schedule/"+group+"/"+name)
	}
	return append([]authz.Request{request}, authz.PassRole(Principal, body.Target.RoleArn)...), nil
}
