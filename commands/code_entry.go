package commands

import "ledgerline/domain"

// EntryPage asks for a page of a family's code entry: what the browser of a phone nobody has configured shows, so that its user can type
// in a provisioning code. Redeeming itself is ServeFile's business, as with every code.
type EntryPage struct {
	Plugin    string     // the family
	MAC       domain.MAC // the phone
	UserAgent string
	// Action is the URL the form goes to, with "code" as parameter.
	Action string
	// Refused: a code was typed in and refused, for whatever reason. Done: it was redeemed.
	Refused, Done bool
}

// EntryAnswer is such a page.
type EntryAnswer struct {
	Data        []byte
	ContentType string
	// File is the path of the phone's own file, as it would ask for it.
	File string
}

// CodeEntry makes the pages: adapters/plugins. Safe for concurrent use.
type CodeEntry interface {
	// EntryPage answers ErrNoFile when the family, or the phone's model, has no code entry.
	EntryPage(in EntryPage) (EntryAnswer, error)
}
