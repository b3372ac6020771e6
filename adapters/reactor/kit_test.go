package reactor

import (
	"hash/crc32"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"ledgerline/domain"
)

// kit makes publishers and subscribers over one log, as separate processes would: they share nothing
// but the log and the store. A topic is a stream, the durable name is group and topic.
type kit struct {
	log   *memLog
	store *memStore
	lanes int
	key   func(domain.Recorded, domain.Event) string
}

func byStream(r domain.Recorded, _ domain.Event) string { return string(r.Stream) }

// byEvent spreads the messages of a topic over 16 keys.
func byEvent(r domain.Recorded, _ domain.Event) string {
	return string(rune('a' + crc32.ChecksumIEEE(r.ID[:])%16))
}

func (k kit) group(t *testing.T, group string) (message.Publisher, message.Subscriber) {
	sub, err := NewSubscriber(Config{
		Log: k.log, Store: k.store, From: FromStart, Lanes: k.lanes,
		// The kit nacks one message a hundred times and means it to come again at once.
		Attempts: 1000, Backoff: func(int) time.Duration { return time.Millisecond }, Grace: 20 * time.Millisecond,
		Feed: func(topic string) (Feed, error) {
			return Feed{Name: group + "/" + topic, Wants: func(r domain.Recorded) bool { return string(r.Stream) == topic }, Key: k.key}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Close() }) // the kit leaves one open (it closes it before it subscribes)
	return NewPublisher(k.log), sub
}

func (k kit) one(t *testing.T) (message.Publisher, message.Subscriber) { return k.group(t, "one") }

func (k kit) fresh(t *testing.T) (message.Publisher, message.Subscriber) {
	return k.group(t, watermill.NewUUID())
}

// One lane, the key is the stream: the order of the topic is kept.
func TestKitOrdered(t *testing.T) {
	k := kit{newMemLog(), newMemStore(), 1, byStream}
	tests.TestPubSub(t, tests.Features{ConsumerGroups: true, GuaranteedOrder: true, GuaranteedOrderWithSingleSubscriber: true, Persistent: true}, k.one, k.group)
}

// Eight lanes over sixteen keys: no order over the topic.
func TestKitLanes(t *testing.T) {
	k := kit{newMemLog(), newMemStore(), 8, byEvent}
	tests.TestPubSub(t, tests.Features{ConsumerGroups: true, Persistent: true}, k.one, k.group)
}

// With a name of its own every subscriber receives what was published before it.
func TestKitOldMessages(t *testing.T) {
	k := kit{newMemLog(), newMemStore(), 1, byStream}
	tests.TestNewSubscriberReceivesOldMessages(t, tests.TestContext{TestID: tests.NewTestID(),
		Features: tests.Features{GuaranteedOrder: true, Persistent: true, NewSubscriberReceivesOldMessages: true}}, k.fresh)
}
