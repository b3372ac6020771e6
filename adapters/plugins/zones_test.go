package plugins_test

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins"
	"ledgerline/adapters/plugins/tz"
	"ledgerline/commands"
	"ledgerline/domain"
)

// The years looked at. A rule is today's law: a zone that changed its law after firstYear is looked at from the year its
// present law holds.
const (
	firstYear = 2020
	lastYear  = 2040
)

// A clock is what a phone was told, read without the code that wrote it: seconds east of UTC, and the days of the changes.
type clock struct {
	offset, saving int // saving 0: the clock never changes
	start, end     changeDay
}

// changeDay is the first such weekday (0 Sunday) on or after a day of the month; day -1: the last of the month. at is seconds after midnight.
type changeDay struct{ month, day, weekday, at int }

// nth is a day as "the third Sunday"; 5 and -1 are the last.
func nth(month, week, weekday, at int) changeDay {
	day := (week-1)*7 + 1
	if week == 5 || week < 0 {
		day = -1
	}
	return changeDay{month, day, weekday % 7, at}
}

// unix is the moment in a year as if local time were UTC, by Go's calendar.
func (c changeDay) unix(year int) int64 {
	weekday := (c.weekday%7 + 7) % 7
	if c.day < 0 {
		last := time.Date(year, time.Month(c.month)+1, 0, 0, 0, 0, 0, time.UTC)
		return last.AddDate(0, 0, -((int(last.Weekday())-weekday+7)%7)).Unix() + int64(c.at)
	}
	d := time.Date(year, time.Month(c.month), c.day, 0, 0, 0, 0, time.UTC)
	return d.AddDate(0, 0, (weekday-int(d.Weekday())+7)%7).Unix() + int64(c.at)
}

// turn is a change of the clock: from then on so many seconds east.
type turn struct {
	at     int64
	offset int
}

// turns are the clock's changes from the first day of a year to the end of lastYear, the first with the year itself.
func (c clock) turns(from int) []turn {
	out := []turn{{yearBegins(from), c.offset}}
	var all []turn
	for y := from - 1; c.saving != 0 && y <= lastYear+1; y++ {
		all = append(all, turn{c.start.unix(y) - int64(c.offset), c.offset + c.saving}, turn{c.end.unix(y) - int64(c.offset+c.saving), c.offset})
	}
	slices.SortFunc(all, func(a, b turn) int { return int(a.at - b.at) })
	return clip(out, all)
}

// clip adds to start what changes behind it, up to the end of lastYear; what comes before sets the offset at the start.
func clip(start, all []turn) []turn {
	until := yearBegins(lastYear + 1)
	for _, x := range all {
		switch {
		case x.at <= start[0].at:
			start[0].offset = x.offset
		case x.at < until && x.offset != start[len(start)-1].offset:
			start = append(start, x)
		}
	}
	return start
}

// goTurns are the same of a zone, by Go's own reading of the tz database.
func goTurns(t *testing.T, name string, from int) []turn {
	t.Helper()
	all, ok := goClocks[name]
	if !ok {
		loc, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		offset := func(at int64) int { _, s := time.Unix(at, 0).In(loc).Zone(); return s }
		const day = 86400
		first, until := yearBegins(firstYear), yearBegins(lastYear+1)
		all = []turn{{first, offset(first)}}
		for at := first + day; at <= until; at += day {
			if then := offset(at); then != all[len(all)-1].offset {
				after := sort.Search(day, func(s int) bool { return offset(at-day+int64(s)) == then })
				all = append(all, turn{at - day + int64(after), then})
			}
		}
		goClocks[name] = all
	}
	return clip([]turn{{yearBegins(from), all[0].offset}}, all)
}

// goClocks are the turns of zones looked at before, from firstYear on.
var goClocks = map[string][]turn{}

func yearBegins(year int) int64 { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Unix() }

// lawSince is the first year from which today's law holds.
func lawSince(t *testing.T, name string) int {
	t.Helper()
	z, err := tz.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	for year := firstYear; year <= 2026; year++ {
		if slices.Equal(ruleTurns(z.Rule.Normal(), year), goTurns(t, name, year)) {
			return year
		}
	}
	return lastYear
}

// ruleTurns are the turns of a POSIX rule, by the one truth about time zones.
func ruleTurns(r tz.Rule, from int) []turn {
	first := yearBegins(from)
	offset, _ := r.Offset(first)
	var all []turn
	for y := from - 1; r.HasDST && y <= lastYear+1; y++ {
		for _, c := range []struct {
			change    tz.Change
			was, then int
		}{{r.Start, r.StdOffset, r.DSTOffset}, {r.End, r.DSTOffset, r.StdOffset}} {
			d := c.change.In(y)
			at := time.Date(y, time.Month(d.Month), d.Day, d.Hour, d.Minute, 0, 0, time.UTC).Unix() - int64(c.was)
			all = append(all, turn{at, c.then})
		}
	}
	slices.SortFunc(all, func(a, b turn) int { return int(a.at - b.at) })
	return clip([]turn{{first, offset}}, all)
}

// Whose law has changed since firstYear, and from which year today's holds (tzdata, NEWS). lastYear: the calendar follows Ramadan. A
// new release of the database that changes a law shows here.
func TestLawsThatHaveChanged(t *testing.T) {
	want := map[int][]string{
		2021: {"America/Dawson", "America/Whitehorse", "Canada/Yukon", "Europe/Volgograd"},
		2022: {"Africa/Juba", "Pacific/Apia", "Pacific/Fiji"},
		2023: {"Africa/Cairo", "America/Bahia_Banderas", "America/Chihuahua", "America/Ciudad_Juarez", "America/Mazatlan", "America/Merida", "America/Mexico_City",
			"America/Monterrey", "America/Ojinaga", "America/Santiago", "Asia/Amman", "Asia/Damascus", "Asia/Tehran", "Chile/Continental", "Chile/EasterIsland", "Egypt", "Iran",
			"Mexico/BajaSur", "Mexico/General", "Pacific/Easter"},
		2024:     {"America/Godthab", "America/Nuuk", "Antarctica/Casey", "Antarctica/Vostok"},
		2025:     {"America/Asuncion", "America/Coyhaique", "America/Scoresbysund", "Asia/Almaty", "Asia/Qostanay"},
		lastYear: {"Africa/Casablanca", "Africa/El_Aaiun", "Asia/Gaza", "Asia/Hebron"},
	}
	got := map[int][]string{}
	for _, name := range zoneNames(t) {
		if year := lawSince(t, name); year > firstYear {
			got[year] = append(got[year], name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// told is what a family told a phone about one zone: all settings by the last part of their names.
type told map[string]string

func (m told) number(name string) int { n, _ := strconv.Atoi(m[name]); return n }

// scan reads numbers out of text; the zero clock's zone never agrees, so bad text shows.
func scan(text, format string) []int {
	var n [16]int
	var into []any
	for range strings.Count(format, "%d") {
		into = append(into, &n[len(into)])
	}
	if _, err := fmt.Sscanf(text, format, into...); err != nil {
		return []int{-9, -9, -9, -9, -9, -9, -9, -9, -9, -9, -9, -9, -9, -9, -9, -9}
	}
	return n[:]
}

// east reads "-3:30", "+05:30", "GMT-03:30", "10".
func east(text string) int {
	text = strings.TrimPrefix(text, "GMT")
	sign := 1
	if strings.HasPrefix(text, "-") {
		sign = -1
	}
	h, m, _ := strings.Cut(strings.TrimLeft(text, "+-"), ":")
	hours, _ := strconv.Atoi(h)
	minutes, _ := strconv.Atoi(m)
	return sign * (hours*3600 + minutes*60)
}

const hour, minute = 3600, 60

// encoders read each way families have to write a clock. A clock with its zone is a name the phone knows from a tz database of its own.
var encoders = []struct {
	plugin, model string
	read          func(p *plugins.Package, m told) (c clock, zone string)
}{
	{"yealink", "T31", readYealink},
	{"flyingvoice", "FIP10", readYealink},
	{"polycom", "VVX150", func(_ *plugins.Package, m told) (clock, string) {
		const dst = "tcpIpApp.sntp.daylightSavings."
		c := clock{offset: m.number("tcpIpApp.sntp.gmtOffset")}
		day := func(which string) changeDay {
			d := changeDay{m.number(dst + which + ".month"), m.number(dst + which + ".date"), m.number(dst+which+".dayOfWeek") - 1, m.number(dst+which+".time") * hour}
			if m[dst+which+".dayOfWeek.lastInMonth"] == "1" {
				d.day = -1
			}
			return d
		}
		if m[dst+"enable"] == "1" {
			c.saving, c.start, c.end = hour, day("start"), day("stop")
		}
		return c, ""
	}},
	{"grandstream", "GXP1620", func(_ *plugins.Package, m told) (clock, string) {
		r, err := tz.Parse(m["P246"])
		if err != nil || m["P64"] != "customize" || strings.ContainsAny(m["P246"], "<>") || len(m["P246"]) > 64 {
			return clock{offset: -1}, ""
		}
		day := func(c tz.Change) changeDay { return nth(c.Month, c.Week, c.Weekday, c.Time) }
		return clock{r.StdOffset, r.Saving(), day(r.Start), day(r.End)}, ""
	}},
	{"fanvil", "X3SG", func(_ *plugins.Package, m told) (clock, string) {
		c := clock{offset: m.number("Time_Zone") * 15 * minute}
		day := func(which string) changeDay {
			return nth(m.number(which+"_Mon"), m.number(which+"_Week"), m.number(which+"_Wday"), m.number(which+"_Hour")*hour+m.number(which+"_Min")*minute)
		}
		if m["Enable_DST"] == "2" {
			c.saving, c.start, c.end = m.number("DST_Min_Offset")*minute, day("DST_Start"), day("DST_End")
		}
		return c, ""
	}},
	{"fanvil", "V61W", func(_ *plugins.Package, m told) (clock, string) {
		c := clock{offset: m.number("TimeZone") * 15 * minute}
		day := func(which string) changeDay {
			return nth(m.number(which+"Mon"), m.number(which+"Week"), m.number(which+"Wday"), m.number(which+"Hour")*hour+m.number(which+"Min")*minute)
		}
		if m["EnableDST"] == "2" {
			c.saving, c.start, c.end = m.number("DSTMinOffset")*minute, day("DSTStart"), day("DSTEnd")
		}
		return c, ""
	}},
	{"aastra-mitel", "6863i", func(_ *plugins.Package, m told) (clock, string) {
		c := clock{offset: -m.number("time zone minutes") * minute}
		day := func(which string) changeDay {
			return nth(m.number("dst "+which+" month"), m.number("dst "+which+" week"), m.number("dst "+which+" day")-1, m.number("dst "+which+" hour")*hour)
		}
		if m["dst config"] == "3" || m["dst config"] == "2" {
			c.saving, c.start, c.end = m.number("dst minutes")*minute, day("start"), day("end")
		}
		return c, ""
	}},
	{"htek", "UC803", func(p *plugins.Package, m told) (clock, string) {
		c := clock{offset: -1}
		for minutes, code := range p.Tables["zone"] {
			if n, err := strconv.Atoi(minutes); err == nil && code == m["P64"] {
				c.offset = n * minute
			}
		}
		if m["P75"] == "1" {
			c.saving = hour
			c.start = nth(m.number("P23118"), m.number("P23119"), m.number("P23120"), m.number("P23121")*hour)
			c.end = nth(m.number("P23122"), m.number("P23123"), m.number("P23124"), m.number("P23125")*hour)
		}
		return c, ""
	}},
	{"cisco-spa", "SPA301", readCisco},
	{"cisco-mpp", "7811", readCisco},
	{"cisco-sccp", "7940G", func(_ *plugins.Package, m told) (clock, string) {
		offsets := map[string]int{"PST": -8, "MST": -7, "CST": -6, "EST": -5, "AST": -4, "GMT": 0, "CET": 1, "EET": 2, "JST": 9}
		c := clock{offset: offsets[m["time_zone"]] * hour}
		if m["time_zone"] == "NST" {
			c.offset = -(3*hour + 30*minute)
		}
		day := func(which string) changeDay {
			month, _ := time.Parse("January", m["dst_"+which+"_month"])
			week := m.number("dst_" + which + "_week_of_month")
			if week == 8 {
				week = 5
			}
			weekday := slices.Index([]string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}, m["dst_"+which+"_day_of_week"])
			return nth(int(month.Month()), week, weekday, m.number("dst_"+which+"_time")*hour)
		}
		if m["dst_auto_adjust"] == "1" {
			c.saving, c.start, c.end = m.number("dst_offset")*hour, day("start"), day("stop")
		}
		return c, ""
	}},
	{"panasonic", "KX-HDV100", func(_ *plugins.Package, m told) (clock, string) {
		c := clock{offset: m.number("TIME_ZONE") * minute}
		day := func(which string) changeDay {
			return nth(m.number("DST_"+which+"_MONTH"), m.number("DST_"+which+"_ORDINAL_DAY"), m.number("DST_"+which+"_DAY_OF_WEEK"), m.number("DST_"+which+"_TIME")*minute)
		}
		if m["DST_ENABLE"] == "Y" {
			c.saving, c.start, c.end = m.number("DST_OFFSET")*minute, day("START"), day("STOP")
		}
		return c, ""
	}},
	{"avaya", "J129", func(_ *plugins.Package, m told) (clock, string) {
		c := clock{offset: east(m["GMTOFFSET"])}
		day := func(s string) changeDay {
			week, rest := 5, strings.TrimPrefix(s, "L")
			if rest == s {
				week, _ = strconv.Atoi(s[:1])
				rest = s[1:]
			}
			weekday := slices.Index([]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}, rest[:3])
			month, _ := time.Parse("Jan", rest[3:6])
			at, _ := strconv.Atoi(strings.TrimSuffix(rest[6:], "L"))
			return nth(int(month.Month()), week, weekday, at*hour)
		}
		if m["DAYLIGHT_SAVING_SETTING_MODE"] == "2" {
			c.saving, c.start, c.end = m.number("DSTOFFSET")*hour, day(m["DSTSTART"]), day(m["DSTSTOP"])
		}
		return c, ""
	}},
	{"avaya", "J139", func(_ *plugins.Package, m told) (clock, string) { return clock{}, m["TIMEZONE"] }},
	{"alcatel-lucent", "M3", func(_ *plugins.Package, m told) (clock, string) {
		return clock{}, m["setting[id=SettingTimeZoneLocation]@value"]
	}},
	{"digium-sangoma", "D40", func(_ *plugins.Package, m told) (clock, string) { return clock{}, m["setting[id=time_zone]@value"] }},
	{"gigaset", "N610", func(_ *plugins.Package, m told) (clock, string) {
		return clock{}, m["param[name=DmGlobal.0.TimeZone]@value"]
	}},
}

func readYealink(_ *plugins.Package, m told) (clock, string) {
	c := clock{offset: east(m["local_time.time_zone"])}
	day := func(s string) changeDay {
		n := scan(s, "%d/%d/%d/%d")
		return nth(n[0], n[1], n[2], n[3]*hour)
	}
	if m["local_time.summer_time"] == "1" {
		c.saving, c.start, c.end = m.number("local_time.offset_time")*minute, day(m["local_time.start_time"]), day(m["local_time.end_time"])
	}
	return c, ""
}

func readCisco(_ *plugins.Package, m told) (clock, string) {
	c := clock{offset: east(m["Time_Zone"])}
	if m["Daylight_Saving_Time_Enable"] == "yes" {
		n := scan(m["Daylight_Saving_Time_Rule"], "start=%d/%d/%d/%d:%d:%d;end=%d/%d/%d/%d:%d:%d;save=%d:%d:%d")
		c.saving = n[12]*hour + n[13]*minute + n[14]
		c.start = changeDay{n[0], n[1], n[2] % 7, n[3]*hour + n[4]*minute}
		c.end = changeDay{n[6], n[7], n[8] % 7, n[9]*hour + n[10]*minute}
	}
	return c, ""
}

// toldOf renders a guest in a zone; warned is whether the zone came with a warning.
func toldOf(t *testing.T, set *plugins.Set, p *plugins.Package, model, zone string) (m told, warned bool) {
	t.Helper()
	out := render(t, set, request(p, model, "", domain.Settings{"timezone": zone}, true))
	m = told{}
	for _, f := range out.Files {
		entries, err := parseBack(p, f.Path, f.Data, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			key := e.Key[strings.LastIndexByte(e.Key, '/')+1:]
			m[key] = e.Value
			if _, attribute, ok := strings.Cut(key, "@"); ok && attribute != "value" {
				m[attribute] = e.Value
			}
		}
	}
	return m, slices.ContainsFunc(out.Warnings, func(w commands.Warning) bool { return w.Setting == "timezone" })
}

// Every zone of the database, every family that has words for a clock: what the phone is told is Go's own clock, to the
// second, in each year the zone's law holds, or comes with a warning.
func TestEveryZoneIsToldAsGoKnowsIt(t *testing.T) {
	set := loadBuiltin(t)
	names := zoneNames(t)
	since := map[string]int{}
	want := map[string][]turn{}
	for _, name := range names {
		since[name] = lawSince(t, name)
		want[name] = goTurns(t, name, since[name])
	}
	for _, e := range encoders {
		t.Run(e.plugin+" "+e.model, func(t *testing.T) {
			p, err := set.Package(commands.PluginRef{Name: e.plugin})
			if err != nil {
				t.Fatal(err)
			}
			exact := 0
			for _, name := range names {
				m, warned := toldOf(t, set, p, e.model, name)
				if warned || since[name] == lastYear {
					if since[name] == lastYear && !warned {
						t.Errorf("%s keeps a calendar no rule can say, and there is no warning", name)
					}
					continue
				}
				exact++
				c, zone := e.read(p, m)
				got := c.turns(since[name])
				if zone != "" {
					got = goTurns(t, zone, max(since[name], lawSince(t, zone)))
					want[name] = goTurns(t, name, max(since[name], lawSince(t, zone)))
				}
				if !slices.Equal(got, want[name]) {
					t.Errorf("%s: %s", name, apart(got, want[name]))
				}
			}
			t.Logf("%d of %d zones are told exactly, the others with a warning", exact, len(names))
			if exact < 280 {
				t.Errorf("only %d zones are told exactly", exact)
			}
		})
	}
}

func apart(got, want []turn) string {
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			g := "nothing"
			if i < len(got) {
				g = fmt.Sprintf("%d s east from %s", got[i].offset, time.Unix(got[i].at, 0).UTC().Format(time.RFC3339))
			}
			return fmt.Sprintf("%s, Go says %d s east from %s", g, want[i].offset, time.Unix(want[i].at, 0).UTC().Format(time.RFC3339))
		}
	}
	return fmt.Sprintf("changes after Go's last: %v", got[len(want):])
}

// Families with a list of places of their own: zones told by one word without a warning have one clock.
func TestOneWordIsOneClock(t *testing.T) {
	set := loadBuiltin(t)
	for _, c := range []struct{ plugin, model, key string }{
		{"snom", "D120", "timezone"}, {"cisco-sccp", "7941G", "timeZone"}, {"technicolor-thomson", "ST2030", "NtpZoneNum"},
	} {
		t.Run(c.plugin, func(t *testing.T) {
			p, err := set.Package(commands.PluginRef{Name: c.plugin})
			if err != nil {
				t.Fatal(err)
			}
			byWord := map[string][]string{}
			for _, name := range zoneNames(t) {
				if m, warned := toldOf(t, set, p, c.model, name); !warned && m[c.key] != "" {
					byWord[m[c.key]] = append(byWord[m[c.key]], name)
				}
			}
			zones := 0
			for _, word := range slices.Sorted(maps.Keys(byWord)) {
				names := byWord[word]
				zones += len(names)
				for _, name := range names[1:] {
					if a, b := goTurns(t, names[0], 2026), goTurns(t, name, 2026); !slices.Equal(a, b) {
						t.Errorf("%s stands for %s and %s: %s", word, names[0], name, apart(a, b))
					}
				}
			}
			t.Logf("%d words for %d zones", len(byWord), zones)
			if zones < 300 {
				t.Errorf("only %d zones have a word", zones)
			}
		})
	}
}
