package lambda

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// reserved are the variables that a function's configuration must not set; see
// "Defined runtime environment variables" in the Lambda Developer Guide.
var reserved = []string{
	"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
	"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
	"AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
	"AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
	"AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
}

// environment returns the complete environment of a function's process, sorted:
// the variables that Lambda documents and the function's own.
func (s *Service) environment(k scope.Key, c configuration) ([]string, error) {
	credentials := Credentials{AccessKeyID: k.Account, SecretAccessKey: "local"}
	if s.config.Credentials != nil {
		var err error
		if credentials, err = s.config.Credentials(k.Account, k.Region, c.Role, c.Name); err != nil {
			return nil, fmt.Errorf("credentials of the role %s: %w", c.Role, err)
		}
	}
	all := map[string]string{
		"_HANDLER":                        c.HandlerName,
		"AWS_ACCESS_KEY":                  credentials.AccessKeyID,
		"AWS_ACCESS_KEY_ID":               credentials.AccessKeyID,
		"AWS_DEFAULT_REGION":              k.Region,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(c.MemoryMiB),
		"AWS_LAMBDA_FUNCTION_NAME":        c.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + c.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      s.config.Clock.Now().Format("2006/01/02") + "/[$LATEST]" + scope.Hex(32),
		"AWS_REGION":                      k.Region,
		"AWS_SECRET_ACCESS_KEY":           credentials.SecretAccessKey,
		"LAMBDA_RUNTIME_DIR":              "/var/runtime",
		"LAMBDA_TASK_ROOT":                c.Dir,
		"LANG":                            "en_US.UTF-8",
		"LD_LIBRARY_PATH":                 "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
		"PATH":                            "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
		"TZ":                              ":UTC",
	}
	if credentials.SessionToken != "" {
		all["AWS_SESSION_TOKEN"] = credentials.SessionToken
	}
	if s.config.Environment != nil {
		maps.Copy(all, s.config.Environment())
	}
	maps.Copy(all, c.Env)
	env := make([]string, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		env = append(env, name+"="+all[name])
	}
	return env, nil
}

// hostArchitecture is the architecture of native functions.
func hostArchitecture() types.Architecture {
	if runtime.GOARCH == "arm64" {
		return types.ArchitectureArm64
	}
	return types.ArchitectureX8664
}
