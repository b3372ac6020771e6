package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// renderCmd shows a device's files, now or as they stood.
func (a *app) renderCmd() *cobra.Command {
	var device, dir, asOf, diff, reveal, reason string
	cmd := &cobra.Command{Use: "render --device MAC", Short: "Show the files of a device, now or as they stood, secrets replaced by a placeholder", Args: cobra.NoArgs,
		Long: "With --as-of the files are those the device could fetch then, and a line to standard error says of each how sure that is: whether the\nbytes kept since have the recorded mac, and whether rendering them again from the history gives the same.",
		Example: "  ledgerline render --device 00:15:65:1a:2b:3c --as-of 2026-03-03T12:00:00Z\n" +
			"  ledgerline render --device 00:15:65:1a:2b:3c --diff 2026-03-03T00:00:00Z,2026-03-04T00:00:00Z"}
	f := cmd.Flags()
	f.StringVar(&device, "device", "", "the device")
	f.StringVar(&dir, "out", "", "write the files into this directory instead")
	f.StringVar(&asOf, "as-of", "", "time (RFC 3339) or log position")
	f.StringVar(&diff, "diff", "", "T1,T2: what changed between two moments instead; without ,T2 until now")
	f.StringVar(&reveal, "reveal", "", "the very bytes of this one file, secrets and all; an administrator's right, and recorded")
	f.StringVar(&reason, "reason", "", "with --reveal: why, for the record")
	_ = cmd.MarkFlagRequired("device")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case diff != "":
			from, to, _ := strings.Cut(diff, ",")
			return a.diff(cmd.Context(), device, from, to)
		case reveal != "":
			if reason == "" {
				return usageError("--reveal needs a --reason: it is recorded")
			}
			ans, err := a.call(cmd.Context(), http.MethodPost, "/devices/"+url.PathEscape(device)+"/reveal", nil, map[string]any{"path": reveal, "as_of": asOf, "reason": reason}, "Accept", "*/*")
			if err != nil {
				return err
			}
			fmt.Fprintf(a.errOut, "%s: bytes %s\n", reveal, ans.header.Get("X-Bytes"))
			if dir != "" {
				return writeBelow(dir, reveal, ans.body)
			}
			_, err = a.out.Write(ans.body)
			return err
		}
		q := url.Values{}
		if asOf != "" {
			q.Set("as_of", asOf)
		}
		ans, err := a.call(cmd.Context(), http.MethodGet, "/devices/"+url.PathEscape(device)+"/files", q, nil)
		if err != nil {
			return err
		}
		var files deviceFiles
		if err := json.Unmarshal(ans.body, &files); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		for _, f := range files.Files {
			path, _ := f["path"].(string)
			ans, err := a.call(cmd.Context(), http.MethodGet, "/devices/"+url.PathEscape(device)+"/files/"+path, q, nil, "Accept", "*/*")
			if err != nil {
				return err
			}
			if asOf != "" {
				fmt.Fprintf(a.errOut, "%s: bytes %s, rendered again: %s\n", path, ans.header.Get("X-Bytes"), ans.header.Get("X-Rendered"))
			}
			if dir == "" {
				fmt.Fprintf(a.out, "==> %s\n%s\n", path, bytes.TrimRight(ans.body, "\n"))
				continue
			}
			if err := writeBelow(dir, path, ans.body); err != nil {
				return err
			}
			fmt.Fprintln(a.out, filepath.Join(dir, path))
		}
		return nil
	}
	return cmd
}

// diff shows what changed for a device between two moments.
func (a *app) diff(ctx context.Context, device, from, to string) error {
	q := url.Values{"from": {from}}
	if to != "" {
		q.Set("to", to)
	}
	ans, err := a.call(ctx, http.MethodGet, "/devices/"+url.PathEscape(device)+"/diff", q, nil)
	if err != nil {
		return err
	}
	if a.output != "table" {
		return a.printJSON(ans.body)
	}
	var d struct {
		Settings []struct {
			Key           string
			Before, After any
			Secret        bool
		}
		Files []struct{ Path, Diff string }
	}
	if err := json.Unmarshal(ans.body, &d); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	for _, s := range d.Settings {
		if s.Secret {
			fmt.Fprintf(a.out, "%s: another secret\n", s.Key)
			continue
		}
		fmt.Fprintf(a.out, "%s: %s -> %s\n", s.Key, cell(s.Before), cell(s.After))
	}
	for _, f := range d.Files {
		if f.Diff == "" {
			fmt.Fprintf(a.out, "%s: differs in secrets only\n", f.Path)
			continue
		}
		fmt.Fprint(a.out, f.Diff)
	}
	if len(d.Settings)+len(d.Files) == 0 {
		fmt.Fprintln(a.out, "nothing changed")
	}
	return nil
}

func (a *app) auditDiffCmd() *cobra.Command {
	var device, from, to string
	cmd := &cobra.Command{Use: "diff --device MAC --from T1 [--to T2]", Short: "What changed for a device between two moments: settings and files, secrets masked", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.diff(cmd.Context(), device, from, to) }}
	cmd.Flags().StringVar(&device, "device", "", "the device")
	cmd.Flags().StringVar(&from, "from", "", "time (RFC 3339) or log position")
	cmd.Flags().StringVar(&to, "to", "", "time or position; default now")
	_ = cmd.MarkFlagRequired("device")
	_ = cmd.MarkFlagRequired("from")
	return cmd
}

func (a *app) auditDevicesCmd() *cobra.Command {
	var asOf, tenant string
	cmd := &cobra.Command{Use: "devices KEY [VALUE]", Short: "Which phones had this value of a setting, on a given day?", Args: cobra.RangeArgs(1, 2),
		Example: "  ledgerline audit devices sip_lines.1.transport udp --as-of 2026-03-03T12:00:00Z",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"key": {args[0]}}
			if len(args) == 2 {
				q.Set("value", args[1])
			}
			if asOf != "" {
				q.Set("as_of", asOf)
			}
			if tenant != "" {
				q.Set("tenant", tenant)
			}
			items, err := a.list(cmd.Context(), "/audit/devices", q, 0)
			if err != nil {
				return err
			}
			return a.printList(items, []string{"device_id", "mac", "value", "position", "recorded_at"})
		}}
	cmd.Flags().StringVar(&asOf, "as-of", "", "time (RFC 3339) or log position; default now")
	cmd.Flags().StringVar(&tenant, "tenant", "", "only of this tenant")
	return cmd
}

// blame shows each line of a file with what brought it.
func (a *app) blame(ctx context.Context, device, file, asOf string) error {
	q := url.Values{}
	if asOf != "" {
		q.Set("as_of", asOf)
	}
	ans, err := a.call(ctx, http.MethodGet, "/devices/"+url.PathEscape(device)+"/blame/"+file, q, nil)
	if err != nil {
		return err
	}
	if a.output != "table" {
		return a.printJSON(ans.body)
	}
	var found struct {
		Lines []struct {
			Text   string
			Since  string
			At     string
			Causes []struct{ Position, Stream, Type, Actor string }
		}
	}
	if err := json.Unmarshal(ans.body, &found); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	rows := make([]map[string]any, 0, len(found.Lines))
	for _, l := range found.Lines {
		var by []string
		for _, c := range l.Causes {
			by = append(by, fmt.Sprintf("%s %s of %s by %s", c.Position, c.Type, c.Stream, c.Actor))
		}
		rows = append(rows, map[string]any{"line": l.Text, "since": l.At, "brought by": strings.Join(by, "; ")})
	}
	return a.printList(rows, []string{"since", "brought by", "line"})
}

// auditEvidenceCmd tells how sure it is what a device could fetch at a moment.
func (a *app) auditEvidenceCmd() *cobra.Command {
	var device, asOf string
	cmd := &cobra.Command{Use: "evidence --device MAC [--as-of T]", Short: "What a device could fetch at a moment, and how sure that is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			if asOf != "" {
				q.Set("as_of", asOf)
			}
			ans, err := a.call(cmd.Context(), http.MethodGet, "/devices/"+url.PathEscape(device)+"/evidence", q, nil)
			if err != nil {
				return err
			}
			if a.output != "table" {
				return a.printJSON(ans.body)
			}
			var e struct {
				Files []map[string]any
			}
			if err := json.Unmarshal(ans.body, &e); err != nil {
				return fmt.Errorf("read the server's answer: %w", err)
			}
			return a.printList(e.Files, []string{"path", "size", "bytes", "rendered", "mac"})
		}}
	cmd.Flags().StringVar(&device, "device", "", "the device")
	cmd.Flags().StringVar(&asOf, "as-of", "", "time (RFC 3339) or log position; default now")
	_ = cmd.MarkFlagRequired("device")
	return cmd
}
