package phonesim

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var fixedTime = time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// fixture reads a file of testdata. They are written by hand from the vendors' manuals, never by the plugins.
func fixture(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// gsBinary wraps a body as the reference describes the binary form.
func gsBinary(mac, body string) string {
	for len(body)%4 != 0 {
		body += "\x00"
	}
	raw, err := hex.DecodeString(mac)
	if err != nil {
		panic(err)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)/2))
	b = append(b, 0, 0)
	b = append(b, raw...)
	b = append(b, "\r\n\r\n"+body...)
	var sum uint16
	for i := 0; i < len(b); i += 2 {
		sum += binary.BigEndian.Uint16(b[i:])
	}
	binary.BigEndian.PutUint16(b[4:], -sum)
	return string(b)
}
