package commands_test

import (
	"errors"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// noticed is a tenant with Users to which a phone came by a code.
func noticed(t *testing.T) (*kit, commands.IssuedCode) {
	k := start(t)
	_, err := k.SetUsersKey(k.ctx, commands.SetUsersKey{ID: "acme", Key: "a-password-of-users"})
	k.ok(err)
	code := k.issue("rollout")
	_, _, err = k.redeem(code.Code, phone)
	k.ok(err)
	k.settle()
	if k.count("notice-", "notice.stored") != 1 {
		t.Fatal("no notice")
	}
	return k, code
}

// opens tells whether the key of a secret is still there.
func (k *kit) opens(v domain.Secret) bool {
	_, err := k.Vault.Open(k.ctx, v.Sealed)
	return !errors.Is(err, domain.ErrErased)
}

// digits opens what the notice holds of its code.
func (k *kit) noticeDigits() (string, error) {
	_, n := last[domain.NoticeStored](k)
	return k.Vault.Open(k.ctx, n.Digits.Sealed)
}

// Nobody takes a notice for 30 days: it is dropped, once, and not a moment earlier. What it tells is sealed with a key of its
// own day, which goes with the last notice of it; the key of the code's day goes with the last code of that (D19).
func TestANoticeNobodyTakesIsDropped(t *testing.T) {
	k, code := noticed(t)
	drop := func() int { t.Helper(); n, err := k.DropNotices(k.ctx); k.ok(err); return n }
	expire := func() {
		t.Helper()
		for range 2 {
			_, err := k.ExpireCodes(k.ctx)
			k.ok(err)
			k.Clock.Advance(domain.RepeatWindow)
		}
		_, err := k.ExpireCodes(k.ctx)
		k.ok(err)
	}
	k.Clock.Advance(domain.NoticeKept - 3*time.Hour)
	expire()
	if n := drop(); n != 0 {
		t.Errorf("%d dropped before their time", n)
	}
	if digits, err := k.noticeDigits(); digits != code.Code {
		t.Errorf("the notice cannot be told any more: %v", err)
	}
	if _, issued := last[domain.CodeIssued](k); k.opens(issued.Digits) {
		t.Error("the key of the code's day lasts as long as the notice waits")
	}
	k.Clock.Advance(3 * time.Hour)
	if n := drop(); n != 1 {
		t.Errorf("%d dropped", n)
	}
	if n := drop(); n != 0 || k.count("notice-", "notice.dropped") != 1 {
		t.Error("dropped again")
	}
	expire()
	if _, err := k.noticeDigits(); !errors.Is(err, domain.ErrErased) {
		t.Errorf("the digits outlive the notice: %v", err)
	}
}

// Whoever is told can ask by the code; when it was answered, the digits go with the key of the notice's day.
func TestANoticeThatWasAnswered(t *testing.T) {
	k, code := noticed(t)
	if n, ok, err := k.NoticeOf(k.ctx, "acme", code.Code); !ok || n.MAC != phone || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	for tenant, digits := range map[domain.TenantID]string{"globex": code.Code, "acme": "000000000000"} {
		if _, ok, err := k.NoticeOf(k.ctx, tenant, digits); ok || err != nil {
			t.Errorf("%s sees it: %v", tenant, err)
		}
	}
	for range 2 {
		for _, answered := range []bool{false, true} {
			_, err := k.DeliverNotice(k.ctx, commands.DeliverNotice{Code: code.ID, App: "users", Acknowledged: answered})
			k.ok(err)
		}
	}
	if k.count("notice-", "notice.delivered") != 1 || k.count("notice-", "notice.acknowledged") != 1 {
		t.Error("recorded twice")
	}
	k.Clock.Advance(48 * time.Hour)
	for range 2 {
		_, err := k.ExpireCodes(k.ctx)
		k.ok(err)
		k.Clock.Advance(domain.RepeatWindow)
	}
	if _, err := k.noticeDigits(); !errors.Is(err, domain.ErrErased) {
		t.Errorf("the digits outlive the notice: %v", err)
	}
	if _, ok, err := k.NoticeOf(k.ctx, "acme", code.Code); ok || err != nil {
		t.Errorf("it is found without its digits: %v", err)
	}
}
