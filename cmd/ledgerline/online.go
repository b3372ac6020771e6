package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// readAllLimited reads everything, and refuses more than n bytes.
func readAllLimited(r io.Reader, n int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, n+1))
	if err == nil && int64(len(b)) > n {
		return nil, usageError("input is larger than %d bytes", n)
	}
	return b, err
}

// printValue prints a value as printJSON does.
func (a *app) printValue(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.printJSON(b)
}

// printPlan prints what a dry run would record, deletions first as the server sorts them, and file diffs.
func (a *app) printPlan(body []byte) error {
	var plan struct {
		Events []struct {
			Stream string         `json:"stream"`
			Type   string         `json:"type"`
			Data   map[string]any `json:"data"`
		} `json:"events"`
		Files []struct {
			Device string `json:"device"`
			Path   string `json:"path"`
			Diff   string `json:"diff"`
		} `json:"files"`
		MoreFiles int `json:"more_files"`
	}
	if err := json.Unmarshal(body, &plan); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	if len(plan.Events) == 0 {
		fmt.Fprintln(a.out, "nothing would change")
		return nil
	}
	fmt.Fprintln(a.out, "would record:")
	for _, e := range plan.Events {
		fmt.Fprintf(a.out, "  %-28s %s  %s\n", e.Type, e.Stream, summary(any(e.Data)))
	}
	for _, f := range plan.Files {
		fmt.Fprintf(a.out, "\n%s %s\n%s", f.Device, f.Path, f.Diff)
	}
	if plan.MoreFiles > 0 {
		fmt.Fprintf(a.out, "\nand files of %d more devices\n", plan.MoreFiles)
	}
	return nil
}

// whyCmd answers the question of two in the morning.
func (a *app) whyCmd() *cobra.Command {
	return &cobra.Command{Use: "why MAC", Short: "Why is this phone not configured? One answer, with the events behind it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ans, err := a.call(cmd.Context(), http.MethodGet, "/devices/"+url.PathEscape(args[0])+"/why", nil, nil)
			if err != nil {
				return err
			}
			if a.output != "table" {
				return a.printJSON(ans.body)
			}
			var why struct {
				State   string           `json:"state"`
				Answer  string           `json:"answer"`
				Reasons []string         `json:"reasons"`
				Events  []map[string]any `json:"events"`
			}
			if err := json.Unmarshal(ans.body, &why); err != nil {
				return fmt.Errorf("read the server's answer: %w", err)
			}
			fmt.Fprintf(a.out, "%s: %s\n", why.State, why.Answer)
			for _, r := range why.Reasons {
				fmt.Fprintln(a.out, " -", r)
			}
			if len(why.Events) == 0 {
				return nil
			}
			fmt.Fprintln(a.out)
			return a.printTimeline(why.Events)
		}}
}

// filesCmd lists the files a device may fetch.
func (a *app) filesCmd() *cobra.Command {
	return &cobra.Command{Use: "files ID", Short: "The files it may fetch, and what could not be honoured", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := a.deviceFiles(cmd, args[0])
			if err != nil {
				return err
			}
			if a.output != "table" {
				return a.printValue(files)
			}
			if err := a.printList(files.Files, []string{"path", "size", "content_type", "etag"}); err != nil {
				return err
			}
			for _, w := range files.Warnings {
				fmt.Fprintf(a.errOut, "warning: %v: %v\n", w["setting"], w["text"])
			}
			return nil
		}}
}

// deviceFiles is what the API tells of a device's files.
type deviceFiles struct {
	Files    []map[string]any `json:"files"`
	Warnings []map[string]any `json:"warnings,omitempty"`
}

func (a *app) deviceFiles(cmd *cobra.Command, id string) (files deviceFiles, err error) {
	ans, err := a.call(cmd.Context(), http.MethodGet, "/devices/"+url.PathEscape(id)+"/files", nil, nil)
	if err != nil {
		return files, err
	}
	if err := json.Unmarshal(ans.body, &files); err != nil {
		return files, fmt.Errorf("read the server's answer: %w", err)
	}
	return files, nil
}

// writeBelow writes a file whose name came from elsewhere; it cannot leave dir.
func writeBelow(dir, name string, data []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if sub := filepath.Dir(name); sub != "." {
		if err := root.MkdirAll(sub, 0o755); err != nil {
			return err
		}
	}
	return root.WriteFile(name, data, 0o600)
}

// explainCmd names the layer of every value.
func (a *app) explainCmd() *cobra.Command {
	var device, file, asOf string
	cmd := &cobra.Command{Use: "explain --device MAC [KEY]", Short: "Which layer does the value of a setting come from? Who brought a line of a file?", Args: cobra.MaximumNArgs(1)}
	cmd.Flags().StringVar(&device, "device", "", "the device")
	cmd.Flags().StringVar(&file, "blame", "", "a file of it: who and what brought each of its lines")
	cmd.Flags().StringVar(&asOf, "as-of", "", "with --blame: the file as it stood at this time or position")
	_ = cmd.MarkFlagRequired("device")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file != "" {
			return a.blame(cmd.Context(), device, file, asOf)
		}
		q := url.Values{}
		if len(args) == 1 {
			q.Set("key", args[0])
		}
		ans, err := a.call(cmd.Context(), http.MethodGet, "/devices/"+url.PathEscape(device)+"/explain", q, nil)
		if err != nil {
			return err
		}
		var found struct {
			Items []struct {
				Key    string           `json:"key"`
				Value  any              `json:"value"`
				Levels []map[string]any `json:"levels"`
			} `json:"items"`
		}
		if err := json.Unmarshal(ans.body, &found); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		if a.output != "table" {
			return a.printJSON(ans.body)
		}
		rows := make([]map[string]any, 0, len(found.Items))
		for _, it := range found.Items {
			row := map[string]any{"key": it.Key, "value": it.Value}
			var names []string
			for _, l := range it.Levels {
				names = append(names, fmt.Sprintf("%v (%s)", l["name"], cell(l["value"])))
			}
			row["from"] = strings.Join(names, " < ")
			if len(names) == 0 {
				row["from"] = "not set anywhere"
			}
			rows = append(rows, row)
		}
		return a.printList(rows, []string{"key", "value", "from"})
	}
	return cmd
}

// searchCmd looks for text everywhere an operator would.
func (a *app) searchCmd() *cobra.Command {
	return &cobra.Command{Use: "search TEXT", Short: "Find by number, user, MAC or address", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			items, err := a.list(cmd.Context(), "/search", url.Values{"q": {args[0]}}, 0)
			if err != nil {
				return err
			}
			return a.printList(items, []string{"kind", "id", "tenant_id", "text", "where"})
		}}
}

// parkedCmd handles what reactions gave up on.
func (a *app) parkedCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "parked", Short: "Reactions that could not be carried out"}
	list := &cobra.Command{Use: "list [REACTION]", Short: "List them", Args: cobra.MaximumNArgs(1)}
	list.RunE = func(cmd *cobra.Command, args []string) error {
		q := url.Values{}
		if len(args) == 1 {
			q.Set("reaction", args[0])
		}
		items, err := a.list(cmd.Context(), "/parked", q, 0)
		if err != nil {
			return err
		}
		return a.printList(items, []string{"reaction", "event_id", "event_type", "key", "attempts", "at", "reason"})
	}
	one := func(args []string) string {
		return "/parked/" + url.PathEscape(args[0]) + "/" + url.PathEscape(args[1])
	}
	cmd.AddCommand(list,
		a.action("replay REACTION EVENT", "Try it again now", http.MethodPost, 2, nil, func(args []string) string { return one(args) + "/replay" }),
		a.action("discard REACTION EVENT", "Give it up for good", http.MethodDelete, 2, nil, one))
	return cmd
}

// eraseCmd destroys a subject's key.
func (a *app) eraseCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "erase SUBJECT", Short: "Make everything sealed for a subject (user-ID, line-ID, device-ID, layer-ID, gateway-ID, tenant-ID, code-ID) unreadable, for ever", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&a.reason, "reason", "", "why, for the record (required)")
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "show what would be recorded, record nothing")
	_ = cmd.MarkFlagRequired("reason")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.send(cmd, http.MethodPost, "/erase", map[string]any{"subject": args[0], "reason": a.reason})
	}
	return cmd
}
