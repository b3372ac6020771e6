package domain

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// ParameterSet: a parameter of the whole instance has this value now. Neither Value nor Secret: it was cleared.
type ParameterSet struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	// Secret holds the value of a parameter that may contain a password.
	Secret Secret `json:"secret,omitzero"`
}

func (ParameterSet) EventType() string { return "parameter.set" }

var parameterEvents = []entry{of[ParameterSet]()}

// ParametersStream is where the instance's parameters stand.
const ParametersStream StreamID = "settings-parameters"

// Parameters are the parameters of the instance by name; one never set, or cleared, is not in it.
type Parameters struct{ ByName map[string]ParameterSet }

// Apply returns the parameters after e.
func (p Parameters) Apply(e Event) Parameters {
	if e, ok := e.(ParameterSet); ok {
		if e.Value == "" && e.Secret.IsZero() {
			p.ByName = without(p.ByName, e.Name)
		} else {
			p.ByName = put(p.ByName, e.Name, e)
		}
	}
	return p
}

// Set gives a parameter a value; the same again is no news.
func (p Parameters) Set(e ParameterSet) []Event {
	old := p.ByName[e.Name]
	if old.Value == e.Value && old.Secret.Same(e.Secret.Sealed) {
		return nil
	}
	return []Event{e}
}

// Parameters a wazo-provd compatible server has; the key of a tenant is no parameter of the instance.
const (
	ParamPluginServer = "plugin_server"
	ParamHTTPProxy    = "http_proxy"
	ParamFTPProxy     = "ftp_proxy"
	ParamHTTPSProxy   = "https_proxy"
	ParamLocale       = "locale"
	ParamNAT          = "NAT"
)

var (
	// ErrParameterUnknown: there is no such parameter.
	ErrParameterUnknown = errors.New("no such parameter")
	// ErrParameterValue: the value breaks the parameter's rule.
	ErrParameterValue = errors.New("is not a value of this parameter")
)

// SecretParameter tells whether the parameter may contain a password.
func SecretParameter(name string) bool {
	return slices.Contains([]string{ParamHTTPProxy, ParamFTPProxy, ParamHTTPSProxy}, name)
}

var parameterLocale = regexp.MustCompile(`^[a-z]{2,3}(_[A-Z]{2})?$`)

// CheckParameter is nil when the parameter may have the value; empty clears any. Errors: ErrParameterUnknown, ErrParameterValue.
func CheckParameter(name, value string) error {
	u, err := url.Parse(value)
	absolute := err == nil && u.Scheme != "" && u.Host != ""
	ok := len(value) <= 2048 && plainText(value)
	switch name {
	case ParamPluginServer:
		ok = ok && absolute
	case ParamHTTPProxy, ParamFTPProxy:
		ok = ok && absolute && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
	case ParamHTTPSProxy:
		ok = ok && !absolute
	case ParamLocale:
		ok = parameterLocale.MatchString(value)
	case ParamNAT:
		ok = value == "0" || value == "1"
	default:
		return ErrParameterUnknown
	}
	if !ok && value != "" {
		return ErrParameterValue
	}
	return nil
}
