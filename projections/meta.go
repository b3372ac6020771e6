package projections

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"ledgerline/domain"
)

// readMeta takes tenant and time out of the metadata. Metadata as the engine writes it is read without
// decoding the rest, which would take as long as the payload; anything else goes the long way.
func (f *Fact) readMeta() error {
	if len(f.Metadata) == 0 {
		return nil
	}
	tenant, ok1 := plainText(f.Metadata, `"tenant_id":"`)
	at, ok2 := plainText(f.Metadata, `"recorded_at":"`)
	if ok1 && ok2 {
		if t, err := time.Parse(time.RFC3339Nano, at); err == nil {
			f.TenantID, f.At = domain.TenantID(tenant), t.UTC()
			return nil
		}
	}
	var meta struct {
		TenantID   domain.TenantID `json:"tenant_id"`
		RecordedAt time.Time       `json:"recorded_at"`
	}
	if err := json.Unmarshal(f.Metadata, &meta); err != nil {
		return fmt.Errorf("metadata of event %d of %s: %w", f.Revision, f.Stream, err)
	}
	f.TenantID, f.At = meta.TenantID, meta.RecordedAt.UTC()
	return nil
}

// plainText is the text behind key in JSON, if key stands there once and the text has no escapes. Inside
// another text the quotes of key would be escaped, so a match is a key; a second one may be of a nested object.
func plainText(doc []byte, key string) (string, bool) {
	i := bytes.Index(doc, []byte(key))
	if i < 0 {
		return "", false
	}
	rest := doc[i+len(key):]
	end := bytes.IndexByte(rest, '"')
	if end < 0 || bytes.IndexByte(rest[:end], '\\') >= 0 || bytes.Contains(rest[end:], []byte(key)) {
		return "", false
	}
	return string(rest[:end]), true
}
