package updateserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"ledgerline/adapters/updateserver/script"
	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

const (
	phone  = domain.MAC("0090335a0b1c")
	spare  = domain.MAC("0090335a0b1d")
	base   = "http://192.0.2.1:8667"
	secret = "canary-secret"
	// What phones send: identity as their URL has it, then the standard arguments.
	identity = "sn=00-90-33-5a-0b-1c&type=IP222&hwid=IP222-5a-0b-1c&ip=10.1.2.3"
	standard = "&ver=13r3%20sr1%20[13.5421/135421/1300]&PROT=135421&PROTdate=0&BOOT=131286&BOOTdate=0&CFG=&CFGdate=&SCFG=20261102&SCFGdate=0&CHECKdate=0"
)

// bench is an update server over fakes, with one assigned phone.
type bench struct {
	*commandstest.Kit
	t    testing.TB
	web  *httptest.Server
	peer atomic.Pointer[Peer]
	log  bytes.Buffer
	// serving is held while a request is answered, and what follows from it recorded.
	serving sync.Mutex
}

func open(t testing.TB, settings domain.Settings) *bench {
	t.Helper()
	b := &bench{Kit: commandstest.NewService(t), t: t}
	b.peer.Store(&Peer{IP: "10.1.2.3", Trusted: true})
	h := New(Options{Service: b.Service, Peer: func(context.Context) Peer { return *b.peer.Load() }, Base: base + "/", Now: b.Clock.Now,
		Files: fstest.MapFS{"134250/ip222.bin": {Data: []byte("firmware")}, "134250/boot222.bin": {Data: []byte("boot code")}, "134250/other.txt": {}}})
	logger := zerolog.New(&b.log)
	b.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.serving.Lock()
		defer b.serving.Unlock()
		h.ServeHTTP(w, r.WithContext(logger.WithContext(r.Context())))
	}))
	t.Cleanup(b.web.Close)
	ctx := t.Context()
	_, _, err := b.Service.CreateTenant(ctx, commands.CreateTenant{ID: "acme", Name: "Acme", Domain: "acme.example"})
	b.ok(err)
	_, _, err = b.Service.DefineLayer(ctx, commands.DefineLayer{ID: "tenant.acme", TenantID: "acme", Settings: settings})
	b.ok(err)
	b.assign(phone)
	return b
}

func (b *bench) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) assign(mac domain.MAC) {
	b.t.Helper()
	id, _, err := b.Service.DiscoverDevice(b.t.Context(), commands.DiscoverDevice{MAC: mac, Vendor: "innovaphone", Model: "IP222", Added: "operator"})
	b.ok(err)
	_, err = b.Service.AssignDevice(b.t.Context(), commands.AssignDevice{ID: id, TenantID: "acme"})
	b.ok(err)
}

// secretOf is the path secret of a device.
func (b *bench) secretOf(mac domain.MAC) string {
	b.t.Helper()
	d, _, err := b.Service.DeviceOfMAC(b.t.Context(), mac)
	b.ok(err)
	clear, err := b.Vault.Open(b.t.Context(), d.Secret.Sealed)
	b.ok(err)
	return clear
}

func (b *bench) get(path string) (int, string) {
	b.t.Helper()
	r, err := b.web.Client().Get(b.web.URL + path)
	b.ok(err)
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	b.ok(err)
	b.serving.Lock() // the phone has its answer before that is recorded
	defer b.serving.Unlock()
	return r.StatusCode, string(body)
}

// script wants commands, one a line.
func (b *bench) script(path string, want ...string) {
	b.t.Helper()
	status, got := b.get(path)
	if diff := cmp.Diff(strings.Join(want, "\r\n"), got); diff != "" || status != 200 {
		b.t.Errorf("%s: %d\n%s", path, status, diff)
	}
}

func (b *bench) count(kind string) (n int) {
	for _, r := range b.Log.Events() {
		if r.Type == kind {
			n++
		}
	}
	return n
}

// A phone that is a sysclient too, and asks here before its job was carried out there, is told what its software job
// wants; a setting of its own wins, and a job that has failed for good is not repeated here.
func TestScriptHasThePinnedSoftware(t *testing.T) {
	b := open(t, domain.Settings{"firmware_release": "120000"})
	_, _, err := b.Service.CreateJob(t.Context(), commands.CreateJob{TenantID: "acme", Type: domain.JobSoftware, JobWish: commands.JobWish{Release: "14r1", BaseURL: "http://fw.example/store",
		Catalogue: []byte(`{"devices":[{"id":"IP222","versions":["14r1"]}],"versions":[{"id":"14r1","build":"140001"}]}`)}})
	b.ok(err)
	d, _, err := b.Service.DeviceOfMAC(t.Context(), phone)
	b.ok(err)
	register := func(build string) {
		t.Helper()
		_, err := b.Service.RegisterDevice(t.Context(), commands.Registration{Device: d.ID, Product: "IP222", FwBuild: build, BcBuild: build})
		b.ok(err)
	}
	asks := func() (loads []string) {
		t.Helper()
		_, got := b.get("/update/script?" + identity + standard)
		for line := range strings.Lines(got) {
			if strings.HasPrefix(line, "mod cmd UP0 boot") || strings.HasPrefix(line, "mod cmd UP0 prot") {
				loads = append(loads, strings.TrimSpace(line))
			}
		}
		return loads
	}
	for _, c := range []struct {
		what string
		do   func()
		want []string
	}{
		{"it has not registered", func() {}, nil}, // the tenant's build is not among our files
		{"it has", func() { register("135421") }, []string{"mod cmd UP0 boot http://fw.example/store/140001/boot222.bin ser 140001", "mod cmd UP0 prot http://fw.example/store/140001/ip222.bin ser 140001"}},
		{"it has a setting of its own", func() {
			_, err := b.Service.ConfigureDevice(t.Context(), commands.ConfigureDevice{ID: d.ID, Settings: domain.Settings{"firmware_release": "140002", commands.SettingBootCode: "131286"}})
			b.ok(err)
		}, []string{"mod cmd UP0 prot http://fw.example/store/140002/ip222.bin ser 140002"}},
		{"the job has failed for good", func() {
			_, err := b.Service.ConfigureDevice(t.Context(), commands.ConfigureDevice{ID: d.ID, Settings: domain.Settings{}})
			b.ok(err)
			b.Sysclients.Answering(func(domain.DeviceID, string) int { return 400 })
			b.Sysclients.Connect(d.ID, true)
			for range domain.JobAttempts {
				register("135421")
				b.ok(b.Service.SendJobs(t.Context(), d.ID))
			}
		}, nil},
	} {
		c.do()
		if diff := cmp.Diff(c.want, asks()); diff != "" {
			t.Errorf("%s:\n%s", c.what, diff)
		}
	}
}

func TestFirstContactIsToldAURL(t *testing.T) {
	b := open(t, nil)
	for _, path := range []string{"/update/update-ip222.htm?ver=13r3&PROT=1", "/update/", "/update/script", "/update/script?sn=#m"} {
		b.script(strings.Replace(path, "#", "%23", 1), "config add UP1 /url http%3A%2F%2F192.0.2.1%3A8667%2Fupdate%2Fscript%3Fsn%3D%23m%26type%3D%23t%26hwid%3D%23h%26ip%3D%23i",
			"config add UP1 /no-dhcp", "config write", "config activate")
	}
	_, got := b.get("/update/")
	line, _, _ := strings.Cut(got, "\r\n")
	if stored, err := script.Unescape(strings.Fields(line)[4]); stored != base+"/update/script?sn=#m&type=#t&hwid=#h&ip=#i" || err != nil {
		t.Errorf("the phone stores %q, %v", stored, err)
	}
	b.script("/update/d/"+b.secretOf(phone)+"/script", "config add UP1 /url "+script.Escape(base+"/update/d/"+b.secretOf(phone)+"/script?sn=#m&type=#t&hwid=#h&ip=#i"),
		"config add UP1 /no-dhcp", "config write", "config activate")
}

// The life of a phone: it gets its commands, runs them, shows their serial, and is left alone until something changes.
func TestAPhoneRunsItsScriptOnce(t *testing.T) {
	b := open(t, domain.Settings{"X_innovaphone_script": []any{"config change NTP0 /addr 192.0.2.9", "# said why", "config change PHONE/SIG /pwd " + secret}})
	own := "/update/d/" + b.secretOf(phone)
	serial := ""
	want := func() []string {
		return []string{"config add UP1 /url " + script.Escape(base+own+"/script?sn=#m&type=#t&hwid=#h&ip=#i"), "config add UP1 /no-dhcp", "mod cmd UP1 provision 0",
			"config rem UP1 /provisioning", "config rem UP1 /provision", "config add UP1 /poll 15", "config change NTP0 /addr 192.0.2.9", "config change PHONE/SIG /pwd " + secret,
			"config write", "config activate", "mod cmd UP1 check ser " + serial, "iresetn"}
	}
	_, first := b.get("/update/script?" + identity + standard + "&CHECK=")
	serial = first[strings.Index(first, "check ser ")+10:][:16]
	b.script("/update/script?"+identity+standard+"&CHECK=", want()...)
	if n := b.count("device.script_delivered"); n != 1 {
		t.Errorf("delivered %d times", n)
	}
	// From now on by its own path; the MAC alone opens nothing any more, once that has been used.
	b.script(own+"/script?"+identity+standard+"&CHECK=", want()...)
	b.script(own+"/script?"+identity+standard+"&CHECK="+serial, "# nothing to do")
	b.script(own+"/script?"+identity+standard+"&CHECK="+serial, "# nothing to do")
	if n := b.count("device.script_run"); n != 1 {
		t.Errorf("run %d times", n)
	}
	if status, _ := b.get("/update/script?" + identity + "&CHECK="); status != 404 {
		t.Errorf("by MAC alone: %d", status)
	}
	_, _, err := b.Service.DefineLayer(t.Context(), commands.DefineLayer{ID: "x", TenantID: "acme"})
	b.ok(err)
	_, err = b.Service.AmendLayer(t.Context(), commands.AmendLayer{ID: "tenant.acme", Settings: domain.Settings{"X_innovaphone_poll": 60}})
	b.ok(err)
	_, got := b.get(own + "/script?" + identity + standard + "&CHECK=" + serial)
	if !strings.Contains(got, "config add UP1 /poll 60") || strings.Contains(got, secret) || strings.Contains(got, serial) {
		t.Errorf("after a change:\n%s", got)
	}
	if b.count("device.script_delivered") != 2 {
		t.Error("the change was not delivered")
	}
	for _, r := range b.Log.Events() {
		if strings.Contains(string(r.Data), secret) {
			t.Errorf("%s holds a secret", r.Type)
		}
	}
	if log := b.log.String(); strings.Contains(log, b.secretOf(phone)) || strings.Contains(log, "5a-0b") || strings.Contains(log, secret) {
		t.Errorf("the log has\n%s", log)
	}
}

func TestOncePathIsUsedTheMACOpensNothing(t *testing.T) {
	b := open(t, nil)
	if status, _ := b.get("/update/d/" + b.secretOf(phone) + "/script?sn=" + string(spare)); status != 404 {
		t.Errorf("another phone by the secret: %d", status)
	}
	if status, _ := b.get("/update/d/" + b.secretOf(phone) + "/script?" + identity); status != 200 {
		t.Fatal(status)
	}
	if status, got := b.get("/update/script?" + identity); status != 404 || got != "not found\n" {
		t.Errorf("%d %q", status, got)
	}
}

func TestTheOrderOfAScript(t *testing.T) {
	b := open(t, domain.Settings{"X_innovaphone_staging": true, "X_innovaphone_times": "22,23,0, 99,x", "X_innovaphone_initial": 10, "firmware_release": "13.4250", "X_innovaphone_boot": "134250"})
	_, got := b.get("/update/script?" + identity + strings.Replace(standard, "SCFG=20261102", "SCFG=20261101", 1) + "&CHECK=")
	own := base + "/update/d/" + b.secretOf(phone)
	want := []string{"mod cmd UP1 provision 5", "config add UP1 /poll 1", "mod cmd UP0 scfg " + own + "/backup?sn=#m&type=#t&hwid=#h&ip=#i ser 20261102",
		"mod cmd UP1 times /allow 22,23,0 /initial 10", "mod cmd UP0 boot " + base + "/update/files/134250/boot222.bin ser 134250",
		"mod cmd UP0 prot " + base + "/update/files/134250/ip222.bin ser 134250", "iresetn", "config add UP1 /url " + script.Escape(own+"/script?sn=#m&type=#t&hwid=#h&ip=#i")}
	lines := strings.Split(got, "\r\n")
	if diff := cmp.Diff(want, lines[:min(len(want), len(lines))]); diff != "" {
		t.Error(diff)
	}
	// Hours alone restrict nothing.
	quiet := open(t, domain.Settings{"X_innovaphone_times": "22"})
	_, got = quiet.get("/update/script?" + identity + standard + "&CHECK=")
	quiet.script("/update/script?"+identity+standard+"&CHECK="+got[strings.Index(got, "check ser ")+10:][:16], "# nothing to do")
	// A phone that has the builds is not asked to fetch them.
	_, got = b.get("/update/script?" + identity + "&PROT=134250&BOOT=134250&SCFG=20261102&CHECK=")
	if strings.Contains(got, "prot") || strings.Contains(got, "UP0") {
		t.Errorf("%s", got)
	}
}

func TestFirmware(t *testing.T) {
	b := open(t, domain.Settings{"firmware_release": "999", "X_innovaphone_backup": false})
	_, got := b.get("/update/script?" + identity + standard + "&CHECK=")
	if !strings.HasPrefix(got, "# ip222.bin of build 999 is not here\r\nconfig add UP1") {
		t.Errorf("%s", got)
	}
	elsewhere := open(t, domain.Settings{"firmware_release": "999", "X_innovaphone_firmware_url": "http://fw.example/innovaphone/"})
	if _, got := elsewhere.get("/update/script?" + identity + standard + "&CHECK="); !strings.HasPrefix(got, "mod cmd UP0 prot http://fw.example/innovaphone/999/ip222.bin ser 999\r\niresetn\r\n") {
		t.Errorf("%s", got)
	}
	for path, want := range map[string]string{"/update/files/134250/ip222.bin": "firmware", "/update/files/134250/boot222.bin": "boot code"} {
		if status, got := b.get(path); status != 200 || got != want {
			t.Errorf("%s: %d %q", path, status, got)
		}
	}
	for _, path := range []string{"/update/files/134250/other.txt", "/update/files/1/ip222.bin", "/update/files/..%2f/ip222.bin", "/update/files/134250/ip222.bin%00"} {
		if status, _ := b.get(path); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
	b.peer.Store(&Peer{})
	if status, _ := b.get("/update/files/134250/ip222.bin"); status != 404 {
		t.Errorf("from outside: %d", status)
	}
}

// Everything that is not this phone's to have is one answer.
func TestWhoGetsNothing(t *testing.T) {
	b := open(t, nil)
	b.assign(spare)
	for what, c := range map[string]struct {
		path string
		peer Peer
	}{
		"a stranger":                     {"/update/script?sn=0090335affff", Peer{Trusted: true}},
		"by MAC from outside":            {"/update/script?" + identity, Peer{}},
		"by MAC over TLS from outside":   {"/update/script?" + identity, Peer{Secure: true}},
		"a wrong secret":                 {"/update/d/nonsense/script?" + identity, Peer{Trusted: true}},
		"another phone's secret":         {"/update/d/" + b.secretOf(spare) + "/script?" + identity, Peer{Trusted: true}},
		"its secret in clear from afar":  {"/update/d/" + b.secretOf(phone) + "/script?" + identity, Peer{}},
		"another phone's certificate":    {"/update/script?" + identity, Peer{Trusted: true, Secure: true, MAC: spare, Name: string(spare)}},
		"another phone's hardware id":    {"/update/script?" + identity, Peer{Trusted: true, Secure: true, Name: "IP222-5a-0b-1d"}},
		"a certificate of something":     {"/update/script?" + identity, Peer{Trusted: true, Secure: true, Name: "www.example.com"}},
		"a certificate over the secret":  {"/update/d/" + b.secretOf(phone) + "/script?" + identity, Peer{Trusted: true, Secure: true, Name: "IP222-00-00-00"}},
		"another vendor's with that end": {"/update/script?sn=0015655a0b1c", Peer{Secure: true, Name: "IP222-5a-0b-1c"}},
	} {
		b.peer.Store(&c.peer)
		if status, got := b.get(c.path); status != 404 || got != "not found\n" {
			t.Errorf("%s: %d %q", what, status, got)
		}
	}
	// Certificates that are this phone's, an early one with a wrong model letter among them.
	for _, name := range []string{"IP222-5a-0b-1c", "IP222s-5A-0B-1C", "0090335a0b1c", "00-90-33-5a-0b-1c"} {
		b.peer.Store(&Peer{IP: "198.51.100.7", Secure: true, Name: name})
		if status, got := b.get("/update/script?" + identity + "&CHECK="); status != 200 || !strings.Contains(got, "config add UP1 /url") {
			t.Errorf("%s: %d %q", name, status, got)
		}
	}
	fresh := open(t, nil)
	_, _, err := fresh.Service.DiscoverDevice(t.Context(), commands.DiscoverDevice{MAC: spare, Vendor: "innovaphone", Model: "IP222", Added: "operator"})
	fresh.ok(err)
	fresh.script("/update/script?sn="+string(spare), "# nobody has configured this phone")
}

func (b *bench) put(path string, body io.Reader) int {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPut, b.web.URL+path, body)
	b.ok(err)
	answer, err := b.web.Client().Do(r)
	b.ok(err)
	answer.Body.Close()
	return answer.StatusCode
}

const saved = "config change IP0 /dns 192.0.2.1\r\nvars create UPDATE/CHECK p 17\r\nconfig change CMD0 /user admin," + secret + "\r\n"

func TestBackups(t *testing.T) {
	b := open(t, nil)
	path := "/update/backup?" + identity
	steps := []struct {
		body   string
		after  time.Duration
		status int
		kept   int
	}{
		{saved, 0, 204, 1},
		{strings.Replace(saved, "p 17", "p 18", 1), time.Minute, 204, 1},           // nothing that stays
		{strings.Replace(saved, "192.0.2.1", "192.0.2.2", 1), time.Minute, 429, 1}, // too soon
		{strings.Replace(saved, "192.0.2.1", "192.0.2.2", 1), 5 * time.Minute, 204, 2},
		{"", 5 * time.Minute, 400, 2},
		{strings.Repeat("x", maxBackup+1), 5 * time.Minute, 413, 2},
		{saved, 5 * time.Minute, 204, 3},
	}
	for i, s := range steps {
		b.Clock.Advance(s.after)
		if got := b.put(path, struct{ io.Reader }{strings.NewReader(s.body)}); got != s.status { // of unknown length: chunked
			t.Errorf("step %d: %d, want %d", i, got, s.status)
		}
		all, err := b.Service.Backups(t.Context(), domain.DeviceID(phone))
		b.ok(err)
		if len(all) != s.kept {
			t.Errorf("step %d: %d kept, want %d", i, len(all), s.kept)
		}
	}
	all, err := b.Service.Backups(t.Context(), domain.DeviceID(phone))
	b.ok(err)
	_, data, err := b.Service.BackupBytes(t.Context(), domain.DeviceID(phone), all[0].Revision)
	if string(data) != saved || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	for _, r := range b.Log.Events() {
		if strings.Contains(string(r.Data), secret) {
			t.Errorf("%s holds a secret", r.Type)
		}
	}
	for _, bad := range []string{"/update/backup?sn=0090335affff", "/update/d/nonsense/backup?" + identity, "/update/backup"} {
		if got := b.put(bad, strings.NewReader(saved)); got != 404 {
			t.Errorf("%s: %d", bad, got)
		}
	}
}

func TestOldBackupsAreErased(t *testing.T) {
	b := open(t, nil)
	for i := range commands.KeptBackups + 2 {
		b.Clock.Advance(commands.BackupSpacing)
		if got := b.put("/update/backup?"+identity, strings.NewReader(fmt.Sprintf("config change X /n %d", i))); got != 204 {
			t.Fatal(got)
		}
	}
	all, err := b.Service.Backups(t.Context(), domain.DeviceID(phone))
	b.ok(err)
	for i, k := range all {
		_, _, err := b.Service.BackupBytes(t.Context(), domain.DeviceID(phone), k.Revision)
		if (err == nil) != (i >= 2) {
			t.Errorf("backup %d: %v", i, err)
		}
	}
}

// A real client that sends in chunks, larger than one.
func TestCurlUploads(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Log("not run: curl is not installed")
		return
	}
	b := open(t, nil)
	config := []byte(strings.Repeat("config change X /n 1\r\n", 20_000) + "vars create A/" + rand.Text() + " x 1\r\n")
	file := filepath.Join(t.TempDir(), "config")
	b.ok(os.WriteFile(file, config, 0o600))
	out, err := exec.CommandContext(t.Context(), curl, "-sS", "-o", "-", "-w", "%{http_code}", "-H", "Transfer-Encoding: chunked", "-T", file, b.web.URL+"/update/backup?"+identity).CombinedOutput()
	if string(out) != "204" || err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	all, err := b.Service.Backups(t.Context(), domain.DeviceID(phone))
	if err != nil || len(all) != 1 || all[0].Size != len(config) {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestOurTroubleIsNoRefusal(t *testing.T) {
	b := open(t, nil)
	b.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Put" || c.Method == "Append" {
			return commandstest.Fault{Before: domain.ErrReadOnly}
		}
		return commandstest.Fault{}
	})
	if got := b.put("/update/backup?"+identity, strings.NewReader(saved)); got != 503 {
		t.Errorf("%d", got)
	}
	// The phone gets its script nonetheless; what it got is recorded when it asks again.
	if status, _ := b.get("/update/script?" + identity + "&CHECK="); status != 200 || b.count("device.script_delivered") != 0 {
		t.Errorf("%d", status)
	}
	b.Faults.Set(nil)
	if status, _ := b.get("/update/script?" + identity + "&CHECK="); status != 200 || b.count("device.script_delivered") != 1 {
		t.Errorf("%d", status)
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add("/update/script", identity+standard)
	f.Add("/update/d/x/backup", "sn=%zz&&=")
	f.Add("/update/files/1/ip1.bin", "")
	b := open(f, nil)
	h := New(Options{Service: b.Service, Peer: func(context.Context) Peer { return Peer{Trusted: true} }, Base: base, Files: fstest.MapFS{"1/ip1.bin": {}}})
	f.Fuzz(func(t *testing.T, path, query string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, (&http.Request{Method: "GET", Host: "x", URL: &url.URL{Path: path, RawQuery: query}}).WithContext(t.Context()))
		if w.Code >= 500 {
			t.Fatalf("%d", w.Code)
		}
		if w.Code == 200 && !strings.HasPrefix(path, "/update/files") {
			if _, err := script.Parse(w.Body.Bytes()); err != nil {
				t.Fatalf("%v in %q", err, w.Body)
			}
		}
	})
}
