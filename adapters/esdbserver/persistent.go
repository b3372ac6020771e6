package esdbserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"ledgerline/domain"
)

// groupsService answers for persistent subscriptions. It is apart, for some of its methods are named as
// those of Streams are.
type groupsService struct {
	persistent.UnimplementedPersistentSubscriptionsServer
	s *service
}

// Create makes a group.
func (p groupsService) Create(ctx context.Context, req *persistent.CreateReq) (*persistent.CreateResp, error) {
	s, o := p.s, req.GetOptions()
	c := groupConfig{Group: o.GetGroupName()}
	strategy := o.GetSettings().GetConsumerStrategy()
	if strategy == "" {
		//lint:ignore SA1019 it is what clients of today send
		strategy = o.GetSettings().GetNamedConsumerStrategy().String()
	}
	c.set(o.GetSettings(), strategy)
	stream, all := o.GetStream(), o.GetAll()
	err := func() (err error) {
		if c.Stream, err = sourceOf(stream.GetStreamIdentifier(), all != nil); err != nil {
			return err
		}
		if f := all.GetFilter(); f != nil {
			e := f.GetStreamIdentifier()
			if f.GetEventType() != nil {
				e = f.GetEventType()
			}
			c.Filter = &groupFilter{f.GetEventType() != nil, e.GetRegex(), e.GetPrefix()}
			if _, err := c.Filter.match(); err != nil {
				return err
			}
		}
		if err := s.mayManage(); err != nil {
			return err
		}
		if err := c.check(); err != nil {
			return err
		}
		s.groups.mu.Lock()
		defer s.groups.mu.Unlock()
		if s.groups.list[c.key()] != nil {
			return errGroupExists
		}
		if len(s.groups.list) >= maxGroups {
			return fmt.Errorf("%w: there are %d groups", errBad, maxGroups)
		}
		at := mark{revision(stream.GetRevision()), domain.Position{Commit: all.GetPosition().GetCommitPosition(), Prepare: all.GetPosition().GetPreparePosition()}}
		if err := s.begin(ctx, &c, stream.GetStart() != nil || all.GetStart() != nil, stream.GetEnd() != nil || all.GetEnd() != nil, at); err != nil {
			return err
		}
		if err := s.record(ctx, typeDefined, c); err != nil {
			return err
		}
		g, err := s.startGroup(ctx, c)
		if err == nil {
			s.groups.list[c.key()] = g
		}
		return err
	}()
	if err != nil {
		return nil, s.groupStatus(ctx, c, err)
	}
	return &persistent.CreateResp{}, nil
}

// Update changes a group's settings; its filter stays. Consumers are dropped, checkpoint and parked
// messages stay: where to start counts only before the first checkpoint.
func (p groupsService) Update(ctx context.Context, req *persistent.UpdateReq) (*persistent.UpdateResp, error) {
	s, o := p.s, req.GetOptions()
	stream, all := o.GetStream(), o.GetAll()
	err := s.withGroup(ctx, o.GetGroupName(), stream.GetStreamIdentifier(), all != nil, replacing, func(g *group) error {
		c := g.config
		c.set(o.GetSettings(), o.GetSettings().GetNamedConsumerStrategy().String())
		if err := c.check(); err != nil {
			return err
		}
		at := mark{revision(stream.GetRevision()), domain.Position{Commit: all.GetPosition().GetCommitPosition(), Prepare: all.GetPosition().GetPreparePosition()}}
		if err := s.begin(ctx, &c, stream.GetStart() != nil || all.GetStart() != nil, stream.GetEnd() != nil || all.GetEnd() != nil, at); err != nil {
			return err
		}
		if err := s.record(ctx, typeDefined, c); err != nil {
			return err
		}
		g.stop(errDropped)
		g, err := s.startGroup(context.WithoutCancel(ctx), c)
		if err == nil {
			s.groups.list[c.key()] = g
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &persistent.UpdateResp{}, nil
}

// Delete removes a group, its checkpoint and what it has parked.
func (p groupsService) Delete(ctx context.Context, req *persistent.DeleteReq) (*persistent.DeleteResp, error) {
	s, o := p.s, req.GetOptions()
	err := s.withGroup(ctx, o.GetGroupName(), o.GetStreamIdentifier(), o.GetAll() != nil, replacing, func(g *group) error {
		c := g.config
		if err := s.record(ctx, typeRemoved, groupConfig{Stream: c.Stream, Group: c.Group}); err != nil {
			return err
		}
		delete(s.groups.list, c.key())
		g.stop(errDeletedGroup)
		ctx := context.WithoutCancel(ctx)
		return errors.Join(s.hide(ctx, c.checkpoints(), forEver), s.hide(ctx, c.parked(), forEver))
	})
	if err != nil {
		return nil, err
	}
	return &persistent.DeleteResp{}, nil
}

// ReplayParked sends what is parked again.
func (p groupsService) ReplayParked(ctx context.Context, req *persistent.ReplayParkedReq) (*persistent.ReplayParkedResp, error) {
	o := req.GetOptions()
	err := p.s.withGroup(ctx, o.GetGroupName(), o.GetStreamIdentifier(), o.GetAll() != nil, using, func(g *group) error {
		stop := int64(math.MaxInt64)
		if _, is := o.GetStopAtOption().(*persistent.ReplayParkedReq_Options_StopAt); is {
			if stop = o.GetStopAt(); stop < 0 {
				return fmt.Errorf("%w: no such place to stop at: %d", errBad, stop)
			}
		}
		return g.replay(ctx, domain.Revision(stop))
	})
	if err != nil {
		return nil, err
	}
	return &persistent.ReplayParkedResp{}, nil
}

// What a call does with a group.
type groupUse int

const (
	looking   groupUse = iota // anybody may
	using                     // what managers may, and consumers
	replacing                 // the same, while nobody else replaces any
)

// withGroup does something with the group a request names, in the log's whole or one stream, and answers an error as
// the protocol has it.
func (s *service) withGroup(ctx context.Context, name string, stream *shared.StreamIdentifier, all bool, use groupUse, do func(*group) error) error {
	c := groupConfig{Group: name}
	err := func() (err error) {
		if c.Stream, err = sourceOf(stream, all); err != nil {
			return err
		}
		if use != looking {
			if err := s.mayManage(); err != nil {
				return err
			}
		}
		s.groups.mu.Lock()
		g := s.groups.list[c.key()]
		if use == replacing {
			defer s.groups.mu.Unlock()
		} else {
			s.groups.mu.Unlock()
		}
		if g == nil {
			return errNoGroup
		}
		return do(g)
	}()
	if err != nil {
		return s.groupStatus(ctx, c, err)
	}
	return nil
}

// RestartSubsystem stops all groups and starts them behind their checkpoints.
func (p groupsService) RestartSubsystem(ctx context.Context, _ *shared.Empty) (*shared.Empty, error) {
	s := p.s
	err := s.mayManage()
	if err == nil {
		s.groups.mu.Lock()
		defer s.groups.mu.Unlock()
		s.stopGroups()
		err = s.loadGroups(context.WithoutCancel(ctx))
	}
	if err != nil {
		return nil, s.statusOf(ctx, groupsStream, err)
	}
	return &shared.Empty{}, nil
}

// Read connects a consumer: messages out, acks and nacks in.
func (p groupsService) Read(call persistent.PersistentSubscriptions_ReadServer) error {
	s := p.s
	ctx, cancel := context.WithCancel(call.Context())
	defer cancel()
	defer context.AfterFunc(s.base, cancel)()
	first, err := call.Recv()
	if err != nil {
		return err
	}
	o := first.GetOptions()
	if o == nil {
		return s.groupStatus(call.Context(), groupConfig{}, fmt.Errorf("%w: the first message names the group", errBad))
	}
	return s.withGroup(call.Context(), o.GetGroupName(), o.GetStreamIdentifier(), o.GetAll() != nil, using, func(g *group) error {
		c := s.consumer(ctx, int(o.GetBufferSize()))
		if err := g.join(c); err != nil {
			return err
		}
		defer g.leave(c)
		if err := call.Send(&persistent.ReadResp{Content: &persistent.ReadResp_SubscriptionConfirmation_{
			SubscriptionConfirmation: &persistent.ReadResp_SubscriptionConfirmation{SubscriptionId: c.id.String()}}}); err != nil {
			return err
		}
		heard := make(chan error, 1)
		go func() { heard <- hear(call, g, c) }() // ends with the call
		_, text := o.GetUuidOption().GetContent().(*persistent.ReadReq_Options_UUIDOption_String_)
		for {
			list, err := g.next(c)
			if err != nil {
				return err
			}
			for _, m := range list {
				e, err := s.messageEvent(ctx, m, g.config.ResolveLinks, text)
				if err == nil {
					err = call.Send(&persistent.ReadResp{Content: &persistent.ReadResp_Event{Event: e}})
				}
				if err != nil {
					return err
				}
			}
			select {
			case <-c.wake:
			case err := <-heard:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

// hear takes a consumer's answers until it has gone, in order or not.
func hear(call persistent.PersistentSubscriptions_ReadServer, g *group, c *consumer) error {
	for {
		m, err := call.Recv()
		if err != nil {
			return nil
		}
		ack, nack := m.GetAck(), m.GetNack()
		if ack == nil && nack == nil {
			return fmt.Errorf("%w: an ack or a nack is expected", errBad)
		}
		var ids []uuid.UUID
		for _, w := range append(ack.GetIds(), nack.GetIds()...) {
			id, err := idOf(w)
			if err != nil {
				return fmt.Errorf("%w: %w", errBad, err)
			}
			ids = append(ids, id)
		}
		if ack != nil {
			g.ack(ids)
		} else {
			g.nack(c, ids, nack.GetAction(), nack.GetReason())
		}
	}
}

// consumer describes who calls.
func (s *service) consumer(ctx context.Context, slots int) *consumer {
	c := &consumer{id: uuid.New(), slots: min(max(slots, 1), maxBuffer), wake: make(chan struct{}, 1), began: s.o.Clock(), user: "anonymous"}
	if from, ok := peer.FromContext(ctx); ok && from.Addr != nil {
		c.from = from.Addr.String()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if names := md.Get("connection-name"); len(names) > 0 {
		c.via = names[0][:min(len(names[0]), maxReason)]
	}
	if name, _, ok := credentialsOf(md); ok && s.users != nil {
		c.user = name
	}
	return c
}

// messageEvent is a message as consumers read it.
func (s *service) messageEvent(ctx context.Context, m sending, resolve, text bool) (*persistent.ReadResp_ReadEvent, error) {
	e := &persistent.ReadResp_ReadEvent{Event: s.persistentEvent(m.event, text), Position: &persistent.ReadResp_ReadEvent_CommitPosition{CommitPosition: m.event.Position.Commit},
		Count: &persistent.ReadResp_ReadEvent_RetryCount{RetryCount: int32(m.retries)}}
	if resolve && m.event.Type == typeLink {
		target, found, err := s.target(ctx, m.event)
		if err != nil {
			return nil, err
		}
		if e.Link, e.Event = e.Event, nil; found {
			e.Event = s.persistentEvent(target, text)
		}
	}
	return e, nil
}

func (s *service) persistentEvent(r domain.Recorded, text bool) *persistent.ReadResp_ReadEvent_RecordedEvent {
	w := s.wireEvent(r, text)
	return &persistent.ReadResp_ReadEvent_RecordedEvent{Id: w.Id, StreamIdentifier: w.StreamIdentifier, StreamRevision: w.StreamRevision, CommitPosition: w.CommitPosition,
		PreparePosition: w.PreparePosition, Metadata: w.Metadata, CustomMetadata: w.CustomMetadata, Data: w.Data}
}

// GetInfo tells what a group is doing.
func (p groupsService) GetInfo(ctx context.Context, req *persistent.GetInfoReq) (*persistent.GetInfoResp, error) {
	o := req.GetOptions()
	answer := &persistent.GetInfoResp{}
	err := p.s.withGroup(ctx, o.GetGroupName(), o.GetStreamIdentifier(), o.GetAll() != nil, looking, func(g *group) error {
		answer.SubscriptionInfo = g.info()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// List tells what the groups of a stream, of the whole log, or all of them are doing. A stream without a
// group is not found, as on a cluster.
func (p groupsService) List(ctx context.Context, req *persistent.ListReq) (*persistent.ListResp, error) {
	one := req.GetOptions().GetListForStream()
	c := groupConfig{}
	if one != nil {
		var err error
		if c.Stream, err = sourceOf(one.GetStream(), one.GetAll() != nil); err != nil {
			return nil, p.s.groupStatus(ctx, c, err)
		}
	}
	p.s.groups.mu.Lock()
	var list []*group
	for key, g := range p.s.groups.list {
		if one == nil || key.stream == c.Stream {
			list = append(list, g)
		}
	}
	p.s.groups.mu.Unlock()
	if one != nil && len(list) == 0 {
		return nil, p.s.groupStatus(ctx, c, errNoGroup)
	}
	slices.SortFunc(list, func(a, b *group) int {
		return strings.Compare(a.config.source()+"::"+a.config.Group, b.config.source()+"::"+b.config.Group)
	})
	answer := &persistent.ListResp{}
	for _, g := range list {
		answer.Subscriptions = append(answer.Subscriptions, g.info())
	}
	return answer, nil
}

// info counts: what is waiting, what is out, what is parked. "Since the last measurement" is since the
// last call.
func (g *group) info() *persistent.SubscriptionInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, now := g.config, g.s.o.Clock()
	number := func(n int) int32 { return int32(min(n, math.MaxInt32)) }
	rate := func(total int64, began time.Time) int32 {
		return int32(min(float64(total)/max(now.Sub(began).Seconds(), 1), math.MaxInt32))
	}
	i := &persistent.SubscriptionInfo{
		EventSource: c.source(), GroupName: c.Group, Status: "Behind",
		TotalItems: g.total, CountSinceLastMeasurement: g.total - g.measured, AveragePerSecond: rate(g.total, g.began),
		ResolveLinkTos: c.ResolveLinks, StartFrom: c.From, ExtraStatistics: c.ExtraStatistics, NamedConsumerStrategy: c.Strategy,
		MessageTimeoutMilliseconds: number(int(c.Timeout.Milliseconds())), CheckPointAfterMilliseconds: number(int(c.CheckpointAfter.Milliseconds())),
		MaxRetryCount: number(c.MaxRetries), LiveBufferSize: number(c.LiveBuffer), BufferSize: number(c.HistoryBuffer), ReadBatchSize: number(c.ReadBatch),
		MinCheckPointCount: number(c.MinCheckpoint), MaxCheckPointCount: number(c.MaxCheckpoint), MaxSubscriberCount: number(c.MaxSubscribers),
		RetryBufferCount: number(len(g.retry)), TotalInFlightMessages: number(len(g.out)), OutstandingMessagesCount: number(len(g.out) + len(g.park)), // those on their way to the parked stream too
		ParkedMessageCount: int64(max(g.parkedNext-max(g.replayed, g.parkedLow), 0)),
	}
	g.measured = g.total
	if g.level {
		i.Status, i.LiveBufferCount = "Live", int64(len(g.ready))
	} else {
		i.ReadBufferCount = number(len(g.ready))
	}
	if g.anySaved {
		i.LastCheckpointedEventPosition = c.text(g.saved)
	}
	if g.anyKnown {
		i.LastKnownEventPosition = c.text(g.known)
	}
	for _, o := range g.consumers {
		i.Connections = append(i.Connections, &persistent.SubscriptionInfo_ConnectionInfo{
			From: o.from, Username: o.user, ConnectionName: o.via, TotalItems: o.total, CountSinceLastMeasurement: o.total - o.measured,
			AverageItemsPerSecond: rate(o.total, o.began), AvailableSlots: number(o.slots - o.held), InFlightMessages: number(o.held),
			ObservedMeasurements: measurements(o.latency),
		})
		o.measured = o.total
	}
	return i
}

// measurements are how long the answers took, in milliseconds; none without any.
func measurements(latency []time.Duration) (list []*persistent.SubscriptionInfo_Measurement) {
	if len(latency) == 0 {
		return nil
	}
	sorted, sum := slices.Sorted(slices.Values(latency)), time.Duration(0)
	for _, l := range sorted {
		sum += l
	}
	add := func(key string, l time.Duration) {
		list = append(list, &persistent.SubscriptionInfo_Measurement{Key: key, Value: l.Milliseconds()})
	}
	at := func(share float64) time.Duration { return sorted[int(share*float64(len(sorted)-1))] }
	add("Mean", sum/time.Duration(len(sorted)))
	for _, q := range []struct {
		key   string
		share float64
	}{{"Median", .5}, {"Fastest", 0}, {"Quintile 1", .2}, {"Quintile 2", .4}, {"Quintile 3", .6}, {"Quintile 4", .8}, {"Quintile 5", 1},
		{"90%", .9}, {"95%", .95}, {"99%", .99}, {"99.5%", .995}, {"99.9%", .999}} {
		add(q.key, at(q.share))
	}
	return list
}
