package plugins_test

import (
	"testing"

	"ledgerline/adapters/plugins"
	"ledgerline/domain"
)

// What the server fills in by itself is nobody's wish: the simplest line warns of no setting left out, whatever the kind of model.
func TestDefaultsWarnOfNothing(t *testing.T) {
	simplest := domain.Settings{"sip_proxy_ip": "192.0.2.10", "sip_lines": map[string]any{"1": map[string]any{"username": "1001", "password": "s3cret"}}}
	eachPackage(t, func(t *testing.T, set *plugins.Set, p *plugins.Package) {
		for _, name := range someModels(p) {
			m, _ := p.Model(name)
			given := map[string]bool{}
			for _, w := range render(t, set, request(p, m.Name, "", simplest, false)).Warnings {
				given[w.Setting+w.Text] = true
			}
			for _, w := range render(t, set, request(p, m.Name, "", simplest.FillDefaults(), false)).Warnings {
				if !given[w.Setting+w.Text] && m.Accounts > 0 {
					t.Errorf("%s: %s: %s", m.Name, w.Setting, w.Text)
				}
			}
		}
	})
}
