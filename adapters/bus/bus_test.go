package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"ledgerline/adapters/bus"
	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
	"ledgerline/tests/rabbit"
)

func eventually(t testing.TB, what string, within time.Duration, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(within)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// The platform's word of a deleted tenant is acted on, again until it succeeds; what happens to devices is published in
// order, without a secret; a broker that goes away is come back to, and goes on where it stopped.
func TestBus(t *testing.T) {
	url, ok := rabbit.Start(t)
	if !ok {
		return
	}
	ch, heard := rabbit.Listen(t, url, amqp.Table{"x-match": "all", "name": "ledgerline_device_assigned"})

	kit := commandstest.NewService(t)
	var mu sync.Mutex
	var evicted []domain.TenantID
	refuse := errors.New("not now")
	o := bus.Options{URL: url, Log: kit.Log, Store: kit.Log, Outside: func(id domain.TenantID) string { return "outside-" + string(id) },
		Evict: func(_ context.Context, id domain.TenantID) error {
			mu.Lock()
			defer mu.Unlock()
			evicted = append(evicted, id)
			err := refuse
			refuse = nil
			return err
		}}
	b, err := bus.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if b.Status() != "fail" {
		t.Errorf("before it runs its status is %s", b.Status())
	}
	start := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = b.Run(ctx) }()
		eventually(t, "it is connected", 20*time.Second, func() bool { return b.Status() == "ok" })
		return func() { cancel(); <-done }
	}
	stop := start()
	eventually(t, "it notes where it begins", 10*time.Second, func() bool {
		_, found, err := kit.Log.LoadReactor(t.Context(), "bus-publisher")
		return found && err == nil
	})
	tell := func(name string, body any) {
		t.Helper()
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		// Headers that are no text are usual there.
		if err := ch.Publish("wazo-headers", "", false, false, amqp.Publishing{Body: text, Headers: amqp.Table{"name": name, "required_acl": true}}); err != nil {
			t.Fatal(err)
		}
	}
	tell("auth_tenant_created", map[string]any{"name": "auth_tenant_created", "data": map[string]string{"uuid": "not-this"}})
	tell("auth_tenant_deleted", map[string]any{"name": "auth_tenant_deleted", "data": map[string]string{"uuid": "../nor/this"}})
	tell("auth_tenant_deleted", map[string]any{"name": "auth_tenant_deleted", "data": map[string]string{"uuid": "9a7f2a55-7d0f-4f5c-9a55-d2f6c7a1b001", "slug": "x"}})
	eventually(t, "the tenant is deleted, at the second try", 20*time.Second, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(evicted) == 2
	})
	for _, id := range evicted {
		if id != "9a7f2a55-7d0f-4f5c-9a55-d2f6c7a1b001" {
			t.Errorf("tenant %q was deleted", id)
		}
	}

	device := func(n int) domain.DeviceID {
		t.Helper()
		mac := domain.MAC(fmt.Sprintf("0015650000%02x", n))
		if _, _, err := kit.Service.CreateTenant(t.Context(), commands.CreateTenant{ID: "acme", Name: "Acme"}); err != nil {
			t.Fatal(err)
		}
		id, _, err := kit.Service.DiscoverDevice(t.Context(), commands.DiscoverDevice{MAC: mac, Added: "operator", TenantID: "acme"})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	hear := func(want domain.DeviceID) {
		t.Helper()
		for {
			select {
			case d := <-heard:
				var m bus.Message
				if err := json.Unmarshal(d.Body, &m); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(d.Body), "ciphertext") || m.Data.Type != "device.assigned" || d.Headers["name"] != m.Name || m.Data.TenantUUID != "outside-acme" {
					t.Fatalf("published: %s %v", d.Body, d.Headers)
				}
				if m.Data.DeviceID == string(want) {
					return // an earlier one may come again
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("never heard of %s", want)
			}
		}
	}
	hear(device(1))
	stop()
	if b.Status() != "fail" {
		t.Errorf("stopped, its status is %s", b.Status())
	}
	while := device(2)
	stop = start()
	hear(while)
	hear(device(3))
	stop()
}

func TestBadURL(t *testing.T) {
	_, err := bus.New(bus.Options{URL: "http://user:hunter2@host/"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a bad URL: %v", err)
	}
}
