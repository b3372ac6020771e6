package softphone

import (
	"crypto/sha256"
	"sync"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// answers keeps what apps that are signed in were told, for as long as it holds, so that an unchanged answer costs a look-up
// and no reading of the log. Only the hash of a token is kept, and nothing outlives the process. Two generations, the older
// dropped when the newer is full: what nobody asks for any more goes. The zero value is ready; safe for concurrent use.
type answers struct {
	mu         sync.Mutex
	newer, old map[answerKey]kept
	size       int // bytes of bodies in newer
}

type answerKey [sha256.Size]byte

// kept is a document, and what it follows from.
type kept struct {
	body   []byte
	inputs []domain.Input
	until  time.Time // removals are not told for ever
}

// Limits of one generation, and how long an answer is believed at most.
const (
	answersSize = 32 << 20
	answersAge  = 12 * time.Hour
)

// keyOf is what an answer is kept under; ok is false for who is not signed in.
func keyOf(call commands.SoftphoneCall) (key answerKey, ok bool) {
	if !commands.IsSoftphoneToken(call.Password) {
		return key, false
	}
	flags := map[bool]string{true: "1", false: "0"}
	return sha256.Sum256([]byte(flags[call.Global] + flags[call.Editable] + "\x00" + string(call.CloudID) + "\x00" + call.Install + "\x00" + call.Password)), true
}

func (c *answers) get(key answerKey, now time.Time, current func([]domain.Input) bool) (kept, bool) {
	c.mu.Lock()
	k, ok := c.newer[key]
	if !ok {
		if k, ok = c.old[key]; ok {
			delete(c.old, key)
			c.keep(key, k)
		}
	}
	c.mu.Unlock()
	if !ok || (now.Before(k.until) && current(k.inputs)) {
		return k, ok
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size -= len(c.newer[key].body)
	delete(c.newer, key)
	return kept{}, false
}

func (c *answers) put(key answerKey, k kept) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.old, key)
	c.keep(key, k)
}

func (c *answers) keep(key answerKey, k kept) {
	if c.newer == nil || c.size > answersSize {
		c.old, c.newer, c.size = c.newer, make(map[answerKey]kept), 0
	}
	c.size += len(k.body) - len(c.newer[key].body)
	c.newer[key] = k
}
