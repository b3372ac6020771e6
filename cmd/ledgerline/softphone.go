package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ledgerline/domain"
)

// softphoneVerbs are what a Cloud Softphone can be asked beyond the common verbs.
func (a *app) softphoneVerbs() []*cobra.Command {
	return []*cobra.Command{a.dialCmd(), a.importXMLCmd(), a.exportXMLCmd(), a.previewCmd()}
}

func (a *app) previewCmd() *cobra.Command {
	return &cobra.Command{Use: "preview ID", Short: "Show what its apps are told now, from which level it comes, and what is wrong with it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ans, err := a.call(cmd.Context(), http.MethodGet, "/softphones/"+url.PathEscape(args[0])+"/preview", nil, nil)
			if err != nil {
				return err
			}
			if a.output != "table" {
				return a.printJSON(ans.body)
			}
			var p struct {
				From     map[string]string
				Findings []domain.SoftphoneFinding
				XML      struct{ Account, Global string }
			}
			if err := json.Unmarshal(ans.body, &p); err != nil {
				return fmt.Errorf("read the server's answer: %w", err)
			}
			fmt.Fprint(a.out, p.XML.Account, p.XML.Global)
			for _, at := range slices.Sorted(maps.Keys(p.From)) {
				fmt.Fprintf(a.out, "%s comes from %s\n", at, p.From[at])
			}
			for _, f := range p.Findings {
				fmt.Fprintf(a.out, "%s: %s\n", map[bool]string{true: "error", false: "warning"}[f.Error], findingLine(f))
			}
			return nil
		}}
}

// levelFlags name one level of what apps are told.
type levelFlags struct{ tenant, cloudID, category, user, softphone string }

func (l *levelFlags) declare(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.tenant, "tenant", "", "the level of the tenant's only cloud ID")
	cmd.Flags().StringVar(&l.cloudID, "cloud-id", "", "the level of this cloud ID")
	cmd.Flags().StringVar(&l.category, "category", "", "the level of this category")
	cmd.Flags().StringVar(&l.user, "user", "", "the level of the user's only Cloud Softphone")
	cmd.Flags().StringVar(&l.softphone, "softphone", "", "the level of this Cloud Softphone")
	cmd.MarkFlagsMutuallyExclusive("tenant", "cloud-id", "category", "user", "softphone")
	cmd.MarkFlagsOneRequired("tenant", "cloud-id", "category", "user", "softphone")
}

// path is the level's in the API.
func (a *app) levelPath(ctx context.Context, l levelFlags) (string, error) {
	switch {
	case l.tenant != "":
		return a.only(ctx, "/cloudids", "tenant", l.tenant, "--cloud-id")
	case l.cloudID != "":
		return "/cloudids/" + url.PathEscape(l.cloudID), nil
	case l.category != "":
		return "/categories/" + url.PathEscape(l.category), nil
	case l.user != "":
		return a.only(ctx, "/softphones", "user", l.user, "--softphone")
	}
	return "/softphones/" + url.PathEscape(l.softphone), nil
}

// only is the path of the one thing of a list; flag is what names one of several.
func (a *app) only(ctx context.Context, path, filter, of, flag string) (string, error) {
	items, err := a.list(ctx, path, url.Values{filter: {of}}, 0)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, item := range items {
		id, _ := item["id"].(string)
		ids = append(ids, id)
	}
	if len(ids) != 1 {
		return "", usageError("%s %s has %d of %s: name one by %s (%s)", filter, of, len(ids), path, flag, strings.Join(ids, " "))
	}
	return path + "/" + url.PathEscape(ids[0]), nil
}

func (a *app) dialCmd() *cobra.Command {
	var l levelFlags
	var number, action, network, ssid string
	cmd := &cobra.Command{Use: "dial", Short: "Say what becomes of a number that a user dials, and by which rule of which level", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&l.user, "user", "", "who dials")
	cmd.Flags().StringVar(&l.softphone, "softphone", "", "with which Cloud Softphone; the user's only one when absent")
	cmd.Flags().StringVar(&number, "number", "", "what is dialled")
	cmd.Flags().StringVar(&action, "action", "", "the dial action chosen; autoCall when absent")
	cmd.Flags().StringVar(&network, "network", "", "type of the phone's network, for rules that ask")
	cmd.Flags().StringVar(&ssid, "ssid", "", "name of the phone's wireless network, for rules that ask")
	_ = cmd.MarkFlagRequired("number")
	cmd.MarkFlagsMutuallyExclusive("user", "softphone")
	cmd.MarkFlagsOneRequired("user", "softphone")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		path, err := a.levelPath(cmd.Context(), l)
		if err != nil {
			return err
		}
		q := url.Values{"number": {number}}
		for name, v := range map[string]string{"action": action, "network": network, "ssid": ssid} {
			if v != "" {
				q.Set(name, v)
			}
		}
		ans, err := a.call(cmd.Context(), http.MethodGet, path+"/dial", q, nil)
		if err != nil {
			return err
		}
		if a.output != "table" {
			return a.printJSON(ans.body)
		}
		return a.printDialled(number, ans.body)
	}
	return cmd
}

func (a *app) printDialled(number string, body []byte) error {
	var d struct {
		Number     string
		DialAction string `json:"dial_action"`
		Record     bool
		Headers    []string
		Steps      []struct {
			Level, Of, Why, Number string
			Rule                   int
			Applied                bool
		}
		Emergency, Loop bool
		Assumed         string
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	for _, s := range d.Steps {
		does := "passed over"
		if s.Applied {
			does = "applied, now " + s.Number
		}
		fmt.Fprintf(a.out, "%s, %s, rule %d: %s (%s)\n", s.Level, s.Of, s.Rule, does, s.Why)
	}
	fmt.Fprintf(a.out, "%s is dialled as %s, by %s", number, d.Number, d.DialAction)
	if d.Record {
		fmt.Fprint(a.out, ", recorded")
	}
	for _, h := range d.Headers {
		fmt.Fprintf(a.out, ", with the header %q", h)
	}
	fmt.Fprintln(a.out)
	if d.Emergency && d.Number != number {
		fmt.Fprintln(a.out, "warning: an emergency number is changed")
	}
	if d.Loop {
		fmt.Fprintln(a.out, "warning: dial actions lead back to one another, and this is where it was given up")
	}
	fmt.Fprintln(a.out, "assumed: "+d.Assumed)
	return nil
}

func (a *app) importXMLCmd() *cobra.Command {
	var l levelFlags
	cmd := &cobra.Command{Use: "import FILE", Short: "Replace what a level says by XML you have: an account, or quick dials and dial actions; - for standard input", Args: cobra.ExactArgs(1)}
	l.declare(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		xml, err := a.readFile(args[0])
		if err != nil {
			return err
		}
		path, err := a.levelPath(cmd.Context(), l)
		if err != nil {
			return err
		}
		return a.send(cmd, http.MethodPut, path+"/xml", map[string]any{"xml": string(xml)})
	}
	return cmd
}

func (a *app) exportXMLCmd() *cobra.Command {
	var l levelFlags
	var part string
	cmd := &cobra.Command{Use: "export", Short: "Print what a level says as the vendor's XML; secrets are redacted, and importing them back keeps them", Args: cobra.NoArgs}
	l.declare(cmd)
	cmd.Flags().StringVar(&part, "part", "global", "account, or global (quick dials and dial actions)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if part != "account" && part != "global" {
			return usageError("--part must be account or global")
		}
		path, err := a.levelPath(cmd.Context(), l)
		if err != nil {
			return err
		}
		ans, err := a.call(cmd.Context(), http.MethodGet, path+"/xml", nil, nil)
		if err != nil {
			return err
		}
		var parts map[string]string
		if err := json.Unmarshal(ans.body, &parts); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		_, err = fmt.Fprint(a.out, parts[part])
		return err
	}
	return cmd
}

// categorySoftphoneCmds show and set what Cloud Softphones of a category are told.
func (a *app) categorySoftphoneCmds() []*cobra.Command {
	path := func(args []string) string { return "/categories/" + url.PathEscape(args[0]) + "/softphone" }
	set := &cobra.Command{Use: "set-softphone ID", Short: "Say what apps of its Cloud Softphones are told, over what their cloud ID says", Args: cobra.ExactArgs(1)}
	fields := []field{{"document", "settings", "JSON file with nodes, quick_dials and dial_actions"}}
	declare(set.Flags(), fields)
	set.RunE = func(cmd *cobra.Command, args []string) error { return a.change(cmd, path(args), path(args), fields) }
	return []*cobra.Command{set, a.action("show-softphone ID", "Show what apps of its Cloud Softphones are told", http.MethodGet, 1, nil, path)}
}
