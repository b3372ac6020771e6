package plugins

import "text/template"

// Interpreted is s rendered by text/template alone, Compiled by programs alone: what they leave to text/template is an error.
func Interpreted(s *Set) *Set {
	return s.with(func(p *templatePool) *templatePool {
		return &templatePool{base: p.base}
	})
}

// Compiled: see Interpreted.
func Compiled(s *Set) *Set {
	return s.with(func(p *templatePool) *templatePool {
		return &templatePool{base: template.New(""), program: p.program}
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
