package esdbserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"ledgerline/domain"
)

// What groups keep stands in the log, as on a cluster: who they are in one stream, an event per change;
// how far they have come, and what was parked, in two streams each.
const (
	groupsStream = domain.StreamID("$persistentSubscriptionConfig")
	groupPrefix  = "$persistentsubscription-"
	typeDefined  = "$groupDefined"
	typeRemoved  = "$groupRemoved"
	allStream    = "$all"
)

const (
	maxGroups    = 1000
	maxConsumers = 1000    // of one group
	maxBuffer    = 100_000 // messages, of a group and of a consumer
	maxReason    = 1000    // bytes of a consumer's reason for parking
)

var (
	errNoGroup          = errors.New("no such group")
	errGroupExists      = errors.New("group exists")
	errTooManyConsumers = errors.New("group has all the consumers it may have")
	errDropped          = errors.New("group was changed or restarted")
	errDeletedGroup     = fmt.Errorf("group was deleted: %w", errDropped)
)

// groupConfig is what a group was created with. It is kept as JSON.
type groupConfig struct {
	Stream domain.StreamID `json:"stream,omitempty"` // empty: the whole log
	Group  string          `json:"group"`
	Filter *groupFilter    `json:"filter,omitempty"`

	From  string `json:"start_from"` // as asked for: a revision or "C:n/P:n"; -1 is the end
	After mark   `json:"after"`      // where that was at that time; nothing up to here is shown

	ResolveLinks    bool          `json:"resolve_links,omitempty"`
	ExtraStatistics bool          `json:"extra_statistics,omitempty"`
	Timeout         time.Duration `json:"message_timeout_ns"` // 0: messages may stay out for ever
	MaxRetries      int           `json:"max_retry_count"`
	MinCheckpoint   int           `json:"min_checkpoint_count"`
	MaxCheckpoint   int           `json:"max_checkpoint_count"`
	CheckpointAfter time.Duration `json:"checkpoint_after_ns"`
	MaxSubscribers  int           `json:"max_subscriber_count"` // 0: as many as come
	LiveBuffer      int           `json:"live_buffer_size"`     // kept and told; messages wait in the log
	ReadBatch       int           `json:"read_batch_size"`      // likewise: the log has pages of its own
	HistoryBuffer   int           `json:"history_buffer_size"`  // messages read ahead
	Strategy        string        `json:"strategy"`
}

// groupFilter is a filter as clients ask for it.
type groupFilter struct {
	OnType   bool     `json:"on_type,omitempty"`
	Regex    string   `json:"regex,omitempty"`
	Prefixes []string `json:"prefixes,omitempty"`
}

func (f *groupFilter) match() (func(domain.Recorded) bool, error) {
	if f == nil {
		return nil, nil
	}
	e := &streams.ReadReq_Options_FilterOptions_Expression{Regex: f.Regex, Prefix: f.Prefixes}
	o := &streams.ReadReq_Options_FilterOptions{CheckpointIntervalMultiplier: 1, Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{StreamIdentifier: e}}
	if f.OnType {
		o.Filter = &streams.ReadReq_Options_FilterOptions_EventType{EventType: e}
	}
	match, _, err := filter(o)
	return match, err
}

// source is the stream's name, or $all.
func (c groupConfig) source() string { return cmp.Or(string(c.Stream), allStream) }

func (c groupConfig) checkpoints() domain.StreamID { return c.own("checkpoint") }
func (c groupConfig) parked() domain.StreamID      { return c.own("parked") }

func (c groupConfig) own(what string) domain.StreamID {
	return domain.StreamID(groupPrefix + c.source() + "::" + c.Group + "-" + what)
}

// text is a place as checkpoints and statistics tell it.
func (c groupConfig) text(m mark) string {
	if c.Stream == "" {
		return fmt.Sprintf("C:%d/P:%d", m.Position.Commit, m.Position.Prepare)
	}
	return strconv.FormatInt(int64(m.Revision), 10)
}

// parse reads what text wrote.
func (c groupConfig) parse(text string) (m mark, err error) {
	if c.Stream != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return m, fmt.Errorf("%q is not a revision", text)
		}
		return mark{Revision: domain.Revision(n)}, nil
	}
	commit, prepare, ok := strings.Cut(text, "/P:")
	commit, ok2 := strings.CutPrefix(commit, "C:")
	var err1, err2 error
	m.Position.Commit, err1 = strconv.ParseUint(commit, 10, 64)
	m.Position.Prepare, err2 = strconv.ParseUint(prepare, 10, 64)
	if !ok || !ok2 || err1 != nil || err2 != nil {
		return mark{}, fmt.Errorf("%q is not a position", text)
	}
	return m, nil
}

// groupKey tells groups apart.
type groupKey struct {
	stream domain.StreamID
	group  string
}

func (c groupConfig) key() groupKey { return groupKey{c.Stream, c.Group} }

// groups are the persistent subscriptions of a server.
type groups struct {
	mu   sync.Mutex // held while one is created, changed or removed
	list map[groupKey]*group
}

// loadGroups starts the groups the log tells of.
func (s *service) loadGroups(ctx context.Context) error {
	if !s.o.Write {
		return nil // nobody may take part in them, and they would write
	}
	configs := map[groupKey]groupConfig{}
	for r, err := range s.o.Log.Read(ctx, groupsStream, 0) {
		if errors.Is(err, domain.ErrNoStream) {
			break
		}
		var c groupConfig
		if err == nil {
			err = json.Unmarshal(r.Data, &c)
		}
		if err != nil {
			return fmt.Errorf("read the persistent subscriptions: %w", err)
		}
		if r.Type == typeRemoved {
			delete(configs, c.key())
		} else {
			configs[c.key()] = c
		}
	}
	s.groups.list = map[groupKey]*group{}
	for key, c := range configs {
		g, err := s.startGroup(ctx, c)
		if err != nil {
			return fmt.Errorf("start the persistent subscription %s of %s: %w", c.Group, c.source(), err)
		}
		s.groups.list[key] = g
	}
	return nil
}

// startGroup starts a group behind its last checkpoint. What was parked, or parked again and not done,
// stays parked.
func (s *service) startGroup(ctx context.Context, c groupConfig) (*group, error) {
	now := s.o.Clock()
	g := &group{s: s, config: c, over: make(chan struct{}), wake: make(chan struct{}, 1), room: make(chan struct{}, 1), out: map[uuid.UUID]*message{}, began: now, savedAt: now}
	var err error
	if g.match, err = c.Filter.match(); err != nil {
		return nil, err
	}
	after := c.After
	end, v, err := s.visible(ctx, c.checkpoints())
	if err != nil {
		return nil, err
	}
	if end.Revision >= v.low && end.Revision >= 0 && !v.deleted {
		var text string
		if err := json.Unmarshal(end.Data, &text); err != nil {
			return nil, fmt.Errorf("%w: checkpoint: %w", domain.ErrDamaged, err)
		}
		if after, err = c.parse(text); err != nil {
			return nil, fmt.Errorf("%w: checkpoint: %w", domain.ErrDamaged, err)
		}
		g.saved, g.anySaved = after, true
	}
	if end, v, err = s.visible(ctx, c.parked()); err != nil {
		return nil, err
	}
	g.parkedNext = end.Revision + 1
	g.parkedLow = min(v.low, g.parkedNext)
	g.replayed = g.parkedLow
	ctx, g.cancel = context.WithCancel(s.base)
	var wg sync.WaitGroup
	wg.Go(func() { g.run(ctx) })
	wg.Go(func() { g.feed(ctx, after) })
	go func() {
		wg.Wait()
		close(g.over)
	}()
	return g, nil
}

// visible is the last event of the stream, with revision NoStream if there is none, and what is seen of it.
func (s *service) visible(ctx context.Context, stream domain.StreamID) (end domain.Recorded, v view, err error) {
	if v, err = s.viewOf(ctx, stream); err != nil {
		return end, v, err
	}
	end, err = s.last(ctx, stream)
	if errors.Is(err, domain.ErrNoStream) {
		end.Revision, err = domain.NoStream, nil
	}
	return end, v, err
}

// stop ends the group's work and sends its consumers away with err.
func (g *group) stop(err error) {
	g.drop(err)
	g.cancel()
	<-g.over
}

// feed reads ahead from after on. Trouble with the log is waited out.
func (g *group) feed(ctx context.Context, after mark) {
	at := after
	event := func(r domain.Recorded) error {
		if err := g.looked(ctx, r); err != nil {
			return err
		}
		at = mark{r.Revision, r.Position}
		return nil
	}
	for ctx.Err() == nil {
		err := g.read(ctx, at, event)
		if ctx.Err() != nil || errors.Is(err, errGone) {
			return
		}
		g.s.complain(ctx, err, g.config, "reading ahead interrupted")
		select {
		case <-time.After(tryAgain):
		case <-ctx.Done():
		}
	}
}

func (g *group) read(ctx context.Context, at mark, event func(domain.Recorded) error) error {
	level := func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.level = true
		return nil
	}
	if g.config.Stream != "" {
		return g.s.tail(ctx, g.config.Stream, at.Revision+1, event, level)
	}
	head, err := g.s.o.Log.Head(ctx)
	if err == nil && !at.Position.Before(head) {
		err = level()
	}
	if err != nil {
		return err
	}
	for r, err := range g.s.o.Log.Subscribe(ctx, at.Position) {
		if err != nil {
			return err
		}
		if err := event(r); err != nil {
			return err
		}
		if !r.Position.Before(head) {
			if head, err = g.s.o.Log.Head(ctx); err != nil {
				return err
			}
			if !r.Position.Before(head) {
				_ = level() // never fails
			}
		}
	}
	return errors.New("the log has ended")
}

// complain logs what nobody can be told.
func (s *service) complain(ctx context.Context, err error, c groupConfig, what string) {
	if ctx.Err() == nil {
		zerolog.Ctx(s.base).Error().Err(err).Str("stream", c.source()).Str("group", c.Group).Msg(what)
	}
}

// record writes a change of the groups' list.
func (s *service) record(ctx context.Context, kind string, c groupConfig) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = s.put(ctx, intake{stream: groupsStream, expected: domain.Any, events: []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: kind, Data: data}}})
	return err
}

// sourceOf reads which stream a request means; empty is the whole log.
func sourceOf(name *shared.StreamIdentifier, all bool) (domain.StreamID, error) {
	if all {
		return "", nil
	}
	return nameOf(name)
}

func (c groupConfig) check() error {
	switch {
	case c.Group == "" || !utf8.ValidString(c.Group) || strings.Contains(c.Group, "::") || strings.ContainsRune(c.Group, 0) || len(c.Group) > maxReason:
		return fmt.Errorf("%w: %q is not the name of a group", errBad, c.Group)
	case c.HistoryBuffer < 1 || c.HistoryBuffer > maxBuffer || c.LiveBuffer < 0 || c.LiveBuffer > maxBuffer || c.ReadBatch < 1:
		return fmt.Errorf("%w: buffers hold between 1 and %d messages", errBad, maxBuffer)
	case c.ReadBatch >= c.HistoryBuffer:
		return fmt.Errorf("%w: the read batch must be smaller than the history buffer", errBad)
	case c.MaxRetries < 0 || c.Timeout < 0 || c.CheckpointAfter < 0 || c.MinCheckpoint < 0 || c.MaxCheckpoint < 0 || c.MaxSubscribers < 0:
		return fmt.Errorf("%w: no setting of a group is below zero", errBad)
	case c.MaxCheckpoint > 0 && c.MinCheckpoint > c.MaxCheckpoint:
		return fmt.Errorf("%w: the lower bound of checkpoints is above the upper", errBad)
	case !slices.Contains([]string{roundRobin, dispatchToSingle, pinned, pinnedByCorrelation}, c.Strategy):
		return fmt.Errorf("%w: there is no strategy %q", errBad, c.Strategy)
	}
	return nil
}

// settings are what CreateReq and UpdateReq have in common.
type settings interface {
	GetResolveLinks() bool
	GetExtraStatistics() bool
	GetMaxRetryCount() int32
	GetMinCheckpointCount() int32
	GetMaxCheckpointCount() int32
	GetMaxSubscriberCount() int32
	GetLiveBufferSize() int32
	GetReadBatchSize() int32
	GetHistoryBufferSize() int32
	GetMessageTimeoutTicks() int64
	GetMessageTimeoutMs() int32
	GetCheckpointAfterTicks() int64
	GetCheckpointAfterMs() int32
}

// set takes settings over; both units of a time are read, ticks of 100 ns and milliseconds.
func (c *groupConfig) set(o settings, strategy string) {
	span := func(ticks int64, ms int32) time.Duration {
		return time.Duration(max(min(ticks, math.MaxInt64/100), math.MinInt64/100))*100 + time.Duration(ms)*time.Millisecond
	}
	c.ResolveLinks, c.ExtraStatistics = o.GetResolveLinks(), o.GetExtraStatistics()
	c.Timeout = span(o.GetMessageTimeoutTicks(), o.GetMessageTimeoutMs())
	c.CheckpointAfter = span(o.GetCheckpointAfterTicks(), o.GetCheckpointAfterMs())
	c.MaxRetries, c.MaxSubscribers = int(o.GetMaxRetryCount()), int(o.GetMaxSubscriberCount())
	c.MinCheckpoint, c.MaxCheckpoint = int(o.GetMinCheckpointCount()), int(o.GetMaxCheckpointCount())
	c.LiveBuffer, c.ReadBatch, c.HistoryBuffer = int(o.GetLiveBufferSize()), int(o.GetReadBatchSize()), int(o.GetHistoryBufferSize())
	c.Strategy = strategy
}

// begin sets where the group starts: the revision or position itself is shown, the end is now.
func (s *service) begin(ctx context.Context, c *groupConfig, start, end bool, at mark) (err error) {
	switch {
	case end && c.Stream == "":
		c.From = "C:-1/P:-1"
		c.After.Position, err = s.o.Log.Head(ctx)
	case end:
		c.From = "-1"
		c.After.Revision, err = s.endOf(ctx, c.Stream)
		c.After.Revision--
	case start:
		c.From, c.After = c.text(mark{}), mark{Revision: -1}
	default:
		c.From = c.text(at)
		c.After = mark{at.Revision - 1, before(at.Position.Commit, at.Position.Prepare)}
	}
	return err
}

func (s *service) stopGroups() {
	var wg sync.WaitGroup
	for _, g := range s.groups.list {
		wg.Go(func() { g.stop(errDropped) })
	}
	wg.Wait()
}

// mayManage: a group writes to the log, so it needs a server that does.
func (s *service) mayManage() error {
	if !s.o.Write {
		return fmt.Errorf("%w: this server is read-only", errDenied)
	}
	return nil
}
