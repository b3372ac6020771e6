package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"ledgerline/adapters/qr"
	"ledgerline/adapters/updateserver/script"
	"ledgerline/domain"
)

// sysadminLine is what a phone of automatic provisioning is told, as a URL and as the line for its update script.
func sysadminLine(base, domain, token, category string) (url, line string) {
	url = script.AutoURL(base, domain, token, category)
	return url, script.SysadminLine(url)
}

// tokenCmd is category token: the tokens of automatic provisioning.
func (a *app) tokenCmd() *cobra.Command {
	return a.nounCmd(noun{name: "token", path: "/tokens", short: "Tokens that put phones into a category without a code", columns: []string{"id", "category_id", "name", "uses", "max_uses", "expires_at", "state"},
		filters: []string{"tenant", "category"},
		create: []field{{"category_id", "text", "provisioning category"}, {"name", "text", "what it is for"}, {"existing_token", "file", "file with a token that phones have already, - for standard input; drawn without it"},
			{"expires_at", "text", "end of its validity, RFC 3339; 90 days from now without it"}, {"mac_prefixes", "list", "beginnings of the only MACs that may use it"},
			{"networks", "list", "the only networks it may be used from"}, {"max_uses", "int", "how many phones it admits; 0 for no bound"}},
		createVerb: "issue", deleteVerb: "revoke", history: true})
}

// innovaphoneCmd makes what innovaphone phones are told by hand. Nothing is asked of a server.
func (a *app) innovaphoneCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "innovaphone", Short: "What innovaphone phones are told by hand: lines, QR codes, DHCP options"}
	cmd.AddCommand(a.sysadminCmd(), a.lintCmd(), a.option43Cmd())
	return cmd
}

func (a *app) sysadminCmd() *cobra.Command {
	var base, tenant, category, tokenFile, format, out string
	cmd := &cobra.Command{Use: "sysadmin-line", Short: "Make the line that gives a phone its Devices URL, encoded twice as it must be", Args: cobra.NoArgs,
		Long: "Prints the line for an update script or an EXPERT job. Without --category it is the plain Devices URL, to which the phone\nbrings a code; with it, that of automatic provisioning. Do not type the line into a browser: it is decoded once on the way.",
		RunE: func(*cobra.Command, []string) error {
			if err := domain.CheckDevicesURL(base); err != nil {
				return usageError("--url %w", err)
			}
			url := base
			if category != "" || tenant != "" || tokenFile != "" {
				if category == "" || tenant == "" || tokenFile == "" {
					return usageError("automatic provisioning needs --domain, --category and --provisioning-token-file")
				}
				token, err := a.readFile(tokenFile)
				if err != nil {
					return err
				}
				url = script.AutoURL(base, tenant, strings.TrimRight(string(token), "\r\n"), category)
			}
			return a.printSysadmin(url, format, out)
		}}
	f := cmd.Flags()
	f.StringVar(&base, "url", "", "Devices URL: wss://apps.example.com/example.com/devices/sysclients")
	f.StringVar(&tenant, "domain", "", "domain name")
	f.StringVar(&category, "category", "", "name of the provisioning category")
	f.StringVar(&tokenFile, "provisioning-token-file", "", "file with the token, - for standard input")
	f.StringVar(&format, "format", "line", "line, url, or the line as a QR code: terminal, svg or png")
	f.StringVar(&out, "out", "", "file to write it to, readable by you only; default standard output")
	return cmd
}

// printSysadmin prints the line, or draws it.
func (a *app) printSysadmin(url, format, out string) error {
	line := script.SysadminLine(url)
	var text []byte
	switch format {
	case "line":
		text = []byte(line + "\n")
	case "url":
		text = []byte(url + "\n")
	case "terminal", "svg", "png":
		if format == "png" && out == "" && a.onTerminal() {
			return usageError("a picture on a terminal is noise: give --out FILE")
		}
		code, err := qr.New(line)
		if err != nil {
			return err
		}
		text = map[string]func() []byte{"terminal": func() []byte { return []byte(code.Terminal(out == "" && a.onTerminal())) }, "svg": func() []byte { return []byte(code.SVG()) },
			"png": func() []byte { return code.PNG(0) }}[format]()
	default:
		return usageError("--format must be line, url, terminal, svg or png")
	}
	if out != "" {
		return renameio.WriteFile(out, text, 0o600)
	}
	_, err := a.out.Write(text)
	return err
}

func (a *app) lintCmd() *cobra.Command {
	return &cobra.Command{Use: "lint [FILE]", Short: "Tell what is wrong with a sysadmin line, or a Devices URL as a phone shows it", Args: cobra.MaximumNArgs(1),
		Long: "Reads one line from FILE, or standard input, for it may hold a token. Exit code 1 when a phone given it would not get where\nit should.",
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := a.readFile(append(args, "-")[0])
			if err != nil {
				return err
			}
			l := script.Lint(string(text))
			if a.output != "table" {
				if err := a.printValue(map[string]any{"url": l.URL, "line": l.Line, "findings": l.Findings, "ok": l.OK()}); err != nil {
					return err
				}
			} else {
				for _, f := range l.Findings {
					fmt.Fprintf(a.out, "%-8s %s: %s\n", map[bool]string{true: "error", false: "warning"}[f.Error], f.Code, f.Text)
				}
				if l.Line != "" && len(l.Findings) > 0 {
					fmt.Fprintln(a.out, "probably meant:\n"+l.Line)
				}
			}
			if !l.OK() {
				return fmt.Errorf("a phone given this does not get where it should")
			}
			if a.output == "table" && len(l.Findings) == 0 {
				fmt.Fprintln(a.out, "in order")
			}
			return nil
		}}
}

func (a *app) option43Cmd() *cobra.Command {
	var poll, server string
	cmd := &cobra.Command{Use: "option43 URL", Short: "Make option 43 for a DHCP server: the update URL, in hex", Args: cobra.ExactArgs(1),
		Long: "A phone that has spoken to a registry takes no update URL from DHCP any more. Devices send and expect the vendor class\n" + script.VendorClass + " (option 60). The codes of URL (215) and poll interval (216) are to be confirmed on a phone.",
		RunE: func(_ *cobra.Command, args []string) error {
			options := []script.Suboption{{Code: script.OptionUpdateURL, Value: []byte(args[0])}}
			if poll != "" {
				options = append(options, script.Suboption{Code: script.OptionUpdatePoll, Value: []byte(poll)})
			}
			if server != "" {
				options = append(options, script.Suboption{Code: script.OptionServerID, Value: []byte(server)})
			}
			b, err := script.Option43(options...)
			if err != nil {
				return exitError{exitUsage, err}
			}
			_, err = fmt.Fprintln(a.out, script.Hex(b))
			return err
		}}
	cmd.Flags().StringVar(&poll, "poll", "", "poll interval in minutes")
	cmd.Flags().StringVar(&server, "server-id", "", "what makes a phone wait for this DHCP server")
	return cmd
}

// backupsCmd lists what an innovaphone phone has uploaded of itself.
func (a *app) backupsCmd() *cobra.Command {
	return &cobra.Command{Use: "backups ID", Short: "The configurations it has uploaded (innovaphone), oldest first", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all struct {
				Items []map[string]any `json:"items"`
			}
			if err := a.ask(cmd.Context(), http.MethodGet, "/devices/"+url.PathEscape(args[0])+"/backups", nil, &all); err != nil {
				return err
			}
			return a.printList(all.Items, []string{"backup", "stored_at", "size", "via", "transport"})
		}}
}

// showBackupCmd shows, compares or saves one of them.
func (a *app) showBackupCmd() *cobra.Command {
	var with int
	var out string
	cmd := &cobra.Command{Use: "show-backup ID BACKUP", Short: "Show a configuration it has uploaded, compare it, or save it", Args: cobra.ExactArgs(2),
		Long: "Shows the upload with its secrets replaced by words; --with BACKUP compares it with an earlier one, where equal secrets\nhave equal words. --out FILE writes the very bytes, to be loaded into a phone again: that needs --reason, and is recorded."}
	f := cmd.Flags()
	f.IntVar(&with, "with", -1, "an earlier one to compare it with")
	f.StringVar(&out, "out", "", "file to write the bytes to, secrets and all, readable by you only")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := "/devices/" + url.PathEscape(args[0]) + "/backups/" + url.PathEscape(args[1])
		if out != "" {
			if a.reason == "" {
				return usageError("--out needs --reason: the upload may hold secrets, and its reveal is recorded")
			}
			ans, err := a.call(cmd.Context(), http.MethodPost, path+"/reveal", nil, map[string]any{"reason": a.reason})
			if err != nil {
				return err
			}
			return renameio.WriteFile(out, ans.body, 0o600)
		}
		q := url.Values{}
		if with >= 0 {
			q.Set("with", strconv.Itoa(with))
		}
		ans, err := a.call(cmd.Context(), http.MethodGet, path, q, nil)
		if err != nil || a.output != "table" {
			if err == nil {
				err = a.printJSON(ans.body)
			}
			return err
		}
		var shown struct{ Text, Diff string }
		if err := json.Unmarshal(ans.body, &shown); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		_, err = fmt.Fprintln(a.out, strings.TrimRight(shown.Text+shown.Diff, "\r\n"))
		return err
	}
	return cmd
}
