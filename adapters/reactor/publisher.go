package reactor

import (
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
)

// MessageType is the event type of published messages that name none in their metadata ("event_type").
const MessageType = "watermill.message"

// Publisher is a Watermill publisher over the log: the topic is the stream, the message's UUID the event's
// id, its payload the data, its metadata the event's metadata. It is synchronous: messages are durable when
// Publish returns, all of one call or none. Safe for concurrent use.
//
// Reactions do not use it: they record through commands. It is for tools that speak Watermill, and for
// Watermill's own tests of the Subscriber.
type Publisher struct {
	log    commands.Log
	closed atomic.Bool
}

// NewPublisher makes a Publisher over log.
func NewPublisher(log commands.Log) *Publisher { return &Publisher{log: log} }

// Publish appends messages to the stream named topic; it works under the context of the first. Errors:
// ErrClosed, the log's own, and one for a UUID that is none.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if p.closed.Load() {
		return fmt.Errorf("publish to %s: %w", topic, ErrClosed)
	}
	if len(messages) == 0 {
		return nil
	}
	events := make([]domain.NewEvent, len(messages))
	for i, m := range messages {
		id, err := uuid.Parse(m.UUID)
		if err != nil {
			return fmt.Errorf("publish to %s: message id: %w", topic, err)
		}
		meta, err := json.Marshal(m.Metadata)
		if err != nil {
			return fmt.Errorf("publish to %s: metadata: %w", topic, err)
		}
		kind := m.Metadata["event_type"]
		if kind == "" {
			kind = MessageType
		}
		events[i] = domain.NewEvent{ID: id, Type: kind, Data: m.Payload, Metadata: meta}
	}
	if _, err := p.log.Append(messages[0].Context(), domain.StreamID(topic), domain.Any, events); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// Close refuses further messages. There is nothing to flush.
func (p *Publisher) Close() error {
	p.closed.Store(true)
	return nil
}
