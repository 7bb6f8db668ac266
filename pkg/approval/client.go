package approval

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Refusal is what the door answers to a request that it refuses.
type Refusal struct {
	Status int // of HTTP
	Text   string
}

func (r Refusal) Error() string { return r.Text }

// Client sends a person's requests to the door.
type Client struct {
	URL  string     // function URL
	AWS  aws.Config // credentials of the person's session, and the region of the function
	HTTP interface {
		Do(*http.Request) (*http.Response, error)
	}
}

// clientTimeout bounds a request. The function has 30 seconds.
const clientTimeout = 45 * time.Second

// maxResponse is the most bytes of an answer that are read; Lambda sends at most 6 MB.
const maxResponse = 6 << 20

// CheckURL refuses what cannot be a function URL. It must use TLS, unless it is of this
// machine, where a rehearsal is.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "127.0.0.1" && u.Hostname() != "localhost") {
		return fmt.Errorf("%q is not a function URL (allowed: https://ID.lambda-url.REGION.on.aws/, or the one that a rehearsal on this machine prints)", text)
	}
	return nil
}

// Answer decides about a bundle.
func (c Client) Answer(ctx context.Context, in AnswerRequest) (Standing, error) {
	var out Standing
	err := c.send(ctx, AnswerPath, in, &out)
	return out, err
}

// Waiting lists the requests that wait, the oldest first.
func (c Client) Waiting(ctx context.Context) ([]Standing, error) {
	var out []Standing
	err := c.send(ctx, ListPath, struct{}{}, &out)
	return out, err
}

// Build starts an execution on behalf of the person.
func (c Client) Build(ctx context.Context, in BuildRequest) (Started, error) {
	var out Started
	err := c.send(ctx, BuildPath, in, &out)
	return out, err
}

func (c Client) send(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	keys, err := c.AWS.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("the credentials to sign the request with: %w", err)
	}
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Amz-Content-Sha256", digest)
	if err := v4.NewSigner().SignHTTP(ctx, keys, r, digest, "lambda", c.AWS.Region, time.Now()); err != nil {
		return fmt.Errorf("sign the request: %w", err)
	}
	response, err := c.HTTP.Do(r)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.URL, err)
	}
	if response.StatusCode/100 != 2 {
		return refusalOf(response.StatusCode, raw)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("the answer of %s is not the function's: %w", c.URL, err)
	}
	return nil
}

// refusalOf reads why a request was refused: by the function, or by Lambda before it.
func refusalOf(status int, raw []byte) error {
	var of struct {
		Error   string `json:"error"`
		Message string `json:"Message"`
	}
	_ = json.Unmarshal(raw, &of) // what is not JSON has no text
	switch {
	case of.Error != "":
		return Refusal{status, of.Error}
	case status == http.StatusForbidden:
		return Refusal{status, fmt.Sprintf("Lambda refuses the request: %s. The role needs lambda:InvokeFunctionUrl, and lambda:InvokeFunction for function URLs", of.Message)}
	}
	return Refusal{status, fmt.Sprintf("the function failed with status %d: %s", status, of.Message)}
}
