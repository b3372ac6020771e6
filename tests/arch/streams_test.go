package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ledgerline/domain"
)

// Every category of stream that domain or commands write to is known to domain.StreamID.History, or is
// bookkeeping: what is forgotten there could be deleted through the EventStoreDB face (D11).
func TestEveryCategoryIsHistory(t *testing.T) {
	literal := regexp.MustCompile(`\b(?:Stream\("([a-z]+)",|Subject(?:\(| = )"([a-z]+)-)`)
	found := 0
	for _, dir := range []string{"domain", "commands", "projections", "adapters"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			for _, m := range literal.FindAllStringSubmatch(string(b), -1) {
				found++
				if s := domain.Stream(m[1]+m[2], "x"); !s.History() && !s.Internal() {
					t.Errorf("%s writes streams %q: domain/stream.go does not list that category", path, m[1]+m[2])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 10 {
		t.Errorf("only %d categories found: the pattern is stale", found)
	}
}
