package esdb

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"ledgerline/tests/ports"
	"ledgerline/tests/proc"
)

// TestServeShowsItsLedger: an auditor's tool reads what the engine has recorded, and cannot write.
func TestServeShowsItsLedger(t *testing.T) {
	s := proc.Start(t, t.TempDir(), "--esdb-listen", "127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := client(t, "esdb://"+s.ESDB+"?tls=false")
	if got, err := drain(c.ReadStream(ctx, "apikey-bootstrap", esdb.ReadStreamOptions{}, 9)); err != nil || !strings.Contains(got, `"role":"admin"`) {
		t.Errorf("the administrator's key: %q, %v", got, err)
	}
	if got, err := drain(c.ReadAll(ctx, esdb.ReadAllOptions{}, math.MaxUint64)); err != nil || len(strings.Fields(got)) < 3 {
		t.Errorf("the whole log: %q, %v", got, err)
	}
	if _, err := c.AppendToStream(ctx, "probe-1", esdb.AppendToStreamOptions{}, one("a.b", "1")); code(err) != esdb.ErrorCodeAccessDenied {
		t.Errorf("append: %v", err)
	}
	if status := s.Stop(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// TestFirstUser: with TLS the first start makes a user and tells its password in a file, once; nobody else
// gets in, and what it writes is there after a kill -9.
func TestFirstUser(t *testing.T) {
	bin, dir := proc.Binary(t), t.TempDir()
	certificate, key, ca := certifyFiles(t)
	args := []string{"--tls-cert", certificate, "--tls-key", key}
	s, err := proc.LaunchESDB(bin, dir, ports.Address(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Kill() })
	told, err := os.ReadFile(filepath.Join(dir, "esdb.password"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "esdb.password"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the password's file: %v, %v", info, err)
	}
	login := strings.TrimSpace(string(told))
	if _, password, ok := strings.Cut(login, ":"); !ok || len(password) < 26 || strings.Contains(s.Log(), password) {
		t.Errorf("the password is weak, or in the log")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	options := "?tlsCAFile=" + ca
	if _, err := client(t, "esdb://"+login+"@"+s.ESDB+options).AppendToStream(ctx, "device-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, one("a.b", "1")); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"", "auditor:x@", "admin:changeit@"} {
		if got, err := drain(client(t, "esdb://"+other+s.ESDB+options).ReadStream(ctx, "device-1", esdb.ReadStreamOptions{}, 9)); code(err) != esdb.ErrorCodeUnauthenticated || got != "" {
			t.Errorf("%q reads %q, %v", other, got, err)
		}
	}
	s.Kill()
	if s, err = proc.LaunchESDB(bin, dir, s.ESDB, args...); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(filepath.Join(dir, "esdb.password")); err != nil || string(again) != string(told) {
		t.Errorf("another password after a restart: %v", err)
	}
	if got, err := drain(client(t, "esdb://"+login+"@"+s.ESDB+options).ReadStream(ctx, "device-1", esdb.ReadStreamOptions{}, 9)); err != nil || got != "1" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
}
