package eventstoredb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"ledgerline/domain"
)

// Groups are persistent subscriptions to $all, filtered by type on the server. Retrying and parking is the
// consumer's own, so that what is parked is seen where everything parked is; the server never parks.
const (
	groupPrefix    = "ledgerline-"
	messageTimeout = 10 * 60 * 1000 // ms; longer than all attempts of a message together take
)

// EnsureGroup implements commands.Groups.
func (s *Store) EnsureGroup(ctx context.Context, name string, types []string, after domain.Position) error {
	settings := esdb.SubscriptionSettingsDefault()
	settings.MaxRetryCount = math.MaxInt32
	settings.MessageTimeout = messageTimeout
	settings.CheckpointLowerBound = 1 // few messages, each an outside call: note each soon
	_, err := repeated(ctx, s, func(ctx context.Context, c *esdb.Client) (struct{}, error) {
		return struct{}{}, c.CreatePersistentSubscriptionToAll(ctx, groupPrefix+name, esdb.PersistentAllSubscriptionOptions{
			Settings:        &settings,
			StartFrom:       allPosition(after),
			MaxSearchWindow: 32,
			Filter:          &esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: types},
		})
	})
	if e := (*esdb.Error)(nil); errors.As(err, &e) && e.Code() == esdb.ErrorCodeResourceAlreadyExists {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make group %s: %w", name, err)
	}
	return nil
}

// Consume implements commands.Groups.
func (s *Store) Consume(ctx context.Context, name string, lanes int, handle func(context.Context, domain.Recorded) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var working sync.WaitGroup
	var mu sync.Mutex // one answer at a time; and left
	left := false
	ended, err := start(ctx, s, func(ctx context.Context, c *esdb.Client) (struct{}, error) {
		sub, err := c.SubscribeToPersistentSubscriptionToAll(ctx, groupPrefix+name, esdb.SubscribeToPersistentSubscriptionOptions{BufferSize: uint32(lanes)})
		if err != nil {
			return struct{}{}, err
		}
		defer sub.Close()
		room := make(chan struct{}, lanes)
		for {
			m := sub.Recv()
			if m.SubscriptionDropped != nil {
				return struct{}{}, m.SubscriptionDropped.Error
			}
			e := m.EventAppeared.Event
			r, ok := recorded(e)
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return struct{}{}, ctx.Err()
			}
			mu.Lock()
			if left {
				mu.Unlock()
				return struct{}{}, ctx.Err()
			}
			working.Add(1)
			mu.Unlock()
			go func() {
				defer working.Done()
				defer func() { <-room }()
				var err error
				if ok && shown(r) {
					err = handle(ctx, r)
				}
				if ctx.Err() != nil {
					return // not answered: it goes to somebody else
				}
				mu.Lock()
				defer mu.Unlock()
				// An answer that does not arrive shows as a drop, and the message comes again.
				if err == nil {
					_ = sub.Ack(e)
				} else {
					_ = sub.Nack("try again", esdb.NackActionRetry, e)
				}
			}()
		}
	})
	if err == nil {
		select {
		case o := <-ended:
			err = cmpOr(ctx.Err(), translate(o.err))
		case <-ctx.Done():
			err = ctx.Err()
		}
		cancel()
		mu.Lock()
		left = true
		mu.Unlock()
		working.Wait()
	}
	return fmt.Errorf("consume group %s: %w", name, err)
}

// GroupPosition implements commands.Groups.
func (s *Store) GroupPosition(ctx context.Context, name string) (domain.Position, error) {
	info, err := repeated(ctx, s, func(ctx context.Context, c *esdb.Client) (*esdb.PersistentSubscriptionInfo, error) {
		return c.GetPersistentSubscriptionInfoToAll(ctx, groupPrefix+name, esdb.GetPersistentSubscriptionOptions{})
	})
	if err != nil {
		return domain.Position{}, fmt.Errorf("position of group %s: %w", name, err)
	}
	if info.Stats == nil || info.Stats.LastCheckpointedPosition == nil {
		return domain.Position{}, nil
	}
	return domain.Position(*info.Stats.LastCheckpointedPosition), nil
}
