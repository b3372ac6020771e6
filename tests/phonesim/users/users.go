// Package users plays innovaphone Users: it logs in to Devices over the JSON websocket, asks for provisioning categories
// and codes, and hears which phone came by which code. It speaks nothing of its own to the user's telephone system.
//
// What always holds: whatever the other side says is read and, by the websocket's pong, answered, asked for or not; an
// answer finds its question by the src it echoes.
package users

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	sysclient "ledgerline/adapters/sysclient/wire"
	"ledgerline/adapters/usersapp/wire"
)

// Config of a Users.
type Config struct {
	URL      string // ws:// or wss://HOST/DOMAIN/INSTANCE/users
	Domain   string // default the one of the URL
	App      string // default "users"
	Password string
	// Category is the id or name of the provisioning category that a code is asked for; default the first there is.
	// User, whom the phone is for, may be empty.
	Category, User string
	Retry          time.Duration // after a lost connection, and after "try again later"; default 1 s
}

func (c Config) withDefaults() (Config, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		return c, fmt.Errorf("%q is not a ws:// or wss:// address", c.URL)
	}
	if c.Domain == "" {
		c.Domain, _, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	}
	if c.App == "" {
		c.App = "users"
	}
	if c.Retry <= 0 {
		c.Retry = time.Second
	}
	return c, nil
}

// Errors of a Users.
var (
	ErrLogin      = errors.New("the login was refused")
	ErrNoCategory = errors.New("there is no such provisioning category")
	ErrRefused    = errors.New("the request was refused")
)

// later is what Devices answers while it cannot.
const later = "try again later"

// Message is any message of the other side.
type Message map[string]any

// Text is a field of the message, empty unless it is text.
func (m Message) Text(field string) string {
	s, _ := m[field].(string)
	return s
}

// Client is one connection that has logged in. Safe for concurrent use.
type Client struct {
	cfg Config
	ws  *websocket.Conn
	// Heard carries what nobody asked for, and events of subscriptions; closed when the connection has ended. Who does not
	// read it stops the connection after 100 messages.
	Heard chan Message

	session string // the key of hidden fields
	mu      sync.Mutex
	asked   int
	answers map[string]chan Message
	ended   chan struct{}
}

// Dial connects and logs in. ErrLogin: the password is wrong, or guesses are refused just now.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c.Heard, c.answers, c.ended = make(chan Message, 100), make(map[string]chan Message), make(chan struct{})
	go c.listen()
	return c, nil
}

// DialDeaf is Dial for a Users that reads nothing more once it has logged in, and so answers nothing. It can only be closed.
func DialDeaf(ctx context.Context, cfg Config) (*Client, error) { return connect(ctx, cfg) }

func connect(ctx context.Context, cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, cfg.URL, nil)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(wire.MaxMessage)
	c := &Client{cfg: cfg, ws: ws}
	if err := c.login(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) login(ctx context.Context) error {
	if err := c.write(ctx, Message{"mt": "AppChallenge"}); err != nil {
		return err
	}
	challenge, err := c.read(ctx)
	if err != nil {
		return err
	}
	l := wire.Login{MT: "AppLogin", App: c.cfg.App, Domain: c.cfg.Domain}
	l.Digest = l.Sum(challenge.Text("challenge"), c.cfg.Password)
	c.session = wire.SessionKey(challenge.Text("challenge"), c.cfg.Password)
	if err := c.write(ctx, l); err != nil {
		return err
	}
	switch result, err := c.read(ctx); {
	case err != nil:
		return err
	case result["ok"] != true:
		return ErrLogin
	}
	return nil
}

// Close ends the connection.
func (c *Client) Close() {
	_ = c.ws.CloseNow() // it may have ended
	if c.ended != nil {
		<-c.ended
	}
}

func (c *Client) write(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.ws.Write(ctx, websocket.MessageText, b)
}

func (c *Client) read(ctx context.Context) (m Message, err error) {
	_, b, err := c.ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	return m, json.Unmarshal(b, &m)
}

func (c *Client) listen() {
	defer close(c.ended)
	defer close(c.Heard)
	for {
		m, err := c.read(context.Background())
		if err != nil {
			return
		}
		c.mu.Lock()
		to := c.answers[m.Text("src")]
		c.mu.Unlock()
		if to == nil || !strings.HasSuffix(m.Text("mt"), "Result") {
			to = c.Heard
		}
		select {
		case to <- m:
		case <-time.After(time.Minute): // nobody reads
			_ = c.ws.CloseNow()
			return
		}
	}
}

// Ask sends a request and returns its answer; of a list, all its portions as they came; of a configuration, its values and
// then which it was. While Devices cannot answer it is
// asked again. A question may bring a src of its own, that of a subscription for instance. ErrRefused with what Devices says is
// wrong.
func (c *Client) Ask(ctx context.Context, mt string, fields Message) ([]Message, error) {
	for {
		out, err := c.ask(ctx, mt, fields)
		if err != nil || out[len(out)-1].Text("error") == "" {
			return out, err
		}
		if said := out[len(out)-1].Text("error"); said != later {
			return out, fmt.Errorf("%w: %s", ErrRefused, said)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(c.cfg.Retry):
		}
	}
}

func (c *Client) ask(ctx context.Context, mt string, fields Message) (out []Message, err error) {
	c.mu.Lock()
	c.asked++
	src := strconv.Itoa(c.asked)
	if own := fields.Text("src"); own != "" {
		src = own
	}
	answers := make(chan Message, 100)
	c.answers[src] = answers
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.answers, src)
	}()
	m := Message{"mt": mt, "api": "Devices", "src": src}
	maps.Copy(m, fields)
	if err := c.write(ctx, m); err != nil {
		return nil, err
	}
	for {
		select {
		case m := <-answers:
			out = append(out, m)
			if last, list := m["last"]; (!list || last == true) && m.Text("mt") == mt+"Result" {
				return out, nil
			}
		case <-c.ended:
			return nil, errors.New("the connection ended")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Code asks for a code for the category of the configuration, until which it is good.
func (c *Client) Code(ctx context.Context) (code string, until time.Time, err error) {
	portions, err := c.Ask(ctx, "GetProvisioningCategories", Message{"type": "PHONE"})
	if err != nil {
		return "", until, err
	}
	category := ""
	for _, p := range portions {
		of, _ := p["categories"].([]any)
		for _, v := range of {
			v, _ := v.(map[string]any)
			id, _ := v["id"].(string)
			if category == "" && (c.cfg.Category == "" || c.cfg.Category == id || c.cfg.Category == v["name"]) {
				category = id
			}
		}
	}
	if category == "" {
		return "", until, ErrNoCategory
	}
	m, err := c.Ask(ctx, "GetProvisioningCode", Message{"category": category, "sip": c.cfg.User})
	if err != nil {
		return "", until, err
	}
	seconds, _ := m[0]["validUntil"].(float64)
	return m[0].Text("code"), time.Unix(int64(seconds), 0), nil
}

// Phone is a phone of another make, and the account of its user at the telephone system.
type Phone struct {
	MAC, Code, Username, Name, Password, Domain, DNS string
}

// ErrNotOffered: the app announces no provisioning of phones of other makes.
var ErrNotOffered = errors.New("phones of other makes are not provisioned there")

// Provision has the app provision a phone of another make, and returns when it has: then the next one may follow. Errors:
// ErrNotOffered, ErrRefused.
func (c *Client) Provision(ctx context.Context, p Phone) error {
	m, err := c.Ask(ctx, "AppInfo", Message{"app": "devices"})
	if err != nil {
		return err
	}
	info, _ := m[0]["info"].(map[string]any)
	apis, _ := info["apis"].(map[string]any)
	if apis["com.innovaphone.provisioning"] == nil {
		return ErrNotOffered
	}
	seed := rand.Text()[:16]
	hidden, err := sysclient.Encrypt(seed, c.session, p.Password)
	if err != nil {
		return err
	}
	m, err = c.Ask(ctx, "ProvisioningPhone", Message{"mac": p.MAC, "hwid": p.MAC, "code": p.Code, "usename": p.Username, "cn": p.Name, "seed1": seed, "password": hidden, "domain": p.Domain, "dns": p.DNS})
	if err == nil && m[0].Text("result") != "ok" {
		err = ErrRefused
	}
	return err
}

// AddPhone plays a user who adds a phone: it gets a code, shows it, and returns the hardware id of the phone that came by
// it. A lost connection is made anew; the phone may come meanwhile. shown is called once.
func AddPhone(ctx context.Context, cfg Config, shown func(code string, until time.Time)) (hwID string, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return "", err
	}
	code := ""
	err = persist(ctx, cfg, func() (err error) {
		hwID, err = addPhone(ctx, cfg, &code, shown)
		return err
	})
	return hwID, err
}

// ProvisionPhone plays an administrator who types in the MAC of a phone of another make: it gets a code, unless the phone has
// one, and has the phone provisioned with it. A lost connection is made anew, and the phone told of again by the same code.
// Errors: those of Client.Provision, ErrLogin, ErrNoCategory.
func ProvisionPhone(ctx context.Context, cfg Config, p Phone) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	return persist(ctx, cfg, func() error {
		c, err := Dial(ctx, cfg)
		if err != nil {
			return err
		}
		defer c.Close()
		if p.Code == "" {
			if p.Code, _, err = c.Code(ctx); err != nil {
				return err
			}
		}
		return c.Provision(ctx, p)
	})
}

// persist does it again after a lost connection, until it is done or refused.
func persist(ctx context.Context, cfg Config, do func() error) error {
	for {
		err := do()
		if err == nil || slices.ContainsFunc([]error{ErrLogin, ErrRefused, ErrNoCategory, ErrNotOffered}, func(final error) bool { return errors.Is(err, final) }) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(cfg.Retry):
		}
	}
}

// addPhone is AddPhone over one connection.
func addPhone(ctx context.Context, cfg Config, code *string, shown func(string, time.Time)) (string, error) {
	c, err := Dial(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if *code == "" {
		var until time.Time
		if *code, until, err = c.Code(ctx); err != nil {
			return "", err
		}
		shown(*code, until)
	} else {
		m, err := c.Ask(ctx, "GetProvisionedDevice", Message{"code": *code})
		if err != nil || m[0].Text("device") != "" {
			return append(m, nil)[0].Text("device"), err
		}
	}
	for {
		select {
		case m, open := <-c.Heard:
			if !open {
				return "", errors.New("the connection ended")
			}
			if m.Text("mt") == "DeviceProvisioned" && m.Text("code") == *code {
				select { // it stays a little, so that it answers, and is not told again the next time
				case <-c.ended:
				case <-ctx.Done():
				case <-time.After(cfg.Retry):
				}
				return m.Text("device"), nil
			}
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}
