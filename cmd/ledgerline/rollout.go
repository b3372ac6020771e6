package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

// rolloutCmd is a phone for each of many users: codes, their export, and what became of them.
func (a *app) rolloutCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "rollout", Short: "Codes for many users at once"}
	cmd.PersistentFlags().StringVar(&a.reason, "reason", "", "why, for the record")
	cmd.PersistentFlags().BoolVar(&a.dryRun, "dry-run", false, "show what would be recorded, record nothing")
	n := noun{name: "rollout", path: "/rollouts", columns: []string{"id", "tenant_id", "name", "category_id", "rows", "state", "exports", "created_at"}, filters: []string{"tenant", "category", "text"}}
	cmd.AddCommand(a.listCmd(n), a.historyCmd(n), a.rolloutCreateCmd(), a.rolloutShowCmd(), a.rolloutExportCmd(), a.rolloutWatchCmd(),
		a.rowsCmd("cancel", "Take back the codes of the rows that wait, or of the rows named"),
		a.rowsCmd("extend", "Let the rows that wait do so for the rollout's full time from now on; printed codes stay good"),
		a.rowsCmd("reissue", "Give the rows without a phone, or the rows named, new codes"),
		a.rowsCmd("resend", "Tell innovaphone Users again of the phones that came, or of those of the rows named"),
		a.action("confirm ID ROW", "Vouch for the phone that waits in quarantine on a row", http.MethodPost, 2, nil, func(args []string) string {
			return rolloutPath(args[0]) + "/rows/" + url.PathEscape(args[1]) + "/confirm"
		}))
	return cmd
}

func rolloutPath(id string) string { return "/rollouts/" + url.PathEscape(id) }

func (a *app) rolloutCreateCmd() *cobra.Command {
	var users string
	var validFor time.Duration
	cmd := &cobra.Command{Use: "create --tenant ID --category ID --users FILE|all", Short: "Give users a code each", Args: cobra.NoArgs,
		Long: "Issues a code for each user. The file names one user a line, and after a comma or semicolon the MAC of the user's phone, if it\nis known: then no other phone can use the code. \"all\" means every user of the tenant."}
	f := cmd.Flags()
	texts := map[string]*string{}
	for _, t := range []struct{ flag, member, help string }{{"id", "id", "id to use instead of a new one"}, {"tenant", "tenant_id", "tenant"}, {"category", "category_id", "category the codes lead to"},
		{"quarantine", "quarantine_id", "category where phones of unknown MAC wait to be confirmed"}, {"app", "phone_app", "app of the users' phones; the category's when absent"}, {"name", "name", "name shown"}} {
		texts[t.member] = f.String(t.flag, "", t.help)
	}
	f.StringVar(&users, "users", "", "file with users, - for standard input, or all")
	f.DurationVar(&validFor, "valid-for", 0, "life of each code; the server's (a week) when absent")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		body := map[string]any{}
		for member, text := range texts {
			if *text != "" {
				body[member] = *text
			}
		}
		if validFor > 0 {
			body["valid_for_s"] = int(validFor.Seconds())
		}
		if users == "" {
			return usageError("--users names a file, or all")
		}
		if body["all"] = users == "all"; users != "all" {
			b, err := a.readFile(users)
			if err != nil {
				return err
			}
			if body["users"], err = plannedUsers(string(b)); err != nil {
				return err
			}
		}
		return a.send(cmd, http.MethodPost, "/rollouts", body)
	}
	return cmd
}

// plannedUsers reads "user" or "user,mac" lines; a first line "user…" and lines that begin with # are none.
func plannedUsers(text string) ([]map[string]string, error) {
	var out []map[string]string
	for i, line := range strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n") {
		line = strings.TrimSpace(line)
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == ';' })
		for j := range fields {
			fields[j] = strings.Trim(strings.TrimSpace(fields[j]), `"`)
		}
		switch {
		case line == "" || line[0] == '#' || i == 0 && len(fields) > 0 && (fields[0] == "user" || fields[0] == "user_id"):
		case len(fields) == 0 || len(fields) > 2 || fields[0] == "":
			return nil, usageError("line %d of the users is neither USER nor USER,MAC", i+1)
		default:
			user := map[string]string{"user_id": fields[0]}
			if len(fields) == 2 && fields[1] != "" {
				user["mac"] = fields[1]
			}
			out = append(out, user)
		}
	}
	if len(out) == 0 {
		return nil, usageError("the file names no users")
	}
	return out, nil
}

func (a *app) rolloutShowCmd() *cobra.Command {
	var rows bool
	var state string
	cmd := &cobra.Command{Use: "show ID", Short: "Show one and how many of its rows are in which state; with --rows the rows", Args: cobra.ExactArgs(1)}
	cmd.Flags().BoolVar(&rows, "rows", false, "list its rows")
	cmd.Flags().StringVar(&state, "state", "", "only rows of this state: pending, quarantined, registered, expired, cancelled, failed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if rows || state != "" {
			q := url.Values{}
			if state != "" {
				q.Set("state", state)
			}
			items, err := a.list(cmd.Context(), rolloutPath(args[0])+"/rows", q, 0)
			if err != nil {
				return err
			}
			return a.printList(items, []string{"row", "user_id", "state", "valid_until", "mac", "device_id", "cause"})
		}
		ans, err := a.call(cmd.Context(), http.MethodGet, rolloutPath(args[0]), nil, nil)
		if err != nil {
			return err
		}
		return a.printJSON(ans.body)
	}
	return cmd
}

// rowNumbers reads row numbers given as arguments.
func rowNumbers(args []string) ([]int, error) {
	var rows []int
	for _, arg := range args {
		n, err := strconv.Atoi(arg)
		if err != nil || n < 1 {
			return nil, usageError("%q is not the number of a row", arg)
		}
		rows = append(rows, n)
	}
	return rows, nil
}

// rowsCmd is a verb on a rollout or some of its rows.
func (a *app) rowsCmd(verb, short string) *cobra.Command {
	cmd := &cobra.Command{Use: verb + " ID [ROW…]", Short: short, Args: cobra.MinimumNArgs(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		rows, err := rowNumbers(args[1:])
		if err != nil {
			return err
		}
		body := map[string]any{}
		if len(rows) > 0 {
			body["rows"] = rows
		}
		return a.send(cmd, http.MethodPost, rolloutPath(args[0])+"/"+verb, body)
	}
	return cmd
}

func (a *app) rolloutExportCmd() *cobra.Command {
	var csv, sheet string
	cmd := &cobra.Command{Use: "export ID [ROW…] --csv FILE | --sheet FILE", Short: "Get its codes, as CSV or as a page to print; each export is on record", Args: cobra.MinimumNArgs(1)}
	cmd.Flags().StringVar(&csv, "csv", "", "file to write, - for standard output")
	cmd.Flags().StringVar(&sheet, "sheet", "", "HTML file to write, - for standard output: one card per user")
	cmd.MarkFlagsMutuallyExclusive("csv", "sheet")
	cmd.MarkFlagsOneRequired("csv", "sheet")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		format, file := "csv", csv
		if sheet != "" {
			format, file = "sheet", sheet
		}
		if a.dryRun {
			return usageError("an export is always on record: there is no --dry-run of it")
		}
		if _, err := rowNumbers(args[1:]); err != nil {
			return err
		}
		return a.exportRollout(cmd, args[0], args[1:], format, file)
	}
	return cmd
}

// exportRollout writes codes of a rollout into a file that only its owner can read.
func (a *app) exportRollout(cmd *cobra.Command, id string, rows []string, format, file string) error {
	q := url.Values{"format": {format}}
	if len(rows) > 0 {
		q.Set("rows", strings.Join(rows, ","))
	}
	ans, err := a.call(cmd.Context(), http.MethodGet, rolloutPath(id)+"/export", q, nil)
	if err != nil {
		return err
	}
	if file == "-" {
		_, err = a.out.Write(ans.body)
		return err
	}
	if err := renameio.WriteFile(file, ans.body, 0o600); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	fmt.Fprintln(a.errOut, "wrote", file)
	return nil
}

func (a *app) rolloutWatchCmd() *cobra.Command {
	return a.watchCmd("Show how it goes on, until no phone is awaited any more", rolloutPath, func(data []byte) (string, error) {
		var p struct {
			State  string         `json:"state"`
			Rows   int            `json:"rows"`
			Counts map[string]int `json:"counts"`
		}
		err := json.Unmarshal(data, &p)
		return fmt.Sprintf("%s, %d rows:", p.State, p.Rows) + counted(p.Counts, "pending", "quarantined", "registered", "expired", "cancelled", "failed"), err
	})
}

// counted are the counts that are not zero, in the order of states.
func counted(counts map[string]int, states ...string) (line string) {
	for _, state := range states {
		if n := counts[state]; n > 0 {
			line += fmt.Sprintf(" %d %s", n, state)
		}
	}
	return line
}

// watchCmd follows the progress of a thing, one line each time it changes: as say puts it, or as the server does.
func (a *app) watchCmd(short string, path func(id string) string, say func(data []byte) (string, error)) *cobra.Command {
	return &cobra.Command{Use: "watch ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		resp, err := a.open(cmd.Context(), http.MethodGet, path(args[0])+"/progress", nil, nil, "Accept", "text/event-stream")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			line, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			if a.output == "table" {
				if line, err = say([]byte(line)); err != nil {
					return fmt.Errorf("read the server's answer: %w", err)
				}
			}
			if _, err := fmt.Fprintln(a.out, line); err != nil {
				return err
			}
		}
		if err := lines.Err(); err != nil && cmd.Context().Err() == nil && !os.IsTimeout(err) {
			return fmt.Errorf("follow the progress: %w", err)
		}
		return nil
	}}
}
