package esdbserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"ledgerline/domain"
)

const maxPending = 64 // unfinished appends of one BatchAppend call

// intake gathers the events of one append and forgets them once they are too many.
type intake struct {
	stream   domain.StreamID
	expected domain.Revision
	events   []domain.NewEvent
	ids      map[uuid.UUID]bool
	size     int
	err      error // the first
}

// proposed is an event as a client sends it, in Append and BatchAppend.
type proposed interface {
	GetId() *shared.UUID
	GetMetadata() map[string]string
	GetCustomMetadata() []byte
	GetData() []byte
}

func (in *intake) add(p proposed) {
	id, err := idOf(p.GetId())
	kind := p.GetMetadata()["type"]
	in.size += len(p.GetData()) + len(p.GetCustomMetadata())
	switch {
	case in.err != nil:
		return
	case in.size > domain.MaxAppend:
		in.err = domain.ErrTooBig
	case err != nil || id == uuid.Nil:
		in.err = fmt.Errorf("%w: an event needs an id", errBad)
	case kind == "" || !utf8.ValidString(kind) || strings.ContainsRune(kind, 0):
		in.err = fmt.Errorf("%w: an event needs a type", errBad)
	case kind == typeTombstone:
		in.err = fmt.Errorf("%w: %s is written by Tombstone only", errBad, typeTombstone)
	case in.ids[id]:
		in.err = fmt.Errorf("%w: two events of one append have the id %s", errBad, id)
	}
	if in.err != nil {
		in.events = nil
		return
	}
	if in.ids == nil {
		in.ids = map[uuid.UUID]bool{}
	}
	in.ids[id] = true
	in.events = append(in.events, domain.NewEvent{ID: id, Type: kind, Data: p.GetData(), Metadata: p.GetCustomMetadata()})
}

// Append writes to one stream. A call that is refused is heard to its end first: a client that is cut
// off while sending never learns why.
func (s *service) Append(call streams.Streams_AppendServer) error {
	ctx := call.Context()
	var in intake
	var options *streams.AppendReq_Options
	for {
		m, err := call.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch c := m.GetContent().(type) {
		case *streams.AppendReq_Options_:
			options = c.Options
		case *streams.AppendReq_ProposedMessage_:
			in.add(c.ProposedMessage)
		}
		if in.size > maxMessage {
			break // enough is enough
		}
	}
	err := in.err
	if in.stream, in.expected = "", domain.Any; err == nil {
		in.stream, err = nameOf(options.GetStreamIdentifier())
	}
	if err == nil {
		in.expected, err = expectationOf(options, options.GetExpectedStreamRevision() != nil)
	}
	var w written
	if err == nil {
		w, err = s.write(ctx, in)
	}
	switch {
	case errors.Is(err, domain.ErrConflict):
		answer, err := s.wrongVersion(ctx, in)
		if err != nil {
			return s.statusOf(ctx, in.stream, err)
		}
		return call.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: answer}})
	case err != nil:
		return s.statusOf(ctx, in.stream, err)
	}
	success := &streams.AppendResp_Success{
		CurrentRevisionOption: &streams.AppendResp_Success_NoStream{NoStream: &shared.Empty{}},
		PositionOption:        &streams.AppendResp_Success_NoPosition{NoPosition: &shared.Empty{}},
	}
	if w.revision >= 0 {
		success.CurrentRevisionOption = &streams.AppendResp_Success_CurrentRevision{CurrentRevision: uint64(w.revision)}
	}
	if !w.position.IsZero() {
		success.PositionOption = &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{CommitPosition: w.position.Commit, PreparePosition: w.position.Prepare}}
	}
	return call.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_Success_{Success: success}})
}

// expecting is what Append, Delete and Tombstone have in common.
type expecting interface {
	GetRevision() uint64
	GetNoStream() *shared.Empty
	GetAny() *shared.Empty
	GetStreamExists() *shared.Empty
}

// expectationOf reads an expectation; given tells that there is one.
func expectationOf(o expecting, given bool) (domain.Revision, error) {
	switch {
	case !given:
		return 0, fmt.Errorf("%w: no expectation", errBad)
	case o.GetNoStream() != nil:
		return domain.NoStream, nil
	case o.GetAny() != nil:
		return domain.Any, nil
	case o.GetStreamExists() != nil:
		return domain.StreamExists, nil
	case o.GetRevision() > math.MaxInt64:
		return 0, fmt.Errorf("%w: no such revision: %d", errBad, o.GetRevision())
	}
	return domain.Revision(o.GetRevision()), nil
}

// wrongVersion tells what was expected and what is there, in the form of today and that of 20.6.
func (s *service) wrongVersion(ctx context.Context, in intake) (*streams.AppendResp_WrongExpectedVersion, error) {
	w := &streams.AppendResp_WrongExpectedVersion{
		CurrentRevisionOption:        &streams.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &shared.Empty{}},
		CurrentRevisionOption_20_6_0: &streams.AppendResp_WrongExpectedVersion_NoStream_20_6_0{NoStream_20_6_0: &shared.Empty{}},
	}
	end, err := s.last(ctx, in.stream)
	if err != nil && !errors.Is(err, domain.ErrNoStream) {
		return nil, err
	}
	if err == nil {
		w.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: uint64(end.Revision)}
		w.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: uint64(end.Revision)}
	}
	switch in.expected {
	case domain.NoStream: // 20.6 had no word for it
		w.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &shared.Empty{}}
	case domain.Any:
		w.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedAny{ExpectedAny: &shared.Empty{}}
		w.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_Any_20_6_0{Any_20_6_0: &shared.Empty{}}
	case domain.StreamExists:
		w.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &shared.Empty{}}
		w.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_StreamExists_20_6_0{StreamExists_20_6_0: &shared.Empty{}}
	default:
		w.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: uint64(in.expected)}
		w.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: uint64(in.expected)}
	}
	return w, nil
}

// written is the answer to an append.
type written struct {
	revision domain.Revision // of the last event; NoStream if there is none
	position domain.Position // zero if nothing was written
}

// write appends for a client.
func (s *service) write(ctx context.Context, in intake) (w written, err error) {
	if !s.o.Write {
		return w, fmt.Errorf("%w: this server is read-only", errDenied)
	}
	if kept(in.stream) {
		return w, fmt.Errorf("%w: %s is written by this server only", errDenied, in.stream)
	}
	if target, isMeta := strings.CutPrefix(string(in.stream), metaPrefix); isMeta {
		if err := s.checkMetadata(domain.StreamID(target), in.events); err != nil {
			return w, err
		}
	}
	return s.put(ctx, in)
}

// kept tells whether this server keeps the stream, or the metadata of it, for its groups.
func kept(stream domain.StreamID) bool {
	name := strings.TrimPrefix(string(stream), metaPrefix)
	return name == string(groupsStream) || strings.HasPrefix(name, groupPrefix)
}

// put appends for a client, or for this server itself.
func (s *service) put(ctx context.Context, in intake) (w written, err error) {
	if !s.o.Protected(in.stream) {
		defer s.lock(domain.StreamID(strings.TrimPrefix(string(in.stream), metaPrefix)))()
		if in.expected, err = s.revive(ctx, in); err != nil {
			return w, err
		}
	}
	if len(in.events) == 0 {
		end, err := s.last(ctx, in.stream)
		if w.revision = end.Revision; errors.Is(err, domain.ErrNoStream) {
			w.revision, err = domain.NoStream, nil
		}
		if err == nil && !meets(in.expected, w.revision) {
			err = domain.ErrConflict
		}
		return w, err
	}
	if w.position, err = s.o.Log.Append(ctx, in.stream, in.expected, in.events); err != nil {
		return w, err
	}
	if w.revision = in.expected + domain.Revision(len(in.events)); in.expected < domain.NoStream {
		if w.revision, err = s.revisionAt(ctx, in.stream, w.position); err != nil {
			return w, fmt.Errorf("%w: written, but not found: %w", domain.ErrOutcomeUnknown, err)
		}
	}
	s.noteTime(in.stream, w.revision, in.events)
	s.noteEnd(in.stream, w.revision)
	s.news.wake(in.stream) // the log tells of no stream that begins with "$"
	return w, nil
}

// lock serialises writing to a stream that can be deleted, its metadata included.
func (s *service) lock(stream domain.StreamID) (unlock func()) {
	m := &s.locks[maphash.String(s.seed, string(stream))%stripes]
	m.Lock()
	return m.Unlock
}

// checkMetadata refuses what would truncate a protected stream (D11).
func (s *service) checkMetadata(target domain.StreamID, events []domain.NewEvent) error {
	for _, e := range events {
		doc := map[string]json.RawMessage{}
		if err := json.Unmarshal(e.Data, &doc); err != nil {
			return fmt.Errorf("%w: metadata of a stream is a JSON object", errBad)
		}
		for _, key := range []string{"$tb", "$maxCount", "$maxAge"} {
			if _, is := doc[key]; is && s.o.Protected(target) {
				return fmt.Errorf("%w: %s of %s cannot be set: its history stays", errDenied, key, target)
			}
		}
	}
	return nil
}

// revive is the expectation for the log: a deleted stream counts as none, and what is appended to it is
// shown again. The truncation is moved first: a crash in between leaves an empty stream, not lost events.
func (s *service) revive(ctx context.Context, in intake) (domain.Revision, error) {
	v, err := s.viewOf(ctx, in.stream)
	switch {
	case err != nil:
		return 0, err
	case v.tombstoned:
		return 0, errGone
	case in.expected == domain.StreamExists && v.deleted:
		return 0, errGone
	case in.expected == domain.StreamExists && v.last == domain.NoStream && v.doc != nil:
		return domain.Any, nil // metadata is existence enough
	case !v.deleted || len(in.events) == 0:
		return in.expected, nil
	}
	expected := in.expected
	if expected == domain.NoStream {
		expected = v.last
	}
	if !meets(expected, v.last) {
		return expected, nil // a conflict or a repetition: the log tells
	}
	_, err = s.truncate(ctx, in.stream, v, v.last+1)
	return expected, err
}

// truncate writes $tb.
func (s *service) truncate(ctx context.Context, stream domain.StreamID, v view, tb domain.Revision) (domain.Position, error) {
	doc := map[string]json.RawMessage{}
	for key, value := range v.doc {
		doc[key] = value
	}
	doc["$tb"] = fmt.Appendf(nil, "%d", tb)
	data, err := json.Marshal(doc)
	if err != nil {
		return domain.Position{}, err
	}
	expected := domain.NoStream
	if v.doc != nil {
		expected = v.meta.Revision
	}
	p, err := s.o.Log.Append(ctx, metaPrefix+stream, expected, []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: typeMetadata, Data: data}})
	if err == nil {
		s.news.wake(metaPrefix + stream)
	}
	return p, err
}

// hide truncates one of this server's own streams below low.
func (s *service) hide(ctx context.Context, stream domain.StreamID, low domain.Revision) error {
	defer s.lock(stream)()
	v, err := s.viewOf(ctx, stream)
	if err != nil || low < forEver && (v.low >= low || v.deleted) || v.last == domain.NoStream {
		return err
	}
	_, err = s.truncate(ctx, stream, v, low)
	return err
}

// meets tells whether a stream whose last event is last is as expected.
func meets(expected, last domain.Revision) bool {
	return expected == last || expected == domain.Any || expected == domain.StreamExists && last >= 0
}

// revisionAt finds the event that was written at p.
func (s *service) revisionAt(ctx context.Context, stream domain.StreamID, p domain.Position) (domain.Revision, error) {
	if !strings.HasPrefix(string(stream), "$") {
		for r, err := range s.o.Log.ReadAll(ctx, before(p.Commit, p.Prepare)) {
			return r.Revision, err
		}
	}
	for r, err := range s.o.Log.Read(ctx, stream, 0) {
		if err != nil || r.Position == p {
			return r.Revision, err
		}
	}
	return 0, fmt.Errorf("no event at %s", p)
}

// Delete hides what a stream holds; it may be written to again.
func (s *service) Delete(ctx context.Context, req *streams.DeleteReq) (*streams.DeleteResp, error) {
	o := req.GetOptions()
	p, err := s.remove(ctx, o.GetStreamIdentifier(), o, o.GetExpectedStreamRevision() != nil, func(stream domain.StreamID, v view) (domain.Position, error) {
		return s.truncate(ctx, stream, v, forEver)
	})
	if err != nil {
		return nil, err
	}
	return &streams.DeleteResp{PositionOption: &streams.DeleteResp_Position_{Position: &streams.DeleteResp_Position{CommitPosition: p.Commit, PreparePosition: p.Prepare}}}, nil
}

// Tombstone ends a stream for ever.
func (s *service) Tombstone(ctx context.Context, req *streams.TombstoneReq) (*streams.TombstoneResp, error) {
	o := req.GetOptions()
	p, err := s.remove(ctx, o.GetStreamIdentifier(), o, o.GetExpectedStreamRevision() != nil, func(stream domain.StreamID, v view) (domain.Position, error) {
		return s.o.Log.Append(ctx, stream, v.last, []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: typeTombstone, Data: []byte("{}")}})
	})
	if err != nil {
		return nil, err
	}
	return &streams.TombstoneResp{PositionOption: &streams.TombstoneResp_Position_{Position: &streams.TombstoneResp_Position{CommitPosition: p.Commit, PreparePosition: p.Prepare}}}, nil
}

// remove judges a Delete or Tombstone and lets do do it.
func (s *service) remove(ctx context.Context, name *shared.StreamIdentifier, o expecting, given bool, do func(domain.StreamID, view) (domain.Position, error)) (domain.Position, error) {
	stream, err := nameOf(name)
	if err != nil {
		return domain.Position{}, err
	}
	p, err := func() (p domain.Position, err error) {
		expected, err := expectationOf(o, given)
		switch {
		case err != nil:
			return p, err
		case !s.o.Write:
			return p, fmt.Errorf("%w: this server is read-only", errDenied)
		case kept(stream):
			return p, fmt.Errorf("%w: %s goes with its persistent subscription", errDenied, stream)
		case s.o.Protected(stream):
			return p, fmt.Errorf("%w: %s cannot be deleted: its history stays", errDenied, stream)
		case strings.HasPrefix(string(stream), metaPrefix):
			return p, fmt.Errorf("%w: metadata cannot be deleted", errBad)
		}
		defer s.lock(stream)()
		v, err := s.viewOf(ctx, stream)
		switch {
		case err != nil:
			return p, err
		case v.tombstoned:
			return p, errGone
		case !meets(expected, v.last):
			return p, fmt.Errorf("%w: last revision is %d", domain.ErrConflict, v.last)
		}
		if p, err = do(stream, v); err == nil {
			s.news.wake(stream)
		}
		return p, err
	}()
	if err != nil {
		return p, s.statusOf(ctx, stream, err)
	}
	return p, nil
}

// batch is one append of a BatchAppend call.
type batch struct {
	intake
	options *streams.BatchAppendReq_Options
}

// BatchAppend takes many appends on one call, each under its own correlation id, and answers them in the
// order in which they were complete.
func (s *service) BatchAppend(call streams.Streams_BatchAppendServer) error {
	pending := map[uuid.UUID]*batch{}
	for {
		m, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		id, err := idOf(m.GetCorrelationId())
		if err != nil {
			return status.Error(codes.InvalidArgument, "an append needs a correlation id")
		}
		b := pending[id]
		if b == nil {
			if len(pending) >= maxPending {
				return status.Errorf(codes.ResourceExhausted, "%d appends are unfinished", maxPending)
			}
			b = &batch{}
			pending[id] = b
		}
		if m.GetOptions() != nil {
			b.options = m.GetOptions()
		}
		for _, p := range m.GetProposedMessages() {
			b.add(p)
		}
		if !m.GetIsFinal() {
			continue
		}
		delete(pending, id)
		answer := s.appendBatch(call.Context(), b)
		answer.CorrelationId = m.GetCorrelationId()
		if err := call.Send(answer); err != nil {
			return err
		}
	}
}

func (s *service) appendBatch(ctx context.Context, b *batch) *streams.BatchAppendResp {
	answer := &streams.BatchAppendResp{StreamIdentifier: b.options.GetStreamIdentifier()}
	b.expected = domain.Any
	switch e := b.options.GetExpectedStreamPosition().(type) {
	case *streams.BatchAppendReq_Options_StreamPosition:
		b.expected = revision(e.StreamPosition)
		answer.ExpectedStreamPosition = &streams.BatchAppendResp_StreamPosition{StreamPosition: e.StreamPosition}
	case *streams.BatchAppendReq_Options_NoStream:
		b.expected = domain.NoStream
		answer.ExpectedStreamPosition = &streams.BatchAppendResp_NoStream{NoStream: e.NoStream}
	case *streams.BatchAppendReq_Options_StreamExists:
		b.expected = domain.StreamExists
		answer.ExpectedStreamPosition = &streams.BatchAppendResp_StreamExists{StreamExists: e.StreamExists}
	case *streams.BatchAppendReq_Options_Any:
		answer.ExpectedStreamPosition = &streams.BatchAppendResp_Any{Any: e.Any}
	default:
		b.err = cmpErr(b.err, fmt.Errorf("%w: no expectation", errBad))
	}
	switch d := b.options.GetDeadlineOption().(type) {
	case *streams.BatchAppendReq_Options_Deadline:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Deadline.AsDuration())
		defer cancel()
	case *streams.BatchAppendReq_Options_Deadline_21_10_0:
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, d.Deadline_21_10_0.AsTime())
		defer cancel()
	}
	err := b.err
	if err == nil {
		b.stream, err = nameOf(b.options.GetStreamIdentifier())
	}
	var w written
	if err == nil {
		w, err = s.write(ctx, b.intake)
	}
	if err != nil {
		answer.Result = &streams.BatchAppendResp_Error{Error: s.batchError(ctx, b, err)}
		return answer
	}
	success := &streams.BatchAppendResp_Success{
		CurrentRevisionOption: &streams.BatchAppendResp_Success_NoStream{NoStream: &emptypb.Empty{}},
		PositionOption:        &streams.BatchAppendResp_Success_NoPosition{NoPosition: &emptypb.Empty{}},
	}
	if w.revision >= 0 {
		success.CurrentRevisionOption = &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: uint64(w.revision)}
	}
	if !w.position.IsZero() {
		success.PositionOption = &streams.BatchAppendResp_Success_Position{Position: &shared.AllStreamPosition{CommitPosition: w.position.Commit, PreparePosition: w.position.Prepare}}
	}
	answer.Result = &streams.BatchAppendResp_Success_{Success: success}
	return answer
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// batchError is a refusal inside the answer; what it is stands in its details.
func (s *service) batchError(ctx context.Context, b *batch, err error) *rpc.Status {
	code, text, detail := codes.Unknown, "Unknown", proto.Message(&shared.Unknown{})
	switch {
	case errors.Is(err, domain.ErrConflict):
		w := &shared.WrongExpectedVersion{CurrentStreamRevisionOption: &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}}
		if end, err := s.last(ctx, b.stream); err == nil {
			w.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: uint64(end.Revision)}
		}
		switch b.expected {
		case domain.NoStream:
			w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}}
		case domain.Any:
			w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedAny{ExpectedAny: &emptypb.Empty{}}
		case domain.StreamExists:
			w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}}
		default:
			w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: uint64(b.expected)}
		}
		code, text, detail = codes.AlreadyExists, "WrongExpectedVersion", w
	case errors.Is(err, errGone):
		code, text, detail = codes.FailedPrecondition, "StreamDeleted", &shared.StreamDeleted{StreamIdentifier: wireName(b.stream)}
	case errors.Is(err, errDenied):
		code, text, detail = codes.PermissionDenied, "AccessDenied", &shared.AccessDenied{}
	case errors.Is(err, domain.ErrTooBig):
		code, text, detail = codes.InvalidArgument, "MaximumAppendSizeExceeded", &shared.MaximumAppendSizeExceeded{MaxAppendSize: domain.MaxAppend}
	case errors.Is(err, errBad), status.Code(err) == codes.InvalidArgument:
		code, text, detail = codes.InvalidArgument, "BadRequest", &shared.BadRequest{Message: err.Error()}
	case errors.Is(err, domain.ErrOutcomeUnknown), errors.Is(err, context.DeadlineExceeded):
		code, text, detail = codes.DeadlineExceeded, "Timeout", &shared.Timeout{}
	}
	details := &anypb.Any{}
	if packed, err := anypb.New(detail); err == nil {
		details = packed
	}
	return &rpc.Status{Code: int32(code), Message: text, Details: []*anypb.Any{details}}
}
