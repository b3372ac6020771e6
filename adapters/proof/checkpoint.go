package proof

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"ledgerline/domain"
)

// Checkpoint is what a signer says of the log: its first Size leaves have this root.
type Checkpoint struct {
	Origin   string
	Size     int64 // leaves, at least 1
	Root     tlog.Hash
	Position domain.Position // of the last of them, in the log that was signed
	At       time.Time       // UTC, whole seconds
}

// ErrBadCheckpoint: a text is no checkpoint, or is not signed by the key it was checked with.
var ErrBadCheckpoint = errors.New("not a checkpoint signed by this key")

// String is the text that is signed (C2SP tlog-checkpoint): origin, size, root, then our extension lines.
func (c Checkpoint) String() string {
	return fmt.Sprintf("%s\n%d\n%s\nposition %s\ntime %s\n", c.Origin, c.Size, c.Root, c.Position, c.At.UTC().Format(time.RFC3339))
}

// ParseCheckpoint reads a note's text without asking who signed it. Unknown extension lines are allowed.
func ParseCheckpoint(text string) (c Checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[0] == "" {
		return c, ErrBadCheckpoint
	}
	c.Origin = lines[0]
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 1 {
		return c, fmt.Errorf("%w: size %q", ErrBadCheckpoint, lines[1])
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return c, fmt.Errorf("%w: root %q", ErrBadCheckpoint, lines[2])
	}
	for _, l := range lines[3:] {
		if l == "" {
			break
		}
		name, value, _ := strings.Cut(l, " ")
		switch name {
		case "position":
			c.Position, err = domain.ParsePosition(value)
		case "time":
			c.At, err = time.Parse(time.RFC3339, value)
		}
		if err != nil {
			return c, fmt.Errorf("%w: %s %q", ErrBadCheckpoint, name, value)
		}
	}
	return c, nil
}

// OpenCheckpoint reads a signed checkpoint. With a nil v the signature is not looked at.
func OpenCheckpoint(signed string, v note.Verifier) (Checkpoint, error) {
	text, _, found := strings.Cut(signed, "\n\n")
	if !found {
		return Checkpoint{}, ErrBadCheckpoint
	}
	if v != nil {
		n, err := note.Open([]byte(signed), note.VerifierList(v))
		if err != nil {
			return Checkpoint{}, fmt.Errorf("%w: %w", ErrBadCheckpoint, err)
		}
		text = n.Text
	}
	c, err := ParseCheckpoint(text)
	if err == nil && v != nil && c.Origin != v.Name() {
		return c, fmt.Errorf("%w: it is of %q, the key of %q", ErrBadCheckpoint, c.Origin, v.Name())
	}
	return c, err
}

// Checkpoints splits a file of signed checkpoints, each followed by an empty line as Keeper appends them
// (the last one need not be), in the order they stand there. A torn last one, from a crash while it was
// written, is left out.
func Checkpoints(file string) []string {
	var out []string
	for len(file) > 0 {
		text, rest, found := strings.Cut(file, "\n\n")
		if !found {
			break
		}
		signatures, next, ended := strings.Cut(rest, "\n\n")
		if !ended && !strings.HasSuffix(rest, "\n") {
			break
		}
		out = append(out, strings.TrimLeft(text, "\n")+"\n\n"+strings.TrimSuffix(signatures, "\n")+"\n")
		file = next
	}
	return out
}

// Signer signs checkpoints: an Ed25519 key whose name is the origin.
type Signer struct {
	signer note.Signer
	// Key is the verifier key that goes to auditors.
	Key string
}

// NewSigner makes the signer of a 32-byte seed. The origin follows from the key, so whoever has the
// verifier key knows the name.
func NewSigner(seed []byte) (*Signer, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("a signing seed has %d bytes, not %d", ed25519.SeedSize, len(seed))
	}
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	sum := sha256.Sum256(public)
	key, err := note.NewEd25519VerifierKey("ledgerline/"+hex.EncodeToString(sum[:8]), public)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(key)
	if err != nil {
		return nil, err
	}
	const ed25519Algorithm = 1
	s, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", v.Name(), v.KeyHash(), base64.StdEncoding.EncodeToString(append([]byte{ed25519Algorithm}, seed...))))
	if err != nil {
		return nil, err
	}
	return &Signer{s, key}, nil
}

// Sign signs the tree that e is the edge of.
func (s *Signer) Sign(e *Edge, at domain.Position, now time.Time) (domain.CheckpointSigned, error) {
	c := Checkpoint{Origin: s.signer.Name(), Size: e.Size(), Root: e.Root(), Position: at, At: now}
	signed, err := note.Sign(&note.Note{Text: c.String()}, s.signer)
	if err != nil {
		return domain.CheckpointSigned{}, fmt.Errorf("sign a checkpoint: %w", err)
	}
	return domain.CheckpointSigned{Origin: c.Origin, Size: c.Size, Root: c.Root.String(), Position: at, Note: string(signed), Key: s.Key}, nil
}
