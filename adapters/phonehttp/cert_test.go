package phonehttp

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) authority {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a certificate, and its files' content.
func (a authority) issue(t testing.TB, change func(*x509.Certificate)) (pair tls.Certificate, certPEM, keyPEM []byte) {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "phones.test"}, DNSNames: []string{"phones.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	if change != nil {
		change(tmpl)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	pair, err = tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair, certPEM, keyPEM
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// certFiles puts a fresh certificate into dir.
func (a authority) certFiles(t testing.TB, dir string) CertPair {
	t.Helper()
	_, cert, key := a.issue(t, nil)
	p := CertPair{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	write(t, p.Cert, cert)
	write(t, p.Key, key)
	return p
}

func serveTLS(certs CertSource) func(*Server, context.Context, net.Listener) error {
	return func(s *Server, ctx context.Context, l net.Listener) error { return s.ServeTLS(ctx, l, certs) }
}

// over asks for a file over TLS and answers the status and the server's certificate.
func over(t testing.TB, addr string, c *tls.Config) (int, *x509.Certificate, error) {
	t.Helper()
	raw := dial(t, addr)
	defer raw.Close()
	c = c.Clone()
	c.ServerName = "phones.test"
	conn := tls.Client(raw, c)
	if err := conn.Handshake(); err != nil {
		return 0, nil, err
	}
	if _, err := io.WriteString(conn, "GET /001565a1b2c3.cfg HTTP/1.1\r\nHost: phones.test\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, conn.ConnectionState().PeerCertificates[0], nil
}

func TestTLSServesFromVersion12On(t *testing.T) {
	ca, f := newAuthority(t, "ours"), someFiles()
	certs, err := OpenCerts(ca.certFiles(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	_, addr := startWith(t, Options{Files: f, TrustedNetworks: prefixes()}, serveTLS(certs))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		status, _, err := over(t, addr, &tls.Config{RootCAs: ca.pool(), MinVersion: version, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil || status != 200 {
			t.Errorf("version %x: %d, %v", version, status, err)
		}
	}
	if got := lastClient(t, f); got != "127.0.0.1 false https" {
		t.Error(got)
	}
	if _, _, err := over(t, addr, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestPROXYProtocolStandsBeforeTLS(t *testing.T) {
	ca, f := newAuthority(t, "ours"), someFiles()
	certs, err := OpenCerts(ca.certFiles(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	_, addr := startWith(t, Options{Files: f, TrustedProxies: prefixes("127.0.0.0/8")}, serveTLS(certs))
	c := dial(t, addr)
	if _, err := io.WriteString(c, "PROXY TCP4 10.1.2.3 127.0.0.1 4096 8192\r\n"); err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(c, &tls.Config{RootCAs: ca.pool(), ServerName: "phones.test"})
	if _, err := io.WriteString(conn, "GET /001565a1b2c3.cfg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
	if got := lastClient(t, f); got != "10.1.2.3 true https" {
		t.Error(got)
	}
}

func TestAClientCertificateProvesItsAddressOnlyUnderOurRoots(t *testing.T) {
	ours, factory, forged := newAuthority(t, "ours"), newAuthority(t, "Factory Root"), newAuthority(t, "Factory Root")
	certs, err := OpenCerts(ours.certFiles(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	named := func(cn string, dns ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = cn, dns }
	}
	expired := func(c *x509.Certificate) {
		c.Subject.CommonName, c.NotAfter = "00:15:65:a1:b2:c3", time.Now().Add(-time.Minute)
	}
	for _, c := range []struct {
		name   string
		by     *authority
		change func(*x509.Certificate)
		want   string
	}{
		{"none", nil, nil, ""},
		{"common name with colons", &factory, named("00:15:65:A1:B2:C3"), "001565a1b2c3"},
		{"plain common name", &factory, named("001565a1b2c3"), "001565a1b2c3"},
		{"DNS name", &factory, named("Yealink phone", "host", "001565a1b2c3"), "001565a1b2c3"},
		{"no address", &factory, named("some phone"), ""},
		{"expired", &factory, expired, ""},
		{"of a root with the same name", &forged, named("001565a1b2c3"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := someFiles()
			_, addr := startWith(t, Options{Files: f, ClientRoots: factory.pool()}, serveTLS(certs))
			config := &tls.Config{RootCAs: ours.pool()}
			if c.by != nil {
				pair, _, _ := c.by.issue(t, c.change)
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
			}
			if status, _, err := over(t, addr, config); err != nil || status != 200 {
				t.Fatal(status, err)
			}
			if got := string(f.questions()[0].ClientMAC); got != c.want {
				t.Errorf("proved %q, want %q", got, c.want)
			}
		})
	}
}

func TestCertificatesFollowTheirFilesAndABadFileChangesNothing(t *testing.T) {
	ca, dir := newAuthority(t, "ours"), t.TempDir()
	pair := ca.certFiles(t, dir)
	certs, err := OpenCerts(pair)
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 10)
	ctx, cancel := context.WithCancel(zerolog.New(lines(func(l string) { said <- l })).WithContext(context.Background()))
	done := make(chan error, 1)
	go func() { done <- certs.Watch(ctx) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	_, addr := startWith(t, Options{Files: someFiles()}, serveTLS(certs))
	serial := func() string {
		t.Helper()
		status, cert, err := over(t, addr, &tls.Config{RootCAs: ca.pool()})
		if err != nil || status != 200 {
			t.Fatal(status, err)
		}
		return cert.SerialNumber.String()
	}
	first := serial()

	write(t, pair.Key, []byte("no key"))
	if line := <-said; !strings.Contains(line, "keeping the old ones") {
		t.Error(line)
	}
	if serial() != first {
		t.Error("another certificate after a bad file")
	}

	next := filepath.Join(dir, "next") // replaced as ACME clients do
	if err := os.Mkdir(next, 0o700); err != nil {
		t.Fatal(err)
	}
	fresh := ca.certFiles(t, next)
	for from, to := range map[string]string{fresh.Cert: pair.Cert, fresh.Key: pair.Key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for line := ""; !strings.Contains(line, "reloaded"); {
		line = <-said
	}
	if serial() == first {
		t.Error("the old certificate after a reload")
	}
	if changed, err := certs.Reload(); changed || err != nil {
		t.Errorf("reloading the same: %v, %v", changed, err)
	}
	if err := os.Remove(pair.Cert); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.Reload(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reloading nothing: %v", err)
	}
}

func TestWhereNothingCanBeWatchedPollingFindsTheChange(t *testing.T) {
	ca, dir := newAuthority(t, "ours"), t.TempDir()
	// The watched folder holds links only; what changes is elsewhere, as on a network file system.
	kept := ca.certFiles(t, t.TempDir())
	pair := CertPair{filepath.Join(dir, "c"), filepath.Join(dir, "k")}
	if err := errors.Join(os.Symlink(kept.Cert, pair.Cert), os.Symlink(kept.Key, pair.Key)); err != nil {
		t.Fatal(err)
	}
	certs, err := OpenCerts(pair)
	if err != nil {
		t.Fatal(err)
	}
	certs.every = 10 * time.Millisecond
	before := certs.current.Load()
	said := make(chan string, 10)
	ctx, cancel := context.WithCancel(zerolog.New(lines(func(l string) { said <- l })).WithContext(context.Background()))
	done := make(chan error, 1)
	go func() { done <- certs.Watch(ctx) }()
	ca.certFiles(t, filepath.Dir(kept.Cert))
	for line := ""; !strings.Contains(line, "reloaded"); {
		line = <-said
	}
	cancel()
	<-done
	if certs.current.Load() == before {
		t.Error("not reloaded")
	}
}

func TestAPhoneGetsTheCertificateItCanUse(t *testing.T) {
	a, b := newAuthority(t, "a"), newAuthority(t, "b")
	certs, err := OpenCerts(a.certFiles(t, t.TempDir()), func() CertPair {
		_, cert, key := b.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"old.test"} })
		dir := t.TempDir()
		p := CertPair{filepath.Join(dir, "c"), filepath.Join(dir, "k")}
		write(t, p.Cert, cert)
		write(t, p.Key, key)
		return p
	}())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"phones.test": "[phones.test]", "old.test": "[old.test]", "other.test": "[phones.test]"} {
		server, client := net.Pipe()
		go func() {
			defer server.Close()
			_ = tls.Server(server, &tls.Config{GetCertificate: certs.GetCertificate}).Handshake() // the client judges
		}()
		c := tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.ConnectionState().PeerCertificates[0].DNSNames); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		client.Close()
	}
	if _, err := OpenCerts(); err == nil {
		t.Error("no certificates at all were accepted")
	}
}
