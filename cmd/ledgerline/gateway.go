package main

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ledgerline/adapters/mbg"
	"ledgerline/adapters/mbg/simulator"
	"ledgerline/adapters/mbg/wire"
	"ledgerline/adapters/webhook"
	"ledgerline/domain"
)

var gatewayFields = []field{{"name", "text", "name shown"}, {"address", "text", "URL of its web services: https://192.0.2.10"},
	{"source_addresses", "list", "addresses that requests of phones behind it come from"}, {"external_address", "text", "SIP server of phones behind it"},
	{"external_port", "int", "its port, if not the usual one"}, {"release", "text", "release of its software: 11.5 SP1"}, {"ca", "file", "PEM file with the CA of its certificate"},
	{"pins", "list", "SHA-256 of its public key, base64 or hex"}, {"adopt", "text", "SIP users made by hand: overwrite (default) or ask"},
	{"off", "text", "SIP users whose flag is cleared: delete (default) or disable"}, {"auto_renew", "bool", "renew the token where the mapping says how"},
	{"resolve_names", "bool", "let an ICP configured by name match by its addresses"}}

var gatewayNouns = []noun{
	{name: "gateway", path: "/gateways", short: "Border gateways (Mitel MBG), and a simulated one", columns: []string{"id", "tenant_id", "name", "address", "enabled", "stopped", "state"},
		filters: []string{"tenant", "text"}, createVerb: "register", deleteVerb: "remove", amend: gatewayFields, history: true,
		create: append([]field{{"id", "text", "id to use instead of a new one; without dots"}, {"tenant_id", "text", "tenant; master for the lines of every tenant"}}, gatewayFields...)},
}

// gatewayVerbs are what a gateway can do beyond the common verbs.
func (a *app) gatewayVerbs() []*cobra.Command {
	at := func(tail string) func([]string) string {
		return func(args []string) string { return "/gateways/" + url.PathEscape(args[0]) + tail }
	}
	turn := func(verb, short, to string) *cobra.Command {
		return &cobra.Command{Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return a.send(cmd, http.MethodPost, at("/switch")(args), map[string]any{"to": to})
		}}
	}
	mapping := &cobra.Command{Use: "mapping", Short: "Mapping files: how a gateway's web services are spoken to"}
	mapping.AddCommand(a.mappingCheckCmd(), &cobra.Command{Use: "show", Short: "Print the generic mapping, to begin one's own from", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		_, err := io.WriteString(a.out, wire.Generic)
		return err
	}})
	reconcile := a.action("reconcile ID", "Compare everything on it with what is wanted, and repair it", http.MethodPost, 1,
		[]field{{"plan_only", "bool", "show the differences, change nothing"}, {"confirm", "bool", "repair although more than a fifth is missing"}}, at("/reconcile"))
	node := a.action("add-node ID NODE", "Describe a phone system behind it, whole", http.MethodPut, 2, []field{{"name", "text", "name shown"},
		{"internal_address", "text", "IP address, the same as of its ICP on the gateway"}, {"external_address", "text", "SIP server of its phones, if not the gateway's"},
		{"external_port", "int", "and port"}, {"type", "text", "mivo250, ct_gateway or other"}, {"release", "text", "release of its software: 6.3 SP1"}, {"icp", "text", "id of its ICP, if several have the address"}},
		func(args []string) string { return at("/nodes/")(args) + url.PathEscape(args[1]) })
	dropNode := a.action("drop-node ID NODE", "Take a phone system away from it", http.MethodDelete, 2, nil, func(args []string) string { return at("/nodes/")(args) + url.PathEscape(args[1]) })
	return []*cobra.Command{a.consumerCmd(), a.selectMappingCmd(), mapping, node, dropNode,
		a.action("request-token ID", "Ask it for a temporary token; its administrator then reads the verifier", http.MethodPost, 1, nil, at("/token/request")),
		a.verifyCmd(), a.renewedCmd(), a.gatewayStatusCmd(), a.selfTestCmd(), reconcile,
		turn("enable", "Switch the push on", "enabled"), turn("disable", "Switch the push off; what stands on it stays", "disabled"),
		turn("pause", "Let the queue stand still", "paused"), turn("resume", "Let the queue go on, also when something held it", "resumed"),
		a.exchangesCmd(), a.simulateCmd()}
}

// consumerCmd reads the consumer's secret from a file or, on a terminal, asks for it.
func (a *app) consumerCmd() *cobra.Command {
	var id, file string
	cmd := &cobra.Command{Use: "set-consumer ID", Short: "Set the consumer our requests are signed as", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&id, "consumer-id", "", "id of the consumer on the gateway")
	cmd.Flags().StringVar(&file, "secret-file", "", "file with its secret, - for standard input; without it the secret is asked for")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		secret, err := a.secretFrom(file, "Consumer secret: ")
		if err != nil {
			return err
		}
		return a.send(cmd, http.MethodPut, "/gateways/"+url.PathEscape(args[0])+"/consumer", map[string]any{"consumer_id": id, "secret": secret})
	}
	return cmd
}

// secretFrom is the content of a file, or what is typed, unseen, at a terminal.
func (a *app) secretFrom(file, prompt string) (string, error) {
	if file != "" {
		b, err := a.readFile(file)
		return strings.TrimRight(string(b), "\r\n"), err
	}
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", usageError("there is no terminal to ask at: name a file")
	}
	fmt.Fprint(a.errOut, prompt)
	b, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(a.errOut)
	return strings.TrimSpace(string(b)), err
}

func (a *app) verifyCmd() *cobra.Command {
	return &cobra.Command{Use: "verify ID [VERIFIER]", Short: "Hand in the verifier read on the gateway; without VERIFIER it is asked for", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			verifier := ""
			if len(args) == 2 {
				verifier = args[1]
			} else {
				var err error
				if verifier, err = a.secretFrom("", "Verifier: "); err != nil {
					return err
				}
			}
			return a.send(cmd, http.MethodPost, "/gateways/"+url.PathEscape(args[0])+"/token/verifier", map[string]any{"verifier": verifier})
		}}
}

func (a *app) renewedCmd() *cobra.Command {
	var on string
	cmd := &cobra.Command{Use: "renewed ID", Short: "Say when Renew was pressed on the gateway", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&on, "on", "", "the day, such as 2026-03-04; default now")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		at := time.Now()
		if on != "" {
			var err error
			if at, err = time.Parse(time.DateOnly, on); err != nil {
				if at, err = time.Parse(time.RFC3339, on); err != nil {
					return usageError("--on wants a day such as 2026-03-04")
				}
			}
		}
		return a.send(cmd, http.MethodPost, "/gateways/"+url.PathEscape(args[0])+"/token/renewed", map[string]any{"on": at.UTC().Format(time.RFC3339)})
	}
	return cmd
}

func (a *app) selectMappingCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{Use: "select-mapping ID", Short: "Say how its web services are spoken to", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&file, "mapping-file", "", "mapping file; without it the generic mapping, which is the simulator's")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text := ""
		if file != "" {
			b, err := a.readFile(file)
			if err != nil {
				return err
			}
			text = string(b)
		}
		return a.send(cmd, http.MethodPut, "/gateways/"+url.PathEscape(args[0])+"/mapping", map[string]any{"text": text})
	}
	return cmd
}

func (a *app) mappingCheckCmd() *cobra.Command {
	return &cobra.Command{Use: "check FILE", Short: "Check a mapping file, without a server", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		b, err := a.readFile(args[0])
		if err != nil {
			return err
		}
		m, err := mbg.Borders{}.ReadMapping(string(b))
		if err != nil {
			return exitError{exitUsage, fmt.Errorf("%s: %w", args[0], err)}
		}
		return a.printValue(map[string]any{"mapping": m.Name, "version": m.Version, "sha256": m.SHA256})
	}}
}

// gatewayStatusCmd shows the checklist as a table, or everything as JSON.
func (a *app) gatewayStatusCmd() *cobra.Command {
	return &cobra.Command{Use: "status ID", Short: "Checklist, token and queue", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		ans, err := a.call(cmd.Context(), http.MethodGet, "/gateways/"+url.PathEscape(args[0])+"/status", nil, nil)
		if err != nil {
			return err
		}
		if a.output != "table" {
			return a.printJSON(ans.body)
		}
		var st struct {
			Token                string
			DaysLeft             int `json:"days_left"`
			Checklist, Preflight []map[string]any
			Queue                map[string]int
			Stopped, Circuit     string
			StoppedBy            string    `json:"stopped_by"`
			NextAt               time.Time `json:"next_at"`
			LastError            string    `json:"last_error"`
		}
		if err := json.Unmarshal(ans.body, &st); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		if err := a.printList(append(st.Checklist, st.Preflight...), []string{"name", "state", "text"}); err != nil {
			return err
		}
		fmt.Fprintf(a.out, "\ntoken  %s", st.Token)
		if st.DaysLeft >= 0 {
			fmt.Fprintf(a.out, ", %d days left", st.DaysLeft)
		}
		fmt.Fprintf(a.out, "\nqueue  %s", cmp.Or(st.Stopped, "running"))
		for _, state := range []string{domain.SIPUserPending, domain.SIPUserRemoving, domain.SIPUserParked, domain.SIPUserInSync} {
			fmt.Fprintf(a.out, ", %d %s", st.Queue[state], state)
		}
		fmt.Fprintln(a.out)
		if st.StoppedBy != "" {
			fmt.Fprintln(a.out, "       ", st.StoppedBy)
		}
		if st.LastError != "" {
			fmt.Fprintf(a.out, "last error  %s\n", st.LastError)
		}
		return nil
	}}
}

// selfTestCmd shows what was tried as a table, and fails when something did not pass.
func (a *app) selfTestCmd() *cobra.Command {
	var probe bool
	cmd := &cobra.Command{Use: "self-test ID", Short: "Try everything the push needs", Args: cobra.ExactArgs(1)}
	cmd.Flags().BoolVar(&probe, "with-probe", false, "also create, read and remove a disabled SIP user")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ans, err := a.call(cmd.Context(), http.MethodPost, "/gateways/"+url.PathEscape(args[0])+"/self-test", nil, map[string]any{"with_probe": probe})
		if err != nil {
			return err
		}
		var v struct {
			Passed bool
			Checks []map[string]any
		}
		if err := json.Unmarshal(ans.body, &v); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		if a.output != "table" {
			err = a.printJSON(ans.body)
		} else {
			err = a.printList(v.Checks, []string{"name", "state", "text"})
		}
		if err == nil && !v.Passed {
			return errors.New("the self-test did not pass")
		}
		return err
	}
	return cmd
}

func (a *app) exchangesCmd() *cobra.Command {
	return &cobra.Command{Use: "exchanges ID", Short: "The latest HTTP exchanges with it, since the start of the server", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		ans, err := a.call(cmd.Context(), http.MethodGet, "/gateways/"+url.PathEscape(args[0])+"/exchanges", nil, nil)
		if err != nil {
			return err
		}
		var v struct{ Items []map[string]any }
		if err := json.Unmarshal(ans.body, &v); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		return a.printList(v.Items, []string{"at", "operation", "method", "path", "status", "attempt", "elapsed_ms", "class", "body", "answer"})
	}}
}

// sipUserCmd is the noun of what stands on gateways; it is made by pushes, never by hand.
func (a *app) sipUserCmd() *cobra.Command {
	n := noun{name: "sipuser", path: "/sipusers", columns: []string{"id", "extension", "set_username", "gateway_id", "state", "mbg_id", "class", "text"}, filters: []string{"tenant", "gateway", "line", "state", "text"}}
	cmd := &cobra.Command{Use: n.name, Short: "SIP users on border gateways"}
	cmd.PersistentFlags().StringVar(&a.reason, "reason", "", "why, for the record")
	cmd.PersistentFlags().BoolVar(&a.dryRun, "dry-run", false, "show what would be recorded and which files would change, record nothing")
	retry := a.action("retry ID", "Try again, writing everything", http.MethodPost, 1, []field{{"adopt", "bool", "take over a SIP user somebody made by hand"}},
		func(args []string) string { return n.path + "/" + url.PathEscape(args[0]) + "/retry" })
	cmd.AddCommand(a.listCmd(n), a.showCmd(n), a.historyCmd(n), retry)
	return cmd
}

// lineRemoteVerbs put a line behind a gateway, and take it away.
func (a *app) lineRemoteVerbs() []*cobra.Command {
	at := func(args []string) string { return "/lines/" + url.PathEscape(args[0]) + "/remote" }
	return []*cobra.Command{
		a.action("set-remote ID", "Put it behind a border gateway, with random credentials of its own", http.MethodPut, 1, []field{{"gateway_id", "text", "the gateway"},
			{"node_id", "text", "the phone system, if the gateway has several"}, {"availability", "text", "sip (default), everywhere or webrtc"}, {"renew", "bool", "make new credentials"}}, at),
		a.action("clear-remote ID", "Take it from its border gateway", http.MethodDelete, 1, nil, at),
	}
}

// placeCmd says where a phone stands.
func (a *app) placeCmd() *cobra.Command {
	return a.action("place ID", "Say which border gateway it stands behind, whatever address it asks from; without a gateway: behind none", http.MethodPut, 1,
		[]field{{"gateway_id", "text", "the gateway"}, {"auto", "bool", "let the address of its requests decide again"}},
		func(args []string) string { return "/devices/" + url.PathEscape(args[0]) + "/gateway" })
}

// simulateCmd runs a simulated gateway.
func (a *app) simulateCmd() *cobra.Command {
	var listen, mapping, caFile, stateFile, addressFile string
	var bare bool
	cmd := &cobra.Command{Use: "simulate", Short: "Run a simulated border gateway, with a page for its administrator", Args: cobra.NoArgs,
		Long: `Runs a border gateway to try against: web services with real OAuth verification over TLS, and a page on which you
play its administrator. It is not the product: its page tells what is known and what is guessed.`}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8700", "where it listens; whoever reaches it is its administrator")
	cmd.Flags().StringVar(&mapping, "mapping-file", "", "mapping file it speaks; without it the generic mapping")
	cmd.Flags().StringVar(&caFile, "ca-file", "simulator-ca.pem", "file its CA is written to, for --ca-file of gateway register")
	cmd.Flags().StringVar(&stateFile, "state-file", "", "file that keeps its state over restarts; without it nothing is kept")
	cmd.Flags().StringVar(&addressFile, "address-file", "", "file its address is written to once it answers, for programs")
	cmd.Flags().BoolVar(&bare, "no-tls", false, "speak plain HTTP")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o := simulator.Options{StateFile: stateFile}
		if mapping != "" {
			b, err := a.readFile(mapping)
			if err != nil {
				return err
			}
			o.Mapping = string(b)
		}
		sim, err := simulator.New(o)
		if err != nil {
			return exitError{exitUsage, err}
		}
		ln, err := net.Listen("tcp", listen)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		scheme := "http"
		if !bare {
			scheme = "https"
			certs, ca, err := newSimCerts(sim, ln.Addr())
			if err != nil {
				return err
			}
			if err := renameio.WriteFile(caFile, ca, 0o644); err != nil {
				return fmt.Errorf("write the CA: %w", err)
			}
			ln = tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certs.get})
			fmt.Fprintf(a.out, "CA            %s\n", caFile)
		}
		fmt.Fprintf(a.out, "address       %s://%s\nadministrator %s://%s/_sim/\n", scheme, ln.Addr(), scheme, ln.Addr())
		if addressFile != "" {
			if err := renameio.WriteFile(addressFile, []byte(scheme+"://"+ln.Addr().String()+"\n"), 0o644); err != nil {
				return fmt.Errorf("write the address: %w", err)
			}
		}
		fmt.Fprintln(a.out, "\nOpen the administrator's page (the certificate is its own: accept it). End with Ctrl-C.")
		return serveSimulator(cmd.Context(), ln, sim)
	}
	return cmd
}

func serveSimulator(ctx context.Context, ln net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 60 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: log.New(io.Discard, "", 0)} // connections it cuts on purpose
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return s.Close()
	}
}

// simCerts are the simulator's own CA and the certificate it has just now.
type simCerts struct {
	sim  *simulator.Simulator
	addr net.Addr

	mu         sync.Mutex
	generation int
	cert       *tls.Certificate
}

// newSimCerts makes a CA and a first certificate; ca is what a client must trust. A certificate asked for anew on the
// administrator's page is of another CA.
func newSimCerts(sim *simulator.Simulator, addr net.Addr) (*simCerts, []byte, error) {
	c := &simCerts{sim: sim, addr: addr, generation: sim.CertificateGeneration()}
	ca, err := c.issue()
	return c, ca, err
}

func (c *simCerts) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.sim.CertificateGeneration(); g != c.generation {
		if _, err := c.issue(); err != nil {
			return nil, err
		}
		c.generation = g
	}
	return c.cert, nil
}

// issue makes a new CA and a certificate of it.
func (c *simCerts) issue() (ca []byte, err error) {
	now := time.Now()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the CA's key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	root := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "Simulated gateway CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, fmt.Errorf("make the CA: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key: %w", err)
	}
	leaf := &x509.Certificate{SerialNumber: new(big.Int).Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: "Simulated gateway"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	if host, _, err := net.SplitHostPort(c.addr.String()); err == nil {
		if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() && !slices.ContainsFunc(leaf.IPAddresses, ip.Equal) {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		}
	}
	if addresses, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && !slices.ContainsFunc(leaf.IPAddresses, n.IP.Equal) {
				leaf.IPAddresses = append(leaf.IPAddresses, n.IP)
			}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, &key.PublicKey, caKey)
	if err != nil {
		return nil, fmt.Errorf("make the certificate: %w", err)
	}
	c.cert = &tls.Certificate{Certificate: [][]byte{der, rootDER}, PrivateKey: key}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), nil
}

// gatewayPorts gives the service what it needs of border gateways.
func (e *engine) gatewayPorts() error {
	e.service.Borders = mbg.Borders{}
	if e.cfg.WebhookURL == "" {
		return nil
	}
	secret, err := os.ReadFile(e.cfg.WebhookSecret)
	if err != nil {
		return fmt.Errorf("read the webhook's secret: %w", err)
	}
	sender, err := webhook.New(e.cfg.WebhookURL, string(secret))
	if err != nil {
		return err
	}
	e.service.Alerts = sender
	return nil
}

// pushToGateways keeps the pushes going while this replica leads.
func (e *engine) pushToGateways(ctx context.Context) error {
	logger := zerolog.Ctx(ctx)
	return ignoreCanceled(e.service.RunGateways(ctx, e.reactor.Leads, func(id domain.GatewayID, err error) {
		if err != nil && !errors.Is(err, context.Canceled) {
			logger.Warn().Err(err).Str("gateway_id", string(id)).Msg("push to the gateway failed, it goes on by itself")
		}
	}))
}

// gatewayMetrics shows how the pushes stand.
type gatewayMetrics struct{ e *engine }

var (
	metricDays    = prometheus.NewDesc("ledgerline_mbg_token_days_left", "Days until the gateway's token ends; -1: unknown.", []string{"gateway"}, nil)
	metricWaiting = prometheus.NewDesc("ledgerline_mbg_queue", "SIP users waiting to be pushed.", []string{"gateway"}, nil)
	metricStopped = prometheus.NewDesc("ledgerline_mbg_stopped", "1 while the queue stands still, with the reason.", []string{"gateway", "reason"}, nil)
	metricCircuit = prometheus.NewDesc("ledgerline_mbg_circuit_open", "1 while the gateway does not answer.", []string{"gateway"}, nil)
)

// Describe implements prometheus.Collector.
func (m gatewayMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{metricDays, metricWaiting, metricStopped, metricCircuit} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m gatewayMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, p := range m.e.service.Pushings() {
		id := string(p.GatewayID)
		gauge(metricDays, float64(p.DaysLeft), id)
		gauge(metricWaiting, float64(p.Waiting), id)
		open, stopped := 0.0, 0.0
		if p.Circuit == "open" {
			open = 1
		}
		if p.Stopped != "" {
			stopped = 1
		}
		gauge(metricCircuit, open, id)
		gauge(metricStopped, stopped, id, cmp.Or(p.Stopped, "none"))
	}
}
