package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/domain"
)

const (
	maxBatch    = 1000            // appends in one transaction
	maxHeads    = 1 << 17         // streams whose last revision is remembered, about 12 MiB
	maxWAL      = 4000            // pages in the write-ahead log before it is folded into the file
	hugeWAL     = 10 * maxWAL     // … and before that waits for readers
	idleAfter   = time.Second     // quiet before the write-ahead log is folded and emptied
	busyTimeout = 5 * time.Second // wait for somebody with sqlite3

	checkpointTimeout = 20 * time.Millisecond // wait for readers while appends wait for us
)

// writer is the one goroutine that writes. Its fields belong to that goroutine but for queue, done and failed.
type writer struct {
	l      *Ledger
	conn   *sqlite.Conn
	queue  chan *request
	done   chan struct{}
	failed atomic.Pointer[error]

	insert, name, find, at, byID, begin, commit, rollback, undo, setHead *sqlite.Stmt

	heads       map[domain.StreamID]head // lazily loaded; forgotten whole when full or in doubt
	names       int64                    // the highest sid given out
	tip, synced mark
	fresh       []domain.Recorded // written since synced
	before      int               // callers of the batch before
	restarted   time.Time         // when the write-ahead log last waited for its readers
}

// head is the end of one stream.
type head struct {
	sid  int64 // zero: it has no number yet
	last domain.Revision
}

// mark is a place in the log: the last position, the chain up to it, and the last position ReadAll shows.
type mark struct {
	position, shown uint64
	chain           [32]byte
}

// request is one thing to write: an append, or do.
type request struct {
	stream   domain.StreamID
	expected domain.Revision
	rows     []row
	do       func(*sqlite.Conn) error

	state  atomic.Int32 // free, taken by the writer, or left by its caller
	answer chan answer  // of capacity 1: the writer never waits for a caller
}

// row is an event as it will be stored; its caller has done the dear part of the work.
type row struct {
	recorded               domain.Recorded // but for its place
	id                     uuid.UUID
	idText, kind           string
	metadata, data         payload
	metadataHash, dataHash [32]byte
}

type answer struct {
	position domain.Position
	err      error
}

const (
	free int32 = iota
	taken
	left
)

// Append implements commands.Log. An event without id or type, an id twice in one append or
// elsewhere in the stream is refused (the last as domain.ErrConflict).
func (l *Ledger) Append(ctx context.Context, stream domain.StreamID, expected domain.Revision, events []domain.NewEvent) (domain.Position, error) {
	if err := checkAppend(stream, expected, events); err != nil {
		return domain.Position{}, fmt.Errorf("append to %s: %w", stream, err)
	}
	if len(events) == 0 {
		return domain.Position{}, nil
	}
	rows := make([]row, len(events))
	for i, e := range events {
		kept := domain.Recorded{Stream: stream, ID: e.ID, Type: e.Type, Metadata: bytes.Clone(e.Metadata), Data: bytes.Clone(e.Data)}
		rows[i] = row{kept, e.ID, e.ID.String(), e.Type, payloadOf(e.Metadata), payloadOf(e.Data), sha256.Sum256(e.Metadata), sha256.Sum256(e.Data)}
	}
	p, err := l.write(ctx, &request{stream: stream, expected: expected, rows: rows})
	if err != nil {
		return p, fmt.Errorf("append to %s: %w", stream, err)
	}
	return p, nil
}

func checkAppend(stream domain.StreamID, expected domain.Revision, events []domain.NewEvent) error {
	if stream == "" || !utf8.ValidString(string(stream)) || strings.ContainsRune(string(stream), 0) {
		return errors.New("stream name must be non-empty UTF-8 text")
	}
	if expected < 0 && expected != domain.NoStream && expected != domain.Any && expected != domain.StreamExists {
		return fmt.Errorf("no such expectation: %d", expected)
	}
	size := 0
	for i, e := range events {
		if e.ID == uuid.Nil || e.Type == "" || !utf8.ValidString(e.Type) || strings.ContainsRune(e.Type, 0) {
			return errors.New("an event needs an id and a type")
		}
		if slices.ContainsFunc(events[:i], func(o domain.NewEvent) bool { return o.ID == e.ID }) {
			return fmt.Errorf("two events of one append have the id %s", e.ID)
		}
		size += len(e.Data) + len(e.Metadata)
	}
	if size > domain.MaxAppend {
		return fmt.Errorf("%w: %d bytes, the limit is %d", domain.ErrTooBig, size, domain.MaxAppend)
	}
	return nil
}

// write hands r to the writer and waits for its answer or the end of ctx.
func (l *Ledger) write(ctx context.Context, r *request) (domain.Position, error) {
	if l.writer == nil {
		return domain.Position{}, domain.ErrReadOnly
	}
	if err := ctx.Err(); err != nil {
		return domain.Position{}, err
	}
	r.answer = make(chan answer, 1)
	select {
	case l.writer.queue <- r:
	case <-ctx.Done():
		return domain.Position{}, ctx.Err()
	case <-l.closing:
		return domain.Position{}, fmt.Errorf("%w: %w", domain.ErrReadOnly, ErrClosed)
	}
	select {
	case a := <-r.answer:
		return a.position, a.err
	case <-ctx.Done():
		if r.state.CompareAndSwap(free, left) {
			return domain.Position{}, ctx.Err() // never seen by the writer: not written
		}
		return domain.Position{}, fmt.Errorf("%w: %w", domain.ErrOutcomeUnknown, ctx.Err())
	case <-l.writer.done:
		select {
		case a := <-r.answer:
			return a.position, a.err
		default:
			return domain.Position{}, fmt.Errorf("%w: %w", domain.ErrReadOnly, ErrClosed) // came after the last batch
		}
	}
}

func startWriter(l *Ledger) (*writer, error) {
	conn, err := sqlite.OpenConn(l.path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	w := &writer{l: l, conn: conn, queue: make(chan *request, maxBatch), done: make(chan struct{}), heads: map[domain.StreamID]head{}}
	if err := w.prepare(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go w.run()
	return w, nil
}

func (w *writer) prepare() error {
	w.conn.SetBusyTimeout(busyTimeout)
	for _, q := range []string{"pragma synchronous = full", "pragma cache_size = -8192", "pragma wal_autocheckpoint = 0"} {
		if err := sqlitex.ExecuteTransient(w.conn, q, nil); err != nil {
			return err
		}
	}
	for _, p := range []struct {
		stmt  **sqlite.Stmt
		query string
	}{
		{&w.insert, "insert into events (position, sid, stream, revision, id, type, chain, metadata, data) values (?, ?, ?, ?, ?, ?, ?, ?, ?)"},
		{&w.name, "insert into streams values (?, ?)"},
		{&w.find, findStream},
		{&w.at, "select id, position from events where sid = ? and revision >= ? order by revision limit ?"},
		{&w.byID, "select revision from events where sid = ? and id = ?"},
		{&w.undo, "delete from events where position > ?"},
		{&w.setHead, "update head set position = ?, chain = ?"},
		{&w.begin, "begin immediate"},
		{&w.commit, "commit"},
		{&w.rollback, "rollback"},
	} {
		var err error
		if *p.stmt, err = w.conn.Prepare(p.query); err != nil {
			return err
		}
	}
	w.tip.shown = w.l.lastIn.Load()
	err := one(w.conn, "select position, chain from head", func(s *sqlite.Stmt) {
		w.tip.position = uint64(s.ColumnInt64(0))
		s.ColumnBytes(1, w.tip.chain[:])
	})
	w.synced = w.tip
	return errors.Join(err, w.countNames())
}

// countNames finds the highest sid given out.
func (w *writer) countNames() error {
	return one(w.conn, "select max(sid) from streams", func(s *sqlite.Stmt) { w.names = s.ColumnInt64(0) })
}

func (w *writer) failure() error {
	if e := w.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// stop stops the writer for good: what the disk holds is no longer known.
func (w *writer) stop(err error) {
	err = fmt.Errorf("%w: %w", domain.ErrReadOnly, err)
	w.failed.CompareAndSwap(nil, &err)
}

func (w *writer) run() {
	defer close(w.done)
	var quiet <-chan time.Time // nil when the write-ahead log is empty
	var busy time.Time
	for {
		select {
		case r := <-w.queue:
			w.batch(r)
			w.fold()
			if busy = time.Now(); quiet == nil {
				quiet = time.After(idleAfter)
			}
		case <-quiet:
			if left := idleAfter - time.Since(busy); left > 0 {
				quiet = time.After(left)
				continue
			}
			w.checkpoint("truncate")
			quiet = nil
		case <-w.l.closing:
			for {
				select {
				case r := <-w.queue:
					w.batch(r)
				default:
					return
				}
			}
		}
	}
}

// batch writes r and whatever else waits in one transaction, then answers them all.
func (w *writer) batch(r *request) {
	if err := w.failure(); err != nil {
		r.answer <- answer{err: err}
		return
	}
	if _, err := step(w.begin); err != nil {
		r.answer <- answer{err: w.broken(err)}
		return
	}
	var waiting []*request
	var answers []answer
	for ; r != nil && len(waiting) < maxBatch; r = w.next() {
		if !r.state.CompareAndSwap(free, taken) {
			continue // its caller has gone, and was told that nothing is written
		}
		p, err := w.judge(r)
		waiting, answers = append(waiting, r), append(answers, answer{p, err})
		if w.conn.AutocommitEnabled() || fatal(err) {
			w.abandon(waiting, w.broken(err))
			return
		}
	}
	w.before = len(waiting)
	if err := w.seal(); err != nil {
		w.abandon(waiting, err)
		return
	}
	w.synced = w.tip
	if w.tip.position > w.l.last.Load() {
		w.l.recent.add(w.fresh)
		clear(w.fresh)
		w.fresh = w.fresh[:0]
		w.l.last.Store(w.tip.position)
		w.l.lastIn.Store(w.tip.shown)
		w.l.news.wake()
	}
	for i, r := range waiting {
		r.answer <- answers[i]
	}
}

// crowd is how many callers of the batch before make it worth waiting for more of them.
const crowd = 8

// next is a request that waits already, or nil. In a crowd it gives way once, so that callers just answered can come
// back into this batch: with many writers that is several times the throughput. With few it does not: on busy
// processors its turn would come again after everybody else's, and all that is to be written waits for that.
func (w *writer) next() *request {
	select {
	case r := <-w.queue:
		return r
	default:
	}
	if w.before < crowd {
		return nil
	}
	runtime.Gosched()
	select {
	case r := <-w.queue:
		return r
	default:
		return nil
	}
}

// seal moves the head row and commits.
func (w *writer) seal() error {
	if w.tip.position != w.synced.position {
		w.setHead.BindInt64(1, int64(w.tip.position))
		w.setHead.BindBytes(2, w.tip.chain[:])
		if _, err := step(w.setHead); err != nil {
			return w.broken(err)
		}
	}
	_, err := step(w.commit)
	switch {
	case err == nil:
		return nil
	case passing(err):
		return w.broken(err)
	}
	// The frames may have reached the disk or not; the next start will tell.
	w.stop(err)
	return fmt.Errorf("%w: %w", domain.ErrOutcomeUnknown, err)
}

// abandon takes the transaction back and tells all of it why.
func (w *writer) abandon(waiting []*request, err error) {
	if !w.conn.AutocommitEnabled() {
		if _, e := step(w.rollback); e != nil {
			w.stop(fmt.Errorf("roll back: %w", e))
		}
	}
	w.tip, w.fresh = w.synced, w.fresh[:0]
	clear(w.heads)
	if e := w.countNames(); e != nil {
		w.stop(e)
	}
	for _, r := range waiting {
		r.answer <- answer{err: err}
	}
}

// broken turns an error of SQLite before a commit (nothing is written) into what the callers get, and
// stops the writer unless the trouble can pass.
func (w *writer) broken(err error) error {
	switch {
	case sqlite.ErrCode(err).ToPrimary() == sqlite.ResultBusy:
		return fmt.Errorf("%w: another program holds the file's lock: %w", domain.ErrReadOnly, err)
	case passing(err):
		return fmt.Errorf("%w: %w: %w", domain.ErrReadOnly, ErrNoSpace, err)
	}
	w.stop(err)
	return w.failure()
}

// passing tells whether the trouble may pass: a full disk, or a lock held by somebody else. The
// transaction is rolled back whole in either case.
func passing(err error) bool {
	code := sqlite.ErrCode(err)
	return code.ToPrimary() == sqlite.ResultFull || code.ToPrimary() == sqlite.ResultBusy || code == sqlite.ResultIOErrSHMSize
}

// fatal tells whether err ends the transaction, and not only the request it came from.
func fatal(err error) bool {
	if err == nil {
		return false
	}
	code := sqlite.ErrCode(err)
	return code != sqlite.ResultError && code != sqlite.ResultOK
}

// judge decides one request inside the transaction. An error of the request leaves the transaction as it was.
func (w *writer) judge(r *request) (domain.Position, error) {
	if r.do != nil {
		return domain.Position{}, r.do(w.conn)
	}
	h, err := w.head(r.stream)
	if err != nil {
		return domain.Position{}, err
	}
	switch r.expected {
	case domain.Any:
	case domain.StreamExists:
		if h.last == domain.NoStream {
			return domain.Position{}, r.conflict(h)
		}
	case h.last:
	default:
		if r.expected > h.last {
			return domain.Position{}, r.conflict(h)
		}
		return w.repeated(r, h, r.expected+1)
	}
	return w.insertAll(r, h)
}

// repeated answers an append whose place is taken: if it is taken by the very same events, as the first time.
func (w *writer) repeated(r *request, h head, from domain.Revision) (domain.Position, error) {
	w.at.BindInt64(1, h.sid)
	w.at.BindInt64(2, int64(from))
	w.at.BindInt64(3, int64(len(r.rows)))
	defer w.at.Reset()
	var p domain.Position
	for _, e := range r.rows {
		more, err := w.at.Step()
		if err != nil {
			return domain.Position{}, err
		}
		if !more || w.at.ColumnText(0) != e.idText {
			return domain.Position{}, r.conflict(h)
		}
		p = domain.At(uint64(w.at.ColumnInt64(1)))
	}
	return p, nil
}

// insertAll writes the events to the end of the stream. The unique index finds an id the stream already
// has; then what was written of this append goes again, and it is a repetition or a conflict.
func (w *writer) insertAll(r *request, h head) (domain.Position, error) {
	if h.sid == 0 {
		h.sid = w.names + 1
		w.name.BindInt64(1, h.sid)
		w.name.BindText(2, string(r.stream))
		if _, err := step(w.name); err != nil {
			return domain.Position{}, err
		}
		w.names++
	}
	before, fresh := w.tip, len(w.fresh)
	for i := range r.rows {
		e := &r.rows[i]
		err := w.insertOne(r.stream, h.sid, h.last+1+domain.Revision(i), e)
		if err == nil {
			continue
		}
		if sqlite.ErrCode(err) != sqlite.ResultConstraintUnique {
			return domain.Position{}, err
		}
		w.undo.BindInt64(1, int64(before.position))
		if _, err := step(w.undo); err != nil {
			return domain.Position{}, err
		}
		w.tip, w.fresh = before, w.fresh[:fresh]
		return w.twice(r, h, e.idText, err)
	}
	if !hidden(r.stream) {
		w.tip.shown = w.tip.position
	}
	if len(w.heads) >= maxHeads {
		clear(w.heads)
	}
	w.heads[r.stream] = head{h.sid, h.last + domain.Revision(len(r.rows))}
	return domain.At(w.tip.position), nil
}

// twice judges an append one of whose ids, id, stands in the stream already.
func (w *writer) twice(r *request, h head, id string, cause error) (domain.Position, error) {
	if _, found, err := w.revisionOf(h.sid, id); err != nil || !found {
		return domain.Position{}, errors.Join(err, cause) // another row holds this revision: somebody else writes this file
	}
	if r.expected == domain.Any || r.expected == domain.StreamExists {
		first, found, err := w.revisionOf(h.sid, r.rows[0].idText)
		if err != nil {
			return domain.Position{}, err
		}
		if found {
			return w.repeated(r, h, first)
		}
	}
	return domain.Position{}, fmt.Errorf("%w; event %s stands there already", r.conflict(h), id)
}

func (r *request) conflict(h head) error {
	return fmt.Errorf("%w: expected %s, found %s", domain.ErrConflict, revisionText(r.expected), revisionText(h.last))
}

func (w *writer) insertOne(stream domain.StreamID, sid int64, revision domain.Revision, e *row) error {
	chain := link(w.tip.chain, domain.LeafOf(stream, revision, e.id, e.kind, e.metadataHash, e.dataHash))
	s := w.insert
	s.BindInt64(1, int64(w.tip.position+1))
	s.BindInt64(2, sid)
	s.BindText(3, string(stream))
	s.BindInt64(4, int64(revision))
	s.BindText(5, e.idText)
	s.BindText(6, e.kind)
	s.BindBytes(7, chain[:])
	e.metadata.bind(s, 8)
	e.data.bind(s, 9)
	if _, err := step(s); err != nil {
		return err
	}
	w.tip.position++
	w.tip.chain = chain
	e.recorded.Revision, e.recorded.Position = revision, domain.At(w.tip.position)
	w.fresh = append(w.fresh, e.recorded)
	return nil
}

// payload is stored as text where it is text, for sqlite3's users, and as a blob where not. It is a copy:
// the caller may leave before the writer is done.
type payload struct {
	bytes  string
	binary bool
}

func payloadOf(b []byte) payload {
	text := string(b)
	return payload{text, !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0}
}

func (p payload) bind(s *sqlite.Stmt, param int) {
	if p.binary {
		s.BindBytes(param, []byte(p.bytes))
	} else {
		s.BindText(param, p.bytes)
	}
}

// link is the chain hash of a row: SHA-256 over the hash of the row before it and its own leaf.
func link(before, leaf [32]byte) [32]byte {
	var b [64]byte
	copy(b[:32], before[:])
	copy(b[32:], leaf[:])
	return sha256.Sum256(b[:])
}

// findStream answers the number and the last revision of a stream; NULL where the stream has no event.
const findStream = "select sid, (select max(revision) from events e where e.sid = s.sid) from streams s where name = ?"

// head is the end of the stream as this transaction sees it.
func (w *writer) head(stream domain.StreamID) (head, error) {
	if h, known := w.heads[stream]; known {
		return h, nil
	}
	return findHead(w.find, stream)
}

// findHead runs findStream.
func findHead(find *sqlite.Stmt, stream domain.StreamID) (head, error) {
	find.BindText(1, string(stream))
	defer find.Reset()
	row, err := find.Step()
	h := head{last: domain.NoStream}
	if err != nil || !row {
		return h, err
	}
	h.sid = find.ColumnInt64(0)
	if !find.ColumnIsNull(1) {
		h.last = domain.Revision(find.ColumnInt64(1))
	}
	return h, nil
}

func (w *writer) revisionOf(sid int64, id string) (domain.Revision, bool, error) {
	w.byID.BindInt64(1, sid)
	w.byID.BindText(2, id)
	defer w.byID.Reset()
	row, err := w.byID.Step()
	if err != nil || !row {
		return 0, false, err
	}
	return domain.Revision(w.byID.ColumnInt64(0)), true, nil
}

// fold moves a long write-ahead log into the file. SQLite would do so by itself, but would keep a failed
// fsync of the file to itself too.
func (w *writer) fold() {
	pages, folded := 0, 0
	err := one(w.conn, "pragma wal_checkpoint(noop)", func(s *sqlite.Stmt) { pages, folded = s.ColumnInt(1), s.ColumnInt(2) })
	if err != nil {
		return // it only looks
	}
	switch {
	case pages > hugeWAL && time.Since(w.restarted) > idleAfter:
		w.restarted = time.Now()
		w.checkpoint("restart")
	case pages > maxWAL && pages-folded > maxWAL/4:
		w.checkpoint("passive")
	}
}

// checkpoint stops the writer when the disk fails; that readers or a full disk hold it up does no harm.
func (w *writer) checkpoint(mode string) {
	if w.failure() != nil {
		return
	}
	w.conn.SetBusyTimeout(checkpointTimeout)
	defer w.conn.SetBusyTimeout(busyTimeout)
	err := sqlitex.Execute(w.conn, "pragma wal_checkpoint("+mode+")", nil)
	if code := sqlite.ErrCode(err); err != nil && !passing(err) && code.ToPrimary() != sqlite.ResultLocked {
		w.stop(fmt.Errorf("checkpoint: %w", err))
	}
}

// step runs a statement that is expected to give no row, or whose rows do not matter.
func step(s *sqlite.Stmt) (bool, error) {
	row, err := s.Step()
	if err != nil {
		return false, err
	}
	return row, s.Reset()
}

func revisionText(r domain.Revision) string {
	switch r {
	case domain.NoStream:
		return "no stream"
	case domain.Any:
		return "any"
	case domain.StreamExists:
		return "an existing stream"
	}
	return fmt.Sprintf("revision %d", r)
}
