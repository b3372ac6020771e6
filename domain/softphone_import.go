package domain

import (
	"maps"
	"slices"
	"strings"
)

// SoftphoneImport is one XML document of the vendor as it was read: an account, or quick dials and dial actions.
type SoftphoneImport struct {
	Document SoftphoneDocument
	Account  bool // the document's nodes, BLF and rewriting; else its quick dials and dial actions
	// Findings are what the XML itself has wrong with it; Places is where things stand, by the paths of findings.
	Findings []SoftphoneFinding
	Places   map[string]SoftphonePlace
}

// SoftphonePlace is a line and a column of it, from 1; columns count bytes.
type SoftphonePlace struct{ Line, Column int }

// Onto is before with the part replaced that the XML is about.
func (i SoftphoneImport) Onto(before SoftphoneDocument) SoftphoneDocument {
	out, new := before, i.Document
	if i.Account {
		out.Nodes, out.BLF, out.Rewriting = maps.Clone(new.Nodes), new.BLF, new.Rewriting
	} else {
		out.QuickDials, out.DialActions, out.QuickDialReplacePriority = new.QuickDials, new.DialActions, new.QuickDialReplacePriority
	}
	return out
}

// Locate is all that was found, with lines and columns where the XML has them.
func (i SoftphoneImport) Locate(found []SoftphoneFinding) []SoftphoneFinding {
	out := slices.Concat(i.Findings, found)
	for n, f := range out {
		for at := f.At; f.Line == 0 && at != ""; at = at[:max(0, strings.LastIndexByte(at, '/'))] {
			place := i.Places[at]
			out[n].Line, out[n].Column = place.Line, place.Column
			f.Line = place.Line
		}
	}
	return out
}
