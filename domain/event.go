package domain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"
)

// Event is one fact about the world, named in the past tense. Each event is a struct of its own.
// EventType is its wire name ("code.redeemed"), written by hand and never changed: see catalog.go.
type Event interface {
	EventType() string
}

// State is what a history adds up to. Apply returns the state after one more event; it has a value
// receiver, never fails, and leaves the state as it is for an event it does not know.
type State[S any] interface {
	Apply(Event) S
}

// Fold is the left fold of a history over the zero value of S.
func Fold[S State[S]](history []Event) S {
	var s S
	for _, e := range history {
		s = s.Apply(e)
	}
	return s
}

// NewEvent is an event on its way into the log. ID is unique in its stream for ever: appending the
// same ids again at the same expected revision is a retry, not a second fact. Data and Metadata are
// JSON; together all events of one append stay below MaxAppend bytes.
type NewEvent struct {
	ID       uuid.UUID
	Type     string
	Data     []byte
	Metadata []byte
}

// MaxAppend is the most bytes (data and metadata of all events) one append may carry, on every store (D6).
const MaxAppend = 512 << 10

// Recorded is an event as it stands in the log. Data and Metadata are exactly the bytes appended;
// Event and Meta decode them. A Recorded is read-only and safe to share.
type Recorded struct {
	Stream   StreamID
	Revision Revision
	Position Position
	ID       uuid.UUID
	Type     string
	Data     []byte
	Metadata []byte
}

// Event decodes the payload through the catalogue. A type the catalogue does not know comes back as
// an Unknown, without an error: replay shows it, a projection skips and counts it, a command refuses
// to decide over it.
func (r Recorded) Event() (Event, error) {
	e, err := Decode(r.Type, r.Data)
	if err != nil {
		return nil, fmt.Errorf("event %d of %s: %w", r.Revision, r.Stream, err)
	}
	return e, nil
}

var metadataPlan = planFor(reflect.TypeFor[Metadata]())

// Meta decodes the metadata.
func (r Recorded) Meta() (Metadata, error) {
	var m Metadata
	if len(bytes.TrimSpace(r.Metadata)) == 0 {
		return m, nil
	}
	if err := metadataPlan.unmarshal(r.Metadata, reflect.ValueOf(&m).Elem()); err != nil {
		return m, fmt.Errorf("metadata of event %d of %s: %w", r.Revision, r.Stream, err)
	}
	return m, nil
}

// Metadata says who, why, from where and when. Keys beginning with "$" are the store's own.
type Metadata struct {
	CorrelationID string `json:"$correlationId,omitempty"`
	CausationID   string `json:"$causationId,omitempty"`
	// Reaction names the row of commands.Reactions this event was born of; with CausationID it is what
	// makes a redelivered reaction record nothing new.
	Reaction string `json:"reaction,omitempty"`
	// Actor is "apikey:<id>", "phone:<mac>", "system:<part>" or "cli:<user>"; never empty for a recorded event.
	Actor string `json:"actor,omitempty"`
	// Source is where the request came from; the address is personal and sealed under the tenant's key.
	Source    *Source  `json:"source,omitempty"`
	Reason    string   `json:"reason,omitempty"`
	RequestID string   `json:"request_id,omitempty"`
	TenantID  TenantID `json:"tenant_id,omitempty"`
	// RecordedAt is the engine's own clock, UTC. Order is by position, never by this time.
	RecordedAt time.Time `json:"recorded_at"`
}

// Source is where a request came from.
type Source struct {
	IP       Personal `json:"ip,omitzero"`
	Listener string   `json:"listener,omitempty"` // admin, phones, phones-tls, tftp, cli
}

// Unknown stands for an event whose type this program does not know (written by a newer one).
type Unknown struct {
	Type string
	Data json.RawMessage
}

// EventType is the wire name as found.
func (u Unknown) EventType() string { return u.Type }
