// Package audit asks of a long history what an auditor asks: what did this phone get on that day, and is it proven?
package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/rig"
)

// number is a size of the test, bigger in a campaign.
func number(t *testing.T, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q", name, text)
	}
	return n
}

// fetched is what a phone got, kept by the simulator, outside the system.
type fetched struct {
	device domain.DeviceID
	path   string
	at     domain.Position
	bytes  string
}

// site is a place with phones, through one year.
type site struct {
	*rig.Rig
	t       *testing.T
	now     atomic.Int64 // the engine's clock
	random  *rand.Rand
	phones  []domain.MAC
	latest  map[domain.MAC]string // what the phone fetched last
	journal []fetched
	erased  map[domain.DeviceID]bool // it, or whose lines it had
	renamed int
}

// upgraded are the built-in packages with a release of yealink that writes one line more.
func upgraded(t *testing.T, version string) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	err := fs.WalkDir(plugins.Builtin(), "yealink", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, "testdata") {
			return err
		}
		b, err := fs.ReadFile(plugins.Builtin(), path)
		switch path {
		case "yealink/plugin.yaml":
			b = []byte(strings.Replace(string(b), "version: 1.0.0", "version: "+version, 1))
		case "yealink/device.tmpl":
			b = append(b, "\nfeatures.text_message.enable = 0\n"...)
		}
		out[path] = &fstest.MapFile{Data: b}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) open(dir string, sources ...fs.FS) {
	s.t.Helper()
	r, err := rig.Open(s.t.Context(), dir, sources...)
	s.ok(err)
	r.Service.Now = func() time.Time { return time.Unix(s.now.Load(), 0) }
	s.ok(r.Start(s.t.Context()))
	<-r.Runner.Ready()
	s.Rig = r
}

func (s *site) line(i int) domain.LineID     { return domain.LineID(fmt.Sprintf("l%d", i)) }
func (s *site) user(i int) domain.UserID     { return domain.UserID(fmt.Sprintf("u%d", i)) }
func (s *site) device(i int) domain.DeviceID { return domain.DeviceID(s.phones[i]) }

func (s *site) furnish(phones int) {
	ctx := s.t.Context()
	do := func(_ any, _ commands.Outcome, err error) { s.t.Helper(); s.ok(err) }
	do(s.Service.CreateTenant(ctx, commands.CreateTenant{ID: "acme", Name: "Acme", Domain: "acme.example"}))
	do(s.Service.DefineLayer(ctx, commands.DefineLayer{ID: domain.TenantLayer("acme"), TenantID: "acme", Name: "all", Settings: domain.Settings{
		"sip_proxy_ip": "pbx.acme.example", "sip_registrar_ip": "pbx.acme.example", "timezone": "Europe/Berlin"}}))
	for i := range 4 {
		layer := domain.LayerID(fmt.Sprintf("floor%d", i))
		do(s.Service.DefineLayer(ctx, commands.DefineLayer{ID: layer, TenantID: "acme", Name: "floor", Settings: domain.Settings{"locale": "de_DE"}}))
		do(s.Service.DefineCategory(ctx, commands.DefineCategory{ID: domain.CategoryID(layer), TenantID: "acme", Name: "floor", Kind: "provisioning", LayerID: layer}))
	}
	for i := range phones {
		mac := domain.MAC(fmt.Sprintf("0015651a%04x", i))
		s.phones = append(s.phones, mac)
		do(s.Service.DefineUser(ctx, commands.DefineUser{ID: s.user(i), TenantID: "acme", DisplayName: fmt.Sprintf("Canary Person %d", i)}))
		do(s.Service.DefineLine(ctx, commands.DefineLine{ID: s.line(i), TenantID: "acme", UserID: s.user(i), Number: fmt.Sprint(2000 + i), Username: fmt.Sprintf("acme%d", i),
			Password: fmt.Sprintf("canary-%d-0", i)}))
		do(s.Service.DiscoverDevice(ctx, commands.DiscoverDevice{MAC: mac, Vendor: "Yealink", Model: "T54W", Firmware: "96.86.0.70", Added: "operator", TenantID: "acme",
			CategoryID: domain.CategoryID(fmt.Sprintf("floor%d", i%4)), UserID: s.user(i)}))
	}
}

// day does what people do in a day.
func (s *site) day(n int) {
	ctx := commands.WithCaller(s.t.Context(), commands.Caller{Actor: "apikey:operator", Reason: fmt.Sprintf("day %d", n)})
	for range 1 + s.random.IntN(4) {
		i := s.random.IntN(len(s.phones))
		if s.erased[s.device(i)] {
			continue
		}
		var err error
		switch s.random.IntN(6) {
		case 0:
			_, err = s.Service.RotateLineSecret(ctx, commands.RotateLineSecret{ID: s.line(i), Password: fmt.Sprintf("canary-%d-%d", i, n)})
		case 1:
			s.renamed++
			_, err = s.Service.AmendUser(ctx, commands.AmendUser{ID: s.user(i), DisplayName: fmt.Sprintf("Canary Person %d, named %d", i, s.renamed)})
		case 2:
			_, err = s.Service.ConfigureDevice(ctx, commands.ConfigureDevice{ID: s.device(i), Settings: domain.Settings{"admin_password": fmt.Sprintf("canary-admin-%d", n), "ntp_ip": fmt.Sprintf("ntp%d.example", n)}})
		case 3:
			_, err = s.Service.AmendLine(ctx, commands.AmendLine{ID: s.line(i), Number: fmt.Sprint(2000 + i), Username: fmt.Sprintf("acme%d", i), AuthUsername: fmt.Sprintf("auth%d", n)})
		default:
			floor := domain.LayerID(fmt.Sprintf("floor%d", i%4))
			_, err = s.Service.AmendLayer(ctx, commands.AmendLayer{ID: floor, Name: "floor", Settings: domain.Settings{"locale": []string{"de_DE", "fr_FR", "en_US"}[s.random.IntN(3)],
				"syslog_enabled": true, "syslog_ip": fmt.Sprintf("10.0.%d.%d", n/250, n%250)}})
		}
		s.ok(err)
	}
}

// fetch lets every phone look for news; one that got other bytes than before writes it down.
func (s *site) fetch() {
	at, err := s.Settle(s.t.Context())
	s.ok(err)
	for _, mac := range s.phones {
		if s.erased[domain.DeviceID(mac)] {
			continue
		}
		path := string(mac) + ".cfg"
		v, err := s.Service.ServeFile(s.t.Context(), commands.ServeFile{Asked: commands.Asked{Path: path, UserAgent: "Yealink SIP-T54W 96.86.0.70 " + string(mac)},
			Via: "mac", Transport: "http", IP: "10.0.0.9", Trusted: true})
		s.ok(err)
		content, _ := v.Content()
		text, err := io.ReadAll(content)
		s.ok(err)
		if s.latest[mac] == v.File.MAC {
			continue
		}
		s.latest[mac] = v.File.MAC
		s.journal = append(s.journal, fetched{domain.DeviceID(mac), v.File.Path, at, string(text)})
	}
}

// A year of one site: for random phones and moments the bytes are those the phone fetched then, kept and made anew; of
// the erased it is said that nothing can be proven any more, and nothing of theirs is shown.
func TestAYearOfOneSite(t *testing.T) {
	wanted := number(t, "LEDGERLINE_YEAR_EVENTS", 1200)
	s := &site{t: t, random: rand.New(rand.NewPCG(2026, 1121)), latest: map[domain.MAC]string{}, erased: map[domain.DeviceID]bool{}}
	begin := time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)
	s.now.Store(begin.Unix())
	dir := t.TempDir()
	s.open(dir)
	s.furnish(number(t, "LEDGERLINE_YEAR_PHONES", 25))
	s.fetch()
	releases := []fs.FS{}
	for n := range 365 {
		s.now.Store(begin.AddDate(0, 0, n).Unix())
		switch n {
		case 120, 240: // a new release of the program brings a new one of the plugin
			s.ok(s.Close())
			releases = append(releases, upgraded(t, fmt.Sprintf("1.%d.0", n)))
			s.open(dir, releases...)
		case 60, 150, 200, 300, 330: // a user, or a phone, is forgotten
			i := s.random.IntN(len(s.phones))
			subject := domain.Subject(s.user(i).Stream())
			if n == 200 {
				subject = s.device(i).Subject()
			}
			_, err := s.Service.EraseSubject(t.Context(), commands.EraseSubject{Subject: subject})
			s.ok(err)
			s.erased[s.device(i)] = true
		}
		head, err := s.Ledger.Head(t.Context())
		s.ok(err)
		if due := uint64(wanted * n / 365); head.Commit < due {
			s.day(n)
			for head.Commit+uint64(len(s.phones)) < due { // a busy day
				s.day(n)
				head, err = s.Settle(t.Context())
				s.ok(err)
			}
		}
		s.fetch()
	}
	head, err := s.Ledger.Head(t.Context())
	s.ok(err)
	s.prove(200, false)
	s.prove(50, true)
	report, err := s.Ledger.Verify(t.Context(), domain.Position{})
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("after a year: %v %v", err, report.Findings)
	}
	t.Logf("%s events, %d fetches of something new, %d subjects erased", head, len(s.journal), len(s.erased))
	s.ok(s.Close())
}

// prove compares n random fetches of the journal, of subjects erased or not, with what the system says of that moment.
func (s *site) prove(n int, erased bool) {
	var of []fetched
	for _, f := range s.journal {
		if s.erased[f.device] == erased {
			of = append(of, f)
		}
	}
	if len(of) == 0 {
		s.t.Fatalf("no fetch of a subject erased: %v", erased)
	}
	for range n {
		f := of[s.random.IntN(len(of))]
		past, err := s.Service.ConfigAt(s.t.Context(), f.device, f.at)
		s.ok(err)
		var file commands.PastFile
		for _, p := range past.Files {
			if p.Path == f.path {
				file = p
			}
		}
		_, data, _, err := s.Service.RevealConfig(s.t.Context(), commands.RevealConfig{ID: f.device, Path: f.path, At: f.at})
		if strings.Contains(string(file.Text), "canary-") {
			s.t.Fatalf("%s at %s shows a secret", f.path, f.at)
		}
		if !erased {
			s.ok(err)
			if string(data) != f.bytes || file.Bytes != "verified" || file.Rendered != "equal" {
				s.t.Fatalf("%s at %s: same bytes %v, %s, rendered %s", f.path, f.at, string(data) == f.bytes, file.Bytes, file.Rendered)
			}
			continue
		}
		if !errors.Is(err, domain.ErrErased) || len(data) > 0 || !strings.HasPrefix(file.Bytes, "unverifiable: key destroyed at ") || past.Erased.IsZero() {
			s.t.Fatalf("%s of an erased subject at %s: %v, %d bytes, %s", f.path, f.at, err, len(data), file.Bytes)
		}
	}
}
