package commands

import (
	"context"

	"ledgerline/domain"
)

// SignCheckpoint records a signed checkpoint of the log's tree. Who signs and when is adapters/proof's;
// signing the same size again is no news. Errors: domain.ErrCheckpointDiffers.
func (s *Service) SignCheckpoint(ctx context.Context, c domain.CheckpointSigned) (Outcome, error) {
	return decide(ctx, s, domain.CheckpointStream(c.Size), func(past domain.Checkpoint) ([]domain.Event, error) { return past.Sign(c) })
}

// CheckpointSeed is the private key that checkpoints are signed with: 32 bytes derived from a key of the
// vault, so that every replica has it and a backup of the vault holds it.
func (s *Service) CheckpointSeed(ctx context.Context) ([]byte, error) {
	return s.Vault.Hash(ctx, "settings-checkpoints", "checkpoint-signature", nil)
}
