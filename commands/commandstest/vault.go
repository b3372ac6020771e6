package commandstest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"
	"sync"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Vault is commands.Vault in memory, with real seals.
type Vault struct {
	Faults *Faults // may be nil

	mu   sync.Mutex
	keys map[domain.Subject]*dataKey
	ids  map[string]*dataKey
}

type dataKey struct {
	id       string
	material []byte // nil once destroyed
}

// NewVault is a vault without keys.
func NewVault() *Vault {
	return &Vault{keys: make(map[domain.Subject]*dataKey), ids: make(map[string]*dataKey)}
}

// key is the subject's key, made if there is none.
func (v *Vault) key(subject domain.Subject) (id string, material []byte, created bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.keys[subject]
	if k == nil {
		k = &dataKey{id: rand.Text(), material: make([]byte, 32)}
		_, _ = rand.Read(k.material) // never fails
		v.keys[subject], v.ids[k.id], created = k, k, true
	}
	if k.material == nil {
		return "", nil, false, domain.ErrErased
	}
	return k.id, k.material, created, nil
}

// Ensure implements commands.Vault.
func (v *Vault) Ensure(ctx context.Context, subject domain.Subject) (id string, created bool, err error) {
	if err := ctx.Err(); err != nil {
		return "", false, err
	}
	err = v.Faults.around(Call{Method: "Ensure", Subject: subject}, func() (err error) {
		id, _, created, err = v.key(subject)
		return err
	})
	return id, created, err
}

// Seal implements commands.Vault.
func (v *Vault) Seal(ctx context.Context, subject domain.Subject, clear, aad string) (s domain.Sealed, err error) {
	if err := ctx.Err(); err != nil {
		return s, err
	}
	err = v.Faults.around(Call{Method: "Seal", Subject: subject}, func() error {
		id, material, _, err := v.key(subject)
		if err != nil {
			return err
		}
		nonce := make([]byte, 12)
		_, _ = rand.Read(nonce) // never fails
		s = domain.Sealed{KeyID: id, Nonce: nonce, AAD: aad, Ciphertext: aead(material).Seal(nil, nonce, []byte(clear), []byte(aad)),
			Fingerprint: hex.EncodeToString(sum(material, "fingerprint", []byte(clear)))[:32]}
		return nil
	})
	if err != nil {
		return domain.Sealed{}, err
	}
	return s, nil
}

// Open implements commands.Vault.
func (v *Vault) Open(ctx context.Context, s domain.Sealed) (string, error) {
	if _, _, pending := s.Pending(); pending {
		return "", domain.ErrUnsealed
	}
	v.mu.Lock()
	k := v.ids[s.KeyID]
	var material []byte
	if k != nil {
		material = k.material
	}
	v.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case k == nil || len(s.Nonce) != 12:
		return "", commands.ErrForged
	case material == nil:
		return "", domain.ErrErased
	}
	clear, err := aead(material).Open(nil, s.Nonce, s.Ciphertext, []byte(s.AAD))
	if err != nil {
		return "", commands.ErrForged
	}
	return string(clear), nil
}

// Hash implements commands.Vault.
func (v *Vault) Hash(ctx context.Context, subject domain.Subject, purpose string, value []byte) ([]byte, error) {
	_, material, _, err := v.key(subject)
	if err != nil {
		return nil, err
	}
	return sum(material, purpose, value), ctx.Err()
}

// Erase implements commands.Vault.
func (v *Vault) Erase(ctx context.Context, subject domain.Subject) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return v.Faults.around(Call{Method: "Erase", Subject: subject}, func() error {
		if _, _, _, err := v.key(subject); err != nil {
			return nil // it has been erased before
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.keys[subject].material = nil
		return nil
	})
}

// Has tells whether subject has a key that is not destroyed.
func (v *Vault) Has(subject domain.Subject) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.keys[subject]
	return k != nil && k.material != nil
}

func aead(material []byte) cipher.AEAD {
	block, err := aes.NewCipher(material)
	if err != nil {
		panic(err) // only for keys of another length
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}

func sum(material []byte, purpose string, value []byte) []byte {
	h := hmac.New(sha256.New, material)
	_, _ = io.WriteString(h, purpose+"\x00") // never fails
	h.Write(value)
	return h.Sum(nil)
}

// Blobs is commands.Blobs in memory. With a Vault, blobs of an erased subject are erased.
type Blobs struct {
	Faults *Faults // may be nil
	Vault  commands.Vault

	mu   sync.Mutex
	data map[blobKey][]byte
}

type blobKey struct {
	subject domain.Subject
	mac     string
}

// NewBlobs is an empty store.
func NewBlobs() *Blobs { return &Blobs{data: make(map[blobKey][]byte)} }

// Put implements commands.Blobs.
func (b *Blobs) Put(ctx context.Context, subject domain.Subject, mac string, data []byte) error {
	return b.PutAll(ctx, subject, map[string][]byte{mac: data})
}

// PutAll implements commands.Blobs; to Faults it is one Put.
func (b *Blobs) PutAll(ctx context.Context, subject domain.Subject, blobs map[string][]byte) error {
	return b.Faults.around(Call{Method: "Put", Subject: subject}, func() error {
		if err := b.alive(ctx, subject); err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for mac, data := range blobs {
			if _, there := b.data[blobKey{subject, mac}]; !there {
				b.data[blobKey{subject, mac}] = append([]byte{}, data...)
			}
		}
		return nil
	})
}

// Get implements commands.Blobs.
func (b *Blobs) Get(ctx context.Context, subject domain.Subject, mac string) ([]byte, error) {
	b.mu.Lock()
	data, ok := b.data[blobKey{subject, mac}]
	b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !ok {
		return nil, commands.ErrNoBlob
	}
	if err := b.alive(ctx, subject); err != nil {
		return nil, err
	}
	if data == nil {
		return nil, domain.ErrErased
	}
	return slices.Clone(data), nil
}

// Erase implements commands.Blobs.
func (b *Blobs) Erase(ctx context.Context, subject domain.Subject, macs ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.data {
		if k.subject == subject && (len(macs) == 0 || slices.Contains(macs, k.mac)) {
			b.data[k] = nil
		}
	}
	return nil
}

func (b *Blobs) alive(ctx context.Context, subject domain.Subject) error {
	if err := ctx.Err(); err != nil || b.Vault == nil {
		return err
	}
	_, _, err := b.Vault.Ensure(ctx, subject)
	return err
}
