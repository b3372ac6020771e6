package mbg_test

import (
	"io"
	"log"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// quiet swallows what net/http says of connections the simulator cuts.
var quiet = log.New(io.Discard, "", 0)

// The whole story: exchange, node, switching on, an extension, and everything a person may change of it.
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
	// The password of the phone system changes: both sides follow.
	_, err = o.Service.RotateLineSecret(o.ctx, commands.RotateLineSecret{ID: line, Password: "canary-new-pbx"})
	o.ok(err)
	o.settle()
	if u := o.holds(line, "4001"); u.ICPPassword != "canary-new-pbx" {
		t.Errorf("%+v", u)
	}
	// A new extension number: the set side stays.
	_, err = o.Service.AmendLine(o.ctx, commands.AmendLine{ID: line, Number: "4002", Username: "sip4002", DisplayName: "Ana"})
	o.ok(err)
	o.settle()
	if again := o.holds(line, "4002"); again.SetUsername != u.SetUsername || again.ID != u.ID {
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
	_ = time.Second
}
