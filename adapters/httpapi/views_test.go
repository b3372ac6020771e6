package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/commands/commandstest"
	"ledgerline/domain"
	"ledgerline/projections"
)

// memViews are the read models in memory. Those of now show what somebody waited for and not an event more, so that an
// operation that counts on what was just recorded has to wait for it; those of the past show all up to their moment.
type memViews struct {
	tb    testing.TB
	log   *commandstest.Log
	until domain.Position // what follows it is left out; zero for the end of the log

	mu   sync.Mutex
	conn *sqlite.Conn
	at   domain.Position
	rows map[*projections.Schema]map[string]any
}

func newMemViews(tb testing.TB, log *commandstest.Log) *memViews {
	tb.Helper()
	conn, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	for _, t := range projections.NewPlan(projections.All()).Tables {
		for _, ddl := range t.DDL() {
			if err := sqlitex.ExecuteTransient(conn, ddl, nil); err != nil {
				tb.Fatalf("%s: %v", ddl, err)
			}
		}
	}
	return &memViews{tb: tb, log: log, conn: conn, rows: make(map[*projections.Schema]map[string]any)}
}

// catchUp folds what is new; mu is held.
func (v *memViews) catchUp(ctx context.Context) error {
	v.conn.SetInterrupt(nil)
	for r, err := range v.log.ReadAll(ctx, v.at) {
		if err != nil {
			return err
		}
		if !v.until.IsZero() && v.until.Before(r.Position) {
			break
		}
		f := projections.NewFact(r)
		for _, p := range projections.All() {
			if err := p.Apply(v, &f); err != nil {
				return fmt.Errorf("apply %s of %s: %w", r.Type, r.Stream, err)
			}
		}
		v.at = r.Position
	}
	return nil
}

// WaitFor answers for what stands in the log, however long that takes, and waits for ctx otherwise.
func (v *memViews) WaitFor(ctx context.Context, at domain.Position) error {
	for {
		grown := v.log.Changed()
		v.mu.Lock()
		err := v.catchUp(context.WithoutCancel(ctx))
		reached := !v.at.Before(at)
		v.mu.Unlock()
		if err != nil || reached {
			return err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// At are views of their own that end at a position.
func (v *memViews) At(_ context.Context, at domain.Position) (projections.Querier, func(), error) {
	past := newMemViews(v.tb, v.log)
	past.until = at
	return past, func() {}, nil
}

// Query implements projections.Querier.
func (v *memViews) Query(ctx context.Context, sql string, args []any, row func(projections.Row) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.until.IsZero() {
		if err := v.catchUp(ctx); err != nil {
			return err
		}
	}
	return sqlitex.ExecuteTransient(v.conn, sql, &sqlitex.ExecOptions{Args: args, ResultFunc: func(s *sqlite.Stmt) error { return row(memRow{s}) }})
}

type memRow struct{ s *sqlite.Stmt }

func (r memRow) Text(column int) string { return r.s.ColumnText(column) }
func (r memRow) Int(column int) int64   { return r.s.ColumnInt64(column) }
func (r memRow) Doc(column int, into any) error {
	return json.Unmarshal([]byte(r.s.ColumnText(column)), into)
}

// Get, Put, Delete, Append and Last implement projections.Tx; every row is written at once.
func (v *memViews) Get(t *projections.Schema, key string) (any, error) { return v.rows[t][key], nil }

func (v *memViews) Put(t *projections.Schema, key string, row any) {
	if v.rows[t] == nil {
		v.rows[t] = make(map[string]any)
	}
	v.rows[t][key] = row
	doc, err := json.Marshal(row)
	if err != nil {
		panic(err)
	}
	values := append([]any{key}, t.Values(key, row)...)
	v.exec("INSERT OR REPLACE INTO "+t.Name+" VALUES ("+marks(len(values)+1)+")", append(values, string(doc))...)
	v.unlink(t, key)
	if t.Links == nil {
		return
	}
	for i, rows := range t.Links(key, row) {
		for _, r := range rows {
			v.exec("INSERT OR REPLACE INTO "+t.Linked[i].Name+" VALUES ("+marks(len(r)+1)+")", append([]any{key}, r...)...)
		}
	}
}

func (v *memViews) unlink(t *projections.Schema, key string) {
	for _, l := range t.Linked {
		v.exec("DELETE FROM "+l.Name+" WHERE owner = ?", key)
	}
}

func (v *memViews) Delete(t *projections.Schema, key string) {
	delete(v.rows[t], key)
	v.exec("DELETE FROM "+t.Name+" WHERE key = ?", key)
	v.unlink(t, key)
}

func (v *memViews) Append(t *projections.Schema, values ...any) error {
	v.exec("INSERT INTO "+t.Name+" VALUES ("+marks(len(values))+")", values...)
	return nil
}

func (v *memViews) Last(t *projections.Schema, column string) (key, value int64, err error) {
	first, _, _ := strings.Cut(t.Columns[0], " ")
	err = sqlitex.ExecuteTransient(v.conn, "SELECT "+first+", "+column+" FROM "+t.Name+" ORDER BY "+first+" DESC LIMIT 1",
		&sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
			key, value = s.ColumnInt64(0), s.ColumnInt64(1)
			return nil
		}})
	return key, value, err
}

func (v *memViews) exec(sql string, args ...any) {
	if err := sqlitex.ExecuteTransient(v.conn, sql, &sqlitex.ExecOptions{Args: args}); err != nil {
		panic(fmt.Sprintf("%s: %v", sql, err))
	}
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }
