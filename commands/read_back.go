package commands

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"ledgerline/domain"
)

// A native device took the commands of a configuration: what it made of them is read back, in the dump of its whole
// configuration (reference "innovaphone provisioning" §2.3: /cfg.txt is among what the vendor's own Devices asks for; a
// saved configuration has one "config change MODULE /option value …" for each module, §3.4).

// configDump is where a device shows its configuration.
const configDump = "/cfg.txt"

// deviceOption names one option of one module.
type deviceOption struct{ module, name string }

// deviceOptions are options with their values, decoded; an option without a value has "".
type deviceOptions map[deviceOption]string

// read takes in the words behind "config change|add MODULE": "/option value /option …".
func (o deviceOptions) read(module string, words []string) {
	var at deviceOption
	for _, w := range words {
		if name, isName := strings.CutPrefix(w, "/"); isName {
			at = deviceOption{module, name}
			o[at] = ""
			continue
		}
		clear, err := url.PathUnescape(w)
		if err != nil {
			clear = w
		}
		if before := o[at]; before != "" {
			clear = before + " " + clear
		}
		o[at] = clear
	}
}

// dumped are the options that a dump shows, of each module those of its last line.
func dumped(dump string) deviceOptions {
	o := deviceOptions{}
	for line := range strings.Lines(dump) {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "config" || words[1] != "change" {
			continue
		}
		o.forget(words[2])
		o.read(words[2], words[3:])
	}
	return o
}

func (o deviceOptions) forget(module string) {
	for at := range o {
		if at.module == module {
			delete(o, at)
		}
	}
}

// wanted is what a configuration's lines leave behind: options with their values, and options that are gone.
func wanted(lines []string) (set deviceOptions, gone map[deviceOption]bool) {
	set, gone = deviceOptions{}, map[deviceOption]bool{}
	for _, line := range lines {
		words := strings.Fields(line)
		if len(words) < 4 || words[0] != "config" {
			continue
		}
		switch module := words[2]; words[1] {
		case "change":
			set.forget(module)
			set.read(module, words[3:])
		case "add":
			set.read(module, words[3:])
		case "rem":
			at := deviceOption{module, strings.TrimPrefix(words[3], "/")}
			delete(set, at)
			gone[at] = true
		}
	}
	for at := range set {
		delete(gone, at)
	}
	return set, gone
}

// readBack records that a configuration that was sent is applied, once the device shows it, or that the attempt came to
// nothing, when the device shows something else. Where it shows nothing, the job stays sent until the device comes back.
func (x sending) readBack(ctx context.Context, v domain.JobVersion, run domain.JobRun, lines []string) error {
	set, gone := wanted(lines)
	for _, param := range []string{domain.ParamTurnPassword, domain.ParamLogPassword} {
		if module, name, ok := strings.Cut(x.s.jobOptions()[v.Type][param], " /"); ok {
			delete(set, deviceOption{module, name}) // nobody says that devices show their passwords
		}
	}
	if len(set)+len(gone) == 0 {
		return nil
	}
	status, body, err := x.s.Sysclients.Fetch(ctx, x.d.ID, http.MethodGet, configDump, nil)
	if err != nil || status != http.StatusOK {
		return nil // it is gone, or does not tell
	}
	shown := dumped(string(body))
	if len(shown) == 0 {
		return nil // not a configuration
	}
	var wrong []string
	for at, value := range set {
		if is, ok := shown[at]; !ok || is != value {
			wrong = append(wrong, at.module+" /"+at.name)
		}
	}
	for at := range gone {
		if _, ok := shown[at]; ok {
			wrong = append(wrong, at.module+" /"+at.name)
		}
	}
	switch {
	case len(wrong) == 0:
		return x.note(ctx, v.JobRef, domain.DeviceJobApplied{JobRef: v.JobRef, Proof: domain.ProofReadBack})
	case v.Type == domain.JobExpert:
		return nil // a script may set what a device shows otherwise: a password, say
	}
	slices.Sort(wrong)
	return x.fail(ctx, run, "it does not show "+strings.Join(wrong, ", ")+" as set")
}
