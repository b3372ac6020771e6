package projections

import (
	"context"

	"ledgerline/domain"
)

// RegistryServer is a Devices server that codes are drawn for.
type RegistryServer struct {
	ID        domain.ServerID `json:"id"`
	Name      string          `json:"name"`
	PublicKey string          `json:"public_key"`
	State     string          `json:"state"` // live, removed
	Head
}

var registryServers = newNoun("registry", "registry_servers", 1, []string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "name TEXT"},
	func(_ string, d *Doc[domain.RegistryServer]) []any {
		s := d.State
		return []any{flag(s.Live() == nil), flag(s.Exists), orNull(s.Name)}
	})

func registryServerRow(key string, d *Doc[domain.RegistryServer]) RegistryServer {
	r := RegistryServer{ID: domain.ServerID(key), Name: d.State.Name, PublicKey: d.State.PublicKey, State: StateLive, Head: d.Head}
	if d.State.Removed {
		r.State = StateRemoved
	}
	return r
}

// RegistryServerByID finds a Devices server, also a removed one.
func RegistryServerByID(ctx context.Context, q Querier, id domain.ServerID) (RegistryServer, bool, error) {
	return one(ctx, q, registryServers, registryServerRow, "key = ? AND known = 1", string(id))
}

// RegistryServerFilter narrows a list of Devices servers; Text is looked for in id and name.
type RegistryServerFilter struct {
	Text    string
	Removed bool // removed ones too
}

// ListRegistryServers lists Devices servers by id.
func ListRegistryServers(ctx context.Context, q Querier, f RegistryServerFilter, p Page) (Listed[RegistryServer], error) {
	var c clause
	c.is(present(f.Removed))
	c.contains(f.Text, "key", "name")
	return list(ctx, q, registryServers, registryServerRow, "key", c, p)
}
