package commands_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

func (k *kit) token(change ...func(*commands.IssueToken)) commands.IssuedToken {
	k.t.Helper()
	in := commands.IssueToken{CategoryID: desk, Name: "warehouse"}
	for _, c := range change {
		c(&in)
	}
	token, out, err := k.IssueToken(k.ctx, in)
	k.news(out, err, "token.issued")
	return token
}

func (k *kit) admit(token string, mac domain.MAC, change ...func(*commands.AdmitByToken)) (commands.Admitted, commands.Outcome, error) {
	in := commands.AdmitByToken{Domain: "acme.example", Token: token, Category: "Desk phones", MAC: mac, Vendor: "Testphone", Model: "T1"}
	for _, c := range change {
		c(&in)
	}
	return k.AdmitByToken(k.from("192.0.2.7"), in)
}

func TestATokenAdmitsDevices(t *testing.T) {
	k := lead(t)
	token := k.token()
	if token.DevicesURL != "wss://apps.example.com/acme.example/devices/sysclients" || token.Domain != "acme.example" || token.Category != "Desk phones" ||
		len(token.Token) != 32 || !token.ExpiresAt.Equal(commandstest.Start.Add(commands.TokenTTL)) {
		t.Errorf("%+v", token)
	}
	got, out, err := k.admit(token.Token, phone)
	k.news(out, err, "device.assigned")
	d := k.device(domain.DeviceID(phone))
	if want := (commands.Admitted{domain.DeviceID(phone), "acme", desk}); got != want || d.TenantID != "acme" || d.CategoryID != desk || d.Model != "T1" {
		t.Errorf("%+v is %+v", got, d.DeviceFacts)
	}
	if _, e := last[domain.DeviceAssigned](k); e.TokenID != token.ID {
		t.Errorf("assigned by %s", e.TokenID)
	}
	_, out, err = k.admit(token.Token, phone, func(in *commands.AdmitByToken) { in.Category = string(desk) })
	k.news(out, err)
	if n := k.count("token-", "token.used"); n != 1 {
		t.Errorf("%d uses", n)
	}
	for _, r := range k.Log.Events() {
		if strings.Contains(string(r.Data)+string(r.Metadata)+string(r.Stream), token.Token) {
			t.Errorf("the token stands in %s %s", r.Stream, r.Type)
		}
	}
}

func TestATokenRefuses(t *testing.T) {
	for what, c := range map[string]struct {
		issue   func(*commands.IssueToken)
		admit   func(*commands.AdmitByToken)
		prepare func(*kit, commands.IssuedToken)
	}{
		"another token":    {admit: func(in *commands.AdmitByToken) { in.Token = "wrong" }},
		"another domain":   {admit: func(in *commands.AdmitByToken) { in.Domain = "globex.example" }},
		"no domain":        {admit: func(in *commands.AdmitByToken) { in.Domain = "nobody.example" }},
		"another category": {admit: func(in *commands.AdmitByToken) { in.Category = "lobby" }},
		"another prefix":   {issue: func(in *commands.IssueToken) { in.MACPrefixes = []string{"00:90:33"} }},
		"another network":  {issue: func(in *commands.IssueToken) { in.Networks = []string{"198.51.100.0/24"} }},
		"used up": {issue: func(in *commands.IssueToken) { in.MaxUses = 1 }, prepare: func(k *kit, token commands.IssuedToken) {
			_, _, err := k.admit(token.Token, spare)
			k.ok(err)
		}},
		"expired": {prepare: func(k *kit, token commands.IssuedToken) { k.Clock.Advance(commands.TokenTTL) }},
		"revoked": {prepare: func(k *kit, token commands.IssuedToken) {
			out, err := k.RevokeToken(k.ctx, commands.RevokeToken{ID: token.ID})
			k.news(out, err, "token.revoked")
			out, err = k.RevokeToken(k.ctx, commands.RevokeToken{ID: token.ID})
			k.news(out, err)
		}},
		"its category is retired": {prepare: func(k *kit, _ commands.IssuedToken) {
			_, err := k.RetireCategory(k.ctx, commands.RetireCategory{ID: desk})
			k.ok(err)
		}},
	} {
		t.Run(what, func(t *testing.T) {
			k := lead(t)
			if c.issue == nil {
				c.issue = func(*commands.IssueToken) {}
			}
			if c.admit == nil {
				c.admit = func(*commands.AdmitByToken) {}
			}
			token := k.token(c.issue)
			if c.prepare != nil {
				c.prepare(k, token)
			}
			k.refused(domain.ErrTokenRefused, func() error { _, _, err := k.admit(token.Token, phone, c.admit); return err })
			for range 4 {
				k.refused(domain.ErrTokenRefused, func() error { _, _, err := k.admit(token.Token, phone, c.admit); return err })
			}
			k.refused(commands.ErrGuesses, func() error { _, _, err := k.admit(token.Token, phone, c.admit); return err })
			k.ok(k.RecordDenials(k.ctx, true))
			if n, want := k.count("token-", "token.denied"), 1; what != "another token" && n != want {
				t.Errorf("%d denials", n)
			}
		})
	}
}

func TestADeviceOfAnotherTenantIsNotAdmitted(t *testing.T) {
	k := lead(t)
	token := k.token()
	k.assign(phone, "globex", "")
	k.refused(domain.ErrDeviceOfOtherTenant, func() error { _, _, err := k.admit(token.Token, phone); return err })
}

func TestTokensRotateWithOverlap(t *testing.T) {
	k := lead(t)
	old := k.token(func(in *commands.IssueToken) { in.MACPrefixes, in.Token = []string{"00-15-65"}, "abcdef#XYZ" })
	fresh, out, err := k.RotateToken(k.ctx, commands.RotateToken{ID: old.ID, Overlap: 24 * time.Hour})
	k.news(out, err, "token.rotated")
	_, issued := last[domain.TokenIssued](k)
	if issued.Replaces != old.ID || issued.MACPrefixes[0] != "001565" || fresh.Token == old.Token || !fresh.ExpiresAt.Equal(commandstest.Start.Add(commands.TokenTTL)) {
		t.Errorf("%+v", issued)
	}
	k.refused(domain.ErrTokenRotated, func() error {
		_, _, err := k.RotateToken(k.ctx, commands.RotateToken{ID: old.ID})
		return err
	})
	_, _, err = k.admit(old.Token, phone)
	k.ok(err)
	k.Clock.Advance(24 * time.Hour)
	k.refused(domain.ErrTokenRefused, func() error { _, _, err := k.admit(old.Token, spare); return err })
	_, _, err = k.admit(fresh.Token, spare)
	k.ok(err)
	for want, in := range map[error]commands.IssueToken{
		domain.ErrTokenExists:     {CategoryID: desk, Token: "abcdef#XYZ"},
		domain.ErrCategoryUnknown: {CategoryID: "nobody"},
		commands.ErrInvalid:       {CategoryID: desk, Networks: []string{"here"}},
	} {
		k.refused(want, func() error { _, _, err := k.IssueToken(k.ctx, in); return err })
	}
}

// A failure between the use and the assignment is made good when the device connects again.
func TestAdmissionAfterAFailure(t *testing.T) {
	k := lead(t)
	token := k.token()
	k.discover(phone)
	broken := domain.ErrReadOnly
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Append" && c.Stream.Category() == "device" {
			return commandstest.Fault{Before: broken}
		}
		return commandstest.Fault{}
	})
	if _, _, err := k.admit(token.Token, phone); err == nil {
		t.Fatal("admitted without a record")
	}
	k.crash()
	_, out, err := k.admit(token.Token, phone)
	k.news(out, err, "device.assigned")
}

// What one replica remembers of a token is brought up to date by what the other has recorded of it.
func TestUsesOfATokenCountOnEveryReplica(t *testing.T) {
	k := lead(t)
	token := k.token(func(in *commands.IssueToken) { in.MaxUses = 2 })
	_, _, err := k.admit(token.Token, phone)
	k.ok(err)
	one := k.Kit.Service
	k.crash()
	_, _, err = k.admit(token.Token, spare)
	k.ok(err)
	third := commands.AdmitByToken{Domain: "acme.example", Token: token.Token, Category: "Desk phones", MAC: "0015650000cc", Vendor: "Testphone", Model: "T1"}
	if _, _, err := one.AdmitByToken(k.from("192.0.2.7"), third); !errors.Is(err, domain.ErrTokenRefused) {
		t.Errorf("used up elsewhere: %v", err)
	}
}
