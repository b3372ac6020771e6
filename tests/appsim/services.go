package appsim

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Contact is an entry of the provider's directory.
type Contact struct {
	ID          string `json:"contactId"`
	DisplayName string `json:"displayName"`
	Checksum    string `json:"checksum"`
	Entries     []struct {
		ID    string `json:"entryId"`
		Label string `json:"label"`
		Type  string `json:"type"` // tel, email, url
		URI   string `json:"uri"`
	} `json:"contactEntries"`
}

// Directory are the contacts as they came last.
func (a *App) Directory() []Contact { return slices.Clone(a.contacts) }

func (a *App) refreshContacts(ctx context.Context) {
	var headers []string
	if a.contactsAt != "" {
		headers = []string{"If-Modified-Since", a.contactsAt}
	}
	resp, err := a.call(ctx, Contacts, nil, headers...)
	if err != nil || resp.status == http.StatusNotModified {
		return
	}
	var got struct {
		Contacts []Contact `json:"contacts"`
	}
	if resp.status != http.StatusOK {
		_ = a.failed(Contacts, resp.status, "", nil)
	} else if err := json.Unmarshal(resp.body, &got); err != nil || got.Contacts == nil {
		_ = a.failed(Contacts, resp.status, "", errors.Join(errAnswer, err))
	} else {
		a.contacts, a.contactsAt = got.Contacts, resp.header.Get("Last-Modified")
	}
}

// Balance is the text that is shown as the user's balance; empty where the provider defines none.
func (a *App) Balance(ctx context.Context) (string, error) {
	if !a.signedIn {
		return "", ErrSignedOut
	}
	if !a.defined(Balance) {
		return "", nil
	}
	resp, err := a.call(ctx, Balance, nil)
	if err != nil {
		return "", a.failed(Balance, 0, "", err)
	}
	if resp.status != http.StatusOK {
		return "", a.failed(Balance, resp.status, "", nil)
	}
	root, err := readXML(resp.body)
	if err != nil || !a.is(root, "response") {
		return "", a.failed(Balance, resp.status, "", fmt.Errorf("%w: %v", errAnswer, err))
	}
	if n := strings.TrimSpace(a.child(root, "error").Text); n != "" && n != "0" {
		return "", a.failed(Balance, resp.status, "error "+n, nil)
	}
	return a.child(root, "balanceString").Text, nil
}

// PushTokens are what the system of the phone gave the app, to be woken by.
type PushTokens struct {
	IncomingCall, Other     string
	AppIncomingCall, AppIDs string // the apps the tokens are for; AppIDs for all but calls
}

// GivePush gives the app its push tokens; they are reported at every Start.
func (a *App) GivePush(t PushTokens) { a.push = t }

func (a *App) reportPush(ctx context.Context) {
	if a.push == (PushTokens{}) {
		return
	}
	sum := sha1.Sum([]byte(a.Install + "/" + a.nodes["username"].text)) // the vendor's form of a selector
	resp, err := a.call(ctx, PushReporter, map[string]string{"selector": hex.EncodeToString(sum[:]) + ":1",
		"pushToken": a.push.IncomingCall, "pushTokenIncomingCall": a.push.IncomingCall, "pushTokenOther": a.push.Other,
		"pushappid": a.push.AppIncomingCall, "pushappid_incoming_call": a.push.AppIncomingCall, "pushappid_other": a.push.AppIDs})
	if err == nil && (resp.status < 200 || resp.status > 299) {
		_ = a.failed(PushReporter, resp.status, "", nil)
	}
}
