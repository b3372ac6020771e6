package plugins_test

import (
	"testing"

	"ledgerline/commands"
)

func BenchmarkRender(b *testing.B) {
	set := loadBuiltin(b)
	p, err := set.Package(commands.PluginRef{Name: "yealink"})
	if err != nil {
		b.Fatal(err)
	}
	r := request(p, "T54W", "96.86.0.70", full(harmless), false)
	b.ReportAllocs()
	for b.Loop() {
		render(b, set, r)
	}
}
