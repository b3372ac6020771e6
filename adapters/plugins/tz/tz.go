// Package tz turns IANA time zone names into the rules phones want: offset, saving, and the days the
// clock changes, as POSIX writes them (IEEE 1003.1 §8.3, with the hours beyond 24 of RFC 9636).
//
// The rules are the last line of each zone's file in the tz database, kept in zones.txt with the
// database's version; nothing is read from the machine. So the same name gives the same rule everywhere, for
// any year, and files stay byte-stable. A few zones (Morocco and Palestine, whose clocks follow Ramadan) have
// changes no yearly rule can say: Zone.Exact is false for them.
package tz

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ErrUnknown: the database has no zone of that name.
var ErrUnknown = errors.New("is not a time zone of the IANA database")

// ErrRule: text is not a POSIX time zone rule.
var ErrRule = errors.New("is not a POSIX time zone rule")

//go:embed zones.txt
var database string

// Version is the release of the tz database: "2025c".
func Version() string {
	v, _, _ := strings.Cut(database, "\n")
	return v
}

// Zone is one zone of the database.
type Zone struct {
	Name string
	// Country is the ISO 3166 code of the country the zone is in, empty for zones of none or many.
	Country string
	Rule    Rule
	// Exact: the rule gives every change from 2026 to 2040.
	Exact bool
}

// inexact zones keep a calendar of their own (Ramadan).
var inexact = map[string]bool{"Africa/Casablanca": true, "Africa/El_Aaiun": true, "Asia/Gaza": true, "Asia/Hebron": true}

var load = sync.OnceValue(func() map[string]Zone {
	zones := map[string]Zone{}
	_, rows, _ := strings.Cut(database, "\n")
	for row := range strings.Lines(rows) {
		f := strings.Split(strings.TrimSuffix(row, "\n"), "\t")
		rule, err := Parse(f[1])
		if err != nil {
			panic("tz: " + f[0] + ": " + err.Error())
		}
		zones[f[0]] = Zone{Name: f[0], Country: strings.TrimPrefix(f[2], "-"), Rule: rule, Exact: !inexact[f[0]]}
	}
	return zones
})

// Lookup returns the zone of that name, or ErrUnknown.
func Lookup(name string) (Zone, error) {
	z, ok := load()[name]
	if !ok {
		return Zone{}, fmt.Errorf("%.40q %w", name, ErrUnknown)
	}
	return z, nil
}

// Rule is a POSIX time zone: offsets are seconds east of UTC. Without DST only the standard half counts.
type Rule struct {
	StdName, DSTName     string
	StdOffset, DSTOffset int
	HasDST               bool
	// Start is when DST begins, in standard time; End when it ends, in DST.
	Start, End Change
}

// Form tells how a Change names its day.
type Form int

// The three forms of a day.
const (
	ByWeek  Form = iota // Mm.w.d
	Julian              // Jn: 1 to 365, February 29 is never counted
	ZeroDay             // n: 0 to 365, February 29 counts
)

// Change is the moment of a year when the clock changes.
type Change struct {
	Form    Form
	Month   int // 1 to 12
	Week    int // 1 to 4, or 5 for the last
	Weekday int // 0 Sunday to 6 Saturday
	Day     int // of Julian and ZeroDay
	// Time is seconds after local midnight of that day, -167 to 167 hours.
	Time int
}

// Parse reads a POSIX rule: "CET-1CEST,M3.5.0,M10.5.0/3".
func Parse(s string) (Rule, error) {
	p := &parser{rest: s}
	var r Rule
	r.StdName = p.name()
	r.StdOffset = -p.time(24)
	if p.rest != "" && !p.bad {
		r.HasDST = true
		r.DSTName = p.name()
		r.DSTOffset = r.StdOffset + 3600
		if p.rest != "" && p.rest[0] != ',' {
			r.DSTOffset = -p.time(24)
		}
		r.Start, r.End = p.change(), p.change()
	}
	if p.bad || p.rest != "" {
		return Rule{}, fmt.Errorf("%.60q %w", s, ErrRule)
	}
	return r, nil
}

type parser struct {
	rest string
	bad  bool
}

func (p *parser) take(prefix string) bool {
	rest, ok := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return ok
}

func (p *parser) must(prefix string) { p.bad = !p.take(prefix) || p.bad }

// name reads three or more letters, or letters, digits and signs in angle brackets.
func (p *parser) name() string {
	quoted := p.take("<")
	n := 0
	for n < len(p.rest) && (isLetter(p.rest[n]) || quoted && strings.IndexByte("+-0123456789", p.rest[n]) >= 0) {
		n++
	}
	name := p.rest[:n]
	p.rest = p.rest[n:]
	if quoted {
		p.must(">")
	}
	p.bad = p.bad || n < 3
	return name
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func (p *parser) number(lo, hi int) int {
	n := 0
	for n < len(p.rest) && n < 3 && p.rest[n] >= '0' && p.rest[n] <= '9' {
		n++
	}
	v, err := strconv.Atoi(p.rest[:n])
	p.rest = p.rest[n:]
	p.bad = p.bad || err != nil || v < lo || v > hi
	return v
}

// time reads [+-]h[h[h]][:mm[:ss]] as seconds.
func (p *parser) time(hours int) int {
	sign := 1
	if p.take("-") {
		sign = -1
	} else {
		p.take("+")
	}
	t := p.number(0, hours) * 3600
	if p.take(":") {
		t += p.number(0, 59) * 60
		if p.take(":") {
			t += p.number(0, 59)
		}
	}
	return sign * t
}

func (p *parser) change() Change {
	p.must(",")
	c := Change{Time: 2 * 3600}
	switch {
	case p.take("M"):
		c.Month = p.number(1, 12)
		p.must(".")
		c.Week = p.number(1, 5)
		p.must(".")
		c.Weekday = p.number(0, 6)
	case p.take("J"):
		c.Form, c.Day = Julian, p.number(1, 365)
	default:
		c.Form, c.Day = ZeroDay, p.number(0, 365)
	}
	if p.take("/") {
		c.Time = p.time(167)
	}
	return c
}

// String is the POSIX form with the names of the database.
func (r Rule) String() string { return r.POSIX(r.StdName, r.DSTName) }

// POSIX is the POSIX form under other abbreviations, for phones that take letters only. A name that is not
// made of letters is put in angle brackets.
func (r Rule) POSIX(std, dst string) string {
	s := quoteName(std) + clock(-r.StdOffset)
	if !r.HasDST {
		return s
	}
	s += quoteName(dst)
	if r.DSTOffset != r.StdOffset+3600 {
		s += clock(-r.DSTOffset)
	}
	return s + "," + r.Start.String() + "," + r.End.String()
}

func quoteName(n string) string {
	if strings.Trim(n, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") != "" {
		return "<" + n + ">"
	}
	return n
}

func clock(t int) string {
	sign := ""
	if t < 0 {
		sign, t = "-", -t
	}
	s := sign + strconv.Itoa(t/3600)
	switch {
	case t%60 != 0:
		s += fmt.Sprintf(":%02d:%02d", t/60%60, t%60)
	case t%3600 != 0:
		s += fmt.Sprintf(":%02d", t/60%60)
	}
	return s
}

// String is the change as POSIX writes it: "M3.5.0/3", without the time at two o'clock.
func (c Change) String() string {
	s := ""
	switch c.Form {
	case ByWeek:
		s = fmt.Sprintf("M%d.%d.%d", c.Month, c.Week, c.Weekday)
	case Julian:
		s = "J" + strconv.Itoa(c.Day)
	case ZeroDay:
		s = strconv.Itoa(c.Day)
	}
	if c.Time != 2*3600 {
		s += "/" + clock(c.Time)
	}
	return s
}

// Saving is what DST adds, in seconds; 0 without DST.
func (r Rule) Saving() int {
	if !r.HasDST {
		return 0
	}
	return r.DSTOffset - r.StdOffset
}

// Normal is the same rule with a positive saving. Ireland's law has summer time as the standard and takes an
// hour off in winter (IST-1GMT0); phones cannot say that, but the clock on the wall is the same.
func (r Rule) Normal() Rule {
	if r.Saving() >= 0 {
		return r
	}
	return Rule{StdName: r.DSTName, DSTName: r.StdName, StdOffset: r.DSTOffset, DSTOffset: r.StdOffset, HasDST: true, Start: r.End, End: r.Start}
}

// Offset is the seconds east of UTC at an instant (Unix seconds), and whether DST is in force.
func (r Rule) Offset(unix int64) (seconds int, dst bool) {
	if !r.HasDST {
		return r.StdOffset, false
	}
	year := yearOf(unix + int64(r.StdOffset))
	in := false
	// The latest change at or before unix decides; a change may fall into the next or the last year.
	latest := int64(-1 << 62)
	for y := year - 1; y <= year+1; y++ {
		if at := r.Start.unix(y) - int64(r.StdOffset); at <= unix && at > latest {
			latest, in = at, true
		}
		if at := r.End.unix(y) - int64(r.DSTOffset); at <= unix && at > latest {
			latest, in = at, false
		}
	}
	if in {
		return r.DSTOffset, true
	}
	return r.StdOffset, false
}

// unix is the moment of the change in year y as if local time were UTC.
func (c Change) unix(y int) int64 {
	return c.day(y)*86400 + int64(c.Time)
}

// day is the day of the change in year y, counted from 1970-01-01.
func (c Change) day(y int) int64 {
	switch c.Form {
	case Julian:
		d := int64(c.Day - 1)
		if leap(y) && c.Day >= 60 {
			d++
		}
		return daysTo(y, 1) + d
	case ZeroDay:
		return daysTo(y, 1) + int64(c.Day)
	}
	first := daysTo(y, c.Month)
	next := daysTo(y, c.Month+1)
	d := first + int64((c.Weekday-weekday(first)+7)%7) + int64(c.Week-1)*7
	if d >= next {
		d -= 7
	}
	return d
}

// weekday of a day since 1970-01-01, which was a Thursday.
func weekday(day int64) int { return int(((day+4)%7 + 7) % 7) }

func leap(y int) bool { return y%4 == 0 && (y%100 != 0 || y%400 == 0) }

// daysTo is the number of days from 1970-01-01 to the first of month m of year y; m may be 13.
func daysTo(y, m int) int64 {
	if m > 12 {
		y, m = y+1, m-12
	}
	// Days since 0000-03-01 (Howard Hinnant, chrono-compatible low-level date algorithms).
	if m <= 2 {
		y--
		m += 12
	}
	return int64(365*y+y/4-y/100+y/400) + int64((153*(m-3)+2)/5) - 719468
}

func yearOf(unix int64) int {
	day := unix / 86400
	if unix%86400 < 0 {
		day--
	}
	y := 1970 + int(day/366)
	for daysTo(y+1, 1) <= day {
		y++
	}
	for daysTo(y, 1) > day {
		y--
	}
	return y
}

// Week is a change as phones with week rules want it.
type Week struct {
	Month   int // 1 to 12
	Week    int // 1 to 4, or 5 for the last
	Weekday int // 0 Sunday to 6 Saturday
	Hour    int // 0 to 23
	Minute  int // 0 to 59
}

// ISOWeekday is the weekday with Monday 1 and Sunday 7.
func (w Week) ISOWeekday() int { return (w.Weekday+6)%7 + 1 }

// SundayOne is the weekday with Sunday 1 and Saturday 7.
func (w Week) SundayOne() int { return w.Weekday + 1 }

// Weekly is the change by week, with a time within the day. exact is false when no such rule says the same
// in every year: a time up to three hours outside the day is moved to its nearest hour inside, a later
// one to the days after; a day by date becomes the week it falls in most often.
func (c Change) Weekly() (w Week, exact bool) {
	if c.Form != ByWeek {
		return c.weekOfDate()
	}
	w = Week{Month: c.Month, Week: c.Week, Weekday: c.Weekday}
	t := c.Time
	exact = t >= 0 && t < 86400 && t%60 == 0
	switch {
	case t < 0 && t >= -3*3600:
		t = 0
	case t >= 86400 && t <= 27*3600:
		t = 23 * 3600
	}
	days := t / 86400
	if t%86400 < 0 {
		days--
	}
	t -= days * 86400
	w.Weekday = ((c.Weekday+days)%7 + 7) % 7
	w.Hour, w.Minute = t/3600, t/60%60
	return w, exact
}

func (c Change) weekOfDate() (Week, bool) {
	month, day := c.Date()
	t := min(max(c.Time, 0), 86400-60)
	return Week{Month: month, Week: min((day-1)/7+1, 5), Hour: t / 3600, Minute: t / 60 % 60}, false
}

// Day is a change as phones with dates want it.
type Day struct {
	Month, Day, Hour, Minute int
}

// In is the date of the change in a year. Year 0 is for phones that are told once: the middle of the week the rule's days
// fall in, never more than three days from the day itself.
func (c Change) In(year int) Day {
	if year != 0 || c.Form != ByWeek {
		t := c.unix(max(year, 2001))
		day := t / 86400
		y := yearOf(t)
		d := Day{Hour: int(t%86400) / 3600, Minute: int(t%3600) / 60}
		for d.Month = 1; daysTo(y, d.Month+1) <= day; {
			d.Month++
		}
		d.Day = int(day-daysTo(y, d.Month)) + 1
		return d
	}
	w, _ := c.Weekly()
	d := Day{Month: w.Month, Day: w.Week*7 - 3, Hour: w.Hour, Minute: w.Minute}
	if w.Week == 5 {
		d.Day = int(daysTo(2001, w.Month+1)-daysTo(2001, w.Month)) - 3
	}
	return d
}

// Date is month and day of a Julian or ZeroDay change in a year that is no leap year; of a week rule, in 2026.
func (c Change) Date() (month, day int) {
	d := c.day(2026)
	for month = 1; daysTo(2026, month+1) <= d && month < 12; {
		month++
	}
	return month, int(d-daysTo(2026, month)) + 1
}

// usual are the zones that stand for a rule many zones keep, before others of that rule.
var usual = strings.Fields(`UTC Europe/London Europe/Berlin Europe/Athens Europe/Moscow Europe/Istanbul America/New_York America/Chicago America/Denver
	America/Phoenix America/Los_Angeles America/Anchorage America/Halifax America/Sao_Paulo America/Bogota Asia/Dubai Asia/Karachi Asia/Kolkata Asia/Bangkok Asia/Shanghai
	Asia/Tokyo Australia/Sydney Australia/Brisbane Pacific/Auckland Africa/Johannesburg Africa/Lagos Africa/Nairobi Pacific/Honolulu`)

// Named is the name of a zone whose clock on the wall a POSIX rule describes, whatever the abbreviations; of several a
// well-known one, else the first by name. It is empty when no zone keeps the rule.
func Named(posix string) string {
	r, err := Parse(posix)
	if err != nil {
		return ""
	}
	wall := func(r Rule) Rule {
		r = r.Normal()
		r.StdName, r.DSTName = "", ""
		if !r.HasDST {
			return Rule{StdOffset: r.StdOffset}
		}
		return r
	}
	want, zones := wall(r), load()
	for _, name := range slices.Concat(usual, slices.Sorted(maps.Keys(zones))) {
		if z, ok := zones[name]; ok && z.Exact && wall(z.Rule) == want {
			return name
		}
	}
	return ""
}
