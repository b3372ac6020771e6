// Package script is the language innovaphone phones are told things in: the command file that their update client (UP1)
// fetches and runs, the addresses in it, what a phone says of its version, and what DHCP can carry. Pure text: nothing is
// fetched, stored or decided here.
//
// A command file is plain text, one command a line, carried out in order; empty lines and lines that begin with "#" say
// nothing; lines end in CRLF, the last one in nothing (innovaphone reference §3.3). An argument of a config command is
// percent-encoded once, addresses of the update client (UP0, UP1) among them stand with their placeholders (#m #h #t #i),
// which the phone fills in after it has decoded its argument.
//
// What always holds: what Add takes is one line, whose arguments hold neither blanks nor control characters, so no value
// brings a command of its own; Parse gives back what Add was given, and never panics.
package script

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Limits of a command file that Parse takes. An EXPERT script may have more than 64 KiB.
const (
	MaxSize = 1 << 20
	MaxLine = 32 << 10
)

// Errors of commands and command files.
var (
	ErrArgument = errors.New("argument of a command must not be empty or hold blanks or control characters")
	ErrTooBig   = errors.New("command file is too big")
	ErrNoText   = errors.New("command file holds characters that are no text")
)

// Finals are what may be done when a transfer or a script is through: restart when idle, now, and each of these only if
// needed; or nothing.
var Finals = []string{"ireset", "reset", "iresetn", "resetn", "ser", "nop"}

// Script is a command file in the making. The zero value is an empty one.
type Script struct {
	lines []string
	err   error
}

// Add appends one command. The first bad argument is what Bytes fails with.
func (s *Script) Add(words ...string) {
	for _, w := range words {
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			s.err = errors.Join(s.err, fmt.Errorf("%s: %w", strings.Join(words[:min(3, len(words))], " "), ErrArgument))
			return
		}
	}
	s.lines = append(s.lines, strings.Join(words, " "))
}

// Comment appends a line that says nothing to the phone.
func (s *Script) Comment(text string) {
	s.lines = append(s.lines, "# "+strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text))
}

// Append adds the commands of another file, as Parse reads them.
func (s *Script) Append(lines []string) { s.lines = append(s.lines, lines...) }

// Len is how many lines there are.
func (s *Script) Len() int { return len(s.lines) }

// Lines are the lines so far; not to be changed.
func (s *Script) Lines() []string { return s.lines }

// Bytes is the command file: lines end in CRLF, but for the last.
func (s *Script) Bytes() ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	return []byte(strings.Join(s.lines, "\r\n")), nil
}

// Config appends a command of the configuration: verb is change, add, rem, write or activate; args are given decoded and
// are encoded here, but for those that begin with "/", which are names of options.
func (s *Script) Config(verb string, args ...string) {
	words := []string{"config", verb}
	for i, a := range args {
		if i > 0 && !strings.HasPrefix(a, "/") {
			a = Escape(a)
		}
		words = append(words, a)
	}
	s.Add(words...)
}

// Keep appends what makes changes permanent and live.
func (s *Script) Keep() {
	s.Config("write")
	s.Config("activate")
}

// Parse reads a command file: its commands in order, without comments and empty lines, each with single blanks between
// its words. Lines may end in CRLF, LF or CR. Errors: ErrTooBig, ErrNoText.
func Parse(file []byte) ([]string, error) {
	if len(file) > MaxSize {
		return nil, ErrTooBig
	}
	var commands []string
	for line := range bytes.FieldsFuncSeq(bytes.TrimPrefix(file, []byte("\xef\xbb\xbf")), func(r rune) bool { return r == '\r' || r == '\n' }) {
		words := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\t' })
		switch {
		case len(line) > MaxLine:
			return nil, ErrTooBig
		case len(words) == 0, strings.HasPrefix(words[0], "#"):
			continue
		}
		command := strings.Join(words, " ")
		if strings.ContainsFunc(command, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }) {
			return nil, ErrNoText
		}
		commands = append(commands, command)
	}
	return commands, nil
}

const hexDigits = "0123456789ABCDEF"

// Escape percent-encodes: A-Z a-z 0-9 - . _ ~ stay, every other byte of the UTF-8 form becomes %XX in upper case; a blank
// is %20, never "+" (reference §1.5.1).
func Escape(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if unreserved(c) {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
	}
	return b.String()
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// ErrEscape: a % is not followed by two hex digits.
var ErrEscape = errors.New("a % must be followed by two hex digits")

// Unescape undoes one percent-encoding; "+" stays what it is. ErrEscape.
func Unescape(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", ErrEscape
		}
		hi, lo := nibble(text[i+1]), nibble(text[i+2])
		if hi < 0 || lo < 0 {
			return "", ErrEscape
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), nil
}

func nibble(c byte) int { return strings.IndexByte(hexDigits, bytes.ToUpper([]byte{c})[0]) }
