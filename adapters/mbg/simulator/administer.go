package simulator

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The administrator's side: a page for people, and the same actions for programs.
//
//	GET  /_sim/          the page
//	GET  /_sim/state     everything, as JSON
//	GET  /_sim/log       the request log
//	GET  /_sim/fidelity  what is known and what is guessed
//	POST /_sim/ACTION    one action (see Do), its values as a form or a JSON object of texts

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"fp":   Fingerprint,
	"when": func(t time.Time) string { return t.Format(time.DateTime) },
	"has":  func(list []string, v string) bool { return slices.Contains(list, v) },
}).Parse(pageText))

// Fingerprint is how tokens are told apart without showing them: the first 8 hex digits of the SHA-256.
func Fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:4])
}

func (s *Simulator) administer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	w.Header().Set("Cache-Control", "no-store")
	what := strings.TrimPrefix(r.URL.Path, "/_sim/")
	switch {
	case r.URL.Path == "/":
		http.Redirect(w, r, "/_sim/", http.StatusSeeOther)
	case r.Method == http.MethodPost:
		s.act(w, r, what)
	case r.Method != http.MethodGet:
		http.Error(w, "GET or POST", http.StatusMethodNotAllowed)
	case what == "state":
		s.showJSON(w, s.State())
	case what == "log":
		s.showJSON(w, s.Log())
	case what == "fidelity":
		s.showJSON(w, Fidelity)
	case what == "":
		s.showPage(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (s *Simulator) showJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // whoever asked may have gone
}

func (s *Simulator) act(w http.ResponseWriter, r *http.Request, action string) {
	// A page elsewhere must not act here in the administrator's name.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		http.Error(w, "from another site", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	values := map[string]string{}
	isForm := !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json")
	if isForm {
		if err := r.ParseForm(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for k, v := range r.PostForm {
			values[k] = strings.Join(v, ",")
		}
	} else if err := json.NewDecoder(r.Body).Decode(&values); err != nil {
		http.Error(w, "a JSON object of texts is wanted: "+err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.Do(action, values); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if isForm {
		http.Redirect(w, r, "/_sim/", http.StatusSeeOther)
		return
	}
	s.showJSON(w, s.State())
}

// State is a copy of everything the administrator sees.
func (s *Simulator) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return State{s.clone(s.s), s.time()}
}

// State is the state and what the gateway's clock shows.
type State struct {
	state
	Time time.Time `json:"time"`
}

func (s *Simulator) clone(from state) (to state) {
	b, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(b, &to)
	}
	if err != nil {
		panic(fmt.Sprintf("simulator: copy state: %v", err)) // of plain texts and numbers
	}
	return to
}

// Log is the latest requests, the oldest first.
func (s *Simulator) Log() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// CertificateGeneration counts the action "certificate": whoever serves TLS makes a new certificate when it grows.
func (s *Simulator) CertificateGeneration() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cert
}

// Do carries out one action of the administrator, or of a test:
//
//	start; stop (how: 404, closed); problems (on: true, false); permit-weak (on); user-limit (n)
//	consumer (id, name, secret, active, permissions: comma separated, none means all); remove-consumer (id)
//	approve (token: fingerprint, verifier: empty draws one); deny, expire-temporary (token)
//	renew, revoke, expire, delete-token (token: fingerprint)
//	icp (id, name, address); remove-icp (id)
//	user (id: empty makes one; any field of User but extra; extra.NAME); remove-user (id); remove-all-users
//	clock (ahead: duration); advance (by: duration)
//	fault (operation, kind, count, probability, seconds); clear-faults; snapshot; restore; certificate
func (s *Simulator) Do(action string, v map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.do(action, v); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	s.save()
	return nil
}

func (s *Simulator) do(action string, v map[string]string) error {
	on := v["on"] == "true" || v["on"] == "on"
	switch action {
	case "start":
		s.s.ServicesOn = true
	case "stop":
		s.s.ServicesOn, s.s.StopHow = false, v["how"]
	case "problems":
		s.s.Problems = on
	case "permit-weak":
		s.s.PermitWeak = on
	case "user-limit":
		return number(v["n"], &s.s.UserLimit)
	case "consumer", "remove-consumer":
		return s.doConsumer(action, v)
	case "approve", "deny", "expire-temporary":
		return s.doTemporary(action, v)
	case "renew", "revoke", "expire", "delete-token":
		return s.doToken(action, v)
	case "icp", "remove-icp":
		return s.doICP(action, v)
	case "user", "remove-user", "remove-all-users":
		return s.doUser(action, v)
	case "clock", "advance":
		return s.doClock(action, v)
	case "fault":
		return s.doFault(v)
	case "clear-faults":
		s.s.Faults = nil
	case "snapshot":
		saved := s.clone(s.s)
		s.saved = &saved
	case "restore":
		if s.saved == nil {
			return fmt.Errorf("there is no snapshot")
		}
		users, next := s.clone(*s.saved).Users, s.saved.NextID
		s.s.Users, s.s.NextID = users, next
	case "certificate":
		s.cert++
	default:
		return fmt.Errorf("no such action")
	}
	return nil
}

func number(text string, into *int) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a number", text)
	}
	*into = n
	return nil
}

func (s *Simulator) doConsumer(action string, v map[string]string) error {
	if v["id"] == "" {
		return fmt.Errorf("id is missing")
	}
	c := Consumer{ID: v["id"], Name: v["name"], Secret: v["secret"], Active: v["active"] != "false", Permissions: Permissions}
	i := slices.IndexFunc(s.s.Consumers, func(c Consumer) bool { return c.ID == v["id"] })
	if p, ok := v["permissions"]; ok && p != "" {
		c.Permissions = strings.Split(p, ",")
	} else if ok && i >= 0 {
		c.Permissions = nil
	}
	if i >= 0 {
		if c.Secret == "" {
			c.Secret = s.s.Consumers[i].Secret
		}
		if c.Name == "" {
			c.Name = s.s.Consumers[i].Name
		}
		s.s.Consumers = slices.Delete(s.s.Consumers, i, i+1)
	}
	if action == "remove-consumer" {
		return nil
	}
	if c.Secret == "" {
		c.Secret = random(12)
	}
	s.s.Consumers = append(s.s.Consumers, c)
	return nil
}

func (s *Simulator) doTemporary(action string, v map[string]string) error {
	i := slices.IndexFunc(s.s.Temporary, func(t Temporary) bool { return v["token"] == "" || Fingerprint(t.Token) == v["token"] })
	if i < 0 {
		return fmt.Errorf("there is no such temporary token")
	}
	switch action {
	case "approve":
		s.s.Temporary[i].Verifier = v["verifier"]
		if v["verifier"] == "" {
			s.s.Temporary[i].Verifier = digits(8)
		}
	case "expire-temporary":
		s.s.Temporary[i].At = s.time().Add(-24 * time.Hour)
	default:
		s.s.Temporary = slices.Delete(s.s.Temporary, i, i+1)
	}
	return nil
}

func (s *Simulator) doToken(action string, v map[string]string) error {
	i := slices.IndexFunc(s.s.Tokens, func(t Token) bool { return Fingerprint(t.Token) == v["token"] })
	if v["token"] == "" {
		i = len(s.s.Tokens) - 1 // the latest
	}
	if i < 0 {
		return fmt.Errorf("there is no such token")
	}
	switch action {
	case "renew":
		s.s.Tokens[i].Expires = renewed(s.time())
	case "revoke":
		s.s.Tokens[i].Revoked = true
	case "expire":
		s.s.Tokens[i].Expires = s.time()
	default:
		s.s.Tokens = slices.Delete(s.s.Tokens, i, i+1)
	}
	return nil
}

func (s *Simulator) doICP(action string, v map[string]string) error {
	i := slices.IndexFunc(s.s.ICPs, func(p ICP) bool { return p.ID == v["id"] && v["id"] != "" })
	switch {
	case action == "remove-icp" && i < 0:
		return fmt.Errorf("there is no such ICP")
	case action == "remove-icp":
		s.s.ICPs = slices.Delete(s.s.ICPs, i, i+1)
	case v["address"] == "":
		return fmt.Errorf("address is missing")
	case i >= 0:
		s.s.ICPs[i] = ICP{v["id"], v["name"], v["address"]}
	default:
		id := v["id"]
		for n := len(s.s.ICPs) + 1; id == ""; n++ {
			if id = strconv.Itoa(n); slices.ContainsFunc(s.s.ICPs, func(p ICP) bool { return p.ID == id }) {
				id = ""
			}
		}
		s.s.ICPs = append(s.s.ICPs, ICP{id, v["name"], v["address"]})
	}
	return nil
}

func (s *Simulator) doUser(action string, v map[string]string) error {
	if action == "remove-all-users" {
		s.s.Users = nil
		return nil
	}
	i := s.user(v["id"])
	if action == "remove-user" {
		if i < 0 {
			return fmt.Errorf("there is no such user")
		}
		s.s.Users = slices.Delete(s.s.Users, i, i+1)
		return nil
	}
	if v["id"] != "" && i < 0 {
		return fmt.Errorf("there is no such user")
	}
	u := User{Enabled: true, Availability: "everywhere"}
	if i >= 0 {
		u = s.s.Users[i]
		u.Extra = map[string]string{}
		for k, x := range s.s.Users[i].Extra {
			u.Extra[k] = x
		}
	}
	for name, into := range map[string]*string{"description": &u.Description, "icp": &u.ICP, "availability": &u.Availability, "set_username": &u.SetUsername,
		"set_password": &u.SetPassword, "icp_username": &u.ICPUsername, "icp_password": &u.ICPPassword} {
		if text, given := v[name]; given {
			*into = text
		}
	}
	if text, given := v["enabled"]; given {
		u.Enabled = text == "true"
	}
	for k, text := range v {
		if name, ok := strings.CutPrefix(k, "extra."); ok {
			if u.Extra == nil {
				u.Extra = map[string]string{}
			}
			u.Extra[name] = text
		}
	}
	if i >= 0 {
		s.s.Users[i] = u
		return nil
	}
	s.s.NextID++
	u.ID = strconv.Itoa(s.s.NextID)
	s.s.Users = append(s.s.Users, u)
	return nil
}

func (s *Simulator) doClock(action string, v map[string]string) error {
	text := v["ahead"] + v["by"]
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 90s or -10m", text)
	}
	if action == "advance" {
		d += s.s.ClockAhead
	}
	s.s.ClockAhead = d
	return nil
}

// kinds are those of Fault.
var kinds = []string{"delay", "drop_before", "drop_after", "500", "500_after", "503", "429", "half_body", "wrong_type", "timestamp_refused", "nonce_used",
	"signature_invalid", "token_expired", "empty_icps", "icp_notation", "stale", "write_ignored"}

func (s *Simulator) doFault(v map[string]string) error {
	f := Fault{Operation: v["operation"], Kind: v["kind"]}
	if f.Operation == "" {
		f.Operation = "*"
	}
	if !slices.Contains(kinds, f.Kind) {
		return fmt.Errorf("kind must be one of %s", strings.Join(kinds, " "))
	}
	for name, into := range map[string]*float64{"probability": &f.Probability, "seconds": &f.Seconds} {
		if v[name] == "" {
			continue
		}
		n, err := strconv.ParseFloat(v[name], 64)
		if err != nil || n < 0 {
			return fmt.Errorf("%s %q is not a number", name, v[name])
		}
		*into = n
	}
	if v["count"] != "" {
		if err := number(v["count"], &f.Count); err != nil {
			return err
		}
	}
	s.s.Faults = append(s.s.Faults, f)
	return nil
}

func (s *Simulator) showPage(w http.ResponseWriter, _ *http.Request) {
	st := s.State()
	log := s.Log()
	slices.Reverse(log)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.Execute(w, map[string]any{"S": st, "Log": log[:min(len(log), 30)], "Permissions": Permissions, "Kinds": kinds, "Fidelity": Fidelity, "Mapping": s.m.Name}) // whoever asked may have gone
}
