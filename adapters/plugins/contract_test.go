package plugins_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins"
	"ledgerline/adapters/plugins/wire"
	"ledgerline/commands"
)

// What the checks of packages work with, for the tests of the families.
var (
	full       = plugins.Full
	harmless   = plugins.Harmless
	keyTypes   = plugins.KeyTypes
	hostile    = plugins.Hostile
	someModels = plugins.SomeModels
	request    = plugins.CheckRequest
)

func parseBack(p *plugins.Package, path string, data []byte, _ bool) ([]wire.Entry, error) {
	return plugins.ParseBack(p, path, data)
}

func render(t testing.TB, set *plugins.Set, r commands.Render) commands.Rendered {
	t.Helper()
	out, err := set.Render(context.Background(), r)
	if err != nil {
		t.Fatalf("%s %s %s: %v", r.Plugin.Name, r.Model, r.Fw, err)
	}
	return out
}

// eachPackage runs f over every built-in package.
func eachPackage(t *testing.T, f func(t *testing.T, set *plugins.Set, p *plugins.Package)) {
	set := loadBuiltin(t)
	if len(set.Packages()) == 0 {
		t.Fatal("no built-in package")
	}
	for _, p := range set.Packages() {
		t.Run(p.Name, func(t *testing.T) { f(t, set, p) })
	}
}

// Every built-in package passes the checks that ledgerline plugin test runs over anybody's.
func TestContract(t *testing.T) {
	for _, check := range plugins.Checks {
		t.Run(check.Name, func(t *testing.T) {
			eachPackage(t, func(t *testing.T, set *plugins.Set, p *plugins.Package) {
				for _, wrong := range check.Run(t.Context(), set, p) {
					t.Error(wrong)
				}
			})
		})
	}
	if n := len(plugins.SecretsOf(full(harmless))); n < 8 {
		t.Errorf("only %d secrets are looked for", n)
	}
}

// Renderers share executors; a race or a mix-up between phones shows here.
func TestRendersDoNotMix(t *testing.T) {
	eachPackage(t, func(t *testing.T, set *plugins.Set, p *plugins.Package) {
		names := someModels(p)
		want := map[string]commands.Rendered{}
		for _, m := range names {
			want[m] = render(t, set, request(p, m, "", full(harmless), false))
		}
		for i := range 8 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				m := names[i%len(names)]
				if got := render(t, set, request(p, m, "", full(harmless), false)); !reflect.DeepEqual(want[m], got) {
					t.Error(cmp.Diff(want[m], got))
				}
			})
		}
	})
}
