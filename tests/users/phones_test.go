package users_test

import (
	"errors"
	"testing"

	sysclient "ledgerline/adapters/sysclient/wire"
	"ledgerline/adapters/usersapp"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/phonesim/users"
)

// A field hidden under a session's key; computed by an independent implementation.
func TestHiddenField(t *testing.T) {
	const session = "d58c77eae0c1c1f37a9f545e207643c926ad9ea4932016a83a4a01029de37760"
	if got, err := sysclient.Decrypt("aB3dE6gH9jK2mN5p", session, "ade422a8def5f0c4c99c4e"); err != nil || got != "s3cr3t-User" {
		t.Errorf("%q, %v", got, err)
	}
}

// Phones of other makes: what is refused, and that it leaves nothing behind.
func TestPhonesOfOtherMakesThatAreRefused(t *testing.T) {
	s := open(t, func(o *usersapp.Options) {
		o.Title, o.Decrypt, o.Proxy = "Other phones", sysclient.Decrypt, usersapp.ProxyDomain
	})
	c := s.connect("users")
	good := func() users.Phone {
		m := s.asks(c, "GetProvisioningCode", users.Message{"category": "acme.provisioning"})
		return users.Phone{MAC: "001565000001", Code: m.Text("code"), Username: "anna", Password: "canary", Domain: "pbx.acme.example"}
	}
	foreign, _, err := s.Service.IssueCode(t.Context(), commands.IssueCode{TenantID: "globex", CategoryID: "globex.provisioning", Purpose: "administrative"})
	s.ok(err)
	for name, change := range map[string]func(*users.Phone){
		"a code nobody issued":  func(p *users.Phone) { p.Code = "000000000000" },
		"no code":               func(p *users.Phone) { p.Code = "" },
		"another domain's code": func(p *users.Phone) { p.Code = foreign.Code },
		"no MAC":                func(p *users.Phone) { p.MAC = "phone" },
		"no user name":          func(p *users.Phone) { p.Username = "" },
		"no password":           func(p *users.Phone) { p.Password = "" },
		"a host that is none":   func(p *users.Phone) { p.Domain = "not a host" },
	} {
		p := good()
		change(&p)
		if err := c.Provision(t.Context(), p); !errors.Is(err, users.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Ask(t.Context(), "ProvisioningPhone", users.Message{"mac": "001565000001", "seed1": "s", "password": "no hex"}); !errors.Is(err, users.ErrRefused) {
		t.Errorf("a password that cannot be read: %v", err)
	}
	if d, _, err := s.Service.DeviceOfMAC(t.Context(), "001565000001"); err == nil && d.Live() == nil {
		t.Error("a refused phone is known")
	}
	p := good()
	if err := c.Provision(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	s.until("device.line_associated")
	if d, _, err := s.Service.DeviceOfMAC(t.Context(), "001565000001"); err != nil || d.TenantID != domain.TenantID("acme") || len(d.Lines) != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	plain := open(t)
	if err := plain.connect("users").Provision(t.Context(), p); !errors.Is(err, users.ErrNotOffered) {
		t.Errorf("not offered: %v", err)
	}
}
