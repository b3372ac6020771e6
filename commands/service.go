// Package commands decides. One file per command: its input, its method on Service. A command reads the
// streams it decides from, folds them, asks a rule of domain, and appends at the revision it read; when
// somebody was faster it reads and asks again. What commands need from outside are the ports of ports.go.
//
// Why from streams, never from views: a view may lag, a stream cannot. The one way to a view is the port
// Candidates, for selections no single stream can tell, and each candidate is then decided from its stream.
//
// Always holds: a secret reaches the log sealed only (seal.go); an event born of a reaction has a name-based
// id and is recorded once, however often the reaction is delivered; appends of one decision are atomic.
package commands

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/google/uuid"

	"ledgerline/domain"
)

// Service carries out commands. The zero value is not usable: fill the ports, then it is safe for
// concurrent use. Its fields are not changed while commands run.
type Service struct {
	Log        Log
	Vault      Vault
	Blobs      Blobs
	Renderer   Renderer
	Recognizer Recognizer
	Candidates Candidates
	Shelf      Shelf
	Sightings  Sightings // may be nil
	Borders    Borders   // border gateways; nil: none can be asked
	Alerts     Alerts    // where what somebody must act on is told; may be nil
	// Whereabouts and Notifier may be nil; without the latter no phone can be told anything.
	Whereabouts Whereabouts
	Notifier    Notifier
	Packages    Packages // may be nil where no package is installed or removed
	// Registry draws the digits of codes where a registry elsewhere leads phones here; nil: they are drawn here.
	Registry Registry
	// Sysclients are the devices connected to this process; nil: there are none. SysclientCipher encrypts text for one of
	// them with a seed and its own password (reference "innovaphone provisioning" §4.5), and answers hex digits.
	Sysclients      Sysclients
	SysclientCipher func(seed, password, clear string) (string, error)
	// ZoneOf names a time zone that keeps a POSIX rule; empty when there is none. nil: it is never known.
	ZoneOf func(posix string) string
	// JobCommands says by which options of native sysclients the parameters of jobs are set; nil means DefaultJobCommands.
	JobCommands JobCommands

	// Now is the clock; nil means time.Now. Rand is the source of codes and secrets; nil means crypto/rand.
	Now  func() time.Time
	Rand io.Reader

	// PublicURL is how phones reach the phone plane over HTTP: "http://192.0.2.1:8667/". Base are the
	// settings below the base layer (D-order: base < tenant < category < config jobs < parents < device).
	PublicURL string
	Base      domain.Settings
	// DevicesURL is the websocket address phones of a tenant are led to, "{domain}" standing for its domain name:
	// "wss://apps.example.com/{domain}/devices/sysclients". Empty: they are led nowhere.
	DevicesURL string
	// CodeTTL overrides domain.CodeTTL per purpose. CodeLength is 12 (zero) or 16.
	CodeTTL    map[string]time.Duration
	CodeLength int
	// CodesPerTenant and CodesPerUser bound the live codes that are not a rollout's; zero means no bound.
	CodesPerTenant, CodesPerUser int
	// CodesPerServer bounds the live codes drawn for a Devices server elsewhere that no phone has shown yet; zero means no bound.
	CodesPerServer int
	// SoftphoneLinks lets the retail apps of Cloud Softphone's vendor in, which are opened by a link.
	SoftphoneLinks bool
	// DiscoveryCap bounds device.discovered per hour; zero means 2000.
	DiscoveryCap int

	planned   *Service // whose plan this one makes; nil for one that does what it says
	own       budgets
	serving   serving
	ownKeys   ownKeys
	discovery discovery
	layers    stateCache[domain.Layer]
	tenants   stateCache[domain.Tenant]
	jobLists  stateCache[domain.Jobs]
	jobs      jobs
	// planning: this is the service of a dry run.
	planning bool
	epochs   epochs
	resyncs  resyncs
	borders  borders
	signIns  signIns

	operations Operations
	heads      heads

	// tokenUse is held while a use of a token of automatic provisioning is recorded.
	tokenUse sync.Mutex
	tokens   folds[domain.Token]
}

// Guard is the budget on wrong codes; see guard.go.
func (s *Service) Guard() *Guard { return &s.budgets().codes }

// Outcome is what a command did. Events is empty when there was nothing new. Position is where the
// deciding stream's last event stands, whether or not it is new: a reader that has caught up with it
// sees everything the command decided from. Revision is the stream's revision now.
type Outcome struct {
	Stream   domain.StreamID
	Revision domain.Revision
	Position domain.Position
	Events   []domain.Recorded
}

// Caller says on whose behalf a command runs; it travels in the context and ends up in the metadata.
type Caller struct {
	Actor     string // "apikey:<id>", "phone:<mac>", "system:<part>", "cli:<user>"
	IP        string
	Listener  string
	Reason    string
	RequestID string
	// TenantID seals IP; empty means the tenant of the noun the command decides.
	TenantID domain.TenantID
	// Tenants bound what the caller may redeem a code of; empty means all. A code of another tenant is none.
	Tenants []domain.TenantID
	// Confirmed tells that somebody with the right to do so stands behind a redemption: it is a confirmation
	// and draws on no budget of wrong codes.
	Confirmed bool
	// IfRevision, when set, must be the revision of IfStream, else ErrPrecondition.
	IfStream   domain.StreamID
	IfRevision *domain.Revision

	cause       domain.Recorded
	reaction    string
	correlation string
}

// redeems tells whether the caller may redeem a code of the tenant's.
func (c Caller) redeems(tenant domain.TenantID) bool {
	return len(c.Tenants) == 0 || slices.Contains(c.Tenants, tenant)
}

type callerKey struct{}

// WithCaller returns a context in which commands run on behalf of c, for the request ctx is of unless c names another.
func WithCaller(ctx context.Context, c Caller) context.Context {
	c.RequestID = cmp.Or(c.RequestID, CallerFrom(ctx).RequestID)
	return context.WithValue(ctx, callerKey{}, c)
}

// NewRequest returns a context of a request with an id of its own, which ends up in the metadata of what is recorded for
// it, whoever turns out to ask.
func NewRequest(ctx context.Context) (_ context.Context, id string) {
	id = uuid.NewString()
	return WithCaller(ctx, Caller{RequestID: id}), id
}

// CallerFrom is the caller of ctx; the zero Caller if none was set.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// WithCause returns a context in which commands run as the reaction to r: their events carry it as
// their cause, get name-based ids, and are recorded once.
func WithCause(ctx context.Context, r domain.Recorded, reaction string) context.Context {
	c := CallerFrom(ctx)
	c.Actor, c.cause, c.reaction = "system:"+reaction, r, reaction
	if m, err := r.Meta(); err == nil {
		c.correlation, c.TenantID, c.RequestID = m.CorrelationID, m.TenantID, m.RequestID
	}
	return WithCaller(ctx, c)
}

var (
	// ErrInvalid: the input of a command breaks a rule of its form; InvalidError tells which.
	ErrInvalid = errors.New("invalid input")
	// ErrPrecondition: the noun is not at the revision the caller named.
	ErrPrecondition = errors.New("has been changed since it was read")
	// ErrBusy: others kept changing the same stream; ask again.
	ErrBusy = errors.New("too many conflicting changes, try again")
	// ErrUnknownHistory: the stream holds events this program does not know; it will not decide over them.
	ErrUnknownHistory = errors.New("history was written by a newer program")
)

// InvalidError names the field and the rule it breaks.
type InvalidError struct {
	Field string
	Rule  string
}

func (e *InvalidError) Error() string { return e.Field + " " + e.Rule }

// Is makes errors.Is(err, ErrInvalid) hold.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

var validate = func() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	must(v.RegisterValidation("id", func(f validator.FieldLevel) bool { return domain.CheckID(f.Field().String()) == nil }))
	must(v.RegisterValidation("text", func(f validator.FieldLevel) bool { return plain(f.Field().String()) }))
	v.RegisterTagNameFunc(jsonName)
	return v
}()

// rules puts validator tags into words.
var rules = map[string]string{
	"required": "is required",
	"unique":   "must not name anything twice",
	// The parameters of these name Go fields, which say nothing to a caller.
	"required_without": "is required",
	"required_if":      "is required",
	"id":               domain.ErrBadID.Error(),
	"text":             "must be text without control characters",
	"oneof":            "must be one of: %s",
	"max":              "must be at most %s long",
	"min":              "must be at least %s",
	"lte":              "must be at most %s",
	"gte":              "must be at least %s",
	"email":            "must be an e-mail address",
	"fqdn":             "must be a domain name",
	"ip":               "must be an IP address",
	"numeric":          "must be digits",
}

// check applies the validator tags of a command's input.
func check(in any) error {
	err := validate.Struct(in)
	var broken validator.ValidationErrors
	if !errors.As(err, &broken) {
		return err
	}
	errs := make([]error, len(broken))
	for i, b := range broken {
		rule, ok := rules[b.Tag()]
		if !ok {
			rule = "breaks the rule " + b.Tag()
		}
		rule = strings.ReplaceAll(rule, "%s", b.Param())
		_, field, _ := bytes.Cut([]byte(b.Namespace()), []byte("."))
		errs[i] = &InvalidError{string(field), rule}
	}
	return errors.Join(errs...)
}

// plain tells whether s has no control characters.
func plain(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return false
		}
	}
	return true
}

func (s *Service) now() time.Time {
	if s.Now != nil {
		return s.Now().UTC()
	}
	return time.Now().UTC()
}

func (s *Service) random() io.Reader {
	if s.Rand != nil {
		return s.Rand
	}
	return rand.Reader
}

// newID is a fresh id in text form.
func newID() string { return domain.IDFrom(uuid.Must(uuid.NewV7())) }

// history is a stream as read.
type history struct {
	events   []domain.Recorded
	revision domain.Revision
	position domain.Position
	keyed    bool // key.created of the stream's own subject is in it
}

// load reads a stream and folds it. A stream that does not exist is the zero state at NoStream.
func load[S domain.State[S]](ctx context.Context, log Log, stream domain.StreamID) (S, history, error) {
	return loadUntil[S](ctx, log, stream, latest)
}

// latest as a bound reads a stream to its present end.
const latest = domain.Revision(math.MaxInt64)

// loadUntil is load that stops behind the event of a revision; with NoStream it reads nothing.
func loadUntil[S domain.State[S]](ctx context.Context, log Log, stream domain.StreamID, until domain.Revision) (S, history, error) {
	var state S
	return loadFrom(ctx, log, stream, state, 0, until, true)
}

// loadState is load without the events: not for reactions, which look for their own among them.
func loadState[S domain.State[S]](ctx context.Context, log Log, stream domain.StreamID) (S, history, error) {
	var state S
	return loadFrom(ctx, log, stream, state, 0, latest, false)
}

// loadFrom folds the events from a revision on into state; without any, the history is that of an empty stream. keep tells
// whether they are to stand in the history.
func loadFrom[S domain.State[S]](ctx context.Context, log Log, stream domain.StreamID, state S, from, until domain.Revision, keep bool) (S, history, error) {
	h := history{revision: domain.NoStream}
	for r, err := range log.Read(ctx, stream, from) {
		if errors.Is(err, domain.ErrNoStream) || err == nil && r.Revision > until {
			break
		}
		if err != nil {
			return state, h, fmt.Errorf("load %s: %w", stream, err)
		}
		e, err := r.Event()
		if err != nil {
			return state, h, err
		}
		switch e := e.(type) {
		case domain.Unknown:
			return state, h, fmt.Errorf("load %s: event %d is a %q: %w", stream, r.Revision, e.Type, ErrUnknownHistory)
		case domain.KeyCreated:
			h.keyed = h.keyed || e.Subject == domain.Subject(stream)
		}
		state = state.Apply(e)
		h.revision, h.position = r.Revision, r.Position
		if keep {
			h.events = append(h.events, r)
		}
	}
	return state, h, nil
}

// folds remembers what the streams asked of it added up to, so that the next load reads only what is new: for streams
// that grow with every use. Streams only grow, so what is remembered stays right. The zero value is ready; safe for
// concurrent use.
type folds[S domain.State[S]] struct {
	mu sync.Mutex
	of map[domain.StreamID]fold[S]
}

type fold[S any] struct {
	state S
	history
}

const maxFolds = 1000 // then all are forgotten

// load is load without the events: not for reactions, which look for their own among them.
func (f *folds[S]) load(ctx context.Context, log Log, stream domain.StreamID) (S, history, error) {
	f.mu.Lock()
	now, known := f.of[stream]
	f.mu.Unlock()
	if !known {
		now.revision = domain.NoStream
	}
	rest, h, err := loadFrom(ctx, log, stream, now.state, now.revision+1, latest, false)
	if err != nil {
		return rest, h, err
	}
	if h.revision == domain.NoStream {
		return now.state, now.history, nil
	}
	h.keyed = h.keyed || now.keyed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil || len(f.of) >= maxFolds {
		f.of = make(map[domain.StreamID]fold[S])
	}
	f.of[stream] = fold[S]{rest, h}
	return rest, h, nil
}

// attempts bounds how often a command decides again because somebody else was faster.
const attempts = 50

// decide is the loop of every command: load, ask the rule, append; on conflict again. ask returns the
// events to record, none when there is nothing new.
func decide[S domain.State[S]](ctx context.Context, s *Service, stream domain.StreamID, ask func(S) ([]domain.Event, error)) (Outcome, error) {
	if CallerFrom(ctx).reaction == "" {
		return decideBy(ctx, s, stream, loadState[S], ask)
	}
	return decideBy(ctx, s, stream, load[S], ask)
}

// decideBy is decide with a load of its own.
func decideBy[S domain.State[S]](ctx context.Context, s *Service, stream domain.StreamID, load func(context.Context, Log, domain.StreamID) (S, history, error),
	ask func(S) ([]domain.Event, error)) (Outcome, error) {
	for range attempts {
		state, h, err := load(ctx, s.Log, stream)
		if err != nil {
			return Outcome{}, err
		}
		out := Outcome{Stream: stream, Revision: h.revision, Position: h.position}
		caller := CallerFrom(ctx)
		if caller.IfRevision != nil && caller.IfStream == stream && *caller.IfRevision != h.revision {
			return out, fmt.Errorf("%s %w", stream, ErrPrecondition)
		}
		if caller.done(h.events) {
			return out, nil
		}
		events, err := ask(state)
		if err != nil || len(events) == 0 {
			return out, err
		}
		after := state
		for _, e := range events {
			after = after.Apply(e)
		}
		tenant := domain.TenantID("")
		if o, ok := any(after).(interface{ Owner() domain.TenantID }); ok {
			tenant = o.Owner()
		}
		out, err = s.append(ctx, stream, h, events, tenant)
		if errors.Is(err, domain.ErrConflict) {
			continue
		}
		return out, err
	}
	return Outcome{}, fmt.Errorf("decide %s: %w", stream, ErrBusy)
}

// done tells whether the history holds what this reaction to this cause recorded: then a redelivery
// has nothing to add, even if the state has moved on since.
func (c Caller) done(history []domain.Recorded) bool {
	if c.reaction == "" {
		return false
	}
	cause := c.cause.ID.String()
	for _, r := range history {
		if !bytes.Contains(r.Metadata, []byte(cause)) {
			continue
		}
		if m, err := r.Meta(); err == nil && m.CausationID == cause && m.Reaction == c.reaction {
			return true
		}
	}
	return false
}

// keyedCategories are the streams whose noun owns a data key, made with its first event.
var keyedCategories = map[string]bool{"tenant": true, "user": true, "line": true, "device": true, "layer": true, "gateway": true}

// append seals the events, writes them at the revision they were decided at, and returns them as recorded.
func (s *Service) append(ctx context.Context, stream domain.StreamID, h history, events []domain.Event, tenant domain.TenantID) (Outcome, error) {
	if keyedCategories[stream.Category()] && !h.keyed {
		keyID, _, err := s.Vault.Ensure(ctx, domain.Subject(stream))
		if err != nil {
			return Outcome{}, fmt.Errorf("make the key of %s: %w", stream, err)
		}
		events = append([]domain.Event{domain.KeyCreated{Subject: domain.Subject(stream), KeyID: keyID}}, events...)
	}
	caller := CallerFrom(ctx)
	fresh := make([]domain.NewEvent, len(events))
	for i, e := range events {
		id := caller.eventID(stream, i)
		sealed, err := s.seal(ctx, e, id)
		if err != nil {
			return Outcome{}, fmt.Errorf("seal %s: %w", e.EventType(), err)
		}
		data, err := json.Marshal(sealed)
		if err != nil {
			return Outcome{}, fmt.Errorf("encode %s: %w", e.EventType(), err)
		}
		meta, err := s.metadata(ctx, caller, id, tenant)
		if err != nil {
			return Outcome{}, err
		}
		fresh[i] = domain.NewEvent{ID: id, Type: e.EventType(), Data: data, Metadata: meta}
	}
	position, err := s.write(ctx, stream, h.revision, fresh)
	if err != nil {
		return Outcome{}, fmt.Errorf("append to %s: %w", stream, err)
	}
	out := Outcome{Stream: stream, Revision: h.revision + domain.Revision(len(fresh)), Position: position, Events: make([]domain.Recorded, len(fresh))}
	for i, f := range fresh {
		// The position is that of the last one: whoever has seen it has seen all of them.
		out.Events[i] = domain.Recorded{Stream: stream, Revision: h.revision + domain.Revision(i) + 1, Position: position,
			ID: f.ID, Type: f.Type, Data: f.Data, Metadata: f.Metadata}
	}
	s.heads.note(stream, out.Revision, func(stream domain.StreamID, r domain.Revision) bool {
		return s.Shelf != nil && s.Shelf.Stale([]domain.Input{{Stream: stream, Revision: r - 1}})
	})
	if note, ok := ctx.Value(noteKey{}).(func([]domain.Recorded)); ok {
		note(out.Events)
	}
	return out, nil
}

// write appends, and repeats with the same ids and revision while the outcome is unknown.
func (s *Service) write(ctx context.Context, stream domain.StreamID, at domain.Revision, events []domain.NewEvent) (domain.Position, error) {
	for try := 0; ; try++ {
		p, err := s.Log.Append(ctx, stream, at, events)
		if !errors.Is(err, domain.ErrOutcomeUnknown) || try == 5 {
			return p, err
		}
		select {
		case <-ctx.Done():
			return p, err
		case <-time.After(time.Duration(50<<try) * time.Millisecond):
		}
	}
}

// reactionSpace is the name space of ids of events born of reactions.
var reactionSpace = uuid.MustParse("6f2b0c1e-5b0e-5d53-9a3c-1f6d7c1b7a10")

// eventID is time-ordered for an event somebody asked for, and follows from cause, reaction, stream and
// index for one born of a reaction, so that a redelivery makes the same id again.
func (c Caller) eventID(stream domain.StreamID, index int) uuid.UUID {
	if c.reaction == "" {
		return uuid.Must(uuid.NewV7())
	}
	return uuid.NewSHA1(reactionSpace, []byte(c.cause.ID.String()+"/"+c.reaction+"/"+string(stream)+"/"+strconv.Itoa(index)))
}

func (s *Service) metadata(ctx context.Context, c Caller, id uuid.UUID, tenant domain.TenantID) ([]byte, error) {
	if c.TenantID != "" {
		tenant = c.TenantID
	}
	if tenant == "" {
		tenant = domain.Master
	}
	m := domain.Metadata{Actor: c.Actor, Reason: c.Reason, RequestID: c.RequestID, TenantID: tenant, RecordedAt: s.now(),
		CorrelationID: c.correlation, Reaction: c.reaction}
	if m.Actor == "" {
		m.Actor = "system:engine"
	}
	if c.reaction != "" {
		m.CausationID = c.cause.ID.String()
	}
	if m.CorrelationID == "" {
		m.CorrelationID = c.RequestID
	}
	if m.CorrelationID == "" {
		m.CorrelationID = id.String()
	}
	if c.IP != "" || c.Listener != "" {
		m.Source = &domain.Source{Listener: c.Listener}
		if c.IP != "" {
			sealed, err := s.Vault.Seal(ctx, domain.Subject(tenant.Stream()), c.IP, id.String()+"#/source/ip")
			switch {
			case err == nil:
				m.Source.IP = domain.Personal{Sealed: sealed}
			case !errors.Is(err, domain.ErrErased): // an erased tenant's visitors leave no address
				return nil, fmt.Errorf("seal source address: %w", err)
			}
		}
	}
	return json.Marshal(m)
}
