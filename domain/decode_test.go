package domain_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ledgerline/domain"
)

// alikeJSON holds Decode to what encoding/json makes of the same bytes for the type of e.
func alikeJSON(t *testing.T, e domain.Event, data []byte) {
	t.Helper()
	want := reflect.New(reflect.TypeOf(e))
	wantErr := json.Unmarshal(data, want.Interface())
	got, err := domain.Decode(e.EventType(), data)
	switch {
	case (err == nil) != (wantErr == nil):
		t.Errorf("%s %q: %v, encoding/json says %v", e.EventType(), data, err, wantErr)
	case err == nil && !reflect.DeepEqual(want.Elem().Interface(), any(got)):
		t.Errorf("%s %q: (-encoding/json +Decode)\n%s", e.EventType(), data, cmp.Diff(want.Elem().Interface(), any(got), sealedAlike))
	}
}

// decoded are the frozen samples as events.
func decoded(t testing.TB) map[string]domain.Event {
	t.Helper()
	events := map[string]domain.Event{}
	for name, data := range samples(t) {
		e, err := domain.Decode(name, data)
		if err != nil {
			t.Fatal(err)
		}
		events[name] = e
	}
	return events
}

func TestDecodeReadsWhatWeWriteInOnePass(t *testing.T) {
	frozen := samples(t)
	for name, e := range decoded(t) {
		if !domain.Planned(e, frozen[name]) {
			t.Errorf("%s is left to encoding/json", name)
		}
	}
	meta, err := json.Marshal(domain.Metadata{CorrelationID: "c", CausationID: "d", Reaction: "r", Actor: "cli:x", Source: &domain.Source{Listener: "admin"},
		Reason: "because", RequestID: "q", TenantID: "t", RecordedAt: time.Now()})
	if err != nil || !domain.Planned(domain.Metadata{}, meta) {
		t.Errorf("metadata is left to encoding/json: %s %v", meta, err)
	}
}

// Each sample with one byte lost, doubled or in the way of another, and with each value replaced.
func TestDecodeAgreesWithEncodingJSON(t *testing.T) {
	const bytesInTheWay = "\"\\{}[],:0-1e.n \x00\xff\tA"
	frozen := samples(t)
	for name, e := range decoded(t) {
		data := frozen[name]
		alikeJSON(t, e, data)
		for i := range data {
			alikeJSON(t, e, append(data[:i:i], data[i+1:]...))
			alikeJSON(t, e, bytes.Join([][]byte{data[:i], {bytesInTheWay[i%len(bytesInTheWay)]}, data[i:]}, nil))
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		for key, value := range fields {
			for _, with := range []string{"null", "true", "1", "-7", "01", "1.5", "1e2", "99999999999999999999", `""`, `"x"`, `"a\u00e4b"`, `"ä"`, `"QQ=="`, `"2026-01-02T03:04:05Z"`, "[]", "[null]", "[1]", "{}", " {}", `{"a":1}`, `{"$sealed":{}}`,
				string(value) + " ", string(value) + `,"` + key + `":` + string(value), string(value) + `,"` + strings.ToUpper(key) + `":null`} {
				alikeJSON(t, e, bytes.Replace(data, []byte(`"`+key+`":`+string(value)), []byte(`"`+key+`":`+with), 1))
			}
		}
	}
}

// Settings are read like UnmarshalJSON reads them, whatever stands in them.
func FuzzDecodeSettings(f *testing.F) {
	const sealed = `{"key_id":"k","nonce":"QUFB","ciphertext":"QUFB","fingerprint":"f"}`
	for _, s := range []string{`{"a":1,"b":-7,"c":"x","d":null,"e":true,"f":false,"g":[],"h":{},"i":[1,"a",{"b":[null]}]}`,
		`{"sip_lines":{"1":{"password":{"$sealed":` + sealed + `},"display_name":{"$personal":` + sealed + `}}}}`, `{"$sealed":` + sealed + `}`,
		`{"a":{"$sealed":` + sealed + `,"b":1}}`, `{"a":{"b":1,"$sealed":` + sealed + `}}`, `{"a":[{"$sealed":` + sealed + `}]}`, `{"a":{"$sealed":null}}`, `{"a":{"$sealed":"x"}}`,
		`{"a":1.5,"b":1e3,"c":-0,"d":12345678901234567890}`, `{"a":"\u00e4\n","b":"ä"}`, `{"a":1,"a":2}`, `{"\u0061":1}`, `{"a":01}`, `{"a" : 1}`, `{"a":"` + "ÿ" + `"}`,
		strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), `null`, `[]`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e := domain.LayerDefined{}
		alikeJSON(t, e, bytes.Join([][]byte{[]byte(`{"layer_id":"l","tenant_id":"t","settings":`), data, []byte("}")}, nil))
	})
}

func FuzzDecode(f *testing.F) {
	events := decoded(f)
	for name, data := range samples(f) {
		f.Add(name, data)
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if e, ok := events[name]; ok {
			alikeJSON(t, e, data)
		}
	})
}

// Metadata is read like events are.
func FuzzMeta(f *testing.F) {
	for _, s := range []string{`{"$correlationId":"c","actor":"phone:0015651a2b3c","source":{"ip":{"key_id":"k","nonce":"AAAA","ciphertext":"AAAA"},"listener":"phones"},"tenant_id":"t","recorded_at":"2026-01-02T03:04:05.123Z"}`,
		`{"source":null,"recorded_at":null}`, `{"recorded_at":"never"}`, `{}`, ` {"actor":"\u0041"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want domain.Metadata
		wantErr := json.Unmarshal(data, &want)
		got, err := domain.Recorded{Metadata: data}.Meta()
		if len(bytes.TrimSpace(data)) > 0 && (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, encoding/json says %v", data, err, wantErr)
		}
		if err == nil && wantErr == nil && !reflect.DeepEqual(want, got) {
			t.Fatalf("%q: %s", data, cmp.Diff(want, got, sealedAlike))
		}
	})
}
