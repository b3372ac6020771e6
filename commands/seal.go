package commands

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/google/uuid"

	"ledgerline/domain"
)

// lookups is the subject whose key hashes what must be found again (claims, path secrets, API keys).
// It belongs to the instance and is never erased.
const lookups domain.Subject = "settings-lookups"

// fingerprint tells equal clear texts of one subject apart from others, and nothing else.
func (s *Service) fingerprint(ctx context.Context, subject domain.Subject, clear string) (string, error) {
	sum, err := s.Vault.Hash(ctx, subject, "fingerprint", []byte(clear))
	if err != nil {
		return "", fmt.Errorf("fingerprint for %s: %w", subject, err)
	}
	return hex.EncodeToString(sum)[:32], nil
}

// secret is clear text on its way into an event, to be sealed under subject's key.
func (s *Service) secret(ctx context.Context, subject domain.Subject, clear string) (domain.Secret, error) {
	fp, err := s.fingerprint(ctx, subject, clear)
	return domain.NewSecret(subject, clear, fp), err
}

// personal is secret for personal data; empty text stays empty.
func (s *Service) personal(ctx context.Context, subject domain.Subject, clear string) (domain.Personal, error) {
	if clear == "" {
		return domain.Personal{}, nil
	}
	fp, err := s.fingerprint(ctx, subject, clear)
	return domain.NewPersonal(subject, clear, fp), err
}

// tree is settings of a phone or of one line.
type tree[T any] interface {
	MapSecrets(fn func(pointer string, v any) (any, error)) (T, error)
	MapPersonal(fn func(pointer string, v any) (any, error)) (T, error)
	Get(path string) any
	Clean() (T, error)
}

// clean validates and normalises settings a caller sent. "[redacted]" for a secret becomes the zero Secret,
// which protect reads as "as it was".
func clean[T tree[T]](in T) (T, error) {
	marked, err := in.MapSecrets(func(_ string, v any) (any, error) {
		if v == domain.Redacted {
			return domain.Secret{}, nil
		}
		return v, nil
	})
	if err != nil {
		return in, err
	}
	return marked.Clean()
}

// protect turns the secrets and names in settings a caller sent into sealed values of subject. A secret
// the caller leaves as it was (see clean) keeps the value it has in before; one unchanged keeps its seal.
func protect[T tree[T]](ctx context.Context, s *Service, subject domain.Subject, in, before T) (T, error) {
	seal := func(make func(fp, clear string) any) func(string, any) (any, error) {
		return func(pointer string, v any) (any, error) {
			old := before.Get(dotted(pointer))
			if sent, sealed := sealedOf(v); sealed {
				// Somebody else's ciphertext must not become a value of this subject.
				if !sent.IsZero() {
					return nil, &domain.SettingsError{Field: dotted(pointer), Rule: "must be in clear text"}
				}
				if old == nil {
					return nil, &domain.SettingsError{Field: dotted(pointer), Rule: "is redacted, and there is no value to keep"}
				}
				if _, kept := sealedOf(old); kept {
					return old, nil
				}
				v = old // of settings that were kept as one secret
			}
			clear, err := domain.LeafText(v)
			if err != nil {
				return nil, &domain.SettingsError{Field: dotted(pointer), Rule: "must be text"}
			}
			fp, err := s.fingerprint(ctx, subject, clear)
			if err != nil {
				return nil, err
			}
			if kept, ok := sealedOf(old); ok && kept.Fingerprint == fp {
				return old, nil
			}
			return make(fp, clear), nil
		}
	}
	out, err := in.MapSecrets(seal(func(fp, clear string) any { return domain.NewSecret(subject, clear, fp) }))
	if err != nil {
		return out, err
	}
	return out.MapPersonal(seal(func(fp, clear string) any { return domain.NewPersonal(subject, clear, fp) }))
}

func dotted(pointer string) string {
	return strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", ".")
}

func sealedOf(v any) (domain.Sealed, bool) {
	switch v := v.(type) {
	case domain.Secret:
		return v.Sealed, true
	case domain.Personal:
		return v.Sealed, true
	}
	return domain.Sealed{}, false
}

// reveal opens every sealed value in settings for a renderer; what was erased becomes empty text.
func (s *Service) reveal(ctx context.Context, in domain.Settings) (domain.Settings, error) {
	return s.revealAs(ctx, in, "", "")
}

// revealAs is reveal with stand-ins for the secrets and the personal data that were erased.
func (s *Service) revealAs(ctx context.Context, in domain.Settings, secret, personal string) (domain.Settings, error) {
	return in.Unseal(func(v any) (any, error) {
		sealed, _ := sealedOf(v)
		erased := secret
		if _, is := v.(domain.Personal); is {
			erased = personal
		}
		clear, err := s.openAs(ctx, sealed, erased)
		if err != nil {
			return nil, err
		}
		return domain.LeafValue(clear), nil
	})
}

// Open is the clear text of a sealed value: empty for none, and for one that was erased.
func (s *Service) Open(ctx context.Context, v domain.Sealed) (string, error) {
	return s.openAs(ctx, v, "")
}

// openAs is Open with a stand-in for what was erased.
func (s *Service) openAs(ctx context.Context, v domain.Sealed, erased string) (string, error) {
	if _, clear, pending := v.Pending(); pending || v.IsZero() {
		return clear, nil
	}
	clear, err := s.Vault.Open(ctx, v)
	if errors.Is(err, domain.ErrErased) {
		return erased, nil
	}
	return clear, err
}

// seal returns the event with every pending value in it encrypted under its subject's key, bound to the
// event's id and the value's place (D3).
func (s *Service) seal(ctx context.Context, e domain.Event, id uuid.UUID) (domain.Event, error) {
	v := reflect.New(reflect.TypeOf(e)).Elem()
	v.Set(reflect.ValueOf(e))
	if err := s.sealIn(ctx, v, id.String()+"#"); err != nil {
		return nil, err
	}
	return v.Interface().(domain.Event), nil
}

var (
	sealedType   = reflect.TypeFor[domain.Sealed]()
	settingsType = reflect.TypeFor[domain.Settings]()
	lineType     = reflect.TypeFor[domain.LineSettings]()
)

func (s *Service) sealIn(ctx context.Context, v reflect.Value, at string) error {
	switch {
	case v.Type() == sealedType:
		sealed, err := s.sealOne(ctx, v.Interface().(domain.Sealed), at)
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(sealed))
	case v.Type() == settingsType:
		return sealTree(ctx, s, v, v.Interface().(domain.Settings), at)
	case v.Type() == lineType:
		return sealTree(ctx, s, v, v.Interface().(domain.LineSettings), at)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			place := at
			if !f.Anonymous {
				place += "/" + jsonName(f)
			}
			if err := s.sealIn(ctx, v.Field(i), place); err != nil {
				return err
			}
		}
	}
	return nil
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" || name == "-" {
		return f.Name
	}
	return name
}

// sealTree seals what protect left pending in settings, and refuses a secret it did not see.
func sealTree[T tree[T]](ctx context.Context, s *Service, v reflect.Value, in T, at string) error {
	if v.Len() == 0 {
		return nil
	}
	leaf := func(wrap func(domain.Sealed) any) func(string, any) (any, error) {
		return func(pointer string, v any) (any, error) {
			pending, ok := sealedOf(v)
			if !ok {
				return nil, fmt.Errorf("%s: %w", dotted(pointer), domain.ErrUnsealed)
			}
			sealed, err := s.sealOne(ctx, pending, at+pointer)
			return wrap(sealed), err
		}
	}
	out, err := in.MapSecrets(leaf(func(v domain.Sealed) any { return domain.Secret{Sealed: v} }))
	if err != nil {
		return err
	}
	if out, err = out.MapPersonal(leaf(func(v domain.Sealed) any { return domain.Personal{Sealed: v} })); err != nil {
		return err
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

func (s *Service) sealOne(ctx context.Context, v domain.Sealed, aad string) (domain.Sealed, error) {
	subject, clear, pending := v.Pending()
	if !pending {
		return v, nil
	}
	if err := s.ownKeys.ensure(ctx, s, subject); err != nil {
		return v, err
	}
	return s.Vault.Seal(ctx, subject, clear, aad)
}

// ownKeys remembers the instance's own subjects (code epochs, lookups) whose key.created this process has
// seen to be in the log. The nouns' own keys are recorded with their first event (service.go).
type ownKeys struct {
	mu   sync.Mutex
	done map[domain.Subject]bool
}

func (k *ownKeys) ensure(ctx context.Context, s *Service, subject domain.Subject) error {
	if keyedCategories[subject.Stream().Category()] {
		return nil
	}
	k.mu.Lock()
	known := k.done[subject]
	k.mu.Unlock()
	if known {
		return nil
	}
	keyID, _, err := s.Vault.Ensure(ctx, subject)
	if err != nil {
		return fmt.Errorf("make the key of %s: %w", subject, err)
	}
	_, err = decide(ctx, s, subject.Stream(), func(k domain.Keyed) ([]domain.Event, error) {
		if k.Created[subject] {
			return nil, nil
		}
		return []domain.Event{domain.KeyCreated{Subject: subject, KeyID: keyID}}, nil
	})
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done == nil {
		k.done = make(map[domain.Subject]bool)
	}
	k.done[subject] = true
	return nil
}

// lookup is the keyed hash, in hex, under which a value of one kind is found again.
func (s *Service) lookup(ctx context.Context, kind, value string) (string, error) {
	return s.hashed(ctx, lookups, kind, value)
}

// hashed is the keyed hash of value under one of the instance's own subjects.
func (s *Service) hashed(ctx context.Context, subject domain.Subject, kind, value string) (string, error) {
	if err := s.ownKeys.ensure(ctx, s, subject); err != nil {
		return "", err
	}
	sum, err := s.Vault.Hash(ctx, subject, kind, []byte(value))
	if err != nil {
		return "", fmt.Errorf("hash for %s: %w", kind, err)
	}
	return hex.EncodeToString(sum), nil
}

// known tells whether subject has a key, without making one.
func (k *ownKeys) known(ctx context.Context, s *Service, subject domain.Subject) bool {
	k.mu.Lock()
	done := k.done[subject]
	k.mu.Unlock()
	if done {
		return true
	}
	_, h, err := load[domain.Keyed](ctx, s.Log, subject.Stream())
	return err == nil && h.revision != domain.NoStream
}
