package innovaphone

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	varCode   = "UPDATE/PROVISIONING-CODE"
	maxScript = 4 << 20
)

// update is the update client: it polls as long as the phone has power.
func (p *Phone) update(ctx context.Context) {
	for ctx.Err() == nil {
		p.poll(ctx)
		p.form(ctx)
		p.mu.Lock()
		typed := digits(p.vars[varCode])
		p.mu.Unlock()
		wait := p.cfg.Poll
		if typed && p.Option("SYSCLIENT", "/sysadmin") == "" {
			wait = min(wait, 100*time.Millisecond) // it goes on as soon as a code was typed
		}
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-time.After(wait):
		}
	}
}

func digits(s string) bool { return s != "" && s != "prompt" }

// form asks for a code while the form is shown.
func (p *Phone) form(ctx context.Context) {
	p.mu.Lock()
	shown := p.vars[varCode] == "prompt"
	p.mu.Unlock()
	if !shown || ctx.Err() != nil {
		return
	}
	p.step(StepForm, "")
	if p.cfg.EnterCode == nil || ctx.Err() != nil {
		return
	}
	code := p.cfg.EnterCode()
	if code == "" {
		return
	}
	if p.cfg.Model == "IP101" || p.cfg.Model == "IP102" {
		code += "#"
	}
	p.mu.Lock()
	p.vars[varCode] = code
	p.mu.Unlock()
	p.step(StepCode, "")
	if ctx.Err() == nil {
		p.poll(ctx)
	}
}

// poll fetches the script and runs it.
func (p *Phone) poll(ctx context.Context) {
	target := p.Option("UP1", "/url")
	if target == "" {
		return
	}
	p.mu.Lock()
	target = p.expand(target)
	query := url.Values{"ver": {p.cfg.Model + " " + p.version()}}
	for path, value := range p.vars {
		if name, ok := strings.CutPrefix(path, "UPDATE/"); ok {
			query.Set(name, value)
		}
	}
	p.mu.Unlock()
	if strings.HasSuffix(target, "/") {
		target += "update-" + strings.ToLower(p.cfg.Model) + ".htm"
	}
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	script, err := p.transfer(ctx, http.MethodGet, target+separator+query.Encode(), nil)
	if err != nil {
		if ctx.Err() == nil {
			p.step(StepFailed, err.Error())
		}
		return
	}
	p.run(ctx, string(script))
}

// expand replaces the placeholders of URLs. p.mu is held.
func (p *Phone) expand(target string) string {
	mac := strings.ReplaceAll(p.cfg.MAC.Colons(), ":", "-")
	return strings.NewReplacer("#m", mac, "#h", p.cfg.Model+mac[8:], "#t", p.cfg.Model, "#i", "127.0.0.1", "#F", p.firmware, "#d", time.Now().UTC().Format("20060102-150405")).Replace(target)
}

// transfer is one HTTP exchange of the update module; a body is sent chunked.
func (p *Phone) transfer(ctx context.Context, method, target string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("%s: not a URL", method)
	}
	if body != nil {
		req.ContentLength = -1
	}
	resp, err := p.cfg.HTTP.Do(req)
	if err != nil {
		if u, ok := err.(*url.Error); ok {
			err = u.Err // the URL holds the code
		}
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxScript))
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: status %d", method, resp.StatusCode)
	}
	return b, err
}

// run runs a script. A check whose serial is known ends it; one that is new is stored after the rest.
func (p *Phone) run(ctx context.Context, script string) {
	before := p.Option("SYSCLIENT", "/sysadmin")
	var serial, final string
	n := 0
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		n++
		words := strings.Fields(line)
		if len(words) >= 6 && strings.EqualFold(strings.Join(words[:4], " "), "mod cmd UP1 check") {
			if p.Var("UPDATE/CHECK") == words[5] {
				break
			}
			final, serial = words[4], words[5]
			continue
		}
		p.command(ctx, line)
	}
	if serial != "" {
		p.set("UPDATE/CHECK", serial)
		p.finally(final)
	}
	p.step(StepPolled, strconv.Itoa(n))
	if after := p.Option("SYSCLIENT", "/sysadmin"); after != before {
		p.step(StepURL, "")
	}
}

func (p *Phone) set(path, value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.vars[path] = value
}

// command runs one line and answers what it prints.
func (p *Phone) command(ctx context.Context, line string) (out string, ok bool) {
	words := strings.Fields(line)
	p.mu.Lock()
	p.commands = append(p.commands, line)
	p.mu.Unlock()
	switch {
	case len(words) >= 2 && words[0] == "config":
		return p.config(words[1:])
	case len(words) >= 5 && words[0] == "vars" && words[1] == "create":
		p.set(words[2], words[4])
		if words[2] == varCode {
			p.nudge()
		}
		return "", true
	case len(words) == 3 && words[0] == "vars" && words[1] == "read":
		return words[2] + " p " + p.Var(words[2]), true
	case len(words) >= 4 && words[0] == "mod" && words[1] == "cmd":
		return p.module(ctx, words[2], words[3], words[4:])
	case len(words) == 1 && slices.Contains(finals, words[0]):
		p.finally(words[0])
		return "", true
	}
	return "?unknown command", false
}

var finals = []string{"ireset", "reset", "iresetn", "resetn", "ser", "nop"}

// finally restarts the phone, unless the word says that nothing is to be done.
func (p *Phone) finally(final string) {
	if final == "ser" || final == "nop" {
		return
	}
	p.mu.Lock()
	if strings.HasSuffix(final, "n") && p.loaded == (images{}) {
		p.mu.Unlock()
		return
	}
	p.starts()
	close(p.reset)
	p.reset = make(chan struct{})
	p.mu.Unlock()
	p.step(StepReboot, "")
}

// config is the config command: change replaces a module's options, add and rem touch one of them.
func (p *Phone) config(words []string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case words[0] == "write" && len(words) == 1:
		p.flash = p.running.clone()
	case words[0] == "activate" && len(words) == 1:
		p.activate()
	case words[0] == "change" && len(words) >= 2:
		p.running[words[1]] = slices.Clone(words[2:])
		p.touched = p.touched || words[1] == "SYSCLIENT"
	case words[0] == "add" && len(words) >= 3:
		p.running[words[1]] = append(without(p.running[words[1]], words[2]), words[2:]...)
	case words[0] == "rem" && len(words) == 3:
		p.running[words[1]] = without(p.running[words[1]], words[2])
	case words[0] == "show" && len(words) == 2:
		return "config change " + words[1] + " " + strings.Join(p.running[words[1]], " "), true
	default:
		return "?bad config command", false
	}
	return "", true
}

// without is the options less one and its argument.
func without(words []string, option string) []string {
	i := slices.Index(words, option)
	if i < 0 {
		return slices.Clone(words)
	}
	end := i + 1
	for end < len(words) && !strings.HasPrefix(words[end], "/") {
		end++
	}
	return slices.Delete(slices.Clone(words), i, end)
}

// module is "mod cmd" of the modules UP0 and UP1.
func (p *Phone) module(ctx context.Context, name, command string, args []string) (string, bool) {
	switch {
	case name == "UP1" && (command == "times" || command == "provision"):
		return "", true
	case name == "UP1" && command == "setvar" && len(args) == 2:
		p.set("UPDATE/"+args[0], args[1])
		return "", true
	case name == "UP0" && (command == "prot" || command == "boot") && len(args) == 3:
		return p.load(ctx, command, args[0], args[1], args[2])
	case name == "UP0" && command == "scfg" && len(args) >= 1:
		return p.upload(ctx, args)
	case name == "UP0" && command == "cfg" && len(args) == 3:
		script, err := p.transfer(ctx, http.MethodGet, p.argument(args[0]), nil)
		if err != nil {
			return err.Error(), false
		}
		for line := range strings.Lines(string(script)) {
			p.command(ctx, strings.TrimSpace(line))
		}
		p.finally(args[1])
		return "", true
	}
	return "?unknown module command", false
}

func (p *Phone) argument(s string) string {
	clear, err := url.PathUnescape(s)
	if err != nil {
		clear = s
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.expand(clear)
}

// load is a firmware or boot code: compared with the variable, not with what runs, unless the variable is empty.
func (p *Phone) load(ctx context.Context, what, target, final, build string) (string, bool) {
	name, running, loaded := "UPDATE/PROT", &p.firmware, &p.loaded.firmware
	file := "ip"
	if what == "boot" {
		name, running, loaded, file = "UPDATE/BOOT", &p.bootcode, &p.loaded.bootcode, "boot"
	}
	p.mu.Lock()
	have := p.vars[name]
	if have == "" {
		have = *running
	}
	p.mu.Unlock()
	if have == build {
		return "", true
	}
	target = p.argument(target)
	if strings.HasSuffix(target, "/") {
		model, _, _ := strings.Cut(strings.ToLower(p.cfg.Model), "-")
		target += file + strings.TrimPrefix(model, "ip") + ".bin"
	}
	if _, err := p.transfer(ctx, http.MethodGet, target, nil); err != nil {
		p.step(StepFailed, what+": "+err.Error())
		return err.Error(), false
	}
	p.mu.Lock()
	*loaded, p.vars[name] = build, build
	p.mu.Unlock()
	p.finally(final)
	return "", true
}

// upload puts the configuration, or what a command prints, to a URL.
func (p *Phone) upload(ctx context.Context, args []string) (string, bool) {
	p.mu.Lock()
	body := p.dump()
	p.mu.Unlock()
	if n := len(args); n > 3 && !strings.HasPrefix(args[n-1], "/") {
		body, _ = p.command(ctx, p.argument(args[n-1]))
	}
	if len(args) > 2 && !slices.Contains(args, "/always") {
		if p.Var("UPDATE/SCFG") == args[2] {
			return "", true
		}
		defer p.set("UPDATE/SCFG", args[2])
	}
	if _, err := p.transfer(ctx, http.MethodPut, p.argument(args[0]), bytes.NewReader([]byte(body))); err != nil {
		p.step(StepFailed, "scfg: "+err.Error())
		return err.Error(), false
	}
	return "", true
}
