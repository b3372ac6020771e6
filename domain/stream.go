package domain

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// StreamID names a stream: "category-id". The category is the text before the first dash and has no
// dash itself; ids have none by choice ("device-0015651a2b3c", "device-0015651a2b3c.2").
type StreamID string

// Stream joins a category and an id.
func Stream(category, id string) StreamID { return StreamID(category + "-" + id) }

// Category is the text before the first dash, or the whole name if there is none.
func (s StreamID) Category() string {
	c, _, _ := strings.Cut(string(s), "-")
	return c
}

// ID is the text behind the first dash.
func (s StreamID) ID() string {
	_, id, _ := strings.Cut(string(s), "-")
	return id
}

// Internal tells whether the stream is bookkeeping of the store or the engine (D7: not part of the
// proven history): names that begin with "$", "reactor-" or "lease-".
func (s StreamID) Internal() bool {
	return strings.HasPrefix(string(s), "$") || strings.HasPrefix(string(s), "reactor-") || strings.HasPrefix(string(s), "lease-")
}

// categories of the streams this program tells its history in.
var categories = []string{"apikey", "category", "checkpoint", "claim", "cloudid", "code", "codeepoch", "device", "gateway", "job", "jobs", "layer", "line", "notice", "noticeepoch", "plugin",
	"registry", "request", "requests", "rollout", "rolloutrow", "settings", "sipuser", "softphone", "tenant", "token", "user"}

// History tells whether the stream belongs to this program's history: its category is one of ours. Nobody
// from outside may delete, truncate or end such a stream (D11).
func (s StreamID) History() bool {
	return slices.Contains(categories, s.Category()) && s.Category() != string(s)
}

// Revision is the number of an event inside its stream: 0, 1, 2 … without gaps. As an expectation
// for an append it is the revision of the last event, or one of the constants below.
type Revision int64

const (
	NoStream     Revision = -1 // the stream has no event yet
	Any          Revision = -2 // no expectation; an idempotent retry is recognised only while it is recent
	StreamExists Revision = -4 // the stream has at least one event
)

// Position is a place in the whole log: an opaque, growing token (D12). The zero value is before the
// first event. On EventStoreDB it is the (commit, prepare) pair; on the embedded ledger both are equal.
// Positions have gaps: never add to one, never count with one.
type Position struct {
	Commit, Prepare uint64
}

// At makes the position of a store that counts with one number.
func At(n uint64) Position { return Position{n, n} }

// Compare is negative, zero or positive as p is before, at or after q.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Commit, q.Commit), cmp.Compare(p.Prepare, q.Prepare))
}

// Before tells whether p is strictly before q.
func (p Position) Before(q Position) bool { return p.Compare(q) < 0 }

// IsZero tells whether p is before the first event.
func (p Position) IsZero() bool { return p == Position{} }

// String is "N", or "C.P" where the two halves differ. ParsePosition reads it back.
func (p Position) String() string {
	if p.Commit == p.Prepare {
		return strconv.FormatUint(p.Commit, 10)
	}
	return strconv.FormatUint(p.Commit, 10) + "." + strconv.FormatUint(p.Prepare, 10)
}

// MarshalText makes a position a text token in JSON.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *Position) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePosition(string(b))
	return err
}

// ParsePosition reads the text form of a position.
func ParsePosition(s string) (Position, error) {
	c, q, two := strings.Cut(s, ".")
	n, err := strconv.ParseUint(c, 10, 64)
	if err != nil {
		return Position{}, fmt.Errorf("%q is not a log position", s)
	}
	if !two {
		return At(n), nil
	}
	m, err := strconv.ParseUint(q, 10, 64)
	if err != nil {
		return Position{}, fmt.Errorf("%q is not a log position", s)
	}
	return Position{n, m}, nil
}

// Errors every log translates its own into.
var (
	// ErrConflict: the stream is not at the expected revision.
	ErrConflict = errors.New("stream is not at the expected revision")
	// ErrNoStream: the stream has no events.
	ErrNoStream = errors.New("no such stream")
	// ErrTooBig: the append is larger than MaxAppend.
	ErrTooBig = errors.New("append too big")
	// ErrOutcomeUnknown: the store may or may not have written; retry with the same ids and revision.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrDamaged: the log on disk is not what was written; the error names the place.
	ErrDamaged = errors.New("log is damaged")
	// ErrReadOnly: the store does not take writes (its writer failed, or it was opened read-only).
	ErrReadOnly = errors.New("log does not take writes")
)
