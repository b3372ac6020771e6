package domain


// Settings are a phone's settings in vendor-neutral words: a tree of JSON values by key, a superset of
// wazo-provd's raw_config. A leaf is text, bool, number (json.Number or int), list, object, null
// or, for what must not be read, a Secret.
type Settings map[string]any

// SettingsError names the setting and the rule it breaks.
type SettingsError struct {
	Field string // dotted path: "sip_lines.1.transport"
	Rule  string // "must be one of udp, tcp, tls"
}

func (e *SettingsError) Error() string { return e.Field + " " + e.Rule }

