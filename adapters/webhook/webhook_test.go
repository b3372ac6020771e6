package webhook_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ledgerline/adapters/webhook"
	"ledgerline/commands"
)

// The vector of the Standard Webhooks libraries.
func TestSignature(t *testing.T) {
	// secret MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, as in their test suites
	secret := []byte{0x31, 0xf2, 0x90, 0xf6, 0xbf, 0x06, 0x29, 0x8a, 0xab, 0x4f, 0x08, 0xd4, 0x3c, 0x3f, 0x08, 0x2c, 0xf6, 0x48, 0xa3, 0x62, 0xda, 0x2d, 0xa4, 0xb0}
	if got := webhook.Sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)); got != "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("signature %s", got)
	}
}

func TestSending(t *testing.T) {
	status := http.StatusNoContent
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(status)
	}))
	defer srv.Close()
	s, err := webhook.New(srv.URL, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	alert := commands.Alert{ID: "0193a1b2", Type: "gateway.token_expiring", TenantID: "acme", Stream: "gateway-edge", Data: json.RawMessage(`{"days_left":13}`)}
	if err := s.Send(t.Context(), alert); err != nil {
		t.Fatal(err)
	}
	var v struct {
		Type string
		Data struct {
			DaysLeft int `json:"days_left"`
		}
	}
	if err := json.Unmarshal(body, &v); err != nil || v.Type != alert.Type || v.Data.DaysLeft != 13 || got.Header.Get("webhook-id") != alert.ID ||
		!strings.HasPrefix(got.Header.Get("webhook-signature"), "v1,") {
		t.Errorf("%s %v", body, got.Header)
	}
	for _, status = range []int{http.StatusFound, http.StatusInternalServerError} {
		if err := s.Send(t.Context(), alert); err == nil {
			t.Errorf("%d counts as taken", status)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	for _, bad := range []string{"", "ftp://x", "https://"} {
		if _, err := webhook.New(bad, strings.Repeat("x", 24)); !errors.Is(err, webhook.ErrURL) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "short", "whsec_!!!", strings.Repeat("x", 65)} {
		if _, err := webhook.New("https://alerts.example", bad); !errors.Is(err, webhook.ErrSecret) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
