package phonehttp

import (
	"fmt"
	"strings"
	"testing"
)

// Jitsi posts what stands behind "?" in its provisioning URL; that is the same question as the GET.
func TestAFormIsAskedLikeAQuery(t *testing.T) {
	post := func(addr, target, kind, body string) string {
		return raw(t, addr, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: phones\r\nConnection: close\r\nUser-Agent: Jitsi/2.10.5550\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", target, kind, len(body), body))
	}
	const form = "application/x-www-form-urlencoded"
	f := someFiles()
	_, addr := start(t, Options{Files: f})
	const name = "001565a1b2c3.cfg"
	answer := post(addr, "/"+name, form+"; charset=UTF-8", "uuid=a-b&mac=00:1a:4b:0c:0d:0e")
	if status(t, answer) != 200 || !strings.HasSuffix(answer, content) {
		t.Fatalf("answer %q", answer)
	}
	asked := f.questions()
	if len(asked) != 1 || asked[0].Query != "uuid=a-b&mac=00:1a:4b:0c:0d:0e" || asked[0].Path != name || len(f.deliveries()) != 1 {
		t.Fatalf("asked %+v, delivered %v", asked, f.deliveries())
	}
	for what, answer := range map[string]string{
		"another type":    post(addr, "/"+name, "text/plain", "a=b"),
		"a query as well": post(addr, "/"+name+"?a=b", form, "c=d"),
		"a long form":     post(addr, "/"+name, form, strings.Repeat("a", maxQuery+1)),
	} {
		if status(t, answer) != 405 {
			t.Errorf("%s: %q", what, answer)
		}
	}
	if len(f.questions()) != 1 {
		t.Errorf("asked %+v", f.questions())
	}
}
