package projections

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"ledgerline/domain"
)

// MaxLimit is the most rows one page of any list has; 0 asks for DefaultLimit.
const (
	MaxLimit     = 500
	DefaultLimit = 100
)

// Page asks for one page of a list. Cursor is Next of the page before, empty for the first. A Limit below
// 1 means DefaultLimit, one above MaxLimit means MaxLimit.
type Page struct {
	Cursor string
	Limit  int
}

// Listed is one page; Next is empty on the last.
type Listed[R any] struct {
	Items []R
	Next  string
}

// clause collects the conditions of one SELECT and their arguments.
type clause struct {
	terms []string
	args  []any
}

// is adds a condition with "?" in the place of each argument.
func (c *clause) is(term string, args ...any) {
	c.terms, c.args = append(c.terms, term), append(c.args, args...)
}

// equal adds column = value unless value is empty.
func equal[T ~string](c *clause, column string, value T) {
	if value != "" {
		c.is(column+" = ?", string(value))
	}
}

// in adds column IN (values); nil is no condition, an empty list that is not nil matches nothing.
func in[T ~string](c *clause, column string, values []T) {
	if values == nil {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = string(v)
	}
	c.is(column+" IN ("+strings.TrimSuffix(strings.Repeat("?,", len(values)), ",")+")", args...)
}

// contains adds that one of the columns contains text, whatever the case (of ASCII letters).
func (c *clause) contains(text string, columns ...string) {
	if text == "" {
		return
	}
	var either []string
	for _, col := range columns {
		either = append(either, "instr(lower("+col+"), ?) > 0")
		c.args = append(c.args, strings.ToLower(text))
	}
	c.terms = append(c.terms, "("+strings.Join(either, " OR ")+")")
}

func (c *clause) sql() string {
	if len(c.terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.terms, " AND ")
}

// one reads the first row of n that where finds.
func one[S domain.State[S], R any](ctx context.Context, q Querier, n *noun[S], row func(string, *Doc[S]) R, where string, args ...any) (found R, ok bool, err error) {
	err = q.Query(ctx, "SELECT key, doc FROM "+n.schema.Name+" WHERE "+where+" LIMIT 1", args, func(r Row) error {
		d := new(Doc[S])
		if err := r.Doc(1, d); err != nil {
			return err
		}
		found, ok = row(r.Text(0), d), true
		return nil
	})
	return found, ok, err
}

// all reads every row of n that where finds; where may end in ORDER BY and LIMIT.
func all[S domain.State[S], R any](ctx context.Context, q Querier, n *noun[S], row func(string, *Doc[S]) R, where string, args ...any) (found []R, err error) {
	err = q.Query(ctx, "SELECT key, doc FROM "+n.schema.Name+" WHERE "+where, args, func(r Row) error {
		d := new(Doc[S])
		if err := r.Doc(1, d); err != nil {
			return err
		}
		found = append(found, row(r.Text(0), d))
		return nil
	})
	return found, err
}

// list reads one page of n in the order of the unique column by.
func list[S domain.State[S], R any](ctx context.Context, q Querier, n *noun[S], row func(string, *Doc[S]) R, by string, c clause, p Page) (Listed[R], error) {
	return paged(ctx, q, n.name, n.schema.Name, "key, doc", by, c, p, func(r Row) (R, error) {
		d := new(Doc[S])
		err := r.Doc(1, d)
		return row(r.Text(0), d), err
	})
}

// paged reads one page of columns from tables in the order of the unique column by, which row finds behind them. name is
// what cursors are of.
func paged[R any](ctx context.Context, q Querier, name, tables, columns, by string, c clause, p Page, row func(Row) (R, error)) (Listed[R], error) {
	var out Listed[R]
	after, err := readCursor(name, p.Cursor)
	if err != nil {
		return out, err
	}
	if after != "" {
		c.is(by+" > ?", after)
	}
	limit := pageLimit(p.Limit)
	last := ""
	sql := fmt.Sprintf("SELECT %s, %s FROM %s%s ORDER BY %s LIMIT ?", columns, by, tables, c.sql(), by)
	at := strings.Count(columns, ",") + 1
	err = q.Query(ctx, sql, append(slices.Clip(c.args), limit+1), func(r Row) error {
		if len(out.Items) == limit {
			out.Next = writeCursor(name, last)
			return nil
		}
		one, err := row(r)
		out.Items, last = append(out.Items, one), r.Text(at)
		return err
	})
	return out, err
}

func pageLimit(n int) int {
	if n < 1 {
		return DefaultLimit
	}
	return min(n, MaxLimit)
}

func writeCursor(list, last string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(list + "\x00" + last))
}

func readCursor(list, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	name, last, ok := strings.Cut(string(b), "\x00")
	if err != nil || !ok || name != list || last == "" {
		return "", fmt.Errorf("%.40q %w", cursor, ErrBadCursor)
	}
	return last, nil
}
