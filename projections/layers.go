package projections

import (
	"context"

	"ledgerline/domain"
)

// Layer is one layer as readers see it, secrets sealed.
type Layer struct {
	ID       domain.LayerID  `json:"id"`
	TenantID domain.TenantID `json:"tenant_id"`
	domain.LayerSpec
	State string `json:"state"` // live, removed
	Head
}

var layers = newNoun("layer", "layers", 2,
	[]string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "tenant_id TEXT", "name TEXT", "role TEXT", "revision INTEGER NOT NULL"},
	func(_ string, d *Doc[domain.Layer]) []any {
		s := d.State
		return []any{flag(s.Exists), flag(s.ID != ""), orNull(s.TenantID), orNull(s.Name), orNull(s.Role), int64(d.Head.Revision)}
	},
	"CREATE INDEX layers_tenant ON layers (tenant_id, key)",
	"CREATE INDEX layers_role ON layers (role, key) WHERE role IS NOT NULL")

func layerRow(key string, d *Doc[domain.Layer]) Layer {
	l := Layer{ID: domain.LayerID(key), TenantID: d.State.TenantID, LayerSpec: d.State.LayerSpec, State: StateRemoved, Head: d.Head}
	if d.State.Exists {
		l.State = StateLive
	}
	return l
}

// LayerByID finds a layer, also a removed one.
func LayerByID(ctx context.Context, q Querier, id domain.LayerID) (Layer, bool, error) {
	return one(ctx, q, layers, layerRow, "key = ? AND known = 1", string(id))
}

// LayerFilter narrows a list of layers; nil Tenants means all, Text is looked for in id and name.
type LayerFilter struct {
	Tenants []domain.TenantID
	Text    string
	Removed bool // removed ones too
}

// ListLayers lists layers by id.
func ListLayers(ctx context.Context, q Querier, f LayerFilter, p Page) (Listed[Layer], error) {
	var c clause
	c.is(present(f.Removed))
	in(&c, "tenant_id", f.Tenants)
	c.contains(f.Text, "key", "name")
	return list(ctx, q, layers, layerRow, "key", c, p)
}
