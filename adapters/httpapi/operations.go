package httpapi

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// operations registers what is about the engine itself.
func (a *api) operations() {
	type me struct {
		Body struct {
			ID      domain.APIKeyID   `json:"id"`
			Name    string            `json:"name"`
			Role    domain.Role       `json:"role"`
			Tenants []domain.TenantID `json:"tenants"`
		}
	}
	read(a, op{"GET", "/whoami", "whoami", "Which key is this?", everybody, 0}, func(ctx context.Context, _ *struct{}) (*me, error) {
		key := requestOf(ctx).key
		out := &me{}
		out.Body.ID, out.Body.Name, out.Body.Role, out.Body.Tenants = key.APIKeyID, key.Name, key.Role, append([]domain.TenantID{}, key.Tenants...)
		return out, nil
	})
	type about struct {
		Body struct {
			Version string `json:"version"`
		}
	}
	read(a, op{"GET", "/version", "version", "The server's version", everybody, 0}, func(context.Context, *struct{}) (*about, error) {
		out := &about{}
		out.Body.Version = a.Version
		return out, nil
	})
	read(a, op{"GET", "/audit/verify", "verify", "Recompute the hash chain of the whole log", auditors, 0}, func(ctx context.Context, _ *struct{}) (*one[Verified], error) {
		if err := wholeInstance(ctx); err != nil {
			return nil, err
		}
		if a.Verify == nil {
			return nil, newProblem(http.StatusNotImplemented, "no-chain", "this store keeps no hash chain of its own")
		}
		v, err := a.Verify(ctx)
		return &one[Verified]{Body: v}, err
	})
	lists(a, op{"GET", "/audit/checkpoints", "list-checkpoints", "Signed checkpoints of the log's tree", auditors, 0}, func(ctx context.Context, l listed, _ *Present) (projections.Listed[projections.Checkpoint], error) {
		return projections.ListCheckpoints(ctx, l.views, l.page)
	}, plain[projections.Checkpoint])
	read(a, op{"GET", "/audit/checkpoints/{id}", "get-checkpoint", "A signed checkpoint, by its number of events; or the latest", auditors, 0}, func(ctx context.Context, in *struct {
		ID          string `path:"id" maxLength:"20" doc:"number of events, or latest"`
		MinPosition string `query:"min_position"`
	}) (*one[projections.Checkpoint], error) {
		size, err := strconv.ParseInt(in.ID, 10, 64)
		if in.ID != "latest" && (err != nil || size < 1) {
			return nil, errNotFound
		}
		c, ok, err := projections.CheckpointOf(ctx, a.Views, size)
		if err == nil && !ok {
			err = errNotFound
		}
		return &one[projections.Checkpoint]{Body: c}, err
	})
	change(a, op{"POST", "/erase", "erase", "Make everything sealed for a subject unreadable, for ever", admins, 200}, func(ctx context.Context, s *commands.Service, in *struct {
		DryRun bool `query:"dry_run"`
		Body   struct {
			Subject domain.Subject `json:"subject" doc:"user-, line-, device-, layer-, gateway-, tenant- or code- and an id"`
			Reason  string         `json:"reason" minLength:"1" maxLength:"500" doc:"why, for the record"`
		}
	}) (commands.Outcome, string, erasure, error) {
		answer := erasure{Subject: in.Body.Subject, State: "ordered"}
		c := commands.CallerFrom(ctx)
		c.Reason = in.Body.Reason
		ctx = commands.WithCaller(ctx, c)
		if stream := answer.Subject.Stream(); stream.Category() == "code" {
			return a.eraseCode(ctx, s, domain.CodeID(stream.ID()), answer)
		}
		if err := a.reaches(ctx, s, answer.Subject.Stream()); err != nil {
			return commands.Outcome{}, "", answer, err
		}
		out, err := s.EraseSubject(ctx, commands.EraseSubject{Subject: answer.Subject})
		return out, "", answer, err
	})
	a.parked()
}

// erasure is the answer to an erasure.
type erasure struct {
	Subject domain.Subject `json:"subject"`
	State   string         `json:"state" doc:"ordered: the key is destroyed at once; waiting, destroyed: of a code, whose key is that of its day"`
	By      time.Time      `json:"by,omitzero" doc:"when the digits of a code are gone at the latest"`
	Alive   int            `json:"alive,omitempty" doc:"codes of the same day that are still alive"`
}

func (a *api) eraseCode(ctx context.Context, s *commands.Service, id domain.CodeID, answer erasure) (commands.Outcome, string, erasure, error) {
	if _, err := a.ownCode(ctx, id); err != nil {
		return commands.Outcome{}, "", answer, err
	}
	done, out, err := s.EraseCode(ctx, commands.EraseCode{ID: id})
	if answer.State, answer.By, answer.Alive = "waiting", done.By, done.Alive; done.Destroyed {
		answer.State = "destroyed"
	}
	return out, "", answer, err
}

// wholeInstance is nil for a key without tenants of its own: what is beyond tenants is for these only.
func wholeInstance(ctx context.Context) error {
	if bound(ctx) {
		return errForbidden
	}
	return nil
}

// parked registers what reactions gave up on. It is the engine's own business, and so for keys of the whole
// instance.
func (a *api) parked() {
	type list struct {
		Body struct {
			Items []commands.Parked `json:"items"`
		}
	}
	read(a, op{"GET", "/parked", "list-parked", "Reactions that could not be carried out", readers, 0}, func(ctx context.Context, in *struct {
		Reaction string `query:"reaction"`
		Limit    int    `query:"limit" minimum:"1" maximum:"500" default:"500"`
		Cursor   string `query:"cursor" maxLength:"1000" doc:"without effect: there is one page"`
	}) (*list, error) {
		if err := wholeInstance(ctx); err != nil {
			return nil, err
		}
		parked, err := a.Parked.List(ctx, in.Reaction)
		out := &list{}
		out.Body.Items = append([]commands.Parked{}, parked[:min(len(parked), in.Limit)]...)
		return out, err
	})
	type named struct {
		Reaction string    `path:"reaction"`
		Event    uuid.UUID `path:"event"`
	}
	// find answers "not found" for what does not stand parked, whatever the reason it does not.
	find := func(ctx context.Context, in *named) error {
		if err := wholeInstance(ctx); err != nil {
			return err
		}
		parked, err := a.Parked.List(ctx, in.Reaction)
		if err != nil {
			return err
		}
		for _, p := range parked {
			if p.EventID == in.Event && p.Reaction == in.Reaction {
				return nil
			}
		}
		return errNotFound
	}
	do := func(o op, act func(context.Context, string, uuid.UUID) error) {
		o.status = http.StatusNoContent
		huma.Register(a.huma, a.operation(o), func(ctx context.Context, in *named) (*struct{}, error) {
			if err := find(ctx, in); err != nil {
				return nil, a.problemOf(ctx, err)
			}
			if err := act(ctx, in.Reaction, in.Event); err != nil {
				return nil, a.problemOf(ctx, newProblem(http.StatusConflict, "still-parked", err.Error()))
			}
			return nil, nil
		})
	}
	do(op{"POST", "/parked/{reaction}/{event}/replay", "replay-parked", "Try a parked reaction again now", operators, 0}, a.Parked.Replay)
	a.replayAll()
	do(op{"DELETE", "/parked/{reaction}/{event}", "discard-parked", "Give a parked reaction up for good", operators, 0}, a.Parked.Discard)
}

// replayAll registers POST /parked/replay.
func (a *api) replayAll() {
	type all struct {
		Body struct {
			Reaction string `json:"reaction" minLength:"1" maxLength:"100"`
		}
	}
	type replayed struct {
		Body struct {
			Replayed int `json:"replayed"`
		}
	}
	o := op{"POST", "/parked/replay", "replay-all-parked", "Try everything a reaction gave up on again now, in order", operators, 0}
	huma.Register(a.huma, a.operation(o), func(ctx context.Context, in *all) (*replayed, error) {
		if err := wholeInstance(ctx); err != nil {
			return nil, a.problemOf(ctx, err)
		}
		parked, err := a.Parked.List(ctx, in.Body.Reaction)
		if err == nil && len(parked) == 0 {
			err = errNotFound
		}
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		out := &replayed{}
		if out.Body.Replayed, err = a.Parked.ReplayAll(ctx, in.Body.Reaction); err != nil {
			return nil, a.problemOf(ctx, newProblem(http.StatusConflict, "still-parked", fmt.Sprintf("%d replayed; %s", out.Body.Replayed, err)))
		}
		return out, nil
	})
}

//go:embed docs.html
var docsPage []byte

//go:embed docs.js
var docsScript []byte

//go:embed docs.css
var docsStyle []byte

// docs serves a page that lists the operations from the OpenAPI document. It needs nothing from elsewhere.
func (a *api) docs(mux *http.ServeMux) {
	serve := func(contentType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'")
			_, _ = w.Write(body) // whoever asked has gone, if this fails
		}
	}
	mux.HandleFunc("GET /docs", serve("text/html; charset=utf-8", docsPage))
	mux.HandleFunc("GET /docs.css", serve("text/css; charset=utf-8", docsStyle))
	mux.HandleFunc("GET /docs.js", serve("text/javascript; charset=utf-8", docsScript))
}

// Ops is the handler of the operations listener. Alive fails when the process should be restarted, Ready
// when it should get no traffic.
type Ops struct {
	Alive, Ready func(ctx context.Context) error
	Metrics      prometheus.Gatherer
}

// Handler serves /livez, /readyz, /metrics and /debug/pprof.
func (o Ops) Handler() http.Handler {
	mux := http.NewServeMux()
	probe := func(check func(context.Context) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
			defer cancel()
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			text := "ok\n"
			if err := check(ctx); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				text = err.Error() + "\n"
			}
			_, _ = w.Write([]byte(text)) // whoever asked has gone, if this fails
		}
	}
	mux.HandleFunc("GET /livez", probe(o.Alive))
	mux.HandleFunc("GET /readyz", probe(o.Ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
