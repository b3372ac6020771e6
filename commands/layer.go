package commands

import (
	"context"
	"fmt"

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
