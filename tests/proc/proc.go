// Package proc runs the real binary for tests: builds it once, starts a server on free ports, talks to its
// API, kills it.
package proc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// root is the module's directory.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Build builds the program, once, and answers where it is.
var Build = sync.OnceValues(func() (string, error) {
	// One for each tree, replaced by the next build of it: tests do not know when the last one that uses it has ended.
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	tree := sha256.Sum256([]byte(root()))
	dir := filepath.Join(cache, "ledgerline-tests", hex.EncodeToString(tree[:8]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "ledgerline")
	fresh := fmt.Sprint(bin, ".", os.Getpid())
	cmd := exec.Command("go", "build", "-o", fresh, "./cmd/ledgerline")
	cmd.Dir = root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return bin, os.Rename(fresh, bin)
})

// Binary is the built program.
func Binary(t testing.TB) string {
	t.Helper()
	bin, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// Server is one running server.
type Server struct {
	Dir                      string
	Admin, Phones, TFTP, Ops string // addresses
	ESDB                     string // of the EventStoreDB face, if it was asked for
	FastAGI                  string // of the listener for dial plans, likewise
	Ready                    time.Duration
	cmd                      *exec.Cmd
	exited                   chan struct{}
	mu                       sync.Mutex
	log                      bytes.Buffer
}

// Start starts a server on dir with free ports and waits until it is ready. The test's end stops it.
func Start(t testing.TB, dir string, args ...string) *Server {
	t.Helper()
	s, err := Launch(Binary(t), dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Kill() })
	return s
}

// Launch starts a server on dir with free ports and waits, for a minute at most, until it is ready.
func Launch(bin, dir string, args ...string) (*Server, error) {
	return launch(bin, dir, append([]string{"serve", "--data", dir, "--admin", "127.0.0.1:0", "--phones", "127.0.0.1:0", "--tftp", "127.0.0.1:0",
		"--ops", "127.0.0.1:0", "--log-format", "json"}, args...))
}

// LaunchESDB starts "ledgerline esdb --write" on dir at addr ("127.0.0.1:0" for a free port) and waits
// until it answers: an event store in a process of its own.
func LaunchESDB(bin, dir, addr string, args ...string) (*Server, error) {
	return launch(bin, dir, append([]string{"esdb", "--data", dir, "--listen", addr, "--write", "--log-format", "json"}, args...))
}

func launch(bin, dir string, args []string) (*Server, error) {
	s := &Server{Dir: dir, exited: make(chan struct{})}
	s.cmd = exec.Command(bin, args...)
	s.cmd.Env = append(os.Environ(), "LEDGERLINE_CONFIG=")
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go func() {
		s.read(stderr, ready)
		_ = s.cmd.Wait() // how it ended is in its log
		close(s.exited)
	}()
	select {
	case <-ready:
		s.Ready = time.Since(begun)
		return s, nil
	case <-s.exited:
		return nil, fmt.Errorf("server ended:\n%s", s.Log())
	case <-time.After(60 * time.Second):
		s.Kill()
		return nil, fmt.Errorf("server not ready after a minute:\n%s", s.Log())
	}
}

// read keeps the log, and learns the addresses from its line "ready".
func (s *Server) read(r io.Reader, ready chan<- struct{}) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	told := false
	for lines.Scan() {
		s.mu.Lock()
		s.log.Write(lines.Bytes())
		s.log.WriteByte('\n')
		s.mu.Unlock()
		var line struct{ Message, Admin, Phones, Tftp, Ops, Esdb, Fastagi string }
		if !told && json.Unmarshal(lines.Bytes(), &line) == nil && line.Message == "ready" {
			s.Admin, s.Phones, s.TFTP, s.Ops, s.ESDB, s.FastAGI = line.Admin, line.Phones, line.Tftp, line.Ops, line.Esdb, line.Fastagi
			told = true
			close(ready)
		}
	}
}

// Log is what the server has logged.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Kill ends the server as a power cut would, and waits.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it may have ended already
	<-s.exited
}

// Stop ends the server in order, and answers its exit status.
func (s *Server) Stop(t testing.TB) int {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.exited:
	case <-time.After(45 * time.Second):
		s.Kill()
		t.Fatalf("server does not stop:\n%s", s.Log())
	}
	return s.cmd.ProcessState.ExitCode()
}

// PID is the server's process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Args are the flag and its value as the server was given them; none if it was not.
func (s *Server) Args(flag string) []string {
	i := slices.Index(s.cmd.Args, flag)
	if i < 0 || i+1 == len(s.cmd.Args) {
		return nil
	}
	return s.cmd.Args[i : i+2]
}

// MasterKey is a new file with a master key, in a directory of the test's own.
func MasterKey(t testing.TB) string {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	path := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(path, key, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Token is the administrator's key of the first start.
func (s *Server) Token() (string, error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, "admin.token"))
	return strings.TrimSpace(string(b)), err
}

// Call asks the API; body nil for none. It answers status and body.
func (s *Server) Call(ctx context.Context, client *http.Client, token, method, path string, body any, headers ...string) (int, []byte, error) {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Admin+"/api/v1"+path, payload)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// API is Call as the administrator; any status but want fails the test. It answers the decoded body.
func (s *Server) API(t testing.TB, want int, method, path string, body any, headers ...string) map[string]any {
	t.Helper()
	token, err := s.Token()
	if err != nil {
		t.Fatal(err)
	}
	status, b, err := s.Call(t.Context(), http.DefaultClient, token, method, path, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	if status != want {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, status, want, b)
	}
	var v map[string]any
	if len(b) > 0 {
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
	return v
}

// Eventually asks again until ok, for at most a minute; what is awaited goes into the failure.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// Get asks for url as a phone with this User-Agent does.
func Get(t testing.TB, url, agent string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("User-Agent", agent)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
