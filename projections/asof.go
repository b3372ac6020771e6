package projections

import (
	"iter"

	"ledgerline/domain"
)

// memTx is a Tx over maps, for folding one stream without a database.
type memTx map[*Schema]map[string]any

func (m memTx) Get(t *Schema, key string) (any, error) { return m[t][key], nil }

func (m memTx) Put(t *Schema, key string, row any) {
	if m[t] == nil {
		m[t] = make(map[string]any)
	}
	m[t][key] = row
}

func (m memTx) Delete(t *Schema, key string)                       { delete(m[t], key) }
func (m memTx) Append(*Schema, ...any) error                       { return nil }
func (m memTx) Last(*Schema, string) (key, value int64, err error) { return 0, 0, nil }

// foldAt folds the events of one stream up to position at (inclusive) into rows.
func foldAt(p Projection, events iter.Seq2[domain.Recorded, error], at domain.Position) (memTx, error) {
	tx := make(memTx)
	for r, err := range events {
		if err != nil {
			return nil, err
		}
		if at.Before(r.Position) {
			break
		}
		f := NewFact(r)
		if err := p.Apply(tx, &f); err != nil {
			return nil, err
		}
	}
	return tx, nil
}

// rowAt is the row of n as it stood at position at; known tells whether the noun existed by then.
func rowAt[S domain.State[S], R any](n *noun[S], row func(string, *Doc[S]) R, known func(S) bool, events iter.Seq2[domain.Recorded, error], at domain.Position) (out R, ok bool, err error) {
	tx, err := foldAt(n, events, at)
	if err != nil {
		return out, false, err
	}
	for key, r := range tx[n.schema] {
		if d := r.(*Doc[S]); known(d.State) {
			return row(key, d), true, nil
		}
	}
	return out, false, nil
}

// The functions below answer as_of for one noun: events is its stream, read from the start; at is the
// position asked for (PositionAt for a time). ok is false when the noun did not exist yet. The error is
// that of events.

// TenantAt is the tenant as it stood at a position.
func TenantAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (Tenant, bool, error) {
	return rowAt(tenants, tenantRow, func(s domain.Tenant) bool { return s.Exists }, events, at)
}

// CategoryAt is the category as it stood at a position.
func CategoryAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (Category, bool, error) {
	return rowAt(categories, categoryRow, func(s domain.Category) bool { return s.Exists }, events, at)
}

// CodeAt is the code as it stood at a position.
func CodeAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (Code, bool, error) {
	return rowAt(codes, codeRow, func(s domain.Code) bool { return s.Exists }, events, at)
}

// DeviceAt is one life of a device as it stood at a position.
func DeviceAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (Device, bool, error) {
	return rowAt(devices, deviceRow, func(s domain.Device) bool { return s.Exists }, events, at)
}

// UserAt is the user as it stood at a position.
func UserAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (User, bool, error) {
	return rowAt(users, userRow, func(s domain.User) bool { return s.Exists }, events, at)
}

// LineAt is the line as it stood at a position.
func LineAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (Line, bool, error) {
	return rowAt(lines, lineRow, func(s domain.Line) bool { return s.Exists }, events, at)
}

// GatewayAt is the gateway as it stood at a position.
func GatewayAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (Gateway, bool, error) {
	return rowAt(gateways, gatewayRow, func(s domain.Gateway) bool { return s.Exists }, events, at)
}

// SIPUserAt is the SIP user as it stood at a position.
func SIPUserAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (SIPUser, bool, error) {
	return rowAt(sipUsers, sipUserRow, func(s domain.SIPUser) bool { return s.Rev > 0 }, events, at)
}

// LayerAt is the layer as it stood at a position.
func LayerAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (Layer, bool, error) {
	return rowAt(layers, layerRow, func(s domain.Layer) bool { return s.ID != "" }, events, at)
}

// CloudAt is the cloud ID as it stood at a position.
func CloudAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (Cloud, bool, error) {
	return rowAt(clouds, cloudRow, func(s domain.Cloud) bool { return s.CloudID != "" }, events, at)
}

// SoftphoneAt is the softphone as it stood at a position.
func SoftphoneAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (Softphone, bool, error) {
	return rowAt(softphones, softphoneRow, func(s domain.Softphone) bool { return s.Exists }, events, at)
}

// APIKeyAt is the API key as it stood at a position.
func APIKeyAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (APIKey, bool, error) {
	return rowAt(apiKeys, apiKeyRow, func(s domain.APIKey) bool { return s.Exists }, events, at)
}

// ConfigAt is what one life of a device could fetch at a position; events is the device's stream.
func ConfigAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (Config, bool, error) {
	tx, err := foldAt(configs, events, at)
	if err != nil {
		return Config{}, false, err
	}
	for key, r := range tx[&configs.schema] {
		return configRow(key, r.(*configDoc)), true, nil
	}
	return Config{}, false, nil
}

// RegistryServerAt is a Devices server of the registry as it stood at a position.
func RegistryServerAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (RegistryServer, bool, error) {
	return rowAt(registryServers, registryServerRow, func(s domain.RegistryServer) bool { return s.Exists }, events, at)
}

// TokenAt is a token of automatic provisioning as it stood at a position.
func TokenAt(events iter.Seq2[domain.Recorded, error], at domain.Position) (Token, bool, error) {
	return rowAt(tokens, tokenRow, func(s domain.Token) bool { return s.Exists }, events, at)
}
