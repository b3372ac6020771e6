package commands

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"ledgerline/domain"
)

// SoftphoneCall is one call of an app of Cloud Softphone. Password is what the user typed (a password or a code), or the
// token that an earlier answer put in its place; OtherUsername and OtherPassword, if not empty, are how they may have been
// meant (a form's "+" is a blank, unless the app did not escape it), and are tried as part of the same attempt.
type SoftphoneCall struct {
	CloudID       domain.CloudID
	Editable      bool // asked by the portal's editable version: the cloud ID had a star
	Username      string
	OtherUsername string
	Password      string
	OtherPassword string
	Install       string // what the app calls its installation; empty when it did not tell
	Global        bool   // asks for quick dials and dial actions, not for the account
	IP            string
}

// SoftphoneAnswer is what the app is told: the account, that is the document's nodes, BLF and rewriting; or its quick dials
// and dial actions with what to remove.
type SoftphoneAnswer struct {
	SoftphoneID domain.SoftphoneID
	TenantID    domain.TenantID
	Document    domain.SoftphoneDocument
	Remove      []domain.SoftphoneEntry
	// Replace: there are quick dials, or have been, so that the list as a whole replaces the one the app has.
	Replace bool
	// Inputs are what the answer to an app that is signed in follows from: it may be given again for as long as
	// SoftphoneCurrent says so. Empty for a sign-in.
	Inputs []domain.Input `json:"-"`
	// Until is when it ends to hold by itself; zero for never.
	Until time.Time `json:"-"`
}

// SoftphoneError is why an app whose cloud ID is known is not answered for our own trouble: FailOpen tells that the
// tenant wants sign-in to go on without quick dials.
type SoftphoneError struct {
	Err      error
	FailOpen bool
}

func (e *SoftphoneError) Error() string { return e.Err.Error() }

// Unwrap is the trouble.
func (e *SoftphoneError) Unwrap() error { return e.Err }

// ErrNoAccount: what a softphone needs to work with (its line, its SIP server) is not there.
var ErrNoAccount = errors.New("softphone has no usable account")

const (
	tokenPrefix    = "llsp_"
	tokenLength    = 43 // of what is secret of it: 256 bits in base64
	softphoneToken = "softphone_token"
)

// IsSoftphoneToken tells whether text is of the form of a token: an app that shows one has signed in before.
func IsSoftphoneToken(text string) bool { return strings.HasPrefix(text, tokenPrefix) }

// ServeSoftphone answers an app. With a password or code and for the account it signs the app in, and records it; what the
// app is told is recorded when it is not what it was told last. Errors: domain.ErrCloudIDUnknown; domain.ErrSoftphoneRefused, alike for an unknown user, a wrong
// password, a dead code and a token that never was one; domain.ErrSoftphoneSignedOut for a token that is dead for good;
// a *GuessError when source or user must wait; ErrSignInBusy, and everything else is our trouble.
func (s *Service) ServeSoftphone(ctx context.Context, in SoftphoneCall) (SoftphoneAnswer, error) {
	cloud, h, err := s.cloudOf(ctx, in)
	if err != nil {
		return SoftphoneAnswer{}, err
	}
	ctx = softphoneCaller(ctx, in)
	answer, err := s.serveSoftphone(ctx, cloud, h, in)
	var guess *GuessError
	switch {
	case err == nil, errors.Is(err, domain.ErrSoftphoneRefused), errors.Is(err, domain.ErrSoftphoneSignedOut), errors.As(err, &guess):
		return answer, err
	}
	return SoftphoneAnswer{}, &SoftphoneError{err, !cloud.FailClosed}
}

// cloudOf is the cloud ID an app calls by: domain.ErrCloudIDUnknown, or a *SoftphoneError.
func (s *Service) cloudOf(ctx context.Context, in SoftphoneCall) (domain.Cloud, history, error) {
	cloud, h, err := load[domain.Cloud](ctx, s.Log, in.CloudID.Stream())
	switch {
	case err != nil:
		return cloud, h, &SoftphoneError{err, true}
	case !cloud.Exists || in.Editable && cloud.Policy.LiveOnly:
		return cloud, h, domain.ErrCloudIDUnknown
	}
	return cloud, h, nil
}

func softphoneCaller(ctx context.Context, in SoftphoneCall) context.Context {
	return WithCaller(ctx, Caller{Actor: "phone:softphone", IP: in.IP, Listener: "phones"})
}

func (s *Service) serveSoftphone(ctx context.Context, cloud domain.Cloud, h history, in SoftphoneCall) (SoftphoneAnswer, error) {
	var entry signIn
	var err error
	if IsSoftphoneToken(in.Password) {
		entry, err = s.softphoneOfToken(ctx, in)
	} else {
		entry, err = s.signInOf(ctx, in)
	}
	if err != nil {
		return SoftphoneAnswer{}, err
	}
	p := entry.softphone
	if p.CloudID != cloud.CloudID || p.TenantID != cloud.TenantID {
		return SoftphoneAnswer{}, domain.ErrSoftphoneRefused
	}
	b, err := s.belowCloud(ctx, cloud, h, p.CategoryID)
	if err != nil {
		return SoftphoneAnswer{}, err
	}
	own, err := s.softphoneDocument(ctx, p.SoftphoneLayer)
	if err != nil {
		return SoftphoneAnswer{}, err
	}
	below := b.document()
	answer := SoftphoneAnswer{SoftphoneID: p.SoftphoneID, TenantID: p.TenantID, Document: own.Over(below)}
	served := domain.SoftphoneServed{InstallID: entry.installID, InstallHash: entry.install, Service: domain.ServiceGlobal, Inputs: append(b.inputs, domain.Input{Stream: p.SoftphoneID.Stream(), Revision: entry.revision}), At: s.now()}
	if in.Global {
		answer.Document.Nodes, answer.Document.BLF, answer.Document.Rewriting = nil, nil, nil
		held := p.Held(entry.installID, entry.install, served.At)
		answer.Until = p.HeldUntil(entry.installID, entry.install, served.At)
		if entry.installID+entry.install == "" { // any app: it may have whatever was ever told
			held = slices.Concat(held, b.cloud.Ever, b.category.SoftphoneEver, p.Ever)
		}
		answer.Remove = answer.Document.Removals(held...)
		answer.Replace = len(answer.Document.QuickDials) > 0 || slices.ContainsFunc(held, func(e domain.SoftphoneEntry) bool { return e.Kind == domain.QuickDialKind })
		served.Entries, served.Removed = answer.Document.EntriesOf(), answer.Remove
		if served.Digest, err = s.toldDigest(ctx, p, answer); err != nil || p.Holding(served.InstallID, served.InstallHash).Digests[served.Service] == served.Digest {
			answer.Inputs = entry.inputs(served.Inputs, Outcome{})
			return answer, err
		}
		told, err := decide(ctx, s, p.SoftphoneID.Stream(), func(now domain.Softphone) ([]domain.Event, error) { return now.Serve(served) })
		answer.Inputs = entry.inputs(served.Inputs, told)
		return answer, err
	}
	answer.Document.QuickDials, answer.Document.DialActions, answer.Document.QuickDialReplacePriority = nil, nil, nil
	// The account comes before the record of the sign-in: a code is not used up for an account that does not work.
	var inputs []domain.Input
	if answer.Document.Nodes, inputs, err = s.accountNodes(ctx, p, below, own); err != nil {
		return SoftphoneAnswer{}, err
	}
	served.Service, served.Inputs = domain.ServiceAccount, append(served.Inputs, inputs...)
	if served.Digest, err = s.toldDigest(ctx, p, answer); err != nil {
		return SoftphoneAnswer{}, err
	}
	token := in.Password
	var told Outcome
	if entry.via != "" {
		token, err = s.recordSignIn(ctx, in, entry, served)
	} else if p.Holding(served.InstallID, served.InstallHash).Digests[served.Service] != served.Digest {
		told, err = decide(ctx, s, p.SoftphoneID.Stream(), func(now domain.Softphone) ([]domain.Event, error) { return now.Serve(served) })
	}
	answer.Document.Nodes["cloud_password"], answer.Inputs = token, entry.inputs(served.Inputs, told)
	return answer, err
}

// inputs are what an answer follows from that also holds for a revision told made of the softphone, if it did nothing but
// record this very answer.
func (e signIn) inputs(served []domain.Input, told Outcome) []domain.Input {
	if e.via != "" {
		return nil
	}
	out := slices.Concat(served, e.others)
	for i := range out {
		if out[i].Stream == told.Stream && len(told.Events) == 1 && told.Revision == e.revision+1 {
			out[i].Revision = told.Revision
		}
	}
	return out
}

// toldDigest is the keyed hash of what an app is told, under the user's key.
func (s *Service) toldDigest(ctx context.Context, p domain.Softphone, a SoftphoneAnswer) (string, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	return s.fingerprint(ctx, p.UserID.Subject(), string(text))
}

func equalTexts(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// softphoneOfToken is the softphone a token belongs to. Only a token that is none is held up by the budget of its source:
// behind one address are many apps, and one user's wrong passwords are not the others'.
func (s *Service) softphoneOfToken(ctx context.Context, in SoftphoneCall) (signIn, error) {
	id, secret, _ := strings.Cut(strings.TrimPrefix(in.Password, tokenPrefix), "_")
	if domain.CheckID(id) != nil || len(secret) != tokenLength {
		return signIn{}, s.badToken(in)
	}
	p, h, err := load[domain.Softphone](ctx, s.Log, domain.SoftphoneID(id).Stream())
	if err != nil {
		return signIn{}, err
	}
	hash, err := s.lookup(ctx, softphoneToken, in.Password)
	if err != nil {
		return signIn{}, err
	}
	install, err := p.Token(hash, equalTexts)
	if errors.Is(err, domain.ErrSoftphoneRefused) {
		return signIn{}, s.badToken(in)
	}
	if err != nil {
		return signIn{}, err
	}
	u, uh, err := load[domain.User](ctx, s.Log, p.UserID.Stream())
	if err == nil && u.Removed {
		err = domain.ErrSoftphoneSignedOut
	}
	if err != nil {
		return signIn{}, err
	}
	_, th, err := load[domain.Tenant](ctx, s.Log, p.TenantID.Stream())
	return signIn{others: []domain.Input{{Stream: p.UserID.Stream(), Revision: uh.revision}, {Stream: p.TenantID.Stream(), Revision: th.revision}}, softphone: p, revision: h.revision, install: install.InstallHash, installID: install.InstallID}, err
}

// badToken counts a token that is none, unless its source has to wait.
func (s *Service) badToken(in SoftphoneCall) error {
	if err := s.budgets().softphones.Allow(in.IP, "", s.now()); err != nil {
		return err
	}
	return s.wrongSoftphone(in, "")
}

// wrongSoftphone counts a wrong password, code or token; known is the softphone it was for.
func (s *Service) wrongSoftphone(in SoftphoneCall, known domain.SoftphoneID) error {
	if known != "" {
		s.budgets().denials.add(known.Stream(), s.now())
	}
	s.budgets().softphones.Wrong(in.IP, budgetName(in), s.now())
	return domain.ErrSoftphoneRefused
}

// budgetName is what the budget knows a user by, whether there is one or not, and however a "+" in it was sent; empty for a
// token, which names nobody.
func budgetName(in SoftphoneCall) domain.MAC {
	if IsSoftphoneToken(in.Password) {
		return ""
	}
	return domain.MAC(strings.ReplaceAll(softphoneName(in.CloudID, cmp.Or(in.OtherUsername, in.Username)), " ", "+"))
}

// signIn is a softphone and by what its user was let in; via is empty for a token.
type signIn struct {
	softphone domain.Softphone
	revision  domain.Revision
	via       string
	install   string         // keyed hash of what the app calls itself; empty when it did not tell
	installID string         // of a token
	others    []domain.Input // user and tenant, without whom the token is worth nothing
}

// signInOf checks what the user typed. An unknown user costs what a wrong password costs.
func (s *Service) signInOf(ctx context.Context, in SoftphoneCall) (signIn, error) {
	if err := s.budgets().softphones.Allow(in.IP, budgetName(in), s.now()); err != nil {
		return signIn{}, err
	}
	p, h, err := s.softphoneByName(ctx, in.CloudID, in.Username)
	if err == nil && in.OtherUsername != "" {
		q, other, err := s.softphoneByName(ctx, in.CloudID, in.OtherUsername) // also if the first is one: the same work for all
		if err != nil {
			return signIn{}, err
		}
		if !p.Exists {
			p, h = q, other
		}
	}
	if err != nil {
		return signIn{}, err
	}
	entry := signIn{softphone: p, revision: h.revision}
	if in.Install != "" {
		if entry.install, err = s.lookup(ctx, "softphone_install", string(p.SoftphoneID)+"/"+in.Install); err != nil {
			return signIn{}, err
		}
	}
	if entry.via, err = s.shown(ctx, p, in, entry.install); err != nil {
		return signIn{}, err
	}
	if entry.via == "" {
		return signIn{}, s.wrongSoftphone(in, p.SoftphoneID)
	}
	return entry, nil
}

// recordSignIn gives the app a token. What let the user in must still do so.
func (s *Service) recordSignIn(ctx context.Context, in SoftphoneCall, entry signIn, served domain.SoftphoneServed) (string, error) {
	p := entry.softphone
	var raw [32]byte
	if _, err := io.ReadFull(s.random(), raw[:]); err != nil {
		return "", fmt.Errorf("draw a token: %w", err)
	}
	token := tokenPrefix + string(p.SoftphoneID) + "_" + base64.RawURLEncoding.EncodeToString(raw[:])
	hash, err := s.lookup(ctx, softphoneToken, token)
	if err != nil {
		return "", err
	}
	_, err = decide(ctx, s, p.SoftphoneID.Stream(), func(now domain.Softphone) ([]domain.Event, error) {
		if entry.via == "code" && now.Code.CodeHash != p.Code.CodeHash || entry.via == "password" && !now.Password.Same(p.Password.Sealed) {
			return nil, domain.ErrSoftphoneRefused
		}
		served.InstallID = newID()
		events, err := now.SignIn(domain.SoftphoneSignedIn{InstallID: served.InstallID, InstallHash: entry.install, TokenHash: hash, Via: entry.via, Editable: in.Editable, At: s.now()})
		if err != nil {
			return nil, err
		}
		return append(events, served), nil
	})
	if errors.Is(err, domain.ErrSoftphoneRefused) {
		err = s.wrongSoftphone(in, p.SoftphoneID)
	}
	return token, err
}

// softphoneByName finds a softphone by its user name; one that does not exist is the zero Softphone.
func (s *Service) softphoneByName(ctx context.Context, cloud domain.CloudID, name string) (domain.Softphone, history, error) {
	hash, err := s.lookup(ctx, claimSoftphone, softphoneName(cloud, name))
	if err != nil {
		return domain.Softphone{}, history{}, err
	}
	claim, _, err := load[domain.Claim](ctx, s.Log, domain.ClaimStream(claimSoftphone, hash))
	if err != nil {
		return domain.Softphone{}, history{}, err
	}
	id := domain.SoftphoneID("none")
	if len(claim.Holders) > 0 {
		id = domain.SoftphoneID(claim.Holders[0].Holder.ID())
	}
	p, h, err := load[domain.Softphone](ctx, s.Log, id.Stream())
	if err != nil {
		return domain.Softphone{}, h, err
	}
	u, _, err := load[domain.User](ctx, s.Log, cmp.Or(p.UserID, "none").Stream())
	if err != nil || p.Live() != nil || p.UsernameHash != hash || u.Live(p.TenantID) != nil {
		return domain.Softphone{}, h, err
	}
	return p, h, nil
}

// shown is by what the user is let in: "password", "code", or "" for not at all. A good code needs no hash of a password, so
// that a company's apps can come in on one morning; whatever is refused costs the same, a dead code too.
func (s *Service) shown(ctx context.Context, p domain.Softphone, in SoftphoneCall, install string) (via string, err error) {
	stored, err := s.Open(ctx, p.Password.Sealed)
	if err != nil {
		return "", err
	}
	for _, typed := range []string{in.Password, in.OtherPassword} {
		if typed == "" {
			continue
		}
		digits, err := domain.NormalizeCode(typed, s.codeLength())
		isCode := err == nil
		hash, err := s.softphoneCode(ctx, p.Code.Epoch, p.SoftphoneID, digits)
		if errors.Is(err, domain.ErrErased) { // the day's codes are dead
			hash, err = s.softphoneCode(ctx, "", p.SoftphoneID, digits)
		}
		if err != nil {
			return "", err
		}
		if equalTexts(hash, p.Code.CodeHash) && isCode && p.CodeGood(install, s.now()) {
			return "code", nil
		}
		matches, err := s.signIns.matches(ctx, stored, typed)
		if err != nil {
			return "", err
		}
		if matches {
			via = "password"
		}
	}
	return via, nil
}

// accountNodes is the account of an app: the nodes of the levels below, what follows from line and user, the user's own
// nodes; and the revisions of line and user. ErrNoAccount comes with what there is of it.
func (s *Service) accountNodes(ctx context.Context, p domain.Softphone, below, own domain.SoftphoneDocument) (map[string]string, []domain.Input, error) {
	l, h, err := load[domain.Line](ctx, s.Log, p.LineID.Stream())
	if err != nil {
		return nil, nil, err
	}
	if err := l.Live(); err != nil || l.TenantID != p.TenantID {
		return nil, nil, fmt.Errorf("%s: %w", p.LineID.Stream(), ErrNoAccount)
	}
	u, uh, err := load[domain.User](ctx, s.Log, p.UserID.Stream())
	if err != nil {
		return nil, nil, err
	}
	inputs := []domain.Input{{Stream: p.LineID.Stream(), Revision: h.revision}, {Stream: p.UserID.Stream(), Revision: uh.revision}}
	nodes := map[string]string{"extProvInterval": "3600"}
	if strings.HasPrefix(s.PublicURL, "https://") {
		nodes["extProvUrl"] = strings.TrimSuffix(s.PublicURL, "/") + "/softphone/v1/account"
		nodes["extProvMethod"], nodes["extProvContentType"] = "POST", "application/x-www-form-urlencoded"
		nodes["extProvPostData"] = "cloud_id=" + string(p.CloudID) + "&cloud_username=%account[cloud_username]%&cloud_password=%account[cloud_password]%&install=%installid%"
	}
	settings, err := s.reveal(ctx, l.Settings.AsFirst())
	if err != nil {
		return nil, nil, err
	}
	switch v, _ := settings.Get("sip_lines.1.transport").(string); v {
	case "udp", "tcp":
		nodes["transport"] = v
	case "tls":
		nodes["transport"] = "tls+sip:" // the line's URIs stay sip:
	}
	if host := hostOf(settings, "registrar"); host != "" {
		nodes["host"] = host
	}
	if proxy := hostOf(settings, "proxy"); proxy != "" {
		if nodes["host"] == "" {
			nodes["host"] = proxy
		} else if nodes["host"] != proxy {
			nodes["proxy"] = proxy
		}
	}
	maps.Copy(nodes, below.Nodes)
	name := l.DisplayName
	if name.IsZero() {
		name = u.DisplayName
	}
	for node, v := range map[string]domain.Sealed{"userDisplayName": name.Sealed, "password": l.Password.Sealed, "cloud_username": p.Username.Sealed} {
		if nodes[node], err = s.Open(ctx, v); err != nil {
			return nil, nil, err
		}
	}
	nodes["username"] = l.Username
	if l.AuthUsername != "" {
		nodes["authUsername"] = l.AuthUsername
	}
	if nodes["title"] == "" {
		nodes["title"] = nodes["userDisplayName"]
	}
	if nodes["title"] == "" {
		nodes["title"] = l.Username
	}
	cloudName := nodes["cloud_username"]
	maps.Copy(nodes, own.Nodes)
	nodes["cloud_username"], nodes["extProvLogoutStatusCode"] = cloudName, strconv.Itoa(domain.SoftphoneLogoutStatus)
	if nodes["host"] == "" || nodes["username"] == "" || cloudName == "" {
		return nodes, inputs, fmt.Errorf("%s: %w: it needs the node host, or a registrar of its line", p.SoftphoneID.Stream(), ErrNoAccount)
	}
	return nodes, inputs, nil
}

// hostOf is the line's server of a kind, with its port if one is set.
func hostOf(s domain.Settings, kind string) string {
	host, _ := s.Get("sip_lines.1." + kind + "_ip").(string)
	port, ok := s.Get("sip_lines.1." + kind + "_port").(int)
	if host == "" || !ok {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
}
