package provd_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"ledgerline/domain"
)

// A config is kept as it was given, unknown keys and all, and read back with its passwords.
func TestConfigLife(t *testing.T) {
	s := newStand(t)
	doc := object{"id": "tpl", "parent_ids": []any{"base", "nowhere"}, "deletable": true, "X_type": "internal", "label": "Template", "displayname": "d", "configdevice": "x",
		"raw_config": object{"ntp_enabled": true, "ntp_ip": "10.0.0.1", "admin_password": "s3cret", "sip_proxy_port": "5060", "X_free": object{"a": []any{1.0}},
			"sip_lines": object{"1": object{"username": "u", "password": "p", "display_name": "Ann", "number": "42", "vendor_key": "kept"}, "one": object{"username": "v"}},
			"funckeys":  object{"1": object{"type": "blf", "value": "43"}}}}
	made := s.must(201, "POST", "/cfg_mgr/configs", object{"config": doc})
	if at := made.Header.Get("Location"); at != "/0.2/cfg_mgr/configs/tpl" || made.json(t)["id"] != "tpl" {
		t.Errorf("Location is %q, the answer %s", at, made.body)
	}
	equal(t, "the config made", s.configDoc("tpl"), doc)

	// PUT replaces all of it.
	s.must(204, "PUT", "/cfg_mgr/configs/tpl", object{"config": object{"id": "other", "parent_ids": []string{}, "raw_config": object{"locale": "fr_FR", "ntp_ip": nil}}})
	equal(t, "the config replaced", s.configDoc("tpl"), object{"id": "tpl", "parent_ids": []any{}, "raw_config": object{"locale": "fr_FR", "ntp_ip": nil}})

	s.must(204, "DELETE", "/cfg_mgr/configs/tpl", nil)
	s.must(404, "GET", "/cfg_mgr/configs/tpl", nil)
	s.must(404, "GET", "/cfg_mgr/configs/tpl/raw", nil)
	s.must(404, "DELETE", "/cfg_mgr/configs/tpl", nil)
	if id := s.config(object{"parent_ids": []string{}, "raw_config": object{}}); !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
		t.Errorf("the server picks the id %q", id)
	}
}

func TestBadConfigs(t *testing.T) {
	s := newStand(t)
	s.config(object{"id": "there", "parent_ids": []string{}, "raw_config": object{}})
	s.must(400, "POST", "/cfg_mgr/configs", object{"config": object{"id": "there", "parent_ids": []string{}, "raw_config": object{}}})
	s.must(400, "POST", "/cfg_mgr/configs", object{"config": object{"id": "../x", "parent_ids": []string{}, "raw_config": object{}}})
	for _, doc := range []object{
		{"parent_ids": []string{}}, {"raw_config": object{}}, {"parent_ids": "x", "raw_config": object{}}, {"parent_ids": []int{1}, "raw_config": object{}},
		{"parent_ids": []string{}, "raw_config": []string{}}, {"parent_ids": []string{}, "raw_config": object{"no_such_setting": 1}},
		{"parent_ids": []string{}, "raw_config": object{"timezone": "Mars/Olympus"}}, {"parent_ids": []string{}, "raw_config": object{"locale": "french"}},
		{"parent_ids": []string{}, "raw_config": object{"sip_dtmf_mode": "smoke"}}, {"parent_ids": []string{}, "raw_config": object{"funckeys": object{"a": object{"type": "blf"}}}},
		{"parent_ids": []string{}, "raw_config": object{"sccp_call_managers": object{"x": object{"ip": "10.0.0.1"}}}},
		{"parent_ids": []string{}, "raw_config": object{"ntp_enabled": "perhaps"}}, {"parent_ids": []string{}, "raw_config": object{"vlan_id": 5000}},
		{"parent_ids": []string{}, "raw_config": object{}, "deletable": "no"},
	} {
		s.must(400, "POST", "/cfg_mgr/configs", object{"config": doc})
		s.must(500, "PUT", "/cfg_mgr/configs/there", object{"config": doc})
	}
	// An unknown id is looked at before the content.
	s.must(404, "PUT", "/cfg_mgr/configs/unknown", object{"config": object{"id": nil}})
	if ids := s.list("/cfg_mgr/configs"); len(ids) != 1 {
		t.Errorf("configs are %v", ids)
	}
}

// A config that is not deletable cannot be deleted until a PUT says so.
func TestDeletable(t *testing.T) {
	s := newStand(t)
	doc := object{"id": "kept", "parent_ids": []any{}, "raw_config": object{}, "deletable": false}
	s.config(doc)
	equal(t, "it", s.configDoc("kept"), doc)
	s.must(403, "DELETE", "/cfg_mgr/configs/kept", nil)
	doc["deletable"] = true
	s.must(204, "PUT", "/cfg_mgr/configs/kept", object{"config": doc})
	s.must(204, "DELETE", "/cfg_mgr/configs/kept", nil)
}

// With X_type device, keys whose value is null are stripped at every depth.
func TestTemplatesHaveNoNulls(t *testing.T) {
	s := newStand(t)
	s.config(object{"id": "t", "X_type": "device", "parent_ids": []string{}, "raw_config": object{"ntp_ip": nil, "locale": "fr_FR", "sip_lines": object{"1": object{"username": nil, "password": "p"}}}})
	equal(t, "raw_config", s.configDoc("t")["raw_config"].(object), object{"locale": "fr_FR", "sip_lines": object{"1": object{"password": "p"}}})
}

// Merging: parents in order, each one's own before it, each once; a later one beats an earlier, the config beats all;
// objects merge at every depth, all else replaces; loops and unknown parents are harmless.
func TestMerging(t *testing.T) {
	s := newStand(t)
	raw := func(id string, parents []string, raw object) {
		s.config(object{"id": id, "parent_ids": parents, "raw_config": raw})
	}
	raw("root", []string{"loop"}, object{"X_a": "root", "X_b": "root", "X_c": "root", "X_list": []int{1, 2}, "X_deep": object{"x": object{"one": 1, "two": 2}}})
	raw("left", []string{"root"}, object{"X_a": "left", "X_d": "left"})
	raw("right", []string{"root"}, object{"X_a": "right", "X_list": []int{3}, "X_deep": object{"x": object{"two": 22}}})
	raw("loop", []string{"leaf"}, object{"X_e": "loop", "X_a": "loop"})
	raw("leaf", []string{"left", "unknown", "right"}, object{"X_b": nil, "locale": "fr_FR"})
	got := s.must(200, "GET", "/cfg_mgr/configs/leaf/raw", nil).json(t)["raw_config"].(object)
	for k, want := range map[string]any{"X_a": "right", "X_b": nil, "X_c": "root", "X_d": "left", "X_e": "loop", "X_list": []any{3.0},
		"X_deep": object{"x": object{"one": 1.0, "two": 22.0}}, "locale": "fr_FR"} {
		if fmt.Sprint(got[k]) != fmt.Sprint(want) {
			t.Errorf("%s is %v, not %v", k, got[k], want)
		}
	}
	// The server's own values lie below.
	if got["http_base_url"] != s.phones || got["ip"] != "127.0.0.1" || got["http_port"] == nil {
		t.Errorf("the server's address is %v %v %v", got["http_base_url"], got["ip"], got["http_port"])
	}
}

// A new phone's config is a copy of the mould: transient, its parent the mould, of no role.
func TestAutocreate(t *testing.T) {
	s := newStand(t)
	s.must(404, "POST", "/cfg_mgr/autocreate", object{})
	s.must(415, "POST", "/cfg_mgr/autocreate", object{}, with("Content-Type", "text/plain"))
	s.config(object{"id": "lineless", "role": "autocreate", "parent_ids": []string{}, "raw_config": object{}})
	s.must(404, "POST", "/cfg_mgr/autocreate", object{})
	s.must(204, "DELETE", "/cfg_mgr/configs/lineless", nil)

	mould := object{"sip_lines": object{"1": object{"username": "ap12345678", "password": "secret", "proxy_ip": "10.0.0.1"}}, "config_version": 1.0}
	s.config(object{"id": "autoprov", "role": "autocreate", "parent_ids": []string{"base"}, "raw_config": mould, "X_type": "internal", "deletable": false})
	one, _ := s.must(201, "POST", "/cfg_mgr/autocreate", object{}).json(t)["id"].(string)
	two, _ := s.must(201, "POST", "/cfg_mgr/autocreate", object{}).json(t)["id"].(string)
	if !strings.HasPrefix(one, "autoprov") || one == "autoprov" || one == two {
		t.Errorf("ids are %q and %q", one, two)
	}
	equal(t, "the copy", s.configDoc(one), object{"id": one, "parent_ids": []any{"autoprov"}, "raw_config": mould, "transient": true})
}

// A transient config goes when its last device leaves it or is deleted.
func TestTransientConfigs(t *testing.T) {
	s := newStand(t)
	for _, id := range []string{"passing", "passing2"} {
		s.config(object{"id": id, "transient": true, "parent_ids": []string{}, "raw_config": object{}})
	}
	s.config(object{"id": "staying", "parent_ids": []string{}, "raw_config": object{}})
	one, two := s.device(object{"config": "passing"}), s.device(object{"config": "passing"})
	s.must(204, "PUT", "/dev_mgr/devices/"+one, object{"device": object{"config": "staying"}})
	s.must(200, "GET", "/cfg_mgr/configs/passing", nil)
	s.must(204, "DELETE", "/dev_mgr/devices/"+two, nil)
	s.must(404, "GET", "/cfg_mgr/configs/passing", nil)
	s.must(204, "DELETE", "/dev_mgr/devices/"+one, nil)
	s.must(200, "GET", "/cfg_mgr/configs/staying", nil)
	s.must(200, "GET", "/cfg_mgr/configs/passing2", nil)
}

// A config of a thousand lines fits, with every password in it sealed, and comes back as it was.
func TestConfigOf1024Lines(t *testing.T) {
	s := newStand(t)
	lines := object{}
	for i := 1; i <= 1024; i++ {
		lines[fmt.Sprint(i)] = object{"username": fmt.Sprintf("user%d", i), "password": fmt.Sprintf("password of the line %d", i), "proxy_ip": "10.0.0.1", "registrar_ip": "10.0.0.2",
			"display_name": fmt.Sprintf("Somebody with the number %d", i), "number": fmt.Sprint(10000 + i), "dtmf_mode": "SIP-INFO"}
	}
	doc := object{"id": "dect", "parent_ids": []any{}, "raw_config": object{"sip_lines": lines}}
	s.config(doc)
	equal(t, "the config", s.configDoc("dect"), doc)
	lines["1024"].(object)["password"] = "another"
	s.must(204, "PUT", "/cfg_mgr/configs/dect", object{"config": doc})
	equal(t, "the config changed", s.configDoc("dect"), doc)
	raw := s.must(200, "GET", "/cfg_mgr/configs/dect/raw", nil).json(t)["raw_config"].(object)
	if n := len(raw["sip_lines"].(object)); n != 1024 {
		t.Errorf("merged it has %d lines", n)
	}
	for r, err := range s.rig.Ledger.Read(t.Context(), domain.LayerID("dect").Stream(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(r.Data), "password of the line") || strings.Contains(string(r.Data), "Somebody") {
			t.Errorf("event %d shows a secret", r.Revision)
		}
	}
}

// Configs are their tenant's here: a caller sees those of the request's tenant and below, the platform's own all.
func TestTenantsOfConfigs(t *testing.T) {
	s := newStand(t)
	empty := func(id string) object { return object{"id": id, "parent_ids": []string{}, "raw_config": object{}} }
	s.config(empty("of-main"))
	s.config(empty("of-one"), as(sub1Token))
	s.config(empty("of-two"), in(subTenant2))
	if got := s.list("/cfg_mgr/configs"); !sameSet(got, []string{"of-main", "of-one", "of-two"}) {
		t.Errorf("the master sees %v", got)
	}
	if got := s.list("/cfg_mgr/configs", as(sub1Token)); !sameSet(got, []string{"of-one"}) {
		t.Errorf("a tenant sees %v", got)
	}
	for _, path := range []string{"/cfg_mgr/configs/of-main", "/cfg_mgr/configs/of-two"} {
		s.must(404, "GET", path, nil, as(sub1Token))
		s.must(404, "GET", path+"/raw", nil, as(sub1Token))
		s.must(404, "DELETE", path, nil, as(sub1Token))
		s.must(404, "PUT", path, object{"config": empty("x")}, as(sub1Token))
	}
}
