package phonesim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pin/tftp/v3"
)

// roundTrip answers requests without a network.
type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

func answer(status int, header, value, body string) *http.Response {
	h := http.Header{}
	if header != "" {
		h.Set(header, value)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

// A busy server is waited for as long as it asks, within bounds, and not for ever.
func TestBusy(t *testing.T) {
	date := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	tests := []struct {
		name   string
		after  func() string
		busy   int // answers before the file
		waited time.Duration
		want   error
	}{
		{"seconds", func() string { return "3" }, 2, 6 * time.Second, nil},
		{"date", func() string { return date(4 * time.Second) }, 1, 4 * time.Second, nil},
		{"past date", func() string { return date(-time.Hour) }, 1, time.Second, nil},
		{"nothing said", func() string { return "" }, 1, time.Second, nil},
		{"nonsense", func() string { return "soon" }, 1, time.Second, nil},
		{"too long", func() string { return "86400" }, 1, 10 * time.Second, nil},
		{"for ever", func() string { return "3" }, 1000, 12 * time.Second, ErrBusy},
	}
	for _, tt := range tests {
		for _, status := range []int{503, 429} {
			synctest.Test(t, func(t *testing.T) {
				left := tt.busy
				p := newPhone(t, Config{Vendor: "grandstream", MAC: "000b82aabbcc", Server: "http://prov", HTTP: &http.Client{Transport: roundTrip(func(*http.Request) *http.Response {
					if left--; left >= 0 {
						return answer(status, "Retry-After", tt.after(), "")
					}
					return answer(200, "", "", `<gs_provision version="1"><config version="1"/></gs_provision>`)
				})}})
				start := time.Now()
				if _, err := p.Boot(t.Context()); !errors.Is(err, tt.want) {
					t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
				}
				diff(t, tt.name, time.Since(start), tt.waited)
			})
		}
	}
}

// Waiting ends with the context.
func TestBusyCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPhone(t, Config{Vendor: "snom", MAC: "000413922d24", Server: "http://prov", HTTP: &http.Client{Transport: roundTrip(func(*http.Request) *http.Response {
			return answer(503, "Retry-After", "9", "")
		})}})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := p.Boot(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		diff(t, "waited", time.Since(start), 2*time.Second)
		diff(t, "state", p.State(), Booting)
	})
}

// Other answers are neither a file nor "no such file": the boot ends and applies nothing.
func TestStatus(t *testing.T) {
	for status, want := range map[int]error{500: ErrStatus, 502: ErrStatus, 204: ErrStatus, 206: ErrStatus, 304: ErrStatus, 404: ErrNoFile, 403: ErrNoFile, 401: ErrNoFile, 410: ErrNoFile} {
		p := newPhone(t, Config{Vendor: "snom", MAC: "000413922d24", Server: "http://prov", HTTP: &http.Client{Transport: roundTrip(func(*http.Request) *http.Response {
			return answer(status, "", "", "")
		})}})
		if _, err := p.Boot(t.Context()); !errors.Is(err, want) {
			t.Errorf("status %d: %v, want %v", status, err, want)
		}
	}
}

func TestHeadAndRange(t *testing.T) {
	_, url := serve(t, map[string]string{"/fw.bin": "0123456789"})
	p := newPhone(t, Config{Vendor: "snom", MAC: "000413922d24", Server: url})
	head, err := p.Head(t.Context(), "fw.bin")
	if err != nil || head.Status != 200 || head.Size != 10 || head.Body != nil || head.ETag == "" {
		t.Errorf("head %+v, %v", head, err)
	}
	part, err := p.Range(t.Context(), "fw.bin", 2, 5)
	if err != nil || part.Status != 206 || string(part.Body) != "2345" {
		t.Errorf("range %+v, %v", part, err)
	}
	none, err := p.Range(t.Context(), "fw.bin", 20, 25)
	if err != nil || none.Status != 416 || none.Found() {
		t.Errorf("range beyond the end %+v, %v", none, err)
	}
	whole, err := p.Get(t.Context(), "/fw.bin")
	if err != nil || string(whole.Body) != "0123456789" {
		t.Errorf("get %+v, %v", whole, err)
	}
}

// What a server may do to a phone is bounded.
func TestHTTPBounds(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, MaxBody+1)) })
	mux.HandleFunc("/fits", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, MaxBody)) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/c/{code}/once", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/there", http.StatusFound) })
	mux.HandleFunc("/there", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Referer()) })
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	})
	h := httptest.NewServer(mux)
	t.Cleanup(h.Close)
	p := newPhone(t, Config{Vendor: "snom", MAC: "000413922d24", Server: h.URL})
	for name, want := range map[string]error{"big": ErrTooBig, "fits": nil, "loop": ErrRedirect, "short": io.ErrUnexpectedEOF} {
		if _, err := p.Get(t.Context(), name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	f, err := p.Get(t.Context(), "c/123456789012/once")
	if err != nil || len(f.Body) != 0 {
		t.Errorf("the redirected request told where it came from: %v, %v", f, err)
	}
}

// Network errors name the file, never the code.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p := newPhone(t, Config{Vendor: "snom", MAC: "000413922d24", Server: "http://" + l.Addr().String(), Code: "123456789012"})
	_, err = p.Boot(t.Context())
	if err == nil || strings.Contains(err.Error(), "123456789012") || !strings.Contains(err.Error(), "fetch /c/[code]/snomD785.htm: dial tcp") {
		t.Errorf("error %v", err)
	}
}

// A hanging server is left when the context ends.
func TestHTTPCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(h.Close)
	p := newPhone(t, Config{Vendor: "snom", MAC: "000413922d24", Server: h.URL})
	if _, err := p.Boot(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// HTTPS works with the trust the caller brings and without it does not.
func TestHTTPS(t *testing.T) {
	s := &server{files: map[string]string{"/805ec0aabbcc.cfg": cfgHead + someLine}}
	h := httptest.NewUnstartedServer(s)
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	t.Cleanup(h.Close)
	diff(t, "state", mustBoot(t, newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: h.URL, HTTP: h.Client()})).State, Configured)
	if _, err := newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: h.URL}).Boot(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without trust: %v", err)
	}
}

// serveTFTP is serve over TFTP. stop ends the server after its last transfer.
func serveTFTP(t testing.TB, s *server) (url string, stats *transferLog, stop func()) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := tftp.NewServer(func(name string, rf io.ReaderFrom) error {
		content, ok := s.get("/"+name, "")
		if !ok {
			return fmt.Errorf("%w: %s", errNoSuchFile, name)
		}
		rf.(tftp.OutgoingTransfer).SetSize(int64(len(content)))
		_, err := rf.ReadFrom(strings.NewReader(content))
		return err
	}, nil)
	stats = &transferLog{}
	srv.SetHook(stats)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(conn) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			srv.Shutdown()
			<-done
		}
	}
	t.Cleanup(stop)
	return "tftp://" + conn.LocalAddr().String(), stats, stop
}

// transferLog keeps what was negotiated.
type transferLog struct {
	mu   sync.Mutex
	opts []map[string]string
}

// OnSuccess writes down the options of a transfer that was acknowledged whole.
func (l *transferLog) OnSuccess(s tftp.TransferStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opts = append(l.opts, s.Opts)
}

// OnFailure is nothing to write down.
func (l *transferLog) OnFailure(tftp.TransferStats, error) {}

var errNoSuchFile = errors.New("file not found")

// Over TFTP a phone asks the same, without a leading slash, and compares the content itself.
func TestBootOrderTFTP(t *testing.T) {
	for _, tt := range bootCases(t) {
		t.Run(tt.name, func(t *testing.T) {
			s := &server{files: tt.files}
			url, _, _ := serveTFTP(t, s)
			tt.phone.Server = url
			p := newPhone(t, tt.phone)
			res := mustBoot(t, p)
			diff(t, "asked", s.took(), tt.asks)
			diff(t, "state", res.State, tt.state)
			for i, f := range res.Files {
				want := 404
				if content, ok := tt.files[tt.asks[i]]; ok {
					want = 200
					diff(t, "content", f.SHA256, digest(content))
				}
				diff(t, f.Path, f.Status, want)
			}
			if res := mustPoll(t, p); res.Changed {
				t.Error("unchanged files changed")
			}
		})
	}
}

// Codes, moves and changes work over TFTP too; the block size is negotiated.
func TestRedeemTFTP(t *testing.T) {
	s := &server{}
	url, stats, stop := serveTFTP(t, s)
	long := cfgHead + someLine + "static.auto_provision.server.url = " + url + "/d/5ecret/\n" + strings.Repeat("# filler\n", 500)
	s.set(map[string]string{"/c/123456789012/805ec0aabbcc.cfg": long, "/d/5ecret/805ec0aabbcc.cfg": long})
	p := newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: url, CodeBy: CodeInBasic})
	res, err := p.Redeem(t.Context(), "123456789012")
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "state", res.State, Configured)
	diff(t, "server", res.Server, url+"/d/5ecret/")
	s.put("/d/5ecret/805ec0aabbcc.cfg", long+"account.1.label = new\n")
	if res := mustPoll(t, p); !res.Changed || res.Parsed.Accounts[0].Label != "new" {
		t.Errorf("changed %v, %v", res.Changed, res.Parsed)
	}
	if _, err := p.Head(t.Context(), "x"); !errors.Is(err, ErrBadServer) {
		t.Errorf("HEAD over TFTP: %v", err)
	}
	stop()
	stats.mu.Lock()
	defer stats.mu.Unlock()
	diff(t, "transfers", len(stats.opts), 3)
	for _, opts := range stats.opts {
		diff(t, "block size", opts["blksize"], "1428")
	}
}

func TestTFTPTooBig(t *testing.T) {
	s := &server{files: map[string]string{"/big": strings.Repeat("x", MaxBody+1)}}
	url, _, _ := serveTFTP(t, s)
	p := newPhone(t, Config{Vendor: "snom", MAC: "000413922d24", Server: url, BlockSize: 65464})
	if _, err := p.Get(t.Context(), "big"); !errors.Is(err, ErrTooBig) {
		t.Errorf("error %v", err)
	}
}

// A silent TFTP server is left at once when the context ends, and by itself after two timeouts.
func TestTFTPSilent(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := Config{Vendor: "snom", MAC: "000413922d24", Server: "tftp://" + conn.LocalAddr().String(), TFTPTimeout: 20 * time.Millisecond}
	if _, err := newPhone(t, c).Boot(t.Context()); err == nil || errors.Is(err, ErrNoFile) {
		t.Errorf("silent server: %v", err)
	}
	c.TFTPTimeout = 300 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // the phone has asked: cancel
		for range 3 { // two requests of the boot above, one of this one
			_, _, _ = conn.ReadFrom(make([]byte, 2048))
		}
		cancel()
	}()
	if _, err := newPhone(t, c).Boot(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TFTP's error codes in HTTP's words (RFC 1350 §5).
func TestTFTPErrors(t *testing.T) {
	tests := []struct {
		text   string
		status int
		wait   bool
		want   error
	}{
		{"code: 1, message: File not found", 404, false, nil},
		{"code: 2, message: no", 403, false, nil},
		{"code: 0, message: later", 503, true, nil},
		{"code: 3, message: full", 503, true, nil},
		{"code: 4, message: illegal", 0, false, ErrStatus},
	}
	for _, tt := range tests {
		f, wait, err := tftpAnswer(nil, errors.New(tt.text))
		if f.Status != tt.status || wait > 0 != tt.wait || !errors.Is(err, tt.want) {
			t.Errorf("%s: status %d, wait %v, %v", tt.text, f.Status, wait, err)
		}
	}
}
