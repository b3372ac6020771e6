package projections

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"ledgerline/domain"
)

// Config is the set of files one device may fetch. There is none for a device whose files are not made yet:
// after a reset, a deletion, a replacement, and between the first assignment and the first own files.
type Config struct {
	DeviceID domain.DeviceID `json:"device_id"`
	Files    []ConfigFile    `json:"files"`
	// Guest: these are the autoprovisioning files of a phone nobody has configured yet.
	Guest         bool                   `json:"guest"`
	Plugin        string                 `json:"plugin"`
	PluginVersion string                 `json:"plugin_version"`
	Renderer      string                 `json:"renderer"`
	TZData        string                 `json:"tzdata"`
	Inputs        []domain.Input         `json:"inputs"`
	Warnings      []domain.ConfigWarning `json:"warnings,omitempty"`
	// GeneratedAt is the Last-Modified of every file in the set.
	GeneratedAt time.Time `json:"generated_at"`
	// Outdated: the device itself has changed since, new files are due.
	Outdated bool `json:"outdated"`
	// Revision and Position are of the device.config_regenerated the set comes from.
	Revision domain.Revision `json:"revision"`
	Position domain.Position `json:"position"`
}

// ConfigFile is one file of a set.
type ConfigFile struct {
	domain.GeneratedFile
	ETag string `json:"etag"`
}

// File finds the file a phone asks for by path or alias, relative to its base and without a leading slash.
func (c Config) File(path string) (ConfigFile, bool) {
	for _, f := range c.Files {
		if f.Path == path {
			return f, true
		}
	}
	for _, f := range c.Files {
		if slices.Contains(f.Aliases, path) {
			return f, true
		}
	}
	return ConfigFile{}, false
}

// configDoc is a set as it is stored.
type configDoc struct {
	Config      domain.DeviceConfigRegenerated
	GeneratedAt time.Time
	Revision    domain.Revision
	Position    domain.Position
	Outdated    bool

	size int // about, in bytes of JSON
}

type configProjection struct{ schema Schema }

var configs = &configProjection{Schema{
	Name:    "configs",
	Columns: []string{"guest INTEGER NOT NULL", "revision INTEGER NOT NULL"},
	Indexes: []string{"CREATE INDEX config_inputs_stream ON config_inputs (stream, owner, revision)"},
	Linked:  []LinkSchema{{"config_inputs", []string{"stream TEXT NOT NULL", "revision INTEGER NOT NULL"}}},
	Encode:  encoderOf[configDoc](),
	Decode: func(doc []byte) (any, error) {
		d := &configDoc{size: len(doc)}
		return d, json.Unmarshal(doc, d)
	},
	Size: func(row any) int { return row.(*configDoc).size },
	Values: func(_ string, row any) []any {
		d := row.(*configDoc)
		return []any{flag(d.Config.Guest), int64(d.Revision)}
	},
	Links: func(_ string, row any) [][][]any {
		var inputs [][]any
		for _, in := range row.(*configDoc).Config.Inputs {
			if shared[in.Stream.Category()] {
				inputs = append(inputs, []any{string(in.Stream), int64(in.Revision)})
			}
		}
		return [][][]any{inputs}
	},
}}

func (*configProjection) Name() string        { return "configs" }
func (*configProjection) Version() int        { return 1 }
func (p *configProjection) Tables() []*Schema { return []*Schema{&p.schema} }

func (p *configProjection) Apply(tx Tx, f *Fact) error {
	if f.Category != "device" {
		return nil
	}
	key := f.Stream.ID()
	switch e := f.Event.(type) {
	case domain.DeviceConfigRegenerated:
		tx.Put(&p.schema, key, &configDoc{Config: e, GeneratedAt: f.At, Revision: f.Revision, Position: f.Position, size: 200 + len(f.Data)})
	case domain.DeviceReset, domain.DeviceReplaced, domain.DeviceDeleted:
		tx.Delete(&p.schema, key)
	case domain.DeviceAssigned:
		if e.SecretHash != "" { // the first assignment: guest files are not its own
			tx.Delete(&p.schema, key)
			return nil
		}
		return p.outdate(tx, key)
	case domain.DeviceIdentified, domain.DeviceAmended, domain.DevicePluginPinned, domain.DeviceConfigured, domain.DeviceLineAssociated, domain.DeviceLineDissociated,
		domain.DeviceGatewaySet, domain.DeviceJobsSelected:
		return p.outdate(tx, key)
	}
	return nil
}

func (p *configProjection) outdate(tx Tx, key string) error {
	row, err := tx.Get(&p.schema, key)
	if d, ok := row.(*configDoc); ok && !d.Outdated {
		d.Outdated = true
		tx.Put(&p.schema, key, d)
	}
	return err
}

func configRow(key string, d *configDoc) Config {
	e := d.Config
	c := Config{DeviceID: domain.DeviceID(key), Files: make([]ConfigFile, len(e.Files)), Guest: e.Guest, Plugin: e.Plugin, PluginVersion: e.PluginVersion,
		Renderer: e.Renderer, TZData: e.TZData, Inputs: e.Inputs, Warnings: e.Warnings, GeneratedAt: d.GeneratedAt, Outdated: d.Outdated,
		Revision: d.Revision, Position: d.Position}
	for i, f := range e.Files {
		c.Files[i] = ConfigFile{f, f.ETag()}
	}
	return c
}

// ConfigByDevice finds the files of exactly this life of a device.
func ConfigByDevice(ctx context.Context, q Querier, id domain.DeviceID) (c Config, ok bool, err error) {
	err = q.Query(ctx, "SELECT doc FROM configs WHERE key = ?", []any{string(id)}, func(r Row) error {
		d := new(configDoc)
		if err := r.Doc(0, d); err != nil {
			return err
		}
		c, ok = configRow(string(id), d), true
		return nil
	})
	return c, ok, err
}
