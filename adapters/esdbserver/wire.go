package esdbserver

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"ledgerline/domain"
)

// Types and names the server gives a meaning to.
const (
	typeMetadata  = "$metadata"
	typeTombstone = "$streamDeleted"
	typeLink      = "$>"
	metaPrefix    = "$$"
)

// ticks are 100 ns since 1970.
func ticks(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano() / 100
}

// wireID is an id as clients ask for it.
func wireID(id uuid.UUID, text bool) *shared.UUID {
	if text {
		return &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}}
	}
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits:  int64(binary.BigEndian.Uint64(id[:8])),
		LeastSignificantBits: int64(binary.BigEndian.Uint64(id[8:])),
	}}}
}

func idOf(w *shared.UUID) (id uuid.UUID, err error) {
	switch v := w.GetValue().(type) {
	case *shared.UUID_String_:
		return uuid.Parse(v.String_)
	case *shared.UUID_Structured_:
		binary.BigEndian.PutUint64(id[:8], uint64(v.Structured.GetMostSignificantBits()))
		binary.BigEndian.PutUint64(id[8:], uint64(v.Structured.GetLeastSignificantBits()))
		return id, nil
	}
	return id, errors.New("no id")
}

// wireEvent is an event as clients read it.
func (s *service) wireEvent(r domain.Recorded, textID bool) *streams.ReadResp_ReadEvent_RecordedEvent {
	at, _ := s.created(r)
	kind := "application/octet-stream"
	if json.Valid(r.Data) {
		kind = "application/json"
	}
	return &streams.ReadResp_ReadEvent_RecordedEvent{
		Id:               wireID(r.ID, textID),
		StreamIdentifier: wireName(r.Stream),
		StreamRevision:   uint64(r.Revision),
		CommitPosition:   r.Position.Commit,
		PreparePosition:  r.Position.Prepare,
		Metadata:         map[string]string{"type": r.Type, "content-type": kind, "created": strconv.FormatInt(ticks(at), 10)},
		CustomMetadata:   r.Metadata,
		Data:             r.Data,
	}
}

// created is when the event was written, as far as that is known.
func (s *service) created(r domain.Recorded) (time.Time, bool) {
	if at, ok := ownTime(r.ID, r.Metadata); ok {
		return at, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.times[place{r.Stream, r.Revision}]
	return at, ok
}

// ownTime is the time an event carries itself.
func ownTime(id uuid.UUID, meta []byte) (time.Time, bool) {
	var m struct {
		RecordedAt time.Time `json:"recorded_at"`
	}
	if err := json.Unmarshal(meta, &m); err == nil && !m.RecordedAt.IsZero() {
		return m.RecordedAt, true
	}
	if id.Version() == 7 {
		return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)), true
	}
	return time.Time{}, false
}

// place is one event.
type place struct {
	stream   domain.StreamID
	revision domain.Revision
}

// noteTime remembers for a while when events without a time of their own were written; last is the
// revision of the last of them.
func (s *service) noteTime(stream domain.StreamID, last domain.Revision, events []domain.NewEvent) {
	now := s.o.Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range events {
		if _, ok := ownTime(e.ID, e.Metadata); ok {
			continue
		}
		if len(s.times) >= maxHints {
			clear(s.times)
		}
		p := place{stream, last - domain.Revision(len(events)-1-i)}
		if _, known := s.times[p]; !known {
			s.times[p] = now
		}
	}
}

func wireName(stream domain.StreamID) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(stream)}
}

// nameOf checks a stream's name.
func nameOf(w *shared.StreamIdentifier) (domain.StreamID, error) {
	name := string(w.GetStreamName())
	if name == "" || name == "$all" || name == metaPrefix || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return "", status.Errorf(codes.InvalidArgument, "%q is not the name of a stream", name)
	}
	return domain.StreamID(name), nil
}

// revision is an unsigned revision of the wire; beyond what there can be is the highest.
func revision(n uint64) domain.Revision { return domain.Revision(min(n, math.MaxInt64)) }

// before is the position after which the log shows exactly what is at or after (commit, prepare); both
// halves of every position of the log are equal.
func before(commit, prepare uint64) domain.Position {
	if prepare > commit {
		return domain.At(commit)
	}
	return domain.At(max(commit, 1) - 1)
}

// behind is the position after which the log shows exactly what is after (commit, prepare).
func behind(commit, prepare uint64) domain.Position {
	if prepare < commit {
		return domain.At(commit - 1)
	}
	return domain.At(commit)
}

// Answers that are no gRPC status where BatchAppend has its own form for them.
var (
	errGone   = errors.New("stream is deleted")
	errDenied = errors.New("access denied")
	errBad    = errors.New("malformed request")
)

// groupStatus is statusOf for what concerns a group.
func (s *service) groupStatus(ctx context.Context, c groupConfig, err error) error {
	for _, known := range []struct {
		err       error
		code      codes.Code
		exception string
	}{
		{errNoGroup, codes.NotFound, "persistent-subscription-does-not-exist"},
		{errGroupExists, codes.AlreadyExists, "persistent-subscription-exists"},
		{errTooManyConsumers, codes.FailedPrecondition, "maximum-subscribers-reached"},
		{errDropped, codes.Canceled, "persistent-subscription-dropped"},
	} {
		if errors.Is(err, known.err) && s.base.Err() == nil {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("exception", known.exception, "stream-name", c.source(), "group-name", c.Group)) // fails only on a call that is over
			return status.Errorf(known.code, "persistent subscription %s of %s: %s", c.Group, c.source(), err)
		}
	}
	return s.statusOf(ctx, domain.StreamID(c.source()), err)
}

// statusOf is the gRPC status clients know for err; the trailers they read it from are set on ctx's call.
func (s *service) statusOf(ctx context.Context, stream domain.StreamID, err error) error {
	trailer := func(pairs ...string) { _ = grpc.SetTrailer(ctx, metadata.Pairs(pairs...)) } // fails only on a call that is over
	if _, is := status.FromError(err); is {
		return err
	}
	switch {
	case s.base.Err() != nil && (errors.Is(err, errDropped) || errors.Is(err, context.Canceled)):
		return status.Error(codes.Unavailable, "the server is closing")
	case errors.Is(err, errGone):
		trailer("exception", "stream-deleted", "stream-name", string(stream))
		return status.Errorf(codes.FailedPrecondition, "event stream %q is deleted", stream)
	case errors.Is(err, errDenied):
		trailer("exception", "access-denied")
		return status.Error(codes.PermissionDenied, err.Error())
	case errors.Is(err, domain.ErrConflict):
		trailer("exception", "wrong-expected-version", "stream-name", string(stream))
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, domain.ErrTooBig):
		trailer("exception", "maximum-append-size-exceeded", "maximum-append-size", strconv.Itoa(domain.MaxAppend))
		return status.Errorf(codes.InvalidArgument, "maximum append size of %d bytes exceeded", domain.MaxAppend)
	case errors.Is(err, errBad):
		return status.Error(codes.InvalidArgument, err.Error())
	case s.base.Err() != nil:
		return status.Error(codes.Unavailable, "the server is closing")
	case errors.Is(err, domain.ErrOutcomeUnknown):
		return status.Error(codes.Aborted, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	case errors.Is(err, domain.ErrDamaged):
		return status.Error(codes.DataLoss, err.Error())
	}
	return status.Error(codes.Unavailable, err.Error())
}
