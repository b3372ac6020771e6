package plugins_test

import (
	"testing"

	"ledgerline/commands"
	"ledgerline/domain"
)

// BenchmarkRender makes all files of one phone: an office phone with one line, and one with every setting there is.
func BenchmarkRender(b *testing.B) {
	set := loadBuiltin(b)
	p, err := set.Package(commands.PluginRef{Name: "yealink"})
	if err != nil {
		b.Fatal(err)
	}
	for name, s := range map[string]domain.Settings{"one-line": oneLine(), "full": full(harmless)} {
		r := request(p, "T54W", "96.86.0.70", s, false)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				render(b, set, r)
			}
		})
	}
}

// oneLine is what an ordinary desk phone is given.
func oneLine() domain.Settings {
	return domain.Settings{
		"timezone": "Europe/Paris", "locale": "fr_FR", "ntp_enabled": true, "ntp_ip": "ntp.example.net",
		"admin_username": "admin", "admin_password": "harmless", "sip_proxy_ip": "pbx.example.net", "sip_transport": "tls", "sip_srtp_mode": "required",
		"sip_subscribe_mwi": true, "exten_voicemail": "*98", "exten_pickup_call": "*8", "codecs": []any{"g722", "pcma"}, "provisioning_interval": 720,
		"sip_lines": map[string]any{"1": map[string]any{"username": "0a1b2c", "password": "harmless", "display_name": "Alice", "number": "1001"}},
		"funckeys": map[string]any{"2": map[string]any{"type": "blf", "value": "1002", "label": "Bob"},
			"3": map[string]any{"type": "speeddial", "value": "1003", "label": "Carol"}},
	}
}
