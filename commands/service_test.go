package commands_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

func TestAConflictIsDecidedAnew(t *testing.T) {
	k := start(t)
	once := true
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Append" && c.Stream == "tenant-acme" && once { // somebody else is faster
			once = false
			_, err := k.RenameTenant(k.ctx, commands.RenameTenant{ID: "acme", Name: "Faster"})
			k.ok(err)
		}
		return commandstest.Fault{}
	})
	out, err := k.RenameTenant(k.ctx, commands.RenameTenant{ID: "acme", Name: "Slower"})
	k.news(out, err, "tenant.renamed")
	if got := state[domain.Tenant](k, "tenant-acme").Name; got != "Slower" || k.count("tenant-acme", "tenant.renamed") != 2 {
		t.Errorf("the tenant is %q after %d renames", got, k.count("tenant-acme", "tenant.renamed"))
	}
}

func TestEndlessConflictsAreBusy(t *testing.T) {
	k := start(t)
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault { return commandstest.Fault{Before: domain.ErrConflict} })
	k.refused(commands.ErrBusy, func() error {
		_, err := k.RenameTenant(k.ctx, commands.RenameTenant{ID: "acme", Name: "x"})
		return err
	})
}

// Whether the store has written or not, a repeat with the same ids settles it, and there is one event.
func TestAnUnknownOutcomeIsRepeatedWithTheSameIDs(t *testing.T) {
	for what, fault := range map[string]commandstest.Fault{"written": {After: domain.ErrOutcomeUnknown}, "not written": {Before: domain.ErrOutcomeUnknown}} {
		synctest.Test(t, func(t *testing.T) {
			k := start(t)
			var ids []uuid.UUID
			k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
				if c.Stream != "tenant-acme" {
					return commandstest.Fault{}
				}
				if ids = append(ids, c.Events[0].ID); len(ids) <= 3 {
					return fault
				}
				return commandstest.Fault{}
			})
			out, err := k.RenameTenant(k.ctx, commands.RenameTenant{ID: "acme", Name: "x"})
			k.news(out, err, "tenant.renamed")
			if len(ids) != 4 || len(slices.Compact(ids)) != 1 || k.count("tenant-acme", "tenant.renamed") != 1 {
				t.Errorf("%s: %d tries with %d ids, %d events", what, len(ids), len(slices.Compact(ids)), k.count("tenant-acme", "tenant.renamed"))
			}
		})
	}
}

func TestAnUnknownOutcomeThatStaysIsTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t)
		k.Faults.Set(func(commandstest.Call) commandstest.Fault {
			return commandstest.Fault{Before: domain.ErrOutcomeUnknown}
		})
		k.refused(domain.ErrOutcomeUnknown, func() error {
			_, err := k.RenameTenant(k.ctx, commands.RenameTenant{ID: "acme", Name: "x"})
			return err
		})
	})
}

func TestAStoreThatTakesNoWritesIsTheAnswer(t *testing.T) {
	k := start(t)
	k.Faults.Set(func(commandstest.Call) commandstest.Fault { return commandstest.Fault{Before: domain.ErrReadOnly} })
	k.refused(domain.ErrReadOnly, func() error {
		_, err := k.RenameTenant(k.ctx, commands.RenameTenant{ID: "acme", Name: "x"})
		return err
	})
}

func TestNoDecisionOverAnUnknownHistory(t *testing.T) {
	k := start(t)
	_, err := k.Log.Append(k.ctx, "tenant-acme", domain.StreamExists, []domain.NewEvent{{ID: uuid.New(), Type: "tenant.auto_token_set", Data: []byte("{}")}})
	k.ok(err)
	k.refused(commands.ErrUnknownHistory, func() error {
		_, err := k.RenameTenant(k.ctx, commands.RenameTenant{ID: "acme", Name: "x"})
		return err
	})
}

func TestAPrecondition(t *testing.T) {
	k := start(t)
	at := func(r domain.Revision, stream domain.StreamID) error {
		ctx := commands.WithCaller(k.ctx, commands.Caller{Actor: "cli:root", IfStream: stream, IfRevision: &r})
		_, err := k.RenameTenant(ctx, commands.RenameTenant{ID: "acme", Name: "new"})
		return err
	}
	k.refused(commands.ErrPrecondition, func() error { return at(0, "tenant-acme") }) // 0 is key.created
	k.refused(commands.ErrPrecondition, func() error { return at(9, "tenant-acme") })
	k.refused(commands.ErrPrecondition, func() error { return at(domain.NoStream, "tenant-acme") })
	k.ok(at(1, "tenant-acme"))
	k.refused(commands.ErrPrecondition, func() error { return at(1, "tenant-acme") })
	k.ok(at(7, "tenant-globex")) // another noun's revision is no condition
}

// An event says who asked, from where, why, when, and what for; the address is sealed under the tenant's key.
func TestMetadata(t *testing.T) {
	k := start(t)
	out, err := k.RenameTenant(k.operator(), commands.RenameTenant{ID: "acme", Name: "new"})
	k.news(out, err, "tenant.renamed")
	m, err := out.Events[0].Meta()
	k.ok(err)
	if m.Actor != "apikey:ops" || m.RequestID != "req-1" || m.Reason != "ticket 4711" || m.TenantID != "acme" || m.CorrelationID != "req-1" ||
		!m.RecordedAt.Equal(commandstest.Start) || m.Source == nil || m.Source.Listener != "admin" || m.CausationID != "" {
		t.Errorf("%+v", m)
	}
	if ip, err := k.Vault.Open(k.ctx, m.Source.IP.Sealed); err != nil || ip != "192.0.2.99" || m.Source.IP.AAD != out.Events[0].ID.String()+"#/source/ip" {
		t.Errorf("the address opens as %q, %v", ip, err)
	}
	k.ok(k.Vault.Erase(k.ctx, "tenant-acme"))
	if out, err = k.RenameTenant(k.operator(), commands.RenameTenant{ID: "acme", Name: "newer"}); err != nil {
		t.Fatal(err)
	}
	if m, err = out.Events[0].Meta(); err != nil || !m.Source.IP.IsZero() {
		t.Errorf("an erased tenant's visitors leave an address: %v", err)
	}
}

// What a reaction recorded for a cause it records once, also when the state has moved on meanwhile.
func TestOnce(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "")
	cause := k.Log.Events()[len(k.Log.Events())-1]
	ctx := commands.WithCause(k.ctx, cause, "test-reaction")
	out, err := k.ConfigureDevice(ctx, commands.ConfigureDevice{ID: id, Description: "first"})
	k.news(out, err, "device.configured")
	m, err := out.Events[0].Meta()
	k.ok(err)
	if m.CausationID != cause.ID.String() || m.Reaction != "test-reaction" || m.Actor != "system:test-reaction" {
		t.Errorf("%+v", m)
	}
	_, err = k.ConfigureDevice(k.ctx, commands.ConfigureDevice{ID: id, Description: "moved on"})
	k.ok(err)
	out, err = k.ConfigureDevice(ctx, commands.ConfigureDevice{ID: id, Description: "first"})
	k.news(out, err)
	out, err = k.ConfigureDevice(commands.WithCause(k.ctx, cause, "other-reaction"), commands.ConfigureDevice{ID: id, Description: "other"})
	k.news(out, err, "device.configured")
}

// A redelivery that raced with the first delivery makes the same ids, so that the log knows it.
func TestIDsOfReactionsFollowFromTheirCause(t *testing.T) {
	make := func() []uuid.UUID {
		k := start(t)
		cause := domain.Recorded{ID: uuid.MustParse("018f3a1c-9b7d-7e21-a4c5-d6e7f8091a2b"), Metadata: []byte(`{"$correlationId":"corr","recorded_at":"2026-11-02T09:30:00Z"}`)}
		out, err := k.RenameTenant(commands.WithCause(k.ctx, cause, "row"), commands.RenameTenant{ID: "acme", Name: "x"})
		k.news(out, err, "tenant.renamed")
		more, err := k.RenameTenant(commands.WithCause(k.ctx, cause, "row"), commands.RenameTenant{ID: "globex", Name: "x"})
		k.news(more, err, "tenant.renamed")
		return []uuid.UUID{out.Events[0].ID, more.Events[0].ID}
	}
	a, b := make(), make()
	if !slices.Equal(a, b) || a[0] == a[1] {
		t.Errorf("%v and %v", a, b)
	}
}

func TestInvalidInputNamesTheField(t *testing.T) {
	k := start(t)
	for want, do := range map[string]func() error{
		"name is required": func() error { _, _, err := k.CreateTenant(k.ctx, commands.CreateTenant{}); return err },
		"domain must be a domain name": func() error {
			_, _, err := k.CreateTenant(k.ctx, commands.CreateTenant{Name: "x", Domain: "a b"})
			return err
		},
		"name must be text": func() error {
			_, err := k.RenameTenant(k.ctx, commands.RenameTenant{ID: "acme", Name: "a\x00b"})
			return err
		},
		"name must be at most 200 long": func() error {
			_, err := k.RenameTenant(k.ctx, commands.RenameTenant{ID: "acme", Name: strings.Repeat("ä", 201)})
			return err
		},
		"id must be 1 to 64": func() error {
			_, err := k.RenameTenant(k.ctx, commands.RenameTenant{ID: "../x", Name: "a"})
			return err
		},
		"kind must be one of: provisioning plain": func() error {
			_, _, err := k.DefineCategory(k.ctx, commands.DefineCategory{TenantID: "acme", Name: "x", Kind: "secret"})
			return err
		},
		"email must be an e-mail address": func() error {
			_, _, err := k.DefineUser(k.ctx, commands.DefineUser{TenantID: "acme", Email: "x"})
			return err
		},
		"mac is required": func() error { _, _, err := k.DiscoverDevice(k.ctx, commands.DiscoverDevice{Added: "auto"}); return err },
		"mac is not a MAC address": func() error {
			_, _, err := k.DiscoverDevice(k.ctx, commands.DiscoverDevice{MAC: "xyz", Added: "auto"})
			return err
		},
		"id must not end in a dot and a number": func() error {
			_, _, err := k.DiscoverDevice(k.ctx, commands.DiscoverDevice{ID: "x.2", Added: "auto"})
			return err
		},
		"id is a MAC address, but not": func() error {
			_, _, err := k.DiscoverDevice(k.ctx, commands.DiscoverDevice{ID: domain.DeviceID(phone), MAC: spare, Added: "auto"})
			return err
		},
		"user_id is required": func() error {
			_, _, _, err := k.IssueAPIKey(k.ctx, commands.IssueAPIKey{Name: "x", Role: "user"})
			return err
		},
		"expires_at must be in the future": func() error {
			now := k.Clock.Now()
			_, _, _, err := k.IssueAPIKey(k.ctx, commands.IssueAPIKey{Name: "x", Role: "admin", ExpiresAt: &now})
			return err
		},
		"parents must not name anything twice": func() error {
			_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{TenantID: "acme", Parents: []domain.LayerID{"a", "a"}})
			return err
		},
		"position must be at most 1000": func() error {
			_, err := k.AssociateLine(k.ctx, commands.AssociateLine{DeviceID: "x", LineID: "y", Position: 1001})
			return err
		},
		"key must be 8 to 256": func() error {
			_, err := k.SetProvisioningKey(k.ctx, commands.SetProvisioningKey{ID: "acme", Key: "short"})
			return err
		},
		"subject must be user-": func() error {
			_, err := k.EraseSubject(k.ctx, commands.EraseSubject{Subject: "codeepoch-2026.11.02"})
			return err
		},
		"purpose must be one of": func() error {
			_, _, err := k.IssueCode(k.ctx, commands.IssueCode{TenantID: "acme", CategoryID: desk, Purpose: "x"})
			return err
		},
		"password is required": func() error { _, err := k.RotateLineSecret(k.ctx, commands.RotateLineSecret{ID: "x"}); return err },
		"code is required":     func() error { _, _, err := k.RedeemCode(k.ctx, commands.RedeemCode{MAC: phone}); return err },
	} {
		k.refused(commands.ErrInvalid, func() error {
			err := do()
			var invalid *commands.InvalidError
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "%!") {
				t.Errorf("%v, want %q", err, want)
			}
			return err
		})
	}
}
