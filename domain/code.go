package domain

import (
	"errors"
	"time"
)

// CodeIssued: whoever types these digits into a phone brings it to this tenant and category. The stream
// is named after the keyed hash of the digits; the digits themselves are sealed under the day's epoch
// key and become unreadable when that key is destroyed with the last code of its day (D19).
type CodeIssued struct {
	CodeID     CodeID     `json:"code_id"`
	TenantID   TenantID   `json:"tenant_id"`
	CategoryID CategoryID `json:"category_id"`
	UserID     UserID     `json:"user_id,omitempty"`
	Purpose    string     `json:"purpose"` // self_service, rollout, administrative, softphone
	Digits     Secret     `json:"digits"`
	Epoch      Subject    `json:"epoch"`
	IssuedAt   time.Time  `json:"issued_at"`
	ValidUntil time.Time  `json:"valid_until"`
	// MAC, when set, is the only phone that may redeem the code.
	MAC MAC `json:"mac,omitempty"`
	// Registry is the URL of the registry elsewhere that drew the digits; empty for our own.
	Registry string `json:"registry,omitempty"`
	// RolloutID and Row are the row of a rollout the code was issued for. Quarantine: it leads to the rollout's quarantine
	// category, where a phone gets nothing secret until somebody confirms it.
	RolloutID  RolloutID `json:"rollout_id,omitempty"`
	Row        int       `json:"row,omitempty"`
	Quarantine bool      `json:"quarantine,omitempty"`
}

// CodeRegistered: these digits were drawn here for a Devices server elsewhere, and a phone that shows them is led to
// DevicesURL. Of the digits nothing is kept but the keyed hash in the stream's name.
type CodeRegistered struct {
	CodeID     CodeID    `json:"code_id"`
	ServerID   ServerID  `json:"server_id"`
	DevicesURL string    `json:"devices_url"`
	Epoch      Subject   `json:"epoch"`
	IssuedAt   time.Time `json:"issued_at"`
	ValidUntil time.Time `json:"valid_until"`
}

// CodeBound: the registry told the phone MAC where its code leads; from then on it is of use to no other (D18).
type CodeBound struct {
	CodeID  CodeID    `json:"code_id"`
	MAC     MAC       `json:"mac"`
	BoundAt time.Time `json:"bound_at"`
}

// CodeRedeemed: the phone MAC has used the code, and thereby used it up.
type CodeRedeemed struct {
	MAC        MAC       `json:"mac"`
	DeviceID   DeviceID  `json:"device_id"`
	RedeemedAt time.Time `json:"redeemed_at"`
	// What the assignment needs, so that the reaction decides from this fact alone.
	CodeID     CodeID     `json:"code_id"`
	TenantID   TenantID   `json:"tenant_id"`
	CategoryID CategoryID `json:"category_id"`
	UserID     UserID     `json:"user_id,omitempty"`
}

// CodeRevoked: somebody took the code back before it was used.
type CodeRevoked struct {
	CodeID CodeID `json:"code_id"`
}

// CodeExpired: the code's time ran out unused. Recorded some time after ValidUntil; the code was dead
// from ValidUntil on, but for a phone it had been bound to (BindGrace).
type CodeExpired struct {
	CodeID CodeID `json:"code_id"`
}

// CodeAssignmentFailed: the code was used up, yet the device could not be assigned; a new code is due (D17).
type CodeAssignmentFailed struct {
	CodeID   CodeID   `json:"code_id"`
	DeviceID DeviceID `json:"device_id"`
	Cause    string   `json:"cause"`
}

// CodeDenied: a dead code was presented Count times in the hour that began at Hour (D27).
type CodeDenied struct {
	CodeID CodeID    `json:"code_id"`
	Hour   time.Time `json:"hour"`
	Count  int       `json:"count"`
}

// CodeReleased: the registry elsewhere that drew the digits of a revoked code leads nobody with them any more.
type CodeReleased struct {
	CodeID CodeID `json:"code_id"`
}

// CodeExtended: the unused code is valid until then, later than before.
type CodeExtended struct {
	CodeID     CodeID    `json:"code_id"`
	ValidUntil time.Time `json:"valid_until"`
}

func (CodeIssued) EventType() string           { return "code.issued" }
func (CodeExtended) EventType() string         { return "code.extended" }
func (CodeRedeemed) EventType() string         { return "code.redeemed" }
func (CodeRevoked) EventType() string          { return "code.revoked" }
func (CodeExpired) EventType() string          { return "code.expired" }
func (CodeAssignmentFailed) EventType() string { return "code.assignment_failed" }
func (CodeDenied) EventType() string           { return "code.denied" }
func (CodeRegistered) EventType() string       { return "code.registered" }
func (CodeBound) EventType() string            { return "code.bound" }
func (CodeReleased) EventType() string         { return "code.released" }

var codeEvents = []entry{of[CodeIssued](), of[CodeRegistered](), of[CodeBound](), of[CodeReleased](), of[CodeRedeemed](), of[CodeRevoked](), of[CodeExpired](), of[CodeAssignmentFailed](), of[CodeDenied](), of[CodeExtended]()}

// Purposes of a code and how long each lives unless configured otherwise.
var CodeTTL = map[string]time.Duration{
	"self_service":   10 * time.Minute,
	"rollout":        7 * 24 * time.Hour,
	"administrative": 24 * time.Hour,
}

// MaxCodeTTL bounds every configured life time, so that the look-up needs to try no more than nine epochs.
const MaxCodeTTL = 7 * 24 * time.Hour

// RepeatWindow is how long the phone that redeemed a code may present it again and be told yes (D17).
const RepeatWindow = 15 * time.Minute

// BindGrace is how much longer than its validity a code lives for the phone it was bound to in time (D18).
const BindGrace = 10 * time.Minute

// CodeRef finds a code: its id and its stream.
type CodeRef struct {
	ID     CodeID
	Stream StreamID
}

// CodeStream is the stream of the code whose digits hash to digest (hex).
func CodeStream(digest string) StreamID { return Stream("code", digest) }

// Epoch is the subject whose key hashes and seals the codes issued on the day of t (UTC).
func Epoch(t time.Time) Subject { return Subject("codeepoch-" + t.UTC().Format("2006.01.02")) }

// LiveEpochs are the epochs a code that is alive at now can have been issued in, newest first.
func LiveEpochs(now time.Time) []Subject {
	epochs := make([]Subject, 0, 9)
	for day := 0; day <= int(MaxCodeTTL/(24*time.Hour))+1; day++ {
		epochs = append(epochs, Epoch(now.AddDate(0, 0, -day)))
	}
	return epochs
}

// Code is what a code stream adds up to.
type Code struct {
	CodeIssued
	Exists     bool
	RedeemedBy MAC
	RedeemedAt time.Time
	DeviceID   DeviceID
	Revoked    bool
	Expired    bool
	Failed     string // why the assignment failed, if it did
	// Bound is the phone that was told where the code leads. Server and DevicesURL are set for a code that was
	// registered for a Devices server elsewhere, which alone redeems it.
	Bound      MAC
	BoundAt    time.Time
	Server     ServerID
	DevicesURL string
	// Released tells that the registry elsewhere knows of the revocation.
	Released bool
}

// Apply returns the code after e.
func (c Code) Apply(e Event) Code {
	switch e := e.(type) {
	case CodeIssued:
		c.CodeIssued, c.Exists = e, true
	case CodeRegistered:
		c.CodeIssued = CodeIssued{CodeID: e.CodeID, TenantID: Master, Purpose: Registered, Epoch: e.Epoch, IssuedAt: e.IssuedAt, ValidUntil: e.ValidUntil}
		c.Server, c.DevicesURL, c.Exists = e.ServerID, e.DevicesURL, true
	case CodeBound:
		c.Bound, c.BoundAt = e.MAC, e.BoundAt
	case CodeReleased:
		c.Released = true
	case CodeRedeemed:
		c.RedeemedBy, c.RedeemedAt, c.DeviceID = e.MAC, e.RedeemedAt, e.DeviceID
	case CodeExtended:
		c.ValidUntil = e.ValidUntil
	case CodeRevoked:
		c.Revoked = true
	case CodeExpired:
		c.Expired = true
	case CodeAssignmentFailed:
		c.Failed = e.Cause
	}
	return c
}

var (
	ErrCodeUnknown  = errors.New("no such code")
	ErrCodeExists   = errors.New("these digits are taken")
	ErrCodeExpired  = errors.New("code has expired")
	ErrCodeRedeemed = errors.New("code has been used")
	ErrCodeRevoked  = errors.New("code was revoked")
	ErrCodeBound    = errors.New("code is for another phone")
	// ErrTooManyCodes: the tenant, or the user, has as many live codes as it may have.
	ErrTooManyCodes = errors.New("there are too many live codes already: revoke some, or wait until they expire")
	// ErrCodeRefused is what a phone is told for each of the above, and for digits that never were a code.
	ErrCodeRefused = errors.New("code not accepted")
)

// Issue records the code; its stream must be new.
func (c Code) Issue(issued CodeIssued) ([]Event, error) {
	if c.Exists {
		return nil, ErrCodeExists
	}
	return []Event{issued}, nil
}

// Registered is the purpose of codes of Devices servers elsewhere.
const Registered = "registered"

// Register records the code of a Devices server elsewhere; its stream must be new.
func (c Code) Register(r CodeRegistered) ([]Event, error) {
	if c.Exists {
		return nil, ErrCodeExists
	}
	return []Event{r}, nil
}

// Deadline is when the code is of no use to anybody any more: ValidUntil, or BindGrace later when a phone was bound to
// it, or when only the registry elsewhere knows whether one was.
func (c Code) Deadline() time.Time {
	if c.Bound != "" || c.Registry != "" {
		return c.ValidUntil.Add(BindGrace)
	}
	return c.ValidUntil
}

// Honoured tells whether the code was bound to the phone by in time, and the time after its expiry that this gives it
// is not over at now.
func (c Code) Honoured(by MAC, now time.Time) bool {
	return by != "" && c.Bound == by && c.BoundAt.Before(c.ValidUntil) && !c.Revoked && !c.Expired && now.Before(c.ValidUntil.Add(BindGrace))
}

// Bind ties the code to the phone by, which is told where it leads. The same phone may ask again, also when it has
// redeemed the code: no event, no error.
func (c Code) Bind(by MAC, now time.Time) ([]Event, error) {
	if c.Exists && c.Honoured(by, now) && (c.RedeemedBy == "" || c.RedeemedBy == by) {
		return nil, nil
	}
	if err := c.Dead(now); err != nil {
		return nil, err
	}
	if !c.opens(by) {
		return nil, ErrCodeBound
	}
	return []Event{CodeBound{CodeID: c.CodeID, MAC: by, BoundAt: now}}, nil
}

// opens tells whether the code is not kept for another phone than by.
func (c Code) opens(by MAC) bool {
	return (c.MAC == "" || c.MAC == by) && (c.Bound == "" || c.Bound == by)
}

// Dead is nil while the code can be redeemed at now; it dies at exactly ValidUntil.
func (c Code) Dead(now time.Time) error {
	switch {
	case !c.Exists:
		return ErrCodeUnknown
	case c.RedeemedBy != "":
		return ErrCodeRedeemed
	case c.Revoked:
		return ErrCodeRevoked
	case c.Expired || !now.Before(c.ValidUntil):
		return ErrCodeExpired
	}
	return nil
}

// Redeem uses the code up for the phone by. The same phone may repeat for RepeatWindow: no event, no error.
func (c Code) Redeem(by MAC, device DeviceID, now time.Time) ([]Event, error) {
	if c.Exists && c.RedeemedBy == by && by != "" && now.Before(c.RedeemedAt.Add(RepeatWindow)) {
		return nil, nil
	}
	if err := c.Dead(now); err != nil && !(errors.Is(err, ErrCodeExpired) && c.Honoured(by, now)) {
		return nil, err
	}
	if c.Server != "" {
		return nil, ErrCodeUnknown // its own Devices server redeems it
	}
	if !c.opens(by) {
		return nil, ErrCodeBound
	}
	return []Event{CodeRedeemed{MAC: by, DeviceID: device, RedeemedAt: now, CodeID: c.CodeID,
		TenantID: c.TenantID, CategoryID: c.CategoryID, UserID: c.UserID}}, nil
}

// Revoke takes an unused code back. Revoking a dead one is refused with the reason it is dead.
func (c Code) Revoke(now time.Time) ([]Event, error) {
	if c.Revoked {
		return nil, nil
	}
	if err := c.Dead(now); err != nil {
		return nil, err
	}
	return []Event{CodeRevoked{CodeID: c.CodeID}}, nil
}

// Extend gives a live code more time, up to the end of the time it can be looked up for (LiveEpochs); no news when it has
// as much already. Extending a dead one is refused with the reason it is dead.
func (c Code) Extend(until, now time.Time) ([]Event, error) {
	if err := c.Dead(now); err != nil {
		return nil, err
	}
	if most := c.IssuedAt.UTC().Truncate(24 * time.Hour).Add(MaxCodeTTL + 24*time.Hour); until.After(most) {
		until = most
	}
	if !until.After(c.ValidUntil) {
		return nil, nil
	}
	return []Event{CodeExtended{c.CodeID, until}}, nil
}

// Expire records that the time ran out; no news before that, or when the code is dead otherwise.
func (c Code) Expire(now time.Time) []Event {
	if c.Expired || now.Before(c.Deadline()) || !errors.Is(c.Dead(now), ErrCodeExpired) {
		return nil
	}
	return []Event{CodeExpired{CodeID: c.CodeID}}
}

// FailAssignment records that the redeeming device could not be assigned, once.
func (c Code) FailAssignment(device DeviceID, cause error) []Event {
	if c.Failed != "" {
		return nil
	}
	return []Event{CodeAssignmentFailed{CodeID: c.CodeID, DeviceID: device, Cause: cause.Error()}}
}

// NormalizeCode reads what a human typed: spaces (also the non-breaking kind), dashes and dots between
// digits are dropped, and one "#" at the end, which some phones send. Anything else (letters, full-width
// digits, a wrong number of digits) is ErrCodeRefused. length is 12 or 16.
func NormalizeCode(typed string, length int) (string, error) {
	if len(typed) > 64 {
		return "", ErrCodeRefused
	}
	digits := make([]byte, 0, length)
	runes := []rune(typed)
	if n := len(runes); n > 0 && runes[n-1] == '#' {
		runes = runes[:n-1]
	}
	for _, c := range runes {
		switch {
		case c >= '0' && c <= '9':
			digits = append(digits, byte(c))
		case c == ' ' || c == '\u00a0' || c == '\u202f' || c == '-' || c == '.' || c == '\t':
		default:
			return "", ErrCodeRefused
		}
	}
	if len(digits) != length {
		return "", ErrCodeRefused
	}
	return string(digits), nil
}

// Owner is the tenant the code belongs to; empty before its first event.
func (c Code) Owner() TenantID { return c.TenantID }
