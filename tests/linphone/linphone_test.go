// Package linphone lets a real softphone live a phone's life: Debian's linphonec fetches its configuration from a running Ledgerline by
// remote provisioning, and registers at a real registrar, Debian's kamailio, with the line it was given. Everything is on loopback.
package linphone

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ledgerline/tests/ports"
	"ledgerline/tests/proc"
)

// found is where a program of Debian's is; ok false, and said so, where it is not and need not be.
func found(t *testing.T, name, debian string) (path string, ok bool) {
	t.Helper()
	for _, p := range []string{name, "/usr/bin/" + name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(p); err == nil {
			return path, true
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed; .ci/run installs %s", name, debian)
	}
	t.Logf("%s (Debian's %s) is not installed: not tried", name, debian)
	return "", false
}

// program is a child with its output.
type program struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	exited chan struct{}
	mu     sync.Mutex
	log    strings.Builder
}

func run(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{cmd: cmd, exited: make(chan struct{})}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			p.mu.Lock()
			p.log.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
		}
		_ = cmd.Wait() // how it ended is not asked
		close(p.exited)
	}()
	t.Cleanup(p.end)
	return p
}

func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// end asks the program to end, and makes it after ten seconds.
func (p *program) end() {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// registrar runs kamailio on port, which lets in nobody but user with password.
func registrar(t *testing.T, kamailio string, port int, user, password string) *program {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "kamailio.cfg")
	text := fmt.Sprintf(`#!KAMAILIO
debug=2
log_stderror=yes
children=1
disable_tcp=yes
listen=udp:127.0.0.1:%d
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
request_route {
  if (method != "REGISTER") { sl_send_reply("405", "Method Not Allowed"); exit; }
  if ($au != $null && $au != %q) { xlog("L_NOTICE", "refused $au\n"); sl_send_reply("403", "Forbidden"); exit; }
  if (!pv_www_authenticate("ledgerline.example", %q, "0")) {
    if ($au != $null) { xlog("L_NOTICE", "wrong password of $au\n"); }
    www_challenge("ledgerline.example", "1");
    exit;
  }
  if (!save("location")) { sl_reply_error(); exit; }
  xlog("L_NOTICE", "registered $au as $tU from $fn\n");
}
`, port, user, password)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := run(t, exec.Command(kamailio, "-DD", "-E", "-f", config, "-w", dir, "-Y", dir, "-m", "32", "-M", "4"))
	proc.Eventually(t, "kamailio listens", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("kamailio ended:\n%s", p.output())
		default:
		}
		c, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	return p
}

// phone runs linphonec with its settings in rc until the test ends or it is ended.
func phone(t *testing.T, linphonec, home string) *program {
	t.Helper()
	cmd := exec.Command(linphonec, "-c", filepath.Join(home, "linphonerc"))
	cmd.Env = append(os.Environ(), "HOME="+home)
	return run(t, cmd)
}

func TestLinphoneRegistersWithTheLineItWasGiven(t *testing.T) {
	kamailio, ok := found(t, "kamailio", "kamailio")
	linphonec, ok2 := found(t, "linphonec", "linphone-cli")
	if !ok || !ok2 {
		return
	}
	port := ports.Free(t)
	const first, second = `first "pass" & <word>`, "second-word"
	s := proc.Start(t, t.TempDir())
	create := func(path string, body map[string]any) string {
		t.Helper()
		id, _ := s.API(t, http.StatusCreated, http.MethodPost, path, body)["id"].(string)
		return id
	}
	tenant := create("/tenants", map[string]any{"name": "Acme", "domain": "acme.example"})
	create("/layers", map[string]any{"id": "acme.phones", "tenant_id": tenant, "settings": map[string]any{
		"sip_proxy_ip": "127.0.0.1", "sip_proxy_port": port, "sip_dtmf_mode": "SIP-INFO", "codecs": []string{"pcma", "pcmu"}}})
	category := create("/categories", map[string]any{"tenant_id": tenant, "name": "softphones", "kind": "provisioning", "layer_id": "acme.phones"})
	user := create("/users", map[string]any{"tenant_id": tenant, "display_name": "Zoë"})
	line := create("/lines", map[string]any{"tenant_id": tenant, "user_id": user, "number": "4711", "username": "acme4711", "password": first, "display_name": `Zoë "Z" <Müller>`})
	code, _ := s.API(t, http.StatusCreated, http.MethodPost, "/codes", map[string]any{"tenant_id": tenant, "category_id": category, "user_id": user, "purpose": "self_service"})["code"].(string)

	// The user types the address of his provisioning into a fresh Linphone, or scans it: code, and digits of his own.
	home := t.TempDir()
	rc := filepath.Join(home, "linphonerc")
	for _, dir := range []string{".local/share/linphone", ".config/linphone"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	settings := fmt.Sprintf("[misc]\nconfig-uri=http://%s/c/%s/linphone-020000aabb01.xml\n[sip]\nsip_port=-1\nsip_tcp_port=-1\nsip_tls_port=-1\n", s.Phones, code)
	if err := os.WriteFile(rc, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	at := registrar(t, kamailio, port, "acme4711", first)
	p := phone(t, linphonec, home)
	registered := func(where *program, p *program) func() bool {
		return func() bool {
			select {
			case <-p.exited:
				t.Fatalf("linphonec ended:\n%s", p.output())
			default:
			}
			return strings.Contains(where.output(), `registered acme4711 as acme4711 from "Zoë \"Z\" <Müller>"`)
		}
	}
	proc.Eventually(t, "Linphone is registered", registered(at, p))
	if strings.Contains(at.output(), "wrong password") {
		t.Errorf("a wrong password was tried:\n%s", at.output())
	}
	device := s.API(t, http.StatusOK, http.MethodGet, "/devices/020000aabb01", nil)
	if device["state"] != "configured" || device["plugin"] != "linphone" {
		t.Errorf("device %v", device)
	}
	_, _ = io.WriteString(p.stdin, "quit\n")
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		t.Error("linphonec does not quit")
	}
	p.end()

	// Its settings are at a path of its own from now on, with the codecs and digits it was given.
	saved, err := os.ReadFile(rc)
	if err != nil {
		t.Fatal(err)
	}
	secret := regexp.MustCompile(`(?m)^config-uri=http://` + regexp.QuoteMeta(s.Phones) + `/d/[\w-]{22}/linphone-020000aabb01\.xml$`)
	for what, holds := range map[string]bool{"a secret path": secret.Match(saved), "SIP INFO": strings.Contains(string(saved), "use_info=1"),
		"no code": !strings.Contains(string(saved), code)} {
		if !holds {
			t.Errorf("no %s in its settings", what)
		}
	}

	// The line's password changes; the next start fetches it by the secret path, and registers again.
	at.end()
	at = registrar(t, kamailio, port, "acme4711", second)
	s.API(t, http.StatusNoContent, http.MethodPost, "/lines/"+line+"/rotate", map[string]any{"password": second})
	p = phone(t, linphonec, home)
	proc.Eventually(t, "Linphone is registered with its new password", registered(at, p))
}
