package httpapi_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ledgerline/commands"
)

// listener is the writer of a feed; begun is closed at its first byte.
type listener struct {
	mu     sync.Mutex
	header http.Header
	status int
	body   bytes.Buffer
	once   sync.Once
	begun  chan struct{}
	done   chan struct{}
}

func (l *listener) Header() http.Header    { return l.header }
func (l *listener) WriteHeader(status int) { l.status = status }
func (l *listener) Flush()                 {}
func (l *listener) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.once.Do(func() { close(l.begun) })
	return l.body.Write(b)
}

func (l *listener) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.body.String()
}

// listen opens a feed and waits for its first bytes.
func (o *office) listen(ctx context.Context, token string) *listener {
	l := &listener{header: http.Header{}, begun: make(chan struct{}), done: make(chan struct{})}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/events", nil)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer "+token)
	go func() {
		defer close(l.done)
		o.handler.ServeHTTP(l, r)
	}()
	<-l.begun
	return l
}

// A feed whose key is revoked ends within a minute; it shows life meanwhile, and others go on.
func TestFeedEndsWithItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		revoked, other := o.listen(ctx, o.tokens["acme/auditor"]), o.listen(ctx, o.root)
		time.Sleep(5 * time.Minute) // of the bubble
		synctest.Wait()
		select {
		case <-revoked.done:
			t.Fatal("it ended while its key was valid")
		default:
		}
		if n := strings.Count(revoked.String(), ": \n\n"); n < 4*5-1 {
			t.Errorf("%d heartbeats in five minutes", n)
		}
		if strings.Contains(revoked.String(), "globex") || !strings.Contains(revoked.String(), "id: ") {
			t.Error("it shows another tenant's events, or none")
		}
		_, err := o.Service.RevokeAPIKey(t.Context(), commands.RevokeAPIKey{ID: o.keyIDs["acme/auditor"]})
		o.ok(err)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		select {
		case <-revoked.done:
		default:
			t.Error("it goes on after its key was revoked")
		}
		select {
		case <-other.done:
			t.Error("another feed ended too")
		default:
		}
		cancel()
		<-other.done
	})
}

// There are as many feeds as the server bears; one that ends makes room.
func TestFeedsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		leave, gone := context.WithCancel(ctx)
		first := o.listen(leave, o.root)
		open := []*listener{}
		for range 199 {
			open = append(open, o.listen(ctx, o.root))
		}
		refused := o.listen(ctx, o.root)
		<-refused.done
		if refused.status != http.StatusServiceUnavailable || refused.header.Get("Retry-After") == "" || !strings.Contains(refused.String(), "too-many-feeds") {
			t.Errorf("the 201st: %d %v %s", refused.status, refused.header, refused)
		}
		gone()
		<-first.done
		open = append(open, o.listen(ctx, o.root))
		if last := open[len(open)-1]; last.status != 0 && last.status != http.StatusOK {
			t.Errorf("after one went: %d %s", last.status, last)
		}
		cancel()
		for _, l := range open {
			<-l.done
		}
	})
}

// A server that shuts down need not wait for its feeds.
func TestFeedsEndWithTheServer(t *testing.T) {
	o := open(t)
	server := httptest.NewServer(o.handler)
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/v1/events", nil)
	o.ok(err)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer "+o.root)
	resp, err := http.DefaultClient.Do(req)
	o.ok(err)
	defer resp.Body.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := server.Config.Shutdown(ctx); err != nil {
		t.Errorf("shutting down: %v", err)
	}
}
