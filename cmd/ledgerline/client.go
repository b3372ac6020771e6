package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"

	"ledgerline/domain"
)

// app is one run of the command line.
type app struct {
	getenv      func(string) string
	in          io.Reader
	out, errOut io.Writer

	server    string
	tokenFile string
	output    string // table, json, yaml, csv
	reason    string
	dryRun    bool
	begun     bool // a command has begun: its line was understood
}

// answer is what the API said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem is the API's problem+json.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Errors []struct {
		Field string `json:"field"`
		Rule  string `json:"rule"`
	} `json:"errors"`
	RequestID string `json:"request_id"`
}

// Error is one sentence, and the fields that are wrong.
func (p problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, e := range p.Errors {
		if !strings.Contains(text, e.Field) {
			text += fmt.Sprintf("; %s %s", e.Field, e.Rule)
		}
	}
	if p.Status >= 500 {
		text += " (request " + p.RequestID + ")"
	}
	return text
}

// serverURL is --server, LEDGERLINE_SERVER, or the server's default.
func (a *app) serverURL() string {
	for _, s := range []string{a.server, a.getenv("LEDGERLINE_SERVER"), "http://127.0.0.1:8666"} {
		if s != "" {
			return strings.TrimSuffix(s, "/")
		}
	}
	return ""
}

// token reads the API key: --token-file, LEDGERLINE_TOKEN_FILE, or data/admin.token of a server started here.
func (a *app) token() (string, error) {
	path := a.tokenFile
	if path == "" {
		path = a.getenv("LEDGERLINE_TOKEN_FILE")
	}
	if path == "" {
		path = filepath.Join("data", "admin.token")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", exitError{exitDenied, fmt.Errorf("read the API key (--token-file or LEDGERLINE_TOKEN_FILE): %w", err)}
	}
	key := strings.TrimSpace(string(b))
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", exitError{exitDenied, fmt.Errorf("%s does not hold an API key: one line beginning with ll_", path)}
	}
	return key, nil
}

// call sends one request. body is marshalled unless it is nil. A problem comes back as an error with its
// exit code.
func (a *app) call(ctx context.Context, method, path string, query url.Values, body any, headers ...string) (answer, error) {
	resp, err := a.open(ctx, method, path, query, body, headers...)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 256<<20))
	if err != nil {
		return answer{}, fmt.Errorf("read the server's answer: %w", err)
	}
	return answer{resp.StatusCode, resp.Header, b}, nil
}

// ask is call for an answer whose members are needed: it fills v.
func (a *app) ask(ctx context.Context, method, path string, body, v any) error {
	ans, err := a.call(ctx, method, path, nil, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(ans.body, v); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

// open is call for an answer that is read as it comes.
func (a *app) open(ctx context.Context, method, path string, query url.Values, body any, headers ...string) (*http.Response, error) {
	var payload io.Reader
	size, contentType := int64(0), ""
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload, size, contentType = bytes.NewReader(b), int64(len(b)), "application/json"
	}
	resp, err := a.openRaw(ctx, method, path, query, payload, size, contentType, headers...)
	var failed exitError
	if errors.As(err, &failed) {
		if p, ok := failed.err.(problem); ok && p.Status == http.StatusNotFound {
			p.Detail += named(path, body)
			return nil, exitError{failed.code, p}
		}
	}
	return resp, err
}

// openRaw is open for any payload.
func (a *app) openRaw(ctx context.Context, method, path string, query url.Values, payload io.Reader, size int64, contentType string, headers ...string) (*http.Response, error) {
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	if query == nil {
		query = url.Values{}
	}
	if a.dryRun && method != http.MethodGet {
		query.Set("dry_run", "true")
	}
	target := a.serverURL() + "/api/v1" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, payload)
	if err != nil {
		return nil, usageError("%w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "ledgerline/"+version)
	if payload != nil {
		req.Header.Set("Content-Type", contentType)
		req.ContentLength = size
	}
	if method == http.MethodPost && !a.dryRun {
		req.Header.Set("Idempotency-Key", uuid.NewString())
	}
	if a.reason != "" {
		req.Header.Set("X-Reason", a.reason)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reach the server at %s: %w (is it running? see --server)", a.serverURL(), unwrapURL(err))
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		p := problem{Status: resp.StatusCode, Title: resp.Status}
		if json.Unmarshal(b, &p) != nil || p.Code == "" {
			return nil, fmt.Errorf("%s does not answer like the API of a Ledgerline server: %s (see --server)", a.serverURL(), resp.Status)
		}
		return nil, exitError{exitCode(resp.StatusCode), p}
	}
	return resp, nil
}

// named lists what a request asked for by name: the server says alike of all of them that there is no such
// thing, and of what the key's owner may not see.
func named(path string, body any) string {
	var names []string
	if parts := strings.Split(strings.Trim(path, "/"), "/"); len(parts) > 1 {
		if id, err := url.PathUnescape(parts[1]); err == nil {
			names = append(names, parts[0]+" "+id)
		}
	}
	members, _ := body.(map[string]any)
	for _, k := range sortedKeys(members) {
		if v, ok := members[k].(string); ok && (strings.HasSuffix(k, "_id") || k == "subject") {
			names = append(names, k+" "+v)
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return ": " + names[0]
	}
	return ": one of " + strings.Join(names, ", ")
}

func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func exitCode(status int) int {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return exitUsage
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitDenied
	case http.StatusConflict, http.StatusPreconditionFailed:
		return exitConflict
	}
	return exitFailed
}

// list fetches all pages of a list, or as many items as limit asks for (0: all).
func (a *app) list(ctx context.Context, path string, query url.Values, limit int) ([]map[string]any, error) {
	return a.listBy(ctx, path, query, "cursor", limit)
}

// listBy is list where the parameter that asks for the next page is named otherwise.
func (a *app) listBy(ctx context.Context, path string, query url.Values, cursor string, limit int) ([]map[string]any, error) {
	if query == nil {
		query = url.Values{}
	}
	items := []map[string]any{}
	for {
		query.Set("limit", "500")
		ans, err := a.call(ctx, http.MethodGet, path, query, nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			Items []map[string]any `json:"items"`
			Next  string           `json:"next"`
		}
		if err := json.Unmarshal(ans.body, &page); err != nil {
			return nil, fmt.Errorf("read the server's answer: %w", err)
		}
		items = append(items, page.Items...)
		if limit > 0 && len(items) >= limit {
			return items[:limit], nil
		}
		if page.Next == "" {
			return items, nil
		}
		query.Set(cursor, page.Next)
	}
}

// printJSON prints one object: pretty JSON, YAML, or "key  value" lines.
func (a *app) printJSON(b []byte) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	switch a.output {
	case "json":
		var buf bytes.Buffer
		if err := json.Indent(&buf, b, "", "  "); err != nil {
			return err
		}
		_, err := fmt.Fprintln(a.out, buf.String())
		return err
	case "yaml":
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		return yaml.NewEncoder(a.out).Encode(v)
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		var list []map[string]any
		if json.Unmarshal(b, &list) == nil {
			return a.printList(list, nil)
		}
		return err
	}
	delete(v, "$schema")
	keys := sortedKeys(v)
	if a.output == "csv" {
		return a.printList([]map[string]any{v}, keys)
	}
	var found struct {
		Warnings []domain.SoftphoneFinding `json:"warnings"`
	}
	warned := json.Unmarshal(b, &found) == nil && !slices.ContainsFunc(found.Warnings, func(f domain.SoftphoneFinding) bool { return f.Code == "" })
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	for _, k := range keys {
		if k != "warnings" || !warned {
			fmt.Fprintf(w, "%s\t%s\n", k, cell(v[k]))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !warned {
		return nil
	}
	for _, f := range found.Warnings {
		fmt.Fprintf(a.errOut, "warning: %s\n", findingLine(f))
	}
	return nil
}

// findingLine is what may be wrong with a softphone document, in one line.
func findingLine(f domain.SoftphoneFinding) string {
	line := fmt.Sprintf("%s %s %s", f.Code, f.At, f.Text)
	if f.Line > 0 {
		line = fmt.Sprintf("%s %s, line %d, column %d: %s", f.Code, f.At, f.Line, f.Column, f.Text)
	}
	if f.Hint != "" {
		line += "; did you mean " + f.Hint
	}
	return line
}

// printList prints a list with the columns given, or all columns of the first item.
func (a *app) printList(items []map[string]any, columns []string) error {
	switch a.output {
	case "json":
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"items": items})
	case "yaml":
		return yaml.NewEncoder(a.out).Encode(map[string]any{"items": items})
	}
	if columns == nil && len(items) > 0 {
		for k := range items[0] {
			columns = append(columns, k)
		}
		slices.Sort(columns)
	}
	if a.output == "csv" {
		w := csv.NewWriter(a.out)
		_ = w.Write(columns)
		for _, it := range items {
			row := make([]string, len(columns))
			for i, c := range columns {
				row[i] = guardFormula(cell(it[c]))
			}
			_ = w.Write(row)
		}
		w.Flush()
		return w.Error()
	}
	if len(items) == 0 {
		fmt.Fprintln(a.errOut, "none")
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(columns, "\t")))
	for _, it := range items {
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = cell(it[c])
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// cell is a value on one line; a time to the second, in UTC, as --as-of takes it.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return t.UTC().Format(time.RFC3339)
		}
		return v
	case float64:
		return strings.TrimSuffix(fmt.Sprintf("%.3f", v), ".000")
	case bool:
		return fmt.Sprint(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// guardFormula keeps a spreadsheet from taking a cell for a formula.
func guardFormula(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
