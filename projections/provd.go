package projections

import (
	"context"

	"ledgerline/domain"
)

// Wanted narrows what wazo-provd's face looks through, by what its selector asks for by equality. Nil Tenants means
// all; empty fields are no condition.
type Wanted struct {
	Tenants []domain.TenantID
	ID      string // of a device: the one its creator knows
	MAC     domain.MAC
	Vendor  string
	Model   string
	Plugin  string
	Config  domain.LayerID // a parent of the device
}

// EachDevice calls each for every live device wanted, by id.
func EachDevice(ctx context.Context, q Querier, w Wanted, each func(Device) error) error {
	var c clause
	c.is("live = 1")
	in(&c, "tenant_id", w.Tenants)
	equal(&c, "base", w.ID)
	equal(&c, "mac", w.MAC)
	equal(&c, "vendor", w.Vendor)
	equal(&c, "model", w.Model)
	equal(&c, "plugin", w.Plugin)
	if w.Config != "" {
		c.is("key IN (SELECT owner FROM device_parents WHERE layer_id = ?)", string(w.Config))
	}
	return q.Query(ctx, "SELECT key, doc FROM devices"+c.sql()+" ORDER BY key", c.args, func(r Row) error {
		d := new(Doc[domain.Device])
		if err := r.Doc(1, d); err != nil {
			return err
		}
		return each(deviceRow(r.Text(0), d))
	})
}

// EachLayer calls each for every layer that exists and is wanted, by id.
func EachLayer(ctx context.Context, q Querier, w Wanted, each func(Layer) error) error {
	var c clause
	c.is("live = 1")
	in(&c, "tenant_id", w.Tenants)
	equal(&c, "key", w.ID)
	return q.Query(ctx, "SELECT key, doc FROM layers"+c.sql()+" ORDER BY key", c.args, func(r Row) error {
		d := new(Doc[domain.Layer])
		if err := r.Doc(1, d); err != nil {
			return err
		}
		return each(layerRow(r.Text(0), d))
	})
}

// LayerTenants are the tenants of the layers that exist: of the one named, or of all when id is empty.
func LayerTenants(ctx context.Context, q Querier, id domain.LayerID) (map[domain.LayerID]domain.TenantID, error) {
	var c clause
	c.is("live = 1")
	equal(&c, "key", id)
	found := make(map[domain.LayerID]domain.TenantID)
	err := q.Query(ctx, "SELECT key, tenant_id FROM layers"+c.sql(), c.args, func(r Row) error {
		found[domain.LayerID(r.Text(0))] = domain.TenantID(r.Text(1))
		return nil
	})
	return found, err
}
