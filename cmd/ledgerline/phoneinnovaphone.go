package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"ledgerline/domain"
	"ledgerline/tests/phonesim/innovaphone"
)

const innovaphoneVendor = "innovaphone"

// innovaphoneWait is how long a phone that nobody keeps on has to be let in.
const innovaphoneWait = 2 * time.Minute

// innovaphones are what --vendor innovaphone plays.
type innovaphones struct {
	model, build, url, code string
	macs                    []domain.MAC
	poll                    time.Duration
}

// innovaphoneMACs are n addresses of the vendor's, other ones for another seed.
func innovaphoneMACs(n int, seed uint64) []domain.MAC {
	macs := make([]domain.MAC, n)
	for i := range macs {
		macs[i] = domain.MAC(fmt.Sprintf("009033%06x", (seed*7919+uint64(i))%(1<<24)))
	}
	return macs
}

// playInnovaphones switches the phones on. A code that a form asks for is the one of --code, else the next line of
// standard input. Without --poll each ends when Devices has let it in, or after two minutes.
func (a *app) playInnovaphones(ctx context.Context, in innovaphones) error {
	var typing sync.Mutex
	direct := strings.HasPrefix(in.url, "ws")
	typed, lines := in.code, bufio.NewScanner(a.in)
	enter := func() string {
		typing.Lock()
		defer typing.Unlock()
		code := typed
		if typed = ""; code == "" && in.code == "" && !direct && lines.Scan() {
			code = strings.TrimSpace(lines.Text())
		}
		return code
	}
	var wg sync.WaitGroup
	results := make([]simulated, len(in.macs))
	var mu sync.Mutex
	for i, mac := range in.macs {
		c := innovaphone.Config{MAC: mac, Model: in.model, Firmware: in.build, BootCode: in.build, EnterCode: enter, Poll: in.poll}
		if direct {
			c.DevicesURL, c.Code = in.url, enter() // there is no form on this way
		} else {
			c.UpdateURL = in.url
		}
		if in.poll == 0 {
			c.Poll = 2 * time.Second
		}
		on, off := context.WithCancel(ctx)
		if in.poll == 0 {
			on, off = context.WithTimeout(ctx, innovaphoneWait)
		}
		r := &results[i]
		*r = simulated{MAC: string(mac), Vendor: innovaphoneVendor, Model: in.model, Transport: "sysclient", State: "waiting", Files: []simulatedFile{}}
		c.Step = func(step, detail string) {
			mu.Lock()
			defer mu.Unlock()
			if len(in.macs) == 1 && a.output == "table" {
				fmt.Fprintln(a.errOut, strings.TrimSpace(time.Now().Format(time.TimeOnly)+" "+step+" "+detail))
			}
			switch step {
			case innovaphone.StepPassword, innovaphone.StepChallenge:
				r.State = "provisioned"
				if in.poll == 0 {
					time.AfterFunc(time.Second, off) // what else it is told comes at once
				}
			case innovaphone.StepFailed:
				r.Error = detail
			}
		}
		p, err := innovaphone.New(c)
		if err != nil {
			off()
			return usageError("%w", err)
		}
		wg.Go(func() { defer off(); p.Run(on) })
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	failed := 0
	for i := range results {
		if results[i].State == "provisioned" {
			results[i].Error = ""
			continue
		}
		failed++
	}
	if err := a.printPhones(results); err != nil {
		return err
	}
	if failed > 0 && !errors.Is(ctx.Err(), context.Canceled) {
		return exitError{exitFailed, fmt.Errorf("%d of %d phones were not let in", failed, len(results))}
	}
	return nil
}
