package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"ledgerline/adapters/httpapi"
	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// office is the API over fakes and one instance with two tenants, "acme" and "globex", that have the same
// things: <tenant>.desk (category), .anna (user), .line, .layer, .key (API keys by role) and a phone.
type office struct {
	*commandstest.Kit
	t       testing.TB
	options httpapi.Options
	handler http.Handler
	root    string // an administrator's token, of the whole instance
	logged  *syncBuffer
	codes   map[string]domain.CodeID
	jobs    map[string]domain.JobID
	tokens  map[string]string // by "<tenant>/<role>"
	keyIDs  map[string]domain.APIKeyID
	auto    map[string]domain.TokenID // tokens of automatic provisioning, by tenant
	backups map[string]domain.Revision
}

// The phones: assigned ones of both tenants, and one that is nobody's yet.
var phones = map[string]domain.MAC{"acme": "0015651a2b3c", "globex": "0015651a2b3d", "nobody": "0015651a2b3e"}

// publicKey is of a Devices server.
const publicKey = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

// Every secret of the office, none of which may be in any answer or log line but the one that issues it.
var canaries = []string{"canary-sip-password", "canary-admin-pw", "canary-provisioning-key", "canary-auto-token"}

func open(t testing.TB, options ...commandstest.Option) *office {
	t.Helper()
	o := &office{Kit: commandstest.NewService(t, options...), t: t, logged: &syncBuffer{}, codes: map[string]domain.CodeID{}, tokens: map[string]string{}, keyIDs: map[string]domain.APIKeyID{}, auto: map[string]domain.TokenID{}, backups: map[string]domain.Revision{}}
	o.Service.Sysclients = &pages{}
	views := newMemViews(t, o.Log)
	o.options = httpapi.Options{Service: o.Service, Log: o.Log, Views: views, Wait: views, Past: views, Parked: noneParked{}, SoftphoneXML: plainXML, Now: o.Clock.Now, Version: "test", Mask: func() func([]byte) string {
		return func(config []byte) string { return strings.ReplaceAll(string(config), "canary", "masked") }
	}}
	o.serve()
	o.root = o.key("", domain.Admin)
	o.furnish("acme")
	o.furnish("globex")
	_, _, err := o.Service.DiscoverDevice(t.Context(), commands.DiscoverDevice{MAC: phones["nobody"], Vendor: "Testphone", Model: "T1", Added: "auto"})
	o.ok(err)
	o.ok(o.React(t.Context()))
	return o
}

// plainXML is JSON of quick dials in the place of XML.
var plainXML = httpapi.SoftphoneXML{Read: func(data []byte) (i domain.SoftphoneImport) {
	if err := json.Unmarshal(data, &i.Document); err != nil {
		i.Findings = []domain.SoftphoneFinding{{Code: "CS-XML-1", Error: true, At: "document", Text: "is no XML", Line: 2, Column: 3}}
	}
	return i
}, Account: func(d domain.SoftphoneDocument) []byte { b, _ := json.Marshal(d.Nodes); return b },
	Level: func(d domain.SoftphoneDocument) []byte { b, _ := json.Marshal(d.QuickDials); return b },
	Global: func(d domain.SoftphoneDocument, _ []domain.SoftphoneEntry, _ bool) []byte {
		b, _ := json.Marshal(d.QuickDials)
		return b
	}}

// serve makes the handler from the options as they are now.
func (o *office) serve() {
	o.t.Helper()
	handler, err := httpapi.New(o.options)
	o.ok(err)
	logger := zerolog.New(o.logged)
	o.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(logger.WithContext(r.Context())))
	})
}

// furnish makes a tenant and what it has.
func (o *office) furnish(tenant string) {
	o.t.Helper()
	ctx, s, id := o.t.Context(), o.Service, domain.TenantID(tenant)
	do := func(_ any, _ commands.Outcome, err error) { o.t.Helper(); o.ok(err) }
	do(s.CreateTenant(ctx, commands.CreateTenant{ID: id, Name: "Tenant " + tenant, Domain: tenant + ".example"}))
	_, err := s.SetProvisioningKey(ctx, commands.SetProvisioningKey{ID: id, Key: "canary-provisioning-key-" + tenant})
	o.ok(err)
	do(s.DefineLayer(ctx, commands.DefineLayer{ID: domain.LayerID(tenant + ".layer"), TenantID: id, Name: "layer of " + tenant,
		Settings: domain.Settings{"timezone": "Europe/Berlin", "admin_password": "canary-admin-pw-" + tenant}}))
	do(s.DefineCategory(ctx, commands.DefineCategory{ID: domain.CategoryID(tenant + ".desk"), TenantID: id, Name: "Desk", Kind: "provisioning", LayerID: domain.LayerID(tenant + ".layer")}))
	do(s.DefineUser(ctx, commands.DefineUser{ID: domain.UserID(tenant + ".anna"), TenantID: id, DisplayName: "Anna of " + tenant, Email: "anna@" + tenant + ".example"}))
	do(s.DefineLine(ctx, commands.DefineLine{ID: domain.LineID(tenant + ".line"), TenantID: id, UserID: domain.UserID(tenant + ".anna"), Number: "201", Username: tenant + "201",
		Password: "canary-sip-password-" + tenant}))
	do(s.SetProvisioningExtension(ctx, commands.SetProvisioningExtension{ID: domain.LineID(tenant + ".line"), Extension: "864209"}))
	do(s.CreateRollout(ctx, commands.CreateRollout{ID: domain.RolloutID(tenant), TenantID: id, CategoryID: domain.CategoryID(tenant + ".desk"), Users: []domain.RolloutPlan{{UserID: domain.UserID(tenant + ".anna")}}}))
	_, err = s.SetUsersKey(ctx, commands.SetUsersKey{ID: id, Key: "users-key-of-" + tenant})
	o.ok(err)
	_, _, _, err = s.DefineCloudID(ctx, commands.DefineCloudID{ID: tenant + ".cloud", TenantID: id, Document: domain.SoftphoneDocument{Nodes: map[string]string{"STUNPassword": "canary-stun-pw-" + tenant}}})
	o.ok(err)
	_, _, _, err = s.DefineSoftphone(ctx, commands.DefineSoftphone{ID: domain.SoftphoneID(tenant + ".app"), TenantID: id, CloudID: tenant + ".cloud", LineID: domain.LineID(tenant + ".line"), Username: "anna"})
	o.ok(err)
	device, _, err := s.DiscoverDevice(ctx, commands.DiscoverDevice{MAC: phones[tenant], Vendor: "Testphone", Model: "T1", Added: "operator"})
	o.ok(err)
	_, err = s.AssignDevice(ctx, commands.AssignDevice{ID: device, TenantID: id, CategoryID: domain.CategoryID(tenant + ".desk"), UserID: domain.UserID(tenant + ".anna")})
	o.ok(err)
	update, err := s.UpdatePhone(ctx, commands.AskUpdate{MAC: phones[tenant], Transport: "http", Trusted: true})
	o.ok(err)
	o.ok(s.StoreBackup(ctx, update, []byte("config change X /pwd canary-admin-pw-"+tenant), []byte("x")))
	stored, err := s.Backups(ctx, device)
	o.ok(err)
	o.backups[tenant] = stored[0].Revision
	code, _, err := s.IssueCode(ctx, commands.IssueCode{TenantID: id, CategoryID: domain.CategoryID(tenant + ".desk"), Purpose: "rollout"})
	o.ok(err)
	o.codes[tenant] = code.ID
	if o.jobs == nil {
		o.jobs = map[string]domain.JobID{}
	}
	o.jobs[tenant], _, err = s.CreateJob(ctx, commands.CreateJob{TenantID: id, Type: domain.JobMedia, JobWish: commands.JobWish{Name: "of " + tenant,
		Parameters: domain.JobParameters{"turnServer": "turn.example", "turnPassword": "canary-sip-password-turn"}}})
	o.ok(err)
	do(s.RegisterServer(ctx, commands.RegisterServer{ID: domain.ServerID(tenant + "-site"), Name: "Site", PublicKey: publicKey}))
	token, _, err := s.IssueToken(ctx, commands.IssueToken{CategoryID: domain.CategoryID(tenant + ".desk"), Token: "canary-auto-token-" + tenant})
	o.ok(err)
	o.auto[tenant] = token.ID
	o.border(id)
	for _, role := range domain.Roles {
		o.tokens[tenant+"/"+string(role)] = o.key(tenant, role)
	}
	o.ok(o.React(ctx))
}

// border gives a tenant a gateway in service, with a new token under way, and puts its line behind it.
func (o *office) border(tenant domain.TenantID) {
	o.t.Helper()
	ctx, s, id := o.t.Context(), o.Service, domain.GatewayID(tenant+"-gw")
	_, _, err := s.RegisterGateway(ctx, commands.RegisterGateway{ID: id, TenantID: tenant, GatewayWish: commands.GatewayWish{Address: "https://192.0.2.10", ExternalAddress: "mbg.example"}})
	o.ok(err)
	for _, do := range []func() (commands.Outcome, error){
		func() (commands.Outcome, error) {
			return s.SetGatewayConsumer(ctx, commands.SetGatewayConsumer{ID: id, ConsumerID: "MiVOAppSuite", Secret: "canary-sip-password-consumer"})
		},
		func() (commands.Outcome, error) {
			return s.RequestGatewayToken(ctx, commands.RequestGatewayToken{ID: id})
		},
		func() (commands.Outcome, error) {
			return s.SubmitVerifier(ctx, commands.SubmitVerifier{ID: id, Verifier: "12345678"})
		},
		func() (commands.Outcome, error) {
			return s.RequestGatewayToken(ctx, commands.RequestGatewayToken{ID: id})
		},
		func() (commands.Outcome, error) {
			return s.DefineNode(ctx, commands.DefineNode{ID: id, NodeID: "zrh", InternalAddress: "10.1.2.3"})
		},
		func() (commands.Outcome, error) {
			return s.SwitchGateway(ctx, commands.SwitchGateway{ID: id, To: "enabled"})
		},
		func() (commands.Outcome, error) {
			return s.SetLineRemote(ctx, commands.SetLineRemote{ID: domain.LineID(tenant + ".line"), GatewayID: id})
		},
	} {
		_, err := do()
		o.ok(err)
	}
}

// key issues an API key; tenant empty for one of the whole instance.
func (o *office) key(tenant string, role domain.Role) string {
	o.t.Helper()
	in := commands.IssueAPIKey{Name: string(role) + " of " + tenant, Role: role}
	if tenant != "" {
		in.Tenants = []domain.TenantID{domain.TenantID(tenant)}
	}
	if role == domain.OwnUser {
		in.UserID = domain.UserID(tenant + ".anna")
	}
	id, token, _, err := o.Service.IssueAPIKey(o.t.Context(), in)
	o.ok(err)
	o.keyIDs[tenant+"/"+string(role)] = id
	return token
}

func (o *office) ok(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// reply is one answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a request with a token; body is JSON text, marshalled unless it is a string.
func (o *office) ask(token, method, path string, body any, headers ...string) reply {
	o.t.Helper()
	var payload io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		payload = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		o.ok(err)
		payload = bytes.NewReader(j)
	}
	r := httptest.NewRequestWithContext(o.t.Context(), method, path, payload)
	if !strings.HasPrefix(path, "/api/v1") && strings.HasPrefix(path, "/") && !slices.Contains([]string{"/openapi.json", "/openapi.yaml", "/docs"}, path) {
		r.URL.Path = "/api/v1" + r.URL.Path
		r.RequestURI = r.URL.RequestURI()
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	o.handler.ServeHTTP(w, r)
	return reply{w.Code, w.Header(), w.Body.Bytes()}
}

// want fails unless the answer has this status, and decodes it.
func (r reply) want(t testing.TB, status int) map[string]any {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	var v map[string]any
	if len(r.body) > 0 && strings.Contains(r.header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(r.body, &v); err != nil {
			t.Fatalf("%v in %s", err, r.body)
		}
	}
	return v
}

// problem wants a problem document with this status, code and fields.
func (r reply) problem(t testing.TB, status int, code string, fields ...string) {
	t.Helper()
	v := r.want(t, status)
	if got := r.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q: %s", got, r.body)
	}
	for member, want := range map[string]any{"code": code, "type": "urn:ledgerline:problem:" + code, "status": float64(status)} {
		if want != "" && v[member] != want && code != "" {
			t.Errorf("%s is %v, want %v: %s", member, v[member], want, r.body)
		}
	}
	for _, member := range []string{"title", "request_id"} {
		if s, _ := v[member].(string); s == "" {
			t.Errorf("no %s: %s", member, r.body)
		}
	}
	named := map[string]bool{}
	errs, _ := v["errors"].([]any)
	for _, e := range errs {
		m, _ := e.(map[string]any)
		named[fmt.Sprint(m["field"])] = m["rule"] != ""
	}
	for _, f := range fields {
		if !named[f] {
			t.Errorf("field %q is not named: %s", f, r.body)
		}
	}
}

// facts is the log without keys and claims, as "stream type".
func (o *office) facts() []string {
	var out []string
	for _, r := range o.Log.Events() {
		if c := r.Stream.Category(); c != "claim" && c != "settings" && c != "request" && c != "requests" && !strings.HasPrefix(r.Type, "key.") {
			out = append(out, string(r.Stream)+" "+r.Type)
		}
	}
	return out
}

// nothing fails if do leaves any event behind, of whatever kind.
func (o *office) nothing(t testing.TB, do func()) {
	t.Helper()
	before := len(o.Log.Events())
	do()
	for _, r := range o.Log.Events()[before:] {
		t.Errorf("recorded %s in %s", r.Type, r.Stream)
	}
}

// noneParked is a reactor that never gave anything up.
type noneParked struct{}

func (noneParked) List(context.Context, string) ([]commands.Parked, error) { return nil, nil }
func (noneParked) Replay(context.Context, string, uuid.UUID) error {
	return errors.New("nothing is parked")
}
func (noneParked) Discard(context.Context, string, uuid.UUID) error {
	return errors.New("nothing is parked")
}

func (noneParked) ReplayAll(context.Context, string) (int, error) {
	return 0, errors.New("nothing is parked")
}

// syncBuffer is a buffer several goroutines may write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
