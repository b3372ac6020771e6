package provd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/singleflight"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// TokenOptions are what Tokens works with. URL, ID, Key, Service and Views are needed.
type TokenOptions struct {
	URL     string // of the token service, "https://auth.example.com"; the version follows
	ID, Key string // of this service
	Service *commands.Service
	Views   projections.Querier
	// Cache is for how long an answer is used again; zero asks anew each time, as wazo-provd does.
	Cache  time.Duration
	Client *http.Client // nil means one that gives up after 5 s
	Now    func() time.Time
}

// Tokens is the Authority of a Wazo platform: a wazo-auth-like token service says what a token may do, and which tenants
// stand below which. The tenant of this service's own token is the platform's master, and ours. Tenants it names are made
// here when they are first seen. Only this interface asks it: phones never wait for it. Run keeps the own token fresh.
type Tokens struct {
	TokenOptions
	flight  singleflight.Group
	mu      sync.Mutex
	own     token
	asking  chan struct{} // closed when the own token being asked for has come or not
	askErr  error
	ensured map[domain.TenantID]bool
	answers map[question]answered
}

// token is what the service tells of one.
type token struct {
	text   string
	auth   string // whose
	tenant string
}

type answered struct {
	grant Grant
	until time.Time
}

// Facts about the protocol (wazo-provd.md §1.2).
const (
	ownLife       = 6 * time.Hour
	cachedAtMost  = 10_000
	maxAuthAnswer = 16 << 20

	idleToService = 32 // connections kept open while nobody asks
)

// NewTokens makes the Authority; nothing is asked yet.
func NewTokens(o TokenOptions) (*Tokens, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("token service: %q is not an http or https URL", o.URL)
	}
	o.URL = strings.TrimSuffix(o.URL, "/")
	if o.Client == nil {
		// Each call asks two questions at once; the two idle connections that are the default would be opened anew for most.
		kept := http.DefaultTransport.(*http.Transport).Clone()
		kept.MaxIdleConnsPerHost = idleToService
		o.Client = &http.Client{Timeout: 5 * time.Second, Transport: kept}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Tokens{TokenOptions: o, ensured: map[domain.TenantID]bool{}, answers: map[question]answered{}}, nil
}

// Authorize asks the service; every failure to answer is ErrUnavailable.
func (t *Tokens) Authorize(ctx context.Context, text, tenant, permission string) (Grant, error) {
	if len(text) > 512 || len(tenant) > 64 || strings.ContainsAny(text, "/?#% ") {
		return Grant{}, ErrUnauthorized
	}
	if strings.HasPrefix(text, "ll_") {
		return t.withKey(ctx, text, tenant, permission)
	}
	key := question(sha256.Sum256([]byte(text + "\x00" + tenant + "\x00" + permission)))
	if g, ok := t.remembered(key); ok {
		return g, nil
	}
	// Who asks the same while it is being asked shares the answer; a caller that leaves takes it from nobody.
	answer := t.flight.DoChan(string(key[:]), func() (any, error) {
		g, err := t.authorize(context.WithoutCancel(ctx), text, tenant, permission)
		if err == nil {
			t.remember(key, g)
		}
		return g, err
	})
	select {
	case a := <-answer:
		g, _ := a.Val.(Grant)
		g.Below = slices.Clone(g.Below)
		return g, a.Err
	case <-ctx.Done():
		return Grant{}, errors.Join(ErrUnavailable, ctx.Err())
	}
}

// withKey lets Ledgerline's own API keys in beside the platform's tokens, also while the token service is away: for
// an operator and for ledgerline import.
func (t *Tokens) withKey(ctx context.Context, key, tenant, permission string) (Grant, error) {
	if tenant != "" && tenant == t.Outside(domain.Master) {
		tenant = string(domain.Master)
	}
	return Keys{Service: t.Service}.Authorize(ctx, key, tenant, permission)
}

func (t *Tokens) authorize(ctx context.Context, text, tenant, permission string) (Grant, error) {
	own, err := t.ownToken(ctx)
	if err != nil {
		return Grant{}, err
	}
	shown, err := t.look(ctx, text)
	if err != nil {
		return Grant{}, err
	}
	if tenant == "" {
		tenant = shown.tenant
	}
	permission = strings.ReplaceAll(permission, "{tenant_uuid}", tenant)
	query := url.Values{"scope": {permission}, "tenant": {tenant}}
	var below []named
	listed := make(chan error, 1)
	go func() { // the two questions do not depend on each other
		var err error
		below, _, err = t.below(ctx, tenant)
		listed <- err
	}()
	status, _, err := t.ask(ctx, http.MethodHead, "/0.1/token/"+url.PathEscape(text)+"?"+query.Encode(), nil, nil)
	unlisted := <-listed
	switch {
	case err != nil:
		return Grant{}, err
	case status == http.StatusNotFound, status == http.StatusForbidden, status == http.StatusUnauthorized:
		return Grant{}, ErrUnauthorized
	case status/100 != 2:
		return Grant{}, fmt.Errorf("%w: it answers %d", ErrUnavailable, status)
	}
	inside := t.inside(own, tenant)
	if domain.CheckID(string(inside)) != nil {
		return Grant{}, ErrUnauthorized
	}
	if unlisted != nil {
		return Grant{}, unlisted
	}
	g := Grant{Actor: "token:" + shown.auth, Tenant: inside, Below: []domain.TenantID{inside}, Secrets: true}
	if inside == domain.Master {
		g.Below = nil // the master's reach is everything, also what the service does not name
	}
	for _, b := range below {
		id := t.inside(own, b.UUID)
		if err := t.ensure(ctx, id, b.Name); err != nil {
			return Grant{}, err
		}
		if g.Below != nil && !slices.Contains(g.Below, id) {
			g.Below = append(g.Below, id)
		}
	}
	return g, t.ensure(ctx, inside, tenant)
}

// question is the hash of what was asked, the token among it: no look-up tells how much of a token was right.
type question [sha256.Size]byte

func (t *Tokens) remembered(key question) (Grant, bool) {
	if t.Cache <= 0 {
		return Grant{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.answers[key]
	return a.grant, ok && t.Now().Before(a.until)
}

func (t *Tokens) remember(key question, g Grant) {
	if t.Cache <= 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.answers) >= cachedAtMost {
		clear(t.answers)
	}
	t.answers[key] = answered{g, t.Now().Add(t.Cache)}
}

// inside is the platform's tenant in our words.
func (t *Tokens) inside(own token, outside string) domain.TenantID {
	if outside == own.tenant {
		return domain.Master
	}
	return domain.TenantID(outside)
}

// Outside is our tenant in the platform's words.
func (t *Tokens) Outside(id domain.TenantID) string {
	if id != domain.Master {
		return string(id)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.own.tenant == "" {
		return string(id)
	}
	return t.own.tenant
}

// ensure makes a tenant the service names exist here.
func (t *Tokens) ensure(ctx context.Context, id domain.TenantID, name string) error {
	if id == domain.Master || domain.CheckID(string(id)) != nil {
		return nil
	}
	t.mu.Lock()
	done := t.ensured[id]
	t.mu.Unlock()
	if done {
		return nil
	}
	if name == "" {
		name = string(id)
	}
	ctx = commands.WithCaller(ctx, commands.Caller{Actor: "system:token-service", Reason: "named by the token service"})
	_, _, err := t.Service.CreateTenant(ctx, commands.CreateTenant{ID: id, Name: name})
	if err != nil && !errors.Is(err, domain.ErrTenantExists) && !errors.Is(err, domain.ErrTenantDeleted) {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ensured[id] = true
	return nil
}

// named is one tenant of the service's list.
type named struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
}

// below lists a tenant and those below it; an own token that may not ask (told is false) means just that tenant.
func (t *Tokens) below(ctx context.Context, tenant string) (list []named, told bool, err error) {
	for try := 0; ; try++ {
		own, err := t.ownToken(ctx)
		if err != nil {
			return nil, false, err
		}
		var answer struct {
			Items []named `json:"items"`
		}
		status, body, err := t.ask(ctx, http.MethodGet, "/0.1/tenants", nil, http.Header{"X-Auth-Token": {own.text}, "Wazo-Tenant": {tenant}})
		switch {
		case err != nil:
			return nil, false, err
		case status == http.StatusUnauthorized && try == 0 && t.forget(ctx, own):
			continue // our own token was forgotten there: a new one may ask
		case status == http.StatusUnauthorized:
			return []named{{UUID: tenant}}, false, nil
		case status != http.StatusOK:
			return nil, false, fmt.Errorf("%w: list of tenants: it answers %d", ErrUnavailable, status)
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return nil, false, fmt.Errorf("%w: list of tenants: %w", ErrUnavailable, err)
		}
		return answer.Items, true, nil
	}
}

// forget drops the own token if the service does not know it any more.
func (t *Tokens) forget(ctx context.Context, own token) bool {
	if _, err := t.look(ctx, own.text); !errors.Is(err, ErrUnauthorized) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.own == own {
		t.own.text = ""
	}
	return true
}

// tokenData is a token in the service's words.
type tokenData struct {
	Data struct {
		Token    string `json:"token"`
		AuthID   string `json:"auth_id"`
		Metadata struct {
			UUID       string `json:"uuid"`
			TenantUUID string `json:"tenant_uuid"`
		} `json:"metadata"`
	} `json:"data"`
}

func (d tokenData) token() token {
	auth := d.Data.Metadata.UUID
	if auth == "" {
		auth = d.Data.AuthID
	}
	if domain.CheckID(auth) != nil {
		auth = "unnamed"
	}
	return token{d.Data.Token, auth, d.Data.Metadata.TenantUUID}
}

// look asks whose a token is.
func (t *Tokens) look(ctx context.Context, text string) (token, error) {
	status, body, err := t.ask(ctx, http.MethodGet, "/0.1/token/"+url.PathEscape(text), nil, nil)
	switch {
	case err != nil:
		return token{}, err
	case status == http.StatusNotFound, status == http.StatusUnauthorized, status == http.StatusForbidden:
		return token{}, ErrUnauthorized
	case status != http.StatusOK:
		return token{}, fmt.Errorf("%w: it answers %d", ErrUnavailable, status)
	}
	var d tokenData
	if err := json.Unmarshal(body, &d); err != nil {
		return token{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return d.token(), nil
}

// ownToken is this service's token; those who come while it is being asked for share the answer.
func (t *Tokens) ownToken(ctx context.Context) (token, error) {
	t.mu.Lock()
	if t.own.text != "" {
		defer t.mu.Unlock()
		return t.own, nil
	}
	if asking := t.asking; asking != nil {
		t.mu.Unlock()
		select {
		case <-asking:
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.own.text == "" {
				return token{}, errors.Join(ErrUnavailable, t.askErr)
			}
			return t.own, nil
		case <-ctx.Done():
			return token{}, errors.Join(ErrUnavailable, ctx.Err())
		}
	}
	asking := make(chan struct{})
	t.asking = asking
	t.mu.Unlock()
	own, err := t.login(context.WithoutCancel(ctx))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asking, t.askErr = nil, err
	if err == nil {
		t.own = own
	}
	close(asking)
	return own, err
}

func (t *Tokens) login(ctx context.Context) (token, error) {
	header := http.Header{"Content-Type": {"application/json"}}
	body := fmt.Sprintf(`{"expiration":%d}`, int(ownLife.Seconds()))
	status, answer, err := t.askAs(ctx, http.MethodPost, "/0.1/token", strings.NewReader(body), header, true)
	if err != nil {
		return token{}, err
	}
	if status != http.StatusOK {
		return token{}, fmt.Errorf("%w: asked for this service's own token it answers %d", ErrUnavailable, status)
	}
	var d tokenData
	if err := json.Unmarshal(answer, &d); err != nil {
		return token{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	own := d.token()
	if own.text == "" || own.tenant == "" {
		return token{}, fmt.Errorf("%w: its answer names no token or no tenant", ErrUnavailable)
	}
	return own, nil
}

func (t *Tokens) ask(ctx context.Context, method, path string, body io.Reader, h http.Header) (int, []byte, error) {
	return t.askAs(ctx, method, path, body, h, false)
}

// askAs makes one call. Its errors name no path, for tokens stand in paths.
func (t *Tokens) askAs(ctx context.Context, method, path string, body io.Reader, h http.Header, login bool) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, t.URL+path, body)
	if err != nil {
		return 0, nil, ErrUnavailable
	}
	for k, v := range h {
		r.Header[k] = v
	}
	if login {
		r.SetBasicAuth(t.ID, t.Key)
	}
	answer, err := t.Client.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return 0, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer answer.Body.Close()
	var text bytes.Buffer
	if _, err := io.Copy(&text, io.LimitReader(answer.Body, maxAuthAnswer)); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return answer.StatusCode, text.Bytes(), nil
}

// Run keeps the own token fresh until ctx ends: it asks for a new one at 80 % of its life, and after a failure in 1, 2,
// 4, 8, 16, then every 32 s. After first, and then every every, it deletes what belongs to tenants the service does not
// list any more.
func (t *Tokens) Run(ctx context.Context, first, every time.Duration) error {
	log := zerolog.Ctx(ctx)
	renew, tidy := time.NewTimer(0), time.NewTimer(first)
	defer renew.Stop()
	defer tidy.Stop()
	pause := time.Second
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-renew.C:
			own, err := t.login(ctx)
			if err != nil {
				log.Warn().Err(err).Msg("token service gives no token for this service")
				renew.Reset(pause)
				pause = min(2*pause, 32*time.Second)
				continue
			}
			t.mu.Lock()
			t.own = own
			t.mu.Unlock()
			pause = time.Second
			renew.Reset(ownLife * 8 / 10)
		case <-tidy.C:
			if err := t.Tidy(ctx); err != nil && ctx.Err() == nil {
				log.Error().Err(err).Msg("tenants not compared with the token service")
			}
			tidy.Reset(every)
		}
	}
}

// Tidy deletes what belongs to tenants the service does not list any more. Only tenants that came from it, whose ids are
// UUIDs with dashes, are looked at; a list without the master tenant is not believed.
func (t *Tokens) Tidy(ctx context.Context) error {
	own, err := t.ownToken(ctx)
	if err != nil {
		return err
	}
	listed, told, err := t.below(ctx, own.tenant)
	if err != nil {
		return err
	}
	if !told {
		return errors.New("the token service does not let this service list tenants")
	}
	if !slices.ContainsFunc(listed, func(n named) bool { return n.UUID == own.tenant }) {
		return fmt.Errorf("%w: its list of tenants lacks its own", ErrUnavailable)
	}
	var errs []error
	for page := (projections.Page{Limit: projections.MaxLimit}); ; {
		tenants, err := projections.ListTenants(ctx, t.Views, projections.TenantFilter{}, page)
		if err != nil {
			return err
		}
		for _, tenant := range tenants.Items {
			id := string(tenant.ID)
			if len(id) == 36 && strings.Count(id, "-") == 4 && !slices.ContainsFunc(listed, func(n named) bool { return n.UUID == id }) {
				errs = append(errs, Evict(ctx, t.Service, t.Views, tenant.ID))
			}
		}
		if tenants.Next == "" {
			return errors.Join(errs...)
		}
		page.Cursor = tenants.Next
	}
}

// Evict ends a tenant that the platform has deleted: its devices, its layers, its provisioning key, and, when nothing else
// stands below it, itself. It may be repeated.
func Evict(ctx context.Context, s *commands.Service, q projections.Querier, id domain.TenantID) error {
	if id == domain.Master || domain.CheckID(string(id)) != nil {
		return fmt.Errorf("evict tenant %.64q: %w", id, domain.ErrMasterTenant)
	}
	ctx = commands.WithCaller(ctx, commands.Caller{Actor: "system:token-service", Reason: "tenant was deleted on the platform"})
	var devices []domain.DeviceID
	var layers []domain.LayerID
	of := projections.Wanted{Tenants: []domain.TenantID{id}}
	err := errors.Join(
		projections.EachDevice(ctx, q, of, func(d projections.Device) error { devices = append(devices, d.ID); return nil }),
		projections.EachLayer(ctx, q, of, func(l projections.Layer) error { layers = append(layers, l.ID); return nil }))
	if err != nil {
		return fmt.Errorf("find what is left of tenant %s: %w", id, err)
	}
	var errs []error
	note := func(err error, unless ...error) {
		if err != nil && !slices.ContainsFunc(unless, func(u error) bool { return errors.Is(err, u) }) {
			errs = append(errs, err)
		}
	}
	for _, d := range devices {
		base, _ := d.Life()
		_, err := s.DeleteDevice(ctx, commands.DeleteDevice{ID: base})
		note(err, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted)
	}
	for _, l := range layers {
		_, err := s.RemoveLayer(ctx, commands.RemoveLayer{ID: l})
		note(err, domain.ErrLayerUnknown, domain.ErrLayerUndeletable)
	}
	_, err = s.SetProvisioningKey(ctx, commands.SetProvisioningKey{ID: id})
	note(err, domain.ErrTenantUnknown, domain.ErrTenantDeleted)
	_, err = s.DeleteTenant(ctx, commands.DeleteTenant{ID: id})
	note(err, domain.ErrTenantUnknown, domain.ErrTenantDeleted, domain.ErrTenantOccupied)
	return errors.Join(errs...)
}
