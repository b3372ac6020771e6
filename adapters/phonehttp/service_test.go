package phonehttp

import (
	"context"
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// body is what follows the header of an answer.
func body(answer string) string {
	_, b, _ := strings.Cut(answer, "\r\n\r\n")
	return b
}

func bySecretDelivered(r domain.Recorded) bool {
	e, err := r.Event()
	d, ok := e.(domain.DeviceConfigDelivered)
	return err == nil && ok && d.Via == "secret" && r.Stream == "device-001565a1b2c3"
}

// The whole way with the real commands: a phone boots unknown, its user types a code as the Basic user
// name, it follows its file to the secret path, and from then on the path by address is closed.
func TestAPhoneWalksFromUnknownToItsSecretPath(t *testing.T) {
	k := commandstest.NewService(t)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tenant, _, err := k.Service.CreateTenant(t.Context(), commands.CreateTenant{Name: "Acme"})
	must(tenant, err)
	other, _, err := k.Service.CreateTenant(t.Context(), commands.CreateTenant{Name: "Other"})
	must(other, err)
	must(k.Service.SetProvisioningKey(t.Context(), commands.SetProvisioningKey{ID: tenant, Key: "acme-key-1"}))
	must(k.Service.SetProvisioningKey(t.Context(), commands.SetProvisioningKey{ID: other, Key: "other-key-1"}))
	category, _, err := k.Service.DefineCategory(t.Context(), commands.DefineCategory{TenantID: tenant, Name: "Desk", Kind: "provisioning"})
	must(category, err)
	code, _, err := k.Service.IssueCode(t.Context(), commands.IssueCode{TenantID: tenant, CategoryID: category, Purpose: "self_service"})
	must(code, err)

	_, addr := start(t, Options{Files: k.Service, Sightings: k.Sightings, Now: k.Clock.Now})
	const agent = "User-Agent: Testphone T1 1.0 001565a1b2c3"
	basic := func(user string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"))
	}

	guest := get(t, addr, "/001565a1b2c3.cfg", agent)
	if status(t, guest) != 200 || !strings.Contains(body(guest), "guest = true") {
		t.Fatalf("unknown phone: %q", guest)
	}
	if refused := get(t, addr, "/001565a1b2c3.cfg", agent, basic("000000000000")); status(t, refused) != 401 {
		t.Errorf("wrong code: %q", refused)
	}
	own := get(t, addr, "/001565a1b2c3.cfg", agent, basic(code.Code[:4]+"-"+code.Code[4:]))
	base := regexp.MustCompile(`base = http://phones\.test:8667(/d/[^/]+/)`).FindStringSubmatch(own)
	if status(t, own) != 200 || base == nil || strings.Contains(own, "guest") {
		t.Fatalf("redeemed: %q", own)
	}
	bySecret := get(t, addr, base[1]+"001565a1b2c3.cfg", agent)
	if body(bySecret) != body(own) {
		t.Fatalf("by secret: %q", bySecret)
	}
	if byKey := get(t, addr, "/t/acme-key-1/001565a1b2c3.cfg", agent); body(byKey) != body(own) {
		t.Errorf("by tenant key: %q", byKey)
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Service.RunDeliveries(ctx) }()
	for recorded := false; !recorded; {
		changed := k.Log.Changed()
		if recorded = slices.ContainsFunc(k.Log.Events(), bySecretDelivered); !recorded {
			<-changed
		}
	}
	cancel()
	<-done
	for name, target := range map[string]string{
		"closed path": "/001565a1b2c3.cfg", "another tenant's key": "/t/other-key-1/001565a1b2c3.cfg", "no tenant's key": "/t/no-such-key/001565a1b2c3.cfg",
		"wrong secret": "/d/wrong/001565a1b2c3.cfg", "another phone's name": base[1] + "001565ffffff.cfg", "unknown file": base[1] + "other.txt",
		"used code": "/c/" + code.Code + "/001565000001.cfg", "unknown code": "/c/111111111111/001565000002.cfg",
	} {
		header := agent
		if strings.Contains(target, "00156500000") {
			header = "User-Agent: Testphone T1 1.0"
		}
		if got := get(t, addr, target, header); got != uniform404 {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, s := range k.Sightings.All() {
		if strings.Contains(s.Path, code.Code) || strings.Contains(s.Path, strings.Trim(base[1], "/d")) {
			t.Error("a sighting holds a secret")
		}
	}
}

func TestOutsideTrustedNetworksNothingIsDiscovered(t *testing.T) {
	k := commandstest.NewService(t)
	before := len(k.Log.Events())
	_, addr := start(t, Options{Files: k.Service, TrustedNetworks: prefixes()})
	if answer := get(t, addr, "/001565a1b2c3.cfg", "User-Agent: Testphone T1 1.0"); answer != uniform404 {
		t.Errorf("%q", answer)
	}
	if after := len(k.Log.Events()); after != before {
		t.Errorf("%d events were recorded", after-before)
	}
}
