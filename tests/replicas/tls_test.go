package replicas

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ledgerline/tests/proc"
)

// certificate is a self-signed one for 127.0.0.1, in files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "event store"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// TestStoreOverTLS: a replica finds the event store by gossip, over TLS, with a user from a file or the
// environment; a wrong password and none are told at once, and no password is told at all.
func TestStoreOverTLS(t *testing.T) {
	cert, key := certificate(t)
	dir := t.TempDir()
	events, err := proc.LaunchESDB(proc.Binary(t), dir, "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Kill)
	login := filepath.Join(dir, "esdb.password")
	store := "esdb+discover://" + events.ESDB + "?tlsCAFile=" + cert
	args := []string{"--store", store, "--master-key-file", proc.MasterKey(t)}

	s := proc.Start(t, t.TempDir(), append(args, "--store-credentials-file", login)...)
	s.API(t, http.StatusCreated, http.MethodPost, "/tenants", map[string]any{"id": "acme", "name": "Acme"})
	text, err := os.ReadFile(login)
	if err != nil {
		t.Fatal(err)
	}
	user, password, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
	if strings.Contains(s.Log(), password) {
		t.Error("the password stands in the log")
	}
	if code := s.Stop(t); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	t.Setenv("LEDGERLINE_STORE_CREDENTIALS", user+":"+password)
	s = proc.Start(t, s.Dir, args...)
	if name := s.API(t, http.StatusOK, http.MethodGet, "/tenants/acme", nil)["name"]; name != "Acme" {
		t.Errorf("the tenant is named %v", name)
	}
	s.Kill()
	for wrong, want := range map[string]string{user + ":canary-wrong": "denies access", "canary-nonsense": "must be user:password"} {
		t.Setenv("LEDGERLINE_STORE_CREDENTIALS", wrong)
		if r, err := proc.Launch(proc.Binary(t), t.TempDir(), args...); err == nil {
			r.Kill()
			t.Errorf("started with the credentials %q", wrong)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v, want: %s", err, want)
		}
	}
	t.Setenv("LEDGERLINE_STORE_CREDENTIALS", user+":"+password)
	if _, err := proc.Launch(proc.Binary(t), t.TempDir(), "--store", "esdb://"+events.ESDB+"?tls=false", "--master-key-file", proc.MasterKey(t)); err == nil || !strings.Contains(err.Error(), "need TLS") {
		t.Errorf("credentials without TLS: %v", err)
	}
}
