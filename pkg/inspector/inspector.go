// Package inspector asks Amazon Inspector which vulnerabilities are known in a bill of
// materials. It calls one operation, ScanSbom, as a signed request
// (https://docs.aws.amazon.com/inspector/v2/APIReference/API_scan_ScanSbom.html).
package inspector

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Service is the name of the service in signatures, host names and permissions.
const Service = "inspector-scan"

const (
	// timeout is that of one attempt. The answer is synchronous.
	timeout = 60 * time.Second
	// maxAnswer bounds what is read. The service answers 10 MB at most.
	maxAnswer = 32 << 20
	attempts  = 4
)

// Client calls the service in the region of its configuration.
type Client struct {
	Config    aws.Config
	DualStack bool // call the endpoint that has IPv6 addresses too
}

// ScanSBOM sends a bill of materials as CycloneDX 1.5 JSON and returns the same with
// vulnerabilities. Throttling and faults of the service are retried. Errors are those of
// an SDK client: they have AWS's code and the status of HTTP.
func (c Client) ScanSBOM(ctx context.Context, bom []byte) ([]byte, error) {
	body, err := json.Marshal(map[string]any{"sbom": json.RawMessage(bom), "outputFormat": "CYCLONE_DX_1_5"})
	if err != nil {
		return nil, fmt.Errorf("the bill of materials: %w", err)
	}
	retryer := aws.Retryer(aws.NopRetryer{})
	if c.Config.Retryer != nil {
		retryer = c.Config.Retryer()
	}
	for attempt := 1; ; attempt++ {
		answer, err := c.attempt(ctx, body)
		if err == nil {
			return answer, nil
		}
		failed := &smithy.OperationError{ServiceID: "Inspector Scan", OperationName: "ScanSbom", Err: err}
		if attempt >= min(attempts, retryer.MaxAttempts()) || ctx.Err() != nil || !retryer.IsErrorRetryable(err) {
			return nil, failed
		}
		delay, delayed := retryer.RetryDelay(attempt, err)
		if delayed != nil {
			return nil, failed
		}
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, failed
		case <-timer.C:
		}
	}
}

func (c Client) attempt(ctx context.Context, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint()+"/scan/sbom", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if c.Config.Credentials == nil {
		return nil, errors.New("there are no credentials to sign the request with")
	}
	who, err := c.Config.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, who, request, hex.EncodeToString(sum[:]), Service, c.Config.Region, time.Now()); err != nil {
		return nil, fmt.Errorf("sign the request: %w", err)
	}
	client := c.Config.HTTPClient
	if client == nil {
		client = awshttp.NewBuildableClient()
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, &smithyhttp.RequestSendError{Err: err}
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, &smithyhttp.RequestSendError{Err: fmt.Errorf("read the answer: %w", err)}
	}
	if len(raw) > maxAnswer {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	if response.StatusCode != http.StatusOK {
		return nil, refusal(response, raw)
	}
	var answer struct {
		SBOM json.RawMessage `json:"sbom"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil || len(answer.SBOM) == 0 {
		return nil, errors.Join(errors.New("the answer has no sbom"), err)
	}
	return answer.SBOM, nil
}

// endpoint is where the service is, or where the configuration says that AWS is.
func (c Client) endpoint() string {
	if c.Config.BaseEndpoint != nil {
		return strings.TrimSuffix(*c.Config.BaseEndpoint, "/")
	}
	if c.DualStack {
		return "https://" + Service + "." + c.Config.Region + "." + partition.OrDefault(c.Config.Region).DualStackDNSSuffix
	}
	return "https://" + partition.Host(Service, c.Config.Region)
}

// refusal is the error of an answer, as a client of the SDK makes it of restJson1.
func refusal(response *http.Response, raw []byte) error {
	var body struct {
		Type    string `json:"__type"`
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(raw, &body) // a proxy in between answers something else
	code, _, _ := strings.Cut(cmp.Or(response.Header.Get("X-Amzn-Errortype"), body.Type, body.Code), ":")
	code = code[strings.LastIndex(code, "#")+1:]
	fault := smithy.FaultClient
	if response.StatusCode >= http.StatusInternalServerError {
		fault = smithy.FaultServer
	}
	return &awshttp.ResponseError{
		ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: response},
			Err:      &smithy.GenericAPIError{Code: cmp.Or(code, "UnknownError"), Message: body.Message, Fault: fault},
		},
		RequestID: response.Header.Get("X-Amzn-Requestid"),
	}
}
