package domain

// CodeRef finds a code: its id and its stream.
type CodeRef struct {
	ID     CodeID
	Stream StreamID
}
