package plugins_test

import (
	"bytes"
	"testing"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
	"ledgerline/domain"
)

// A phone nobody has configured, where its tenant has an account to dial codes with, gets the files of a phone with
// that account alone, whatever its family; the password stands in no skeleton.
func TestAnAccountAloneIsEnough(t *testing.T) {
	set, err := plugins.Load(plugins.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	settings := domain.Settings{"http_base_url": "http://prov.example/", "sip_proxy_ip": "pbx.example", "provisioning_interval": 5,
		"sip_lines": map[string]any{"1": map[string]any{"username": "ap0015651a2b3c", "password": "canary-autoprov", "label": "autoprov"}}}.FillDefaults()
	for _, p := range set.Packages() {
		out, err := set.Render(t.Context(), commands.Render{Plugin: p.Ref(), MAC: "0015651a2b3c", ID: "0015651a2b3c", Model: p.Models[0].Name, Settings: settings, BaseURL: "http://prov.example/"})
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		has := false
		for _, f := range out.Files {
			has = has || bytes.Contains(f.Data, []byte("ap0015651a2b3c"))
			if bytes.Contains(f.Skeleton, []byte("canary-autoprov")) {
				t.Errorf("%s: the skeleton of %s holds the password", p.Name, f.Path)
			}
		}
		if !has && p.Name != "cisco-sccp" { // SCCP phones have no SIP account
			t.Errorf("%s %s: no file of %d holds the account", p.Name, p.Models[0].Name, len(out.Files))
		}
	}
}
