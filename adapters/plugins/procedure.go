package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"ledgerline/domain"
)

// Step is one step of how a bundle's files become what phones fetch, as wazo-provd's package definitions have it
// (wazo-provd.md §4.3): it reads the files of node From and writes node To. The node no step writes holds what was fetched;
// nodes no step reads are what phones get.
type Step struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
	// Do is unzip, untar, unsign, include, exclude, cp or null.
	Do string `yaml:"do"`
	// Args are patterns of path.Match, relative to the node; of cp and unsign the last is the target.
	Args []string `yaml:"args"`
}

// arguments is how many an action takes, at least and at most.
var arguments = map[string][2]int{"unzip": {1, 1}, "untar": {1, 1}, "unsign": {2, 2}, "include": {1, 100}, "exclude": {1, 100}, "cp": {2, 100}, "null": {0, 0}}

// checkSteps tells why steps are none that can be carried out: they must form a tree without loops.
func checkSteps(steps []Step) error {
	writes, reads := map[string]bool{}, map[string]bool{}
	for _, s := range steps {
		n, known := arguments[s.Do]
		switch {
		case s.From == "" || s.To == "" || s.From == s.To || writes[s.To]:
			return bad("step %s-%s: nodes must form a tree", s.From, s.To)
		case !known:
			return bad("step %s-%s: %q needs a program, or is none of unzip, untar, unsign, include, exclude, cp, null", s.From, s.To, s.Do)
		case len(s.Args) < n[0] || len(s.Args) > n[1]:
			return bad("step %s-%s: %s takes %d to %d arguments", s.From, s.To, s.Do, n[0], n[1])
		}
		writes[s.To], reads[s.From] = true, true
		for i, a := range s.Args {
			if _, err := path.Match(a, ""); err != nil || !fs.ValidPath(strings.TrimSuffix(a, "/")) && !(s.Do == "cp" && i == len(s.Args)-1 && (a == "/" || a == "./")) {
				return bad("step %s-%s: %q is no pattern within", s.From, s.To, a)
			}
		}
	}
	roots := maps.Clone(reads)
	maps.DeleteFunc(roots, func(n string, _ bool) bool { return writes[n] })
	if len(roots) != 1 {
		return bad("steps must begin at one node")
	}
	reached := roots
	for range steps {
		for _, s := range steps {
			if reached[s.From] {
				reached[s.To] = true
			}
		}
	}
	for _, s := range steps {
		if !reached[s.To] {
			return bad("step %s-%s is in a loop", s.From, s.To)
		}
	}
	return nil
}

// node is files by path.
type node map[string]domain.PluginFile

// carryOut makes of what was fetched what phones get.
func (d *Depot) carryOut(ctx context.Context, steps []Step, fetched node) ([]domain.PluginFile, error) {
	nodes, left := map[string]node{}, slices.Clone(steps)
	written := map[string]bool{}
	for _, s := range steps {
		written[s.To] = true
	}
	for _, s := range steps {
		if !written[s.From] {
			nodes[s.From] = fetched
		}
	}
	for len(left) > 0 { // a tree: some step can go each time
		i := slices.IndexFunc(left, func(s Step) bool { return nodes[s.From] != nil })
		if i < 0 {
			return nil, refused("its steps are in a loop")
		}
		s := left[i]
		left = slices.Delete(left, i, i+1)
		to, err := d.step(ctx, s, nodes[s.From])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Do, err)
		}
		if len(to) > maxBundleFiles {
			return nil, refused("more than %d files in it", maxBundleFiles)
		}
		nodes[s.To] = to
	}
	leaves := node{}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if !slices.ContainsFunc(steps, func(s Step) bool { return s.From == name }) {
			maps.Copy(leaves, nodes[name])
		}
	}
	out := make([]domain.PluginFile, 0, len(leaves))
	for _, p := range slices.Sorted(maps.Keys(leaves)) {
		f := leaves[p]
		f.Path = p
		out = append(out, f)
	}
	return out, nil
}

func (d *Depot) step(ctx context.Context, s Step, from node) (node, error) {
	to := node{}
	switch s.Do {
	case "include", "exclude":
		hit, err := from.match(s.Args...)
		if err != nil {
			return nil, err
		}
		for p, f := range from {
			if _, in := hit[p]; in == (s.Do == "include") {
				to[p] = f
			}
		}
	case "cp":
		target := s.Args[len(s.Args)-1]
		hit, err := from.match(s.Args[:len(s.Args)-1]...)
		if err != nil {
			return nil, err
		}
		for p, f := range from {
			if at, in := hit[p]; in && strings.HasSuffix(target, "/") {
				to[path.Join(strings.TrimPrefix(target, "/"), path.Base(at)+p[len(at):])] = f
			} else if in {
				if _, twice := to[target]; twice || at != p {
					return nil, refused("%q is a file, and more than one was to be copied there", target)
				}
				to[target] = f
			}
		}
	case "unzip", "untar":
		hit, err := from.match(s.Args...)
		if err != nil {
			return nil, err
		}
		for _, p := range slices.Sorted(maps.Keys(hit)) {
			kind := "zip"
			if s.Do == "untar" {
				if kind, err = d.tarKind(from[p].SHA256); err != nil {
					return nil, err
				}
			}
			files, err := d.place(ctx, from[p].SHA256, "", kind, nil)
			if err != nil {
				return nil, err
			}
			for _, f := range files {
				to[f.Path] = f
			}
		}
	case "unsign":
		hit, err := from.match(s.Args[0])
		if err != nil {
			return nil, err
		}
		if len(hit) != 1 {
			return nil, refused("%q is more than one file", s.Args[0])
		}
		for p := range hit {
			f, err := d.unsigned(ctx, from[p].SHA256)
			if err != nil {
				return nil, err
			}
			to[s.Args[1]] = f
		}
	}
	return to, nil
}

// match are the files a pattern names, or whose folder it names, with what of their path it matched. A pattern that names
// nothing is an error.
func (n node) match(patterns ...string) (map[string]string, error) {
	hit := map[string]string{}
	for _, pattern := range patterns {
		found := false
		for p := range n {
			for at := p; at != "."; at = path.Dir(at) {
				if matches(strings.TrimSuffix(pattern, "/"), at) {
					hit[p], found = at, true
					break
				}
			}
		}
		if !found {
			return nil, refused("nothing is named %q", pattern)
		}
	}
	return hit, nil
}

// tarKind looks how a tar is compressed.
func (d *Depot) tarKind(sum string) (string, error) {
	head, err := d.head(sum, 3)
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "tar.gz", err
	case bytes.HasPrefix(head, []byte("BZh")):
		return "tar.bz2", err
	}
	return "tar", err
}

// head is the first n bytes of a file, fewer where it has no more.
func (d *Depot) head(sum string, n int) ([]byte, error) {
	f, err := os.Open(d.filePath(sum))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	n, err = io.ReadFull(f, b)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// unsigned strips a Cisco signature: what counts begins with a gzip magic within the first 512 bytes.
func (d *Depot) unsigned(ctx context.Context, sum string) (domain.PluginFile, error) {
	head, err := d.head(sum, 512)
	if err != nil {
		return domain.PluginFile{}, err
	}
	at := bytes.Index(head, []byte{0x1f, 0x8b})
	if at < 0 {
		return domain.PluginFile{}, refused("it is not signed as Cisco's files are")
	}
	f, err := os.Open(d.filePath(sum))
	if err != nil {
		return domain.PluginFile{}, err
	}
	defer f.Close()
	if _, err := f.Seek(int64(at), io.SeekStart); err != nil {
		return domain.PluginFile{}, err
	}
	stripped, size, err := d.take(ctx, f)
	return domain.PluginFile{SHA256: stripped, Size: size}, err
}
