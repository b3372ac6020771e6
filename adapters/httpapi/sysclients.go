package httpapi

import (
	"context"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// sysclient is what a device that connects to us is.
type sysclient struct {
	domain.SysclientFacts
	// Online: it is connected to this replica, and has authenticated.
	Online bool `json:"online"`
	// Grant is what let it have its password: code, token or operator; empty while it has none. Proved: it has answered
	// a challenge with it.
	Grant  string `json:"grant,omitempty" enum:"code,token,operator"`
	Proved bool   `json:"proved"`
	// URLProblem is what is wrong with the address of Devices it has stored.
	URLProblem string          `json:"url_problem,omitempty"`
	PartOf     domain.DeviceID `json:"part_of,omitempty" doc:"the device that it is an analog port of"`
	Port       string          `json:"port,omitempty"`
}

// sysclient is nil for a device that is none.
func (a *api) sysclient(row projections.Device) *sysclient {
	s := row.Sysclient
	if s.Product == "" && !s.HasPassword() && s.Port.Port == "" {
		return nil
	}
	return &sysclient{SysclientFacts: s.SysclientFacts, Online: a.Service.Sysclients != nil && a.Service.Sysclients.Connected(row.ID), Grant: s.Password.Grant, Proved: s.Proved,
		URLProblem: s.URLProblem, PartOf: s.Port.PartOf, Port: s.Port.Port}
}

// devicePage is a page of a device's own web server. It is somebody else's: a browser must not let it run anything, send
// anything, or be framed, for it comes from the same place as this API.
type devicePage struct {
	Status         int
	ContentType    string `header:"Content-Type"`
	SecurityPolicy string `header:"Content-Security-Policy"`
	CacheControl   string `header:"Cache-Control"`
	Position       string `header:"Ledger-Position"`
	Body           []byte
}

// PageAsked names a page by the rest of the path and the query, both as they are sent to the device.
type PageAsked struct {
	ByID
	Reason string `header:"X-Reason" maxLength:"500" doc:"why, for the record"`
	Path   string `path:"path" doc:"of the page, with its query; slashes as they stand"`
	target string
}

// Resolve keeps the target as it was written.
func (p *PageAsked) Resolve(h huma.Context) []error {
	u := h.URL()
	_, target, _ := strings.Cut(u.EscapedPath(), "/passthrough/")
	p.target = "/" + target
	if u.RawQuery != "" {
		p.target += "?" + u.RawQuery
	}
	return nil
}

func (a *api) sysclients() {
	deviceChange(a, op{"POST", "/devices/{id}/code-form", "show-code-form", "Ask the connected phone to show the form for a provisioning code again", supporters, 0}, sees, func(ctx context.Context, s *commands.Service, id domain.DeviceID, _ nothing) (commands.Outcome, error) {
		return s.ShowCodeForm(ctx, commands.ShowCodeForm{ID: id})
	})
	passes(a, op{"GET", "/devices/{id}/passthrough/{path}", "get-device-page", "A page of the connected device's own web server; recorded", operators, 0}, func(*PageAsked) []byte { return nil })
	passes(a, op{"POST", "/devices/{id}/passthrough/{path}", "post-device-page", "Send a page of the connected device's own web server a form; recorded", operators, 0}, func(in *struct {
		PageAsked
		RawBody []byte `contentType:"application/x-www-form-urlencoded"`
	}) []byte {
		return in.RawBody
	})
}

// passes registers one method of the passthrough.
func passes[I any, P interface {
	*I
	asked() *PageAsked
}](a *api, o op, body func(P) []byte) {
	operation := a.operation(o)
	operation.SkipValidateParams = true // the query is the device's
	huma.Register(a.huma, operation, func(ctx context.Context, in *I) (*devicePage, error) {
		asked := P(in).asked()
		var answer *devicePage
		err := a.run(ctx, in, func(ctx context.Context, s *commands.Service) (commands.Outcome, error) {
			id, err := a.reachesDevice(ctx, s, asked.ID, sees)
			if err != nil {
				return commands.Outcome{}, err
			}
			p, out, err := s.OpenPage(ctx, commands.OpenPage{ID: id, Method: o.method, Path: asked.target, Body: body(in)})
			answer = &devicePage{Status: p.Status, ContentType: p.ContentType(asked.target), SecurityPolicy: commands.PagePolicy, CacheControl: "no-store", Position: out.Position.String(), Body: p.Body}
			return out, err
		})
		return answer, err
	})
}

func (p *PageAsked) asked() *PageAsked { return p }
