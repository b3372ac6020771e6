package tz_test

import (
	"bufio"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"ledgerline/adapters/plugins/tz"
	"ledgerline/domain"
)

// Every zone, every quarter of an hour around each change and every day between, 2026 to 2040, against Go's own reading of
// the same database.
func TestEveryZoneAgreesWithGo(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	to := time.Date(2041, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	for _, name := range domain.Zones() {
		zone, err := tz.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		loc, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		wrong := differ(zone.Rule, loc, from, to)
		if zone.Exact && wrong != 0 {
			t.Errorf("%s %s: differs at %s", name, zone.Rule, time.Unix(wrong, 0).UTC())
		}
		if !zone.Exact && wrong == 0 {
			t.Errorf("%s is marked inexact but agrees", name)
		}
		if n := zone.Rule.Normal(); n.Saving() < 0 || differ(n, loc, from, to) != wrong {
			t.Errorf("%s: normal form %s says something else", name, n)
		}
	}
}

// differ returns the first instant at which the rule and Go disagree, or 0.
func differ(r tz.Rule, loc *time.Location, from, to int64) int64 {
	both := func(at int64) (rule, golang int) {
		rule, _ = r.Offset(at)
		_, golang = time.Unix(at, 0).In(loc).Zone()
		return rule, golang
	}
	last := 1 << 30
	for day := from; day < to; day += 86400 {
		got, want := both(day)
		if got != want {
			return day
		}
		if last != got && day > from {
			for at := day - 86400; at < day; at += 900 {
				for _, probe := range []int64{at - 1, at} {
					if got, want := both(probe); got != want {
						return probe
					}
				}
			}
		}
		last = got
	}
	return 0
}

func TestParseAndPrintAreInverse(t *testing.T) {
	for _, name := range domain.Zones() {
		zone, err := tz.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		again, err := tz.Parse(zone.Rule.String())
		if err != nil || again != zone.Rule {
			t.Errorf("%s: %s came back as %v, %v", name, zone.Rule, again, err)
		}
	}
}

func TestWeekly(t *testing.T) {
	for _, c := range []struct {
		rule       string
		start, end tz.Week
		exact      bool
	}{
		{"CET-1CEST,M3.5.0,M10.5.0/3", tz.Week{Month: 3, Week: 5, Hour: 2}, tz.Week{Month: 10, Week: 5, Hour: 3}, true},
		{"EST5EDT,M3.2.0,M11.1.0", tz.Week{Month: 3, Week: 2, Hour: 2}, tz.Week{Month: 11, Week: 1, Hour: 2}, true},
		{"IST-1GMT0,M10.5.0,M3.5.0/1", tz.Week{Month: 3, Week: 5, Hour: 1}, tz.Week{Month: 10, Week: 5, Hour: 2}, true},
		{"<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45", tz.Week{Month: 9, Week: 5, Hour: 2, Minute: 45}, tz.Week{Month: 4, Week: 1, Hour: 3, Minute: 45}, true},
		{"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", tz.Week{Month: 3, Week: 5}, tz.Week{Month: 10, Week: 5}, false},
		{"EET-2EEST,M3.4.4/50,M10.4.4/50", tz.Week{Month: 3, Week: 4, Weekday: 6, Hour: 2}, tz.Week{Month: 10, Week: 4, Weekday: 6, Hour: 2}, false},
		{"IST-2IDT,M3.4.4/26,M10.5.0", tz.Week{Month: 3, Week: 4, Weekday: 4, Hour: 23}, tz.Week{Month: 10, Week: 5, Hour: 2}, false},
		{"XXX3YYY,J60/0,J300", tz.Week{Month: 3, Week: 1}, tz.Week{Month: 10, Week: 4, Hour: 2}, false},
	} {
		r, err := tz.Parse(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		n := r.Normal()
		start, ok1 := n.Start.Weekly()
		end, ok2 := n.End.Weekly()
		if start != c.start || end != c.end || (ok1 && ok2) != c.exact {
			t.Errorf("%s: %+v %+v exact %v", c.rule, start, end, ok1 && ok2)
		}
	}
}

// A date of a year is Go's; the date for all years is at most three days from each.
func TestDatesOfChanges(t *testing.T) {
	for _, name := range domain.Zones() {
		zone, err := tz.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		rule := zone.Rule.Normal()
		if !rule.HasDST || !zone.Exact {
			continue
		}
		loc, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for year := 2026; year <= 2040; year++ {
			for _, c := range []struct {
				change tz.Change
				offset int
			}{{rule.Start, rule.StdOffset}, {rule.End, rule.DSTOffset}} {
				d, middle := c.change.In(year), c.change.In(0)
				at := time.Date(year, time.Month(d.Month), d.Day, d.Hour, d.Minute, 0, 0, time.UTC).Unix() - int64(c.offset)
				_, before := time.Unix(at-1, 0).In(loc).Zone()
				_, after := time.Unix(at, 0).In(loc).Zone()
				if before != c.offset || after == c.offset {
					t.Errorf("%s %d: no change on %+v", name, year, d)
				}
				all := time.Date(year, time.Month(middle.Month), middle.Day, 0, 0, 0, 0, time.UTC)
				if apart := all.Sub(time.Date(year, time.Month(d.Month), d.Day, 0, 0, 0, 0, time.UTC)).Abs(); apart > 4*24*time.Hour {
					t.Errorf("%s %d: %+v is %s from %+v", name, year, middle, apart, d)
				}
			}
		}
	}
}

func TestWeekdayCounts(t *testing.T) {
	sunday, saturday := tz.Week{Weekday: 0}, tz.Week{Weekday: 6}
	if sunday.ISOWeekday() != 7 || saturday.ISOWeekday() != 6 || sunday.SundayOne() != 1 || saturday.SundayOne() != 7 {
		t.Error("weekday counts are off")
	}
}

func TestUnknownZoneAndBadRules(t *testing.T) {
	if _, err := tz.Lookup("Europe/Atlantis"); !errors.Is(err, tz.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{"", "CE", "CET", "CET-1CEST", "CET-1CEST,M13.1.0,M3.1.0", "CET-1CEST,M3.5.0", "CET-25", "<+0>3",
		"CET-1CEST,M3.5.0,M10.5.0,", "CET-1CEST,J0,J300", "CET-1CEST,M3.5.0/168,M10.5.0", "CET-1:60"} {
		if r, err := tz.Parse(bad); !errors.Is(err, tz.ErrRule) {
			t.Errorf("%q was read as %v", bad, r)
		}
	}
}

func TestDatabaseNamesAreTheDomains(t *testing.T) {
	if !slices.IsSorted(domain.Zones()) || len(domain.Zones()) < 590 {
		t.Fatalf("%d zones, sorted %v", len(domain.Zones()), slices.IsSorted(domain.Zones()))
	}
	if v := tz.Version(); len(v) != 5 || !strings.HasPrefix(v, "20") {
		t.Errorf("version %q", v)
	}
	for name, country := range map[string]string{"Europe/Paris": "FR", "Asia/Calcutta": "IN", "UTC": "", "Europe/Dublin": "IE", "US/Eastern": "US"} {
		if z, err := tz.Lookup(name); err != nil || z.Country != country {
			t.Errorf("%s is in %q (%v), want %q", name, z.Country, err, country)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"CET-1CEST,M3.5.0,M10.5.0/3", "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45", "EST5EDT,J60/-5,300/167", "UTC0", "A", "<->9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := tz.Parse(s)
		if err != nil {
			return
		}
		again, err := tz.Parse(r.String())
		if err != nil || again != r {
			t.Fatalf("%q: %v printed as %q and came back as %v, %v", s, r, r.String(), again, err)
		}
		for _, year := range []int64{0, 1771545600, 4102444800} {
			r.Normal().Offset(year)
		}
		if bufio.NewScanner(strings.NewReader(r.String())).Scan(); strings.ContainsAny(r.String(), "\r\n") {
			t.Fatal("a line break in a rule")
		}
	})
}

// A rule as phones' makers write it finds a zone that keeps it, and one that is well known.
func TestNamed(t *testing.T) {
	for posix, want := range map[string]string{"CET-1CEST-2,M3.5.0/2,M10.5.0/3": "Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3": "Europe/Berlin", "GMT0BST,M3.5.0/1,M10.5.0": "Europe/London",
		"EST5EDT,M3.2.0,M11.1.0": "America/New_York", "UTC0": "UTC", "IST-5:30": "Asia/Kolkata", "XYZ-1ABC,J60,J300": "", "nonsense": ""} {
		if got := tz.Named(posix); got != want {
			t.Errorf("%s: %q, want %q", posix, got, want)
		}
	}
	for _, name := range domain.Zones() {
		z, err := tz.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		named, err := tz.Lookup(tz.Named(z.Rule.String()))
		if z.Exact && (err != nil || named.Rule.Normal().StdOffset != z.Rule.Normal().StdOffset || named.Rule.HasDST != z.Rule.HasDST) {
			t.Errorf("%s: named %s: %v", name, named.Name, err)
		}
	}
}
