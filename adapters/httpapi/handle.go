package httpapi

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/aymanbagabas/go-udiff"
	"github.com/danielgtaylor/huma/v2"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// op describes one operation.
type op struct {
	method, path, id, summary string
	roles                     []domain.Role
	status                    int // of success; 0 means 200
}

// operation is o in huma's words.
func (a *api) operation(o op) huma.Operation {
	tag, _, _ := strings.Cut(strings.TrimPrefix(o.path, "/"), "/")
	status := o.status
	if status == 0 {
		status = http.StatusOK
	}
	operation := huma.Operation{OperationID: o.id, Method: o.method, Path: "/api/v1" + o.path, Summary: o.summary, Tags: []string{tag}, DefaultStatus: status,
		Errors: []int{400, 401, 403, 404, 409, 412, 413, 415, 422, 429, 500, 503}, MaxBodyBytes: maxBody, Middlewares: huma.Middlewares{a.only(o.roles)}}
	if o.method == http.MethodPost {
		most := maxKey
		operation.Parameters = []*huma.Param{{Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &most},
			Description: "the same key and request again, within a day, is answered as the first was, and changes nothing"}}
	}
	return operation
}

// Limits of a request.
const (
	maxBody   = 1 << 20
	maxWait   = 5 * time.Second
	changeMax = 60 * time.Second
	maxFold   = 20 * time.Second // a read waits for the views of a moment
	maxKey    = 255              // characters of an Idempotency-Key
)

// Planned is a query parameter of every change.
type Planned struct {
	DryRun bool   `query:"dry_run" doc:"answer what would be recorded, and which files would change; record nothing"`
	Reason string `header:"X-Reason" maxLength:"500" doc:"why, for the record"`
}

// Guarded is a header of changes of one thing.
type Guarded struct {
	IfMatch string `header:"If-Match" doc:"the ETag it was read with; 412 if it has changed since"`
}

// outcome is a change's answer.
type outcome[B any] struct {
	Position string `header:"Ledger-Position" doc:"bring it as min_position to see the change"`
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     B
}

// done is an outcome without anything to say.
type done struct {
	Position string `header:"Ledger-Position" doc:"bring it as min_position to see the change"`
}

// made is the answer to a creation.
type made struct {
	ID string `json:"id"`
}

// plan is the answer to a dry run.
type plan struct {
	DryRun    bool           `json:"dry_run"`
	Events    []plannedEvent `json:"events"`
	Files     []fileDiff     `json:"files"`
	MoreFiles int            `json:"more_files"`
}

type plannedEvent struct {
	Stream domain.StreamID `json:"stream"`
	Type   string          `json:"type"`
	Data   any             `json:"data"`
}

type fileDiff struct {
	Device domain.DeviceID `json:"device"`
	Path   string          `json:"path"`
	Diff   string          `json:"diff" doc:"unified; secrets are replaced by a placeholder"`
}

// plan travels as an error, for it takes the place of an operation's own answer.
func (p *plan) Error() string             { return "dry run" }
func (p *plan) GetStatus() int            { return http.StatusOK }
func (p *plan) ContentType(string) string { return "application/json" }

// change registers an operation that records something. do gets the service to work on: the real one, or
// one over an overlay of the log for a dry run.
func change[I any, B any](a *api, o op, do func(ctx context.Context, s *commands.Service, in *I) (commands.Outcome, string, B, error)) {
	huma.Register(a.huma, a.operation(o), func(ctx context.Context, in *I) (*outcome[B], error) {
		var answer *outcome[B]
		err := a.run(ctx, in, func(ctx context.Context, s *commands.Service) (commands.Outcome, error) {
			out, location, body, err := do(ctx, s, in)
			answer = &outcome[B]{Position: out.Position.String(), Body: body, Location: location}
			if out.Revision >= 0 {
				answer.ETag = etag(out.Revision)
			}
			return out, err
		})
		return answer, err
	})
}

// act is change without a body in the answer.
func act[I any](a *api, o op, do func(ctx context.Context, s *commands.Service, in *I) (commands.Outcome, error)) {
	if o.status == 0 {
		o.status = http.StatusNoContent
	}
	huma.Register(a.huma, a.operation(o), func(ctx context.Context, in *I) (*done, error) {
		var answer done
		err := a.run(ctx, in, func(ctx context.Context, s *commands.Service) (commands.Outcome, error) {
			out, err := do(ctx, s, in)
			answer.Position = out.Position.String()
			return out, err
		})
		return &answer, err
	})
}

// identity is the id of a noun that has a stream.
type identity interface {
	~string
	Stream() domain.StreamID
}

// alters is change of one noun, named by its id, that the caller must reach.
func alters[ID identity, B, R any](a *api, o op, do func(ctx context.Context, s *commands.Service, id ID, b B) (commands.Outcome, R, error)) {
	change(a, o, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
		Body B
	}) (out commands.Outcome, _ string, body R, err error) {
		if ctx, err = a.changing(ctx, s, in.IfMatch, ID(in.ID).Stream()); err == nil {
			out, body, err = do(ctx, s, ID(in.ID), in.Body)
		}
		return out, "", body, err
	})
}

// amends is alters without a body in the answer.
func amends[ID identity, B any](a *api, o op, do func(ctx context.Context, s *commands.Service, id ID, b B) (commands.Outcome, error)) {
	act(a, o, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
		Body B
	}) (out commands.Outcome, err error) {
		if ctx, err = a.changing(ctx, s, in.IfMatch, ID(in.ID).Stream()); err == nil {
			out, err = do(ctx, s, ID(in.ID), in.Body)
		}
		return out, err
	})
}

// removes is amends without a body in the request.
func removes[ID identity](a *api, o op, do func(ctx context.Context, s *commands.Service, id ID) (commands.Outcome, error)) {
	act(a, o, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
	}) (out commands.Outcome, err error) {
		if ctx, err = a.changing(ctx, s, in.IfMatch, ID(in.ID).Stream()); err == nil {
			out, err = do(ctx, s, ID(in.ID))
		}
		return out, err
	})
}

// run sets the caller, and carries a change out, or plans it.
func (a *api) run(ctx context.Context, in any, do func(context.Context, *commands.Service) (commands.Outcome, error)) error {
	ctx, cancel := context.WithTimeout(ctx, changeMax)
	defer cancel()
	caller := a.caller(ctx)
	dry, reason := member[bool](in, "DryRun"), member[string](in, "Reason")
	caller.Reason = reason
	ctx = commands.WithCaller(ctx, caller)
	work := func(ctx context.Context, s *commands.Service) error {
		_, err := do(ctx, s)
		if errors.Is(err, errNotFound) { // nothing was recorded, and the views may not show it yet
			a.catchUp(ctx)
			_, err = do(ctx, s)
		}
		return err
	}
	if !dry {
		if err := work(ctx, a.Service); err != nil {
			return a.problemOf(ctx, err)
		}
		return nil
	}
	planned, err := a.Service.DryRun(ctx, work)
	if err != nil {
		return a.problemOf(ctx, err)
	}
	answer, err := planOf(planned)
	if err != nil {
		return a.problemOf(ctx, err)
	}
	return answer
}

// caller says on whose behalf the request's commands run.
func (a *api) caller(ctx context.Context) commands.Caller {
	r := requestOf(ctx)
	return commands.Caller{Actor: "apikey:" + string(r.key.APIKeyID), IP: r.ip, Listener: "admin", RequestID: r.id, Tenants: r.key.Tenants}
}

// member is a promoted field of an input struct; the zero value if it has none.
func member[T any](in any, name string) (v T) {
	f := reflect.ValueOf(in).Elem().FieldByName(name)
	if f.IsValid() {
		v, _ = f.Interface().(T)
	}
	return v
}

// guarded adds the If-Match of a change to the caller.
func guarded(ctx context.Context, match string, stream domain.StreamID) (context.Context, error) {
	if match == "" || match == "*" {
		return ctx, nil
	}
	n, err := strconv.ParseInt(strings.Trim(strings.TrimPrefix(match, "W/"), `"`), 10, 64)
	if err != nil {
		return ctx, newProblem(http.StatusPreconditionFailed, "precondition-failed", "If-Match is not an ETag of this resource")
	}
	c := commands.CallerFrom(ctx)
	revision := domain.Revision(n)
	c.IfStream, c.IfRevision = stream, &revision
	return commands.WithCaller(ctx, c), nil
}

func etag(r domain.Revision) string { return `"` + strconv.FormatInt(int64(r), 10) + `"` }

// planOf puts a plan into the API's words: deletions first, then in the order of the story.
func planOf(p commands.Plan) (*plan, error) {
	out := &plan{DryRun: true, Events: []plannedEvent{}, Files: []fileDiff{}, MoreFiles: p.MoreFiles}
	for _, deletions := range []bool{true, false} {
		for _, r := range p.Events {
			if endsSomething(r.Type) == deletions {
				out.Events = append(out.Events, plannedEvent{r.Stream, r.Type, rawJSON(r.Data)})
			}
		}
		for _, f := range p.Files {
			if (f.After == "") == deletions {
				diff, err := udiff.ToUnified("now/"+f.Path, "then/"+f.Path, f.Before, udiff.Lines(f.Before, f.After), udiff.DefaultContextLines)
				if err != nil {
					return nil, fmt.Errorf("compare %s: %w", f.Path, err)
				}
				out.Files = append(out.Files, fileDiff{f.Device, f.Path, diff})
			}
		}
	}
	return out, nil
}

func endsSomething(eventType string) bool {
	for _, end := range []string{".deleted", ".removed", ".retired", ".revoked", ".erased", ".destroyed", ".line_dissociated", ".reset", ".replaced"} {
		if strings.HasSuffix(eventType, end) {
			return true
		}
	}
	return false
}

// Moment are the parameters of a read of one thing.
type Moment struct {
	AsOf        string `query:"as_of" doc:"as it stood at this time (RFC 3339) or log position"`
	MinPosition string `query:"min_position" doc:"wait until this position can be seen, five seconds at most; without it a read waits a quarter of a second at most for what is recorded"`
}

// Present are the parameters of a list.
type Present struct {
	MinPosition string `query:"min_position" doc:"wait until this position can be seen, five seconds at most; without it a read waits a quarter of a second at most for what is recorded"`
	AsOf        string `query:"as_of" doc:"as it stood at this time (RFC 3339) or log position; 503 with Retry-After while the log is being folded up to there"`
	Limit       int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
	Cursor      string `query:"cursor" maxLength:"1000" doc:"next of the page before"`
}

// read registers an operation that shows something.
func read[I any, O any](a *api, o op, do func(ctx context.Context, in *I) (*O, error)) {
	huma.Register(a.huma, a.operation(o), func(ctx context.Context, in *I) (*O, error) {
		if err := a.await(ctx, member[string](in, "MinPosition")); err != nil {
			return nil, a.problemOf(ctx, err)
		}
		answer, err := do(ctx, in)
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		return answer, nil
	})
}

// soon is how long a read without a position waits for the views to show what is recorded: whoever has just been told that
// something is, counts on finding it. Views that are further behind are read as they are.
const soon = 250 * time.Millisecond

// catchUp waits for that.
func (a *api) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	if head, err := a.Log.Head(ctx); err == nil {
		_ = a.Wait.WaitFor(ctx, head)
	}
}

// await waits until the views have come to a position; without one it is catchUp.
func (a *api) await(ctx context.Context, text string) error {
	if text == "" {
		a.catchUp(ctx)
		return nil
	}
	at, err := domain.ParsePosition(text)
	if err != nil {
		return &commands.InvalidError{Field: "min_position", Rule: "must be a Ledger-Position"}
	}
	wait, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	if err := a.Wait.WaitFor(wait, at); err != nil {
		if wait.Err() != nil && ctx.Err() == nil {
			p := newProblem(http.StatusServiceUnavailable, "behind", "the views have not come to position "+text+" yet")
			p.retryAfter = 1
			return p
		}
		return err
	}
	return nil
}

// page is a list's answer.
type page[R any] struct {
	Body struct {
		Items []R    `json:"items"`
		Next  string `json:"next,omitempty" doc:"cursor of the next page; absent on the last"`
	}
}

// pageOf fills a page from a list of the views, every row put into the API's words.
func pageOf[V, R any](ctx context.Context, l projections.Listed[V], show func(context.Context, V) (R, error)) (*page[R], error) {
	p := &page[R]{}
	p.Body.Items = make([]R, len(l.Items))
	p.Body.Next = l.Next
	for i, row := range l.Items {
		var err error
		if p.Body.Items[i], err = show(ctx, row); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (in Present) present() Present { return in }

// one is the answer of a read of one thing.
type one[B any] struct {
	ETag string `header:"ETag"`
	Body B
}

// listed is what a list is made from: the views of the moment asked for, the tenants it may show, and the page.
type listed struct {
	views   projections.Querier
	tenants []domain.TenantID
	page    projections.Page
}

// lists registers a list, as it is now or as it stood. query answers the page; show puts a row into the API's words.
func lists[I interface{ present() Present }, V, R any](a *api, o op, query func(ctx context.Context, l listed, in *I) (projections.Listed[V], error), show func(context.Context, V) (R, error)) {
	read(a, o, func(ctx context.Context, in *I) (*page[R], error) {
		of, err := tenants(ctx, member[domain.TenantID](in, "Tenant"))
		if err != nil {
			return nil, err
		}
		p := (*in).present()
		ctx, views, release, err := a.views(ctx, p.AsOf)
		if err != nil {
			return nil, err
		}
		defer release()
		l, err := query(ctx, listed{views, of, projections.Page{Cursor: p.Cursor, Limit: p.Limit}}, in)
		if err != nil {
			return nil, err
		}
		return pageOf(ctx, l, show)
	})
}

// views are the views as they stood at as_of, which ctx then tells; release is called when they have been read.
func (a *api) views(ctx context.Context, asOf string) (context.Context, projections.Querier, func(), error) {
	at, now, err := a.position(ctx, asOf)
	if err != nil || now {
		return ctx, a.Views, func() {}, err
	}
	if head, err := a.Log.Head(ctx); err != nil {
		return ctx, nil, nil, err
	} else if head.Before(at) {
		return ctx, nil, nil, &commands.InvalidError{Field: "as_of", Rule: "is beyond the end of the log"}
	}
	if ctx, err = a.asOf(ctx, at); err != nil {
		return ctx, nil, nil, err
	}
	wait, cancel := context.WithTimeout(ctx, maxFold)
	defer cancel()
	q, release, err := a.Past.At(wait, at)
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		p := newProblem(http.StatusServiceUnavailable, "folding", "the log is being folded up to "+at.String()+"; ask again")
		p.retryAfter = 5
		return ctx, nil, nil, p
	}
	return ctx, q, release, err
}

type momentKey struct{}

// asOf makes when answer the time of the latest event at or before a position.
func (a *api) asOf(ctx context.Context, at domain.Position) (context.Context, error) {
	t, err := projections.TimeOf(ctx, a.Views, at)
	return context.WithValue(ctx, momentKey{}, t), err
}

// when is the moment a read is about.
func (a *api) when(ctx context.Context) time.Time {
	if t, ok := ctx.Value(momentKey{}).(time.Time); ok {
		return t
	}
	return a.Now()
}

// position is the log position as_of means; now is true when it was not given.
func (a *api) position(ctx context.Context, asOf string) (at domain.Position, now bool, err error) {
	if asOf == "" {
		return at, true, nil
	}
	if at, err := domain.ParsePosition(asOf); err == nil {
		return at, false, nil
	}
	t, err := time.Parse(time.RFC3339, asOf)
	if err != nil {
		return at, false, &commands.InvalidError{Field: "as_of", Rule: "must be a time (RFC 3339) or a log position"}
	}
	at, err = projections.PositionAt(ctx, a.Views, t)
	return at, false, err
}

// find reads one row: the present one from the views, a past one folded from its own stream; ctx then tells when that was.
func find[V any](ctx context.Context, a *api, asOf string, stream domain.StreamID,
	byID func(context.Context, projections.Querier) (V, bool, error), past func(at domain.Position) (V, bool, error)) (context.Context, V, error) {
	at, now, err := a.position(ctx, asOf)
	var row V
	var ok bool
	if err == nil && now {
		row, ok, err = byID(ctx, a.Views)
	} else if err == nil {
		row, ok, err = past(at)
		if errors.Is(err, domain.ErrNoStream) {
			ok, err = false, nil
		}
		if err == nil {
			ctx, err = a.asOf(ctx, at)
		}
	}
	if err != nil {
		return ctx, row, fmt.Errorf("read %s: %w", stream, err)
	}
	if !ok {
		return ctx, row, errNotFound
	}
	return ctx, row, nil
}

// shows registers a read of one thing by its id, now or as it stood. of names the row's tenant, which the caller
// must reach, and its head; show puts the row into the API's words.
func shows[ID ~string, V, B any](a *api, o op, stream func(ID) domain.StreamID, byID func(context.Context, projections.Querier, ID) (V, bool, error),
	past func(iter.Seq2[domain.Recorded, error], domain.Position) (V, bool, error), of func(V) (domain.TenantID, projections.Head), show func(context.Context, V) (B, error)) {
	read(a, o, func(ctx context.Context, in *struct {
		ByID
		Moment
	}) (*one[B], error) {
		id := ID(in.ID)
		ctx, row, err := find(ctx, a, in.AsOf, stream(id),
			func(ctx context.Context, q projections.Querier) (V, bool, error) { return byID(ctx, q, id) },
			func(at domain.Position) (V, bool, error) { return past(a.Log.Read(ctx, stream(id), 0), at) })
		if err != nil {
			return nil, err
		}
		tenant, head := of(row)
		if err := sees(ctx, tenant); err != nil {
			return nil, err
		}
		body, err := show(ctx, row)
		return &one[B]{etag(head.Revision), body}, err
	})
}

// plain shows a row as it is.
func plain[V any](_ context.Context, v V) (V, error) { return v, nil }

// open is personal data in clear, "[erased]" when its key is gone.
func (a *api) open(ctx context.Context, p domain.Personal) (string, error) {
	if p.IsZero() {
		return "", nil
	}
	clear, err := a.Service.Vault.Open(ctx, p.Sealed)
	if errors.Is(err, domain.ErrErased) {
		return domain.Erased, nil
	}
	return clear, err
}

// shown is settings as a reader may see them: secrets redacted, names and numbers opened.
func shown[T interface {
	Redacted() T
	MapPersonal(fn func(pointer string, v any) (any, error)) (T, error)
}](ctx context.Context, a *api, s T) (T, error) {
	return s.Redacted().MapPersonal(func(_ string, v any) (any, error) {
		if p, ok := v.(domain.Personal); ok {
			return a.open(ctx, p)
		}
		return v, nil
	})
}
