package esdb

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ledgerline/tests/proc"
)

const clientModule = "github.com/EventStore/EventStore-Client-Go/v4"

//go:embed testdata/containers.go.txt
var containers []byte

// cannotRun are tests of the client that ask for what only the vendor has: the content of its Docker image,
// a cluster of three, projections, certificates of users.
var cannotRun = []string{
	"allSubscriptionWithFilterDeliversCorrectEvents", "readStreamEventsForwardsFromZeroPosition", "readStreamEventsBackwardsFromEndPosition",
	"readAllEventsForwardsFromZeroPosition", "readAllEventsForwardsFromNonZeroPosition", "readAllEventsBackwardsFromZeroPosition", "readAllEventsBackwardsFromNonZeroPosition",
}

// The official client's own tests, as they come with the module, pass against "serve --esdb-listen
// --esdb-write": each database is a process of its own. Only the file that starts the vendor's containers
// is replaced.
func TestOfficialClientsOwnTests(t *testing.T) {
	t.Parallel()
	bin := proc.Binary(t)
	dir := t.TempDir()
	tests := filepath.Join(dir, "tests.bin")
	compileOfficial(t, dir, tests)
	cwd := filepath.Join(dir, "client", "esdb")
	makeCerts(t, filepath.Join(dir, "client", "certs"))
	for _, run := range []struct {
		name, tests string
		insecure    bool
		want        int // so many pass: a test that does not run any more is noticed
	}{
		{"streams, insecure", "^TestStreams$", true, 17},
		{"streams, secure", "^TestStreams$", false, 28},
		{"persistent subscriptions, insecure", "^TestPersistentSubscriptions$", true, 36},
		{"persistent subscriptions, secure", "^TestPersistentSubscriptions$", false, 36},
		{"reading all, secure", "^TestExpectations$", false, 1},
		{"without a server", "^(TestMisc|TestPositionParsing|TestConnectionStrings?)$", true, 4},
	} {
		t.Run(run.name, func(t *testing.T) {
			t.Parallel()
			var out []byte
			var err error
			// Its connectionClosing adds to a WaitGroup after it has started who calls Done: where that one is faster, a panic
			// of the test's own ends the whole run.
			for try := 0; try == 0 || try < 4 && bytes.Contains(out, []byte("esdb_test.connectionClosing.func1")); try++ {
				cmd := exec.CommandContext(t.Context(), tests, "-test.v", "-test.timeout=5m", "-test.run", run.tests, "-test.skip", "/.*/("+strings.Join(cannotRun, "|")+")")
				cmd.Dir = cwd
				cmd.Env = append(os.Environ(), "LEDGERLINE_BIN="+bin, "LEDGERLINE_CONFIG=", fmt.Sprintf("EVENTSTORE_INSECURE=%v", run.insecure), "ADMIN_HASH="+hash(t, "changeit"))
				out, err = cmd.CombinedOutput()
			}
			results := map[string][]string{}
			lines := bufio.NewScanner(bytes.NewReader(out))
			for line := regexp.MustCompile(`--- (PASS|FAIL|SKIP): (\S+)`); lines.Scan(); {
				if m := line.FindStringSubmatch(lines.Text()); m != nil {
					results[m[1]] = append(results[m[1]], m[2])
				}
			}
			passed := slices.DeleteFunc(slices.Clone(results["PASS"]), func(name string) bool { // but not the groups of tests
				return slices.ContainsFunc(results["PASS"], func(other string) bool { return strings.HasPrefix(other, name+"/") })
			})
			if err != nil || len(results["FAIL"]) > 0 || len(passed) != run.want {
				t.Errorf("%v; %d pass, want %d; failed: %v\n%s", err, len(passed), run.want, results["FAIL"], out)
			}
			t.Logf("%d pass; need TLS: %v\n%s", len(passed), results["SKIP"], strings.Join(slices.Sorted(slices.Values(passed)), "\n"))
		})
	}
}

// compileOfficial compiles the client's tests with the versions of this module's dependencies.
func compileOfficial(t *testing.T, dir, out string) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", clientModule)
	source, err := list.Output()
	if err != nil {
		t.Fatalf("find the client's module: %v", err)
	}
	client := filepath.Join(dir, "client")
	if err := os.CopyFS(client, os.DirFS(strings.TrimSpace(string(source)))); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(client, func(path string, d fs.DirEntry, err error) error { // the cache is read-only
		if err != nil || !d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
	replaced := filepath.Join(client, "esdb", "containers_test.go")
	root, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "ledgerline").Output()
	if err != nil {
		t.Fatal(err)
	}
	for file, more := range map[string]string{"go.mod": fmt.Sprintf("\nreplace %s => %s\n", clientModule, client), "go.sum": ""} {
		b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), append(b, more...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(replaced); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(replaced, containers, 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-mod=mod", "-modfile="+filepath.Join(dir, "go.mod"), "-o", out, clientModule+"/esdb")
	build.Dir = strings.TrimSpace(string(root))
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile the client's tests: %v\n%s", err, text)
	}
}

// makeCerts makes the certificates the client's tests look for.
func makeCerts(t *testing.T, dir string) {
	t.Helper()
	certificate, key, _ := certifyFiles(t)
	other, otherKey, _ := certifyFiles(t)
	for _, path := range []string{"node", "ca", "untrusted-ca"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for to, from := range map[string]string{"node/node.crt": certificate, "node/node.key": key, "ca/ca.crt": certificate, "untrusted-ca/ca.crt": other, "untrusted-ca/ca.key": otherKey} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
