package domain_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"ledgerline/domain"
)

const canary = "canary-3hX9!q"

// Nothing that prints or encodes ever shows the clear text of a value on its way into the log.
func TestClearTextNeverPrints(t *testing.T) {
	secret, personal := domain.NewSecret("line-anna", canary, "f00d"), domain.NewPersonal("user-anna", canary, "f00d")
	settings := domain.Settings{"admin_password": secret, "sip_lines": map[string]any{"1": map[string]any{"password": secret, "display_name": personal}}}
	nested := struct {
		S domain.Secret
		P *domain.Personal
		M map[string]any
		L []domain.Secret
		E domain.Event
		u domain.Secret // fmt does not call methods of what is not exported
	}{secret, &personal, settings, []domain.Secret{secret}, domain.LineSecretRotated{Password: secret}, secret}
	wrapped := fmt.Errorf("rotate %v: %w", secret, errors.New("no"))
	for what, v := range map[string]any{"Secret": secret, "Personal": personal, "Sealed": secret.Sealed, "pointer": &secret, "settings": settings,
		"nested": nested, "pointer to nested": &nested, "slice": []any{secret, personal}, "error": wrapped,
		"event": domain.LineDefined{Password: secret, LineSpec: domain.LineSpec{Number: personal, Settings: domain.LineSettings{"password": secret}}}, "device": domain.Device{Secret: secret}} {
		var out strings.Builder
		for _, verb := range strings.Split("v +v #v s q x X d t e c b o U p T 10.3v -20s 08d", " ") {
			fmt.Fprintf(&out, "%"+verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		j, jerr := json.Marshal(v)
		x, xerr := xml.Marshal(v)
		fmt.Fprintf(&out, "%s %v %s %v", j, jerr, x, xerr)
		for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("%v", []byte(canary))} {
			if strings.Contains(out.String(), form) {
				t.Errorf("%s shows its clear text", what)
			}
		}
		if what != "error" && !errors.Is(jerr, domain.ErrUnsealed) {
			t.Errorf("%s: JSON gave %v, want ErrUnsealed", what, jerr)
		}
	}
	if got := fmt.Sprintf("%v|%s|%q|%x", secret, secret, personal, secret); got != strings.Repeat("[redacted]|", 3)+"[redacted]" {
		t.Error(got)
	}
}

func TestASealedValueTravelsAsJSON(t *testing.T) {
	in := domain.Secret{Sealed: domain.Sealed{KeyID: "k", Nonce: []byte("nonce"), Ciphertext: []byte("cipher"), Fingerprint: "f00d", AAD: "id#/p"}}
	b, err := json.Marshal(domain.LineSecretRotated{Password: in})
	if err != nil {
		t.Fatal(err)
	}
	e, err := domain.Decode("line.secret_rotated", b)
	if err != nil {
		t.Fatal(err)
	}
	out := e.(domain.LineSecretRotated).Password
	if _, _, pending := out.Pending(); pending || out.IsZero() || out.KeyID != in.KeyID || string(out.Ciphertext) != "cipher" || out.AAD != in.AAD || !out.Same(in.Sealed) {
		t.Errorf("came back as another: %s", b)
	}
	if strings.Contains(string(b), "subject") {
		t.Errorf("more than the sealed form: %s", b)
	}
}

func TestNoValueIsNull(t *testing.T) {
	if b, err := json.Marshal(domain.Secret{}); err != nil || string(b) != "null" {
		t.Errorf("%s %v", b, err)
	}
	var s domain.Secret
	if err := json.Unmarshal([]byte("null"), &s); err != nil || !s.IsZero() {
		t.Error(err)
	}
	if p := domain.NewPersonal("user-anna", "", "f"); !p.IsZero() {
		t.Error("an empty name is a value")
	}
	if s := domain.NewSecret("user-anna", "", "f"); s.IsZero() {
		t.Error("an empty secret is none")
	}
}

func TestSame(t *testing.T) {
	one := func(fp string) domain.Sealed { return domain.NewSecret("line-anna", "x", fp).Sealed }
	stored := domain.Sealed{KeyID: "k", Fingerprint: "aa"}
	for _, c := range []struct {
		what string
		a, b domain.Sealed
		want bool
	}{
		{"none and none", domain.Sealed{}, domain.Sealed{}, true},
		{"none and one", domain.Sealed{}, stored, false},
		{"one and none", one("aa"), domain.Sealed{}, false},
		{"pending and stored, alike", one("aa"), stored, true},
		{"pending and stored, unlike", one("bb"), stored, false},
		{"without fingerprints nothing is known", one(""), one(""), false},
	} {
		if c.a.Same(c.b) != c.want {
			t.Errorf("%s: %v", c.what, !c.want)
		}
	}
}
