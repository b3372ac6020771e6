package mbg_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

const day = 24 * time.Hour

// TK-1: the human step comes 20 minutes later.
func TestExchangeWithAPersonInBetween(t *testing.T) {
	o := open(t, "")
	o.do("start", nil)
	o.consumer()
	o.ok(o.request())
	o.Clock.Advance(20 * time.Minute)
	o.everyCheck(map[string]string{"verifier": "waiting", "consumer accepted": "ok", "web services reachable": "ok", "token granted": "open"})
	o.ok(o.submit(o.verifier()))
	g := o.gateway()
	if g.TokenState(o.Clock.Now()) != domain.TokenActive || !g.Token.ExpiresAt.Equal(g.Token.GrantedAt.AddDate(0, 12, 0)) {
		t.Errorf("%s, %+v", g.TokenState(o.Clock.Now()), g.Token)
	}
	o.noSecrets()
}

// TK-2: the third wrong verifier ends the exchange; a temporary token that is too old does too.
func TestWrongVerifiers(t *testing.T) {
	o := open(t, "")
	o.do("start", nil)
	o.consumer()
	o.ok(o.request())
	right := o.verifier()
	for range 3 {
		if err := o.submit("wrong"); !errors.Is(err, commands.ErrBorder) {
			t.Fatal(err)
		}
	}
	if err := o.submit(right); !errors.Is(err, domain.ErrGatewayNoRequest) {
		t.Errorf("after three wrong ones: %v", err)
	}
	o.everyCheck(map[string]string{"verifier": "failed"})
	o.ok(o.request())
	if err := o.submit("wrong"); err == nil {
		t.Error("taken")
	}
	o.ok(o.submit(o.verifier()))
	o.ok(o.request())
	right = o.verifier()
	o.Clock.Advance(domain.TemporaryLife + time.Second)
	if err := o.submit(right); !errors.Is(err, domain.ErrGatewayNoRequest) {
		t.Errorf("too old: %v", err)
	}
	if n := len(events[domain.GatewayTokenAbandoned](o)); n != 2 {
		t.Errorf("%d abandoned", n)
	}
}

// ER-1: the gateway's clock is ten minutes off: a clear text, and nothing begins. A little off is corrected.
func TestClocks(t *testing.T) {
	o := open(t, "")
	o.do("start", nil)
	o.consumer()
	o.do("clock", map[string]string{"ahead": "10m"})
	err := o.request()
	if !errors.Is(err, commands.ErrClockSkew) || !strings.Contains(err.Error(), "10m") {
		t.Fatal(err)
	}
	o.everyCheck(map[string]string{"consumer accepted": "failed"})
	o.do("clock", map[string]string{"ahead": "40s"})
	o.exchange()
	if e := events[domain.GatewayTokenRequested](o); len(e) != 1 || e[0].ClockOffsetSeconds < 39 || e[0].ClockOffsetSeconds > 41 {
		t.Errorf("%+v", e)
	}
	// Later the clock runs away: refused once, corrected from the answer's Date, and taken.
	o.node("10.1.2.3")
	o.switchTo("enabled")
	o.do("clock", map[string]string{"ahead": "20m"})
	line := o.extension("l1", "4001")
	o.remote(line)
	o.settle()
	o.holds(line, "4001")
}

// ER-2: three different reasons, three different messages.
func TestWhyTheExchangeIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(o *office)
		class   string
		says    string
	}{
		"consumer not active":  {func(o *office) { o.do("consumer", map[string]string{"id": "MiVOAppSuite", "active": "false"}) }, commands.ClassConsumer, "not active"},
		"another secret":       {func(o *office) { o.do("consumer", map[string]string{"id": "MiVOAppSuite", "secret": "another"}) }, commands.ClassSignature, "secret"},
		"web services stopped": {func(o *office) { o.do("stop", map[string]string{"how": "404"}) }, commands.ClassServicesOff, "press Start"},
		"web services silent":  {func(o *office) { o.do("stop", map[string]string{"how": "closed"}) }, commands.ClassTransport, ""},
	} {
		for _, problems := range []string{"true", "false"} {
			o := open(t, "")
			o.do("start", nil)
			o.do("problems", map[string]string{"on": problems})
			o.consumer()
			c.prepare(o)
			err := o.request()
			var b *commands.BorderError
			if !errors.As(err, &b) || b.Class != c.class && (problems == "true" || b.Class != commands.ClassConsumer) {
				t.Errorf("%s, oauth_problem %s: %v", name, problems, err)
				continue
			}
			e := events[domain.GatewayTokenRefused](o)
			if len(e) != 1 || problems == "true" && !strings.Contains(e[0].Text, c.says) {
				t.Errorf("%s: on record %+v", name, e)
			}
			o.noSecrets()
		}
	}
	// A permission missing shows with the first push, and holds the queue with advice.
	o := ready(t)
	o.do("consumer", map[string]string{"id": "MiVOAppSuite", "permissions": "Icps/read"})
	o.remote(o.extension("l1", "4001"))
	o.push(time.Second)
	if g := o.gateway(); g.Held.Class != commands.ClassPermission || !strings.Contains(g.Held.Text, "tick the consumer's permissions") {
		t.Errorf("%+v", g.Held)
	}
	o.do("consumer", map[string]string{"id": "MiVOAppSuite", "permissions": "Base/managetoken,Icps/read,SipUsers/read,SipUsers/write"})
	o.push(2 * time.Hour)
	o.holds("l1", "4001")
	if n := len(events[domain.GatewayHeld](o)); n > 8 {
		t.Errorf("held %d times", n)
	}
}

// Twelve months and more with one clock: the warnings of TK-4, a renewal that is told (TK-5), one that is not (TK-6), an
// end with work waiting, and a new token (TK-7).
func TestTwelveMonths(t *testing.T) {
	o := ready(t)
	line := o.extension("l1", "4001")
	o.remote(line)
	o.settle()
	granted := o.gateway().Token.GrantedAt
	// days lets the clock pass day by day up to a day after the grant, and answers on which days was warned.
	days := func(from time.Time, until int) (warned []int) {
		before := len(events[domain.GatewayTokenExpiring](o))
		for d := int(o.Clock.Now().Sub(from) / day); d < until; d++ {
			o.Clock.Advance(from.Add(time.Duration(d+1) * day).Sub(o.Clock.Now()))
			o.push(0)
			if n := len(events[domain.GatewayTokenExpiring](o)); n > before {
				warned = append(warned, d+1)
				if n != before+1 {
					t.Errorf("%d warnings on day %d", n-before, d+1)
				}
				before = n
			}
		}
		return warned
	}
	if got, want := days(granted, 350), []int{305, 335}; !slices.Equal(got, want) {
		t.Fatalf("warned on days %v, want %v", got, want)
	}
	// TK-5: Renew is pressed on day 350 and told; the next series is a year on.
	o.do("renew", nil)
	renewed := o.Clock.Now()
	_, err := o.Service.ConfirmRenewal(o.ctx, commands.ConfirmRenewal{ID: edge, On: renewed})
	o.ok(err)
	if got, want := days(renewed, 365), []int{305, 335, 351, 358, 362, 364, 365}; !slices.Equal(got, want) {
		t.Errorf("after the renewal warned on days %v, want %v", got, want)
	}
	// TK-6: renewed on the gateway without a word: it goes on working, its end unknown.
	o.do("renew", nil)
	silent := o.Clock.Now()
	o.Clock.Advance(2 * day)
	o.push(0)
	if s := o.gateway().TokenState(o.Clock.Now()); s != domain.TokenProven {
		t.Errorf("state %s", s)
	}
	_, err = o.Service.RotateLineSecret(o.ctx, commands.RotateLineSecret{ID: line, Password: "canary-silent"})
	o.ok(err)
	o.settle()
	o.holds(line, "4001")
	days(silent, 364)
	if n := len(events[domain.GatewayTokenProven](o)); n != 1 {
		t.Errorf("proven %d times", n)
	}
	// TK-7: nobody renews: the daily look finds the end; work waits and none is lost, the newest of each only.
	for len(events[domain.GatewayTokenExpired](o)) == 0 && o.Clock.Now().Before(silent.Add(370*day)) {
		o.Clock.Advance(day)
		o.push(0)
	}
	if s := o.gateway().TokenState(o.Clock.Now()); s != domain.TokenExpired {
		t.Fatalf("state %s", s)
	}
	for _, password := range []string{"canary-a", "canary-b", "canary-c"} {
		_, err = o.Service.RotateLineSecret(o.ctx, commands.RotateLineSecret{ID: line, Password: password})
		o.ok(err)
	}
	second := o.extension("l2", "4002")
	o.remote(second)
	before := o.writes()
	o.push(3 * day)
	if n := o.writes() - before; n != 0 || o.user(line).Status() != domain.SIPUserPending {
		t.Errorf("%d writes without a token, %s", n, o.user(line).Status())
	}
	o.exchange()
	o.settle()
	o.holds(second, "4002")
	if u := o.holds(line, "4001"); u.ICPPassword != "canary-c" {
		t.Errorf("%+v", u)
	}
	if g := events[domain.GatewayTokenGranted](o); len(g) != 2 || g[1].Replaces != g[0].Fingerprint {
		t.Errorf("%+v", g)
	}
	sent := map[string]int{}
	for _, a := range o.Alerts.Sent() {
		sent[a.Type]++
	}
	if sent["gateway.token_expiring"] != 9 || sent["gateway.token_expired"] != 1 {
		t.Errorf("alerts %v", sent)
	}
	o.noSecrets()
}

// A token revoked before its end is told apart from one that ended, and one slip of the gateway is no loss.
func TestRevokedToken(t *testing.T) {
	o := ready(t)
	line := o.extension("l1", "4001")
	o.do("fault", map[string]string{"operation": "create_user", "kind": "token_expired", "count": "1"})
	o.remote(line)
	o.settle()
	o.holds(line, "4001")
	o.do("revoke", nil)
	_, err := o.Service.RotateLineSecret(o.ctx, commands.RotateLineSecret{ID: line, Password: "canary-x"})
	o.ok(err)
	o.settle()
	if s := o.gateway().TokenState(o.Clock.Now()); s != domain.TokenRejected {
		t.Errorf("state %s", s)
	}
}

// Where the gateway tells of its token, its end is read there, and it is renewed 30 days before.
func TestTokenByAPI(t *testing.T) {
	mapping := mappingWith(t, "token_status: {enabled: false", "token_status: {enabled: true", "token_renew:  {enabled: false", "token_renew:  {enabled: true")
	o := open(t, mapping)
	o.do("start", nil)
	o.consumer()
	o.exchange()
	w := o.wish()
	w.AutoRenew = true
	_, err := o.Service.AmendGateway(o.ctx, commands.AmendGateway{ID: edge, GatewayWish: w})
	o.ok(err)
	for range 800 {
		o.Clock.Advance(day)
		o.push(0)
	}
	if g := o.gateway(); g.TokenState(o.Clock.Now()) != domain.TokenActive && g.TokenState(o.Clock.Now()) != domain.TokenExpiring || len(events[domain.GatewayTokenExpired](o)) != 0 || len(events[domain.GatewayTokenRenewed](o)) < 2 {
		t.Errorf("%s, renewed %d times", g.TokenState(o.Clock.Now()), len(events[domain.GatewayTokenRenewed](o)))
	}
}

// Erased, the gateway's consumer secret and tokens open no more: nothing is asked of it, what stands there stays, and
// the history says so.
func TestErasingAGateway(t *testing.T) {
	o := ready(t)
	line := o.extension("l1", "4001")
	o.remote(line)
	o.settle()
	o.holds(line, "4001")
	g := o.gateway()
	_, err := o.Service.EraseSubject(o.ctx, commands.EraseSubject{Subject: edge.Subject()})
	o.ok(err)
	o.settle()
	for name, sealed := range map[string]domain.Sealed{"secret": g.ConsumerSecret.Sealed, "token": g.Token.Token.Sealed, "token's secret": g.Token.Secret.Sealed} {
		if _, err := o.Vault.Open(o.ctx, sealed); !errors.Is(err, domain.ErrErased) {
			t.Errorf("the %s opens: %v", name, err)
		}
	}
	if g := o.gateway(); g.Stopped() != "no_token" || g.TokenState(o.Clock.Now()) != domain.TokenUnconfigured {
		t.Errorf("the queue: %q, the token: %s", g.Stopped(), g.TokenState(o.Clock.Now()))
	}
	writes := o.writes()
	o.clear(line)
	o.settle()
	if o.writes() != writes || len(o.onGateway()) != 1 {
		t.Error("the gateway was asked")
	}
	if err := o.request(); !errors.Is(err, domain.ErrGatewayNoConsumer) {
		t.Error(err)
	}
	if _, err := o.Service.SetGatewayConsumer(o.ctx, commands.SetGatewayConsumer{ID: edge, ConsumerID: "x", Secret: "y"}); !errors.Is(err, domain.ErrErased) {
		t.Error(err)
	}
}
