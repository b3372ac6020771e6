package provd

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

const configsPath = "/0.2/cfg_mgr/configs"

// leftovers is the key of a config's Extra that holds what of its raw_config our settings cannot: keys of lines that
// are not ours, numbers as they were written.
const leftovers = "raw_config"

// config is the document of a layer, with every secret in it if the request may have them.
func (c *call) config(row projections.Layer) (map[string]any, error) {
	doc, err := c.extra(row.Extra)
	if err != nil {
		return nil, err
	}
	if doc == nil {
		doc = map[string]any{}
	}
	rest, _ := doc[leftovers].(map[string]any)
	settings, err := c.Service.RevealLayer(c.ctx, row.LayerSpec)
	if err != nil {
		return nil, err
	}
	raw := map[string]any(settings)
	if raw == nil {
		raw = map[string]any{}
	}
	overlay(raw, rest)
	if !c.grant.Secrets {
		raw = map[string]any(domain.Settings(raw).Redacted())
	}
	doc["id"] = string(row.ID)
	parents := make([]any, len(row.Parents))
	for i, id := range row.Parents {
		parents[i] = string(id)
	}
	doc["parent_ids"] = parents
	doc["raw_config"] = raw
	if row.Role != "" {
		doc["role"] = row.Role
	}
	if row.Transient {
		doc["transient"] = true
	}
	if row.Undeletable {
		doc["deletable"] = false
	}
	return doc, nil
}

// overlay puts leftovers in their places: what is not there, and numbers that are still the ones that were written.
func overlay(raw, rest map[string]any) {
	for k, v := range rest {
		now, has := raw[k]
		below, isObject := now.(map[string]any)
		part, partly := v.(map[string]any)
		switch {
		case !has:
			raw[k] = v
		case isObject && partly:
			overlay(below, part)
		default:
			text, isText := v.(string)
			if n, isInt := now.(int); isText && isInt && strings.TrimSpace(text) == strconv.Itoa(n) {
				raw[k] = v
			}
		}
	}
}

// leftover is what of raw is not in clean, nil for nothing.
func leftover(raw, clean map[string]any) map[string]any {
	var rest map[string]any
	for k, v := range raw {
		now, has := clean[k]
		part, isObject := v.(map[string]any)
		below, alike := now.(map[string]any)
		if has && isObject && alike {
			if below := leftover(part, below); below != nil {
				v = below
			} else {
				continue
			}
		} else if has && same(v, now) {
			continue
		}
		if rest == nil {
			rest = map[string]any{}
		}
		rest[k] = v
	}
	return rest
}

func (c *call) listConfigs() error {
	s, err := readSearch(c.r.URL.Query())
	if err != nil {
		return err
	}
	if err := c.catchUp(); err != nil {
		return err
	}
	found := []map[string]any{}
	err = projections.EachLayer(c.ctx, c.Views, projections.Wanted{Tenants: c.grant.Below, ID: s.equals("id")}, func(row projections.Layer) error {
		doc, err := c.config(row)
		if err == nil && s.matches(doc) {
			found = append(found, doc)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.answer(http.StatusOK, map[string]any{"configs": s.arrange(found)})
	return nil
}

// layer finds the layer named, if the request may see it.
func (c *call) layer(id string) (projections.Layer, error) {
	if domain.CheckID(id) != nil {
		return projections.Layer{}, errNoResource
	}
	if err := c.catchUp(); err != nil {
		return projections.Layer{}, err
	}
	row, found, err := projections.LayerByID(c.ctx, c.Views, domain.LayerID(id))
	if err == nil && (!found || row.State != projections.StateLive || !c.grant.Sees(row.TenantID)) {
		err = errNoResource
	}
	return row, err
}

func (c *call) getConfig() error {
	row, err := c.layer(c.params["id"])
	if err != nil {
		return err
	}
	doc, err := c.config(row)
	if err != nil {
		return err
	}
	c.answer(http.StatusOK, map[string]any{"config": doc})
	return nil
}

// rawConfig answers a config merged with its ancestors over the server's own values.
func (c *call) rawConfig() error {
	row, err := c.layer(c.params["id"])
	if err != nil {
		return err
	}
	settings, err := c.Service.MergedLayer(c.ctx, row.ID, row.TenantID)
	if err != nil {
		return err
	}
	if !c.grant.Secrets {
		settings = settings.Redacted()
	}
	raw := map[string]any(settings)
	if base, _ := raw["http_base_url"].(string); base != "" {
		if u, err := url.Parse(base); err == nil && raw["ip"] == nil {
			raw["ip"], raw["http_port"] = u.Hostname(), 8667
			if port, err := strconv.Atoi(u.Port()); err == nil {
				raw["http_port"] = port
			}
		}
	}
	c.answer(http.StatusOK, map[string]any{"raw_config": raw})
	return nil
}

// configIn is a config's document as commands take it.
type configIn struct {
	parents  []domain.LayerID
	settings domain.Settings
	extra    commands.LayerExtra
}

// readConfig reads the document of a config.
func readConfig(doc map[string]any) (configIn, error) {
	in := configIn{extra: commands.LayerExtra{Lenient: true}}
	bad := func(text string) (configIn, error) { return in, refuse(http.StatusBadRequest, text) }
	parents, ok := doc["parent_ids"].([]any)
	if !ok {
		return bad("parent_ids must be a list")
	}
	for _, p := range parents {
		id, _ := p.(string)
		if domain.CheckID(id) != nil {
			return bad("parent_ids must be ids: " + domain.ErrBadID.Error())
		}
		in.parents = append(in.parents, domain.LayerID(id))
	}
	raw, ok := doc["raw_config"].(map[string]any)
	if !ok {
		return bad("raw_config must be an object")
	}
	if doc["X_type"] == "device" {
		raw = withoutNulls(raw)
	}
	settings, err := domain.Settings(ours(raw)).Clean()
	if err != nil {
		return in, err
	}
	in.settings = settings
	extra := maps.Clone(doc)
	for _, k := range []string{"id", "parent_ids", "raw_config"} {
		delete(extra, k)
	}
	if role, ok := doc["role"].(string); ok && role != "" && domain.CheckID(role) == nil {
		in.extra.Role = role
		delete(extra, "role")
	}
	flag := func(key string, is bool, into *bool) error {
		switch v := doc[key].(type) {
		case nil:
		case bool:
			if v == is {
				*into = true
				delete(extra, key)
			}
		default:
			return refuse(http.StatusBadRequest, key+" must be true or false")
		}
		return nil
	}
	if err := errors.Join(flag("deletable", false, &in.extra.Undeletable), flag("transient", true, &in.extra.Transient)); err != nil {
		return in, err
	}
	if rest := leftover(raw, settings); rest != nil {
		extra[leftovers] = rest
	}
	return in, keep(extra, &in.extra.Extra)
}

// withoutNulls is a copy without keys whose value is null, at every depth.
func withoutNulls(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if v == nil {
			continue
		}
		if below, is := v.(map[string]any); is {
			v = withoutNulls(below)
		}
		out[k] = v
	}
	return out
}

// lineKeys are the settings of a line; others are kept but not ours.
var lineKeys = func() map[string]bool {
	keys := map[string]bool{}
	for _, d := range domain.Schema() {
		if name, is := strings.CutPrefix(d.Path, "sip_lines.*."); is {
			keys[name] = true
		}
	}
	return keys
}()

// ours is a copy of a raw_config without the lines' further keys and without lines that have no number.
func ours(raw map[string]any) map[string]any {
	lines, ok := raw["sip_lines"].(map[string]any)
	if !ok {
		return raw
	}
	out, kept := maps.Clone(raw), map[string]any{}
	for position, v := range lines {
		line, is := v.(map[string]any)
		if is {
			own := map[string]any{}
			for k, v := range line {
				if lineKeys[k] || strings.HasPrefix(k, "X_") {
					own[k] = v
				}
			}
			v = own
		}
		if n, err := strconv.Atoi(position); err == nil && strconv.Itoa(n) == position && n > 0 && n < 10000 {
			kept[position] = v
		}
	}
	out["sip_lines"] = kept
	return out
}

func (c *call) createConfig() error {
	doc, err := c.object("config")
	if err != nil {
		return err
	}
	in, err := readConfig(doc)
	if err != nil {
		return err
	}
	id := hexID()
	if v, given := doc["id"]; given && v != nil {
		text, _ := v.(string)
		if domain.CheckID(text) != nil {
			return refuse(http.StatusBadRequest, "id "+domain.ErrBadID.Error())
		}
		id = text
	}
	if _, _, err := c.Service.DefineLayer(c.ctx, commands.DefineLayer{ID: domain.LayerID(id), TenantID: c.grant.Tenant, Parents: in.parents,
		Settings: in.settings, LayerExtra: in.extra}); err != nil {
		return err
	}
	c.created(configsPath+"/"+id, id)
	return nil
}

// ownedLayer is nil when the request may see the layer, decided from its stream.
func (c *call) ownedLayer(id string) error {
	if domain.CheckID(id) != nil {
		return errNoResource
	}
	l, err := c.Service.Layer(c.ctx, domain.LayerID(id))
	if err == nil && (!l.Exists || !c.grant.Sees(l.TenantID)) {
		err = errNoResource
	}
	return err
}

func (c *call) putConfig() error {
	id := c.params["id"]
	if err := c.ownedLayer(id); err != nil {
		return err
	}
	doc, err := c.object("config")
	if err != nil {
		return orServerError(err)
	}
	in, err := readConfig(doc)
	if err != nil {
		return orServerError(err)
	}
	if _, err := c.Service.AmendLayer(c.ctx, commands.AmendLayer{ID: domain.LayerID(id), Parents: in.parents, Settings: in.settings, LayerExtra: in.extra}); err != nil {
		return orServerError(err)
	}
	c.answer(http.StatusNoContent, nil)
	return nil
}

func (c *call) deleteConfig() error {
	id := c.params["id"]
	if err := c.ownedLayer(id); err != nil {
		return err
	}
	_, err := c.Service.RemoveLayer(c.ctx, commands.RemoveLayer{ID: domain.LayerID(id)})
	if errors.Is(err, domain.ErrLayerUndeletable) {
		return refuse(http.StatusForbidden, "config is not deletable")
	}
	if err != nil {
		return err
	}
	c.answer(http.StatusNoContent, nil)
	return nil
}

func (c *call) autocreate() error {
	head, err := c.Log.Head(c.ctx)
	if err != nil {
		return err
	}
	id, _, err := c.Service.AutocreateLayer(c.ctx, commands.AutocreateLayer{TenantID: c.grant.Tenant, At: head})
	if errors.Is(err, commands.ErrNoMould) {
		return refuse(http.StatusNotFound, err.Error())
	}
	if err != nil {
		return err
	}
	c.created(configsPath+"/"+string(id), string(id))
	return nil
}
