package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ledgerline/adapters/qr"
	"ledgerline/commands"
	"ledgerline/domain"
)

// svg draws a text for the API.
func svg(text string) (string, error) {
	c, err := qr.New(text)
	if err != nil {
		return "", err
	}
	return c.SVG(), nil
}

// softphoneQRCmd issues a code and draws it. The code is told this once; the picture is made here.
func (a *app) softphoneQRCmd() *cobra.Command {
	var format, out string
	var editable, withoutCode, link bool
	cmd := &cobra.Command{Use: "qr ID", Short: "Issue a code that lets its user sign in once, as a QR code for the app's camera", Args: cobra.ExactArgs(1),
		Long: "Draws what the user would type into the app: cloud ID, user name and a new code, which replaces the one issued before.\n" +
			"With --without-code the app asks for the code or password, and nothing is issued. With --link it is a link for the\n" +
			"vendor's retail apps, where the server lets them in (softphone-links)."}
	f := cmd.Flags()
	f.StringVar(&format, "format", "terminal", "terminal, svg, png or text")
	f.StringVar(&out, "out", "", "file to write it to, readable by you only; default standard output")
	f.BoolVar(&editable, "editable", false, "ask for the editable version of the portal's configuration")
	f.BoolVar(&withoutCode, "without-code", false, "name the user only")
	f.BoolVar(&link, "link", false, "a link for retail apps")
	cmd.MarkFlagsMutuallyExclusive("without-code", "link")
	cmd.MarkFlagsMutuallyExclusive("editable", "link")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		draw, ok := map[string]func(qr.Code) []byte{
			"svg":      func(c qr.Code) []byte { return []byte(c.SVG()) },
			"png":      func(c qr.Code) []byte { return c.PNG(0) },
			"terminal": func(c qr.Code) []byte { return []byte(c.Terminal(out == "" && a.onTerminal())) },
			"text":     nil,
		}[format]
		switch {
		case !ok:
			return usageError("--format must be terminal, svg, png or text")
		case a.dryRun:
			return usageError("nothing can be drawn of a code that is not issued; --without-code issues none")
		case format == "png" && out == "" && a.onTerminal():
			return usageError("a picture on a terminal is noise: give --out FILE")
		}
		path := "/softphones/" + url.PathEscape(args[0])
		var issued commands.SoftphoneCode
		if withoutCode {
			var row struct {
				CloudID  string `json:"cloud_id"`
				Username string `json:"username"`
			}
			var cloud struct {
				Spelling string `json:"spelling"`
			}
			if err := a.ask(cmd.Context(), http.MethodGet, path, nil, &row); err != nil {
				return err
			}
			if err := a.ask(cmd.Context(), http.MethodGet, "/cloudids/"+url.PathEscape(row.CloudID), nil, &cloud); err != nil {
				return err
			}
			issued.QRText = domain.SoftphoneSignIn{CloudID: cloud.Spelling, Editable: editable, Username: row.Username}.Text()
		} else if err := a.ask(cmd.Context(), http.MethodPost, path+"/code", map[string]any{"editable": editable, "link": link}, &issued); err != nil {
			return err
		}
		text := issued.QRText
		if link {
			text = issued.Link
		}
		picture := []byte(text + "\n")
		if draw != nil {
			c, err := qr.New(text)
			if err != nil {
				return err
			}
			picture = draw(c)
		}
		if out != "" {
			if err := renameio.WriteFile(out, picture, 0o600, renameio.IgnoreUmask()); err != nil {
				return fmt.Errorf("write %s: %w", out, err)
			}
		} else if _, err := a.out.Write(picture); err != nil {
			return err
		}
		if !withoutCode {
			fmt.Fprintf(a.errOut, "good once, until %s\n", issued.ValidUntil.Format("2006-01-02 15:04 MST"))
		}
		return nil
	}
	return cmd
}

// onTerminal tells whether what is printed goes to a terminal.
func (a *app) onTerminal() bool {
	f, ok := a.out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// definitionsCmd prints what belongs into the vendor's portal, or checks what stands there.
func (a *app) definitionsCmd() *cobra.Command {
	var tenant, cloudID, file string
	cmd := &cobra.Command{Use: "definitions", Short: "Print the web service definitions for the vendor's portal, or check those that stand there", Args: cobra.NoArgs,
		Long: "Prints a name and a value a line, to be pasted into the fields of that name on the portal, for each cloud ID of the\n" +
			"tenant. With --check FILE (- for standard input) it reads such lines, or XML elements, as they stand on the portal, and\nsays of each field what is wrong; the exit status is 1 if something would not work."}
	f := cmd.Flags()
	f.StringVar(&tenant, "tenant", "", "tenant")
	f.StringVar(&cloudID, "cloud-id", "", "the only cloud ID, if it has several")
	f.StringVar(&file, "check", "", "file with the definitions to check")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q := url.Values{}
		if tenant != "" {
			q.Set("tenant", tenant)
		}
		rows, err := a.list(cmd.Context(), "/cloudids", q, 0)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r map[string]any) bool { return cloudID != "" && !strings.EqualFold(cell(r["id"]), cloudID) })
		switch {
		case len(rows) == 0:
			return exitError{exitNotFound, errors.New("there is no such cloud ID")}
		case tenant == "" && cloudID == "":
			return usageError("give --tenant or --cloud-id")
		case file != "" && len(rows) > 1:
			return usageError("the tenant has %d cloud IDs: say whose definitions with --cloud-id", len(rows))
		}
		var text []byte
		if file != "" {
			if text, err = a.readFile(file); err != nil {
				return err
			}
		}
		for i, row := range rows {
			if err := a.definitions(cmd, row, text, file != "", i > 0); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func (a *app) definitions(cmd *cobra.Command, row map[string]any, text []byte, check, further bool) error {
	var got struct {
		CloudID     string                    `json:"cloud_id"`
		PublicURL   string                    `json:"public_url"`
		Definitions []domain.PortalValue      `json:"definitions"`
		Findings    []domain.SoftphoneFinding `json:"warnings"`
	}
	if err := a.ask(cmd.Context(), http.MethodGet, "/cloudids/"+url.PathEscape(cell(row["id"]))+"/definitions", nil, &got); err != nil {
		return err
	}
	if check {
		got.Definitions = domain.ParseDefinitions(string(text))
		got.Findings = domain.CheckDefinitions(got.Definitions, got.PublicURL, got.CloudID)
	}
	wrong := 0
	for _, f := range got.Findings {
		severity := "warning"
		if f.Error {
			severity, wrong = "error", wrong+1
		}
		line := fmt.Sprintf("%s  %s %s (%s)", severity, f.At, f.Text, f.Code)
		if f.Hint != "" {
			line += "; did you mean " + f.Hint
		}
		fmt.Fprintln(a.errOut, line)
	}
	switch {
	case a.output != "table":
		if err := a.printValue(got); err != nil {
			return err
		}
	case !check:
		if further {
			fmt.Fprintln(a.out)
		}
		fmt.Fprintf(a.out, "# %s\n", got.CloudID)
		for _, d := range got.Definitions {
			fmt.Fprintf(a.out, "%-36s %s\n", d.Name, d.Value)
		}
	case len(got.Findings) == 0:
		fmt.Fprintln(a.out, "nothing to complain about")
	}
	if check && wrong > 0 {
		return exitError{exitFailed, fmt.Errorf("%d fields would not work", wrong)}
	}
	return nil
}
