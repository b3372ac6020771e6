package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// grandstreamBinary is the form Grandstream's oldest phones read. Templates write it as the XML of the newer
// ones, and Finish turns that into bytes.
const grandstreamBinary = "grandstream-binary"

// grandstreamHeader is the length of the header: length, checksum, MAC, CR LF CR LF.
const grandstreamHeader = 16

func finishGrandstream(text []byte, mac string) ([]byte, error) {
	address, err := hex.DecodeString(mac)
	if err != nil || len(address) != 6 {
		return nil, fmt.Errorf("%w: the binary form names the phone's MAC, and there is none", ErrSyntax)
	}
	entries, err := parseXML(text)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	for _, e := range entries {
		if key := e.Key[strings.LastIndexByte(e.Key, '/')+1:]; isPValue(key) {
			body.WriteString(key + "=" + url.QueryEscape(e.Value) + "&")
		}
	}
	body.WriteString("gnkey=" + mac[2:6])
	for body.Len()%4 != 0 {
		body.WriteByte(0)
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(grandstreamHeader+body.Len())/2)
	out = append(append(out, 0, 0), address...)
	out = append(append(out, "\r\n\r\n"...), body.Bytes()...)
	binary.BigEndian.PutUint16(out[4:], -sum16(out))
	return out, nil
}

// sum16 adds up the 16-bit words of b, whose length is even.
func sum16(b []byte) (sum uint16) {
	for ; len(b) > 1; b = b[2:] {
		sum += binary.BigEndian.Uint16(b)
	}
	return sum
}

func isPValue(key string) bool {
	return len(key) > 1 && key[0] == 'P' && strings.Trim(key[1:], "0123456789") == ""
}

// parseGrandstream reads the binary form: length in 16-bit words, checksum that makes all words add up to zero, MAC,
// CR LF CR LF, then P-values as a URL query that ends in gnkey and is padded with zeros.
func parseGrandstream(data []byte) ([]Entry, error) {
	if len(data) < grandstreamHeader || len(data)%4 != 0 || uint64(binary.BigEndian.Uint32(data))*2 != uint64(len(data)) ||
		sum16(data) != 0 || string(data[12:16]) != "\r\n\r\n" {
		return nil, fmt.Errorf("%w: length, checksum or end of the header is wrong", ErrSyntax)
	}
	mac := hex.EncodeToString(data[6:12])
	var out []Entry
	signed := false
	for pair := range strings.SplitSeq(strings.TrimRight(string(data[grandstreamHeader:]), "\x00"), "&") {
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		switch {
		case !ok || err != nil:
			return nil, fmt.Errorf("%w: not name=value", ErrSyntax)
		case name == "gnkey":
			signed = value == mac[2:6]
		case isPValue(name):
			out = append(out, Entry{name, value})
		default:
			return nil, fmt.Errorf("%w: %.40q is no P-value", ErrSyntax, name)
		}
	}
	if !signed {
		return nil, fmt.Errorf("%w: gnkey is missing or another phone's", ErrSyntax)
	}
	return out, nil
}
