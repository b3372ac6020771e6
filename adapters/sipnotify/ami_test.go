package sipnotify

import (
	"bufio"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"ledgerline/commands"
	"ledgerline/domain"
)

// asterisk is the manager interface of an Asterisk 18: its greeting, its events in between, its answers.
type asterisk struct {
	addr      string
	endpoints []string
	notified  chan map[string][]string
}

func newAsterisk(t *testing.T, endpoints ...string) *asterisk {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	a := &asterisk{ln.Addr().String(), endpoints, make(chan map[string][]string, 8)}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go a.serve(conn)
		}
	}()
	return a
}

func (a *asterisk) serve(conn net.Conn) {
	defer conn.Close()
	fmt.Fprint(conn, "Asterisk Call Manager/7.0.3\r\n")
	r := textproto.NewReader(bufio.NewReader(conn))
	in := false
	for {
		m, err := r.ReadMIMEHeader()
		if err != nil {
			return
		}
		answer := func(response, text string) {
			fmt.Fprintf(conn, "Response: %s\r\nActionID: %s\r\nMessage: %s\r\n\r\n", response, m.Get("ActionID"), text)
		}
		switch action := m.Get("Action"); {
		case action == "Login" && m.Get("Username") == "ledgerline" && m.Get("Secret") == "ami-secret":
			in = true
			answer("Success", "Authentication accepted")
			fmt.Fprint(conn, "Event: FullyBooted\r\nPrivilege: system,all\r\nStatus: Fully Booted\r\n\r\n")
		case action == "Login":
			answer("Error", "Authentication failed")
			return
		case !in:
			answer("Error", "Permission denied")
		case action == "PJSIPNotify" && slices.Contains(a.endpoints, m.Get("Endpoint")):
			a.notified <- m
			answer("Success", "NOTIFY sent")
		case action == "PJSIPNotify":
			answer("Error", "Unable to retrieve endpoint")
		case action == "Logoff":
			answer("Goodbye", "Thanks for all the fish.")
			return
		default:
			answer("Error", "Invalid/unknown command")
		}
	}
}

func TestThroughAsterisk(t *testing.T) {
	a := newAsterisk(t, "1201")
	n := notifier(t, Options{AMI: &AMI{Addr: a.addr, Username: "ledgerline", Secret: "ami-secret"}})
	o := tell(t, n, commands.Notification{Accounts: []commands.SIPAccount{{Username: "1201"}}})
	if len(o) != 1 || o[0].Outcome != domain.OutcomeSent || o[0].Method != "ami" || !o[0].Accepted() {
		t.Errorf("outcomes %+v", o)
	}
	if m := <-a.notified; !slices.Equal(m["Variable"], []string{"Event=" + sync}) {
		t.Errorf("Asterisk was asked %v", m)
	}
	// The second account is tried when the first is not known there.
	o = tell(t, n, commands.Notification{Event: "aastra-xml", ContentType: "application/xml", Body: "<x/>", Accounts: []commands.SIPAccount{{Username: "1999"}, {Username: "1201"}}})
	if len(o) != 2 || o[0].Outcome != domain.OutcomeNotSent || o[0].Detail != "Asterisk: Unable to retrieve endpoint" || o[1].Outcome != domain.OutcomeSent {
		t.Errorf("outcomes %+v", o)
	}
	if m := <-a.notified; !slices.Equal(m["Variable"], []string{"Event=aastra-xml", "Content-type=application/xml", "Content=<x/>"}) {
		t.Errorf("Asterisk was asked %v", m)
	}
	// Nothing can be put into another action's place.
	o = tell(t, n, commands.Notification{Accounts: []commands.SIPAccount{{Username: "1201\r\n\r\nAction: Originate"}}})
	if o[0].Outcome != domain.OutcomeNotSent {
		t.Errorf("outcomes %+v", o)
	}
	n = notifier(t, Options{AMI: &AMI{Addr: a.addr, Username: "ledgerline", Secret: "wrong"}})
	o = tell(t, n, commands.Notification{Accounts: []commands.SIPAccount{{Username: "1201"}}})
	if o[0].Outcome != domain.OutcomeNotSent || o[0].Detail != "Asterisk: Authentication failed" || strings.Contains(o[0].Detail, "wrong") {
		t.Errorf("outcomes %+v", o)
	}
	n = notifier(t, Options{AMI: &AMI{Addr: "127.0.0.1:1"}})
	if o = tell(t, n, commands.Notification{Accounts: []commands.SIPAccount{{Username: "1201"}}}); o[0].Outcome != domain.OutcomeUnreachable {
		t.Errorf("outcomes %+v", o)
	}
}
