package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
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
	l, err := projections.Timeline(ctx, a.Views, f, p)
	if err != nil {
		return nil, err
	}
	return pageOf(l, func(e projections.Entry) (event, error) { return a.at(ctx, e.Stream, e.Revision) })
}

// latest are the n latest events of a subject, oldest first.
func (a *api) latest(ctx context.Context, subject domain.StreamID, n int) ([]event, error) {
	p, err := a.timeline(ctx, projections.TimelineFilter{Subject: subject, Newest: true}, projections.Page{Limit: n})
	if err != nil {
		return nil, err
	}
	events := p.Body.Items
	for i, j := 0, len(events)-1; i < j; i, j = i+1, j-1 {
		events[i], events[j] = events[j], events[i]
	}
	return events, nil
}

// Past are the parameters of a history.
type Past struct {
	ByID
	MinPosition string   `query:"min_position" doc:"wait until this position can be seen"`
	AsOf        string   `query:"as_of" doc:"up to this time (RFC 3339) or position"`
	Limit       int      `query:"limit" minimum:"1" maximum:"500" default:"100"`
	Cursor      string   `query:"cursor" maxLength:"1000"`
	Types       []string `query:"types" doc:"only events of these types"`
	Newest      bool     `query:"newest" doc:"newest first"`
}

func (in Past) filter(ctx context.Context, a *api) (projections.TimelineFilter, projections.Page, error) {
	f := projections.TimelineFilter{Types: in.Types, Newest: in.Newest}
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
		{"layers", "layer", func(id string) domain.StreamID { return domain.LayerID(id).Stream() }},
	}
	for _, s := range subjects {
		read(a, op{"GET", "/" + s.path + "/{id}/history", s.id + "-history", "Everything that happened to it", readers, 0}, func(ctx context.Context, in *Past) (*page[event], error) {
			stream := s.stream(in.ID)
			if domain.CheckID(in.ID) != nil {
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
	read(a, op{"GET", "/devices/{id}/history", "device-history", "Everything that happened to it, also in a life that is over", readers, 0}, func(ctx context.Context, in *Past) (*page[event], error) {
		row, err := a.ownDevice(ctx, in.ID, "")
		if err != nil {
			return nil, err
		}
		f, p, err := in.filter(ctx, a)
		if err != nil {
			return nil, err
		}
		f.Subject = row.ID.Stream()
		return a.timeline(ctx, f, p)
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
		if of == nil {
			return true
		}
		m, err := r.Meta()
		if err != nil {
			return false
		}
		for _, t := range of {
			if m.TenantID == t {
				return true
			}
		}
		return false
	}, nil
}

// Bounds of the feed.
const (
	scanMost  = 100_000 // events looked at for one page
	heartbeat = 15 * time.Second
)

// events registers GET /events: pages as JSON, or a feed that goes on as server-sent events.
func (a *api) events() {
	o := op{"GET", "/events", "events", "The events themselves, as pages or, with Accept: text/event-stream, as a feed that goes on", auditors, 0}
	operation := o.huma()
	operation.Responses = map[string]*huma.Response{"200": {Description: "a page of events, or the feed", Content: map[string]*huma.MediaType{
		"application/json": {}, "text/event-stream": {}}}}
	huma.Register(a.huma, operation, func(ctx context.Context, in *feed) (*huma.StreamResponse, error) {
		if err := allowed(ctx, o.roles); err != nil {
			return nil, a.problemOf(ctx, err)
		}
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
			return &huma.StreamResponse{Body: func(h huma.Context) { a.follow(h, after, wanted) }}, nil
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

// follow writes events as they come, until the caller goes. A comment now and then keeps the line open.
func (a *api) follow(h huma.Context, after domain.Position, wanted func(domain.Recorded) bool) {
	ctx, cancel := context.WithCancel(h.Context())
	defer cancel()
	h.SetHeader("Content-Type", "text/event-stream")
	h.SetHeader("X-Accel-Buffering", "no")
	w, ok := h.BodyWriter().(http.ResponseWriter)
	if !ok {
		return
	}
	out := http.NewResponseController(w)
	write := func(format string, args ...any) bool {
		// A reader that does not read within the time is dropped; it comes back with its Last-Event-ID.
		_ = out.SetWriteDeadline(time.Now().Add(2 * heartbeat)) // not every connection has one
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return false
		}
		return out.Flush() == nil
	}
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
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
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
		return out, a.searchSeen(ctx, of, in.Q, out)
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
