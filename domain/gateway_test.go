package domain_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ledgerline/domain"
)

// TK-3: months later by the calendar, on the month's last day if need be; acted upon 365 days later at the latest.
func TestLifetimeOfAToken(t *testing.T) {
	day := func(s string) time.Time {
		at, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, c := range []struct {
		from, expires, act string
		months             int
	}{
		{"2028-02-29 10:00", "2029-02-28 10:00", "2029-02-28 10:00", 12},
		{"2027-03-01 10:00", "2028-03-01 10:00", "2028-02-29 10:00", 12}, // 366 days lie between
		{"2026-11-21 23:59", "2027-11-21 23:59", "2027-11-21 23:59", 12},
		{"2026-08-31 00:00", "2027-02-28 00:00", "2027-02-28 00:00", 6},
	} {
		expires, act := domain.Lifetime(day(c.from), c.months)
		if !expires.Equal(day(c.expires)) || !act.Equal(day(c.act)) {
			t.Errorf("%s: %s, acted upon %s", c.from, expires, act)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		from := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "from"), 0).UTC()
		months := rapid.IntRange(1, 24).Draw(t, "months")
		expires, act := domain.Lifetime(from, months)
		if !expires.After(from) || act.After(expires) || (int(expires.Month())-int(from.Month())-months)%12 != 0 {
			t.Fatalf("%s and %d months: %s, %s", from, months, expires, act)
		}
	})
}

func granted(at time.Time) domain.Gateway {
	e := domain.GatewayTokenGranted{Fingerprint: "f", GrantedAt: at}
	e.ExpiresAt, e.ActAt = domain.Lifetime(at, 12)
	return domain.Fold[domain.Gateway]([]domain.Event{domain.GatewayRegistered{GatewayID: "g", TenantID: "acme"}, e})
}

// After a long silence one warning is given, the tightest, and not those that were missed.
func TestWarningsAfterASilence(t *testing.T) {
	at := time.Date(2026, 3, 4, 10, 0, 0, 0, time.UTC)
	g := granted(at)
	events := g.Warn(at.AddDate(0, 0, 360))
	if len(events) != 1 || events[0].(domain.GatewayTokenExpiring).ThresholdDays != 7 {
		t.Fatalf("%+v", events)
	}
	g = g.Apply(events[0])
	for _, d := range []int{360, 361} {
		if again := g.Warn(at.AddDate(0, 0, d)); len(again) != 0 {
			t.Errorf("day %d: %+v", d, again)
		}
	}
	if next := g.Warn(at.AddDate(0, 0, 362)); len(next) != 1 || next[0].(domain.GatewayTokenExpiring).ThresholdDays != 3 {
		t.Errorf("%+v", next)
	}
}

func TestRenewalDates(t *testing.T) {
	at := time.Date(2026, 3, 4, 10, 0, 0, 0, time.UTC)
	g := granted(at)
	now := at.AddDate(0, 11, 0)
	for _, bad := range []time.Time{now.Add(time.Second), at.AddDate(0, 0, -1)} {
		if _, err := g.Renew(bad, now); !errors.Is(err, domain.ErrRenewalDate) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if events, err := g.Renew(at.Truncate(24*time.Hour), now); err != nil || len(events) != 1 {
		t.Errorf("on the day of the grant: %v %v", events, err)
	}
	if _, err := (domain.Gateway{Exists: true}).Renew(now, now); !errors.Is(err, domain.ErrGatewayNoToken) {
		t.Error(err)
	}
}

func TestReleases(t *testing.T) {
	for _, c := range []struct{ kind, release, want string }{
		{"mivo250", "6.3 SP1", "ok"}, {"mivo250", "6.3", "failed"}, {"mivo250", "6.3 SP2", "ok"}, {"mivo250", "v6.4.1", "ok"}, {"mivo250", "6.10", "ok"}, {"mivo250", "", "warning"}, {"mivo250", "new", "failed"},
		{"ct_gateway", "5.0.64", "ok"}, {"ct_gateway", "5.0.63", "failed"}, {"ct_gateway", "5.1", "ok"},
	} {
		g := domain.Gateway{GatewaySpec: domain.GatewaySpec{Release: "11.5"}, Nodes: []domain.GatewayNode{{NodeID: "zrh", Type: c.kind, Release: c.release}}}
		checks := g.Preflight()
		i := slices.IndexFunc(checks, func(ch domain.Check) bool { return ch.Name == "release of zrh" })
		if checks[i].State != c.want {
			t.Errorf("%s %q: %+v", c.kind, c.release, checks[i])
		}
	}
	if c := (domain.Gateway{GatewaySpec: domain.GatewaySpec{Release: "9.4"}}).Preflight(); c[0].State != "failed" {
		t.Errorf("%+v", c)
	}
}

// Credentials are of the alphabet and the classes promised.
func TestGeneratedCredentials(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(n int) (int, error) { return r.IntN(n), nil }
	seen := map[string]bool{}
	for range 2000 {
		name, err := domain.NewSetUsername(pick)
		password, err2 := domain.NewSetPassword(pick)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if len(name) != 12 || strings.Trim(name, "abcdefghijkmnpqrstuvwxyz23456789") != "" || seen[name] || seen[password] || len(password) != 24 {
			t.Fatalf("%q %q", name, password)
		}
		seen[name], seen[password] = true, true
		for _, class := range []string{"abcdefghijkmnpqrstuvwxyz", "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789", "-_.!*"} {
			n := 0
			for _, c := range password {
				if strings.ContainsRune(class, c) {
					n++
				}
			}
			if n < 2 {
				t.Fatalf("%q has %d of %s", password, n, class)
			}
		}
	}
	broken := errors.New("no randomness")
	if _, err := domain.NewSetPassword(func(int) (int, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// Whatever is intended, withdrawn, pushed, refused and removed in whatever order: what is settled was intended, a record
// is pending only while the gateway is behind, and a withdrawn one is never wanted.
func TestASIPUserKeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var u domain.SIPUser
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			var events []domain.Event
			rev := max(u.Rev-rapid.IntRange(0, 1).Draw(t, "late"), 1)
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0, 1:
				events = u.Intend(domain.SIPUserPushIntended{SIPUserID: "g.l", SIPUserSpec: domain.SIPUserSpec{SetUsername: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"), Enabled: true}})
			case 2:
				events = u.Withdraw("line")
			case 3:
				events, _ = u.Retry("retry")
			case 4:
				if u.Rev > 0 {
					events = []domain.Event{domain.SIPUserPushed{Rev: rev, MBGID: "7", ICPID: "3"}}
				}
			case 5:
				if u.Rev > 0 {
					events = []domain.Event{domain.SIPUserPushFailed{Rev: rev, Class: "licence"}}
				}
			case 6:
				if u.Rev > 0 && !u.Wanted {
					events = []domain.Event{domain.SIPUserRemoved{Rev: u.Rev, MBGID: "7"}}
				}
			}
			before := u
			for _, e := range events {
				u = u.Apply(e)
			}
			if u.Rev < before.Rev || u.Settled > u.Rev || u.Pending() && u.Rev == u.Settled || u.Status() == domain.SIPUserInSync && (!u.On || u.Rev != u.Settled) {
				t.Fatalf("after %+v: %+v (%s)", events, u, u.Status())
			}
		}
	})
}
