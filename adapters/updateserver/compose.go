package updateserver

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ledgerline/adapters/updateserver/script"
	"ledgerline/commands"
	"ledgerline/domain"
)

// Settings of a device that its script is made from, beside firmware_release: free keys, to be set in any layer.
const (
	// keyScript are commands as they stand in a command file: a list of lines, or one of them.
	keyScript = "X_innovaphone_script"
	// keyBoot is the build of the boot code wanted; firmware_release is that of the firmware.
	keyBoot = commands.SettingBootCode
	// keyFirmwareURL is where builds are, in the place of our own files: "<base>/<build>/ip222.bin".
	keyFirmwareURL = commands.SettingFirmwareURL
	// keyTimes are the local hours commands may run in ("22,23,0,1"), keyInitial the minutes after a start they wait.
	keyTimes   = "X_innovaphone_times"
	keyInitial = "X_innovaphone_initial"
	// keyPoll is the interval between two questions, in minutes; keyStaging makes it one, for phones being set up.
	keyPoll    = "X_innovaphone_poll"
	keyStaging = "X_innovaphone_staging"
	// keyBackup, when false, has the phone not upload its configuration.
	keyBackup = "X_innovaphone_backup"
)

// Intervals in minutes: the vendor's own server asks phones to come every 15, and every 5 while they are set up.
const (
	normalPoll = 15
	stagePoll  = 1
	fastPoll   = 5
)

// shown is what a phone shows of itself.
type shown struct {
	mac      domain.MAC
	model    string
	hardware string
	version  script.Version
	prot     string
	boot     string
	scfg     string
	check    string
}

func read(query map[string]string) shown {
	v := shown{model: query["type"], hardware: query["hwid"], prot: script.Build(query["PROT"]), boot: script.Build(query["BOOT"]), scfg: query["SCFG"], check: query["CHECK"]}
	v.mac, _ = domain.ParseMAC(query["sn"])
	v.version, _ = script.ParseVersion(query["ver"])
	return v
}

// composed is a script, and the serial of its commands.
type composed struct {
	body   []byte
	serial string
	// commands tells that it has some that the phone has not run yet.
	commands bool
}

// compose makes the script of an assigned phone: staging, the upload of its configuration, hours, firmware, and the
// commands it has not run yet. Everything that is done every time stands before the hours; what is done once follows from
// the settings alone, and its hash is the serial the phone stores when it is through.
func (h *handler) compose(p commands.UpdatePhone, v shown, now time.Time) (composed, error) {
	get := func(key string) string {
		if value := p.Settings.Get(key); value != nil {
			return fmt.Sprint(value)
		}
		return ""
	}
	var s script.Script
	staging := p.Settings.Get(keyStaging) == true
	if staging {
		s.Add("mod", "cmd", "UP1", "provision", strconv.Itoa(fastPoll))
		s.Config("add", "UP1", "/poll", strconv.Itoa(stagePoll))
	}
	if serial := now.UTC().Format("20060102"); p.Settings.Get(keyBackup) != false && v.scfg != serial {
		s.Add("mod", "cmd", "UP0", "scfg", h.own(p)+"/backup?"+script.Identity, "ser", serial)
	}
	var later script.Script
	h.firmware(&later, p, v, script.Build(get("firmware_release")), script.Build(get(keyBoot)), get(keyFirmwareURL))

	var once script.Script
	once.Config("add", "UP1", "/url", h.own(p)+"/script?"+script.Identity)
	once.Config("add", "UP1", "/no-dhcp")
	if !staging {
		poll := normalPoll
		if n, err := strconv.Atoi(get(keyPoll)); err == nil && n >= 1 && n <= 1440 {
			poll = n
		}
		once.Add("mod", "cmd", "UP1", "provision", "0")
		once.Config("rem", "UP1", "/provisioning") // a phone with V13 that came by an update server has it still
		once.Config("rem", "UP1", "/provision")
		once.Config("add", "UP1", "/poll", strconv.Itoa(poll))
	}
	lines, err := expert(p.Settings.Get(keyScript))
	if err != nil {
		return composed{}, fmt.Errorf("%s: %w", keyScript, err)
	}
	once.Append(lines)
	content, err := once.Bytes()
	if err != nil {
		return composed{}, err
	}
	sum := sha256.Sum256(content)
	c := composed{serial: hex.EncodeToString(sum[:8])}
	if c.commands = v.check != c.serial; c.commands {
		later.Append(once.Lines())
		later.Keep()
		later.Add("mod", "cmd", "UP1", "check", "ser", c.serial)
		later.Add("iresetn")
	}
	if _, err := later.Bytes(); err != nil {
		return composed{}, err
	}
	if later.Len() > 0 {
		h.hours(&s, get(keyTimes), get(keyInitial))
		s.Append(later.Lines())
	}
	if s.Len() == 0 {
		s.Comment("nothing to do")
	}
	c.body, err = s.Bytes()
	return c, err
}

// hours restricts what follows to local hours. A bad list restricts nothing, for the phone would stop there for good.
func (h *handler) hours(s *script.Script, times, initial string) {
	words := []string{"mod", "cmd", "UP1", "times"}
	var hours []string
	for t := range strings.SplitSeq(times, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(t)); err == nil && n >= 0 && n < 24 {
			hours = append(hours, strconv.Itoa(n))
		}
	}
	if len(hours) > 0 {
		words = append(words, "/allow", strings.Join(hours, ","))
	}
	if n, err := strconv.Atoi(initial); err == nil && n > 0 && n <= 1440 {
		words = append(words, "/initial", strconv.Itoa(n))
	}
	if len(words) > 4 {
		s.Add(words...)
	}
}

// firmware has the phone fetch builds it does not have: the boot code first, then the firmware, and one restart after both.
// What is not there is not asked for: a phone would try again and again.
func (h *handler) firmware(s *script.Script, p commands.UpdatePhone, v shown, build, boot, base string) {
	model := v.model
	if model == "" {
		model = p.Model
	}
	before := s.Len()
	fetch := func(verb, build, has, name string) {
		if build == "" || name == "" || build == has {
			return
		}
		url := strings.TrimSuffix(base, "/") + "/" + build + "/" + name
		if base == "" {
			if !h.has(build, name) {
				s.Comment(name + " of build " + build + " is not here")
				before++
				return
			}
			url = h.Base + "/" + Segment + "/" + files + "/" + build + "/" + name
		}
		s.Add("mod", "cmd", "UP0", verb, url, "ser", build)
	}
	fetch("boot", boot, v.boot, script.BootFile(model))
	fetch("prot", build, v.prot, script.FirmwareFile(model))
	if s.Len() > before {
		s.Add("iresetn")
	}
}

// expert reads the commands an operator has set.
func expert(value any) ([]string, error) {
	var text strings.Builder
	switch value := value.(type) {
	case nil:
	case string:
		text.WriteString(value)
	case []any:
		for _, line := range value {
			fmt.Fprintln(&text, line)
		}
	default:
		return nil, fmt.Errorf("must be a list of lines")
	}
	return script.Parse([]byte(text.String()))
}
