package ledger

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"ledgerline/domain"
)

// What stands at hand is what the file says, whatever was forgotten meanwhile.
func TestRecentIsWhatTheFileSays(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := Open(t.Context(), Options{Dir: dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	random := rand.New(rand.NewPCG(1, 2))
	stream := func() domain.StreamID { return domain.StreamID(fmt.Sprintf("device-%d", random.IntN(40))) }
	last := map[domain.StreamID]domain.Revision{}
	read := func(l *Ledger, s domain.StreamID, from domain.Revision) (events []domain.Recorded, err error) {
		for e, readErr := range l.Read(t.Context(), s, from) {
			if err = readErr; err == nil {
				events = append(events, e)
			}
		}
		return events, err
	}
	for step := range 150 {
		s := stream()
		if _, known := last[s]; !known {
			last[s] = domain.NoStream
		}
		fresh := make([]domain.NewEvent, 1+random.IntN(3))
		for i := range fresh {
			fresh[i] = domain.NewEvent{ID: uuid.New(), Type: "a.b", Data: bytes.Repeat([]byte(" "), random.IntN(90_000)), Metadata: []byte(`{}`)}
		}
		if random.IntN(10) == 0 {
			fresh = append(fresh, fresh[0]) // refused
		}
		if _, err := l.Append(t.Context(), s, last[s], fresh); err == nil {
			last[s] += domain.Revision(len(fresh))
		}
		if random.IntN(100) == 0 {
			l.recent.mu.Lock()
			l.recent.streams, l.recent.events, l.recent.size = nil, nil, 0
			l.recent.forgot++
			l.recent.mu.Unlock()
		}
		for range 3 {
			s, from := stream(), domain.Revision(random.IntN(6))
			got, err := read(l, s, from)
			want, wantErr := read(file, s, from)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || !slices.EqualFunc(got, want, sameRecord) {
				t.Fatalf("step %d: %s from %d: %d events and %v at hand, %d and %v in the file", step, s, from, len(got), err, len(want), wantErr)
			}
		}
	}
	head, err := l.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, back := range []uint64{0, 1, 5, 50, head.Commit} {
		var got, want []domain.Recorded
		for e, err := range l.ReadAll(t.Context(), domain.At(head.Commit-back)) {
			if got = append(got, e); err != nil {
				t.Fatal(err)
			}
		}
		for e, err := range file.ReadAll(t.Context(), domain.At(head.Commit-back)) {
			if want = append(want, e); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.EqualFunc(got, want, sameRecord) {
			t.Errorf("the last %d: %d events at hand, %d in the file", back, len(got), len(want))
		}
	}
	if l.recent.size > recentBytes {
		t.Errorf("%d bytes at hand, %d are allowed", l.recent.size, recentBytes)
	}
}

func sameRecord(a, b domain.Recorded) bool {
	return a.Stream == b.Stream && a.Revision == b.Revision && a.Position == b.Position && a.ID == b.ID && a.Type == b.Type &&
		bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Metadata, b.Metadata)
}

// Whoever was answered sees what was appended, though others look for the end of the same streams meanwhile.
func TestRecentHasWhatWasAnswered(t *testing.T) {
	l, err := Open(t.Context(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithCancel(t.Context())
	var lookers, writers sync.WaitGroup
	for range 4 {
		lookers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				for range l.Read(ctx, domain.StreamID(fmt.Sprintf("device-%d", i%64)), 0) {
				}
			}
		})
	}
	for w := range 4 {
		writers.Go(func() {
			for i := w; i < 64; i += 4 {
				s := domain.StreamID(fmt.Sprintf("device-%d", i))
				for r := range domain.Revision(3) {
					if _, err := l.Append(ctx, s, r-1, []domain.NewEvent{{ID: uuid.New(), Type: "a.b", Data: []byte("{}"), Metadata: []byte("{}")}}); err != nil {
						t.Error(err)
					}
					n := domain.Revision(0)
					for _, err := range l.Read(ctx, s, 0) {
						if n++; err != nil {
							t.Error(err)
						}
					}
					if n != r+1 {
						t.Errorf("%d events of %s after %d were answered", n, s, r+1)
					}
				}
			}
		})
	}
	writers.Wait()
	stop()
	lookers.Wait()
}
