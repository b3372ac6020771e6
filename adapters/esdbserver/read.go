package esdbserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ledgerline/domain"
)

const (
	firstStep = 32  // events looked at first when reading backwards
	maxStep   = 512 // … and at most at once: the ledger's page

	maxPattern  = 4096 // bytes
	maxPrefixes = 1000
)

// forEver is the $tb of a stream that was deleted.
const forEver = math.MaxInt64

// asked is a read as clients ask for it, checked.
type asked struct {
	stream    domain.StreamID // empty: the whole log
	backwards bool
	count     uint64 // subscriptions have none
	match     func(domain.Recorded) bool
	interval  uint64 // events between two checkpoints; 0 without a filter
	resolve   bool
	textIDs   bool
}

// Read answers reads and catch-up subscriptions.
func (s *service) Read(req *streams.ReadReq, out streams.Streams_ReadServer) error {
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	defer context.AfterFunc(s.base, cancel)()
	o := req.GetOptions()
	a, err := s.askedFor(o)
	if err == nil {
		sink := &sink{s: s, ctx: ctx, out: out, a: a, left: a.count}
		switch _, subscribe := o.GetCountOption().(*streams.ReadReq_Options_Subscription); {
		case subscribe && a.backwards:
			err = fmt.Errorf("%w: a subscription reads forwards", errBad)
		case subscribe && a.stream == "":
			err = s.subscribeAll(ctx, sink, o.GetAll())
		case subscribe:
			err = s.subscribeStream(ctx, sink, o.GetStream())
		case a.stream == "":
			err = s.readAll(ctx, sink, o.GetAll())
		default:
			err = s.readStream(ctx, sink, o.GetStream())
		}
	}
	if err == nil || errors.Is(err, errEnough) {
		return nil
	}
	return s.statusOf(out.Context(), a.stream, err)
}

func (s *service) askedFor(o *streams.ReadReq_Options) (a asked, err error) {
	a = asked{backwards: o.GetReadDirection() == streams.ReadReq_Options_Backwards, count: o.GetCount(), resolve: o.GetResolveLinks()}
	_, a.textIDs = o.GetUuidOption().GetContent().(*streams.ReadReq_Options_UUIDOption_String_)
	switch o.GetStreamOption().(type) {
	case *streams.ReadReq_Options_Stream:
		a.stream, err = nameOf(o.GetStream().GetStreamIdentifier())
	case *streams.ReadReq_Options_All:
	default:
		err = fmt.Errorf("%w: neither a stream nor the whole log", errBad)
	}
	if f := o.GetFilter(); f != nil && err == nil {
		a.match, a.interval, err = filter(f)
	}
	return a, err
}

// filter is what a filter lets through and how often it reports.
func filter(f *streams.ReadReq_Options_FilterOptions) (match func(domain.Recorded) bool, interval uint64, err error) {
	interval = uint64(f.GetCheckpointIntervalMultiplier()) * uint64(max(f.GetMax(), 1))
	if _, unbounded := f.GetWindow().(*streams.ReadReq_Options_FilterOptions_Count); unbounded {
		interval = uint64(f.GetCheckpointIntervalMultiplier()) * firstStep
	}
	if interval == 0 {
		return nil, 0, fmt.Errorf("%w: the checkpoint interval is zero", errBad)
	}
	text, e := func(r domain.Recorded) string { return string(r.Stream) }, f.GetStreamIdentifier()
	if f.GetEventType() != nil {
		text, e = func(r domain.Recorded) string { return r.Type }, f.GetEventType()
	}
	switch {
	case e == nil || (e.GetRegex() == "") == (len(e.GetPrefix()) == 0):
		return nil, 0, fmt.Errorf("%w: a filter has either prefixes or a pattern", errBad)
	case len(e.GetRegex()) > maxPattern || len(e.GetPrefix()) > maxPrefixes:
		return nil, 0, fmt.Errorf("%w: a filter has at most %d bytes of pattern or %d prefixes", errBad, maxPattern, maxPrefixes)
	case e.GetRegex() != "":
		pattern, err := regexp.Compile(e.GetRegex())
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errBad, err)
		}
		return func(r domain.Recorded) bool { return pattern.MatchString(text(r)) }, interval, nil
	}
	return func(r domain.Recorded) bool {
		return slices.ContainsFunc(e.GetPrefix(), func(p string) bool { return strings.HasPrefix(text(r), p) })
	}, interval, nil
}

// errEnough ends a read that has delivered its count.
var errEnough = errors.New("count reached")

// sink sends messages to one client.
type sink struct {
	s    *service
	ctx  context.Context
	out  streams.Streams_ReadServer
	a    asked
	left uint64
}

// wanted tells whether the filter lets the event through.
func (k *sink) wanted(r domain.Recorded) bool { return k.a.match == nil || k.a.match(r) }

// event sends an event, its link resolved if that was asked for.
func (k *sink) event(r domain.Recorded) error {
	e := &streams.ReadResp_ReadEvent{Event: k.s.wireEvent(r, k.a.textIDs), Position: &streams.ReadResp_ReadEvent_CommitPosition{CommitPosition: r.Position.Commit}}
	if k.a.resolve && r.Type == typeLink {
		target, found, err := k.s.target(k.ctx, r)
		if err != nil {
			return err
		}
		if e.Link, e.Event = e.Event, nil; found {
			e.Event = k.s.wireEvent(target, k.a.textIDs)
		}
	}
	return k.out.Send(&streams.ReadResp{Content: &streams.ReadResp_Event{Event: e}})
}

// counted is event for a read, which ends with errEnough.
func (k *sink) counted(r domain.Recorded) error {
	if !k.wanted(r) {
		return nil
	}
	if err := k.event(r); err != nil {
		return err
	}
	if k.left--; k.left == 0 {
		return errEnough
	}
	return nil
}

func (k *sink) confirm() error {
	return k.out.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: uuid.NewString()}}})
}

func (k *sink) caughtUp() error {
	return k.out.Send(&streams.ReadResp{Content: &streams.ReadResp_CaughtUp_{CaughtUp: &streams.ReadResp_CaughtUp{}}})
}

func (k *sink) checkpoint(p domain.Position) error {
	return k.out.Send(&streams.ReadResp{Content: &streams.ReadResp_Checkpoint_{Checkpoint: &streams.ReadResp_Checkpoint{CommitPosition: p.Commit, PreparePosition: p.Prepare}}})
}

func (k *sink) notFound() error {
	return k.out.Send(&streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{StreamNotFound: &streams.ReadResp_StreamNotFound{StreamIdentifier: wireName(k.a.stream)}}})
}

// parseLink reads "revision@stream".
func parseLink(data []byte) (domain.StreamID, domain.Revision, bool) {
	number, name, ok := strings.Cut(string(data), "@")
	n, err := strconv.ParseInt(number, 10, 64)
	return domain.StreamID(name), domain.Revision(n), ok && err == nil && n >= 0 && name != ""
}

// target is the event a link points to, unless it is gone.
func (s *service) target(ctx context.Context, link domain.Recorded) (domain.Recorded, bool, error) {
	stream, n, ok := parseLink(link.Data)
	if !ok {
		return domain.Recorded{}, false, nil
	}
	v, err := s.viewOf(ctx, stream)
	if err != nil || v.tombstoned || n < v.low {
		return domain.Recorded{}, false, err
	}
	for r, err := range s.o.Log.Read(ctx, stream, n) {
		if errors.Is(err, domain.ErrNoStream) {
			break
		}
		return r, err == nil && r.Revision == n && !s.aged(v, r), err
	}
	return domain.Recorded{}, false, nil
}

// view is what a client may see of a stream.
type view struct {
	last       domain.Revision // NoStream if nothing was ever written; not looked up for protected streams
	tombstoned bool
	deleted    bool // $tb says for ever
	low        domain.Revision
	maxAge     time.Duration // 0: none
	meta       domain.Recorded
	doc        map[string]json.RawMessage // meta's data; nil if there is none
}

// viewOf looks a stream and its metadata up. A protected stream shows all it has.
func (s *service) viewOf(ctx context.Context, stream domain.StreamID) (v view, err error) {
	if s.o.Protected(stream) {
		return v, nil
	}
	end, err := s.last(ctx, stream)
	v.last = end.Revision
	switch {
	case errors.Is(err, domain.ErrNoStream):
		v.last = domain.NoStream
	case err != nil:
		return v, err
	}
	if strings.HasPrefix(string(stream), metaPrefix) {
		v.low = max(v.last, 0) // of metadata the last counts
		return v, nil
	}
	v.tombstoned = end.Type == typeTombstone
	v.meta, err = s.last(ctx, metaPrefix+stream)
	if errors.Is(err, domain.ErrNoStream) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	v.doc = map[string]json.RawMessage{}
	if json.Unmarshal(v.meta.Data, &v.doc) != nil {
		return v, nil // not ours to judge: it truncates nothing
	}
	number := func(key string) (n int64) {
		if json.Unmarshal(v.doc[key], &n) != nil {
			return 0
		}
		return max(n, 0)
	}
	tb, count := number("$tb"), number("$maxCount")
	v.deleted = tb == forEver
	v.low = domain.Revision(tb)
	if count > 0 {
		v.low = max(v.low, v.last-domain.Revision(count)+1)
	}
	v.maxAge = time.Duration(min(number("$maxAge"), math.MaxInt64/int64(time.Second))) * time.Second
	return v, nil
}

// aged tells whether $maxAge hides the event.
func (s *service) aged(v view, r domain.Recorded) bool {
	if v.maxAge == 0 {
		return false
	}
	at, known := s.created(r)
	return known && s.o.Clock().Sub(at) > v.maxAge
}

// last is the last event of the stream, or domain.ErrNoStream. The port has no such question: from a
// revision known to exist it reads to the end, and finds such a revision by doubling and halving.
func (s *service) last(ctx context.Context, stream domain.StreamID) (last domain.Recorded, err error) {
	s.mu.Lock()
	at, known := s.ends[stream]
	s.mu.Unlock()
	if !known {
		if at, err = s.nearEnd(ctx, stream); err != nil {
			return last, err
		}
	}
	found := false
	for r, err := range s.o.Log.Read(ctx, stream, at) {
		if err != nil {
			return last, err
		}
		last, found = r, true
	}
	if !found {
		return last, fmt.Errorf("%w: revision %d of %s is gone", domain.ErrDamaged, at, stream)
	}
	s.noteEnd(stream, last.Revision)
	return last, nil
}

// noteEnd remembers a revision that exists.
func (s *service) noteEnd(stream domain.StreamID, r domain.Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ends) >= maxHints {
		clear(s.ends)
	}
	s.ends[stream] = max(s.ends[stream], r)
}

// nearEnd is a revision that exists, fewer than maxStep events before the end.
func (s *service) nearEnd(ctx context.Context, stream domain.StreamID) (domain.Revision, error) {
	exists := func(at domain.Revision) (bool, error) {
		for _, err := range s.o.Log.Read(ctx, stream, at) {
			return err == nil, err
		}
		return false, nil
	}
	low, high := domain.Revision(0), domain.Revision(maxStep)
	for {
		is, err := exists(high)
		if err != nil {
			return 0, err
		}
		if !is {
			break
		}
		low, high = high, 2*high
	}
	for high-low > maxStep {
		middle := low + (high-low)/2
		is, err := exists(middle)
		if err != nil {
			return 0, err
		}
		if is {
			low = middle
		} else {
			high = middle
		}
	}
	return low, nil
}

// readStream answers a read of one stream.
func (s *service) readStream(ctx context.Context, k *sink, o *streams.ReadReq_Options_StreamOptions) error {
	v, err := s.viewOf(ctx, k.a.stream)
	switch {
	case err != nil:
		return err
	case v.tombstoned:
		return errGone
	case v.deleted:
		return k.notFound()
	}
	_, atEnd := o.GetRevisionOption().(*streams.ReadReq_Options_StreamOptions_End)
	from := revision(o.GetRevision()) // 0 for the start
	if k.a.backwards || atEnd {
		end, err := s.last(ctx, k.a.stream)
		if errors.Is(err, domain.ErrNoStream) {
			return k.notFound()
		}
		if err != nil || atEnd && !k.a.backwards || k.left == 0 {
			return err
		}
		if atEnd {
			from = end.Revision
		}
		return s.backwards(ctx, k, v, min(from, end.Revision))
	}
	for r, err := range s.o.Log.Read(ctx, k.a.stream, max(from, v.low)) {
		if errors.Is(err, domain.ErrNoStream) {
			return k.notFound()
		}
		if err != nil {
			return err
		}
		if k.left == 0 {
			return nil
		}
		if s.aged(v, r) {
			continue
		}
		if err := k.counted(r); err != nil {
			return err
		}
	}
	return nil
}

// backwards sends a stream from revision from down: ranges are read forwards and sent the other way round.
func (s *service) backwards(ctx context.Context, k *sink, v view, from domain.Revision) error {
	for step := domain.Revision(min(k.left, firstStep)); from >= v.low; step = min(2*step, maxStep) {
		low := max(v.low, from-step+1)
		var part []domain.Recorded
		for r, err := range s.o.Log.Read(ctx, k.a.stream, low) {
			if err != nil {
				return err
			}
			if r.Revision > from {
				break
			}
			part = append(part, r)
		}
		for _, r := range slices.Backward(part) {
			if s.aged(v, r) {
				continue
			}
			if err := k.counted(r); err != nil {
				return err
			}
		}
		from = low - 1
	}
	return nil
}

// readAll answers a read of the whole log: forwards from a position inclusive, backwards exclusive.
func (s *service) readAll(ctx context.Context, k *sink, o *streams.ReadReq_Options_AllOptions) error {
	_, atStart := o.GetAllOption().(*streams.ReadReq_Options_AllOptions_Start)
	_, atEnd := o.GetAllOption().(*streams.ReadReq_Options_AllOptions_End)
	bound := before(o.GetPosition().GetCommitPosition(), o.GetPosition().GetPreparePosition())
	switch {
	case k.left == 0, atEnd && !k.a.backwards, atStart && k.a.backwards:
		return nil
	case atEnd:
		return s.allBackwards(ctx, k, domain.At(math.MaxUint64))
	case k.a.backwards:
		return s.allBackwards(ctx, k, bound)
	}
	return s.forwards(ctx, k, bound) // the zero position for the start
}

func (s *service) forwards(ctx context.Context, k *sink, after domain.Position) error {
	for r, err := range s.o.Log.ReadAll(ctx, after) {
		if err != nil {
			return err
		}
		if err := k.counted(r); err != nil {
			return err
		}
	}
	return nil
}

// allBackwards sends the log from high, inclusive, down. A position is used here as a bound only: that
// nothing lies at it, or much between two of them, does no harm.
func (s *service) allBackwards(ctx context.Context, k *sink, high domain.Position) error {
	head, err := s.o.Log.Head(ctx)
	if err != nil {
		return err
	}
	at := min(high.Commit, head.Commit)
	for step := min(k.left, uint64(firstStep)); at > 0; step = min(2*step, maxStep) {
		low := at - min(at, step)
		var part []domain.Recorded
		for r, err := range s.o.Log.ReadAll(ctx, domain.At(low)) {
			if err != nil {
				return err
			}
			if r.Position.Commit > at {
				break
			}
			part = append(part, r)
		}
		for _, r := range slices.Backward(part) {
			if err := k.counted(r); err != nil {
				return err
			}
		}
		at = low
	}
	return nil
}

// subscribeAll follows the whole log. A checkpoint comes every interval events looked at, and when level.
func (s *service) subscribeAll(ctx context.Context, k *sink, o *streams.ReadReq_Options_AllOptions) error {
	head, err := s.o.Log.Head(ctx)
	if err != nil {
		return err
	}
	at := domain.Position{}
	switch o.GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Position:
		at = behind(o.GetPosition().GetCommitPosition(), o.GetPosition().GetPreparePosition())
	case *streams.ReadReq_Options_AllOptions_End:
		at = head
	}
	if err := k.confirm(); err != nil {
		return err
	}
	level := false
	reach := func() error {
		for !level && !at.Before(head) {
			now, err := s.o.Log.Head(ctx)
			if err != nil {
				return err
			}
			if now != head {
				head = now
				continue
			}
			level = true
			if k.a.match != nil && !at.IsZero() {
				if err := k.checkpoint(at); err != nil {
					return err
				}
			}
			return k.caughtUp()
		}
		return nil
	}
	if err := reach(); err != nil {
		return err
	}
	seen := uint64(0)
	for r, err := range s.o.Log.Subscribe(ctx, at) {
		if err != nil {
			return err
		}
		if k.wanted(r) {
			if err := k.event(r); err != nil {
				return err
			}
		}
		at = r.Position
		if seen++; k.a.match != nil && seen%k.a.interval == 0 {
			if err := k.checkpoint(at); err != nil {
				return err
			}
		}
		if err := reach(); err != nil {
			return err
		}
	}
	return status.Error(codes.Unavailable, "the log has ended")
}

// subscribeStream follows one stream. A tombstone is the last that comes.
func (s *service) subscribeStream(ctx context.Context, k *sink, o *streams.ReadReq_Options_StreamOptions) error {
	v, err := s.viewOf(ctx, k.a.stream)
	if err != nil {
		return err
	}
	if v.tombstoned {
		return errGone
	}
	next := domain.Revision(0)
	switch o.GetRevisionOption().(type) {
	case *streams.ReadReq_Options_StreamOptions_Revision:
		next = revision(min(o.GetRevision(), math.MaxInt64-1)) + 1
	case *streams.ReadReq_Options_StreamOptions_End:
		if next, err = s.endOf(ctx, k.a.stream); err != nil {
			return err
		}
	}
	if err := k.confirm(); err != nil {
		return err
	}
	told := false
	return s.tail(ctx, k.a.stream, next, func(r domain.Recorded) error {
		if !k.wanted(r) {
			return nil
		}
		return k.event(r)
	}, func() error {
		if told {
			return nil
		}
		told = true
		return k.caughtUp()
	})
}

// endOf is the revision the next event of the stream will have.
func (s *service) endOf(ctx context.Context, stream domain.StreamID) (domain.Revision, error) {
	end, err := s.last(ctx, stream)
	if errors.Is(err, domain.ErrNoStream) {
		return 0, nil
	}
	return end.Revision + 1, err
}

// tail shows the stream from next on, then waits for more, until something goes wrong; level is called
// whenever there is nothing more for now. After a tombstone it ends with errGone.
func (s *service) tail(ctx context.Context, stream domain.StreamID, next domain.Revision, event func(domain.Recorded) error, level func() error) error {
	look, leave := s.news.join(stream)
	defer leave()
	for {
		v, err := s.viewOf(ctx, stream)
		if err != nil {
			return err
		}
		for r, err := range s.o.Log.Read(ctx, stream, max(next, v.low)) {
			if errors.Is(err, domain.ErrNoStream) {
				break
			}
			if err != nil {
				return err
			}
			next = r.Revision + 1
			if s.aged(v, r) {
				continue
			}
			if err := event(r); err != nil {
				return err
			}
			if r.Type == typeTombstone && !s.o.Protected(stream) {
				return errGone
			}
		}
		if err := level(); err != nil {
			return err
		}
		select {
		case <-look:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.news.dead:
			return status.Error(codes.Unavailable, "the log has ended")
		}
	}
}
