package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// event is an event as it stands in the log; what is sealed stays sealed.
type event struct {
	Position domain.Position `json:"position"`
	Stream   domain.StreamID `json:"stream"`
	Revision domain.Revision `json:"revision"`
	ID       uuid.UUID       `json:"id"`
	Type     string          `json:"type"`
	Data     any             `json:"data"`
	Metadata any             `json:"metadata"`
}

// rawJSON is JSON as it stands, null for none.
func rawJSON(b []byte) any {
	if !json.Valid(b) {
		return nil
	}
	return json.RawMessage(b)
}

func eventOf(r domain.Recorded) event {
	return event{r.Position, r.Stream, r.Revision, r.ID, r.Type, rawJSON(r.Data), rawJSON(r.Metadata)}
}

// at reads one event by its stream and revision.
func (a *api) at(ctx context.Context, stream domain.StreamID, revision domain.Revision) (event, error) {
	for r, err := range a.Log.Read(ctx, stream, revision) {
		if err != nil {
			return event{}, err
		}
		return eventOf(r), nil
	}
	return event{}, fmt.Errorf("event %d of %s: %w", revision, stream, domain.ErrNoStream)
}

// timeline is a page of a subject's or tenant's events.
func (a *api) timeline(ctx context.Context, f projections.TimelineFilter, p projections.Page) (*page[event], error) {
	return a.timelineOf(ctx, nil, f, p)
}

// timelineOf shows the events recorded in some tenants only; nil means all.
func (a *api) timelineOf(ctx context.Context, of []domain.TenantID, f projections.TimelineFilter, p projections.Page) (*page[event], error) {
	out := &page[event]{}
	out.Body.Items = []event{}
	for limit := p.Limit; ; p.Limit = limit - len(out.Body.Items) {
		l, err := projections.Timeline(ctx, a.Views, f, p)
		if err != nil {
			return nil, err
		}
		for _, e := range l.Items {
			if of != nil && !slices.Contains(of, e.TenantID) {
				continue
			}
			shown, err := a.at(ctx, e.Stream, e.Revision)
			if err != nil {
				return nil, err
			}
			out.Body.Items = append(out.Body.Items, shown)
		}
		if p.Cursor = l.Next; l.Next == "" || len(out.Body.Items) >= limit {
			out.Body.Next = l.Next
			return out, nil
		}
	}
}

// deviceTimeline is the timeline of a device, which never crosses tenants (D20): what was recorded before it
// came to the caller's is not shown.
func (a *api) deviceTimeline(ctx context.Context, f projections.TimelineFilter, p projections.Page) (*page[event], error) {
	of, err := tenants(ctx, "")
	if err != nil {
		return nil, err
	}
	return a.timelineOf(ctx, of, f, p)
}

// latest are the n latest events of a device, oldest first.
func (a *api) latest(ctx context.Context, device domain.StreamID, n int) ([]event, error) {
	p, err := a.deviceTimeline(ctx, projections.TimelineFilter{Subject: device, Newest: true}, projections.Page{Limit: n})
	if err != nil {
		return nil, err
	}
	slices.Reverse(p.Body.Items)
	return p.Body.Items, nil
}

// Past are the parameters of the history of one thing.
type Past struct {
	ByID
	Span
}

// Span are the parameters of a history: which part of it.
type Span struct {
	MinPosition string   `query:"min_position" doc:"wait until this position can be seen"`
	AsOf        string   `query:"as_of" doc:"up to this time (RFC 3339) or position"`
	From        string   `query:"from" doc:"after this time (RFC 3339) or position"`
	Limit       int      `query:"limit" minimum:"1" maximum:"500" default:"100"`
	Cursor      string   `query:"cursor" maxLength:"1000"`
	Types       []string `query:"types" doc:"only events of these types"`
	Newest      bool     `query:"newest" doc:"newest first"`
}

func (in Span) filter(ctx context.Context, a *api) (projections.TimelineFilter, projections.Page, error) {
	f := projections.TimelineFilter{Types: in.Types, Newest: in.Newest}
	from, _, err := a.position(ctx, in.From)
	if err != nil {
		return f, projections.Page{}, err
	}
	f.From = from
	at, now, err := a.position(ctx, in.AsOf)
	if !now {
		f.Until = at
	}
	return f, projections.Page{Cursor: in.Cursor, Limit: in.Limit}, err
}

// history registers timelines, the event feed and the search.
func (a *api) history() {
	subjects := []struct {
		path, id string
		stream   func(id string) domain.StreamID
	}{
		{"categories", "category", func(id string) domain.StreamID { return domain.CategoryID(id).Stream() }},
		{"users", "user", func(id string) domain.StreamID { return domain.UserID(id).Stream() }},
		{"lines", "line", func(id string) domain.StreamID { return domain.LineID(id).Stream() }},
		{"softphones", "softphone", func(id string) domain.StreamID { return domain.SoftphoneID(id).Stream() }},
		{"cloudids", "cloud-id", func(id string) domain.StreamID { return domain.CloudID(id).Stream() }},
		{"jobs", "job", func(id string) domain.StreamID { return domain.JobID(id).Stream() }},
		{"layers", "layer", func(id string) domain.StreamID { return domain.LayerID(id).Stream() }},
		{"gateways", "gateway", func(id string) domain.StreamID { return domain.GatewayID(id).Stream() }},
		{"tokens", "token", func(id string) domain.StreamID { return domain.TokenID(id).Stream() }},
		{"registry-servers", "registry-server", func(id string) domain.StreamID { return domain.ServerID(id).Stream() }},
		{"rollouts", "rollout", func(id string) domain.StreamID { return domain.RolloutID(id).Stream() }},
		{"sipusers", "sip-user", func(id string) domain.StreamID { return domain.SIPUserID(id).Stream() }},
	}
	for _, s := range subjects {
		read(a, op{"GET", "/" + s.path + "/{id}/history", s.id + "-history", "Everything that happened to it", readers, 0}, func(ctx context.Context, in *Past) (*page[event], error) {
			stream := s.stream(in.ID)
			if domain.CheckID(in.ID) != nil && !isSIPUser(stream) {
				return nil, errNotFound
			}
			if err := a.reaches(ctx, a.Service, stream); err != nil {
				return nil, err
			}
			f, p, err := in.filter(ctx, a)
			if err != nil {
				return nil, err
			}
			f.Subject = stream
			return a.timeline(ctx, f, p)
		})
	}
	read(a, op{"GET", "/devices/{id}/history", "device-history", "Everything that happened to it, also in a life that is over", readers, 0}, func(ctx context.Context, in *struct {
		Past
		Life int `query:"life" minimum:"0" maximum:"10000" doc:"1 for its first life, 2 for the one after its first deletion …; the present one when absent"`
	}) (*page[event], error) {
		row, err := a.ownDevice(ctx, in.ID, "", sees)
		if in.Life > 0 {
			row, err = a.lifeOf(ctx, in.ID, in.Life)
		}
		if err != nil {
			return nil, err
		}
		f, p, err := in.filter(ctx, a)
		if err != nil {
			return nil, err
		}
		f.Subject = row.ID.Stream()
		return a.deviceTimeline(ctx, f, p)
	})
	read(a, op{"GET", "/codes/{id}/history", "code-history", "Everything that happened to it", readers, 0}, func(ctx context.Context, in *Past) (*page[event], error) {
		row, ok, err := projections.CodeByID(ctx, a.Views, domain.CodeID(in.ID))
		if err != nil || !ok {
			return nil, orNotFound(err)
		}
		if err := sees(ctx, row.TenantID); err != nil {
			return nil, err
		}
		f, p, err := in.filter(ctx, a)
		if err != nil {
			return nil, err
		}
		f.Subject = domain.Stream("code", string(row.ID))
		return a.timeline(ctx, f, p)
	})
	read(a, op{"GET", "/tenants/{id}/history", "tenant-history", "Everything that happened in it", auditors, 0}, func(ctx context.Context, in *Past) (*page[event], error) {
		if err := a.reaches(ctx, a.Service, domain.TenantID(in.ID).Stream()); err != nil {
			return nil, err
		}
		f, p, err := in.filter(ctx, a)
		if err != nil {
			return nil, err
		}
		f.Tenant = domain.TenantID(in.ID)
		return a.timeline(ctx, f, p)
	})
	read(a, op{"GET", "/audit/timeline", "timeline", "Everything that happened to anything that has a stream: gateways, plugins, jobs, …", auditors, 0}, func(ctx context.Context, in *struct {
		Span
		Subject domain.StreamID `query:"subject" required:"true" maxLength:"300" doc:"its stream: gateway-…, plugin-…, jobs-…, device-…"`
	}) (*page[event], error) {
		if !in.Subject.History() {
			return nil, errNotFound
		}
		if err := a.reaches(ctx, a.Service, in.Subject); err != nil {
			return nil, err
		}
		f, p, err := in.filter(ctx, a)
		if err != nil {
			return nil, err
		}
		f.Subject = in.Subject
		return a.deviceTimeline(ctx, f, p)
	})
	a.events()
	a.search()
}

// feed are the parameters of the event feed.
type feed struct {
	After       string          `query:"after" doc:"events after this position; 0 for all"`
	Limit       int             `query:"limit" minimum:"1" maximum:"500" default:"100"`
	Stream      domain.StreamID `query:"stream"`
	Type        string          `query:"type" doc:"a type, or a prefix that ends in a dot: device."`
	Tenant      domain.TenantID `query:"tenant"`
	Actor       string          `query:"actor" maxLength:"200" doc:"who did it: apikey:…, phone:…, system:…"`
	Accept      string          `header:"Accept" doc:"text/event-stream for a feed that goes on"`
	LastEventID string          `header:"Last-Event-ID" doc:"position to go on after"`
}

// wanted selects the events of a feed: of the caller's tenants, not the store's own.
func (in feed) wanted(ctx context.Context) (func(domain.Recorded) bool, error) {
	of, err := tenants(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	return func(r domain.Recorded) bool {
		if r.Stream.Internal() || in.Stream != "" && r.Stream != in.Stream ||
			in.Type != "" && r.Type != in.Type && !(strings.HasSuffix(in.Type, ".") && strings.HasPrefix(r.Type, in.Type)) {
			return false
		}
		if of == nil && in.Actor == "" {
			return true
		}
		m, err := r.Meta()
		if err != nil || in.Actor != "" && m.Actor != in.Actor {
			return false
		}
		return of == nil || slices.Contains(of, m.TenantID)
	}, nil
}

// Bounds of the feed.
const (
	scanMost  = 100_000 // events looked at for one page
	heartbeat = 15 * time.Second
	recheck   = time.Minute // how long a key that was revoked goes on being told
	feedsMost = 200
)

// feeds are the feeds that are open.
type feeds struct {
	open atomic.Int32
	once sync.Once
	over chan struct{}
}

func (f *feeds) begin() bool {
	if f.open.Add(1) > feedsMost {
		f.open.Add(-1)
		return false
	}
	return true
}

func (f *feeds) end() { f.open.Add(-1) }

// closing is closed when the server begins to shut down, which else would wait for feeds that do not end.
func (f *feeds) closing(ctx context.Context) <-chan struct{} {
	f.once.Do(func() {
		f.over = make(chan struct{})
		if server, ok := ctx.Value(http.ServerContextKey).(*http.Server); ok {
			server.RegisterOnShutdown(sync.OnceFunc(func() { close(f.over) }))
		}
	})
	return f.over
}

// events registers GET /events: pages as JSON, or a feed that goes on as server-sent events.
func (a *api) events() {
	o := op{"GET", "/events", "events", "The events themselves, as pages or, with Accept: text/event-stream, as a feed that goes on", auditors, 0}
	operation := a.operation(o)
	operation.Responses = map[string]*huma.Response{"200": {Description: "a page of events, or the feed", Content: map[string]*huma.MediaType{
		"application/json": {}, "text/event-stream": {}}}}
	huma.Register(a.huma, operation, func(ctx context.Context, in *feed) (*huma.StreamResponse, error) {
		wanted, err := in.wanted(ctx)
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		live := strings.Contains(in.Accept, "text/event-stream")
		from := in.After
		if live && in.LastEventID != "" {
			from = in.LastEventID
		}
		var after domain.Position
		if from != "" {
			if after, err = domain.ParsePosition(from); err != nil {
				return nil, a.problemOf(ctx, &commands.InvalidError{Field: "after", Rule: "must be a log position"})
			}
		}
		if live {
			return &huma.StreamResponse{Body: func(h huma.Context) {
				r, w := humago.Unwrap(h)
				a.feed(w, r, func(write func(string, ...any) bool, over <-chan struct{}) { a.follow(r, after, wanted, write, over) })
			}}, nil
		}
		body, err := a.eventPage(ctx, after, in.Limit, wanted)
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		return &huma.StreamResponse{Body: func(h huma.Context) {
			h.SetHeader("Content-Type", "application/json")
			_, _ = h.BodyWriter().Write(body) // whoever asked has gone, if this fails
		}}, nil
	})
}

// eventPage is one page. Next is the position the next page begins after, absent at the end of the log.
func (a *api) eventPage(ctx context.Context, after domain.Position, limit int, wanted func(domain.Recorded) bool) ([]byte, error) {
	var out struct {
		Items []event `json:"items"`
		Next  string  `json:"next,omitempty"`
	}
	out.Items = []event{}
	looked := 0
	for r, err := range a.Log.ReadAll(ctx, after) {
		if err != nil {
			return nil, err
		}
		if wanted(r) {
			out.Items = append(out.Items, eventOf(r))
		}
		if looked++; len(out.Items) == limit || looked == scanMost {
			out.Next = r.Position.String()
			break
		}
	}
	return json.Marshal(out)
}

// feed opens a stream of server-sent events and hands out how to write to it; over is closed when the server
// begins to stop. (Asked for before the reader hears of the feed: a shutdown that begins then must find it.)
func (a *api) feed(w http.ResponseWriter, r *http.Request, follow func(write func(format string, args ...any) bool, over <-chan struct{})) {
	if !a.feeds.begin() {
		p := newProblem(http.StatusServiceUnavailable, "too-many-feeds", "as many feeds as the server takes are open")
		p.retryAfter = 10
		a.refuse(w, r, p)
		return
	}
	defer a.feeds.end()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // the server's is for requests that end
	follow(func(format string, args ...any) bool {
		// A reader that does not read within the time is dropped; it comes back with its Last-Event-ID.
		_ = out.SetWriteDeadline(time.Now().Add(2 * heartbeat)) // not every connection has one
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return false
		}
		return out.Flush() == nil
	}, a.feeds.closing(r.Context()))
}

// follow writes events as they come, until the caller or the server goes, or the key is not valid any more.
// A comment now and then keeps the line open.
func (a *api) follow(req *http.Request, after domain.Position, wanted func(domain.Recorded) bool, write func(string, ...any) bool, closing <-chan struct{}) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	if !write(": from %s\n\n", after) {
		return
	}
	next, stop := iter.Pull2(a.Log.Subscribe(ctx, after))
	defer stop()
	type pulled struct {
		r  domain.Recorded
		ok bool
	}
	events := make(chan pulled)
	go func() {
		defer close(events)
		for {
			r, err, more := next()
			if !more || err != nil {
				return
			}
			select {
			case events <- pulled{r, wanted(r)}:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() { // the puller must have ended before stop is called
		cancel()
		for range events {
			continue
		}
	}()
	beat, check := time.NewTicker(heartbeat), time.NewTicker(recheck)
	defer beat.Stop()
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-closing:
			return
		case <-check.C:
			var refused *problem
			if _, err := a.authenticate(req); errors.As(err, &refused) {
				return
			}
		case <-beat.C:
			if !write(": \n\n") {
				return
			}
		case p, more := <-events:
			if !more {
				return
			}
			if !p.ok {
				continue
			}
			body, err := json.Marshal(eventOf(p.r))
			if err != nil || !write("id: %s\nevent: %s\ndata: %s\n\n", p.r.Position, p.r.Type, body) {
				return
			}
		}
	}
}

// hit is one thing found.
type hit struct {
	Kind     string          `json:"kind"`
	ID       string          `json:"id"`
	TenantID domain.TenantID `json:"tenant_id,omitempty"`
	Text     string          `json:"text"`
	Where    string          `json:"where" doc:"the field it was found in"`
}

// found is an answer of the search.
type found struct {
	Body struct {
		Items []hit `json:"items"`
		More  bool  `json:"more" doc:"there was more than is shown"`
	}
}

// searchMost bounds what one search opens and shows.
const (
	searchMost = 200
	openMost   = 200_000
)

// search registers GET /search.
func (a *api) search() {
	read(a, op{"GET", "/search", "search", "Find by number, user, MAC, id or address", readers, 0}, func(ctx context.Context, in *struct {
		Q           string `query:"q" required:"true" minLength:"2" maxLength:"100"`
		MinPosition string `query:"min_position"`
		Limit       int    `query:"limit" minimum:"1" maximum:"500" default:"200"`
		Cursor      string `query:"cursor" maxLength:"1000" doc:"without effect: there is one page; ask more precisely"`
	}) (*found, error) {
		of, err := tenants(ctx, "")
		if err != nil {
			return nil, err
		}
		hits, err := projections.Search(ctx, a.Views, of, in.Q, searchMost)
		if err != nil {
			return nil, err
		}
		out := &found{}
		out.Body.Items = []hit{}
		for _, h := range hits {
			out.Body.Items = append(out.Body.Items, hit{h.Kind, h.ID, h.TenantID, h.Text, h.Field})
		}
		if err := a.searchSealed(ctx, of, in.Q, out); err != nil {
			return nil, err
		}
		err = a.searchSeen(ctx, of, in.Q, out)
		if len(out.Body.Items) > in.Limit {
			out.Body.Items, out.Body.More = out.Body.Items[:in.Limit], true
		}
		return out, err
	})
}

// searchSealed opens names, numbers and e-mail addresses of the caller's tenants and compares.
func (a *api) searchSealed(ctx context.Context, of []domain.TenantID, text string, out *found) error {
	text = strings.ToLower(text)
	opened := 0
	match := func(kind, id string, tenant domain.TenantID, where string, p domain.Personal) error {
		clear, err := a.open(ctx, p)
		if opened++; err == nil && clear != domain.Erased && strings.Contains(strings.ToLower(clear), text) {
			out.Body.Items = append(out.Body.Items, hit{kind, id, tenant, clear, where})
		}
		return err
	}
	full := func() bool {
		out.Body.More = len(out.Body.Items) >= 2*searchMost || opened >= openMost
		return out.Body.More
	}
	for u, err := range projections.SealedUsers(ctx, a.Views, of) {
		if err != nil {
			return err
		}
		if err := match("user", string(u.ID), u.TenantID, "display_name", u.DisplayName); err != nil {
			return err
		}
		if err := match("user", string(u.ID), u.TenantID, "email", u.Email); err != nil {
			return err
		}
		if full() {
			return nil
		}
	}
	for l, err := range projections.SealedLines(ctx, a.Views, of) {
		if err != nil {
			return err
		}
		if err := match("line", string(l.ID), l.TenantID, "number", l.Number); err != nil {
			return err
		}
		if err := match("line", string(l.ID), l.TenantID, "display_name", l.DisplayName); err != nil {
			return err
		}
		if full() {
			return nil
		}
	}
	return nil
}

// searchSeen finds devices by the address they were last seen at.
func (a *api) searchSeen(ctx context.Context, of []domain.TenantID, text string, out *found) error {
	if a.SeenAt == nil {
		return nil
	}
	seen, err := a.SeenAt(ctx, text)
	for _, s := range seen {
		if s.Device == "" {
			continue
		}
		d, ok, err := projections.DeviceLife(ctx, a.Views, s.Device)
		if err != nil {
			return err
		}
		if ok && (of == nil || sees(ctx, d.TenantID) == nil) {
			out.Body.Items = append(out.Body.Items, hit{"device", string(d.ID), d.TenantID, s.IP, "address"})
		}
	}
	return err
}
