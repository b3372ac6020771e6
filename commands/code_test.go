package commands_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

func TestIssuingACode(t *testing.T) {
	k := start(t)
	code := k.issue("rollout", func(in *commands.IssueCode) { in.MAC = "00:15:65:1A:2B:3C" })
	r, e := last[domain.CodeIssued](k)
	if len(code.Code) != 12 || strings.Trim(code.Code, "0123456789") != "" || !code.ValidUntil.Equal(commandstest.Start.Add(7*24*time.Hour)) || code.ID != e.CodeID ||
		e.MAC != phone || e.Epoch != "codeepoch-2026.11.02" || !e.IssuedAt.Equal(commandstest.Start) || !e.ValidUntil.Equal(code.ValidUntil) {
		t.Errorf("%+v", e)
	}
	if digits, err := k.Vault.Open(k.ctx, e.Digits.Sealed); err != nil || digits != code.Code || e.Digits.AAD != r.ID.String()+"#/digits" {
		t.Errorf("the digits open with %v", err)
	}
	if r.Revision != 0 || k.count("codeepoch-2026.11.02", "key.created") != 1 {
		t.Error("a code begins its stream, and the epoch has one key")
	}
	if short := k.issue("self_service"); !short.ValidUntil.Equal(commandstest.Start.Add(10 * minute)) {
		t.Errorf("a self-service code lives until %s", short.ValidUntil)
	}
	_, out, err := k.DefineCategory(k.ctx, commands.DefineCategory{ID: "plain", TenantID: "acme", Name: "x", Kind: "plain"})
	k.news(out, err, "category.defined")
	for want, in := range map[error]commands.IssueCode{
		domain.ErrNotProvisioning:       {TenantID: "acme", CategoryID: "plain", Purpose: "rollout"},
		domain.ErrTenantUnknown:         {TenantID: "nobody", CategoryID: desk, Purpose: "rollout"},
		domain.ErrCategoryUnknown:       {TenantID: "acme", CategoryID: "nobody", Purpose: "rollout"},
		domain.ErrCategoryOfOtherTenant: {TenantID: "globex", CategoryID: desk, Purpose: "rollout"},
		domain.ErrUserUnknown:           {TenantID: "acme", CategoryID: desk, UserID: "nobody", Purpose: "rollout"},
		commands.ErrInvalid:             {TenantID: "acme", CategoryID: desk, Purpose: "rollout", MAC: "x"},
	} {
		k.refused(want, func() error { _, _, err := k.IssueCode(k.ctx, in); return err })
	}
}

func TestCodesOf16DigitsAndOtherLifeTimes(t *testing.T) {
	k := start(t, commandstest.With(func(s *commands.Service) {
		s.CodeLength, s.CodeTTL = 16, map[string]time.Duration{"self_service": time.Hour, "rollout": 30 * 24 * time.Hour}
	}))
	if c := k.issue("self_service"); len(c.Code) != 16 || !c.ValidUntil.Equal(commandstest.Start.Add(time.Hour)) {
		t.Errorf("%d digits until %s", len(c.Code), c.ValidUntil)
	}
	if c := k.issue("rollout"); !c.ValidUntil.Equal(commandstest.Start.Add(domain.MaxCodeTTL)) {
		t.Errorf("longer than can be looked up: %s", c.ValidUntil)
	}
}

// Every digit is as likely as every other: chi-square over 12,000 digits, 9 degrees of freedom, p = 0.001.
func TestDigitsAreUniform(t *testing.T) {
	k := start(t, commandstest.Seeded(4711))
	var seen [12][10]int
	const codes = 1000
	for range codes {
		for i, d := range k.issue("rollout").Code {
			seen[i][d-'0']++
		}
	}
	var all [10]int
	for i := range seen {
		for d, n := range seen[i] {
			all[d] += n
		}
		if x := chiSquare(seen[i], codes); x > 27.88 {
			t.Errorf("digit %d: chi-square %.1f of %v", i, x, seen[i])
		}
	}
	if x := chiSquare(all, 12*codes); x > 27.88 {
		t.Errorf("all digits: chi-square %.1f of %v", x, all)
	}
}

func chiSquare(seen [10]int, n int) (sum float64) {
	want := float64(n) / 10
	for _, s := range seen {
		sum += (float64(s) - want) * (float64(s) - want) / want
	}
	return sum
}

// Bytes of 250 and more are thrown away; what is left is ten times 25.
func TestDigitsAreDrawnByRejection(t *testing.T) {
	random := slices.Concat(bytes.Repeat([]byte{250, 251, 252, 253, 254, 255, 0, 249}, 8), make([]byte, 1<<10))
	k := start(t, commandstest.With(func(s *commands.Service) { s.Rand = bytes.NewReader(random) }))
	if c := k.issue("rollout"); c.Code != "090909090909" {
		t.Errorf("drew %s", c.Code)
	}
	k = start(t, commandstest.With(func(s *commands.Service) { s.Rand = bytes.NewReader(nil) }))
	k.refused(io.EOF, func() error {
		_, _, err := k.IssueCode(k.ctx, commands.IssueCode{TenantID: "acme", CategoryID: desk, Purpose: "rollout"})
		return err
	})
}

// repeating draws the same digits twice, then others.
func repeating(times int) io.Reader {
	var draws []byte
	for range times {
		draws = append(draws, bytes.Repeat([]byte{7}, 32)...)
	}
	return bytes.NewReader(slices.Concat(draws, bytes.Repeat([]byte{3}, 32), bytes.Repeat([]byte{4}, 32)))
}

// No two live codes have the same digits, also across days.
func TestLiveCodesDiffer(t *testing.T) {
	for what, wait := range map[string]time.Duration{"the same day": 0, "the next day": 24 * time.Hour, "six days later": 6 * 24 * time.Hour} {
		k := start(t, commandstest.With(func(s *commands.Service) { s.Rand = repeating(2) }))
		first := k.issue("rollout")
		k.Clock.Advance(wait)
		if second := k.issue("rollout"); first.Code != "777777777777" || second.Code != "333333333333" {
			t.Errorf("%s: %s and %s", what, first.Code, second.Code)
		}
	}
}

// A user, and a tenant, has only so many codes that are alive; those of rollouts, and dead ones, are not counted.
func TestSoManyLiveCodes(t *testing.T) {
	k := start(t, commandstest.With(func(s *commands.Service) { s.CodesPerUser, s.CodesPerTenant = 2, 3 }))
	issue := func(purpose string, user domain.UserID) error {
		_, _, err := k.IssueCode(k.ctx, commands.IssueCode{TenantID: "acme", CategoryID: desk, UserID: user, Purpose: purpose})
		return err
	}
	first := k.issue("self_service")
	k.issue("self_service")
	k.refused(domain.ErrTooManyCodes, func() error { return issue("self_service", "anna") })
	k.ok(issue("rollout", "anna"))
	k.ok(issue("administrative", ""))
	k.refused(domain.ErrTooManyCodes, func() error { return issue("administrative", "") })
	_, err := k.RevokeCode(k.ctx, commands.RevokeCode{ID: first.ID})
	k.ok(err)
	k.ok(issue("self_service", "anna"))
}

func TestRedeemingACode(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	code := k.issue("rollout")
	redeemed, out, err := k.redeem(code.Code[:4]+" "+code.Code[4:8]+"-"+code.Code[8:]+"#", phone)
	k.news(out, err, "code.redeemed")
	if redeemed.DeviceID != domain.DeviceID(phone) || redeemed.TenantID != "acme" || redeemed.Position != out.Position {
		t.Errorf("%+v", redeemed)
	}
	k.settle()
	d := k.device(redeemed.DeviceID)
	if d.TenantID != "acme" || d.CategoryID != desk || d.UserID != "anna" || d.CodeID != code.ID || d.Lines[1] != "l1" || d.Status() != domain.StateConfigured {
		t.Errorf("%+v", d)
	}
	// The same phone may repeat, and is told yes; nothing happens.
	k.Clock.Advance(domain.RepeatWindow - 1)
	again, out, err := k.redeem(code.Code, phone)
	k.news(out, err)
	if again.DeviceID != redeemed.DeviceID || again.TenantID != "acme" || again.Position.IsZero() {
		t.Errorf("%+v", again)
	}
	k.Clock.Advance(1)
	k.refused(domain.ErrCodeRefused, func() error { _, _, err := k.redeem(code.Code, phone); return err })
}

// Unknown, malformed, expired, used, revoked and for another phone: one answer, and nothing recorded, not even
// that there is such a phone.
func TestTheUniformAnswer(t *testing.T) {
	for what, prepare := range map[string]func(*kit) string{
		"unknown": func(*kit) string { return "000000000000" },
		"letters": func(*kit) string { return "abcdefghijkl" },
		"full width": func(k *kit) string {
			return strings.Map(func(r rune) rune { return r - '0' + '０' }, k.issue("rollout").Code)
		},
		"short":       func(k *kit) string { return k.issue("rollout").Code[1:] },
		"expired now": func(k *kit) string { c := k.issue("self_service").Code; k.Clock.Advance(10 * minute); return c },
		"expired": func(k *kit) string {
			c := k.issue("self_service").Code
			k.Clock.Advance(10 * minute)
			_, err := k.ExpireCodes(k.ctx)
			k.ok(err)
			return c
		},
		"used": func(k *kit) string {
			c := k.issue("rollout").Code
			_, _, err := k.redeem(c, spare)
			k.ok(err)
			k.settle()
			return c
		},
		"revoked": func(k *kit) string {
			c := k.issue("rollout")
			_, err := k.RevokeCode(k.ctx, commands.RevokeCode{ID: c.ID})
			k.ok(err)
			return c.Code
		},
		"bound": func(k *kit) string {
			return k.issue("rollout", func(in *commands.IssueCode) { in.MAC = spare }).Code
		},
		"its epoch is destroyed": func(k *kit) string {
			c := k.issue("rollout").Code
			k.ok(k.Vault.Erase(k.ctx, "codeepoch-2026.11.02"))
			return c
		},
	} {
		k := start(t)
		code := prepare(k)
		k.refused(domain.ErrCodeRefused, func() error {
			_, _, err := k.redeem(code, phone)
			if err != domain.ErrCodeRefused {
				t.Errorf("%s: %v tells more than it should", what, err)
			}
			return err
		})
		if k.Service().Guard().Total(k.Clock.Now()) == 0 {
			t.Errorf("%s: the guess was not counted", what)
		}
	}
}

// Service is the service of the kit; the name alone would be ambiguous.
func (k *kit) Service() *commands.Service { return k.service.Service }

func TestACodeIsDeadAtExactlyItsEnd(t *testing.T) {
	for age, want := range map[time.Duration]error{10*minute - 1: nil, 10 * minute: domain.ErrCodeRefused} {
		k := start(t)
		code := k.issue("self_service").Code
		k.Clock.Advance(age)
		if _, _, err := k.redeem(code, phone); !errors.Is(err, want) {
			t.Errorf("after %s: %v, want %v", age, err, want)
		}
	}
	k := start(t)
	code := k.issue("rollout").Code
	k.Clock.Advance(7*24*time.Hour - 1) // eight epochs later by the calendar
	_, out, err := k.redeem(code, phone)
	k.news(out, err, "code.redeemed")
}

// What AssignDevice would refuse is refused before the code is used up (D17).
func TestARefusedAssignmentLeavesTheCode(t *testing.T) {
	for what, c := range map[string]struct {
		prepare func(*kit)
		err     error
	}{
		"device of another tenant": {func(k *kit) { k.assign(phone, "globex", "") }, domain.ErrDeviceOfOtherTenant},
		"category retired": {func(k *kit) {
			_, err := k.RetireCategory(k.ctx, commands.RetireCategory{ID: desk})
			k.ok(err)
		}, domain.ErrCategoryRetired},
		"model not allowed": {func(k *kit) {
			_, _, err := k.DefineCategory(k.ctx, commands.DefineCategory{ID: desk, TenantID: "acme", Name: "x", Kind: "provisioning", Models: []string{"T9"}})
			k.ok(err)
		}, domain.ErrModelNotAllowed},
		"user removed": {func(k *kit) {
			_, err := k.RemoveUser(k.ctx, commands.RemoveUser{ID: "anna"})
			k.ok(err)
		}, domain.ErrUserRemoved},
	} {
		k := start(t)
		code := k.issue("rollout")
		c.prepare(k)
		if _, _, err := k.redeem(code.Code, phone); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", what, err, c.err)
		}
		if k.count("code-", "code.redeemed") != 0 {
			t.Errorf("%s: the code is used up", what)
		}
		if k.Service().Guard().Total(k.Clock.Now()) != 0 {
			t.Errorf("%s: counted as a wrong code", what)
		}
	}
}

// Of 100 phones at one code exactly one wins; the history is linearizable with the code as the object.
func TestOneOfAHundredWins(t *testing.T) {
	k := start(t)
	k.Service().Guard().Global = 1000
	code := k.issue("rollout")
	var mu sync.Mutex
	var history []porcupine.Operation
	var clock int64
	tick := func() int64 { mu.Lock(); defer mu.Unlock(); clock++; return clock }
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			mac := domain.MAC(fmt.Sprintf("0015650000%02x", i%50)) // two tries of each phone
			call := tick()
			_, _, err := k.RedeemCode(k.confirms(), commands.RedeemCode{Code: code.Code, MAC: mac, Vendor: "Testphone"})
			end := tick()
			if err != nil && !errors.Is(err, domain.ErrCodeRefused) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			history = append(history, porcupine.Operation{ClientId: i, Input: mac, Call: call, Output: err == nil, Return: end})
		})
	}
	all.Wait()
	_, redeemed := last[domain.CodeRedeemed](k)
	if n := k.count("code-", "code.redeemed"); n != 1 {
		t.Fatalf("%d phones redeemed one code", n)
	}
	winners := map[domain.MAC]bool{}
	for _, o := range history {
		if o.Output.(bool) {
			winners[o.Input.(domain.MAC)] = true
		}
	}
	if len(winners) != 1 || !winners[redeemed.MAC] {
		t.Errorf("told yes: %v, recorded %s", winners, redeemed.MAC)
	}
	model := porcupine.Model{
		Init: func() any { return domain.MAC("") },
		Step: func(state, input, output any) (bool, any) {
			by, mac := state.(domain.MAC), input.(domain.MAC)
			if by == "" || by == mac {
				return output.(bool), mac
			}
			return !output.(bool), by
		},
	}
	if !porcupine.CheckOperations(model, history) {
		t.Error("no order of the calls explains the answers")
	}
	k.settle()
	if n := k.count("device-", "device.assigned"); n != 1 {
		t.Errorf("%d devices were assigned", n)
	}
}

func wrong(k *kit, ip string, mac domain.MAC) error {
	_, _, err := k.RedeemCode(k.from(ip), commands.RedeemCode{Code: "000000000000", MAC: mac})
	return err
}

// A source that guesses ten times within ten minutes waits half an hour; an IPv6 /64 is one source.
func TestGuessesPerSource(t *testing.T) {
	for what, ips := range map[string][]string{"IPv4": {"192.0.2.7"}, "IPv6 /64": {"2001:db8::1", "2001:db8::ffff"}, "IPv4 in IPv6": {"192.0.2.7", "::ffff:192.0.2.7"}} {
		k := start(t)
		for i := range 10 {
			mac := domain.MAC(fmt.Sprintf("0015650000%02x", i))
			if err := wrong(k, ips[i%len(ips)], mac); !errors.Is(err, domain.ErrCodeRefused) {
				t.Fatalf("%s: guess %d: %v", what, i, err)
			}
		}
		var wait *commands.GuessError
		if err := wrong(k, ips[0], spare); !errors.As(err, &wait) || !errors.Is(err, commands.ErrGuesses) || wait.RetryAfter != 30*minute {
			t.Fatalf("%s: %v", what, err)
		}
		good := k.issue("rollout").Code
		if _, _, err := k.RedeemCode(k.from(ips[0]), commands.RedeemCode{Code: good, MAC: phone}); !errors.Is(err, commands.ErrGuesses) {
			t.Errorf("%s: a good code is answered while blocked: %v", what, err)
		}
		if err := wrong(k, "198.51.100.1", "001565000099"); !errors.Is(err, domain.ErrCodeRefused) {
			t.Errorf("%s: another source is blocked too: %v", what, err)
		}
		if _, out, err := k.RedeemCode(k.confirms(), commands.RedeemCode{Code: k.issue("rollout").Code, MAC: spare}); err != nil || len(out.Events) == 0 {
			t.Errorf("%s: an operator is blocked: %v", what, err)
		}
		k.Clock.Advance(30 * minute)
		_, out, err := k.RedeemCode(k.from(ips[0]), commands.RedeemCode{Code: good, MAC: phone})
		k.news(out, err, "code.redeemed")
	}
}

func TestSlowGuessesOfASourceAreForgiven(t *testing.T) {
	k := start(t)
	for i := range 40 {
		if err := wrong(k, "192.0.2.7", domain.MAC(fmt.Sprintf("0015650000%02x", i))); !errors.Is(err, domain.ErrCodeRefused) {
			t.Fatalf("guess %d: %v", i, err)
		}
		k.Clock.Advance(2 * minute)
	}
}

// A phone that guesses five times waits a quarter of an hour, then twice as long, up to a day.
func TestGuessesPerMAC(t *testing.T) {
	k := start(t)
	for _, want := range []time.Duration{15 * minute, 30 * minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 16 * time.Hour, 24 * time.Hour, 24 * time.Hour} {
		for i := range 5 {
			if err := wrong(k, fmt.Sprintf("198.51.100.%d", i), phone); !errors.Is(err, domain.ErrCodeRefused) {
				t.Fatalf("before %s, guess %d: %v", want, i, err)
			}
		}
		var wait *commands.GuessError
		if err := wrong(k, "203.0.113.1", phone); !errors.As(err, &wait) || wait.RetryAfter != want {
			t.Fatalf("%v, want to wait %s", err, want)
		}
		k.Clock.Advance(want)
	}
}

// More than 20 wrong codes a second for ten seconds are a flood, until they have passed.
func TestAFloodOfWrongCodes(t *testing.T) {
	var g commands.Guard
	now := time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)
	for i := range 201 {
		if g.Flooded(now) {
			t.Fatalf("a flood after %d", i)
		}
		g.Wrong("", "", now.Add(time.Duration(i)*49*time.Millisecond))
	}
	for i, want := range []bool{true, false, false} {
		if after := []time.Duration{9 * time.Second, 10 * time.Second, time.Hour}[i]; g.Flooded(now.Add(after)) != want {
			t.Errorf("after %s it is no %v", after, want)
		}
	}
}

// With the instance's budget spent, a good rollout code and a wrong one get the same answer, self-service codes
// still work, an operator can confirm, and after a week all is well.
func TestTheGlobalBudget(t *testing.T) {
	k := start(t)
	k.Service().Guard().Global = 20
	rollout, own := k.issue("rollout"), k.issue("self_service")
	guess := func(i int) error {
		return wrong(k, fmt.Sprintf("198.51.100.%d", i), domain.MAC(fmt.Sprintf("0015650000%02x", i)))
	}
	for i := range 20 {
		if err := guess(i); !errors.Is(err, domain.ErrCodeRefused) {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	spent := guess(20)
	_, _, good := k.redeem(rollout.Code, spare)
	if !errors.Is(spent, commands.ErrGuesses) || fmt.Sprint(spent) != fmt.Sprint(good) {
		t.Errorf("a wrong code: %v; a good one: %v", spent, good)
	}
	if k.count("code-", "code.redeemed") != 0 {
		t.Error("a rollout code was redeemed without confirmation")
	}
	_, out, err := k.redeem(own.Code, phone)
	k.news(out, err, "code.redeemed")
	_, out, err = k.RedeemCode(k.confirms(), commands.RedeemCode{Code: rollout.Code, MAC: spare, Vendor: "Testphone"})
	k.news(out, err, "code.redeemed")
	k.Clock.Advance(7 * 24 * time.Hour)
	_, out, err = k.redeem(k.issue("rollout").Code, "0015650000aa")
	k.news(out, err, "code.redeemed")
	if n := k.Service().Guard().Total(k.Clock.Now()); n != 0 {
		t.Errorf("%d guesses are a week old and count", n)
	}
}

// Typing errors of an operator who confirms block nobody's phone.
func TestAConfirmationDrawsOnNoBudget(t *testing.T) {
	k := start(t)
	for range 30 {
		if _, _, err := k.RedeemCode(k.confirms(), commands.RedeemCode{Code: "000000000000", MAC: phone}); err != domain.ErrCodeRefused {
			t.Fatal(err)
		}
	}
	_, out, err := k.redeem(k.issue("rollout").Code, phone)
	k.news(out, err, "code.redeemed")
	if n := k.Service().Guard().Total(k.Clock.Now()); n != 0 {
		t.Errorf("%d guesses", n)
	}
	var last error
	for range 6 { // the right to confirm is not a confirmation
		_, _, last = k.RedeemCode(k.operator(), commands.RedeemCode{Code: "000000000000", MAC: spare})
	}
	if !errors.Is(last, commands.ErrGuesses) {
		t.Errorf("without a confirmation: %v", last)
	}
}

// A dead code presented again and again is one event per hour, with a count (D27).
func TestDenialsOfACode(t *testing.T) {
	k := start(t)
	code := k.issue("self_service")
	k.Clock.Advance(10 * minute) // 9:40
	for i := range 4 {
		_, _, err := k.RedeemCode(k.from(fmt.Sprintf("198.51.100.%d", i)), commands.RedeemCode{Code: code.Code, MAC: phone})
		if err != domain.ErrCodeRefused {
			t.Fatal(err)
		}
	}
	k.ok(k.RecordDenials(k.ctx, false))
	if k.count("code-", "code.denied") != 0 {
		t.Error("recorded before the hour is over")
	}
	k.Clock.Advance(20 * minute) // 10:00
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault { return commandstest.Fault{Before: domain.ErrReadOnly} })
	if err := k.RecordDenials(k.ctx, false); !errors.Is(err, domain.ErrReadOnly) {
		t.Error(err)
	}
	k.Faults.Set(nil)
	k.ok(k.RecordDenials(k.ctx, false))
	k.ok(k.RecordDenials(k.ctx, true))
	_, e := last[domain.CodeDenied](k)
	if n := k.count("code-", "code.denied"); n != 1 || e.Count != 4 || e.CodeID != code.ID || !e.Hour.Equal(commandstest.Start.Truncate(time.Hour)) {
		t.Errorf("%d events, %+v", n, e)
	}
}

func TestRevokingACode(t *testing.T) {
	k := start(t)
	revoke := func(id domain.CodeID) error { _, err := k.RevokeCode(k.ctx, commands.RevokeCode{ID: id}); return err }
	code, used, old := k.issue("rollout"), k.issue("rollout"), k.issue("self_service")
	k.ok(revoke(code.ID))
	if k.count("code-", "code.revoked") != 1 {
		t.Fatal("not recorded")
	}
	k.refused(nil, func() error { return revoke(code.ID) })
	_, _, err := k.redeem(used.Code, phone)
	k.ok(err)
	k.refused(domain.ErrCodeRedeemed, func() error { return revoke(used.ID) })
	k.Clock.Advance(10 * minute)
	k.refused(domain.ErrCodeExpired, func() error { return revoke(old.ID) })
	k.refused(domain.ErrCodeUnknown, func() error { return revoke("nobody") })
}

// Codes end on record, in batches, and the key of a day is destroyed when the last of its codes is dead and no
// phone can repeat any more: then nobody can read or find the digits (D19).
func TestExpiringCodes(t *testing.T) {
	k := start(t)
	epoch := domain.Subject("codeepoch-2026.11.02")
	var codes []commands.IssuedCode
	for range 600 {
		codes = append(codes, k.issue("self_service"))
	}
	long := k.issue("rollout")
	expire := func() int { t.Helper(); n, err := k.ExpireCodes(k.ctx); k.ok(err); return n }
	k.Clock.Advance(10*minute - 1)
	if n := expire(); n != 0 {
		t.Errorf("%d expired before their end", n)
	}
	k.Clock.Advance(1)
	if n := expire(); n != 600 {
		t.Errorf("%d of 600 expired", n)
	}
	if n := expire(); n != 0 || k.count("code-", "code.expired") != 600 {
		t.Errorf("%d expired again", n)
	}
	// The rollout code is redeemed in its last minute.
	k.Clock.Advance(7*24*time.Hour - 11*minute)
	_, _, err := k.redeem(long.Code, phone)
	k.ok(err)
	expire()
	k.Clock.Advance(domain.RepeatWindow - 1)
	expire()
	if _, _, err := k.redeem(long.Code, phone); err != nil || !k.Vault.Has(epoch) {
		t.Errorf("the phone cannot repeat: %v", err)
	}
	k.Clock.Advance(1)
	expire()
	if k.Vault.Has(epoch) || k.count(string(epoch), "key.destroyed") != 1 {
		t.Error("the key outlives its codes")
	}
	if k.issue("rollout"); !k.Vault.Has(domain.Epoch(k.Clock.Now())) {
		t.Error("today has no key")
	}
	_, e := last[domain.CodeRedeemed](k)
	for _, r := range k.Log.Events() {
		if r.Type == "code.issued" {
			ev, err := r.Event()
			k.ok(err)
			if issued := ev.(domain.CodeIssued); issued.CodeID == codes[0].ID || issued.CodeID == e.CodeID {
				if _, err := k.Vault.Open(k.ctx, issued.Digits.Sealed); !errors.Is(err, domain.ErrErased) {
					t.Errorf("the digits still open: %v", err)
				}
			}
		}
	}
}

// A code that is to be erased is taken back, and it is said when its digits are gone: not before the day is over, and
// the other codes of that day are dead. And by then they are.
func TestErasingACode(t *testing.T) {
	k := start(t)
	erase := func(id domain.CodeID, events ...string) commands.CodeErasure {
		t.Helper()
		done, out, err := k.EraseCode(k.ctx, commands.EraseCode{ID: id})
		k.news(out, err, events...)
		return done
	}
	gone, other := k.issue("rollout"), k.issue("rollout")
	if done := erase(gone.ID, "code.revoked"); done.Destroyed || done.Alive != 1 || done.By.Before(other.ValidUntil) {
		t.Errorf("%+v, and another lives until %s", done, other.ValidUntil)
	}
	if _, _, err := k.redeem(gone.Code, phone); !errors.Is(err, domain.ErrCodeRefused) {
		t.Error(err)
	}
	done := erase(other.ID, "code.revoked")
	if midnight := time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC); done.Destroyed || done.Alive != 0 || done.By.Sub(midnight) > time.Hour {
		t.Errorf("%+v of the last one, today", done)
	}
	for !k.Clock.Now().After(done.By) {
		_, err := k.ExpireCodes(k.ctx)
		k.ok(err)
		k.Clock.Advance(minute / 2)
	}
	if again := erase(gone.ID); !again.Destroyed || k.Vault.Has("codeepoch-2026.11.02") {
		t.Errorf("%+v when its time is over", again)
	}
	k.refused(domain.ErrCodeUnknown, func() error { _, _, err := k.EraseCode(k.ctx, commands.EraseCode{ID: "nobody"}); return err })
}

// A program that stood still for months destroys the keys of the days before all the same.
func TestEpochsOfLongAgo(t *testing.T) {
	k := start(t)
	k.issue("self_service")
	k.Clock.Advance(200 * 24 * time.Hour)
	k.crash()
	for range 2 {
		_, err := k.ExpireCodes(k.ctx)
		k.ok(err)
		k.Clock.Advance(domain.RepeatWindow)
	}
	if k.Vault.Has("codeepoch-2026.11.02") {
		t.Error("its key is still there")
	}
}

// One code that cannot be decided over keeps no other alive.
func TestAPoisonedCodeStopsNoOther(t *testing.T) {
	k := start(t)
	k.issue("self_service")
	r, _ := last[domain.CodeIssued](k)
	k.issue("self_service")
	k.Clock.Advance(10 * minute)
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Stream == r.Stream {
			return commandstest.Fault{Before: errors.New("torn page")}
		}
		return commandstest.Fault{}
	})
	if n, err := k.ExpireCodes(k.ctx); n != 1 || err == nil || !strings.Contains(err.Error(), "torn page") {
		t.Errorf("%d expired, %v", n, err)
	}
}

func TestCodeOfUser(t *testing.T) {
	k := start(t)
	if code, ok := k.CodeOfUser(" 1234-5678-9012 "); !ok || code != "123456789012" {
		t.Error(code, ok)
	}
	for _, user := range []string{"", "admin", "1234", "12345678901x"} {
		if code, ok := k.CodeOfUser(user); ok {
			t.Errorf("%q is the code %s", user, code)
		}
	}
}

func TestACancelledRedemptionSaysSo(t *testing.T) {
	k := start(t)
	code := k.issue("rollout")
	ctx, cancel := context.WithCancel(k.ctx)
	cancel()
	if _, _, err := k.RedeemCode(ctx, commands.RedeemCode{Code: code.Code, MAC: phone}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
