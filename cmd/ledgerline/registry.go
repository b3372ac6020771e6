package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"ledgerline/adapters/phonehttp"
	"ledgerline/adapters/registry"
	"ledgerline/adapters/updateserver"
	"ledgerline/adapters/updateserver/script"
	"ledgerline/commands"
	"ledgerline/domain"
)

// devicesURL is where phones of a tenant connect to Devices: the address set, or the public URL's.
func (c Config) devicesURL() string {
	if c.DevicesURL != "" {
		return c.DevicesURL
	}
	scheme, rest, ok := strings.Cut(c.publicURL(), "://")
	if !ok {
		return ""
	}
	return map[string]string{"http": "ws", "https": "wss"}[scheme] + "://" + strings.TrimSuffix(rest, "/") + "/{domain}/devices/sysclients"
}

// joinRegistry has the codes drawn by a registry elsewhere, if one is named.
func (e *engine) joinRegistry() error {
	e.service.DevicesURL = e.cfg.devicesURL()
	if e.cfg.RegistryURL == "" {
		return nil
	}
	text, err := secretOf(e.cfg.RegistryKeyFile, "")
	if err != nil {
		return fmt.Errorf("registry-key-file: %w", err)
	}
	seed, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(seed) != ed25519.SeedSize {
		return fmt.Errorf("registry-key-file: %s is no key; make one with: ledgerline registry key FILE", e.cfg.RegistryKeyFile)
	}
	e.service.Registry, err = registry.NewClient(registry.ClientOptions{Base: e.cfg.RegistryURL, Server: domain.ServerID(e.cfg.RegistryServerID), Key: ed25519.NewKeyFromSeed(seed)})
	return err
}

// registry answers phones fresh from the factory, and Devices servers that have their codes drawn here.
func (e *engine) registry() http.Handler {
	return registry.New(registry.Options{Service: e.service, Scripts: script.Answers{FastPoll: 1}, Sightings: e.sightings, Peer: func(ctx context.Context) registry.Peer {
		c := phonehttp.ClientOf(ctx)
		return registry.Peer{IP: c.IP.String(), Private: c.Secure || c.Trusted, Secure: c.Secure, MAC: c.MAC}
	}})
}

// updateServer answers the update clients of innovaphone phones on the phone plane.
func (e *engine) updateServer() (http.Handler, error) {
	o := updateserver.Options{Service: e.service, Base: e.service.PublicURL, Peer: func(ctx context.Context) updateserver.Peer {
		c := phonehttp.ClientOf(ctx)
		return updateserver.Peer{IP: c.IP.String(), Trusted: c.Trusted, Secure: c.Secure, MAC: c.MAC, Name: c.Name}
	}}
	if e.cfg.UpdateFiles != "" {
		root, err := os.OpenRoot(e.cfg.UpdateFiles)
		if err != nil {
			return nil, fmt.Errorf("update-files: %w", err)
		}
		e.onClose(root.Close)
		o.Files = root.FS()
	}
	return updateserver.New(o), nil
}

// noFiles is the phone plane of a listener that has no files.
type noFiles struct{}

func (noFiles) ServeFile(context.Context, commands.ServeFile) (commands.Served, error) {
	return commands.Served{}, commands.ErrNoFile
}
func (noFiles) Delivered(commands.Served)                {}
func (noFiles) CodeOfUser(string) (code string, ok bool) { return "", false }

// registryServers serve the registry's own listeners: the factory URL of a phone has no port. They have the limits of the
// phone plane, and none of its files.
func (e *engine) registryServers(plain, secure net.Listener, trusted, proxies []netip.Prefix, h http.Handler) ([]func(context.Context) error, error) {
	roots, err := pemRoots(e.cfg.PhoneRoots)
	if err != nil {
		return nil, fmt.Errorf("phone-roots: %w", err)
	}
	front, err := phonehttp.New(phonehttp.Options{Files: noFiles{}, TrustedNetworks: trusted, TrustedProxies: proxies, ClientRoots: roots,
		Mounts: []phonehttp.Mount{{Segment: registry.Init, Handler: h}, {Segment: registry.REST, Handler: h}}})
	if err != nil {
		return nil, err
	}
	var servers []func(context.Context) error
	if plain != nil {
		servers = append(servers, func(ctx context.Context) error { return front.Serve(ctx, plain) })
	}
	if secure != nil {
		certs, err := phonehttp.OpenCerts(phonehttp.CertPair{Cert: e.cfg.TLSCert, Key: e.cfg.TLSKey})
		if err != nil {
			return nil, err
		}
		servers = append(servers,
			func(ctx context.Context) error { return front.ServeTLS(ctx, secure, certs) },
			func(ctx context.Context) error { return ignoreCanceled(certs.Watch(ctx)) })
	}
	return servers, nil
}

// checkRegistry refuses settings of the registry that cannot hold together.
func (c *Config) checkRegistry() error {
	var errs []error
	if c.RegistryURL != "" && (c.RegistryServerID == "" || c.RegistryKeyFile == "") {
		errs = append(errs, errors.New("registry-url needs registry-server-id and registry-key-file"))
	}
	if strings.HasPrefix(c.RegistryURL, "http://") {
		if host, err := netip.ParseAddr(hostOf(c.RegistryURL)); err != nil || !host.IsLoopback() && !host.IsPrivate() {
			errs = append(errs, errors.New("registry-url must begin with https://: codes cross the network"))
		}
	}
	if c.RegistryTLS != "" && (c.TLSCert == "" || c.TLSKey == "") {
		errs = append(errs, errors.New("registry-tls needs tls-cert and tls-key"))
	}
	if c.DevicesURL != "" {
		if err := domain.CheckDevicesURL(strings.ReplaceAll(c.DevicesURL, "{domain}", "example.com")); err != nil {
			errs = append(errs, fmt.Errorf("devices-url %w", err))
		}
	}
	return errors.Join(errs...)
}

// hostOf is the host of a URL without its port.
func hostOf(text string) string {
	_, rest, _ := strings.Cut(text, "://")
	rest, _, _ = strings.Cut(rest, "/")
	if host, _, err := net.SplitHostPort(rest); err == nil {
		return host
	}
	return strings.Trim(rest, "[]")
}

// registryCmd is what an operator of a registry, and one of a Devices server that uses it, do.
func (a *app) registryCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "registry", Short: "innovaphone's registry: Devices servers whose codes are drawn here"}
	cmd.AddCommand(a.nounCmd(noun{name: "server", path: "/registry-servers", short: "Devices servers elsewhere", columns: []string{"id", "name", "public_key", "state"}, filters: []string{"text"},
		create:     []field{{"id", "text", "id to use instead of a new one"}, {"name", "text", "what it is"}, {"public_key", "text", "its key, as ledgerline registry key prints it"}},
		amend:      []field{{"name", "text", "what it is"}, {"public_key", "text", "its key"}},
		createVerb: "add", deleteVerb: "remove", history: true}))
	key := &cobra.Command{Use: "key FILE", Short: "Make the key a Devices server signs its requests with, and print its public half", Args: cobra.ExactArgs(1),
		Long: "Writes a new private key to FILE (0600), for registry-key-file of the Devices server, and prints the public key that the registry's operator\nregisters with: ledgerline registry server add --public-key KEY. A FILE that exists is left, and its public key printed."}
	key.RunE = func(_ *cobra.Command, args []string) error {
		text, err := secretOf(args[0], "")
		if errors.Is(err, os.ErrNotExist) {
			var seed [ed25519.SeedSize]byte
			_, _ = rand.Read(seed[:]) // never fails
			text = base64.StdEncoding.EncodeToString(seed[:])
			err = renameio.WriteFile(args[0], []byte(text+"\n"), 0o600)
		}
		if err != nil {
			return err
		}
		seed, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(seed) != ed25519.SeedSize {
			return fmt.Errorf("%s is no key", args[0])
		}
		public, _ := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
		fmt.Fprintln(a.out, base64.StdEncoding.EncodeToString(public))
		return nil
	}
	cmd.AddCommand(key)
	return cmd
}
