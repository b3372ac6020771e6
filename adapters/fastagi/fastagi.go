// Package fastagi takes dialled codes from the dial plans of Asterisk and FreeSWITCH, on one listener.
//
// Asterisk speaks FastAGI (AGI over TCP; "agi://host:4573/dialled-code?tenant=acme"): it sends agi_… variables and an
// empty line, and takes commands. FreeSWITCH's application "socket" (mod_event_socket, outbound) speaks first to
// nobody: it waits for "connect". So a peer that has sent nothing within half a second is taken for a FreeSWITCH.
//
// What is asked: the code, the SIP user the phone called with, and the address the call came from. Asterisk gives them
// as arguments 1 to 3 of AGI(); without the second the user is taken from the channel's name. FreeSWITCH gives them as
// the channel variables ledgerline_code, and optionally ledgerline_account and ledgerline_address; tenant is in
// ledgerline_tenant. What comes back stands in channel variables: LEDGERLINE_RESULT (commands.Dial…, or "error"),
// LEDGERLINE_SAY (the result as a sentence), LEDGERLINE_NUMBER.
//
// Trust: neither protocol knows passwords. Who reaches the listener can try codes for every tenant, within the budgets
// of commands.DialCode; hence it takes connections from the networks named only, loopback by default.
//
// Not here: who the phone is and what the code does (commands/dial_code.go).
package fastagi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Dialler carries dialled codes out: *commands.Service.
type Dialler interface {
	DialCode(ctx context.Context, in commands.DialCode) (commands.Dialled, commands.Outcome, error)
}

// Options are a server's settings.
type Options struct {
	Dialler Dialler
	// Networks are those whose connections are taken; none means loopback.
	Networks []netip.Prefix
}

// Server answers dial plans. Safe for concurrent use.
type Server struct{ opt Options }

const (
	// session bounds one connection, and maxHeader what it may send.
	session   = 30 * time.Second
	maxHeader = 64 << 10
	// silence is after how long a peer that says nothing is taken for a FreeSWITCH.
	silence = 500 * time.Millisecond
	// connections bounds those served at once.
	connections = 64
)

// New makes a server.
func New(o Options) *Server {
	if len(o.Networks) == 0 {
		o.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	return &Server{o}
}

// Serve takes connections until ctx ends, then lets those under way finish.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, connections)
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a dial plan: %w", err)
		}
		select {
		case free <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-free }()
			defer conn.Close()
			s.serve(context.WithoutCancel(ctx), conn)
		})
	}
}

// serve answers one call.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	log := zerolog.Ctx(ctx)
	ctx, cancel := context.WithTimeout(ctx, session)
	defer cancel()
	if err := conn.SetDeadline(time.Now().Add(session)); err != nil {
		return
	}
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil || !s.trusts(peer.Addr().Unmap()) {
		log.Warn().Str("peer", peer.Addr().String()).Msg("dial plan refused: not from a network of fastagi-networks")
		return
	}
	p, err := greet(conn)
	if err != nil {
		log.Warn().Err(err).Msg("dial plan not understood")
		return
	}
	in := p.asked()
	ctx, _ = commands.NewRequest(ctx)
	ctx = commands.WithCaller(ctx, commands.Caller{Actor: "system:fastagi", IP: in.Address, Listener: "fastagi", TenantID: in.TenantID})
	dialled, _, err := s.opt.Dialler.DialCode(ctx, in)
	if err != nil {
		log.Error().Err(err).Str("tenant_id", string(in.TenantID)).Str("command", "DialCode").Msg("dialled code failed")
		dialled = commands.Dialled{Result: "error", Say: "Something went wrong. Please try again later."}
	} else {
		log.Info().Str("tenant_id", string(in.TenantID)).Str("device_id", string(dialled.DeviceID)).Str("result", dialled.Result).Str("command", "DialCode").Msg("code dialled")
	}
	for _, v := range [][2]string{{"LEDGERLINE_RESULT", dialled.Result}, {"LEDGERLINE_SAY", dialled.Say}, {"LEDGERLINE_NUMBER", dialled.Number}} {
		if err := p.set(v[0], v[1]); err != nil {
			log.Warn().Err(err).Msg("dial plan does not take the answer")
			return
		}
	}
	p.bye()
}

func (s *Server) trusts(a netip.Addr) bool {
	for _, n := range s.opt.Networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// plan is one call of a dial plan, in either protocol.
type plan interface {
	asked() commands.DialCode
	set(name, value string) error
	bye()
}

// greet finds out who is there and reads what is asked.
func greet(conn net.Conn) (plan, error) {
	r := bufio.NewReader(io.LimitReader(conn, maxHeader))
	deadline := time.Now().Add(session)
	if err := conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return nil, err
	}
	_, err := r.Peek(1)
	if reset := conn.SetReadDeadline(deadline); reset != nil {
		return nil, reset
	}
	var slow net.Error
	switch {
	case err == nil:
		return asterisk(conn, r)
	case errors.As(err, &slow) && slow.Timeout():
		// The reader keeps no error it has handed out once.
		return freeswitch(conn, r)
	}
	return nil, err
}

// agi is a call of an Asterisk.
type agi struct {
	w    io.Writer
	r    *textproto.Reader
	vars map[string]string
}

func asterisk(w io.Writer, r *bufio.Reader) (plan, error) {
	p := &agi{w, textproto.NewReader(r), map[string]string{}}
	for {
		line, err := p.r.ReadLine()
		if err != nil {
			return nil, fmt.Errorf("read the AGI variables: %w", err)
		}
		if line == "" {
			return p, nil
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			name, ok = strings.CutSuffix(line, ":")
		}
		if !ok || !strings.HasPrefix(name, "agi_") {
			return nil, errors.New("what came is no AGI variable")
		}
		p.vars[name] = value
	}
}

func (p *agi) asked() commands.DialCode {
	in := commands.DialCode{Code: p.vars["agi_arg_1"], Account: p.vars["agi_arg_2"], Address: p.vars["agi_arg_3"]}
	if u, err := url.Parse(p.vars["agi_request"]); err == nil {
		in.TenantID = domain.TenantID(u.Query().Get("tenant"))
	}
	if in.Account == "" { // "PJSIP/1201-0000001f"
		_, name, _ := strings.Cut(p.vars["agi_channel"], "/")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			in.Account = name[:i]
		}
	}
	return in
}

func (p *agi) set(name, value string) error {
	if _, err := fmt.Fprintf(p.w, "SET VARIABLE %s \"%s\"\n", name, quoted(value)); err != nil {
		return err
	}
	answer, err := p.r.ReadLine()
	if err == nil && !strings.HasPrefix(answer, "200") {
		err = fmt.Errorf("answer of Asterisk: %.60q", answer)
	}
	return err
}

func (p *agi) bye() {}

// quoted is text between the quotes of an AGI command.
func quoted(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(plain(text))
}

// plain keeps a value on its line.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, text)
}

// outbound is a call of a FreeSWITCH.
type outbound struct {
	w    io.Writer
	r    *textproto.Reader
	vars textproto.MIMEHeader
}

func freeswitch(w io.Writer, r *bufio.Reader) (plan, error) {
	if _, err := io.WriteString(w, "connect\n\n"); err != nil {
		return nil, err
	}
	p := &outbound{w: w, r: textproto.NewReader(r)}
	var err error
	if p.vars, err = p.r.ReadMIMEHeader(); err != nil {
		return nil, fmt.Errorf("read the channel of FreeSWITCH: %w", err)
	}
	return p, nil
}

// value is a channel variable; they come URL-encoded.
func (p *outbound) value(names ...string) string {
	for _, name := range names {
		if v, err := url.PathUnescape(p.vars.Get(name)); err == nil && v != "" {
			return v
		}
	}
	return ""
}

func (p *outbound) asked() commands.DialCode {
	return commands.DialCode{TenantID: domain.TenantID(p.value("variable_ledgerline_tenant")), Code: p.value("variable_ledgerline_code"),
		Account: p.value("variable_ledgerline_account", "variable_sip_auth_username", "variable_sip_from_user"),
		Address: p.value("variable_ledgerline_address", "variable_sip_network_ip", "Caller-Network-Addr")}
}

func (p *outbound) set(name, value string) error {
	return p.send(fmt.Sprintf("sendmsg\ncall-command: execute\nexecute-app-name: set\nexecute-app-arg: %s=%s\n\n", name, plain(value)))
}

// send sends a command and reads to its reply, past events.
func (p *outbound) send(command string) error {
	if _, err := io.WriteString(p.w, command); err != nil {
		return err
	}
	for {
		h, err := p.r.ReadMIMEHeader()
		if err != nil {
			return err
		}
		if h.Get("Content-Type") != "command/reply" {
			continue
		}
		if reply := h.Get("Reply-Text"); !strings.HasPrefix(reply, "+OK") {
			return fmt.Errorf("FreeSWITCH answers %.60q", reply)
		}
		return nil
	}
}

func (p *outbound) bye() { _ = p.send("exit\n\n") }
