package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

const (
	keySize   = 32
	nonceSize = 12
	tagSize   = 16
)

// key is an unwrapped data key with what was derived from it. Safe for concurrent use.
type key struct {
	subject domain.Subject
	id      string
	data    []byte
	aead    cipher.AEAD
	until   time.Time

	mu   sync.Mutex
	macs []keyedStates
}

// keyedStates are the states of one purpose, for reuse; purposes are a handful of constants.
type keyedStates struct {
	purpose string
	pool    *sync.Pool // of hash.Hash
}

func newKey(subject domain.Subject, id string, data []byte) (*key, error) {
	aead, err := newAEAD(data, "ledgerline seal")
	if err != nil {
		return nil, err
	}
	return &key{subject: subject, id: id, data: data, aead: aead}, nil
}

// newAEAD is AES-256-GCM under the key derived from secret for info.
func newAEAD(secret []byte, info string) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, secret, nil, info, keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (k *key) seal(clear, aad string) domain.Sealed {
	plain := []byte(clear)
	nonce := make([]byte, nonceSize, nonceSize+len(plain)+tagSize)
	rand.Read(nonce)
	sealed := k.aead.Seal(nonce, nonce, plain, []byte(aad))
	return domain.Sealed{
		KeyID: k.id, Nonce: sealed[:nonceSize:nonceSize], Ciphertext: sealed[nonceSize:], AAD: aad,
		Fingerprint: hex.EncodeToString(k.hash("fingerprint", plain)[:16]),
	}
}

func (k *key) open(s domain.Sealed) (string, error) {
	if len(s.Nonce) != nonceSize { // GCM panics on any other
		return "", commands.ErrForged
	}
	clear, err := k.aead.Open(nil, s.Nonce, s.Ciphertext, []byte(s.AAD))
	if err != nil {
		return "", commands.ErrForged
	}
	return string(clear), nil
}

func (k *key) hash(purpose string, value []byte) []byte {
	pool := k.statesOf(purpose)
	h := pool.Get().(hash.Hash)
	defer pool.Put(h)
	h.Reset()
	h.Write(value)
	return h.Sum(nil)
}

func (k *key) statesOf(purpose string) *sync.Pool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.macs {
		if s.purpose == purpose {
			return s.pool
		}
	}
	pool := k.macStates(purpose)
	k.macs = append(k.macs, keyedStates{purpose, pool})
	return pool
}

func (k *key) macStates(purpose string) *sync.Pool {
	derived, err := hkdf.Key(sha256.New, k.data, nil, "ledgerline hash "+purpose, keySize)
	if err != nil {
		panic(err) // only for lengths HKDF cannot give
	}
	return &sync.Pool{New: func() any { return hmac.New(sha256.New, derived) }}
}

// cache holds unwrapped keys for a limited time, found by subject and by id. When it is full an
// arbitrary key makes room. Safe for concurrent use.
type cache struct {
	size int
	ttl  time.Duration

	mu       sync.RWMutex
	subjects map[domain.Subject]*key
	ids      map[string]*key
	forgot   uint64 // how often something was forgotten
}

func newCache(size int, ttl time.Duration) *cache {
	return &cache{size: size, ttl: ttl, subjects: map[domain.Subject]*key{}, ids: map[string]*key{}}
}

func (c *cache) bySubject(s domain.Subject, now time.Time) *key {
	c.mu.RLock()
	k := c.subjects[s]
	c.mu.RUnlock()
	return k.at(now)
}

func (c *cache) byID(id string, now time.Time) *key {
	c.mu.RLock()
	k := c.ids[id]
	c.mu.RUnlock()
	return k.at(now)
}

// at is k, or nil when its time in the cache is over.
func (k *key) at(now time.Time) *key {
	if k == nil || !now.Before(k.until) {
		return nil
	}
	return k
}

func (c *cache) generation() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.forgot
}

func (c *cache) put(k *key, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, now)
}

// putIf adds k unless something was forgotten since generation was asked for.
func (c *cache) putIf(k *key, now time.Time, generation uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forgot != generation {
		return false
	}
	c.add(k, now)
	return true
}

func (c *cache) add(k *key, now time.Time) {
	if _, known := c.subjects[k.subject]; !known && len(c.subjects) >= c.size {
		for _, old := range c.subjects {
			c.drop(old)
			break
		}
	}
	k.until = now.Add(c.ttl)
	c.subjects[k.subject], c.ids[k.id] = k, k
}

func (c *cache) drop(k *key) {
	delete(c.subjects, k.subject)
	delete(c.ids, k.id)
}

func (c *cache) forget(s domain.Subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgot++
	if k := c.subjects[s]; k != nil {
		c.drop(k)
	}
}

// sweep drops what nobody asked for since its time was over.
func (c *cache) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.subjects {
		if k.at(now) == nil {
			c.drop(k)
		}
	}
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgot++
	clear(c.subjects)
	clear(c.ids)
}
