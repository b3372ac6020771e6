package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"

	"ledgerline/domain"
	"ledgerline/projections"
)

// leaves is what a history comes to, whatever store it stands on (D7).
type leaves struct {
	events int
	digest [32]byte // SHA-256 over the leaf hashes in order
	hash   hash.Hash
}

func newLeaves() *leaves { return &leaves{hash: sha256.New()} }

func (l *leaves) add(r domain.Recorded) {
	leaf := domain.LeafHash(r)
	l.hash.Write(leaf[:])
	l.events++
}

func (l *leaves) sum() *leaves {
	l.hash.Sum(l.digest[:0])
	return l
}

// leavesOf reads a whole log. Bookkeeping is no history and leaves no leaf.
func leavesOf(ctx context.Context, log projections.Log) (*leaves, error) {
	l := newLeaves()
	for r, err := range history(log.ReadAll(ctx, domain.Position{})) {
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		l.add(r)
	}
	return l.sum(), nil
}
