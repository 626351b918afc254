package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Views are the answers of the running proxy, each asked for at each request, on
// the goroutine of that request and possibly by several at once; the slices they
// return belong to the server, which sorts them. A view that is nil is not served.
type Views struct {
	Listeners func() []ListenerView
	Services  func() []ServiceView
	Endpoints func() []EndpointView
	Identity  func() []IdentityView
	Limits    func() LimitsView
	// Captures is the table of captured addresses, with what is wrong with each.
	Captures func() []CaptureView
	// Intentions shows those of Consul that decide here. With a caller, a SPIFFE ID, it
	// shows what they say of it.
	Intentions func(caller string) []IntentionsView
	// Registrations is what is kept registered in Consul.
	Registrations func() []RegistrationView
	// Maintain puts what is registered under an ID, or everything for none, into
	// maintenance for a reason, or ends that for none. It returns the IDs concerned.
	Maintain func(ctx context.Context, id, reason string) ([]string, error)
	// Decisions returns the last exchanges that did not simply succeed, the latest first. It
	// fails when it cannot tell before ctx ends.
	Decisions func(ctx context.Context, q DecisionsQuery) ([]DecisionView, error)
	// Config returns the configuration in force as JSON, expanded and with its
	// secrets redacted.
	Config func() json.RawMessage
	// Ready reports whether traffic should be sent here and, if not, why.
	Ready   func() (ready bool, reasons []string)
	Metrics http.Handler
	// Leave has others send nothing new while all is still served, and returns when they know.
	Leave func(ctx context.Context)
	// Quit begins the graceful end and returns at once.
	Quit func()
	// Reload reads the configuration again and applies it. An error means that the
	// old one stays in force; what errors.Join has joined, and the lines of its text,
	// are listed one by one as problems, with position where they begin with one.
	// It is not called again while it runs.
	Reload func() error
	// ReopenLogs opens the files of the access logs anew and returns the names of those
	// logs.
	ReopenLogs func() ([]string, error)
}

// ListenerView is one listener.
type ListenerView struct {
	Name              string   `json:"name"`
	Addresses         []string `json:"addresses"`
	Protocol          string   `json:"protocol"`
	Direction         string   `json:"direction"` // inbound or outbound
	TLS               string   `json:"tls"`       // none, tls or mtls
	Routes            int      `json:"routes"`
	ConnectionsActive int64    `json:"connections_active"`
	ConnectionsTotal  uint64   `json:"connections_total"`
	ConnectionsLimit  int64    `json:"connections_limit"` // 0: none of its own
}

// CaptureView is an address whose captured connections a listener takes.
type CaptureView struct {
	Listener  string `json:"listener"`
	Direction string `json:"direction"` // inbound or outbound
	Address   string `json:"address"`   // an IP address, a block, * for all; empty: not known yet
	Port      uint16 `json:"port"`      // 0: every port
	Source    string `json:"source"`    // configuration, "name NAME", consul
	Error     string `json:"error"`     // why it is not in force, or not fresh; empty: it is
}

// LimitsView is how much of what the process may have is in use.
type LimitsView struct {
	Connections         int64  `json:"connections"`          // of clients
	ConnectionsLimit    int64  `json:"connections_limit"`    // 0: none
	Descriptors         int    `json:"descriptors"`          // open files and sockets; -1: not known
	DescriptorsLimit    uint64 `json:"descriptors_limit"`    // 0: not known
	DescriptorsReserved uint64 `json:"descriptors_reserved"` // for all that are no connections
	BufferBytes         int64  `json:"buffer_bytes"`         // memory of all buffers
	BufferBytesLimit    int64  `json:"buffer_bytes_limit"`   // 0: none

	RateLimits []RateLimitView `json:"rate_limits"`
}

// RateLimitView is one rate limit of this proxy's own, and what it has come to since it is as
// it is now.
type RateLimitView struct {
	Place     string  `json:"place"` // where it stands
	Name      string  `json:"name"`
	Rate      float64 `json:"rate"` // a second
	Burst     int     `json:"burst"`
	Keys      int     `json:"keys"` // that have a bucket
	KeysLimit int     `json:"keys_limit"`
	Allowed   uint64  `json:"allowed"`
	Denied    uint64  `json:"denied"`
	Evicted   uint64  `json:"evicted"` // buckets that were given up too soon, for want of places
}

// ServiceView is one service.
type ServiceView struct {
	Name      string `json:"name"`
	Source    string `json:"source"` // static, consul, ...
	Balance   string `json:"balance"`
	Protocol  string `json:"protocol,omitempty"`
	Endpoints int    `json:"endpoints"`
	Up        int    `json:"up"`
	// Sources are those of discovery, in the order of their precedence.
	Sources    []SourceView `json:"sources"`
	UpdatedAt  time.Time    `json:"updated_at,omitzero"` // when discovery last confirmed it
	Error      string       `json:"error,omitempty"`     // why the last set is kept
	Requests   uint64       `json:"requests"`
	Failures   uint64       `json:"failures"`
	P50Seconds float64      `json:"p50_seconds"`
	P99Seconds float64      `json:"p99_seconds"`

	Retries RetriesView `json:"retries"`
}

// RetriesView is what is repeated of a service's attempts.
type RetriesView struct {
	Attempts int `json:"attempts"` // in all; 1: nothing is repeated
	// On are the causes for which attempts are repeated.
	On            []string `json:"on"`
	PerTrySeconds float64  `json:"per_try_seconds"` // 0: no limit of an attempt
	ReplayBytes   int      `json:"replay_bytes"`
	// Percent and Min are the budget's; Allowed is what they come to at this moment, and
	// Active how many repeats are under way.
	Percent int   `json:"budget_percent"`
	Min     int   `json:"budget_min"`
	Allowed int64 `json:"allowed"`
	Active  int64 `json:"active"`
	// What became of the attempts that were to be repeated.
	Made       uint64 `json:"made"`
	OverBudget uint64 `json:"over_budget"`
	Spent      uint64 `json:"spent"`
	Unsafe     uint64 `json:"unsafe"`
}

// SourceView is one discovery source of a service.
type SourceView struct {
	Source      string    `json:"source"`        // static, file:PATH, dns:NAME/TYPE, consul:DATACENTER
	Via         string    `json:"via,omitempty"` // who answered, of several
	Known       bool      `json:"known"`         // it has answered, be it with nothing
	Endpoints   int       `json:"endpoints"`
	Index       uint64    `json:"index,omitempty"` // version of the set in the source
	ChangedAt   time.Time `json:"changed_at,omitzero"`
	ConfirmedAt time.Time `json:"confirmed_at,omitzero"` // last answer
	StaleSince  time.Time `json:"stale_since,omitzero"`  // first failure since then
	Failures    int       `json:"failures,omitempty"`    // in a row
	Error       string    `json:"error,omitempty"`       // the last of them
	Ended       bool      `json:"ended,omitempty"`       // it has given up
}

// EndpointView is one endpoint of one service.
type EndpointView struct {
	Service   string     `json:"service"`
	Address   string     `json:"address"`
	ID        string     `json:"id,omitempty"`     // of the instance in its source
	State     string     `json:"state"`            // up, down, ...
	Reason    string     `json:"reason,omitempty"` // of the last change of state
	Since     time.Time  `json:"since,omitzero"`
	Weight    int        `json:"weight"`
	SPIFFEIDs []string   `json:"spiffe_ids,omitempty"` // accepted as its identity
	InFlight  int64      `json:"in_flight"`
	InUse     int64      `json:"connections_in_use"` // by them
	Limit     int64      `json:"connections_limit"`  // of connections_in_use; 0: none
	Shared    int64      `json:"connections_shared"` // of HTTP/2, that take new streams
	Streams   int64      `json:"streams"`            // of in_flight, those on shared connections
	Requests  uint64     `json:"requests"`
	Failures  uint64     `json:"failures"`
	Check     *CheckView `json:"check,omitempty"`
	Idle      int64      `json:"connections_idle"`
	// InRotation: new traffic goes there; Rotation says why, or why not.
	InRotation bool              `json:"in_rotation"`
	Rotation   string            `json:"rotation"`
	Source     string            `json:"source"`
	Node       string            `json:"node,omitempty"`
	Zone       string            `json:"zone,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Health     HealthView        `json:"health"`
	Origin     *OriginView       `json:"origin,omitempty"`
	// Breaker and Ejection are there where the service has them.
	Breaker  *BreakerView  `json:"breaker,omitempty"`
	Ejection *EjectionView `json:"ejection,omitempty"`
}

// BreakerView is the breaker of an endpoint.
type BreakerView struct {
	State    string    `json:"state"` // closed, half-open or open
	Since    time.Time `json:"since,omitzero"`
	Until    time.Time `json:"until,omitzero"` // open: then it is half-open
	Failures uint32    `json:"failures"`       // in a row
	Probes   int       `json:"probes"`         // under way
}

// EjectionView is what ejection holds against an endpoint.
type EjectionView struct {
	Ejected bool      `json:"ejected"`
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`  // of the last ejection, too
	Cause   string    `json:"cause,omitempty"` // consecutive or success_rate
	Count   int       `json:"count"`           // in a row
	Share   float64   `json:"share"`           // of its share of the picks, 0 to 1
}

// HealthView says what is known of an endpoint's health, beside Check, and from
// whom.
type HealthView struct {
	// From is what the state rests on: check, connections, requests, discovery, or nothing.
	From      string         `json:"from"`
	Source    string         `json:"source_status,omitempty"` // in its source: passing, warning
	Suspicion *SuspicionView `json:"suspicion,omitempty"`
}

// SuspicionView is what connection failures say.
type SuspicionView struct {
	Failures int       `json:"failures"` // in a row
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`  // passed over till then
	Reason   string    `json:"reason"` // of the last one
}

// OriginView says where an endpoint comes from.
type OriginView struct {
	Source      string    `json:"source"`
	Position    int       `json:"position"` // of the source among those of the service, from 0
	Via         string    `json:"via,omitempty"`
	Index       uint64    `json:"index,omitempty"` // version of the source's set
	Since       time.Time `json:"since"`           // in its source, without interruption
	AgeSeconds  float64   `json:"age_seconds"`     // since then
	ConfirmedAt time.Time `json:"confirmed_at,omitzero"`
	// Stale: the source is away, and its last good set is used.
	Stale      bool      `json:"stale"`
	StaleSince time.Time `json:"stale_since,omitzero"`
	Error      string    `json:"error,omitempty"`
	Also       []string  `json:"also_in,omitempty"` // later sources that name the address
}

// CheckView is the last active health check of an endpoint.
type CheckView struct {
	At              time.Time `json:"at"`
	OK              bool      `json:"ok"`
	Detail          string    `json:"detail,omitempty"`
	DurationSeconds float64   `json:"duration_seconds"`
}

// IdentityView is one identity of the proxy.
type IdentityView struct {
	Name        string       `json:"name,omitempty"`
	Source      string       `json:"source"`
	SPIFFEID    string       `json:"spiffe_id,omitempty"` // empty: none was obtained yet
	TrustDomain string       `json:"trust_domain,omitempty"`
	Serial      string       `json:"serial,omitempty"`
	NotBefore   time.Time    `json:"not_before,omitzero"`
	ExpiresAt   time.Time    `json:"expires_at,omitzero"`
	Rotations   uint64       `json:"rotations"`
	Bundles     []BundleView `json:"bundles"`
	Error       string       `json:"error,omitempty"` // of the last attempt to renew
}

// RegistrationView is one sidecar proxy in Consul, with the workload behind it.
type RegistrationView struct {
	ID         string    `json:"id"` // of the proxy
	Service    string    `json:"service,omitempty"`
	Adopted    bool      `json:"adopted"`              // registered by somebody else
	Node       string    `json:"node,omitempty"`       // of the catalog; empty: at the agent
	Registered bool      `json:"registered"`           // as far as we know
	ReportedAt time.Time `json:"reported_at,omitzero"` // when Consul last took our state
	Error      string    `json:"error,omitempty"`
	// Meta is what others can read of it: of a pod its name, namespace, node and version.
	Meta map[string]string `json:"meta,omitempty"`
}

// BundleView says how many authorities are trusted for a trust domain.
type BundleView struct {
	TrustDomain string `json:"trust_domain"`
	Authorities int    `json:"authorities"`
}

// IntentionsView is what Consul says about who may call one destination.
type IntentionsView struct {
	Destination string `json:"destination"`
	Known       bool   `json:"known"` // false: nobody may call
	// Default is what holds for a caller that no intention names: allow, deny, unknown.
	Default    string          `json:"default"`
	Index      uint64          `json:"index,omitempty"` // Consul's version
	ChangedAt  time.Time       `json:"changed_at,omitzero"`
	Intentions []IntentionView `json:"intentions"` // in the order of evaluation
	Error      string          `json:"error,omitempty"`
	ErrorSince time.Time       `json:"error_since,omitzero"` // for so long they may be out of date
	Verdict    *VerdictView    `json:"verdict,omitempty"`
}

// IntentionView is one intention.
type IntentionView struct {
	Source     string `json:"source"`
	Action     string `json:"action"`
	Precedence int    `json:"precedence"`
	Requires   string `json:"requires,omitempty"` // of a request, which is not looked at
}

// VerdictView says what becomes of one caller, and by which intention.
type VerdictView struct {
	Caller  string `json:"caller"`
	Allowed bool   `json:"allowed"`
	Rule    string `json:"rule"`
}
