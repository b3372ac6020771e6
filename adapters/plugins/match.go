package plugins

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ledgerline/commands"
	"ledgerline/domain"
)

type compiledRule struct {
	Rule
	re *regexp.Regexp
}

func (p *Package) compileRules() error {
	for i, r := range p.Recognize {
		text, n := "", 0
		for _, t := range []string{r.Path, r.Query, r.UserAgent, r.DHCP} {
			if t != "" {
				text = t
				n++
			}
		}
		if n != 1 {
			return bad("recognize[%d] must have one of path, query, user_agent, dhcp", i)
		}
		re, err := regexp.Compile(text)
		if err != nil {
			return bad("recognize[%d]: %v", i, err)
		}
		p.rules = append(p.rules, compiledRule{r, re})
	}
	return nil
}

// What a piece of evidence is worth. A User-Agent names its vendor; a path may be anybody's.
const (
	scoreUserAgent = 400
	scoreQuery     = 100
	scorePath      = 200
	scoreOUI       = 50
)

const maxAsked = 2048

// Recognize asks every plugin (the version new devices get) what the request shows. The strongest evidence
// wins: User-Agent over path over query, the vendor's own MAC on top; between equals the package whose name sorts
// last. A MAC proved by a certificate wins over one in the User-Agent, that over the query's, that over the path's.
func (s *Set) Recognize(a commands.Asked) (commands.Recognition, bool) {
	if len(a.Path) > maxAsked || len(a.Query) > maxAsked || len(a.UserAgent) > maxAsked {
		return commands.Recognition{}, false
	}
	l := s.now.Load()
	if r, ok, known := l.memo.get(a); known {
		return r, ok
	}
	r, ok := l.recognize(a)
	l.memo.put(a, r, ok)
	return r, ok
}

func (l *loaded) recognize(a commands.Asked) (commands.Recognition, bool) {
	if q, err := url.QueryUnescape(a.Query); err == nil {
		a.Query = q
	}
	var best commands.Recognition
	top := 0
	for _, p := range l.offered {
		if r, score := p.recognize(a); score > 0 && score >= top {
			best, top = r, score
		}
	}
	return best, top > 0
}

// memo remembers what requests showed: phones ask the same again and again, and every package has its
// expressions. Two generations, the older dropped when the newer is full; a request of more than shortAsked bytes
// is not remembered, so that it stays below some 30 MiB whatever is asked.
type memo struct {
	mu         sync.RWMutex
	newer, old map[commands.Asked]remembered
}

type remembered struct {
	r  commands.Recognition
	ok bool
}

const (
	memoEntries = 20_000
	shortAsked  = 512
)

func (m *memo) get(a commands.Asked) (r commands.Recognition, ok, known bool) {
	m.mu.RLock()
	v, known := m.newer[a]
	if !known {
		v, known = m.old[a]
	}
	m.mu.RUnlock()
	return v.r, v.ok, known
}

func (m *memo) put(a commands.Asked, r commands.Recognition, ok bool) {
	if len(a.Path)+len(a.Query)+len(a.UserAgent) > shortAsked {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newer == nil || len(m.newer) >= memoEntries {
		m.old, m.newer = m.newer, make(map[commands.Asked]remembered)
	}
	m.newer[a] = remembered{r, ok}
}

// RecognizeDHCP is Recognize for a DHCP vendor class (option 60).
func (s *Set) RecognizeDHCP(class string, mac domain.MAC) (commands.Recognition, bool) {
	var best commands.Recognition
	found := false
	for _, p := range s.now.Load().offered {
		for _, rule := range p.rules {
			if g, ok := rule.match(rule.DHCP, class); ok && (!rule.OUI || p.ouis[mac.OUI()]) {
				best, found = commands.Recognition{Plugin: p.Name, Vendor: p.Vendor, Model: p.canonical(g.model), Fw: g.fw, MAC: mac}, true
				break // of one package the first rule that matches counts
			}
		}
	}
	return best, found
}

type groups struct {
	all       []string
	model, fw string
	sn, uuid  string
	mac       domain.MAC
}

func (r compiledRule) match(ofKind, text string) (groups, bool) {
	if ofKind == "" || len(text) > maxAsked {
		return groups{}, false
	}
	m := r.re.FindStringSubmatch(text)
	if m == nil {
		return groups{}, false
	}
	g := groups{all: m, model: r.Model}
	for i, name := range r.re.SubexpNames() {
		switch {
		case m[i] == "":
		case name == "model":
			g.model = m[i]
		case name == "fw":
			g.fw = m[i]
		case name == "sn":
			g.sn = m[i]
		case name == "uuid":
			g.uuid = m[i]
		case name == "mac":
			mac, err := domain.ParseMAC(strings.ReplaceAll(m[i], "_", ":"))
			if err != nil {
				return groups{}, false
			}
			g.mac = mac
		}
	}
	return g, true
}

func (p *Package) recognize(a commands.Asked) (commands.Recognition, int) {
	r := commands.Recognition{Plugin: p.Name, Vendor: p.Vendor, MAC: a.ClientMAC, File: a.Path}
	score := 0
	file, shown := "", groups{}
	try := func(kind func(compiledRule) string, text string, worth int) {
		for _, rule := range p.rules {
			g, ok := rule.match(kind(rule), text)
			if !ok || rule.OUI && !p.ouis[firstMAC(g.mac, r.MAC).OUI()] {
				continue
			}
			score += worth
			r.MAC = firstMAC(r.MAC, g.mac)
			r.Model = first(r.Model, g.model)
			r.Fw = first(r.Fw, g.fw)
			r.Serial, r.UUID = first(r.Serial, g.sn), first(r.UUID, g.uuid)
			if rule.File != "" {
				file, shown = rule.File, g
			}
			return
		}
	}
	try(func(r compiledRule) string { return r.UserAgent }, a.UserAgent, scoreUserAgent)
	try(func(r compiledRule) string { return r.Query }, a.Query, scoreQuery)
	try(func(r compiledRule) string { return r.Path }, a.Path, scorePath)
	if score > 0 && p.ouis[r.MAC.OUI()] {
		score += scoreOUI
	}
	r.Model = p.canonical(r.Model)
	if file != "" {
		shown.mac, shown.model = firstMAC(shown.mac, r.MAC), r.Model
		r.File = expandGroups(file, shown)
	}
	return r, score
}

// canonical is the table's spelling of a model, or the name as shown.
func (p *Package) canonical(model string) string {
	if model == "" {
		return ""
	}
	m, _ := p.Model(model)
	return m.Name
}

func expandGroups(name string, g groups) string {
	pairs := []string{"{mac}", string(g.mac), "{MAC}", g.mac.Upper(), "{mac:}", g.mac.Colons(), "{mac_}", strings.ReplaceAll(g.mac.Colons(), ":", "_"), "{model}", g.model}
	for i, text := range g.all {
		pairs = append(pairs, "{"+strconv.Itoa(i)+"}", text)
	}
	return strings.NewReplacer(pairs...).Replace(name)
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func firstMAC(a, b domain.MAC) domain.MAC {
	if a != "" {
		return a
	}
	return b
}

// Scores of association (wazo-provd.md §3.2). Less than probable does not count.
const (
	scoreProbable   = 300 // right vendor, unknown model
	scoreIncomplete = 400 // right vendor, no model shown
	scoreComplete   = 500 // model known, firmware unknown
	scoreExact      = 600 // model and firmware known
)

// Associate chooses by vendor, model and firmware; between equals the package that recognised the phone, else
// the one whose name sorts last, of it the version new devices get.
func (s *Set) Associate(r commands.Recognition) (commands.PluginRef, bool) {
	var best commands.PluginRef
	top := 0
	for _, p := range s.now.Load().offered {
		if score := p.score(r); score >= scoreProbable && score >= top && (score > top || best.Name != r.Plugin || p.Name == r.Plugin) {
			best, top = p.Ref(), score
		}
	}
	return best, top > 0
}

func (p *Package) score(r commands.Recognition) int {
	if r.Vendor == "" && r.Plugin == p.Name {
		return scoreIncomplete
	}
	if r.Vendor == "" && slices.Contains(p.OUIs, r.MAC.OUI()) {
		return scoreProbable // somebody typed its address in; what it is, it will say itself
	}
	if !strings.EqualFold(r.Vendor, p.Vendor) {
		return 0
	}
	if r.Model == "" {
		return scoreIncomplete
	}
	if _, known := p.Model(r.Model); !known {
		return scoreProbable
	}
	if line := p.FirmwareLine(r.Fw); line != 0 && slices.Contains(p.FwLines, line) {
		return scoreExact
	}
	return scoreComplete
}
