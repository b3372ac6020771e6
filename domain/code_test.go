package domain_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ledgerline/domain"
)

func TestCode(t *testing.T) {
	at := time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)
	end := at.Add(10 * time.Minute)
	const phone, other = domain.MAC("0015651a2b3c"), domain.MAC("0015651a2b3d")
	issued := domain.CodeIssued{CodeID: "c1", TenantID: "acme", CategoryID: "desk", UserID: "anna", Purpose: "self_service", Digits: stored(""), IssuedAt: at, ValidUntil: end}
	bound := issued
	bound.MAC = phone
	redeemed := domain.CodeRedeemed{MAC: phone, DeviceID: "d1", RedeemedAt: at, CodeID: "c1", TenantID: "acme", CategoryID: "desk", UserID: "anna"}
	revoked, expired := domain.CodeRevoked{CodeID: "c1"}, domain.CodeExpired{CodeID: "c1"}
	redeem := func(by domain.MAC, now time.Time) func(domain.Code) ([]domain.Event, error) {
		return func(c domain.Code) ([]domain.Event, error) { return c.Redeem(by, "d1", now) }
	}
	revoke := func(now time.Time) func(domain.Code) ([]domain.Event, error) {
		return func(c domain.Code) ([]domain.Event, error) { return c.Revoke(now) }
	}
	expire := func(now time.Time) func(domain.Code) ([]domain.Event, error) {
		return of(func(c domain.Code) []domain.Event { return c.Expire(now) })
	}
	late := redeemed
	late.RedeemedAt = end.Add(-1)
	check(t, []rule[domain.Code]{
		{"a code is issued", nil, func(c domain.Code) ([]domain.Event, error) { return c.Issue(issued) }, past(issued), nil},
		{"its digits are issued once", past(issued, redeemed), func(c domain.Code) ([]domain.Event, error) { return c.Issue(issued) }, nil, domain.ErrCodeExists},
		{"a phone redeems it", past(issued), redeem(phone, at), past(redeemed), nil},
		{"in the last instant too", past(issued), redeem(phone, end.Add(-1)), past(late), nil},
		{"at exactly its end it is dead", past(issued), redeem(phone, end), nil, domain.ErrCodeExpired},
		{"a recorded expiry holds whatever the clock", past(issued, expired), redeem(phone, at), nil, domain.ErrCodeExpired},
		{"the same phone may repeat", past(issued, redeemed), redeem(phone, at.Add(domain.RepeatWindow-1)), nil, nil},
		{"also after the code's own end", past(issued, late), redeem(phone, end.Add(time.Minute)), nil, nil},
		{"for a quarter of an hour", past(issued, redeemed), redeem(phone, at.Add(domain.RepeatWindow)), nil, domain.ErrCodeRedeemed},
		{"another phone may not", past(issued, redeemed), redeem(other, at), nil, domain.ErrCodeRedeemed},
		{"nobody's redemption repeats nobody's", past(issued), redeem("", end), nil, domain.ErrCodeExpired},
		{"a revoked code is dead", past(issued, revoked), redeem(phone, at), nil, domain.ErrCodeRevoked},
		{"a bound code takes its phone", past(bound), redeem(phone, at), past(redeemed), nil},
		{"and no other", past(bound), redeem(other, at), nil, domain.ErrCodeBound},
		{"what never was is unknown", nil, redeem(phone, at), nil, domain.ErrCodeUnknown},
		{"a denial takes nothing from it", past(issued, domain.CodeDenied{CodeID: "c1", Count: 3}), redeem(phone, at), past(redeemed), nil},
		{"an unused code is revoked", past(issued), revoke(at), past(revoked), nil},
		{"revoking again is no news", past(issued, revoked), revoke(end), nil, nil},
		{"a used code is not revoked", past(issued, redeemed), revoke(at), nil, domain.ErrCodeRedeemed},
		{"nor an expired one", past(issued), revoke(end), nil, domain.ErrCodeExpired},
		{"nor one that never was", nil, revoke(at), nil, domain.ErrCodeUnknown},
		{"its end is recorded", past(issued), expire(end), past(expired), nil},
		{"not before", past(issued), expire(end.Add(-1)), nil, nil},
		{"once", past(issued, expired), expire(end), nil, nil},
		{"not of a used code", past(issued, redeemed), expire(end), nil, nil},
		{"not of a revoked one", past(issued, revoked), expire(end), nil, nil},
		{"not of one that never was", nil, expire(end), nil, nil},
		{"a failed assignment is recorded", past(issued, redeemed), of(func(c domain.Code) []domain.Event { return c.FailAssignment("d1", errors.New("no")) }),
			past(domain.CodeAssignmentFailed{CodeID: "c1", DeviceID: "d1", Cause: "no"}), nil},
		{"once", past(issued, redeemed, domain.CodeAssignmentFailed{Cause: "no"}), of(func(c domain.Code) []domain.Event { return c.FailAssignment("d1", errors.New("no")) }), nil, nil},
	})
}

// Whatever is tried in whatever order, a code is redeemed at most once, and never when it is dead.
func TestACodeIsRedeemedAtMostOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)
		phones := []domain.MAC{"001565000001", "001565000002", "001565000003"}
		history := past(domain.CodeIssued{CodeID: "c1", ValidUntil: at.Add(10 * time.Minute), MAC: rapid.SampledFrom(append(phones, "")).Draw(t, "bound")})
		now, redemptions := at, 0
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "seconds")) * time.Second)
			c := domain.Fold[domain.Code](history)
			var events []domain.Event
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				events, _ = c.Revoke(now)
			case 1:
				events = c.Expire(now)
			default:
				dead := c.Dead(now)
				events, _ = c.Redeem(rapid.SampledFrom(phones).Draw(t, "by"), "d", now)
				if redemptions += len(events); dead != nil && len(events) > 0 {
					t.Fatalf("redeemed although %v", dead)
				}
			}
			history = append(history, events...)
		}
		if redemptions > 1 {
			t.Fatalf("redeemed %d times", redemptions)
		}
		if ends := len(history) - 1; ends > 1 {
			t.Fatalf("a code has one end, not %d", ends)
		}
	})
}

// A code alive at now was issued in one of the epochs that are looked through, and there are at most nine.
func TestLiveEpochs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		issued := time.Unix(rapid.Int64Range(1.6e9, 2.2e9).Draw(t, "issued"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		ttl := time.Duration(rapid.Int64Range(1, int64(domain.MaxCodeTTL)).Draw(t, "ttl"))
		now := issued.Add(time.Duration(rapid.Int64Range(0, int64(ttl+domain.RepeatWindow)).Draw(t, "age")))
		epochs := domain.LiveEpochs(now)
		if len(epochs) > 9 || epochs[0] != domain.Epoch(now) || !slices.Contains(epochs, domain.Epoch(issued)) {
			t.Fatalf("issued %s, now %s: %v", issued.UTC(), now.UTC(), epochs)
		}
	})
	if e := domain.Epoch(time.Date(2026, 11, 3, 0, 30, 0, 0, time.FixedZone("CET", 3600))); e != "codeepoch-2026.11.02" {
		t.Errorf("an epoch is a day of UTC, not %s", e)
	}
}

func TestNormalizeCode(t *testing.T) {
	const want = "123456789012"
	for _, typed := range []string{want, "1234 5678 9012", " 1234-5678-9012 ", "1234.5678.9012", "1234\u00a05678\u202f9012", "123456789012#", "1 2 3 4 5 6 7 8 9 0 1 2", "\t123456789012"} {
		if got, err := domain.NormalizeCode(typed, 12); err != nil || got != want {
			t.Errorf("%q: %q %v", typed, got, err)
		}
	}
	if got, err := domain.NormalizeCode("1234 5678 9012 3456", 16); err != nil || got != "1234567890123456" {
		t.Error(got, err)
	}
	for _, typed := range badCodes {
		if got, err := domain.NormalizeCode(typed, 12); !errors.Is(err, domain.ErrCodeRefused) || got != "" {
			t.Errorf("%q: %q %v", typed, got, err)
		}
	}
}

var badCodes = []string{"", "#", " ", "12345678901", "1234567890123", "１２３４５６７８９０１２", "12345678901O", "123456789012##", "#123456789012", "12345678#9012",
	"1234+56789012", "٠١٢٣٤٥٦٧٨٩٠١", "123456789012\x00", "123456789012\n1", "0x1234567890", "1e11", "-", "\xff123456789012", strings.Repeat("1", 300), "123456789012" + strings.Repeat(" ", 60)}

func FuzzNormalizeCode(f *testing.F) {
	for _, typed := range badCodes {
		f.Add(typed)
	}
	f.Add("1234 5678 9012#")
	f.Add("1234\u00a05678\u202f9012")
	f.Fuzz(func(t *testing.T, typed string) {
		for _, length := range []int{12, 16} {
			digits, err := domain.NormalizeCode(typed, length)
			if err != nil {
				if digits != "" || !errors.Is(err, domain.ErrCodeRefused) {
					t.Fatalf("%q %v", digits, err)
				}
				continue
			}
			if len(digits) != length || strings.Trim(digits, "0123456789") != "" {
				t.Fatalf("%q became %q", typed, digits)
			}
			if again, err := domain.NormalizeCode(digits, length); err != nil || again != digits {
				t.Fatalf("%q is read as %q, %v", digits, again, err)
			}
			if only := strings.Map(func(r rune) rune {
				if r < '0' || r > '9' {
					return -1
				}
				return r
			}, typed); only != digits {
				t.Fatalf("%q has other digits than %q", typed, digits)
			}
		}
	})
}
