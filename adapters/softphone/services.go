package softphone

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"ledgerline/adapters/softphone/wire"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// Limits of a directory: contacts of one tenant, how long one is told as it was read, and what is kept of all tenants'.
const (
	maxContacts  = 5000
	contactsAge  = 30 * time.Second
	contactsSize = 32 << 20
	// settled is how long ago the last change must be for its time, which HTTP has in seconds, to stand for what was read:
	// longer than servers' clocks differ.
	settled = 10 * time.Second
)

// contact is one entry of the directory as the app reads it (vendor's documentation of contacts).
type contact struct {
	ID          string         `json:"contactId"`
	DisplayName string         `json:"displayName"`
	Checksum    string         `json:"checksum"` // of all the rest
	Entries     []contactEntry `json:"contactEntries"`
}

type contactEntry struct {
	ID    string `json:"entryId"`
	Label string `json:"label"`
	Type  string `json:"type"`
	URI   string `json:"uri"`
}

// directory is a tenant's as it was read.
type directory struct {
	body    []byte
	tag     string
	changed time.Time // when it changed last, in whole seconds; zero while that does not tell it from another
	until   time.Time
}

// directories keeps what was read. The zero value is ready; safe for concurrent use.
type directories struct {
	mu   sync.Mutex
	of   map[domain.TenantID]directory
	size int
}

func (d *directories) get(tenant domain.TenantID, now time.Time) (directory, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	got, ok := d.of[tenant]
	return got, ok && now.Before(got.until)
}

func (d *directories) put(tenant domain.TenantID, one directory) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil || d.size > contactsSize {
		d.of, d.size = make(map[domain.TenantID]directory), 0
	}
	d.size += len(one.body) - len(d.of[tenant].body)
	d.of[tenant] = one
}

// contacts answers the directory of the app's tenant: its users who have a line, with the numbers of their lines.
func (h *handler) contacts(w http.ResponseWriter, r *http.Request, call commands.SoftphoneCall, start time.Time) int {
	tenant, err := h.Provisioner.SoftphoneTenant(r.Context(), call)
	if err != nil {
		return h.refuse(w, r, call, err, start, http.StatusForbidden)
	}
	d, ok := h.directory.get(tenant, h.Now())
	from := "cache"
	if !ok {
		if d, err = h.readDirectory(r.Context(), tenant); err != nil {
			return h.refuse(w, r, call, err, start, http.StatusForbidden)
		}
		h.directory.put(tenant, d)
		from = "log"
	}
	h.metrics.answers.WithLabelValues(services[contacts], from).Inc()
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("ETag", d.tag)
	if !d.changed.IsZero() {
		header.Set("Last-Modified", d.changed.Format(http.TimeFormat))
	}
	// The vendor documents the conditional call without saying by which method: it is honoured for POST too. A time is taken
	// for what it was when it was told, and for nothing else, so that one of before a restore is none.
	since, err := http.ParseTime(r.Header.Get("If-Modified-Since"))
	known := r.Header.Get("If-None-Match")
	if has(known, d.tag) || known == "" && err == nil && !d.changed.IsZero() && since.Equal(d.changed) {
		w.WriteHeader(http.StatusNotModified)
		return http.StatusNotModified
	}
	writeAs(w, http.StatusOK, "application/json; charset=utf-8", d.body)
	return http.StatusOK
}

func (h *handler) readDirectory(ctx context.Context, tenant domain.TenantID) (directory, error) {
	now := h.Now()
	if h.Views == nil {
		return directory{}, errors.New("no views to read contacts from")
	}
	read, err := projections.DirectoryOf(ctx, h.Views, tenant, maxContacts)
	if err != nil {
		return directory{}, err
	}
	if read.More {
		zerolog.Ctx(ctx).Warn().Str("tenant_id", string(tenant)).Int("told", maxContacts).Msg("the directory has more contacts than apps are told")
	}
	list := struct {
		Contacts []contact `json:"contacts"`
	}{[]contact{}}
	for _, e := range read.Entries {
		c, err := h.contactOf(ctx, e)
		if err != nil {
			return directory{}, err
		}
		list.Contacts = append(list.Contacts, c)
	}
	d := directory{until: now.Add(contactsAge)}
	if d.body, err = json.Marshal(list); err != nil {
		return directory{}, err
	}
	sum := sha256.Sum256(d.body)
	d.tag = `"` + hex.EncodeToString(sum[:16]) + `"`
	if now.Sub(read.Changed) > settled && !read.Changed.IsZero() {
		d.changed = read.Changed.UTC().Truncate(time.Second)
	}
	return d, nil
}

// contactOf opens what is personal of an entry. A line without a number is called by its SIP user name.
func (h *handler) contactOf(ctx context.Context, e projections.DirectoryEntry) (contact, error) {
	name, err := h.Provisioner.Open(ctx, e.User.DisplayName.Sealed)
	c := contact{ID: string(e.User.ID), DisplayName: cmp.Or(name, e.Lines[0].Username)}
	for _, l := range e.Lines {
		number := ""
		if err == nil {
			number, err = h.Provisioner.Open(ctx, l.Number.Sealed)
		}
		c.Entries = append(c.Entries, contactEntry{ID: string(l.ID), Label: "work", Type: "tel", URI: cmp.Or(number, l.Username)})
	}
	if err != nil {
		return contact{}, err
	}
	text, err := json.Marshal(c)
	sum := sha256.Sum256(text)
	c.Checksum = hex.EncodeToString(sum[:16])
	return c, err
}

// balance answers the text that stands for a balance.
func (h *handler) balance(w http.ResponseWriter, r *http.Request, call commands.SoftphoneCall, start time.Time) int {
	text, err := h.Provisioner.SoftphoneBalance(r.Context(), call)
	switch {
	case err == nil:
		return send(w, r, wire.Balance(text), false)
	case errors.Is(err, commands.ErrNoBalance):
		return fail(w, r, http.StatusNotFound, "There is no balance to show.")
	}
	return h.refuse(w, r, call, err, start, http.StatusForbidden)
}

// push takes the report of push tokens. Of the older names of a parameter and the newer ones, the newer count.
func (h *handler) push(w http.ResponseWriter, r *http.Request, call commands.SoftphoneCall, sent map[string]string, start time.Time) int {
	tokens := domain.SoftphonePush{Selector: sent["selector"], IncomingCall: cmp.Or(sent["pushTokenIncomingCall"], sent["pushToken"]), Other: sent["pushTokenOther"],
		AppIncomingCall: cmp.Or(sent["pushappid_incoming_call"], sent["pushappid"]), AppOther: sent["pushappid_other"]}
	if tokens.IncomingCall == "" && tokens.Other == "" {
		return fail(w, r, http.StatusBadRequest, "There is no push token: pushTokenIncomingCall and pushTokenOther are missing.")
	}
	if err := h.Provisioner.ReportSoftphonePush(r.Context(), call, tokens); err != nil {
		return h.refuse(w, r, call, err, start, http.StatusForbidden)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}
