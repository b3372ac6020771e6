package esdbserver

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	passwordCost = 11  // a look at a password takes about a tenth of a second
	maxPassword  = 72  // bytes bcrypt looks at
	maxKnown     = 128 // passwords found right and remembered, as keyed hashes
	maxGuesses   = 2   // looks at passwords at once: guessing takes no more of the machine
)

// HashPassword is the Hash of a User with this password, which has at most 72 bytes.
func HashPassword(password string) (string, error) {
	b, err := bcrypt.GenerateFromPassword([]byte(password), passwordCost)
	return string(b), err
}

// CheckHash tells what is wrong with a User's Hash.
func CheckHash(hash string) error {
	_, err := bcrypt.Cost([]byte(hash))
	return err
}

// users are who may come in. A client sends its password with every call, and bcrypt is slow by design:
// what was once found right is remembered under a key of this process.
type users struct {
	hashes map[string][]byte // by name
	absent []byte            // compared for names that are not there, so that they take as long
	key    [32]byte
	slots  chan struct{}

	mu    sync.Mutex
	known map[[32]byte]bool
}

// newUsers is nil for an empty list: then everybody may.
func newUsers(list []User) (*users, error) {
	if len(list) == 0 {
		return nil, nil
	}
	u := &users{hashes: map[string][]byte{}, slots: make(chan struct{}, maxGuesses), known: map[[32]byte]bool{}}
	_, _ = rand.Read(u.key[:]) // never fails
	for _, one := range list {
		if err := CheckHash(one.Hash); err != nil {
			return nil, fmt.Errorf("user %s: %w", one.Name, err)
		}
		u.hashes[one.Name], u.absent = []byte(one.Hash), []byte(one.Hash)
	}
	return u, nil
}

// right tells whether the password is the user's.
func (u *users) right(ctx context.Context, name, password string) bool {
	mac := hmac.New(sha256.New, u.key[:])
	fmt.Fprintf(mac, "%d:%s%s", len(name), name, password)
	digest := [32]byte(mac.Sum(nil))
	u.mu.Lock()
	known := u.known[digest]
	u.mu.Unlock()
	if known {
		return true
	}
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	case <-ctx.Done():
		return false
	}
	hash, is := u.hashes[name]
	if !is {
		hash = u.absent
	}
	if len(password) > maxPassword || bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || !is {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.known) >= maxKnown {
		clear(u.known)
	}
	u.known[digest] = true
	return true
}

// admit lets the call in, or says UNAUTHENTICATED. What a client asks before it sends credentials is open.
func (s *service) admit(ctx context.Context, method string) error {
	open := strings.HasPrefix(method, "/"+serverfeatures.ServerFeatures_ServiceDesc.ServiceName+"/") || strings.HasPrefix(method, "/"+gossip.Gossip_ServiceDesc.ServiceName+"/")
	if s.users == nil || open {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if name, password, ok := credentialsOf(md); ok && s.users.right(ctx, name, password) {
		return nil
	}
	return status.Error(codes.Unauthenticated, "unknown user or wrong password")
}

// credentialsOf are those of a call, unproven.
func credentialsOf(md metadata.MD) (name, password string, ok bool) {
	headers := md.Get("authorization")
	if len(headers) != 1 {
		return "", "", false
	}
	kind, text, _ := strings.Cut(headers[0], " ")
	raw, err := base64.StdEncoding.DecodeString(text)
	name, password, ok = strings.Cut(string(raw), ":")
	return name, password, ok && err == nil && strings.EqualFold(kind, "basic")
}
