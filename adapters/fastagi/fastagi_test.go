package fastagi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
)

// dialler answers every code with the same, and remembers what it was asked.
type dialler struct {
	answer commands.Dialled
	err    error

	mu    sync.Mutex
	asked []commands.DialCode
}

func (d *dialler) DialCode(_ context.Context, in commands.DialCode) (commands.Dialled, commands.Outcome, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, in)
	return d.answer, commands.Outcome{}, d.err
}

func (d *dialler) last(t *testing.T) commands.DialCode {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.asked) == 0 {
		t.Fatal("nothing was asked")
	}
	return d.asked[len(d.asked)-1]
}

func start(t *testing.T, o Options) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(o).Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// asteriskCall is Asterisk running AGI(agi://…): it sends its variables, and carries out SET VARIABLE until the
// connection ends.
func asteriskCall(t *testing.T, addr, query, channel string, args ...string) map[string]string {
	t.Helper()
	conn, r := dial(t, addr)
	fmt.Fprintf(conn, "agi_network: yes\nagi_network_script: dialled-code\nagi_request: agi://%s/dialled-code?%s\nagi_channel: %s\nagi_language: en\nagi_type: PJSIP\nagi_callerid: unknown\nagi_dnid: unknown\n", addr, query, channel)
	for i, a := range args {
		fmt.Fprintf(conn, "agi_arg_%d: %s\n", i+1, a)
	}
	fmt.Fprint(conn, "\n")
	vars := map[string]string{}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return vars
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "SET VARIABLE "), " ")
		if !ok {
			fmt.Fprint(conn, "510 Invalid or unknown command\n")
			continue
		}
		vars[name] = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`))
		fmt.Fprint(conn, "200 result=1\n")
	}
}

func TestAsterisk(t *testing.T) {
	d := &dialler{answer: commands.Dialled{Result: commands.DialDone, Number: "1201", Say: `This phone is now "1201" \ here.` + "\n"}}
	addr := start(t, Options{Dialler: d})
	got := asteriskCall(t, addr, "tenant=acme", "PJSIP/ap0015651a2b3c-0000001f", "100001", "", "192.0.2.7")
	if diff := cmp.Diff(map[string]string{"LEDGERLINE_RESULT": "ok", "LEDGERLINE_NUMBER": "1201", "LEDGERLINE_SAY": `This phone is now "1201" \ here.`}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(commands.DialCode{TenantID: "acme", Code: "100001", Account: "ap0015651a2b3c", Address: "192.0.2.7"}, d.last(t)); diff != "" {
		t.Error(diff)
	}
	asteriskCall(t, addr, "tenant=acme", "PJSIP/trunk-1-0000001f", "reset", "1202")
	if in := d.last(t); in.Account != "1202" || in.Address != "" {
		t.Errorf("asked %+v", in)
	}
	d.answer, d.err = commands.Dialled{}, errors.New("the disk is full")
	if got := asteriskCall(t, addr, "tenant=acme", "PJSIP/x-1", "1"); got["LEDGERLINE_RESULT"] != "error" || strings.Contains(got["LEDGERLINE_SAY"], "disk") {
		t.Errorf("an error becomes %v", got)
	}
}

func TestFreeSWITCH(t *testing.T) {
	d := &dialler{answer: commands.Dialled{Result: commands.DialWrong, Say: "This code is not known."}}
	addr := start(t, Options{Dialler: d})
	conn, r := dial(t, addr)
	p := textproto.NewReader(r)
	if line, err := p.ReadLine(); err != nil || line != "connect" {
		t.Fatalf("greeted with %q, %v", line, err)
	}
	if line, err := p.ReadLine(); err != nil || line != "" {
		t.Fatalf("greeted with %q, %v", line, err)
	}
	fmt.Fprint(conn, "Event-Name: CHANNEL_DATA\nCaller-Network-Addr: 192.0.2.7\nvariable_sip_from_user: ap%2B1\nvariable_ledgerline_tenant: acme\n"+
		"variable_ledgerline_code: 100%20001\nContent-Type: command/reply\nReply-Text: +OK\n\n")
	vars := map[string]string{}
	for {
		command, err := p.ReadLine()
		if err != nil || command == "exit" {
			break
		}
		m, err := p.ReadMIMEHeader()
		if err != nil || command != "sendmsg" || m.Get("Call-Command") != "execute" || m.Get("Execute-App-Name") != "set" {
			t.Fatalf("%s %v: %v", command, m, err)
		}
		name, value, _ := strings.Cut(m.Get("Execute-App-Arg"), "=")
		vars[name] = value
		fmt.Fprint(conn, "Content-Type: text/event-plain\n\nContent-Type: command/reply\nReply-Text: +OK\n\n")
	}
	if diff := cmp.Diff(map[string]string{"LEDGERLINE_RESULT": "wrong_code", "LEDGERLINE_NUMBER": "", "LEDGERLINE_SAY": "This code is not known."}, vars); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(commands.DialCode{TenantID: "acme", Code: "100 001", Account: "ap+1", Address: "192.0.2.7"}, d.last(t)); diff != "" {
		t.Error(diff)
	}
}

// Who is not let in, or talks nonsense, or too much, asks nothing.
func TestStrangers(t *testing.T) {
	d := &dialler{}
	elsewhere := start(t, Options{Dialler: d, Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	here := start(t, Options{Dialler: d})
	for what, c := range map[string][2]string{
		"another network": {elsewhere, "agi_request: agi://x/?tenant=acme\nagi_arg_1: 1\n\n"},
		"HTTP":            {here, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
		"no end":          {here, strings.Repeat("agi_x: y\n", maxHeader/9+10)},
	} {
		conn, r := dial(t, c[0])
		_, _ = conn.Write([]byte(c[1])) // it may be cut off
		if line, err := r.ReadString('\n'); err == nil {
			t.Errorf("%s: answered %q", what, line)
		}
	}
	if len(d.asked) != 0 {
		t.Errorf("asked %+v", d.asked)
	}
}
