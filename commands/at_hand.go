package commands

import (
	"errors"
	"hash/maphash"
	"io"
	"strings"
	"sync"
)

// atHand keeps files for the phones that ask next, in pieces: phones of a family have most lines in common, and equal
// pieces stand in memory once. Two generations, the older dropped when the newer is full; each owns its pieces, so
// nothing is counted. The zero value is ready; safe for concurrent use.
type atHand struct {
	mu           sync.Mutex
	newer, older kept
}

// kept is one generation.
type kept struct {
	files  map[string]pieces // by MAC
	pieces map[uint64]string // by hash; of two with one hash the second stands once per file
	size   int               // bytes, about
}

// pieces are a file, one after the other. Never changed.
type pieces []string

// bytesAtHand bounds both generations together.
const bytesAtHand = 32 << 20

var pieceSeed = maphash.MakeSeed()

func (h *atHand) get(mac string) (pieces, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f, ok := h.newer.files[mac]; ok {
		return f, true
	}
	f, ok := h.older.files[mac]
	if ok {
		f = h.insert(mac, f)
	}
	return f, ok
}

// put keeps a file, and answers it as it is kept.
func (h *atHand) put(mac string, data []byte) pieces {
	f := cut(string(data))
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.insert(mac, f)
}

func (h *atHand) insert(mac string, f pieces) pieces {
	if h.newer.files == nil || h.newer.size > bytesAtHand/2 {
		h.older, h.newer = h.newer, kept{files: make(map[string]pieces), pieces: make(map[uint64]string)}
	}
	const file, piece = 128, 48 // what maps take beside the bytes
	own := make(pieces, len(f))
	for i, p := range f {
		hash := maphash.String(pieceSeed, p)
		if own[i] = h.newer.pieces[hash]; own[i] != p {
			own[i] = strings.Clone(p) // p may keep a whole file
			h.newer.pieces[hash] = own[i]
			h.newer.size += len(p) + piece
		}
	}
	h.newer.files[mac] = own
	h.newer.size += 16*len(own) + file
	return own
}

// drop forgets files that were erased, and their pieces; files that share one have it still.
func (h *atHand) drop(macs []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range []kept{h.newer, h.older} {
		for _, mac := range macs {
			for _, p := range g.files[mac] {
				delete(g.pieces, maphash.String(pieceSeed, p))
			}
			delete(g.files, mac)
		}
	}
}

const (
	pieceLeast = 64
	pieceMost  = 2048
)

// cut divides a file behind some of its lines. Which, the line itself decides: files that differ in a few lines have
// the other pieces in common.
func cut(text string) pieces {
	f := make(pieces, 0, len(text)/256+1)
	from, at := 0, 0
	for line := range strings.Lines(text) {
		at += len(line)
		for at-from > pieceMost {
			f, from = append(f, text[from:from+pieceMost]), from+pieceMost
		}
		if at-from >= pieceLeast && maphash.String(pieceSeed, line)%4 == 0 {
			f, from = append(f, text[from:at]), at
		}
	}
	if from < at {
		f = append(f, text[from:])
	}
	return f
}

// piecesReader reads pieces as one file.
type piecesReader struct {
	whole, rest pieces
	off         int // read of rest[0]
	size, at    int64
}

func (f pieces) reader(size int) *piecesReader {
	return &piecesReader{whole: f, rest: f, size: int64(size)}
}

func (r *piecesReader) Read(b []byte) (n int, err error) {
	for n < len(b) && len(r.rest) > 0 {
		k := copy(b[n:], r.rest[0][r.off:])
		n, r.off = n+k, r.off+k
		if r.off == len(r.rest[0]) {
			r.rest, r.off = r.rest[1:], 0
		}
	}
	r.at += int64(n)
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

var errSeek = errors.New("no such place in the file")

func (r *piecesReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errSeek
	}
	r.at, r.rest, r.off = offset, r.whole, 0
	for left := offset; left > 0 && len(r.rest) > 0; {
		if k := int64(len(r.rest[0])); left >= k {
			r.rest, left = r.rest[1:], left-k
		} else {
			r.off, left = int(left), 0
		}
	}
	return offset, nil
}
