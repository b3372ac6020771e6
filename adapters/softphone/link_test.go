package softphone_test

import (
	"context"
	"encoding/xml"
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"ledgerline/adapters/softphone"
	"ledgerline/commands"
)

// A retail app is opened by a link that is tapped, and fetches its account there.
func TestLink(t *testing.T) {
	r := start(t)
	if _, _, err := r.Service.IssueSoftphoneCode(t.Context(), commands.IssueSoftphoneCode{ID: "p1", Link: true}); !errors.Is(err, commands.ErrInvalid) || r.count("softphone.code_issued") != 0 {
		t.Errorf("a link that leads nowhere: %v", err)
	}
	r.Service.PublicURL, r.Service.SoftphoneLinks = "https://prov.example.net/", true
	handler := func(links string) http.Handler {
		return softphone.New(softphone.Options{Provisioner: r.Service, Links: links, Client: func(context.Context) softphone.Client { return r.client }, RefuseAfter: -1})
	}
	r.handler = handler(r.Service.PublicURL)
	code, _, err := r.Service.IssueSoftphoneCode(t.Context(), commands.IssueSoftphoneCode{ID: "p1", Link: true})
	if err != nil {
		t.Fatal(err)
	}
	target, ok := strings.CutPrefix(code.Link, "https://prov.example.net")
	if !ok {
		t.Fatal(code.Link)
	}
	// A browser gets a page, however often, with a link that only the app follows.
	var tapped string
	for range 2 {
		w := r.send(http.MethodGet, target, "", "")
		found := regexp.MustCompile(`<a href="provlinkbs://prov\.example\.net([^"]*)">`).FindStringSubmatch(w.Body.String())
		if w.Code != http.StatusOK || found == nil || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		tapped = html.UnescapeString(found[1])
	}
	if w := r.send(http.MethodGet, tapped, "", ""); r.nodes(w)["cloud_username"] != "ana@acme.example" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := r.send(http.MethodGet, tapped, "", ""); w.Code != http.StatusForbidden {
		t.Errorf("the code is good twice: %d", w.Code)
	}
	// What a stranger puts into the link stays text.
	evil := commands.SoftphoneLinkPath + "?" + url.Values{"cloud_id": {`"><script>alert(1)</script>`}}.Encode()
	if w := r.send(http.MethodGet, evil, "", ""); strings.Contains(w.Body.String(), "<script>") || xml.Unmarshal([]byte(regexp.MustCompile(`<a[^>]*>`).FindString(w.Body.String())+"</a>"), new(struct{})) != nil {
		t.Errorf("%s", w.Body)
	}
	// Where they are not let in there is no such address, and no link is told.
	r.handler, r.Service.SoftphoneLinks = handler(""), false
	if w := r.send(http.MethodGet, target, "", ""); w.Code != http.StatusNotFound {
		t.Errorf("%d", w.Code)
	}
	if code, _, err := r.Service.IssueSoftphoneCode(t.Context(), commands.IssueSoftphoneCode{ID: "p1"}); err != nil || code.Link != "" {
		t.Errorf("%+v, %v", code, err)
	}
	w := httptest.NewRecorder()
	handler("http://192.0.2.1:8667/").ServeHTTP(w, httptest.NewRequest(http.MethodGet, commands.SoftphoneLinkPath+"?x=1", nil))
	if !strings.Contains(w.Body.String(), `"provlink://192.0.2.1:8667/softphone/v1/link?fmt=xml&amp;x=1"`) {
		t.Errorf("%s", w.Body)
	}
}
