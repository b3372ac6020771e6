package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// progressEvery is how often a feed of progress looks.
const progressEvery = 250 * time.Millisecond

// progress registers how far something has come: once, or as a feed of what changes, which ends when nothing is awaited
// any more. look answers where the thing of that id stands, to a caller who reaches it, and whether that is the end.
func progress[P any](a *api, o op, look func(ctx context.Context, id string) (now P, done bool, err error)) {
	operation := a.operation(o)
	operation.Responses = map[string]*huma.Response{"200": {Description: "the progress, or the feed of it", Content: map[string]*huma.MediaType{
		"application/json": {}, "text/event-stream": {}}}}
	text := func(ctx context.Context, id string) ([]byte, bool, error) {
		p, done, err := look(ctx, id)
		if err != nil {
			return nil, false, err
		}
		body, err := json.Marshal(p)
		return body, done, err
	}
	huma.Register(a.huma, operation, func(ctx context.Context, in *struct {
		ByID
		Accept string `header:"Accept" doc:"text/event-stream for a feed"`
	}) (*huma.StreamResponse, error) {
		a.catchUp(ctx)
		body, _, err := text(ctx, in.ID)
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		if !strings.Contains(in.Accept, "text/event-stream") {
			return &huma.StreamResponse{Body: func(h huma.Context) {
				h.SetHeader("Content-Type", "application/json")
				_, _ = h.BodyWriter().Write(body) // whoever asked has gone, if this fails
			}}, nil
		}
		return &huma.StreamResponse{Body: func(h huma.Context) {
			r, w := humago.Unwrap(h)
			a.feed(w, r, func(write func(string, ...any) bool, over <-chan struct{}) {
				a.followProgress(r, func(ctx context.Context) ([]byte, bool, error) { return text(ctx, in.ID) }, write, over)
			})
		}}, nil
	})
}

// followProgress writes what look answers whenever that has changed, until it is the end, the caller or the server goes,
// or the key is not valid any more.
func (a *api) followProgress(r *http.Request, look func(context.Context) ([]byte, bool, error), write func(string, ...any) bool, over <-chan struct{}) {
	again, beat, check := time.NewTicker(progressEvery), time.NewTicker(heartbeat), time.NewTicker(recheck)
	defer again.Stop()
	defer beat.Stop()
	defer check.Stop()
	var last []byte
	for {
		now, done, err := look(r.Context())
		if err != nil {
			return // views are being rebuilt, or the caller has gone: it comes back
		}
		if !bytes.Equal(now, last) && !write("event: progress\ndata: %s\n\n", now) {
			return
		}
		if last = now; done {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-over:
			return
		case <-check.C:
			var refused *problem
			if _, err := a.authenticate(r); errors.As(err, &refused) {
				return
			}
		case <-beat.C:
			if !write(": \n\n") {
				return
			}
		case <-again.C:
		}
	}
}
