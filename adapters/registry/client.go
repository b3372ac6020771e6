package registry

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// ClientOptions say how a Devices server reaches its registry. Base, Server and Key are needed.
type ClientOptions struct {
	Base   string // "https://registry.example.com"
	Server domain.ServerID
	Key    ed25519.PrivateKey
	// HTTP carries the requests; nil means a client of its own.
	HTTP *http.Client
	// Wait is how long the first repetition waits, each further one twice as long; 0 means 250 ms.
	Wait time.Duration
	Now  func() time.Time // nil means time.Now
}

// Client implements commands.Registry over HTTP. Safe for concurrent use.
type Client struct{ ClientOptions }

var _ commands.Registry = (*Client)(nil)

// Tries is how often a request is sent before its failure is told.
const tries = 4

// NewClient checks the options.
func NewClient(o ClientOptions) (*Client, error) {
	u, err := url.Parse(o.Base)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the registry's URL must look like https://registry.example.com")
	}
	if domain.CheckID(string(o.Server)) != nil || len(o.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("a Devices server needs its id and an Ed25519 key at the registry")
	}
	o.Base = strings.TrimSuffix(o.Base, "/")
	if o.HTTP == nil {
		o.HTTP = &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if o.Wait == 0 {
		o.Wait = 250 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Client{o}, nil
}

// URL implements commands.Registry.
func (c *Client) URL() string { return c.Base }

// Draw implements commands.Registry.
func (c *Client) Draw(ctx context.Context, key, devicesURL string, ttl time.Duration) (digits string, until time.Time, err error) {
	var answer drawAnswer
	err = c.call(ctx, http.MethodPost, "/codes", key, drawRequest{devicesURL, int(ttl.Seconds())}, &answer)
	if errors.Is(err, domain.ErrCodeRefused) {
		err = errors.New("there is no registry at " + c.Base)
	}
	return answer.Code, answer.ValidUntil, err
}

// Release implements commands.Registry.
func (c *Client) Release(ctx context.Context, digits string) error {
	err := c.call(ctx, http.MethodDelete, "/codes/"+url.PathEscape(digits), "", nil, nil)
	if errors.Is(err, domain.ErrCodeRefused) {
		return nil // dead there already
	}
	return err
}

// Bound implements commands.Registry.
func (c *Client) Bound(ctx context.Context, digits string, mac domain.MAC) (time.Time, error) {
	var answer resolveAnswer
	err := c.call(ctx, http.MethodPost, "/resolve", "", resolveRequest{digits, mac}, &answer)
	return answer.BoundAt, err
}

// call sends a request, signed anew each time, until it is answered for good.
func (c *Client) call(ctx context.Context, method, path, key string, in, out any) error {
	body := []byte{}
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	wait := c.Wait
	for try := 1; ; try++ {
		again, err := c.once(ctx, method, path, key, body, out)
		if err == nil || !again {
			return err
		}
		if try < tries {
			pause(ctx, wait)
		}
		if try == tries || ctx.Err() != nil {
			return fmt.Errorf("%w: %w", commands.ErrAway, err)
		}
		wait *= 2
	}
}

// once sends a request; again tells that its failure may pass. No error holds the path: it may have a code in it.
func (c *Client) once(ctx context.Context, method, path, key string, body []byte, out any) (again bool, err error) {
	r, err := http.NewRequestWithContext(ctx, method, c.Base+"/"+REST+path, bytes.NewReader(body))
	if err != nil {
		return false, errors.New("make a request to the registry")
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	sign(r, body, c.Server, c.Key, c.Now())
	answer, err := c.HTTP.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return true, fmt.Errorf("reach the registry at %s: %w", c.Base, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	if err != nil {
		return true, fmt.Errorf("read the registry's answer: %w", err)
	}
	switch {
	case answer.StatusCode == http.StatusNotFound:
		return false, domain.ErrCodeRefused
	case answer.StatusCode == http.StatusTooManyRequests:
		return false, &commands.GuessError{RetryAfter: 15 * time.Minute}
	case answer.StatusCode >= 300:
		var told refusal
		_ = json.Unmarshal(text, &told) // an answer of a proxy has none
		if told.Code == errTooManyCodes.Code {
			return false, fmt.Errorf("the registry at %s: %w", c.Base, domain.ErrTooManyCodes)
		}
		return answer.StatusCode >= 500 || answer.StatusCode == http.StatusConflict, fmt.Errorf("the registry answers %d %s", answer.StatusCode, told.Detail)
	case out == nil:
		return false, nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return false, errors.New("the registry's answer is no JSON")
	}
	return false, nil
}
