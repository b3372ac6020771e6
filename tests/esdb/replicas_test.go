package esdb

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"ledgerline/adapters/esdbserver"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/contract"
)

func TestLeasesContract(t *testing.T) {
	n := up(t, esdbserver.Options{})
	contract.Leases(t, func(t *testing.T) commands.Leases { return n.store(t) })
}

func TestSharedGroupsContract(t *testing.T) {
	n := up(t, esdbserver.Options{})
	contract.SharedGroups(t, func(t *testing.T) contract.SharedUnderTest {
		s := n.store(t)
		return contract.SharedUnderTest{Log: s, Groups: s}
	})
}

// TestPositionsAreFenced: once a second replica has taken the positions of a reaction over, the first cannot
// put them back; when it loads them again it may go on.
func TestPositionsAreFenced(t *testing.T) {
	n := up(t, esdbserver.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first, second := n.store(t), n.store(t)
	for at := range uint64(3) {
		if err := first.SaveReactor(ctx, "push", commands.ReactorState{Position: domain.At(10 + at)}); err != nil {
			t.Fatal(err)
		}
	}
	state, found, err := second.LoadReactor(ctx, "push")
	if err != nil || !found || state.Position != domain.At(12) {
		t.Fatal(state, found, err)
	}
	if err := second.SaveReactor(ctx, "push", commands.ReactorState{Position: domain.At(40)}); err != nil {
		t.Fatal(err)
	}
	if err := first.SaveReactor(ctx, "push", commands.ReactorState{Position: domain.At(13)}); !errors.Is(err, domain.ErrConflict) {
		t.Fatalf("the first replica put the position back: %v", err)
	}
	if state, _, err := first.LoadReactor(ctx, "push"); err != nil || state.Position != domain.At(40) {
		t.Fatal(state, err)
	}
	if err := first.SaveReactor(ctx, "push", commands.ReactorState{Position: domain.At(41)}); err != nil {
		t.Fatal(err)
	}
}

// TestParkedMessagesAreCut: the stream of parked messages does not grow for ever, and what stands parked stays.
func TestParkedMessagesAreCut(t *testing.T) {
	n := up(t, esdbserver.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := n.store(t)
	standing := map[uuid.UUID]bool{}
	for i := range 300 {
		p := commands.Parked{Reaction: "push", EventID: uuid.New(), Position: domain.At(uint64(i)), Stream: "device-1", Reason: fmt.Sprint("refused ", i), Attempts: 8}
		if err := s.Park(ctx, p); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			standing[p.EventID] = true
		} else if err := s.Unpark(ctx, "push", p.EventID); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		list, err := n.store(t).Parked(ctx, "push")
		if err != nil || len(list) != len(standing) {
			t.Fatalf("%d stand parked, %v; want %d", len(list), err, len(standing))
		}
		for _, p := range list {
			if !standing[p.EventID] || p.Reason == "" {
				t.Errorf("%+v stands parked", p)
			}
		}
	}
	events := 0
	for _, err := range s.Read(ctx, "reactor-$parked", 0) {
		if err != nil {
			t.Fatal(err)
		}
		events++
	}
	if events != 1 {
		t.Errorf("the stream has %d events after it was cut", events)
	}
}

// TestHeadPassesBookkeepingOver: however much of it there is, and after an older log was put in place.
func TestHeadPassesBookkeepingOver(t *testing.T) {
	n := up(t, esdbserver.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := n.store(t)
	if head, err := s.Head(ctx); err != nil || !head.IsZero() {
		t.Fatal(head, err)
	}
	for i := range domain.Revision(5) {
		at, err := s.Append(ctx, "device-1", i-1, newEvent())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := s.SaveReactor(ctx, "push", commands.ReactorState{}); err != nil {
				t.Fatal(err)
			}
			if head, err := s.Head(ctx); err != nil || head != at {
				t.Fatalf("head %s, %v; want %s", head, err, at)
			}
		}
	}
	n.stop()
	n.dir = t.TempDir() // another, emptier log
	n.start()
	at, err := n.store(t).Append(ctx, "device-2", domain.NoStream, newEvent())
	if err != nil {
		t.Fatal(err)
	}
	if head, err := s.Head(ctx); err != nil || head != at {
		t.Fatalf("head %s, %v; want %s", head, err, at)
	}
}
