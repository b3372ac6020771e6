package mbg_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ledgerline/adapters/mbg/wire"
	"ledgerline/commands"
)

// Every exchange leaves its trace: what, which try, how it ended; a body only as a hash that tells equal ones, an answer
// only where the mapping does not fit it, without secrets.
func TestTraces(t *testing.T) {
	o := ready(t)
	o.do("fault", map[string]string{"operation": "create_user", "kind": "500", "count": "2"})
	line := o.extension("l1", "4001")
	o.remote(line)
	o.settle()
	o.holds(line, "4001")
	var tries []int
	bodies := map[string]bool{}
	for _, e := range o.Service.Exchanges(edge) {
		if e.At.IsZero() || e.Attempt == 0 || e.Method == "" || e.Answer != "" {
			t.Errorf("%+v", e)
		}
		if e.Operation == "create_user" {
			tries = append(tries, e.Attempt)
			bodies[e.Body] = true
		}
	}
	if !slices.Equal(tries, []int{1, 2, 3}) || len(bodies) != 1 || bodies[""] {
		t.Errorf("tries %v, bodies %v", tries, bodies)
	}
	o.do("fault", map[string]string{"operation": "get_user", "kind": "wrong_type", "count": "1"})
	_, err := o.Service.RetrySIPUser(o.ctx, commands.RetrySIPUser{ID: o.user(line).ID})
	o.ok(err)
	o.settle()
	if !slices.ContainsFunc(o.Service.Exchanges(edge), func(e commands.BorderExchange) bool {
		return e.Class == commands.ClassProtocol && strings.HasPrefix(e.Answer, "<!doctype")
	}) {
		t.Error("no trace keeps the answer that could not be read")
	}
	o.noSecrets()
}

// The half second of rounding in a Date is no reason to correct the clock; twenty are.
func TestASmallOffsetIsCorrected(t *testing.T) {
	o := open(t, "")
	o.do("start", nil)
	o.consumer()
	o.do("clock", map[string]string{"ahead": "20s"})
	o.ok(o.request())
	log := o.sim.Log()
	at := log[len(log)-1]
	if off := time.Unix(at.Stamp, 0).Sub(o.Clock.Now()); off < 18*time.Second || off > 22*time.Second {
		t.Errorf("signed %s off our clock, of a gateway 20 s ahead: %+v", off, at)
	}
}

func TestMasked(t *testing.T) {
	for text, want := range map[string]string{
		`{"id":"1","set_side_password": "a\"b,c","icp_pwd":12}`: `{"id":"1","set_side_password": [redacted],"icp_pwd":[redacted]}`,
		`{"name":"x","secret":"cut o`:                           `{"name":"x","secret":[redacted]`,
		`<u id="1"><icpPassword kind="x">abc</icpPassword>`:     `<u id="1"><icpPassword kind="x">[redacted]</icpPassword>`,
		`<u password="abc" name="n"/>`:                          `<u password=[redacted] name="n"/>`,
		`a=1&oauth_token=zz&b=2`:                                `a=1&oauth_token=[redacted]&b=2`,
		`nothing of the kind`:                                   `nothing of the kind`,
	} {
		if got := wire.Masked(text); got != want {
			t.Errorf("%s\n%s\nwant\n%s", text, got, want)
		}
	}
}
