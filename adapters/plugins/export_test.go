package plugins

import (
	"slices"
	"text/template"

	"ledgerline/adapters/plugins/wire"
	"ledgerline/commands"
)

// Interpreted is s rendered by text/template alone, Compiled by programs alone: what they leave to text/template is an error.
func Interpreted(s *Set) *Set {
	return s.with(func(p *templatePool) *templatePool {
		return &templatePool{base: p.base, program: func() *program { return nil }}
	})
}

// Compiled: see Interpreted.
func Compiled(s *Set) *Set {
	return s.with(func(p *templatePool) *templatePool {
		return &templatePool{base: func() *template.Template { return template.New("") }, program: p.program}
	})
}

func (s *Set) with(change func(*templatePool) *templatePool) *Set {
	var out []*Package
	for _, p := range s.Packages() {
		c := *p
		c.pool = change(p.pool)
		out = append(out, &c)
	}
	return newSet(out...)
}

// What the checks work with, for tests.
var (
	Full         = full
	Harmless     = harmless
	KeyTypes     = keyTypes
	Hostile      = hostile
	SomeModels   = someModels
	SecretsOf    = secretsOf
	CheckRequest = checkRequest
	CaseInput    = caseInput
	LayOver      = layOver
)

func ParseBack(p *Package, path string, data []byte) ([]wire.Entry, error) {
	return p.parseBack(path, data)
}

// BootFile tells whether a path of r's files is of one that only says what to fetch.
func BootFile(p *Package, r commands.Render, path string) bool {
	v, err := newView(p, r, nil)
	return err == nil && slices.ContainsFunc(p.Files, func(row FileRow) bool { return row.Role == "boot" && v.expand(row.Path) == path })
}
