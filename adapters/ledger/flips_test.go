package ledger_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"

	"ledgerline/adapters/ledger"
	"ledgerline/domain"
)

// TestRandomBitFlips turns one random bit of a ledger's file after the other (LEDGERLINE_FLIPS, default 200). A
// verification that finds nothing means every event is as it was; of an event that is not, the place is named.
func TestRandomBitFlips(t *testing.T) {
	flips := 200
	if text := os.Getenv("LEDGERLINE_FLIPS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		flips = n
	}
	o := history(t, 1000)
	l := open(t, o)
	whole := readAll(t, l)
	shut(t, l)
	path := filepath.Join(o.Dir, "ledger.db")
	sound := copyOf(t, o, "ledger.db")
	seed := uint64(20261121)
	random := rand.New(rand.NewPCG(seed, seed))
	var harmless, found, unreadable int
	for n := range flips {
		at, bit := random.IntN(len(sound)), random.IntN(8)
		damaged := append([]byte(nil), sound...)
		damaged[at] ^= 1 << bit
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(path + "-wal")
		_ = os.Remove(path + "-shm")
		l, err := ledger.Open(t.Context(), ledger.Options{Dir: o.Dir, ReadOnly: true, Unchecked: true})
		if err != nil {
			unreadable++ // said before anything was read from it
			continue
		}
		report, verifyErr := l.Verify(t.Context(), domain.Position{})
		var got []domain.Recorded
		var readErr error
		for r, err := range l.ReadAll(t.Context(), domain.Position{}) {
			if err != nil {
				readErr = err
				break
			}
			got = append(got, r)
		}
		if err := l.Close(); err != nil && verifyErr == nil {
			t.Fatal(err)
		}
		wrong := differing(whole, got)
		switch {
		case verifyErr == nil && (len(wrong) > 0 || readErr != nil):
			t.Errorf("flip %d (bit %d of byte %d): found sound, and %v differ (%v)", n, bit, at, wrong, readErr)
		case verifyErr == nil:
			harmless++
		default:
			found++
			text := verifyErr.Error()
			for _, f := range report.Findings {
				text += "\n" + f.String()
			}
			for _, p := range wrong[:min(1, len(wrong))] { // the first: behind it SQLite may not get
				if !names(report.Findings, p) {
					t.Errorf("flip %d (bit %d of byte %d): position %s differs, the report says\n%s", n, bit, at, p, text)
				}
			}
		}
	}
	t.Logf("%d flips: %d found and located, %d files refused at once, %d touched no event", flips, found, unreadable, harmless)
	if found == 0 || harmless == flips {
		t.Error("no flip was ever found")
	}
}

// differing are the positions at which two histories are not the same.
func differing(want, got []domain.Recorded) (wrong []domain.Position) {
	at := make(map[domain.Position]domain.Recorded, len(got))
	for _, r := range got {
		at[r.Position] = r
	}
	for _, r := range want {
		if !reflect.DeepEqual(at[r.Position], r) {
			wrong = append(wrong, r.Position)
		}
	}
	return wrong
}

// names tells whether a finding concerns the position.
func names(found []ledger.Finding, p domain.Position) bool {
	for _, f := range found {
		if f.Position.Commit <= p.Commit && p.Commit < f.Position.Commit+max(1, f.Rows) {
			return true
		}
	}
	return false
}
