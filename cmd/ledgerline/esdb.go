package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"ledgerline/adapters/esdbserver"
	"ledgerline/adapters/ledger"
	"ledgerline/adapters/phonehttp"
)

// esdbFace says how the ledger is shown as an EventStoreDB server.
type esdbFace struct {
	data, users, cert, key string // users: empty for esdb.users in data
	advertise              string // host:port; empty for the address clients came to
	prefix                 string // of the settings' names in errors
	write                  bool
}

func (c Config) esdb() esdbFace {
	return esdbFace{prefix: "esdb-", data: c.Data, users: c.ESDBUsersFile, cert: c.ESDBTLSCert, key: c.ESDBTLSKey, advertise: c.ESDBAdvertise, write: c.ESDBWrite}
}

// Files of the EventStoreDB face in the data directory.
const (
	usersFile    = "esdb.users"    // name:bcrypt, a line each, as htpasswd -B writes them
	passwordFile = "esdb.password" // the user made on the first start, name:password
)

// firstUser is made with the users file where there is none.
const firstUser = "auditor"

// check refuses to show the log in clear text to other machines.
func (f esdbFace) check(addr string) error {
	if _, _, err := net.SplitHostPort(f.advertise); f.advertise != "" && err != nil {
		return fmt.Errorf("%sadvertise: %w", f.prefix, err)
	}
	if (f.cert == "") != (f.key == "") {
		return fmt.Errorf("%[1]stls-cert and %[1]stls-key go together", f.prefix)
	}
	if f.cert != "" {
		return nil
	}
	if f.users != "" {
		return fmt.Errorf("%[1]susers-file needs %[1]stls-cert and %[1]stls-key: clients send passwords over TLS only", f.prefix)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%slisten: %w", f.prefix, err)
	}
	if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
		return fmt.Errorf("%[1]slisten %[2]s needs %[1]stls-cert and %[1]stls-key: without them only a loopback address is taken, where everybody on this machine may come in", f.prefix, addr)
	}
	return nil
}

// serveESDB serves on ln until ctx ends.
func serveESDB(ctx context.Context, server *esdbserver.Server, ln net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		return errors.Join(err, server.Close())
	case <-ctx.Done():
		return errors.Join(server.Close(), <-served)
	}
}

// open makes the server over l.
func (f esdbFace) open(ctx context.Context, l *ledger.Ledger) (*esdbserver.Server, error) {
	o := esdbserver.Options{Log: l.Whole(), Write: f.write, Advertise: f.advertise}
	if f.cert != "" {
		certs, err := phonehttp.OpenCerts(phonehttp.CertPair{Cert: f.cert, Key: f.key})
		if err != nil {
			return nil, fmt.Errorf("TLS of the EventStoreDB face: %w", err)
		}
		go func() { _ = certs.Watch(ctx) }() // ends with ctx
		o.TLS = &tls.Config{GetCertificate: certs.GetCertificate, MinVersion: tls.VersionTLS12}
		if o.Users, err = f.readUsers(ctx); err != nil {
			return nil, err
		}
	}
	server, err := esdbserver.New(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("EventStoreDB face: %w", err)
	}
	return server, nil
}

// readUsers reads who may come in. The file in the data directory is made on the first start, with one
// user whose password is told once, in a file beside it.
func (f esdbFace) readUsers(ctx context.Context) ([]esdbserver.User, error) {
	path := f.users
	if path == "" {
		path = filepath.Join(f.data, usersFile)
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && f.users == "" {
		password := rand.Text()
		hash, err := esdbserver.HashPassword(password)
		if err != nil {
			return nil, fmt.Errorf("make a user of the EventStoreDB face: %w", err)
		}
		b = []byte(firstUser + ":" + hash + "\n")
		told := filepath.Join(f.data, passwordFile)
		// The password first: a crash in between makes another one at the next start.
		if err := errors.Join(renameio.WriteFile(told, []byte(firstUser+":"+password+"\n"), 0o600), renameio.WriteFile(path, b, 0o600)); err != nil {
			return nil, fmt.Errorf("make a user of the EventStoreDB face: %w", err)
		}
		zerolog.Ctx(ctx).Warn().Str("file", told).Str("users", path).Msg("made a user of the EventStoreDB face on this first start")
	} else if err != nil {
		return nil, fmt.Errorf("read the users of the EventStoreDB face: %w", err)
	}
	var users []esdbserver.User
	for n, line := range strings.Split(string(b), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, hash, _ := strings.Cut(line, ":")
		if name == "" || esdbserver.CheckHash(hash) != nil {
			return nil, fmt.Errorf("%s, line %d: want name:hash with a bcrypt hash, as htpasswd -nB NAME prints it", path, n+1)
		}
		users = append(users, esdbserver.User{Name: name, Hash: hash})
	}
	if len(users) == 0 {
		return nil, fmt.Errorf("%s names no user", path)
	}
	return users, nil
}

// esdbCmd shows a ledger without the engine.
func (a *app) esdbCmd() *cobra.Command {
	var f esdbFace
	var listen, format string
	cmd := &cobra.Command{Use: "esdb", Short: "Serve a ledger over the EventStoreDB protocol, without the engine", Args: cobra.NoArgs,
		Long: "Serves the ledger in a data directory to EventStoreDB clients, and does nothing else: the event store of several replicas on one\n" +
			"machine (serve --store esdb://…), or a look at a copy. Without --write clients only read. A running server shows its own ledger\n" +
			"with serve --esdb-listen."}
	flags := cmd.Flags()
	flags.StringVar(&f.data, "data", "./data", "directory of the ledger; made if missing and --write is given")
	flags.StringVar(&listen, "listen", "127.0.0.1:2113", "address to listen on; other than loopback needs TLS")
	flags.BoolVar(&f.write, "write", false, "let clients append; what is recorded of phones and tenants can never be deleted by them")
	flags.StringVar(&f.advertise, "advertise", "", "host:port that discovering clients are told; default the address they came to")
	flags.StringVar(&f.users, "users-file", "", "file of users, name:bcrypt a line; default esdb.users in the data directory, made on the first start with TLS")
	flags.StringVar(&f.cert, "tls-cert", "", "certificate chain (PEM, reloaded when it changes)")
	flags.StringVar(&f.key, "tls-key", "", "private key (PEM, reloaded when it changes)")
	flags.StringVar(&format, "log-format", "auto", "json, console, or auto: console on a terminal")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		logger, err := a.logger(Config{LogLevel: "info", LogFormat: format})
		if err == nil {
			err = f.check(listen)
		}
		if err != nil {
			return exitError{exitUsage, err}
		}
		ctx := logger.WithContext(cmd.Context())
		ln, err := net.Listen("tcp", listen)
		if err != nil {
			return fmt.Errorf("listen for EventStoreDB clients: %w", err)
		}
		defer ln.Close()
		l, err := ledger.Open(ctx, ledger.Options{Dir: f.data, ReadOnly: !f.write})
		if errors.Is(err, fs.ErrNotExist) {
			return exitError{exitNotFound, fmt.Errorf("there is no ledger in %s (see --data)", f.data)}
		}
		if err != nil {
			return damaged(fmt.Errorf("open the ledger: %w", err))
		}
		server, err := f.open(ctx, l)
		if err == nil {
			logger.Info().Str("esdb", ln.Addr().String()).Bool("write", f.write).Str("version", version).Msg("ready")
			err = serveESDB(ctx, server, ln)
		}
		return errors.Join(err, l.Close())
	}
	return cmd
}
