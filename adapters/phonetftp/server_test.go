package phonetftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pin/tftp/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeFiles serves what is in the map by the path asked for; fail comes before it.
type fakeFiles struct {
	files map[string][]byte
	fail  func(commands.ServeFile) error

	mu        sync.Mutex
	asked     []commands.ServeFile
	delivered chan string
}

func (f *fakeFiles) ServeFile(_ context.Context, in commands.ServeFile) (commands.Served, error) {
	f.mu.Lock()
	f.asked = append(f.asked, in)
	f.mu.Unlock()
	if f.fail != nil {
		if err := f.fail(in); err != nil {
			return commands.Served{}, err
		}
	}
	if data, ok := f.files[in.Path]; ok {
		return commands.Served{Device: "001565a1b2c3", Data: data, File: domain.GeneratedFile{Path: in.Path}}, nil
	}
	return commands.Served{}, commands.ErrNoFile
}

func (f *fakeFiles) Delivered(v commands.Served) { f.delivered <- v.File.Path }

func (f *fakeFiles) questions() []commands.ServeFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

const content = "#!version:1.0.0.1\naccount.1.enable = 1\n"

func someFiles() *fakeFiles {
	f := &fakeFiles{files: map[string][]byte{"001565a1b2c3.cfg": []byte(content), "empty.cfg": {}}, delivered: make(chan string, 10_000)}
	for _, n := range []int{511, 512, 513, 1024, 1428, 2856, 100_000} {
		f.files[fmt.Sprint(n)] = bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
	}
	return f
}

func start(t testing.TB, opt Options) (*Server, string) {
	t.Helper()
	return startWith(t, opt, zerolog.Nop(), "127.0.0.1:0")
}

func startWith(t testing.TB, opt Options, log zerolog.Logger, at string) (*Server, string) {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(log.WithContext(context.Background()))
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, conn.LocalAddr().String()
}

// fetch reads a file with the library's client.
func fetch(t testing.TB, addr, name, mode string, block int) (string, error) {
	t.Helper()
	c, err := tftp.NewClient(addr)
	if err != nil {
		t.Fatal(err)
	}
	c.RequestTSize(true)
	if block > 0 {
		c.SetBlockSize(block)
	}
	from, err := c.Receive(name, mode)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	_, err = from.WriteTo(&b)
	if size, ok := from.(tftp.IncomingTransfer).Size(); err == nil && ok && int(size) != b.Len() {
		t.Errorf("%s: announced %d bytes, sent %d", name, size, b.Len())
	}
	return b.String(), err
}

func TestFilesOfEverySizeArriveWholeAndAreDelivered(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f})
	for name, want := range f.files {
		for _, block := range []int{0, 512, 1024, 1428, 8192, 65464} {
			got, err := fetch(t, addr, "/"+name, "octet", block)
			if err != nil || got != string(want) {
				t.Errorf("%s in blocks of %d: %d bytes of %d, %v", name, block, len(got), len(want), err)
			}
			if d := <-f.delivered; d != name {
				t.Errorf("delivered %s", d)
			}
		}
	}
	if q := f.questions()[0]; !q.Trusted || q.Transport != "tftp" || q.IP != "127.0.0.1" || q.Via != "mac" {
		t.Errorf("asked %+v", q)
	}
}

func TestNetasciiIsConverted(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f})
	got, err := fetch(t, addr, "001565a1b2c3.cfg", "netascii", 0) // the client converts back
	if err != nil || got != content {
		t.Errorf("%q, %v", got, err)
	}
	p := phone(t, addr)
	p.send(rrq("001565a1b2c3.cfg", "NetASCII"))
	if got := p.read(); string(got[4:]) != strings.ReplaceAll(content, "\n", "\r\n") {
		t.Errorf("on the wire: %q", got)
	}
	p.send([]byte{0, opAck, 0, 1})
	<-f.delivered
}

func TestOverIPv6AndBothFamilies(t *testing.T) {
	for _, at := range []string{"[::1]:0", "[::]:0"} {
		f := someFiles()
		_, addr := startWith(t, Options{Files: f}, zerolog.Nop(), at)
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		hosts := []string{"[::1]:"}
		if at == "[::]:0" {
			hosts = append(hosts, "127.0.0.1:", "127.0.0.2:")
		}
		for _, h := range hosts {
			p := phone(t, h+port)
			p.send(rrq("001565a1b2c3.cfg", "octet"))
			p.read()
			if want := netip.MustParseAddrPort(h + port).Addr(); p.from.Addr().Unmap() != want {
				t.Errorf("asked %s, answered from %s", want, p.from)
			}
			p.send([]byte{0, opAck, 0, 1})
			<-f.delivered
		}
	}
}

// udp is a phone that sends what it likes.
type udp struct {
	t      testing.TB
	conn   *net.UDPConn
	server netip.AddrPort
	from   netip.AddrPort // of the last answer: the transfer's TID
}

func phone(t testing.TB, addr string) *udp {
	t.Helper()
	server := netip.MustParseAddrPort(addr)
	at := &net.UDPAddr{IP: net.IPv6loopback}
	if server.Addr().Is4() {
		at.IP = net.IPv4(127, 0, 0, 1)
	}
	conn, err := net.ListenUDP("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &udp{t: t, conn: conn, server: server}
}

// send goes to the transfer if there is one, else to the server.
func (p *udp) send(b []byte) {
	p.t.Helper()
	to := p.server
	if p.from.IsValid() {
		to = p.from
	}
	if _, err := p.conn.WriteToUDPAddrPort(b, to); err != nil {
		p.t.Fatal(err)
	}
}

func (p *udp) read() []byte {
	p.t.Helper()
	b := make([]byte, 70_000)
	if err := p.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	n, from, err := p.conn.ReadFromUDPAddrPort(b)
	if err != nil {
		p.t.Fatal(err)
	}
	p.from = from
	return b[:n]
}

func rrq(name, mode string, options ...string) []byte {
	b := append([]byte{0, opRead}, name+"\x00"+mode+"\x00"...)
	for _, o := range options {
		b = append(b, o+"\x00"...)
	}
	return b
}

func notFound() []byte { return errorPacket(codeNotFound, "file not found") }

func TestRefusals(t *testing.T) {
	var guess error = &commands.GuessError{RetryAfter: time.Minute}
	for _, c := range []struct {
		name  string
		sent  []byte
		fail  error
		want  []byte
		asked bool
	}{
		{"a write", []byte("\x00\x02001565a1b2c3.cfg\x00octet\x00"), nil, errorPacket(codeForbidden, "read-only server"), false},
		{"mail", rrq("001565a1b2c3.cfg", "mail"), nil, errorPacket(codeIllegal, "unsupported mode"), false},
		{"an unknown mode", rrq("001565a1b2c3.cfg", "text"), nil, errorPacket(codeIllegal, "unsupported mode"), false},
		{"no mode", []byte("\x00\x01001565a1b2c3.cfg\x00"), nil, errorPacket(codeIllegal, "malformed request"), false},
		{"no end", []byte("\x00\x01001565a1b2c3.cfg\x00octet"), nil, errorPacket(codeIllegal, "malformed request"), false},
		{"nothing but an opcode", []byte{0, 1}, nil, errorPacket(codeIllegal, "malformed request"), false},
		{"half an option", rrq("001565a1b2c3.cfg", "octet", "blksize"), nil, errorPacket(codeIllegal, "malformed request"), false},
		{"many options", rrq("001565a1b2c3.cfg", "octet", strings.Split(strings.Repeat("a,1,", 20)+"a,1", ",")...), nil, errorPacket(codeIllegal, "malformed request"), false},
		{"a huge request", rrq(strings.Repeat("a", 600), "octet"), nil, errorPacket(codeIllegal, "malformed request"), false},
		{"no name", rrq("", "octet"), nil, notFound(), false},
		{"dots", rrq("../001565a1b2c3.cfg", "octet"), nil, notFound(), false},
		{"dots inside", rrq("x/../001565a1b2c3.cfg", "octet"), nil, notFound(), false},
		{"backslash", rrq(`x\001565a1b2c3.cfg`, "octet"), nil, notFound(), false},
		{"control", rrq("001565a1b2c3.cfg\n", "octet"), nil, notFound(), false},
		{"not ASCII", rrq("télé.cfg", "octet"), nil, notFound(), false},
		{"long", rrq(strings.Repeat("a", 129), "octet"), nil, notFound(), false},
		{"a folder", rrq("x/", "octet"), nil, notFound(), false},
		{"a secret without a file", rrq("d/secret", "octet"), nil, notFound(), false},
		{"unknown", rrq("unknown.cfg", "octet"), nil, notFound(), true},
		{"a wrong code", rrq("/c/123456789012/x.cfg", "octet"), domain.ErrCodeRefused, notFound(), true},
		{"too many guesses", rrq("/c/123456789012/x.cfg", "octet"), guess, notFound(), true},
		{"our trouble", rrq("001565a1b2c3.cfg", "octet"), errors.New("disk on fire"), errorPacket(codeOther, "try again later"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := someFiles()
			f.fail = func(commands.ServeFile) error { return c.fail }
			_, addr := start(t, Options{Files: f})
			p := phone(t, addr)
			p.send(c.sent)
			if diff := cmp.Diff(c.want, p.read()); diff != "" {
				t.Error(diff)
			}
			if asked := len(f.questions()) > 0; asked != c.asked {
				t.Errorf("asked %v", f.questions())
			}
			if len(f.delivered) != 0 {
				t.Error("delivered")
			}
			if got, err := fetch(t, addr, "001565a1b2c3.cfg", "octet", 0); c.fail == nil && (err != nil || got != content) {
				t.Errorf("afterwards: %q, %v", got, err)
			}
		})
	}
}

func TestStrayDatagramsAreNotAnswered(t *testing.T) {
	f := someFiles()
	s, addr := start(t, Options{Files: f, Metrics: prometheus.NewRegistry()})
	p := phone(t, addr)
	stray := [][]byte{{0}, {1}, {0, 0}, {0, 3, 0, 1, 'x'}, {0, 4, 0, 1}, errorPacket(0, "x"), {0, 6, 'a', 0, '1', 0}, {0, 9, 9, 9}, {1, 1, 'a', 0}}
	for _, b := range stray {
		p.send(b)
	}
	p.send(rrq("unknown", "octet")) // the first answer is to this
	if diff := cmp.Diff(notFound(), p.read()); diff != "" {
		t.Error(diff)
	}
	if n := testutil.ToFloat64(s.metrics.dropped.WithLabelValues("no request")); int(n) != len(stray) {
		t.Errorf("%v dropped, want %d", n, len(stray))
	}
}

func TestPathFormsAreTheSameAsOverHTTP(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f, TrustedNetworks: prefixes()})
	for name, want := range map[string]string{
		"001565a1b2c3.cfg": "mac  001565a1b2c3.cfg", "///001565a1b2c3.cfg": "mac  001565a1b2c3.cfg", "t/acme-key-1/empty.cfg": "tenant_key acme-key-1 empty.cfg",
		"/d/secret/empty.cfg": "secret secret empty.cfg", "c/123456789012/a/b.cfg": "code 123456789012 a/b.cfg",
	} {
		before := len(f.questions())
		_, _ = fetch(t, addr, name, "octet", 0) // what was asked is the matter
		q := f.questions()[before]
		if got := fmt.Sprint(q.Via, " ", q.Credential, " ", q.Path); got != want || q.Trusted {
			t.Errorf("%s: %s, trusted %v", name, got, q.Trusted)
		}
	}
}

// until waits for what is sure to come; the test's own time limit says when it did not.
func until(cond func() bool) {
	for !cond() {
		runtime.Gosched()
	}
}

func prefixes(texts ...string) []netip.Prefix {
	out := []netip.Prefix{}
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name    string
		options []string
		want    string // the first answer
	}{
		{"none", nil, "\x00\x03\x00\x01" + content},
		{"unknown", []string{"windowsize", "4", "x", ""}, "\x00\x03\x00\x01" + content},
		{"timeout is not offered", []string{"timeout", "1"}, "\x00\x03\x00\x01" + content},
		{"size", []string{"tsize", "0"}, "\x00\x06tsize\x0039\x00"},
		{"size in capitals, with a value", []string{"TSize", "99"}, "\x00\x06tsize\x0039\x00"},
		{"block", []string{"BLKSIZE", "1024"}, "\x00\x06blksize\x001024\x00"},
		{"a large block", []string{"blksize", "65464"}, "\x00\x06blksize\x001428\x00"},
		{"a huge block", []string{"blksize", "4294967296"}, "\x00\x06blksize\x001428\x00"},
		{"a small block", []string{"blksize", "8"}, "\x00\x03\x00\x01" + content},
		{"a negative block", []string{"blksize", "-1"}, "\x00\x03\x00\x01" + content},
		{"no number", []string{"blksize", "many", "tsize", "x"}, "\x00\x03\x00\x01" + content},
		{"the same twice", []string{"blksize", "512", "blksize", "600"}, "\x00\x06blksize\x00600\x00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := someFiles()
			_, addr := start(t, Options{Files: f})
			p := phone(t, addr)
			p.send(rrq("001565a1b2c3.cfg", "octet", c.options...))
			got := p.read()
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Error(diff)
			}
			if got[1] == opOACK {
				p.send([]byte{0, opAck, 0, 0})
				got = p.read()
			}
			if string(got) != "\x00\x03\x00\x01"+content {
				t.Errorf("first block: %q", got)
			}
			p.send([]byte{0, opAck, 0, 1})
			<-f.delivered
		})
	}
}

func TestOnlyTheLastAcknowledgementDelivers(t *testing.T) {
	f := someFiles()
	s, addr := start(t, Options{Files: f, Timeout: 20 * time.Millisecond, Metrics: prometheus.NewRegistry()})
	p := phone(t, addr)
	p.send(rrq("513", "octet"))
	first := p.read()
	for range 5 { // repeated, early, odd and foreign acknowledgements move nothing
		p.send([]byte{0, opAck, 0, 0})
		p.send([]byte{0, opAck, 0, 2})
		p.send([]byte{0, opAck, 0})
		p.send(rrq("513", "octet"))
		other := phone(t, addr)
		other.from = p.from
		other.send([]byte{0, opAck, 0, 1})
	}
	sent := 1
	for b := first; ; sent++ { // repeated three times, then given up
		if !bytes.Equal(b, first) {
			if diff := cmp.Diff(errorPacket(codeOther, "no acknowledgement"), b); diff != "" {
				t.Error(diff)
			}
			break
		}
		b = p.read()
	}
	if sent != 1+1+3 {
		t.Errorf("%d datagrams, want the block four times and an error", sent)
	}
	until(func() bool { return testutil.ToFloat64(s.metrics.requests.WithLabelValues("mac", "aborted")) == 1 })
	if len(f.delivered) != 0 {
		t.Error("delivered")
	}
}

func TestAPhoneThatGivesUpEndsItsTransfer(t *testing.T) {
	for name, end := range map[string]func(p *udp){
		"by an error": func(p *udp) { p.send(errorPacket(3, "disk full")) },
		"by leaving":  func(p *udp) { p.conn.Close() }, // the next repetition finds its port closed
	} {
		t.Run(name, func(t *testing.T) {
			f := someFiles()
			s, addr := start(t, Options{Files: f, Timeout: 100 * time.Millisecond, Retries: 1 << 20, Metrics: prometheus.NewRegistry()})
			p := phone(t, addr)
			p.send(rrq("100000", "octet"))
			p.read()
			end(p)
			until(func() bool { return testutil.ToFloat64(s.metrics.requests.WithLabelValues("mac", "aborted")) == 1 }) // long before the repetitions are spent
			if len(f.delivered) != 0 {
				t.Error("delivered")
			}
		})
	}
}

func TestARepeatedRequestStartsNoSecondTransfer(t *testing.T) {
	f := someFiles()
	asked, release := make(chan struct{}, 10), make(chan struct{})
	f.fail = func(commands.ServeFile) error { asked <- struct{}{}; <-release; return nil }
	s, addr := start(t, Options{Files: f, Metrics: prometheus.NewRegistry()})
	p := phone(t, addr)
	for range 3 {
		p.send(rrq("001565a1b2c3.cfg", "octet"))
	}
	<-asked
	until(func() bool { return testutil.ToFloat64(s.metrics.dropped.WithLabelValues("repeated")) == 2 })
	close(release)
	p.read()
	p.send([]byte{0, opAck, 0, 1})
	<-f.delivered
	if n := len(f.questions()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestAFileThatIsNotReadyIsWaitedFor(t *testing.T) {
	f := someFiles()
	var mu sync.Mutex
	tries := 0
	f.fail = func(in commands.ServeFile) error {
		mu.Lock()
		defer mu.Unlock()
		if tries++; in.Path == "never" || tries < 3 {
			return fmt.Errorf("wait: %w", commands.ErrNotYet)
		}
		return nil
	}
	_, addr := start(t, Options{Files: f, Patience: time.Second})
	if got, err := fetch(t, addr, "001565a1b2c3.cfg", "octet", 0); err != nil || got != content {
		t.Errorf("%q, %v", got, err)
	}
	p := phone(t, addr)
	p.send(rrq("never", "octet"))
	if diff := cmp.Diff(errorPacket(codeOther, "not ready, try again"), p.read()); diff != "" {
		t.Error(diff)
	}
}

func TestLimitsDropWithoutAnAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		opt    Options
		reason string
	}{
		{"at once", Options{MaxTransfers: 1}, "total"},
		{"at once from one source", Options{MaxTransfersPerSource: 1}, "source"},
		{"a second", Options{RatePerSource: 1}, "rate"},
		{"a second from strangers", Options{RatePerStranger: 1, TrustedNetworks: prefixes()}, "rate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := someFiles()
			release := make(chan struct{})
			f.fail = func(commands.ServeFile) error { <-release; return nil }
			c.opt.Files, c.opt.Metrics, c.opt.Timeout = f, prometheus.NewRegistry(), 20*time.Millisecond
			c.opt.Now = func() time.Time { return time.Unix(1e9, 0) }
			s, addr := start(t, c.opt)
			phones := []*udp{}
			for range 6 { // a burst is four
				p := phone(t, addr)
				p.send(rrq("001565a1b2c3.cfg", "octet"))
				phones = append(phones, p)
			}
			until(func() bool { return testutil.ToFloat64(s.metrics.dropped.WithLabelValues(c.reason)) >= 2 })
			close(release)
			phones[0].read()
			phones[0].send([]byte{0, opAck, 0, 1})
			<-f.delivered
			for _, p := range phones[1:4] { // let them go
				p.conn.Close()
			}
		})
	}
}

func TestManyPhonesAtOnce(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f})
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			name := []string{"100000", "513", "001565a1b2c3.cfg", "none"}[i%4]
			got, err := fetch(t, addr, name, "octet", 1024)
			if name == "none" {
				if err == nil {
					t.Error("none was served")
				}
			} else if err != nil || got != string(f.files[name]) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		})
	}
	wg.Wait()
	for range 45 {
		<-f.delivered
	}
}

func TestTheEndWaitsForTransfersAndCutsLateOnes(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("late ", late), func(t *testing.T) {
			f := someFiles()
			drain := time.Minute
			if late {
				drain = 20 * time.Millisecond
			}
			s, err := New(Options{Files: f, Timeout: time.Minute, DrainTimeout: drain})
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Serve(ctx, conn) }()
			p := phone(t, conn.LocalAddr().String())
			p.send(rrq("513", "octet"))
			p.read()
			cancel()
			if late {
				if diff := cmp.Diff(errorPacket(codeOther, "transfer took too long, try again"), p.read()); diff != "" {
					t.Error(diff)
				}
			} else {
				p.send([]byte{0, opAck, 0, 1})
				if got := p.read(); len(got) != 5 {
					t.Errorf("second block: %q", got)
				}
				p.send([]byte{0, opAck, 0, 2})
				<-f.delivered
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestASocketClosedUnderneathIsReported(t *testing.T) {
	s, err := New(Options{Files: someFiles()})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := s.Serve(context.Background(), conn); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestLogsHoldPatternsOnly(t *testing.T) {
	f := someFiles()
	var out bytes.Buffer
	s, addr := startWith(t, Options{Files: f, Metrics: prometheus.NewRegistry()}, zerolog.New(zerolog.SyncWriter(&out)), "127.0.0.1:0")
	for _, name := range []string{"d/S3cretS3cret/001565a1b2c3.cfg", "d/S3cretS3cret", "D/S3cretS3cret/x", "t/S3cretS3cret/none", "c/S3cretS3cret/none"} {
		_, _ = fetch(t, addr, name, "octet", 0) // what is logged is the matter
	}
	until(func() bool { return s.limits.count() == 0 }) // the last line is written before the place is given back
	text := out.String()
	if strings.Contains(text, "S3cret") || strings.Count(text, "phone asked for a file") != 5 || !strings.Contains(text, `"route":"d/{secret}/{file}"`) {
		t.Error(text)
	}
}

func TestRefusedPhonesAreNoted(t *testing.T) {
	f, seen := someFiles(), new(commandstest.Sightings)
	_, addr := start(t, Options{Files: f, Sightings: seen, Now: func() time.Time { return time.Unix(1e9, 0) }})
	_, _ = fetch(t, addr, "cfgc074ad010203.xml", "octet", 0)
	want := []commands.Sighting{{MAC: "c074ad010203", IP: "127.0.0.1", Transport: "tftp", Path: "mac refused", At: time.Unix(1e9, 0)}}
	if diff := cmp.Diff(want, seen.All()); diff != "" {
		t.Error(diff)
	}
}

func TestWithTheRealCommands(t *testing.T) {
	k := commandstest.NewService(t)
	_, addr := start(t, Options{Files: k.Service, Now: k.Clock.Now})
	got, err := fetch(t, addr, "001565a1b2c3.cfg", "octet", 0)
	if err != nil || !strings.Contains(got, "guest = true") {
		t.Errorf("%q, %v", got, err)
	}
	if !slices.ContainsFunc(k.Log.Events(), func(r domain.Recorded) bool { return r.Type == "device.discovered" }) {
		t.Error("not discovered")
	}
}

// The client of Debian's tftp-hpa: an implementation that is not ours.
func TestTheClientOfTFTPHPA(t *testing.T) {
	path, err := exec.LookPath("tftp")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("tftp (Debian: tftp-hpa) is not installed")
		}
		t.Log("tftp (Debian: tftp-hpa) is not installed: nothing was tried")
		return
	}
	f := someFiles()
	_, addr := start(t, Options{Files: f})
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	run := func(script ...string) string {
		c := exec.CommandContext(t.Context(), path, "-4", host, port)
		c.Dir = t.TempDir()
		c.Stdin = strings.NewReader(strings.Join(script, "\n") + "\nquit\n")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v: %s", script, err, out)
		}
		for _, name := range []string{"001565a1b2c3.cfg", "100000"} {
			if data, err := os.ReadFile(filepath.Join(c.Dir, name)); err == nil && string(data) != string(f.files[name]) {
				t.Errorf("%v: %s differs", script, name)
			}
		}
		return string(out)
	}
	for _, mode := range []string{"octet", "netascii"} {
		out := run("mode "+mode, "get 001565a1b2c3.cfg", "get 100000")
		for range 2 {
			select {
			case <-f.delivered:
			case <-time.After(20 * time.Second):
				t.Fatal(mode, out)
			}
		}
	}
	if out := run("mode octet", "get none"); !strings.Contains(out, "file not found") {
		t.Error(out)
	}
	if out := run("mode octet", "put "+path+" x"); !strings.Contains(out, "read-only server") {
		t.Error(out)
	}
}

func FuzzTFTPName(f *testing.F) {
	for _, s := range []string{"001565a1b2c3.cfg", "/d/secret/x", "../x", `a\b`, "", "/", "a//b", strings.Repeat("a", 128), "a/./b", "a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		segments, ok := parseName(name)
		if !ok {
			return
		}
		joined := strings.Join(segments, "/")
		if again, ok := parseName(joined); !ok || !slices.Equal(again, segments) || len(name) > maxName {
			t.Fatalf("%q: %q came back as %q", name, segments, again)
		}
		if slices.ContainsFunc(segments, func(s string) bool { return s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\\\x00\n") }) {
			t.Fatalf("%q: %q", name, segments)
		}
		if c, ok := claimOf(segments); ok && (c.file == "" || (c.via == "mac") != (c.credential == "")) {
			t.Fatalf("%q: %+v", name, c)
		}
	})
}

func FuzzRequest(f *testing.F) {
	for _, b := range [][]byte{rrq("a", "octet"), rrq("a", "octet", "blksize", "1428", "tsize", "0"), rrq("a", "netascii", "tsize", "0"), {0, 1}, {0, 2, 0}, {0, 1, 0, 0}, rrq("a", "octet", "x"), {0, 5, 0, 0}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parseRequest(p)
		if err != nil {
			return
		}
		if len(p) > maxRequest || len(r.segments) == 0 || r.block != 0 && (r.block < minBlock || r.block > maxBlock) {
			t.Fatalf("%q: %+v", p, r)
		}
		clean, err := parseRequest(r.clean())
		if err != nil || clean.netascii != r.netascii || clean.block != r.block || binary.BigEndian.Uint16(r.clean()) != opRead {
			t.Fatalf("%q: %+v became %+v, %v", p, r, clean, err)
		}
	})
}

// BenchmarkRead reads a file of 8 KiB with the library's client, in blocks of 1428.
func BenchmarkRead(b *testing.B) {
	f := someFiles()
	f.files["8k"] = bytes.Repeat([]byte("0123456789abcde\n"), 512)
	go func() {
		for range f.delivered {
		}
	}()
	b.Cleanup(func() { close(f.delivered) })
	_, addr := start(b, Options{Files: f, RatePerSource: 1 << 20})
	begin := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if got, err := fetch(b, addr, "8k", "octet", 1428); err != nil || len(got) != 8192 {
				b.Error(len(got), err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "reads/s")
}
