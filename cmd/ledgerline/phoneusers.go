package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"ledgerline/domain"
	"ledgerline/tests/phonesim/users"
)

// usersPlay is what --users plays.
type usersPlay struct {
	users.Config
	keyFile string
	// provision has phone provisioned, whose password is in passwordFile; without it a user adds a phone.
	provision    bool
	phone        users.Phone
	passwordFile string
}

// playUsers plays innovaphone Users: with a user who adds a phone, it prints the code, and then the phone that came by it; with
// an administrator who has a phone of another make provisioned, that it is.
func (a *app) playUsers(ctx context.Context, in usersPlay) error {
	if in.keyFile == "" {
		return usageError("--users needs --users-key-file, the password that `ledgerline tenant set-users-key` set")
	}
	key, err := a.readFile(in.keyFile)
	if err != nil {
		return err
	}
	in.Password = strings.TrimRight(string(key), "\r\n")
	if in.provision {
		return a.provisionByUsers(ctx, in)
	}
	var ends time.Time
	hwID, err := users.AddPhone(ctx, in.Config, func(code string, until time.Time) {
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

// provisionByUsers is the administrator's part.
func (a *app) provisionByUsers(ctx context.Context, in usersPlay) error {
	mac, err := domain.ParseMAC(in.phone.MAC)
	switch {
	case err != nil:
		return usageError("--provision needs --mac, that of the phone: %w", err)
	case in.phone.Username == "" || in.passwordFile == "":
		return usageError("--provision needs --username and --password-file, the account at the telephone system")
	case in.passwordFile == "-" && in.keyFile == "-":
		return usageError("--users-key-file and --password-file cannot both be standard input")
	}
	password, err := a.readFile(in.passwordFile)
	if err != nil {
		return err
	}
	in.phone.MAC, in.phone.Password = string(mac), strings.TrimRight(string(password), "\r\n")
	if err := users.ProvisionPhone(ctx, in.Config, in.phone); err != nil {
		return exitError{exitFailed, err}
	}
	if a.output == "table" {
		_, err = fmt.Fprintf(a.out, "phone %s is provisioned for %s\n", mac, in.phone.Username)
		return err
	}
	return a.printValue(map[string]any{"device": mac, "username": in.phone.Username})
}
