package commands

import (
	"context"
	"fmt"
	"strconv"

	"ledgerline/domain"
)

// Stacked is one level of a device's settings, lowest first in a Stack.
type Stacked struct {
	Name     string // "server", "base", "tenant", "category", "job <id>", "layer <id>", "line <id>", "device"
	Stream   domain.StreamID
	Settings domain.Settings // opened: secrets are clear text
}

// Stack is everything a device's settings follow from, lowest level first, and the streams it was read
// from with the revisions they stood at (D5).
type Stack struct {
	Levels []Stacked
	Inputs []domain.Input
}

// Merged lays the levels over each other (wazo's rule: objects key by key, everything else replaces) and
// fills in what follows from other values.
func (st Stack) Merged() domain.Settings {
	levels := make([]domain.Settings, len(st.Levels))
	for i, l := range st.Levels {
		levels[i] = l.Settings
	}
	return domain.Overlay(levels...)
}

// resolver gathers a Stack, reading every stream once.
type resolver struct {
	s *Service
	// past, of a look at history, is the revision each stream stood at; open is then how sealed values are opened.
	past  map[domain.StreamID]domain.Revision
	open  func(context.Context, domain.Settings) (domain.Settings, error)
	stack Stack
	seen  map[domain.LayerID]domain.Layer
	chain []domain.LayerID // layers in the order they merge
}

func (s *Service) newResolver() *resolver {
	return &resolver{s: s, open: s.reveal, seen: make(map[domain.LayerID]domain.Layer)}
}

// read loads one input and remembers its revision; a stream that does not exist counts as well, for it
// may come to be.
func read[S domain.State[S]](ctx context.Context, r *resolver, stream domain.StreamID) (S, error) {
	until := latest
	if r.past != nil {
		var known bool
		if until, known = r.past[stream]; !known {
			return *new(S), fmt.Errorf("%s: %w", stream, errNoInput)
		}
	}
	state, h, err := loadUntil[S](ctx, r.s.Log, stream, until)
	if err == nil {
		r.stack.Inputs = append(r.stack.Inputs, domain.Input{Stream: stream, Revision: h.revision})
	}
	return state, err
}

// layer is read for a layer, which many devices share.
func (r *resolver) layer(ctx context.Context, id domain.LayerID) (domain.Layer, error) {
	if r.past != nil {
		return read[domain.Layer](ctx, r, id.Stream())
	}
	l, revision, err := r.s.layers.now(ctx, r.s.Log, id.Stream())
	if err == nil {
		r.stack.Inputs = append(r.stack.Inputs, domain.Input{Stream: id.Stream(), Revision: revision})
	}
	return l, err
}

// climb visits layers depth-first, each one's parents before itself, every layer once: loops and dangling
// parents are harmless (D20).
func (r *resolver) climb(ctx context.Context, ids []domain.LayerID) error {
	for _, id := range ids {
		if _, twice := r.seen[id]; twice {
			continue
		}
		r.seen[id] = domain.Layer{}
		l, err := r.layer(ctx, id)
		if err != nil {
			return err
		}
		r.seen[id] = l
		if err := r.climb(ctx, l.Parents); err != nil {
			return err
		}
		r.chain = append(r.chain, id)
	}
	return nil
}

// layers adds the levels of the layers named and their ancestors, as far as tenant may use them.
func (r *resolver) layers(ctx context.Context, name string, tenant domain.TenantID, ids ...domain.LayerID) error {
	from := len(r.chain)
	if err := r.climb(ctx, ids); err != nil {
		return err
	}
	for _, id := range r.chain[from:] {
		l := r.seen[id]
		if !l.Exists || l.TenantID != domain.Master && l.TenantID != tenant {
			continue
		}
		label := name
		if label == "" || len(ids) == 0 || id != ids[0] {
			label = "layer " + string(id)
		}
		settings, err := r.s.LayerSettings(ctx, l.LayerSpec)
		if err != nil {
			return err
		}
		if err := r.level(ctx, label, id.Stream(), settings); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) level(ctx context.Context, name string, stream domain.StreamID, sealed domain.Settings) error {
	if len(sealed) == 0 {
		return nil
	}
	clear, err := r.open(ctx, sealed)
	if err != nil {
		return fmt.Errorf("open the settings of %s: %w", stream, err)
	}
	r.stack.Levels = append(r.stack.Levels, Stacked{name, stream, clear})
	return nil
}

// Settings resolves what a device's files follow from. A device nobody has configured gets what its
// tenant gives everybody: no category, no lines, no wishes of its own.
func (s *Service) Settings(ctx context.Context, d domain.Device) (Stack, error) {
	return s.newResolver().settings(ctx, d)
}

func (r *resolver) settings(ctx context.Context, d domain.Device) (Stack, error) {
	s := r.s
	r.stack.Levels = append(r.stack.Levels, Stacked{"server", "", s.Base})
	if err := r.layers(ctx, "base", d.TenantID, domain.BaseLayer); err != nil {
		return r.stack, err
	}
	if err := r.layers(ctx, "tenant", d.TenantID, domain.TenantLayer(d.TenantID)); err != nil {
		return r.stack, err
	}
	if d.Guest() {
		return r.stack, nil
	}
	if d.CategoryID != "" {
		c, err := read[domain.Category](ctx, r, d.CategoryID.Stream())
		if err != nil {
			return r.stack, err
		}
		if c.LayerID != "" {
			if err := r.layers(ctx, "category", d.TenantID, c.LayerID); err != nil {
				return r.stack, err
			}
		}
	}
	if err := r.jobs(ctx, d); err != nil {
		return r.stack, err
	}
	if err := r.layers(ctx, "", d.TenantID, d.Parents...); err != nil {
		return r.stack, err
	}
	for _, p := range d.Positions() {
		if err := r.line(ctx, d, p); err != nil {
			return r.stack, err
		}
	}
	return r.stack, r.level(ctx, "device", d.ID.Stream(), d.Settings)
}

// line adds the account at one position; a removed line leaves its position empty.
func (r *resolver) line(ctx context.Context, d domain.Device, position int) error {
	id := d.Lines[position]
	l, err := read[domain.Line](ctx, r, id.Stream())
	if err != nil || l.Live() != nil || l.TenantID != d.TenantID {
		return err
	}
	name := l.DisplayName
	if name.IsZero() && l.UserID != "" {
		u, err := read[domain.User](ctx, r, l.UserID.Stream())
		if err != nil {
			return err
		}
		name = u.DisplayName
	}
	entry := map[string]any{}
	for k, v := range l.Settings {
		entry[k] = v
	}
	put := func(key string, v any, has bool) {
		if has {
			entry[key] = v
		}
	}
	put("username", l.Username, true)
	put("auth_username", l.AuthUsername, l.AuthUsername != "")
	put("password", l.Password, true)
	put("display_name", name, !name.IsZero())
	put("number", l.Number, !l.Number.IsZero())
	if served, err := r.behind(ctx, d, l, entry); err != nil || !served {
		return err
	}
	return r.level(ctx, "line "+string(id), id.Stream(), domain.Settings{"sip_lines": map[string]any{strconv.Itoa(position): entry}})
}
