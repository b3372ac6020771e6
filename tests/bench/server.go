package main

import (
	"context"
	"os"
	"time"

	"ledgerline/tests/proc"
)

// measured is a server on a directory of its own, and what the disk below can do.
type measured struct {
	*proc.Server
	fsyncs int // bare ones a second
}

// start builds the program, measures the disk, and starts a server there. Whoever starts it ends it.
func start(part string, args ...string) (*measured, error) {
	bin, err := proc.Build()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-"+part+"-")
	if err != nil {
		return nil, err
	}
	m := &measured{}
	if m.fsyncs, err = fsyncLoop(dir, time.Second); err == nil {
		m.Server, err = proc.Launch(bin, dir, args...)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return m, nil
}

func (m *measured) end() {
	m.Kill()
	_ = os.RemoveAll(m.Dir)
}

// until asks again and again until it holds, or ctx ends.
func until(ctx context.Context, every time.Duration, holds func() (bool, error)) error {
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
