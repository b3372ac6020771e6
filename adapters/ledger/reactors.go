package ledger

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/commands"
)

// The reactor store lives in the same file and goes through the same writer, so it is exactly as durable
// as the log (D1). Rows are JSON: what the port says is what sqlite3 shows.

// LoadReactor implements commands.ReactorStore.
func (l *Ledger) LoadReactor(ctx context.Context, name string) (state commands.ReactorState, found bool, err error) {
	var text string
	err = l.withReader(ctx, func(r *reader) error {
		return one(r.conn, "select state from reactors where name = ?", func(s *sqlite.Stmt) { text, found = s.ColumnText(0), true }, name)
	})
	if err == nil && found {
		err = json.Unmarshal([]byte(text), &state)
	}
	if err != nil {
		return commands.ReactorState{}, false, fmt.Errorf("load reactor %s: %w", name, err)
	}
	return state, found, nil
}

// SaveReactor implements commands.ReactorStore.
func (l *Ledger) SaveReactor(ctx context.Context, name string, state commands.ReactorState) error {
	text, err := json.Marshal(state)
	if err == nil {
		err = l.exec(ctx, "insert or replace into reactors values (?, ?)", name, string(text))
	}
	if err != nil {
		return fmt.Errorf("save reactor %s: %w", name, err)
	}
	return nil
}

// Park implements commands.ReactorStore.
func (l *Ledger) Park(ctx context.Context, p commands.Parked) error {
	text, err := json.Marshal(p)
	if err == nil {
		err = l.exec(ctx, "insert or replace into parked values (?, ?, ?, ?)", p.Reaction, p.EventID.String(), int64(p.Position.Commit), string(text))
	}
	if err != nil {
		return fmt.Errorf("park event %s for %s: %w", p.EventID, p.Reaction, err)
	}
	return nil
}

// Parked implements commands.ReactorStore.
func (l *Ledger) Parked(ctx context.Context, name string) ([]commands.Parked, error) {
	var list []commands.Parked
	err := l.withReader(ctx, func(r *reader) error {
		return sqlitex.Execute(r.conn, "select message from parked where ?1 in ('', reaction) order by position, reaction", &sqlitex.ExecOptions{
			Args: []any{name},
			ResultFunc: func(s *sqlite.Stmt) error {
				var p commands.Parked
				if err := json.Unmarshal([]byte(s.ColumnText(0)), &p); err != nil {
					return err
				}
				list = append(list, p)
				return nil
			},
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list parked messages: %w", err)
	}
	return list, nil
}

// Unpark implements commands.ReactorStore.
func (l *Ledger) Unpark(ctx context.Context, name string, event uuid.UUID) error {
	if err := l.exec(ctx, "delete from parked where reaction = ? and event_id = ?", name, event.String()); err != nil {
		return fmt.Errorf("unpark event %s of %s: %w", event, name, err)
	}
	return nil
}

// exec runs one statement durably, in the writer's next transaction.
func (l *Ledger) exec(ctx context.Context, query string, args ...any) error {
	_, err := l.write(ctx, &request{do: func(conn *sqlite.Conn) error {
		return sqlitex.Execute(conn, query, &sqlitex.ExecOptions{Args: args})
	}})
	return err
}
