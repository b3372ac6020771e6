package domain_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ledgerline/domain"
)

func TestParseSettings(t *testing.T) {
	s, err := domain.ParseSettings([]byte(`{"ntp_enabled": true, "ntp_ip": "192.0.2.1", "vlan_id": "20", "sip_registration_expires": 6e2,
		"timezone": "Europe/Paris", "locale": "fr_FR", "codecs": ["g722"], "sip_lines": {"1": {"proxy_port": " 5060 ", "username": "1001"}},
		"funckeys": {"2-7": {"type": "dnd"}}, "X_n": 1.5, "X_deep": {"a.b": [1, "x"]}, "locale": "de_DE"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := domain.Settings{"ntp_enabled": true, "ntp_ip": "192.0.2.1", "vlan_id": 20, "sip_registration_expires": 600,
		"timezone": "Europe/Paris", "locale": "de_DE", "codecs": []any{"g722"},
		"sip_lines": map[string]any{"1": map[string]any{"proxy_port": 5060, "username": "1001"}},
		"funckeys":  map[string]any{"2-7": map[string]any{"type": "dnd"}}, "X_n": 1.5, "X_deep": map[string]any{"a.b": []any{1, "x"}}}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}

// Each row breaks one rule; the error names field and rule.
func TestParseSettingsRefuses(t *testing.T) {
	for _, c := range []struct{ json, field, rule string }{
		{`[]`, "settings", "must be a JSON object"},
		{`null`, "settings", "null"},
		{`{} {}`, "settings", "something follows"},
		{`{"a":`, "settings", "must be a JSON object"},
		{"{\"locale\": \"\xff\"}", "settings", "UTF-8"},
		{`{"X_a":` + strings.Repeat(`{"a":`, 9) + `1` + strings.Repeat(`}`, 10), "settings", "nested"},
		{`{"X_a": "` + strings.Repeat("a", domain.MaxSettings) + `"}`, "settings", "exceed"},
		{`{"vlan_idd": 1}`, "vlan_idd", "not a known setting"},
		{`{"sip_lines": {"1": {"colour": "red"}}}`, "sip_lines.1.colour", "not a known setting"},
		{`{"sip_lines": {"one": {}}}`, "sip_lines.one", "number from 1"},
		{`{"sip_lines": {"01": {}}}`, "sip_lines.01", "number from 1"},
		{`{"sip_lines": {"1-2": {}}}`, "sip_lines.1-2", "number from 1"},
		{`{"sip_lines": []}`, "sip_lines", "must be an object"},
		{`{"sip_lines": {"1": 5}}`, "sip_lines.1", "must be an object"},
		{`{"vlan_id": 4095}`, "vlan_id", "0 to 4094"},
		{`{"vlan_id": "x"}`, "vlan_id", "0 to 4094"},
		{`{"vlan_id": 1.5}`, "vlan_id", "0 to 4094"},
		{`{"vlan_id": 1e400}`, "vlan_id", "0 to 4094"},
		{`{"X_n": 1e400}`, "X_n", "must be text"},
		{`{"vlan_enabled": "true"}`, "vlan_enabled", "true or false"},
		{`{"ntp_ip": 5}`, "ntp_ip", "must be text"},
		{`{"ntp_ip": "a b"}`, "ntp_ip", "host name"},
		{`{"timezone": "Europe/Atlantis"}`, "timezone", "time zone"},
		{`{"timezone": "europe/paris"}`, "timezone", "time zone"},
		{`{"locale": "french"}`, "locale", "fr_FR"},
		{`{"sip_transport": "sctp"}`, "sip_transport", "one of udp"},
		{`{"sip_transport": ""}`, "sip_transport", "one of udp"},
		{`{"codecs": ["mp3"]}`, "codecs", "must list only"},
		{`{"codecs": ["g722", "g722"]}`, "codecs", "twice"},
		{`{"codecs": "g722"}`, "codecs", "list"},
		{`{"codecs": [1]}`, "codecs", "list"},
		{`{"admin_password": "a\r\nb"}`, "admin_password", "control characters"},
		{`{"admin_password": "[redacted]"}`, "admin_password", "placeholder"},
		{`{"X_a": "a\u0000"}`, "X_a", "control characters"},
		{`{"X_a": [{"b": "\n"}]}`, "X_a.0.b", "control characters"},
		{`{"phonebook_url": "javascript:alert(1)"}`, "phonebook_url", "absolute URL"},
		{`{"phonebook_url": "http://"}`, "phonebook_url", "absolute URL"},
		{`{"phonebook_url": "http://a b"}`, "phonebook_url", "absolute URL"},
		{`{"provisioning_time": "24:00"}`, "provisioning_time", "time of day"},
		{`{"sip_local_key": "secret"}`, "sip_local_key", "PEM"},
		{`{"admin_password": {"$sealed": {"key_id": "k"}}}`, "admin_password", "must be text"},
		{`{"X_a": {"$sealed": {"key_id": "k"}}}`, `"X_a.$sealed"`, "not a name"},
		{`{"$sealed": {}}`, `"$sealed"`, "not a name"},
		{`{"tone_country": "FRA"}`, "tone_country", "longer"},
	} {
		_, err := domain.ParseSettings([]byte(c.json))
		var se *domain.SettingsError
		if !errors.As(err, &se) || !errors.Is(err, domain.ErrSettings) {
			t.Errorf("%.80s: got %v", c.json, err)
			continue
		}
		if se.Field != c.field || !strings.Contains(se.Rule, c.rule) {
			t.Errorf("%.80s: %q %q, want %q … %q", c.json, se.Field, se.Rule, c.field, c.rule)
		}
	}
}

func TestValidateNamesEveryProblemInOrder(t *testing.T) {
	_, err := domain.ParseSettings([]byte(`{"vlan_id": 9999, "locale": "x", "sip_lines": {"2": {"srtp_mode": "on"}}, "zzz": 1}`))
	want := "locale must be a locale such as fr_FR\nsip_lines.2.srtp_mode must be one of disabled, preferred, required\n" +
		"vlan_id must be a number from 0 to 4094\nzzz is not a known setting (free ones begin with X_)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestValidateMerged(t *testing.T) {
	s := domain.Settings{"ntp_enabled": true, "vlan_enabled": true, "vlan_id": 0, "dns_enabled": false,
		"sip_lines":          map[string]any{"1": map[string]any{"proxy_ip": "a"}, "2": map[string]any{"enabled": false}, "10": map[string]any{"username": "u"}},
		"funckeys":           map[string]any{"1": map[string]any{"type": "blf"}, "2": map[string]any{"label": "x"}, "3": map[string]any{"type": "park"}},
		"sccp_call_managers": map[string]any{"1": map[string]any{"port": 2000}}}
	err := s.ValidateMerged()
	want := "funckeys.1.value is needed for a key of type blf\nfunckeys.2.type is needed\nntp_ip is needed when ntp_enabled is true\n" +
		"sccp_call_managers.1.ip is needed\nsip_lines.1.username is needed\nsip_lines.10.proxy_ip is needed, here or as sip_proxy_ip"
	if err == nil || err.Error() != want || !errors.Is(err, domain.ErrSettings) {
		t.Errorf("got %v", err)
	}
	if err := (domain.Settings{}).ValidateMerged(); err != nil {
		t.Errorf("a phone without lines: %v", err)
	}
}

func TestMerge(t *testing.T) {
	base := domain.Settings{"a": map[string]any{"x": 1, "y": map[string]any{"p": 1, "q": 2}}, "l": []any{1, 2}, "s": "base", "keep": true}
	over := domain.Settings{"a": map[string]any{"y": map[string]any{"q": 3}, "z": nil}, "l": []any{}, "s": nil}
	want := domain.Settings{"a": map[string]any{"x": 1, "y": map[string]any{"p": 1, "q": 3}, "z": nil}, "l": []any{}, "s": nil, "keep": true}
	if diff := cmp.Diff(want, domain.Merge(base, over)); diff != "" {
		t.Error(diff)
	}
	if got := domain.Merge(nil, nil); got == nil || len(got) != 0 {
		t.Errorf("nothing over nothing is %v", got)
	}
}

func TestFillDefaults(t *testing.T) {
	s := domain.Settings{"http_base_url": "http://prov.example.net/d/x/", "syslog_enabled": true, "sip_proxy_ip": "p", "sip_proxy_port": 5070,
		"sip_backup_proxy_ip": "b", "sip_outbound_proxy_ip": "o", "sip_transport": "tls", "exten_voicemail": "*98", "codecs": []any{"pcma"},
		"sip_lines": map[string]any{
			"1": map[string]any{"username": "u"},
			"2": map[string]any{"username": "u", "auth_username": "a", "proxy_ip": "own", "transport": "udp", "enabled": false}}}
	before := s.Clone()
	got := s.FillDefaults()
	if !s.Equal(before) {
		t.Error("FillDefaults changed its receiver")
	}
	want := domain.Merge(s, domain.Settings{"ip": "prov.example.net", "http_port": 8667, "protocol": "SIP", "syslog_port": 514, "syslog_level": "warning",
		"syslog_transport": "udp", "sip_srtp_mode": "disabled", "sip_registrar_ip": "p", "sip_registrar_port": 5070, "sip_backup_registrar_ip": "b",
		"sccp_call_managers": map[string]any{}, "funckeys": map[string]any{},
		"sip_lines": map[string]any{
			"1": map[string]any{"enabled": true, "proxy_ip": "p", "proxy_port": 5070, "registrar_ip": "p", "registrar_port": 5070, "backup_proxy_ip": "b",
				"backup_registrar_ip": "b", "outbound_proxy_ip": "o", "auth_username": "u", "transport": "tls", "srtp_mode": "disabled",
				"voicemail": "*98", "codecs": []any{"pcma"}},
			"2": map[string]any{"registrar_ip": "own", "outbound_proxy_ip": "o", "srtp_mode": "disabled", "voicemail": "*98", "codecs": []any{"pcma"}}}})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if again := got.FillDefaults(); !again.Equal(got) {
		t.Error("filling twice differs from filling once")
	}
}

func TestGetPathsAndOrder(t *testing.T) {
	s := domain.Settings{"b": 1, "a": map[string]any{"c": nil, "d": map[string]any{}}}
	if got := s.Paths(); !slices.Equal(got, []string{"a.c", "a.d", "b"}) {
		t.Errorf("paths %v", got)
	}
	if s.Get("b") != 1 || s.Get("a.c") != nil || s.Get("a.x.y") != nil || s.Get("b.c") != nil {
		t.Error("Get is off")
	}
}

// sealed stands for what the vault makes of a clear text.
func sealed(t testing.TB, text string) domain.Sealed {
	t.Helper()
	var s domain.Sealed
	b, err := json.Marshal(map[string]any{"key_id": "device-1", "nonce": []byte("n"), "ciphertext": []byte(strings.ToUpper(text)), "fingerprint": fmt.Sprintf("%x", text)})
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecretsAreSealedAndComeBack(t *testing.T) {
	s := domain.Settings{"admin_password": "pw", "admin_username": "admin", "user_password": "", "X_free": map[string]any{"pin": 1234, "list": []any{"a"}, "off": nil},
		"X_xivo_phonebook_ip": "host", "X_xivo_user_uuid": "uuid", "sip_lines": map[string]any{"1": map[string]any{"password": "p~/x", "display_name": "Ann", "number": "1001"}}}
	clear := map[string]string{}
	var order []string
	closed, err := s.MapSecrets(func(pointer string, v any) (any, error) {
		text, err := domain.LeafText(v)
		clear[pointer] = text
		order = append(order, pointer)
		return domain.Secret{Sealed: sealed(t, pointer)}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/X_free/list", "/X_free/pin", "/X_xivo_user_uuid", "/admin_password", "/sip_lines/1/password"}
	if !slices.Equal(order, want) {
		t.Errorf("visited %v", order)
	}
	closed, err = closed.MapPersonal(func(pointer string, v any) (any, error) {
		clear[pointer] = v.(string)
		return domain.Personal{Sealed: sealed(t, pointer)}, nil
	})
	if err != nil || clear["/sip_lines/1/display_name"] != "Ann" || clear["/sip_lines/1/number"] != "1001" {
		t.Fatalf("personal leaves: %v %v", clear, err)
	}
	b, err := closed.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"1234", `"pw"`, "p~/x", "Ann", `"uuid"`} {
		if strings.Contains(string(b), secret) {
			t.Errorf("%s is readable in %s", secret, b)
		}
	}
	var back domain.Settings
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !back.Equal(closed) || back.Validate() != nil {
		t.Errorf("came back as %s (%v)", b, back.Validate())
	}
	open := func(pointer string, v any) (any, error) { return domain.LeafValue(clear[pointer]), nil }
	opened, err := back.MapSecrets(open)
	if err == nil {
		opened, err = opened.MapPersonal(open)
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, opened); diff != "" {
		t.Error(diff)
	}
}

func TestClearSecretsNeverReachJSON(t *testing.T) {
	s := domain.Settings{"admin_password": domain.NewSecret("device-1", "pw", "")}
	if _, err := s.Canonical(); !errors.Is(err, domain.ErrUnsealed) {
		t.Errorf("got %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(text, "pw\"") || strings.Contains(text, "{pw") {
		t.Errorf("printed as %s", text)
	}
}

func TestRedacted(t *testing.T) {
	s := domain.Settings{"admin_password": "pw", "X_a": map[string]any{"b": 5}, "ldap_password": domain.Secret{Sealed: sealed(t, "x")}, "locale": "fr_FR", "user_password": nil}
	want := domain.Settings{"admin_password": "[redacted]", "X_a": map[string]any{"b": "[redacted]"}, "ldap_password": "[redacted]", "locale": "fr_FR", "user_password": nil}
	if diff := cmp.Diff(want, s.Redacted()); diff != "" {
		t.Error(diff)
	}
	if s["admin_password"] != "pw" {
		t.Error("Redacted changed its receiver")
	}
}

func TestMapSecretsStopsAtTheFirstError(t *testing.T) {
	boom := errors.New("boom")
	calls := 0
	_, err := domain.Settings{"admin_password": "a", "user_password": "b"}.MapSecrets(func(string, any) (any, error) { calls++; return nil, boom })
	if err != boom || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestSchemaIsWellFormed(t *testing.T) {
	for _, d := range domain.Schema() {
		bounded := d.Max > d.Min || d.Kind != domain.KindInt && d.Kind != domain.KindText
		listed := len(d.Values) > 0 || d.Kind != domain.KindEnum && d.Kind != domain.KindList
		if !bounded || !listed || d.Secret && d.Personal {
			t.Errorf("%s: %+v", d.Path, d)
		}
	}
	for _, must := range []string{"sip_lines.*.password", "admin_password", "user_password", "ldap_password", "dot1x_password", "sip_local_key", "X_xivo_user_uuid", "provisioning_password"} {
		if i := slices.IndexFunc(domain.Schema(), func(d domain.SettingDef) bool { return d.Path == must && d.Secret }); i < 0 {
			t.Errorf("%s must be secret", must)
		}
	}
}

// Every key of wazo-provd's raw_config is known (reference/wazo-provd.md §2.4).
func TestSchemaCoversRawConfig(t *testing.T) {
	known := map[string]bool{}
	for _, d := range domain.Schema() {
		known[d.Path] = true
	}
	for name := range strings.FieldsSeq(`ip http_port http_base_url tftp_port dns_enabled dns_ip ntp_enabled ntp_ip vlan_enabled vlan_id vlan_priority
		vlan_pc_port_id syslog_enabled syslog_ip syslog_port syslog_level admin_username admin_password user_username user_password timezone locale protocol
		sip_proxy_ip sip_proxy_port sip_backup_proxy_ip sip_backup_proxy_port sip_registrar_ip sip_registrar_port sip_backup_registrar_ip
		sip_backup_registrar_port sip_outbound_proxy_ip sip_outbound_proxy_port sip_dtmf_mode sip_srtp_mode sip_transport
		sip_servers_root_and_intermediate_certificates sip_local_root_and_intermediate_certificates sip_local_certificate sip_local_key sip_subscribe_mwi
		sip_lines sccp_call_managers sccp_call_managers.*.ip sccp_call_managers.*.port exten_dnd exten_fwd_unconditional exten_fwd_no_answer exten_fwd_busy
		exten_fwd_disable_all exten_park exten_pickup_group exten_pickup_call exten_voicemail funckeys funckeys.*.type funckeys.*.value funckeys.*.label
		funckeys.*.line config_version X_xivo_phonebook_ip X_xivo_phonebook_scheme X_xivo_phonebook_port X_xivo_phonebook_profile X_xivo_user_uuid
		sip_lines.*.proxy_ip sip_lines.*.proxy_port sip_lines.*.backup_proxy_ip sip_lines.*.backup_proxy_port sip_lines.*.registrar_ip
		sip_lines.*.registrar_port sip_lines.*.backup_registrar_ip sip_lines.*.backup_registrar_port sip_lines.*.outbound_proxy_ip
		sip_lines.*.outbound_proxy_port sip_lines.*.username sip_lines.*.password sip_lines.*.auth_username sip_lines.*.display_name sip_lines.*.number
		sip_lines.*.dtmf_mode sip_lines.*.srtp_mode sip_lines.*.voicemail`) {
		if !known[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

// genSettings draws valid settings, with free keys, nulls and objects at several depths.
func genSettings() *rapid.Generator[domain.Settings] {
	text := rapid.StringMatching(`[a-zA-Z0-9 é<&#=;%"']{0,12}`)
	free := rapid.OneOf(rapid.Just[any](nil), rapid.Map(text, toAny), rapid.Map(rapid.IntRange(-9, 1<<40), toAny), rapid.Map(rapid.Bool(), toAny),
		rapid.Map(rapid.SliceOfN(text, 0, 3), func(l []string) any {
			out := make([]any, len(l))
			for i := range l {
				out[i] = l[i]
			}
			return out
		}), rapid.Map(rapid.Float64Range(-1e9, 1e9), func(f float64) any {
			if f == float64(int(f)) {
				return int(f)
			}
			return f
		}))
	line := rapid.Custom(func(t *rapid.T) any {
		m := map[string]any{}
		put(t, m, "username", rapid.Map(text, toAny))
		put(t, m, "password", rapid.Map(text, toAny))
		put(t, m, "proxy_port", rapid.Map(rapid.IntRange(1, 65535), toAny))
		put(t, m, "display_name", rapid.Map(text, toAny))
		return m
	})
	return rapid.Custom(func(t *rapid.T) domain.Settings {
		s := domain.Settings{}
		put(t, s, "ntp_enabled", rapid.Map(rapid.Bool(), toAny))
		put(t, s, "vlan_id", rapid.Map(rapid.IntRange(0, 4094), toAny))
		put(t, s, "admin_password", rapid.Map(text, toAny))
		put(t, s, "timezone", rapid.Map(rapid.SampledFrom(domain.Zones()), toAny))
		put(t, s, "codecs", rapid.Just[any]([]any{"g722", "pcma"}))
		put(t, s, "X_free", free)
		put(t, s, "X_tree", rapid.Map(rapid.MapOfN(rapid.StringMatching(`[a-z~/.]{1,4}`), free, 0, 3), func(m map[string]any) any { return m }))
		put(t, s, "sip_lines", rapid.Map(rapid.MapOfN(rapid.StringMatching(`[1-9]`), line, 0, 3), func(m map[string]any) any { return m }))
		return s
	})
}

func toAny[T any](v T) any { return v }

// put draws: absent, null, or a value.
func put(t *rapid.T, m map[string]any, key string, g *rapid.Generator[any]) {
	switch rapid.IntRange(0, 3).Draw(t, key+"?") {
	case 0:
	case 1:
		m[key] = nil
	default:
		m[key] = g.Draw(t, key)
	}
}

func TestParseOfCanonicalIsIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSettings().Draw(t, "settings")
		b, err := s.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		back, err := domain.ParseSettings(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		again, err := back.Canonical()
		if err != nil || string(again) != string(b) || !back.Equal(s) || !reflect.DeepEqual(back, s) {
			t.Fatalf("%s came back as %s, %v", b, again, err)
		}
	})
}

// Merging is associative as long as no layer puts an object where another has none; nulls and lists replace.
func TestMergeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := rapid.Map(genSettings(), func(s domain.Settings) domain.Settings {
			for _, k := range []string{"sip_lines", "X_tree"} {
				if s[k] == nil {
					delete(s, k)
				}
			}
			return s
		})
		a, b, c := g.Draw(t, "a"), g.Draw(t, "b"), g.Draw(t, "c")
		a0, b0 := a.Clone(), b.Clone()
		ab := domain.Merge(a, b)
		if left, right := domain.Merge(ab, c), domain.Merge(a, domain.Merge(b, c)); !left.Equal(right) {
			t.Fatalf("(a+b)+c %v\na+(b+c) %v", left, right)
		}
		if !domain.Merge(a, a).Equal(a) || !domain.Merge(nil, a).Equal(a) || !domain.Merge(a, nil).Equal(a) {
			t.Fatal("merging with itself or nothing changes something")
		}
		over := domain.Overlay(a, b, c)
		if want := domain.Merge(ab, c).FillDefaults(); !over.Equal(want) {
			t.Fatalf("overlay %v\nmerge %v", over, want)
		}
		scribble(over)
		scribble(ab)
		if !a.Equal(a0) || !b.Equal(b0) {
			t.Fatal("the result shares something with its inputs")
		}
	})
}

// scribble overwrites everything reachable.
func scribble(v any) {
	switch v := v.(type) {
	case domain.Settings:
		scribble(map[string]any(v))
	case map[string]any:
		for k := range v {
			scribble(v[k])
			v[k] = "scribble"
		}
		v["extra"] = true
	case []any:
		for i := range v {
			v[i] = "scribble"
		}
	}
}

func TestSealedRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := genSettings().Draw(rt, "settings")
		clear := map[string]string{}
		closed, err := s.MapSecrets(func(pointer string, v any) (any, error) {
			text, err := domain.LeafText(v)
			clear[pointer] = text
			return domain.Secret{Sealed: sealed(t, pointer)}, err
		})
		if err != nil {
			rt.Fatal(err)
		}
		if len(closed.Secrets()) != len(clear) || len(s.Secrets()) != len(clear) {
			rt.Fatalf("%v sealed, %v listed", clear, closed.Secrets())
		}
		b, err := json.Marshal(closed)
		if err != nil {
			rt.Fatal(err)
		}
		var back domain.Settings
		if err := json.Unmarshal(b, &back); err != nil || !back.Equal(closed) {
			rt.Fatalf("%s: %v", b, err)
		}
		opened, err := back.MapSecrets(func(pointer string, _ any) (any, error) { return domain.LeafValue(clear[pointer]), nil })
		if err != nil || !reflect.DeepEqual(opened, s) {
			rt.Fatalf("%v came back as %v, %v", s, opened, err)
		}
	})
}

func FuzzParseSettings(f *testing.F) {
	for _, s := range []string{`{}`, `{"vlan_id":"20"}`, `{"sip_lines":{"1":{"password":"p"}}}`, `{"X_a":[1,2.5,{"b":null}]}`, `{"a":1,"a":2}`,
		`{"funckeys":{"2-7":{"type":"blf"}}}`, `{"X_a":1e400}`, `{"timezone":"Europe/Paris","codecs":["g722"]}`, `{"X":{"$sealed":{}}}`, `[[[[`, "\xff", `{"":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := domain.ParseSettings(b)
		if err != nil {
			if !errors.Is(err, domain.ErrSettings) {
				t.Fatalf("%v is no ErrSettings", err)
			}
			return
		}
		c, err := s.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		back, err := domain.ParseSettings(c)
		if err != nil && len(c) <= domain.MaxSettings || err == nil && !back.Equal(s) {
			t.Fatalf("%s: %v", c, err)
		}
		_ = s.FillDefaults().ValidateMerged()
		_ = s.Redacted()
	})
}
