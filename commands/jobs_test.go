package commands_test

import (
	"context"
	"encoding/json"
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

// catalogue is firmware.json with one release of each pair, for the products behind it.
func catalogue(release, build string, products ...string) json.RawMessage {
	type device struct {
		ID       string   `json:"id"`
		Versions []string `json:"versions"`
	}
	var c struct {
		Devices  []device            `json:"devices"`
		Versions []map[string]string `json:"versions"`
	}
	for _, p := range products {
		c.Devices = append(c.Devices, device{p, []string{"12r2", release}})
	}
	c.Versions = []map[string]string{{"id": "12r2", "build": "125398", "text": "12r2 sr60 [125398]"}, {"id": release, "build": build, "text": release + " [" + build + "]"}}
	b, _ := json.Marshal(c)
	return b
}

func (k *kit) software(release, build string, products ...string) domain.JobID {
	k.t.Helper()
	id, out, err := k.CreateJob(k.ctx, commands.CreateJob{TenantID: "acme", Type: domain.JobSoftware,
		JobWish: commands.JobWish{Release: release, Catalogue: catalogue(release, build, products...), BaseURL: "http://fw.example/store/"}})
	k.news(out, err, "job.created")
	return id
}

func (k *kit) job(kind string, params domain.JobParameters, categories ...domain.CategoryID) domain.JobID {
	k.t.Helper()
	id, out, err := k.CreateJob(k.ctx, commands.CreateJob{TenantID: "acme", Type: kind, JobWish: commands.JobWish{Parameters: params, Categories: categories}})
	k.news(out, err, "job.created")
	return id
}

// registers is a device of ours that connects and has authenticated.
func (k *kit) registers(r commands.Registration) {
	k.t.Helper()
	k.Sysclients.Connect(r.Device, true)
	if !k.device(r.Device).Sysclient.HasPassword() {
		_, err := k.GrantSysclient(k.ctx, commands.GrantSysclient{Device: r.Device, Grant: domain.GrantOperator})
		k.ok(err)
	}
	_, err := k.IdentifySysclient(k.ctx, commands.IdentifySysclient{Device: r.Device, Proved: true, Facts: domain.SysclientFacts{Product: r.Product, Version: "x", Platform: "PHONE",
		FwBuild: r.FwBuild, BcBuild: r.BcBuild, Foreign: r.Foreign}})
	k.ok(err)
	_, err = k.RegisterDevice(k.from("192.0.2.7"), r)
	k.ok(err)
}

// sysclient is a native device of acme that connects.
func (k *kit) sysclient(product, build string) domain.DeviceID {
	k.t.Helper()
	id := k.assign(phone, "acme", "")
	k.registers(commands.Registration{Device: id, Product: product, Version: "x", FwBuild: build, BcBuild: build})
	return id
}

// comes is a phone that gets its file for sure.
func (k *kit) comes(mac domain.MAC) string {
	k.t.Helper()
	return whole(k.deliver(asks(mac)))
}

// states are a device's jobs in short.
func states(d domain.Device) []string {
	var out []string
	for _, r := range d.Jobs.Pinned() {
		s := r.Type + " " + r.State
		if r.State == domain.JobSkipped {
			s += " " + r.Reason
		}
		if r.State == domain.JobFailed {
			s += fmt.Sprint(" ", r.Attempt)
		}
		out = append(out, s)
	}
	return out
}

func (k *kit) hasJobs(id domain.DeviceID, want ...string) {
	k.t.Helper()
	if got := states(k.device(id)); !slices.Equal(got, want) {
		k.t.Errorf("its jobs are %q, want %q", got, want)
	}
}

// A native device gets boot code and firmware, restarts, and only once it shows the builds it gets its configuration; that
// counts as applied when it comes back the next time.
func TestANativeDeviceGoesThroughItsJobs(t *testing.T) {
	k := start(t)
	k.software("13r3", "135421", "IP222")
	k.job(domain.JobNTP, domain.JobParameters{"ntp1": "one.example", "tz": "CET-1CEST-2,M3.5.0/2,M10.5.0/3"})
	k.job(domain.JobExpert, domain.JobParameters{"script": "# comment\r\n\r\nconfig add X /url http%3A%2F%2Fa.example%2F\r\nvars create A/B h 1"})
	id := k.assign(phone, "acme", "")
	old := commands.Registration{Device: id, Product: "IP222", FwBuild: "134250", BcBuild: "131286"}
	k.registers(old)
	k.settle()
	k.hasJobs(id, "software rebooting", "NTP queued", "EXPERT queued")
	if got, want := k.Sysclients.Sent(id), []string{"mod cmd UP0 boot http://fw.example/store/135421/boot222.bin ser 135421",
		"mod cmd UP0 prot http://fw.example/store/135421/ip222.bin ser 135421", "iresetn"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	k.Sysclients.Connect(id, false)
	updated := old
	updated.FwBuild, updated.BcBuild = "135421", "135421"
	k.registers(updated)
	k.settle()
	k.ok(k.SendDueJobs(k.ctx))
	k.hasJobs(id, "software verified", "NTP sent", "EXPERT sent")
	if got, want := k.Sysclients.Sent(id), []string{"config add NTP0 /addr one.example", "config add NTP0 /tz CET-1CEST-2%2CM3.5.0%2F2%2CM10.5.0%2F3", "config write", "config activate",
		"config add X /url http%3A%2F%2Fa.example%2F", "vars create A/B h 1", "config write", "config activate"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	k.registers(updated)
	k.hasJobs(id, "software verified", "NTP applied", "EXPERT applied")
	k.ok(k.SendDueJobs(k.ctx))
	if got := k.Sysclients.Sent(id); len(got) != 0 {
		t.Errorf("sent again %q", got)
	}
}

// A device that comes back with the old software three times is left alone, and gets its configuration nonetheless; an
// operator can have it tried again.
func TestSoftwareFailsAfterThreeAttempts(t *testing.T) {
	k := start(t)
	job := k.software("13r3", "135421", "IP222")
	k.job(domain.JobNTP, domain.JobParameters{"ntp1": "192.0.2.1"})
	id := k.assign(phone, "acme", "")
	old := commands.Registration{Device: id, Product: "IP222", FwBuild: "134250", BcBuild: "135421"}
	for range domain.JobAttempts {
		k.registers(old)
		k.settle()
		k.ok(k.SendDueJobs(k.ctx))
		k.hasJobs(id, "software rebooting", "NTP queued")
	}
	k.registers(old)
	k.settle()
	k.ok(k.SendDueJobs(k.ctx))
	k.hasJobs(id, "software failed 3", "NTP sent")
	n, _, err := k.RetryJob(k.operator(), commands.RetryJob{ID: job})
	k.ok(err)
	k.settle()
	k.hasJobs(id, "software rebooting", "NTP sent")
	if n != 1 {
		t.Errorf("tried again on %d devices", n)
	}
	k.refused(domain.ErrJobNotFailed, func() error {
		_, _, err := k.RetryJob(k.operator(), commands.RetryJob{ID: job, DeviceID: id})
		return err
	})
}

// A command the device does not take is an attempt that failed, told without the values in it; it is tried again after a
// while, and keeps no other job back.
func TestAConfigurationTheDeviceDoesNotTake(t *testing.T) {
	k := start(t)
	k.job(domain.JobNTP, domain.JobParameters{"ntp1": "192.0.2.1"})
	k.job(domain.JobMedia, domain.JobParameters{"turnServer": "t.example", "turnPassword": "t0psecret"})
	k.Sysclients.Answering(func(_ domain.DeviceID, command string) int {
		if strings.Contains(command, "turn-pwd") {
			return 400
		}
		return 200
	})
	id := k.sysclient("IP222", "135421")
	k.settle()
	k.hasJobs(id, "NTP sent", "MEDIA failed 1")
	if _, failed := last[domain.DeviceJobFailed](k); strings.Contains(failed.Reason, "t0psecret") || failed.Reason != "it answered 400 to command 2 of 4: config add …" {
		t.Errorf("the reason is %q", failed.Reason)
	}
	k.ok(k.SendDueJobs(k.ctx))
	k.hasJobs(id, "NTP sent", "MEDIA failed 1")
	k.Clock.Advance(minute)
	k.ok(k.SendDueJobs(k.ctx))
	k.hasJobs(id, "NTP sent", "MEDIA failed 2")
	k.Clock.Advance(2 * minute)
	k.ok(k.SendDueJobs(k.ctx))
	k.hasJobs(id, "NTP sent", "MEDIA failed 3")
	k.Clock.Advance(60 * minute)
	k.Sysclients.Sent(id)
	k.ok(k.SendDueJobs(k.ctx))
	if sent := k.Sysclients.Sent(id); len(sent) > 0 {
		t.Errorf("sent %q beyond the last attempt", sent)
	}
}

// A device that comes back before what was sent to it has ended is not forgotten: what it waits for then follows.
func TestADeviceComesBackWhileItIsSentTo(t *testing.T) {
	k := start(t)
	k.software("13r3", "135421", "IP222")
	k.job(domain.JobNTP, domain.JobParameters{"ntp1": "192.0.2.1"})
	back := commands.Registration{Device: domain.DeviceID(phone), Product: "IP222", FwBuild: "135421", BcBuild: "135421"}
	k.Sysclients.Answering(func(id domain.DeviceID, command string) int {
		if command == "iresetn" {
			k.registers(back)
			k.ok(k.SendDueJobs(k.ctx))
			k.ok(k.SendJobs(k.ctx, id))
			k.hasJobs(id, "software verified", "NTP queued")
		}
		return 200
	})
	id := k.sysclient("IP222", "134250")
	k.ok(k.SendDueJobs(k.ctx))
	k.hasJobs(id, "software verified", "NTP sent")
}

// A device that is there and does not answer has failed the attempt, and is left alone until the next; what waited behind a job
// that failed for good follows.
func TestADeviceDoesNotAnswer(t *testing.T) {
	k := start(t)
	k.job(domain.JobNTP, domain.JobParameters{"ntp1": "192.0.2.1"})
	k.job(domain.JobTLSProfile, domain.JobParameters{"profile": "secure"})
	asked := 0
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method != "Fetch" {
			return commandstest.Fault{}
		}
		asked++
		return commandstest.Fault{Before: commands.ErrNoAnswer}
	})
	id := k.sysclient("IP222", "135421")
	k.settle()
	k.hasJobs(id, "NTP failed 1", "TLS_PROFILE queued")
	if _, failed := last[domain.DeviceJobFailed](k); asked != 1 || failed.Reason != "it did not answer command 1 of 3: config add …" {
		t.Errorf("asked %d times, the reason is %q", asked, failed.Reason)
	}
	k.ok(k.SendDueJobs(k.ctx))
	k.hasJobs(id, "NTP failed 1", "TLS_PROFILE queued")
	for _, pause := range []time.Duration{minute, 2 * minute} {
		k.Clock.Advance(pause)
		k.ok(k.SendDueJobs(k.ctx))
	}
	k.hasJobs(id, "NTP failed 3", "TLS_PROFILE failed 1") // it has its turn right after the last attempt
	k.Faults.Set(nil)
	k.Clock.Advance(minute)
	k.ok(k.SendDueJobs(k.ctx))
	k.hasJobs(id, "NTP failed 3", "TLS_PROFILE sent")
}

// slow is a device that takes a while over every command.
type slow struct {
	*commandstest.Sysclients
	over time.Duration
}

func (s slow) Fetch(ctx context.Context, id domain.DeviceID, method, path string, body []byte) (int, []byte, error) {
	select {
	case <-time.After(s.over):
		return s.Sysclients.Fetch(ctx, id, method, path, body)
	case <-ctx.Done():
		return 0, nil, commands.ErrNoAnswer
	}
}

// A device that answers each command, and slowly, has ten minutes in all; the attempt is then on record as one that failed. The
// reaction has not waited for it. Stopped meanwhile, a server records nothing.
func TestTheTimeOfADeviceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t)
		k.job(domain.JobExpert, domain.JobParameters{"script": strings.Repeat("vars create A h 1\n", 1000)})
		id := k.sysclient("IP222", "135421")
		k.Kit.Service.Sysclients = slow{k.Sysclients, 26 * time.Second}
		begun := time.Now()
		k.ok(k.React(k.ctx))
		if took := time.Since(begun); took != 0 {
			t.Errorf("the reactions waited %s", took)
		}
		stopped, stop := context.WithTimeout(k.ctx, time.Minute)
		time.AfterFunc(30*time.Second, stop)
		if err := k.SendDueJobs(stopped); !errors.Is(err, context.Canceled) {
			t.Errorf("stopped: %v", err)
		}
		k.hasJobs(id, "EXPERT queued")
		k.Clock.Advance(minute)
		begun = time.Now()
		k.ok(k.SendDueJobs(k.ctx))
		if took := time.Since(begun); took != 10*time.Minute {
			t.Errorf("it had %s", took)
		}
		k.hasJobs(id, "EXPERT failed 1")
		if _, failed := last[domain.DeviceJobFailed](k); failed.Reason != "it did not answer command 24 of 1002: vars create …" {
			t.Errorf("the reason is %q", failed.Reason)
		}
	})
}

// A server that dies before it knows whether the device was told to restart: back without the build, the device is sent all
// again, and no attempt has failed; back with it, it has it from the job.
func TestAServerDiesBeforeTheRestart(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		k := start(t)
		k.software("13r3", "135421", "IP222")
		id := k.assign(phone, "acme", "")
		r := commands.Registration{Device: id, Product: "IP222", FwBuild: "134250", BcBuild: "131286"}
		k.registers(r)
		dead := false
		k.Sysclients.Answering(func(_ domain.DeviceID, command string) int {
			dead = dead || command == "iresetn"
			return 200
		})
		k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
			if dead && c.Method == "Append" {
				return commandstest.Fault{Before: errors.New("died")}
			}
			return commandstest.Fault{}
		})
		k.ok(k.React(k.ctx))
		if err := k.SendDueJobs(k.ctx); err == nil {
			t.Fatal("nothing went wrong")
		}
		k.Faults.Set(nil)
		k.Sysclients.Answering(nil)
		k.crash()
		k.hasJobs(id, "software sent")
		want := "software rebooting"
		if restarted {
			r.FwBuild, r.BcBuild, want = "135421", "135421", "software verified"
		}
		k.Sysclients.Sent(id)
		k.registers(r)
		k.ok(k.SendDueJobs(k.ctx))
		k.hasJobs(id, want)
		if sent := k.Sysclients.Sent(id); restarted != (len(sent) == 0) || !restarted && (len(sent) != 3 || sent[2] != "iresetn") {
			t.Errorf("restarted %v: sent %q", restarted, sent)
		}
	}
}

// What waits for a device that is not there waits; what it had not done is superseded by what takes its place.
func TestJobsWaitForADevice(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "")
	r := commands.Registration{Device: id, Product: "IP222", FwBuild: "1", BcBuild: "1"}
	k.registers(r)
	k.Sysclients.Connect(id, false)
	first := k.job(domain.JobTLSProfile, domain.JobParameters{"profile": "secure"})
	k.settle()
	k.hasJobs(id)
	k.Sysclients.Connect(id, false)
	_, err := k.RegisterDevice(k.ctx, r) // gone again before anything is sent
	k.ok(err)
	k.settle()
	k.hasJobs(id, "TLS_PROFILE queued")
	second := k.job(domain.JobTLSProfile, domain.JobParameters{"profile": "strict"})
	k.registers(r)
	k.settle()
	k.hasJobs(id, "TLS_PROFILE sent")
	if _, over := last[domain.DeviceJobSuperseded](k); over.JobID != first || over.By.JobID != second {
		t.Errorf("%s was superseded by %s", over.JobID, over.By.JobID)
	}
	if sent := k.Sysclients.Sent(id); !slices.Equal(sent, []string{"config add TLS0 /profile strict", "config write", "config activate"}) {
		t.Errorf("sent %q", sent)
	}
	out, err := k.CancelJob(k.operator(), commands.CancelJob{ID: second})
	k.news(out, err, "job.cancelled")
	k.settle() // it is connected: the older job is the latest again
	k.hasJobs(id, "TLS_PROFILE sent")
	if sent := k.Sysclients.Sent(id); !slices.Equal(sent, []string{"config add TLS0 /profile secure", "config write", "config activate"}) {
		t.Errorf("sent %q", sent)
	}
}

// A device that has authenticated, and not said yet what it is, is no phone that fetches files: what those have no use for is
// not skipped.
func TestAJobMeetsADeviceThatHasJustConnected(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "")
	k.Sysclients.Connect(id, true)
	k.job(domain.JobTLSProfile, domain.JobParameters{"profile": "fast"})
	k.settle()
	k.hasJobs(id)
	k.registers(commands.Registration{Device: id, Product: "Other", FwBuild: "1", Foreign: true})
	k.settle()
	k.hasJobs(id, "TLS_PROFILE sent")
}

// Foreign devices get messages, their passwords under their own, and neither scripts nor software.
func TestAForeignDeviceGetsMessages(t *testing.T) {
	k := start(t)
	k.software("13r3", "135421", "Other")
	k.job(domain.JobExpert, domain.JobParameters{"script": "vars create A h 1"})
	k.job(domain.JobMedia, domain.JobParameters{"turnServer": "t.example", "turnUser": "u", "turnPassword": "t0psecret", "tosRtp": "B8"})
	id := k.assign(phone, "acme", "")
	k.registers(commands.Registration{Device: id, Product: "Other", FwBuild: "1", Foreign: true})
	k.settle()
	k.hasJobs(id, "software skipped not-pushed", "MEDIA sent", "EXPERT skipped not-supported")
	sent := k.Sysclients.Sent(id)
	var m map[string]any
	if len(sent) != 1 || json.Unmarshal([]byte(sent[0]), &m) != nil {
		t.Fatalf("sent %q", sent)
	}
	seed, _ := m["turnSeed"].(string)
	own, err := k.Vault.Open(k.ctx, k.device(id).Sysclient.Password.Password.Sealed)
	k.ok(err)
	if m["type"] != "MEDIA" || m["tosRtp"] != "0xb8" || len(seed) != 16 || m["turnPassword"] != fmt.Sprintf("%s+%x+%x", seed, own, "t0psecret") {
		t.Errorf("sent %v", m)
	}
}

// Phones of other vendors get jobs as a level of their settings when they come for their files: below their own parents,
// above their category. Fetched, they are applied; firmware is verified when the phone shows it.
func TestOtherPhonesGetJobsAsSettings(t *testing.T) {
	k := start(t, commandstest.With(func(s *commands.Service) {
		s.ZoneOf = func(posix string) string {
			return map[string]string{"CET-1CEST,M3.5.0,M10.5.0/3": "Europe/Berlin"}[posix]
		}
	}))
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "cat", TenantID: "acme", Settings: domain.Settings{"ntp_ip": "192.0.2.9", "locale": "de_DE"}})
	k.ok(err)
	_, _, err = k.DefineCategory(k.ctx, commands.DefineCategory{ID: desk, TenantID: "acme", Name: "Desk phones", Kind: "provisioning", LayerID: "cat"})
	k.ok(err)
	id := k.discover(phone)
	_, err = k.AssignDevice(k.ctx, commands.AssignDevice{ID: id, TenantID: "acme", CategoryID: desk})
	k.ok(err)
	k.settle()
	before := k.comes(phone)
	ntp := k.job(domain.JobNTP, domain.JobParameters{"ntp1": "192.0.2.1", "tz": "CET-1CEST,M3.5.0,M10.5.0/3"}, desk)
	k.job(domain.JobPhone, domain.JobParameters{"coder": "G711A", "exclusive": true, "srtpKey": "2"})
	k.job(domain.JobTLSProfile, domain.JobParameters{"profile": "fast"})
	k.software("new", "2.0", "t1")
	k.settle()
	k.hasJobs(id) // nothing before it comes
	if k.device(id).Sync.SyncID != "" {
		t.Error("it was told to fetch, which no setting asks for")
	}
	after := k.comes(phone)
	for _, line := range []string{"ntp_ip = 192.0.2.1", "timezone = Europe/Berlin", "codecs = [pcma]", "sip_srtp_mode = preferred", "firmware_release = 2.0", "locale = de_DE"} {
		if !strings.Contains(after, line+"\n") || strings.Contains(before, line+"\n") != (line == "locale = de_DE") {
			t.Errorf("%q: in the old file %v, in the new one %v", line, strings.Contains(before, line), strings.Contains(after, line))
		}
	}
	k.hasJobs(id, "software sent", "NTP applied", "PHONE applied", "TLS_PROFILE skipped not-supported")
	why, err := k.Explain(k.ctx, id, "ntp_ip")
	k.ok(err)
	if levels := why[0].Levels; len(levels) != 2 || levels[0].Name != "category" || levels[1].Name != "job "+string(ntp) {
		t.Errorf("it is explained by %+v", why[0].Levels)
	}
	upgraded := asks(phone)
	upgraded.UserAgent = "Testphone T1 2.0"
	k.serve(upgraded)
	k.hasJobs(id, "software verified", "NTP applied", "PHONE applied", "TLS_PROFILE skipped not-supported")
	_, err = k.ConfigureDevice(k.ctx, commands.ConfigureDevice{ID: id, Settings: domain.Settings{"ntp_ip": "192.0.2.77"}})
	k.ok(err)
	k.settle()
	if !strings.Contains(k.comes(phone), "ntp_ip = 192.0.2.77\n") {
		t.Error("the device's own setting does not win")
	}
	head, err := k.Log.Head(k.ctx)
	k.ok(err)
	was, err := k.ConfigAt(k.ctx, id, head)
	k.ok(err)
	for _, f := range was.Files {
		if f.Rendered != "equal" || f.Bytes != "verified" {
			t.Errorf("%s as of now: %s, %s", f.Path, f.Rendered, f.Bytes)
		}
	}
}

// A job that changes no byte of what a phone has is applied when the phone comes, and the phone's files are then current.
func TestAJobThatChangesNothing(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "")
	_, err := k.ConfigureDevice(k.ctx, commands.ConfigureDevice{ID: id, Settings: domain.Settings{"ntp_ip": "192.0.2.1", "ntp_enabled": true}})
	k.ok(err)
	k.settle()
	k.comes(phone)
	k.job(domain.JobNTP, domain.JobParameters{"ntp1": "192.0.2.1"})
	k.settle()
	k.comes(phone)
	k.hasJobs(id, "NTP applied")
	n := len(k.Log.Events())
	k.comes(phone)
	if more := k.Log.Events()[n:]; len(more) > 0 {
		t.Errorf("the next fetch records %q", types(more))
	}
}

// After a reset the phone begins anew, also with jobs it had done.
func TestAResetDeviceGetsItsJobsAgain(t *testing.T) {
	k := start(t)
	k.job(domain.JobNTP, domain.JobParameters{"ntp1": "192.0.2.1"})
	id := k.sysclient("IP222", "1")
	k.settle()
	k.registers(commands.Registration{Device: id, Product: "IP222", FwBuild: "1", BcBuild: "1"})
	k.hasJobs(id, "NTP applied")
	_, err := k.ResetDevice(k.ctx, commands.ResetDevice{ID: id})
	k.ok(err)
	k.hasJobs(id)
	_, err = k.AssignDevice(k.ctx, commands.AssignDevice{ID: id, TenantID: "acme"})
	k.ok(err)
	k.registers(commands.Registration{Device: id, Product: "IP222", FwBuild: "1", BcBuild: "1"})
	k.hasJobs(id, "NTP queued")
}

// The secrets of a job stand nowhere in clear text; left as they are, they keep their value and their seal.
func TestSecretsOfJobs(t *testing.T) {
	k := start(t)
	script := strings.Repeat("vars create T pb 00112233\n", 4000) + "vars create P pb 5ecre7"
	id := k.job(domain.JobMedia, domain.JobParameters{"turnServer": "t.example", "turnPassword": "t0psecret"})
	expert := k.job(domain.JobExpert, domain.JobParameters{"script": script})
	_, made := last[domain.JobCreated](k)
	if made.Config.Script.Size != len(script) || made.Config.Script.Lines != 4001 {
		t.Errorf("the script is on record as %+v", made.Config.Script)
	}
	for _, r := range k.Log.Events() {
		if strings.Contains(string(r.Data), "t0psecret") || strings.Contains(string(r.Data), "5ecre7") {
			t.Errorf("%s of %s holds a secret", r.Type, r.Stream)
		}
	}
	out, err := k.AmendJob(k.operator(), commands.AmendJob{ID: id, JobWish: commands.JobWish{Parameters: domain.JobParameters{"turnServer": "t.example", "turnPassword": domain.Redacted}}})
	k.news(out, err)
	out, err = k.AmendJob(k.operator(), commands.AmendJob{ID: expert, JobWish: commands.JobWish{Name: "named", Parameters: domain.JobParameters{"script": domain.Redacted}}})
	k.news(out, err, "job.amended")
	_, amended := last[domain.JobAmended](k)
	kept, err := k.JobScript(k.ctx, "acme", amended.Config.Script)
	k.ok(err)
	if kept != script {
		t.Errorf("the script is now of %d bytes", len(kept))
	}
	out, err = k.AmendJob(k.operator(), commands.AmendJob{ID: id, JobWish: commands.JobWish{Parameters: domain.JobParameters{"turnServer": "t.example", "turnPassword": "other"}}})
	k.news(out, err, "job.amended")
}

// A wish that breaks a rule names the field, and records nothing.
func TestBadJobs(t *testing.T) {
	k := start(t)
	_, _, err := k.DefineCategory(k.ctx, commands.DefineCategory{ID: "lobby", TenantID: "globex", Name: "Lobby", Kind: "provisioning"})
	k.ok(err)
	soft := func(change func(*commands.JobWish)) commands.CreateJob {
		in := commands.CreateJob{TenantID: "acme", Type: domain.JobSoftware, JobWish: commands.JobWish{Release: "13r3", Catalogue: catalogue("13r3", "135421", "IP222")}}
		change(&in.JobWish)
		return in
	}
	config := func(kind string, p domain.JobParameters) commands.CreateJob {
		return commands.CreateJob{TenantID: "acme", Type: kind, JobWish: commands.JobWish{Parameters: p}}
	}
	for field, in := range map[string]commands.CreateJob{
		"release":             soft(func(w *commands.JobWish) { w.Release = "14r1" }),
		"catalogue":           soft(func(w *commands.JobWish) { w.Catalogue = json.RawMessage("[]") }),
		"base_url":            soft(func(w *commands.JobWish) { w.BaseURL = "ftp://x" }),
		"parameters":          soft(func(w *commands.JobWish) { w.Parameters = domain.JobParameters{"ntp1": "x"} }),
		"parameters.ntp1":     config(domain.JobNTP, domain.JobParameters{"ntp1": "not a host"}),
		"parameters.gk3":      config(domain.JobPhone, domain.JobParameters{"gk3": "x"}),
		"type":                config("DECT", nil),
		"parameters.natFirst": config(domain.JobMedia, domain.JobParameters{"setRtpPorts": true, "rtpFirst": 4000, "rtpNum": 200, "setNatPorts": true, "natFirst": 4100, "natNum": 200}),
	} {
		var bad *commands.InvalidError
		k.refused(commands.ErrInvalid, func() error {
			_, _, err := k.CreateJob(k.operator(), in)
			if !errors.As(err, &bad) || bad.Field != field {
				t.Errorf("%s: answered %v", field, err)
			}
			return err
		})
	}
	k.refused(domain.ErrCategoryOfOtherTenant, func() error {
		in := config(domain.JobNTP, domain.JobParameters{"ntp1": "x"})
		in.Categories = []domain.CategoryID{"lobby"}
		_, _, err := k.CreateJob(k.operator(), in)
		return err
	})
	k.refused(domain.ErrJobUnknown, func() error {
		_, err := k.CancelJob(k.operator(), commands.CancelJob{ID: "nosuch"})
		return err
	})
}

// A dry run shows what a job would do to every device, as far as can be known, and does nothing.
func TestADryRunOfAJob(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "")
	k.settle()
	k.comes(phone)
	n := len(k.Log.Events())
	plan, err := k.DryRun(k.ctx, func(ctx context.Context, s *commands.Service) error {
		_, _, err := s.CreateJob(ctx, commands.CreateJob{TenantID: "acme", Type: domain.JobNTP, JobWish: commands.JobWish{Parameters: domain.JobParameters{"ntp1": "192.0.2.1"}}})
		return err
	})
	k.ok(err)
	if got, want := types(plan.Events), []string{"job.created", "device.jobs_selected", "device.config_regenerated"}; !slices.Equal(got, want) {
		t.Errorf("planned %q, want %q", got, want)
	}
	if len(plan.Files) != 1 || plan.Files[0].Device != id || !strings.Contains(plan.Files[0].After, "ntp_ip = 192.0.2.1") {
		t.Errorf("the files are %+v", plan.Files)
	}
	if len(k.Log.Events()) != n {
		t.Error("something was recorded")
	}
}
