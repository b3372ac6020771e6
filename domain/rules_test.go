package domain_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/domain"
)

// rule is one sentence about a noun: given its history, when that is asked, then these events or that error.
type rule[S domain.State[S]] struct {
	name  string
	given []domain.Event
	when  func(S) ([]domain.Event, error)
	then  []domain.Event
	err   error
}

func check[S domain.State[S]](t *testing.T, rules []rule[S]) {
	t.Helper()
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			events, err := r.when(domain.Fold[S](r.given))
			if !errors.Is(err, r.err) {
				t.Fatalf("error %v, want %v", err, r.err)
			}
			if diff := cmp.Diff(r.then, events, sealedAlike); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// sealedAlike compares sealed values as they are, and shows none.
var sealedAlike = cmp.Comparer(func(a, b domain.Sealed) bool { return reflect.DeepEqual(a, b) })

// past is a history, as the given of a rule.
func past(events ...domain.Event) []domain.Event { return events }

// of makes the when of a rule from one that never refuses.
func of[S any](when func(S) []domain.Event) func(S) ([]domain.Event, error) {
	return func(s S) ([]domain.Event, error) { return when(s), nil }
}

// only makes the when of a rule from a question.
func only[S any](ask func(S) error) func(S) ([]domain.Event, error) {
	return func(s S) ([]domain.Event, error) { return nil, ask(s) }
}

// stored is a secret as it stands in the log.
func stored(fingerprint string) domain.Secret {
	return domain.Secret{Sealed: domain.Sealed{KeyID: "k", Nonce: []byte("n"), Ciphertext: []byte("c"), Fingerprint: fingerprint}}
}

func name(fingerprint string) domain.Personal { return domain.Personal(stored(fingerprint)) }
