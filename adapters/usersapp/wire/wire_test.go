package wire

import (
	"encoding/json"
	"testing"
)

// The vendor's own vectors.
func TestLoginDigest(t *testing.T) {
	l := Login{App: "pbxadminapi"}
	if got := l.Sum("0123456789abcdef", "pwd"); got != "a205299ed2ef2786c311e0be1b14db343f2cadd906a6ae7b564eee34bda5e9a1" {
		t.Errorf("without info %s", got)
	}
	l.Info = json.RawMessage(`{ "cn": "Test User" }`)
	if got := l.Sum("0123456789abcdef", "pwd"); got != "96db3c3f657230c2b68194becc6d2a77f05de9f79f01fc81e9ca0fb196b10d9d" {
		t.Errorf("with info %s", got)
	}
}
