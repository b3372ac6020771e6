package commandstest

import (
	"context"
	"fmt"
	"strings"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Renderer is commands.Renderer and commands.Recognizer for phones of the vendor "Testphone": plugin "test",
// version "1". A phone fetches "<mac>.cfg" (alias in upper case; "<id>.cfg" without a MAC), which begins with
// "base = <base URL>" and lists every setting as "key = value", and "common.cfg", which holds nothing but the
// model. The guest form of the first is "guest = true" and the base. A User-Agent reads "Testphone <model>
// <firmware> [<mac>]", each but the first optional.
type Renderer struct {
	Faults *Faults // may be nil
	// MaxLines, when set, is the most accounts the model has; more give a warning.
	MaxLines int
}

// NewRenderer is a renderer for phones with any number of accounts.
func NewRenderer() *Renderer { return new(Renderer) }

// Plugin is the one plugin there is.
var Plugin = commands.PluginRef{Name: "test", Version: "1"}

// Render implements commands.Renderer.
func (r *Renderer) Render(ctx context.Context, in commands.Render) (out commands.Rendered, err error) {
	if err := ctx.Err(); err != nil {
		return out, err
	}
	if in.Plugin.Name != Plugin.Name || in.Plugin.Version != "" && in.Plugin.Version != Plugin.Version {
		return out, commands.ErrNoPlugin
	}
	err = r.Faults.around(Call{Method: "Render", Stream: in.ID.Stream()}, func() error {
		out = commands.Rendered{Plugin: Plugin, Renderer: "commandstest", TZData: "none", Files: r.files(in)}
		for _, p := range in.Settings.Paths() {
			if n, ok := lineOf(p); ok && r.MaxLines > 0 && n > r.MaxLines && strings.HasSuffix(p, ".username") {
				out.Warnings = append(out.Warnings, commands.Warning{Setting: fmt.Sprintf("sip_lines.%d", n), Model: in.Model, Text: "has no such line"})
			}
		}
		return nil
	})
	return out, err
}

// SyncMethod implements commands.Renderer.
func (r *Renderer) SyncMethod(p commands.PluginRef, model string) (commands.SyncMethod, error) {
	if p.Name != Plugin.Name || p.Version != "" && p.Version != Plugin.Version {
		return commands.SyncMethod{}, commands.ErrNoPlugin
	}
	return commands.SyncMethod{Method: "sip-notify", Event: "check-sync;reboot=false", Reboot: "check-sync;reboot=true"}, nil
}

func lineOf(path string) (n int, ok bool) {
	_, err := fmt.Sscanf(path, "sip_lines.%d.", &n)
	return n, err == nil
}

func (r *Renderer) files(in commands.Render) []commands.File {
	common := []byte("model = " + in.Model + "\n")
	files := []commands.File{{Path: "common.cfg", ContentType: "text/plain", Data: common, Skeleton: common}}
	name, alias := string(in.MAC), in.MAC.Upper()
	if in.MAC == "" {
		name, alias = string(in.ID), strings.ToUpper(string(in.ID))
	}
	if name == "" {
		return files
	}
	own := commands.File{Path: name + ".cfg", ContentType: "text/plain"}
	if alias != name {
		own.Aliases = []string{alias + ".cfg"}
	}
	head := "base = " + in.BaseURL + "\n"
	if in.Guest {
		own.Data = []byte(head + "guest = true\n")
		own.Skeleton = own.Data
	} else {
		own.Data = []byte(head + text(in.Settings))
		own.Skeleton = []byte(head + text(in.Settings.Redacted()))
	}
	return append([]commands.File{own}, files...)
}

func text(s domain.Settings) string {
	var b strings.Builder
	for _, p := range s.Paths() {
		fmt.Fprintf(&b, "%s = %v\n", p, s.Get(p))
	}
	return b.String()
}

// Associate implements commands.Renderer.
func (r *Renderer) Associate(a commands.Recognition) (commands.PluginRef, bool) {
	return Plugin, a.Vendor == "Testphone" || a.MAC.OUI() == "001565"
}

// Recognize implements commands.Recognizer.
func (r *Renderer) Recognize(a commands.Asked) (commands.Recognition, bool) {
	name := a.Path[strings.LastIndexByte(a.Path, '/')+1:]
	seen := commands.Recognition{Plugin: Plugin.Name, Vendor: "Testphone", File: strings.ToLower(name)}
	words := strings.Fields(a.UserAgent)
	known := len(words) > 0 && words[0] == "Testphone"
	for i, to := range []*string{&seen.Model, &seen.Fw, (*string)(&seen.MAC)} {
		if known && len(words) > i+1 {
			*to = words[i+1]
		}
	}
	if mac, err := domain.ParseMAC(strings.TrimSuffix(seen.File, ".cfg")); err == nil {
		seen.MAC, known = mac, true
	}
	if !known {
		return commands.Recognition{}, false
	}
	return seen, true
}

// RecognizeDHCP implements commands.Recognizer for the vendor class "Testphone".
func (r *Renderer) RecognizeDHCP(class string, mac domain.MAC) (commands.Recognition, bool) {
	return commands.Recognition{Plugin: "test", Vendor: "Testphone", MAC: mac}, class == "Testphone"
}
