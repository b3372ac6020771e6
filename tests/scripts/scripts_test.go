// Package scripts shows the program as its users meet it: each file below testdata is a session at a
// terminal against the real binary and, where it says "server", a real server on free ports.
//
// Beside what testscript brings, scripts may say:
//
//	ledgerline ARGS…                run the program; a "!" before it wants it to fail
//	exits N COMMAND ARGS…           run a command that must end with exit status N
//	until PATTERN COMMAND ARGS…     run a command again until its output matches: views follow the log
//	keep NAME PATTERN               set $NAME to the first group of PATTERN in the last output
//	spaced|wide NAME DIGITS         set $NAME to the digits in groups of four, or full width
//	interrupt N PATTERN COMMAND…    run a command, press Ctrl-C once its output matches, want exit status N
//	server [DIR [FLAGS…]]           start a server on DIR (default data) and point the client at it
//	server-stop, server-kill        end it in order, or as a power cut would
//	people N FILE                   write an import of N people with a line each
//	tamper FILE                     change one event in a ledger, as somebody with access to the disk could
//	demo-shape                      check that the last output is exactly what demo -o json promises
package scripts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/tests/proc"
)

func TestScripts(t *testing.T) {
	testscript.Run(t, params(proc.Binary(t)))
}

// params are what every script runs with.
func params(bin string) testscript.Params {
	return testscript.Params{
		Dir:                 "testdata",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(bin)+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Values[running] = &terminal{bin: bin}
			env.Defer(func() { env.Values[running].(*terminal).kill() })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ledgerline":  ledgerline,
			"exits":       exits,
			"until":       until,
			"keep":        keep,
			"spaced":      spaced,
			"wide":        wide,
			"interrupt":   interrupt,
			"server":      server,
			"server-stop": serverStop,
			"server-kill": serverKill,
			"people":      people,
			"tamper":      tamper,
			"demo-shape":  demoShape,
			"unescape":    unescape,
		},
	}
}

type key struct{}

// running is where a script's terminal stands in its values.
var running key

// terminal is what one script has started.
type terminal struct {
	bin    string
	server *proc.Server
}

func (r *terminal) kill() {
	if r.server != nil {
		r.server.Kill()
		r.server = nil
	}
}

func terminalOf(ts *testscript.TestScript) *terminal { return ts.Value(running).(*terminal) }

// tb lets proc's helpers fail the script they are called from.
type tb struct {
	testing.TB
	ts *testscript.TestScript
}

func (t tb) Helper()                            {}
func (t tb) Fatal(args ...any)                  { t.ts.Fatalf("%s", fmt.Sprint(args...)) }
func (t tb) Fatalf(f string, args ...any)       { t.ts.Fatalf(f, args...) }
func (t tb) eventually(w string, f func() bool) { proc.Eventually(t, w, f) }

func usage(ts *testscript.TestScript, neg, ok bool, text string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func ledgerline(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(terminalOf(ts).bin, args...)
	if neg && err == nil {
		ts.Fatalf("it worked")
	}
	if !neg {
		ts.Check(err)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "exits N COMMAND ARGS…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, not %d", got, want)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "until PATTERN COMMAND ARGS…")
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	tb{ts: ts}.eventually(args[0]+" in the output of "+strings.Join(args[1:], " "), func() bool {
		return ts.Exec(args[1], args[2:]...) == nil && pattern.MatchString(ts.ReadFile("stdout"))
	})
}

func keep(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "keep NAME PATTERN")
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	m := pattern.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) < 2 {
		ts.Fatalf("no match for %s", pattern)
	}
	ts.Setenv(args[0], m[1])
}

func spaced(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "spaced NAME DIGITS")
	ts.Setenv(args[0], regexp.MustCompile(`(\d{4})`).ReplaceAllString(args[1], "$1 "))
}

func wide(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "wide NAME DIGITS")
	ts.Setenv(args[0], strings.Map(func(r rune) rune { return r - '0' + '０' }, args[1]))
}

func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 2, "interrupt N PATTERN COMMAND ARGS…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	if args[2] != "ledgerline" {
		ts.Fatalf("only ledgerline can be interrupted")
	}
	cmd := exec.Command(terminalOf(ts).bin, args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "TMPDIR="+ts.Getenv("TMPDIR"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	var seen []byte
	buf := make([]byte, 4096)
	pressed := false
	for err == nil {
		var n int
		n, err = out.Read(buf)
		seen = append(seen, buf[:n]...)
		if !pressed && pattern.Match(seen) {
			pressed = true
			ts.Check(cmd.Process.Signal(syscall.SIGINT))
		}
	}
	_ = cmd.Wait() // its exit status is looked at below
	if !pressed {
		ts.Fatalf("no match for %s in:\n%s\n%s", pattern, seen, stderr.Bytes())
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit status %d, not %d:\n%s\n%s", got, want, seen, stderr.Bytes())
	}
}

func server(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, terminalOf(ts).server == nil, "server [DIR [FLAGS…]], one at a time")
	dir := "data"
	if len(args) > 0 {
		dir, args = args[0], args[1:]
	}
	s, err := proc.Launch(terminalOf(ts).bin, ts.MkAbs(dir), args...)
	ts.Check(err)
	terminalOf(ts).server = s
	ts.Setenv("LEDGERLINE_SERVER", "http://"+s.Admin)
	ts.Setenv("LEDGERLINE_TOKEN_FILE", filepath.Join(s.Dir, "admin.token"))
	ts.Setenv("PHONES", s.Phones)
	ts.Setenv("PHONES_URL", "http://"+s.Phones+"/")
	ts.Setenv("TFTP_URL", "tftp://"+s.TFTP+"/")
	ts.Setenv("OPS", s.Ops)
	ts.Setenv("ADMIN", s.Admin)
}

func serverStop(ts *testscript.TestScript, neg bool, _ []string) {
	r := terminalOf(ts)
	usage(ts, neg, r.server != nil, "server-stop, after server")
	code := r.server.Stop(tb{ts: ts})
	if code != 0 {
		ts.Fatalf("the server ends with exit status %d:\n%s", code, r.server.Log())
	}
	r.server = nil
}

func serverKill(ts *testscript.TestScript, neg bool, _ []string) {
	usage(ts, neg, terminalOf(ts).server != nil, "server-kill, after server")
	terminalOf(ts).kill()
}

func people(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "people N FILE")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var b bytes.Buffer
	b.WriteString("display_name,number,username,password\n")
	for i := range n {
		fmt.Fprintf(&b, "Person %d,%d,user%d,canary-password-%d\n", i, 10_000+i, i, i)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o600))
}

func tamper(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "tamper FILE")
	conn, err := sqlite.OpenConn(ts.MkAbs(args[0]), sqlite.OpenReadWrite)
	ts.Check(err)
	err = sqlitex.ExecuteTransient(conn, `update events set data = cast(replace(cast(data as text), 'zoe', 'eve') as blob) where type = 'user.defined'`, nil)
	if err == nil && conn.Changes() != 1 {
		err = fmt.Errorf("%d events changed, not one", conn.Changes())
	}
	ts.Check(errors.Join(err, conn.Close()))
}

func demoShape(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "demo-shape")
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	d.DisallowUnknownFields()
	var story struct {
		Phones []struct {
			MAC, Vendor, Model, Transport, State *string
			Files                                []struct {
				Path, SHA256 *string
				Size         *int
			}
		}
		Events   *int
		Verified *bool
	}
	ts.Check(d.Decode(&story))
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		ts.Fatalf("more than one value")
	}
	if story.Events == nil || *story.Events < 50 || story.Verified == nil || !*story.Verified || len(story.Phones) != 6 {
		ts.Fatalf("%d phones, events %v, verified %v", len(story.Phones), story.Events, story.Verified)
	}
	vendors, transports := map[string]bool{}, map[string]bool{}
	for _, p := range story.Phones {
		if p.MAC == nil || p.Vendor == nil || p.Model == nil || p.Transport == nil || p.State == nil {
			ts.Fatalf("a phone lacks a member")
		}
		if !regexp.MustCompile(`^[0-9a-f]{12}$`).MatchString(*p.MAC) || *p.State != "configured" || *p.Model == "" || len(p.Files) == 0 {
			ts.Fatalf("phone %s %s is %s with %d files", *p.MAC, *p.Model, *p.State, len(p.Files))
		}
		vendors[*p.Vendor], transports[*p.Transport] = true, true
		for _, f := range p.Files {
			if f.Path == nil || *f.Path == "" || f.SHA256 == nil || len(*f.SHA256) != 64 || f.Size == nil || *f.Size <= 0 {
				ts.Fatalf("a file of %s is not described: %+v", *p.MAC, f)
			}
		}
	}
	if len(vendors) < 3 || !transports["http"] || !transports["tftp"] {
		ts.Fatalf("vendors %v over %v", vendors, transports)
	}
}
