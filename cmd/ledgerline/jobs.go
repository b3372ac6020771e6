package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"ledgerline/commands"
)

// jobCommands are the options that set the parameters of jobs: those built in, with what the file says over them, type by
// type and parameter by parameter. An empty text takes one away.
func jobCommands(path string) (commands.JobCommands, error) {
	all := commands.DefaultJobCommands()
	if path == "" {
		return all, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the job commands: %w", err)
	}
	var over commands.JobCommands
	d := yaml.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&over); err != nil {
		return nil, fmt.Errorf("job commands %s: %w", path, err)
	}
	for kind, options := range over {
		if all[kind] == nil {
			all[kind] = map[string]string{}
		}
		maps.Copy(all[kind], options)
		maps.DeleteFunc(all[kind], func(_, option string) bool { return option == "" })
	}
	if err := all.Check(); err != nil {
		return nil, fmt.Errorf("job commands %s: %w", path, err)
	}
	return all, nil
}

// jobVerbs are what jobs can do beyond the common verbs.
func (a *app) jobVerbs(n noun) []*cobra.Command {
	below := func(tail string) func([]string) string {
		return func(args []string) string { return n.path + "/" + url.PathEscape(args[0]) + tail }
	}
	var state string
	var limit int
	devices := &cobra.Command{Use: "devices ID", Short: "List the devices that registered and got it, with its state on each", Args: cobra.ExactArgs(1)}
	devices.Flags().StringVar(&state, "state", "", "only those where it is queued, sent, rebooting, applied, verified, skipped, failed or superseded")
	devices.Flags().IntVar(&limit, "limit", 0, "at most so many; 0 for all")
	devices.RunE = func(cmd *cobra.Command, args []string) error {
		q := url.Values{}
		if state != "" {
			q.Set("state", state)
		}
		items, err := a.list(cmd.Context(), below("/devices")(args), q, limit)
		if err != nil {
			return err
		}
		return a.printList(items, []string{"device", "mac", "vendor", "model", "state", "reason", "attempt"})
	}
	watch := a.watchCmd("Show how it goes on, until no device is awaited any more", func(id string) string { return below("")([]string{id}) }, func(data []byte) (string, error) {
		var p struct {
			State                     string
			Devices, Registered, Open int
			Counts                    map[string]int
		}
		err := json.Unmarshal(data, &p)
		return fmt.Sprintf("%s, %d of %d devices have registered, open on %d:", p.State, p.Registered, p.Devices, p.Open) +
			counted(p.Counts, "queued", "sent", "rebooting", "applied", "verified", "skipped", "failed", "superseded"), err
	})
	return []*cobra.Command{devices, watch, a.action("retry ID", "Have it tried again where it failed", http.MethodPost, 1,
		[]field{{"device", "text", "only on this device"}}, below("/retry"))}
}
