package contract

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Leases holds an implementation of commands.Leases to its contract. open gives another handle on the same
// leases each time, as another replica would have.
func Leases(t *testing.T, open func(t *testing.T) commands.Leases) {
	a, b := open(t), open(t)
	lease, ctx := name("lease"), within(t)
	if l, at, err := a.LoadLease(ctx, lease); err != nil || at != domain.NoStream || l != (commands.Lease{}) {
		t.Fatalf("a lease nobody ever took: %v at %d, %v", l, at, err)
	}
	anna, bert := commands.Lease{Holder: "anna", TTL: 10 * time.Second}, commands.Lease{Holder: "bert", TTL: time.Minute}
	ok(t, a.SaveLease(ctx, lease, domain.NoStream, anna))
	if err := b.SaveLease(ctx, lease, domain.NoStream, bert); !errors.Is(err, domain.ErrConflict) {
		t.Fatalf("taken a second time: %v", err)
	}
	l, at, err := b.LoadLease(ctx, lease)
	if ok(t, err); l != anna || at != 0 {
		t.Fatalf("%v at %d", l, at)
	}
	ok(t, b.SaveLease(ctx, lease, at, bert))
	if err := a.SaveLease(ctx, lease, at, anna); !errors.Is(err, domain.ErrConflict) {
		t.Fatalf("renewed after it was taken over: %v", err)
	}
	for i := range domain.Revision(20) {
		ok(t, b.SaveLease(ctx, lease, 1+i, bert))
	}
	l, at, err = open(t).LoadLease(ctx, lease)
	if ok(t, err); at != 21 {
		t.Fatalf("at %d after 20 renewals", at)
	}
	if diff := cmp.Diff(bert, l); diff != "" {
		t.Fatal(diff)
	}
	wins := make(chan bool, 16)
	together(cap(wins), func(int) {
		err := open(t).SaveLease(ctx, lease, 21, anna)
		if err != nil && !errors.Is(err, domain.ErrConflict) {
			t.Error(err)
		}
		wins <- err == nil
	})
	won := 0
	for range cap(wins) {
		if <-wins {
			won++
		}
	}
	if won != 1 {
		t.Errorf("of 16 at once %d took it", won)
	}
}
