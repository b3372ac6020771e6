package httpapi

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"html/template"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"ledgerline/domain"
	"ledgerline/projections"
)

// card is what one row of a rollout looks like in clear text. Code is empty for a row whose code cannot be used any more;
// QR is the same digits for a camera, where they are drawn.
type card struct {
	Row        int
	User, Name string
	Code       string
	QR         template.HTML
	ValidUntil time.Time
	MAC        domain.MAC
	State      string
}

// Print is the code in groups of four digits, which neither eyes nor spreadsheet programs get wrong.
func (c card) Print() string {
	var b strings.Builder
	for i, d := range []byte(c.Code) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteByte(d)
	}
	return b.String()
}

// Until is when the code ends, for people.
func (c card) Until() string { return c.ValidUntil.UTC().Format("2006-01-02 15:04 UTC") }

// rolloutCards opens the rows of a rollout, and counts the codes among them. draw, when set, draws each code.
func (a *api) rolloutCards(ctx context.Context, r projections.Rollout, only []int, draw func(text string) (svg string, err error)) (cards []card, codes int, err error) {
	if err := checkRows(r, only); err != nil {
		return nil, 0, err
	}
	names := make(map[domain.UserID]domain.Personal)
	for u, err := range projections.SealedUsers(ctx, a.Views, []domain.TenantID{r.TenantID}) {
		if err != nil {
			return nil, 0, err
		}
		names[u.ID] = u.DisplayName
	}
	var rows []projections.RolloutRow
	for row, err := range projections.AllRolloutRows(ctx, a.Views, r.RolloutID) {
		if err != nil {
			return nil, 0, err
		}
		if rowWanted(only, row.Row) {
			rows = append(rows, row)
		}
	}
	cards = make([]card, len(rows))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	const portion = 256
	for from := 0; from < len(rows); from += portion {
		g.Go(func() error {
			for i := from; i < min(from+portion, len(rows)); i++ {
				c, err := a.card(ctx, rows[i], names[rows[i].UserID])
				if err == nil && draw != nil && c.Code != "" {
					var svg string
					svg, err = draw(c.Code)
					c.QR = template.HTML(svg) // our own picture: nothing of what people typed is in it
				}
				if err != nil {
					return err
				}
				cards[i] = c
			}
			return nil
		})
	}
	err = g.Wait()
	for _, c := range cards {
		if c.Code != "" {
			codes++
		}
	}
	return cards, codes, err
}

func (a *api) card(ctx context.Context, row projections.RolloutRow, name domain.Personal) (card, error) {
	c := card{Row: row.Row, User: string(row.UserID), ValidUntil: row.ValidUntil, MAC: row.MAC, State: row.StateAt(a.Now())}
	var err error
	if c.Name, err = a.open(ctx, name); err != nil || c.State != domain.RowPending {
		return c, err
	}
	c.Code, err = a.Service.Vault.Open(ctx, row.Digits.Sealed)
	if errors.Is(err, domain.ErrErased) {
		err = nil
	}
	return c, err
}

// csvOf is the rows as spreadsheet programs read them: UTF-8 with a byte order mark, semicolons, every field quoted, CRLF.
func csvOf(r projections.Rollout, cards []card) []byte {
	var b bytes.Buffer
	b.WriteString("\ufeff")
	line := func(fields ...string) {
		for i, f := range fields {
			if i > 0 {
				b.WriteByte(';')
			}
			b.WriteByte('"')
			b.WriteString(strings.ReplaceAll(unformula(f), `"`, `""`))
			b.WriteByte('"')
		}
		b.WriteString("\r\n")
	}
	line("user", "display_name", "code", "code_print", "valid_until", "category", "app", "state")
	for _, c := range cards {
		until := ""
		if !c.ValidUntil.IsZero() {
			until = c.ValidUntil.UTC().Format(time.RFC3339)
		}
		line(c.User, c.Name, c.Code, c.Print(), until, string(r.CategoryID), r.PhoneApp, c.State)
	}
	return b.Bytes()
}

// unformula keeps a spreadsheet program from calculating what somebody typed as their name.
func unformula(field string) string {
	if field != "" && strings.ContainsRune("=+-@\t\r", rune(field[0])) {
		return "'" + field
	}
	return field
}

//go:embed rolloutsheet.html
var sheetText string

var sheetPage = template.Must(template.New("sheet").Parse(sheetText))

// sheetOf is a page to print, with one card for each user whose code can be used.
func sheetOf(r projections.Rollout, cards []card) ([]byte, error) {
	var usable []card
	for _, c := range cards {
		if c.Code != "" {
			usable = append(usable, c)
		}
	}
	var b bytes.Buffer
	err := sheetPage.Execute(&b, struct {
		Rollout projections.Rollout
		Cards   []card
	}{r, usable})
	return b.Bytes(), err
}
