package domain_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ledgerline/domain"
)

func samples(t testing.TB) map[string][]byte { return samplesIn(t, "testdata/events") }

func samplesIn(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]byte, len(files))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".json")] = bytes.TrimSuffix(data, []byte("\n"))
	}
	return out
}

// Events never change meaning: a sample frozen when its type was made decodes, and encodes to the same bytes.
func TestEveryEventHasAFrozenSample(t *testing.T) {
	frozen := samples(t)
	for _, name := range domain.EventTypes() {
		t.Run(name, func(t *testing.T) {
			data, ok := frozen[name]
			if !ok {
				t.Fatalf("no testdata/events/%s.json: write one, and never change it", name)
			}
			e := unchanged(t, name, data)
			if missing := zeroFields(reflect.ValueOf(e), name); len(missing) > 0 {
				t.Errorf("the sample does not show %s", strings.Join(missing, ", "))
			}
		})
	}
	for name := range frozen {
		if !slices.Contains(domain.EventTypes(), name) {
			t.Errorf("testdata/events/%s.json is a sample of nothing: a wire name was changed or taken away", name)
		}
	}
}

// unchanged decodes a sample, which must encode to the same bytes.
func unchanged(t *testing.T, name string, data []byte) domain.Event {
	t.Helper()
	e, err := domain.Decode(name, data)
	if err != nil {
		t.Fatal(err)
	}
	if e.EventType() != name {
		t.Errorf("decodes to a %s", e.EventType())
	}
	again, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, data) {
		t.Errorf("encodes to\n%s\nwant\n%s", again, data)
	}
	return e
}

// A type that gained a field keeps its sample from before as testdata/earlier/<name>.<number>.json: what was recorded
// then still means, and is, what it was.
func TestEarlierFormsStay(t *testing.T) {
	for file, data := range samplesIn(t, "testdata/earlier") {
		t.Run(file, func(t *testing.T) {
			unchanged(t, strings.TrimSuffix(file, filepath.Ext(file)), data)
		})
	}
}

// zeroFields names the exported fields of v that have no value.
func zeroFields(v reflect.Value, at string) (missing []string) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time](), v.Kind() != reflect.Struct:
		if v.IsZero() {
			missing = append(missing, at)
		}
	default:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				missing = append(missing, zeroFields(v.Field(i), at+"."+f.Name)...)
			}
		}
	}
	if v.Kind() == reflect.Slice && v.Len() > 0 {
		missing = append(missing, zeroFields(v.Index(0), at+"[0]")...)
	}
	return missing
}

func TestMetadataHasAFrozenSample(t *testing.T) {
	data, err := os.ReadFile("testdata/metadata.json")
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.TrimSpace(data)
	m, err := domain.Recorded{Metadata: data}.Meta()
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, data) {
		t.Errorf("encodes to\n%s\nwant\n%s", again, data)
	}
	if missing := zeroFields(reflect.ValueOf(m), "metadata"); len(missing) > 0 {
		t.Errorf("the sample does not show %s", strings.Join(missing, ", "))
	}
}

// Wire names are "noun.past_tense" and never derived from the names of types.
func TestWireNames(t *testing.T) {
	names := domain.EventTypes()
	if !slices.IsSorted(names) || len(names) < 40 {
		t.Errorf("%d names, sorted %v", len(names), slices.IsSorted(names))
	}
	for _, n := range names {
		noun, fact, ok := strings.Cut(n, ".")
		if !ok || strings.Trim(noun, "abcdefghijklmnopqrstuvwxyz") != "" || fact == "" || strings.Trim(fact, "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("%q is no wire name", n)
		}
	}
}

func TestAnUnknownTypeDecodesToUnknown(t *testing.T) {
	const name, data = "starship.launched", `{"rows":[1,2,3]}`
	e, err := domain.Recorded{Type: name, Data: []byte(data)}.Event()
	if err != nil {
		t.Fatal(err)
	}
	u, ok := e.(domain.Unknown)
	if !ok || u.EventType() != name || string(u.Data) != data {
		t.Fatalf("%#v", e)
	}
	// No state moves for it.
	for what, same := range map[string]bool{
		"tenant": reflect.DeepEqual(domain.Tenant{}.Apply(u), domain.Tenant{}), "line": reflect.DeepEqual(domain.Line{}.Apply(u), domain.Line{}),
		"device": reflect.DeepEqual(domain.Device{}.Apply(u), domain.Device{}), "code": reflect.DeepEqual(domain.Code{}.Apply(u), domain.Code{}),
		"user": reflect.DeepEqual(domain.User{}.Apply(u), domain.User{}), "layer": reflect.DeepEqual(domain.Layer{}.Apply(u), domain.Layer{}),
		"category": reflect.DeepEqual(domain.Category{}.Apply(u), domain.Category{}), "API key": reflect.DeepEqual(domain.APIKey{}.Apply(u), domain.APIKey{}),
		"claim": reflect.DeepEqual(domain.Claim{}.Apply(u), domain.Claim{}), "keyed": reflect.DeepEqual(domain.Keyed{}.Apply(u), domain.Keyed{}),
	} {
		if !same {
			t.Errorf("%s changed", what)
		}
	}
}

func TestABrokenPayloadNamesItsPlace(t *testing.T) {
	for _, data := range []string{``, `{`, `[]`, `{"tenant_id":7}`, `"x"`} {
		_, err := domain.Recorded{Stream: "tenant-acme", Revision: 3, Type: "tenant.created", Data: []byte(data)}.Event()
		if err == nil || !strings.Contains(err.Error(), "event 3 of tenant-acme: decode tenant.created") {
			t.Errorf("%q: %v", data, err)
		}
	}
	if _, err := (domain.Recorded{Stream: "tenant-acme", Revision: 3, Metadata: []byte(`{"actor":1}`)}).Meta(); err == nil || !strings.Contains(err.Error(), "metadata of event 3 of tenant-acme") {
		t.Error(err)
	}
	if m, err := (domain.Recorded{}).Meta(); err != nil || !reflect.DeepEqual(m, domain.Metadata{}) {
		t.Errorf("no metadata: %v %v", m, err)
	}
}
