// Package postgres runs Debian's own PostgreSQL for tests: a server in a temporary directory, on loopback,
// ended with the test. It runs as an unprivileged user, for initdb refuses root.
package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"ledgerline/tests/ports"
)

// Server is one running server.
type Server struct {
	// URL is a connection string with the password in it.
	URL string
}

// Start starts a server that ends with the test. ok is false where PostgreSQL is not installed: then with
// CI=true the test fails, and else it says so in one line and has nothing to run against.
func Start(t testing.TB) (s *Server, ok bool) {
	t.Helper()
	bin := binaries()
	if bin == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("PostgreSQL is not installed; .ci/run installs it")
		}
		t.Log("PostgreSQL is not installed: not tried")
		return nil, false
	}
	s, stop, err := start(bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s, true
}

// binaries is the directory of initdb: on the path, or where Debian keeps the newest version.
func binaries() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1])
}

func start(bin string) (_ *Server, stop func(), err error) {
	dir, err := os.MkdirTemp("", "ledgerline-postgres-")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir) // the error is what counts
		}
	}()
	who, err := servant(dir)
	if err != nil {
		return nil, nil, err
	}
	password, passwordFile, data := rand.Text(), filepath.Join(dir, "password"), filepath.Join(dir, "data")
	if err := os.WriteFile(passwordFile, []byte(password+"\n"), 0o644); err != nil {
		return nil, nil, err
	}
	init := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "ledgerline", "--auth=scram-sha-256", "--pwfile="+passwordFile, "-E", "UTF8", "--locale=C", "--no-sync")
	init.SysProcAttr, init.Dir = &syscall.SysProcAttr{Credential: who}, dir
	if out, err := init.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := ports.Pick()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-k", "", "-c", "fsync=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB")
	var log strings.Builder
	cmd.Stderr, cmd.Dir = &log, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who, Pdeathsig: syscall.SIGINT}
	begun, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the server lives as long as the thread that started it
		err := cmd.Start()
		begun <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	if err := <-begun; err != nil {
		return nil, nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended already
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = os.RemoveAll(dir) // a temporary directory
	}
	s := &Server{URL: fmt.Sprintf("postgres://ledgerline:%s@127.0.0.1:%d/postgres?sslmode=disable", password, port)}
	if err := s.await(ended); err != nil {
		stop()
		return nil, nil, fmt.Errorf("%w\n%s", err, log.String())
	}
	return s, stop, nil
}

// servant is the user the server runs as, who gets dir; nil, meaning this process's own, unless that is root.
func servant(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

// await waits until the server answers.
func (s *Server) await(ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ended:
			return errors.New("PostgreSQL ended while starting")
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		}
	}
}

// Schema is a connection string whose tables are apart from those of other names.
func (s *Server) Schema(t testing.TB, name string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{name}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	return s.URL + "&search_path=" + name
}

// Pool is a pool of connections to a schema; whoever asked closes it.
func (s *Server) Pool(t testing.TB, schema string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.WithoutCancel(t.Context()), s.Schema(t, schema))
	if err != nil {
		t.Fatal(err)
	}
	return pool
}
