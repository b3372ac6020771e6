package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"ledgerline/adapters/bus"
	"ledgerline/tests/proc"
	"ledgerline/tests/rabbit"
)

// A Wazo platform deletes a tenant: the word on its bus ends that tenant's devices, configs and key here and nobody else's;
// what happens to devices is heard on the bus, without a password; the status tells whether the bus is there.
func TestPlatformBus(t *testing.T) {
	url, ok := rabbit.Start(t)
	if !ok {
		return
	}
	const gone, stays = "9a7f2a55-7d0f-4f5c-9a55-d2f6c7a1b001", "9a7f2a55-7d0f-4f5c-9a55-d2f6c7a1b002"
	ch, heard := rabbit.Listen(t, url, amqp.Table{"x-match": "any", "tenant_uuid": gone, "name": "ledgerline_device_deleted"})
	file := filepath.Join(t.TempDir(), "bus")
	if err := os.WriteFile(file, []byte(url+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := proc.Start(t, t.TempDir(), "--bus-url-file", file)
	token, err := s.Token()
	if err != nil {
		t.Fatal(err)
	}
	provd := func(method, path, tenant, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(method, "http://"+s.Admin+"/0.2"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Auth-Token", token)
		r.Header.Set("Wazo-Tenant", tenant)
		r.Header.Set("Content-Type", "application/vnd.proformatique.provd+json")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	proc.Eventually(t, "the status tells of the bus", func() bool {
		status, text := provd("GET", "/status", "", "")
		return status == 200 && strings.Contains(text, `"bus_consumer":{"status":"ok"}`)
	})
	for _, tenant := range []string{gone, stays} {
		s.API(t, http.StatusCreated, http.MethodPost, "/tenants", map[string]any{"id": tenant, "name": "tenant " + tenant[35:]})
		id := "c" + tenant[35:]
		for path, body := range map[string]string{
			"/cfg_mgr/configs": `{"config":{"id":"` + id + `","parent_ids":[],"raw_config":{"sip_lines":{"1":{"username":"u","password":"canary-password","proxy_ip":"10.0.0.1"}}}}}`,
			"/dev_mgr/devices": `{"device":{"id":"d` + tenant[35:] + `","mac":"00:15:65:1a:2b:0` + tenant[35:] + `","plugin":"yealink","config":"` + id + `"}}`,
		} {
			if status, text := provd("POST", path, tenant, body); status != http.StatusCreated {
				t.Fatalf("POST %s: %d %s", path, status, text)
			}
		}
		if status, text := provd("PUT", "/configure/provisioning_key", tenant, `{"param":{"value":"key-of-tenant-`+tenant[35:]+`"}}`); status != http.StatusNoContent {
			t.Fatalf("provisioning key: %d %s", status, text)
		}
	}
	word, _ := json.Marshal(map[string]any{"name": "auth_tenant_deleted", "data": map[string]string{"uuid": gone, "slug": "gone"}})
	begun := time.Now()
	if err := ch.Publish("wazo-headers", "", false, false, amqp.Publishing{Body: word, Headers: amqp.Table{"name": "auth_tenant_deleted"}}); err != nil {
		t.Fatal(err)
	}
	types := map[string]bool{}
	for types["device.deleted"] == false {
		select {
		case d := <-heard:
			var m bus.Message
			if err := json.Unmarshal(d.Body, &m); err != nil {
				t.Fatal(err)
			}
			if m.Data.DeviceID != "d1" || m.Data.TenantUUID != gone || strings.Contains(string(d.Body), "canary") {
				t.Fatalf("heard of another's device, or too much: %s", d.Body)
			}
			types[m.Data.Type] = true
		case <-time.After(30 * time.Second):
			t.Fatalf("never heard that the device was deleted; heard %v\n%s", types, s.Log())
		}
	}
	t.Logf("deleted, and told, %s after the platform said so; heard %v", time.Since(begun), types)
	if !types["device.assigned"] {
		t.Errorf("never heard that it was assigned: %v", types)
	}
	proc.Eventually(t, "nothing is left of it", func() bool {
		device, _ := provd("GET", "/dev_mgr/devices/d1", "master", "")
		config, _ := provd("GET", "/cfg_mgr/configs/c1", "master", "")
		return device == http.StatusNotFound && config == http.StatusNotFound
	})
	for _, path := range []string{"/dev_mgr/devices/d2", "/cfg_mgr/configs/c2"} {
		if status, _ := provd("GET", path, stays, ""); status != http.StatusOK {
			t.Errorf("of the other tenant, %s answers %d", path, status)
		}
	}
	if strings.Contains(s.Log(), "guest:guest") || strings.Contains(s.Log(), "canary") {
		t.Error("a password is in the log")
	}
}
