package domain

import (
	"encoding/hex"
	"testing"

	"github.com/google/uuid"
)

var leafSample = Recorded{
	Stream: "device-0015651a2b3c", Revision: 7, Position: At(99), ID: uuid.MustParse("018f3a1c-9b7d-7e21-a4c5-d6e7f8091a2b"),
	Type: "device.assigned", Data: []byte(`{"tenant_id":"t"}`), Metadata: []byte(`{"actor":"cli:root"}`),
}

// TestLeafHashNeverChanges: proofs given out stay true only while this does. The value was computed
// apart from this code, with Python's hashlib over the bytes of LeafHash's comment.
func TestLeafHashNeverChanges(t *testing.T) {
	const want = "d47f95960c52c5d1fc282e254dd6e346a5a90b6fcc4fd335c70a537f94bd5d86"
	if got := LeafHash(leafSample); hex.EncodeToString(got[:]) != want {
		t.Fatalf("%x", got)
	}
}

// TestLeafHashCoversTheEvent: every part but the position counts, and no part can slide into its neighbour.
func TestLeafHashCoversTheEvent(t *testing.T) {
	seen := map[[32]byte]string{LeafHash(leafSample): "the sample"}
	for name, change := range map[string]func(*Recorded){
		"stream":            func(r *Recorded) { r.Stream += "x" },
		"revision":          func(r *Recorded) { r.Revision++ },
		"id":                func(r *Recorded) { r.ID[15]++ },
		"type":              func(r *Recorded) { r.Type += ".v2" },
		"data":              func(r *Recorded) { r.Data = []byte(`{"tenant_id":"u"}`) },
		"metadata":          func(r *Recorded) { r.Metadata = nil },
		"data for metadata": func(r *Recorded) { r.Data, r.Metadata = r.Metadata, r.Data },
	} {
		r := leafSample
		change(&r)
		h := LeafHash(r)
		if other := seen[h]; other != "" {
			t.Errorf("%s has the leaf of %s", name, other)
		}
		seen[h] = name
	}
	moved := leafSample
	moved.Position = Position{}
	if LeafHash(moved) != LeafHash(leafSample) {
		t.Error("the position changes the leaf")
	}
}
