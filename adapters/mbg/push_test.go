package mbg_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"slices"
	"strings"
	"testing"
	"time"

	"ledgerline/adapters/mbg/simulator"
	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// quiet swallows what net/http says of connections the simulator cuts.
var quiet = log.New(io.Discard, "", 0)

// SU-1 and the whole story: exchange, node, switching on, an extension, and everything a person may change of it.
func TestStory(t *testing.T) {
	o := ready(t)
	o.everyCheck(map[string]string{"web services reachable": "ok", "consumer accepted": "ok", "verifier": "ok", "token granted": "ok", "ICP of zrh": "open"})
	line := o.extension("l1", "4001")
	o.settle()
	if n := o.writes(); n != 0 {
		t.Fatalf("%d writes for a line that is not remote", n)
	}
	o.remote(line)
	o.settle()
	u := o.holds(line, "4001")
	if u.Availability != "sip" || u.Description != "4001 Ana 4001 [prov]" {
		t.Errorf("%+v", u)
	}
	if p := events[domain.SIPUserPushed](o); len(p) != 1 || p[0].Action != "created" || p[0].Attempts != 1 || p[0].MBGID != u.ID {
		t.Errorf("%+v", p)
	}
	o.everyCheck(map[string]string{"ICP of zrh": "ok"})
	tested, _, err := o.Service.SelfTestGateway(o.ctx, commands.SelfTestGateway{ID: edge, WithProbe: true})
	o.ok(err)
	if !tested.Passed || len(o.sim.State().Users) != 1 {
		t.Errorf("self-test %+v, %d users", tested, len(o.sim.State().Users))
	}
	// SU-7: the password of the phone system changes: one update with it.
	before := o.writes()
	_, err = o.Service.RotateLineSecret(o.ctx, commands.RotateLineSecret{ID: line, Password: "canary-new-pbx"})
	o.ok(err)
	o.settle()
	if u := o.holds(line, "4001"); u.ICPPassword != "canary-new-pbx" || o.writes() != before+1 {
		t.Errorf("%d writes, %+v", o.writes()-before, u)
	}
	// A new extension number: the set side stays.
	_, err = o.Service.AmendLine(o.ctx, commands.AmendLine{ID: line, Number: "4002", Username: "sip4002", DisplayName: "Ana"})
	o.ok(err)
	o.settle()
	if again := o.holds(line, "4002"); again.SetUsername != u.SetUsername || again.ID != u.ID {
		t.Errorf("%+v", again)
	}
	if p := events[domain.SIPUserPushed](o); slices.Contains(p[len(p)-1].Fields, "set_password") {
		t.Errorf("a password was written without need: %v", p[len(p)-1].Fields)
	}
	// New credentials: updated in place, for the id is known.
	_, err = o.Service.SetLineRemote(o.ctx, commands.SetLineRemote{ID: line, GatewayID: edge, Renew: true})
	o.ok(err)
	o.settle()
	if again := o.holds(line, "4002"); again.SetUsername == u.SetUsername || again.ID != u.ID {
		t.Errorf("%+v", again)
	}
	o.clear(line)
	o.settle()
	if n := len(o.sim.State().Users); n != 0 || o.user(line).Status() != domain.SIPUserIsOff {
		t.Errorf("%d users, %s", n, o.user(line).Status())
	}
	o.noSecrets()
}

// SU-2: what is so already is not written again.
func TestTheSameAgainWritesNothing(t *testing.T) {
	o := ready(t)
	line := o.extension("l1", "4001")
	o.remote(line)
	o.settle()
	before := o.writes()
	for range 100 {
		o.remote(line)
		o.switchTo("disabled")
		o.switchTo("enabled")
		o.settle()
	}
	if n := o.writes() - before; n != 0 {
		t.Errorf("%d writes", n)
	}
}

// Lines that have their remote credentials before the push is switched on are swept when it is.
func TestSwitchingOnSweeps(t *testing.T) {
	o := open(t, "")
	o.do("start", nil)
	o.consumer()
	o.node("10.1.2.3")
	for i := range 20 {
		o.remote(o.extension(fmt.Sprintf("l%d", i), fmt.Sprint(4000+i)))
	}
	o.settle()
	o.switchTo("enabled")
	o.settle()
	if n := len(o.sim.State().Users); n != 0 {
		t.Fatalf("%d users without a token", n)
	}
	o.exchange()
	o.settle()
	for i := range 20 {
		o.holds(domain.LineID(fmt.Sprintf("l%d", i)), fmt.Sprint(4000+i))
	}
	// Paused, the queue grows; resumed, it goes on.
	o.switchTo("paused")
	o.remote(o.extension("late", "4100"))
	o.settle()
	if o.user("late").Status() != domain.SIPUserPending {
		t.Error(o.user("late").Status())
	}
	o.switchTo("resumed")
	o.settle()
	o.holds("late", "4100")
}

// ICP-1 to ICP-3: by address in any notation, near misses explained, several never guessed.
func TestMatchingICPs(t *testing.T) {
	o := ready(t)
	o.do("fault", map[string]string{"operation": "list_icps", "kind": "icp_notation"})
	o.remote(o.extension("l1", "4001"))
	o.settle()
	o.holds("l1", "4001")
	for _, c := range []struct {
		name, address, external string
		icps                    []string
		class, says             string
	}{
		{"the external address entered", "10.9.9.9", "198.51.100.7", []string{"198.51.100.7"}, commands.ClassICPMissing, "external address"},
		{"another interface", "10.1.2.77", "", []string{"10.1.2.4"}, commands.ClassICPMissing, "same network"},
		{"a host name", "127.0.0.1", "", []string{"localhost"}, commands.ClassICPMissing, "host name"},
		{"the other family", "10.1.2.3", "", []string{"2001:db8::1"}, commands.ClassICPMissing, "IPv6"},
		{"two with the address", "10.1.2.3", "", []string{"10.1.2.3", "10.1.2.3"}, commands.ClassICPUnclear, "pin"},
		{"none at all", "10.1.2.3", "", nil, commands.ClassICPMissing, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := open(t, "")
			o.do("start", nil)
			o.consumer()
			o.exchange()
			for _, icp := range c.icps {
				o.do("icp", map[string]string{"name": "PBX", "address": icp})
			}
			_, err := o.Service.DefineNode(o.ctx, commands.DefineNode{ID: edge, NodeID: "zrh", Name: "Zurich", InternalAddress: c.address, ExternalAddress: c.external})
			o.ok(err)
			o.switchTo("enabled")
			o.remote(o.extension("l1", "4001"))
			o.settle()
			u := o.user("l1")
			if u.Status() != domain.SIPUserParked || u.Failed.Class != c.class || !strings.Contains(u.Failed.Text, c.says) || len(o.sim.State().Users) != 0 {
				t.Errorf("%s %+v", u.Status(), u.Failed)
			}
			o.everyCheck(map[string]string{"ICP of zrh": "failed"})
		})
	}
	// Mended, what was refused is pushed by itself; a pin settles what is ambiguous.
	o = open(t, "")
	o.do("start", nil)
	o.consumer()
	o.exchange()
	o.do("icp", map[string]string{"id": "3", "address": "10.1.2.3"})
	o.do("icp", map[string]string{"id": "7", "address": "10.1.2.3"})
	n := commands.DefineNode{ID: edge, NodeID: "zrh", InternalAddress: "10.1.2.3"}
	_, err := o.Service.DefineNode(o.ctx, n)
	o.ok(err)
	o.switchTo("enabled")
	o.remote(o.extension("l1", "4001"))
	o.settle()
	n.ICP = "3"
	_, err = o.Service.DefineNode(o.ctx, n)
	o.ok(err)
	_, _, err = o.Service.ReconcileGateway(o.ctx, commands.ReconcileGateway{ID: edge})
	o.ok(err)
	o.settle()
	o.holds("l1", "4001")
}

// SU-3: a record made by hand is adopted and announced, or a person is asked first.
func TestAdoption(t *testing.T) {
	for _, ask := range []bool{false, true} {
		o := ready(t)
		if ask {
			w := o.wish()
			w.Adopt = "ask"
			_, err := o.Service.AmendGateway(o.ctx, commands.AmendGateway{ID: edge, GatewayWish: w})
			o.ok(err)
		}
		o.do("user", map[string]string{"set_username": "by-hand", "icp_username": "4001", "icp": "3", "description": "made by hand", "extra.codec": "g729"})
		o.do("user", map[string]string{"set_username": "somebody", "icp_username": "9999", "icp": "3"})
		o.remote(o.extension("l1", "4001"))
		o.settle()
		if ask {
			if u := o.user("l1"); u.Failed.Class != commands.ClassAdopt || len(events[domain.SIPUserAdopted](o)) != 0 {
				t.Fatalf("%+v", u.Failed)
			}
			_, err := o.Service.RetrySIPUser(o.ctx, commands.RetrySIPUser{ID: "edge.l1", Adopt: true})
			o.ok(err)
			o.settle()
		}
		u := o.holds("l1", "4001")
		if e := events[domain.SIPUserAdopted](o); len(e) != 1 || e[0].Was.SetUsername != "by-hand" || e[0].MBGID != u.ID || o.clearText(e[0].Was.Description.Sealed) != "made by hand" {
			t.Errorf("%+v", e)
		}
		if u.Extra["codec"] != "g729" {
			t.Errorf("settings made by hand are gone: %v", u.Extra)
		}
		// SU-8: taken away again, the foreign record stays.
		o.clear("l1")
		o.settle()
		if users := o.onGateway(); len(users) != 1 || users["9999"].SetUsername != "somebody" {
			t.Errorf("%+v", users)
		}
	}
}

// SU-4: whatever becomes of the creation's answer, there is exactly one record, created once.
func TestUnclearCreation(t *testing.T) {
	for _, kind := range []string{"drop_after", "drop_before", "500_after", "500", "half_body", "503", "429", "wrong_type"} {
		t.Run(kind, func(t *testing.T) {
			o := ready(t)
			o.do("fault", map[string]string{"operation": "create_user", "kind": kind, "count": "1"})
			o.remote(o.extension("l1", "4001"))
			o.settle()
			u := o.holds("l1", "4001")
			if st := o.sim.State(); len(st.Users) != 1 || st.Created[u.SetUsername] != 1 {
				t.Errorf("%d users, created %v", len(st.Users), st.Created)
			}
			if p := events[domain.SIPUserPushed](o); len(p) != 1 || p[0].Action != "created" || p[0].Attempts < 2 {
				t.Errorf("%+v", p)
			}
		})
	}
}

// What was not applied, or is read late from a lagging member of a cluster, is found out.
func TestReadingBack(t *testing.T) {
	o := ready(t)
	o.do("fault", map[string]string{"operation": "create_user", "kind": "stale", "seconds": "8", "count": "1"})
	o.remote(o.extension("l1", "4001"))
	o.settle()
	o.holds("l1", "4001")
	o.do("fault", map[string]string{"operation": "update_user", "kind": "write_ignored", "count": "1"})
	_, err := o.Service.AmendLine(o.ctx, commands.AmendLine{ID: "l1", Number: "4009", Username: "x"})
	o.ok(err)
	o.settle()
	o.holds("l1", "4009")
	o.do("fault", map[string]string{"operation": "update_user", "kind": "write_ignored"})
	_, err = o.Service.AmendLine(o.ctx, commands.AmendLine{ID: "l1", Number: "4010", Username: "x"})
	o.ok(err)
	o.settle()
	if u := o.user("l1"); u.Failed.Class != commands.ClassNotApplied {
		t.Errorf("%s %+v", u.Status(), u.Failed)
	}
	o.do("clear-faults", nil)
	_, err = o.Service.RetrySIPUser(o.ctx, commands.RetrySIPUser{ID: "edge.l1"})
	o.ok(err)
	o.settle()
	o.holds("l1", "4010")
}

// SU-5, SU-6: what was removed or changed by hand is found at night, and repaired; settings we know nothing of stay.
func TestDrift(t *testing.T) {
	o := ready(t)
	for i := range 10 {
		o.remote(o.extension(fmt.Sprintf("l%d", i), fmt.Sprint(4000+i)))
	}
	o.settle()
	users := o.onGateway()
	o.do("remove-user", map[string]string{"id": users["4001"].ID})
	o.do("user", map[string]string{"id": users["4002"].ID, "availability": "everywhere", "extra.codec": "g729"})
	plan, _, err := o.Service.ReconcileGateway(o.ctx, commands.ReconcileGateway{ID: edge, PlanOnly: true})
	o.ok(err)
	if d := plan.Drift; d.Missing != 1 || d.Drifted != 1 || d.Users != 10 || d.Braked || len(d.Items) != 2 || !slices.Equal(d.Items[1].Fields, []string{"availability"}) && !slices.Equal(d.Items[0].Fields, []string{"availability"}) {
		t.Errorf("%+v", d)
	}
	if len(events[domain.GatewayDriftFound](o)) != 0 {
		t.Error("a plan left a trace")
	}
	o.push(26 * time.Hour)
	for i := range 10 {
		o.holds(domain.LineID(fmt.Sprintf("l%d", i)), fmt.Sprint(4000+i))
	}
	if u := o.onGateway()["4002"]; u.Availability != "sip" || u.Extra["codec"] != "g729" {
		t.Errorf("%+v", u)
	}
	// SU-10: a restored gateway: everything is missing; nothing is repaired before somebody says so.
	o.do("snapshot", nil)
	o.do("remove-all-users", nil)
	before := o.writes()
	_, _, err = o.Service.ReconcileGateway(o.ctx, commands.ReconcileGateway{ID: edge})
	if !errors.Is(err, commands.ErrBraked) {
		t.Errorf("%v", err)
	}
	o.settle()
	if n := o.writes() - before; n != 0 || !o.gateway().Braked {
		t.Errorf("%d writes, braked %v", n, o.gateway().Braked)
	}
	_, _, err = o.Service.ReconcileGateway(o.ctx, commands.ReconcileGateway{ID: edge, Confirm: true})
	o.ok(err)
	o.settle()
	for i := range 10 {
		o.holds(domain.LineID(fmt.Sprintf("l%d", i)), fmt.Sprint(4000+i))
	}
}

// SU-10: an id we hold is somebody else's after a restore: it is neither written over nor removed.
func TestForeignRecord(t *testing.T) {
	o := ready(t)
	o.do("snapshot", nil)
	o.remote(o.extension("l1", "4001"))
	o.settle()
	ours := o.holds("l1", "4001")
	o.do("restore", nil)
	o.do("user", map[string]string{"set_username": "stranger", "icp_username": "7777", "icp": "3"})
	if users := o.onGateway(); users["7777"].ID != ours.ID {
		t.Fatalf("the id was not used again: %+v", users)
	}
	_, err := o.Service.RotateLineSecret(o.ctx, commands.RotateLineSecret{ID: "l1", Password: "canary-y"})
	o.ok(err)
	o.settle()
	if u := o.user("l1"); u.Failed.Class != commands.ClassForeign {
		t.Errorf("%s %+v", u.Status(), u.Failed)
	}
	o.clear("l1")
	o.settle()
	if users := o.onGateway(); len(users) != 1 || users["7777"].SetUsername != "stranger" {
		t.Errorf("%+v", users)
	}
}

// SU-9: a password the gateway finds weak is replaced on both sides; a licence that is missing parks one, not all.
func TestRefusals(t *testing.T) {
	o := ready(t)
	o.do("user-limit", map[string]string{"n": "1"})
	o.remote(o.extension("l1", "4001"))
	o.settle()
	o.remote(o.extension("l2", "4002"))
	o.settle()
	if u := o.user("l2"); u.Failed.Class != commands.ClassLicence {
		t.Errorf("%+v", u.Failed)
	}
	o.do("user-limit", map[string]string{"n": "0"})
	_, err := o.Service.RetrySIPUser(o.ctx, commands.RetrySIPUser{ID: "edge.l2"})
	o.ok(err)
	o.settle()
	o.holds("l2", "4002")
	// A line whose set-side password came from elsewhere, and is weak.
	line := o.extension("l3", "4003")
	weakened := domain.LineRemote{GatewayID: edge, Username: "abcdefghijkm", Password: o.sealed(line, "weak")}
	o.append(line.Stream(), domain.LineRemoteAuthorizationSet{LineRemote: weakened})
	o.settle()
	u := o.holds(line, "4003")
	if u.SetPassword == "weak" || len(u.SetPassword) != 24 {
		t.Errorf("%+v", u)
	}
}

// Off "disable" keeps the record, disabled; switched on again it is the same one.
func TestDisabling(t *testing.T) {
	o := ready(t)
	w := o.wish()
	w.Off = "disable"
	_, err := o.Service.AmendGateway(o.ctx, commands.AmendGateway{ID: edge, GatewayWish: w})
	o.ok(err)
	o.remote(o.extension("l1", "4001"))
	o.settle()
	id := o.holds("l1", "4001").ID
	o.clear("l1")
	o.settle()
	if u := o.onGateway()["4001"]; u.Enabled || u.ID != id {
		t.Errorf("%+v", u)
	}
	o.remote("l1")
	o.settle()
	if u := o.holds("l1", "4001"); u.ID != id {
		t.Errorf("%+v", u)
	}
}

// ER-3: an hour of 503 with 500 waiting: few requests, and then all of them, each created once.
func TestStorm(t *testing.T) {
	o := ready(t)
	for i := range 500 {
		o.remote(o.extension(fmt.Sprintf("l%d", i), fmt.Sprint(10000+i)))
	}
	o.ok(o.React(o.ctx))
	o.do("fault", map[string]string{"operation": "*", "kind": "503"})
	before := len(o.sim.Log())
	for end := o.Clock.Now().Add(time.Hour); o.Clock.Now().Before(end); {
		next, err := o.Service.PushGateway(o.ctx, edge)
		o.ok(err)
		o.Clock.Advance(max(next.Sub(o.Clock.Now()), time.Millisecond))
	}
	if n := len(o.sim.Log()) - before; n > 150 {
		t.Errorf("%d requests in the hour", n)
	}
	o.do("clear-faults", nil)
	o.settle()
	st := o.sim.State()
	if len(st.Users) != 500 {
		t.Fatalf("%d users", len(st.Users))
	}
	for name, n := range st.Created {
		if n != 1 {
			t.Errorf("%s was created %d times", name, n)
		}
	}
}

// Stopped before or after any append or request of the push, effect kept or lost, and started again: exactly the wanted
// record, created once, and the log tells it once.
func TestCrashes(t *testing.T) {
	died := errors.New("died")
	prepare := func() *office {
		o := ready(t)
		o.remote(o.extension("l1", "4001"))
		o.ok(o.React(o.ctx))
		return o
	}
	o := prepare()
	calls := 0
	o.Faults.Set(func(c commandstest.Call) commandstest.Fault { calls++; return commandstest.Fault{} })
	o.settle()
	if calls < 2 {
		t.Fatalf("only %d calls", calls)
	}
	for at := range calls {
		for _, fault := range []commandstest.Fault{{Before: died}, {After: died}} {
			o := prepare()
			n := 0
			o.Faults.Set(func(commandstest.Call) commandstest.Fault {
				if n++; n > at {
					return fault
				}
				return commandstest.Fault{}
			})
			for range 5 { // waits of a fresh start included
				_ = o.React(o.ctx)                        // it dies somewhere: that is the point
				_, _ = o.Service.PushGateway(o.ctx, edge) // and here
				o.Clock.Advance(10 * time.Second)
			}
			o.Faults.Set(nil)
			o.Restart()
			o.settle()
			u := o.holds("l1", "4001")
			if st := o.sim.State(); len(st.Users) != 1 || st.Created[u.SetUsername] != 1 || len(events[domain.SIPUserPushed](o)) != 1 {
				t.Errorf("stopped at call %d (%+v): created %v, pushed %d times", at, fault, st.Created, len(events[domain.SIPUserPushed](o)))
			}
		}
	}
}

// EV-1: carrying out every reaction of the whole log once more asks the gateway nothing and records nothing.
func TestReplayAsksNobody(t *testing.T) {
	o := ready(t)
	o.remote(o.extension("l1", "4001"))
	o.settle()
	asked, recorded := len(o.sim.Log()), len(o.Log.Events())
	o.Restart()
	for _, r := range o.Log.Events() {
		e, err := r.Event()
		o.ok(err)
		for _, row := range commands.Reactions {
			if slices.Contains(row.On, r.Type) {
				o.ok(row.Do(commands.WithCause(o.ctx, r, row.Name), o.Service, r, e))
			}
		}
	}
	if n, m := len(o.sim.Log())-asked, len(o.Log.Events())-recorded; n != 0 || m != 0 {
		t.Errorf("%d requests, %d events", n, m)
	}
}

// Somebody with two phones at home has a line for each, with the same extension: two records, each with credentials of
// its own, neither taken for the other or for one made by hand.
func TestTwoPhonesOfOneExtension(t *testing.T) {
	o := ready(t)
	desk, mobile := o.extension("l1", "4001"), o.extension("l2", "4001")
	o.remote(desk)
	o.remote(mobile)
	o.settle()
	on := map[string]simulator.User{}
	for _, u := range o.sim.State().Users {
		on[u.SetUsername] = u
	}
	for _, line := range []domain.LineID{desk, mobile} {
		u := on[o.lineOf(line).Remote.Username]
		if u.ICPUsername != "4001" || o.user(line).Status() != domain.SIPUserInSync || o.user(line).MBGID != u.ID {
			t.Errorf("%s: %+v, %+v", line, u, o.user(line))
		}
	}
	if len(on) != 2 || len(events[domain.SIPUserAdopted](o)) != 0 {
		t.Errorf("%d records", len(on))
	}
	done, _, err := o.Service.ReconcileGateway(o.ctx, commands.ReconcileGateway{ID: edge})
	if o.ok(err); done.Repairs != 0 || done.Drift.Clashes != 0 || done.Foreign != 0 {
		t.Errorf("%+v", done)
	}
	o.clear(desk)
	o.settle()
	if users := o.sim.State().Users; len(users) != 1 || users[0].SetUsername != o.lineOf(mobile).Remote.Username {
		t.Errorf("%+v", users)
	}
}
