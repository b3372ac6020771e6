package domain_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"ledgerline/domain"
)

func TestParseMAC(t *testing.T) {
	const want = domain.MAC("0015651a2b3c")
	for _, s := range []string{"0015651a2b3c", "0015651A2B3C", "00:15:65:1a:2b:3c", "00-15-65-1A-2B-3C", "0015.651a.2b3c", " 0015651a2b3c\n"} {
		if m, err := domain.ParseMAC(s); err != nil || m != want {
			t.Errorf("%q: %q %v", s, m, err)
		}
	}
	if want.Colons() != "00:15:65:1a:2b:3c" || want.Upper() != "0015651A2B3C" || want.OUI() != "001565" {
		t.Error(want.Colons(), want.Upper(), want.OUI())
	}
	if none := domain.MAC(""); none.Colons() != "" || none.OUI() != "" || none.Upper() != "" {
		t.Error("the empty address has a form")
	}
}

func TestParseMACRefuses(t *testing.T) {
	for _, s := range badMACs {
		if m, err := domain.ParseMAC(s); !errors.Is(err, domain.ErrBadMAC) || m != "" || len(err.Error()) > 160 {
			t.Errorf("%q: %q %v", s, m, err)
		}
	}
}

var badMACs = []string{"", " ", "0", "0015651a2b3", "0015651a2b3c0", "0015651a2b3g", "00:15:65:1a:2b-3c", "00:15:65:1a2b:3c", "0015:651a:2b3c",
	"00.15.65.1a.2b.3c", "001.565.1a2.b3c", "00 15 65 1a 2b 3c", "000000000000", "FF:FF:FF:FF:FF:FF", "００15651a2b3c", "0015651a2b3c\x00", "../0015651a2b3c",
	"00:15:65:1a:2b:3c:", ":00:15:65:1a:2b:3", strings.Repeat("0", 300), "\xff\xfe"}

func FuzzParseMAC(f *testing.F) {
	for _, s := range badMACs {
		f.Add(s)
	}
	f.Add("00:15:65:1a:2b:3c")
	f.Add("00-15-65-1A-2B-3C")
	f.Add("0015.651a.2b3c")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := domain.ParseMAC(s)
		if err != nil {
			if m != "" || !errors.Is(err, domain.ErrBadMAC) {
				t.Fatalf("%q %v", m, err)
			}
			return
		}
		if len(m) != 12 || strings.Trim(string(m), "0123456789abcdef") != "" {
			t.Fatalf("%q became %q", s, m)
		}
		for _, form := range []string{string(m), m.Upper(), m.Colons()} {
			if again, err := domain.ParseMAC(form); err != nil || again != m {
				t.Fatalf("%q: its form %q is read as %q, %v", s, form, again, err)
			}
		}
		if domain.CheckID(string(m)) != nil {
			t.Fatalf("%q cannot be the id of a device", m)
		}
	})
}

func TestCheckID(t *testing.T) {
	for _, s := range []string{"a", "0", "0015651a2b3c.2", "tenant.acme", "A-b_c.d", strings.Repeat("x", 64), domain.IDFrom(uuid.Must(uuid.NewV7()))} {
		if err := domain.CheckID(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", ".", "..", "-a", "_a", ".a", "a b", "a/b", "a\x00", "ä", strings.Repeat("x", 65), "a\n", "$a"} {
		if err := domain.CheckID(s); !errors.Is(err, domain.ErrBadID) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestLives(t *testing.T) {
	for _, c := range []struct {
		id, base, next domain.DeviceID
		life           int
	}{
		{"0015651a2b3c", "0015651a2b3c", "0015651a2b3c.2", 1},
		{"0015651a2b3c.2", "0015651a2b3c", "0015651a2b3c.3", 2},
		{"0015651a2b3c.10", "0015651a2b3c", "0015651a2b3c.11", 10},
		{"desk.left", "desk.left", "desk.left.2", 1},
		{"desk.1", "desk.1", "desk.1.2", 1},
		{"desk.0", "desk.0", "desk.0.2", 1},
		{"desk.left.3", "desk.left", "desk.left.4", 3},
	} {
		base, life := c.id.Life()
		if base != c.base || life != c.life || c.id.NextLife() != c.next {
			t.Errorf("%s: %s, %d, next %s", c.id, base, life, c.id.NextLife())
		}
	}
}

func TestStreams(t *testing.T) {
	s := domain.Stream("device", "0015651a2b3c.2")
	if s != "device-0015651a2b3c.2" || s.Category() != "device" || s.ID() != "0015651a2b3c.2" || s.Internal() {
		t.Error(s, s.Category(), s.ID())
	}
	if dashed := domain.StreamID("tenant-0193a1b2-c3d4"); dashed.Category() != "tenant" || dashed.ID() != "0193a1b2-c3d4" {
		t.Error("the category ends at the first dash")
	}
	if bare := domain.StreamID("checkpoint"); bare.Category() != "checkpoint" || bare.ID() != "" {
		t.Error(bare.Category(), bare.ID())
	}
	for _, s := range []domain.StreamID{"$settings", "reactor-take-over", "lease-writer"} {
		if !s.Internal() {
			t.Errorf("%s is history", s)
		}
	}
}

func TestPositionsAreTokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := domain.Position{Commit: rapid.Uint64().Draw(t, "commit"), Prepare: rapid.Uint64().Draw(t, "prepare")}
		if back, err := domain.ParsePosition(p.String()); err != nil || back != p {
			t.Fatalf("%s is read as %s, %v", p, back, err)
		}
		q := domain.At(rapid.Uint64().Draw(t, "other"))
		if p.Before(q) != (p.Compare(q) < 0) || p.Compare(q) != -q.Compare(p) || (p.Compare(q) == 0) != (p == q) {
			t.Fatalf("%s and %s", p, q)
		}
		if !p.IsZero() && !(domain.Position{}).Before(p) {
			t.Fatalf("%s is not after the start", p)
		}
	})
	for _, s := range []string{"", "-1", "1.", ".1", "1.2.3", "x", "1 ", "18446744073709551616"} {
		if p, err := domain.ParsePosition(s); err == nil {
			t.Errorf("%q is read as %s", s, p)
		}
	}
}
