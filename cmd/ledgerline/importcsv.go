package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
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
given follow from the row (number or MAC), so that importing the same file again changes nothing. Nothing is imported when
any row is wrong.`}
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
		return a.importRows(cmd, rows, codes)
	}
	cmd.AddCommand(table)
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

// importRows makes what the rows name, in the order user, line, device, code; what exists already is kept.
func (a *app) importRows(cmd *cobra.Command, rows []importRow, codes bool) error {
	counts := map[string]int{}
	var issued []map[string]any
	var faults []string
	ensure := func(r importRow, kind, path string, body map[string]any) bool {
		_, err := a.call(cmd.Context(), http.MethodPost, path, nil, body)
		var coded exitError
		switch {
		case err == nil:
			counts[kind]++
			return true
		case errors.As(err, &coded) && coded.code == exitConflict:
			counts[kind+" kept"]++
			return true
		}
		faults = append(faults, fmt.Sprintf("row %d: %s: %v", r.Line, kind, err))
		return false
	}
	pick := func(v map[string]string, keys ...string) map[string]any {
		body := map[string]any{}
		for _, k := range keys {
			if v[k] != "" {
				body[k] = v[k]
			}
		}
		return body
	}
	for _, r := range rows {
		v := r.Values
		ok := true
		if v["user_id"] != "" && v["display_name"] != "" {
			body := pick(v, "tenant_id", "display_name", "email")
			body["id"] = v["user_id"]
			ok = ensure(r, "users", "/users", body)
		}
		// A dry run does not keep the user it has just checked: what builds on it is checked without it.
		user := v["user_id"]
		if a.dryRun {
			delete(v, "user_id")
		}
		if ok && v["line_id"] != "" {
			body := pick(v, "tenant_id", "user_id", "number", "display_name", "username", "auth_username", "password")
			body["id"] = v["line_id"]
			ok = ensure(r, "lines", "/lines", body)
		}
		if ok && v["mac"] != "" {
			ok = ensure(r, "devices", "/devices", pick(v, "mac", "model", "vendor", "tenant_id", "category_id", "user_id"))
		}
		if ok && codes && user != "" && v["mac"] == "" {
			body := pick(v, "tenant_id", "category_id", "user_id")
			body["purpose"] = "rollout"
			ans, err := a.call(cmd.Context(), http.MethodPost, "/codes", nil, body)
			if err != nil {
				faults = append(faults, fmt.Sprintf("row %d: code: %v", r.Line, err))
				continue
			}
			counts["codes"]++
			var code map[string]any
			if json.Unmarshal(ans.body, &code) == nil && !a.dryRun {
				code["user_id"], code["display_name"] = user, v["display_name"]
				issued = append(issued, code)
			}
		}
	}
	if a.output == "table" {
		for _, k := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(a.out, "%-14s %d\n", k, counts[k])
		}
		if len(issued) > 0 {
			if err := a.printList(issued, []string{"user_id", "display_name", "code", "valid_until"}); err != nil {
				return err
			}
		}
	} else if err := a.printValue(map[string]any{"counts": counts, "codes": issued, "errors": faults, "dry_run": a.dryRun}); err != nil {
		return err
	}
	for _, f := range faults {
		fmt.Fprintln(a.errOut, f)
	}
	if len(faults) > 0 {
		return exitError{exitFailed, fmt.Errorf("%d rows could not be imported", len(faults))}
	}
	return nil
}
