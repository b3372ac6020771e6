package domain

import (
	"errors"
	"slices"
	"time"
)

// ClaimTaken: Holder uses the value whose keyed hash names this stream (D13).
type ClaimTaken struct {
	Kind    string    `json:"kind"` // domain, provisioning_key, mac, extension, softphone
	Holder  StreamID  `json:"holder"`
	TakenAt time.Time `json:"taken_at"`
}

// ClaimReleased: Holder does not use it any more.
type ClaimReleased struct {
	Holder StreamID `json:"holder"`
}

func (ClaimTaken) EventType() string    { return "claim.taken" }
func (ClaimReleased) EventType() string { return "claim.released" }

var claimEvents = []entry{of[ClaimTaken](), of[ClaimReleased]()}

// OrphanAge is how old a claim must be before another may take it from a holder that never came to be.
const OrphanAge = time.Minute

// ErrClaimed: somebody else holds the value.
var ErrClaimed = errors.New("value is taken")

// Claim is what a claim stream adds up to: who uses the value, in the order they came.
type Claim struct {
	Holders []ClaimTaken
}

// ClaimStream is the stream of one value; digest is its keyed hash in hex.
func ClaimStream(kind, digest string) StreamID { return Stream("claim", kind+"."+digest) }

// Apply returns the claim after e.
func (c Claim) Apply(e Event) Claim {
	switch e := e.(type) {
	case ClaimTaken:
		c.Holders = append(slices.Clip(c.without(e.Holder)), e)
	case ClaimReleased:
		c.Holders = c.without(e.Holder)
	}
	return c
}

func (c Claim) without(holder StreamID) []ClaimTaken {
	return slices.DeleteFunc(slices.Clone(c.Holders), func(t ClaimTaken) bool { return t.Holder == holder })
}

// Held tells whether holder uses the value.
func (c Claim) Held(holder StreamID) bool {
	return slices.ContainsFunc(c.Holders, func(t ClaimTaken) bool { return t.Holder == holder })
}

// Take lets holder use the value alone. orphan says of the present holder that it never came to be;
// it loses the claim once that is OrphanAge old.
func (c Claim) Take(kind string, holder StreamID, orphan func(StreamID) bool, now time.Time) ([]Event, error) {
	if c.Held(holder) {
		return nil, nil
	}
	var events []Event
	for _, t := range c.Holders {
		if now.Sub(t.TakenAt) < OrphanAge || !orphan(t.Holder) {
			return nil, ErrClaimed
		}
		events = append(events, ClaimReleased{Holder: t.Holder})
	}
	return append(events, ClaimTaken{Kind: kind, Holder: holder, TakenAt: now}), nil
}

// Share lets holder use the value beside others (devices that carry one MAC).
func (c Claim) Share(kind string, holder StreamID, now time.Time) []Event {
	if c.Held(holder) {
		return nil
	}
	return []Event{ClaimTaken{Kind: kind, Holder: holder, TakenAt: now}}
}

// Release ends holder's use; no news if it had none.
func (c Claim) Release(holder StreamID) []Event {
	if !c.Held(holder) {
		return nil
	}
	return []Event{ClaimReleased{Holder: holder}}
}
