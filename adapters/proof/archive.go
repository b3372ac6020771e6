package proof

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"ledgerline/domain"
)

// An archive is a range of the history that proves itself: a gzipped tar of
//
//	README.txt       what it is and how to check it without us
//	checkpoint.note  the signed checkpoint that ends it
//	start.json       the tree's right edge before its first event (no hashes when it begins with the log)
//	events.ndjson    one event a line, in the order of the log
//
// The edge, grown by the leaf of each line, must have the checkpoint's root: so one signature covers every
// byte, and nothing can be left out, put in or changed. What is sealed stays sealed.

// Archive tells what an archive holds.
type Archive struct {
	Checkpoint Checkpoint `json:"-"`
	First      int64      `json:"first"` // number of its first leaf, from 0
	Events     int64      `json:"events"`
	// From and Until are the positions of its first and last event.
	From  domain.Position `json:"from"`
	Until domain.Position `json:"until"`
}

// ErrBadArchive: not an archive, or not what its checkpoint covers.
var ErrBadArchive = errors.New("not an intact archive")

const readme = `A range of a Ledgerline log, with its proof.

events.ndjson    one event a line, in the order of the log; data and metadata are the event's very bytes
start.json       leaf: how many leaves came before; edge: the roots of the complete subtrees over them, base64
checkpoint.note  signed note (golang.org/x/mod/sumdb/note): origin, number of leaves, root

To check it: begin with the edge, and for each line append the RFC 6962 leaf hash of
  SHA-256("ledgerline leaf 1\n", len(stream) as 4 bytes, stream, revision as 8 bytes, id as 16 bytes,
          len(type) as 4 bytes, type, SHA-256(metadata), SHA-256(data))   all numbers big endian
then the root must be the checkpoint's. With the program: ledgerline audit open ARCHIVE --key KEY
`

// start is start.json.
type start struct {
	Leaf int64 `json:"leaf"`
	Edge Edge  `json:"edge"`
}

// line is one line of events.ndjson.
type line struct {
	Position       domain.Position `json:"position"`
	Stream         domain.StreamID `json:"stream"`
	Revision       domain.Revision `json:"revision"`
	ID             uuid.UUID       `json:"id"`
	Type           string          `json:"type"`
	Data           json.RawMessage `json:"data,omitempty"`
	DataBase64     string          `json:"data_base64,omitempty"` // of bytes that are no JSON
	Metadata       json.RawMessage `json:"metadata,omitempty"`
	MetadataBase64 string          `json:"metadata_base64,omitempty"`
}

// Export writes the events after from, up to the end of the signed checkpoint. Errors: ErrBadCheckpoint,
// ErrRewritten (the log is not the one that was signed), ErrNotInLog (no event in the range).
func Export(ctx context.Context, log Log, from domain.Position, signed string, w io.Writer) (Archive, error) {
	c, err := OpenCheckpoint(signed, nil)
	if err != nil {
		return Archive{}, err
	}
	a := Archive{Checkpoint: c}
	// The tar wants sizes first: one pass learns them, the next writes.
	var edge Edge
	var size int64
	var before start
	err = leaves(ctx, log, c.Size, func(r domain.Recorded) error {
		if from.Before(r.Position) {
			if a.Events == 0 {
				b, err := json.Marshal(edge)
				if err != nil {
					return err
				}
				if err := json.Unmarshal(b, &before.Edge); err != nil {
					return err
				}
				before.Leaf, a.First, a.From = edge.Size(), edge.Size(), r.Position
			}
			a.Events++
			a.Until = r.Position
			size += int64(len(lineOf(nil, r)))
		}
		edge.Append(domain.LeafHash(r), nil)
		return nil
	})
	switch {
	case err != nil:
		return a, err
	case edge.Root() != c.Root:
		return a, fmt.Errorf("%w of %d events", ErrRewritten, c.Size)
	case a.Events == 0:
		return a, ErrNotInLog
	}
	head, err := json.Marshal(before)
	if err != nil {
		return a, err
	}
	zip := gzip.NewWriter(w)
	t := tar.NewWriter(zip)
	member := func(name string, size int64) error {
		return t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: c.At, Format: tar.FormatPAX})
	}
	for _, m := range []struct{ name, text string }{{"README.txt", readme}, {"checkpoint.note", signed}, {"start.json", string(head) + "\n"}} {
		if err := member(m.name, int64(len(m.text))); err != nil {
			return a, err
		}
		if _, err := io.WriteString(t, m.text); err != nil {
			return a, err
		}
	}
	if err := member("events.ndjson", size); err != nil {
		return a, err
	}
	var room []byte
	err = leaves(ctx, log, c.Size, func(r domain.Recorded) error {
		if !from.Before(r.Position) {
			return nil
		}
		room = lineOf(room[:0], r)
		_, err := t.Write(room)
		return err
	})
	if err != nil {
		return a, err
	}
	return a, errors.Join(t.Close(), zip.Close())
}

// leaves yields the first n leaves of the log.
func leaves(ctx context.Context, log Log, n int64, each func(domain.Recorded) error) error {
	for r, err := range log.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return err
		}
		if !IsLeaf(r) {
			continue
		}
		if n == 0 {
			return nil
		}
		n--
		if err := each(r); err != nil {
			return err
		}
	}
	if n > 0 {
		return fmt.Errorf("%w: %d events are missing at its end", ErrRewritten, n)
	}
	return nil
}

// lineOf appends the event's line. JSON keeps its very bytes, which are what its leaf is made from.
func lineOf(b []byte, r domain.Recorded) []byte {
	text := func(v any) []byte { // names and numbers: they cannot fail
		out, _ := json.Marshal(v)
		return out
	}
	b = fmt.Appendf(b, `{"position":%s,"stream":%s,"revision":%d,"id":%s,"type":%s`, text(r.Position), text(r.Stream), r.Revision, text(r.ID), text(r.Type))
	for _, part := range []struct {
		name  string
		bytes []byte
	}{{"data", r.Data}, {"metadata", r.Metadata}} {
		switch {
		case len(part.bytes) == 0:
		case json.Valid(part.bytes) && !bytes.ContainsAny(part.bytes, "\n\r") && len(bytes.TrimSpace(part.bytes)) == len(part.bytes):
			b = fmt.Appendf(b, `,%q:%s`, part.name, part.bytes)
		default:
			b = fmt.Appendf(b, `,%q:%q`, part.name+"_base64", base64.StdEncoding.EncodeToString(part.bytes))
		}
	}
	return append(b, "}\n"...)
}

const (
	maxNote = 64 << 10
	maxLine = 4 << 20
)

// ReadArchive reads an archive from end to end and calls each with every event; what each was told counts only
// when the error is nil, for the root is known at the end. With a verifier the checkpoint must be signed by it.
// Errors: ErrBadArchive, ErrBadCheckpoint, those of each.
func ReadArchive(r io.Reader, v note.Verifier, each func(domain.Recorded) error) (Archive, error) {
	var a Archive
	zip, err := gzip.NewReader(r)
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrBadArchive, err)
	}
	t := tar.NewReader(zip)
	var edge Edge
	seen := ""
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a, fmt.Errorf("%w: %w", ErrBadArchive, err)
		}
		seen += " " + h.Name
		switch h.Name {
		case "README.txt":
		case "checkpoint.note":
			b, err := io.ReadAll(io.LimitReader(t, maxNote))
			if err != nil {
				return a, fmt.Errorf("%w: %w", ErrBadArchive, err)
			}
			if a.Checkpoint, err = OpenCheckpoint(string(b), v); err != nil {
				return a, err
			}
		case "start.json":
			b, err := io.ReadAll(io.LimitReader(t, maxNote))
			var s start
			if err == nil {
				err = json.Unmarshal(b, &s)
			}
			if err != nil || s.Leaf != s.Edge.Size() {
				return a, fmt.Errorf("%w: start.json: %v", ErrBadArchive, err)
			}
			edge, a.First = s.Edge, s.Leaf
		case "events.ndjson":
			if err := readLines(t, &edge, &a, each); err != nil {
				return a, err
			}
		default:
			return a, fmt.Errorf("%w: it holds %q", ErrBadArchive, h.Name)
		}
	}
	// Behind the tar's end stand padding and the checksum.
	if _, err := io.Copy(io.Discard, io.LimitReader(zip, maxNote)); err != nil {
		return a, fmt.Errorf("%w: %w", ErrBadArchive, err)
	}
	if strings.TrimPrefix(seen, " README.txt") != " checkpoint.note start.json events.ndjson" {
		return a, fmt.Errorf("%w: it holds%s", ErrBadArchive, seen)
	}
	if edge.Size() != a.Checkpoint.Size || edge.Root() != a.Checkpoint.Root {
		return a, fmt.Errorf("%w: its %d events after %d are not those of the checkpoint over %d", ErrBadArchive, a.Events, a.First, a.Checkpoint.Size)
	}
	return a, nil
}

func readLines(r io.Reader, edge *Edge, a *Archive, each func(domain.Recorded) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("%w: line %d: %w", ErrBadArchive, a.Events+1, err)
		}
		data, err1 := bytesOf(l.Data, l.DataBase64)
		metadata, err2 := bytesOf(l.Metadata, l.MetadataBase64)
		if err := errors.Join(err1, err2); err != nil || l.Revision < 0 || l.Stream == "" || len(l.Stream) > math.MaxUint16 {
			return fmt.Errorf("%w: line %d: %v", ErrBadArchive, a.Events+1, err)
		}
		e := domain.Recorded{Stream: l.Stream, Revision: l.Revision, Position: l.Position, ID: l.ID, Type: l.Type, Data: data, Metadata: metadata}
		edge.Append(domain.LeafHash(e), nil)
		if a.Events == 0 {
			a.From = e.Position
		}
		a.Events, a.Until = a.Events+1, e.Position
		if each != nil {
			if err := each(e); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: line %d: %w", ErrBadArchive, a.Events+1, err)
	}
	return nil
}

func bytesOf(raw json.RawMessage, encoded string) ([]byte, error) {
	if encoded != "" {
		return base64.StdEncoding.DecodeString(encoded)
	}
	return bytes.Clone(raw), nil
}

// ChooseCheckpoint is the first of the signed checkpoints that covers everything up to until (zero: the
// latest). ok is false when none does yet.
func ChooseCheckpoint(signed []string, until domain.Position) (text string, ok bool) {
	var best Checkpoint
	for _, s := range signed {
		c, err := OpenCheckpoint(s, nil)
		if err != nil || c.Position.Before(until) {
			continue
		}
		if !ok || until.IsZero() == (c.Size > best.Size) {
			text, best, ok = s, c, true
		}
	}
	return text, ok
}
