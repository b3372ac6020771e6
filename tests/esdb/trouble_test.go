package esdb

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/http2"

	"ledgerline/adapters/esdbserver"
	"ledgerline/adapters/eventstoredb"
	"ledgerline/commands"
	"ledgerline/domain"
)

func newEvent() []domain.NewEvent {
	return []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: "device.assigned", Data: []byte(`{}`)}}
}

// TestServerAbsentAtStart is K1: who waits for the server gets in once it is there.
func TestServerAbsentAtStart(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, options: esdbserver.Options{Write: true}, dir: t.TempDir(), address: listener.Addr().String()}
	opened := make(chan error, 1)
	go func() {
		_, err := n.open(t)
		opened <- err
	}()
	conn, err := listener.Accept() // it knocks, and nobody is there
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Close(), listener.Close()
	n.start()
	t.Cleanup(func() { n.stop() })
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
}

// TestRestartsInMidFlight is K2: the server and its log go away four times under eight writers; each
// repeats with the same ids what it has no answer for. Nothing acknowledged is lost, nothing is doubled.
func TestRestartsInMidFlight(t *testing.T) {
	const each, restarts = 60, 4
	n := up(t, esdbserver.Options{})
	s := n.store(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	underWriters(ctx, t, s, each, restarts, func() {
		n.stop()
		n.start()
	}, func() commands.Log { return n.ledger })
}

// frozen is a log that answers nothing while it is shut.
type frozen struct {
	commands.Log
	shut chan struct{} // closed: open again
	on   atomic.Bool
}

func (f *frozen) wait() {
	if f.on.Load() {
		<-f.shut
	}
}

func (f *frozen) Append(ctx context.Context, s domain.StreamID, r domain.Revision, e []domain.NewEvent) (domain.Position, error) {
	f.wait()
	return f.Log.Append(ctx, s, r, e)
}

func (f *frozen) Read(ctx context.Context, s domain.StreamID, r domain.Revision) iter.Seq2[domain.Recorded, error] {
	f.wait()
	return f.Log.Read(ctx, s, r)
}

func (f *frozen) ReadAll(ctx context.Context, p domain.Position) iter.Seq2[domain.Recorded, error] {
	f.wait()
	return f.Log.ReadAll(ctx, p)
}

func (f *frozen) Head(ctx context.Context) (domain.Position, error) {
	f.wait()
	return f.Log.Head(ctx)
}

// TestNoCallOutlivesItsContext is K4 with a server that has taken the call and does not answer, and with
// one that has gone in the meantime: 160 callers, none stays more than 100 ms longer than its context. And
// K3: when it is back, so are they.
func TestNoCallOutlivesItsContext(t *testing.T) {
	for _, kind := range []string{"a server that does not answer", "a server that has gone"} {
		t.Run(kind, func(t *testing.T) {
			n := up(t, esdbserver.Options{})
			s := n.store(t)
			n.stop()
			if kind == "a server that does not answer" {
				f := &frozen{shut: make(chan struct{})}
				n.startOver(func(l commands.Log) commands.Log { f.Log = l; return f })
				if _, err := s.Head(t.Context()); err != nil && !errors.Is(err, eventstoredb.ErrUnavailable) {
					t.Fatal(err)
				}
				f.on.Store(true)
				defer close(f.shut)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			over := make(chan time.Time, 1)
			go func() {
				<-ctx.Done()
				over <- time.Now() // when a bystander sees it, on this machine under this load
			}()
			type end struct {
				what string
				err  error
				at   time.Time
			}
			ends := make(chan end, 160)
			for i := range 40 {
				for what, do := range map[string]func() error{
					"append": func() error {
						_, err := s.Append(ctx, domain.Stream("device", fmt.Sprint(i)), domain.NoStream, newEvent())
						return err
					},
					"head": func() error { _, err := s.Head(ctx); return err },
					"read": func() error {
						for _, err := range s.Read(ctx, "device-1", 0) {
							return err
						}
						return nil
					},
					"subscribe": func() error {
						for _, err := range s.Subscribe(ctx, domain.Position{}) {
							return err
						}
						return nil
					},
				} {
					go func() {
						err := do()
						ends <- end{what, err, time.Now()}
					}()
				}
			}
			deadline := <-over
			for range cap(ends) {
				select {
				case e := <-ends:
					if late := e.at.Sub(deadline); late > 100*time.Millisecond {
						t.Errorf("%s stayed %s too long", e.what, late)
					}
					if !errors.Is(e.err, context.DeadlineExceeded) && !errors.Is(e.err, eventstoredb.ErrUnavailable) {
						t.Errorf("%s ended with %v", e.what, e.err)
					}
				case <-time.After(patience):
					t.Fatal("a call hangs")
				}
			}
			if kind != "a server that has gone" {
				return
			}
			n.start()
			ctx, cancel = context.WithTimeout(t.Context(), patience)
			defer cancel()
			events := newEvent()
			for {
				_, err := s.Append(ctx, "device-after", domain.NoStream, events)
				if err == nil {
					break
				}
				if !errors.Is(err, domain.ErrOutcomeUnknown) || ctx.Err() != nil {
					t.Fatalf("the server is back: %v", err)
				}
			}
		})
	}
}

// TestUsers is K5: over TLS the right password opens, a wrong one or none does not, and discovery needs
// none. Credentials without TLS are refused on the server's side too.
func TestUsers(t *testing.T) {
	const password = "gh-7Rk2-secret"
	if _, err := esdbserver.New(t.Context(), esdbserver.Options{Users: []esdbserver.User{{Name: "audit", Hash: hash(t, password)}}}); !errors.Is(err, esdbserver.ErrInsecure) {
		t.Errorf("users without TLS: %v", err)
	}
	certificate, file := certify(t)
	n := up(t, esdbserver.Options{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		Users: []esdbserver.User{{Name: "audit", Hash: hash(t, password)}, {Name: "engine", Hash: hash(t, "other")}}})
	for _, c := range []struct {
		user, password string
		want           error
	}{
		{"audit", password, nil},
		{"engine", "other", nil},
		{"audit", "other", eventstoredb.ErrDenied},
		{"nobody", password, eventstoredb.ErrDenied},
		{"audit", "", eventstoredb.ErrDenied},
		{"", "", eventstoredb.ErrDenied},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		s, err := eventstoredb.Open(ctx, "esdb://"+n.address+"?tlsCAFile="+file, eventstoredb.Credentials{User: c.user, Password: c.password})
		if !errors.Is(err, c.want) || err != nil && (ctx.Err() != nil || strings.Contains(err.Error(), password)) {
			t.Errorf("%s: %v, want %v", c.user, err, c.want)
		}
		if err == nil {
			if _, err := s.Append(ctx, domain.Stream("device", c.user), domain.NoStream, newEvent()); err != nil {
				t.Errorf("%s appends: %v", c.user, err)
			}
			_ = s.Close()
		}
		cancel()
	}
}

func hash(t *testing.T, password string) string {
	t.Helper()
	h, err := esdbserver.HashPassword(password)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// certify makes a certificate for the loopback address and a file that trusts it.
func certify(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	file, key, ca := certifyFiles(t)
	certificate, err := tls.LoadX509KeyPair(file, key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, ca
}

// certifyFiles is certify in files: certificate, key, and whom to trust.
func certifyFiles(t *testing.T) (certificate, key, ca string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "node.crt"), filepath.Join(dir, "node.key")
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key, certificate
}

// TestIdlePings: a client that pings an idle connection at the rate the policy allows is not cut off. The
// stock policy of gRPC does so at the fourth.
func TestIdlePings(t *testing.T) {
	t.Parallel()
	n := up(t, esdbserver.Options{})
	conn, err := net.Dial("tcp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	const pings = 5
	acks := make(chan error, pings)
	go func() {
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				acks <- err
				return
			}
			switch f := f.(type) {
			case *http2.GoAwayFrame:
				acks <- fmt.Errorf("cut off: %s %s", f.ErrCode, f.DebugData())
				return
			case *http2.PingFrame:
				if f.IsAck() {
					acks <- nil
				}
			}
		}
	}()
	tick := time.NewTicker(5100 * time.Millisecond)
	defer tick.Stop()
	for i := range pings {
		if err := framer.WritePing(false, [8]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-acks:
			if err != nil {
				t.Fatalf("after %d pings: %v", i, err)
			}
		case <-time.After(patience):
			t.Fatal("no answer")
		}
		if i < pings-1 {
			<-tick.C
		}
	}
}

// TestReadsOverARestart: who asks first after a restart gets an answer, not the news of the restart; and
// a long read that the restart cuts goes on behind what it has shown.
func TestReadsOverARestart(t *testing.T) {
	n := up(t, esdbserver.Options{})
	s := n.store(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const total = 6000 // more than is under way at once
	for i := 0; i < total; i += 200 {
		var events []domain.NewEvent
		for range 200 {
			events = append(events, newEvent()...)
		}
		if _, err := s.Append(ctx, "device-1", domain.Revision(i-1), events); err != nil {
			t.Fatal(err)
		}
	}
	again := func() { n.stop(); n.start() }
	again()
	if _, err := s.Head(ctx); err != nil {
		t.Errorf("head: %v", err)
	}
	again()
	if err := s.SaveReactor(ctx, "notify", commands.ReactorState{Position: domain.At(7)}); err != nil {
		t.Errorf("save: %v", err)
	}
	again()
	if state, found, err := s.LoadReactor(ctx, "notify"); err != nil || !found || state.Position != domain.At(7) {
		t.Errorf("load: %v, %v, %v", state, found, err)
	}
	for what, read := range map[string]func() iter.Seq2[domain.Recorded, error]{
		"the stream":    func() iter.Seq2[domain.Recorded, error] { return s.Read(ctx, "device-1", 0) },
		"the whole log": func() iter.Seq2[domain.Recorded, error] { return s.ReadAll(ctx, domain.Position{}) },
	} {
		again()
		next := domain.Revision(0)
		for r, err := range read() {
			if err != nil {
				t.Errorf("%s, after %d events: %v", what, next, err)
				break
			}
			if r.Revision != next {
				t.Fatalf("%s: revision %d comes after %d", what, r.Revision, next-1)
			}
			if next++; next == 100 {
				again()
			}
		}
		if next != total {
			t.Errorf("%s shows %d events, want %d", what, next, total)
		}
	}
}
