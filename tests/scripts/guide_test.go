package scripts

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"

	"ledgerline/tests/proc"
)

// The worked example of docs/plugins.md is what its reader would type: every file of it is written, every command run, and
// what the page shows of their output comes.
func TestPluginGuide(t *testing.T) {
	page, err := os.ReadFile("../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(page), "\n## A worked example\n")
	if !ok {
		t.Fatal("no worked example")
	}
	example, _, _ = strings.Cut(example, "\n## ")
	script := &txtar.Archive{}
	for _, f := range regexp.MustCompile("(?m)^`([^`\n]+)`:\n\n```[a-z]*\n((?s:.*?))^```$").FindAllStringSubmatch(example, -1) {
		// A case is a txtar itself; testscript must not take it apart.
		data := regexp.MustCompile(`(?m)^-- (\S+) --$`).ReplaceAllString(f[2], "-_ $1 _-")
		script.Files = append(script.Files, txtar.File{Name: f[1], Data: []byte(data)})
	}
	var b strings.Builder
	b.WriteString("mkdir offers\nunescape acme/testdata/one-line.txtar\n")
	commands := 0
	for _, console := range regexp.MustCompile("(?m)^```console\n((?s:.*?))^```$").FindAllStringSubmatch(example, -1) {
		for line := range strings.Lines(console[1]) {
			line = strings.TrimSpace(line)
			switch command, typed := strings.CutPrefix(line, "$ "); {
			case typed && strings.HasPrefix(command, "ledgerline serve "):
				// The reader's directory is the script's, the server's is another.
				b.WriteString("server data " + regexp.MustCompile(`(--plugin-\S+) `).ReplaceAllString(strings.TrimPrefix(command, "ledgerline serve "), "$1 $$WORK/") + "\n")
			case typed:
				b.WriteString(command + "\n")
				commands++
			case line != "":
				b.WriteString("stdout '" + strings.Join(strings.Fields(regexp.QuoteMeta(line)), " +") + "'\n")
			}
		}
	}
	if len(script.Files) < 6 || commands < 8 {
		t.Fatalf("%d files and %d commands found", len(script.Files), commands)
	}
	b.WriteString("stdout 'acme +1\\.0\\.0 +true'\nledgerline phone --vendor yealink --mac 00:15:65:00:00:02 --url $PHONES_URL\n")
	script.Comment = []byte(b.String())
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "guide.txtar"), txtar.Format(script), 0o600); err != nil {
		t.Fatal(err)
	}
	p := params(proc.Binary(t))
	p.Dir = dir
	testscript.Run(t, p)
}

// unescape makes the marks of a txtar within a script's file what they are.
func unescape(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unescape FILE")
	}
	b := regexp.MustCompile(`(?m)^-_ (\S+) _-$`).ReplaceAllString(ts.ReadFile(args[0]), "-- $1 --")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b), 0o600))
}
