// Package fault makes the embedded AWS misbehave on demand: it answers chosen
// calls with an error of AWS's, or late, and loses, delays, repeats and reorders chosen
// events of EventBridge.
package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Rule says which calls or events go wrong, and how. An empty field matches everything.
type Rule struct {
	ID        string `json:"id,omitempty"`      // given by the set when empty
	Service   string `json:"service,omitempty"` // signing name: ec2, ssm, …
	Operation string `json:"operation,omitempty"`
	Account   string `json:"account,omitempty"` // of the caller, or of the bus that an event arrives on
	Region    string `json:"region,omitempty"`  // of the same

	// InstanceType and Zone make it a rule about EC2's capacity: RunInstances
	// fails with InsufficientInstanceCapacity for the type (or every type) in
	// the zone (or every zone) of the region. Code must be that, or empty.
	InstanceType string `json:"instanceType,omitempty"`
	Zone         string `json:"zone,omitempty"`

	// Source makes it a rule about events on their way to an event bus: those of a source
	// such as aws.ec2, or * for all. DetailType and Pattern, an event pattern of
	// EventBridge, choose among them.
	Source     string          `json:"source,omitempty"`
	DetailType string          `json:"detailType,omitempty"`
	Pattern    json.RawMessage `json:"pattern,omitempty"`

	// Nth is the first matching call or event that the rule takes, from 1; 0 means 1.
	Nth int `json:"nth,omitempty"`
	// Times is how many it takes from then on; 0 means once, -1 every one.
	Times int `json:"times,omitempty"`

	Code    string `json:"code,omitempty"`    // AWS's error code; empty: the call is only delayed
	Message string `json:"message,omitempty"` // of the error
	Status  int    `json:"status,omitempty"`  // HTTP status; 500 and above is the server's fault
	// Delay is on the embedded AWS's clock: before a call is made, or before an event
	// arrives on its bus. With Behind it is how long the event is held at most.
	Delay Duration `json:"delay,omitempty"`

	Lose bool `json:"lose,omitempty"` // the event never arrives
	// Repeat is how many times more the event arrives, with the same id, each Gap after
	// the one before.
	Repeat int      `json:"repeat,omitempty"`
	Gap    Duration `json:"gap,omitempty"`
	// Behind makes events arrive out of order: the event is held until so many later
	// events that the rule matches have come.
	Behind int `json:"behind,omitempty"`
}

// Duration is a time.Duration that reads "1.5s" in JSON.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = Duration(parsed)
	return nil
}

// Injected is the error of a call that a rule took.
type Injected struct {
	smithy.GenericAPIError
	Status int // HTTP status; 0 leaves it to the protocol
	Rule   string
}

// HTTPStatusCode is the status that the front should answer with.
func (e *Injected) HTTPStatusCode() int { return e.Status }

// Unwrap lets errors.As find the plain API error.
func (e *Injected) Unwrap() error { return &e.GenericAPIError }

type counted struct {
	Rule
	Seen  int `json:"seen"`           // calls or events that matched
	Taken int `json:"taken"`          // those that the rule took
	Held  int `json:"held,omitempty"` // events that wait for later ones

	pattern events.Pattern
	held    []*held
}

// Set is a list of rules in force. The first that takes a call decides.
type Set struct {
	clock clock.Clock

	mu    sync.Mutex
	rules []*counted
	last  int
}

// New returns an empty Set, whose delays pass on c.
func New(c clock.Clock) *Set { return &Set{clock: c} }

// Add puts rules at the end of the list and returns their ids.
func (s *Set) Add(rules ...Rule) ([]string, error) {
	patterns := make([]events.Pattern, len(rules))
	for i, r := range rules {
		var err error
		if patterns[i], err = r.check(); err != nil {
			return nil, fmt.Errorf("fault rule %d: %w", i+1, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(rules))
	for i, r := range rules {
		if r.ID == "" {
			s.last++
			r.ID = fmt.Sprintf("fault-%d", s.last)
		}
		s.rules = append(s.rules, &counted{Rule: r, pattern: patterns[i]})
		ids = append(ids, r.ID)
	}
	return ids, nil
}

// check says what is wrong with a rule, and reads its pattern.
func (r Rule) check() (events.Pattern, error) {
	switch {
	case r.Nth < 0, r.Times < -1:
		return events.Pattern{}, errors.New("nth must be 0 or more, times -1 or more")
	case r.Delay < 0, r.Gap < 0, r.Repeat < 0, r.Behind < 0:
		return events.Pattern{}, errors.New("delay, gap, repeat and behind must be 0 or more")
	case r.aboutEvents():
		return r.checkEvents()
	case r.aboutCapacity():
		if r.Code != "" && r.Code != noCapacity || r.Service != "" && r.Service != "ec2" {
			return events.Pattern{}, fmt.Errorf("a rule with instanceType or zone is about EC2's capacity: service ec2 and code %s are the only ones allowed", noCapacity)
		}
	case r.Service == "":
		return events.Pattern{}, errors.New("service is missing (a signing name such as ec2, or * for all); a rule about events has a source instead")
	case r.Code == "" && r.Delay == 0:
		return events.Pattern{}, errors.New("neither code nor delay is given, so the rule would do nothing")
	case r.Status != 0 && (r.Status < 400 || r.Status > 599):
		return events.Pattern{}, fmt.Errorf("status is %d; 400 to 599 are allowed", r.Status)
	}
	return events.Pattern{}, nil
}

const noCapacity = "InsufficientInstanceCapacity"

func (r Rule) aboutCapacity() bool { return r.InstanceType != "" || r.Zone != "" }

// HasCapacity says whether a zone has capacity for an instance type; every call
// counts as one attempt. It fits ec2.Config.Capacity.
func (s *Set) HasCapacity(caller wire.Caller, instanceType, zone string) bool {
	_, taken := s.take(func(r Rule) bool {
		return r.aboutCapacity() && (r.InstanceType == "" || r.InstanceType == instanceType) && (r.Zone == "" || r.Zone == zone) && r.concerns(caller)
	})
	return !taken
}

// Remove takes one rule out and says whether it was there. Events that it held arrive.
func (s *Set) Remove(id string) bool {
	s.mu.Lock()
	var due []func()
	i := slices.IndexFunc(s.rules, func(r *counted) bool { return r.ID == id })
	if i >= 0 {
		due = s.rules[i].release()
		s.rules = slices.Delete(slices.Clone(s.rules), i, i+1)
	}
	s.mu.Unlock()
	run(due)
	return i >= 0
}

// Clear takes all rules out. Events that they held arrive.
func (s *Set) Clear() {
	s.mu.Lock()
	var due []func()
	for _, r := range s.rules {
		due = append(due, r.release()...)
	}
	s.rules = nil
	s.mu.Unlock()
	run(due)
}

// Taken is how many calls or events the rule has taken.
func (s *Set) Taken(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rules {
		if r.ID == id {
			return r.Taken
		}
	}
	return 0
}

// Load adds the rules of a JSON file: an array of Rule.
func (s *Set) Load(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading fault rules: %w", err)
	}
	rules, err := decode(raw)
	if err != nil {
		return fmt.Errorf("fault rules in %s: %w", file, err)
	}
	if _, err := s.Add(rules...); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func decode(raw []byte) ([]Rule, error) {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	var rules []Rule
	if err := d.Decode(&rules); err != nil {
		return nil, fmt.Errorf("a JSON array of rules is expected: %w", err)
	}
	return rules, nil
}

// Before is asked about every call before it is made; an error answers it. It
// fits wire.HandlerOptions.Before.
func (s *Set) Before(ctx context.Context, caller wire.Caller, service, operation string) error {
	rule, ok := s.take(func(r Rule) bool {
		return !r.aboutCapacity() && !r.aboutEvents() && r.matches(service, operation) && r.concerns(caller)
	})
	if !ok {
		return nil
	}
	if rule.Delay > 0 {
		if err := s.clock.Sleep(ctx, time.Duration(rule.Delay)); err != nil {
			return err
		}
	}
	if rule.Code == "" {
		return nil
	}
	message := rule.Message
	if message == "" {
		message = fmt.Sprintf("Injected by fault rule %s.", rule.ID)
	}
	side := smithy.FaultClient
	if rule.Status >= http.StatusInternalServerError {
		side = smithy.FaultServer
	}
	return &Injected{
		GenericAPIError: smithy.GenericAPIError{Code: rule.Code, Message: message, Fault: side},
		Status:          rule.Status, Rule: rule.ID,
	}
}

// take finds the first rule that matches and whose turn it is.
func (s *Set) take(matches func(Rule) bool) (Rule, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.taker(func(r *counted) bool { return matches(r.Rule) }); r != nil {
		return r.Rule, true
	}
	return Rule{}, false
}

// taker is take's; s.mu is held.
func (s *Set) taker(matches func(*counted) bool) *counted {
	for _, r := range s.rules {
		if !matches(r) {
			continue
		}
		r.Seen++
		times := r.Times
		if times == 0 {
			times = 1
		}
		if r.Seen < max(r.Nth, 1) || (times > 0 && r.Taken >= times) {
			continue
		}
		r.Taken++
		return r
	}
	return nil
}

func (r Rule) matches(service, operation string) bool {
	return (r.Service == "*" || strings.EqualFold(r.Service, service)) && (r.Operation == "" || r.Operation == operation)
}

func (r Rule) concerns(caller wire.Caller) bool {
	return (r.Account == "" || r.Account == caller.Account) && (r.Region == "" || r.Region == caller.Region)
}

// Path is where ServeHTTP is mounted.
const Path = "/_localcloud/faults"

// ServeHTTP lists the rules (GET), adds some (POST, a JSON array) and takes all
// or, with ?id=, one of them out (DELETE). Only loopback clients are served, so
// that a guest cannot use it.
func (s *Set) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		http.Error(w, "fault rules can be changed from this machine only", http.StatusForbidden)
		return
	}
	switch r.Method {
	case http.MethodGet:
		s.mu.Lock()
		list := make([]counted, 0, len(s.rules))
		for _, rule := range s.rules {
			shown := *rule
			shown.Held = len(rule.held)
			list = append(list, shown)
		}
		s.mu.Unlock()
		writeJSON(w, http.StatusOK, list)
	case http.MethodPost:
		var raw json.RawMessage
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&raw); err != nil {
			http.Error(w, "the body is not JSON: "+err.Error(), http.StatusBadRequest)
			return
		}
		rules, err := decode(raw)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ids, err := s.Add(rules...)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeJSON(w, http.StatusCreated, map[string][]string{"ids": ids})
	case http.MethodDelete:
		id := r.URL.Query().Get("id")
		if id == "" {
			s.Clear()
		} else if !s.Remove(id) {
			http.Error(w, fmt.Sprintf("there is no fault rule %q", id), http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		http.Error(w, "GET, POST or DELETE", http.StatusMethodNotAllowed)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have gone
}
