package e2e

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// Jitsi posts what stands behind "?" in its provisioning URL, and moves to the URL it is given.
func TestJitsi(t *testing.T) {
	s := newSite(t)
	fetch := func(at string, form url.Values) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("User-Agent", "Jitsi/2.10.5550")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d: %v", resp.StatusCode, err)
		}
		return string(b)
	}
	who := url.Values{"uuid": {"12ab34cd-0000-4000-8000-000000000001"}}
	if file := fetch("http://"+s.Phones+"/jitsi", who); strings.Contains(file, "PASSWORD") {
		t.Error("anybody gets a password")
	}
	at := "http://" + s.Phones + "/c/" + s.code(t) + "/jitsi-001a4b0c0d0e.properties"
	file := fetch(at, who)
	if !strings.Contains(file, ".PASSWORD="+s.password+"\n") {
		t.Error("no account after the code")
	}
	moved := regexp.MustCompile(`(?m)^net\.java\.sip\.communicator\.plugin\.provisioning\.URL=http\\(://[^\\]+)\\(:\d+/d/[\w-]+/jitsi)\?uuid=\$\{uuid\}$`).FindStringSubmatch(file)
	if moved == nil {
		t.Fatal("it is not sent to a path of its own")
	}
	if again := fetch("http"+moved[1]+moved[2], who); again != file {
		t.Error("there it gets another file")
	}
	s.expectState(t, "/devices/001a4b0c0d0e", "configured")
}
