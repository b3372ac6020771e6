package domain

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
)

// leafTag begins every leaf, so that a leaf can be no other hash of ours; a change of the encoding
// below would be a new tag.
const leafTag = "ledgerline leaf 1\n"

// LeafHash is the hash of one event in every proof (D7): the SHA-256 of
//
//	"ledgerline leaf 1\n"
//	length of the stream's name (4 bytes, big endian), the name
//	revision (8 bytes, big endian)
//	event id (16 bytes)
//	length of the type (4 bytes, big endian), the type
//	SHA-256 of the metadata (32 bytes)
//	SHA-256 of the data (32 bytes)
//
// Every part has a fixed or a stated length, so no two events share an encoding. Neither position nor
// the server's time goes in: the same history has the same leaves on every store.
func LeafHash(r Recorded) [32]byte {
	return LeafOf(r.Stream, r.Revision, r.ID, r.Type, sha256.Sum256(r.Metadata), sha256.Sum256(r.Data))
}

// LeafOf is LeafHash from the digests of metadata and data, for who has those already.
func LeafOf(stream StreamID, revision Revision, id uuid.UUID, eventType string, metadata, data [32]byte) [32]byte {
	var room [256]byte
	b := append(room[:0], leafTag...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(stream)))
	b = append(b, stream...)
	b = binary.BigEndian.AppendUint64(b, uint64(revision))
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(eventType)))
	b = append(b, eventType...)
	b = append(b, metadata[:]...)
	b = append(b, data[:]...)
	return sha256.Sum256(b)
}
