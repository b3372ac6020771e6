package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"ledgerline/tests/phonesim/users"
)

// playUsers plays innovaphone Users with a user who adds a phone: it prints the code, and then the phone that came by it.
func (a *app) playUsers(ctx context.Context, in users.Config, keyFile string) error {
	if keyFile == "" {
		return usageError("--users needs --users-key-file, the password that `ledgerline tenant set-users-key` set")
	}
	key, err := a.readFile(keyFile)
	if err != nil {
		return err
	}
	in.Password = strings.TrimRight(string(key), "\r\n")
	var ends time.Time
	hwID, err := users.AddPhone(ctx, in, func(code string, until time.Time) {
		ends = until
		if a.output == "table" {
			fmt.Fprintf(a.out, "code %s until %s\n", code, until.Format(time.RFC3339))
			return
		}
		err = a.printValue(map[string]any{"code": code, "valid_until": until.UTC()})
	})
	if err != nil {
		return exitError{exitFailed, err}
	}
	if a.output == "table" {
		_, err = fmt.Fprintf(a.out, "phone %s\n", hwID)
		return err
	}
	return a.printValue(map[string]any{"device": hwID, "valid_until": ends.UTC()})
}
