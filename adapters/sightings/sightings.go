// Package sightings keeps which phones were seen when, in sightings.db: last contact per device, and the
// identities nobody knows or that were refused. It answers "was this phone ever here, and from where?".
//
// Why beside the log? A poll is no fact worth keeping for ever, and an address is personal (D25). So the
// file is volatile: rows age out, a damaged file is thrown away and begun anew, and losing it costs nothing
// but the memory of who was here.
//
// What always holds:
//   - Seen neither blocks nor fails. When the writer is behind, sightings are dropped and counted.
//   - The file is bounded: one row per device and address, at most Options.MaxUnknown rows of strangers,
//     none older than Options.Retention.
//   - No path, code or secret is stored: only the route pattern.
//
// Trust. Whoever reads sightings.db learns which phone was at which address; whoever changes it can
// mislead a helpdesk, nothing else: no decision rests on it.
//
// Not here: facts about phones (the log), and who may have a file (commands).
package sightings

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/commands"
	"ledgerline/domain"
)

const fileName = "sightings.db"

// MaxText is how many bytes of a User-Agent or any other text are kept.
const MaxText = 256

// ErrClosed: the store has been closed.
var ErrClosed = errors.New("sightings are closed")

// Options say where sightings are kept and for how long. Only Dir is needed.
type Options struct {
	Dir        string        // holds sightings.db; made if missing (0700)
	Retention  time.Duration // rows not seen for so long are deleted; zero means 30 days
	MaxUnknown int           // rows of unknown identities; zero means 10,000
	Queue      int           // phones whose sightings wait to be written; zero means 32,768. Half of it full, they are written
	Every      time.Duration // how often what waits is written in any case; zero means ten seconds
	Now        func() time.Time
	Metrics    prometheus.Registerer // may be nil
}

// Row is what is known of one phone. A row without Device is an identity nobody knows, or one that was refused.
type Row struct {
	Device    domain.DeviceID `json:"device_id,omitempty"`
	MAC       domain.MAC      `json:"mac,omitempty"`
	IP        string          `json:"ip"` // the latest, as the other texts
	UserAgent string          `json:"user_agent,omitempty"`
	Transport string          `json:"transport"`
	Via       string          `json:"via"` // route pattern
	FirstAt   time.Time       `json:"first_at"`
	LastAt    time.Time       `json:"last_at"`
	Count     int             `json:"count"`
}

// Sightings implements commands.Sightings. Safe for concurrent use. Whoever opens it closes it.
type Sightings struct {
	opt     Options
	path    string
	log     *zerolog.Logger
	ask     chan request
	many    chan struct{} // there is much to write
	closing chan struct{}
	stopped chan struct{}
	once    sync.Once
	dropped atomic.Int64
	started atomic.Int64 // times the file was begun anew because it was damaged

	mu      sync.Mutex
	pending map[key]Row // folded to one row per phone; nil once closed
}

// request is work for the one goroutine that holds the connection.
type request struct {
	do   func(*sqlite.Conn) error
	done chan error
}

type key struct {
	device domain.DeviceID
	mac    domain.MAC
	ip     string // only for strangers
}

// Open opens sightings.db, or begins it anew when it is damaged or of another format. ctx carries the
// logger and bounds the opening only.
func Open(ctx context.Context, opt Options) (*Sightings, error) {
	if opt.Retention <= 0 {
		opt.Retention = 30 * 24 * time.Hour
	}
	if opt.MaxUnknown <= 0 {
		opt.MaxUnknown = 10_000
	}
	if opt.Queue <= 0 {
		opt.Queue = 32_768
	}
	if opt.Every <= 0 {
		opt.Every = 10 * time.Second
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Sightings{opt: opt, path: filepath.Join(opt.Dir, fileName), log: zerolog.Ctx(ctx), pending: make(map[key]Row),
		many: make(chan struct{}, 1), ask: make(chan request), closing: make(chan struct{}), stopped: make(chan struct{})}
	conn, err := s.open()
	if err != nil {
		return nil, fmt.Errorf("open sightings: %w", err)
	}
	if opt.Metrics != nil {
		if err := s.register(opt.Metrics); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	go s.run(conn)
	return s, nil
}

func (s *Sightings) register(r prometheus.Registerer) error {
	return errors.Join(
		r.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ledgerline_sightings_dropped_total",
			Help: "Sightings not kept because the writer was behind or the disk failed."}, func() float64 { return float64(s.dropped.Load()) })),
		r.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ledgerline_sightings_restarted_total",
			Help: "Times a damaged sightings.db was begun anew."}, func() float64 { return float64(s.started.Load()) })))
}

// Seen notes a request. It never blocks and never fails; after Close it does nothing.
func (s *Sightings) Seen(v commands.Sighting) {
	s.mu.Lock()
	n, dropped := s.fold(v)
	s.mu.Unlock()
	if dropped {
		s.dropped.Add(1)
	}
	if n >= s.opt.Queue/2 {
		select {
		case s.many <- struct{}{}:
		default:
		}
	}
}

// Dropped is how many sightings were not kept since Open.
func (s *Sightings) Dropped() int { return int(s.dropped.Load()) }

// ByDevice lists what was seen of a device, latest first.
func (s *Sightings) ByDevice(ctx context.Context, id domain.DeviceID) ([]Row, error) {
	return s.rows(ctx, `device = ?`, 100, string(id))
}

// Where implements commands.Whereabouts.
func (s *Sightings) Where(ctx context.Context, id domain.DeviceID) ([]commands.Sighting, error) {
	rows, err := s.ByDevice(ctx, id)
	return sightingsOf(rows), err
}

// At implements commands.Whereabouts.
func (s *Sightings) At(ctx context.Context, ip string) ([]commands.Sighting, error) {
	rows, err := s.ByIP(ctx, ip, 100)
	return sightingsOf(rows), err
}

func sightingsOf(rows []Row) []commands.Sighting {
	out := make([]commands.Sighting, len(rows))
	for i, r := range rows {
		out[i] = commands.Sighting{Device: r.Device, MAC: r.MAC, IP: r.IP, UserAgent: r.UserAgent, Transport: r.Transport, Path: r.Via, At: r.LastAt}
	}
	return out
}

// ByMAC lists what was seen of an address, also as a stranger, latest first.
func (s *Sightings) ByMAC(ctx context.Context, mac domain.MAC) ([]Row, error) {
	return s.rows(ctx, `mac = ?`, 100, string(mac))
}

// ByIP lists up to limit phones last seen at an address of the network, latest first.
func (s *Sightings) ByIP(ctx context.Context, ip string, limit int) ([]Row, error) {
	return s.rows(ctx, `ip = ?`, limit, ip)
}

// Addresses lists where every known device was seen last.
func (s *Sightings) Addresses(ctx context.Context) ([]Row, error) {
	return s.rows(ctx, `device <> ''`, 1<<30)
}

// Unknown lists up to limit identities nobody knows or that were refused, latest first.
func (s *Sightings) Unknown(ctx context.Context, limit int) ([]Row, error) {
	return s.rows(ctx, `device = ''`, limit)
}

// Forget deletes what is kept of a device and an address: for an erasure. Either may be empty. On return
// the rows are gone from the file, not only unlinked.
func (s *Sightings) Forget(ctx context.Context, id domain.DeviceID, mac domain.MAC) error {
	return s.with(ctx, func(c *sqlite.Conn) error {
		if err := exec(c, `DELETE FROM seen WHERE device <> '' AND device = ? OR mac <> '' AND mac = ?`, string(id), string(mac)); err != nil {
			return err
		}
		return sqlitex.ExecuteTransient(c, "PRAGMA wal_checkpoint(TRUNCATE)", nil)
	})
}

func (s *Sightings) rows(ctx context.Context, where string, limit int, args ...any) (out []Row, err error) {
	err = s.with(ctx, func(c *sqlite.Conn) error {
		return sqlitex.Execute(c, `SELECT device, mac, ip, user_agent, transport, via, first_at, last_at, count FROM seen WHERE `+where+
			` ORDER BY last_at DESC, device, mac, place LIMIT ?`, &sqlitex.ExecOptions{Args: append(args, max(limit, 0)), ResultFunc: func(r *sqlite.Stmt) error {
			out = append(out, Row{Device: domain.DeviceID(r.ColumnText(0)), MAC: domain.MAC(r.ColumnText(1)), IP: r.ColumnText(2), UserAgent: r.ColumnText(3),
				Transport: r.ColumnText(4), Via: r.ColumnText(5), FirstAt: time.UnixMilli(r.ColumnInt64(6)).UTC(), LastAt: time.UnixMilli(r.ColumnInt64(7)).UTC(),
				Count: r.ColumnInt(8)})
			return nil
		}})
	})
	if err != nil {
		return nil, fmt.Errorf("read sightings: %w", err)
	}
	return out, nil
}

// with runs do on the connection, after everything seen before the call has been written.
func (s *Sightings) with(ctx context.Context, do func(*sqlite.Conn) error) error {
	r := request{do, make(chan error, 1)}
	select {
	case s.ask <- r:
		select {
		case err := <-r.done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close writes what waits and closes the file. Closing twice is no error.
func (s *Sightings) Close() error {
	s.once.Do(func() { close(s.closing) })
	<-s.stopped
	return nil
}

// take is everything that waits.
func (s *Sightings) take() map[key]Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.pending
	s.pending = make(map[key]Row)
	return taken
}

// close has Seen do nothing from now on.
func (s *Sightings) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = nil
}

// fold adds v to what waits, n phones with it, unless there are too many.
func (s *Sightings) fold(v commands.Sighting) (n int, dropped bool) {
	if s.pending == nil {
		return 0, false
	}
	k := key{device: v.Device, mac: v.MAC}
	most := s.opt.Queue
	if v.Device == "" {
		k.ip = v.IP
		most = min(most, s.opt.MaxUnknown)
	}
	r, known := s.pending[k]
	if !known {
		if len(s.pending) >= most {
			return len(s.pending), true
		}
		r.FirstAt = v.At
	}
	if !v.At.Before(r.LastAt) {
		r.LastAt, r.IP, r.UserAgent, r.Transport, r.Via = v.At, v.IP, v.UserAgent, v.Transport, v.Path
	}
	r.Device, r.MAC, r.Count = v.Device, v.MAC, r.Count+1
	s.pending[k] = r
	return len(s.pending), false
}

// text is s without what a terminal could stumble over, and not too long.
func text(s string) string {
	if len(s) > MaxText {
		s = s[:MaxText]
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, s)
}
