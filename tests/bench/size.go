package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"ledgerline/adapters/ledger"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/proc"
	"ledgerline/tests/rig"
)

// commandRate: whole commands, load to durable append, one after the other and 64 at once.
func commandRate(b *bench) (err error) {
	dir, err := os.MkdirTemp("", "bench-commands-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fsyncs, err := fsyncLoop(dir, time.Second)
	if err != nil {
		return err
	}
	r, err := rig.Open(b.ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.Start(b.ctx); err != nil {
		return err
	}
	ctx := commands.WithCaller(b.ctx, commands.Caller{Actor: "system:bench", IP: "192.0.2.7", Listener: "admin"})
	if _, _, err := r.Service.CreateTenant(ctx, commands.CreateTenant{ID: "bench", Name: "Bench"}); err != nil {
		return err
	}
	for _, workers := range []int{1, 64} {
		n := b.scale(1000)
		if workers > 1 {
			n = b.scale(20_000)
		}
		begun := time.Now()
		var g errgroup.Group
		g.SetLimit(workers)
		for i := range n {
			g.Go(func() error {
				_, _, err := r.Service.DefineLine(ctx, commands.DefineLine{ID: domain.LineID(fmt.Sprintf("l%d.%d", workers, i)), TenantID: "bench", Number: "201", Username: "u201", Password: "secret"})
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		b.add(fmt.Sprintf("commands end to end (new line, sealed, new key), %d at once", workers), perSecond(n, time.Since(begun), "commands"), thousands(fsyncs)+" bare fsyncs/s", "")
	}
	return nil
}

// size: a server on 100,000 devices (1,000,000 events): start with and without views, memory at rest.
func size(b *bench) error {
	bin, err := proc.Build()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-size-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	devices := b.scale(100_000)
	if err := fill(b.ctx, dir, devices); err != nil {
		return err
	}
	for _, how := range []string{"views rebuilt", "views at hand"} {
		s, err := proc.Launch(bin, dir, "--reactor-from", "head")
		if err != nil {
			return err
		}
		rss, peak, err := memory(s.PID())
		s.Kill()
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("start with %s events, %s", thousands(devices*eventsPerDevice), how), fmt.Sprintf("%.2f s until ready", s.Ready.Seconds()), "", "")
		b.add(fmt.Sprintf("memory with %s devices, %s", thousands(devices), how), fmt.Sprintf("%d MiB RSS (peak %d)", rss>>10, peak>>10), "", "≤ 512 MiB")
	}
	return nil
}

func fill(ctx context.Context, dir string, devices int) (err error) {
	l, err := ledger.Open(ctx, ledger.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return seed(ctx, l, devices)
}

// memory is a process's resident set and its peak, in KiB.
func memory(pid int) (rss, peak int, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		var n int
		if key == "VmRSS" || key == "VmHWM" {
			if _, err := fmt.Sscanf(strings.TrimSpace(value), "%d", &n); err != nil {
				return 0, 0, err
			}
		}
		switch key {
		case "VmRSS":
			rss = n
		case "VmHWM":
			peak = n
		}
	}
	return rss, peak, lines.Err()
}
