package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// field is one member of a request body, given by a flag of the same name with dashes.
type field struct {
	name string // JSON name, dotted for a member of a member
	kind string // text, list, int, bool, file (text from a file, "-" for standard input, without the line end behind it), content (the same, as it is), json (a file with JSON), settings
	help string
}

// flag is the name of its flag: of a member of a member, the last part.
func (f field) flag() string {
	return strings.ReplaceAll(f.name[strings.LastIndexByte(f.name, '.')+1:], "_", "-")
}

// noun is one kind of resource and the verbs every noun has. Further verbs are added behind.
type noun struct {
	name, path string
	short      string
	columns    []string
	filters    []string // query parameters of the list
	create     []field
	createVerb string // default "create"
	amend      []field
	deleteVerb string // default "delete"
	history    bool
}

var nouns = []noun{
	{name: "tenant", path: "/tenants", short: "Tenants", columns: []string{"id", "name", "domain", "state"}, filters: []string{"text"},
		create:  []field{{"id", "text", "id to use instead of a new one"}, {"name", "text", "name shown"}, {"domain", "text", "domain name, unique"}},
		amend:   []field{{"name", "text", "name shown"}},
		history: true},
	{name: "category", path: "/categories", short: "Categories of devices", columns: []string{"id", "tenant_id", "name", "kind", "layer_id", "state"},
		filters:    []string{"tenant", "text"},
		create:     append([]field{{"id", "text", "id to use instead of a new one"}, {"tenant_id", "text", "tenant"}}, categoryFields...),
		createVerb: "define", amend: categoryFields, deleteVerb: "retire", history: true},
	{name: "code", path: "/codes", short: "Provisioning codes", columns: []string{"id", "tenant_id", "category_id", "purpose", "state", "valid_until", "redeemed_by"},
		filters: []string{"tenant", "category", "user", "state", "purpose"},
		create: []field{{"tenant_id", "text", "tenant"}, {"category_id", "text", "category"}, {"user_id", "text", "user whose lines the phone gets"},
			{"purpose", "text", "self_service, rollout or administrative"}, {"mac", "text", "the only phone that may redeem it"}},
		createVerb: "issue", deleteVerb: "revoke", history: true},
	{name: "device", path: "/devices", short: "Phones, gateways and bases", columns: []string{"id", "mac", "vendor", "model", "firmware", "tenant_id", "state", "delivered_at"},
		filters: []string{"tenant", "state", "category", "user", "line", "mac", "vendor", "model", "plugin", "text"},
		create: []field{{"mac", "text", "MAC address"}, {"id", "text", "id of a device without a MAC"}, {"vendor", "text", "vendor"}, {"model", "text", "model"},
			{"plugin", "text", "plugin that serves it"}, {"tenant_id", "text", "tenant"}, {"category_id", "text", "category"}, {"user_id", "text", "user"}},
		history: true},
	{name: "user", path: "/users", short: "Users", columns: []string{"id", "tenant_id", "display_name", "email", "state"}, filters: []string{"tenant", "text"},
		create: append([]field{{"id", "text", "id to use instead of a new one"}, {"tenant_id", "text", "tenant"}}, userFields...), createVerb: "define",
		amend: userFields, deleteVerb: "remove", history: true},
	{name: "line", path: "/lines", short: "SIP accounts", columns: []string{"id", "tenant_id", "user_id", "number", "username", "display_name", "state"},
		filters: []string{"tenant", "user", "device", "text"},
		create: append([]field{{"id", "text", "id to use instead of a new one"}, {"tenant_id", "text", "tenant"}, {"user_id", "text", "user"},
			{"password", "file", "file with the SIP password, - for standard input"}}, lineFields...), createVerb: "define",
		amend: lineFields, deleteVerb: "remove", history: true},
	{name: "layer", path: "/layers", short: "Bundles of settings", columns: []string{"id", "tenant_id", "name", "parents", "state"}, filters: []string{"tenant", "text"},
		create: append([]field{{"id", "text", "id to use instead of a new one"}, {"tenant_id", "text", "tenant"}}, layerFields...), createVerb: "define",
		amend: layerFields, deleteVerb: "remove", history: true},
	{name: "cloudid", path: "/cloudids", short: "Cloud IDs of Cloud Softphone", columns: []string{"id", "tenant_id", "fail_closed", "state"}, filters: []string{"tenant", "text"},
		create: append([]field{{"id", "text", "as the vendor's portal shows it"}, {"tenant_id", "text", "tenant"}}, cloudFields...), createVerb: "define",
		amend: cloudFields, deleteVerb: "remove", history: true},
	{name: "softphone", path: "/softphones", short: "Users' Cloud Softphones", columns: []string{"id", "tenant_id", "cloud_id", "username", "line_id", "has_password", "state"},
		filters: []string{"tenant", "user", "cloud_id", "text"},
		create: append([]field{{"id", "text", "id to use instead of a new one"}, {"tenant_id", "text", "tenant"}, {"cloud_id", "text", "cloud ID"}, {"user_id", "text", "user; the line's when absent"},
			{"username", "text", "what is typed into the app"}}, softphoneFields...), createVerb: "define",
		amend: softphoneFields, deleteVerb: "remove", history: true},
	{name: "job", path: "/jobs", short: "Jobs of software and configuration", columns: []string{"id", "tenant_id", "type", "name", "categories", "state", "sequence"},
		filters: []string{"tenant", "type", "text"},
		create:  append([]field{{"tenant_id", "text", "tenant"}, {"type", "text", "software, NTP, MEDIA, PHONE, FXS_PHONE, TLS_PROFILE, ALARM_SERVER or EXPERT"}}, jobFields...),
		amend:   jobFields, deleteVerb: "cancel", history: true},
	{name: "apikey", path: "/apikeys", short: "API keys", columns: []string{"id", "name", "role", "tenants", "expires_at", "state"}, filters: []string{"text"},
		create: []field{{"name", "text", "what the key is for"}, {"role", "text", "admin, operator, auditor, helpdesk or user"},
			{"tenants", "list", "tenants it is bound to; none means all"}, {"user_id", "text", "user whose phones a key of role user sees"},
			{"expires_at", "text", "end of its validity, RFC 3339"}},
		createVerb: "issue", deleteVerb: "revoke"},
}

var (
	categoryFields = []field{{"name", "text", "name shown"}, {"kind", "text", "provisioning (codes may lead here) or plain"}, {"plugin", "text", "the only plugin allowed"},
		{"models", "list", "the only models allowed"}, {"layer_id", "text", "layer with the settings of its devices"}, {"phone_app", "text", "app of the user's phone"}}
	userFields = []field{{"display_name", "text", "name shown"}, {"email", "text", "e-mail address"}}
	lineFields = []field{{"number", "text", "directory number"}, {"display_name", "text", "name shown"}, {"username", "text", "SIP user name"},
		{"auth_username", "text", "authentication name, if it differs"}, {"settings", "settings", "JSON file with further keys of a sip_lines entry"}}
	cloudFields = []field{{"document", "settings", "JSON file with nodes, quick_dials and dial_actions for all apps"}, {"fail_closed", "bool", "a sign-in fails while quick dials cannot be told"},
		{"policy", "json", "JSON file with the policy for all documents below it"}}
	softphoneFields = []field{{"line_id", "text", "line whose account the app gets"}, {"category_id", "text", "category whose softphone document it gets as well"}, {"document", "settings", "JSON file with nodes, quick_dials and dial_actions of this user"}}
	layerFields     = []field{{"name", "text", "name shown"}, {"parents", "list", "layers merged first"}, {"settings", "settings", "JSON file with settings"}}
	jobFields       = []field{{"name", "text", "name shown"}, {"categories", "list", "whose devices it is for; none: all of the tenant"}, {"release", "text", "of software: a version of the catalogue"},
		{"catalogue", "content", "of software: file with the catalogue, firmware.json"}, {"base_url", "text", "of software for innovaphone devices: where builds lie"},
		{"parameters", "settings", "JSON file with the type's parameters"}, {"parameters.script", "content", "of EXPERT: file with the script, - for standard input"}}
)

// nounCmds makes the commands of all nouns.
func (a *app) nounCmds() []*cobra.Command {
	var cmds []*cobra.Command
	for _, n := range append(slices.Clip(nouns), gatewayNouns...) {
		cmds = append(cmds, a.nounCmd(n))
	}
	return append(cmds, a.sipUserCmd())
}

func (a *app) nounCmd(n noun) *cobra.Command {
	cmd := &cobra.Command{Use: n.name, Short: n.short}
	cmd.PersistentFlags().StringVar(&a.reason, "reason", "", "why, for the record")
	cmd.PersistentFlags().BoolVar(&a.dryRun, "dry-run", false, "show what would be recorded and which files would change, record nothing")
	cmd.AddCommand(a.listCmd(n), a.showCmd(n), a.createCmd(n))
	if n.amend != nil {
		cmd.AddCommand(a.amendCmd(n))
	}
	verb := n.deleteVerb
	if verb == "" {
		verb = "delete"
	}
	cmd.AddCommand(a.action(verb+" ID", capital(verb)+" it", http.MethodDelete, 1, nil, func(args []string) string { return n.path + "/" + url.PathEscape(args[0]) }))
	if n.history {
		cmd.AddCommand(a.historyCmd(n))
	}
	cmd.AddCommand(a.extraVerbs(n)...)
	return cmd
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (a *app) listCmd(n noun) *cobra.Command {
	var limit int
	var asOf string
	cmd := &cobra.Command{Use: "list", Short: "List them", Args: cobra.NoArgs}
	cmd.Flags().IntVar(&limit, "limit", 0, "at most so many; 0 for all")
	cmd.Flags().StringVar(&asOf, "as-of", "", "as they stood at this time (RFC 3339) or log position")
	for _, f := range n.filters {
		cmd.Flags().String(f, "", "only those with this "+f)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q := url.Values{}
		if asOf != "" {
			q.Set("as_of", asOf)
		}
		for _, f := range n.filters {
			if v, _ := cmd.Flags().GetString(f); v != "" {
				q.Set(f, v)
			}
		}
		items, err := a.list(cmd.Context(), n.path, q, limit)
		if err != nil {
			return err
		}
		return a.printList(items, n.columns)
	}
	return cmd
}

func (a *app) showCmd(n noun) *cobra.Command {
	var asOf string
	cmd := &cobra.Command{Use: "show ID", Short: "Show one", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&asOf, "as-of", "", "as it stood at this time (RFC 3339) or log position")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := url.Values{}
		if asOf != "" {
			q.Set("as_of", asOf)
		}
		ans, err := a.call(cmd.Context(), http.MethodGet, n.path+"/"+url.PathEscape(args[0]), q, nil)
		if err != nil {
			return err
		}
		return a.printJSON(ans.body)
	}
	return cmd
}

func (a *app) createCmd(n noun) *cobra.Command {
	verb := n.createVerb
	if verb == "" {
		verb = "create"
	}
	cmd := &cobra.Command{Use: verb, Short: capital(verb) + " one", Args: cobra.NoArgs}
	declare(cmd.Flags(), n.create)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		body := map[string]any{}
		if n.name == "layer" {
			body["settings"] = map[string]any{} // an empty layer is one to be filled later
		}
		if err := a.fill(body, cmd.Flags(), n.create); err != nil {
			return err
		}
		return a.send(cmd, http.MethodPost, n.path, body)
	}
	return cmd
}

// amendCmd changes the members given and keeps the others: it reads, changes, and writes at the revision it read.
func (a *app) amendCmd(n noun) *cobra.Command {
	cmd := &cobra.Command{Use: "amend ID", Short: "Change what the flags name", Args: cobra.ExactArgs(1)}
	declare(cmd.Flags(), n.amend)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := n.path + "/" + url.PathEscape(args[0])
		return a.change(cmd, path, path, n.amend)
	}
	return cmd
}

// change reads the resource at get, lays the flags over the fields, and puts them to put.
func (a *app) change(cmd *cobra.Command, get, put string, fields []field) error {
	ans, err := a.call(cmd.Context(), http.MethodGet, get, nil, nil)
	if err != nil {
		return err
	}
	var now map[string]any
	if err := json.Unmarshal(ans.body, &now); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	body := map[string]any{}
	for _, f := range fields {
		if v, ok := now[f.name]; ok && v != nil {
			body[f.name] = v
		}
	}
	if err := a.fill(body, cmd.Flags(), fields); err != nil {
		return err
	}
	return a.send(cmd, http.MethodPut, put, body, "If-Match", ans.header.Get("ETag"))
}

// send makes a change and prints the answer; a dry run prints the plan.
func (a *app) send(cmd *cobra.Command, method, path string, body any, headers ...string) error {
	ans, err := a.call(cmd.Context(), method, path, nil, body, headers...)
	if err != nil {
		return err
	}
	if a.dryRun && a.output == "table" {
		return a.printPlan(ans.body)
	}
	if len(ans.body) == 0 {
		fmt.Fprintln(a.errOut, "done, position", ans.header.Get("Ledger-Position"))
		return nil
	}
	return a.printJSON(ans.body)
}

// action is a verb that takes its arguments in the path and its fields as flags.
func (a *app) action(use, short, method string, nargs int, fields []field, path func(args []string) string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(nargs)}
	declare(cmd.Flags(), fields)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var body map[string]any
		if method != http.MethodDelete && method != http.MethodGet {
			body = map[string]any{}
			if err := a.fill(body, cmd.Flags(), fields); err != nil {
				return err
			}
		}
		if body == nil {
			return a.send(cmd, method, path(args), nil)
		}
		return a.send(cmd, method, path(args), body)
	}
	return cmd
}

func declare(fs *pflag.FlagSet, fields []field) {
	for _, f := range fields {
		name := f.flag()
		switch f.kind {
		case "list":
			fs.StringSlice(name, nil, f.help)
		case "int":
			fs.Int(name, 0, f.help)
		case "bool":
			fs.Bool(name, false, f.help)
		case "file", "content":
			fs.String(name+"-file", "", f.help)
		case "settings":
			fs.String(name, "", f.help)
			fs.StringArray("set", nil, "one setting as dotted.key=value; value is JSON, or else text")
			fs.StringArray("unset", nil, "take one setting away, by its dotted key")
		default:
			fs.String(name, "", f.help)
		}
	}
}

// fill puts the flags that were given into body.
func (a *app) fill(body map[string]any, fs *pflag.FlagSet, fields []field) error {
	for _, f := range fields {
		name := f.flag()
		switch f.kind {
		case "list":
			if fs.Changed(name) {
				v, _ := fs.GetStringSlice(name)
				body[f.name] = v
			}
		case "bool":
			if v, _ := fs.GetBool(name); v {
				body[f.name] = true
			}
		case "int":
			if fs.Changed(name) {
				v, _ := fs.GetInt(name)
				body[f.name] = v
			}
		case "file", "content":
			if path, _ := fs.GetString(name + "-file"); path != "" {
				b, err := a.readFile(path)
				if err != nil {
					return err
				}
				text := string(b)
				if f.kind == "file" {
					text = strings.TrimRight(text, "\r\n")
				}
				place(body, strings.Split(f.name, "."), text)
			}
		case "json":
			if path, _ := fs.GetString(name); path != "" {
				b, err := a.readFile(path)
				if err != nil {
					return err
				}
				if !json.Valid(b) {
					return usageError("%s is no JSON", path)
				}
				body[f.name] = json.RawMessage(b)
			}
		case "settings":
			if err := a.fillSettings(body, fs, name, f.name); err != nil {
				return err
			}
		default:
			if fs.Changed(name) {
				body[f.name], _ = fs.GetString(name)
			}
		}
	}
	return nil
}

// fillSettings lays a file, then --set and --unset, over the settings in body.
func (a *app) fillSettings(body map[string]any, fs *pflag.FlagSet, flag, member string) error {
	settings, _ := body[member].(map[string]any)
	if settings == nil {
		settings = map[string]any{}
	}
	if path, _ := fs.GetString(flag); path != "" {
		b, err := a.readFile(path)
		if err != nil {
			return err
		}
		settings = map[string]any{}
		if err := json.Unmarshal(b, &settings); err != nil {
			return usageError("%s: %w", path, err)
		}
	}
	sets, _ := fs.GetStringArray("set")
	for _, s := range sets {
		key, text, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return usageError("--set wants dotted.key=value, not %q", s)
		}
		var v any
		if json.Unmarshal([]byte(text), &v) != nil {
			v = text
		}
		place(settings, strings.Split(key, "."), v)
	}
	unsets, _ := fs.GetStringArray("unset")
	for _, key := range unsets {
		place(settings, strings.Split(key, "."), nil)
	}
	if len(settings) > 0 || len(unsets) > 0 || body[member] != nil {
		body[member] = settings
	}
	return nil
}

// place puts v at a path of objects, making those in between; nil takes the member away.
func place(tree map[string]any, path []string, v any) {
	for _, p := range path[:len(path)-1] {
		next, ok := tree[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			tree[p] = next
		}
		tree = next
	}
	last := path[len(path)-1]
	if v == nil {
		delete(tree, last)
		return
	}
	tree[last] = v
}

func (a *app) historyCmd(n noun) *cobra.Command {
	cmd := &cobra.Command{Use: "history ID", Short: "Everything that happened to it, oldest first", Args: cobra.ExactArgs(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		items, err := a.list(cmd.Context(), n.path+"/"+url.PathEscape(args[0])+"/history", nil, 0)
		if err != nil {
			return err
		}
		return a.printTimeline(items)
	}
	return cmd
}

// printTimeline prints events: time, what, who, why, and the facts on one line.
func (a *app) printTimeline(items []map[string]any) error {
	if a.output == "json" || a.output == "yaml" {
		return a.printList(items, nil)
	}
	rows := make([]map[string]any, len(items))
	for i, it := range items {
		meta, _ := it["metadata"].(map[string]any)
		if a.output == "csv" { // what a spreadsheet can sort by stands beside the event, not within it
			it["at"], it["actor"], it["reason"], it["request_id"] = meta["recorded_at"], meta["actor"], meta["reason"], meta["request_id"]
			continue
		}
		row := map[string]any{"position": it["position"], "event": it["type"], "facts": summary(it["data"])}
		row["at"], row["actor"] = meta["recorded_at"], meta["actor"]
		if reason, _ := meta["reason"].(string); reason != "" {
			row["facts"] = fmt.Sprintf("%s (%s)", row["facts"], reason)
		}
		rows[i] = row
	}
	if a.output == "csv" {
		return a.printList(items, []string{"position", "at", "type", "actor", "reason", "request_id", "stream", "revision", "data"})
	}
	return a.printList(rows, []string{"position", "at", "event", "actor", "facts"})
}

// summary is the short members of a payload on one line, without times, which stand before it.
func summary(data any) string {
	m, _ := data.(map[string]any)
	var parts []string
	for _, k := range sortedKeys(m) {
		switch v := m[k].(type) {
		case string:
			if len(v) <= 48 && !strings.HasSuffix(k, "_hash") && !strings.HasSuffix(k, "_at") {
				parts = append(parts, k+"="+v)
			}
		case bool, float64:
			parts = append(parts, k+"="+cell(v))
		case []any:
			parts = append(parts, fmt.Sprintf("%s×%d", k, len(v)))
		}
	}
	text := strings.Join(parts, " ")
	if r := []rune(text); len(r) > 110 {
		return string(r[:109]) + "…"
	}
	return text
}

func (a *app) readFile(path string) ([]byte, error) {
	if path == "-" {
		return readAllLimited(a.in, 4<<20)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, usageError("%w", err)
	}
	return b, nil
}

// extraVerbs are what one noun can do beyond the common verbs.
func (a *app) extraVerbs(n noun) []*cobra.Command {
	below := func(tail string) func([]string) string {
		return func(args []string) string { return n.path + "/" + url.PathEscape(args[0]) + tail }
	}
	post := func(use, short, tail string, fields ...field) *cobra.Command {
		return a.action(use+" ID", short, http.MethodPost, 1, fields, below(tail))
	}
	switch n.name {
	case "tenant":
		return []*cobra.Command{a.action("set-provisioning-key ID", "Let phones fetch below /t/<key>/; without --key-file the key is taken away", http.MethodPut, 1,
			[]field{{"key", "file", "file with the key, - for standard input"}}, below("/provisioning-key")),
			a.action("set-users-key ID", "Let innovaphone Users of its domain log in with this password, of `master` for all domains; without --key-file it is taken away", http.MethodPut, 1,
				[]field{{"key", "file", "file with the password, - for standard input"}, {"domain", "text", "of `master`: the instance's domain name"}}, below("/users-key")),
			post("resume-resyncs", "Tell phones of changes again, after too many failures stopped it", "/resume-resyncs")}
	case "code":
		return []*cobra.Command{a.action("redeem", "Redeem a code for a phone", http.MethodPost, 0,
			[]field{{"code", "file", "file with the code, - for standard input"}, {"mac", "text", "the phone"}, {"confirm", "bool", "vouch for the phone: wrong codes are not counted, and a spent budget does not matter (admin, operator)"}}, func([]string) string { return "/codes/redeem" })}
	case "category":
		return append(a.categorySoftphoneCmds(), a.tokenCmd())
	case "token":
		return []*cobra.Command{post("rotate", "Have a new token follow it; for a while both are good", "/rotate",
			field{"overlap_hours", "int", "how long the old one is still good"}, field{"expires_at", "text", "end of the new one, RFC 3339"})}
	case "line":
		return append(a.lineRemoteVerbs(), post("set-extension", "Give it a number to dial on a new phone; drawn without --extension", "/provisioning-extension", field{"extension", "text", "4 to 12 digits"}),
			a.action("show-extension ID", "Show its number to dial on a new phone", http.MethodGet, 1, nil, below("/provisioning-extension")),
			a.action("drop-extension ID", "Take its number to dial away", http.MethodDelete, 1, nil, below("/provisioning-extension")),
			post("rotate", "Give it a new SIP password", "/rotate", field{"password", "file", "file with the password, - for standard input"}))
	case "job":
		return a.jobVerbs(n)
	case "gateway":
		return a.gatewayVerbs()
	case "softphone":
		return append(a.softphoneVerbs(),
			a.action("set-password ID", "Set the password its user signs in with", http.MethodPut, 1, []field{{"password", "file", "file with the password, - for standard input"}}, below("/password")),
			post("issue-code", "Issue a code that lets its user sign in once", "/code"),
			a.softphoneQRCmd(), a.definitionsCmd(),
			post("sign-out", "Sign its apps out, or one of them", "/sign-out", field{"app", "text", "id of the app"}))
	case "device":
		configure := &cobra.Command{Use: "configure ID", Short: "Set its own settings and layers; what the flags do not name stays", Args: cobra.ExactArgs(1)}
		fields := []field{{"parents", "list", "layers between the category's and its own settings"}, {"settings", "settings", "JSON file with settings"}, {"description", "text", "what it is"}}
		declare(configure.Flags(), fields)
		configure.RunE = func(cmd *cobra.Command, args []string) error {
			path := n.path + "/" + url.PathEscape(args[0])
			return a.change(cmd, path, path+"/config", fields)
		}
		replace := &cobra.Command{Use: "replace OLD NEW", Short: "Put the phone with MAC NEW in the place of the broken OLD: same lines, keys and layers", Args: cobra.ExactArgs(2)}
		replace.RunE = func(cmd *cobra.Command, args []string) error {
			return a.send(cmd, http.MethodPost, n.path+"/"+url.PathEscape(args[0])+"/replace", map[string]any{"mac": args[1]})
		}
		addLine := &cobra.Command{Use: "add-line ID LINE [POSITION]", Short: "Put a line on it, at the first free position or the one given", Args: cobra.RangeArgs(2, 3)}
		addLine.RunE = func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"line_id": args[1]}
			if len(args) == 3 {
				p, err := strconv.Atoi(args[2])
				if err != nil {
					return usageError("POSITION must be a number")
				}
				body["position"] = p
			}
			return a.send(cmd, http.MethodPost, n.path+"/"+url.PathEscape(args[0])+"/lines", body)
		}
		dropLine := a.action("drop-line ID LINE", "Take a line off it", http.MethodDelete, 2, nil,
			func(args []string) string {
				return n.path + "/" + url.PathEscape(args[0]) + "/lines/" + url.PathEscape(args[1])
			})
		return []*cobra.Command{a.placeCmd(), configure, replace, addLine, dropLine, a.whyCmd(), a.filesCmd(), a.backupsCmd(), a.showBackupCmd(),
			post("assign", "Give it to a tenant, category and user", "/assign", field{"tenant_id", "text", "tenant"}, field{"category_id", "text", "category"}, field{"user_id", "text", "user"}),
			post("reset", "Back to the unconfigured state, within its tenant", "/reset"),
			post("reopen", "Let it fetch by its MAC alone again, from trusted networks", "/reopen"),
			post("code-form", "Ask the connected phone to show the form for a provisioning code again (innovaphone)", "/code-form"),
			a.pageCmd(),
			post("regenerate", "Make its files anew now", "/regenerate"),
			post("sync", "Ask it to fetch its files again; show tells what came of it", "/sync", field{"reboot", "bool", "restart it as well"}),
			post("move", "End its life here and begin the next one in another tenant", "/move", field{"tenant_id", "text", "the other tenant"}),
		}
	}
	return nil
}
