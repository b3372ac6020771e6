package sipnotify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/sippeer"
)

const sync = "check-sync;reboot=false"

// self is a certificate for loopback, and a configuration that trusts it.
func self(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "peer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: roots, MinVersion: tls.VersionTLS12}
}

func notifier(t *testing.T, o Options) *Notifier {
	t.Helper()
	if o.Try == 0 {
		o.Try = 3 * time.Second
	}
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func account(r *sippeer.Registrar, user string) commands.SIPAccount {
	return commands.SIPAccount{Username: user, Password: r.Passwords[user], Transport: r.Transport, Registrar: r.Domain, Proxy: r.Host(), ProxyPort: r.Port()}
}

func tell(t *testing.T, n *Notifier, m commands.Notification) []domain.DeviceSyncOutcome {
	t.Helper()
	if m.Event == "" {
		m.Event = sync
	}
	tried, err := n.Notify(t.Context(), m)
	if err != nil || len(tried) == 0 {
		t.Fatalf("%v %v", tried, err)
	}
	return tried
}

func heard(t *testing.T, p *sippeer.Phone, want string) {
	t.Helper()
	select {
	case got := <-p.Told:
		if got != want {
			t.Errorf("%s was told %q, want %q", p.MAC, got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s was told nothing", p.MAC)
	}
}

func deaf(t *testing.T, p *sippeer.Phone) {
	t.Helper()
	select {
	case got := <-p.Told:
		t.Errorf("%s was told %q", p.MAC, got)
	default:
	}
}

// Two phones share an account and an address. Each message reaches its own phone, over every transport, through a
// proxy that asks who is there and a phone that asks again.
func TestEachPhoneGetsItsOwn(t *testing.T) {
	conf := self(t)
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			r := sippeer.NewRegistrar(t, &sippeer.Registrar{Domain: "pbx.test", Passwords: map[string]string{"1201": "s3cret"}}, transport, conf)
			var phones []*sippeer.Phone
			for _, mac := range []string{"0015651a2b3c", "0015651a2b3d"} {
				p := sippeer.NewPhone(t, &sippeer.Phone{User: "1201", Password: "s3cret", MAC: mac, Takes: []string{sync}, Challenge: true}, transport, conf)
				if err := p.Register(t.Context(), "pbx.test", r.Addr); err != nil {
					t.Fatal(err)
				}
				phones = append(phones, p)
			}
			n := notifier(t, Options{TLS: conf})
			for i, p := range phones {
				tried := tell(t, n, commands.Notification{MAC: domain.MAC(p.MAC), Accounts: []commands.SIPAccount{account(r, "1201")}, Seen: []string{"127.0.0.1"}})
				o := tried[0]
				if _, to, _ := o.To.Pending(); len(tried) != 1 || o.Status != 200 || o.Transport != transport || o.Route != "proxy" || o.Event != sync || to == "" {
					t.Errorf("outcomes %+v", tried)
				}
				heard(t, p, sync)
				deaf(t, phones[1-i])
			}
		})
	}
}

// Which contacts are a phone's: by MAC, by address, or nobody can tell.
func TestWhoseContact(t *testing.T) {
	r := sippeer.NewRegistrar(t, &sippeer.Registrar{Domain: "pbx.test", Passwords: map[string]string{"1201": "s3cret"}}, "udp", nil)
	n := notifier(t, Options{})
	var phones []*sippeer.Phone
	for range 2 {
		p := sippeer.NewPhone(t, &sippeer.Phone{User: "1201", Password: "s3cret", Takes: []string{sync}}, "udp", nil)
		if err := p.Register(t.Context(), "pbx.test", r.Addr); err != nil {
			t.Fatal(err)
		}
		phones = append(phones, p)
	}
	m := commands.Notification{MAC: "0015651a2b3c", Accounts: []commands.SIPAccount{account(r, "1201")}, Seen: []string{"127.0.0.1"}}
	if o := tell(t, n, m)[0]; o.Status != 200 {
		t.Errorf("outcome %+v", o)
	}
	for _, p := range phones {
		heard(t, p, sync) // both are behind one address and show no MAC: better both than none
	}
	if got := r.Passed(); !slices.Equal(got, []string{"sip:1201@pbx.test"}) {
		t.Errorf("the message went to %q", got)
	}
	r.Mute() // nor does the registrar tell who is registered
	tell(t, n, m)
	for _, p := range phones {
		heard(t, p, sync)
	}
}

// What nobody takes goes on to the next way, and every attempt is told of.
func TestWaysAndOutcomes(t *testing.T) {
	r := sippeer.NewRegistrar(t, &sippeer.Registrar{Domain: "pbx.test", Passwords: map[string]string{"1201": "s3cret", "1202": "other"}}, "udp", nil)
	phone := sippeer.NewPhone(t, &sippeer.Phone{User: "1201", Password: "s3cret", Takes: []string{sync}}, "udp", nil)
	direct := account(r, "1201")
	direct.LocalPort = phone.Port()
	wrong := account(r, "1201")
	wrong.Password = "wrong"
	gone := account(r, "1201")
	gone.Transport, gone.ProxyPort = "tcp", 1
	dark := account(r, "1201")
	dark.Proxy, dark.Registrar = "", "no-such-host.invalid"
	strange := account(r, "1202")
	strange.LocalPort = phone.Port()
	for what, c := range map[string]struct {
		message commands.Notification
		want    []string
	}{
		"not registered, told directly":     {commands.Notification{Accounts: []commands.SIPAccount{direct}, Seen: []string{"", "127.0.0.1"}}, []string{"proxy answered 480", "contact answered 200"}},
		"wrong password":                    {commands.Notification{Accounts: []commands.SIPAccount{wrong}}, []string{"proxy answered 407"}},
		"nobody listens":                    {commands.Notification{Accounts: []commands.SIPAccount{gone}}, []string{"proxy unreachable connection refused"}},
		"no such host":                      {commands.Notification{Accounts: []commands.SIPAccount{dark}}, []string{"proxy unreachable the name does not resolve"}},
		"the phone has another user":        {commands.Notification{Accounts: []commands.SIPAccount{strange}, Seen: []string{"127.0.0.1"}}, []string{"proxy answered 480", "contact answered 404"}},
		"an event the phone does not know":  {commands.Notification{Event: "resync", Accounts: []commands.SIPAccount{direct}, Seen: []string{"127.0.0.1"}}, []string{"proxy answered 480", "contact answered 489"}},
		"no account and never seen":         {commands.Notification{}, []string{" not_sent it has no SIP account with a registrar, and has not been seen lately"}},
		"a user name no URI could hold raw": {commands.Notification{Accounts: []commands.SIPAccount{{Username: "a b@c:d\"", Registrar: r.Host(), RegistrarPort: r.Port()}}}, []string{"proxy answered 407"}},
	} {
		t.Run(what, func(t *testing.T) {
			var got []string
			for _, o := range tell(t, notifier(t, Options{}), c.message) {
				line := o.Route + " " + o.Outcome
				switch {
				case o.Status != 0:
					line += " " + map[int]string{200: "200", 404: "404", 407: "407", 480: "480", 489: "489"}[o.Status]
				case o.Detail != "":
					line += " " + o.Detail
				}
				got = append(got, line)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A phone that does not answer costs its time and no more; a program that ends says nothing of the phone.
func TestSilence(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a := commands.SIPAccount{Username: "1201", Registrar: "127.0.0.1", RegistrarPort: silent.LocalAddr().(*net.UDPAddr).Port}
	n := notifier(t, Options{Try: 700 * time.Millisecond})
	second := a
	second.Username = "1202"
	if o := tell(t, n, commands.Notification{Accounts: []commands.SIPAccount{a, second}}); len(o) != 1 || o[0].Outcome != domain.OutcomeTimeout {
		t.Errorf("outcomes %+v", o) // the second account's registrar is the one that is silent
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if tried, err := n.Notify(ctx, commands.Notification{Event: sync, Accounts: []commands.SIPAccount{a}}); err == nil {
		t.Errorf("outcomes %+v of a context that is over", tried)
	}
}

// A server whose certificate does not verify is told nothing.
func TestAnUntrustedServer(t *testing.T) {
	r := sippeer.NewRegistrar(t, &sippeer.Registrar{Domain: "pbx.test", Passwords: map[string]string{"1201": "s3cret"}}, "tls", self(t))
	o := tell(t, notifier(t, Options{TLS: self(t)}), commands.Notification{Accounts: []commands.SIPAccount{account(r, "1201")}})[0]
	if o.Outcome != domain.OutcomeUnreachable || o.Detail != "its certificate does not verify" || len(r.Passed()) != 0 {
		t.Errorf("outcome %+v", o)
	}
}
