package mbg_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// pin is the SHA-256 of the simulated gateway's public key.
func (o *office) pin() string {
	sum := sha256.Sum256(o.srv.Certificate().RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

const phone = domain.MAC("0015651a2b3c")

// asks is the phone asking for its file, from an address.
func (o *office) asks(ip string) string {
	o.t.Helper()
	v, err := o.Service.ServeFile(o.ctx, commands.ServeFile{Asked: commands.Asked{Path: string(phone) + ".cfg", UserAgent: "Testphone T1 1.0"}, Via: "mac", Transport: "http", IP: ip, Trusted: true})
	o.ok(err)
	content, _ := v.Content()
	text, err := io.ReadAll(content)
	o.ok(err)
	return string(text)
}

// A phone whose request comes through the gateway gets the gateway's address and the set-side credentials, and only once
// the gateway holds them; at home it gets the phone system's. An operator's word beats the address.
func TestPhonesBehindTheGateway(t *testing.T) {
	o := ready(t)
	_, _, err := o.Service.DefineUser(o.ctx, commands.DefineUser{ID: "ana", TenantID: "acme", DisplayName: "Ana"})
	o.ok(err)
	_, _, err = o.Service.DefineLine(o.ctx, commands.DefineLine{ID: "l1", TenantID: "acme", UserID: "ana", Number: "4001", Username: "sip4001", Password: "inner-password",
		Settings: domain.LineSettings{"registrar_ip": "10.1.2.3", "outbound_proxy_ip": "10.1.2.9"}})
	o.ok(err)
	id, _, err := o.Service.DiscoverDevice(o.ctx, commands.DiscoverDevice{MAC: phone, Vendor: "Testphone", Model: "T1", Firmware: "1.0", Added: "auto"})
	o.ok(err)
	_, err = o.Service.AssignDevice(o.ctx, commands.AssignDevice{ID: id, TenantID: "acme", UserID: "ana"})
	o.ok(err)
	// The addresses of gateways are learnt by the running engine.
	running := o.run()
	o.settle()
	holds := func(what, file string, want bool, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if strings.Contains(file, text) != want {
				t.Errorf("%s: holds %q: %v\n%s", what, text, !want, file)
			}
		}
	}
	inner := []string{"inner-password", "10.1.2.3", "sip4001"}
	holds("at home", o.asks("192.0.2.7"), true, inner...)
	o.do("stop", map[string]string{"how": "404"})
	o.remote("l1")
	l := o.lineOf("l1")
	outer := []string{o.clearText(l.Remote.Password.Sealed), "mbg.acme.example", "5062", l.Remote.Username}
	o.push(time.Second)
	file := o.asks("192.0.2.10")
	holds("behind, before the gateway holds it", file, false, append(outer[:1:1], inner...)...)
	o.do("start", nil)
	o.push(2 * time.Hour)
	o.holds("l1", "4001")
	holds("behind", o.asks("192.0.2.10"), true, outer...)
	holds("behind", o.asks("192.0.2.10"), false, append(inner, "10.1.2.9")...)
	// New credentials while the gateway is away: the phone keeps those that work.
	o.do("stop", map[string]string{"how": "404"})
	_, err = o.Service.SetLineRemote(o.ctx, commands.SetLineRemote{ID: "l1", GatewayID: edge, Renew: true})
	o.ok(err)
	o.push(time.Second)
	holds("behind, gateway away", o.asks("192.0.2.10"), true, outer...)
	o.do("start", nil)
	o.push(2 * time.Hour)
	holds("behind, gateway back", o.asks("192.0.2.10"), true, o.lineOf("l1").Remote.Username)
	holds("behind, gateway back", o.asks("192.0.2.10"), false, outer[0])
	holds("at home again", o.asks("192.0.2.7"), true, inner...)
	_, err = o.Service.PlaceDevice(o.ctx, commands.PlaceDevice{ID: id, GatewayID: edge})
	o.ok(err)
	holds("by flag", o.asks("192.0.2.7"), true, "mbg.acme.example")
	running()
}

// run is the engine's own loop, which learns of gateways; it asks none, for it does not lead.
func (o *office) run() (stop func()) {
	o.t.Helper()
	ctx, cancel := context.WithCancel(o.ctx)
	done := make(chan error, 1)
	go func() {
		done <- o.Service.RunGateways(ctx, func() bool { return false }, nil)
	}()
	for !o.Service.KnowsGateways() {
		select {
		case err := <-done:
			o.t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	return func() { cancel(); <-done }
}

// The administrator's page and its actions, as a browser uses them.
func TestPage(t *testing.T) {
	o := ready(t)
	o.remote(o.extension("l1", "4001"))
	o.settle()
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := o.srv.Client().Get(o.srv.URL + path)
		o.ok(err)
		defer resp.Body.Close()
		b := new(strings.Builder)
		_, err = io.Copy(b, resp.Body)
		o.ok(err)
		return resp.StatusCode, b.String()
	}
	status, page := get("/_sim/")
	if status != http.StatusOK || !strings.Contains(page, "Renew") || !strings.Contains(page, "4001") || strings.Contains(page, o.holds("l1", "4001").SetPassword) {
		t.Errorf("%d %s", status, page)
	}
	for _, path := range []string{"/_sim/state", "/_sim/log", "/_sim/fidelity", "/"} {
		if status, _ := get(path); status != http.StatusOK {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _ := get("/_sim/nosuch"); status != http.StatusNotFound {
		t.Errorf("%d", status)
	}
	resp, err := o.srv.Client().Post(o.srv.URL+"/_sim/nosuch", "application/x-www-form-urlencoded", strings.NewReader("a=b"))
	o.ok(err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%d", resp.StatusCode)
	}
	evil, err := http.NewRequest(http.MethodPost, o.srv.URL+"/_sim/revoke", strings.NewReader(""))
	o.ok(err)
	evil.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err = o.srv.Client().Do(evil)
	o.ok(err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden || o.sim.State().Tokens[0].Revoked {
		t.Errorf("another site's page acts: %d", resp.StatusCode)
	}
}
