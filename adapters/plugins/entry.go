package plugins

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"ledgerline/adapters/plugins/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// CodeEntry is section code_entry of plugin.yaml: the pages by which a phone with a browser asks for a provisioning code. Guest files
// point to the form with .CodeEntry, the form submits to .Action with "code" as parameter, by GET or as a posted form. In the
// form .Refused tells that a code was refused; the page Done makes the phone fetch its files, by whatever action its browser knows.
type CodeEntry struct {
	When        string `yaml:"when"` // a template: models for which it yields anything have the entry; empty means all
	Ask         string `yaml:"ask"`  // template of the form
	Done        string `yaml:"done"` // template of the page after
	ContentType string `yaml:"content_type"`
	Format      string `yaml:"format"`
}

// entryPath is where phonehttp serves the form.
const entryPath = "enter/"

const entryWhen = "when code_entry"

var _ commands.CodeEntry = (*Set)(nil)

func (c *CodeEntry) check() error {
	switch {
	case c == nil:
		return nil
	case c.Ask == "" || c.Done == "" || c.ContentType == "":
		return bad("code_entry: ask, done and content_type are needed")
	case !slices.Contains(wire.Formats(), c.Format):
		return bad("code_entry: format %q must be one of %s", c.Format, strings.Join(wire.Formats(), ", "))
	}
	return nil
}

// setCodeEntry gives the guest file of a phone that has a browser the URL of the form.
func (v *view) setCodeEntry() error {
	if v.pkg.CodeEntry == nil || !v.Guest || v.MAC == "" || v.BaseURL == "" {
		return nil
	}
	ok, err := v.hasCodeEntry()
	if ok {
		v.CodeEntry = v.BaseURL + entryPath + v.pkg.Name + "/" + string(v.MAC)
	}
	return err
}

func (v *view) hasCodeEntry() (bool, error) {
	if v.pkg.CodeEntry.When == "" {
		return true, nil
	}
	out, err := v.pkg.pool.execute(entryWhen, "", v)
	return len(strings.TrimSpace(string(out))) > 0, err
}

// EntryPage makes one page of a phone's code entry, by the newest version of its family. It is pure.
func (s *Set) EntryPage(in commands.EntryPage) (commands.EntryAnswer, error) {
	p, err := s.Package(commands.PluginRef{Name: in.Plugin})
	if err != nil || p.CodeEntry == nil || in.MAC == "" {
		return commands.EntryAnswer{}, commands.ErrNoFile
	}
	who, _ := p.recognize(commands.Asked{UserAgent: in.UserAgent})
	v, err := newView(p, commands.Render{Plugin: p.Ref(), MAC: in.MAC, ID: domain.DeviceID(in.MAC), Model: who.Model, Fw: who.Fw, Guest: true}, nil)
	if err != nil {
		return commands.EntryAnswer{}, err
	}
	v.Action, v.Refused = in.Action, in.Refused
	if ok, err := v.hasCodeEntry(); err != nil || !ok {
		return commands.EntryAnswer{}, cmp.Or(err, commands.ErrNoFile)
	}
	name := p.CodeEntry.Ask
	if in.Done {
		name = p.CodeEntry.Done
	}
	out := commands.EntryAnswer{ContentType: p.CodeEntry.ContentType}
	if out.Data, err = p.pool.execute(name, p.CodeEntry.Format, v); err != nil {
		return commands.EntryAnswer{}, fmt.Errorf("render %s of %s: %w", name, p.Name, err)
	}
	for _, row := range p.Files {
		if row.Role == "device" && strings.Contains(strings.ToLower(row.Path), "{mac") {
			out.File = v.expand(row.Path)
			break
		}
	}
	return out, nil
}
