package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Separator, byte order mark, foreign headers and spellings of MACs are taken as they come.
func TestReadRows(t *testing.T) {
	for name, c := range map[string]struct {
		text, mapping string
		want          map[string]string
	}{
		"comma": {"mac,display_name,number,username,password\n00:15:65:1A:2B:3C,Ada,201,u201,secret\n", "",
			map[string]string{"tenant_id": "acme", "category_id": "", "mac": "0015651a2b3c", "display_name": "Ada", "number": "201", "username": "u201", "password": "secret", "line_id": "acme.201", "user_id": "acme.201"}},
		"semicolon, byte order mark, own headers": {"\ufeffTelefon;Name;Durchwahl;SIP;Kennwort\n0015.651a.2b3c;Müller, Zoë;202;u202;p;q\n", "Telefon=mac,Name=display_name,Durchwahl=number,SIP=username,Kennwort=password", nil},
		"tab": {"user_id\tdisplay_name\nzoe\tZoë\n", "", map[string]string{"tenant_id": "acme", "category_id": "", "user_id": "zoe", "display_name": "Zoë"}},
	} {
		t.Run(name, func(t *testing.T) {
			rows, err := readRows([]byte(c.text), c.mapping, "acme", "")
			if c.want == nil {
				if err == nil || !strings.Contains(err.Error(), "line 2") {
					t.Fatalf("a row with a cell too many: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, rows[0].Values); d != "" {
				t.Error(d)
			}
		})
	}
}

// Every fault is named with its row, all at once.
func TestReadRowsNamesFaults(t *testing.T) {
	text := "mac,username,password,user_id\n" +
		"001565ZZ2b3c,,,\n" +
		"0015651a2b3c,u1,,\n" +
		"0015651a2b3d,u2,p,bad id\n" +
		",,,\n" +
		"0015651a2b3e,u3,p,\n" +
		"0015651a2b3e,u4,p,\n"
	_, err := readRows([]byte(text), "", "acme", "")
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{"row 2: mac", "row 3: a line needs username and password", "row 4: user_id", "row 5: names neither", "row 7: mac 0015651a2b3e stands in row 6"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
	for text, want := range map[string]string{"": "header", "mac\n": "no rows", "mac,wing\n1,2\n": `column "wing" is not known`} {
		if _, err := readRows([]byte(text), "", "acme", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzReadRows(f *testing.F) {
	f.Add("mac,display_name\n0015651a2b3c,Ada\n", "")
	f.Add("\ufeffTelefon;Name\n0015.651a.2b3c;\"Müller; Zoë\"\n", "Telefon=mac,Name=display_name")
	f.Add("a\tb\n\"", "=")
	f.Fuzz(func(t *testing.T, text, mapping string) {
		rows, err := readRows([]byte(text), mapping, "acme", "")
		if err == nil && len(rows) == 0 {
			t.Error("neither rows nor an error")
		}
		for _, r := range rows {
			if err == nil && r.complete() != nil {
				t.Errorf("an accepted row is not complete: %v", r.complete())
			}
		}
	})
}
