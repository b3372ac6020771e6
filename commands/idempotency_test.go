package commands_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// The same request with the same idempotency key is answered as the first time, for a day (D10).
func TestAnswersAreRemembered(t *testing.T) {
	k := start(t)
	answer := commands.Answer{Status: 201, Header: domain.Headers{"Location": "/api/v1/codes/c1"}, Body: `{"code":"canary-123456789012"}`}
	recall := func(credential, key, request string) (commands.Answer, bool, bool) {
		t.Helper()
		a, same, known, err := k.Recall(k.ctx, credential, key, []byte(request))
		k.ok(err)
		return a, same, known
	}
	if _, _, known := recall("k1", "id", "POST a"); known {
		t.Error("an answer before the first request")
	}
	k.ok(k.Remember(k.ctx, "k1", "id", []byte("POST a"), answer))
	k.ok(k.Remember(k.ctx, "k1", "id", []byte("POST a"), commands.Answer{Status: 500, Body: "second"}))
	if a, same, known := recall("k1", "id", "POST a"); !same || !known || a.Status != 201 || a.Body != answer.Body || a.Header["Location"] != "/api/v1/codes/c1" {
		t.Errorf("%+v %v %v", a, same, known)
	}
	if a, same, known := recall("k1", "id", "POST b"); same || !known || a.Body != "" {
		t.Errorf("another request under the same key: %+v %v %v", a, same, known)
	}
	for _, other := range [][2]string{{"k2", "id"}, {"k1", "other"}, {"k1\x00id", ""}, {"", "k1\x00id"}} {
		if _, _, known := recall(other[0], other[1], "POST a"); known {
			t.Errorf("%q is told another's answer", other)
		}
	}
	for _, r := range k.Log.Events() {
		if strings.Contains(string(r.Data)+string(r.Metadata)+string(r.Stream), "canary") {
			t.Error("the answer stands in the log in clear text")
		}
	}
	k.crash()
	k.Clock.Advance(domain.AnswerAge - 1)
	k.ok(k.ForgetAnswers(k.ctx))
	if _, same, known := recall("k1", "id", "POST a"); !same || !known {
		t.Error("forgotten within a day")
	}
	k.Clock.Advance(1)
	if _, _, known := recall("k1", "id", "POST a"); known {
		t.Error("remembered for more than a day")
	}
	k.Clock.Advance(24 * time.Hour)
	k.ok(k.ForgetAnswers(k.ctx))
	if k.Vault.Has("requests-2026.11.02") || k.count("requests-2026.11.02", "key.destroyed") != 1 {
		t.Error("its key is still there")
	}
	if _, _, _, err := k.Recall(k.ctx, "k1", "id", []byte("POST a")); err != nil && !errors.Is(err, domain.ErrErased) {
		t.Error(err)
	}
	k.ok(k.Remember(k.ctx, "k1", "id", []byte("POST b"), commands.Answer{Status: 200, Body: "new"}))
	if a, same, known := recall("k1", "id", "POST b"); !same || !known || a.Body != "new" {
		t.Errorf("%+v %v %v", a, same, known)
	}
}

func TestOwners(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	id := k.assign(phone, "acme", "")
	_, err := k.MoveDevice(k.ctx, commands.MoveDevice{ID: id, TenantID: "globex"})
	k.ok(err)
	k.settle()
	for stream, want := range map[domain.StreamID]domain.TenantID{"tenant-acme": "acme", "user-anna": "acme", "line-l1": "acme", "category-desk": "acme",
		id.Stream(): "globex", "device-nobody": "", "user-nobody": "", "settings-lookups": "", "x": ""} {
		if got, err := k.Owner(k.ctx, stream); err != nil || got != want {
			t.Errorf("%s belongs to %q, %v; want %q", stream, got, err, want)
		}
	}
}
