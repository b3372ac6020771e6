package proof_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"ledgerline/adapters/proof"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// events are n events, every fifth of them bookkeeping that is no leaf.
func events(n int) history {
	var out history
	for i := range n {
		stream := domain.StreamID(fmt.Sprintf("device-%d", i%3))
		if i%5 == 4 {
			stream = "reactor-x"
		}
		out = append(out, domain.Recorded{Stream: stream, Revision: domain.Revision(i), Position: domain.At(uint64(i + 1)), ID: uuid.NewSHA1(uuid.Nil, []byte{byte(i), byte(i >> 8)}),
			Type: "device.reset", Data: []byte(fmt.Sprintf(`{"n":%d}`, i)), Metadata: []byte(`{}`)})
	}
	return out
}

// history is a log that only reads.
type history []domain.Recorded

func (h history) ReadAll(_ context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for _, r := range h {
			if after.Before(r.Position) && !yield(r, nil) {
				return
			}
		}
	}
}

func (h history) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return h.ReadAll(ctx, after)
}

func (h history) Head(context.Context) (domain.Position, error) {
	return domain.At(uint64(len(h))), nil
}

func signer(t testing.TB, seed byte) (*proof.Signer, note.Verifier) {
	t.Helper()
	s, err := proof.NewSigner([]byte(strings.Repeat(string(rune(seed)), 32)))
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(s.Key)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

// signed signs the tree over the first n events of h.
func signed(t testing.TB, s *proof.Signer, h history) string {
	t.Helper()
	var e proof.Edge
	for _, r := range h {
		if proof.IsLeaf(r) {
			e.Append(domain.LeafHash(r), nil)
		}
	}
	c, err := s.Sign(&e, domain.At(uint64(len(h))), time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return c.Note
}

// The edge gives the roots and nodes that the Go checksum database's own tree gives.
func TestTheEdgeIsRFC6962(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stored []tlog.Hash
		read := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, _ error) {
			for _, i := range indexes {
				out = append(out, stored[i])
			}
			return out, nil
		})
		var e proof.Edge
		made := map[int64]tlog.Hash{}
		for n := range rapid.Int64Range(1, 300).Draw(t, "leaves") {
			leaf := [32]byte{byte(n), byte(n >> 8)}
			more, err := tlog.StoredHashes(n, leaf[:], read)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, more...)
			e.Append(leaf, func(i int64, h tlog.Hash) { made[i] = h })
			root, err := tlog.TreeHash(n+1, read)
			if err != nil || root != e.Root() || e.Size() != n+1 {
				t.Fatalf("root of %d leaves: %s, want %s (%v)", n+1, e.Root(), root, err)
			}
			b, err := e.MarshalJSON()
			var again proof.Edge
			if err != nil || again.UnmarshalJSON(b) != nil || again.Root() != root {
				t.Fatalf("edge %s reads back as %s", b, again.Root())
			}
		}
		for i, h := range stored {
			if made[int64(i)] != h {
				t.Fatalf("node %d is %s, want %s", i, made[int64(i)], h)
			}
		}
	})
}

func TestEveryEventIsProvenAndNoOther(t *testing.T) {
	s, v := signer(t, 'a')
	_, other := signer(t, 'b')
	all := events(70)
	against := signed(t, s, all[:60])
	for i, r := range all {
		p, err := proof.ProveInclusion(t.Context(), all, against, func(c domain.Recorded) bool { return c.ID == r.ID })
		if i >= 60 || !proof.IsLeaf(r) {
			if !errors.Is(err, proof.ErrNotInLog) {
				t.Fatalf("event %d: %v", i, err)
			}
			continue
		}
		if err != nil || proof.Check(p, v) != nil {
			t.Fatalf("event %d is not proven: %v, %v", i, err, proof.Check(p, v))
		}
		if err := proof.Check(p, other); !errors.Is(err, proof.ErrBadCheckpoint) {
			t.Fatalf("checked with another key: %v", err)
		}
		for name, change := range map[string]func(*proof.Proof){
			"data":     func(p *proof.Proof) { p.Event.Data += " " },
			"metadata": func(p *proof.Proof) { p.Event.Metadata = `{"actor":"x"}` },
			"stream":   func(p *proof.Proof) { p.Event.Stream += "0" },
			"revision": func(p *proof.Proof) { p.Event.Revision++ },
			"id":       func(p *proof.Proof) { p.Event.ID[0] ^= 1 },
			"type":     func(p *proof.Proof) { p.Event.Type = "device.deleted" },
			"leaf":     func(p *proof.Proof) { p.Leaf ^= 1 },
			"far leaf": func(p *proof.Proof) { p.Leaf = 1 << 40 },
			"hash":     func(p *proof.Proof) { p.Hashes[0][3] ^= 1 },
			"fewer":    func(p *proof.Proof) { p.Hashes = p.Hashes[1:] },
			"kind":     func(p *proof.Proof) { p.Kind = proof.Consistency },
			"no event": func(p *proof.Proof) { p.Event = nil },
		} {
			changed, e := *p, *p.Event
			changed.Event, changed.Hashes = &e, append([]tlog.Hash(nil), p.Hashes...)
			change(&changed)
			if proof.Check(&changed, v) == nil {
				t.Fatalf("event %d: proven with another %s", i, name)
			}
		}
		changed := *p
		changed.Checkpoint = strings.Replace(p.Checkpoint, "\n48\n", "\n47\n", 1)
		if err := proof.Check(&changed, v); !errors.Is(err, proof.ErrBadCheckpoint) {
			t.Fatalf("a changed checkpoint: %v", err)
		}
	}
}

func TestConsistencyHoldsBetweenAnyTwoCheckpointsOfOneHistory(t *testing.T) {
	s, v := signer(t, 'a')
	all := events(40)
	for n := 1; n <= len(all); n += 3 {
		for m := n; m <= len(all); m += 5 {
			p, err := proof.ProveConsistency(t.Context(), all, signed(t, s, all[:n]), signed(t, s, all[:m]))
			if err != nil || proof.Check(p, v) != nil {
				t.Fatalf("%d to %d: %v, %v", n, m, err, proof.Check(p, v))
			}
		}
	}
	// Of a history that was rewritten no such proof can be made, and none of the other's holds.
	forged := events(40)
	forged[7].Data = []byte(`{"n":"forged"}`)
	if _, err := proof.ProveConsistency(t.Context(), forged, signed(t, s, all[:20]), signed(t, s, forged)); !errors.Is(err, proof.ErrRewritten) {
		t.Fatalf("a forged history is consistent: %v", err)
	}
	p, err := proof.ProveConsistency(t.Context(), forged, signed(t, s, forged[:20]), signed(t, s, forged))
	if err != nil {
		t.Fatal(err)
	}
	p.From = signed(t, s, all[:20])
	if err := proof.Check(p, v); !errors.Is(err, proof.ErrNotProven) {
		t.Fatalf("a proof of another history: %v", err)
	}
}

func TestVerifyFindsWhatWasDone(t *testing.T) {
	s, _ := signer(t, 'a')
	all := events(50)
	var given []proof.Checkpoint
	for _, n := range []int{50, 10, 30} {
		c, err := proof.OpenCheckpoint(signed(t, s, all[:n]), nil)
		if err != nil {
			t.Fatal(err)
		}
		given = append(given, c)
	}
	flipped := events(50)
	flipped[17].Metadata = []byte(`{ }`)
	dropped := append(events(50)[:20:20], events(50)[21:]...)
	swapped := events(50)
	swapped[11], swapped[12] = swapped[12], swapped[11]
	for name, c := range map[string]struct {
		log  history
		want []string
	}{
		"as it was":   {all, nil},
		"bookkeeping": {func() history { h := events(50); h[4].Data = []byte("x"); return h }(), nil},
		"one bit":     {flipped, []string{"checkpoint of 24 events", "leaf 8 and 23", "checkpoint of 40"}},
		"one dropped": {dropped, []string{"checkpoint of 24 events", "leaf 8 and 23", "has only 39"}},
		"swapped":     {swapped, []string{"leaf 8 and 23", "checkpoint of 40"}},
		"cut off":     {all[:45], []string{"checkpoint of 40 events", "has only 36"}},
		"rolled back": {all[:25], []string{"checkpoint of 24 events, 2026-03-03 12:00:00: the log has only 20", "checkpoint of 40"}},
	} {
		report, err := proof.Verify(t.Context(), c.log, given)
		if (err == nil) != (c.want == nil) || err != nil && !errors.Is(err, proof.ErrRewritten) {
			t.Errorf("%s: %v", name, err)
		}
		text := strings.Join(report.Broken, "\n")
		for _, w := range c.want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q does not say %q", name, text, w)
			}
		}
	}
}

// keeper starts a keeper on a log and answers how to stop it; what it answered is in the error.
func keeper(t *testing.T, log *commandstest.Log, s *proof.Signer, dir string) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	k := &proof.Keeper{Log: log, Signer: s, Dir: dir, Record: func(ctx context.Context, c domain.CheckpointSigned) error {
		_, err := log.Append(ctx, domain.CheckpointStream(c.Size), domain.NoStream, []domain.NewEvent{{ID: uuid.New(), Type: c.EventType(), Data: []byte("{}"), Metadata: []byte("{}")}})
		return err
	}}
	go func() { done <- k.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

func TestKeeperSignsWhatIsNewAndRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, v := signer(t, 'a')
		dir, log := t.TempDir(), commandstest.NewLog()
		write := func(n int) {
			for range n {
				if _, err := log.Append(t.Context(), "device-a", domain.Any, []domain.NewEvent{{ID: uuid.New(), Type: "x", Data: []byte("{}"), Metadata: []byte("{}")}}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		kept := func() []string {
			b, _ := os.ReadFile(proof.LogFile(dir))
			return proof.Checkpoints(string(b))
		}
		stop := keeper(t, log, s, dir)
		time.Sleep(10 * time.Minute)
		if n := len(kept()); n != 0 {
			t.Fatalf("%d checkpoints of an empty log", n)
		}
		write(3)
		time.Sleep(2 * time.Second) // the minute since the start is long over
		write(1)
		time.Sleep(50 * time.Second)
		if n := len(kept()); n != 1 {
			t.Fatalf("%d checkpoints, want the one after the first events", n)
		}
		time.Sleep(time.Hour)
		if n := len(kept()); n != 2 {
			t.Fatalf("%d checkpoints: a log at rest grows by its own checkpoints", n)
		}
		write(1000)
		time.Sleep(1500 * time.Millisecond)
		if n := len(kept()); n != 3 {
			t.Fatalf("%d checkpoints after 1,000 events", n)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for _, text := range kept() {
			if _, err := proof.OpenCheckpoint(text, v); err != nil {
				t.Fatal(err)
			}
		}
		// A start with the edge lost reads the log anew, and goes on with the same tree.
		if err := os.Remove(filepath.Join(dir, "checkpoint.edge")); err != nil {
			t.Fatal(err)
		}
		stop = keeper(t, log, s, dir)
		write(1)
		time.Sleep(2 * time.Minute)
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		all := kept()
		if _, err := proof.ProveConsistency(t.Context(), log, all[0], all[len(all)-1]); err != nil {
			t.Fatal(err)
		}
		// Another log in the place of this one, or a shorter copy of it, is told at once.
		for _, n := range []int{2, 2000} {
			log = commandstest.NewLog()
			write(n)
			stop := keeper(t, log, s, dir)
			synctest.Wait()
			if err := stop(); !errors.Is(err, proof.ErrRewritten) {
				t.Fatalf("a log of %d other events: %v", n, err)
			}
		}
	})
}

func TestATornCheckpointIsLeftOut(t *testing.T) {
	s, _ := signer(t, 'a')
	first, second := signed(t, s, events(5)), signed(t, s, events(9))
	file := first + "\n" + second + "\n"
	for cut := range len(file) {
		got := proof.Checkpoints(file[:cut])
		for _, text := range got {
			if text != first && text != second {
				t.Fatalf("cut at %d: %q", cut, text)
			}
		}
	}
	if got := proof.Checkpoints(file); len(got) != 2 {
		t.Fatalf("%d checkpoints, want 2", len(got))
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	s, _ := signer(f, 'a')
	f.Add(signed(f, s, events(9)))
	f.Add("a\n1\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := proof.ParseCheckpoint(text)
		if err != nil {
			return
		}
		again, err := proof.ParseCheckpoint(c.String())
		if err != nil || again != c && c.At.Equal(again.At) && c.At.Nanosecond() == 0 && again.String() != c.String() {
			t.Fatalf("%q reads as %+v, then %+v (%v)", text, c, again, err)
		}
	})
}

func TestAnArchiveIsWhatItsCheckpointCovers(t *testing.T) {
	s, v := signer(t, 'a')
	_, other := signer(t, 'b')
	all := events(60)
	all[3].Data, all[6].Data, all[7].Metadata = []byte("\x00no json"), []byte("{\n}"), nil
	against := signed(t, s, all[:50])
	for from := range uint64(55) {
		var file bytes.Buffer
		made, err := proof.Export(t.Context(), all, domain.At(from), against, &file)
		if from >= 49 { // 50 is bookkeeping: 49 is the last leaf below the checkpoint
			if !errors.Is(err, proof.ErrNotInLog) {
				t.Fatalf("after %d: %v", from, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var read history
		again, err := proof.ReadArchive(bytes.NewReader(file.Bytes()), v, func(r domain.Recorded) error { read = append(read, r); return nil })
		if err != nil || again != made {
			t.Fatalf("after %d: %v, reads as %+v, written as %+v", from, err, again, made)
		}
		var want history
		for _, r := range all[from:50] {
			if proof.IsLeaf(r) {
				want = append(want, r)
			}
		}
		if diff := cmp.Diff(want, read, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("after %d:\n%s", from, diff)
		}
	}
	var file bytes.Buffer
	if _, err := proof.Export(t.Context(), all, domain.At(9), against, &file); err != nil {
		t.Fatal(err)
	}
	if _, err := proof.ReadArchive(bytes.NewReader(file.Bytes()), other, nil); !errors.Is(err, proof.ErrBadCheckpoint) {
		t.Errorf("with another key: %v", err)
	}
	for name, change := range map[string]func(lines []string) []string{
		"a changed": func(l []string) []string { l[4] = strings.Replace(l[4], `"n":`, `"m":`, 1); return l },
		"a dropped": func(l []string) []string { return append(l[:4:4], l[5:]...) },
		"a doubled": func(l []string) []string { return append(l[:4:4], l[3:]...) },
		"a swapped": func(l []string) []string { l[4], l[5] = l[5], l[4]; return l },
		"no last":   func(l []string) []string { return l[:len(l)-1] },
		"a torn":    func(l []string) []string { l[4] = l[4][:10]; return l },
	} {
		forged := repack(t, file.Bytes(), change)
		if _, err := proof.ReadArchive(bytes.NewReader(forged), v, nil); !errors.Is(err, proof.ErrBadArchive) {
			t.Errorf("with %s line: %v", name, err)
		}
	}
	for cut := range file.Len() {
		if _, err := proof.ReadArchive(bytes.NewReader(file.Bytes()[:cut]), v, nil); err == nil {
			t.Fatalf("cut at %d of %d it is whole", cut, file.Len())
		}
	}
}

// repack writes an archive anew with other lines of events.
func repack(t *testing.T, archive []byte, change func([]string) []string) []byte {
	t.Helper()
	in, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	from, to := tar.NewReader(in), tar.NewWriter(zip)
	for {
		h, err := from.Next()
		if err == io.EOF {
			break
		}
		b, err2 := io.ReadAll(from)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if h.Name == "events.ndjson" {
			b = []byte(strings.Join(change(strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")), "\n") + "\n")
		}
		h.Size = int64(len(b))
		_, err = to.Write(nil)
		if err := errors.Join(err, to.WriteHeader(h)); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(to.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
