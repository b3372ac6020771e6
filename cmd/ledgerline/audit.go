package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"zombiezen.com/go/sqlite"

	"ledgerline/adapters/ledger"
	"ledgerline/adapters/views"
	"ledgerline/domain"
	"ledgerline/projections"
)

// auditCmd reads the history.
func (a *app) auditCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Read the history and prove it"}
	cmd.AddCommand(a.auditTimelineCmd(), a.auditReplayCmd(), a.auditStateCmd(), a.auditVerifyCmd(), a.auditDiffCmd(), a.auditEvidenceCmd(), a.auditDevicesCmd(), a.auditCheckpointCmd(), a.auditProveCmd(), a.auditCheckCmd(), a.auditExportCmd(), a.auditOpenCmd())
	return cmd
}

func (a *app) auditTimelineCmd() *cobra.Command {
	var life int
	var from, until, actor string
	var types []string
	var tree bool
	cmd := &cobra.Command{Use: "timeline [NOUN-ID]", Short: "Everything that happened to something, or that somebody did", Args: cobra.MaximumNArgs(1),
		Long: "The subject is a noun and an id (device-0015651a2b3c, code-…, tenant-…, gateway-…, plugin-…); a MAC address alone means the device.\nWithout a subject, --actor lists what somebody did. --tree puts every event below the one that caused it.",
		Example: "  ledgerline audit timeline 00:15:65:1a:2b:3c --tree\n" +
			"  ledgerline audit timeline --actor apikey:bootstrap --from 2026-03-03T00:00:00Z"}
	f := cmd.Flags()
	f.IntVar(&life, "life", 0, "of a device: 1 for its first life, 2 for the one after its first deletion …; default the present one")
	f.StringVar(&from, "from", "", "after this time (RFC 3339) or position")
	f.StringVar(&until, "until", "", "up to this time or position")
	f.StringSliceVar(&types, "type", nil, "only events of these types")
	f.StringVar(&actor, "actor", "", "only what this actor did: apikey:…, phone:…, system:…")
	f.BoolVar(&tree, "tree", false, "every event below its cause")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var items []map[string]any
		var err error
		if len(args) == 0 {
			if actor == "" {
				return usageError("name a subject, or an --actor")
			}
			items, err = a.doneBy(cmd.Context(), actor, from, until)
		} else {
			q := url.Values{}
			for name, v := range map[string]string{"from": from, "as_of": until, "types": strings.Join(types, ",")} {
				if v != "" {
					q.Set(name, v)
				}
			}
			items, err = a.timelineOf(cmd.Context(), args[0], q, life)
		}
		if err != nil {
			return err
		}
		items = slices.DeleteFunc(items, func(it map[string]any) bool {
			meta, _ := it["metadata"].(map[string]any)
			kind, _ := it["type"].(string)
			return actor != "" && meta["actor"] != actor || len(types) > 0 && !slices.Contains(types, kind)
		})
		if tree && a.output == "table" {
			return a.printTree(items)
		}
		return a.printTimeline(items)
	}
	return cmd
}

// timelineOf asks for everything that happened to a subject.
func (a *app) timelineOf(ctx context.Context, subject string, q url.Values, life int) ([]map[string]any, error) {
	kind, id, _ := strings.Cut(subject, "-")
	if mac, err := domain.ParseMAC(subject); err == nil {
		kind, id = "device", string(mac)
	}
	if id == "" {
		return nil, usageError("%q is not a MAC address, nor a noun, a dash and an id", subject)
	}
	path, ok := map[string]string{"device": "/devices/", "user": "/users/", "line": "/lines/", "layer": "/layers/", "category": "/categories/", "code": "/codes/", "tenant": "/tenants/"}[kind]
	if !ok {
		q.Set("subject", subject)
		return a.list(ctx, "/audit/timeline", q, 0)
	}
	if life > 0 && kind == "device" {
		q.Set("life", strconv.Itoa(life))
	}
	return a.list(ctx, path+url.PathEscape(id)+"/history", q, 0)
}

// doneBy walks the feed for what an actor did. Times bound it by what the events themselves say.
func (a *app) doneBy(ctx context.Context, actor, from, until string) ([]map[string]any, error) {
	q := url.Values{"actor": {actor}}
	var since, before time.Time
	for _, b := range []struct {
		text string
		at   *time.Time
	}{{from, &since}, {until, &before}} {
		if t, err := time.Parse(time.RFC3339, b.text); err == nil {
			*b.at = t
		} else if b.text != "" {
			p, err := domain.ParsePosition(b.text)
			if err != nil {
				return nil, usageError("%q is neither a time such as 2026-03-03T12:00:00Z nor a position", b.text)
			}
			if b.at == &since {
				q.Set("after", p.String())
			}
		}
	}
	items, err := a.listBy(ctx, "/events", q, "after", 0)
	if err != nil {
		return nil, err
	}
	last, _ := domain.ParsePosition(until)
	return slices.DeleteFunc(items, func(it map[string]any) bool {
		meta, _ := it["metadata"].(map[string]any)
		text, _ := meta["recorded_at"].(string)
		at, err := time.Parse(time.RFC3339, text)
		place, _ := it["position"].(string)
		p, err2 := domain.ParsePosition(place)
		return err != nil || err2 != nil || at.Before(since) || !before.IsZero() && at.After(before) || !last.IsZero() && last.Before(p)
	}), nil
}

// printTree prints events in the order they were recorded, each below the one it was born of.
func (a *app) printTree(items []map[string]any) error {
	type node struct {
		text     string
		children []*node
	}
	var roots []*node
	byID := map[string]*node{}
	for _, it := range items {
		meta, _ := it["metadata"].(map[string]any)
		facts := summary(it["data"])
		if reason, _ := meta["reason"].(string); reason != "" {
			facts += " (" + reason + ")"
		}
		n := &node{text: fmt.Sprintf("%v  %v  %v  by %v  %s", it["position"], meta["recorded_at"], it["type"], meta["actor"], facts)}
		cause, _ := meta["$causationId"].(string)
		if parent := byID[cause]; parent != nil {
			parent.children = append(parent.children, n)
		} else {
			roots = append(roots, n)
		}
		if id, _ := it["id"].(string); id != "" {
			byID[id] = n
		}
	}
	var err error
	var show func(nodes []*node, indent string)
	show = func(nodes []*node, indent string) {
		for _, n := range nodes {
			if err == nil {
				_, err = fmt.Fprintln(a.out, indent+n.text)
			}
			show(n.children, indent+"  └ ")
		}
	}
	show(roots, "")
	return err
}

// openToRead opens the ledger of a data directory beside a server that may be running; unchecked leaves the
// look at its last rows to the caller.
func openToRead(ctx context.Context, data string, unchecked bool) (*ledger.Ledger, error) {
	if _, err := os.Stat(filepath.Join(data, "ledger.db")); errors.Is(err, fs.ErrNotExist) {
		return nil, exitError{exitNotFound, fmt.Errorf("there is no ledger in %s (see --data)", data)}
	}
	l, err := ledger.Open(ctx, ledger.Options{Dir: data, ReadOnly: true, Unchecked: unchecked})
	if err != nil && sqlite.ErrCode(err).ToPrimary() == sqlite.ResultReadOnly {
		return nil, fmt.Errorf("%w; even a reader needs its index beside the ledger: copy the directory to where you may write", err)
	}
	return l, damaged(err)
}

// auditReplayCmd prints the events themselves, one JSON object a line.
func (a *app) auditReplayCmd() *cobra.Command {
	var data, stream, after, until string
	cmd := &cobra.Command{Use: "replay", Short: "Print the events of the log, one JSON object a line", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&data, "data", "", "read this data directory instead of asking the server; also while it runs")
	cmd.Flags().StringVar(&stream, "stream", "", "only this stream")
	cmd.Flags().StringVar(&after, "after", "0", "begin after this position")
	cmd.Flags().StringVar(&until, "until", "", "end with this position")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		from, err := domain.ParsePosition(after)
		if err != nil {
			return usageError("--after: %w", err)
		}
		last := domain.Position{Commit: ^uint64(0), Prepare: ^uint64(0)}
		if until != "" {
			if last, err = domain.ParsePosition(until); err != nil {
				return usageError("--until: %w", err)
			}
		}
		if data == "" {
			return a.replayFromServer(cmd, stream, from, last)
		}
		l, err := openToRead(cmd.Context(), data, false)
		if err != nil {
			return err
		}
		defer l.Close()
		enc := json.NewEncoder(a.out)
		for r, err := range l.ReadAll(cmd.Context(), from) {
			if err != nil {
				return damaged(err)
			}
			if last.Before(r.Position) {
				return nil
			}
			if stream != "" && r.Stream != domain.StreamID(stream) {
				continue
			}
			if err := enc.Encode(replayed(r)); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// replayed is an event as the API prints it.
func replayed(r domain.Recorded) map[string]any {
	return map[string]any{"position": r.Position, "stream": r.Stream, "revision": r.Revision, "id": r.ID, "type": r.Type,
		"data": asJSON(r.Data), "metadata": asJSON(r.Metadata)}
}

// asJSON is what other programs have appended as well: JSON as it is, nothing as null, other bytes in base64.
func asJSON(b []byte) any {
	switch {
	case len(b) == 0:
		return nil
	case json.Valid(b):
		return json.RawMessage(b)
	}
	return b
}

func (a *app) replayFromServer(cmd *cobra.Command, stream string, from, last domain.Position) error {
	q := url.Values{"limit": {"500"}, "after": {from.String()}}
	if stream != "" {
		q.Set("stream", stream)
	}
	enc := json.NewEncoder(a.out)
	for {
		ans, err := a.call(cmd.Context(), http.MethodGet, "/events", q, nil)
		if err != nil {
			return err
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		if err := json.Unmarshal(ans.body, &page); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		for _, it := range page.Items {
			var at struct {
				Position domain.Position `json:"position"`
			}
			if err := json.Unmarshal(it, &at); err != nil {
				return err
			}
			if last.Before(at.Position) {
				return nil
			}
			if err := enc.Encode(it); err != nil {
				return err
			}
		}
		if page.Next == "" || len(page.Items) == 0 {
			return nil
		}
		q.Set("after", page.Next)
	}
}

// auditStateCmd folds the log up to a moment into views of their own and lists what stood there.
func (a *app) auditStateCmd() *cobra.Command {
	var data, asOf, snapshots string
	cmd := &cobra.Command{Use: "state [NOUN] --as-of T", Short: "The whole system as it stood at a time or position", Args: cobra.MaximumNArgs(1),
		Long: "Replays the log up to T (RFC 3339, or a position) into views of its own and lists one of the nouns, or counts them all.\nSealed values stay sealed. With --snapshots what was folded is kept below DIR/POSITION, and the next question about that time or a\nlater one only folds the rest."}
	cmd.Flags().StringVar(&data, "data", envOr(a.getenv, "LEDGERLINE_DATA", "./data"), "data directory; the server may be running")
	cmd.Flags().StringVar(&asOf, "as-of", "", "time or position; default now")
	cmd.Flags().StringVar(&snapshots, "snapshots", "", "directory of folded views by position, to begin from and to add to")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l, err := openToRead(cmd.Context(), data, false)
		if err != nil {
			return err
		}
		defer l.Close()
		until, err := moment(cmd.Context(), l, asOf)
		if err != nil {
			return err
		}
		dir := snapshots
		if dir == "" {
			if dir, err = os.MkdirTemp("", "ledgerline-state-"); err != nil {
				return err
			}
			defer os.RemoveAll(dir)
		}
		past := views.NewPast(views.PastOptions{Dir: dir, Log: l, Keep: -1})
		defer past.Close()
		q, release, err := past.At(cmd.Context(), until)
		if err != nil {
			return err
		}
		defer release()
		return a.printState(cmd.Context(), q, until, args)
	}
	return cmd
}

// moment is the position a time or position text means (D12): of a time, the last event whose running
// maximum of recorded_at is not after it.
func moment(ctx context.Context, l *ledger.Ledger, text string) (domain.Position, error) {
	if text == "" {
		return l.Head(ctx)
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		p, err := domain.ParsePosition(text)
		if err != nil {
			return p, usageError("%q is neither a time such as 2026-03-03T12:00:00Z nor a position", text)
		}
		return p, nil
	}
	var at domain.Position
	for r, err := range l.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return at, damaged(err)
		}
		m, err := r.Meta()
		if err != nil {
			return at, err
		}
		if m.RecordedAt.After(t) {
			break
		}
		at = r.Position
	}
	return at, nil
}

// printState lists one noun, or counts all.
func (a *app) printState(ctx context.Context, q projections.Querier, at domain.Position, args []string) error {
	lists := []struct {
		name string
		list func(projections.Page) (any, int, string, error)
	}{
		{"tenants", pageOf(ctx, q, projections.ListTenants, projections.TenantFilter{})},
		{"categories", pageOf(ctx, q, projections.ListCategories, projections.CategoryFilter{})},
		{"codes", pageOf(ctx, q, projections.ListCodes, projections.CodeFilter{})},
		{"devices", pageOf(ctx, q, projections.ListDevices, projections.DeviceFilter{})},
		{"users", pageOf(ctx, q, projections.ListUsers, projections.UserFilter{})},
		{"lines", pageOf(ctx, q, projections.ListLines, projections.LineFilter{})},
		{"layers", pageOf(ctx, q, projections.ListLayers, projections.LayerFilter{})},
		{"apikeys", pageOf(ctx, q, projections.ListAPIKeys, projections.APIKeyFilter{})},
		{"gateways", pageOf(ctx, q, projections.ListGateways, projections.GatewayFilter{})},
		{"sipusers", pageOf(ctx, q, projections.ListSIPUsers, projections.SIPUserFilter{})},
		{"cloudids", pageOf(ctx, q, projections.ListClouds, projections.CloudFilter{})},
		{"softphones", pageOf(ctx, q, projections.ListSoftphones, projections.SoftphoneFilter{})},
		{"plugins", pageOf(ctx, q, projections.ListPlugins, true)},
	}
	counts := map[string]any{"position": at}
	for _, l := range lists {
		wanted := len(args) == 1 && strings.TrimSuffix(l.name, "s") == strings.TrimSuffix(args[0], "s")
		if len(args) == 1 && !wanted {
			continue
		}
		var items []map[string]any
		n := 0
		for cursor, more := "", true; more; {
			page, count, next, err := l.list(projections.Page{Cursor: cursor, Limit: projections.MaxLimit})
			if err != nil {
				return err
			}
			n += count
			if wanted {
				b, err := json.Marshal(page)
				if err != nil {
					return err
				}
				var rows []map[string]any
				if err := json.Unmarshal(b, &rows); err != nil {
					return err
				}
				items = append(items, rows...)
			}
			cursor, more = next, next != ""
		}
		if wanted {
			return a.printList(items, columnsOf(l.name))
		}
		counts[l.name] = n
	}
	if len(args) == 1 {
		return usageError("no noun %q: tenants, categories, codes, devices, users, lines, layers or apikeys", args[0])
	}
	return a.printValue(counts)
}

// columnsOf are the columns of the lists of a noun, by its last path element.
func columnsOf(name string) []string {
	for _, n := range nouns {
		if n.path == "/"+name {
			return n.columns
		}
	}
	return nil
}

// pageOf hides the type of a list's rows.
func pageOf[F, R any](ctx context.Context, q projections.Querier, list func(context.Context, projections.Querier, F, projections.Page) (projections.Listed[R], error), f F) func(projections.Page) (any, int, string, error) {
	return func(p projections.Page) (any, int, string, error) {
		l, err := list(ctx, q, f, p)
		return l.Items, len(l.Items), l.Next, err
	}
}

// auditVerifyCmd recomputes the chain and the tree.
func (a *app) auditVerifyCmd() *cobra.Command {
	var data, checkpoints, key string
	var deep, files bool
	cmd := &cobra.Command{Use: "verify", Short: "Recompute chain and tree of the whole log and name every place that was changed", Args: cobra.NoArgs,
		Long: "Recomputes the hash chain, which names the very rows that are not what was written, and the tree, which is compared with every\nsigned checkpoint the log holds and with those in a file kept elsewhere: that alone finds a log rewritten as a whole, or an older\ncopy put in its place. With --views it folds the log into views of its own and compares them with the server's; with --files it asks\nthe running server to prove what every device can fetch now."}
	cmd.Flags().StringVar(&data, "data", envOr(a.getenv, "LEDGERLINE_DATA", "./data"), "data directory; the server may be running")
	cmd.Flags().StringVar(&checkpoints, "checkpoints", "", "file with checkpoints kept elsewhere (a copy of checkpoints.log)")
	cmd.Flags().StringVar(&key, "key", "", "verifier key, or a file with it: then each checkpoint must be signed by it")
	cmd.Flags().BoolVar(&deep, "views", false, "fold the log anew and compare with the views of the data directory")
	cmd.Flags().BoolVar(&files, "files", false, "ask the server for the evidence of every device's files")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := openToRead(cmd.Context(), data, true)
		if errors.Is(err, domain.ErrDamaged) { // so badly that it does not even open
			return errors.Join(a.printValue(map[string]any{"verified": false, "findings": []string{err.Error()}}), err)
		}
		if err != nil {
			return err
		}
		defer l.Close()
		report, err := l.Verify(cmd.Context(), domain.Position{})
		tree, treeErr := verifyTree(cmd.Context(), l, checkpoints, key)
		if err == nil {
			err = treeErr
		}
		shown := map[string]any{}
		if deep && err == nil {
			err = a.verifyViews(cmd.Context(), l, filepath.Join(data, "views"), shown)
		}
		if files && err == nil {
			err = a.verifyFiles(cmd.Context(), shown)
		}
		maps.Copy(shown, map[string]any{"verified": err == nil, "events": report.Events, "to": report.To, "leaves": tree.Leaves,
			"chain": fmt.Sprintf("%x", report.Chain), "checkpoints": tree.Checkpoints, "findings": report.Findings, "broken": tree.Broken})
		if printErr := a.printValue(shown); printErr != nil {
			return printErr
		}
		return damaged(err)
	}
	return cmd
}

// verifyViews folds the log up to where the views of a server stand, and compares.
func (a *app) verifyViews(ctx context.Context, log projections.Log, dir string, shown map[string]any) error {
	live, err := views.DigestOf(ctx, dir)
	if err != nil {
		return err
	}
	fresh, err := os.MkdirTemp("", "ledgerline-verify-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	store, err := views.Fold(ctx, log, live.Position, fresh)
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	rebuilt, err := views.DigestOf(ctx, fresh)
	if err != nil {
		return err
	}
	if live.Fingerprint != rebuilt.Fingerprint {
		return usageError("the views of %s were made by another release of this program: nothing to compare", dir)
	}
	shown["view_rows"] = live.Rows
	if differing := live.Differing(rebuilt); len(differing) > 0 {
		shown["views_differing"] = differing
		return exitError{exitDamaged, fmt.Errorf("the views are not what the log folds to at position %s: %s differ; stop the server and delete %s, they are made anew", live.Position, strings.Join(differing, ", "), dir)}
	}
	return nil
}

// verifyFiles asks the server for the evidence of what every device can fetch now.
func (a *app) verifyFiles(ctx context.Context, shown map[string]any) error {
	devices, err := a.list(ctx, "/devices", url.Values{}, 0)
	if err != nil {
		return err
	}
	bytes, rendered := map[string]int{}, map[string]int{}
	var wrong []string
	for _, d := range devices {
		id := fmt.Sprint(d["id"])
		ans, err := a.call(ctx, http.MethodGet, "/devices/"+url.PathEscape(id)+"/evidence", nil, nil)
		var p problem
		if errors.As(err, &p) && p.Status == http.StatusNotFound {
			continue // it has no files yet
		}
		if err != nil {
			return err
		}
		var e struct {
			Files []struct{ Path, Bytes, Rendered string }
		}
		if err := json.Unmarshal(ans.body, &e); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		for _, f := range e.Files {
			kept, _, _ := strings.Cut(f.Bytes, ":")
			again, _, _ := strings.Cut(f.Rendered, ":")
			bytes[kept]++
			rendered[again]++
			if kept == "changed" || kept == "missing" {
				wrong = append(wrong, fmt.Sprintf("%s of %s: bytes %s", f.Path, id, f.Bytes))
			}
		}
	}
	shown["devices"], shown["file_bytes"], shown["files_rendered"] = len(devices), bytes, rendered
	if len(wrong) > 0 {
		shown["files_wrong"] = wrong
		return exitError{exitDamaged, fmt.Errorf("%d files are not what was recorded: %s", len(wrong), wrong[0])}
	}
	return nil
}
