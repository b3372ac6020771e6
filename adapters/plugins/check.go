package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// Check is one thing every package must pass, whatever its vendor: what ledgerline plugin test runs, and the contract suite
// over the built-in packages.
type Check struct {
	// Name says what holds: "every model renders and parses back".
	Name string
	run  func(c *checker)
}

// Checks are all of them, in the order they are worth reading.
var Checks = []Check{
	{"every model renders, within its budget, to files that parse back", (*checker).everyModel},
	{"no text brings a setting of its own", (*checker).noTextBringsASetting},
	{"the same settings give the same bytes, and skeletons and warnings hold no secret", (*checker).stable},
	{"guests get no secret", (*checker).guests},
}

// Run runs the check over a package of set, and answers what is wrong: nothing when all is well.
func (k Check) Run(ctx context.Context, set *Set, p *Package) []string {
	c := &checker{ctx: ctx, set: set, p: p}
	k.run(c)
	return c.wrong
}

// maxWrong bounds what one check has to say.
const maxWrong = 50

type checker struct {
	ctx   context.Context
	set   *Set
	p     *Package
	wrong []string
	spent bool // a file exceeded its budget: others would too, each after all of that work
}

func (c *checker) fail(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); len(c.wrong) < maxWrong && !slices.Contains(c.wrong, text) {
		c.wrong = append(c.wrong, text)
	}
}

// render renders and parses back; nil if that failed.
func (c *checker) render(model string, s domain.Settings, guest bool) (out commands.Rendered, keys map[string][]string) {
	if c.spent || c.ctx.Err() != nil {
		return out, nil
	}
	out, err := c.set.Render(c.ctx, checkRequest(c.p, model, "", s, guest))
	if err != nil {
		c.spent = errors.Is(err, ErrBudget)
		c.fail("%s: %v", model, err)
		return out, nil
	}
	keys = map[string][]string{}
	for _, f := range out.Files {
		entries, err := c.p.parseBack(f.Path, f.Data)
		if err != nil {
			c.fail("%s: %s: %v", model, f.Path, err)
			return out, nil
		}
		keys[f.Path] = wire.Keys(entries)
	}
	return out, keys
}

// full is settings with a value for everything in the schema, as much of it as fits one phone.
func full(text func(path string) string) domain.Settings {
	s := domain.Settings{}
	for _, d := range domain.Schema() {
		if strings.Contains(d.Path, "*") || d.Kind == domain.KindObject {
			continue
		}
		s[d.Path] = sample(d, d.Path, text)
	}
	lines := map[string]any{}
	for n := 1; n <= 3; n++ {
		lines[strconv.Itoa(n)] = below("sip_lines.*.", n, text)
	}
	keys := map[string]any{}
	for i, d := range keyTypes() {
		k := below("funckeys.*.", i+1, text)
		k["type"], k["line"] = d, 1
		keys[strconv.Itoa(i+1)] = k
	}
	keys["1-3"] = map[string]any{"type": "blf", "value": text("funckeys.1-3.value"), "label": text("funckeys.1-3.label")}
	s["sip_lines"], s["funckeys"] = lines, keys
	s["X_free"] = text("X_free")
	return s
}

func keyTypes() []string {
	for _, d := range domain.Schema() {
		if d.Path == "funckeys.*.type" {
			return d.Values
		}
	}
	return nil
}

func below(prefix string, n int, text func(string) string) map[string]any {
	m := map[string]any{}
	for _, d := range domain.Schema() {
		if name, ok := strings.CutPrefix(d.Path, prefix); ok {
			m[name] = sample(d, strings.Replace(d.Path, "*", strconv.Itoa(n), 1), text)
		}
	}
	return m
}

func sample(d domain.SettingDef, path string, text func(string) string) any {
	switch d.Kind {
	case domain.KindBool:
		return true
	case domain.KindInt:
		return min(max(d.Min, 3), d.Max)
	case domain.KindEnum:
		return d.Values[len(d.Values)-1]
	case domain.KindList:
		return []any{d.Values[0], d.Values[1]}
	case domain.KindPEMs:
		return []any{"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----"}
	case domain.KindPEM:
		return "-----BEGIN X-----\nMA==\n-----END X-----"
	case domain.KindZone:
		return "Australia/Lord_Howe"
	case domain.KindLocale:
		return "de_CH"
	case domain.KindClock:
		return "03:30"
	}
	if path == "tone_country" {
		return "FR"
	}
	return text(path)
}

func harmless(path string) string { return "v-" + strings.ReplaceAll(path, ".", "-") }

// hostile text tries to end the line, the value, the element, or the file.
var hostile = []string{
	"a\r\nfeatures.evil = 1", "a\nevil = 1\n", "a\revil=1", "\x00evil\x00", `"evil"='x'`, "</value><evil>1</evil><value>", "a&b;&lt;&evil;", "#evil", ";evil=1", "%evil%NULL%",
	"]]>", "<!--", "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>", "\u2028evil = 1", "\u0085evil = 1", "a\tb", "{{.BaseURL}}", "$mac", "\xff\xfe", "\ufffe", "   ",
	"/../../evil", "a=b=c", "évîl 漢字 🙂", "-->", "'\"><x y=\"", "\\", "\x1b[2J", "%s%n",
}

// checkRequest is one device of a package's model.
func checkRequest(p *Package, model, fw string, s domain.Settings, guest bool) commands.Render {
	return commands.Render{Plugin: p.Ref(), Model: model, Fw: fw, MAC: "001565aabbcc", ID: "001565aabbcc", Settings: s,
		BaseURL: "https://prov.example.net/d/0a1b2c/", Guest: guest}
}

// parseBack tries the formats of the package: a path belongs to the one whose parser takes it.
func (p *Package) parseBack(path string, data []byte) ([]wire.Entry, error) {
	var errs []string
	for _, format := range p.FormatsOf(path) {
		entries, err := wire.Parse(format, data)
		if err == nil {
			return entries, nil
		}
		errs = append(errs, err.Error())
	}
	return nil, fmt.Errorf("%s", strings.Join(errs, "; "))
}

func (c *checker) everyModel() {
	for _, m := range append(slices.Clone(c.p.Models), Model{Name: "NEW-1"}, Model{}) {
		for _, guest := range []bool{false, true} {
			for _, s := range []domain.Settings{nil, full(harmless)} {
				if out, keys := c.render(m.Name, s, guest); keys != nil {
					c.repeats(m.Name, keys)
					c.table(out, guest)
				}
			}
		}
	}
}

// repeats: no key stands twice in a file, but those the package names.
func (c *checker) repeats(model string, keys map[string][]string) {
	for path, all := range keys {
		for i := 1; i < len(all); i++ {
			if all[i] == all[i-1] && !slices.Contains(c.p.Repeated, all[i]) {
				c.fail("%s: %s has %s twice", model, path, all[i])
			}
		}
	}
}

// table: what the phone fetches first is there, a device or guest file of its own.
func (c *checker) table(out commands.Rendered, guest bool) {
	own := false
	for _, f := range out.Files {
		if len(f.Data) == 0 || len(f.Skeleton) == 0 || f.ContentType == "" {
			c.fail("%s is empty or without type", f.Path)
		}
		own = own || strings.Contains(strings.ReplaceAll(strings.ToLower(f.Path), "_", ""), "001565aabbcc")
	}
	if !own {
		c.fail("no file of the phone's own (guest %v)", guest)
	}
}

func (c *checker) noTextBringsASetting() {
	for _, m := range someModels(c.p) {
		_, want := c.render(m, full(harmless), false)
		for _, evil := range hostile {
			out, got := c.render(m, full(func(path string) string { return evil + path }), false)
			if want != nil && got != nil && !reflect.DeepEqual(want, got) {
				c.fail("%s: %q changes the keys:\n%s", m, evil, cmp.Diff(want, got))
			}
			for _, f := range out.Files {
				if i := bytes.IndexFunc(f.Data, func(r rune) bool { return r < 0x20 && r != '\n' && r != '\t' || r == 0x7f }); i >= 0 {
					c.fail("%s: %s holds control character %#x", m, f.Path, f.Data[i])
				}
			}
		}
	}
}

// someModels is one model for each distinct row of abilities.
func someModels(p *Package) []string {
	seen := map[string]bool{}
	var names []string
	for _, m := range p.Models {
		key := fmt.Sprint(m.Columns["kind"], m.Columns["fw_line"] < "81", m.Keys > 0, m.ExpKeys > 0)
		if !seen[key] {
			seen[key] = true
			names = append(names, m.Name)
		}
	}
	return names
}

func (c *checker) stable() {
	secrets := append(secretsOf(full(harmless)), "0a1b2c")
	for _, m := range someModels(c.p) {
		first, keys := c.render(m, full(harmless), false)
		for range 5 {
			if again, _ := c.render(m, full(harmless), false); keys != nil && !reflect.DeepEqual(first, again) {
				c.fail("%s changes from render to render:\n%s", m, cmp.Diff(first, again))
			}
		}
		for _, secret := range secrets {
			for _, f := range first.Files {
				if bytes.Contains(f.Skeleton, []byte(secret)) {
					c.fail("%s: skeleton of %s holds a secret", m, f.Path)
				}
			}
			for _, w := range first.Warnings {
				if strings.Contains(w.Text, secret) {
					c.fail("%s: the warning about %s holds a secret", m, w.Setting)
				}
			}
		}
	}
}

func (c *checker) guests() {
	for _, m := range c.p.Models {
		out, _ := c.render(m.Name, full(harmless), true)
		for _, f := range out.Files {
			for _, secret := range secretsOf(full(harmless)) {
				if bytes.Contains(f.Data, []byte(secret)) {
					c.fail("%s: guest file %s holds %s", m.Name, f.Path, secret)
				}
			}
		}
	}
}

// secretsOf are the clear texts of the credentials in s.
func secretsOf(s domain.Settings) (secrets []string) {
	_, _ = s.MapSecrets(func(_ string, v any) (any, error) { // never fails, for this does not
		if text, ok := v.(string); ok {
			secrets = append(secrets, text)
		}
		return v, nil
	})
	return secrets
}
