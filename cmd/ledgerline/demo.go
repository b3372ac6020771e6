package main

import (
	"context"
	"crypto/rand"
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
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"ledgerline/domain"
	"ledgerline/tests/phonesim"
)

// demoCmd tells the whole story on a temporary ledger.
func (a *app) demoCmd() *cobra.Command {
	var exit bool
	var store string
	cmd := &cobra.Command{Use: "demo", Short: "The whole story on a temporary ledger: one tenant, six simulated phones that boot, redeem codes, fetch and re-fetch", Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&exit, "exit", false, "end when the story is told; else stay, to be looked at")
	cmd.Flags().StringVar(&store, "store", "ledger", "where events stand: ledger, or esdb://HOST:PORT?tls=… of an empty EventStoreDB (ledgerline esdb --write is one)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := os.MkdirTemp("", "ledgerline-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		cfg, err := demoConfig(dir, store, a.getenv("LEDGERLINE_STORE_CREDENTIALS"))
		if err != nil {
			return err
		}
		d := &demo{app: a, dir: dir, out: a.out}
		if a.output == "json" {
			d.out = io.Discard
		}
		return d.run(cmd.Context(), cfg, exit)
	}
	return cmd
}

// demoConfig is the default configuration on free loopback ports.
func demoConfig(dir, store, credentials string) (Config, error) {
	cmd := &cobra.Command{}
	(&Config{}).flags(cmd.Flags())
	values := map[string]string{"data": dir, "admin": "127.0.0.1:0", "phones": "127.0.0.1:0", "tftp": "127.0.0.1:0", "ops": "127.0.0.1:0", "store": store}
	if store != "ledger" {
		key := make([]byte, 32)
		rand.Read(key)
		values["master-key-file"] = filepath.Join(dir, "master.key")
		if err := os.WriteFile(values["master-key-file"], key, 0o600); err != nil {
			return Config{}, err
		}
	}
	for key, value := range values {
		if err := cmd.Flags().Set(key, value); err != nil {
			return Config{}, err
		}
	}
	return loadConfig(cmd.Flags(), func(name string) string {
		if name == "LEDGERLINE_STORE_CREDENTIALS" {
			return credentials
		}
		return ""
	})
}

// demo is one telling of the story.
type demo struct {
	app    *app
	dir    string
	out    io.Writer
	engine *engine
	at     addresses
	phones []*actor
	tenant string
}

// actor is one simulated phone with the person it is for.
type actor struct {
	config phonesim.Config
	phone  *phonesim.Phone
	person string
	number string
	user   string
	code   string
	last   phonesim.Result
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// run starts the server, tells the story, and ends the server again.
func (d *demo) run(ctx context.Context, cfg Config, exit bool) error {
	logs, err := os.Create(filepath.Join(d.dir, "server.log"))
	if err != nil {
		return err
	}
	defer logs.Close()
	serving, stop := context.WithCancel(zerolog.New(logs).With().Timestamp().Logger().WithContext(ctx))
	defer stop()
	ready := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- serve(serving, cfg, func(e *engine, at addresses) {
			d.engine, d.at = e, at
			close(ready)
		})
	}()
	select {
	case <-ready:
	case err := <-done:
		return errors.Join(errors.New("the server did not start"), err)
	}
	defer func() {
		for _, p := range d.phones {
			p.phone.Close()
		}
	}()
	err = d.tell(ctx)
	if err == nil && !exit && ctx.Err() == nil {
		d.whereNext()
		<-ctx.Done()
	}
	stop()
	return errors.Join(err, <-done)
}

// tell is the story, scene by scene.
func (d *demo) tell(ctx context.Context) error {
	d.app.server, d.app.tokenFile = "http://"+d.at.admin, filepath.Join(d.dir, "admin.token")
	for _, scene := range []func(context.Context) error{d.peopleAndPhones, d.unknownPhones, d.redeem, d.sharedChange, d.oneTimeline, d.verify} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// post makes something over the API, as a program would, and answers its id.
func (d *demo) post(ctx context.Context, path string, body map[string]any) (map[string]any, error) {
	ans, err := d.app.call(ctx, http.MethodPost, path, nil, body)
	if err != nil {
		return nil, fmt.Errorf("POST %s: %w", path, err)
	}
	var v map[string]any
	if err := json.Unmarshal(ans.body, &v); err != nil {
		return nil, fmt.Errorf("POST %s: %w", path, err)
	}
	return v, nil
}

// cast are the phones: three vendors, two of each, some over TFTP.
var cast = []struct {
	vendor, transport, category, person, number string
}{
	{"yealink", "http", "desk", "Ada Lovelace", "201"},
	{"yealink", "tftp", "desk", "Grace Hopper", "202"},
	{"snom", "http", "desk", "Emile Berliner", "203"},
	{"snom", "http", "lobby", "Lobby North", "204"},
	{"grandstream", "http", "desk", "Antonio Meucci", "205"},
	{"grandstream", "tftp", "lobby", "Lobby South", "206"},
}

// peopleAndPhones makes a tenant, its categories, and users with lines and codes.
func (d *demo) peopleAndPhones(ctx context.Context) error {
	d.say("Engine is up: API http://%s, phones http://%s and tftp://%s.\n", d.at.admin, d.at.phones, d.at.tftp)
	t, err := d.post(ctx, "/tenants", map[string]any{"name": "Example Ltd", "domain": "example.com"})
	if err != nil {
		return err
	}
	d.tenant = fmt.Sprint(t["id"])
	if _, err := d.post(ctx, "/layers", map[string]any{"id": domain.TenantLayer(domain.TenantID(d.tenant)), "tenant_id": d.tenant, "name": "all phones of Example Ltd",
		"settings": map[string]any{"sip_proxy_ip": "pbx.example.com", "sip_registrar_ip": "pbx.example.com", "timezone": "Europe/Berlin", "ntp_enabled": true, "ntp_ip": "192.0.2.123", "locale": "de_DE"}}); err != nil {
		return err
	}
	categories := map[string]string{}
	for name, settings := range map[string]map[string]any{
		"desk":  {"exten_voicemail": "*98", "sip_subscribe_mwi": true},
		"lobby": {"funckeys": map[string]any{"1": map[string]any{"type": "speeddial", "value": "200", "label": "Reception"}}},
	} {
		if _, err := d.post(ctx, "/layers", map[string]any{"id": "example." + name, "tenant_id": d.tenant, "name": name + " phones", "settings": settings}); err != nil {
			return err
		}
		c, err := d.post(ctx, "/categories", map[string]any{"tenant_id": d.tenant, "name": name, "kind": "provisioning", "layer_id": "example." + name})
		if err != nil {
			return err
		}
		categories[name] = fmt.Sprint(c["id"])
	}
	d.say("Tenant Example Ltd with the categories desk and lobby. Six people (and lobbies) get a line and a code:")
	seeds := map[string]int{}
	for _, c := range cast {
		user, err := d.post(ctx, "/users", map[string]any{"tenant_id": d.tenant, "display_name": c.person})
		if err != nil {
			return err
		}
		p := &actor{person: c.person, number: c.number, user: fmt.Sprint(user["id"])}
		if _, err := d.post(ctx, "/lines", map[string]any{"tenant_id": d.tenant, "user_id": p.user, "number": c.number, "username": "example" + c.number, "password": "demo-" + c.number + "-Kx9w"}); err != nil {
			return err
		}
		code, err := d.post(ctx, "/codes", map[string]any{"tenant_id": d.tenant, "category_id": categories[c.category], "user_id": p.user, "purpose": "self_service"})
		if err != nil {
			return err
		}
		p.code = fmt.Sprint(code["code"])
		fleet, err := phonesim.Fleet(seeds[c.vendor]+1, c.vendor, 7)
		if err != nil {
			return err
		}
		p.config = fleet[seeds[c.vendor]]
		seeds[c.vendor]++
		p.config.Server = "http://" + d.at.phones + "/"
		if c.transport == "tftp" {
			p.config.Server = "tftp://" + d.at.tftp + "/"
		}
		if p.phone, err = phonesim.New(p.config); err != nil {
			return err
		}
		d.phones = append(d.phones, p)
		d.say("  %-15s line %s   code %s", c.person, c.number, groups(p.code))
	}
	return nil
}

// groups writes digits the way people read them: 1234 5678 9012.
func groups(code string) string {
	var b strings.Builder
	for i, c := range code {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// unknownPhones plugs the phones in: nobody has told the engine about them.
func (d *demo) unknownPhones(ctx context.Context) error {
	d.say("\nSix phones are plugged in. Nobody has announced them; each gets a working file without an account:")
	for _, p := range d.phones {
		var err error
		if p.last, err = p.phone.Boot(ctx); err != nil {
			return fmt.Errorf("%s boots: %w", p.phone.MAC(), err)
		}
		if p.phone.State() != phonesim.Unconfigured {
			return fmt.Errorf("%s is %s before its code was entered", p.phone.MAC(), p.phone.State())
		}
		d.sayPhone(p)
	}
	return nil
}

func (d *demo) sayPhone(p *actor) {
	vendor, model := p.phone.Vendor()
	var files []string
	for _, f := range p.last.Files {
		if f.Found() && !slices.Contains(files, f.Name) {
			files = append(files, f.Name)
		}
	}
	account := ""
	for _, acc := range p.last.Parsed.Accounts {
		if acc.Enabled {
			account = acc.UserName + "@" + acc.Server
		}
	}
	d.say("  %s %-11s %-8s %-4s %-12s %s %s", p.phone.MAC(), vendor, model.Name, scheme(p.config.Server), p.phone.State(), strings.Join(files, " "), account)
}

func scheme(u string) string { s, _, _ := strings.Cut(u, "://"); return s }

// redeem types the codes in.
func (d *demo) redeem(ctx context.Context) error {
	d.say("\nThe codes are typed in. Each phone becomes its user's, with the line in its file:")
	for _, p := range d.phones {
		var err error
		if p.last, err = p.phone.Redeem(ctx, p.code); err != nil {
			return fmt.Errorf("%s redeems: %w", p.phone.MAC(), err)
		}
		if p.phone.State() != phonesim.Configured {
			return fmt.Errorf("%s is %s after its code was entered", p.phone.MAC(), p.phone.State())
		}
		if problems := p.last.Parsed.Problems; len(problems) > 0 {
			return fmt.Errorf("%s finds fault with its files: %v", p.phone.MAC(), problems)
		}
		d.sayPhone(p)
	}
	return nil
}

// sharedChange moves the whole tenant to another time zone and lets the phones fetch again.
func (d *demo) sharedChange(ctx context.Context) error {
	d.say("\nOne setting that all share is changed: the time zone becomes America/New_York. The phones fetch again:")
	layer := "/layers/" + url.PathEscape(string(domain.TenantLayer(domain.TenantID(d.tenant))))
	ans, err := d.app.call(ctx, http.MethodGet, layer, nil, nil)
	if err != nil {
		return err
	}
	var now map[string]any
	if err := json.Unmarshal(ans.body, &now); err != nil {
		return err
	}
	settings, _ := now["settings"].(map[string]any)
	if settings == nil {
		return errors.New("the layer has no settings")
	}
	settings["timezone"], settings["locale"] = "America/New_York", "en_US"
	ans, err = d.app.call(ctx, http.MethodPut, layer, nil, map[string]any{"name": now["name"], "settings": settings}, "If-Match", ans.header.Get("ETag"))
	if err != nil {
		return err
	}
	// From here on every phone that asks gets new files, whether the sweep has come to it or not.
	if _, err := d.app.call(ctx, http.MethodGet, layer, url.Values{"min_position": {ans.header.Get("Ledger-Position")}}, nil); err != nil {
		return err
	}
	for _, p := range d.phones {
		if p.last, err = p.phone.Poll(ctx); err != nil {
			return fmt.Errorf("%s fetches again: %w", p.phone.MAC(), err)
		}
		if !p.last.Changed {
			return fmt.Errorf("%s fetched nothing new after the change", p.phone.MAC())
		}
		d.sayPhone(p)
	}
	return nil
}

// oneTimeline prints what is known of the first phone.
func (d *demo) oneTimeline(ctx context.Context) error {
	mac := string(d.phones[0].phone.MAC())
	d.say("\nThe whole story of phone %s, as an auditor reads it:", mac)
	settle, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	at, err := d.engine.reactor.Settle(settle)
	if err != nil {
		return fmt.Errorf("wait for the reactions: %w", err)
	}
	if err := d.engine.runner.WaitFor(settle, at); err != nil {
		return fmt.Errorf("wait for the views: %w", err)
	}
	items, err := d.app.list(ctx, "/devices/"+mac+"/history", nil, 0)
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return errors.New("the timeline is empty")
	}
	told := *d.app
	told.out, told.output = d.out, "table"
	return told.printTimeline(items)
}

// verify recomputes the chain, or on another store the Merkle tree's leaves, and prints the end of the story.
func (d *demo) verify(ctx context.Context) error {
	events := 0
	if d.engine.ledger != nil {
		report, err := d.engine.ledger.Verify(ctx, domain.Position{})
		if err != nil {
			return damaged(err)
		}
		events = report.Events
		d.say("\n%d events, hash chain verified up to %x.", report.Events, report.Chain[:8])
	} else {
		sum, err := leavesOf(ctx, d.engine.log)
		if err != nil {
			return err
		}
		events = sum.events
		d.say("\n%d events, their leaf hashes come to %x.", sum.events, sum.digest[:8])
	}
	if d.app.output != "json" {
		return nil
	}
	phones := make([]simulated, len(d.phones))
	for i, p := range d.phones {
		phones[i] = describe(p.phone, p.config, p.last, nil)
	}
	return d.app.printValue(map[string]any{"phones": phones, "events": events, "verified": d.engine.ledger != nil})
}

// whereNext tells what can be looked at while the engine stays up.
func (d *demo) whereNext() {
	table := ""
	if d.engine.ledger != nil {
		table = "\n  sqlite3 " + filepath.Join(d.dir, "ledger.db") + " 'select position, stream, type, data from events'"
	}
	d.say(`
The engine stays up until you press Ctrl-C. To look around:
  export LEDGERLINE_SERVER=http://%s LEDGERLINE_TOKEN_FILE=%s
  ledgerline device list
  ledgerline device why %s
  ledgerline explain --device %s timezone
  ledgerline audit timeline %s%s
  API description: http://%s/docs    metrics: http://%s/metrics`,
		d.at.admin, filepath.Join(d.dir, "admin.token"), d.phones[0].phone.MAC(), d.phones[0].phone.MAC(), d.phones[0].phone.MAC(), table, d.at.admin, d.at.ops)
}
