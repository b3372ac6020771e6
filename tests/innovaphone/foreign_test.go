package innovaphone

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"ledgerline/domain"
	"ledgerline/tests/phonesim"
	"ledgerline/tests/phonesim/users"
	"ledgerline/tests/proc"
)

// Flow E as its administrator sees it: somebody types the MAC of a phone of another make into Users, which has us provision
// it; the phone boots and is its user's. A server that is killed once the phone was told of goes on where it was.
func TestUsersProvisionsAPhoneOfAnotherMake(t *testing.T) {
	s := newSite(t)
	in := s.asUsers()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dial := func() *users.Client {
		t.Helper()
		var c *users.Client
		proc.Eventually(t, "Users logs in", func() bool {
			var err error
			c, err = users.Dial(ctx, in)
			return err == nil
		})
		return c
	}
	c := dial()
	code := func(user string) string {
		t.Helper()
		m, err := c.Ask(ctx, "GetProvisioningCode", users.Message{"category": s.desk, "sip": user})
		if err != nil {
			t.Fatal(err)
		}
		return m[0].Text("code")
	}
	for i, who := range []struct{ user, username, password string }{
		{s.user, "acme4711", "canary-pbx-password"}, // whose line there is, with another password
		{"nobody.we.know", "berta", "canary-pbx-other"},
	} {
		phone := users.Phone{MAC: string(mac(0x200 + i)), Code: code(who.user), Username: who.username, Name: "Somebody", Password: who.password, Domain: "acme.example", DNS: "pbx.acme.example"}
		if err := c.Provision(ctx, phone); err != nil {
			t.Fatalf("%v\n%s", err, s.Log())
		}
		if i == 1 {
			s.kill()
			c.Close()
			c = dial()
		}
		if err := c.Provision(ctx, phone); err != nil { // told twice, it is there once
			t.Fatalf("again: %v\n%s", err, s.Log())
		}
		s.once(domain.MAC(phone.MAC), "device.assigned", "device.line_associated")
		p, err := phonesim.New(phonesim.Config{Vendor: "yealink", MAC: domain.MAC(phone.MAC), Server: "http://" + s.Phones + "/"})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		proc.Eventually(t, "the phone is its user's", func() bool {
			_, err := p.Boot(ctx)
			accounts := p.Parsed().Accounts
			return err == nil && len(accounts) > 0 && accounts[0].UserName == who.username && accounts[0].Password.Equal(phonesim.NewPassword(who.password)) &&
				(i == 0 || accounts[0].Server == "pbx.acme.example")
		})
		phone.MAC = string(mac(0x280 + i))
		if err := c.Provision(ctx, phone); !errors.Is(err, users.ErrRefused) {
			t.Errorf("a used code for another phone: %v", err)
		}
		if log := s.Log(); strings.Contains(log, who.password) || strings.Contains(log, phone.Code) {
			t.Error("a password or a code is in the log")
		}
	}
	c.Close()
}
