package commands

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"strings"

	"ledgerline/domain"
)

func isTenantLayer(id domain.LayerID) bool {
	const prefix = "tenant."
	return len(id) > len(prefix) && id[:len(prefix)] == prefix
}

// usableLayer is nil when tenant may build on the layer: it is its own, or the master tenant's.
func (s *Service) usableLayer(ctx context.Context, id domain.LayerID, tenant domain.TenantID) error {
	l, _, err := load[domain.Layer](ctx, s.Log, id.Stream())
	switch {
	case err != nil:
		return err
	case !l.Exists:
		return domain.ErrLayerUnknown
	case l.TenantID != tenant && l.TenantID != domain.Master:
		return domain.ErrLayerOfOtherTenant
	}
	return nil
}

// checkParents refuses parents that tenant cannot use, and a layer that would be its own ancestor.
func (s *Service) checkParents(ctx context.Context, id domain.LayerID, tenant domain.TenantID, parents []domain.LayerID) error {
	for _, p := range parents {
		if p == id {
			return domain.ErrLayerCycle
		}
		if err := s.usableLayer(ctx, p, tenant); err != nil {
			return fmt.Errorf("%q: %w", p, domain.ErrLayerParent)
		}
	}
	ancestry := s.newResolver()
	if err := ancestry.climb(ctx, parents); err != nil {
		return err
	}
	if _, above := ancestry.seen[id]; above {
		return domain.ErrLayerCycle
	}
	return nil
}

// bulkSecrets is how many secrets of one layer are sealed each alone: each takes some 300 bytes of the 512 KiB an
// append may have (D6).
const bulkSecrets = 300

// maxBulk bounds what a bulk unpacks to.
const maxBulk = 8 << 20

// layerSpec seals what a layer is to be, in clear text in spec, as subject's. What before says and extra does
// not stays.
func (s *Service) layerSpec(ctx context.Context, id domain.LayerID, spec, before domain.LayerSpec, extra LayerExtra) (domain.LayerSpec, error) {
	old, err := s.LayerSettings(ctx, before)
	if err != nil {
		return spec, err
	}
	settings := spec.Settings
	if extra.Lenient {
		spec.Name = before.Name // a wazo-provd config has none
	}
	spec.Role, spec.Transient, spec.Undeletable, spec.Extra = before.Role, before.Transient, before.Undeletable, before.Extra
	if extra.Lenient {
		spec.Role, spec.Transient, spec.Undeletable, spec.Extra = extra.Role, extra.Transient, extra.Undeletable, domain.Secret{}
		if extra.Extra != "" {
			if spec.Extra, err = s.secretUnless(ctx, id.Subject(), extra.Extra, before.Extra); err != nil {
				return spec, err
			}
		}
	}
	if len(settings.Secrets()) < bulkSecrets {
		spec.Settings, err = protect(ctx, s, id.Subject(), settings, old)
		return spec, err
	}
	if settings, err = restore(settings, old); err != nil {
		return spec, err
	}
	clear, err := settings.Canonical()
	if err != nil {
		return spec, err
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(clear); err != nil {
		return spec, err
	}
	if err := w.Close(); err != nil {
		return spec, err
	}
	fp, err := s.fingerprint(ctx, id.Subject(), string(clear))
	if err != nil {
		return spec, err
	}
	spec.Settings = nil
	if spec.Bulk = domain.NewSecret(id.Subject(), packed.String(), fp); before.Bulk.Same(spec.Bulk.Sealed) {
		spec.Bulk = before.Bulk
	}
	return spec, nil
}

// secretUnless is the secret clear, or before if that is the same.
func (s *Service) secretUnless(ctx context.Context, subject domain.Subject, clear string, before domain.Secret) (domain.Secret, error) {
	v, err := s.secret(ctx, subject, clear)
	if err == nil && v.Same(before.Sealed) {
		return before, nil
	}
	return v, err
}

// restore puts the values of before in the places of secrets the caller left as they were (see clean).
func restore(in, before domain.Settings) (domain.Settings, error) {
	return in.MapSecrets(func(pointer string, v any) (any, error) {
		if sent, sealed := sealedOf(v); !sealed || !sent.IsZero() {
			return v, nil
		}
		old := before.Get(dotted(pointer))
		if old == nil {
			return nil, &domain.SettingsError{Field: dotted(pointer), Rule: "is redacted, and there is no value to keep"}
		}
		return old, nil
	})
}

// LayerSettings are the settings of a layer, also of one that keeps them as one secret: those are in clear text.
// What was erased is empty.
func (s *Service) LayerSettings(ctx context.Context, l domain.LayerSpec) (domain.Settings, error) {
	if l.Bulk.IsZero() {
		return l.Settings, nil
	}
	packed, err := s.Open(ctx, l.Bulk.Sealed)
	if err != nil || packed == "" {
		return nil, err
	}
	r, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack settings: %w", err)
	}
	clear, err := io.ReadAll(io.LimitReader(r, maxBulk))
	if err != nil {
		return nil, fmt.Errorf("unpack settings: %w", err)
	}
	var settings domain.Settings
	err = settings.UnmarshalJSON(clear)
	return settings, err
}

// Layer is a layer as its stream has it; the zero Layer for one that never was.
func (s *Service) Layer(ctx context.Context, id domain.LayerID) (domain.Layer, error) {
	l, _, err := load[domain.Layer](ctx, s.Log, id.Stream())
	return l, err
}

// RevealLayer are the settings of a layer in clear text.
func (s *Service) RevealLayer(ctx context.Context, l domain.LayerSpec) (domain.Settings, error) {
	settings, err := s.LayerSettings(ctx, l)
	if err != nil {
		return nil, err
	}
	return s.reveal(ctx, settings)
}

// MergedLayer are a layer's settings in clear text over those of its ancestors, as far as tenant may use them, over the
// server's own: what wazo-provd calls the raw config.
func (s *Service) MergedLayer(ctx context.Context, id domain.LayerID, tenant domain.TenantID) (domain.Settings, error) {
	r := s.newResolver()
	r.stack.Levels = append(r.stack.Levels, Stacked{"server", "", s.Base})
	if err := r.layers(ctx, "", tenant, id); err != nil {
		return nil, err
	}
	merged := domain.Settings{}
	for _, l := range r.stack.Levels {
		merged = domain.Merge(merged, l.Settings)
	}
	if base := s.baseURL(merged); base != "/" {
		merged["http_base_url"] = strings.TrimSuffix(base, "/")
	}
	return merged, nil
}
