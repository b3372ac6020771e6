package plugins

import "strings"

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
