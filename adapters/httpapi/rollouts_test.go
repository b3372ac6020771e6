package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ledgerline/commands"
	"ledgerline/domain"
)

// The file is what the reference says, byte for byte: a byte order mark, semicolons, every field quoted, CRLF, the code
// once more in groups, and no field that a spreadsheet program would calculate. That it was handed out is on record.
func TestARolloutsCSV(t *testing.T) {
	o := open(t)
	o.options.QR = func(text string) (string, error) { return "<svg>" + text + "</svg>\n", nil }
	o.serve()
	for id, name := range map[domain.UserID]string{"u1": `=HYPERLINK("x")`, "u2": "Muster; Anna", "u3": "-1+2", "u4": "@SUM(A1)", "u5": "+41 44"} {
		_, _, err := o.Service.DefineUser(t.Context(), commands.DefineUser{ID: id, TenantID: "acme", DisplayName: name})
		o.ok(err)
	}
	plan := []map[string]any{{"user_id": "u1"}, {"user_id": "u2", "mac": "00:15:65:00:00:01"}, {"user_id": "u3"}, {"user_id": "u4"}, {"user_id": "u5"}}
	r := o.ask(o.root, http.MethodPost, "/rollouts", map[string]any{"id": "r1", "tenant_id": "acme", "category_id": "acme.desk", "phone_app": "phone", "name": "First <b>floor</b>", "users": plan})
	if r.status != http.StatusCreated {
		t.Fatalf("%d %s", r.status, r.body)
	}
	o.ok(o.React(t.Context()))
	export := o.ask(o.root, http.MethodGet, "/rollouts/r1/export", nil)
	text, marked := strings.CutPrefix(string(export.body), "\ufeff")
	lines := strings.Split(text, "\r\n")
	if !marked || len(lines) != 7 || lines[6] != "" || lines[0] != `"user";"display_name";"code";"code_print";"valid_until";"category";"app";"state"` || strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\n") {
		t.Fatalf("%q", export.body)
	}
	for i, name := range []string{`'=HYPERLINK(""x"")`, "Muster; Anna", "'-1+2", "'@SUM(A1)", "'+41 44"} {
		fields := strings.Split(lines[i+1], `";"`)
		code := fields[2]
		if len(code) != 12 || strings.Trim(code, "0123456789") != "" {
			t.Fatalf("line %d: %s", i+1, lines[i+1])
		}
		want := fmt.Sprintf(`"u%d";"%s";"%s";"%s %s %s";"2026-11-09T09:30:00Z";"acme.desk";"phone";"pending"`, i+1, name, code, code[:4], code[4:8], code[8:])
		if lines[i+1] != want {
			t.Errorf("%s\nwant\n%s", lines[i+1], want)
		}
	}
	events := o.Log.Events()
	if last := events[len(events)-1]; last.Type != "rollout.exported" || string(last.Data) != `{"format":"csv","codes":5}` {
		t.Errorf("on record: %s %s", last.Type, last.Data)
	}

	sheet := o.ask(o.root, http.MethodGet, "/rollouts/r1/export?format=sheet&rows=2,3", nil)
	page := string(sheet.body)
	if strings.Count(page, "<article>") != 2 || strings.Contains(page, "<b>") || !strings.Contains(page, "Muster; Anna") || !strings.Contains(page, "@media print") || !strings.Contains(page, "00:15:65:00:00:01") {
		t.Errorf("%s", page)
	}
	for _, line := range lines[2:4] {
		if code := strings.Split(line, `";"`)[2]; !strings.Contains(page, "<article>\n<svg>"+code+"</svg>\n<h1>") {
			t.Errorf("a card without its code drawn:\n%s", page)
		}
	}
	if again := o.ask(o.root, http.MethodGet, "/rollouts/r1/export?format=sheet&rows=2,3", nil); string(again.body) != page {
		t.Error("the same rows make another page")
	}
	if r := o.ask(o.root, http.MethodGet, "/rollouts/r1/export?rows=6", nil); r.status != http.StatusBadRequest {
		t.Errorf("a row it does not have: %d", r.status)
	}

	// Nobody else reads a code: not by other roles, not in what is not an export, not in the log.
	for _, role := range []domain.Role{domain.Auditor, domain.Helpdesk, domain.OwnUser} {
		if r := o.ask(o.tokens["acme/"+string(role)], http.MethodGet, "/rollouts/r1/export", nil); r.status != http.StatusForbidden {
			t.Errorf("as %s: %d", role, r.status)
		}
	}
	if r := o.ask(o.tokens["globex/admin"], http.MethodGet, "/rollouts/r1/export", nil); r.status != http.StatusNotFound {
		t.Errorf("as another tenant: %d", r.status)
	}
	code := strings.Split(lines[1], `";"`)[2]
	for _, path := range []string{"/rollouts/r1", "/rollouts/r1/rows", "/rollouts", "/events?limit=500", "/rollouts/r1/history"} {
		if r := o.ask(o.root, http.MethodGet, path, nil); r.status != 200 || strings.Contains(string(r.body), code) {
			t.Errorf("%s: %d, shows a code: %v", path, r.status, strings.Contains(string(r.body), code))
		}
	}
	if strings.Contains(o.logged.String(), code) {
		t.Error("the program's log shows a code")
	}
}

func TestProgressOfARollout(t *testing.T) {
	o := open(t)
	progress := func() (p struct {
		State  string
		Rows   int
		Counts map[string]int
	}) {
		o.ok(json.Unmarshal(o.ask(o.root, http.MethodGet, "/rollouts/acme/progress", nil).body, &p))
		return p
	}
	if p := progress(); p.State != "running" || p.Rows != 1 || p.Counts["pending"] != 1 {
		t.Errorf("%+v", p)
	}
	if r := o.ask(o.root, http.MethodPost, "/rollouts/acme/cancel", map[string]any{}); r.status != http.StatusNoContent {
		t.Fatalf("%d %s", r.status, r.body)
	}
	o.ok(o.React(t.Context()))
	if p := progress(); p.State != "cancelled" || p.Counts["cancelled"] != 1 {
		t.Errorf("%+v", p)
	}
	feed := o.ask(o.root, http.MethodGet, "/rollouts/acme/progress", nil, "Accept", "text/event-stream")
	if want := "event: progress\ndata: {\"state\":\"cancelled\",\"rows\":1,\"counts\":{\"cancelled\":1}}\n\n"; string(feed.body) != want {
		t.Errorf("the feed of what is over: %q", feed.body)
	}
	if !slices.Contains(feed.header.Values("Content-Type"), "text/event-stream") {
		t.Errorf("%v", feed.header)
	}
}
