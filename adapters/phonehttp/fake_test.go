package phonehttp

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"ledgerline/commands"
	"ledgerline/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeFiles serves what is in the map, by the last element of the path asked for, to whoever asks; fail
// comes before it.
type fakeFiles struct {
	files map[string]commands.Served
	fail  func(commands.ServeFile) error

	mu        sync.Mutex
	asked     []commands.ServeFile
	delivered []commands.Served
}

func (f *fakeFiles) ServeFile(_ context.Context, in commands.ServeFile) (commands.Served, error) {
	f.mu.Lock()
	f.asked = append(f.asked, in)
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		if err := fail(in); err != nil {
			return commands.Served{}, err
		}
	}
	if v, ok := f.files[path.Base(in.Path)]; ok {
		return v, nil
	}
	return commands.Served{}, commands.ErrNoFile
}

func (f *fakeFiles) Delivered(v commands.Served) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delivered = append(f.delivered, v)
}

func (f *fakeFiles) CodeOfUser(user string) (string, bool) {
	code, err := domain.NormalizeCode(user, 12)
	return code, err == nil
}

func (f *fakeFiles) DiscoveryRefused() int { return 7 }

func (f *fakeFiles) questions() []commands.ServeFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

func (f *fakeFiles) deliveries() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, v := range f.delivered {
		out = append(out, v.File.Path)
	}
	return out
}

func (f *fakeFiles) failWith(fail func(commands.ServeFile) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

const content = "#!version:1.0.0.1\naccount.1.enable = 1\n"

var changed = time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)

func file(name, data string) commands.Served {
	return commands.Served{Device: "001565a1b2c3", Data: []byte(data), ModTime: changed, File: domain.GeneratedFile{Path: name,
		ContentType: "text/plain; charset=utf-8", Size: len(data), MAC: strings.Repeat("0123456789abcdef", 4)}}
}

func someFiles() *fakeFiles {
	f := &fakeFiles{files: make(map[string]commands.Served)}
	for _, name := range []string{"001565a1b2c3.cfg", "snomD785-000413922D24.htm", "000413AABBCC.xml", "cfgc074ad010203.xml", "cfg000b82010203"} {
		f.files[name] = file(name, content)
	}
	f.files["empty.cfg"] = file("empty.cfg", "")
	f.files["large.cfg"] = file("large.cfg", strings.Repeat("0123456789abcdef\n", 1<<16))
	return f
}

// start runs a server until the test ends; addr is where.
func start(t testing.TB, opt Options) (s *Server, addr string) {
	t.Helper()
	return startWith(t, opt, func(s *Server, ctx context.Context, l net.Listener) error { return s.Serve(ctx, l) })
}

func startWith(t testing.TB, opt Options, serve func(*Server, context.Context, net.Listener) error) (*Server, string) {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(zerolog.Nop().WithContext(context.Background()))
	done := make(chan error, 1)
	go func() { done <- serve(s, ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

// client speaks plain HTTP/1.1 and takes no compressed files, as phones.
func client(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func prefixes(texts ...string) []netip.Prefix {
	out := []netip.Prefix{}
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
