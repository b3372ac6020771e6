package phonesim

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ErrNoPage: the phone's settings lead to no page that asks for a code, or the page is none its browser knows.
var ErrNoPage = errors.New("no page to type a code into")

// EnterCode types a provisioning code into the page the phone's browser opens: a Yealink by a key of type XML browser, a Snom when it
// has started. If the page that comes back restarts the phone, it boots. A refused code is ErrNoFile, as with Redeem: the form
// is shown again, and the phone goes on as before. Other errors: ErrNoPage, and as with Boot.
func (p *Phone) EnterCode(ctx context.Context, code string) (Result, error) {
	at := ""
	if p.vendor.page != nil {
		at = p.vendor.page(p.Parsed().Raw)
	}
	if at == "" {
		return Result{State: p.State(), Server: p.Server()}, ErrNoPage
	}
	form, err := p.page(ctx, at)
	if err != nil {
		return Result{State: p.State(), Server: p.Server()}, err
	}
	action, parameter, ok := form.asks()
	if !ok {
		return Result{State: p.State(), Server: p.Server()}, fmt.Errorf("%w: <%.40s> asks for nothing", ErrNoPage, form.name)
	}
	joint := "?"
	if strings.Contains(action, "?") {
		joint = "&"
	}
	answer, err := p.page(ctx, action+joint+url.Values{parameter: {code}}.Encode())
	switch {
	case err != nil:
		return Result{State: p.State(), Server: p.Server()}, err
	case answer.restarts():
		return p.Boot(ctx)
	}
	return Result{State: p.State(), Server: p.Server()}, fmt.Errorf("enter code: %w", ErrNoFile)
}

func (p *Phone) page(ctx context.Context, at string) (*node, error) {
	f, err := p.Get(ctx, at)
	if err != nil {
		return nil, err
	}
	if !f.Found() {
		return nil, ErrNoFile
	}
	return parseXML(f.Body)
}

// asks finds where a form goes and the name of what is typed in.
func (n *node) asks() (action, parameter string, ok bool) {
	switch n.name {
	case "YealinkIPPhoneInputScreen":
		action, parameter = n.inner("URL"), n.inner("Parameter")
	case "SnomIPPhoneInput":
		action, parameter = n.inner("URL"), n.inner("InputItem", "QueryStringParam")
	}
	return action, parameter, action != "" && parameter != ""
}

// restarts tells whether a page makes the phone start anew.
func (n *node) restarts() bool {
	switch n.name {
	case "YealinkIPPhoneExecute":
		for _, item := range n.children {
			if item.name == "ExecuteItem" && strings.ReplaceAll(item.attrs["URI"], " ", "") == "Command:Reset" {
				return true
			}
		}
	case "SnomIPPhoneText":
		_, fragment, _ := strings.Cut(n.inner("fetch"), "#")
		return fragment == "reboot=true"
	}
	return false
}

// inner is the text of the element below n that names leads to.
func (n *node) inner(names ...string) string {
	for _, name := range names {
		var next *node
		for _, c := range n.children {
			if c.name == name {
				next = c
				break
			}
		}
		if next == nil {
			return ""
		}
		n = next
	}
	return strings.TrimSpace(string(n.text))
}

// yealinkPage is the URL of the first line key of type 27, XML browser.
func yealinkPage(v Values) string {
	for _, n := range v.indexes("linekey.") {
		if key := fmt.Sprintf("linekey.%d.", n); v[key+"type"] == "27" {
			return v[key+"value"]
		}
	}
	return ""
}

// snomPage is what a Snom opens when it has started.
func snomPage(v Values) string { return v["action_setup_url"] }
