package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ledgerline/tests/proc"
)

// recorded is an event as the API shows it.
type recorded struct {
	Position string
	Type     string
	Metadata struct {
		Actor     string
		RequestID string `json:"request_id"`
		Source    struct{ Listener string }
	}
	Data json.RawMessage
}

// Completeness of the phone plane: every way in records what it does, with who asked, through which listener and under
// which request. A route or mount that is new and not here fails.
func TestThePhonePlaneIsOnRecord(t *testing.T) {
	s := newSite(t)
	const key = "a-key-of-the-tests"
	s.API(t, 204, "PUT", "/tenants/"+s.tenant+"/provisioning-key", map[string]any{"key": key})
	secret := ""
	ways := map[string]struct {
		ask      func(t *testing.T)
		want     []string
		listener string
	}{
		"/{file}":               {func(t *testing.T) { s.ask(t, "0015651a0001", "/0015651a0001.boot") }, []string{"device.discovered"}, "phones"},
		"/t/{key}/{file}":       {func(t *testing.T) { s.ask(t, "0015651a0002", "/t/"+key+"/0015651a0002.boot") }, []string{"device.discovered"}, "phones"},
		"/{key}/{file}":         {func(t *testing.T) { s.ask(t, "0015651a0003", "/"+key+"/0015651a0003.boot") }, []string{"device.discovered"}, "phones"},
		"/enter/{plugin}/{mac}": {func(t *testing.T) { s.ask(t, "0015651a0001", "/enter/yealink/0015651a0001?code="+s.code(t)) }, []string{"code.redeemed"}, "phones"},
		"tftp": {func(t *testing.T) {
			if _, err := s.phone(t, "snom", "tftp", 77).Boot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, []string{"device.discovered"}, "tftp"},
		"/c/{code}/{file}": {func(t *testing.T) {
			body := s.ask(t, "0015651a0004", "/c/"+s.code(t)+"/y000000000000.cfg")
			if found := regexp.MustCompile(`/d/([A-Za-z0-9_-]+)/`).FindStringSubmatch(body); found != nil {
				secret = found[1]
			}
		}, []string{"code.redeemed", "device.config_delivered"}, "phones"},
		"/d/{secret}/{file}": {func(t *testing.T) { s.ask(t, "0015651a0004", "/d/"+secret+"/0015651a0004.cfg") }, []string{"device.config_delivered"}, "phones"},
	}
	if routes := append(routesOf(t, "../../adapters/phonehttp", regexp.MustCompile(`route(?::| =) "(/[^"]+)"|w\.route = "code", "([^"]+)"`)), "tftp"); !equal(routes, maps.Keys(ways)) {
		t.Errorf("routes of the phone plane are %q, looked at are %q", routes, slices.Sorted(maps.Keys(ways)))
	}
	for _, route := range []string{"/{file}", "/t/{key}/{file}", "/{key}/{file}", "/enter/{plugin}/{mac}", "tftp", "/c/{code}/{file}", "/d/{secret}/{file}"} {
		way := ways[route]
		from := s.events(t, "")
		after := "0"
		if len(from) > 0 {
			after = from[len(from)-1].Position
		}
		way.ask(t)
		var seen []recorded
		proc.Eventually(t, fmt.Sprintf("%s records %q", route, way.want), func() bool {
			seen = s.events(t, after)
			for _, kind := range way.want {
				if !slices.ContainsFunc(seen, func(r recorded) bool { return r.Type == kind }) {
					return false
				}
			}
			return true
		})
		for _, r := range seen {
			m := r.Metadata
			if slices.Contains(way.want, r.Type) && (!strings.HasPrefix(m.Actor, "phone:") || m.RequestID == "" || m.Source.Listener != way.listener) {
				t.Errorf("%s: %s by %s under request %q from listener %q", route, r.Type, m.Actor, m.RequestID, m.Source.Listener)
			}
		}
	}
	// A known code that is refused is on record when its hour, or the program, is over.
	code := s.code(t)
	s.ask(t, "0015651a0005", "/c/"+code+"/y000000000000.cfg")
	s.refused(t, "0015651a0006", "/c/"+code+"/y000000000000.cfg")
	if exit := s.Stop(t); exit != 0 {
		t.Fatalf("exit status %d", exit)
	}
	log, err := exec.Command(proc.Binary(t), "audit", "replay", "--data", s.ledger).Output()
	if err != nil || !strings.Contains(string(log), `"type":"code.denied"`) {
		t.Errorf("the refusal of a known code is not on record: %v", err)
	}
}

// What else hangs in the phone plane, and on the registry's listener: each is looked at by a test of its own, which
// wants these events.
func TestEveryMountIsLookedAt(t *testing.T) {
	mounts := map[string]struct{ file, test, event string }{
		"softphone.Segment":    {"adapters/softphone/softphone_test.go", "TestSigningIn", "softphone.signed_in"},
		"sysclient.Match":      {"adapters/sysclient/sysclient_test.go", "TestNewAndKnownDevice", "device."},
		"registry.Init":        {"commands/registry_test.go", "TestResolvingBindsACodeToThePhone", "code."},
		"updateserver.Segment": {"adapters/updateserver/updateserver_test.go", "TestAPhoneRunsItsScriptOnce", "device.script_run"},
		"usersapp.Match":       {"tests/users/users_test.go", "TestANoticeIsKeptUntilSomebodyTakesIt", "notice.acknowledged"},
		"usersapp.MatchPage":   {"tests/innovaphone/users_test.go", "TestUsersFetchesAPage", "device.page_requested"},
		"registry.REST":        {"adapters/registry/registry_test.go", "TestTwoDevicesServersAndOneRegistry", "registry"},
	}
	found := routesOf(t, "../../cmd/ledgerline", regexp.MustCompile(`\{(?:Segment|Match): ([\w.]+), Handler`))
	if !equal(found, maps.Keys(mounts)) {
		t.Errorf("mounts are %q, known are %q: say which test looks at what they record", found, slices.Sorted(maps.Keys(mounts)))
	}
	for name, m := range mounts {
		b, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil || !strings.Contains(string(b), m.event) || !strings.Contains(string(b), "func "+m.test) {
			t.Errorf("%s: %s does not look at %s in %s: %v", name, m.file, m.event, m.test, err)
		}
	}
}

func equal(found []string, known func(func(string) bool)) bool {
	return slices.Equal(slices.Compact(slices.Sorted(slices.Values(found))), slices.Sorted(known))
}

// routesOf are what a pattern finds in the sources of a package, tests left out.
func routesOf(t *testing.T, dir string, pattern *regexp.Regexp) (routes []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pattern.FindAllStringSubmatch(string(b), -1) {
			routes = append(routes, strings.Join(m[1:], ""))
		}
	}
	return routes
}

// get asks the phone plane as a Yealink with that address does.
func (s *site) get(t *testing.T, mac, path string) (int, string) {
	t.Helper()
	return proc.Get(t, "http://"+s.Phones+path, "Yealink SIP-T54W 96.86.0.70 "+mac)
}

// ask gets a file, however long it takes to be made.
func (s *site) ask(t *testing.T, mac, path string) (body string) {
	t.Helper()
	proc.Eventually(t, "the phone is answered", func() bool {
		status, b := s.get(t, mac, path)
		body = b
		return status == http.StatusOK
	})
	return body
}

func (s *site) refused(t *testing.T, mac, path string) {
	t.Helper()
	if status, _ := s.get(t, mac, path); status != http.StatusNotFound {
		t.Errorf("status %d", status)
	}
}

// events are those after a position.
func (s *site) events(t *testing.T, after string) (all []recorded) {
	t.Helper()
	for {
		var page struct {
			Items []recorded
			Next  string
		}
		b, err := json.Marshal(s.API(t, 200, "GET", "/events?limit=500&after="+after, nil))
		if err == nil {
			err = json.Unmarshal(b, &page)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Items...)
		if len(page.Items) < 500 {
			return all
		}
		after = page.Items[len(page.Items)-1].Position
	}
}
