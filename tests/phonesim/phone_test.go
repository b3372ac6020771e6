package phonesim

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// server is a provisioning server of fixed files that writes down what it is asked.
type server struct {
	mu    sync.Mutex
	files map[string]string
	asked []string // "path" or "path 304"
	agent string
}

func (s *server) put(path, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = content
}

func (s *server) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agent = r.UserAgent()
	content, ok := s.files[r.URL.Path]
	etag := `"` + digest(content) + `"`
	if ok && r.Header.Get("If-None-Match") == etag {
		s.asked = append(s.asked, r.URL.Path+" 304")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.asked = append(s.asked, r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", etag)
	http.ServeContent(w, r, "", fixedTime, strings.NewReader(content))
}

func serve(t testing.TB, files map[string]string) (*server, string) {
	t.Helper()
	s := &server{files: files}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return s, h.URL
}

func newPhone(t testing.TB, c Config) *Phone {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func diff(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// A Yealink phone without a boot file takes the common file, then its own, and keeps polling cheaply.
func TestYealinkBootAndPoll(t *testing.T) {
	s, url := serve(t, map[string]string{
		"/y000000000096.cfg": "#!version:1.0.0.1\nlocal_time.time_zone = +1\n",
		"/805ec0aabbcc.cfg":  yealinkOwn,
	})
	p := newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: url})
	res, err := p.Boot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "asked", s.took(), []string{"/805ec0aabbcc.boot", "/y000000000000.boot", "/y000000000096.cfg", "/805ec0aabbcc.cfg"})
	diff(t, "agent", s.agent, "Yealink SIP-T54W 96.86.0.70 80:5e:c0:aa:bb:cc")
	diff(t, "state", res.State, Configured)
	diff(t, "zone", res.Parsed.Timezone.Zone, "+1")

	res, err = p.Poll(context.Background())
	if err != nil || res.Changed {
		t.Fatalf("poll of unchanged files: changed %v, %v", res.Changed, err)
	}
	diff(t, "polled", s.took(), []string{"/805ec0aabbcc.boot", "/y000000000000.boot", "/y000000000096.cfg 304", "/805ec0aabbcc.cfg 304"})

	s.put("/805ec0aabbcc.cfg", strings.Replace(yealinkOwn, "pa55 word", "n3w", 1))
	res, err = p.Poll(context.Background())
	if err != nil || !res.Changed {
		t.Fatalf("poll of a changed file: changed %v, %v", res.Changed, err)
	}
	diff(t, "password", res.Parsed.Accounts[0].Password.Reveal(), "n3w")
}
