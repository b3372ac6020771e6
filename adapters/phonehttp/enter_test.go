package phonehttp

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// pages is a family "yealink" whose pages say what they were asked.
type pages struct{}

func (pages) EntryPage(in commands.EntryPage) (commands.EntryAnswer, error) {
	if in.Plugin != "yealink" {
		return commands.EntryAnswer{}, commands.ErrNoFile
	}
	text := "form to " + in.Action
	switch {
	case in.Done:
		text = "done"
	case in.Refused:
		text += " refused"
	}
	return commands.EntryAnswer{Data: []byte(text + "\n"), ContentType: "text/xml", File: "001565a1b2c3.cfg"}, nil
}

func TestCodeEntry(t *testing.T) {
	for what, c := range map[string]struct {
		target string
		fail   error
		status int
		body   string
		asked  int
	}{
		"the form":            {"/enter/yealink/001565a1b2c3", nil, 200, "form to http://phones/enter/yealink/001565a1b2c3\n", 0},
		"no code":             {"/enter/yealink/001565a1b2c3?code=", nil, 200, "form to http://phones/enter/yealink/001565a1b2c3\n", 0},
		"a code":              {"/enter/yealink/001565a1b2c3?code=1234+5678+9012", nil, 200, "done\n", 1},
		"not ready yet":       {"/enter/yealink/001565a1b2c3?x=1&code=123456789012", commands.ErrNotYet, 200, "done\n", 1},
		"refused":             {"/enter/yealink/001565a1b2c3?code=123456789012", domain.ErrCodeRefused, 200, "form to http://phones/enter/yealink/001565a1b2c3 refused\n", 1},
		"too many guesses":    {"/enter/yealink/001565a1b2c3?code=123456789012", commands.ErrGuesses, 200, "form to http://phones/enter/yealink/001565a1b2c3 refused\n", 1},
		"not private":         {"/enter/yealink/001565a1b2c3?code=123456789012", commands.ErrNoFile, 200, "form to http://phones/enter/yealink/001565a1b2c3 refused\n", 1},
		"our trouble":         {"/enter/yealink/001565a1b2c3?code=123456789012", errors.New("disk full"), 503, "try again later\n", 1},
		"another family":      {"/enter/none/001565a1b2c3?code=123456789012", nil, 404, refusal, 0},
		"no address":          {"/enter/yealink/phone?code=123456789012", nil, 404, refusal, 0},
		"more of a path":      {"/enter/yealink/001565a1b2c3/x?code=123456789012", nil, 404, refusal, 0},
		"a query too long":    {"/enter/yealink/001565a1b2c3?code=" + strings.Repeat("1", maxQuery), nil, 404, refusal, 0},
		"a query not to read": {"/enter/yealink/001565a1b2c3?code=%zz", nil, 200, "form to http://phones/enter/yealink/001565a1b2c3\n", 0},
	} {
		t.Run(what, func(t *testing.T) {
			f := someFiles()
			if c.fail != nil {
				f.failWith(func(commands.ServeFile) error { return c.fail })
			}
			_, addr := start(t, Options{Files: f, Entry: pages{}})
			answer := get(t, addr, c.target, "User-Agent: Yealink SIP-T54W 96.86.0.70")
			if status(t, answer) != c.status || !strings.HasSuffix(answer, "\r\n\r\n"+c.body) || !strings.Contains(answer, "Cache-Control: no-store") {
				t.Errorf("%q", answer)
			}
			asked := f.questions()
			if len(asked) != c.asked {
				t.Fatalf("asked %+v", asked)
			}
			for _, q := range asked {
				if q.Via != "code" || keepDigits(q.Credential) != "123456789012" || q.Path != "001565a1b2c3.cfg" || q.Query != "" || q.UserAgent != "Yealink SIP-T54W 96.86.0.70" {
					t.Errorf("asked %+v", q)
				}
			}
			if len(f.deliveries()) != 0 {
				t.Error("a page is no delivery")
			}
		})
	}
}

func keepDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

func TestOnlyGetRedeems(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f, Entry: pages{}})
	head := raw(t, addr, "HEAD /enter/yealink/001565a1b2c3?code=123456789012 HTTP/1.1\r\nHost: phones\r\nConnection: close\r\n\r\n")
	if status(t, head) != 200 || len(f.questions()) != 0 {
		t.Errorf("%q, asked %+v", head, f.questions())
	}
	post := raw(t, addr, "POST /enter/yealink/001565a1b2c3 HTTP/1.1\r\nHost: phones\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 17\r\n\r\ncode=123456789012")
	if !strings.HasSuffix(post, "done\n") {
		t.Errorf("%q", post)
	}
}

// Without pages the path is like any other.
func TestNoCodeEntry(t *testing.T) {
	f := someFiles()
	_, addr := start(t, Options{Files: f})
	if answer := get(t, addr, "/enter/yealink/001565a1b2c3"); status(t, answer) != 404 || len(f.questions()) != 1 || f.questions()[0].Via != "mac" {
		t.Errorf("%q %+v", answer, f.questions())
	}
	if _, err := New(Options{Files: f, Mounts: []Mount{{Segment: entrySegment, Handler: nil}}}); !errors.Is(err, ErrBadOptions) {
		t.Errorf("a mount over it: %v", err)
	}
}

// Guessing on the page spends the same budget as guessing in paths, and the log knows no code.
func TestCodeEntryIsCountedAndNotLogged(t *testing.T) {
	f := someFiles()
	f.failWith(func(commands.ServeFile) error { return domain.ErrCodeRefused })
	var log bytes.Buffer
	s, addr := startWith(t, Options{Files: f, Entry: pages{}, TrustedNetworks: []netip.Prefix{}, UnknownPerHour: 2}, func(s *Server, ctx context.Context, l net.Listener) error {
		return s.Serve(zerolog.New(zerolog.SyncWriter(&log)).WithContext(ctx), l)
	})
	for _, code := range []string{"100000000001", "100000000002", "100000000003"} {
		get(t, addr, "/enter/yealink/001565a1b2c3?code="+code)
	}
	if spent := s.budget.spent(netip.MustParsePrefix("127.0.0.0/24"), s.budget.identity("mac", "", "001565ffffff"), s.opt.Now()); !spent {
		t.Error("three wrong codes cost nothing")
	}
	if text := log.String(); strings.Contains(text, "1000000000") || !strings.Contains(text, "/enter/{plugin}/{mac}") {
		t.Errorf("log: %s", text)
	}
}

// A phone that answers its redirection's question for user and password has the code as user name, in whichever scheme it speaks.
func TestCodeAsUserName(t *testing.T) {
	for scheme, header := range map[string]string{
		"basic":  "Authorization: Basic MTIzNDU2Nzg5MDEyOg==",
		"digest": `Authorization: Digest username="1234 5678 9012", realm="provisioning", nonce="x", uri="/001565a1b2c3.cfg", response="0123456789abcdef0123456789abcdef"`,
	} {
		f := someFiles()
		_, addr := start(t, Options{Files: f})
		get(t, addr, "/001565a1b2c3.cfg", header)
		if q := f.questions(); len(q) != 1 || q[0].Via != "code" || q[0].Credential != "123456789012" {
			t.Errorf("%s: asked %+v", scheme, q)
		}
	}
	f := someFiles()
	_, addr := start(t, Options{Files: f})
	get(t, addr, "/001565a1b2c3.cfg", `Authorization: Digest username="admin", nonce=`)
	if q := f.questions(); len(q) != 1 || q[0].Via != "mac" {
		t.Errorf("nonsense: asked %+v", q)
	}
}
