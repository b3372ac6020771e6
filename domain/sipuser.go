package domain

import (
	"errors"
	"slices"
	"strings"
)

// A SIP user is the record we keep on a border gateway for one line: what phones show it (set side) and what it
// shows the phone system (ICP side). Its stream holds what is wanted, with a revision that grows, and what the
// gateway was brought to. A record is pending while the wanted revision is ahead of the settled one.

// SIPUserID is "<gateway>.<line>": one SIP user per line and gateway.
type SIPUserID string

// SIPUserOf names the SIP user of a line on a gateway.
func SIPUserOf(g GatewayID, l LineID) SIPUserID { return SIPUserID(string(g) + "." + string(l)) }

// Stream is where the SIP user's facts stand.
func (id SIPUserID) Stream() StreamID { return Stream("sipuser", string(id)) }

// SIPUserSpec is what a SIP user is to be. Number, name and credentials are sealed under the line's key.
type SIPUserSpec struct {
	NodeID       string   `json:"node_id,omitempty"`
	Enabled      bool     `json:"enabled"`
	Availability string   `json:"availability,omitempty"` // sip, everywhere, webrtc
	DisplayName  Personal `json:"display_name,omitzero"`
	SetUsername  string   `json:"set_username"`
	SetPassword  Secret   `json:"set_password"`
	// Extension is the ICP-side user name: it must be the extension, or the phone system refuses it.
	Extension   Personal `json:"extension"`
	ICPPassword Secret   `json:"icp_password"`
}

// Same tells whether two specs mean the same record.
func (s SIPUserSpec) Same(t SIPUserSpec) bool {
	return s.NodeID == t.NodeID && s.Enabled == t.Enabled && s.Availability == t.Availability && s.SetUsername == t.SetUsername &&
		s.DisplayName.Same(t.DisplayName.Sealed) && s.Extension.Same(t.Extension.Sealed) && s.SameCredentials(t)
}

// SameCredentials tells whether the passwords of two specs are the same.
func (s SIPUserSpec) SameCredentials(t SIPUserSpec) bool {
	return s.SetPassword.Same(t.SetPassword.Sealed) && s.ICPPassword.Same(t.ICPPassword.Sealed)
}

// SIPUserPushIntended: the gateway is to hold this record. Rev counts intentions, from 1.
type SIPUserPushIntended struct {
	SIPUserID SIPUserID `json:"sip_user_id"`
	TenantID  TenantID  `json:"tenant_id"`
	GatewayID GatewayID `json:"gateway_id"`
	LineID    LineID    `json:"line_id"`
	Rev       int       `json:"rev"`
	// Why is line, user, sweep, token, mapping, icp, drift, retry, adopt.
	Why string `json:"why"`
	// Force writes everything, passwords too, even where nothing seems to differ.
	Force bool `json:"force,omitempty"`
	SIPUserSpec
}

// SIPUserRemovalIntended: the gateway is no longer to hold the record.
type SIPUserRemovalIntended struct {
	Rev int    `json:"rev"`
	Why string `json:"why"`
}

// SIPUserAdopted: a record of somebody else stood where ours is to be; it is ours from here on. Was is what it said.
type SIPUserAdopted struct {
	Rev   int       `json:"rev"`
	MBGID string    `json:"mbg_id"`
	Was   MBGRecord `json:"was"`
}

// MBGRecord is what can be read of a record on a gateway.
type MBGRecord struct {
	SetUsername  string   `json:"set_username,omitempty"`
	ICPUsername  Personal `json:"icp_username,omitzero"`
	ICPID        string   `json:"icp_id,omitempty"`
	Description  Personal `json:"description,omitzero"`
	Enabled      bool     `json:"enabled"`
	Availability string   `json:"availability,omitempty"`
}

// SIPUserPushed: the gateway holds the record as intended with Rev, read back and compared.
type SIPUserPushed struct {
	Rev    int    `json:"rev"`
	Action string `json:"action"` // created, updated, unchanged
	MBGID  string `json:"mbg_id"`
	ICPID  string `json:"icp_id"`
	// Fields are what was changed; Attempts is how often it was tried. Found: an earlier try whose answer was
	// lost had made the record.
	Fields   []string `json:"fields,omitempty"`
	Attempts int      `json:"attempts"`
	Found    bool     `json:"found,omitempty"`
}

// SIPUserPushFailed: the gateway refused the record for a reason no repetition cures; it waits for a person, or for
// the next change.
type SIPUserPushFailed struct {
	Rev      int    `json:"rev"`
	Class    string `json:"class"`
	Text     string `json:"text"`
	Attempts int    `json:"attempts"`
}

// SIPUserRemoved: the gateway does not hold the record any more. Found tells whether it still did.
type SIPUserRemoved struct {
	Rev      int    `json:"rev"`
	MBGID    string `json:"mbg_id,omitempty"`
	Found    bool   `json:"found,omitempty"`
	Attempts int    `json:"attempts"`
}

func (SIPUserPushIntended) EventType() string    { return "sipuser.push_intended" }
func (SIPUserRemovalIntended) EventType() string { return "sipuser.removal_intended" }
func (SIPUserAdopted) EventType() string         { return "sipuser.adopted" }
func (SIPUserPushed) EventType() string          { return "sipuser.pushed" }
func (SIPUserPushFailed) EventType() string      { return "sipuser.push_failed" }
func (SIPUserRemoved) EventType() string         { return "sipuser.removed" }

var sipUserEvents = []entry{of[SIPUserPushIntended](), of[SIPUserRemovalIntended](), of[SIPUserAdopted](), of[SIPUserPushed](),
	of[SIPUserPushFailed](), of[SIPUserRemoved]()}

// SIPUser is what a SIP user's stream adds up to.
type SIPUser struct {
	ID        SIPUserID
	TenantID  TenantID
	GatewayID GatewayID
	LineID    LineID
	// Wanted: the record is to be there, as Spec says; else it is to be gone.
	Wanted bool
	Spec   SIPUserSpec
	Rev    int
	Why    string
	Force  bool
	// Settled is the revision the gateway was last brought to, Failed the one it refused for good.
	Settled int
	Failed  SIPUserPushFailed
	// On tells that the gateway holds the record as Pushed; MBGID is its id there, ICPID the ICP it points to.
	On     bool
	Pushed SIPUserSpec
	MBGID  string
	ICPID  string
}

// Owner is the tenant of the line; empty before the first event.
func (u SIPUser) Owner() TenantID { return u.TenantID }

// Apply returns the SIP user after e.
func (u SIPUser) Apply(e Event) SIPUser {
	switch e := e.(type) {
	case SIPUserPushIntended:
		u.ID, u.TenantID, u.GatewayID, u.LineID = e.SIPUserID, e.TenantID, e.GatewayID, e.LineID
		u.Wanted, u.Spec, u.Rev, u.Why, u.Force = true, e.SIPUserSpec, e.Rev, e.Why, e.Force
	case SIPUserRemovalIntended:
		u.Wanted, u.Rev, u.Why, u.Force = false, e.Rev, e.Why, false
	case SIPUserAdopted:
		u.MBGID = e.MBGID
	case SIPUserPushed:
		u.Settled, u.MBGID, u.ICPID, u.On, u.Failed = e.Rev, e.MBGID, e.ICPID, true, SIPUserPushFailed{}
		if e.Rev == u.Rev && u.Wanted {
			u.Pushed = u.Spec
		}
	case SIPUserPushFailed:
		u.Failed = e
	case SIPUserRemoved:
		u.Settled, u.On, u.MBGID, u.ICPID, u.Pushed, u.Failed = e.Rev, false, "", "", SIPUserSpec{}, SIPUserPushFailed{}
	}
	return u
}

var (
	ErrSIPUserUnknown = errors.New("no such SIP user")
	ErrSIPUserSettled = errors.New("SIP user has nothing to be tried again")
)

// Pending tells whether something is to be done on the gateway: the latest intention is neither settled nor refused.
func (u SIPUser) Pending() bool { return u.Rev > u.Settled && u.Failed.Rev < u.Rev }

// SIPUserRef is a SIP user as a selection shows it.
type SIPUserRef struct {
	ID    SIPUserID
	MBGID string // empty while the gateway holds none
}

// States of a SIP user.
const (
	SIPUserPending  = "pending"
	SIPUserInSync   = "in_sync"
	SIPUserParked   = "parked"
	SIPUserIsOff    = "removed"
	SIPUserRemoving = "removing"
)

// Status is the SIP user's state in one word.
func (u SIPUser) Status() string {
	switch {
	case u.Rev > u.Settled && u.Failed.Rev == u.Rev:
		return SIPUserParked
	case u.Pending() && u.Wanted:
		return SIPUserPending
	case u.Pending():
		return SIPUserRemoving
	case u.On:
		return SIPUserInSync
	}
	return SIPUserIsOff
}

// Intend wants the record to be as spec. What is wanted already is no news, unless forced.
func (u SIPUser) Intend(e SIPUserPushIntended) []Event {
	if u.Wanted && u.Spec.Same(e.SIPUserSpec) && !e.Force {
		return nil
	}
	e.Rev = u.Rev + 1
	return []Event{e}
}

// Withdraw wants the record gone. One that was never wanted, or is unwanted already, is no news.
func (u SIPUser) Withdraw(why string) []Event {
	if !u.Wanted {
		return nil
	}
	return []Event{SIPUserRemovalIntended{Rev: u.Rev + 1, Why: why}}
}

// Unwanted wants a record gone that stands on the gateway although it was removed, or never wanted.
func (u SIPUser) Unwanted(why string) []Event {
	if u.Rev == 0 || u.Wanted || u.Pending() {
		return nil
	}
	return []Event{SIPUserRemovalIntended{Rev: u.Rev + 1, Why: why}}
}

// Retry wants the latest intention tried again, everything written.
func (u SIPUser) Retry(why string) ([]Event, error) {
	switch {
	case u.Rev == 0:
		return nil, ErrSIPUserUnknown
	case u.Wanted:
		return []Event{SIPUserPushIntended{SIPUserID: u.ID, TenantID: u.TenantID, GatewayID: u.GatewayID, LineID: u.LineID, Rev: u.Rev + 1,
			Why: why, Force: true, SIPUserSpec: u.Spec}}, nil
	case u.Pending() || u.Failed.Rev == u.Rev && u.Rev > u.Settled:
		return []Event{SIPUserRemovalIntended{Rev: u.Rev + 1, Why: why}}, nil
	}
	return nil, ErrSIPUserSettled
}

// setName and setPassword characters: no l, o, 0, 1, which people confuse; punctuation that is safe in phones' files.
const (
	setNameAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"
	lowers          = "abcdefghijkmnpqrstuvwxyz"
	uppers          = "ABCDEFGHJKLMNPQRSTUVWXYZ"
	digits          = "23456789"
	punctuation     = "-_.!*"
)

// NewSetUsername is a set-side user name of 12 characters; pick answers a uniformly random number below n.
func NewSetUsername(pick func(n int) (int, error)) (string, error) {
	return draw(pick, 12, setNameAlphabet)
}

// NewSetPassword is a set-side password of 24 characters with at least two each of lower case, upper case, digits
// and punctuation.
func NewSetPassword(pick func(n int) (int, error)) (string, error) {
	var b []byte
	for _, class := range []string{lowers, uppers, digits, punctuation} {
		two, err := draw(pick, 2, class)
		if err != nil {
			return "", err
		}
		b = append(b, two...)
	}
	rest, err := draw(pick, 24-len(b), lowers+uppers+digits+punctuation)
	if err != nil {
		return "", err
	}
	b = append(b, rest...)
	for i := len(b) - 1; i > 0; i-- {
		j, err := pick(i + 1)
		if err != nil {
			return "", err
		}
		b[i], b[j] = b[j], b[i]
	}
	return string(b), nil
}

func draw(pick func(int) (int, error), n int, from string) (string, error) {
	var b strings.Builder
	for range n {
		i, err := pick(len(from))
		if err != nil {
			return "", err
		}
		b.WriteByte(from[i])
	}
	return b.String(), nil
}

// LineRemoteAuthorizationSet: phones register with this line through a border gateway, with credentials of their own
// ("use remote authorization credentials").
type LineRemoteAuthorizationSet struct{ LineRemote }

// LineRemote is a line's remote authorization.
type LineRemote struct {
	GatewayID GatewayID `json:"gateway_id"`
	NodeID    string    `json:"node_id,omitempty"` // of several
	// Username and Password are the set side: what the phone shows the gateway. The name is random and unique, and
	// the key under which the record is found on the gateway.
	Username string `json:"username"`
	Password Secret `json:"password"`
	// Availability on the gateway: sip (empty), everywhere, webrtc.
	Availability string `json:"availability,omitempty"`
}

// LineRemoteAuthorizationCleared: the line is not used through a gateway any more.
type LineRemoteAuthorizationCleared struct{}

func (LineRemoteAuthorizationSet) EventType() string     { return "line.remote_authorization_set" }
func (LineRemoteAuthorizationCleared) EventType() string { return "line.remote_authorization_cleared" }

// SetRemote puts the line behind a gateway; the same again is no news.
func (l Line) SetRemote(r LineRemote) ([]Event, error) {
	if err := l.Live(); err != nil {
		return nil, err
	}
	now := l.Remote
	if now.GatewayID == r.GatewayID && now.NodeID == r.NodeID && now.Username == r.Username && now.Password.Same(r.Password.Sealed) && now.Availability == r.Availability {
		return nil, nil
	}
	return []Event{LineRemoteAuthorizationSet{r}}, nil
}

// ClearRemote takes the line from its gateway; one on none is no news.
func (l Line) ClearRemote() ([]Event, error) {
	if err := l.Live(); err != nil || l.Remote.GatewayID == "" {
		return nil, err
	}
	return []Event{LineRemoteAuthorizationCleared{}}, nil
}

// withGateway adds g to the gateways the line has been on.
func withGateway(list []GatewayID, g GatewayID) []GatewayID {
	if slices.Contains(list, g) {
		return list
	}
	return append(list[:len(list):len(list)], g)
}
