// Package docs holds the written-down parts of the documentation to the code: what can be generated is, and a test
// fails while a page is behind. `make docs` writes the pages anew.
package docs

import (
	"flag"
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/domain"
)

var update = flag.Bool("update", false, "write the pages anew")

const (
	domainDir = "../../domain"
	page      = "../../docs/events.md"
)

// source is what the pages need of the domain's source.
type source struct {
	types  map[string]*ast.TypeSpec
	docs   map[string]string // of types, as Markdown text
	events map[string]string // wire name -> type
}

func read(t *testing.T) source {
	t.Helper()
	s := source{map[string]*ast.TypeSpec{}, map[string]string{}, map[string]string{}}
	files, err := filepath.Glob(filepath.Join(domainDir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok {
						s.types[ts.Name.Name] = ts
						text := d.Doc.Text()
						if ts.Doc != nil {
							text = ts.Doc.Text()
						}
						s.docs[ts.Name.Name] = prose(text)
					}
				}
			case *ast.FuncDecl:
				if wire, ok := wireName(d); ok {
					s.events[wire] = d.Recv.List[0].Type.(*ast.Ident).Name
				}
			}
		}
	}
	return s
}

// wireName is the literal that an EventType method answers.
func wireName(f *ast.FuncDecl) (string, bool) {
	if f.Name.Name != "EventType" || f.Recv == nil || len(f.Body.List) != 1 {
		return "", false
	}
	ret, ok := f.Body.List[0].(*ast.ReturnStmt)
	if !ok {
		return "", false
	}
	lit, ok := ret.Results[0].(*ast.BasicLit)
	if !ok {
		return "", false
	}
	name, err := strconv.Unquote(lit.Value)
	return name, err == nil
}

// prose is a doc comment as one paragraph.
func prose(text string) string {
	var p comment.Printer
	return strings.Join(strings.Fields(string(p.Text(new(comment.Parser).Parse(text)))), " ")
}

// field is one member of a payload.
type field struct{ name, kind, doc string }

// fields are the members of a struct as they stand in JSON; embedded structs are part of it.
func (s source) fields(name string) (out []field) {
	st, ok := s.types[name].Type.(*ast.StructType)
	if !ok {
		return nil
	}
	for _, f := range st.Fields.List {
		if len(f.Names) == 0 {
			if id, ok := f.Type.(*ast.Ident); ok {
				out = append(out, s.fields(id.Name)...)
			}
			continue
		}
		if f.Tag == nil {
			continue
		}
		tag, _ := strconv.Unquote(f.Tag.Value)
		wire, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		kind := s.kind(f.Type)
		if strings.Contains(options, "omit") {
			kind += ", optional"
		}
		text := f.Doc.Text()
		if text == "" {
			text = f.Comment.Text()
		}
		out = append(out, field{wire, kind, prose(text)})
	}
	return out
}

// kind puts a Go type into the words of JSON.
func (s source) kind(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return s.kind(e.X)
	case *ast.ArrayType:
		return "list of " + s.kind(e.Elt)
	case *ast.MapType:
		return "object of " + s.kind(e.Value)
	case *ast.SelectorExpr:
		if e.Sel.Name == "Time" {
			return "time"
		}
		return strings.ToLower(e.Sel.Name)
	case *ast.Ident:
		switch e.Name {
		case "string", "any":
			return map[string]string{"string": "text", "any": "any"}[e.Name]
		case "bool":
			return "true/false"
		case "int", "int64", "float64":
			return "number"
		case "Position":
			return "position"
		case "Secret":
			return "sealed secret"
		case "Personal":
			return "sealed personal data"
		case "Settings", "LineSettings":
			return "settings, secrets and names sealed"
		}
		ts, ok := s.types[e.Name]
		if !ok {
			return e.Name
		}
		if _, ok := ts.Type.(*ast.StructType); ok {
			return "`" + e.Name + "`"
		}
		return s.kind(ts.Type)
	}
	return "any"
}

// nested are the structs that the fields of a type lead to, in order of appearance.
func (s source) nested(name string, seen map[string]bool) (out []string) {
	st, ok := s.types[name].Type.(*ast.StructType)
	if !ok {
		return nil
	}
	for _, f := range st.Fields.List {
		ast.Inspect(f.Type, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok || seen[id.Name] || s.types[id.Name] == nil || !strings.HasPrefix(s.kind(id), "`") && len(f.Names) > 0 {
				return true
			}
			if len(f.Names) > 0 {
				seen[id.Name] = true
				out = append(out, id.Name)
			}
			out = append(out, s.nested(id.Name, seen)...)
			return true
		})
	}
	return out
}

func (s source) table(b *strings.Builder, name string) {
	fields := s.fields(name)
	if len(fields) == 0 {
		return
	}
	b.WriteString("\n| field | what it is | |\n|---|---|---|\n")
	for _, f := range fields {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.name, f.kind, strings.ReplaceAll(f.doc, "|", "\\|"))
	}
}

func TestEventsPage(t *testing.T) {
	s := read(t)
	var b strings.Builder
	b.WriteString("# Events\n\nEvery fact Ledgerline records, as it stands in the log: wire name, meaning, payload, and a sample. This page is generated from\n" +
		"`domain` (`make docs`); a wire name and its fields never change their meaning.\n\n" +
		"Around every payload stands metadata: `actor`, `source` (listener and sealed address), `reason`, `request_id`, `tenant_id`,\n" +
		"`recorded_at`, `$correlationId`, and of an event born of a reaction `$causationId` and `reaction`.\n" +
		"What is sealed holds `key_id`, `nonce`, `ciphertext`, `aad` and `fingerprint`: destroying the key erases it everywhere.\n")
	noun := ""
	seen := map[string]bool{}
	var structs []string
	for _, wire := range domain.EventTypes() {
		name, ok := s.events[wire]
		if !ok {
			t.Fatalf("no EventType method with the literal %q: this test reads the source for it", wire)
		}
		if s.docs[name] == "" || len(strings.Fields(s.docs[name])) < 4 {
			t.Errorf("%s (%s) says nothing of its meaning", wire, name)
		}
		if n, _, _ := strings.Cut(wire, "."); n != noun {
			noun = n
			fmt.Fprintf(&b, "\n## %s\n", noun)
		}
		_, meaning, found := strings.Cut(s.docs[name], ": ")
		if !found {
			meaning = s.docs[name]
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s\n", wire, strings.ToUpper(meaning[:1])+meaning[1:])
		s.table(&b, name)
		structs = append(structs, s.nested(name, seen)...)
		sample, err := os.ReadFile(filepath.Join(domainDir, "testdata", "events", wire+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if len(sample) < 1200 {
			fmt.Fprintf(&b, "\n```json\n%s\n```\n", strings.TrimSpace(string(sample)))
		}
	}
	slices.Sort(structs)
	b.WriteString("\n## Parts\n")
	for _, name := range slices.Compact(structs) {
		fmt.Fprintf(&b, "\n### `%s`\n\n%s\n", name, s.docs[name])
		s.table(&b, name)
	}
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), b.String()); diff != "" {
		t.Errorf("docs/events.md is behind the catalogue (make docs):\n%s", diff)
	}
}
