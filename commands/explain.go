package commands

import (
	"context"

	"ledgerline/domain"
)

// Explanation tells where the value of one setting comes from.
type Explanation struct {
	Key string `json:"key"`
	// Value is the one in force, "[redacted]" for a secret; absent when the key has none.
	Value any `json:"value,omitempty"`
	// Levels are all that name the key, lowest first; the last one wins.
	Levels []ExplainedLevel `json:"levels"`
}

// ExplainedLevel is one level that names the key.
type ExplainedLevel struct {
	Name     string          `json:"name"`
	Stream   domain.StreamID `json:"stream,omitempty"`
	Revision domain.Revision `json:"revision"`
	Value    any             `json:"value"`
}

// Explain names the layer of one setting of a device, by its dotted key ("sip_lines.1.transport"); an
// empty key explains all the device has. Secrets are redacted.
func (s *Service) Explain(ctx context.Context, id domain.DeviceID, key string) ([]Explanation, error) {
	d, _, err := s.CurrentDevice(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := d.Live(); err != nil {
		return nil, err
	}
	stack, err := s.Settings(ctx, d)
	if err != nil {
		return nil, err
	}
	revisions := map[domain.StreamID]domain.Revision{}
	for _, in := range stack.Inputs {
		revisions[in.Stream] = in.Revision
	}
	merged := stack.Merged().Redacted()
	keys := []string{key}
	if key == "" {
		keys = merged.Paths()
	}
	out := make([]Explanation, 0, len(keys))
	for _, k := range keys {
		x := Explanation{Key: k, Value: merged.Get(k), Levels: []ExplainedLevel{}}
		for _, l := range stack.Levels {
			if v := l.Settings.Redacted().Get(k); v != nil {
				x.Levels = append(x.Levels, ExplainedLevel{l.Name, l.Stream, revisions[l.Stream], v})
			}
		}
		if len(x.Levels) == 0 && x.Value != nil {
			x.Levels = append(x.Levels, ExplainedLevel{Name: "derived", Value: x.Value})
		}
		out = append(out, x)
	}
	return out, nil
}
