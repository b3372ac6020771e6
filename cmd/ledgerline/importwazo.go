package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ledgerline/adapters/plugins"
	"ledgerline/adapters/provd"
)

// importWazoCmd brings in what a wazo-provd has stored.
func (a *app) importWazoCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "wazo DIR", Short: "Devices, configs, parameters and tenants of a wazo-provd", Args: cobra.ExactArgs(1),
		Long: `DIR is wazo-provd's storage (/var/lib/wazo-provd, or a copy): a folder devices and a folder configs, below it or below its jsondb,
with one JSON document a file, and the file of parameters (app.json). Documents keep their ids, tenants and unknown keys. A
document that is there already is brought up to date, so that importing again changes nothing, and an import that was cut short is carried on by
importing again. A document that cannot be read or that the server refuses is told in the report and does not stop the others;
the exit status tells then.`}
	var master string
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "read and check every document, change nothing")
	cmd.Flags().StringVar(&master, "master-tenant", "", "UUID of the platform's master tenant; found in devices that are new, if there are any")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		w, err := readWazo(args[0])
		if err != nil {
			return err
		}
		if master != "" {
			w.master = master
		}
		return a.importWazo(cmd.Context(), w)
	}
	return cmd
}

// wazo is a wazo-provd's storage as read.
type wazo struct {
	master  string                    // tenant
	params  map[string]any            // by name, as the interface takes them
	keys    map[string]string         // provisioning keys by tenant
	configs map[string]map[string]any // by id
	devices map[string]map[string]any
	report  wazoReport
}

// wazoReport is what an import came to.
type wazoReport struct {
	DryRun  bool           `json:"dry_run"`
	Configs map[string]int `json:"configs"` // by made, changed, same, refused
	Devices map[string]int `json:"devices"`
	Params  map[string]int `json:"parameters"`
	Tenants int            `json:"tenants"`
	Remarks []wazoRemark   `json:"remarks"`
	mu      sync.Mutex
}

// wazoRemark is something that could not be carried over, or was carried over otherwise.
type wazoRemark struct {
	What   string `json:"what"` // "config base"
	Remark string `json:"remark"`
	Lost   bool   `json:"lost"` // it is not here
}

func (r *wazoReport) note(counts map[string]int, outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts[outcome]++
}

func (r *wazoReport) remark(lost bool, what, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Remarks = append(r.Remarks, wazoRemark{what, fmt.Sprintf(format, args...), lost})
}

// Limits of what is read.
const (
	maxWazoDocument  = 4 << 20
	maxWazoDocuments = 1_000_000
)

// readWazo reads a storage. It reads and nothing else: wazo-provd may still run.
func readWazo(dir string) (*wazo, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	w := &wazo{params: map[string]any{}, keys: map[string]string{}, report: wazoReport{Configs: map[string]int{}, Devices: map[string]int{}, Params: map[string]int{}}}
	found := false
	for kind, into := range map[string]*map[string]map[string]any{"configs": &w.configs, "devices": &w.devices} {
		*into = map[string]map[string]any{}
		for _, below := range []string{".", "jsondb"} {
			has, err := w.readFolder(root.FS(), path.Join(below, kind), kind, *into)
			if err != nil {
				return nil, err
			}
			found = found || has
		}
	}
	if !found {
		return nil, fmt.Errorf("%s has no folder devices or configs, nor has its jsondb", dir)
	}
	for _, name := range []string{"app.json", "jsondb/app.json", "configuration.json", "params.json"} {
		doc, err := readDocument(root.FS(), name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			w.report.remark(true, "file "+name, "cannot be read: %v", err)
			continue
		}
		w.readParams(doc)
	}
	for _, d := range w.devices {
		if tenant, _ := d["tenant_uuid"].(string); d["is_new"] == true && tenant != "" {
			w.master = tenant
		}
	}
	return w, nil
}

// readFolder reads the documents of one kind; has is false when there is no such folder.
func (w *wazo) readFolder(fsys fs.FS, folder, kind string, into map[string]map[string]any) (has bool, err error) {
	entries, err := fs.ReadDir(fsys, folder)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if len(entries) > maxWazoDocuments {
		return true, fmt.Errorf("%s has more than %d documents", folder, maxWazoDocuments)
	}
	for _, e := range entries {
		what := strings.TrimSuffix(kind, "s") + " " + e.Name()
		if !e.Type().IsRegular() {
			w.report.remark(true, what, "is not a file")
			continue
		}
		doc, err := readDocument(fsys, path.Join(folder, e.Name()))
		if err != nil {
			w.report.remark(true, what, "cannot be read: %v", err)
			continue
		}
		id, _ := doc["id"].(string)
		if id == "" {
			id = strings.TrimSuffix(e.Name(), ".json")
		}
		into[id] = doc
	}
	return true, nil
}

func readDocument(fsys fs.FS, name string) (map[string]any, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxWazoDocument+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxWazoDocument {
		return nil, fmt.Errorf("is larger than %d bytes", maxWazoDocument)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("is no JSON object: %w", err)
	}
	if doc == nil {
		return nil, errors.New("is null")
	}
	return doc, nil
}

// readParams reads the file of parameters and tenants' keys.
func (w *wazo) readParams(doc map[string]any) {
	for name, v := range doc {
		switch name {
		case "tenants":
			tenants, _ := v.(map[string]any)
			for tenant, of := range tenants {
				if of, ok := of.(map[string]any); ok {
					if key, ok := of["provisioning_key"].(string); ok && key != "" {
						w.keys[tenant] = key
					} else {
						w.keys[tenant] = ""
					}
				}
			}
		case "plugin_server", "http_proxy", "ftp_proxy", "https_proxy", "locale":
			if text, ok := v.(string); ok && text != "" {
				w.params[name] = text
			}
		case "NAT", "nat":
			if text := fmt.Sprint(v); text == "0" || text == "1" {
				w.params["NAT"] = text
			}
		default:
			w.report.remark(false, "parameter "+name, "is not one of the interface's, and was left out")
		}
	}
}

// tenants are all that documents and keys name, but the master.
func (w *wazo) tenants() []string {
	all := map[string]bool{}
	for t := range w.keys {
		all[t] = true
	}
	for _, d := range w.devices {
		if t, _ := d["tenant_uuid"].(string); t != "" {
			all[t] = true
		}
	}
	delete(all, w.master)
	return slices.Sorted(maps.Keys(all))
}

// importWazo brings in what was read: tenants, parameters, configs, then devices.
func (a *app) importWazo(ctx context.Context, w *wazo) error {
	r := &w.report
	r.DryRun = a.dryRun
	if w.master == "" && len(w.tenants()) > 0 {
		return usageError("no device is new, so that the master tenant is not known: name it with --master-tenant")
	}
	families, err := a.wazoFamilies(ctx)
	if err != nil {
		return err
	}
	if err := a.wazoTenants(ctx, w); err != nil {
		return err
	}
	for name, v := range w.params {
		a.wazoPut(ctx, w, r.Params, "parameter "+name, "", "/configure/"+name, "param", "", map[string]any{"value": v})
	}
	for tenant, key := range w.keys {
		if key != "" {
			a.wazoPut(ctx, w, r.Params, "provisioning key of tenant "+tenant, w.header(tenant), "/configure/provisioning_key", "param", "", map[string]any{"value": key})
		}
	}
	if err := a.wazoDocuments(ctx, w.configs, func(ctx context.Context, id string, doc map[string]any) error {
		if err := provd.CheckConfig(id, doc); err != nil {
			r.note(r.Configs, "refused")
			r.remark(true, "config "+id, "%v", err)
			return nil
		}
		return a.wazoPut(ctx, w, r.Configs, "config "+id, "", "/cfg_mgr/configs/"+id, "config", "/cfg_mgr/configs", with(doc, "id", id))
	}); err != nil {
		return err
	}
	if err := a.wazoDocuments(ctx, w.devices, func(ctx context.Context, id string, doc map[string]any) error {
		if err := provd.CheckDevice(id, doc); err != nil {
			r.note(r.Devices, "refused")
			r.remark(true, "device "+id, "%v", err)
			return nil
		}
		tenant, _ := doc["tenant_uuid"].(string)
		doc = with(doc, "id", id)
		w.family(id, doc, families)
		if config, _ := doc["config"].(string); config != "" && w.configs[config] == nil {
			r.remark(false, "device "+id, "names the config %s, which there is none of", config)
		}
		return a.wazoPut(ctx, w, r.Devices, "device "+id, w.header(tenant), "/dev_mgr/devices/"+id, "device", "/dev_mgr/devices", doc)
	}); err != nil {
		return err
	}
	slices.SortFunc(r.Remarks, func(x, y wazoRemark) int { return strings.Compare(x.What+x.Remark, y.What+y.Remark) })
	return a.wazoTell(r)
}

// with is a copy of doc with one key set.
func with(doc map[string]any, key string, v any) map[string]any {
	out := maps.Clone(doc)
	out[key] = v
	return out
}

// header is the tenant of a request: none for the master's, which is the administrator's own.
func (w *wazo) header(tenant string) string {
	if tenant == w.master {
		return ""
	}
	return tenant
}

// wazoDocuments carries out each for every document, several at once, in the order of ids.
func (a *app) wazoDocuments(ctx context.Context, docs map[string]map[string]any, each func(ctx context.Context, id string, doc map[string]any) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, id := range slices.Sorted(maps.Keys(docs)) {
		g.Go(func() error { return each(ctx, id, docs[id]) })
	}
	return g.Wait()
}

// wazoAsk is one call of wazo-provd's interface.
func (a *app) wazoAsk(ctx context.Context, method, tenant, path string, body any) (status int, text []byte, err error) {
	token, err := a.token()
	if err != nil {
		return 0, nil, err
	}
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.serverURL()+"/0.2"+path, in)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("X-Auth-Token", token)
	req.Header.Set("Content-Type", provd.MediaType)
	if tenant != "" {
		req.Header.Set("Wazo-Tenant", tenant)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("ask the server: %w", err)
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, maxWazoDocument))
	if resp.StatusCode == http.StatusUnauthorized {
		err = exitError{exitDenied, fmt.Errorf("%s %s: the server does not let this key do that", method, path)}
	}
	return resp.StatusCode, text, err
}

// wazoPut makes one document be there as it is: PUT, and where there is none, POST to collection. It answers an
// error only when there is no use in going on.
func (a *app) wazoPut(ctx context.Context, w *wazo, counts map[string]int, what, tenant, path, member, collection string, doc map[string]any) error {
	from := "" // an administrator sees every tenant's documents, but each tenant's key for itself
	if member == "param" {
		if from = tenant; tenant != "" && a.dryRun {
			w.report.note(counts, "changed") // the tenant may not be there yet
			return nil
		}
	}
	found, before, err := a.wazoAsk(ctx, http.MethodGet, from, path, nil)
	switch {
	case err != nil:
		return err
	case provd.SameDocument(member, before, doc):
		w.report.note(counts, "same")
		return nil
	case a.dryRun && found == http.StatusNotFound:
		w.report.note(counts, "made")
		return nil
	case a.dryRun:
		w.report.note(counts, "changed")
		return nil
	}
	body := map[string]any{member: doc}
	status, text, err := a.wazoAsk(ctx, http.MethodPut, tenant, path, body)
	outcome := "changed"
	if err == nil && status == http.StatusNotFound && collection != "" {
		outcome = "made"
		status, text, err = a.wazoAsk(ctx, http.MethodPost, tenant, collection, body)
	}
	switch {
	case err != nil:
		return err
	case status/100 != 2:
		outcome = "refused"
		w.report.remark(true, what, "the server answers %d: %s", status, text)
	}
	w.report.note(counts, outcome)
	return nil
}

// wazoTenants makes the tenants documents are of.
func (a *app) wazoTenants(ctx context.Context, w *wazo) error {
	for _, t := range w.tenants() {
		w.report.Tenants++
		if a.dryRun {
			continue
		}
		_, err := a.call(ctx, http.MethodPost, "/tenants", nil, map[string]any{"id": t, "name": t})
		var p problem
		if errors.As(err, &p) && p.Code == "tenant-exists" {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("make tenant %s: %w", t, err)
		}
	}
	return nil
}

// wazoFamilies are the plugins the server has.
func (a *app) wazoFamilies(ctx context.Context) ([]string, error) {
	status, text, err := a.wazoAsk(ctx, http.MethodGet, "", "/pg_mgr/plugins", nil)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("list the server's plugins: %d %s", status, text)
	}
	var answer struct {
		Plugins map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("list the server's plugins: %w", err)
	}
	return slices.Sorted(maps.Keys(answer.Plugins)), nil
}

// family puts our plugin of the same family in the place of wazo-provd's, which names a firmware as well.
func (w *wazo) family(id string, doc map[string]any, families []string) {
	name, _ := doc["plugin"].(string)
	if name == "" || slices.Contains(families, name) {
		return
	}
	found := plugins.Family(name, families)
	if found == "" {
		w.report.remark(false, "device "+id, "plugin %s has no family here: the device stays unconfigured until one is chosen", name)
		return
	}
	doc["plugin"] = found
}

// wazoTell prints the report.
func (a *app) wazoTell(r *wazoReport) error {
	if a.output == "table" {
		verb := "imported"
		if r.DryRun {
			verb = "to import (dry run)"
		}
		fmt.Fprintf(a.out, "%s: %d tenants\n", verb, r.Tenants)
		for _, k := range []struct {
			name   string
			counts map[string]int
		}{{"parameters", r.Params}, {"configs", r.Configs}, {"devices", r.Devices}} {
			fmt.Fprintf(a.out, "  %-10s  %d made, %d changed, %d the same, %d refused\n", k.name, k.counts["made"], k.counts["changed"], k.counts["same"], k.counts["refused"])
		}
		for _, m := range r.Remarks {
			fmt.Fprintf(a.out, "  %s: %s\n", m.What, m.Remark)
		}
	} else if err := a.printValue(r); err != nil {
		return err
	}
	lost := 0
	for _, m := range r.Remarks {
		if m.Lost {
			lost++
		}
	}
	if lost > 0 {
		return fmt.Errorf("%d documents could not be carried over; the report names them", lost)
	}
	return nil
}
