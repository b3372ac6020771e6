package commands_test

import (
	"strings"
	"testing"

	"ledgerline/commands"
	"ledgerline/domain"
)

// What a device took is read back: applied when it shows it, an attempt that failed when it shows something else, and
// still sent where it shows nothing or a script is concerned. Passwords are not looked for.
func TestConfigurationIsReadBack(t *testing.T) {
	const ntp = "config change NTP0 /addr one.example /interval 60 /tz CET-1CEST-2%2cM3.5.0%2F2%2CM10.5.0%2F3\r\n"
	const media = "config change MEDIA /turn t.example /turn-pwd ****\r\n"
	const call = "config change PHONE /gk-addr 192.0.2.1\r\n"
	const script = "config change A /b c\r\nconfig change X /url http%3A%2F%2Fa.example%2F /flag\r\n"
	for name, c := range map[string]struct {
		dump string
		want []string
	}{
		"as set":           {ntp + media + call + script, []string{"NTP applied", "MEDIA applied", "PHONE applied", "EXPERT applied"}},
		"another value":    {strings.ReplaceAll(ntp, "one.", "two.") + media + call + script, []string{"NTP failed 1", "MEDIA applied", "PHONE applied", "EXPERT applied"}},
		"an option less":   {ntp + call + script, []string{"NTP applied", "MEDIA failed 1", "PHONE applied", "EXPERT applied"}},
		"an option more":   {ntp + media + strings.ReplaceAll(call, "\r\n", " /exclusive\r\n") + script, []string{"NTP applied", "MEDIA applied", "PHONE failed 1", "EXPERT applied"}},
		"a line overtaken": {script + "config change X /url other\r\n" + ntp + media + call, []string{"NTP applied", "MEDIA applied", "PHONE applied", "EXPERT sent"}},
		"no configuration": {"<html>please log in</html>", []string{"NTP sent", "MEDIA sent", "PHONE sent", "EXPERT sent"}},
		"nothing":          {"", []string{"NTP sent", "MEDIA sent", "PHONE sent", "EXPERT sent"}},
	} {
		t.Run(name, func(t *testing.T) {
			k := start(t)
			if c.dump != "" {
				k.Sysclients.Showing(func(domain.DeviceID) string { return c.dump })
			}
			k.job(domain.JobNTP, domain.JobParameters{"ntp1": "one.example", "tz": "CET-1CEST-2,M3.5.0/2,M10.5.0/3"})
			k.job(domain.JobMedia, domain.JobParameters{"turnServer": "t.example", "turnPassword": "t0psecret"})
			k.job(domain.JobPhone, domain.JobParameters{"gk1": "192.0.2.1", "exclusive": false})
			k.job(domain.JobExpert, domain.JobParameters{"script": "config rem X /gone\nconfig change X /old 1\nconfig change X /url http%3A%2F%2Fa.example%2F\nconfig add X /flag\nvars create A/B h 1"})
			id := k.sysclient("IP222", "135421")
			k.settle()
			k.hasJobs(id, c.want...)
			for _, r := range k.device(id).Jobs.Pinned() {
				if strings.Contains(r.Reason, "example") || strings.Contains(r.Reason, "secret") {
					t.Errorf("the reason holds a value: %q", r.Reason)
				}
			}
			k.registers(commands.Registration{Device: id, Product: "IP222", FwBuild: "135421", BcBuild: "135421"})
			for _, s := range states(k.device(id)) {
				if strings.HasSuffix(s, "sent") {
					t.Errorf("it has come back, and there is %q", s)
				}
			}
		})
	}
}
