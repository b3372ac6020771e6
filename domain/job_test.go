package domain_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ledgerline/domain"
)

// made is one job of a random history, as the reference would tell it.
type made struct {
	domain, kind string
	categories   []domain.CategoryID
	id           domain.JobID
	cancelled    bool
}

// wins is the selection written straight from the rules of the reference: a device is updated according to the latest
// matching software job; of configuration, for every type the latest matching job applies; no categories means every
// device of the domain (§2.1, §2.2).
func wins(all []made, ofDomain string, category domain.CategoryID) map[string]domain.JobID {
	latest := map[string]domain.JobID{}
	for _, job := range all {
		if job.domain == ofDomain && !job.cancelled && (len(job.categories) == 0 || slices.Contains(job.categories, category)) {
			latest[job.kind] = job.id
		}
	}
	return latest
}

// Whatever jobs are made, amended and cancelled in whatever domains and order, a device gets what the reference says.
func TestSelectionFollowsTheReference(t *testing.T) {
	kinds := []string{domain.JobSoftware}
	for _, kind := range domain.JobTypes() {
		kinds = append(kinds, kind.Type)
	}
	categories := []domain.CategoryID{"", "desk", "lobby", "door"}
	rapid.Check(t, func(t *rapid.T) {
		streams := map[string]domain.Jobs{}
		var all []made
		record := func(of string, events []domain.Event, err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				streams[of] = streams[of].Apply(e)
			}
		}
		for i := range rapid.IntRange(0, 40).Draw(t, "jobs") {
			job := made{domain: rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "domain"), kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
				categories: rapid.SliceOfNDistinct(rapid.SampledFrom(categories[1:]), 0, 2, rapid.ID[domain.CategoryID]).Draw(t, "categories"), id: domain.JobID(fmt.Sprint("j", i))}
			spec := domain.JobSpec{Name: fmt.Sprint(i), Type: job.kind, Categories: job.categories}
			old := -1
			if len(all) > 0 {
				old = rapid.IntRange(0, len(all)-1).Draw(t, "old")
			}
			switch what := rapid.IntRange(0, 5).Draw(t, "what"); {
			case what == 0 && old >= 0:
				events, err := streams[all[old].domain].Cancel(all[old].id)
				record(all[old].domain, events, err)
				all[old].cancelled = true
			case what == 1 && old >= 0 && !all[old].cancelled: // an edit is a new job in the old one's place
				edited := all[old]
				edited.categories = job.categories
				spec.Type = edited.kind
				events, err := streams[edited.domain].Amend(edited.id, spec)
				record(edited.domain, events, err)
				all = append(slices.Delete(all, old, old+1), edited)
			default:
				events, err := streams[job.domain].Create(job.id, domain.TenantID(job.domain), spec)
				record(job.domain, events, err)
				all = append(all, job)
			}
		}
		for _, of := range []string{"acme", "globex"} {
			for _, category := range categories {
				got := map[string]domain.JobID{}
				for _, v := range streams[of].Select(category) {
					got[v.Type] = v.JobID
				}
				if diff := cmp.Diff(wins(all, of, category), got); diff != "" {
					t.Fatalf("a device of %s in category %q (want, got):\n%s", of, category, diff)
				}
			}
		}
	})
}

// Jobs come in the order they are carried out, software first, the script last.
func TestSelectionComesInOrder(t *testing.T) {
	var jobs domain.Jobs
	var want []string
	for _, kind := range domain.JobTypes() {
		want = append(want, kind.Type)
		jobs = jobs.Apply(domain.JobCreated{JobID: domain.JobID("of-" + kind.Type), TenantID: "acme", JobSpec: domain.JobSpec{Type: kind.Type}})
	}
	jobs = jobs.Apply(domain.JobCreated{JobID: "of-software", TenantID: "acme", JobSpec: domain.JobSpec{Type: domain.JobSoftware}})
	var got []string
	for _, v := range jobs.Select("") {
		got = append(got, v.Type)
	}
	want = append([]string{domain.JobSoftware}, want...)
	if !slices.Equal(got, want) || got[len(got)-1] != domain.JobExpert {
		t.Errorf("%q, want %q", got, want)
	}
}

// Every type's parameters, each at both ends of its range and one beyond.
func TestParametersOfJobs(t *testing.T) {
	p := func(pairs ...any) domain.JobParameters {
		out := domain.JobParameters{}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i].(string)] = pairs[i+1]
		}
		return out
	}
	rtp := p("setRtpPorts", true, "rtpFirst", 2052, "rtpNum", 128)
	with := func(base domain.JobParameters, pairs ...any) domain.JobParameters {
		out := p(pairs...)
		for k, v := range base {
			if _, set := out[k]; !set {
				out[k] = v
			}
		}
		return out
	}
	for i, c := range []struct {
		kind string
		in   domain.JobParameters
		bad  string // the field that is named; empty: none
	}{
		{"NTP", p("ntp1", "192.0.2.1", "ntp2", "time.example", "tz", "CET-1CEST-2,M3.5.0/2,M10.5.0/3"), ""},
		{"NTP", p("tz", "<+0330>-3:30"), ""},
		{"NTP", p("tz", "Europe/Berlin"), "tz"},
		{"NTP", p("tz", "CET-1CEST,M13.5.0,M10.5.0"), "tz"},
		{"NTP", p("tz", "CET-25"), "tz"},
		{"NTP", p("tz", "CET-1\nconfig"), "tz"},
		{"NTP", p("ntp2", "192.0.2.1"), "ntp1"},
		{"NTP", p("ntp1", "a b"), "ntp1"},
		{"NTP", p("ntp1", 5), "ntp1"},
		{"NTP", p(), "parameters"},
		{"NTP", p("ntp3", "x"), "ntp3"},
		{"MEDIA", rtp, ""},
		{"MEDIA", with(rtp, "rtpFirst", 2051), "rtpFirst"},
		{"MEDIA", with(rtp, "rtpFirst", 65534), "rtpNum"},
		{"MEDIA", with(rtp, "rtpFirst", 65535), "rtpFirst"},
		{"MEDIA", with(rtp, "rtpFirst", 65408), ""},
		{"MEDIA", with(rtp, "rtpNum", 127), "rtpNum"},
		{"MEDIA", with(rtp, "rtpNum", 16384), ""},
		{"MEDIA", with(rtp, "rtpNum", 16385), "rtpNum"},
		{"MEDIA", with(rtp, "rtpNum", "128"), ""},
		{"MEDIA", with(rtp, "rtpNum", nil), "rtpNum"},
		{"MEDIA", with(rtp, "setNatPorts", true), "natFirst"},
		{"MEDIA", with(rtp, "setNatPorts", true, "natFirst", 2180, "natNum", 128), ""},
		{"MEDIA", with(rtp, "setNatPorts", true, "natFirst", 2179, "natNum", 128), "natFirst"},
		{"MEDIA", with(rtp, "rtpFirst", 5000, "setNatPorts", true, "natFirst", 4000, "natNum", 1001), "natFirst"},
		{"MEDIA", with(rtp, "rtpFirst", 5000, "setNatPorts", true, "natFirst", 4000, "natNum", 1000), ""},
		{"MEDIA", p("tosRtp", "0x00", "tosSig", "0xff"), ""},
		{"MEDIA", p("tosRtp", "0x100"), "tosRtp"},
		{"MEDIA", p("tosRtp", "184"), "tosRtp"},
		{"MEDIA", p("tosSig", "0xg0"), "tosSig"},
		{"MEDIA", p("turnUser", "u"), "turnServer"},
		{"MEDIA", p("turnServer", "t", "turnUser", "u", "turnPassword", "p"), ""},
		{"PHONE", p("coder", "OPUS-WB", "frameSize", 20, "srtpKey", 0, "srtpCipher", 0, "dialTone", 0, "hideAdminCfg", true), ""},
		{"PHONE", p("coder", "G711u", "frameSize", 80, "srtpKey", 4, "srtpCipher", 5, "dialTone", 26), ""},
		{"PHONE", p("coder", "G729"), "coder"},
		{"PHONE", p("frameSize", 19), "frameSize"},
		{"PHONE", p("frameSize", 81), "frameSize"},
		{"PHONE", p("srtpKey", 5), "srtpKey"},
		{"PHONE", p("srtpCipher", 6), "srtpCipher"},
		{"PHONE", p("dialTone", 27), "dialTone"},
		{"PHONE", p("dialTone", -1), "dialTone"},
		{"PHONE", p("exclusive", "yes"), "exclusive"},
		{"PHONE", p("gk2", "192.0.2.1"), "gk1"},
		{"PHONE", p("setRecordingUrl", true), "recordingUrl"},
		{"PHONE", p("fax", true), "fax"},
		{"FXS_PHONE", p("fax", true, "coder", "G711A"), ""},
		{"FXS_PHONE", p("audioOnly", true), "audioOnly"},
		{"FXS_PHONE", p("hideAdminCfg", true), "hideAdminCfg"},
		{"TLS_PROFILE", p("profile", "strict"), ""},
		{"TLS_PROFILE", p("profile", "lax"), "profile"},
		{"TLS_PROFILE", p(), "profile"},
		{"ALARM_SERVER", p("url", "https://a.example/alarm"), ""},
		{"ALARM_SERVER", p("url", "a.example"), "url"},
		{"ALARM_SERVER", p("setLogUrl", true), "logUrl"},
		{"ALARM_SERVER", p("logPassword", "p"), "logUrl"},
		{"EXPERT", p("script", "vars create A h 1"), ""},
		{"EXPERT", p("script", strings.Repeat("x", 70<<10)), ""},
		{"EXPERT", p("script", strings.Repeat("x", domain.MaxJobScript+1)), "script"},
		{"EXPERT", p("script", "# nothing\r\n\r\n"), "script"},
		{"EXPERT", p("script", "a\x00b"), "script"},
		{"EXPERT", p(), "script"},
		{"software", p("x", "y"), "type"},
		{"", nil, "type"},
	} {
		clean, problems := domain.CleanJob(c.kind, c.in)
		var fields []string
		for _, p := range problems {
			fields = append(fields, p.Field)
		}
		if c.bad == "" && len(problems) > 0 || c.bad != "" && !slices.Contains(fields, c.bad) {
			t.Errorf("%d: %s %.100v: names %q, want %q: %v", i, c.kind, c.in, fields, c.bad, problems)
		}
		if again, more := domain.CleanJob(c.kind, clean); len(problems) == 0 && (len(more) > 0 || !cmp.Equal(clean, again)) {
			t.Errorf("%d: its normal form is not its own: %v, %v", i, cmp.Diff(clean, again), more)
		}
	}
}

// The catalogue is read as the vendor has it, and what is wrong with it is named.
func TestReadCatalogue(t *testing.T) {
	const good = `{"devices":[{"id":"IP222","versions":["13r1","13r3"]},{"id":"IP112","versions":["13r3","12r2"]},{"id":"IP200A","versions":["12r2"]}],
		"versions":[{"id":"13r3","build":"135421","text":"13r3 sr1 [135421]","wiki":"https://wiki"},{"id":"13r1","build":"13.A110","text":"x"}]}`
	build, products, problem := domain.ReadCatalogue([]byte(good), "13r3")
	if problem != nil || build != "135421" || !slices.Equal(products, []string{"IP222", "IP112"}) {
		t.Errorf("%q %q: %v", build, products, problem)
	}
	for in, c := range map[string][2]string{
		good: {"13r9", "release"},
		`[]`: {"13r3", "catalogue"},
		``:   {"13r3", "catalogue"},
		`{"versions":[{"id":"13r3","build":"135421"}]}`:                              {"13r3", "release"},
		`{"versions":[{"id":"13r3","build":"1"},{"id":"13r3","build":"2"}]}`:         {"13r3", "catalogue.versions.1.id"},
		`{"versions":[{"id":"13r3","build":"../x"}]}`:                                {"13r3", "catalogue.versions.0.build"},
		`{"versions":[{"id":"13r3"}]}`:                                               {"13r3", "catalogue.versions.0.build"},
		`{"versions":[{"build":"1"}]}`:                                               {"13r3", "catalogue.versions.0.id"},
		`{"devices":[{"versions":["13r3"]}],"versions":[{"id":"13r3","build":"1"}]}`: {"13r3", "catalogue.devices.0.id"},
		strings.Repeat(" ", domain.MaxJobCatalogue) + good:                           {"13r3", "catalogue"},
	} {
		if _, _, problem := domain.ReadCatalogue([]byte(in), c[0]); problem == nil || problem.Field != c[1] {
			t.Errorf("%.60s: %v, want %s", in, problem, c[1])
		}
	}
}

// Which software a device needs, and why it needs none.
func TestSoftwareNeed(t *testing.T) {
	job := domain.SoftwareJob{Release: "13r3", Build: "135421", Products: []string{"IP222", "mypbxa", "swphone", "ipbs2", "T46S"}, BaseURL: "http://x"}
	for _, c := range []struct {
		domain.JobContact
		firmware, boot bool
		skip           string
	}{
		{domain.JobContact{Via: "native", Product: "IP222", Firmware: "135421", BootCode: "135421"}, false, false, domain.SkipCurrent},
		{domain.JobContact{Via: "native", Product: "ip222", Firmware: "135421", BootCode: "131286"}, false, true, ""},
		{domain.JobContact{Via: "native", Product: "IP222", Firmware: "134250", BootCode: "135421"}, true, false, ""},
		{domain.JobContact{Via: "native", Product: "IP222"}, true, true, ""},
		{domain.JobContact{Via: "native", Product: "IP112"}, false, false, domain.SkipNoBuild},
		{domain.JobContact{Via: "native", Product: ""}, false, false, domain.SkipNoBuild},
		{domain.JobContact{Via: "native", Product: "mypbxa", Firmware: "1"}, true, false, ""},
		{domain.JobContact{Via: "native", Product: "swphone", Firmware: "1"}, false, false, domain.SkipNoBuild},
		{domain.JobContact{Via: "native", Product: "ipbs2", Firmware: "1"}, false, false, domain.SkipNoBuild},
		{domain.JobContact{Via: "foreign", Product: "IP222", Firmware: "1"}, false, false, domain.SkipNotPushed},
		{domain.JobContact{Via: "files", Product: "T46S", Firmware: "1"}, true, false, ""},
		{domain.JobContact{Via: "files", Product: "T46S", Firmware: "135421"}, false, false, domain.SkipCurrent},
	} {
		if firmware, boot, skip := job.SoftwareNeed(c.JobContact); firmware != c.firmware || boot != c.boot || skip != c.skip {
			t.Errorf("%+v: firmware %v, boot code %v, %q; want %v, %v, %q", c.JobContact, firmware, boot, skip, c.firmware, c.boot, c.skip)
		}
	}
	job.BaseURL = ""
	if _, _, skip := job.SoftwareNeed(domain.JobContact{Via: "native", Product: "IP222"}); skip != domain.SkipNoSource {
		t.Errorf("without a source: %q", skip)
	}
	for product, want := range map[string][2]string{"IP222": {"boot222.bin", "ip222.bin"}, "IP222-5a-0b-1c": {"boot222.bin", "ip222.bin"}, "mypbxa": {"", "mypbx.apk"}} {
		if boot, firmware := domain.SoftwareFiles(product); boot != want[0] || firmware != want[1] {
			t.Errorf("%s: %s %s", product, boot, firmware)
		}
	}
}
