package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"ledgerline/adapters/dhcp"
	"ledgerline/adapters/plugins"
)

// hookTime bounds what a lease costs the DHCP server that tells of it.
const hookTime = 5 * time.Second

// dhcpCmd makes a DHCP server tell phones where this server is, and tell this server of phones.
func (a *app) dhcpCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "dhcp", Short: "DHCP: what a DHCP server must tell phones, and what it tells of them"}
	var server, dir, hook string
	var site dhcp.Site
	config := &cobra.Command{Use: "config", Short: "Write classes and options for all plugins, for a DHCP server to include", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			set, err := loadPlugins(dir)
			if err != nil {
				return err
			}
			text, err := dhcp.Config(server, families(set), site, hook)
			if err != nil {
				return exitError{exitUsage, err}
			}
			_, err = fmt.Fprint(a.out, text)
			return err
		}}
	f := config.Flags()
	f.StringVar(&server, "server", "dnsmasq", "dnsmasq, isc (dhcpd 4) or kea")
	f.StringVar(&site.URL, "url", "http://"+outwardAddress()+":8667/", "URL phones are to be told: public-url of the server, or <public-url>t/<tenant key>/")
	f.StringVar(&site.TFTP, "tftp", outwardAddress(), "IPv4 address of the TFTP server, for phones that know no other way; they ask on port 69")
	f.StringVar(&hook, "hook", "", "path of a program the DHCP server is to run on each lease; it must run: ledgerline dhcp hook \"$@\"")
	f.StringVar(&dir, "plugins", a.getenv("LEDGERLINE_PLUGINS"), "directory of further plugin packages")
	told := &cobra.Command{Use: "hook [ARGS]", Short: "Tell the server of a lease; a DHCP server runs this", DisableFlagParsing: true,
		Long: "Run by a DHCP server, with the arguments and the environment dnsmasq (dhcp-script), dhcpd (execute) or Kea (run_script) give\nits hook. LEDGERLINE_SERVER and LEDGERLINE_TOKEN_FILE say where to and with which key (role helpdesk suffices).",
		RunE: func(cmd *cobra.Command, args []string) error {
			leases, err := dhcp.Leases(args, a.getenv)
			if err != nil {
				return exitError{exitUsage, err}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), hookTime)
			defer cancel()
			var errs []error
			for _, l := range leases {
				_, err := a.call(ctx, http.MethodPost, "/dhcp-leases", nil, l)
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		}}
	cmd.AddCommand(config, told)
	return cmd
}

// families are the DHCP rules of the newest version of every plugin.
func families(set *plugins.Set) []dhcp.Family {
	newest := map[string]*plugins.Package{}
	var names []string
	for _, p := range set.Packages() { // by version, the newest last
		if newest[p.Name] == nil {
			names = append(names, p.Name)
		}
		newest[p.Name] = p
	}
	var out []dhcp.Family
	for _, name := range names {
		f := dhcp.Family{Name: name}
		for _, r := range newest[name].DHCP {
			rule := dhcp.Rule{Classes: r.Classes, Options: r.Options}
			if r.OUI {
				rule.OUIs = newest[name].OUIs
			}
			f.Rules = append(f.Rules, rule)
		}
		if len(f.Rules) > 0 {
			out = append(out, f)
		}
	}
	return out
}
