package main

import (
	"context"
	"crypto/sha256"
	"fmt"

	"ledgerline/domain"
	"ledgerline/projections"
)

// leaves is what a history comes to, whatever store it stands on (D7).
type leaves struct {
	events int
	digest [32]byte // SHA-256 over the leaf hashes in order
	end    domain.Position
}

// leavesOf reads a whole log. Bookkeeping is no history and leaves no leaf.
func leavesOf(ctx context.Context, log projections.Log) (leaves, error) {
	var l leaves
	h := sha256.New()
	for r, err := range log.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return l, fmt.Errorf("read the log: %w", err)
		}
		l.end = r.Position
		if r.Stream.Internal() {
			continue
		}
		leaf := domain.LeafHash(r)
		h.Write(leaf[:])
		l.events++
	}
	h.Sum(l.digest[:0])
	return l, nil
}
