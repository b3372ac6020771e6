package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"ledgerline/tests/phonesim"
	"ledgerline/tests/proc"
	"ledgerline/tests/sippeer"
)

// A new phone boots, gets an account to dial with, dials its line's number through Asterisk's AGI, is told, fetches,
// and has its line; the word for reset makes it new again.
func TestACodeIsDialled(t *testing.T) {
	for _, vendor := range []string{"yealink", "snom", "grandstream"} {
		t.Run(vendor, func(t *testing.T) {
			s := newSiteOn(t, "ledger", "--fastagi", "127.0.0.1:0")
			registrar := sippeer.NewRegistrar(t, &sippeer.Registrar{Domain: "pbx.acme.example", Passwords: map[string]string{"acme4711": s.password}}, "udp", nil)
			s.create(t, "/layers", map[string]any{"id": "base", "tenant_id": "master", "settings": map[string]any{"autoprov_username": "ap{mac}", "autoprov_password": "canary-autoprov",
				"sip_proxy_ip": "pbx.acme.example", "sip_registrar_ip": "pbx.acme.example", "sip_outbound_proxy_ip": registrar.Host(), "sip_outbound_proxy_port": registrar.Port()}})
			p := s.phone(t, vendor, "http", 7)
			user := "ap" + string(p.MAC())
			registrar.AddAccount(user, "canary-autoprov")
			boot := func() phonesim.Account {
				t.Helper()
				r, err := p.Boot(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return account(t, r)
			}
			if a := boot(); a.UserName != user || !a.Password.Equal(phonesim.NewPassword("canary-autoprov")) {
				t.Fatalf("its first account is %+v", a)
			}
			number := s.API(t, http.StatusOK, http.MethodPost, "/lines/"+s.line+"/provisioning-extension", map[string]any{})["extension"].(string)
			told := func(user, password string) *sippeer.Phone {
				h := sippeer.NewPhone(t, &sippeer.Phone{User: user, Password: password, MAC: string(p.MAC()), Takes: []string{"check-sync", "check-sync;reboot=false"}}, "udp", nil)
				if err := h.Register(t.Context(), "pbx.acme.example", registrar.Addr); err != nil {
					t.Fatal(err)
				}
				return h
			}
			hear := func(h *sippeer.Phone) {
				t.Helper()
				select {
				case <-h.Told:
				case <-time.After(time.Minute):
					t.Fatalf("it was told nothing: %v", s.API(t, http.StatusOK, http.MethodGet, "/devices/"+string(p.MAC()), nil)["sync"])
				}
			}
			asNew := told(user, "canary-autoprov")
			if vars := agi(t, s.FastAGI, s.tenant, "PJSIP/"+user+"-00000001", "000000"); vars["LEDGERLINE_RESULT"] != "wrong_code" {
				t.Errorf("a wrong code: %v", vars)
			}
			if vars := agi(t, s.FastAGI, s.tenant, "PJSIP/"+user+"-00000002", number); vars["LEDGERLINE_RESULT"] != "ok" || vars["LEDGERLINE_SAY"] != "This phone is now number 4711." {
				t.Fatalf("the number: %v", vars)
			}
			hear(asNew)
			if a := boot(); a.UserName != "acme4711" || p.State() != phonesim.Configured {
				t.Fatalf("its account is %+v", a)
			}
			proc.Eventually(t, "the sync is applied", func() bool {
				sync, _ := s.API(t, http.StatusOK, http.MethodGet, "/devices/"+string(p.MAC()), nil)["sync"].(map[string]any)
				return sync["state"] == "applied" && sync["trigger"] == "dialled"
			})
			asOwn := told("acme4711", s.password)
			if vars := agi(t, s.FastAGI, s.tenant, "PJSIP/acme4711-00000003", "autoprov"); vars["LEDGERLINE_RESULT"] != "reset" {
				t.Fatalf("the word for reset: %v", vars)
			}
			hear(asOwn)
			if a := boot(); a.UserName != user {
				t.Errorf("after the reset its account is %+v", a)
			}
			s.expectState(t, "/devices/"+string(p.MAC()), "autoprov")
			s.verify(t)
			s.noSecrets(t, s.password, "canary-autoprov", "canary-admin-password")
		})
	}
}

// agi is Asterisk running AGI(agi://ADDR/dialled-code?tenant=T,CODE) on a channel; it answers the variables set.
func agi(t *testing.T, addr, tenant, channel, code string) map[string]string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(context.WithoutCancel(t.Context()), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "agi_network: yes\nagi_request: agi://%s/dialled-code?tenant=%s\nagi_channel: %s\nagi_arg_1: %s\n\n", addr, tenant, channel, code)
	vars := map[string]string{}
	for r := bufio.NewScanner(conn); r.Scan(); {
		name, value, _ := strings.Cut(strings.TrimPrefix(r.Text(), "SET VARIABLE "), " ")
		vars[name] = strings.Trim(value, `"`)
		fmt.Fprint(conn, "200 result=1\n")
	}
	return vars
}
