package softphone

import (
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"ledgerline/commands"
)

// linkPage shows a button that opens the vendor's retail app, which then fetches its account from the same address with
// fmt=xml. Only a link that is tapped opens it: a redirect does nothing (seen in the field). The page says nothing about
// whether the code in the link is good, and has no effect on it.
func (h *handler) linkPage(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(r.URL.RawQuery) > maxQuery || !utf8.ValidString(q.Encode()) {
		http.Error(w, "The link is damaged.", http.StatusBadRequest)
		return
	}
	q.Set("fmt", "xml")
	base, scheme := strings.TrimSuffix(h.Links, "/"), "provlink://"
	if rest, ok := strings.CutPrefix(base, "https://"); ok {
		base, scheme = rest, "provlinkbs://" // the app fetches over https
	}
	link := scheme + strings.TrimPrefix(base, "http://") + commands.SoftphoneLinkPath + "?" + q.Encode()
	_ = linkTemplate.Execute(w, template.URL(link))
}

var linkTemplate = template.Must(template.New("link").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Set up your phone app</title>
<style>body{font:1.1rem/1.5 system-ui,sans-serif;margin:3rem auto;max-width:26rem;padding:0 1rem;text-align:center}
a{display:inline-block;padding:.8rem 1.6rem;border-radius:.5rem;background:#0b57d0;color:#fff;text-decoration:none}</style></head>
<body><h1>Set up your phone app</h1><p>Install the app first, then tap the button on the phone it is on.</p>
<p><a href="{{.}}">Set up the app</a></p></body></html>
`))
