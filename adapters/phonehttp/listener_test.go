package phonehttp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ledgerline/commands"
)

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSlowAndHugeRequestsAreCutAndOthersServed(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f, HeaderTimeout: 100 * time.Millisecond, ReadTimeout: 200 * time.Millisecond, IdleTimeout: 100 * time.Millisecond})
	for name, c := range map[string]struct{ sent, want string }{
		"nothing at all":        {"", ""},
		"half a request line":   {"GET /001565", "HTTP/1.1 400 "},
		"headers without end":   {"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n", ""},
		"idle after an answer":  {"GET /empty.cfg HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK"},
		"a body without end":    {"GET /empty.cfg HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", "HTTP/1.1 200 OK"},
		"a header of 17 KiB":    {"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 17<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
		"a line of 17 KiB":      {"GET /" + strings.Repeat("a", 17<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 431 "},
		"thousands of headers":  {"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a:b\r\n", 5000) + "\r\n", "HTTP/1.1 431 "},
		"a header of 15 KiB":    {"GET /empty.cfg HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 15<<10) + "\r\n\r\n", "HTTP/1.1 200 OK"},
		"a PROXY line unasked":  {"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.0\r\n\r\n", "HTTP/1.1 400 "},
		"a TLS hello":           {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", "HTTP/1.1 400 "},
		"the HTTP/2 preface":    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 405 "},
		"a chunked GET, halved": {"GET /empty.cfg HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nabc", "HTTP/1.1 200 OK"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, addr)
			_, _ = io.WriteString(conn, c.sent) // the server may cut in between
			answer, _ := io.ReadAll(conn)       // ends when the server hangs up, or at our deadline
			if got := string(answer); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
				t.Errorf("%.200q", got)
			}
			if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("still open: %v", err)
			}
			if answer := get(t, addr, "/001565a1b2c3.cfg"); status(t, answer) != 200 {
				t.Errorf("afterwards: %.100q", answer)
			}
		})
	}
}

func TestConnectionsBeyondALimitAreToldAtOnce(t *testing.T) {
	for _, c := range []struct {
		name       string
		total, per int
		reason     string
	}{{"in all", 2, 100, "total"}, {"of one source", 100, 2, "source"}} {
		t.Run(c.name, func(t *testing.T) {
			f := someFiles()
			s, addr := start(t, Options{Files: f, MaxConns: c.total, MaxConnsPerSource: c.per, Metrics: prometheus.NewRegistry()})
			held := []net.Conn{dial(t, addr), dial(t, addr)}
			for _, h := range held { // both are surely accepted once they were answered
				if _, err := io.WriteString(h, "GET /empty.cfg HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(h), nil)
				if err != nil || resp.StatusCode != 200 {
					t.Fatal(resp, err)
				}
			}
			answer := get(t, addr, "/001565a1b2c3.cfg")
			if status(t, answer) != 503 || !strings.Contains(answer, "\r\nRetry-After: ") || !strings.Contains(answer, "\r\nContent-Length: 0\r\n") {
				t.Errorf("%q", answer)
			}
			if n := testutil.ToFloat64(s.metrics.refusedConn.WithLabelValues(c.reason)); n != 1 {
				t.Errorf("counted %v", n)
			}
			held[0].Close()
			for s.limiter.count() == 2 { // until the server has seen it
				get(t, addr, "/")
			}
			if answer := get(t, addr, "/001565a1b2c3.cfg"); status(t, answer) != 200 {
				t.Errorf("afterwards: %q", answer)
			}
		})
	}
}

func TestShutdownLetsARequestFinishAndTakesNoMore(t *testing.T) {
	f := someFiles()
	asked, release := make(chan struct{}), make(chan struct{})
	f.failWith(func(commands.ServeFile) error { close(asked); <-release; return nil })
	s, err := New(Options{Files: f})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	c := dial(t, l.Addr().String())
	if _, err := io.WriteString(c, "GET /001565a1b2c3.cfg HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-asked
	cancel()
	for { // until the listener is closed
		other, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			break
		}
		other.Close()
	}
	close(release)
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(answer), content) {
		t.Errorf("%q, %v", answer, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAListenerThatFailsIsReported(t *testing.T) {
	s, err := New(Options{Files: someFiles()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := s.Serve(context.Background(), l); err == nil {
		t.Error("no error")
	}
}

// lastClient is who the server thought asked.
func lastClient(t *testing.T, f *fakeFiles) string {
	t.Helper()
	q := f.questions()
	if len(q) == 0 {
		t.Fatal("nothing was asked")
	}
	last := q[len(q)-1]
	return fmt.Sprint(last.IP, " ", last.Trusted, " ", last.Transport)
}

func TestWhoIsBelievedAboutTheClient(t *testing.T) {
	const v2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x0a\x01\x02\x03\x7f\x00\x00\x01\x10\x00\x20\x00" // PROXY, TCP4, 10.1.2.3 to 127.0.0.1
	self, none := prefixes("127.0.0.0/8"), prefixes()
	for _, c := range []struct {
		name    string
		proxies []netip.Prefix
		header  string // the option
		preface string
		headers string
		want    string // client, trusted, transport
	}{
		{"no proxies: headers are talk", none, "", "", "X-Forwarded-For: 10.1.2.3\r\nForwarded: for=10.1.2.3;proto=https\r\nX-Forwarded-Proto: https\r\n", "127.0.0.1 true http"},
		{"a proxy that says nothing is not trusted", self, "", "", "", "127.0.0.1 false http"},
		{"a phone behind it", self, "", "", "X-Forwarded-For: 10.1.2.3\r\n", "10.1.2.3 true http"},
		{"a stranger behind it", self, "", "", "X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9 false http"},
		{"what a client made up is left of the truth", self, "", "", "X-Forwarded-For: 10.9.9.9, 203.0.113.9\r\n", "203.0.113.9 false http"},
		{"also in a header of its own", self, "", "", "X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9 false http"},
		{"two proxies", prefixes("127.0.0.0/8", "192.0.2.0/24"), "", "", "X-Forwarded-For: 10.1.2.3, 192.0.2.7\r\n", "10.1.2.3 true http"},
		{"proxies only", prefixes("127.0.0.0/8", "10.0.0.0/8"), "", "", "X-Forwarded-For: 10.1.2.3\r\n", "127.0.0.1 false http"},
		{"no address", self, "", "", "X-Forwarded-For: 10.1.2.3, unknown\r\n", "127.0.0.1 false http"},
		{"empty", self, "", "", "X-Forwarded-For: \r\n", "127.0.0.1 false http"},
		{"the other header is not believed", self, "", "", "Forwarded: for=10.1.2.3;proto=https\r\n", "127.0.0.1 false http"},
		{"RFC 7239", self, "forwarded", "", "Forwarded: for=10.9.9.9, For=\"[2001:db8::17]:4711\";proto=https;by=203.0.113.43\r\n", "2001:db8::17 false https"},
		{"RFC 7239 without for", self, "Forwarded", "", "Forwarded: for=10.9.9.9, proto=http\r\n", "127.0.0.1 false http"},
		{"TLS up to the proxy", self, "", "", "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n", "203.0.113.9 false https"},
		{"PROXY v1", self, "", "PROXY TCP4 10.1.2.3 127.0.0.1 4096 8192\r\n", "", "10.1.2.3 true http"},
		{"PROXY v1 over IPv6", self, "", "PROXY TCP6 fd00::1 ::1 4096 8192\r\n", "", "fd00::1 true http"},
		{"PROXY v2", self, "", v2, "", "10.1.2.3 true http"},
		{"PROXY: headers behind it are talk", self, "", "PROXY TCP4 203.0.113.9 127.0.0.1 4096 8192\r\n", "X-Forwarded-For: 10.1.2.3\r\n", "203.0.113.9 false http"},
		{"PROXY of a proxy", prefixes("127.0.0.0/8", "192.0.2.0/24"), "", "PROXY TCP4 192.0.2.7 127.0.0.1 4096 8192\r\n", "X-Forwarded-For: 10.1.2.3\r\n", "10.1.2.3 true http"},
		{"PROXY UNKNOWN", self, "", "PROXY UNKNOWN\r\n", "", "127.0.0.1 false http"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := someFiles()
			_, addr := start(t, Options{Files: f, TrustedProxies: c.proxies, ForwardedHeader: c.header})
			answer := raw(t, addr, c.preface+"GET /001565a1b2c3.cfg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+c.headers+"\r\n")
			if status(t, answer) != 200 {
				t.Fatalf("%q", answer)
			}
			if got := lastClient(t, f); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestABadPROXYHeaderEndsTheConnection(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f, TrustedProxies: prefixes("127.0.0.0/8"), HeaderTimeout: 200 * time.Millisecond})
	for _, preface := range []string{"PROXY TCP4 10.1.2.3\r\n", "PROXY TCP4 " + strings.Repeat("1", 200), "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "\r\n\r\n\x00\r\nQUIT"} {
		c := dial(t, addr)
		_, _ = io.WriteString(c, preface+"GET /001565a1b2c3.cfg HTTP/1.0\r\n\r\n")
		if answer, _ := io.ReadAll(c); strings.Contains(string(answer), "200 OK") {
			t.Errorf("%q: %q", preface, answer)
		}
	}
	if q := f.questions(); len(q) != 0 {
		t.Errorf("asked %+v", q)
	}
	if answer := get(t, addr, "/001565a1b2c3.cfg"); status(t, answer) != 200 {
		t.Errorf("afterwards: %q", answer)
	}
}

func TestASpentBudgetRefusesStrangersOnly(t *testing.T) {
	now := changed
	f := someFiles()
	f.failWith(func(in commands.ServeFile) error {
		if in.Path == "known.cfg" || in.Credential == "right" {
			return nil
		}
		return commands.ErrNoFile
	})
	f.files["known.cfg"] = file("known.cfg", content)
	s, addr := start(t, Options{Files: f, TrustedProxies: prefixes("127.0.0.0/8"), UnknownPerHour: 3, Tarpit: -1, Now: func() time.Time { return now }})
	ask := func(ip, target string) (int, bool) {
		before := len(f.questions())
		answer := get(t, addr, target, "X-Forwarded-For: "+ip)
		if status(t, answer) == 404 && answer != uniform404 {
			t.Errorf("%s: %q", target, answer)
		}
		return status(t, answer), len(f.questions()) > before
	}
	want := func(ip, target string, status int, asked bool) {
		t.Helper()
		if s, a := ask(ip, target); s != status || a != asked {
			t.Errorf("%s from %s: %d asked %v, want %d asked %v", target, ip, s, a, status, asked)
		}
	}
	want("203.0.113.1", "/t/tenant-key/known.cfg", 200, true)
	for range 20 { // one phone and its optional files are one identity
		want("203.0.113.2", "/t/tenant-key/001565000001-x.cfg", 404, true)
	}
	want("203.0.113.3", "/t/tenant-key/001565000002.cfg", 404, true)
	want("203.0.113.3", "/t/tenant-key/001565000003.cfg", 404, true) // the third
	want("203.0.113.4", "/t/tenant-key/001565000004.cfg", 404, false)
	want("203.0.113.4", "/001565000004.cfg", 404, false)
	want("203.0.113.4", "/t/tenant-key/known.cfg", 200, true)             // had a file before
	want("203.0.113.4", "/d/right/001565a1b2c3.cfg", 200, true)           // strong
	want("203.0.113.4", "/d/wrong/001565a1b2c3.cfg", 404, true)           // nobody enumerates these
	want("203.0.114.1", "/t/tenant-key/001565000004.cfg", 404, true)      // another /24
	want("10.0.0.1", "/t/tenant-key/001565000004.cfg", 404, true)         // trusted
	want("2001:db8::1", "/t/tenant-key/001565000001.cfg", 404, true)      // another family
	want("2001:db8:0:ff::1", "/t/tenant-key/001565000002.cfg", 404, true) // same /56
	want("2001:db8:0:1::1", "/t/tenant-key/001565000003.cfg", 404, true)
	want("2001:db8:0:2::1", "/t/tenant-key/001565000004.cfg", 404, false)
	want("2001:db8:0:100::1", "/t/tenant-key/001565000004.cfg", 404, true) // the next /56
	if n := testutil.ToFloat64(s.metrics.trips); n != 2 {
		t.Errorf("%v trips", n)
	}
	now = now.Add(time.Hour)
	want("203.0.113.4", "/t/tenant-key/001565000004.cfg", 404, true)
}

func TestTheBudgetIsBoundedInMemory(t *testing.T) {
	b := newBudget(2)
	for i := range budgetSources + 100 {
		b.missed(source(netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1})), 1, changed)
	}
	if len(b.sources) > budgetSources {
		t.Errorf("%d sources", len(b.sources))
	}
	for i := range knownAtMost + 100 {
		b.hit(netip.Prefix{}, uint64(i))
	}
	if n := len(b.known) + len(b.older); n > knownAtMost {
		t.Errorf("%d identities", n)
	}
}
