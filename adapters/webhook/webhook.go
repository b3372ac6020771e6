// Package webhook hands alerts to one HTTP receiver, signed as Standard Webhooks has it
// (https://github.com/standard-webhooks/standard-webhooks): headers webhook-id, webhook-timestamp and
// webhook-signature "v1,<base64 HMAC-SHA256 of id.timestamp.body>".
//
// What always holds: an alert keeps its id however often it is sent, so that a receiver can tell; only a 2xx counts as
// taken; redirects are not followed; the secret is in no error.
//
// Not here: when to send what (commands.Reactions), retries (the reactor).
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ledgerline/commands"
)

// Sender sends to one URL. Safe for concurrent use.
type Sender struct {
	url    string
	secret []byte
	now    func() time.Time
	client *http.Client
}

// ErrSecret: a secret is not "whsec_" and base64, or plain text, of 24 to 64 bytes.
var ErrSecret = errors.New("webhook secret must be whsec_ and base64, or text, of 24 to 64 bytes")

// ErrURL: the receiver's address is not a URL such as https://alerts.example/hook.
var ErrURL = errors.New("webhook URL must begin with https:// (or http:// on a trusted network) and name a host")

// New makes a Sender. Errors: ErrURL, ErrSecret.
func New(address, secret string) (*Sender, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, ErrURL
	}
	key := []byte(strings.TrimSpace(secret))
	if encoded, ok := strings.CutPrefix(string(key), "whsec_"); ok {
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return nil, ErrSecret
		}
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, ErrSecret
	}
	return &Sender{url: address, secret: key, now: time.Now, client: &http.Client{Timeout: 15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Send implements commands.Alerts.
func (s *Sender) Send(ctx context.Context, a commands.Alert) error {
	body, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode alert: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	stamp := strconv.FormatInt(s.now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Ledgerline")
	r.Header.Set("webhook-id", a.ID)
	r.Header.Set("webhook-timestamp", stamp)
	r.Header.Set("webhook-signature", "v1,"+Sign(s.secret, a.ID, stamp, body))
	resp, err := s.client.Do(r)
	if err != nil {
		return fmt.Errorf("reach the receiver of alerts: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the receiver of alerts answered %s", resp.Status)
	}
	return nil
}

// Sign is the signature of one delivery, base64.
func Sign(secret []byte, id, stamp string, body []byte) string {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(id + "." + stamp + "."))
	m.Write(body)
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}
