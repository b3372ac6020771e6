// Package httpapi is /api/v1: what operators and their programs talk to. A handler decodes a request into a
// command and the command's outcome into an answer, and nothing else; the handlers' types are the OpenAPI
// document, so that the two cannot differ.
//
// What always holds: every answer that is no success is a problem+json made in one place (problem.go); the
// tenants a caller reaches come from its key, and what is another tenant's is answered as what does not
// exist (access.go); secrets are in no answer but the one that issues them; a change under an idempotency
// key is made once (idempotency.go); ?dry_run=true runs the very same handler over an overlay of the log.
//
// Not here: rules (domain), what phones fetch (phonehttp), credentials (commands.Authenticate).
package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// Options are what the API works with. Service, Log, Views, Wait, Past and Parked are needed.
type Options struct {
	Service *commands.Service
	Log     commands.Log
	Views   projections.Querier
	// Wait is asked by ?min_position=.
	Wait interface {
		WaitFor(ctx context.Context, at domain.Position) error
	}
	// Past is the views as they stood at a position: adapters/views.
	Past interface {
		At(ctx context.Context, at domain.Position) (q projections.Querier, release func(), err error)
	}
	Parked Parked
	// SoftphoneXML is needed by what imports and exports XML of Cloud Softphone.
	SoftphoneXML SoftphoneXML
	// Seen tells where and when a phone was last seen; SeenAt which phones were at an address. Either may be nil.
	Seen   func(ctx context.Context, id domain.DeviceID, mac domain.MAC) ([]commands.Sighting, error)
	SeenAt func(ctx context.Context, ip string) ([]commands.Sighting, error)
	// Verify recomputes the chain of the whole log; nil where the store has none.
	Verify func(ctx context.Context) (Verified, error)
	// QR draws a text as SVG; nil where nothing is drawn.
	QR func(text string) (svg string, err error)
	// Mask makes a function that replaces secrets in configurations phones uploaded; equal ones by equal words.
	Mask func() func(config []byte) string
	// Sysadmin is the Devices URL of automatic provisioning, and the line that gives it to an innovaphone phone.
	Sysadmin func(base, domain, token, category string) (url, line string)
	Version  string
	Now      func() time.Time      // nil means time.Now
	Metrics  prometheus.Registerer // may be nil
}

// Parked is what reactions gave up on: adapters/reactor.
type Parked interface {
	List(ctx context.Context, reaction string) ([]commands.Parked, error)
	Replay(ctx context.Context, reaction string, event uuid.UUID) error
	Discard(ctx context.Context, reaction string, event uuid.UUID) error
	// ReplayAll tries everything a reaction gave up on again, in order, and answers how many succeeded.
	ReplayAll(ctx context.Context, reaction string) (int, error)
}

// Verified is the outcome of a verification.
type Verified struct {
	Verified bool            `json:"verified"`
	Events   int             `json:"events"`
	To       domain.Position `json:"to"`
	Findings []string        `json:"findings,omitempty"`
}

// api is the handlers and what they share.
type api struct {
	Options
	huma    huma.API
	pending pending
	feeds   feeds
	metrics metrics
}

// rest is a ServeMux for OpenAPI's paths: the path of a file takes the rest of the path, slashes and all,
// which Go writes {path...} and OpenAPI has no way to say.
type rest struct{ *http.ServeMux }

// HandleFunc registers an operation.
func (m rest) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	if before, ok := strings.CutSuffix(pattern, "/{path}"); ok {
		pattern = before + "/{path...}"
	}
	m.ServeMux.HandleFunc(pattern, handler)
}

// New makes the handler of the admin listener: /api/v1, /openapi.json, /openapi.yaml and /docs.
func New(o Options) (http.Handler, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &api{Options: o}
	if err := a.metrics.register(o.Metrics); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Ledgerline", o.Version)
	config.Info.Description = "Provisioning of telephones, and its whole history. Errors are application/problem+json. A change answers " +
		"Ledger-Position; a read that brings it as min_position sees the change."
	config.DocsPath, config.SchemasPath = "", ""
	config.CreateHooks = nil // no $schema members, no Link headers
	config.RejectUnknownQueryParameters = true
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"key": {Type: "http", Scheme: "bearer", Description: "an API key: ll_<id>_<secret>"}}
	config.Security = []map[string][]string{{"key": {}}}
	useProblems()
	a.huma = humago.New(rest{mux}, config)
	for _, register := range []func(*api){(*api).tenants, (*api).categories, (*api).codes, (*api).devices, (*api).people, (*api).layers, (*api).gateways, (*api).keys, (*api).history, (*api).operations, (*api).plugins, (*api).softphones, (*api).registry, (*api).tokens, (*api).backups, (*api).sysclients} {
		register(a)
	}
	a.rollouts()
	a.jobs()
	a.docs(mux)
	return a.outermost(a.routed(mux)), nil
}
