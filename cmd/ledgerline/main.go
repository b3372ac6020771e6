// Command ledgerline provisions telephones and keeps the whole story: one binary with the server
// (serve), its client (tenant, code, device …), tools that work on a data directory (audit, backup, key)
// and simulated phones (phone, demo).
//
// This package only wires: stores, service, projections, reactor, servers, in that order, and down again
// in the other. No rule lives here.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // hours in a tenant's time zone, on machines without a zone database
)

// version is set by the linker.
var version = "dev"

// Exit codes, part of the program's interface.
const (
	exitOK       = 0
	exitFailed   = 1 // the command was understood and failed
	exitUsage    = 2 // the command line or a setting is wrong
	exitNotFound = 3 // the noun named does not exist
	exitDenied   = 4 // no credentials, or not enough
	exitConflict = 5 // a rule says no, or somebody was faster
	exitDamaged  = 6 // verification found damage
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() { // a second signal ends the program at once
		<-ctx.Done()
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program; tests call it.
func run(ctx context.Context, args []string, getenv func(string) string, in io.Reader, out, errOut io.Writer) int {
	app := &app{getenv: getenv, in: in, out: out, errOut: errOut}
	root := app.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !app.begun {
		fmt.Fprintf(errOut, "ledgerline: %v\nusage: %s\n", err, usageLine(cmd))
		return exitUsage
	}
	var coded exitError
	if errors.As(err, &coded) {
		if coded.err != nil {
			fmt.Fprintln(errOut, "ledgerline:", coded.err)
		}
		return coded.code
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		fmt.Fprintln(errOut, "ledgerline: interrupted")
		return exitFailed
	}
	fmt.Fprintln(errOut, "ledgerline:", err)
	return exitFailed
}

// exitError is an error with an exit code of its own; a nil err has been printed already.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return exitError{exitUsage, fmt.Errorf(format, args...)}
}
