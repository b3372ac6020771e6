// Package bus is the Wazo platform's message bus (AMQP): what it tells of deleted tenants is acted on at once, and what
// happens to devices and jobs here is published for who wants to know. Optional: without a bus nothing is missing but the
// promptness, for tenants are compared with the token service daily too.
//
// What always holds: a message is acknowledged only after it was acted on; an event is published only after it is in the
// log, in the log's order, at least once (the position is kept beside the log and saved after the broker has confirmed);
// what is published has no secret in it, not even sealed: type, ids, tenant, time, position.
//
// Not here: what deleting a tenant means (the Evict given), the events themselves (domain).
package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Options say where the bus is and what is done with it. URL, Log, Store and Evict are needed.
type Options struct {
	URL          string // amqp://user:password@host:port/vhost; amqps:// for TLS
	Exchange     string // "wazo-headers" when empty
	ExchangeType string // "headers" when empty
	Queue        string // of this installation, durable, shared by its replicas; "ledgerline" when empty
	Log          commands.Log
	Store        commands.ReactorStore
	// Evict deletes what belongs to a tenant the platform has deleted.
	Evict func(ctx context.Context, tenant domain.TenantID) error
	// Outside is a tenant's name on the platform; nil: its id.
	Outside func(domain.TenantID) string
	// Leads tells whether this replica publishes; nil: it does.
	Leads func() bool
}

// Bus connects and stays connected. Safe for concurrent use; Run is called once.
type Bus struct {
	opt       Options
	connected atomic.Bool
}

const (
	// publisher names the position of what was published.
	publisher    = "bus-publisher"
	publishBatch = 100
	handleTime   = time.Minute
	shortest     = 500 * time.Millisecond
	longest      = 30 * time.Second
)

// New checks the options.
func New(o Options) (*Bus, error) {
	if _, err := amqp.ParseURI(o.URL); err != nil {
		return nil, errors.New("bus: the URL must be like amqp://user:password@host:5672/") // and is not shown: it holds a password
	}
	for to, def := range map[*string]string{&o.Exchange: "wazo-headers", &o.ExchangeType: "headers", &o.Queue: "ledgerline"} {
		if *to == "" {
			*to = def
		}
	}
	if o.Outside == nil {
		o.Outside = func(t domain.TenantID) string { return string(t) }
	}
	if o.Leads == nil {
		o.Leads = func() bool { return true }
	}
	return &Bus{opt: o}, nil
}

// Status is "ok" while connected, else "fail".
func (b *Bus) Status() string {
	if b.connected.Load() {
		return "ok"
	}
	return "fail"
}

// Run consumes and publishes until ctx ends; a broker that is away is tried again with growing pauses.
func (b *Bus) Run(ctx context.Context) error {
	log := zerolog.Ctx(ctx)
	for pause := shortest; ctx.Err() == nil; pause = min(2*pause, longest) {
		err := b.once(ctx)
		if b.connected.Swap(false) {
			pause = shortest
		}
		if ctx.Err() != nil {
			break
		}
		log.Warn().Err(hidden(err, b.opt.URL)).Dur("pause_ms", pause).Msg("message bus is away")
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return ctx.Err()
}

// hidden is err without the URL's password, should a library put it there.
func hidden(err error, url string) error {
	if u, parse := amqp.ParseURI(url); err != nil && parse == nil && u.Password != "" && strings.Contains(err.Error(), u.Password) {
		return errors.New(strings.ReplaceAll(err.Error(), u.Password, domain.Redacted))
	}
	return err
}

// once is one connection's life.
func (b *Bus) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config := b.config()
	nop := watermill.NopLogger{}
	conn, err := wamqp.NewConnection(config.Connection, nop)
	if err != nil {
		return err
	}
	defer conn.Close()
	lost := conn.Connection().NotifyClose(make(chan *amqp.Error, 1))
	sub, err := wamqp.NewSubscriberWithConnection(config, nop, conn)
	if err != nil {
		return err
	}
	messages, err := sub.Subscribe(ctx, b.opt.Queue)
	if err != nil {
		return err
	}
	pub, err := wamqp.NewPublisherWithConnection(config, nop, conn)
	if err != nil {
		return err
	}
	b.connected.Store(true)
	published := make(chan error, 1)
	go func() { published <- b.publish(ctx, pub) }()
	defer func() { cancel(); <-published }()
	for {
		select {
		case m, open := <-messages:
			if !open {
				return errors.New("subscription ended")
			}
			b.handle(ctx, m)
		case err := <-published:
			published <- err
			return err
		case err := <-lost:
			if err == nil {
				return errors.New("connection closed")
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *Bus) config() wamqp.Config {
	return wamqp.Config{
		Connection: wamqp.ConnectionConfig{AmqpURI: b.opt.URL},
		Marshaler:  marshaler{},
		Exchange:   wamqp.ExchangeConfig{GenerateName: wamqp.GenerateExchangeNameConstant(b.opt.Exchange), Type: b.opt.ExchangeType, Durable: true},
		Queue:      wamqp.QueueConfig{GenerateName: wamqp.GenerateQueueNameConstant(b.opt.Queue), Durable: true},
		QueueBind: wamqp.QueueBindConfig{GenerateRoutingKey: func(string) string { return "" },
			Arguments: amqp.Table{"x-match": "all", "name": tenantDeleted}},
		Publish:         wamqp.PublishConfig{GenerateRoutingKey: func(string) string { return "" }, ConfirmDelivery: true},
		Consume:         wamqp.ConsumeConfig{Qos: wamqp.QosConfig{PrefetchCount: 1}},
		TopologyBuilder: &wamqp.DefaultTopologyBuilder{},
	}
}

// marshaler puts metadata into headers and back; headers that are no text are passed over, as others use them.
type marshaler struct{}

func (marshaler) Marshal(m *message.Message) (amqp.Publishing, error) {
	headers := amqp.Table{}
	for k, v := range m.Metadata {
		headers[k] = v
	}
	return amqp.Publishing{MessageId: m.UUID, ContentType: "application/json", DeliveryMode: amqp.Persistent, Headers: headers, Body: m.Payload}, nil
}

func (marshaler) Unmarshal(d amqp.Delivery) (*message.Message, error) {
	m := message.NewMessage(d.MessageId, d.Body)
	for k, v := range d.Headers {
		if text, ok := v.(string); ok {
			m.Metadata.Set(k, text)
		}
	}
	return m, nil
}

// tenantDeleted is the message of a tenant's end: {"name": …, "data": {"uuid", "slug"}}.
const tenantDeleted = "auth_tenant_deleted"

// handle acts on one message. What means nothing is acknowledged: it will not mean more the next time. Tenants of the
// platform have UUIDs for names; no word from there ends a tenant of our own making that has another.
func (b *Bus) handle(ctx context.Context, m *message.Message) {
	log := zerolog.Ctx(ctx)
	var body struct {
		Name string `json:"name"`
		Data struct {
			UUID string `json:"uuid"`
		} `json:"data"`
	}
	if err := json.Unmarshal(m.Payload, &body); err != nil || body.Name != tenantDeleted || len(body.Data.UUID) != 36 || uuid.Validate(body.Data.UUID) != nil {
		log.Warn().Str("name", m.Metadata.Get("name")).Msg("message from the bus means nothing")
		m.Ack()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handleTime)
	defer cancel()
	if err := b.opt.Evict(ctx, domain.TenantID(body.Data.UUID)); err != nil {
		log.Error().Err(err).Str("tenant_id", body.Data.UUID).Msg("tenant not deleted, as the bus says")
		select { // the broker gives it again at once
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		m.Nack()
		return
	}
	log.Info().Str("tenant_id", body.Data.UUID).Msg("tenant deleted, as the bus says")
	m.Ack()
}

// published are the categories of streams whose events are published.
var published = map[string]bool{"device": true, "jobs": true}

// Message is what is published of an event, as wazo's messages are.
type Message struct {
	Name string      `json:"name"` // "ledgerline_device_assigned"
	Data MessageData `json:"data"`
}

// MessageData tells which event it was.
type MessageData struct {
	Type       string          `json:"type"` // wire name, "device.assigned"
	DeviceID   string          `json:"device_id,omitempty"`
	JobID      string          `json:"job_id,omitempty"` // where the event names one
	TenantUUID string          `json:"tenant_uuid,omitempty"`
	RecordedAt time.Time       `json:"recorded_at"`
	EventID    string          `json:"event_id"`
	Position   domain.Position `json:"position"`
}

// publish follows the log from where it stopped; a bus that is used for the first time begins at the log's end.
func (b *Bus) publish(ctx context.Context, pub message.Publisher) error {
	for !b.opt.Leads() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	state, found, err := b.opt.Store.LoadReactor(ctx, publisher)
	if err != nil {
		return err
	}
	if !found {
		if state.Position, err = b.opt.Log.Head(ctx); err != nil {
			return err
		}
		if err := b.opt.Store.SaveReactor(ctx, publisher, state); err != nil {
			return err
		}
	}
	unsaved, saved := 0, time.Now()
	for r, err := range b.opt.Log.Subscribe(ctx, state.Position) {
		if err != nil {
			return err
		}
		sent := published[r.Stream.Category()]
		if sent {
			if err := pub.Publish(b.opt.Queue, b.message(r)); err != nil {
				return fmt.Errorf("publish %s: %w", r.Type, err)
			}
		}
		state.Position = r.Position
		if unsaved++; sent && (unsaved >= publishBatch || time.Since(saved) > time.Second) || unsaved >= 100*publishBatch {
			if err := b.opt.Store.SaveReactor(ctx, publisher, state); err != nil {
				return err
			}
			unsaved, saved = 0, time.Now()
			if !b.opt.Leads() {
				return errors.New("another replica publishes")
			}
		}
	}
	return ctx.Err()
}

func (b *Bus) message(r domain.Recorded) *message.Message {
	name := "ledgerline_" + strings.ReplaceAll(r.Type, ".", "_")
	data := MessageData{Type: r.Type, EventID: r.ID.String(), Position: r.Position}
	if m, err := r.Meta(); err == nil {
		data.RecordedAt = m.RecordedAt
		if m.TenantID != "" {
			data.TenantUUID = b.opt.Outside(m.TenantID)
		}
	}
	if r.Stream.Category() == "device" {
		base, _ := domain.DeviceID(r.Stream.ID()).Life()
		data.DeviceID = string(base)
	}
	var payload struct {
		JobID string `json:"job_id"`
	}
	if json.Unmarshal(r.Data, &payload) == nil {
		data.JobID = payload.JobID
	}
	body, err := json.Marshal(Message{name, data})
	if err != nil {
		panic("bus: " + err.Error()) // texts and times
	}
	m := message.NewMessage(r.ID.String(), body)
	m.Metadata.Set("name", name)
	if data.TenantUUID != "" {
		m.Metadata.Set("tenant_uuid", data.TenantUUID)
	}
	return m
}
