package phonetftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// Opcodes and error codes (RFC 1350 §5 and appendix, RFC 2347).
const (
	opRead  = 1
	opWrite = 2
	opData  = 3
	opAck   = 4
	opError = 5
	opOACK  = 6

	codeOther     = 0
	codeNotFound  = 1
	codeForbidden = 2
	codeIllegal   = 4
)

const (
	maxRequest = 512 // bytes of a request (RFC 2347)
	maxName    = 128 // bytes of a file name
	maxOptions = 16

	minBlock = 512 // the least the library can do; a smaller blksize is ignored, which RFC 2347 allows
	maxBlock = 65464
)

var (
	errNoRequest = errors.New("no request")         // not to be answered
	errMalformed = errors.New("malformed request")  // error 4
	errWrite     = errors.New("read-only server")   // error 2
	errMode      = errors.New("unsupported mode")   // error 4
	errName      = errors.New("no name of a phone") // error 1, as any missing file
)

// request is a read request.
type request struct {
	segments []string // of the name, at least one
	netascii bool
	block    int // blksize, 0 if not asked for
	size     bool
}

// parseRequest reads a datagram sent to the server's port.
func parseRequest(p []byte) (r request, err error) {
	if len(p) < 2 || p[0] != 0 || p[1] != opRead && p[1] != opWrite {
		return r, errNoRequest
	}
	if p[1] == opWrite {
		return r, errWrite
	}
	if len(p) > maxRequest || p[len(p)-1] != 0 {
		return r, errMalformed
	}
	fields := bytes.Split(p[2:len(p)-1], []byte{0})
	if len(fields) < 2 || len(fields)%2 != 0 || len(fields) > 2+2*maxOptions {
		return r, errMalformed
	}
	switch mode := strings.ToLower(string(fields[1])); mode {
	case "octet":
	case "netascii":
		r.netascii = true
	default:
		return r, errMode
	}
	for i := 2; i < len(fields); i += 2 {
		r.option(strings.ToLower(string(fields[i])), string(fields[i+1]))
	}
	var ok bool
	if r.segments, ok = parseName(string(fields[0])); !ok {
		return r, errName
	}
	return r, nil
}

// option notes an option we know with a value that makes sense; all others are as if never sent.
func (r *request) option(name, value string) {
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return
	}
	switch name {
	case "blksize":
		if n >= minBlock {
			r.block = int(min(n, maxBlock))
		}
	case "tsize":
		r.size = true
	}
}

// clean is the request as the library gets it.
func (r request) clean() []byte {
	mode := "octet"
	if r.netascii {
		mode = "netascii"
	}
	p := append([]byte{0, opRead}, "file\x00"+mode+"\x00"...)
	if r.block > 0 {
		p = append(p, "blksize\x00"+strconv.Itoa(r.block)+"\x00"...)
	}
	if r.size && !r.netascii { // the size after conversion is not known beforehand
		p = append(p, "tsize\x000\x00"...)
	}
	return p
}

// parseName reads a file name into its segments; empty ones are dropped. ok is false for whatever no phone asks for.
func parseName(name string) (segments []string, ok bool) {
	if len(name) == 0 || len(name) > maxName || name[len(name)-1] == '/' {
		return nil, false
	}
	for _, c := range []byte(name) {
		if c < 0x20 || c > 0x7e || c == '\\' {
			return nil, false
		}
	}
	for segment := range strings.SplitSeq(name, "/") {
		switch segment {
		case "":
		case ".", "..":
			return nil, false
		default:
			segments = append(segments, segment)
		}
	}
	return segments, len(segments) > 0
}

// claim is how a request says who it is; see phonehttp.
type claim struct{ via, credential, file, route string }

var proofs = map[string]claim{
	"t": {via: "tenant_key", route: "t/{key}/{file}"},
	"d": {via: "secret", route: "d/{secret}/{file}"},
	"c": {via: "code", route: "c/{code}/{file}"},
}

// claimOf reads the claim from a name's segments. ok is false for a credential without a file.
func claimOf(segments []string) (c claim, ok bool) {
	c, special := proofs[segments[0]]
	if !special {
		return claim{via: "mac", file: strings.Join(segments, "/"), route: "{file}"}, true
	}
	if len(segments) < 3 {
		return c, false
	}
	c.credential, c.file = segments[1], strings.Join(segments[2:], "/")
	return c, true
}

// errorPacket is an ERROR datagram (RFC 1350 §5).
func errorPacket(code uint16, message string) []byte {
	p := binary.BigEndian.AppendUint16([]byte{0, opError}, code)
	return append(append(p, message...), 0)
}
