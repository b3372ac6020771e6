package projections

import (
	"context"
	"time"

	"ledgerline/domain"
)

// Token is one token of automatic provisioning as readers see it: never the token itself.
type Token struct {
	ID         domain.TokenID    `json:"id"`
	TenantID   domain.TenantID   `json:"tenant_id"`
	CategoryID domain.CategoryID `json:"category_id"`
	domain.TokenSpec
	// State is live, revoked, used_up or expired; see StateAt.
	State     string         `json:"state"`
	Uses      int            `json:"uses"`
	IssuedAt  time.Time      `json:"issued_at"`
	UsedAt    time.Time      `json:"used_at,omitzero"`
	Replaces  domain.TokenID `json:"replaces,omitempty"`
	RotatedBy domain.TokenID `json:"rotated_by,omitempty"`
	Head
}

// TokenUsedUp is the state of a token that has admitted as many devices as it may.
const TokenUsedUp = "used_up"

// StateAt is the token's state at now: it is dead at exactly ExpiresAt, of which nothing is recorded.
func (t Token) StateAt(now time.Time) string {
	if t.State == StateLive && !now.Before(t.ExpiresAt) {
		return CodeExpired
	}
	return t.State
}

var tokens = newNoun("token", "tokens", 1, []string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "tenant_id TEXT", "category_id TEXT"},
	func(_ string, d *Doc[domain.Token]) []any {
		s := d.State
		return []any{flag(s.Exists && !s.Revoked), flag(s.Exists), orNull(s.TenantID), orNull(s.CategoryID)}
	},
	"CREATE INDEX tokens_tenant ON tokens (tenant_id, key)")

func tokenRow(key string, d *Doc[domain.Token]) Token {
	s := d.State
	t := Token{ID: domain.TokenID(key), TenantID: s.TenantID, CategoryID: s.CategoryID, TokenSpec: s.TokenSpec, State: StateLive, Uses: s.Uses,
		IssuedAt: s.IssuedAt, UsedAt: s.UsedAt, Replaces: s.Replaces, RotatedBy: s.RotatedBy, Head: d.Head}
	switch {
	case s.Revoked:
		t.State = CodeRevoked
	case s.MaxUses > 0 && s.Uses >= s.MaxUses:
		t.State = TokenUsedUp
	}
	return t
}

// TokenByID finds a token, also a dead one.
func TokenByID(ctx context.Context, q Querier, id domain.TokenID) (Token, bool, error) {
	return one(ctx, q, tokens, tokenRow, "key = ? AND known = 1", string(id))
}

// TokenFilter narrows a list of tokens; nil Tenants means all, an empty Category is no condition.
type TokenFilter struct {
	Tenants  []domain.TenantID
	Category domain.CategoryID
	Revoked  bool // revoked ones too
}

// ListTokens lists tokens by id.
func ListTokens(ctx context.Context, q Querier, f TokenFilter, p Page) (Listed[Token], error) {
	var c clause
	c.is(present(f.Revoked))
	in(&c, "tenant_id", f.Tenants)
	equal(&c, "category_id", f.Category)
	return list(ctx, q, tokens, tokenRow, "key", c, p)
}
