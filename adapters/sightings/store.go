package sightings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	format = 2

	// place is the ip of a stranger and empty for a device: a device that moves keeps its row.
	schema = `
CREATE TABLE seen (
	device TEXT NOT NULL, mac TEXT NOT NULL, place TEXT NOT NULL,
	ip TEXT NOT NULL, user_agent TEXT NOT NULL, transport TEXT NOT NULL, via TEXT NOT NULL,
	first_at INTEGER NOT NULL, last_at INTEGER NOT NULL, -- milliseconds since 1970
	count INTEGER NOT NULL,
	PRIMARY KEY (device, mac, place)
) WITHOUT ROWID;
CREATE INDEX seen_mac ON seen (mac);
CREATE INDEX seen_ip ON seen (ip);
CREATE INDEX seen_last ON seen (last_at);
CREATE INDEX seen_unknown ON seen (last_at) WHERE device = '';
PRAGMA user_version = 2;
`
	// from1 makes indexes of 2: a phone seen again moves in fewer of them.
	from1 = `
DROP INDEX seen_mac;
DROP INDEX seen_ip;
CREATE INDEX seen_mac ON seen (mac);
CREATE INDEX seen_ip ON seen (ip);
PRAGMA user_version = 2;
`
	upsert = `INSERT INTO seen (device, mac, place, ip, user_agent, transport, via, first_at, last_at, count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET ip = excluded.ip, user_agent = excluded.user_agent, transport = excluded.transport, via = excluded.via,
		last_at = max(last_at, excluded.last_at), count = count + excluded.count`
	prune = `DELETE FROM seen WHERE last_at < ?`
	bound = `DELETE FROM seen WHERE device = '' AND (device, mac, place) IN
		(SELECT device, mac, place FROM seen WHERE device = '' ORDER BY last_at DESC LIMIT -1 OFFSET ?)`
)

var errFormat = errors.New("another format")

// run holds the connection until Close. A damaged file is begun anew, at most once per interval.
func (s *Sightings) run(conn *sqlite.Conn) {
	defer close(s.stopped)
	tick := time.NewTicker(s.opt.Every)
	defer tick.Stop()
	write := func() error {
		pending := s.take()
		if conn == nil {
			conn = s.reopen()
		}
		if conn == nil {
			return errors.New("sightings.db cannot be opened")
		}
		err := s.write(conn, pending)
		if damaged(err) {
			s.log.Warn().Err(err).Msg("sightings.db is damaged and begun anew")
			_ = conn.Close() // nothing in it is worth saving
			conn = s.renew()
			if conn != nil {
				err = s.write(conn, pending)
			}
		}
		if err != nil {
			s.dropped.Add(int64(len(pending)))
		}
		return err
	}
	logged := time.Time{}
	complain := func(err error) {
		if now := s.opt.Now(); err != nil && now.Sub(logged) > time.Minute {
			logged = now
			s.log.Warn().Err(err).Msg("sightings are not kept")
		}
	}
	for {
		select {
		case <-s.many:
			complain(write())
		case <-tick.C:
			complain(write())
		case r := <-s.ask:
			err := write()
			if err == nil {
				err = r.do(conn)
			}
			r.done <- err
		case <-s.closing:
			complain(write())
			s.close()
			if conn != nil {
				_ = conn.Close() // nothing is left to lose
			}
			return
		}
	}
}

func (s *Sightings) write(conn *sqlite.Conn, pending map[key]Row) (err error) {
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	for k, r := range pending {
		if err := exec(conn, upsert, string(k.device), string(k.mac), k.ip, text(r.IP), text(r.UserAgent), text(r.Transport), text(r.Via),
			r.FirstAt.UnixMilli(), r.LastAt.UnixMilli(), r.Count); err != nil {
			return err
		}
	}
	if err := exec(conn, prune, s.opt.Now().Add(-s.opt.Retention).UnixMilli()); err != nil {
		return err
	}
	return exec(conn, bound, s.opt.MaxUnknown)
}

func exec(conn *sqlite.Conn, query string, args ...any) error {
	return sqlitex.Execute(conn, query, &sqlitex.ExecOptions{Args: args})
}

// open opens the file; a damaged one, or one of another format, is begun anew.
func (s *Sightings) open() (*sqlite.Conn, error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return nil, err
	}
	conn, err := openFile(s.path)
	if !damaged(err) {
		return conn, err
	}
	s.log.Warn().Err(err).Msg("sightings.db is damaged and begun anew")
	s.started.Add(1)
	if err := remove(s.path); err != nil {
		return nil, err
	}
	return openFile(s.path)
}

func (s *Sightings) reopen() *sqlite.Conn {
	conn, _ := s.open() // nil: tried again with the next write
	return conn
}

func (s *Sightings) renew() *sqlite.Conn {
	s.started.Add(1)
	if err := remove(s.path); err != nil {
		return nil
	}
	return s.reopen()
}

func openFile(path string) (*sqlite.Conn, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite would make it readable by all
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	if err := prepare(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func prepare(conn *sqlite.Conn) error {
	conn.SetBusyTimeout(2 * time.Second)
	// NORMAL: a power cut may lose the last seconds, never the file.
	for _, pragma := range []string{"secure_delete = ON", "journal_mode = WAL", "synchronous = NORMAL", "journal_size_limit = 4194304", "cache_size = -512"} {
		if err := sqlitex.ExecuteTransient(conn, "PRAGMA "+pragma, nil); err != nil {
			return fmt.Errorf("set %s: %w", pragma, err)
		}
	}
	version, err := one(conn, "PRAGMA user_version")
	switch {
	case err != nil:
		return err
	case version == "0":
		return sqlitex.ExecuteScript(conn, schema, nil)
	case version == "1":
		return sqlitex.ExecuteScript(conn, from1, nil)
	case version != fmt.Sprint(format):
		return fmt.Errorf("version %s: %w", version, errFormat)
	}
	verdict, err := one(conn, "PRAGMA quick_check(1)")
	if err == nil && verdict != "ok" {
		err = fmt.Errorf("%w: %s", errFormat, verdict)
	}
	return err
}

func one(conn *sqlite.Conn, query string) (text string, err error) {
	err = sqlitex.ExecuteTransient(conn, query, &sqlitex.ExecOptions{ResultFunc: func(r *sqlite.Stmt) error { text = r.ColumnText(0); return nil }})
	return text, err
}

// damaged tells whether the file's content is what err is about, rather than the disk or the system.
func damaged(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, errFormat) {
		return true
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB, sqlite.ResultError:
		return true
	}
	return false
}

func remove(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
