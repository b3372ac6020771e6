package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"ledgerline/adapters/ledger"
	"ledgerline/adapters/proof"
	"ledgerline/adapters/views"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// audit measures what an auditor waits for: the chain and the tree of the whole log, one thing as it stood a while
// ago, a proof of one event, and the preview of a change that touches many phones.
func audit(b *bench) error {
	devices := b.scale(100_000)
	l, dir, drop, err := newLedger(b, devices)
	if err != nil {
		return err
	}
	defer drop()
	n := devices*eventsPerDevice + 1
	limit, err := bareScan(l.Path(), n)
	if err != nil {
		return err
	}

	begun := time.Now()
	if _, err := l.Verify(b.ctx, domain.Position{}); err != nil {
		return err
	}
	b.add(fmt.Sprintf("verify the chain of %s events", thousands(n)), perSecond(n, time.Since(begun), "events"), limit, "")
	begun = time.Now()
	if _, err := proof.Verify(b.ctx, l, nil); err != nil {
		return err
	}
	b.add("compute the tree over them", perSecond(n, time.Since(begun), "events"), limit, "")
	if err := proveOne(b, l, devices); err != nil {
		return err
	}
	if err := asOf(b, l, filepath.Join(dir, "views"), devices); err != nil {
		return err
	}
	return preview(b)
}

// proveOne proves an event in the middle of the log under a checkpoint of all of it.
func proveOne(b *bench, l *ledger.Ledger, devices int) error {
	signer, err := proof.NewSigner(make([]byte, 32))
	if err != nil {
		return err
	}
	var edge proof.Edge
	var last domain.Position
	for r, err := range l.ReadAll(b.ctx, domain.Position{}) {
		if err != nil {
			return err
		}
		if proof.IsLeaf(r) {
			edge.Append(domain.LeafHash(r), nil)
			last = r.Position
		}
	}
	signed, err := signer.Sign(&edge, last, time.Now())
	if err != nil {
		return err
	}
	stream := domain.DeviceID(fmt.Sprintf("001565%06x", devices/2)).Stream()
	begun := time.Now()
	if _, err := proof.ProveInclusion(b.ctx, l, signed.Note, func(r domain.Recorded) bool { return r.Stream == stream && r.Revision == 2 }); err != nil {
		return err
	}
	b.add("prove that one of them stands there", fmt.Sprintf("%.1f s", time.Since(begun).Seconds()), "two passes over the log", "")
	return nil
}

// asOf asks for devices as they stood at a time, warm: the position of the time, then the fold of one stream.
func asOf(b *bench, l *ledger.Ledger, dir string, devices int) error {
	store, err := views.Open(b.ctx, views.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer store.Close()
	runner := projections.NewRunner(projections.Options{Log: l, Store: store, Projections: projections.All(), Now: time.Now})
	ctx, stop := context.WithCancel(b.ctx)
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	defer func() { stop(); <-done }()
	head, err := l.Head(ctx)
	if err != nil {
		return err
	}
	if err := runner.WaitFor(ctx, head); err != nil {
		return err
	}
	var took []time.Duration
	for i := range 1000 {
		id := domain.DeviceID(fmt.Sprintf("001565%06x", i*7919%devices))
		begun := time.Now()
		at, err := projections.PositionAt(ctx, store, begun)
		if err != nil {
			return err
		}
		if _, ok, err := projections.DeviceAt(l.Read(ctx, id.Stream(), 0), at); err != nil || !ok {
			return fmt.Errorf("device %s as of %s: %v, %w", id, at, ok, err)
		}
		if i > 0 {
			took = append(took, time.Since(begun))
		}
	}
	slices.Sort(took)
	b.add(fmt.Sprintf("one device as of a time, in %s events: worst (median) of %d", thousands(devices*eventsPerDevice), len(took)),
		fmt.Sprintf("%s (%s)", micros(took[len(took)-1]), micros(took[len(took)/2])), "", "≤ 50 ms warm")
	return nil
}

// preview plans a change of a layer that many phones share.
func preview(b *bench) (err error) {
	f, err := newFleet(b, b.scale(10_000))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	begun := time.Now()
	plan, err := f.Service.DryRun(commands.WithCaller(b.ctx, commands.Caller{Actor: "system:bench"}), func(ctx context.Context, s *commands.Service) error {
		_, err := s.AmendLayer(ctx, commands.AmendLayer{ID: domain.TenantLayer("bench"),
			Settings: domain.Settings{"sip_proxy_ip": "192.0.2.2", "sip_registrar_ip": "192.0.2.2", "timezone": "America/New_York"}})
		return err
	})
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("preview a layer of %s phones: %s events, %s files", thousands(len(f.macs)), thousands(len(plan.Events)), thousands(len(plan.Files)+plan.MoreFiles)),
		fmt.Sprintf("%.1f s", time.Since(begun).Seconds()), "", "≤ 30 s")
	return nil
}
