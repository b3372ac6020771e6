package commands

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
)

// ErrSignInBusy: more sign-ins than can be checked at a time; ask again.
var ErrSignInBusy = errors.New("too many sign-ins at a time")

// Cost of argon2id (RFC 9106; OWASP's second choice), a good twentieth of a second; and how much of it goes on at a time, so
// that guessers cannot take the machine's memory and processors from the phones.
const (
	argonTime    = 2
	argonMemory  = 19 << 10 // KiB
	argonThreads = 1
	argonLength  = 32

	signInsAtATime = 2
	signInsWaiting = 64
	signInPatience = 5 * time.Second
)

const passwordPrefix = "$argon2id$v=19$m=19456,t=2,p=1$"

// signIns computes the hashes of passwords, a few at a time. The zero value is ready; safe for concurrent use.
type signIns struct {
	waiting atomic.Int32
	once    sync.Once
	slots   chan struct{}
}

// hash computes argon2id. ErrSignInBusy when too many are at it.
func (g *signIns) hash(ctx context.Context, password string, salt []byte) ([]byte, error) {
	if g.waiting.Add(1) > signInsWaiting+signInsAtATime {
		g.waiting.Add(-1)
		return nil, ErrSignInBusy
	}
	defer g.waiting.Add(-1)
	patience, cancel := context.WithTimeout(ctx, signInPatience)
	defer cancel()
	g.once.Do(func() { g.slots = make(chan struct{}, signInsAtATime) })
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-patience.Done():
		return nil, ErrSignInBusy
	}
	return argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonLength), nil
}

// passwordText is a hash in the form of PHC strings.
func passwordText(salt, hash []byte) string {
	return passwordPrefix + base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(hash)
}

// matches tells whether password is the one of text. It does the same work whatever text is: of an unknown user it is
// empty.
func (g *signIns) matches(ctx context.Context, text, password string) (bool, error) {
	salt, want := make([]byte, 16), make([]byte, argonLength)
	known := false
	if rest, ok := strings.CutPrefix(text, passwordPrefix); ok {
		a, b, _ := strings.Cut(rest, "$")
		s, err1 := base64.RawStdEncoding.DecodeString(a)
		h, err2 := base64.RawStdEncoding.DecodeString(b)
		if err1 == nil && err2 == nil && len(h) == argonLength {
			salt, want, known = s, h, true
		}
	}
	got, err := g.hash(ctx, password, salt)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1 && known, nil
}
