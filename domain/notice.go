package domain

import (
	"errors"
	"slices"
	"time"
)

// A notice tells the innovaphone Users of a domain that a phone came by a code it had asked for. It is kept while no
// Users is connected, and told at least once; Users tells notices apart by their codes.

// NoticeStored: Users of the tenant is to be told that the phone came by the code. Recorded again when it is to be told
// once more. Digits are sealed under the key of the day it was stored on, Epoch (NoticeEpoch), which lasts while a notice of
// that day waits, so that none keeps the key of its code's day (D19). Earlier ones are sealed under that.
type NoticeStored struct {
	TenantID TenantID  `json:"tenant_id"`
	CodeID   CodeID    `json:"code_id"`
	Epoch    Subject   `json:"epoch"`
	Digits   Secret    `json:"digits"`
	DeviceID DeviceID  `json:"device_id"`
	MAC      MAC       `json:"mac,omitempty"`
	StoredAt time.Time `json:"stored_at"`
}

// NoticeDelivered: the notice was written to the Users app of that name; recorded once for each.
type NoticeDelivered struct {
	App string    `json:"app"`
	At  time.Time `json:"at"`
}

// NoticeAcknowledged: Users has it.
type NoticeAcknowledged struct {
	App string    `json:"app"`
	At  time.Time `json:"at"`
}

// NoticeDropped: nobody took it for NoticeKept, and it is told no more.
type NoticeDropped struct {
	Cause string `json:"cause"`
}

// TenantUsersKeySet: Users of the tenant's domain logs in with this password. Empty: it was taken away. Of the master tenant:
// whoever logs in with it, and with Domain, is an administrator of all domains.
type TenantUsersKeySet struct {
	Key Secret `json:"key,omitzero"`
	// Domain is the instance's domain name, of the master tenant only; a tenant may have the same one.
	Domain string `json:"domain,omitempty"`
}

// TenantUsersDenied: somebody gave a wrong password for Users of the domain Count times in the hour that began at Hour (D27).
type TenantUsersDenied struct {
	Hour  time.Time `json:"hour"`
	Count int       `json:"count"`
}

func (NoticeStored) EventType() string       { return "notice.stored" }
func (NoticeDelivered) EventType() string    { return "notice.delivered" }
func (NoticeAcknowledged) EventType() string { return "notice.acknowledged" }
func (NoticeDropped) EventType() string      { return "notice.dropped" }
func (TenantUsersKeySet) EventType() string  { return "tenant.users_key_set" }
func (TenantUsersDenied) EventType() string  { return "tenant.users_denied" }

var noticeEvents = []entry{of[NoticeStored](), of[NoticeDelivered](), of[NoticeAcknowledged](), of[NoticeDropped](), of[TenantUsersKeySet](), of[TenantUsersDenied]()}

// NoticeKept is how long a notice waits for somebody to take it.
const NoticeKept = 30 * 24 * time.Hour

// NoticeEpoch is the subject whose key seals the notices stored on the day of t (UTC). It is destroyed when the last of them
// was answered or dropped, NoticeKept later at the latest. Of codes that are not used yet it opens nothing, and it finds none.
func NoticeEpoch(t time.Time) Subject { return Subject("noticeepoch-" + t.UTC().Format("2006.01.02")) }

// NoticeStream is where the notice about a code stands.
func NoticeStream(code CodeID) StreamID { return Stream("notice", string(code)) }

// Notice is what a notice stream adds up to.
type Notice struct {
	NoticeStored
	State     string   // one of the Notice… constants; empty before the first event
	Delivered []string // apps it was written to since it was stored last
}

// States of a notice.
const (
	NoticePending      = "pending"
	NoticeAcknowledge  = "acknowledged"
	NoticeStateDropped = "dropped"
)

// Apply returns the notice after e.
func (n Notice) Apply(e Event) Notice {
	switch e := e.(type) {
	case NoticeStored:
		n.NoticeStored, n.State, n.Delivered = e, NoticePending, nil
	case NoticeDelivered:
		n.Delivered = append(slices.Clip(n.Delivered), e.App)
	case NoticeAcknowledged:
		n.State = NoticeAcknowledge
	case NoticeDropped:
		n.State = NoticeStateDropped
	}
	return n
}

// ErrNoticeUnknown: there is no notice about that code.
var ErrNoticeUnknown = errors.New("no such notice")

// Store keeps the notice to be told; no news while it waits already.
func (n Notice) Store(s NoticeStored) []Event {
	if n.State == NoticePending {
		return nil
	}
	return []Event{s}
}

// Deliver notes that it was written to app, once for each.
func (n Notice) Deliver(app string, at time.Time) ([]Event, error) {
	switch {
	case n.State == "":
		return nil, ErrNoticeUnknown
	case n.State != NoticePending || slices.Contains(n.Delivered, app):
		return nil, nil
	}
	return []Event{NoticeDelivered{app, at}}, nil
}

// Acknowledge ends the telling.
func (n Notice) Acknowledge(app string, at time.Time) ([]Event, error) {
	switch n.State {
	case "":
		return nil, ErrNoticeUnknown
	case NoticePending:
		return []Event{NoticeAcknowledged{app, at}}, nil
	}
	return nil, nil
}

// Drop ends a notice that nobody took in time.
func (n Notice) Drop(now time.Time) []Event {
	if n.State != NoticePending || now.Before(n.StoredAt.Add(NoticeKept)) {
		return nil
	}
	return []Event{NoticeDropped{Cause: "nobody took it for 30 days"}}
}

// Owner is the tenant whose Users is told; empty before the first event.
func (n Notice) Owner() TenantID { return n.TenantID }

// SetUsersKey changes the password of Users, and the domain name that goes with the master tenant's; the same again is no
// news.
func (t Tenant) SetUsersKey(key Secret, domainName string) ([]Event, error) {
	if err := t.Live(); err != nil || t.UsersKey.Same(key.Sealed) && t.UsersDomain == domainName {
		return nil, err
	}
	return []Event{TenantUsersKeySet{Key: key, Domain: domainName}}, nil
}
