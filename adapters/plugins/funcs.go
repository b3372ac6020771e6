package plugins

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"

	"ledgerline/adapters/plugins/wire"
)

// templatePool holds the templates of a package: as a program, and for text/template, each made of the text when it is
// first asked for, for a server meets phones of few families. Each executor is a set of templates bound to its own run;
// they are reused, for binding costs more than running.
type templatePool struct {
	base    func() *template.Template
	program func() *program // nil: everything is left to text/template
	free    sync.Pool
}

type executor struct {
	templates *template.Template
	run       *run
}

// run is one execution of one template.
type run struct {
	view   *view
	format string
	steps  int
}

func whenName(row FileRow) string { return "when " + row.Path + " " + row.Role + " " + row.When }

// compileTemplates parses all templates of a package as one set, and makes every action escape what it prints
// and every loop turn count.
func compileTemplates(p *Package, texts map[string]string) (*templatePool, error) {
	for _, row := range p.Files {
		if _, ok := texts[row.Template]; !ok {
			return nil, bad("files: template %q is missing", row.Template)
		}
		if row.When != "" {
			texts[whenName(row)] = row.When
		}
	}
	if c := p.CodeEntry; c != nil {
		for _, name := range []string{c.Ask, c.Done} {
			if _, ok := texts[name]; !ok {
				return nil, bad("code_entry: template %q is missing", name)
			}
		}
		texts[entryWhen] = c.When
	}
	if base, err := parseTemplates(texts); err != nil {
		return nil, bad("%v", err)
	} else if _, err := newExecutor(base); err != nil {
		return nil, bad("%v", err)
	}
	parse := func() *template.Template {
		base, err := parseTemplates(texts)
		if err != nil {
			panic(fmt.Sprintf("plugins: %s was parsed before: %v", p.Name, err))
		}
		return base
	}
	return &templatePool{base: sync.OnceValue(parse), program: sync.OnceValue(func() *program { return compileProgram(parse()) })}, nil
}

// parseTemplates parses texts by name as one set, guarded.
func parseTemplates(texts map[string]string) (*template.Template, error) {
	base := template.New("").Option("missingkey=error").Funcs((&run{}).funcs())
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if _, err := base.New(name).Parse(texts[name]); err != nil {
			return nil, err
		}
	}
	for _, t := range base.Templates() {
		if t.Tree != nil {
			guard(t.Tree, t.Root)
			t.Root.Nodes = append([]parse.Node{tick(t.Tree)}, t.Root.Nodes...)
		}
	}
	return base, nil
}

// guard rewrites a tree: {{x}} becomes {{x | _escape}}, and loops begin with {{_tick}}.
func guard(tree *parse.Tree, list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			if len(n.Pipe.Decl) == 0 {
				n.Pipe.Cmds = append(n.Pipe.Cmds, command(tree, "_escape"))
			}
		case *parse.IfNode:
			guard(tree, n.List)
			guard(tree, n.ElseList)
		case *parse.WithNode:
			guard(tree, n.List)
			guard(tree, n.ElseList)
		case *parse.RangeNode:
			guard(tree, n.List)
			guard(tree, n.ElseList)
			n.List.Nodes = append([]parse.Node{tick(tree)}, n.List.Nodes...)
		}
	}
}

func command(tree *parse.Tree, name string) *parse.CommandNode {
	return &parse.CommandNode{NodeType: parse.NodeCommand, Args: []parse.Node{parse.NewIdentifier(name).SetTree(tree)}}
}

func tick(tree *parse.Tree) *parse.ActionNode {
	return &parse.ActionNode{NodeType: parse.NodeAction, Pipe: &parse.PipeNode{NodeType: parse.NodePipe, Cmds: []*parse.CommandNode{command(tree, "_tick")}}}
}

func (p *templatePool) executor() (*executor, error) {
	if e, ok := p.free.Get().(*executor); ok {
		return e, nil
	}
	return newExecutor(p.base())
}

func newExecutor(base *template.Template) (*executor, error) {
	t, err := base.Clone()
	if err != nil {
		return nil, err
	}
	r := &run{}
	return &executor{templates: t.Funcs(r.funcs()), run: r}, nil
}

// execute runs the template called name over v; format "" is plain text. Lines of blanks are dropped, so that templates
// may be airy.
func (p *templatePool) execute(name, format string, v *view) ([]byte, error) {
	if out, ok := p.program().execute(name, format, v); ok {
		return out, nil
	}
	return p.interpret(name, format, v)
}

// interpret is execute by text/template.
func (p *templatePool) interpret(name, format string, v *view) ([]byte, error) {
	e, err := p.executor()
	if err != nil {
		return nil, err
	}
	*e.run = run{view: v, format: format}
	var out limited
	err = e.templates.ExecuteTemplate(&out, name, v)
	e.run.view = nil
	p.free.Put(e)
	if err != nil {
		return nil, err
	}
	return tidy(out.Bytes()), nil
}

// limited is a buffer that refuses to grow beyond maxOutput.
type limited struct{ bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	if l.Len()+len(b) > maxOutput {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrBudget, maxOutput)
	}
	return l.Buffer.Write(b)
}

func tidy(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for line := range bytes.Lines(b) {
		end := len(line)
		for end > 0 && isBlank(line[end-1]) {
			end--
		}
		if end > 0 {
			out = append(append(out, line[:end]...), '\n')
		}
	}
	return out
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func (r *run) step() error {
	if r.steps++; r.steps > maxSteps {
		return fmt.Errorf("%w: more than %d steps", ErrBudget, maxSteps)
	}
	return nil
}

// funcs is all a template may call, beside text/template's own. None reads clock, environment, files, network or
// chance; doc.go describes them.
func (r *run) funcs() template.FuncMap {
	return template.FuncMap{
		"_escape": func(v any) (string, error) { return r.escape(v) },
		"_tick":   func() (string, error) { return "", r.step() },

		"get":       func(path string) string { return r.view.get(path) },
		"has":       func(path string) bool { return r.view.get(path) != "" },
		"on":        func(path string) bool { return r.view.on(path, false) },
		"onOr":      func(path string, otherwise bool) bool { return r.view.on(path, otherwise) },
		"items":     func(path string) []string { r.view.ask(asked{noLine, path}); return itemsOf(r.view.settings.Get(path)) },
		"col":       func(name string) string { return r.view.model.Columns[name] },
		"table":     func(name, key string) string { return r.view.pkg.Tables[name][key] },
		"entries":   func(name string) map[string]string { return r.view.pkg.Tables[name] },
		"pick":      func(setting, name, key string) string { return r.pick(setting, name, key) },
		"kept":      func(setting, text string) string { return r.kept(setting, text) },
		"fit":       func(setting string, most int, text string) string { return r.fit(setting, most, text) },
		"warn":      func(setting, text string) string { r.view.warn(setting, text); return "" },
		"directory": func(kind, vendor string) string { return r.view.directory(kind, vendor) },
		"fw":        func(least int) bool { return r.view.FwLine >= least },

		"bit":     func(b bool) string { return choose(b, "1", "0") },
		"onoff":   func(b bool) string { return choose(b, "on", "off") },
		"yesno":   func(b bool) string { return choose(b, "yes", "no") },
		"choose":  func(b bool, yes, no any) any { return choose(b, yes, no) },
		"default": func(otherwise, s string) string { return choose(s != "", s, otherwise) },

		"add": func(a, b int) int { return a + b },
		"sub": func(a, b int) int { return a - b },
		"mul": func(a, b int) int { return a * b },
		"div": func(a, b int) (int, error) { return quotient(a, b, a/max(b, 1)) },
		"mod": func(a, b int) (int, error) { return quotient(a, b, a%max(b, 1)) },
		"int": func(s string) int { n, _ := strconv.Atoi(s); return n },
		"seq": func(from, to int) ([]int, error) { return r.seq(from, to) },

		"upper":     strings.ToUpper,
		"lower":     strings.ToLower,
		"trim":      strings.TrimSpace,
		"replace":   func(old, with, s string) string { return strings.ReplaceAll(s, old, with) },
		"keep":      keep,
		"split":     func(sep, s string) []string { return strings.Split(s, sep) },
		"join":      func(sep string, l []string) string { return strings.Join(l, sep) },
		"contains":  func(l []string, s string) bool { return slices.Contains(l, s) },
		"position":  func(l []string, s string) int { return slices.Index(l, s) },
		"hasPrefix": func(prefix, s string) bool { return strings.HasPrefix(s, prefix) },
		"cut":       func(prefix, s string) string { return strings.TrimPrefix(s, prefix) },
		"hostport":  hostport,
		"scheme":    func(u string) string { s, _, _ := strings.Cut(u, "://"); return strings.ToLower(s) },
		"noscheme":  noScheme,
		"urlpart":   urlPart,
	}
}

// escape prints one value in the file's format; it is part of every action.
func (r *run) escape(v any) (string, error) {
	if err := r.step(); err != nil {
		return "", err
	}
	if r.format == "" {
		return fmt.Sprint(v), nil
	}
	return wire.Escape(r.format, fmt.Sprint(v)), nil
}

// pick is the vendor's word for key in a table; none is a warning about setting, once.
func (r *run) pick(setting, name, key string) string {
	word, ok := r.view.pkg.Tables[name][key]
	if !ok && key != "" {
		r.view.warn(setting, fmt.Sprintf("the %s has nothing for %q; it is left out", r.view.title(), key))
	}
	return word
}

// kept is text, with a warning about setting when the file's format must change it.
func (r *run) kept(setting, text string) string {
	if !wire.Holds(r.format, text) {
		r.view.warn(setting, fmt.Sprintf("the %s's files have no way to write every character of it; those are replaced", r.view.title()))
	}
	return text
}

// fit is text of at most most bytes; a longer one is left out with a warning about setting.
func (r *run) fit(setting string, most int, text string) string {
	if len(text) > most {
		r.view.warn(setting, fmt.Sprintf("the %s takes at most %d bytes; it is left out", r.view.title(), most))
		return ""
	}
	return text
}

func (r *run) seq(from, to int) ([]int, error) {
	if to-from >= 10_000 {
		return nil, fmt.Errorf("%w: a sequence of more than 10000", ErrBudget)
	}
	var out []int
	for i := from; i <= to; i++ {
		out = append(out, i)
	}
	return out, nil
}

func choose[T any](b bool, yes, no T) T {
	if b {
		return yes
	}
	return no
}

func quotient(_, b, q int) (int, error) {
	if b <= 0 {
		return 0, errors.New("divisor must be positive")
	}
	return q, nil
}

// keep drops every character of s that is not in set.
func keep(set, s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(set, r) {
			return r
		}
		return -1
	}, s)
}

// hostport joins host and port; an IPv6 address gets brackets, no port no colon.
func hostport(host, port string) string {
	if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	if host == "" || port == "" {
		return host
	}
	return host + ":" + port
}

func noScheme(u string) string {
	if _, rest, ok := strings.Cut(u, "://"); ok {
		return rest
	}
	return u
}

// urlPart is one part of a URL: scheme, host (an IPv6 address without brackets), port (the scheme's own when it names none), path
// (without the slashes around it) or file, the last name of the path; "" when there is none.
func urlPart(part, u string) string {
	at, rest, ok := strings.Cut(u, "://")
	if !ok {
		at, rest = "", u
	}
	at = strings.ToLower(at)
	place, path, _ := strings.Cut(rest, "/")
	path, _, _ = strings.Cut(path, "?")
	host, port := place[strings.LastIndexByte(place, '@')+1:], ""
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host, port = host[:i], host[i+1:]
	}
	switch part {
	case "scheme":
		return at
	case "host":
		return strings.Trim(host, "[]")
	case "port":
		return cmp.Or(port, map[string]string{"http": "80", "https": "443", "tftp": "69", "ftp": "21"}[at])
	case "path":
		return strings.Trim(path, "/")
	case "file":
		return path[strings.LastIndexByte(path, '/')+1:]
	}
	return ""
}
