package commands_test

import (
	"strings"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// office is a tenant whose new phones have an account to dial with.
func dialOffice(t *testing.T, username string) *kit {
	t.Helper()
	k := start(t)
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: domain.BaseLayer, TenantID: domain.Master, Settings: domain.Settings{
		"autoprov_username": username, "autoprov_password": "canary-autoprov", "sip_proxy_ip": "pbx.example", "admin_password": "canary-admin"}})
	k.ok(err)
	for id, number := range map[domain.LineID]string{"l1": "100001", "l2": "100002"} {
		k.line(id, "acme", "")
		_, out, err := k.SetProvisioningExtension(k.ctx, commands.SetProvisioningExtension{ID: id, Extension: number})
		k.news(out, err, "line.provisioning_extension_set")
	}
	k.settle()
	return k
}

func (k *kit) dial(in commands.DialCode) commands.Dialled {
	k.t.Helper()
	if in.TenantID == "" {
		in.TenantID = "acme"
	}
	d, _, err := k.DialCode(k.ctx, in)
	k.ok(err)
	if d.Say == "" || strings.Contains(d.Say, "%") {
		k.t.Errorf("%s says %q", d.Result, d.Say)
	}
	k.settle()
	return d
}

// A phone boots, dials, has its line, dials the word for reset, and is as new; each time it is told through the
// account it has at that time.
func TestDialling(t *testing.T) {
	k := dialOffice(t, "ap{mac}")
	file := k.serve(asks(phone))
	for _, want := range []string{"sip_lines.1.username = ap" + string(phone), "sip_lines.1.password = canary-autoprov", "provisioning_interval = 5", "base = http://phones.test:8667/\n"} {
		if !strings.Contains(file, want) {
			t.Errorf("the first file lacks %q:\n%s", want, file)
		}
	}
	if strings.Contains(file, "canary-admin") || strings.Contains(file, "guest = true") {
		t.Errorf("the first file holds %s", file)
	}
	d := k.dial(commands.DialCode{Code: "100001", Account: "ap" + string(phone), Address: "192.0.2.7"})
	if d.Result != commands.DialDone || d.DeviceID != domain.DeviceID(phone) || d.LineID != "l1" || d.Say != "This phone is now number 1201." {
		t.Fatalf("%+v", d)
	}
	if sent := k.Notifier.Sent(); len(sent) != 1 || sent[0].Accounts[0].Username != "ap"+string(phone) {
		t.Fatalf("told %+v", sent)
	}
	if state := k.device(d.DeviceID); state.TenantID != "acme" || state.Sync.Trigger != domain.SyncDialled || state.Sync.SyncID != d.SyncID {
		t.Errorf("it is %+v", state)
	}
	k.fetches()
	if k.synced() != domain.SyncApplied {
		t.Errorf("it has fetched, and is %s", k.synced())
	}
	// The same again is no harm; another line needs a reset first.
	if d := k.dial(commands.DialCode{Code: "10 00-01", Account: "l1"}); d.Result != commands.DialDone {
		t.Errorf("again: %+v", d)
	}
	if d := k.dial(commands.DialCode{Code: "100002", Account: "l1"}); d.Result != commands.DialTaken {
		t.Errorf("another line: %+v", d)
	}
	if d := k.dial(commands.DialCode{Code: "autoprov", Account: "l1"}); d.Result != commands.DialReset || d.DeviceID != domain.DeviceID(phone) {
		t.Fatalf("reset: %+v", d)
	}
	sent := k.Notifier.Sent()
	if now := k.device(d.DeviceID); now.Assigned() || len(now.Lines) != 0 || sent[len(sent)-1].Accounts[0].Username != "l1" || sent[len(sent)-1].Accounts[1].Username != "ap"+string(phone) {
		t.Errorf("it is %s, told through %+v", now.Status(), sent[len(sent)-1].Accounts)
	}
	if d := k.dial(commands.DialCode{Code: "100002", Account: "ap" + string(phone)}); d.Result != commands.DialDone || d.LineID != "l2" {
		t.Errorf("the other line after the reset: %+v", d)
	}
}

// Which phone it is: the account says, then the address if there is but one phone.
func TestWhoDials(t *testing.T) {
	at := func(mac domain.MAC, ip string) commands.ServeFile {
		in := asks(mac)
		in.IP = ip
		return in
	}
	k := dialOffice(t, "autoprov")
	k.serve(at(phone, "192.0.2.7"))
	k.serve(at(spare, "192.0.2.8"))
	const third = domain.MAC("0015650000a3")
	k.serve(at(third, "192.0.2.8"))
	theirs := k.assign("0015650000b1", "globex", "")
	k.settle()
	k.serve(at("0015650000b1", "192.0.2.9"))
	for _, c := range []struct {
		what string
		in   commands.DialCode
		want string
	}{
		{"two phones at the address", commands.DialCode{Code: "100001", Account: "autoprov", Address: "192.0.2.8"}, commands.DialCrowded},
		{"nobody at the address", commands.DialCode{Code: "100001", Account: "autoprov", Address: "192.0.2.99"}, commands.DialUnknown},
		{"no address", commands.DialCode{Code: "100001", Account: "autoprov"}, commands.DialUnknown},
		{"another tenant's phone", commands.DialCode{Code: "100001", Account: "autoprov", Address: "192.0.2.9"}, commands.DialUnknown},
		{"reset of a phone nobody has", commands.DialCode{Code: "reset", Account: "autoprov", Address: "192.0.2.7"}, commands.DialUnknown},
		{"a code nobody has", commands.DialCode{Code: "999999", Account: "autoprov", Address: "192.0.2.7"}, commands.DialWrong},
		{"a code of another tenant", commands.DialCode{TenantID: "globex", Code: "100001", Account: "autoprov", Address: "192.0.2.9"}, commands.DialWrong},
		{"an account of a line on no device", commands.DialCode{Code: "100001", Account: "l2", Address: "192.0.2.7"}, commands.DialUnknown},
		{"the only phone at the address", commands.DialCode{Code: "100001", Account: "autoprov", Address: "192.0.2.7"}, commands.DialDone},
		{"an account that belongs to nobody", commands.DialCode{Code: "100001", Account: "trunk", Address: "192.0.2.8"}, commands.DialCrowded},
		{"no account, the only at the address", commands.DialCode{Code: "100001", Address: "192.0.2.7"}, commands.DialDone},
	} {
		if d := k.dial(c.in); d.Result != c.want {
			t.Errorf("%s: %+v, want %s", c.what, d, c.want)
		}
	}
	if d := k.device(theirs); d.TenantID != "globex" || len(d.Lines) != 0 {
		t.Errorf("the other tenant's phone is %+v", d)
	}
	// One account on two phones: the address tells them apart.
	_, err := k.AssociateLine(k.ctx, commands.AssociateLine{DeviceID: domain.DeviceID(spare), LineID: "l1"})
	k.ok(err)
	for _, c := range [][2]string{{"", commands.DialCrowded}, {"192.0.2.99", commands.DialUnknown}, {"192.0.2.7", commands.DialReset}} {
		if d := k.dial(commands.DialCode{Code: "reset", Account: "l1", Address: c[0]}); d.Result != c[1] || c[1] == commands.DialReset && d.DeviceID != domain.DeviceID(phone) {
			t.Errorf("from %q: %+v", c[0], d)
		}
	}
	k.refused(commands.ErrInvalid, func() error {
		_, _, err := k.DialCode(k.ctx, commands.DialCode{TenantID: "acme", Code: "1"})
		return err
	})
	k.refused(domain.ErrTenantUnknown, func() error {
		_, _, err := k.DialCode(k.ctx, commands.DialCode{TenantID: "nosuch", Code: "1", Account: "a"})
		return err
	})
}

// Guessing costs: per account, per address, per tenant.
func TestDiallingIsNoGuessing(t *testing.T) {
	k := dialOffice(t, "ap{mac}")
	k.serve(asks(phone))
	right := commands.DialCode{Code: "100001", Account: "ap" + string(phone), Address: "192.0.2.7"}
	for i := range 5 {
		if d := k.dial(commands.DialCode{Code: "90000" + string(rune('0'+i)), Account: right.Account}); d.Result != commands.DialWrong {
			t.Fatalf("%+v", d)
		}
	}
	if d := k.dial(right); d.Result != commands.DialBlocked {
		t.Errorf("after five wrong codes: %+v", d)
	}
	k.Clock.Advance(16 * time.Minute)
	// From one account after the other, until the tenant's hour is used up.
	for i := range 15 {
		k.dial(commands.DialCode{Code: "900000", Account: "other" + string(rune('a'+i))})
	}
	if d := k.dial(right); d.Result != commands.DialBlocked {
		t.Errorf("after twenty wrong codes in the tenant: %+v", d)
	}
	k.Clock.Advance(time.Hour)
	if d := k.dial(right); d.Result != commands.DialDone {
		t.Errorf("an hour later: %+v", d)
	}
}

func TestProvisioningExtensions(t *testing.T) {
	k := dialOffice(t, "autoprov")
	k.line("l3", "acme", "")
	k.line("g1", "globex", "")
	k.refused(domain.ErrExtensionTaken, func() error {
		_, _, err := k.SetProvisioningExtension(k.ctx, commands.SetProvisioningExtension{ID: "l3", Extension: "100001"})
		return err
	})
	_, out, err := k.SetProvisioningExtension(k.ctx, commands.SetProvisioningExtension{ID: "g1", Extension: "100001"}) // another tenant's own
	k.news(out, err, "line.provisioning_extension_set")
	drawn, out, err := k.SetProvisioningExtension(k.ctx, commands.SetProvisioningExtension{ID: "l3"})
	k.news(out, err, "line.provisioning_extension_set")
	again, out, err := k.SetProvisioningExtension(k.ctx, commands.SetProvisioningExtension{ID: "l3"})
	k.news(out, err)
	if len(drawn) != 6 || strings.Trim(drawn, "0123456789") != "" || again != drawn {
		t.Errorf("drawn %q, then %q", drawn, again)
	}
	// Taken away, or changed, a number is free again.
	_, out, err = k.SetProvisioningExtension(k.ctx, commands.SetProvisioningExtension{ID: "l1", Remove: true})
	k.news(out, err, "line.provisioning_extension_set")
	_, out, err = k.SetProvisioningExtension(k.ctx, commands.SetProvisioningExtension{ID: "l3", Extension: "100001"})
	k.news(out, err, "line.provisioning_extension_set")
	if d := k.dial(commands.DialCode{Code: drawn, Account: "autoprov"}); d.Result != commands.DialWrong {
		t.Errorf("the number it had before: %+v", d)
	}
	_, err = k.RemoveLine(k.ctx, commands.RemoveLine{ID: "l3"})
	k.ok(err)
	k.settle()
	_, out, err = k.SetProvisioningExtension(k.ctx, commands.SetProvisioningExtension{ID: "l1", Extension: "100001"})
	k.news(out, err, "line.provisioning_extension_set")
	_, _, err = k.DefineLayer(k.ctx, commands.DefineLayer{ID: "tenant.acme", TenantID: "acme", Settings: domain.Settings{"provisioning_extension_digits": 8}})
	k.ok(err)
	k.line("l4", "acme", "")
	if long, _, err := k.SetProvisioningExtension(k.ctx, commands.SetProvisioningExtension{ID: "l4"}); err != nil || len(long) != 8 {
		t.Errorf("drawn %q, %v", long, err)
	}
	for _, bad := range []string{"123", "1234567890123", "12a4"} {
		k.refused(commands.ErrInvalid, func() error {
			_, _, err := k.SetProvisioningExtension(k.ctx, commands.SetProvisioningExtension{ID: "l4", Extension: bad})
			return err
		})
	}
	for _, r := range k.Log.Events() {
		if strings.Contains(string(r.Data), "100001") || strings.Contains(string(r.Data), "canary") {
			t.Errorf("%s holds a number or password in clear text", r.Type)
		}
	}
}
