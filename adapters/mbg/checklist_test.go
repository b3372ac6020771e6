package mbg_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// Every row of what must be tested of a border gateway at least, and the test that does: folder and name. A test that
// is renamed or removed fails here.
func TestEveryRowHasItsTest(t *testing.T) {
	rows := []struct{ row, given, folder, test string }{
		{"OA-1..3", "three vectors, three methods", "oauth", "TestVectors"},
		{"OA-1..3", "signed by another implementation", "oauth", "TestAnotherImplementationAgrees"},
		{"OA-4", "parameters of query and form mixed", "oauth", "TestParametersAreSortedByEncodedBytes"},
		{"OA-5", "a JSON body", "oauth", "TestJSONIsNotSigned"},
		{"OA-6", "ports, case, empty path", "oauth", "TestBaseURI"},
		{"TK-1", "the human step 20 minutes later", ".", "TestExchangeWithAPersonInBetween"},
		{"TK-2", "a wrong verifier three times", ".", "TestWrongVerifiers"},
		{"TK-3", "granted on 29 February", "../../domain", "TestLifetimeOfAToken"},
		{"TK-4", "one warning at each threshold", ".", "TestTwelveMonths"},
		{"TK-5", "renewed and told", ".", "TestTwelveMonths"},
		{"TK-6", "renewed without a word", ".", "TestTwelveMonths"},
		{"TK-7", "not renewed, and granted anew", ".", "TestTwelveMonths"},
		{"ICP-1", "the address in another notation", ".", "TestMatchingICPs"},
		{"ICP-2", "the external address entered", ".", "TestMatchingICPs"},
		{"ICP-3", "two ICPs with one address", ".", "TestMatchingICPs"},
		{"SU-1", "a new extension", ".", "TestStory"},
		{"SU-2", "the same a hundred times", ".", "TestTheSameAgainWritesNothing"},
		{"SU-3", "a record made by hand", ".", "TestAdoption"},
		{"SU-4", "a creation whose answer is lost", ".", "TestUnclearCreation"},
		{"SU-5", "removed by hand", ".", "TestDrift"},
		{"SU-6", "changed by hand", ".", "TestDrift"},
		{"SU-7", "a password changed here", ".", "TestStory"},
		{"SU-8", "the flag cleared", ".", "TestAdoption"},
		{"SU-9", "a weak password refused", ".", "TestRefusals"},
		{"SU-10", "restored from a backup", ".", "TestDrift"},
		{"SU-10", "ids used again", ".", "TestForeignRecord"},
		{"ER-1", "clocks ten minutes apart", ".", "TestClocks"},
		{"ER-2", "consumer, permission, services", ".", "TestWhyTheExchangeIsRefused"},
		{"ER-3", "an hour of 503, 500 jobs", ".", "TestStorm"},
		{"EV-1", "replay of the whole log", ".", "TestReplayAsksNobody"},
		{"SEC-1", "no secret in log, trace, alert", ".", "TestTraces"},
		{"SEC-1", "nor in what the program prints and keeps", "../../tests/gateway", "TestCampaign"},
		{"two replicas", "one pushes", "../../tests/replicas", "TestOneReplicaPushes"},
	}
	declared := map[string]map[string]bool{}
	for _, r := range rows {
		if declared[r.folder] == nil {
			declared[r.folder] = tests(t, r.folder)
		}
		if !declared[r.folder][r.test] {
			t.Errorf("%s (%s): %s has no %s", r.row, r.given, r.folder, r.test)
		}
	}
}

// tests are the names of a folder's tests.
func tests(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", folder, len(files), err)
	}
	names := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				names[f.Name.Name] = true
			}
		}
	}
	return names
}
