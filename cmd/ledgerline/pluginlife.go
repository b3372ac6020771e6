package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
)

// pluginMakeCmds are for authors of packages: they need no server.
func (a *app) pluginMakeCmds() []*cobra.Command {
	var out, keyFile string
	keygen := &cobra.Command{Use: "keygen NAME", Short: "Make a key that signs packages; NAME is who signs (acme.example)", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			signing, verifier, err := plugins.KeyGen(rand.Reader, args[0])
			if err != nil {
				return usageError("%w", err)
			}
			f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("write the signing key: %w", err)
			}
			_, err = fmt.Fprintln(f, signing)
			if err := errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("write the signing key: %w", err)
			}
			if err := renameio.WriteFile(out+".pub", []byte(verifier+"\n"), 0o644); err != nil {
				return fmt.Errorf("write the verifier: %w", err)
			}
			fmt.Fprintln(a.out, verifier)
			fmt.Fprintf(a.errOut, "the signing key is in %s: keep it secret; the line above, also in %s.pub, is for servers' file of plugin-keys\n", out, out)
			return nil
		}}
	keygen.Flags().StringVar(&out, "out", "plugin.key", "file for the signing key; must not exist")
	pack := &cobra.Command{Use: "pack DIR", Short: "Make an archive of a package", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := plugins.Pack(os.DirFS(args[0]), ".")
			if err != nil {
				return err
			}
			name, version, err := plugins.Identify(b)
			if err != nil {
				return err
			}
			file, _ := cmd.Flags().GetString("out")
			if file == "" {
				file = name + "-" + version + ".tar.gz"
			}
			if err := renameio.WriteFile(file, b, 0o644); err != nil {
				return fmt.Errorf("write the archive: %w", err)
			}
			fmt.Fprintln(a.out, file)
			return nil
		}}
	pack.Flags().String("out", "", "file; default NAME-VERSION.tar.gz")
	sign := &cobra.Command{Use: "sign ARCHIVE", Short: "Sign an archive, in place", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := os.ReadFile(keyFile)
			if err != nil {
				return fmt.Errorf("read the signing key: %w", err)
			}
			b, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read the archive: %w", err)
			}
			if b, err = plugins.Sign(b, string(key)); err != nil {
				return err
			}
			if err := renameio.WriteFile(args[0], b, 0o644); err != nil {
				return fmt.Errorf("write the archive: %w", err)
			}
			return nil
		}}
	sign.Flags().StringVar(&keyFile, "key-file", "plugin.key", "file with the signing key")
	test := &cobra.Command{Use: "test DIR", Short: "Run a package's own cases and the checks every package must pass", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			update, _ := cmd.Flags().GetBool("update")
			report, err := plugins.Test(cmd.Context(), args[0], update)
			if err != nil {
				return err
			}
			for _, line := range report.Passed {
				fmt.Fprintln(a.out, "ok   ", line)
			}
			for _, line := range report.Failed {
				fmt.Fprintln(a.out, "FAIL ", line)
			}
			if n := len(report.Failed); n > 0 {
				return fmt.Errorf("%d of %d checks failed", n, n+len(report.Passed))
			}
			return nil
		}}
	test.Flags().Bool("update", false, "write what comes out into the cases, instead of comparing")
	return []*cobra.Command{keygen, pack, sign, test}
}

// pluginLifeCmds work on a server's plugins.
func (a *app) pluginLifeCmds() []*cobra.Command {
	index := &cobra.Command{Use: "index", Short: "The index of packages"}
	index.AddCommand(
		&cobra.Command{Use: "update", Short: "Have the server fetch its index anew", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return a.work(cmd.Context(), "/plugins/index", nil)
		}},
		&cobra.Command{Use: "make DIR", Short: "Write index.json for the archives in a directory", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			b, err := plugins.MakeIndex(os.DirFS(args[0]))
			if err != nil {
				return err
			}
			if err := renameio.WriteFile(filepath.Join(args[0], "index.json"), append(b, '\n'), 0o644); err != nil {
				return fmt.Errorf("write the index: %w", err)
			}
			return nil
		}})
	installable := &cobra.Command{Use: "installable", Short: "What the server's index offers", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return a.printItems(cmd.Context(), "/plugins/installable", "name", "version", "vendor", "size", "signed_by", "description")
	}}
	cmds := []*cobra.Command{index, installable, a.pluginInstalledCmd(), a.pluginInstallCmd(), a.pluginUpgradeCmd(), a.pluginUpgradeDevicesCmd(), a.pluginFilesCmd(),
		a.action("uninstall NAME VERSION", "Take a version away from new devices; refused while devices use it", http.MethodDelete, 2, nil, func(args []string) string {
			return "/plugins/" + url.PathEscape(args[0]) + "/versions/" + url.PathEscape(args[1])
		}),
		a.action("pin NAME", "Hold new devices at a version; without one, let go", http.MethodPut, 1, []field{{"version", "text", "version"}}, func(args []string) string {
			return "/plugins/" + url.PathEscape(args[0]) + "/pin"
		}),
		a.action("cancel-upgrade NAME ID", "Move no more devices; those moved stay moved", http.MethodDelete, 2, nil, func(args []string) string {
			return "/plugins/" + url.PathEscape(args[0]) + "/device-upgrades/" + url.PathEscape(args[1])
		})}
	for _, c := range cmds {
		switch c.Name() {
		case "pin": // no version is a version of its own
			c.PreRunE = func(cmd *cobra.Command, _ []string) error {
				return cmd.Flags().Set("version", cmd.Flag("version").Value.String())
			}
		case "uninstall":
			force := c.Flags().Bool("force", false, "even while devices use it; they go on with it")
			c.RunE = func(cmd *cobra.Command, args []string) error {
				q := url.Values{}
				if *force {
					q.Set("force", "true")
				}
				ans, err := a.call(cmd.Context(), http.MethodDelete, "/plugins/"+url.PathEscape(args[0])+"/versions/"+url.PathEscape(args[1]), q, nil)
				if err == nil {
					err = a.said(ans)
				}
				return err
			}
		}
		if c.Name() != "index" && c.Name() != "installable" && c.Name() != "installed" {
			c.PersistentFlags().StringVar(&a.reason, "reason", "", "why, for the record")
		}
	}
	return cmds
}

func (a *app) pluginInstalledCmd() *cobra.Command {
	return &cobra.Command{Use: "installed", Short: "The plugins the server has, with their versions", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		found, err := a.list(cmd.Context(), "/plugins", nil, 0)
		if err != nil {
			return err
		}
		var rows []map[string]any
		for _, p := range found {
			versions, _ := p["versions"].([]any)
			for _, v := range versions {
				row, _ := v.(map[string]any)
				if row["state"] != "installed" {
					continue
				}
				row["name"], row["current"] = p["name"], row["version"] == p["current"]
				row["pinned"] = p["pinned"] == true && row["current"] == true
				rows = append(rows, row)
			}
		}
		return a.printList(rows, []string{"name", "version", "current", "pinned", "vendor", "source", "signed_by", "unsigned"})
	}}
}

func (a *app) pluginInstallCmd() *cobra.Command {
	var version string
	var unsigned, upgrade bool
	cmd := &cobra.Command{Use: "install NAME|URL|ARCHIVE", Short: "Install a package from the server's index, a URL, or a file here", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&version, "version", "", "version; default the newest")
	cmd.Flags().BoolVar(&unsigned, "allow-unsigned", false, "let it in without a signature the server trusts; goes on record")
	cmd.Flags().BoolVar(&upgrade, "upgrade", false, "new devices get it from now on")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body := map[string]any{"version": version, "allow_unsigned": unsigned, "upgrade": upgrade}
		switch from := args[0]; {
		case strings.HasPrefix(from, "http://"), strings.HasPrefix(from, "https://"):
			body["source"] = from
		case strings.ContainsAny(from, `/\`), strings.HasSuffix(from, ".tar.gz"), strings.HasSuffix(from, ".tar.bz2"):
			b, err := os.ReadFile(from)
			if err != nil {
				return fmt.Errorf("read the archive: %w", err)
			}
			name, version, err := plugins.Identify(b)
			if err != nil {
				return err
			}
			q := url.Values{"allow_unsigned": {strconv.FormatBool(unsigned)}, "upgrade": {strconv.FormatBool(upgrade)}}
			return a.upload(cmd.Context(), "/plugins/"+url.PathEscape(name)+"/versions/"+url.PathEscape(version), q, from)
		default:
			body["name"] = from
		}
		return a.work(cmd.Context(), "/plugins", body)
	}
	return cmd
}

func (a *app) pluginUpgradeCmd() *cobra.Command {
	var version string
	cmd := &cobra.Command{Use: "upgrade NAME", Short: "Make a version, installed or on offer, the one new devices get", Args: cobra.ExactArgs(1),
		Long: "Make a version, installed or on offer, the one new devices get. Devices there are stay as they are: see upgrade-devices."}
	cmd.Flags().StringVar(&version, "version", "", "version; default the newest")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.work(cmd.Context(), "/plugins", map[string]any{"name": args[0], "version": version, "upgrade": true})
	}
	return cmd
}

func (a *app) pluginUpgradeDevicesCmd() *cobra.Command {
	fields := []field{{"version", "text", "version; default the one new devices get"}, {"tenant_id", "text", "devices of this tenant"}, {"category_id", "text", "devices of this category"},
		{"devices", "list", "these devices"}, {"all", "bool", "every device the plugin serves"}, {"wave", "int", "devices moved before the next ones wait for them; default 20"},
		{"halt_after", "int", "failures after which it ends; default 3"}, {"synchronize", "bool", "tell each phone to fetch"}}
	cmd := a.action("upgrade-devices NAME", "Move devices to another version, in waves", http.MethodPost, 1, fields, func(args []string) string {
		return "/plugins/" + url.PathEscape(args[0]) + "/device-upgrades"
	})
	cmd.Long = "Move devices to another version of their plugin, in waves, at the rate and in the hours of their settings (resync_…), until too many\nhave failed. With --dry-run nothing is moved: the files and lines that would change are shown."
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "show which files would change, record nothing")
	return cmd
}

func (a *app) pluginFilesCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "files", Short: "Firmware and language files of a plugin's phones"}
	path := func(args []string) string {
		return "/plugins/" + url.PathEscape(args[0]) + "/bundles/" + url.PathEscape(args[1])
	}
	list := &cobra.Command{Use: "list NAME", Short: "What is there, and what the package names", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		ans, err := a.call(cmd.Context(), http.MethodGet, "/plugins/"+url.PathEscape(args[0])+"/bundles", nil, nil)
		if err != nil {
			return err
		}
		var all struct{ Installed, Installable []map[string]any }
		if err := json.Unmarshal(ans.body, &all); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		var rows []map[string]any
		seen := map[any]bool{}
		for _, b := range all.Installed {
			b["installed"], seen[b["bundle"]] = true, true
			rows = append(rows, b)
		}
		for _, b := range all.Installable {
			if b["bundle"] = b["id"]; !seen[b["id"]] {
				b["installed"] = false
				rows = append(rows, b)
			}
		}
		return a.printList(rows, []string{"bundle", "kind", "release", "models", "installed", "files"})
	}}
	var file, kind, release, at, unpack string
	var models []string
	install := &cobra.Command{Use: "install NAME BUNDLE", Short: "Fetch a bundle the package names, or make a file of your own available", Args: cobra.ExactArgs(2)}
	f := install.Flags()
	f.StringVar(&file, "file", "", "file of your own")
	f.StringVar(&kind, "kind", "firmware", "of that file: firmware, language, dictionary or other")
	f.StringVar(&release, "release", "", "of that file, as phones call it")
	f.StringSliceVar(&models, "models", nil, "models it is for; none means all")
	f.StringVar(&at, "path", "", "name phones find it under; default as the package says")
	f.StringVar(&unpack, "unpack", "", "zip, tar or tar.gz: the file is an archive of files")
	install.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			return a.work(cmd.Context(), path(args), map[string]any{})
		}
		q := url.Values{"kind": {kind}}
		for k, v := range map[string]string{"release": release, "models": strings.Join(models, ","), "path": at, "unpack": unpack} {
			if v != "" {
				q.Set(k, v)
			}
		}
		return a.upload(cmd.Context(), path(args), q, file)
	}
	cmd.AddCommand(list, install, a.action("remove NAME BUNDLE", "Take files away from phones", http.MethodDelete, 2, nil, path))
	return cmd
}

// operationCmd shows pieces of work under way.
func (a *app) operationCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "operation", Short: "Pieces of work under way on the server"}
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "List them, and those that ended within the hour", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return a.printItems(cmd.Context(), "/operations", "id", "label", "state", "current", "end", "started_at", "error")
		}},
		a.action("show ID", "Show one", http.MethodGet, 1, nil, func(args []string) string { return "/operations/" + url.PathEscape(args[0]) }),
		a.action("cancel ID", "Stop one", http.MethodDelete, 1, nil, func(args []string) string { return "/operations/" + url.PathEscape(args[0]) }))
	return cmd
}

// printItems prints a list that has one page.
func (a *app) printItems(ctx context.Context, path string, columns ...string) error {
	ans, err := a.call(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	var page struct {
		Items []map[string]any `json:"items"`
	}
	if err := json.Unmarshal(ans.body, &page); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return a.printList(page.Items, columns)
}

// said prints an answer, or that it was done.
func (a *app) said(ans answer) error {
	if len(ans.body) == 0 {
		fmt.Fprintln(a.errOut, "done, position", ans.header.Get("Ledger-Position"))
		return nil
	}
	return a.printJSON(ans.body)
}

// pollOperation is how often an operation is asked for.
const pollOperation = 200 * time.Millisecond

// work has the server begin something and follows it to its end, with a bar on a terminal. Interrupted, the work goes on.
func (a *app) work(ctx context.Context, path string, body any) error {
	if body == nil {
		body = map[string]any{}
	}
	ans, err := a.call(ctx, http.MethodPost, path, nil, body)
	if err != nil {
		return err
	}
	var begun struct{ ID string }
	if err := json.Unmarshal(ans.body, &begun); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	bar := a.bar(0)
	for {
		ans, err := a.call(ctx, http.MethodGet, "/operations/"+begun.ID, nil, nil)
		if err != nil {
			return err
		}
		var o commands.Operation
		if err := json.Unmarshal(ans.body, &o); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		current, end := amount(o.Step)
		bar.show(o.Label, current, end)
		if o.EndedAt == nil {
			select {
			case <-time.After(pollOperation):
				continue
			case <-ctx.Done():
				return fmt.Errorf("%w; operation %s goes on", ctx.Err(), begun.ID)
			}
		}
		bar.end()
		if o.State == commands.StepFail {
			return errors.New(o.Error)
		}
		if a.output != "table" {
			return a.printJSON(ans.body)
		}
		fmt.Fprintln(a.errOut, "done")
		return nil
	}
}

// amount sums what the leaves of a step have done, and have to do.
func amount(s commands.Step) (current, end int64) {
	current, end = s.Current, s.End
	for _, c := range s.Children {
		n, of := amount(c)
		current, end = current+n, end+of
	}
	return current, end
}

// upload sends a file, with a bar on a terminal.
func (a *app) upload(ctx context.Context, path string, query url.Values, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read the file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the file: %w", err)
	}
	bar := a.bar(info.Size())
	resp, err := a.openRaw(ctx, http.MethodPut, path, query, io.TeeReader(f, bar), info.Size(), "application/octet-stream")
	bar.end()
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return a.said(answer{resp.StatusCode, resp.Header, b})
}

// bar is a progress bar, nothing where there is no terminal.
type bar struct{ *progressbar.ProgressBar }

func (a *app) bar(size int64) bar {
	f, ok := a.errOut.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || a.output != "table" {
		return bar{progressbar.DefaultBytesSilent(size)}
	}
	return bar{progressbar.NewOptions64(max(size, -1), progressbar.OptionSetWriter(f), progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionFullWidth())}
}

func (b bar) show(label string, current, end int64) {
	b.Describe(label)
	if end > 0 {
		b.ChangeMax64(max(end, current))
	}
	_ = b.Set64(current) // a bar that cannot be drawn is none
}

func (b bar) end() { _ = b.Finish() }
