package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"os"
	"strings"
	"sync/atomic"
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
		from = max(from, 0)
		if events, end, ok := l.recent.read(stream, from); ok {
			err := l.readable(ctx)
			if err == nil && end == domain.NoStream {
				err = domain.ErrNoStream
			}
			if err != nil {
				yield(domain.Recorded{}, fmt.Errorf("read %s: %w", stream, err))
				return
			}
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
			return
		}
		forgot := l.recent.look()
		last := domain.Revision(math.MaxInt64) // of the stream when the iteration begins
		for begun := false; !begun || from <= last; begun = true {
			p, err := l.page(ctx, pageRows, 16, func(r *reader) *sqlite.Stmt {
				s := r.stream
				s.BindText(1, string(stream))
				s.BindInt64(2, int64(from))
				s.BindInt64(3, int64(last))
				return s
			})
			// Most streams are short: all of one there is comes with the first page, a snapshot in itself.
			switch {
			case err == nil && !begun && p.whole && len(p.events) > 0:
				last = p.events[len(p.events)-1].Revision
				l.recent.learn(stream, last, forgot)
			case err == nil && !begun && p.whole && from == 0:
				err = domain.ErrNoStream
				l.recent.learn(stream, domain.NoStream, forgot)
			case err == nil && !begun:
				var end head
				end, err = l.endOf(ctx, stream)
				if err == nil || errors.Is(err, domain.ErrNoStream) {
					l.recent.learn(stream, end.last, forgot)
				}
				if err == nil {
					if last = end.last; len(p.events) == 0 {
						last = min(last, from-1) // what came since came later
					}
				}
			case err == nil && len(p.events) == 0:
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

// Whole is the ledger with the streams that begin with "$", which serve EventStoreDB clients: ReadAll,
// Subscribe and Head see them too. Everything else is the ledger's.
type Whole struct{ *Ledger }

// Whole is the same ledger, seen whole.
func (l *Ledger) Whole() Whole { return Whole{l} }

// Head is the position of the last event there is.
func (w Whole) Head(ctx context.Context) (domain.Position, error) { return w.headOf(ctx, &w.last) }

// ReadAll is as the ledger's.
func (w Whole) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return w.readAll(ctx, after, w.Head, everything)
}

// Subscribe is as the ledger's.
func (w Whole) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return w.subscribe(ctx, after, w.Head, everything)
}

func everything(domain.StreamID) bool { return true }

// visible tells whether ReadAll shows the stream.
func visible(s domain.StreamID) bool { return !hidden(s) }

// Head is the position of the last event that ReadAll shows: streams that begin with "$" do not count.
func (l *Ledger) Head(ctx context.Context) (domain.Position, error) { return l.headOf(ctx, &l.lastIn) }

func (l *Ledger) headOf(ctx context.Context, last *atomic.Uint64) (domain.Position, error) {
	if l.opts.ReadOnly {
		if err := l.refresh(ctx); err != nil {
			return domain.Position{}, fmt.Errorf("head of the log: %w", err)
		}
	}
	return domain.At(last.Load()), nil
}

// ReadAll implements commands.Log. "Present end" is the end when the iteration begins.
func (l *Ledger) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return l.readAll(ctx, after, l.Head, visible)
}

// Subscribe implements commands.Log. It also ends with ErrClosed when the ledger is closed.
func (l *Ledger) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return l.subscribe(ctx, after, l.Head, visible)
}

type headFunc = func(context.Context) (domain.Position, error)

func (l *Ledger) readAll(ctx context.Context, after domain.Position, end headFunc, show func(domain.StreamID) bool) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		head, err := end(ctx)
		if err != nil {
			yield(domain.Recorded{}, fmt.Errorf("read log: %w", err))
			return
		}
		l.yieldAll(ctx, after.Commit, head.Commit, show, yield)
	}
}

func (l *Ledger) subscribe(ctx context.Context, after domain.Position, end headFunc, show func(domain.StreamID) bool) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for at := after.Commit; ; {
			news := l.news.wait() // before looking, so that nothing slips in between
			head, err := end(ctx)
			if err != nil {
				yield(domain.Recorded{}, fmt.Errorf("subscribe: %w", err))
				return
			}
			if at < head.Commit {
				if !l.yieldAll(ctx, at, head.Commit, show, yield) {
					return
				}
				at = head.Commit
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

// yieldAll yields the log after position at up to and including head; false when the iteration is over.
// While the caller looks at one full page the next is read already.
func (l *Ledger) yieldAll(ctx context.Context, at, head uint64, show func(domain.StreamID) bool, yield func(domain.Recorded, error) bool) bool {
	var ahead chan fetched
	defer func() {
		if ahead != nil {
			<-ahead
		}
	}()
	for at < head {
		if ahead == nil {
			if events := l.recent.after(at, head); len(events) > 0 {
				if err := l.readable(ctx); err != nil {
					yield(domain.Recorded{}, fmt.Errorf("read log after %d: %w", at, err))
					return false
				}
				for _, e := range events {
					if show(e.Stream) && !yield(e, nil) {
						return false
					}
				}
				at = events[len(events)-1].Position.Commit
				continue
			}
		}
		var f fetched
		if ahead == nil {
			f = l.fetch(ctx, at, head)
		} else {
			f, ahead = <-ahead, nil
		}
		if f.err != nil {
			yield(domain.Recorded{}, fmt.Errorf("read log after %d: %w", at, f.err))
			return false
		}
		last := f.page.events[len(f.page.events)-1].Position.Commit
		if last < head && len(f.page.events) == pageRows {
			next := make(chan fetched, 1)
			go func() { next <- l.fetch(ctx, last, head) }()
			ahead = next
		}
		for _, e := range f.page.events {
			if show(e.Stream) && !yield(e, nil) {
				return false
			}
		}
		at = last
	}
	return true
}

type fetched struct {
	page page
	err  error
}

// fetch reads one page behind at; there is at least one row up to head.
func (l *Ledger) fetch(ctx context.Context, at, head uint64) fetched {
	rows := int(min(head-at, pageRows))
	p, err := l.page(ctx, rows, rows, func(r *reader) *sqlite.Stmt {
		r.all.BindInt64(1, int64(at))
		r.all.BindInt64(2, int64(head))
		return r.all
	})
	if err == nil && len(p.events) == 0 {
		err = fmt.Errorf("%w: position %d is missing", domain.ErrDamaged, head)
	}
	return fetched{p, err}
}

// endOf is the end of the stream or domain.ErrNoStream.
func (l *Ledger) endOf(ctx context.Context, stream domain.StreamID) (h head, err error) {
	err = l.withReader(ctx, func(r *reader) error {
		if h, err = findHead(r.find, stream); err == nil && h.last == domain.NoStream {
			err = domain.ErrNoStream
		}
		return err
	})
	return h, err
}

// page is some rows with their chain hashes.
type page struct {
	events []domain.Recorded
	chains [][32]byte
	room   []byte // where the next payloads go
	whole  bool   // the query has no more rows
}

// page runs a query over the columns and takes at most rows rows or pageBytes bytes of it; about so many are expected.
func (l *Ledger) page(ctx context.Context, rows, expected int, query func(*reader) *sqlite.Stmt) (p page, err error) {
	p.events, p.chains = make([]domain.Recorded, 0, expected), make([][32]byte, 0, expected)
	err = l.withReader(ctx, func(r *reader) error {
		s := query(r)
		defer s.Reset()
		for size := 0; len(p.events) < rows && size < pageBytes; {
			row, err := s.Step()
			if err != nil || !row {
				p.whole = err == nil
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
	conn              *sqlite.Conn
	stream, all, find *sqlite.Stmt
	types             map[string]string // event types seen, so that a million events share them
}

// withReader runs do with one of the few readers. It waits for one, and for nothing else: no reader is
// held while a caller looks at what was read.
func (l *Ledger) withReader(ctx context.Context, do func(*reader) error) error {
	if err := l.readable(ctx); err != nil {
		return err
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

// readable is why there is nothing to read any more.
func (l *Ledger) readable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-l.closing:
		return ErrClosed
	default:
		return nil
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
	if err := sqlitex.ExecuteTransient(r.conn, "pragma cache_size = -2048", nil); err != nil { // the system keeps the file at hand as well
		return err
	}
	if r.stream, err = r.conn.Prepare("select " + columns + " from events where sid = (select sid from streams where name = ?) and revision between ? and ? order by revision"); err != nil {
		return err
	}
	if r.all, err = r.conn.Prepare("select " + columns + " from events where position > ? and position <= ? order by position"); err != nil {
		return err
	}
	r.find, err = r.conn.Prepare(findStream)
	return err
}

// scan appends the row s stands on to p and returns its size.
func (r *reader) scan(s *sqlite.Stmt, p *page) (int, error) {
	e := domain.Recorded{
		Position: domain.At(uint64(s.ColumnInt64(0))),
		Stream:   domain.StreamID(s.ColumnText(1)),
		Revision: domain.Revision(s.ColumnInt64(2)),
		Type:     r.typeName(s, 4),
	}
	var text [36]byte
	n := s.ColumnBytes(3, text[:])
	id, err := uuid.ParseBytes(text[:n])
	if err != nil {
		return 0, fmt.Errorf("%w: position %s (revision %d of %s): its id is not a UUID", domain.ErrDamaged, e.Position, e.Revision, e.Stream)
	}
	e.ID = id
	var chain [32]byte
	s.ColumnBytes(5, chain[:])
	e.Metadata, e.Data = p.take(s, 6), p.take(s, 7)
	p.events, p.chains = append(p.events, e), append(p.chains, chain)
	return len(e.Metadata) + len(e.Data), nil
}

// typeName reads an event type without making a new string for each of a million events.
func (r *reader) typeName(s *sqlite.Stmt, col int) string {
	var room [64]byte
	if n := s.ColumnBytes(col, room[:]); n < len(room) {
		if known, ok := r.types[string(room[:n])]; ok {
			return known
		}
	}
	t := s.ColumnText(col)
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
