package commands

import (
	"context"
	"strconv"
	"strings"

	"ledgerline/domain"
)

// Jobs reach phones of other vendors as settings: a level of their own between the category and the device's parents. So
// does the software of native sysclients, for those that ask an update server as well (reference "innovaphone
// provisioning" §3.5): both ways lead to the same build, and what a phone has already it does not load again (§3.4).

// Settings of the update server that a software job speaks for.
const (
	SettingBootCode    = "X_innovaphone_boot"         // build of the boot code wanted
	SettingFirmwareURL = "X_innovaphone_firmware_url" // where builds are: "<base>/<build>/ip222.bin"
)

// jobs adds the levels of the device's pinned jobs, and the tenant's stream of jobs as an input, at the revision it was
// looked at: a change of the jobs makes the files stale until the device registers.
func (r *resolver) jobs(ctx context.Context, d domain.Device) error {
	stream := domain.JobsStream(d.TenantID)
	at := domain.NoStream
	if d.Jobs.Known {
		at = d.Jobs.Selected.JobsRevision
	}
	r.stack.Inputs = append(r.stack.Inputs, domain.Input{Stream: stream, Revision: at})
	pinned := d.Jobs.Pinned()
	via := d.Jobs.Selected.Via
	if len(pinned) == 0 || via == domain.ViaForeign {
		return nil
	}
	jobs, _, err := r.s.jobLists.now(ctx, r.s.Log, stream)
	if err != nil {
		return err
	}
	for _, p := range pinned {
		v, ok := jobs.Version(p.JobRef)
		settings := jobSettings(v)
		switch {
		case !ok:
			continue
		case via == domain.ViaNative:
			settings = updateSettings(v, p, d.Jobs.Selected.Product)
		case v.Type == domain.JobSoftware && !v.Software.Offers(d.Model):
			continue
		}
		if err := r.level(ctx, "job "+string(v.JobID), stream, settings); err != nil {
			return err
		}
	}
	return nil
}

// updateSettings is what a software job says to the update server of a native sysclient; nothing when the job is no
// software for that product, or has failed for good.
func updateSettings(v domain.JobVersion, run domain.JobRun, product string) domain.Settings {
	if v.Type != domain.JobSoftware || !v.Software.Offers(product) || run.State == domain.JobFailed && !run.Open() {
		return nil
	}
	out := domain.Settings{"firmware_release": v.Software.Build, SettingBootCode: v.Software.Build}
	if v.Software.BaseURL != "" {
		out[SettingFirmwareURL] = v.Software.BaseURL
	}
	return out
}

// jobSettings is what a job says in the words of settings; empty for what phones of other vendors have nothing like.
// Gatekeepers are not taken for registrars: where a line registers, the line says.
func jobSettings(v domain.JobVersion) domain.Settings {
	p, out := v.Config.Parameters, domain.Settings{}
	put := func(key string, value any, has bool) {
		if has {
			out[key] = value
		}
	}
	text := func(key, param string) { put(key, p.Text(param), p.Text(param) != "") }
	switch v.Type {
	case domain.JobSoftware:
		out["firmware_release"] = v.Software.Build
	case domain.JobNTP:
		put("ntp_enabled", true, p.Text("ntp1") != "")
		text("ntp_ip", "ntp1")
		text("ntp_backup_ip", "ntp2")
		put("timezone", v.Config.Zone, v.Config.Zone != "")
	case domain.JobMedia:
		if host, port, one := stunServer(p.Text("stunServer")); one {
			out["stun_ip"] = host
			put("stun_port", port, port != 0)
		}
		for key, param := range map[string]string{"qos_rtp_dscp": "tosRtp", "qos_sip_dscp": "tosSig"} {
			tos, err := strconv.ParseUint(strings.TrimPrefix(p.Text(param), "0x"), 16, 8)
			put(key, int(tos>>2), err == nil)
		}
	case domain.JobPhone:
		codecs := codecsOf(p.Text("coder"), p.Flag("exclusive"))
		put("codecs", codecs, codecs != nil)
		key, set := p.Int("srtpKey")
		put("sip_srtp_mode", "disabled", set && key == 4)
		put("sip_srtp_mode", "preferred", set && key <= 2) // with SDES among the ways; DTLS alone is not theirs
		tone, set := p.Int("dialTone")
		put("tone_country", toneCountries[tone], set && toneCountries[tone] != "")
	}
	return out
}

// stunServer is the one server named, if it is one.
func stunServer(text string) (host string, port int, one bool) {
	host, number, hasPort := strings.Cut(text, ":")
	if hasPort {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			return "", 0, false
		}
		port = int(n)
	}
	_, err := domain.Settings{"stun_ip": host}.Clean()
	return host, port, host != "" && err == nil
}

// codecsOf is the codec named first, and behind it, unless it is to be the only one, those phones commonly have.
func codecsOf(coder string, exclusive bool) []any {
	name := map[string]string{"G711A": "pcma", "G711u": "pcmu", "G722": "g722", "OPUS-NB": "opus", "OPUS-WB": "opus"}[coder]
	if name == "" {
		return nil
	}
	codecs := []any{name}
	for _, other := range []string{"opus", "g722", "pcma", "pcmu", "g729"} {
		if !exclusive && other != name {
			codecs = append(codecs, other)
		}
	}
	return codecs
}

// toneCountries are the countries of the vendor's dial tones; 0 and 1, Europe's, are of none.
var toneCountries = map[int]string{2: "US", 3: "GB", 4: "IT", 5: "CZ", 6: "CZ", 7: "SE", 8: "FR", 9: "CH", 10: "IT", 11: "BE", 12: "NL", 13: "NO", 14: "DK",
	15: "DE", 16: "ES", 17: "FI", 18: "AT", 19: "IE", 20: "AU", 21: "NZ", 22: "MY", 23: "TR", 24: "RU", 25: "ZA", 26: "BR"}
