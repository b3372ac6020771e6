// Package arch holds the rules of who may import whom (design: domain knows nobody, commands and
// projections know domain, an adapter knows no other adapter, nobody knows cmd).
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// allowed lists, for the packages below a prefix, which of our own packages they may import. The longest
// prefix counts. "self" stands for the package's own root (adapters/X may import adapters/X/wire).
var allowed = map[string][]string{
	"domain":                     {},
	"commands":                   {"domain"},
	"commands/commandstest":      {"domain", "commands"},
	"projections":                {"domain"},
	"projections/projectiontest": {"domain", "projections"},
	"adapters":                   {"domain", "commands", "projections", "self"},
	"tests/contract":             {"domain", "commands", "projections"},
	"tests/phonesim":             {"domain", "commands", "projections", "adapters/*/wire"},
	"tests":                      {"*"},
	"cmd":                        {"*"},
}

// testsToo may be imported by test files in addition.
var testsToo = []string{"commands/commandstest", "projections/projectiontest", "tests/contract", "tests/phonesim", "tests/phonesim/innovaphone", "tests/postgres", "tests/rabbit", "tests/sippeer", "tests/wazo"}

// pure lists what domain must not use from the standard library: it has no clock, no I/O, no log.
var pure = []string{"context", "net/http", "os", "log", "log/slog", "io/fs", "net", "database/sql", "math/rand", "crypto/rand"}

func TestImportRules(t *testing.T) {
	root := filepath.Join("..", "..")
	checked := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		checked++
		checkFile(t, path, filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 20 {
		t.Fatalf("only %d files found: the rules were not applied to the tree", checked)
	}
}

func checkFile(t *testing.T, path, rel string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.ToSlash(filepath.Dir(rel))
	isTest := strings.HasSuffix(rel, "_test.go")
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if dir == "domain" && !isTest && slices.Contains(pure, imported) {
			t.Errorf("%s imports %s: domain is pure", rel, imported)
		}
		ours, is := strings.CutPrefix(imported, "ledgerline/")
		if is && !may(dir, ours, isTest) {
			t.Errorf("%s imports %s", rel, imported)
		}
	}
}

// may tells whether a file of package dir may import our package imported.
func may(dir, imported string, isTest bool) bool {
	if dir == imported || isTest && slices.Contains(testsToo, imported) {
		return true
	}
	prefix := ""
	for p := range allowed {
		if (dir == p || strings.HasPrefix(dir, p+"/")) && len(p) > len(prefix) {
			prefix = p
		}
	}
	for _, a := range allowed[prefix] {
		switch {
		case a == "*" && !strings.HasPrefix(imported, "cmd/"), a == imported:
			return true
		case a == "self" && root(dir) == root(imported):
			return true
		case a == "adapters/*/wire" && strings.HasPrefix(imported, "adapters/") && strings.HasSuffix(imported, "/wire"):
			return true
		}
	}
	return false
}

// root is "adapters/X" of any package below it.
func root(pkg string) string {
	parts := strings.SplitN(pkg, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// The rules themselves must be able to fail.
func TestRulesRefuse(t *testing.T) {
	for _, c := range []struct {
		dir, imported string
		test, want    bool
	}{
		{"domain", "commands", false, false},
		{"commands", "domain", false, true},
		{"commands", "projections", false, false},
		{"projections", "commands", false, false},
		{"adapters/ledger", "adapters/vault", false, false},
		{"adapters/plugins", "adapters/plugins/tz", false, true},
		{"adapters/plugins/tz", "adapters/plugins", false, true},
		{"adapters/httpapi", "commands/commandstest", false, false},
		{"adapters/httpapi", "commands/commandstest", true, true},
		{"tests/phonesim", "adapters/plugins", false, false},
		{"tests/phonesim", "adapters/sysclient/wire", false, true},
		{"tests/e2e", "adapters/ledger", true, true},
		{"adapters/ledger", "cmd/ledgerline", false, false},
	} {
		if got := may(c.dir, c.imported, c.test); got != c.want {
			t.Errorf("%s imports %s (test %v): allowed %v, want %v", c.dir, c.imported, c.test, got, c.want)
		}
	}
}
