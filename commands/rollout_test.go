package commands_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// rollout starts the rollout r1 of acme to the category desk.
func (k *kit) rollout(plan ...domain.RolloutPlan) {
	k.t.Helper()
	_, out, err := k.CreateRollout(k.ctx, commands.CreateRollout{ID: "r1", TenantID: "acme", CategoryID: desk, Users: plan, All: len(plan) == 0})
	k.news(out, err, "rollout.rows_planned", "rollout.started")
}

func (k *kit) row(n int) domain.RolloutRow {
	k.t.Helper()
	return state[domain.RolloutRow](k, domain.RolloutID("r1").Row(n))
}

// digitsOf are the digits of a row's code.
func (k *kit) digitsOf(n int) string {
	k.t.Helper()
	clear, err := k.Vault.Open(k.ctx, k.row(n).Digits.Sealed)
	k.ok(err)
	return clear
}

// rows wants the rows of r1 to be in these states, from the first on, and a row that waits to have one code that is alive.
func rows(states ...string) func(*kit) error {
	return func(k *kit) error {
		for i, want := range states {
			row := k.row(i + 1)
			if row.State != want {
				return fmt.Errorf("row %d is %q (%s), want %s", i+1, row.State, row.Cause, want)
			}
			code := state[domain.Code](k, row.Code)
			if row.Waits() && (code.CodeID != row.CodeID || code.Dead(k.Clock.Now()) != nil) {
				return fmt.Errorf("row %d waits for a code that is %v", i+1, code.Dead(k.Clock.Now()))
			}
		}
		return nil
	}
}

// three defines two more users.
func (k *kit) three() {
	k.t.Helper()
	for _, id := range []domain.UserID{"bert", "cleo"} {
		_, _, err := k.DefineUser(k.ctx, commands.DefineUser{ID: id, TenantID: "acme", DisplayName: string(id)})
		k.ok(err)
	}
}

func TestARolloutGivesEveryUserACode(t *testing.T) {
	k := start(t)
	k.three()
	k.rollout()
	k.settle()
	k.ok(rows(domain.RowPending, domain.RowPending, domain.RowPending)(k))
	digits := []string{k.digitsOf(1), k.digitsOf(2), k.digitsOf(3)}
	for i, user := range []domain.UserID{"anna", "bert", "cleo"} {
		row := k.row(i + 1)
		code := state[domain.Code](k, row.Code)
		if row.UserID != user || code.UserID != user || code.Purpose != "rollout" || code.RolloutID != "r1" || code.Row != i+1 || !code.ValidUntil.Equal(commandstest.Start.Add(7*24*time.Hour)) {
			t.Errorf("row %d: %+v %+v", i+1, row, code.CodeIssued)
		}
	}
	slices.Sort(digits)
	if len(slices.Compact(digits)) != 3 || strings.Contains(k.logText(), digits[0]) {
		t.Error("digits are given twice, or stand in the log")
	}
	_, _, err := k.redeem(k.digitsOf(2), phone)
	k.ok(err)
	k.settle()
	k.ok(rows(domain.RowPending, domain.RowRegistered, domain.RowPending)(k))
	if d := k.device(domain.DeviceID(phone)); k.row(2).DeviceID != d.ID || d.UserID != "bert" {
		t.Errorf("the phone is %s's", d.UserID)
	}
	k.Clock.Advance(7 * 24 * time.Hour)
	if n, err := k.ExpireCodes(k.ctx); n != 2 || err != nil {
		t.Errorf("%d expired: %v", n, err)
	}
	k.settle()
	k.ok(rows(domain.RowExpired, domain.RowRegistered, domain.RowExpired)(k))

	// All that have no phone get new codes; who has one keeps it.
	_, err = k.ReissueRollout(k.ctx, commands.RolloutRows{ID: "r1"})
	k.ok(err)
	k.settle()
	k.ok(rows(domain.RowPending, domain.RowRegistered, domain.RowPending)(k))
	k.refused(domain.ErrRolloutRowRegistered, func() error {
		_, err := k.ReissueRollout(k.ctx, commands.RolloutRows{ID: "r1", Rows: []int{2}})
		return err
	})
}

// logText is all that the log holds.
func (k *kit) logText() string {
	var b strings.Builder
	for _, r := range k.Log.Events() {
		b.Write(r.Data)
		b.Write(r.Metadata)
	}
	return b.String()
}

func TestACancelledRolloutTakesItsCodesBack(t *testing.T) {
	k := start(t)
	k.three()
	k.rollout()
	k.settle()
	_, _, err := k.redeem(k.digitsOf(1), phone)
	k.ok(err)
	_, err = k.CancelRollout(k.ctx, commands.RolloutRows{ID: "r1", Rows: []int{2}})
	k.ok(err)
	k.settle()
	k.ok(rows(domain.RowRegistered, domain.RowCancelled, domain.RowPending)(k))
	k.refused(domain.ErrCodeRedeemed, func() error {
		_, err := k.CancelRollout(k.ctx, commands.RolloutRows{ID: "r1", Rows: []int{1}})
		return err
	})
	_, err = k.CancelRollout(k.ctx, commands.RolloutRows{ID: "r1"})
	k.ok(err)
	k.settle()
	k.ok(rows(domain.RowRegistered, domain.RowCancelled, domain.RowCancelled)(k))
	out, err := k.CancelRollout(k.ctx, commands.RolloutRows{ID: "r1"})
	k.news(out, err)
	k.refused(domain.ErrCodeRefused, func() error { _, _, err := k.redeem(k.digitsOf(3), spare); return err })
}

// More time leaves the printed digits as they are, on the day of their issue and later, and never two codes alive.
func TestAnExtendedRolloutKeepsItsDigits(t *testing.T) {
	k := start(t)
	k.rollout(domain.RolloutPlan{UserID: "anna"})
	k.settle()
	before := k.digitsOf(1)
	for day := range 3 {
		k.Clock.Advance(5 * 24 * time.Hour)
		_, err := k.ExtendRollout(k.ctx, commands.RolloutRows{ID: "r1"})
		k.ok(err)
		k.settle()
		k.ok(rows(domain.RowPending)(k))
		if got := k.digitsOf(1); got != before || !k.row(1).ValidUntil.Equal(k.Clock.Now().Add(7*24*time.Hour)) {
			t.Fatalf("after extension %d: same digits %v, until %s", day+1, got == before, k.row(1).ValidUntil)
		}
		_, err = k.ExpireCodes(k.ctx)
		k.ok(err)
	}
	_, _, err := k.redeem(before, phone)
	k.ok(err)
	k.settle()
	k.ok(rows(domain.RowRegistered)(k))
}

// A phone whose MAC was planned is the only one its code takes. One that nobody planned waits in quarantine, without a
// line, until somebody confirms it; a spent budget of wrong codes changes nothing about that.
func TestAnUnplannedPhoneWaitsInQuarantine(t *testing.T) {
	k := start(t)
	k.three()
	k.line("l1", "acme", "anna")
	_, out, err := k.DefineCategory(k.ctx, commands.DefineCategory{ID: "lobby", TenantID: "acme", Name: "To be confirmed", Kind: "provisioning"})
	k.news(out, err, "category.defined")
	_, _, err = k.CreateRollout(k.ctx, commands.CreateRollout{ID: "r1", TenantID: "acme", CategoryID: desk, QuarantineID: "lobby",
		Users: []domain.RolloutPlan{{UserID: "anna"}, {UserID: "bert", MAC: "00:15:65:1A:2B:3D"}}})
	k.ok(err)
	k.settle()
	k.refused(domain.ErrRolloutRowPlain, func() error {
		_, err := k.ConfirmRolloutRow(k.ctx, commands.ConfirmRolloutRow{ID: "r1", Row: 1})
		return err
	})
	k.Guard().Global = 1
	for range 3 {
		_, _, _ = k.redeem("000000000000", "0015650000ee")
	}
	if !k.Guard().Exhausted(k.Clock.Now()) {
		t.Fatal("the budget is not spent")
	}
	k.refused(domain.ErrCodeRefused, func() error { // to another tenant's Users the code is any wrong one
		ctx := commands.WithCaller(k.ctx, commands.Caller{Actor: "users", Tenants: []domain.TenantID{"globex"}})
		_, err := k.ProvisionPhone(ctx, commands.ProvisionPhone{Code: k.digitsOf(1), MAC: phone, Username: "anna", Password: "s3cret"})
		return err
	})
	k.refused(commands.ErrQuarantined, func() error { // innovaphone Users would give it an account
		_, err := k.ProvisionPhone(k.ctx, commands.ProvisionPhone{Code: k.digitsOf(1), MAC: phone, Username: "anna", Password: "s3cret"})
		return err
	})
	_, _, err = k.RedeemCode(k.from("192.0.2.8"), commands.RedeemCode{Code: k.digitsOf(1), MAC: phone})
	k.ok(err)
	k.settle()
	k.ok(rows(domain.RowQuarantined, domain.RowPending)(k))
	if d := k.device(domain.DeviceID(phone)); d.CategoryID != "lobby" || d.UserID != "" || len(d.Lines) != 0 {
		t.Errorf("in quarantine it is in %s, of %q, with %v", d.CategoryID, d.UserID, d.Lines)
	}
	k.refused(domain.ErrUserUnknown, func() error {
		_, err := k.ConfirmRolloutRow(k.ctx, commands.ConfirmRolloutRow{ID: "r1", Row: 1, UserID: "bert"})
		return err
	})
	_, err = k.ConfirmRolloutRow(k.ctx, commands.ConfirmRolloutRow{ID: "r1", Row: 1, UserID: "anna"})
	k.ok(err)
	k.settle()
	k.ok(rows(domain.RowRegistered, domain.RowPending)(k))
	if d := k.device(domain.DeviceID(phone)); d.CategoryID != desk || d.UserID != "anna" || len(d.Lines) != 1 {
		t.Errorf("confirmed it is in %s, of %q, with %v", d.CategoryID, d.UserID, d.Lines)
	}
	k.Guard().Global = 0
	k.refused(domain.ErrCodeRefused, func() error {
		_, _, err := k.RedeemCode(k.from("192.0.2.8"), commands.RedeemCode{Code: k.digitsOf(2), MAC: phone})
		return err
	})
	_, _, err = k.RedeemCode(k.from("192.0.2.8"), commands.RedeemCode{Code: k.digitsOf(2), MAC: spare})
	k.ok(err)
	k.settle()
	k.ok(rows(domain.RowRegistered, domain.RowRegistered)(k))
}

// A phone in quarantine that nobody vouches for does not stand in its user's way: the row gets another code when it is
// named, and what the phone was there by is no news any more.
func TestAStrangerInQuarantineIsPassedOver(t *testing.T) {
	k := start(t)
	k.three()
	_, out, err := k.DefineCategory(k.ctx, commands.DefineCategory{ID: "lobby", TenantID: "acme", Name: "To be confirmed", Kind: "provisioning"})
	k.news(out, err, "category.defined")
	_, _, err = k.CreateRollout(k.ctx, commands.CreateRollout{ID: "r1", TenantID: "acme", CategoryID: desk, QuarantineID: "lobby", Users: []domain.RolloutPlan{{UserID: "anna"}, {UserID: "bert"}}})
	k.ok(err)
	k.settle()
	_, _, err = k.redeem(k.digitsOf(1), phone)
	k.ok(err)
	k.settle()
	before := k.row(2).CodeID
	for _, named := range [][]int{nil, {1}} {
		k.ok(rows(domain.RowQuarantined, domain.RowPending)(k))
		_, err = k.ReissueRollout(k.ctx, commands.RolloutRows{ID: "r1", Rows: named})
		k.ok(err)
		k.settle()
	}
	k.ok(rows(domain.RowPending, domain.RowPending)(k))
	if k.row(2).CodeID != before {
		t.Error("a row that waits got another code without being named")
	}
	k.refused(domain.ErrRolloutRowPlain, func() error {
		_, err := k.ConfirmRolloutRow(k.ctx, commands.ConfirmRolloutRow{ID: "r1", Row: 1})
		return err
	})
	_, _, err = k.redeem(k.digitsOf(1), spare)
	k.ok(err)
	k.settle()
	_, err = k.ConfirmRolloutRow(k.ctx, commands.ConfirmRolloutRow{ID: "r1", Row: 1})
	k.ok(err)
	k.settle()
	k.ok(rows(domain.RowRegistered, domain.RowPending)(k))
	if d := k.device(domain.DeviceID(spare)); d.UserID != "anna" {
		t.Errorf("the phone is %s's", d.UserID)
	}
	if d := k.device(domain.DeviceID(phone)); d.UserID != "" || d.CategoryID != "lobby" {
		t.Errorf("the stranger is %s's in %s", d.UserID, d.CategoryID)
	}
	k.refused(domain.ErrRolloutRowSettled, func() error {
		_, err := k.ExtendRollout(k.ctx, commands.RolloutRows{ID: "r1", Rows: []int{2, 1}})
		return err
	})
}

func TestWhatARolloutRefuses(t *testing.T) {
	k := start(t)
	_, _, err := k.DefineUser(k.ctx, commands.DefineUser{ID: "gina", TenantID: "globex", DisplayName: "Gina"})
	k.ok(err)
	k.ok(func() error {
		_, _, err := k.DefineCategory(k.ctx, commands.DefineCategory{ID: "plain", TenantID: "acme", Name: "x", Kind: "plain"})
		return err
	}())
	anna := []domain.RolloutPlan{{UserID: "anna"}}
	for name, c := range map[string]struct {
		want error
		in   commands.CreateRollout
	}{
		"nobody":                        {commands.ErrInvalid, commands.CreateRollout{TenantID: "acme", CategoryID: desk}},
		"named and all":                 {commands.ErrInvalid, commands.CreateRollout{TenantID: "acme", CategoryID: desk, Users: anna, All: true}},
		"twice":                         {commands.ErrInvalid, commands.CreateRollout{TenantID: "acme", CategoryID: desk, Users: []domain.RolloutPlan{{UserID: "anna"}, {UserID: "anna"}}}},
		"no MAC":                        {commands.ErrInvalid, commands.CreateRollout{TenantID: "acme", CategoryID: desk, Users: []domain.RolloutPlan{{UserID: "anna", MAC: "x"}}}},
		"an id with a dot":              {commands.ErrInvalid, commands.CreateRollout{ID: "a.1", TenantID: "acme", CategoryID: desk, Users: anna}},
		"longer than can be looked up":  {commands.ErrInvalid, commands.CreateRollout{TenantID: "acme", CategoryID: desk, Users: anna, ValidForS: 8 * 86400}},
		"quarantine is where it leads":  {commands.ErrInvalid, commands.CreateRollout{TenantID: "acme", CategoryID: desk, QuarantineID: desk, Users: anna}},
		"too many":                      {commands.ErrInvalid, commands.CreateRollout{TenantID: "acme", CategoryID: desk, Users: make([]domain.RolloutPlan, domain.MaxRolloutRows+1)}},
		"a tenant without users":        {commands.ErrInvalid, commands.CreateRollout{TenantID: domain.Master, CategoryID: "spare", All: true}},
		"somebody unknown":              {commands.ErrInvalid, commands.CreateRollout{TenantID: "acme", CategoryID: desk, Users: []domain.RolloutPlan{{UserID: "nobody"}}}},
		"somebody else's user":          {commands.ErrInvalid, commands.CreateRollout{TenantID: "acme", CategoryID: desk, Users: []domain.RolloutPlan{{UserID: "gina"}}}},
		"a category codes cannot enter": {domain.ErrNotProvisioning, commands.CreateRollout{TenantID: "acme", CategoryID: "plain", Users: anna}},
		"somebody else's category":      {domain.ErrCategoryOfOtherTenant, commands.CreateRollout{TenantID: "globex", CategoryID: desk, All: true}},
	} {
		if c.in.CategoryID == "spare" {
			_, _, err := k.DefineCategory(k.ctx, commands.DefineCategory{ID: "spare", TenantID: domain.Master, Name: "x", Kind: "provisioning"})
			k.ok(err)
		}
		t.Run(name, func(t *testing.T) {
			k.refused(c.want, func() error { _, _, err := k.CreateRollout(k.ctx, c.in); return err })
		})
	}
	k.rollout(anna...)
	k.refused(domain.ErrRolloutExists, func() error {
		_, _, err := k.CreateRollout(k.ctx, commands.CreateRollout{ID: "r1", TenantID: "acme", CategoryID: desk, Users: anna})
		return err
	})
	k.refused(domain.ErrRolloutUnknown, func() error {
		_, err := k.CancelRollout(k.ctx, commands.RolloutRows{ID: "nobody"})
		return err
	})
	k.refused(domain.ErrRolloutRow, func() error {
		_, err := k.ExtendRollout(k.ctx, commands.RolloutRows{ID: "r1", Rows: []int{2}})
		return err
	})
}

func TestWhatResendRefuses(t *testing.T) {
	k := start(t)
	k.rollout(domain.RolloutPlan{UserID: "anna"})
	k.settle()
	resend := func(rows ...int) func() error {
		return func() error {
			_, err := k.ResendRollout(k.ctx, commands.RolloutRows{ID: "r1", Rows: rows})
			return err
		}
	}
	k.refused(domain.ErrNoUsers, resend())
	_, err := k.SetUsersKey(k.ctx, commands.SetUsersKey{ID: "acme", Key: "a-password-of-users"})
	k.ok(err)
	k.refused(domain.ErrRolloutRowOpen, resend(1))
	k.refused(domain.ErrRolloutRow, resend(2))
}

// A rollout stopped in its midst goes on with what is missing.
func TestARolloutGoesOnWhereItWasStopped(t *testing.T) {
	k := start(t)
	k.three()
	k.rollout()
	n := 0
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Append" {
			if n++; n > 3 {
				return commandstest.Fault{After: errors.New("died")}
			}
		}
		return commandstest.Fault{}
	})
	if err := k.React(k.ctx); err == nil {
		t.Fatal("it was not stopped")
	}
	k.crash()
	k.settle()
	k.ok(rows(domain.RowPending, domain.RowPending, domain.RowPending)(k))
	if issued, rows := k.count("code-", "code.issued"), k.count("rolloutrow-", "rollout.row_issued"); issued != 3 || rows != 3 {
		t.Errorf("%d codes for %d rows", issued, rows)
	}
}

// Of 100 phones that try the codes of a rollout at once, each code takes one: the history of each code by itself is
// linearizable. LEDGERLINE_ROLLOUT_ROWS makes it as many rows (make test-rollout).
func TestARolloutsCodesAreAcceptedOnce(t *testing.T) {
	rows := 20
	if text := os.Getenv("LEDGERLINE_ROLLOUT_ROWS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > domain.MaxRolloutRows {
			t.Fatalf("LEDGERLINE_ROLLOUT_ROWS is %q", text)
		}
		rows = n
	}
	k := start(t)
	plan := make([]domain.RolloutPlan, rows)
	for i := range plan {
		plan[i].UserID = domain.UserID(fmt.Sprintf("u%d", i))
		_, _, err := k.DefineUser(k.ctx, commands.DefineUser{ID: plan[i].UserID, TenantID: "acme", DisplayName: "x"})
		k.ok(err)
	}
	k.rollout(plan...)
	k.settle()
	digits := make([]string, rows)
	for i := range digits {
		digits[i] = k.digitsOf(i + 1)
	}
	const redeemers = 100
	type try struct {
		row int
		mac domain.MAC
	}
	var clock atomic.Int64
	histories := make([][]porcupine.Operation, redeemers)
	var all sync.WaitGroup
	for who := range redeemers {
		all.Go(func() {
			for row := who % 10; row < rows; row += 10 { // ten redeemers race for each code
				in := try{row, domain.MAC(fmt.Sprintf("0015%02x%06x", who, row))}
				call := clock.Add(1)
				_, _, err := k.RedeemCode(k.confirms(), commands.RedeemCode{Code: digits[row], MAC: in.mac, Vendor: "Testphone"})
				if err != nil && !errors.Is(err, domain.ErrCodeRefused) {
					t.Errorf("row %d: %v", row+1, err)
				}
				histories[who] = append(histories[who], porcupine.Operation{ClientId: who, Input: in, Call: call, Output: err == nil, Return: clock.Add(1)})
			}
		})
	}
	all.Wait()
	once := porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			codes := make([][]porcupine.Operation, rows)
			for _, o := range history {
				row := o.Input.(try).row
				codes[row] = append(codes[row], o)
			}
			return codes
		},
		Init: func() any { return domain.MAC("") },
		Step: func(state, input, output any) (bool, any) {
			by, mac := state.(domain.MAC), input.(try).mac
			if by == "" || by == mac {
				return output.(bool), mac
			}
			return !output.(bool), by
		},
	}
	if !porcupine.CheckOperations(once, slices.Concat(histories...)) {
		t.Error("no order of the calls explains the answers")
	}
	if n := k.count("code-", "code.redeemed"); n != rows {
		t.Errorf("%d of %d codes were redeemed", n, rows)
	}
	k.settle()
	for i := range rows {
		if row := k.row(i + 1); row.State != domain.RowRegistered {
			t.Errorf("row %d is %s", i+1, row.State)
		}
	}
}
