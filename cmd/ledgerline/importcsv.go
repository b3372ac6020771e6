package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ledgerline/domain"
)

// importCmd brings in a table of phones and people.
func (a *app) importCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Bring in data from elsewhere"}
	var tenant, category, mapping string
	var codes bool
	table := &cobra.Command{Use: "csv FILE", Short: "Users, lines, devices and codes, one row each", Args: cobra.ExactArgs(1),
		Long: `Each row makes what its columns name: a user (user_id, display_name, email), a line of that user (line_id, number,
username, auth_username, password), a device (mac, model, vendor), and with --codes a rollout code for the user. Columns may
come in any order, with a comma, semicolon or tab between; --map Header=column,… renames foreign headers. Ids that are not
given follow from the row (number or MAC), so that importing the same file again changes nothing, and an import that was cut
short is carried on by importing again. Every row is checked, here and by the server, before the first is imported: nothing is
imported when any row is wrong.`}
	f := table.Flags()
	f.StringVar(&tenant, "tenant", "", "tenant of rows without a tenant_id column")
	f.StringVar(&category, "category", "", "category of rows without a category_id column")
	f.StringVar(&mapping, "map", "", "foreign header=column, comma separated")
	f.BoolVar(&codes, "codes", false, "issue a rollout code for every user")
	f.BoolVar(&a.dryRun, "dry-run", false, "check every row, record nothing")
	f.StringVar(&a.reason, "reason", "", "why, for the record")
	table.RunE = func(cmd *cobra.Command, args []string) error {
		b, err := a.readFile(args[0])
		if err != nil {
			return err
		}
		rows, err := readRows(b, mapping, tenant, category)
		if err != nil {
			return exitError{exitUsage, err}
		}
		return a.importTable(cmd.Context(), rows, codes)
	}
	cmd.AddCommand(table, a.importWazoCmd())
	return cmd
}

// importRow is one row of the table. Line is where it stands in the file, from 1.
type importRow struct {
	Line   int
	Values map[string]string
}

var importColumns = []string{"tenant_id", "category_id", "user_id", "display_name", "email", "line_id", "number", "username", "auth_username", "password",
	"mac", "model", "vendor", "description"}

// maxImportRows bounds one file.
const maxImportRows = 200_000

// readRows reads a table with a header. The separator is the one of , ; tab that the header has most of; a
// byte order mark is dropped. Every fault is named with its row.
func readRows(b []byte, mapping, tenant, category string) ([]importRow, error) {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	header, _, _ := bytes.Cut(b, []byte("\n"))
	r := csv.NewReader(bytes.NewReader(b))
	r.Comma = slices.MaxFunc([]rune{',', ';', '\t'}, func(x, y rune) int {
		return bytes.Count(header, []byte(string(x))) - bytes.Count(header, []byte(string(y)))
	})
	r.TrimLeadingSpace = true
	names, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	columns, err := mapColumns(names, mapping)
	if err != nil {
		return nil, err
	}
	var rows []importRow
	var faults []error
	seen := map[string]int{}
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err // the reader names line and column
		}
		line, _ := r.FieldPos(0)
		row := importRow{Line: line, Values: map[string]string{"tenant_id": tenant, "category_id": category}}
		for i, c := range cells {
			if v := strings.TrimSpace(c); v != "" && columns[i] != "" {
				row.Values[columns[i]] = v
			}
		}
		if err := row.complete(); err != nil {
			faults = append(faults, fmt.Errorf("row %d: %w", line, err))
		}
		for _, key := range []string{"mac", "line_id"} {
			if v := row.Values[key]; v != "" {
				if first, twice := seen[key+v]; twice {
					faults = append(faults, fmt.Errorf("row %d: %s %s stands in row %d already", line, key, v, first))
				}
				seen[key+v] = line
			}
		}
		if rows = append(rows, row); len(rows) > maxImportRows {
			return nil, fmt.Errorf("more than %d rows", maxImportRows)
		}
	}
	if len(rows) == 0 {
		faults = append(faults, errors.New("no rows"))
	}
	return rows, errors.Join(faults...)
}

// mapColumns gives each column of the file its name here; columns nobody knows are refused.
func mapColumns(header []string, mapping string) ([]string, error) {
	renamed := map[string]string{}
	for pair := range strings.SplitSeq(mapping, ",") {
		if from, to, ok := strings.Cut(pair, "="); ok {
			renamed[normalHeader(from)] = strings.TrimSpace(to)
		} else if strings.TrimSpace(pair) != "" {
			return nil, fmt.Errorf("--map wants Header=column, not %q", pair)
		}
	}
	columns := make([]string, len(header))
	for i, h := range header {
		name := normalHeader(h)
		if to, ok := renamed[name]; ok {
			name = to
		}
		if name != "" && !slices.Contains(importColumns, name) {
			return nil, fmt.Errorf("column %q is not known; columns are %s (see --map)", h, strings.Join(importColumns, ", "))
		}
		columns[i] = name
	}
	return columns, nil
}

func normalHeader(h string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(h)), " ", "_")
}

// complete normalises a row and gives it the ids that follow from it.
func (r importRow) complete() error {
	v := r.Values
	if v["tenant_id"] == "" {
		return errors.New("no tenant_id, and no --tenant")
	}
	if v["mac"] != "" {
		mac, err := domain.ParseMAC(v["mac"])
		if err != nil {
			return fmt.Errorf("mac %w", err)
		}
		v["mac"] = string(mac)
	}
	isLine := v["username"] != "" || v["password"] != "" || v["number"] != ""
	if isLine && (v["username"] == "" || v["password"] == "") {
		return errors.New("a line needs username and password")
	}
	key := v["number"]
	if key == "" {
		key = v["username"]
	}
	if isLine && v["line_id"] == "" {
		v["line_id"] = idFrom(v["tenant_id"], key)
	}
	if v["user_id"] == "" && v["display_name"] != "" {
		if key == "" {
			key = v["email"] + v["mac"]
		}
		v["user_id"] = idFrom(v["tenant_id"], key)
	}
	for _, k := range []string{"tenant_id", "category_id", "user_id", "line_id"} {
		if v[k] != "" {
			if err := domain.CheckID(v[k]); err != nil {
				return fmt.Errorf("%s %w", k, err)
			}
		}
	}
	if v["user_id"] == "" && !isLine && v["mac"] == "" {
		return errors.New("names neither user, line nor device")
	}
	return nil
}

// idFrom makes an id of parts: what an id cannot hold becomes an underscore.
func idFrom(parts ...string) string {
	id := []byte(strings.Join(parts, "."))
	for i, c := range id {
		if domain.CheckID("a"+string(c)) != nil {
			id[i] = '_'
		}
	}
	return string(id[:min(64, len(id))])
}

// imported is what an import came to.
type imported struct {
	counts map[string]int
	codes  []map[string]any
	faults []string
}

// importTable checks every row, then imports them; with --dry-run it only checks.
func (a *app) importTable(ctx context.Context, rows []importRow, codes bool) error {
	really := !a.dryRun
	a.dryRun = true
	done, err := a.importRows(ctx, rows, codes)
	if really && err == nil && len(done.faults) == 0 {
		a.dryRun = false
		if done, err = a.importRows(ctx, rows, codes); err != nil {
			// Codes cannot be shown a second time: those issued before it broke are shown now.
			return errors.Join(a.printImported(done, really), fmt.Errorf("%w; the rows before it are imported, import again to carry on", err))
		}
	}
	if err != nil {
		return err
	}
	return a.printImported(done, really)
}

func (a *app) printImported(done imported, really bool) error {
	if a.output == "table" {
		if !really && len(done.faults) == 0 {
			fmt.Fprintln(a.out, "would import:")
		}
		if len(done.faults) == 0 || really && !a.dryRun {
			for _, k := range slices.Sorted(maps.Keys(done.counts)) {
				fmt.Fprintf(a.out, "%-18s %d\n", k, done.counts[k])
			}
		}
		if len(done.codes) > 0 {
			if err := a.printList(done.codes, []string{"user_id", "display_name", "code", "valid_until"}); err != nil {
				return err
			}
		}
	} else if err := a.printValue(map[string]any{"counts": done.counts, "codes": done.codes, "errors": done.faults, "dry_run": a.dryRun}); err != nil {
		return err
	}
	for _, f := range done.faults {
		fmt.Fprintln(a.errOut, f)
	}
	if len(done.faults) == 0 {
		return nil
	}
	if really && a.dryRun {
		return exitError{exitFailed, fmt.Errorf("nothing was imported: %d rows are wrong", len(done.faults))}
	}
	return exitError{exitFailed, fmt.Errorf("%d rows could not be imported", len(done.faults))}
}

// importRows makes what the rows name, in the order user, line, device, code; what exists already is kept. A
// row the server refuses is a fault; a server that cannot be asked ends it.
func (a *app) importRows(ctx context.Context, rows []importRow, codes bool) (imported, error) {
	done := imported{counts: map[string]int{}}
	for _, r := range rows {
		if err := a.importRow(ctx, r, codes, &done); err != nil {
			var p problem
			if !errors.As(err, &p) || p.Status >= 500 || p.Status == http.StatusUnauthorized {
				return done, fmt.Errorf("row %d: %w", r.Line, err)
			}
			done.faults = append(done.faults, fmt.Sprintf("row %d: %v", r.Line, err))
		}
	}
	return done, nil
}

func (a *app) importRow(ctx context.Context, r importRow, codes bool, done *imported) error {
	v := r.Values
	body := func(id string, keys ...string) map[string]any {
		body := map[string]any{}
		if id != "" {
			body["id"] = id
		}
		for _, k := range keys {
			// A check does not keep the user it has just checked: what builds on it is checked without it.
			if v[k] != "" && (k != "user_id" || !a.dryRun) {
				body[k] = v[k]
			}
		}
		return body
	}
	ensure := func(kind, path string, body map[string]any) (existed bool, err error) {
		_, err = a.call(ctx, http.MethodPost, path, nil, body)
		var p problem
		if errors.As(err, &p) && strings.HasSuffix(p.Code, "-exists") {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", kind, err)
		}
		done.counts[kind+"s"]++
		return false, nil
	}
	if v["user_id"] != "" && v["display_name"] != "" {
		existed, err := ensure("user", "/users", body(v["user_id"], "tenant_id", "display_name", "email"))
		if err != nil {
			return err
		}
		done.keep("user", existed)
	}
	if v["line_id"] != "" {
		existed, err := ensure("line", "/lines", body(v["line_id"], "tenant_id", "user_id", "number", "display_name", "username", "auth_username", "password"))
		if err != nil {
			return err
		}
		done.keep("line", existed)
	}
	if v["mac"] != "" {
		existed, err := ensure("device", "/devices", body("", "mac", "model", "vendor", "tenant_id", "category_id", "user_id"))
		if existed {
			err = a.importKnownDevice(ctx, v["mac"], body("", "tenant_id", "category_id", "user_id"), done)
		}
		return err
	}
	if codes && v["user_id"] != "" {
		return a.importCode(ctx, v, body("", "tenant_id", "category_id", "user_id"), done)
	}
	return nil
}

func (i *imported) keep(kind string, existed bool) {
	if existed {
		i.counts[kind+"s kept"]++
	}
}

// importKnownDevice assigns a phone that was plugged in before its row was imported; one that has a tenant
// is kept as it is.
func (a *app) importKnownDevice(ctx context.Context, mac string, body map[string]any, done *imported) error {
	ans, err := a.call(ctx, http.MethodGet, "/devices/"+mac, nil, nil)
	if err != nil {
		return fmt.Errorf("device: %w", err)
	}
	var now struct {
		Tenant string `json:"tenant_id"`
	}
	if err := json.Unmarshal(ans.body, &now); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	if now.Tenant == body["tenant_id"] {
		done.keep("device", true)
		return nil
	}
	if now.Tenant != string(domain.Master) {
		return problem{Detail: "device: " + mac + " belongs to tenant " + now.Tenant}
	}
	if _, err := a.call(ctx, http.MethodPost, "/devices/"+mac+"/assign", nil, body); err != nil {
		return fmt.Errorf("device: %w", err)
	}
	done.counts["devices assigned"]++
	return nil
}

// importCode issues a code for a user without a phone, unless one is out already.
func (a *app) importCode(ctx context.Context, v map[string]string, body map[string]any, done *imported) error {
	out, err := a.list(ctx, "/codes", url.Values{"user": {v["user_id"]}, "state": {"live"}, "purpose": {"rollout"}}, 1)
	if err != nil {
		return fmt.Errorf("code: %w", err)
	}
	if len(out) > 0 {
		done.keep("code", true)
		return nil
	}
	body["purpose"] = "rollout"
	ans, err := a.call(ctx, http.MethodPost, "/codes", nil, body)
	if err != nil {
		return fmt.Errorf("code: %w", err)
	}
	done.counts["codes"]++
	if a.dryRun {
		return nil
	}
	var code map[string]any
	if err := json.Unmarshal(ans.body, &code); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	code["user_id"], code["display_name"] = v["user_id"], v["display_name"]
	done.codes = append(done.codes, code)
	return nil
}
