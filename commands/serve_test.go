package commands_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// served is a phone plane with one phone in each state a phone can be in, and a tenant's key.
type served struct {
	*kit
	own, strange, closed string // path secrets
}

const (
	ownMAC     = domain.MAC("001565000001") // configured, of acme
	guestMAC   = domain.MAC("001565000002") // known, not assigned
	strangeMAC = domain.MAC("001565000003") // configured, of globex
	closedMAC  = domain.MAC("001565000004") // of acme, has used its secret path
	unseenMAC  = domain.MAC("001565000005") // never seen
	key        = "provisioning-key-of-acme"
)

func phones(t *testing.T) *served {
	k := start(t)
	s := &served{kit: k}
	_, err := k.SetProvisioningKey(k.ctx, commands.SetProvisioningKey{ID: "acme", Key: key})
	k.ok(err)
	k.line("own-line", "acme", "")
	for mac, tenant := range map[domain.MAC]domain.TenantID{ownMAC: "acme", strangeMAC: "globex", closedMAC: "acme"} {
		k.assign(mac, tenant, "")
	}
	k.discover(guestMAC)
	_, err = k.AssociateLine(k.ctx, commands.AssociateLine{DeviceID: domain.DeviceID(ownMAC), LineID: "own-line"})
	k.ok(err)
	k.settle()
	s.own, s.strange, s.closed = k.secretOf(domain.DeviceID(ownMAC)), k.secretOf(domain.DeviceID(strangeMAC)), k.secretOf(domain.DeviceID(closedMAC))
	in := asks(closedMAC)
	in.Via, in.Credential = "secret", s.closed
	s.deliver(in)
	return s
}

// deliver serves a file and tells that the phone has it, as the phone plane does.
func (k *kit) deliver(in commands.ServeFile) commands.Served {
	k.t.Helper()
	v, err := k.ServeFile(k.ctx, in)
	k.ok(err)
	k.Delivered(v)
	k.flush()
	return v
}

// flush records the deliveries noted so far.
func (k *kit) flush() {
	k.t.Helper()
	ctx, cancel := context.WithCancel(k.ctx)
	cancel()
	if err := k.RunDeliveries(ctx); !errors.Is(err, context.Canceled) {
		k.t.Fatal(err)
	}
}

// D24: who gets what, by the way a phone proves itself, whether its network is trusted, and the transport.
func TestWhoGetsAFile(t *testing.T) {
	const none, guest = "", "guest"
	type ask struct {
		via, credential string
		mac             domain.MAC
	}
	for name, c := range map[string]struct {
		ask func(*served) ask
		// What is served over untrusted http, untrusted https, trusted http, trusted tftp: nothing, the guest file,
		// or the file of the phone.
		want [4]string
	}{
		"own, by MAC":                       {func(s *served) ask { return ask{"mac", "", ownMAC} }, [4]string{none, none, "own", "own"}},
		"guest, by MAC":                     {func(s *served) ask { return ask{"mac", "", guestMAC} }, [4]string{none, none, guest, guest}},
		"unseen, by MAC":                    {func(s *served) ask { return ask{"mac", "", unseenMAC} }, [4]string{none, none, guest, guest}},
		"closed, by MAC":                    {func(s *served) ask { return ask{"mac", "", closedMAC} }, [4]string{none, none, none, none}},
		"own, by secret":                    {func(s *served) ask { return ask{"secret", s.own, ownMAC} }, [4]string{none, "own", "own", "own"}},
		"closed, by secret":                 {func(s *served) ask { return ask{"secret", s.closed, closedMAC} }, [4]string{none, "closed", "closed", "closed"}},
		"own, by a stranger's secret":       {func(s *served) ask { return ask{"secret", s.strange, ownMAC} }, [4]string{none, none, none, none}},
		"own, by a wrong secret":            {func(s *served) ask { return ask{"secret", "x", ownMAC} }, [4]string{none, none, none, none}},
		"own, by no secret":                 {func(s *served) ask { return ask{"secret", "", ownMAC} }, [4]string{none, none, none, none}},
		"guest, by no secret":               {func(s *served) ask { return ask{"secret", "", guestMAC} }, [4]string{none, none, none, none}},
		"own, by its tenant's key":          {func(s *served) ask { return ask{"tenant_key", key, ownMAC} }, [4]string{none, "own", "own", "own"}},
		"closed, by its tenant's key":       {func(s *served) ask { return ask{"tenant_key", key, closedMAC} }, [4]string{none, none, none, none}},
		"a stranger's, by the tenant's key": {func(s *served) ask { return ask{"tenant_key", key, strangeMAC} }, [4]string{none, none, none, none}},
		"guest, by a tenant's key":          {func(s *served) ask { return ask{"tenant_key", key, guestMAC} }, [4]string{guest, guest, guest, guest}},
		"unseen, by a tenant's key":         {func(s *served) ask { return ask{"tenant_key", key, unseenMAC} }, [4]string{guest, guest, guest, guest}},
		"own, by a wrong tenant key":        {func(s *served) ask { return ask{"tenant_key", "x", ownMAC} }, [4]string{none, none, none, none}},
		"unseen, by a wrong tenant key":     {func(s *served) ask { return ask{"tenant_key", "x", unseenMAC} }, [4]string{none, none, none, none}},
		"own, by a way that does not exist": {func(s *served) ask { return ask{"magic", "", ownMAC} }, [4]string{none, none, "own", "own"}},
	} {
		for i, from := range []struct {
			trusted   bool
			transport string
		}{{false, "http"}, {false, "https"}, {true, "http"}, {true, "tftp"}} {
			s := phones(t)
			a := c.ask(s)
			in := asks(a.mac)
			in.Via, in.Credential, in.Trusted, in.Transport = a.via, a.credential, from.trusted, from.transport
			v, err := s.ServeFile(s.ctx, in)
			where := fmt.Sprintf("%s over %s, trusted %v", name, from.transport, from.trusted)
			text := whole(v)
			switch c.want[i] {
			case none:
				if !errors.Is(err, commands.ErrNoFile) || len(whole(v)) != 0 {
					t.Errorf("%s: served %q, %v", where, text, err)
				}
			case guest:
				if err != nil || !v.Guest || !strings.Contains(text, "guest = true") || strings.Contains(text, "/d/") || v.Device != domain.DeviceID(a.mac) {
					t.Errorf("%s: served %q, %v", where, text, err)
				}
			default:
				want := map[string]string{"own": s.own, "closed": s.closed}[c.want[i]]
				if err != nil || v.Guest || !strings.Contains(text, "/d/"+want+"/") || v.Device != domain.DeviceID(a.mac) || v.File.Size != len(whole(v)) {
					t.Errorf("%s: served %q, %v", where, text, err)
				}
			}
		}
	}
}

// Whatever path a phone asks for, by whatever way, it never gets what belongs to another.
func TestNeverAnothersFile(t *testing.T) {
	s := phones(t)
	foreign := map[string]domain.MAC{s.own: ownMAC, s.strange: strangeMAC, s.closed: closedMAC}
	credentials := map[string][]string{"mac": {""}, "secret": {s.own, s.strange, s.closed, "x"}, "tenant_key": {key, "x"}}
	for via, creds := range credentials {
		for _, cred := range creds {
			for _, path := range []string{string(ownMAC) + ".cfg", strangeMAC.Upper() + ".cfg", string(closedMAC) + ".cfg", "common.cfg", "../" + string(ownMAC) + ".cfg",
				string(strangeMAC) + ".cfg/../" + string(ownMAC) + ".cfg", "x", "", strings.Repeat("a", 300), "\x00"} {
				for _, agent := range []string{"", "Testphone T1 1.0", "Testphone T1 1.0 " + string(ownMAC), "Testphone T1 1.0 " + string(strangeMAC)} {
					in := commands.ServeFile{Asked: commands.Asked{Path: path, UserAgent: agent}, Via: via, Credential: cred, Transport: "https", IP: "192.0.2.7", Trusted: true}
					v, err := s.ServeFile(s.ctx, in)
					if err != nil {
						continue
					}
					for secret, mac := range foreign {
						if strings.Contains(whole(v), secret) && (v.Device != domain.DeviceID(mac) || via == "secret" && cred != secret || mac == closedMAC && via != "secret" || mac == strangeMAC && via == "tenant_key") {
							t.Fatalf("%s %q asking for %q as %q gets the file of %s", via, cred, path, agent, mac)
						}
					}
				}
			}
		}
	}
}

// A client certificate's MAC is stronger than what a phone says.
func TestTheMACOfACertificateCounts(t *testing.T) {
	s := phones(t)
	in := asks(strangeMAC)
	in.Via, in.Credential, in.ClientMAC = "secret", s.strange, ownMAC
	if _, err := s.ServeFile(s.ctx, in); !errors.Is(err, commands.ErrNoFile) {
		t.Errorf("a phone with another's certificate: %v", err)
	}
	in.ClientMAC = strangeMAC
	s.serve(in)
}

// D24: the first delivery by the secret path closes the MAC path; a reset or an operator reopens it.
func TestTheMACPathClosesAndReopens(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "")
	k.settle()
	byMAC, bySecret := asks(phone), asks(phone)
	bySecret.Via, bySecret.Credential = "secret", k.secretOf(id)
	open := func(want bool) {
		t.Helper()
		if _, err := k.ServeFile(k.ctx, byMAC); (err == nil) != want || err != nil && !errors.Is(err, commands.ErrNoFile) {
			t.Fatalf("the MAC path is open: %v, want %v", err == nil, want)
		}
	}
	k.deliver(byMAC)
	k.deliver(byMAC)
	open(true)
	if _, err := k.ServeFile(k.ctx, bySecret); err != nil { // served, not delivered
		t.Fatal(err)
	}
	open(true)
	k.deliver(bySecret)
	open(false)
	if seen := k.Sightings.All(); seen[len(seen)-1].MAC != phone || seen[len(seen)-1].Device != "" {
		t.Errorf("a phone that is refused is sighted as %+v", seen[len(seen)-1])
	}
	k.deliver(bySecret)
	if n := k.count("device-", "device.config_delivered"); n != 2 {
		t.Errorf("%d deliveries are recorded", n)
	}
	_, e := last[domain.DeviceConfigDelivered](k)
	if e.Via != "secret" || e.Transport != "http" || e.Path != string(phone)+".cfg" || !e.DeliveredAt.Equal(k.Clock.Now()) {
		t.Errorf("%+v", e)
	}
	_, err := k.ReopenMACPath(k.ctx, commands.ReopenMACPath{ID: id})
	k.ok(err)
	open(true)
	k.deliver(byMAC)
	open(true)
	k.deliver(bySecret)
	open(false)
	_, err = k.ResetDevice(k.ctx, commands.ResetDevice{ID: id})
	k.ok(err)
	open(true)
	// A phone that knows no other way still asks there. What it gets is what everybody gets, and leads it away.
	if got := k.serve(bySecret); !strings.Contains(got, "guest = true") || strings.Contains(got, "/d/") {
		t.Errorf("after a reset the secret opens %q", got)
	}
	k.assign(phone, "acme", "")
	if _, err := k.ServeFile(k.ctx, bySecret); !errors.Is(err, commands.ErrNoFile) {
		t.Errorf("after the next assignment the old secret opens: %v", err)
	}
}

// Deliveries of guest files are not recorded; one that cannot be recorded is noted again by the next poll.
func TestDeliveries(t *testing.T) {
	s := phones(t)
	s.deliver(asks(guestMAC))
	if n := s.count("device-"+string(guestMAC), "device.config_delivered"); n != 0 {
		t.Error("a guest file's delivery is recorded")
	}
	before := s.count("device-", "device.config_delivered")
	s.serve(asks(ownMAC)) // its bytes are at hand from here on
	s.Faults.Set(func(commandstest.Call) commandstest.Fault { return commandstest.Fault{Before: domain.ErrReadOnly} })
	s.deliver(asks(ownMAC))
	s.Faults.Set(nil)
	s.flush()
	if n := s.count("device-", "device.config_delivered") - before; n != 0 {
		t.Fatalf("%d were recorded by a log that takes no writes", n)
	}
	s.deliver(asks(ownMAC))
	if n := s.count("device-", "device.config_delivered") - before; n != 1 {
		t.Errorf("the next poll records %d", n)
	}
	r, _ := last[domain.DeviceConfigDelivered](s.kit)
	if m, err := r.Meta(); err != nil || m.Actor != "phone:"+string(ownMAC) || m.Source == nil || m.Source.Listener != "phones" {
		t.Errorf("%+v %v", m, err)
	}
	// RunDeliveries on its own, while phones are served.
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan error)
	go func() { done <- s.RunDeliveries(ctx) }()
	in := asks(strangeMAC)
	grown := s.Log.Changed()
	v, err := s.ServeFile(s.ctx, in)
	s.ok(err)
	s.Delivered(v)
	<-grown
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// D25: phones are made known up to a cap per hour; who is known already is served all the same.
func TestTheCapOnDiscovery(t *testing.T) {
	k := start(t, commandstest.With(func(s *commands.Service) { s.DiscoveryCap = 3 }))
	serve := func(i int) error {
		_, err := k.ServeFile(k.ctx, asks(domain.MAC(fmt.Sprintf("0015650000%02x", i))))
		return err
	}
	for i := range 3 {
		k.ok(serve(i))
	}
	for i := range 5 {
		k.refused(commands.ErrNoFile, func() error { return serve(10 + i) })
	}
	if n := k.DiscoveryRefused(); n != 5 {
		t.Errorf("%d were refused", n)
	}
	k.ok(serve(1))
	k.Clock.Advance(30 * minute) // 10:00
	k.ok(serve(10))
	if n := k.count("device-", "device.discovered"); n != 4 {
		t.Errorf("%d phones are known", n)
	}
}

func TestAnUnknownPhoneIsDiscovered(t *testing.T) {
	k := start(t)
	v, err := k.ServeFile(k.ctx, asks(phone))
	k.ok(err)
	r, e := last[domain.DeviceDiscovered](k)
	if m, err := r.Meta(); err != nil || m.Actor != "phone:"+string(phone) || e.Vendor != "Testphone" || e.Model != "T1" || e.Firmware != "1.0" || e.Plugin != "test" || e.Added != "auto" || !v.Guest {
		t.Errorf("%+v %v", e, err)
	}
	k.refused(nil, func() error { _, err := k.ServeFile(k.ctx, asks(phone)); return err })
	newer := asks(phone)
	newer.UserAgent = "Testphone T1 1.1"
	k.serve(newer)
	if d := k.device(domain.DeviceID(phone)); d.Firmware != "1.1" {
		t.Errorf("it shows firmware %s", d.Firmware)
	}
	stranger := asks("aabbccddeeff")
	stranger.UserAgent, stranger.Path = "curl/8", "favicon.ico"
	k.refused(commands.ErrNoFile, func() error { _, err := k.ServeFile(k.ctx, stranger); return err })
	seen := k.Sightings.All()
	if len(seen) < 3 || seen[0].MAC != phone || seen[0].Device != domain.DeviceID(phone) || seen[0].IP != "192.0.2.7" || seen[0].Transport != "http" || seen[0].Path != "mac" {
		t.Errorf("%+v", seen)
	}
}

// A phone that shows no address gets its model's common file, which is the same for all.
func TestTheCommonFile(t *testing.T) {
	k := start(t)
	in := commands.ServeFile{Asked: commands.Asked{Path: "common.cfg", UserAgent: "Testphone T1"}, Via: "mac", Transport: "tftp", Trusted: true}
	v, err := k.ServeFile(k.ctx, in)
	if err != nil || whole(v) != "model = T1\n" || v.Device != "" || !v.Guest || v.File.MAC == "" {
		t.Errorf("%q %v", whole(v), err)
	}
	for what, change := range map[string]func(*commands.ServeFile){
		"not trusted":    func(in *commands.ServeFile) { in.Trusted = false },
		"another file":   func(in *commands.ServeFile) { in.Path = "other.cfg" },
		"not recognised": func(in *commands.ServeFile) { in.UserAgent = "" },
		"by a secret":    func(in *commands.ServeFile) { in.Via, in.Credential = "secret", "x" },
		"by a code":      func(in *commands.ServeFile) { in.Via, in.Credential = "code", "123456789012" },
	} {
		other := in
		change(&other)
		k.refused(commands.ErrNoFile, func() error {
			_, err := k.ServeFile(k.ctx, other)
			if err == nil {
				t.Errorf("served %s", what)
			}
			return err
		})
	}
}

// A phone that asks first is served at once from what follows from the streams now, whatever the view knows.
func TestAStaleFileIsMadeAnew(t *testing.T) {
	k := start(t)
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "tenant.acme", TenantID: "acme"})
	k.ok(err)
	k.assign(phone, "acme", "")
	k.settle()
	renders := 0
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Render" {
			renders++
		}
		return commandstest.Fault{}
	})
	for range 3 {
		k.serve(asks(phone))
	}
	if renders != 0 {
		t.Errorf("an unchanged file is rendered %d times", renders)
	}
	modified := func() time.Time { v, err := k.ServeFile(k.ctx, asks(phone)); k.ok(err); return v.ModTime }
	if at := modified(); !at.Equal(commandstest.Start) {
		t.Errorf("modified at %s", at)
	}
	k.Clock.Advance(minute)
	_, err = k.AmendLayer(k.ctx, commands.AmendLayer{ID: "tenant.acme", Settings: domain.Settings{"vlan_id": 5}})
	k.ok(err)
	if data := k.serve(asks(phone)); !strings.Contains(data, "vlan_id = 5") || renders != 1 {
		t.Errorf("after the change, and %d renderings:\n%s", renders, data)
	}
	if at := modified(); !at.Equal(commandstest.Start.Add(minute)) {
		t.Errorf("modified at %s", at)
	}
	// A change that changes no byte is looked at once.
	_, err = k.AmendLayer(k.ctx, commands.AmendLayer{ID: "tenant.acme", Name: "renamed", Settings: domain.Settings{"vlan_id": 5}})
	k.ok(err)
	for range 5 {
		k.serve(asks(phone))
	}
	if renders != 2 {
		t.Errorf("%d renderings of an unchanged file", renders-1)
	}
	k.Clock.Advance(minute)
	if at := modified(); !at.Equal(commandstest.Start.Add(minute)) {
		t.Errorf("unchanged, yet modified at %s", at)
	}
}

// Bytes come from the blobs after a restart.
func TestFilesOutliveARestart(t *testing.T) {
	s := phones(t)
	before := s.serve(asks(ownMAC))
	s.crash()
	if after := s.serve(asks(ownMAC)); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// D17: a phone redeems by its path and gets its own file at once, again and again for a quarter of an hour.
func TestRedeemingByPath(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	code := k.issue("rollout")
	in := asks(phone)
	in.Via, in.Credential = "code", code.Code
	for _, refused := range []func(*commands.ServeFile){
		func(in *commands.ServeFile) { in.Trusted = false },                              // its secrets over plain http
		func(in *commands.ServeFile) { in.Path, in.UserAgent = "x.cfg", "Testphone T1" }, // nobody we could tell
	} {
		other := in
		refused(&other)
		k.refused(commands.ErrNoFile, func() error { _, err := k.ServeFile(k.ctx, other); return err })
	}
	wrong := in
	wrong.Credential = "000000000000"
	k.refused(domain.ErrCodeRefused, func() error { _, err := k.ServeFile(k.ctx, wrong); return err })
	for range 3 {
		if data := k.serve(in); !strings.Contains(data, "pw-of-l1") || !strings.Contains(data, "/d/"+k.secretOf(domain.DeviceID(phone))+"/") {
			t.Fatalf("it gets\n%s", data)
		}
	}
	if n := k.count("code-", "code.redeemed"); n != 1 {
		t.Errorf("redeemed %d times", n)
	}
	before := len(k.Log.Events())
	k.settle()
	if rest := types(k.Log.Events()[before:]); len(rest) != 0 {
		t.Errorf("the reactor adds %q", rest)
	}
	k.Clock.Advance(domain.RepeatWindow)
	k.refused(domain.ErrCodeRefused, func() error { _, err := k.ServeFile(k.ctx, in); return err })
}

// D17: while the files are not there it is "not yet", and never the guest file.
func TestNotYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t)
		code := k.issue("rollout")
		k.serve(asks(phone)) // known as a guest
		in := asks(phone)
		in.Via, in.Credential = "code", code.Code
		k.Shelf.Hold()
		began := time.Now()
		if v, err := k.ServeFile(k.ctx, in); !errors.Is(err, commands.ErrNotYet) || len(whole(v)) != 0 {
			t.Errorf("served %q, %v", whole(v), err)
		}
		if waited := time.Since(began); waited != 3*time.Second {
			t.Errorf("it waited for %s", waited)
		}
		// The view comes up within the time.
		time.AfterFunc(time.Second, k.Shelf.Release)
		if v, err := k.ServeFile(k.ctx, in); err != nil || v.Guest {
			t.Errorf("served %q, %v", whole(v), err)
		}
	})
}

// D17: if the race for the device is lost after the code was used up, that is on record, and the phone is not
// given anything.
func TestALostRaceIsOnRecord(t *testing.T) {
	k := start(t)
	code := k.issue("rollout")
	k.discover(phone)
	raced := false
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if !raced && c.Method == "Append" && c.Events[0].Type == "code.redeemed" {
			raced = true
			_, err := k.AssignDevice(k.ctx, commands.AssignDevice{ID: domain.DeviceID(phone), TenantID: "globex"})
			k.ok(err)
		}
		return commandstest.Fault{}
	})
	in := asks(phone)
	in.Via, in.Credential = "code", code.Code
	if v, err := k.ServeFile(k.ctx, in); !errors.Is(err, commands.ErrNotYet) || len(whole(v)) != 0 {
		t.Errorf("served %q, %v", whole(v), err)
	}
	k.settle()
	_, e := last[domain.CodeAssignmentFailed](k)
	if n := k.count("code-", "code.assignment_failed"); n != 1 || e.CodeID != code.ID || e.DeviceID != domain.DeviceID(phone) || e.Cause != domain.ErrDeviceOfOtherTenant.Error() {
		t.Errorf("%d times %+v", n, e)
	}
}

// atOnce has the phone ask n times at once, and lets go of hold when all wait: what each was answered.
func (k *kit) atOnce(n int, hold chan struct{}) (all []string) {
	results := make(chan string)
	for range n {
		go func() {
			v, err := k.ServeFile(k.ctx, asks(phone))
			results <- fmt.Sprint(whole(v), err)
		}()
	}
	synctest.Wait()
	close(hold)
	for range n {
		all = append(all, <-results)
	}
	return all
}

// Phones that ask for the same file at once share one rendering.
func TestOneRenderingForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t)
		k.assign(phone, "acme", "")
		renders, hold := 0, make(chan struct{})
		k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
			if c.Method == "Render" {
				renders++
				<-hold
			}
			return commandstest.Fault{}
		})
		all := k.atOnce(20, hold)
		if len(slices.Compact(all)) != 1 || renders != 1 || !strings.Contains(all[0], "<nil>") {
			t.Errorf("%d renderings, %q", renders, slices.Compact(all))
		}
	})
}

// A lease given in the moment after the phone was made known is noted for it, though the shelf does not know it yet.
func TestALeaseOfADeviceOfAMomentAgo(t *testing.T) {
	k := start(t)
	k.Shelf.Hold()
	id := k.discover(phone)
	k.ok(k.NoteLease(k.ctx, commands.NoteLease{MAC: phone, IP: "192.0.2.7"}))
	k.ok(k.NoteLease(k.ctx, commands.NoteLease{MAC: spare, IP: "192.0.2.8"}))
	if seen := k.Sightings.All(); len(seen) != 1 || seen[0].Device != id || seen[0].IP != "192.0.2.7" {
		t.Errorf("noted: %+v", seen)
	}
}

// A phone asks for its second file while the story of the redemption its first one began is not over: it waits for the
// end too, and gets no file without its line.
func TestTheSecondFileWaitsForTheStoryToo(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	code := k.issue("self_service")
	_, _, err := k.redeem(code.Code, phone)
	k.ok(err)
	in := asks(phone)
	in.Via, in.Credential, in.Transport = "code", code.Code, "https"
	if data := k.serve(in); !strings.Contains(data, "pw-of-l1") {
		t.Errorf("it gets\n%s", data)
	}
}

// What a phone got below its path before it was assigned anew closes nothing: it does not know its new path yet.
func TestADeliveryBelowAPastPathClosesNothing(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	id := k.assign(phone, "acme", "anna")
	k.settle()
	in := asks(phone)
	in.Via, in.Credential = "secret", k.secretOf(id)
	v, err := k.ServeFile(k.ctx, in)
	k.ok(err)
	_, err = k.ResetDevice(k.ctx, commands.ResetDevice{ID: id})
	k.ok(err)
	k.assign(phone, "acme", "anna")
	k.settle()
	k.Delivered(v)
	k.flush()
	if d := k.device(id); d.MACPathClosed || len(d.Delivered) > 0 {
		t.Errorf("closed: %v, delivered %v", d.MACPathClosed, d.Delivered)
	}
}

// mould makes a mould for new phones; copies are the layers made of it.
func (k *kit) mould() {
	k.t.Helper()
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "mould", TenantID: domain.Master, LayerExtra: commands.LayerExtra{Lenient: true, Role: domain.RoleAutocreate},
		Settings: domain.Settings{"sip_lines": map[string]any{"1": map[string]any{"username": "new", "password": "of a new phone"}}}})
	k.ok(err)
}

func (k *kit) copies() (live int) {
	return k.count("layer-mould", "layer.defined") - 1 - k.count("layer-mould", "layer.removed")
}

// firstContact is what stands in the stream of a new phone that has its copy of the mould and its files.
var firstContact = []string{"key.created", "device.discovered", "device.configured", "device.config_regenerated"}

func (k *kit) ofDevice(mac domain.MAC) (types []string) {
	for _, r := range k.Log.Events() {
		if r.Stream == domain.DeviceID(mac).Stream() {
			types = append(types, r.Type)
		}
	}
	return types
}

// A new phone waits for one append of its device, and the reactions find nothing left to do.
func TestAFirstContactIsOneAppend(t *testing.T) {
	k := start(t)
	k.mould()
	appends := 0
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Append" && c.Stream.Category() == "device" {
			appends++
		}
		return commandstest.Fault{}
	})
	v, err := k.ServeFile(k.ctx, asks(phone))
	k.ok(err)
	if v.Guest || !strings.Contains(whole(v), "new") {
		t.Errorf("it was served %q", whole(v))
	}
	k.settle()
	if appends != 1 || !slices.Equal(k.ofDevice(phone), firstContact) || k.copies() != 1 {
		t.Errorf("%d appends, %d copies: %q", appends, k.copies(), k.ofDevice(phone))
	}
}

// Whatever fails of a first contact: a phone that comes again gets its files, and there is one copy of the mould.
func TestAFirstContactThatFails(t *testing.T) {
	trouble := errors.New("trouble")
	for what, row := range map[string]struct {
		call  func(commandstest.Call) bool
		known []string // of the device, after the first request
	}{
		"claim": {func(c commandstest.Call) bool { return c.Method == "Append" && c.Stream.Category() == "claim" }, nil},
		"key": {func(c commandstest.Call) bool {
			return c.Method == "Ensure" && c.Subject == domain.DeviceID(phone).Subject()
		}, nil},
		"copy":       {func(c commandstest.Call) bool { return c.Method == "Append" && c.Stream.Category() == "layer" }, firstContact[:2]},
		"rendering":  {func(c commandstest.Call) bool { return c.Method == "Render" }, firstContact[:3]},
		"bytes kept": {func(c commandstest.Call) bool { return c.Method == "Put" }, firstContact[:3]},
		"device":     {func(c commandstest.Call) bool { return c.Method == "Append" && c.Stream.Category() == "device" }, nil},
	} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprint(what, " effective ", after), func(t *testing.T) {
				k := start(t)
				k.mould()
				k.serve(asks(spare)) // what the instance makes once is made
				k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
					switch {
					case !row.call(c):
						return commandstest.Fault{}
					case after:
						return commandstest.Fault{After: trouble}
					}
					return commandstest.Fault{Before: trouble}
				})
				if _, err := k.ServeFile(k.ctx, asks(phone)); !errors.Is(err, trouble) {
					t.Errorf("it was answered %v", err)
				}
				known := row.known
				if what == "device" && after {
					known = firstContact
				}
				if !slices.Equal(k.ofDevice(phone), known) {
					t.Errorf("of the phone stands %q", k.ofDevice(phone))
				}
				k.Faults.Set(nil)
				k.crash()
				if got := k.serve(asks(phone)); !strings.Contains(got, "new") {
					t.Errorf("it was served %q", got)
				}
				k.settle()
				if types := k.ofDevice(phone); k.count(string(domain.DeviceID(phone).Stream()), "device.discovered") != 1 || types[len(types)-1] != "device.config_regenerated" {
					t.Errorf("of the phone stands %q", types)
				}
			})
		}
	}
}

// Requests of one new phone at once share its first contact.
func TestOneFirstContactForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t)
		k.mould()
		hold := make(chan struct{})
		k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
			if c.Method == "Append" && c.Stream.Category() == "claim" {
				<-hold
			}
			return commandstest.Fault{}
		})
		all := k.atOnce(10, hold)
		if len(slices.Compact(all)) != 1 || !strings.Contains(all[0], "<nil>") || !slices.Equal(k.ofDevice(phone), firstContact) || k.copies() != 1 {
			t.Errorf("%q, %d copies: %q", slices.Compact(all), k.copies(), k.ofDevice(phone))
		}
	})
}

// Somebody else makes the phone known between its first contact's look and its append: nothing is made twice, and the copy
// that came to nothing is removed.
func TestAFirstContactThatSomebodyElseMakes(t *testing.T) {
	k := start(t)
	k.mould()
	raced := false
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if !raced && c.Method == "Append" && c.Stream.Category() == "device" {
			raced = true
			k.discover(phone)
		}
		return commandstest.Fault{}
	})
	if got := k.serve(asks(phone)); !strings.Contains(got, "new") {
		t.Errorf("it was served %q", got)
	}
	if types := k.ofDevice(phone); !raced || !slices.Equal(types, firstContact) || k.copies() != 1 || k.count("layer-mould", "layer.removed") != 1 {
		t.Errorf("%d copies, %d removed: %q", k.copies(), k.count("layer-mould", "layer.removed"), types)
	}
}
