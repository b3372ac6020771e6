// Package proof makes the log prove itself: a Merkle tree over the events (RFC 6962 hashing, D7 leaves),
// signed checkpoints of it, and proofs that anyone can check offline.
//
// Why a tree beside the ledger's hash chain? The chain says whether a file is what was written, to
// whoever holds the whole file. A checkpoint is three lines that can be given away, and two proofs of a
// few hundred bytes say against it: this event stands at that place (inclusion), and nothing that stood
// there then was changed since (consistency). The same history has the same tree on every store.
//
// No tree is stored. Signing needs its right edge only, one hash per level, which is kept in a small file
// beside the data and made anew from the log when that is lost; a proof is computed in one pass over the
// log, in memory for one hash per level.
//
// A checkpoint nobody else has seen proves nothing against the owner of the machine: Keeper appends each
// to a file that operators copy off, and records it as an event.
package proof

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"

	"ledgerline/domain"
)

// Edge is a tree as far as growing it needs: the roots of its complete subtrees, largest first, one for
// each bit that is set in its size. The zero value is the empty tree. Not safe for concurrent use.
type Edge struct {
	size  int64
	roots []tlog.Hash
}

// Size is the number of leaves.
func (e *Edge) Size() int64 { return e.size }

// Append adds a leaf (the 32 bytes of domain.LeafHash). made, if not nil, is told every node of the tree
// that is complete with it, by its tlog.StoredHashIndex.
func (e *Edge) Append(leaf [32]byte, made func(index int64, h tlog.Hash)) {
	n, h := e.size, tlog.RecordHash(leaf[:])
	for level := 0; ; level++ {
		if made != nil {
			made(tlog.StoredHashIndex(level, n), h)
		}
		if n&1 == 0 {
			break
		}
		last := len(e.roots) - 1
		h, e.roots, n = tlog.NodeHash(e.roots[last], h), e.roots[:last], n>>1
	}
	e.roots = append(e.roots, h)
	e.size++
}

// Root is the tree's root; of the empty tree the zero hash.
func (e *Edge) Root() tlog.Hash {
	if e.size == 0 {
		return tlog.Hash{}
	}
	last := len(e.roots) - 1
	h := e.roots[last]
	for i := last - 1; i >= 0; i-- {
		h = tlog.NodeHash(e.roots[i], h)
	}
	return h
}

type edgeJSON struct {
	Size  int64       `json:"size"`
	Roots []tlog.Hash `json:"roots"`
}

// MarshalJSON writes size and roots.
func (e Edge) MarshalJSON() ([]byte, error) { return json.Marshal(edgeJSON{e.size, e.roots}) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *Edge) UnmarshalJSON(b []byte) error {
	var j edgeJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	if j.Size < 0 || len(j.Roots) != bits.OnesCount64(uint64(j.Size)) {
		return fmt.Errorf("an edge of %d leaves has %d roots, not %d", j.Size, bits.OnesCount64(uint64(j.Size)), len(j.Roots))
	}
	e.size, e.roots = j.Size, j.Roots
	return nil
}

// IsLeaf tells whether r is a leaf of the tree: whether its stream is part of the proven history (D7).
func IsLeaf(r domain.Recorded) bool { return !r.Stream.Internal() }

// errNodes asks for nodes that are not known yet; see nodes.
var errNodes = errors.New("nodes wanted")

// nodes are hashes of the tree by their tlog.StoredHashIndex: first the wish list, then the hashes.
type nodes map[int64]tlog.Hash

// want runs prove once, without hashes, to learn which it asks for.
func want(wanted nodes, prove func(tlog.HashReader) error) error {
	err := prove(tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		for _, i := range indexes {
			wanted[i] = tlog.Hash{}
		}
		return nil, errNodes
	}))
	if err == nil || errors.Is(err, errNodes) {
		return nil
	}
	return err
}

func (n nodes) note(index int64, h tlog.Hash) {
	if _, wanted := n[index]; wanted {
		n[index] = h
	}
}

// ReadHashes implements tlog.HashReader.
func (n nodes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		h, ok := n[index]
		if !ok {
			return nil, fmt.Errorf("node %d was not gathered", index)
		}
		out[i] = h
	}
	return out, nil
}
