package projections

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ledgerline/domain"
	"ledgerline/projections/projectiontest"
)

// Every row a mixed history makes is encoded as encoding/json would.
func TestRowsEncodeAsJSON(t *testing.T) {
	log := new(projectiontest.Log)
	projectiontest.NewWorld(log, rand.New(rand.NewPCG(1, 2)).IntN).Grow(5000)
	tx := make(memTx)
	for r, err := range log.ReadAll(context.Background(), domain.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		f := NewFact(r)
		for _, p := range All() {
			if err := p.Apply(tx, &f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, p := range All() {
		for _, s := range p.Tables() {
			if s.Encode != nil && len(tx[s]) == 0 && s.Name != "code_epochs" {
				t.Errorf("the history has no row of %s", s.Name)
			}
			for key, row := range tx[s] {
				if row != nil {
					encodesAsJSON(t, s.Name+" "+key, s.Encode, row)
				}
			}
		}
	}
}

func encodesAsJSON(t *testing.T, what string, encode func([]byte, any) ([]byte, error), row any) {
	t.Helper()
	want, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	got, err := encode([]byte("before"), row)
	if diff := cmp.Diff("before"+string(want), string(got)); diff != "" || err != nil {
		t.Errorf("%s (-encoding/json +ours): %v\n%s", what, err, diff)
	}
}

// What the rules of encoding/json make of unusual values and tags.
func TestEncodesAsJSON(t *testing.T) {
	type Inner struct {
		Name  string `json:"name,omitempty"`
		Texts []string
	}
	type row struct {
		Inner
		Plain   string `json:"plain"`
		Hidden  string `json:"-"`
		private string
		Number  int8          `json:"number,omitempty"`
		Count   uint16        `json:"count"`
		Flag    bool          `json:",omitempty"`
		At      time.Time     `json:"at,omitzero"`
		Until   *time.Time    `json:"until"`
		Secret  domain.Secret `json:"secret,omitzero"`
		Person  domain.Personal
		Bytes   []byte
		By      map[int]string  `json:"by,omitempty"`
		Where   domain.Position `json:"where"`
		Inners  []Inner         `json:"inners"`
		Float   float64
		Fixed   [2]int
		Quoted  struct {
			N int `json:"n,string"`
		}
		Empty struct{} `json:"empty"`
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.FixedZone("", 3600))
	sealed := domain.Sealed{KeyID: "k<1>", Nonce: []byte{1, 2, 3}, Ciphertext: []byte{}, AAD: "a#/b"}
	for _, r := range []row{
		{},
		{Inner: Inner{Name: "a", Texts: []string{}}, Plain: "\"\\ü\u2028\x00\xff<&>\x7f", Hidden: "h", private: "p", Number: -1, Count: 7, Flag: true,
			At: now, Until: &now, Secret: domain.Secret{Sealed: sealed}, Person: domain.Personal{Sealed: domain.Sealed{KeyID: "k", Fingerprint: "f"}},
			Bytes: []byte("bytes"), By: map[int]string{10: "x", 9: "y"}, Where: domain.At(12), Inners: []Inner{{}, {Name: "n", Texts: []string{"t"}}}, Float: 1.5},
	} {
		encodesAsJSON(t, r.Plain, encoderOf[row](), &r)
	}
}

func TestClearTextIsNotEncoded(t *testing.T) {
	d := &Doc[domain.Line]{State: domain.Line{Password: domain.NewSecret("line-1", "clear", "")}}
	if doc, err := lines.schema.Encode(nil, d); !errors.Is(err, domain.ErrUnsealed) {
		t.Errorf("%s, %v", doc, err)
	}
}
