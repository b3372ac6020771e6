package phonehttp

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// entrySegment is the first segment of /enter/<plugin>/<mac>, the page on which a phone's browser asks for a provisioning code.
const entrySegment = "enter"

// enter shows the form, and redeems the code that comes back with it. A code typed in here is one asked for at /c/<code>/ in every
// respect: the same command, rules, wait and budgets. Only GET redeems (a posted form counts as one).
func (s *Server) enter(w *answer, r *http.Request, client Client, segments []string) {
	w.via, w.route = "code", "/enter/{plugin}/{mac}"
	if len(segments) != 3 {
		s.refuse(w, http.StatusNotFound)
		return
	}
	mac, err := domain.ParseMAC(segments[2])
	agent := r.UserAgent()
	page := commands.EntryPage{Plugin: segments[1], MAC: mac, UserAgent: agent[:min(len(agent), maxAgent)], Action: here(r, client)}
	form, pageErr := s.opt.Entry.EntryPage(page)
	if err != nil || errors.Is(pageErr, commands.ErrNoFile) {
		s.refuse(w, http.StatusNotFound)
		return
	}
	query, _ := url.ParseQuery(r.URL.RawQuery) // what cannot be read is no code
	if code := strings.TrimSpace(query.Get("code")); code != "" && r.Method == http.MethodGet && pageErr == nil {
		in := question(r, client, claim{via: "code", credential: code, file: form.File})
		in.Query = ""
		_, err := s.ask(r.Context(), client, in)
		switch {
		case err == nil, errors.Is(err, commands.ErrNotYet):
			page.Done = true
		case errors.Is(err, domain.ErrCodeRefused), errors.Is(err, commands.ErrGuesses), errors.Is(err, commands.ErrNoFile), errors.Is(err, errSpent):
			page.Refused = true
			s.refused(in, err)
		default:
			s.fail(w, r, false, client, err)
			return
		}
		form, pageErr = s.opt.Entry.EntryPage(page)
	}
	if pageErr != nil {
		zerolog.Ctx(r.Context()).Error().Err(pageErr).Str("route", w.route).Msg("make a page of code entry")
		s.busy(w, later())
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", form.ContentType)
	h.Set("Content-Length", strconv.Itoa(len(form.Data)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(form.Data) // net/http swallows it for HEAD
}

// here is the URL of the page as the phone asked for it, without the query.
func here(r *http.Request, client Client) string {
	return client.Transport() + "://" + r.Host + r.URL.EscapedPath()
}
