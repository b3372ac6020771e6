package esdbserver

import (
	"math"
	"testing"
	"time"

	"github.com/google/uuid"

	"ledgerline/domain"
)

// TestBounds: clients may name positions whose halves differ, or that lie at the edges. The log's events
// are at (1,1), (2,2), (3,3) …
func TestBounds(t *testing.T) {
	for _, c := range []struct{ commit, prepare, before, behind uint64 }{
		{0, 0, 0, 0},
		{5, 5, 4, 5},
		{5, 4, 4, 4}, // (4,4) < (5,4) < (5,5)
		{5, 6, 5, 5}, // (5,5) < (5,6) < (6,6)
		{0, 9, 0, 0},
		{math.MaxUint64, math.MaxUint64, math.MaxUint64 - 1, math.MaxUint64},
	} {
		if got := before(c.commit, c.prepare); got != domain.At(c.before) {
			t.Errorf("before (%d,%d): %s, want %d", c.commit, c.prepare, got, c.before)
		}
		if got := behind(c.commit, c.prepare); got != domain.At(c.behind) {
			t.Errorf("behind (%d,%d): %s, want %d", c.commit, c.prepare, got, c.behind)
		}
	}
}

// TestOwnTime: what the metadata says goes before what the id says.
func TestOwnTime(t *testing.T) {
	v7, v4 := uuid.MustParse("0192d5a2-1234-7e21-a4c5-d6e7f8091a2b"), uuid.MustParse("38fffbc2-339e-41ea-8c7b-784f43837872")
	said := time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		id    uuid.UUID
		meta  string
		want  time.Time
		known bool
	}{
		{v7, `{"recorded_at":"2026-11-02T10:30:00+01:00"}`, said, true},
		{v4, `{"recorded_at":"2026-11-02T09:30:00Z"}`, said, true},
		{v7, `{"recorded_at":"yesterday"}`, time.UnixMilli(0x0192d5a21234), true},
		{v7, `[`, time.UnixMilli(0x0192d5a21234), true},
		{v4, `{}`, time.Time{}, false},
	} {
		if got, known := ownTime(c.id, []byte(c.meta)); !got.Equal(c.want) || known != c.known {
			t.Errorf("%s %s: %s, %v", c.id, c.meta, got, known)
		}
	}
	if n := ticks(said); n != said.Unix()*10_000_000 {
		t.Errorf("%d ticks", n)
	}
	if ticks(time.Time{}) != 0 {
		t.Error("an unknown time is not 1970")
	}
}
