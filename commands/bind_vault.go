package commands

import (
	"context"

	"ledgerline/domain"
)

// BindVault records which vault the log's sealed values belong to, on the first start over a log that several
// replicas may share, and after the master key was rotated.
type BindVault struct {
	VaultID           string `validate:"required,id"`
	MasterFingerprint string `validate:"required,id"`
}

// BindVault answers domain.ErrForeignVault when the log belongs to another one. Call it before anything is
// sealed.
func (s *Service) BindVault(ctx context.Context, in BindVault) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, domain.VaultStream, func(b domain.Bound) ([]domain.Event, error) {
		return b.Bind(domain.VaultBound{VaultID: in.VaultID, MasterFingerprint: in.MasterFingerprint})
	})
}
