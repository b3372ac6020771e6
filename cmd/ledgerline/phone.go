package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ledgerline/domain"
	"ledgerline/tests/phonesim"
)

// simulated is what one simulated phone came to; the JSON is part of the program's interface.
type simulated struct {
	MAC       string          `json:"mac"`
	Vendor    string          `json:"vendor"`
	Model     string          `json:"model"`
	Transport string          `json:"transport"`
	State     string          `json:"state"`
	Files     []simulatedFile `json:"files"`
	Accounts  []string        `json:"accounts,omitempty"`
	Error     string          `json:"error,omitempty"`
}

// simulatedFile is one file a phone fetched, under the name it asked, without the secrets of its path.
type simulatedFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int    `json:"size"`
}

// phoneCmd plays phones against a server.
func (a *app) phoneCmd() *cobra.Command {
	var cfg phonesim.Config
	var mac string
	var count int
	var seed uint64
	var poll time.Duration
	var definitions string
	var asUsers usersPlay
	cmd := &cobra.Command{Use: "phone", Short: "Simulate one phone, or many, against a server", Args: cobra.NoArgs,
		Long: "Boots like the real vendor's phone: its order of files, its User-Agent, its way of writing MAC addresses. With --code it\nredeems a provisioning code; with --poll it fetches again, as phones do. Vendors: " + vendorNames() + ".\n\n" +
			"The vendor cloudsoftphone is an app: --code is the text of its QR code (csc:USER:CODE@CLOUD-ID), --definitions what\nits portal has (ledgerline softphone definitions). It signs in, and shows what it was given.\n\n" +
			"The vendor innovaphone asks the registry at --url (http://HOST/init), shows the form for a code, and connects to Devices; with a\nws:// or wss:// --url it connects there directly. The code is that of --code, or a line of standard input for each phone.\n\n" +
			"With --users it is no phone but innovaphone Users: it logs in, gets a code for a user who adds a phone, prints it, and waits\nfor the phone that comes by it. With --provision it is an administrator who types in the --mac of a phone of another make: that one\nis provisioned for the account --username at the telephone system, without a code being typed on it."}
	f := cmd.Flags()
	f.StringVar(&cfg.Vendor, "vendor", "yealink", "vendor")
	f.StringVar(&cfg.Model, "model", "", "model; default a common one of the vendor")
	f.StringVar(&cfg.Firmware, "firmware", "", "firmware version; default one of the model")
	f.StringVar(&mac, "mac", "", "MAC address; default one of the vendor's")
	f.StringVar(&cfg.Server, "url", "http://127.0.0.1:8667/", "provisioning server: http://, https:// or tftp://")
	f.StringVar(&cfg.Code, "code", "", "provisioning code to redeem")
	f.IntVar(&count, "count", 1, "number of phones")
	f.Uint64Var(&seed, "seed", 1, "chooses the MAC addresses")
	f.DurationVar(&poll, "poll", 0, "fetch again after this time, until interrupted")
	f.StringVar(&definitions, "definitions", "", "file with the web service definitions of cloudsoftphone's portal; default those for --url")
	f.StringVar(&asUsers.URL, "users", "", "play innovaphone Users at this address: ws:// or wss://HOST/DOMAIN/devices/users")
	f.StringVar(&asUsers.keyFile, "users-key-file", "", "file with the password of Users, - for standard input")
	f.StringVar(&asUsers.Category, "category", "", "with --users: the provisioning category; default the first")
	f.StringVar(&asUsers.User, "user", "", "with --users: the user the phone is for")
	f.BoolVar(&asUsers.provision, "provision", false, "with --users: have the phone of another make with this --mac provisioned; with --code, by that code")
	f.StringVar(&asUsers.phone.Username, "username", "", "with --provision: user name of the account at the telephone system")
	f.StringVar(&asUsers.passwordFile, "password-file", "", "with --provision: file with the account's password, - for standard input")
	f.StringVar(&asUsers.phone.Name, "name", "", "with --provision: name shown for the account")
	f.StringVar(&asUsers.phone.DNS, "dns", "", "with --provision: host of the telephone system")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if asUsers.URL != "" {
			asUsers.phone.MAC, asUsers.phone.Code = mac, cfg.Code
			return a.playUsers(cmd.Context(), asUsers)
		}
		if cfg.Vendor == cloudSoftphone {
			return a.playApp(cmd.Context(), cfg.Server, cfg.Code, definitions, poll)
		}
		if count < 1 || count > 100_000 {
			return usageError("--count must be 1 to 100000")
		}
		if cfg.Vendor == innovaphoneVendor {
			in := innovaphones{model: cmp.Or(cfg.Model, "IP222"), build: cfg.Firmware, url: cfg.Server, code: cfg.Code, macs: innovaphoneMACs(count, seed), poll: poll}
			if mac != "" {
				m, err := domain.ParseMAC(mac)
				if err != nil {
					return usageError("--mac %w", err)
				}
				in.macs = []domain.MAC{m}
			}
			return a.playInnovaphones(cmd.Context(), in)
		}
		fleet, err := phonesim.Fleet(count, cfg.Vendor, seed)
		if err != nil {
			return usageError("%w; vendors are %s", err, vendorNames())
		}
		if mac != "" {
			m, err := domain.ParseMAC(mac)
			if err != nil {
				return usageError("--mac %w", err)
			}
			fleet = fleet[:1]
			fleet[0].MAC = m
		}
		for i := range fleet {
			fleet[i].Server, fleet[i].Code = cfg.Server, cfg.Code
			if cfg.Model != "" {
				fleet[i].Model, fleet[i].Firmware = cfg.Model, cfg.Firmware
			}
		}
		return a.playPhones(cmd.Context(), fleet, poll)
	}
	return cmd
}

func vendorNames() string {
	var names []string
	for _, v := range phonesim.Vendors() {
		names = append(names, v.Name)
	}
	return strings.Join(append(names, cloudSoftphone, innovaphoneVendor), ", ")
}

// playPhones boots all phones, at most 64 at once, and prints what came of each.
func (a *app) playPhones(ctx context.Context, fleet []phonesim.Config, poll time.Duration) error {
	results := make([]simulated, len(fleet))
	phones := make([]*phonesim.Phone, len(fleet))
	var g errgroup.Group
	g.SetLimit(64)
	var mu sync.Mutex
	failed := 0
	for i, c := range fleet {
		g.Go(func() error {
			p, err := phonesim.New(c)
			if err != nil {
				return usageError("%w", err)
			}
			phones[i] = p
			r, err := p.Boot(ctx)
			results[i] = describe(p, c, r, err)
			results[i].Accounts = accountsOf(r)
			if err != nil {
				mu.Lock()
				failed++
				mu.Unlock()
			}
			return nil
		})
	}
	err := g.Wait()
	defer func() {
		for _, p := range phones {
			if p != nil {
				p.Close()
			}
		}
	}()
	if err != nil {
		return err
	}
	if err := a.printPhones(results); err != nil {
		return err
	}
	for poll > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(poll):
		}
		for i, p := range phones {
			r, err := p.Poll(ctx)
			if err != nil && ctx.Err() == nil || r.Changed {
				now := describe(p, fleet[i], r, err)
				now.Accounts = accountsOf(r)
				if err := a.printPhones([]simulated{now}); err != nil {
					return err
				}
			}
		}
	}
	if failed > 0 {
		return exitError{exitFailed, fmt.Errorf("%d of %d phones could not boot", failed, len(fleet))}
	}
	return nil
}

// accountsOf names the SIP accounts the phone would register.
func accountsOf(r phonesim.Result) (names []string) {
	for _, acc := range r.Parsed.Accounts {
		if acc.Enabled {
			names = append(names, acc.UserName+"@"+acc.Server)
		}
	}
	return names
}

// describe is what a phone came to; paths are the names asked for, never a secret or a code.
func describe(p *phonesim.Phone, c phonesim.Config, r phonesim.Result, err error) simulated {
	vendor, model := p.Vendor()
	s := simulated{MAC: string(p.MAC()), Vendor: vendor, Model: model.Name, Transport: "http", State: string(p.State()), Files: []simulatedFile{}}
	if scheme, _, ok := strings.Cut(c.Server, "://"); ok {
		s.Transport = scheme
	}
	for _, f := range r.Files {
		if f.Found() && !slices.ContainsFunc(s.Files, func(g simulatedFile) bool { return g.Path == f.Name && g.SHA256 == f.SHA256 }) {
			s.Files = append(s.Files, simulatedFile{f.Name, f.SHA256, int(f.Size)})
		}
	}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

func (a *app) printPhones(results []simulated) error {
	if a.output == "json" || a.output == "yaml" {
		return a.printValue(map[string]any{"phones": results})
	}
	columns := []string{"mac", "vendor", "model", "transport", "state", "accounts", "files"}
	if a.output == "csv" || slices.ContainsFunc(results, func(r simulated) bool { return r.Error != "" }) {
		columns = append(columns, "error")
	}
	rows := make([]map[string]any, len(results))
	for i, r := range results {
		var files []string
		for _, f := range r.Files {
			files = append(files, f.Path)
		}
		rows[i] = map[string]any{"mac": r.MAC, "vendor": r.Vendor, "model": r.Model, "transport": r.Transport, "state": r.State,
			"accounts": strings.Join(r.Accounts, " "), "files": strings.Join(files, " "), "error": r.Error}
	}
	return a.printList(rows, columns)
}
