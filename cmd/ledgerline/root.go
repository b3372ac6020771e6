package main

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// root is the whole command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ledgerline",
		Short: "Provisions telephones and keeps the whole story",
		Long: `Ledgerline provisions telephones and keeps the whole story: every code issued, every device assigned,
every file a phone was given is an event in a log that can be replayed and proved.

Start with "ledgerline demo", then "ledgerline serve". Exit codes: 0 done, 1 failed, 2 wrong usage or
settings, 3 not found, 4 denied, 5 a rule says no or somebody was faster, 6 damage found.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	p := root.PersistentFlags()
	p.StringVar(&a.server, "server", "", "URL of the server's API (LEDGERLINE_SERVER; default http://127.0.0.1:8666)")
	p.StringVar(&a.tokenFile, "token-file", "", "file with the API key (LEDGERLINE_TOKEN_FILE; default data/admin.token)")
	p.StringVarP(&a.output, "output", "o", "table", "table, json, yaml or csv")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		switch a.output {
		case "table", "json", "yaml", "csv":
			return nil
		}
		return usageError("-o must be table, json, yaml or csv")
	}
	root.AddCommand(a.serveCmd(), a.esdbCmd(), a.demoCmd(), a.phoneCmd())
	root.AddCommand(a.nounCmds()...)
	root.AddCommand(a.rolloutCmd())
	root.AddCommand(a.searchCmd(), a.importCmd(), a.renderCmd(), a.explainCmd(), a.parkedCmd(), a.eraseCmd())
	root.AddCommand(a.auditCmd(), a.backupCmd(), a.restoreCmd(), a.migrateCmd(), a.keyCmd(), a.doctorCmd(), a.pluginCmd(), a.operationCmd(), a.configCmd(), a.dhcpCmd(), a.registryCmd(), a.innovaphoneCmd())
	root.AddCommand(&cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			goVersion := ""
			if info != nil {
				goVersion = info.GoVersion
			}
			return a.printValue(map[string]any{"version": version, "go": goVersion})
		},
	})
	a.finish(root)
	return root
}

// finish notes when a command has begun, so that what goes wrong before is told as wrong usage, and makes a
// group of commands refuse a name it does not have.
func (a *app) finish(c *cobra.Command) {
	for _, sub := range c.Commands() {
		a.finish(sub)
	}
	if run := c.RunE; run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return run(cmd, args)
		}
		return
	}
	if !c.HasParent() {
		return // cobra does this for the root
	}
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return fmt.Errorf("unknown command %q; did you mean %s?", args[0], strings.Join(near, " or "))
		}
		return fmt.Errorf("unknown command %q", args[0])
	}
}

// usageLine is how c is called.
func usageLine(c *cobra.Command) string {
	if c.HasSubCommands() {
		return c.CommandPath() + " COMMAND (see " + c.CommandPath() + " --help)"
	}
	return c.UseLine()
}
