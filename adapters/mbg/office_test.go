package mbg_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ledgerline/adapters/mbg"
	"ledgerline/adapters/mbg/simulator"
	"ledgerline/adapters/mbg/wire"
	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// office is an engine over fakes and a simulated gateway over TLS with a CA of its own; both have the kit's clock.
type office struct {
	*commandstest.Kit
	t   testing.TB
	ctx context.Context
	sim *simulator.Simulator
	srv *httptest.Server
	ca  string
}

const edge = domain.GatewayID("edge")

// secrets that must never be seen outside the vault and the gateway.
const consumerSecret = "canary-consumer/secret+1"

func open(t testing.TB, mapping string) *office {
	t.Helper()
	o := &office{Kit: commandstest.NewService(t, commandstest.With(func(s *commands.Service) { s.Borders = mbg.Borders{} })), t: t, ctx: t.Context()}
	if mapping == "" {
		mapping = mappingWith(t)
	}
	var err error
	o.sim, err = simulator.New(simulator.Options{Mapping: mapping, Now: o.Clock.Now, Seed: 1})
	o.ok(err)
	o.srv = httptest.NewUnstartedServer(o.sim)
	o.srv.Config.ErrorLog = quiet
	o.srv.EnableHTTP2 = false
	o.srv.StartTLS()
	t.Cleanup(o.srv.Close)
	o.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.srv.Certificate().Raw}))
	_, _, err = o.Service.CreateTenant(o.ctx, commands.CreateTenant{ID: "acme", Name: "Acme", Domain: "acme.example"})
	o.ok(err)
	_, _, err = o.Service.RegisterGateway(o.ctx, commands.RegisterGateway{ID: edge, TenantID: "acme", GatewayWish: o.wish()})
	o.ok(err)
	_, err = o.Service.SelectMapping(o.ctx, commands.SelectMapping{ID: edge, Text: mapping})
	o.ok(err)
	return o
}

func (o *office) wish() commands.GatewayWish {
	return commands.GatewayWish{Name: "Edge", Address: o.srv.URL, SourceAddresses: []string{"192.0.2.10"}, ExternalAddress: "mbg.acme.example", ExternalPort: 5062, Release: "11.5 SP1", CA: o.ca}
}

// ready is an office whose gateway is in service: consumer, token, ICP, node, push on.
func ready(t testing.TB) *office {
	t.Helper()
	o := open(t, "")
	o.do("start", nil)
	o.consumer()
	o.exchange()
	o.node("10.1.2.3")
	o.switchTo("enabled")
	return o
}

func (o *office) ok(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// do acts as the gateway's administrator.
func (o *office) do(action string, v map[string]string) {
	o.t.Helper()
	o.ok(o.sim.Do(action, v))
}

func (o *office) consumer() {
	o.t.Helper()
	o.do("consumer", map[string]string{"id": "MiVOAppSuite", "secret": consumerSecret})
	_, err := o.Service.SetGatewayConsumer(o.ctx, commands.SetGatewayConsumer{ID: edge, ConsumerID: "MiVOAppSuite", Secret: consumerSecret})
	o.ok(err)
}

func (o *office) request() error {
	_, err := o.Service.RequestGatewayToken(o.ctx, commands.RequestGatewayToken{ID: edge})
	return err
}

// verifier approves the temporary token and reads the verifier.
func (o *office) verifier() string {
	o.t.Helper()
	o.do("approve", nil)
	return o.sim.State().Temporary[0].Verifier
}

func (o *office) submit(verifier string) error {
	_, err := o.Service.SubmitVerifier(o.ctx, commands.SubmitVerifier{ID: edge, Verifier: verifier})
	return err
}

func (o *office) exchange() {
	o.t.Helper()
	o.ok(o.request())
	o.ok(o.submit(o.verifier()))
}

func (o *office) node(address string) {
	o.t.Helper()
	o.do("icp", map[string]string{"id": "3", "name": "MiVO Zurich", "address": address})
	_, err := o.Service.DefineNode(o.ctx, commands.DefineNode{ID: edge, NodeID: "zrh", Name: "Zurich", InternalAddress: address, Type: "mivo250", Release: "6.3 SP1"})
	o.ok(err)
}

func (o *office) switchTo(to string) {
	o.t.Helper()
	_, err := o.Service.SwitchGateway(o.ctx, commands.SwitchGateway{ID: edge, To: to})
	o.ok(err)
}

// extension makes a line with a number and password.
func (o *office) extension(id, number string) domain.LineID {
	o.t.Helper()
	_, _, err := o.Service.DefineLine(o.ctx, commands.DefineLine{ID: domain.LineID(id), TenantID: "acme", Number: number, Username: "sip" + number, DisplayName: "Ana " + number, Password: "canary-pbx-" + number})
	o.ok(err)
	return domain.LineID(id)
}

// remote puts a line behind the gateway.
func (o *office) remote(id domain.LineID) {
	o.t.Helper()
	_, err := o.Service.SetLineRemote(o.ctx, commands.SetLineRemote{ID: id, GatewayID: edge})
	o.ok(err)
}

func (o *office) clear(id domain.LineID) {
	o.t.Helper()
	_, err := o.Service.ClearLineRemote(o.ctx, commands.ClearLineRemote{ID: id})
	o.ok(err)
}

// push carries out reactions and pushes, letting the clock pass as long as something is due within the given time.
func (o *office) push(within time.Duration) {
	o.t.Helper()
	until := o.Clock.Now().Add(within)
	for range 100_000 {
		o.ok(o.React(o.ctx))
		head, err := o.Log.Head(o.ctx)
		o.ok(err)
		next, err := o.Service.PushGateway(o.ctx, edge)
		o.ok(err)
		now, err := o.Log.Head(o.ctx)
		o.ok(err)
		switch {
		case now != head:
		case next.IsZero() || next.After(until):
			return
		default:
			o.Clock.Advance(max(next.Sub(o.Clock.Now()), 0))
		}
	}
	o.t.Fatal("it does not come to an end")
}

// settle pushes within the patience of a person.
func (o *office) settle() { o.t.Helper(); o.push(10 * time.Minute) }

func (o *office) user(line domain.LineID) domain.SIPUser {
	return state[domain.SIPUser](o, domain.SIPUserOf(edge, line).Stream())
}
func (o *office) gateway() domain.Gateway { return state[domain.Gateway](o, edge.Stream()) }
func (o *office) lineOf(id domain.LineID) domain.Line {
	return state[domain.Line](o, id.Stream())
}

func state[S domain.State[S]](o *office, stream domain.StreamID) S {
	o.t.Helper()
	var s S
	for r, err := range o.Log.Read(o.ctx, stream, 0) {
		if errors.Is(err, domain.ErrNoStream) {
			break
		}
		o.ok(err)
		e, err := r.Event()
		o.ok(err)
		s = s.Apply(e)
	}
	return s
}

// clear text of a sealed value.
func (o *office) clearText(v domain.Sealed) string {
	o.t.Helper()
	text, err := o.Vault.Open(o.ctx, v)
	o.ok(err)
	return text
}

// events are those of a type, decoded.
func events[E domain.Event](o *office) (out []E) {
	o.t.Helper()
	var zero E
	for _, r := range o.Log.Events() {
		if r.Type == zero.EventType() {
			e, err := r.Event()
			o.ok(err)
			out = append(out, e.(E))
		}
	}
	return out
}

// onGateway are the gateway's users by extension.
func (o *office) onGateway() map[string]simulator.User {
	out := map[string]simulator.User{}
	for _, u := range o.sim.State().Users {
		out[u.ICPUsername] = u
	}
	return out
}

// writes counts the requests of the log that changed something.
func (o *office) writes() (n int) {
	for _, r := range o.sim.Log() {
		if slices.Contains([]string{"create_user", "update_user", "delete_user"}, r.Operation) {
			n++
		}
	}
	return n
}

// holds wants a line's record on the gateway to be exactly what is wanted.
func (o *office) holds(line domain.LineID, number string) simulator.User {
	o.t.Helper()
	u, l := o.user(line), o.lineOf(line)
	on, ok := o.onGateway()[number]
	if !ok || u.Status() != domain.SIPUserInSync || u.MBGID != on.ID {
		o.t.Fatalf("extension %s: on the gateway %v (%+v), state %s %+v", number, ok, on, u.Status(), u.Failed)
	}
	if on.SetUsername != l.Remote.Username || on.SetPassword != o.clearText(l.Remote.Password.Sealed) || on.ICPPassword != o.clearText(l.Password.Sealed) || on.ICP != "3" || !on.Enabled {
		o.t.Fatalf("extension %s is %+v on the gateway", number, on)
	}
	return on
}

// noSecrets wants no secret to stand anywhere in clear: the log, the trace, the alerts.
func (o *office) noSecrets() {
	o.t.Helper()
	canaries := []string{"canary-"}
	st := o.sim.State()
	for _, u := range st.Users {
		canaries = append(canaries, u.SetPassword, u.ICPPassword)
	}
	for _, t := range st.Tokens {
		canaries = append(canaries, t.Token, t.Secret)
	}
	var all strings.Builder
	for _, r := range o.Log.Events() {
		all.Write(r.Data)
		all.Write(r.Metadata)
	}
	fmt.Fprintf(&all, "%+v %+v %+v", o.Service.Exchanges(edge), o.Service.Pushings(), o.Alerts.Sent())
	for _, c := range canaries {
		if c != "" && strings.Contains(all.String(), c) {
			o.t.Errorf("%q stands in clear", c)
		}
	}
}

// everyCheck wants the checklist to say this of each named step.
func (o *office) everyCheck(want map[string]string) {
	o.t.Helper()
	got := map[string]string{}
	for _, c := range o.gateway().Checklist(o.Clock.Now()) {
		if _, asked := want[c.Name]; asked {
			got[c.Name] = c.State
		}
	}
	if !maps.Equal(got, want) {
		o.t.Errorf("checklist %v, want %v: %+v", got, want, o.gateway().Checklist(o.Clock.Now()))
	}
}

// mappingWith is the generic mapping with texts replaced, and at full pace.
func mappingWith(t testing.TB, pairs ...string) string {
	t.Helper()
	text := strings.Replace(wire.Generic, "min_interval: 100ms", "min_interval: 0s", 1)
	for i := 0; i+1 < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the generic mapping has no %q", pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

// append records a fact as a command of another kind would.
func (o *office) append(stream domain.StreamID, e domain.Event) {
	o.t.Helper()
	revision := domain.NoStream
	for r, err := range o.Log.Read(o.ctx, stream, 0) {
		o.ok(err)
		revision = r.Revision
	}
	data, err := json.Marshal(e)
	o.ok(err)
	_, err = o.Log.Append(o.ctx, stream, revision, []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: e.EventType(), Data: data, Metadata: []byte("{}")}})
	o.ok(err)
}

// sealed is clear text sealed under a line's key.
func (o *office) sealed(line domain.LineID, clear string) domain.Secret {
	o.t.Helper()
	v, err := o.Vault.Seal(o.ctx, line.Subject(), clear, "test")
	o.ok(err)
	v.Fingerprint = "00112233445566778899aabbccddeeff"
	return domain.Secret{Sealed: v}
}
