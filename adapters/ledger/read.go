package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/domain"
)

const (
	pageRows  = 512
	pageBytes = 1 << 20 // a page ends early once it holds this much
)

// columns are what scan reads.
const columns = "position, stream, revision, id, type, chain, metadata, data"

// hidden tells whether ReadAll leaves the stream out.
func hidden(s domain.StreamID) bool { return strings.HasPrefix(string(s), "$") }

// Read implements commands.Log. "Present end" is the end when the iteration begins.
func (l *Ledger) Read(ctx context.Context, stream domain.StreamID, from domain.Revision) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		last, err := l.lastRevision(ctx, stream)
		if err != nil {
			yield(domain.Recorded{}, fmt.Errorf("read %s: %w", stream, err))
			return
		}
		for from = max(from, 0); from <= last; {
			p, err := l.page(ctx, func(r *reader) *sqlite.Stmt {
				s := r.stream
				s.BindText(1, string(stream))
				s.BindInt64(2, int64(from))
				s.BindInt64(3, int64(last))
				return s
			})
			if err == nil && len(p.events) == 0 {
				err = fmt.Errorf("%w: revision %d is missing", domain.ErrDamaged, from)
			}
			if err != nil {
				yield(domain.Recorded{}, fmt.Errorf("read %s: %w", stream, err))
				return
			}
			for _, e := range p.events {
				if e.Revision != from {
					yield(domain.Recorded{}, fmt.Errorf("read %s: %w: revision %d is missing", stream, domain.ErrDamaged, from))
					return
				}
				if !yield(e, nil) {
					return
				}
				from++
			}
		}
	}
}

// ReadAll implements commands.Log. "Present end" is the end when the iteration begins.
func (l *Ledger) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		head, err := l.Head(ctx)
		if err != nil {
			yield(domain.Recorded{}, fmt.Errorf("read log: %w", err))
			return
		}
		for at := after.Commit; at < head.Commit; {
			if at, err = l.yieldPage(ctx, at, head.Commit, yield); err != nil {
				return
			}
		}
	}
}

// Subscribe implements commands.Log. It also ends with ErrClosed when the ledger is closed.
func (l *Ledger) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for at := after.Commit; ; {
			news := l.news.wait() // before looking, so that nothing slips in between
			head, err := l.Head(ctx)
			if err != nil {
				yield(domain.Recorded{}, fmt.Errorf("subscribe: %w", err))
				return
			}
			if at < head.Commit {
				if at, err = l.yieldPage(ctx, at, head.Commit, yield); err != nil {
					return
				}
				continue
			}
			if err := l.await(ctx, news); err != nil {
				yield(domain.Recorded{}, fmt.Errorf("subscribe: %w", err))
				return
			}
		}
	}
}

// await returns when there may be news.
func (l *Ledger) await(ctx context.Context, news <-chan struct{}) error {
	var poll <-chan time.Time
	if l.opts.ReadOnly {
		poll = time.After(pollEvery)
	}
	select {
	case <-news:
		return nil
	case <-poll:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.closing:
		return ErrClosed
	}
}

var errStopped = errors.New("reader stopped")

// yieldPage yields one page of the log behind position at and up to head; it returns where it got to. On
// an error, already yielded, the iteration is over.
func (l *Ledger) yieldPage(ctx context.Context, at, head uint64, yield func(domain.Recorded, error) bool) (uint64, error) {
	p, err := l.page(ctx, func(r *reader) *sqlite.Stmt {
		r.all.BindInt64(1, int64(at))
		r.all.BindInt64(2, int64(head))
		return r.all
	})
	if err == nil && len(p.events) == 0 {
		err = fmt.Errorf("%w: position %d is missing", domain.ErrDamaged, head)
	}
	if err != nil {
		err = fmt.Errorf("read log after %d: %w", at, err)
		yield(domain.Recorded{}, err)
		return at, err
	}
	for _, e := range p.events {
		at = e.Position.Commit
		if !hidden(e.Stream) && !yield(e, nil) {
			return at, errStopped
		}
	}
	return at, nil
}

// lastRevision is the stream's last revision or domain.ErrNoStream.
func (l *Ledger) lastRevision(ctx context.Context, stream domain.StreamID) (last domain.Revision, err error) {
	err = l.withReader(ctx, func(r *reader) error {
		r.lastOf.BindText(1, string(stream))
		defer r.lastOf.Reset()
		if _, err := r.lastOf.Step(); err != nil {
			return err
		}
		if r.lastOf.ColumnIsNull(0) {
			return domain.ErrNoStream
		}
		last = domain.Revision(r.lastOf.ColumnInt64(0))
		return nil
	})
	return last, err
}

// page is some rows with their chain hashes.
type page struct {
	events []domain.Recorded
	chains [][32]byte
	room   []byte // where the next payloads go
}

// page runs a query over the columns and takes at most pageRows rows or pageBytes bytes of it.
func (l *Ledger) page(ctx context.Context, query func(*reader) *sqlite.Stmt) (p page, err error) {
	err = l.withReader(ctx, func(r *reader) error {
		s := query(r)
		defer s.Reset()
		for size := 0; len(p.events) < pageRows && size < pageBytes; {
			row, err := s.Step()
			if err != nil || !row {
				return err
			}
			n, err := r.scan(s, &p)
			if err != nil {
				return err
			}
			size += n
		}
		return nil
	})
	return p, err
}

// reader is a connection that only reads, with its statements.
type reader struct {
	conn                *sqlite.Conn
	stream, all, lastOf *sqlite.Stmt
	types               map[string]string // event types seen, so that a million events share them
}

// withReader runs do with one of the few readers. It waits for one, and for nothing else: no reader is
// held while a caller looks at what was read.
func (l *Ledger) withReader(ctx context.Context, do func(*reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-l.closing:
		return ErrClosed
	default:
	}
	select {
	case <-l.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	case r := <-l.readers:
		defer func() { l.readers <- r }()
		if r == nil {
			opened, err := l.openReader()
			if err != nil {
				return damaged(err)
			}
			r = opened
		}
		return damaged(do(r))
	}
}

func (l *Ledger) openReader() (*reader, error) {
	if _, err := os.Stat(l.path); errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	conn, err := sqlite.OpenConn(l.path, sqlite.OpenReadOnly)
	if err != nil {
		return nil, err
	}
	r := &reader{conn: conn, types: map[string]string{}}
	if err := r.prepare(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return r, nil
}

func (r *reader) prepare() (err error) {
	r.conn.SetBusyTimeout(busyTimeout)
	if err := sqlitex.ExecuteTransient(r.conn, "pragma cache_size = -8192", nil); err != nil {
		return err
	}
	if r.stream, err = r.conn.Prepare("select " + columns + " from events where stream = ? and revision between ? and ? order by revision"); err != nil {
		return err
	}
	if r.all, err = r.conn.Prepare("select " + columns + " from events where position > ? and position <= ? order by position"); err != nil {
		return err
	}
	r.lastOf, err = r.conn.Prepare("select max(revision) from events where stream = ?")
	return err
}

// scan appends the row s stands on to p and returns its size.
func (r *reader) scan(s *sqlite.Stmt, p *page) (int, error) {
	e := domain.Recorded{
		Position: domain.At(uint64(s.ColumnInt64(0))),
		Stream:   domain.StreamID(s.ColumnText(1)),
		Revision: domain.Revision(s.ColumnInt64(2)),
		Type:     r.typeName(s.ColumnText(4)),
	}
	id, err := uuid.Parse(s.ColumnText(3))
	if err != nil {
		return 0, fmt.Errorf("%w: position %d, revision %d of %s: its id is not a UUID", domain.ErrDamaged, e.Position, e.Revision, e.Stream)
	}
	e.ID = id
	var chain [32]byte
	s.ColumnBytes(5, chain[:])
	e.Metadata, e.Data = p.take(s, 6), p.take(s, 7)
	p.events, p.chains = append(p.events, e), append(p.chains, chain)
	return len(e.Metadata) + len(e.Data), nil
}

func (r *reader) typeName(t string) string {
	if known, ok := r.types[t]; ok {
		return known
	}
	if len(r.types) < 1024 {
		r.types[t] = t
	}
	return t
}

// take copies a column into the page's room. Rooms grow from 4 to 64 KiB: one allocation serves many
// events, and one event kept keeps little else alive.
func (p *page) take(s *sqlite.Stmt, col int) []byte {
	n := s.ColumnLen(col)
	if cap(p.room)-len(p.room) < n {
		p.room = make([]byte, 0, max(n, min(64<<10, max(4<<10, 2*cap(p.room)))))
	}
	b := p.room[len(p.room) : len(p.room)+n : len(p.room)+n]
	p.room = p.room[:len(p.room)+n]
	s.ColumnBytes(col, b)
	return b
}

// refresh reads the present end of the log from the file.
func (l *Ledger) refresh(ctx context.Context) error {
	return l.withReader(ctx, func(r *reader) error {
		var last, shown int64
		err := one(r.conn, "select position from head", func(s *sqlite.Stmt) { last = s.ColumnInt64(0) })
		if err != nil {
			return err
		}
		err = one(r.conn, "select position from events where position <= ? and stream not glob '$*' order by position desc limit 1",
			func(s *sqlite.Stmt) { shown = s.ColumnInt64(0) }, last)
		if err != nil {
			return err
		}
		l.last.Store(uint64(last))
		l.lastIn.Store(uint64(shown))
		return nil
	})
}
