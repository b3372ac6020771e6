package commands

import (
	"context"
	"crypto/subtle"
	"strings"

	"ledgerline/domain"
)

// Authenticate returns the key a bearer token stands for. Errors: domain.ErrAPIKeyUnknown for anything
// that never was a key, domain.ErrAPIKeyDead for a known key that opens nothing; the latter is a denial (D27).
func (s *Service) Authenticate(ctx context.Context, token string) (domain.APIKey, error) {
	id, secret, ok := strings.Cut(strings.TrimPrefix(token, "ll_"), "_")
	if !ok || !strings.HasPrefix(token, "ll_") || domain.CheckID(id) != nil || len(secret) > 64 {
		return domain.APIKey{}, domain.ErrAPIKeyUnknown
	}
	key, _, err := load[domain.APIKey](ctx, s.Log, domain.APIKeyID(id).Stream())
	if err != nil {
		return key, err
	}
	hash, err := s.lookup(ctx, "apikey", secret)
	if err != nil {
		return key, err
	}
	same := subtle.ConstantTimeCompare([]byte(hash), []byte(key.Hash)) == 1
	switch {
	case !key.Exists:
		return domain.APIKey{}, domain.ErrAPIKeyUnknown
	case !same || key.Usable(s.now()) != nil:
		s.budgets().denials.add(domain.APIKeyID(id).Stream(), s.now())
		return domain.APIKey{}, domain.ErrAPIKeyDead
	}
	return key, nil
}
