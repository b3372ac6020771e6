package plugins

import (
	"fmt"
	"slices"
	"strings"
)

// At is the same account under another number, for phones that hold one account in two places.
func (l *Line) At(n int) *Line {
	c := *l
	c.N = n
	return &c
}

// Standby is the number of the unused account that registers this line with its backup registrar, for phones whose
// accounts know one server only: the last account of the model for the first line that wants one, and so on
// down. 0 when the line has no backup registrar or no account is left.
func (l *Line) Standby() int {
	for n, for_ := range l.view.standbys() {
		if for_ == l.N {
			return n
		}
	}
	return 0
}

// StandsInFor is the line whose backup registrar this unused account registers with, nil if there is none.
func (l *Line) StandsInFor() *Line {
	if n := l.view.standbys()[l.N]; n > 0 {
		return l.view.Lines[n-1]
	}
	return nil
}

// standbys maps the number of each account that stands by to the line it stands by for.
func (v *view) standbys() map[int]int {
	out := map[int]int{}
	free := len(v.Lines)
	for _, l := range v.Lines {
		if !l.Used || !l.Has("backup_registrar_ip") {
			continue
		}
		for free > 0 && v.Lines[free-1].Used {
			free--
		}
		if free == 0 {
			break
		}
		out[free] = l.N
		free--
	}
	return out
}

// Servers are the different servers the used lines register with, for devices that keep servers apart from accounts.
type Servers struct {
	// List has one line of each server; its At number is the server's, from 1.
	List []*Line
	of   map[int]int
}

// Of is the number of the line's server, 0 when the device has no room for it.
func (s *Servers) Of(l *Line) int { return s.of[l.N] }

// serverKeys are what makes two lines use different servers.
var serverKeys = []string{"registrar_ip", "registrar_port", "proxy_ip", "proxy_port", "outbound_proxy_ip", "outbound_proxy_port",
	"transport", "srtp_mode", "dtmf_mode", "registration_expires", "codecs"}

// Servers groups the used lines by server, at most most of them, in order of first use.
func (v *view) Servers(most int) *Servers {
	s := &Servers{of: map[int]int{}}
	seen := map[string]int{}
	for _, l := range v.Lines {
		if !l.Used {
			continue
		}
		texts := make([]string, len(serverKeys))
		for i, k := range serverKeys {
			texts[i] = l.Get(k)
		}
		key := strings.Join(texts, "\x00")
		if seen[key] == 0 && len(s.List) < most {
			s.List = append(s.List, l.At(len(s.List)+1))
			seen[key] = len(s.List)
		}
		s.of[l.N] = seen[key]
	}
	return s
}

// PlacedKey is a key with its number when those of the expansion modules go on from the phone's own, from 1.
type PlacedKey struct {
	*Key
	Index int
}

// Placed counts k on from the keys before it.
func (v *view) Placed(k *Key) PlacedKey {
	if k.Module == 0 {
		return PlacedKey{k, k.N}
	}
	return PlacedKey{k, v.model.Keys + (k.Module-1)*v.model.ExpKeys + k.N}
}

// ModuleKeys are all keys of all expansion modules the model can carry, those without a function too: a phone keeps
// what it was told until told otherwise.
func (v *view) ModuleKeys() []*Key {
	var out []*Key
	set := v.Expansion
	for m := 1; m <= v.model.ExpModules; m++ {
		for n := 1; n <= v.model.ExpKeys; n++ {
			if len(set) > 0 && set[0].Module == m && set[0].N == n {
				out, set = append(out, set[0]), set[1:]
			} else {
				out = append(out, &Key{Module: m, N: n, Type: "none", Line: 1})
			}
		}
	}
	return out
}

// Nth is the number of a setting that account 1 has under a number of its own and the others in blocks of a hundred:
// first for account 1, second for account 2, second+100 for account 3 and so on.
func (l *Line) Nth(first, second int) int {
	if l.N == 1 {
		return first
	}
	return second + (l.N-2)*100
}

// Folder is a URL without scheme and without the name of a file at its end.
func (v *view) Folder(url string) string {
	place := noScheme(url)
	i := strings.LastIndexByte(place, '/')
	if i >= 0 && (i == len(place)-1 || strings.Contains(place[i:], ".")) {
		return place[:i]
	}
	return place
}

// PlacedLine is a line with the number of its server, from 1.
type PlacedLine struct {
	*Line
	Server int
}

// Place is l with its server's number.
func (s *Servers) Place(l *Line) PlacedLine { return PlacedLine{l, s.Of(l)} }

// Empty are all accounts of the model, none in use: what a phone nobody has configured is to forget.
func (v *view) Empty() []*Line {
	out := make([]*Line, v.Accounts)
	for i := range out {
		out[i] = &Line{N: i + 1, view: v}
	}
	return out
}

// Chosen is the line's codecs in the words of a table, otherwise when there are none, filled up to n words with the
// first: for phones that have n places and no way to leave one empty. A codec the table lacks is a warning.
func (l *Line) Chosen(table, otherwise string, n int) []string {
	var out []string
	for _, codec := range l.Items("codecs") {
		word, ok := l.view.pkg.Tables[table][codec]
		if !ok {
			l.view.warn(l.Pointer("codecs"), fmt.Sprintf("the %s has nothing for %q; it is left out", l.view.title(), codec))
		} else if !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	if len(out) == 0 {
		out = strings.Fields(otherwise)
	}
	for len(out) < n {
		out = append(out, out[0])
	}
	return out[:n]
}

// After is k on the button it gets on a phone whose keys take what its lines leave: the keys of the phone follow line last, those of
// modules come after the phone's buttons. Index 0 when there is no such button.
func (v *view) After(k *Key, last, buttons int) PlacedKey {
	switch n := max(last, 1) + k.N; {
	case k.Module > 0:
		return PlacedKey{k, buttons + (k.Module-1)*v.model.ExpKeys + k.N}
	case n <= buttons:
		return PlacedKey{k, n}
	}
	return PlacedKey{k, 0}
}

// LinePair is two lines side by side.
type LinePair struct{ Line, Other *Line }

// Beside is l and another line, for templates that take one argument.
func (l *Line) Beside(other *Line) LinePair { return LinePair{l, other} }
