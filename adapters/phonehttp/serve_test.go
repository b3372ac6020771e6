package phonehttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// raw sends bytes as they are and reads until the server closes.
func raw(t testing.TB, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil && len(answer) == 0 {
		t.Fatalf("read answer: %v", err)
	}
	return string(answer)
}

var date = regexp.MustCompile(`(?m)^Date: .*\r\n`)

func get(t testing.TB, addr, target string, header ...string) string {
	t.Helper()
	answer := raw(t, addr, "GET "+target+" HTTP/1.1\r\nHost: phones\r\nConnection: close\r\n"+strings.Join(append(header, ""), "\r\n")+"\r\n")
	return date.ReplaceAllString(answer, "")
}

func status(t testing.TB, answer string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscanf(answer, "HTTP/1.1 %d ", &n); err != nil {
		if _, err := fmt.Sscanf(answer, "HTTP/1.0 %d ", &n); err != nil {
			t.Fatalf("no answer: %.200q", answer)
		}
	}
	return n
}

func TestWhatPhonesSendIsAskedAndAnswered(t *testing.T) {
	cases, err := filepath.Glob("testdata/requests/*.txtar")
	if err != nil || len(cases) != 3 {
		t.Fatal(cases, err)
	}
	for _, name := range cases {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files := txtar.Parse(data).Files
		for i := 0; i+1 < len(files); i += 2 {
			t.Run(filepath.Base(name)+"/"+files[i].Name, func(t *testing.T) {
				f := someFiles()
				_, addr := start(t, Options{Files: f})
				answer := raw(t, addr, strings.ReplaceAll(string(files[i].Data), "\n", "\r\n"))
				got := "nothing"
				for _, q := range f.questions() {
					got = fmt.Sprintf("%s %s %q", q.Via, q.Path, q.Query)
					if !strings.Contains(string(files[i].Data), "User-Agent: "+q.UserAgent+"\n") || !q.Trusted || q.Transport != "http" || q.IP != "127.0.0.1" {
						t.Errorf("asked %+v", q)
					}
				}
				got += fmt.Sprint(" ", status(t, answer))
				if want := strings.TrimSpace(string(files[i+1].Data)); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				if strings.Contains(answer, "chunked") {
					t.Errorf("chunked: %q", answer)
				}
			})
		}
	}
}

func TestAFileIsTheSameBytesOnEveryPoll(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f})
	first := get(t, addr, "/001565a1b2c3.cfg")
	want := "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nCache-Control: private, no-cache\r\nContent-Length: 39\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Etag: \"0123456789abcdef0123456789abcdef\"\r\nLast-Modified: Tue, 03 Mar 2026 12:00:00 GMT\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n" + content
	if diff := cmp.Diff(want, first); diff != "" {
		t.Error(diff)
	}
	for range 3 {
		if again := get(t, addr, "/001565a1b2c3.cfg"); again != first {
			t.Errorf("changed:\n%s", again)
		}
	}
}

func TestConditionsRangesAndDeliveries(t *testing.T) {
	const tag = `"0123456789abcdef0123456789abcdef"`
	large := "GET /large.cfg"
	for _, c := range []struct {
		name, request, header string
		status, length        int
		delivered             bool
	}{
		{"whole", "GET /001565a1b2c3.cfg", "", 200, 39, true},
		{"empty", "GET /empty.cfg", "", 200, 0, true},
		{"large", large, "", 200, 17 << 16, true},
		{"HEAD", "HEAD /001565a1b2c3.cfg", "", 200, 39, false},
		{"its tag", "GET /001565a1b2c3.cfg", "If-None-Match: " + tag, 304, 0, true},
		{"a weak form of its tag", "GET /001565a1b2c3.cfg", "If-None-Match: W/" + tag, 304, 0, true},
		{"one of several tags", "GET /001565a1b2c3.cfg", `If-None-Match: "a", ` + tag, 304, 0, true},
		{"any tag", "GET /001565a1b2c3.cfg", "If-None-Match: *", 304, 0, false},
		{"HEAD with its tag", "HEAD /001565a1b2c3.cfg", "If-None-Match: " + tag, 304, 0, true},
		{"another tag wins over the time", "GET /001565a1b2c3.cfg", "If-None-Match: \"x\"\r\nIf-Modified-Since: Tue, 03 Mar 2026 12:00:00 GMT", 200, 39, true},
		{"not modified since", "GET /001565a1b2c3.cfg", "If-Modified-Since: Tue, 03 Mar 2026 12:00:00 GMT", 304, 0, false},
		{"modified since", "GET /001565a1b2c3.cfg", "If-Modified-Since: Tue, 03 Mar 2026 11:59:59 GMT", 200, 39, true},
		{"a part", "GET /001565a1b2c3.cfg", "Range: bytes=2-9", 206, 8, false},
		{"all as a part", "GET /001565a1b2c3.cfg", "Range: bytes=0-", 206, 39, false},
		{"beyond the end", "GET /001565a1b2c3.cfg", "Range: bytes=39-", 416, -1, false},
		{"a part of another version", "GET /001565a1b2c3.cfg", "Range: bytes=2-9\r\nIf-Range: \"x\"", 200, 39, true},
		{"no range at all", "GET /001565a1b2c3.cfg", "Range: lines=1-2", 416, -1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := someFiles()
			_, addr := start(t, Options{Files: f})
			answer := raw(t, addr, c.request+" HTTP/1.1\r\nHost: phones\r\nConnection: close\r\n"+c.header+strings.Repeat("\r\n", 1+min(len(c.header), 1)))
			method, _, _ := strings.Cut(c.request, " ")
			resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), &http.Request{Method: method})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || c.status < 300 && int(resp.ContentLength) != c.length || len(resp.TransferEncoding) > 0 {
				t.Errorf("%d with %d bytes, want %d with %d: %.300q", resp.StatusCode, resp.ContentLength, c.status, c.length, answer)
			}
			if method == "GET" && c.status < 300 && len(body) != c.length {
				t.Errorf("%d bytes came, want %d", len(body), c.length)
			}
			if got := len(f.deliveries()) == 1; got != c.delivered {
				t.Errorf("delivered %v, want %v", got, c.delivered)
			}
		})
	}
}

func TestAFileOfThisSecondHasNoLastModified(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f, Now: func() time.Time { return changed.Add(time.Second) }})
	answer := get(t, addr, "/001565a1b2c3.cfg", "If-Modified-Since: Tue, 03 Mar 2026 12:00:00 GMT")
	if status(t, answer) != 200 || strings.Contains(answer, "Last-Modified") {
		t.Errorf("%q", answer)
	}
}

func TestABrokenDownloadIsNoDelivery(t *testing.T) {
	f := someFiles()
	f.files["huge.cfg"] = file("huge.cfg", strings.Repeat("x", 64<<20)) // more than socket buffers hold
	requests := make(chan int64, 1)
	log := zerolog.New(lines(func(l string) {
		if strings.Contains(l, "huge.cfg") {
			requests <- 1
		}
	}))
	_, addr := startWith(t, Options{Files: f}, func(s *Server, ctx context.Context, l net.Listener) error { return s.Serve(log.WithContext(ctx), l) })
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET /huge.cfg HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-requests
	if got := f.deliveries(); len(got) != 0 {
		t.Errorf("delivered %v", got)
	}
}

type lines func(string)

func (f lines) Write(p []byte) (int, error) { f(string(p)); return len(p), nil }

// The uniform answer: one byte string for everything that is not to be had.
const uniform404 = "HTTP/1.1 404 Not Found\r\nCache-Control: no-store\r\nContent-Length: 10\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\nnot found\n"

func TestWhateverIsNotToBeHadIsOne404(t *testing.T) {
	long := "/" + strings.Repeat("a", 300)
	for _, target := range []string{
		"/unknown.cfg", "/t/wrong-key/001565ffffff.cfg", "/d/wrongsecret/001565ffffff.cfg", "/c/000000000000/001565ffffff.cfg", "/provisioning-key/unknown.cfg",
		"/", "/t", "/t/", "/t/key", "/t/key/", "/d/x", "/c/1/", "/unknown.cfg/", "//", "///d",
		"/../001565a1b2c3.cfg", "/x/../001565a1b2c3.cfg", "/%2e%2e/001565a1b2c3.cfg", "/./001565a1b2c3.cfg", "/..%2f001565a1b2c3.cfg",
		"/001565a1b2c3%2fx.cfg", "/%2F001565a1b2c3.cfg", "/a%5c001565a1b2c3.cfg", `/a\001565a1b2c3.cfg`, "/001565a1b2c3.cfg%00", "/%00", "/%0d%0aX:%20y",
		"/%ff", "/t%C3%A9l.cfg", "/%7f", long, long + "/001565a1b2c3.cfg", "/001565a1b2c3.cfg?" + strings.Repeat("q", 1025),
	} {
		f := someFiles()
		_, addr := start(t, Options{Files: f})
		if diff := cmp.Diff(uniform404, get(t, addr, target)); diff != "" {
			t.Errorf("%.60s: %s", target, diff)
		}
	}
}

func TestNothingIsAskedForWhatNoPhoneAsks(t *testing.T) {
	f := someFiles()
	s := new(spy)
	_, addr := start(t, Options{Files: f, Sightings: s})
	for _, target := range []string{"/../x.cfg", "/a%2fb.cfg", "/a%00.cfg", "/" + strings.Repeat("a", 300), "/d/only", `/a\b.cfg`, "/"} {
		get(t, addr, target)
	}
	raw(t, addr, "POST /001565a1b2c3.cfg HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	if q := f.questions(); len(q) != 0 || len(s.seen) != 0 {
		t.Errorf("asked %v, seen %v", q, s.seen)
	}
}

type spy struct{ seen []commands.Sighting }

func (s *spy) Seen(v commands.Sighting) { s.seen = append(s.seen, v) }

func TestErrorsAreAnsweredInOnePlace(t *testing.T) {
	guesses := &commands.GuessError{RetryAfter: time.Minute}
	basic := "Authorization: Basic MTIzNDU2Nzg5MDEyOg=="
	const challenge = "HTTP/1.1 401 Unauthorized\r\nCache-Control: no-store\r\nContent-Length: 10\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Www-Authenticate: Basic realm=\"provisioning\"\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\nnot found\n"
	const notYet = "HTTP/1.1 503 Service Unavailable\r\nCache-Control: no-store\r\nContent-Length: 16\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Retry-After: 2\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\ntry again later\n"
	for _, c := range []struct {
		name   string
		err    error
		target string
		header []string
		want   string // a whole answer, or its start
	}{
		{"no file", commands.ErrNoFile, "/x.cfg", nil, uniform404},
		{"code in the path refused", domain.ErrCodeRefused, "/c/1/x.cfg", nil, uniform404},
		{"code in the path refused with its reason", errors.Join(domain.ErrCodeRefused, commands.ErrNoFile, errors.New("expired")), "/c/1/x.cfg", nil, uniform404},
		{"too many guesses in the path", guesses, "/c/1/x.cfg", nil, uniform404},
		{"code as user refused", domain.ErrCodeRefused, "/x.cfg", []string{basic}, challenge},
		{"too many guesses as user", guesses, "/x.cfg", []string{basic}, challenge},
		{"code as user accepted, optional file missing", commands.ErrNoFile, "/x.cfg", []string{basic}, uniform404},
		{"not yet", commands.ErrNotYet, "/x.cfg", nil, notYet},
		{"not yet, wrapped", fmt.Errorf("wait: %w", commands.ErrNotYet), "/d/s/x.cfg", nil, notYet},
		{"our trouble", errors.New("disk on fire"), "/x.cfg", nil, "HTTP/1.1 503 Service Unavailable\r\n"},
		{"a store that timed out", context.DeadlineExceeded, "/x.cfg", nil, "HTTP/1.1 503 Service Unavailable\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := someFiles()
			f.failWith(func(commands.ServeFile) error { return c.err })
			_, addr := start(t, Options{Files: f})
			answer := get(t, addr, c.target, c.header...)
			if len(c.want) > 60 { // a whole answer
				if diff := cmp.Diff(c.want, answer); diff != "" {
					t.Error(diff)
				}
			} else if !strings.HasPrefix(answer, c.want) || !strings.Contains(answer, "Retry-After: ") || strings.Contains(answer, "fire") {
				t.Errorf("%q", answer)
			}
			if n := len(f.deliveries()); n != 0 {
				t.Errorf("%d delivered", n)
			}
		})
	}
}

func TestAChallengeOutsideTrustedNetworksIsUniformToo(t *testing.T) {
	f := someFiles()
	f.failWith(func(commands.ServeFile) error { return commands.ErrNoFile })
	_, addr := start(t, Options{Files: f, Challenge: true, TrustedNetworks: prefixes()})
	want := get(t, addr, "/unknown.cfg")
	if status(t, want) != 401 {
		t.Fatalf("%q", want)
	}
	for _, target := range []string{"/001565a1b2c3.cfg", "/some/where/001565a1b2c3.cfg", "/long-enough/001565a1b2c3.cfg"} {
		if got := get(t, addr, target); got != want {
			t.Errorf("%s: %q", target, got)
		}
	}
	if got := get(t, addr, "/d/secret/001565a1b2c3.cfg"); status(t, got) != 404 {
		t.Errorf("below a secret: %q", got)
	}
}

func TestATenantKeyAtTheRootIsTriedFirst(t *testing.T) {
	f := someFiles()
	f.failWith(func(in commands.ServeFile) error {
		if in.Via == "tenant_key" && in.Credential != "wazo-key-1" {
			return commands.ErrNoFile
		}
		return nil
	})
	_, addr := start(t, Options{Files: f})
	for _, c := range []struct{ target, want string }{
		{"/wazo-key-1/001565a1b2c3.cfg", "tenant_key wazo-key-1 001565a1b2c3.cfg"},
		{"/Grandstream/cfgc074ad010203.xml", "tenant_key Grandstream cfgc074ad010203.xml; mac  Grandstream/cfgc074ad010203.xml"},
		{"/gs/cfgc074ad010203.xml", "mac  gs/cfgc074ad010203.xml"}, // too short for a key
	} {
		before := len(f.questions())
		if answer := get(t, addr, c.target); status(t, answer) != 200 {
			t.Errorf("%s: %q", c.target, answer)
		}
		var asked []string
		for _, q := range f.questions()[before:] {
			asked = append(asked, fmt.Sprintf("%s %s %s", q.Via, q.Credential, q.Path))
		}
		if got := strings.Join(asked, "; "); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.target, got, c.want)
		}
	}
}

func TestBasicCredentialsCountAtTheRootOnly(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f})
	get(t, addr, "/d/secret/001565a1b2c3.cfg", "Authorization: Basic MTIzNDU2Nzg5MDEyOg==")
	if q := f.questions(); len(q) != 1 || q[0].Via != "secret" || q[0].Credential != "secret" {
		t.Errorf("%+v", q)
	}
}

func TestMethods(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f})
	for _, m := range []string{"POST", "PUT", "DELETE", "OPTIONS", "get", "PROPFIND"} {
		answer := raw(t, addr, m+" /001565a1b2c3.cfg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if status(t, answer) != 405 || !strings.Contains(answer, "\r\nAllow: GET, HEAD\r\n") {
			t.Errorf("%s: %q", m, answer)
		}
	}
	if n := len(f.questions()); n != 0 {
		t.Errorf("%d asked", n)
	}
}

func TestOddButUnderstandableRequests(t *testing.T) {
	for _, c := range []struct{ name, request, want string }{
		{"absolute form", "GET http://phones.example/001565a1b2c3.cfg HTTP/1.1\r\nHost: phones.example\r\nConnection: close\r\n\r\n", "200 001565a1b2c3.cfg"},
		{"HTTP/1.0 without Host", "GET /001565a1b2c3.cfg HTTP/1.0\r\n\r\n", "200 001565a1b2c3.cfg"},
		{"HTTP/1.1 without Host", "GET /001565a1b2c3.cfg HTTP/1.1\r\n\r\n", "400 "},
		{"bare line feeds", "GET /001565a1b2c3.cfg HTTP/1.0\n\n", "200 001565a1b2c3.cfg"},
		{"double slashes", "GET //d//secret//001565a1b2c3.cfg HTTP/1.0\r\n\r\n", "200 001565a1b2c3.cfg"},
		{"escapes", "GET /%30%301565a1b2c3.cfg HTTP/1.0\r\n\r\n", "200 001565a1b2c3.cfg"},
		{"a bad escape", "GET /%zz.cfg HTTP/1.0\r\n\r\n", "400 "},
		{"a body", "GET /001565a1b2c3.cfg HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", "200 001565a1b2c3.cfg"},
		{"the whole server", "GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404 "},
		{"nonsense", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400 "},
		{"two lengths", "GET /a.cfg HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400 "},
		{"a header with control characters", "GET /a.cfg HTTP/1.1\r\nHost: x\r\nUser-Agent: a\x01b\r\n\r\n", "400 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := someFiles()
			_, addr := start(t, Options{Files: f})
			answer := raw(t, addr, c.request)
			path := ""
			for _, q := range f.questions() {
				path = q.Path
			}
			if got := fmt.Sprint(status(t, answer), " ", path); got != c.want {
				t.Errorf("got %q, want %q: %.200q", got, c.want, answer)
			}
		})
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f})
	one := "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
	answer := raw(t, addr, fmt.Sprintf(one, "001565a1b2c3.cfg")+fmt.Sprintf(one, "none.cfg")+"GET /empty.cfg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	in := bufio.NewReader(strings.NewReader(answer))
	for i, want := range []int{200, 404, 200} {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(i, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != want {
			t.Errorf("%d: %d, want %d (%v)", i, resp.StatusCode, want, err)
		}
	}
}

func TestMountsComeBeforeFilesAndKnowTheClient(t *testing.T) {
	f := someFiles()
	say := func(what string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c := ClientOf(r.Context())
			fmt.Fprintf(w, "%s %s %v %s", what, c.IP, c.Trusted, c.Transport())
		})
	}
	_, addr := start(t, Options{Files: f, Mounts: []Mount{
		{Segment: "update", Handler: say("update")},
		{Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/sysclients") }, Handler: say("sysclients")},
	}})
	for target, want := range map[string]string{"/update/phones/": "update", "/example.com/devices/sysclients": "sysclients"} {
		if answer := get(t, addr, target); !strings.HasSuffix(answer, "\r\n\r\n"+want+" 127.0.0.1 true http") {
			t.Errorf("%s: %q", target, answer)
		}
	}
	if answer := get(t, addr, "/updates"); answer != uniform404 {
		t.Errorf("%q", answer)
	}
	if q := f.questions(); len(q) != 1 {
		t.Errorf("asked %+v", q)
	}
	for _, bad := range []Mount{{Segment: "d", Handler: say("")}, {Segment: "a/b", Handler: say("")}, {Segment: "x"}, {Handler: say("")}} {
		if _, err := New(Options{Files: f, Mounts: []Mount{bad}}); !errors.Is(err, ErrBadOptions) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestLogsAndMetricsHoldPatternsOnly(t *testing.T) {
	f := someFiles()
	var out bytes.Buffer
	log := zerolog.New(zerolog.SyncWriter(&out))
	registry := prometheus.NewRegistry()
	_, addr := startWith(t, Options{Files: f, Metrics: registry}, func(s *Server, ctx context.Context, l net.Listener) error {
		return s.Serve(log.WithContext(ctx), l)
	})
	const secret, key, code = "S3cretS3cretS3cret", "tenant-key-9", "987654321098"
	for _, target := range []string{"/d/" + secret + "/001565a1b2c3.cfg", "/t/" + key + "/001565a1b2c3.cfg", "/c/" + code + "/001565a1b2c3.cfg",
		"/" + key + "/001565a1b2c3.cfg", "/d/" + secret, "/D/" + secret + "/x.cfg", "/c/" + code + "/none", "/" + secret} {
		get(t, addr, target, "User-Agent: Yealink SIP-T54W 96.86.0.100 00:15:65:a1:b2:c3")
	}
	get(t, addr, "/001565a1b2c3.cfg", "Authorization: Basic OTg3NjU0MzIxMDk4Og==")
	f.failWith(func(commands.ServeFile) error { return errors.New("disk on fire") })
	get(t, addr, "/d/"+secret+"/001565a1b2c3.cfg")
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text := out.String() + fmt.Sprint(families)
	for _, leak := range []string{secret, key, code, "OTg3NjU0"} {
		if strings.Contains(text, leak) {
			t.Errorf("%q is in logs or metrics", leak)
		}
	}
	for _, want := range []string{`"route":"/d/{secret}/{file}"`, `"file":"001565a1b2c3.cfg"`, `"status":200`, `"vendor":"yealink"`, "disk on fire",
		"ledgerline_phonehttp_requests_total", "ledgerline_phone_discoveries_refused_total"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if n := strings.Count(out.String(), "phone asked for a file"); n != 10 {
		t.Errorf("%d lines for 10 requests", n)
	}
}

func TestRefusedPhonesAreNoted(t *testing.T) {
	f, s := someFiles(), new(spy)
	_, addr := start(t, Options{Files: f, Sightings: s, Now: func() time.Time { return changed }})
	get(t, addr, "/0015650000ff.cfg", "User-Agent: x")
	want := []commands.Sighting{{MAC: "0015650000ff", IP: "127.0.0.1", UserAgent: "x", Transport: "http", Path: "mac refused", At: changed}}
	if diff := cmp.Diff(want, s.seen); diff != "" {
		t.Error(diff)
	}
}
