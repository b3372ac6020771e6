package phonehttp

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"ledgerline/commands"
)

// cached answers at once, as the service does for a file at hand.
type cached struct{ v commands.Served }

func (c cached) ServeFile(context.Context, commands.ServeFile) (commands.Served, error) {
	return c.v, nil
}
func (cached) Delivered(commands.Served)        {}
func (cached) CodeOfUser(string) (string, bool) { return "", false }

// BenchmarkGet reads a file of 8 KiB, over kept connections and over new ones, beside a plain net/http
// handler that serves the same bytes.
func BenchmarkGet(b *testing.B) {
	v := file("001565a1b2c3.cfg", strings.Repeat("0123456789abcde\n", 512))
	plain := func(b *testing.B) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			http.ServeContent(w, r, "", changed, bytes.NewReader(v.Data))
		})}
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(l) }()
		b.Cleanup(func() { server.Close(); <-done })
		return l.Addr().String()
	}
	ours := func(b *testing.B) string { _, addr := start(b, Options{Files: cached{v}}); return addr }
	for _, kind := range []struct {
		name string
		new  bool
	}{{"keepalive", false}, {"newconn", true}} {
		for _, server := range []struct {
			name  string
			start func(*testing.B) string
		}{{"ours", ours}, {"plain", plain}} {
			b.Run(kind.name+"/"+server.name, func(b *testing.B) {
				addr := server.start(b)
				begin := time.Now()
				b.RunParallel(func(pb *testing.PB) {
					c := client(b)
					c.Transport.(*http.Transport).DisableKeepAlives = kind.new
					for pb.Next() {
						resp, err := c.Get("http://" + addr + "/001565a1b2c3.cfg")
						if err != nil {
							b.Error(err)
							return
						}
						if n, err := io.Copy(io.Discard, resp.Body); err != nil || int(n) != len(v.Data) {
							b.Error(n, err)
						}
						resp.Body.Close()
					}
				})
				b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "gets/s")
			})
		}
	}
}
