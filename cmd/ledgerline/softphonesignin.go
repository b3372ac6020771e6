package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"

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
		} else if err := a.ask(cmd.Context(), http.MethodPost, path+"/code", map[string]any{"editable": editable}, &issued); err != nil {
			return err
		}
		text := issued.QRText
		if link {
			if text = issued.Link; text == "" {
				return exitError{exitFailed, errors.New("the server lets no retail apps in: start it with --softphone-links")}
			}
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
