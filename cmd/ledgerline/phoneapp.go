package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ledgerline/domain"
	"ledgerline/tests/appsim"
)

// cloudSoftphone is the vendor that is an app, not a phone.
const cloudSoftphone = "cloudsoftphone"

// playApp signs the app of Cloud Softphone in with the text of a QR code, and prints what it was given, without secrets.
// With poll it stays, refreshes what is due, looking every poll, and prints what changed, until interrupted or signed out.
func (a *app) playApp(ctx context.Context, server, code, definitions string, poll time.Duration) error {
	in, err := appsim.Scan(code)
	if err != nil {
		return usageError("--code must be the text of a QR code for the app: csc:USER:CODE@CLOUD-ID")
	}
	fields := domain.PortalDefinitions(server, strings.TrimSuffix(in.CloudID, "*"))
	if definitions != "" {
		b, err := a.readFile(definitions)
		if err != nil {
			return err
		}
		fields = domain.ParseDefinitions(string(b))
	}
	portal := make(map[string]string, len(fields))
	for _, f := range fields {
		portal[f.Name] = f.Value
	}
	phone := appsim.New(appsim.Config{Portal: portal})
	phone.Enter(in)
	if err := phone.SignIn(ctx); err != nil {
		var shown *appsim.Shown
		if errors.As(err, &shown) && ctx.Err() == nil {
			err = fmt.Errorf("%s answered %d; the app shows: %s", shown.Service, shown.Status, shown.Message)
			if shown.Err != nil {
				err = fmt.Errorf("%w; the app shows: %s", shown, shown.Message)
			}
		}
		return exitError{exitFailed, err}
	}
	if err := phone.Refresh(ctx, appsim.Contacts); err != nil {
		return exitError{exitFailed, err}
	}
	last := screen(phone)
	if err := a.printScreen(last); err != nil {
		return err
	}
	for poll > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(poll):
		}
		if err := phone.Tick(ctx); err != nil {
			return exitError{exitFailed, err}
		}
		if now := screen(phone); !slices.EqualFunc(now, last, maps.Equal) {
			if last = now; a.printScreen(last) != nil {
				return nil
			}
		}
	}
	return nil
}

// screen is what the app has: a row for each node of the account without its secrets, quick dial, dial action and contact.
func screen(phone *appsim.App) []map[string]any {
	var rows []map[string]any
	add := func(kind, id, text string) {
		rows = append(rows, map[string]any{"kind": kind, "id": id, "value": text})
	}
	nodes := phone.Nodes()
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if !domain.SecretNode(name) {
			add("account", name, nodes[name])
		}
	}
	for _, q := range phone.QuickDials() {
		text := q.DisplayName + " → " + q.URI
		if q.Priority > appsim.UserPriority {
			text += " (locked)"
		}
		add("quick dial", q.ID, text)
	}
	for _, d := range phone.DialActions() {
		add("dial action", d.ID, fmt.Sprintf("%s, %d rules", d.DisplayName, len(d.Rules)))
	}
	for _, c := range phone.Directory() {
		var entries []string
		for _, e := range c.Entries {
			entries = append(entries, e.URI)
		}
		add("contact", c.ID, c.DisplayName+" → "+strings.Join(entries, ", "))
	}
	return rows
}

func (a *app) printScreen(rows []map[string]any) error {
	return a.printList(rows, []string{"kind", "id", "value"})
}
