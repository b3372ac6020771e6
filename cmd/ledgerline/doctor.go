package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ledgerline/adapters/ledger"
	"ledgerline/adapters/vault"
	"ledgerline/domain"
)

// configCmd shows what the settings come to.
func (a *app) configCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "The server's settings"}
	show := &cobra.Command{Use: "show", Short: "Print every setting as it would be used; fails on a wrong one", Args: cobra.NoArgs}
	(&Config{}).flags(show.Flags())
	show.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(cmd.Flags(), a.getenv)
		if err != nil {
			return exitError{exitUsage, err}
		}
		return a.printValue(cfg.values())
	}
	cmd.AddCommand(show)
	return cmd
}

// finding is one thing doctor looked at.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"` // ok, warn, fail
	Text   string `json:"text"`
}

// doctor gathers findings.
type doctor struct {
	findings []finding
}

func (d *doctor) say(check, result, format string, args ...any) {
	d.findings = append(d.findings, finding{check, result, fmt.Sprintf(format, args...)})
}

// doctorCmd looks for what would go wrong.
func (a *app) doctorCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "doctor", Short: "Look for what is wrong, or will be: settings, disk, clock, ledger, vault, certificates, listeners", Args: cobra.NoArgs}
	(&Config{}).flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(cmd.Flags(), a.getenv)
		if err != nil {
			return exitError{exitUsage, err}
		}
		d := examine(cmd.Context(), cfg)
		items := make([]map[string]any, len(d.findings))
		failed := 0
		for i, f := range d.findings {
			items[i] = map[string]any{"check": f.Check, "result": f.Result, "text": f.Text}
			if f.Result == "fail" {
				failed++
			}
		}
		if err := a.printList(items, []string{"result", "check", "text"}); err != nil {
			return err
		}
		if failed > 0 {
			return exitError{code: exitFailed}
		}
		return nil
	}
	return cmd
}

func examine(ctx context.Context, cfg Config) *doctor {
	d := &doctor{}
	running := d.server(ctx, cfg)
	d.data(cfg)
	if cfg.remote() {
		d.stores(ctx, cfg)
	} else {
		d.ledger(ctx, cfg)
		d.vault(ctx, cfg)
	}
	d.listeners(cfg, running)
	d.certificate(cfg)
	d.exposure(cfg)
	return d
}

// server asks the operations listener whether a server is up and ready.
func (d *doctor) server(ctx context.Context, cfg Config) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+cfg.Ops+"/readyz", nil)
	if err != nil {
		d.say("server", "fail", "ops listener %q: %v", cfg.Ops, err)
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.say("server", "ok", "no server is running on %s", cfg.Ops)
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		d.say("server", "fail", "a server is running but not ready: %s", resp.Status)
	} else {
		d.say("server", "ok", "a server is running and ready")
	}
	return true
}

func (d *doctor) data(cfg Config) {
	info, err := os.Stat(cfg.Data)
	if errors.Is(err, fs.ErrNotExist) {
		d.say("data", "ok", "%s does not exist yet; the first start makes it", cfg.Data)
		return
	}
	if err != nil {
		d.say("data", "fail", "%v", err)
		return
	}
	if info.Mode().Perm()&0o077 != 0 {
		d.say("data", "warn", "%s can be read by others: chmod 700 %s", cfg.Data, cfg.Data)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(cfg.Data, &st); err == nil {
		free := uint64(st.Bavail) * uint64(st.Bsize) >> 20
		result := "ok"
		if free < 1024 {
			result = "warn"
		}
		if free < 100 {
			result = "fail"
		}
		d.say("disk", result, "%d MiB free for %s", free, cfg.Data)
	}
	for _, name := range []string{"admin.token", "master.key"} {
		if info, err := os.Stat(filepath.Join(cfg.Data, name)); err == nil && info.Mode().Perm()&0o077 != 0 {
			d.say("data", "fail", "%s can be read by others: chmod 600 %s", name, filepath.Join(cfg.Data, name))
		}
	}
	if _, err := os.Stat(filepath.Join(cfg.Data, "admin.token")); err == nil {
		d.say("credentials", "warn", "admin.token is still there: keep it elsewhere, or issue named keys and revoke apikey \"bootstrap\"")
	}
}

func (d *doctor) ledger(ctx context.Context, cfg Config) {
	l, err := ledger.Open(ctx, ledger.Options{Dir: cfg.Data, ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		d.say("ledger", "ok", "there is none yet")
		return
	}
	if err != nil {
		d.say("ledger", "fail", "%v", err)
		return
	}
	defer l.Close()
	head, err := l.Head(ctx)
	if err != nil {
		d.say("ledger", "fail", "%v", err)
		return
	}
	d.say("ledger", "ok", "opens; %s events; run audit verify for the whole chain", head)
	if head.IsZero() {
		return
	}
	for r, err := range l.ReadAll(ctx, domain.At(head.Commit-1)) {
		if err != nil {
			d.say("clock", "warn", "the last event cannot be read: %v", err)
			return
		}
		m, err := r.Meta()
		if err == nil && m.RecordedAt.After(time.Now().Add(time.Minute)) {
			d.say("clock", "fail", "the last event was recorded at %s, which is in the future: is this clock wrong?", m.RecordedAt.Format(time.RFC3339))
			return
		}
	}
	d.say("clock", "ok", "not behind the last event")
}

func (d *doctor) vault(ctx context.Context, cfg Config) {
	report, err := vault.Check(ctx, vault.Options{Dir: cfg.Data, MasterKeyFile: cfg.MasterKeyFile})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.say("vault", "ok", "there is none yet")
	case err != nil:
		d.say("vault", "fail", "%v", err)
	case report.Bad > 0:
		d.say("vault", "fail", "%d of %d keys do not open", report.Bad, report.Live+report.Bad)
	default:
		d.say("vault", "ok", "%d keys open, %d destroyed", report.Live, report.Destroyed)
	}
	if cfg.MasterKeyFile == "" {
		d.say("master key", "warn", "stands beside the data it protects; keep a copy elsewhere, better name one with --master-key-file")
	}
}

// listeners tries to take the addresses, unless a server holds them.
func (d *doctor) listeners(cfg Config, running bool) {
	if running {
		return
	}
	for _, l := range [][2]string{{"admin", cfg.Admin}, {"phones", cfg.Phones}, {"phones-tls", cfg.PhonesTLS}, {"ops", cfg.Ops}} {
		name, addr := l[0], l[1]
		if addr == "" {
			continue
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			d.say("listener "+name, "fail", "%v", err)
			continue
		}
		_ = ln.Close()
		d.say("listener "+name, "ok", "%s is free", addr)
	}
	if cfg.TFTP != "" {
		pc, err := net.ListenPacket("udp", cfg.TFTP)
		if err != nil {
			d.say("listener tftp", "fail", "%v", err)
			return
		}
		_ = pc.Close()
		d.say("listener tftp", "ok", "%s is free", cfg.TFTP)
	}
}

func (d *doctor) certificate(cfg Config) {
	if cfg.TLSCert == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		d.say("certificate", "fail", "%v", err)
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		d.say("certificate", "fail", "%v", err)
		return
	}
	left := time.Until(leaf.NotAfter).Round(time.Hour)
	switch {
	case left <= 0:
		d.say("certificate", "fail", "expired on %s", leaf.NotAfter.Format(time.DateOnly))
	case left < 21*24*time.Hour:
		d.say("certificate", "warn", "expires in %s", left)
	default:
		d.say("certificate", "ok", "valid until %s", leaf.NotAfter.Format(time.DateOnly))
	}
	if len(pair.Certificate) < 2 {
		d.say("certificate", "warn", "the file holds no intermediate certificate; old phones need the whole chain")
	}
	if u, err := url.Parse(cfg.PublicURL); err == nil && u.Scheme == "https" {
		if err := leaf.VerifyHostname(u.Hostname()); err != nil {
			d.say("certificate", "fail", "%v", err)
		}
	}
}

// exposure warns of what a network can read along the way.
func (d *doctor) exposure(cfg Config) {
	networks, err := prefixes(cfg.TrustedNetworks)
	if err != nil {
		d.say("trust", "fail", "%v", err)
		return
	}
	for _, p := range networks {
		if !p.Addr().IsPrivate() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			d.say("trust", "warn", "%s is a public network: anybody there can fetch a phone's file by its MAC, and secrets go there without TLS", p)
		}
		if p.Bits() == 0 {
			d.say("trust", "fail", "%s trusts the whole world", p)
		}
	}
	if strings.HasPrefix(cfg.publicURL(), "http://") {
		d.say("transport", "warn", "phones come back to %s without TLS: SIP passwords cross your network in clear", cfg.publicURL())
	}
	if u, err := url.Parse(cfg.publicURL()); err == nil {
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			if _, err := net.LookupHost(u.Hostname()); err != nil {
				d.say("public-url", "fail", "%v", err)
			}
		}
	}
}
