package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// Config is every setting of the server. A flag beats an environment variable (LEDGERLINE_ and the key in
// capitals), that beats the file, that beats the default. An unknown key is an error. No setting holds a
// secret: secrets are named by file.
type Config struct {
	Data             string        `key:"data" default:"./data" usage:"directory of everything the server keeps"`
	Store            string        `key:"store" default:"ledger" usage:"where events stand: ledger, or esdb://HOST:PORT?tls=…"`
	StoreCredentials string        `key:"store-credentials-file" usage:"file with user:password for an esdb:// store; or LEDGERLINE_STORE_CREDENTIALS"`
	PostgresURLFile  string        `key:"postgres-url-file" usage:"file with the postgres:// URL of the vault and blobs that several replicas share; or LEDGERLINE_POSTGRES_URL"`
	Admin            string        `key:"admin" default:"127.0.0.1:8666" usage:"listener of the API"`
	Phones           string        `key:"phones" default:":8667" usage:"listener of the phones over HTTP"`
	PhonesTLS        string        `key:"phones-tls" usage:"listener of the phones over HTTPS"`
	TLSCert          string        `key:"tls-cert" usage:"certificate chain for phones-tls (PEM, reloaded when it changes)"`
	TLSKey           string        `key:"tls-key" usage:"private key for phones-tls (PEM, reloaded when it changes)"`
	PhoneRoots       string        `key:"phone-roots" usage:"PEM file of vendors' roots: a client certificate of theirs proves a phone's MAC"`
	TFTP             string        `key:"tftp" default:":6969" usage:"listener of the phones over TFTP; empty for none"`
	Ops              string        `key:"ops" default:"127.0.0.1:8668" usage:"listener of /livez /readyz /metrics and pprof"`
	PublicURL        string        `key:"public-url" usage:"URL phones come back to; default http:// and the phones listener"`
	TrustedNetworks  []string      `key:"trusted-networks" default:"127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,fe80::/10,fc00::/7" usage:"networks whose phones may fetch by MAC alone and get secrets without TLS"`
	TrustedProxies   []string      `key:"trusted-proxies" usage:"networks of proxies whose forwarded address is believed; never trusted themselves"`
	MasterKeyFile    string        `key:"master-key-file" usage:"file with the vault's master key; default master.key in the data directory"`
	BaseSettings     string        `key:"base-settings" usage:"JSON file of settings below every layer"`
	JobCommands      string        `key:"job-commands" usage:"YAML file with the options that set jobs' parameters on innovaphone devices, over those built in"`
	Plugins          string        `key:"plugins" usage:"directory of further plugin packages"`
	PluginIndex      string        `key:"plugin-index" usage:"index of plugin packages: a URL, a directory or a file; or the plugins.db of wazo-provd"`
	PluginKeys       string        `key:"plugin-keys" usage:"file of keys whose signatures let packages in, one a line"`
	PluginHosts      []string      `key:"plugin-hosts" usage:"hosts, also private ones, that packages and firmware may come from"`
	CodeLength       int           `key:"code-length" default:"12" usage:"digits of a provisioning code: 12 or 16"`
	CodesPerTenant   int           `key:"codes-per-tenant" default:"5000" usage:"live codes a tenant may have at once, those of rollouts not counted; 0: any number"`
	CodesPerUser     int           `key:"codes-per-user" default:"10" usage:"live codes a user may have at once, likewise"`
	CodesPerServer   int           `key:"codes-per-server" default:"25000" usage:"codes that the registry here draws for one Devices server elsewhere and that live unused at once; 0: any number"`
	CodeTTLSelf      time.Duration `key:"code-ttl-self-service" default:"10m" usage:"life of a self-service code"`
	CodeTTLRollout   time.Duration `key:"code-ttl-rollout" default:"168h" usage:"life of a rollout code, at most 168h"`
	GuessBudget      int           `key:"guess-budget" default:"10000" usage:"wrong codes a week before rollout codes need an operator's confirmation"`
	PhonesPerNetwork int           `key:"phones-per-network" default:"2048" usage:"connections to the phones' listeners from one network (IPv4 /24, IPv6 /56); sysclients stay connected"`
	DiscoveryCap     int           `key:"discovery-cap" default:"2000" usage:"unknown phones made known per hour"`
	SIPRoots         string        `key:"sip-roots" usage:"PEM file of roots that SIP servers over TLS are verified with; default the system's"`
	AMI              string        `key:"ami" usage:"Asterisk manager through which phones are told to fetch: HOST:PORT, or tls://HOST:PORT; default by SIP"`
	AMICredentials   string        `key:"ami-credentials-file" usage:"file with user:password for ami"`
	FastAGI          string        `key:"fastagi" usage:"listener for the dial plans of Asterisk and FreeSWITCH (dialled codes)"`
	FastAGINetworks  []string      `key:"fastagi-networks" default:"127.0.0.0/8,::1/128" usage:"networks of the switches that may ask fastagi"`
	SoftphoneLinks   bool          `key:"softphone-links" default:"false" usage:"let retail apps (Groundwire, Acrobits Softphone) sign in by a link that is tapped"`
	DevicesURL       string        `key:"devices-url" usage:"websocket address innovaphone phones are led to, {domain} standing for their tenant's; default public-url with ws:// or wss:// and /{domain}/devices/sysclients"`
	Registry         string        `key:"registry" usage:"listener of innovaphone's registry: phones fresh from the factory ask it on port 80"`
	RegistryTLS      string        `key:"registry-tls" usage:"listener of the registry over HTTPS, with tls-cert and tls-key"`
	RegistryURL      string        `key:"registry-url" usage:"registry elsewhere that draws the digits of codes, and leads phones here; default our own"`
	RegistryServerID string        `key:"registry-server-id" usage:"id of this server at registry-url"`
	RegistryKeyFile  string        `key:"registry-key-file" usage:"file with the key that requests to registry-url are signed with (ledgerline registry key)"`
	UpdateFiles      string        `key:"update-files" usage:"directory of firmware and boot code of innovaphone phones, <build>/ip222.bin"`
	UsersTitle       string        `key:"users-title" default:"Ledgerline" usage:"title under which innovaphone Users offers phones of other makes; empty: they are not offered"`
	UsersProxy       string        `key:"users-proxy" default:"dns" usage:"field of ProvisioningPhone that names the telephone system's host: dns, domain, or none"`
	UsersPassthrough bool          `key:"users-passthrough" default:"false" usage:"let innovaphone Users fetch pages of the connected devices of its domain; recorded"`
	ReactorFrom      string        `key:"reactor-from" usage:"where a reaction without a saved position begins: head or start"`
	Lanes            int           `key:"reactor-lanes" default:"8" usage:"reactions carried out side by side"`
	ReactorLease     time.Duration `key:"reactor-lease" default:"10s" usage:"how long the replica that runs the reactions may be silent before another goes on"`
	ESDBListen       string        `key:"esdb-listen" usage:"listener that shows the ledger to EventStoreDB clients; without TLS a loopback address"`
	ESDBWrite        bool          `key:"esdb-write" default:"false" usage:"let EventStoreDB clients append"`
	ESDBAdvertise    string        `key:"esdb-advertise" usage:"host:port that discovering EventStoreDB clients are told; default the address they came to"`
	ESDBUsersFile    string        `key:"esdb-users-file" usage:"users of esdb-listen, name:bcrypt a line; default esdb.users in the data directory, made on the first start with TLS"`
	ESDBTLSCert      string        `key:"esdb-tls-cert" usage:"certificate chain for esdb-listen (PEM, reloaded when it changes)"`
	ESDBTLSKey       string        `key:"esdb-tls-key" usage:"private key for esdb-listen (PEM, reloaded when it changes)"`
	SightingsDays    int           `key:"sightings-days" default:"30" usage:"days that last-seen data is kept"`
	CheckpointEvery  time.Duration `key:"checkpoint-every" default:"60s" usage:"longest time that new events wait for a signed checkpoint"`
	ProvdAuthURL     string        `key:"provd-auth-url" usage:"token service (wazo-auth) that says what tokens may do under /0.2; without it, API keys are the tokens"`
	ProvdCredentials string        `key:"provd-auth-credentials-file" usage:"file with id:key of this service at the token service"`
	BusURLFile       string        `key:"bus-url-file" usage:"file with the amqp:// URL of the platform's message bus; or LEDGERLINE_BUS_URL"`
	BusExchange      string        `key:"bus-exchange" default:"wazo-headers" usage:"exchange of the bus, of type headers"`
	BusQueue         string        `key:"bus-queue" default:"ledgerline" usage:"queue of this installation on the bus, shared by its replicas"`
	ProvdAuthCache   time.Duration `key:"provd-auth-cache" default:"0s" usage:"for how long an answer of the token service is used again; 0 asks it anew each time"`
	WebhookURL       string        `key:"webhook-url" usage:"where what somebody must act on is told, signed as Standard Webhooks has it; empty for nowhere"`
	WebhookSecret    string        `key:"webhook-secret-file" usage:"file with the secret of webhook-url: whsec_ and base64, or 24 to 64 characters"`
	LogLevel         string        `key:"log-level" default:"info" usage:"debug, info, warn or error"`
	LogFormat        string        `key:"log-format" default:"auto" usage:"json, console, or auto: console on a terminal"`

	secrets secrets
}

// secrets come from the environment only, for containers; files are the better place.
type secrets struct {
	storeCredentials string // LEDGERLINE_STORE_CREDENTIALS, user:password
	postgresURL      string // LEDGERLINE_POSTGRES_URL
	busURL           string // LEDGERLINE_BUS_URL
}

// settings walks the fields of c with their tags.
func (c *Config) settings(visit func(key string, tag reflect.StructTag, v reflect.Value)) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag; tag != "" {
			visit(tag.Get("key"), tag, v.Field(i))
		}
	}
}

func envName(key string) string {
	return "LEDGERLINE_" + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// flags declares one flag per setting. Values are read by loadConfig.
func (c *Config) flags(fs *pflag.FlagSet) {
	c.settings(func(key string, tag reflect.StructTag, v reflect.Value) {
		fs.String(key, tag.Get("default"), tag.Get("usage"))
		if v.Kind() == reflect.Bool {
			fs.Lookup(key).NoOptDefVal = "true"
		}
	})
	fs.String("config", "", "YAML file with these settings")
}

// loadConfig fills c from defaults, file, environment and flags, and checks it.
func loadConfig(fs *pflag.FlagSet, getenv func(string) string) (Config, error) {
	var c Config
	var errs []error
	file, err := configFile(fs, getenv)
	if err != nil {
		return c, err
	}
	c.settings(func(key string, tag reflect.StructTag, v reflect.Value) {
		text, from := tag.Get("default"), "default"
		if t, ok := file[key]; ok {
			text, from = t, "config file"
			delete(file, key)
		}
		if t := getenv(envName(key)); t != "" {
			text, from = t, envName(key)
		}
		if f := fs.Lookup(key); f != nil && f.Changed {
			text, from = f.Value.String(), "--"+key
		}
		if err := set(v, text); err != nil {
			errs = append(errs, fmt.Errorf("%s (from %s): %w", key, from, err))
		}
	})
	for _, key := range slices.Sorted(maps.Keys(file)) {
		errs = append(errs, fmt.Errorf("config file: unknown setting %q", key))
	}
	if err := errors.Join(errs...); err != nil {
		return c, err
	}
	c.secrets = secrets{storeCredentials: getenv("LEDGERLINE_STORE_CREDENTIALS"), postgresURL: getenv("LEDGERLINE_POSTGRES_URL"), busURL: getenv("LEDGERLINE_BUS_URL")}
	return c, c.check()
}

// configFile reads the YAML file, if one is named, into texts by key.
func configFile(fs *pflag.FlagSet, getenv func(string) string) (map[string]string, error) {
	path := getenv("LEDGERLINE_CONFIG")
	if f := fs.Lookup("config"); f != nil && f.Changed {
		path = f.Value.String()
	}
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the config file: %w", err)
	}
	var tree map[string]any
	if err := yaml.NewDecoder(bytes.NewReader(b)).Decode(&tree); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the config file %s: %w", path, err)
	}
	texts := make(map[string]string, len(tree))
	for k, v := range tree {
		switch v := v.(type) {
		case nil: // "tftp:" with nothing behind is the empty text
			texts[k] = ""
		case map[string]any:
			return nil, fmt.Errorf("read the config file %s: %s has settings below it; there are none such", path, k)
		case []any:
			parts := make([]string, len(v))
			for i, p := range v {
				parts[i] = fmt.Sprint(p)
			}
			texts[k] = strings.Join(parts, ",")
		default:
			texts[k] = fmt.Sprint(v)
		}
	}
	return texts, nil
}

func set(v reflect.Value, text string) error {
	switch v.Interface().(type) {
	case string:
		v.SetString(text)
	case bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b)
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetInt(int64(n))
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 10m", text)
		}
		v.SetInt(int64(d))
	case []string:
		var list []string
		for p := range strings.SplitSeq(text, ",") {
			if p = strings.TrimSpace(p); p != "" {
				list = append(list, p)
			}
		}
		v.Set(reflect.ValueOf(list))
	}
	return nil
}

// check refuses what cannot work, all of it at once.
func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.CodeLength != 12 && c.CodeLength != 16 {
		bad("code-length must be 12 or 16")
	}
	if c.CodesPerTenant < 0 || c.CodesPerUser < 0 || c.CodesPerServer < 0 {
		bad("codes-per-tenant, codes-per-user and codes-per-server must be 0 or more")
	}
	if c.CodeTTLSelf <= 0 || c.CodeTTLRollout <= 0 || c.CodeTTLSelf > 168*time.Hour || c.CodeTTLRollout > 168*time.Hour {
		bad("code-ttl-self-service and code-ttl-rollout must be above 0 and at most 168h")
	}
	if c.DiscoveryCap < 1 || c.GuessBudget < 1 || c.Lanes < 1 || c.SightingsDays < 1 || c.PhonesPerNetwork < 1 {
		bad("discovery-cap, guess-budget, phones-per-network, reactor-lanes and sightings-days must be at least 1")
	}
	if c.CheckpointEvery < time.Second || c.CheckpointEvery > 24*time.Hour {
		bad("checkpoint-every must be 1s to 24h")
	}
	if c.ReactorLease < time.Second || c.ReactorLease > 10*time.Minute {
		bad("reactor-lease must be between 1s and 10m")
	}
	if c.ProvdAuthURL != "" && c.ProvdCredentials == "" {
		bad("provd-auth-url needs provd-auth-credentials-file")
	}
	if c.ProvdAuthCache < 0 || c.ProvdAuthCache > time.Minute {
		bad("provd-auth-cache must be 0 to 1m")
	}
	if c.WebhookURL != "" && c.WebhookSecret == "" {
		bad("webhook-url needs webhook-secret-file")
	}
	if c.PhonesTLS != "" && (c.TLSCert == "" || c.TLSKey == "") {
		bad("phones-tls needs tls-cert and tls-key")
	}
	if err := c.checkRegistry(); err != nil {
		errs = append(errs, err)
	}
	if c.AMI != "" && c.AMICredentials == "" {
		bad("ami needs ami-credentials-file")
	}
	switch {
	case c.Store == "ledger":
		if c.PostgresURLFile != "" || c.secrets.postgresURL != "" {
			bad("a postgres URL goes with an esdb:// store: the ledger keeps its vault and blobs beside it")
		}
	case !c.remote():
		bad("store must be ledger or begin with esdb:// or esdb+discover://")
	case strings.Contains(c.Store, "@"):
		bad("store must hold no credentials, for everybody can see them: name a file with store-credentials-file")
	case c.MasterKeyFile == "":
		bad("an esdb:// store needs master-key-file, the same on every replica; make one with: (umask 077; head -c 32 /dev/urandom > FILE)")
	}
	if c.ESDBListen != "" {
		if c.Store != "ledger" {
			bad("esdb-listen shows the embedded ledger; with another store ask that one")
		}
		if err := c.esdb().check(c.ESDBListen); err != nil {
			errs = append(errs, err)
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		bad("log-level must be debug, info, warn or error")
	}
	if !slices.Contains([]string{"dns", "domain", "none"}, c.UsersProxy) {
		bad("users-proxy must be dns, domain or none")
	}
	if !slices.Contains([]string{"json", "console", "auto"}, c.LogFormat) {
		bad("log-format must be json, console or auto")
	}
	if c.ReactorFrom != "" && c.ReactorFrom != "head" && c.ReactorFrom != "start" {
		bad("reactor-from must be head or start")
	}
	for _, list := range [][]string{c.TrustedNetworks, c.TrustedProxies, c.FastAGINetworks} {
		if _, err := prefixes(list); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// remote tells whether events stand on an EventStoreDB server, which other replicas may use as well.
func (c *Config) remote() bool {
	return strings.HasPrefix(c.Store, "esdb://") || strings.HasPrefix(c.Store, "esdb+discover://")
}

// prefixes reads networks; a lone address is a network of one.
func prefixes(list []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(list))
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("%q is not a network such as 192.0.2.0/24", text)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// values are the settings by key, for printing; none of them is a secret.
func (c Config) values() map[string]any {
	out := map[string]any{}
	c.settings(func(key string, _ reflect.StructTag, v reflect.Value) {
		out[key] = v.Interface()
		if d, ok := v.Interface().(time.Duration); ok {
			out[key] = d.String()
		}
	})
	return out
}
