package commands_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ledgerline/commands"
	"ledgerline/domain"
)

// forms are the ways bytes show themselves: plain, as JSON, base64 at every offset, hex.
func forms(canary string) map[string]string {
	out := map[string]string{"plain": canary, "hex": hex.EncodeToString([]byte(canary)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(canary)))}
	for pad := range 3 {
		for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			b := enc.EncodeToString(append(make([]byte, pad), canary...))
			out[fmt.Sprintf("%s at %d", name, pad)] = b[4 : len(b)-4] // what its neighbours cannot change
		}
	}
	return out
}

// Whatever secrets and names go through whichever command: no byte of the log shows them.
func TestNoSecretReachesTheLog(t *testing.T) {
	k := start(t)
	ctx := commands.WithCaller(k.ctx, commands.Caller{Actor: "apikey:ops", IP: "198.51.100.231", Listener: "admin"})
	canaries := map[string]string{"source address": "198.51.100.231"}
	canary := func(what string) string {
		c := "Canary-" + strings.ReplaceAll(what, " ", "-") + "-7f3A9"
		canaries[what] = c
		return c
	}
	ok := func(_ any, _ commands.Outcome, err error) { t.Helper(); k.ok(err) }
	done := func(_ commands.Outcome, err error) { t.Helper(); k.ok(err) }
	phoneSettings := func(level string) domain.Settings {
		return domain.Settings{"admin_password": canary(level + " admin"), "X_vendor": map[string]any{"deep": []any{canary(level + " list"), 1}, "text": canary(level + " free")},
			"sip_lines": map[string]any{"9": map[string]any{"password": canary(level + " sip"), "display_name": canary(level + " name"), "number": canary(level + " number"), "username": "u"}}}
	}
	done(k.SetProvisioningKey(ctx, commands.SetProvisioningKey{ID: "acme", Key: canary("provisioning key")}))
	ok(k.DefineUser(ctx, commands.DefineUser{ID: "bert", TenantID: "acme", DisplayName: canary("user name"), Email: canary("mail") + "@acme.example"}))
	done(k.AmendUser(ctx, commands.AmendUser{ID: "bert", DisplayName: canary("new user name"), Email: canary("new mail") + "@acme.example"}))
	ok(k.DefineLayer(ctx, commands.DefineLayer{ID: "base", TenantID: domain.Master, Settings: phoneSettings("base")}))
	ok(k.DefineLayer(ctx, commands.DefineLayer{ID: "tenant.acme", TenantID: "acme", Settings: phoneSettings("tenant")}))
	done(k.AmendLayer(ctx, commands.AmendLayer{ID: "base", Settings: phoneSettings("amended")}))
	ok(k.DefineLine(ctx, commands.DefineLine{ID: "l1", TenantID: "acme", UserID: "bert", Username: "1201", Number: canary("number"), DisplayName: canary("line name"), Password: canary("password"),
		Settings: domain.LineSettings{"X_a": canary("line free"), "label": "Desk"}}))
	done(k.AmendLine(ctx, commands.AmendLine{ID: "l1", Username: "1201", Number: canary("new number"), Settings: domain.LineSettings{"X_a": canary("new line free")}}))
	done(k.RotateLineSecret(ctx, commands.RotateLineSecret{ID: "l1", Password: canary("new password")}))
	issued, out, err := k.IssueCode(ctx, commands.IssueCode{TenantID: "acme", CategoryID: desk, UserID: "bert", Purpose: "rollout"})
	ok(issued, out, err)
	canaries["digits"] = issued.Code
	ok(k.RedeemCode(ctx, commands.RedeemCode{Code: issued.Code, MAC: phone, Vendor: "Testphone", Model: "T1"}))
	k.settle()
	id := domain.DeviceID(phone)
	done(k.ConfigureDevice(ctx, commands.ConfigureDevice{ID: id, Settings: phoneSettings("device")}))
	k.settle()
	canaries["path secret"] = k.secretOf(id)
	_, key, out, err := k.IssueAPIKey(ctx, commands.IssueAPIKey{Name: "ops", Role: domain.Admin})
	ok(nil, out, err)
	canaries["API key"] = key[strings.LastIndexByte(key[:40], '_')+1:]
	file := asks(phone)
	file.Via, file.Credential, file.Path, file.IP = "secret", k.secretOf(id), string(phone)+".cfg", "198.51.100.231"
	if data := k.serve(file); !strings.Contains(data, canaries["new password"]) || !strings.Contains(data, canaries["device sip"]) {
		t.Fatalf("the phone does not get its secrets: the test proves nothing")
	}
	ok(k.ReplaceDevice(ctx, commands.ReplaceDevice{ID: id, MAC: spare}))
	k.settle()
	canaries["new path secret"] = k.secretOf(domain.DeviceID(spare))

	var log bytes.Buffer
	for _, r := range k.Log.Events() {
		fmt.Fprintf(&log, "%s %s %s %s\n", r.Stream, r.Type, r.Data, r.Metadata)
	}
	if log.Len() < 10_000 {
		t.Fatalf("a log of %d bytes proves nothing", log.Len())
	}
	for what, c := range canaries {
		for form, text := range forms(c) {
			if strings.Contains(log.String(), text) {
				t.Errorf("%s stands in the log as %s", what, form)
			}
		}
	}
}

// Every sealed value is bound to its event and place: AAD is "event id#JSON pointer", or that of the event it was
// first sealed for.
func TestSealsAreBoundToTheirPlace(t *testing.T) {
	k := start(t)
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "a", TenantID: "acme", Settings: domain.Settings{"admin_password": "one", "user_password": "two",
		"X_v": map[string]any{"a/b": "three"}, "sip_lines": map[string]any{"2": map[string]any{"display_name": "Anna", "password": "four"}}}})
	k.ok(err)
	k.line("l1", "acme", "anna")
	opened := 0
	for _, r := range k.Log.Events() {
		var tree any
		k.ok(json.Unmarshal(r.Data, &tree))
		opened += bound(t, k, r.ID.String()+"#", "", tree)
	}
	if opened < 9 {
		t.Errorf("%d sealed values were seen", opened)
	}
}

// bound walks a payload and wants each sealed value to name its own place.
func bound(t *testing.T, k *kit, event, at string, v any) (n int) {
	m, ok := v.(map[string]any)
	if !ok {
		return 0
	}
	if _, sealed := m["ciphertext"]; sealed {
		at = strings.TrimSuffix(strings.TrimSuffix(at, "/$sealed"), "/$personal")
		if m["aad"] != event+at {
			t.Errorf("%s names %v as its place", event+at, m["aad"])
		}
		return 1
	}
	for key, c := range m {
		n += bound(t, k, event, at+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(key), c)
	}
	return n
}

// An attacker who can write to the store and swaps two ciphertexts gains nothing: neither opens.
func TestSwappedCiphertextsDoNotOpen(t *testing.T) {
	k := start(t)
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "a", TenantID: "acme", Settings: domain.Settings{"admin_password": "one", "user_password": "two"}})
	k.ok(err)
	r, e := last[domain.LayerDefined](k)
	a, b := e.Settings["admin_password"].(domain.Secret), e.Settings["user_password"].(domain.Secret)
	for _, s := range []domain.Secret{a, b} {
		if _, err := k.Vault.Open(k.ctx, s.Sealed); err != nil {
			t.Fatal(err)
		}
	}
	a.Ciphertext, b.Ciphertext, a.Nonce, b.Nonce = b.Ciphertext, a.Ciphertext, b.Nonce, a.Nonce
	e.Settings["admin_password"], e.Settings["user_password"] = a, b
	data, err := json.Marshal(e)
	k.ok(err)
	k.Log.Tamper(r, data)
	tampered := state[domain.Layer](k, "layer-a")
	for _, key := range []string{"admin_password", "user_password"} {
		if clear, err := k.Open(k.ctx, tampered.Settings[key].(domain.Secret).Sealed); !errors.Is(err, commands.ErrForged) || clear != "" {
			t.Errorf("%s: %v", key, err)
		}
	}
	id := k.assign(phone, "acme", "")
	_, err = k.ConfigureDevice(k.ctx, commands.ConfigureDevice{ID: id, Parents: []domain.LayerID{"a"}})
	k.ok(err)
	if _, _, err := k.RegenerateConfig(k.ctx, commands.RegenerateConfig{ID: id}); !errors.Is(err, commands.ErrForged) {
		t.Errorf("files were made of it: %v", err)
	}
}

// What is erased is unreadable, for a user with their lines, and the history stands.
func TestErasingASubject(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	k.line("l2", "acme", "anna")
	k.line("other", "acme", "")
	id := k.assign(phone, "acme", "anna")
	k.settle()
	made := k.device(id).Config.Files
	out, err := k.EraseSubject(k.operator(), commands.EraseSubject{Subject: "user-anna"})
	k.news(out, err, "subject.erased")
	k.settle()
	now := k.device(id).Config.Files
	gone := 0
	for _, f := range made {
		same := slices.ContainsFunc(now, func(g domain.GeneratedFile) bool { return g.MAC == f.MAC })
		if _, err := k.Blobs.Get(k.ctx, id.Subject(), f.MAC); errors.Is(err, domain.ErrErased) == same {
			t.Errorf("%s: %v, and it is what the phone has now: %v", f.Path, err, same)
		} else if err != nil {
			gone++
		}
	}
	if gone == 0 {
		t.Error("the file with the name and password in it is still kept")
	}
	for _, f := range now {
		if _, err := k.Blobs.Get(k.ctx, id.Subject(), f.MAC); err != nil {
			t.Errorf("the file without them: %v", err)
		}
	}
	for _, s := range []domain.Subject{"user-anna", "line-l1", "line-l2"} {
		if k.Vault.Has(s) || k.count(string(s), "key.destroyed") != 1 {
			t.Errorf("%s has its key", s)
		}
	}
	for _, s := range []domain.Subject{"line-other", id.Subject(), "tenant-acme"} {
		if !k.Vault.Has(s) {
			t.Errorf("%s has lost its key", s)
		}
	}
	if name, err := k.Vault.Open(k.ctx, state[domain.User](k, "user-anna").DisplayName.Sealed); !errors.Is(err, domain.ErrErased) || name != "" {
		t.Errorf("the name opens: %v", err)
	}
	out, err = k.EraseSubject(k.operator(), commands.EraseSubject{Subject: "user-anna"})
	k.news(out, err)
	k.refused(domain.ErrErased, func() error {
		_, err := k.AmendUser(k.ctx, commands.AmendUser{ID: "anna", DisplayName: "x"})
		return err
	})
	k.refused(domain.ErrErased, func() error {
		_, err := k.RotateLineSecret(k.ctx, commands.RotateLineSecret{ID: "l1", Password: "x"})
		return err
	})
	out, err = k.RemoveLine(k.ctx, commands.RemoveLine{ID: "l1"})
	k.news(out, err, "line.removed")
	file := asks(phone)
	if data := k.serve(file); strings.Contains(data, "1201") || strings.Contains(data, "Anna") || strings.Contains(data, "pw-of") {
		t.Errorf("the phone still gets\n%s", data)
	}
	k.refused(domain.ErrNoStream, func() error {
		_, err := k.EraseSubject(k.ctx, commands.EraseSubject{Subject: "user-nobody"})
		return err
	})
}

// A device that is erased has no files any more, and nothing else breaks.
func TestErasingADevice(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "")
	k.settle()
	before := asks(phone)
	k.serve(before)
	if len(k.Sightings.All()) == 0 {
		t.Fatal("nobody noted where it was seen")
	}
	_, err := k.EraseSubject(k.ctx, commands.EraseSubject{Subject: id.Subject()})
	k.ok(err)
	k.settle()
	if seen := k.Sightings.All(); len(seen) > 0 {
		t.Errorf("it is still known where it was seen: %+v", seen)
	}
	k.crash()
	if v, err := k.ServeFile(k.ctx, before); !errors.Is(err, domain.ErrErased) {
		t.Errorf("served %d bytes, %v", len(whole(v)), err)
	}
	out, err := k.DeleteDevice(k.ctx, commands.DeleteDevice{ID: id})
	k.news(out, err, "device.deleted")
	k.settle()
	if next := k.discover(phone); next != id+".2" {
		t.Errorf("its next life is %s", next)
	}
}
