package sipnotify

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
)

// AMI is the manager interface of an Asterisk (13 and later, with res_pjsip_notify). The endpoint of a phone is the
// user name of its account. The manager user needs the write privileges "system" and "call".
type AMI struct {
	Addr     string // host:port; 5038 by custom
	TLS      *tls.Config
	Username string
	Secret   string
}

// errRefused: the manager interface said no; the text is Asterisk's.
type errRefused string

func (e errRefused) Error() string { return string(e) }

// maxAMI bounds what is read of one connection.
const maxAMI = 64 << 10

// notify hands the message to Asterisk. That it took it does not say that the phone did: the outcome is "sent".
func (a *AMI) notify(ctx context.Context, endpoint string, m commands.Notification) domain.DeviceSyncOutcome {
	o := domain.DeviceSyncOutcome{Method: "ami", Route: "ami", To: domain.NewPersonal("", endpoint, ""), Outcome: domain.OutcomeSent}
	err := a.action(ctx, endpoint, m)
	var refused errRefused
	switch {
	case errors.As(err, &refused):
		o.Outcome, o.Detail = domain.OutcomeNotSent, plain("Asterisk: "+string(refused))
	case err != nil:
		o.Outcome, o.Detail = failure(err)
	}
	return o
}

func (a *AMI) action(ctx context.Context, endpoint string, m commands.Notification) (err error) {
	var dialer interface {
		DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	} = new(net.Dialer)
	if a.TLS != nil {
		dialer = &tls.Dialer{Config: a.TLS}
	}
	conn, err := dialer.DialContext(ctx, "tcp", a.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if !stop() && err != nil {
			err = errors.Join(ctx.Err(), err) // closed by us, for the time was up
		}
	}()
	r := textproto.NewReader(bufio.NewReader(io.LimitReader(conn, maxAMI)))
	if _, err := r.ReadLine(); err != nil { // "Asterisk Call Manager/…"
		return fmt.Errorf("read the manager's greeting: %w", err)
	}
	if err := ask(conn, r, "Login", "Username", a.Username, "Secret", a.Secret, "Events", "off"); err != nil {
		return err
	}
	fields := []string{"Endpoint", endpoint, "Variable", "Event=" + m.Event}
	if m.Body != "" {
		fields = append(fields, "Variable", "Content-type="+m.ContentType, "Variable", "Content="+m.Body)
	}
	if err := ask(conn, r, "PJSIPNotify", fields...); err != nil {
		return err
	}
	_ = ask(conn, r, "Logoff") // a courtesy
	return nil
}

// ask sends one action and reads past events to its response.
func ask(w io.Writer, r *textproto.Reader, action string, fields ...string) error {
	id := uuid.NewString()
	var b strings.Builder
	fmt.Fprintf(&b, "Action: %s\r\nActionID: %s\r\n", action, id)
	for i := 0; i < len(fields); i += 2 {
		if strings.ContainsFunc(fields[i+1], unicode.IsControl) {
			return errRefused(fields[i] + " holds control characters")
		}
		fmt.Fprintf(&b, "%s: %s\r\n", fields[i], fields[i+1])
	}
	if _, err := io.WriteString(w, b.String()+"\r\n"); err != nil {
		return fmt.Errorf("send %s: %w", action, err)
	}
	for {
		h, err := r.ReadMIMEHeader()
		if err != nil {
			return fmt.Errorf("read the answer to %s: %w", action, err)
		}
		if h.Get("ActionID") != id || h.Get("Response") == "" {
			continue
		}
		if answer := h.Get("Response"); answer != "Success" && answer != "Goodbye" {
			return errRefused(h.Get("Message"))
		}
		return nil
	}
}
