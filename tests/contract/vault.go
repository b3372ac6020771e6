package contract

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
	"ledgerline/domain"
)

// OpenVault opens the vault kept at place, a directory of the test's own; the same place later answers
// as the vault closed before left it. close is called once, before the place is opened again.
type OpenVault func(t testing.TB, place string) (v commands.Vault, close func())

// Vault holds an implementation of commands.Vault to its contract.
func Vault(t *testing.T, open OpenVault) {
	for _, c := range []struct {
		fact string
		test func(t *testing.T, v commands.Vault)
	}{
		{"a key is made once and keeps its id", vaultEnsures},
		{"of many that make the same key at once, one has made it", vaultEnsuresOnce},
		{"many keys can be made at once", vaultManySubjects},
		{"what is sealed opens to the same text, also the first for its subject", vaultSeals},
		{"equal texts of one subject have equal fingerprints and different seals", vaultFingerprints},
		{"a changed seal is forged", vaultForgeries},
		{"what was never sealed does not open", vaultUnsealed},
		{"hashes depend on subject, purpose and value, and on nothing else", vaultHashes},
		{"an erased subject is gone for every method", vaultErases},
		{"a subject erased before it had a key never gets one", vaultErasesEarly},
		{"erasing one subject leaves the others alone", vaultErasesOne},
		{"sealing, opening and erasing at once gives the text or ErrErased", vaultConcurrently},
	} {
		t.Run(c.fact, func(t *testing.T) {
			v, done := open(t, t.TempDir())
			defer done()
			c.test(t, v)
		})
	}
	t.Run("keys and erasures outlive a restart", func(t *testing.T) { vaultReopens(t, open) })
}

func vaultEnsures(t *testing.T, v commands.Vault) {
	id, created, err := v.Ensure(t.Context(), "device-0015651a2b3c")
	if err != nil || !created || id == "" {
		t.Fatalf("first Ensure = %q, %v, %v; want an id, true, nil", id, created, err)
	}
	again, created, err := v.Ensure(t.Context(), "device-0015651a2b3c")
	if err != nil || created || again != id {
		t.Fatalf("second Ensure = %q, %v, %v; want %q, false, nil", again, created, err, id)
	}
	other, created, err := v.Ensure(t.Context(), "device-0015651a2b3c.2")
	if err != nil || !created || other == id {
		t.Fatalf("Ensure of the next life = %q, %v, %v; want a new id", other, created, err)
	}
	if sealed := vaultSeal(t, v, "device-0015651a2b3c", "geheim", "x#/p"); sealed.KeyID != id {
		t.Errorf("sealed under key %q, want %q", sealed.KeyID, id)
	}
}

func vaultEnsuresOnce(t *testing.T, v commands.Vault) {
	ids, made := make([]string, 64), make([]bool, 64)
	vaultAtOnce(t, 64, func(ctx context.Context, i int) (err error) {
		ids[i], made[i], err = v.Ensure(ctx, "line-0190b2f4a6d87c3e9f1a2b3c4d5e6f70")
		return err
	})
	makers := 0
	for i := range ids {
		if ids[i] != ids[0] {
			t.Errorf("caller %d got key %q, caller 0 got %q", i, ids[i], ids[0])
		}
		if made[i] {
			makers++
		}
	}
	if makers != 1 {
		t.Errorf("%d callers were told that they made the key, want 1", makers)
	}
}

func vaultManySubjects(t *testing.T, v commands.Vault) {
	ids := make([]string, 64*10)
	vaultAtOnce(t, 64, func(ctx context.Context, i int) error {
		for j := range 10 {
			subject := domain.Subject(fmt.Sprintf("line-%d-%d", i, j))
			id, created, err := v.Ensure(ctx, subject)
			if err != nil || !created {
				return fmt.Errorf("Ensure of %s: created %v, %w", subject, created, err)
			}
			ids[i*10+j] = id
		}
		return nil
	})
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] {
			t.Fatalf("two subjects have key %q", id)
		}
		seen[id] = true
	}
}

func vaultSeals(t *testing.T, v commands.Vault) {
	for _, clear := range []string{"s3cret", "", "Ängström & \"Söhne\"\r\n", strings.Repeat("0123456789", 100_000), "\x00\xff"} {
		sealed := vaultSeal(t, v, "user-anna", clear, "018f3a2b#/display_name")
		if sealed.AAD != "018f3a2b#/display_name" {
			t.Errorf("AAD = %q, want the one given", sealed.AAD)
		}
		if len(clear) > 3 && bytes.Contains(sealed.Ciphertext, []byte(clear)) {
			t.Errorf("ciphertext of %.10q holds the clear text", clear)
		}
		if got, err := v.Open(t.Context(), sealed); err != nil || got != clear {
			t.Errorf("Open = %.10q, %v; want %.10q", got, err, clear)
		}
	}
}

func vaultFingerprints(t *testing.T, v commands.Vault) {
	a, b := vaultSeal(t, v, "line-1", "1234", "a#/x"), vaultSeal(t, v, "line-1", "1234", "b#/x")
	if !a.Same(b) || len(a.Fingerprint) != 32 {
		t.Errorf("fingerprints %q and %q of equal texts; want 32 equal digits", a.Fingerprint, b.Fingerprint)
	}
	if bytes.Equal(a.Nonce, b.Nonce) || bytes.Equal(a.Ciphertext, b.Ciphertext) {
		t.Error("two seals of one text have equal bytes")
	}
	if vaultSeal(t, v, "line-1", "1235", "a#/x").Same(a) {
		t.Error("another text has the same fingerprint")
	}
	if vaultSeal(t, v, "line-2", "1234", "a#/x").Same(a) {
		t.Error("the same text of another subject has the same fingerprint")
	}
	sum, err := v.Hash(t.Context(), "line-1", "fingerprint", []byte("1234"))
	if err != nil || hex.EncodeToString(sum)[:32] != a.Fingerprint {
		t.Errorf("Hash for fingerprint = %x, %v; want it to begin with %s", sum, err, a.Fingerprint)
	}
}

func vaultForgeries(t *testing.T, v commands.Vault) {
	good := vaultSeal(t, v, "line-1", "geheim", "e1#/password")
	other := vaultSeal(t, v, "line-2", "geheim", "e1#/password")
	for _, f := range []struct {
		what  string
		forge func(s *domain.Sealed)
	}{
		{"first bit of the ciphertext flipped", func(s *domain.Sealed) { s.Ciphertext[0] ^= 1 }},
		{"last bit of the tag flipped", func(s *domain.Sealed) { s.Ciphertext[len(s.Ciphertext)-1] ^= 0x80 }},
		{"ciphertext cut", func(s *domain.Sealed) { s.Ciphertext = s.Ciphertext[:3] }},
		{"ciphertext gone", func(s *domain.Sealed) { s.Ciphertext = nil }},
		{"nonce flipped", func(s *domain.Sealed) { s.Nonce[0] ^= 1 }},
		{"nonce of wrong length", func(s *domain.Sealed) { s.Nonce = s.Nonce[:11] }},
		{"nonce gone", func(s *domain.Sealed) { s.Nonce = nil }},
		{"moved to another field", func(s *domain.Sealed) { s.AAD = "e1#/auth_username" }},
		{"associated data gone", func(s *domain.Sealed) { s.AAD = "" }},
		{"given to another subject", func(s *domain.Sealed) { s.KeyID = other.KeyID }},
		{"key nobody has", func(s *domain.Sealed) { s.KeyID = "ffffffffffffffffffffffffffffffff" }},
		{"no key", func(s *domain.Sealed) { s.KeyID = "" }},
	} {
		forged := good
		forged.Nonce, forged.Ciphertext = bytes.Clone(good.Nonce), bytes.Clone(good.Ciphertext)
		f.forge(&forged)
		if clear, err := v.Open(t.Context(), forged); !errors.Is(err, commands.ErrForged) || clear != "" {
			t.Errorf("%s: Open = %q, %v; want ErrForged", f.what, clear, err)
		}
	}
	if _, err := v.Open(t.Context(), good); err != nil {
		t.Errorf("the untouched one: %v", err)
	}
}

func vaultUnsealed(t *testing.T, v commands.Vault) {
	pending := domain.NewSecret("line-1", "geheim", "").Sealed
	if clear, err := v.Open(t.Context(), pending); !errors.Is(err, domain.ErrUnsealed) || clear != "" {
		t.Errorf("Open of a value not sealed yet: %v, want ErrUnsealed", err)
	}
}

func vaultHashes(t *testing.T, v commands.Vault) {
	hash := func(subject domain.Subject, purpose, value string) string {
		t.Helper()
		sum, err := v.Hash(t.Context(), subject, purpose, []byte(value))
		if err != nil || len(sum) != 32 {
			t.Fatalf("Hash = %x, %v; want 32 bytes", sum, err)
		}
		return string(sum)
	}
	base := hash("codeepoch-2026.11.20", "code", "123456789012")
	if hash("codeepoch-2026.11.20", "code", "123456789012") != base {
		t.Error("the same hash twice is not the same")
	}
	for _, other := range []string{
		hash("codeepoch-2026.11.21", "code", "123456789012"),
		hash("codeepoch-2026.11.20", "claim", "123456789012"),
		hash("codeepoch-2026.11.20", "code", "123456789013"),
		hash("codeepoch-2026.11.20", "code1", "23456789012"),
	} {
		if other == base {
			t.Error("another subject, purpose or value has the same hash")
		}
	}
}

func vaultErases(t *testing.T, v commands.Vault) {
	ctx := t.Context()
	sealed := vaultSeal(t, v, "user-anna", "Anna Muster", "e#/name")
	for range 2 { // erasing twice is no error
		if err := v.Erase(ctx, "user-anna"); err != nil {
			t.Fatal(err)
		}
	}
	vaultGone(t, v, "user-anna", sealed)
}

func vaultGone(t *testing.T, v commands.Vault, subject domain.Subject, sealed domain.Sealed) {
	t.Helper()
	ctx := t.Context()
	_, created, ensure := v.Ensure(ctx, subject)
	_, seal := v.Seal(ctx, subject, "Anna Muster", "e#/name")
	_, open := v.Open(ctx, sealed)
	_, hash := v.Hash(ctx, subject, "fingerprint", nil)
	for method, err := range map[string]error{"Ensure": ensure, "Seal": seal, "Open": open, "Hash": hash} {
		if !errors.Is(err, domain.ErrErased) {
			t.Errorf("%s after Erase: %v, want ErrErased", method, err)
		}
	}
	if created {
		t.Error("Ensure made a destroyed key again")
	}
}

func vaultErasesEarly(t *testing.T, v commands.Vault) {
	if err := v.Erase(t.Context(), "user-never"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Ensure(t.Context(), "user-never"); !errors.Is(err, domain.ErrErased) {
		t.Errorf("Ensure: %v, want ErrErased", err)
	}
}

func vaultErasesOne(t *testing.T, v commands.Vault) {
	vaultSeal(t, v, "user-anna", "Anna", "a")
	kept := vaultSeal(t, v, "user-bert", "Bert", "b")
	if err := v.Erase(t.Context(), "user-anna"); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Open(t.Context(), kept); err != nil || got != "Bert" {
		t.Errorf("Open = %q, %v; want Bert", got, err)
	}
}

func vaultConcurrently(t *testing.T, v commands.Vault) {
	vaultAtOnce(t, 32, func(ctx context.Context, i int) error {
		subject := domain.Subject(fmt.Sprintf("line-%d", i%4))
		for n := range 40 {
			if i < 4 && n == 20 {
				if err := v.Erase(ctx, subject); err != nil {
					return err
				}
				if _, err := v.Seal(ctx, subject, "x", "a"); !errors.Is(err, domain.ErrErased) {
					return fmt.Errorf("Seal after Erase returned: %w, want ErrErased", err)
				}
			}
			want := fmt.Sprint("clear ", i, n)
			sealed, err := v.Seal(ctx, subject, want, "a")
			if errors.Is(err, domain.ErrErased) {
				continue
			}
			if err != nil {
				return err
			}
			got, err := v.Open(ctx, sealed)
			if !errors.Is(err, domain.ErrErased) && (err != nil || got != want) {
				return fmt.Errorf("Open = %q, %w; want %q or ErrErased", got, err, want)
			}
		}
		return nil
	})
}

func vaultReopens(t *testing.T, open OpenVault) {
	place := t.TempDir()
	v, done := open(t, place)
	kept := vaultSeal(t, v, "user-bert", "Bert", "b")
	gone := vaultSeal(t, v, "user-anna", "Anna", "a")
	before, err := v.Hash(t.Context(), "user-bert", "claim", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Erase(t.Context(), "user-anna"); err != nil {
		t.Fatal(err)
	}
	done()

	v, done = open(t, place)
	defer done()
	if got, err := v.Open(t.Context(), kept); err != nil || got != "Bert" {
		t.Errorf("Open = %q, %v; want Bert", got, err)
	}
	after, err := v.Hash(t.Context(), "user-bert", "claim", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the hash has changed (-before +after):\n%s", diff)
	}
	vaultGone(t, v, "user-anna", gone)
}

func vaultSeal(t testing.TB, v commands.Vault, subject domain.Subject, clear, aad string) domain.Sealed {
	t.Helper()
	sealed, err := v.Seal(t.Context(), subject, clear, aad)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// vaultAtOnce runs do n times at the same moment and reports every error.
func vaultAtOnce(t *testing.T, n int, do func(ctx context.Context, i int) error) {
	t.Helper()
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			if err := do(t.Context(), i); err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	close(start)
	all.Wait()
}

// MemoryVault is commands.Vault in memory, for tests of what uses a vault: real seals, nothing kept.
// The zero value is empty and ready. Safe for concurrent use.
type MemoryVault struct {
	mu   sync.Mutex
	keys map[domain.Subject]*memoryKey
	ids  map[string]*memoryKey
}

type memoryKey struct {
	subject domain.Subject
	id      string
	secret  []byte // nil once destroyed
}

var _ commands.Vault = (*MemoryVault)(nil)

func (m *MemoryVault) secret(subject domain.Subject) (id string, secret []byte, created bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys == nil {
		m.keys, m.ids = map[domain.Subject]*memoryKey{}, map[string]*memoryKey{}
	}
	k := m.keys[subject]
	if k == nil {
		k = &memoryKey{subject: subject, id: rand.Text(), secret: make([]byte, 32)}
		rand.Read(k.secret)
		m.keys[subject], m.ids[k.id], created = k, k, true
	}
	if k.secret == nil {
		return "", nil, false, domain.ErrErased
	}
	return k.id, k.secret, created, nil
}

// Ensure implements commands.Vault.
func (m *MemoryVault) Ensure(_ context.Context, subject domain.Subject) (string, bool, error) {
	id, _, created, err := m.secret(subject)
	return id, created, err
}

// Seal implements commands.Vault.
func (m *MemoryVault) Seal(_ context.Context, subject domain.Subject, clear, aad string) (domain.Sealed, error) {
	id, secret, _, err := m.secret(subject)
	if err != nil {
		return domain.Sealed{}, err
	}
	nonce := make([]byte, 12)
	rand.Read(nonce)
	return domain.Sealed{
		KeyID: id, Nonce: nonce, AAD: aad,
		Ciphertext:  memoryAEAD(secret).Seal(nil, nonce, []byte(clear), []byte(aad)),
		Fingerprint: hex.EncodeToString(memoryMAC(secret, "fingerprint", []byte(clear)))[:32],
	}, nil
}

// Open implements commands.Vault.
func (m *MemoryVault) Open(_ context.Context, s domain.Sealed) (string, error) {
	if _, _, pending := s.Pending(); pending {
		return "", domain.ErrUnsealed
	}
	m.mu.Lock()
	k := m.ids[s.KeyID]
	m.mu.Unlock()
	if k == nil || len(s.Nonce) != 12 {
		return "", commands.ErrForged
	}
	_, secret, _, err := m.secret(k.subject)
	if err != nil {
		return "", err
	}
	clear, err := memoryAEAD(secret).Open(nil, s.Nonce, s.Ciphertext, []byte(s.AAD))
	if err != nil {
		return "", commands.ErrForged
	}
	return string(clear), nil
}

// Hash implements commands.Vault.
func (m *MemoryVault) Hash(_ context.Context, subject domain.Subject, purpose string, value []byte) ([]byte, error) {
	_, secret, _, err := m.secret(subject)
	if err != nil {
		return nil, err
	}
	return memoryMAC(secret, purpose, value), nil
}

// Erase implements commands.Vault.
func (m *MemoryVault) Erase(_ context.Context, subject domain.Subject) error {
	_, _, _, err := m.secret(subject)
	if err != nil {
		return nil // it has been erased before
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[subject].secret = nil
	return nil
}

func memoryAEAD(secret []byte) cipher.AEAD {
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err) // only for keys of another length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func memoryMAC(secret []byte, purpose string, value []byte) []byte {
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "%s\x00%s", purpose, value)
	return h.Sum(nil)
}
