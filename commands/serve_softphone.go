package commands

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"ledgerline/domain"
)

// SoftphoneCall is one call of an app of Cloud Softphone. Password is what the user typed (a password or a code), or the
// token that an earlier answer put in its place; OtherPassword, if not empty, is how it may have been meant (a form's "+"
// is a blank, unless the app did not escape it), and is tried as part of the same attempt.
type SoftphoneCall struct {
	CloudID       domain.CloudID
	Username      string
	Password      string
	OtherPassword string
	Install       string // what the app calls its installation; empty when it did not tell
	Global        bool   // asks for quick dials and dial actions, not for the account
	IP            string
}

// SoftphoneAnswer is what the app is told: the account's nodes, or quick dials and dial actions with what to remove.
type SoftphoneAnswer struct {
	SoftphoneID domain.SoftphoneID
	TenantID    domain.TenantID
	Nodes       map[string]string
	Document    domain.SoftphoneDocument
	Remove      []domain.SoftphoneEntry
	// Replace: there are quick dials, or have been, so that the list as a whole replaces the one the app has.
	Replace bool
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
	softphoneCode  = "softphone_code"
	softphoneToken = "softphone_token"
)

// IsSoftphoneToken tells whether text is of the form of a token: an app that shows one has signed in before.
func IsSoftphoneToken(text string) bool { return strings.HasPrefix(text, tokenPrefix) }

// ServeSoftphone answers an app. With a password or code and for the account it signs the app in, and records it; a token
// records nothing. Errors: domain.ErrCloudIDUnknown; domain.ErrSoftphoneRefused, alike for an unknown user, a wrong
// password, a dead code and a token that never was one; domain.ErrSoftphoneSignedOut for a token that is dead for good;
// a *GuessError when source or user must wait; ErrSignInBusy, and everything else is our trouble.
func (s *Service) ServeSoftphone(ctx context.Context, in SoftphoneCall) (SoftphoneAnswer, error) {
	cloud, _, err := load[domain.Cloud](ctx, s.Log, in.CloudID.Stream())
	if err != nil {
		return SoftphoneAnswer{}, &SoftphoneError{err, true}
	}
	if !cloud.Exists {
		return SoftphoneAnswer{}, domain.ErrCloudIDUnknown
	}
	ctx = WithCaller(ctx, Caller{Actor: "phone:softphone", IP: in.IP, Listener: "phones"})
	answer, err := s.serveSoftphone(ctx, cloud, in)
	var guess *GuessError
	switch {
	case err == nil, errors.Is(err, domain.ErrSoftphoneRefused), errors.Is(err, domain.ErrSoftphoneSignedOut), errors.As(err, &guess):
		return answer, err
	}
	return SoftphoneAnswer{}, &SoftphoneError{err, !cloud.FailClosed}
}

func (s *Service) serveSoftphone(ctx context.Context, cloud domain.Cloud, in SoftphoneCall) (SoftphoneAnswer, error) {
	var entry signIn
	var err error
	if IsSoftphoneToken(in.Password) {
		entry.softphone, err = s.softphoneOfToken(ctx, in)
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
	below, err := s.softphoneDocument(ctx, cloud.SoftphoneLayer)
	if err != nil {
		return SoftphoneAnswer{}, err
	}
	own, err := s.softphoneDocument(ctx, p.SoftphoneLayer)
	if err != nil {
		return SoftphoneAnswer{}, err
	}
	answer := SoftphoneAnswer{SoftphoneID: p.SoftphoneID, TenantID: p.TenantID, Document: own.Over(below)}
	if in.Global {
		ever := slices.Concat(cloud.Ever, p.Ever)
		answer.Remove = answer.Document.Removals(ever...)
		answer.Replace = slices.ContainsFunc(ever, func(e domain.SoftphoneEntry) bool { return e.Kind == domain.QuickDialKind })
		return answer, nil
	}
	// The account comes before the record of the sign-in: a code is not used up for an account that does not work.
	if answer.Nodes, err = s.accountNodes(ctx, p, below, own); err != nil {
		return SoftphoneAnswer{}, err
	}
	token := in.Password
	if entry.via != "" {
		if token, err = s.recordSignIn(ctx, in, entry); err != nil {
			return SoftphoneAnswer{}, err
		}
	}
	answer.Nodes["cloud_password"] = token
	return answer, nil
}

func equalTexts(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// softphoneOfToken is the softphone a token belongs to.
func (s *Service) softphoneOfToken(ctx context.Context, in SoftphoneCall) (domain.Softphone, error) {
	if err := s.budgets().softphones.Allow(in.IP, "", s.now()); err != nil {
		return domain.Softphone{}, err
	}
	id, secret, _ := strings.Cut(strings.TrimPrefix(in.Password, tokenPrefix), "_")
	if domain.CheckID(id) != nil || len(secret) != 43 {
		return domain.Softphone{}, s.wrongSoftphone(in, "")
	}
	p, _, err := load[domain.Softphone](ctx, s.Log, domain.SoftphoneID(id).Stream())
	if err != nil {
		return p, err
	}
	hash, err := s.lookup(ctx, softphoneToken, in.Password)
	if err != nil {
		return p, err
	}
	_, err = p.Token(hash, equalTexts)
	if errors.Is(err, domain.ErrSoftphoneRefused) {
		return p, s.wrongSoftphone(in, "")
	}
	if err != nil {
		return p, err
	}
	u, _, err := load[domain.User](ctx, s.Log, p.UserID.Stream())
	if err == nil && u.Removed {
		err = domain.ErrSoftphoneSignedOut
	}
	return p, err
}

// wrongSoftphone counts a wrong password, code or token; known is the softphone it was for.
func (s *Service) wrongSoftphone(in SoftphoneCall, known domain.SoftphoneID) error {
	if known != "" {
		s.budgets().denials.add(known.Stream(), s.now())
	}
	s.budgets().softphones.Wrong(in.IP, budgetName(in), s.now())
	return domain.ErrSoftphoneRefused
}

// budgetName is what the budget knows a user by, whether there is one or not; empty for a token, which names nobody.
func budgetName(in SoftphoneCall) domain.MAC {
	if IsSoftphoneToken(in.Password) {
		return ""
	}
	return domain.MAC(softphoneName(in.CloudID, in.Username))
}

// signIn is a softphone and by what its user was let in; via is empty for a token.
type signIn struct {
	softphone domain.Softphone
	via       string
	install   string // keyed hash
}

// signInOf checks what the user typed. An unknown user costs what a wrong password costs.
func (s *Service) signInOf(ctx context.Context, in SoftphoneCall) (signIn, error) {
	if err := s.budgets().softphones.Allow(in.IP, budgetName(in), s.now()); err != nil {
		return signIn{}, err
	}
	p, err := s.softphoneByName(ctx, in)
	if err != nil {
		return signIn{}, err
	}
	entry := signIn{softphone: p}
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
func (s *Service) recordSignIn(ctx context.Context, in SoftphoneCall, entry signIn) (string, error) {
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
		return now.SignIn(domain.SoftphoneSignedIn{InstallID: newID(), InstallHash: entry.install, TokenHash: hash, Via: entry.via, At: s.now()})
	})
	if errors.Is(err, domain.ErrSoftphoneRefused) {
		err = s.wrongSoftphone(in, p.SoftphoneID)
	}
	return token, err
}

// softphoneByName finds a softphone by its user name; one that does not exist is the zero Softphone.
func (s *Service) softphoneByName(ctx context.Context, in SoftphoneCall) (domain.Softphone, error) {
	hash, err := s.lookup(ctx, claimSoftphone, softphoneName(in.CloudID, in.Username))
	if err != nil {
		return domain.Softphone{}, err
	}
	claim, _, err := load[domain.Claim](ctx, s.Log, domain.ClaimStream(claimSoftphone, hash))
	if err != nil {
		return domain.Softphone{}, err
	}
	id := domain.SoftphoneID("none")
	if len(claim.Holders) > 0 {
		id = domain.SoftphoneID(claim.Holders[0].Holder.ID())
	}
	p, _, err := load[domain.Softphone](ctx, s.Log, id.Stream())
	if err != nil || p.Live() != nil || p.UsernameHash != hash {
		return domain.Softphone{}, err
	}
	u, _, err := load[domain.User](ctx, s.Log, p.UserID.Stream())
	if err != nil || u.Live(p.TenantID) != nil {
		return domain.Softphone{}, err
	}
	return p, nil
}

// shown is by what the user is let in: "password", "code", or "" for not at all. Every check is made, whichever holds.
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
		hash, err := s.lookup(ctx, softphoneCode, string(p.SoftphoneID)+"/"+digits)
		if err != nil {
			return "", err
		}
		if equalTexts(hash, p.Code.CodeHash) && isCode && p.CodeGood(install, s.now()) {
			via = "code"
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

// accountNodes is the account of an app: the cloud ID's nodes, what follows from line and user, the user's own nodes.
func (s *Service) accountNodes(ctx context.Context, p domain.Softphone, below, own domain.SoftphoneDocument) (map[string]string, error) {
	l, _, err := load[domain.Line](ctx, s.Log, p.LineID.Stream())
	if err != nil {
		return nil, err
	}
	if err := l.Live(); err != nil || l.TenantID != p.TenantID {
		return nil, fmt.Errorf("%s: %w", p.LineID.Stream(), ErrNoAccount)
	}
	u, _, err := load[domain.User](ctx, s.Log, p.UserID.Stream())
	if err != nil {
		return nil, err
	}
	nodes := map[string]string{"extProvInterval": "3600"}
	if strings.HasPrefix(s.PublicURL, "https://") {
		nodes["extProvUrl"] = strings.TrimSuffix(s.PublicURL, "/") + "/softphone/v1/account"
		nodes["extProvMethod"], nodes["extProvContentType"] = "POST", "application/x-www-form-urlencoded"
		nodes["extProvPostData"] = "cloud_id=" + string(p.CloudID) + "&cloud_username=%account[cloud_username]%&cloud_password=%account[cloud_password]%&install=%installid%"
	}
	settings, err := s.reveal(ctx, l.Settings.AsFirst())
	if err != nil {
		return nil, err
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
			return nil, err
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
		return nil, fmt.Errorf("%s: %w: it needs the node host, or a registrar of its line", p.SoftphoneID.Stream(), ErrNoAccount)
	}
	return nodes, nil
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
