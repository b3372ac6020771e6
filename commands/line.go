package commands

import (
	"context"

	"ledgerline/domain"
)

// lineSpec seals a line's names and settings; an unchanged sealed value keeps its seal.
func (s *Service) lineSpec(ctx context.Context, id domain.LineID, l domain.Line, number, name, username, auth string, settings domain.LineSettings) (spec domain.LineSpec, err error) {
	spec.Username, spec.AuthUsername = username, auth
	if spec.Number, err = s.personal(ctx, id.Subject(), number); err != nil {
		return spec, err
	}
	if spec.DisplayName, err = s.personal(ctx, id.Subject(), name); err != nil {
		return spec, err
	}
	spec.Settings, err = protect(ctx, s, id.Subject(), settings, l.Settings)
	return spec, err
}
