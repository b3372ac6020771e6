package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ledgerline/commands"
	"ledgerline/domain"
)

// pluginCmd works with vendor plugins: list, match, render and what authors need without a server, the rest over one.
func (a *app) pluginCmd() *cobra.Command {
	var dir string
	cmd := &cobra.Command{Use: "plugin", Short: "Vendor plugins"}
	cmd.PersistentFlags().StringVar(&dir, "plugins", a.getenv("LEDGERLINE_PLUGINS"), "directory of further plugin packages")
	list := &cobra.Command{Use: "list", Short: "The packages that come with this program, and those of --plugins", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			set, err := loadPlugins(dir)
			if err != nil {
				return err
			}
			var items []map[string]any
			for _, p := range set.Packages() {
				items = append(items, map[string]any{"name": p.Name, "version": p.Version, "vendor": p.Vendor, "models": len(p.Models), "description": p.Description})
			}
			return a.printList(items, []string{"name", "version", "vendor", "models", "description"})
		}}
	var asked commands.Asked
	var class string
	match := &cobra.Command{Use: "match", Short: "Who asks like this?", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			set, err := loadPlugins(dir)
			if err != nil {
				return err
			}
			path, query, _ := strings.Cut(strings.TrimLeft(asked.Path, "/"), "?") // as it stands in a log
			asked.Path, asked.Query = path, cmp.Or(asked.Query, query)
			r, ok := set.Recognize(asked)
			if class != "" {
				r, ok = set.RecognizeDHCP(class, "")
			}
			if !ok {
				return exitError{exitNotFound, fmt.Errorf("no plugin recognises this request")}
			}
			return a.printValue(map[string]any{"plugin": r.Plugin, "vendor": r.Vendor, "model": r.Model, "firmware": r.Fw, "mac": r.MAC, "file": r.File})
		}}
	match.Flags().StringVar(&asked.Path, "path", "", "path asked for; a query may follow")
	match.Flags().StringVar(&asked.Query, "query", "", "query string")
	match.Flags().StringVar(&asked.UserAgent, "user-agent", "", "User-Agent header")
	match.Flags().StringVar(&class, "dhcp-class", "", "vendor class of DHCP (option 60), instead of a request")
	cmd.AddCommand(list, match, a.pluginRenderCmd(&dir))
	cmd.AddCommand(a.pluginMakeCmds()...)
	cmd.AddCommand(a.pluginLifeCmds()...)
	return cmd
}

// pluginRenderCmd renders a phone's files from a settings file, without a server.
func (a *app) pluginRenderCmd(dir *string) *cobra.Command {
	var name, version, model, firmware, mac, settingsFile, out, baseURL string
	var guest bool
	cmd := &cobra.Command{Use: "render", Short: "Render a phone's files from a settings object, offline", Args: cobra.NoArgs}
	f := cmd.Flags()
	f.StringVar(&name, "plugin", "", "plugin")
	f.StringVar(&version, "plugin-version", "", "version; default the newest")
	f.StringVar(&model, "model", "", "model, as the vendor prints it")
	f.StringVar(&firmware, "firmware", "", "firmware version")
	f.StringVar(&mac, "mac", "", "MAC address")
	f.StringVar(&settingsFile, "settings", "", "JSON file: an object with the raw_config keys")
	f.StringVar(&out, "out", "", "directory for the files")
	f.StringVar(&baseURL, "base-url", "http://127.0.0.1:8667/", "where the phone comes back to")
	f.BoolVar(&guest, "guest", false, "the files of a phone nobody has configured")
	for _, required := range []string{"plugin", "model", "mac", "out"} {
		_ = cmd.MarkFlagRequired(required)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		set, err := loadPlugins(*dir)
		if err != nil {
			return err
		}
		settings := domain.Settings{}
		if settingsFile != "" {
			b, err := a.readFile(settingsFile)
			if err != nil {
				return err
			}
			if settings, err = domain.ParseSettings(b); err != nil {
				return usageError("%s: %w", settingsFile, err)
			}
		}
		r := commands.Render{Plugin: commands.PluginRef{Name: name, Version: version}, Model: model, Fw: firmware, Settings: settings.FillDefaults(), BaseURL: baseURL, Guest: guest}
		if r.MAC, err = domain.ParseMAC(mac); err != nil {
			return usageError("--mac %w", err)
		}
		r.ID = domain.DeviceID(r.MAC)
		var names []string
		for _, p := range set.Packages() {
			names = append(names, p.Name)
		}
		if !slices.Contains(names, name) {
			return exitError{exitNotFound, fmt.Errorf("no plugin %q; there are %s", name, strings.Join(names, ", "))}
		}
		made, err := set.Render(cmd.Context(), r)
		if err != nil {
			return err
		}
		type file struct {
			Path    string   `json:"path"`
			Aliases []string `json:"aliases,omitempty"`
			Size    int      `json:"size"`
		}
		files := []file{}
		for _, f := range made.Files {
			if err := writeBelow(out, filepath.FromSlash(f.Path), f.Data); err != nil {
				return fmt.Errorf("write %s: %w", f.Path, err)
			}
			files = append(files, file{f.Path, f.Aliases, len(f.Data)})
		}
		if a.output != "table" {
			b, err := json.Marshal(map[string]any{"plugin": made.Plugin, "files": files, "warnings": made.Warnings})
			if err != nil {
				return err
			}
			return a.printJSON(b)
		}
		for _, f := range files {
			fmt.Fprintln(a.out, filepath.Join(out, f.Path))
		}
		for _, w := range made.Warnings {
			fmt.Fprintf(a.errOut, "warning: %s: %s\n", w.Setting, w.Text)
		}
		return nil
	}
	return cmd
}
