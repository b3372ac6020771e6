package appsim

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/icholy/digest"
)

// Behaviour is what the documentation leaves open; the zero value is what is believed.
type Behaviour struct {
	GlobalFirst  bool // the first global call comes before the account
	RawValues    bool // values go into URLs and bodies as they are, not escaped
	EmptyUnknown bool // an unknown placeholder is emptied, not left as it is
	AnyCase      bool // names of elements are understood in any case
	NoInstallID  bool // does not know %installid%
}

// Config of an App.
type Config struct {
	// Portal is what the vendor's portal keeps for the cloud ID: web service definitions (InitialProvisioningUrl …) and other keys.
	Portal map[string]string
	// HTTP does the calls; nil means http.DefaultTransport, each call on a connection of its own, as the app does.
	HTTP http.RoundTripper
	Now  func() time.Time // nil means time.Now
	// Install names this installation; empty draws a name.
	Install string
	Version string // of the app; empty means 1.6.4
	Behaviour
}

// App is one installation of the app. It is used by one goroutine at a time.
type App struct {
	Config
	inputs      Inputs
	signedIn    bool
	nodes       map[string]node
	quickDials  []QuickDial
	dialActions []DialAction
	contacts    []Contact
	contactsAt  string // Last-Modified of contacts
	next        map[string]time.Time
	calls       []Call
	push        PushTokens
}

// Call is one call of a web service. Err is empty when its answer was accepted.
type Call struct {
	Service string // prefix of its definition
	At      time.Time
	Status  int
	Bytes   int
	Err     string
}

const callsKept = 100

// Shown is what the app shows its user when it cannot go on. Message is the server's own, or a general text.
type Shown struct {
	Service string
	Status  int // 0 when there was no answer
	Message string
	Err     error // why there was none, or why it was not understood
}

func (e *Shown) Error() string {
	if e.Status == 0 || e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Service, e.Err)
	}
	return fmt.Sprintf("%s: %d %s", e.Service, e.Status, e.Message)
}

// Unwrap is Err.
func (e *Shown) Unwrap() error { return e.Err }

// ErrSignedOut: the app is not signed in, or has just been signed out.
var ErrSignedOut = errors.New("signed out")

const generalText = "Provisioning failed. Please try again later."

// Periods where nothing is said.
const (
	globalPeriod   = 3600 * time.Second
	contactsPeriod = 180 * time.Second
	callTimeout    = 30 * time.Second
	maxAnswer      = 4 << 20
)

// Services by the prefix of their definition.
const (
	InitialAccount = "InitialProvisioning"
	InitialGlobal  = "initialGlobalProvisioning"
	Account        = "extProv"
	Global         = "globalExtProv"
	Contacts       = "wsContacts"
	Balance        = "genericBalanceCheck"
	PushReporter   = "pushTokenReporter"
)

// New makes an app that nobody is signed in with.
func New(c Config) *App {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Install == "" {
		c.Install = uuid.NewString()
	}
	c.Version = cmp.Or(c.Version, "1.6.4")
	return &App{Config: c, nodes: make(map[string]node), next: make(map[string]time.Time)}
}

// Enter fills in what a code or the user says.
func (a *App) Enter(in Inputs) { a.inputs = in }

// SignIn makes the first calls, account and global, in the order Behaviour has. Any failure stops it and leaves the app
// signed out: a *Shown.
func (a *App) SignIn(ctx context.Context) error {
	a.signedIn = false
	order := []string{InitialAccount, InitialGlobal}
	if a.GlobalFirst {
		slices.Reverse(order)
	}
	before := *a
	before.quickDials, before.dialActions = slices.Clone(a.quickDials), slices.Clone(a.dialActions)
	for _, service := range order {
		if !a.defined(service) {
			if service == InitialGlobal {
				continue
			}
			return &Shown{Service: service, Message: generalText, Err: errors.New("the portal does not define it")}
		}
		if err := a.provision(ctx, service); err != nil {
			a.nodes, a.quickDials, a.dialActions = before.nodes, before.quickDials, before.dialActions
			return err
		}
	}
	a.signedIn = true
	a.plan(Account, Global, Contacts)
	return nil
}

// provision calls a provisioning service and merges its answer.
func (a *App) provision(ctx context.Context, service string) error {
	resp, err := a.call(ctx, service, nil)
	if err != nil {
		return a.failed(service, 0, "", err)
	}
	root, parseErr := readXML(resp.body)
	if resp.status < 200 || resp.status > 299 {
		message := ""
		if parseErr == nil && a.is(root, "error") {
			message = strings.TrimSpace(a.child(root, "message").Text)
		}
		return a.failed(service, resp.status, message, nil)
	}
	if err := parseErr; err != nil {
		return a.failed(service, resp.status, "", err)
	}
	switch service {
	case InitialAccount, Account:
		if err := a.mergeAccount(root); err != nil {
			return a.failed(service, resp.status, "", err)
		}
	default:
		a.mergeGlobal(root)
	}
	return nil
}

func (a *App) failed(service string, status int, message string, err error) error {
	shown := &Shown{service, status, cmp.Or(message, generalText), err}
	a.calls[len(a.calls)-1].Err = shown.Error()
	return shown
}

// plan sets when services are due next.
func (a *App) plan(services ...string) {
	for _, service := range services {
		period := time.Duration(0)
		seconds := func(name string, otherwise time.Duration) time.Duration {
			n, err := strconv.Atoi(strings.TrimSpace(a.setting(name)))
			if err != nil || n < 0 {
				return otherwise
			}
			return time.Duration(n) * time.Second
		}
		switch service {
		case Account:
			period = seconds("extProvInterval", 0)
		case Global:
			period = seconds("globalExtProvRefresh", globalPeriod)
		case Contacts:
			period = seconds("wsContactsRefresh", contactsPeriod)
		}
		if period > 0 && a.defined(service) {
			a.next[service] = a.Now().Add(period)
		} else {
			delete(a.next, service)
		}
	}
}

// Due is when the next refresh is due; ok is false when none ever is.
func (a *App) Due() (at time.Time, ok bool) {
	for _, t := range a.next {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at, ok && a.signedIn
}

// Tick refreshes what is due. Trouble of a refresh is kept from the user, who stays signed in with what there is, and shows
// in Calls only; ErrSignedOut when the account's answer was its logout status, or nobody is signed in.
func (a *App) Tick(ctx context.Context) error {
	if !a.signedIn {
		return ErrSignedOut
	}
	for _, service := range []string{Account, Global, Contacts} {
		if at, ok := a.next[service]; ok && !a.Now().Before(at) {
			if err := a.Refresh(ctx, service); err != nil {
				return err
			}
		}
	}
	return nil
}

// Start is the app being opened again: it asks for its account anew, and reports its push tokens. Errors: as of Tick.
func (a *App) Start(ctx context.Context) error {
	if err := a.Refresh(ctx, Account); err != nil {
		return err
	}
	return a.Refresh(ctx, PushReporter)
}

// Refresh calls one service now. Errors: as of Tick.
func (a *App) Refresh(ctx context.Context, service string) error {
	if !a.signedIn {
		return ErrSignedOut
	}
	if !a.defined(service) {
		return nil
	}
	defer a.plan(service)
	var err error
	switch service {
	case Contacts:
		a.refreshContacts(ctx)
	case PushReporter:
		a.reportPush(ctx)
	default:
		err = a.provision(ctx, service)
	}
	var shown *Shown
	if service == Account && errors.As(err, &shown) && shown.Status != 0 && strconv.Itoa(shown.Status) == a.setting("extProvLogoutStatusCode") {
		a.SignOut()
		return ErrSignedOut
	}
	return nil
}

// SignOut forgets account and password; the user name stays filled in.
func (a *App) SignOut() {
	a.signedIn, a.nodes, a.inputs.Password = false, make(map[string]node), ""
	clear(a.next)
}

// SignedIn tells whether the app has an account to work with.
func (a *App) SignedIn() bool { return a.signedIn }

// Node is a node of the account.
func (a *App) Node(name string) string { return a.nodes[name].text }

// Nodes are the account.
func (a *App) Nodes() map[string]string {
	out := make(map[string]string, len(a.nodes))
	for name, n := range a.nodes {
		out[name] = n.text
	}
	return out
}

// QuickDials are the entries in the order of the screen.
func (a *App) QuickDials() []QuickDial { return slices.Clone(a.quickDials) }

// DialActions are the programmable dial actions.
func (a *App) DialActions() []DialAction { return slices.Clone(a.dialActions) }

// Calls are the latest calls, oldest first.
func (a *App) Calls() []Call { return slices.Clone(a.calls) }

// setting is a node of the account, or what the portal has under the name.
func (a *App) setting(name string) string {
	if n, ok := a.nodes[name]; ok {
		return n.text
	}
	return a.Portal[name]
}

func (a *App) defined(service string) bool { return a.setting(service+"Url") != "" }

// answer is what a server said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call carries out the definition of a service. own are placeholders of this service only.
func (a *App) call(ctx context.Context, service string, own map[string]string, headers ...string) (answer, error) {
	a.calls = append(a.calls[max(0, len(a.calls)-callsKept+1):], Call{Service: service, At: a.Now()})
	done := &a.calls[len(a.calls)-1]
	resp, err := a.do(ctx, service, own, headers...)
	done.Status, done.Bytes = resp.status, len(resp.body)
	if err != nil {
		done.Err = err.Error()
	}
	return resp, err
}

func (a *App) do(ctx context.Context, service string, own map[string]string, headers ...string) (answer, error) {
	template := a.setting(service + "Url")
	https := strings.HasPrefix(template, "https://")
	if !https && !strings.HasPrefix(template, "http://") {
		return answer{}, errors.New("URL is neither http nor https")
	}
	value := a.values(service, own, https)
	encode := percent
	if a.RawValues {
		encode = raw
	}
	target := a.expand(template, value, encode)
	kind := cmp.Or(a.setting(service+"ContentType"), "application/x-www-form-urlencoded")
	if strings.HasPrefix(kind, "application/json") && !a.RawValues {
		encode = quoted
	}
	body := a.expand(a.setting(service+"PostData"), value, encode)
	method := a.setting(service + "Method")
	switch {
	case method == "" && body == "":
		method = http.MethodGet
	case method == "":
		method = http.MethodPost
	}
	var payload io.Reader
	if body != "" && method != http.MethodGet {
		payload = strings.NewReader(body)
	}
	timeout := callTimeout
	if n, err := strconv.Atoi(a.setting(service + "Timeout")); err == nil && n > 0 {
		timeout = time.Duration(n) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, payload)
	if err != nil {
		return answer{}, errors.New("URL is malformed")
	}
	if payload != nil {
		req.Header.Set("Content-Type", kind)
	}
	req.Header.Set("Cache-Control", "max-age=0")
	req.Header.Set("User-Agent", "CloudSoftphone/"+a.Version)
	req.Close = a.HTTP == nil
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(a.setting(service+"CustomHeaders"), `\n`, "\n"), "\n") {
		if name, v, ok := strings.Cut(line, ":"); ok {
			req.Header.Set(strings.TrimSpace(name), a.expand(strings.TrimSpace(v), value, raw))
		}
	}
	transport := a.HTTP
	if transport == nil {
		transport = http.DefaultTransport
	}
	if user := a.setting(service + "AuthUsername"); user != "" {
		transport = &digest.Transport{Username: a.expand(user, value, raw), Password: a.expand(a.setting(service+"AuthPassword"), value, raw), Transport: transport}
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return answer{}, fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{status: resp.StatusCode}, fmt.Errorf("read the answer: %w", err)
	}
	if len(b) > maxAnswer {
		return answer{status: resp.StatusCode}, fmt.Errorf("%w: more than %d bytes", errAnswer, maxAnswer)
	}
	return answer{resp.StatusCode, resp.Header, bytes.TrimSpace(b)}, nil
}

// values answers for the placeholders of a call: those of its scope, of all calls, of the account, of this service.
func (a *App) values(service string, own map[string]string, https bool) lookup {
	initial := service == InitialAccount || service == InitialGlobal
	return func(name string, ofAccount, hashed bool) (string, bool) {
		if ofAccount {
			if initial {
				return "", false
			}
			text := a.nodes[name].text
			if name == "password" && !https && !hashed {
				text = strings.Repeat("*", 8)
			}
			return text, true
		}
		if v, ok := own[name]; ok {
			return v, true
		}
		switch {
		case name == "username" && initial:
			return a.inputs.Username, true
		case name == "password" && initial:
			return a.inputs.Password, true
		case name == "fullcode" && initial:
			return a.inputs.CloudID, true
		case name == "installid" && !a.NoInstallID:
			return a.Install, true
		case name == "appid":
			return "cz.acrobits.softphone.cloudphone", true
		case name == "platform":
			return "simulated", true
		case name == "version":
			return a.Version, true
		}
		return "", false
	}
}
