package commands_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
	"ledgerline/domain"
)

// A phone through five moments: its layer changes twice, its line's password is rotated, a name is set, its user is erased.
func lived(t *testing.T) (k *kit, id domain.DeviceID, moments []domain.Position, fetched []string) {
	k = start(t)
	layer := func(locale string) {
		t.Helper()
		_, err := k.AmendLayer(k.ctx, commands.AmendLayer{ID: domain.TenantLayer("acme"), Name: "all of Acme", Settings: domain.Settings{"locale": locale}})
		if errors.Is(err, domain.ErrLayerUnknown) {
			_, _, err = k.DefineLayer(k.ctx, commands.DefineLayer{ID: domain.TenantLayer("acme"), TenantID: "acme", Name: "all of Acme", Settings: domain.Settings{"locale": locale}})
		}
		k.ok(err)
	}
	layer("de_DE")
	k.line("l1", "acme", "anna")
	id = k.assign(phone, "acme", "anna")
	_, err := k.AssociateLine(k.ctx, commands.AssociateLine{DeviceID: id, LineID: "l1"})
	k.ok(err)
	moment := func() {
		t.Helper()
		k.settle()
		head, err := k.Log.Head(k.ctx)
		k.ok(err)
		v, err := k.ServeFile(k.ctx, asks(phone))
		k.ok(err)
		moments, fetched = append(moments, head), append(fetched, whole(v))
	}
	moment()
	layer("fr_FR")
	moment()
	_, err = k.RotateLineSecret(k.ctx, commands.RotateLineSecret{ID: "l1", Password: "rotated-canary"})
	k.ok(err)
	moment()
	_, err = k.AmendLine(k.ctx, commands.AmendLine{ID: "l1", Username: "l1", Number: "1201", DisplayName: "Reception"})
	k.ok(err)
	moment()
	return k, id, moments, fetched
}

func TestTheBytesOfThen(t *testing.T) {
	k, id, moments, fetched := lived(t)
	for i, at := range moments {
		past, err := k.ConfigAt(k.ctx, id, at)
		k.ok(err)
		f := past.Files[len(past.Files)-1]
		if f.Path == "common.cfg" {
			f = past.Files[0]
		}
		if f.Bytes != "verified" || f.Rendered != "equal" || !f.Proven() || past.Note != "" || !past.Erased.IsZero() {
			t.Fatalf("moment %d: bytes %s, rendered %s, %q", i, f.Bytes, f.Rendered, past.Note)
		}
		_, data, out, err := k.RevealConfig(k.ctx, commands.RevealConfig{ID: id, Path: f.Path, At: at})
		k.news(out, err, "device.config_revealed")
		if string(data) != fetched[i] {
			t.Errorf("moment %d:\n%s", i, cmp.Diff(fetched[i], string(data)))
		}
		if strings.Contains(string(f.Text), "canary") || strings.Contains(string(f.Text), "pw-of") || !strings.Contains(string(f.Text), domain.Redacted) {
			t.Errorf("moment %d shows a secret, or no place of it:\n%s", i, f.Text)
		}
	}
	if _, err := k.ConfigAt(k.ctx, id, domain.Position{}); !errors.Is(err, commands.ErrNoConfig) {
		t.Errorf("before there was anything: %v", err)
	}
	if _, err := k.ConfigAt(k.ctx, "nobody", moments[0]); !errors.Is(err, domain.ErrNoStream) {
		t.Errorf("nobody: %v", err)
	}
	k.refused(commands.ErrNoBlob, func() error {
		_, _, _, err := k.RevealConfig(k.ctx, commands.RevealConfig{ID: id, Path: "other.cfg", At: moments[0]})
		return err
	})
}

func TestWhatChangedBetweenTwoMoments(t *testing.T) {
	k, id, moments, _ := lived(t)
	at := func(i int) commands.PastConfig {
		t.Helper()
		past, err := k.ConfigAt(k.ctx, id, moments[i])
		k.ok(err)
		return past
	}
	for _, c := range []struct {
		from, to int
		want     []commands.SettingChange
	}{
		{0, 0, nil},
		{0, 1, []commands.SettingChange{{Key: "locale", Before: "de_DE", After: "fr_FR"}}},
		{1, 2, []commands.SettingChange{{Key: "sip_lines.1.password", Before: domain.Redacted, After: domain.Redacted, Secret: true}}},
		{2, 3, []commands.SettingChange{{Key: "sip_lines.1.display_name", Before: "Anna Muster", After: "Reception"}}},
	} {
		if diff := cmp.Diff(c.want, at(c.from).Changes(at(c.to))); diff != "" {
			t.Errorf("from %d to %d:\n%s", c.from, c.to, diff)
		}
	}
}

func TestWhoBroughtALine(t *testing.T) {
	k, id, moments, _ := lived(t)
	lines, err := k.Blame(k.ctx, id, string(phone)+".cfg", moments[3])
	k.ok(err)
	brought := map[string]string{}
	for _, l := range lines {
		key, _, _ := strings.Cut(l.Text, " = ")
		for _, c := range l.Causes {
			brought[key] += c.Type + " "
		}
	}
	for key, want := range map[string]string{"locale": "layer.amended ", "sip_lines.1.display_name": "line.amended "} {
		if brought[key] != want {
			t.Errorf("%s was brought by %q, want %q", key, brought[key], want)
		}
	}
	// What an earlier look shows is of then: before the layer was amended the line had another text.
	lines, err = k.Blame(k.ctx, id, string(phone)+".cfg", moments[0])
	k.ok(err)
	for _, l := range lines {
		if strings.HasPrefix(l.Text, "locale") && (l.Text != "locale = de_DE" || moments[0].Before(l.Since)) {
			t.Errorf("then it was %+v", l)
		}
	}
	if _, err := k.Blame(k.ctx, id, "other.cfg", moments[3]); !errors.Is(err, commands.ErrNoBlob) {
		t.Errorf("of another file: %v", err)
	}
}

// Of an erased subject the history says that it cannot be proven any more, and since when; never something else.
func TestTheBytesOfTheErasedCannotBeProven(t *testing.T) {
	k, id, moments, _ := lived(t)
	_, err := k.EraseSubject(k.ctx, commands.EraseSubject{Subject: "user-anna"})
	k.ok(err)
	k.settle()
	for i, at := range moments {
		past, err := k.ConfigAt(k.ctx, id, at)
		k.ok(err)
		if past.Erased.IsZero() {
			t.Fatal("no key was destroyed")
		}
		for _, f := range past.Files {
			if f.Path == "common.cfg" {
				continue
			}
			if f.Proven() || f.Bytes != "unverifiable: key destroyed at "+past.Erased.String() {
				t.Errorf("moment %d: %s is %q", i, f.Path, f.Bytes)
			}
			if strings.Contains(string(f.Text), "Anna") || strings.Contains(string(f.Text), "pw-of") || !strings.Contains(string(f.Text), domain.Erased) {
				t.Errorf("moment %d shows\n%s", i, f.Text)
			}
			k.refused(domain.ErrErased, func() error {
				_, _, _, err := k.RevealConfig(k.ctx, commands.RevealConfig{ID: id, Path: f.Path, At: at})
				return err
			})
		}
	}
}
