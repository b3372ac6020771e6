// Command bench measures the engine and prints one table, each figure beside its limit taken in the same
// run: a bare fsync loop, a bare scan of the SQLite table, a plain net/http or TFTP server with the same
// bytes. Nothing here asserts; docs/benchmarks.md keeps what was seen.
//
//	go run ./tests/bench [-quick] [-only NAME,…]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one line of the table.
type row struct {
	what, figure, limit, aim string
}

// bench is one run.
type bench struct {
	ctx   context.Context
	quick bool
	rows  []row
}

// add adds a line; limit and aim may be empty.
func (b *bench) add(what, figure, limit, aim string) {
	b.rows = append(b.rows, row{what, figure, limit, aim})
	fmt.Fprintf(os.Stderr, "%-58s %s\n", what, figure)
}

// scale is n, or a tenth of it in a quick run.
func (b *bench) scale(n int) int {
	if b.quick {
		return max(1, n/10)
	}
	return n
}

// perSecond is a rate in words.
func perSecond(n int, d time.Duration, unit string) string {
	return fmt.Sprintf("%s %s/s", thousands(int(float64(n)/d.Seconds())), unit)
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func micros(d time.Duration) string {
	if d >= 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%.3f ms", float64(d.Nanoseconds())/1e6)
}

func main() {
	if size, err := strconv.Atoi(os.Getenv(floorEnv)); err == nil {
		fmt.Fprintln(os.Stderr, "bench:", plainHandler(size))
		os.Exit(1)
	}
	quick := flag.Bool("quick", false, "a tenth of the work, for trying out")
	only := flag.String("only", "", "parts to run: appends, adapter, views, serving, tftp, sweep, commands, audit, provd, softphone, sysclient, rollout, size")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{ctx: ctx, quick: *quick}
	for _, part := range []struct {
		name string
		run  func(*bench) error
	}{
		{"appends", appends}, {"adapter", adapter}, {"views", rebuild}, {"serving", serving}, {"tftp", tftpReads}, {"sweep", sweepUnderFetches},
		{"commands", commandRate}, {"audit", audit}, {"provd", provdBench}, {"softphone", softphones}, {"sysclient", sysclients}, {"rollout", rollouts}, {"size", size},
	} {
		if *only != "" && !strings.Contains(","+*only+",", ","+part.name+",") {
			continue
		}
		runtime.GC()
		if err := part.run(b); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", part.name, err)
			os.Exit(1)
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tFIGURE\tLIMIT IN THE SAME RUN\tAIM")
	for _, r := range b.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.what, r.figure, r.limit, r.aim)
	}
	_ = w.Flush()
	fmt.Printf("\n%s, %d processors, %s/%s, %s\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
