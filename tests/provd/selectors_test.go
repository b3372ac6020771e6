package provd_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"testing"
)

// Every operator of the selector language.
func TestSelectors(t *testing.T) {
	s := newStand(t)
	s.device(object{"id": "a", "mac": "00:11:22:33:44:01", "vendor": "Aastra", "model": "6731i", "X_n": 1, "X_o": object{"k": "v", "list": []object{{"p": 1}, {"p": 2}}}, "X_l": []string{"x", "y"}})
	s.device(object{"id": "b", "mac": "00:11:22:33:44:02", "vendor": "Yealink", "model": nil, "X_n": 2, "X_o": object{"k": "w"}, "options": object{"switchboard": true}})
	s.device(object{"id": "c", "mac": "00:11:22:33:44:03", "vendor": "Yealink", "X_n": 3.5, "ip": "10.0.0.3"})
	for q, want := range map[string][]string{
		`{}`:                            {"a", "b", "c"},
		`{"vendor":"Yealink"}`:          {"b", "c"},
		`{"vendor":"yealink"}`:          {},
		`{"vendor":"Yealink","X_n":2}`:  {"b"},
		`{"mac":"00:11:22:33:44:01"}`:   {"a"},
		`{"id":"b"}`:                    {"b"},
		`{"ip":"10.0.0.3"}`:             {"c"},
		`{"X_o.k":"v"}`:                 {"a"},
		`{"X_o":{"k":"w"}}`:             {"b"},
		`{"X_o.list.p":2}`:              {"a"},
		`{"X_o.list.p":3}`:              {},
		`{"X_l":["x","y"]}`:             {"a"},
		`{"X_l":"x"}`:                   {},
		`{"model":null}`:                {"b"},
		`{"options.switchboard":true}`:  {"b"},
		`{"is_new":true}`:               {"a", "b", "c"},
		`{"configured":true}`:           {},
		`{"X_n":{"$in":[1,3.5]}}`:       {"a", "c"},
		`{"X_n":{"$nin":[1,3.5]}}`:      {"b"},
		`{"X_l":{"$contains":"x"}}`:     {"a"},
		`{"model":{"$contains":"731"}}`: {"a"},
		`{"X_n":{"$gt":1,"$lt":3}}`:     {"b"},
		`{"X_n":{"$ge":2}}`:             {"b", "c"},
		`{"X_n":{"$le":2}}`:             {"a", "b"},
		`{"vendor":{"$lt":"B"}}`:        {"a"},
		`{"X_n":{"$ne":1}}`:             {"b", "c"},
		`{"X_nothing":{"$ne":1}}`:       {"a", "b", "c"},
		`{"ip":{"$exists":true}}`:       {"c"},
		`{"ip":{"$exists":false}}`:      {"a", "b"},
		`{"model":{"$exists":true}}`:    {"a", "b"},
		`this is no JSON`:               {"a", "b", "c"},
		`{"vendor":`:                    {"a", "b", "c"},
	} {
		if got := s.list("/dev_mgr/devices?q=" + url.QueryEscape(q)); !sameSet(got, want) {
			t.Errorf("%s finds %v, not %v", q, got, want)
		}
		q64 := url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(q)))
		if got := s.list(`/dev_mgr/devices?q={"id":"none"}&q64=` + q64); !sameSet(got, want) {
			t.Errorf("as q64, %s finds %v, not %v", q, got, want)
		}
	}
	for _, q := range []string{`[]`, `"a"`, `{"X_n":{"$near":1}}`, `{"X_n":{"$in":1}}`, `{"X_n":{"$exists":1}}`} {
		s.must(400, "GET", "/dev_mgr/devices?q="+url.QueryEscape(q), nil)
	}
}

// Fields, order and parts of a list.
func TestFieldsSortAndParts(t *testing.T) {
	s := newStand(t)
	for i, description := range []any{"delta", "alpha", nil, "charlie", ""} {
		s.device(object{"id": fmt.Sprint("d", i), "description": description, "X_o": object{"k": fmt.Sprint(9 - i)}})
	}
	for query, want := range map[string][]string{
		"sort=description":                          {"d2", "d4", "d1", "d3", "d0"},
		"sort=description&sort_ord=ASC":             {"d2", "d4", "d1", "d3", "d0"},
		"sort=description&sort_ord=DESC":            {"d0", "d3", "d1", "d2", "d4"},
		"sort=X_o.k":                                {"d4", "d3", "d2", "d1", "d0"},
		"sort=X_o.k&limit=2":                        {"d4", "d3"},
		"sort=X_o.k&skip=1&limit=2":                 {"d3", "d2"},
		"sort=X_o.k&skip=4":                         {"d0"},
		"sort=X_o.k&skip=9":                         nil,
		"sort=X_o.k&skip=&limit=x":                  {"d4", "d3", "d2", "d1", "d0"},
		"sort=X_o.k&skip=0&limit=0":                 {"d4", "d3", "d2", "d1", "d0"},
		`sort=X_o.k&q={"description":"alpha"}`:      {"d1"},
		`sort=nothing&fields=description&limit=100`: {"d0", "d1", "d2", "d3", "d4"},
	} {
		if got := s.list("/dev_mgr/devices?" + query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, not %v", query, got, want)
		}
	}
	all := s.must(200, "GET", `/dev_mgr/devices?q={"id":"d1"}&fields=description,X_o.k,X_o.none,none`, nil).json(t)
	equal(t, "the fields", all["devices"].([]any)[0].(object), object{"id": "d1", "description": "alpha", "X_o": object{"k": "8"}})
	if n := len(s.list("/dev_mgr/devices?limit=3")); n != 3 {
		t.Errorf("a limit of 3 gives %d", n)
	}
	empty := s.must(200, "GET", `/dev_mgr/devices?q={"id":"none"}`, nil)
	if string(empty.body) != `{"devices":[]}` {
		t.Errorf("nothing found is %s", empty.body)
	}
}

// Configs are found in the same language, also by what stands in their settings.
func TestFindingConfigs(t *testing.T) {
	s := newStand(t)
	s.config(object{"id": "a", "parent_ids": []string{"base"}, "X_type": "device", "raw_config": object{"locale": "fr_FR", "sip_lines": object{"1": object{"username": "ann"}}}})
	s.config(object{"id": "b", "parent_ids": []string{"base", "a"}, "role": "autocreate", "raw_config": object{"vlan_id": "12"}})
	for q, want := range map[string][]string{
		`{"X_type":"device"}`:                        {"a"},
		`{"role":"autocreate"}`:                      {"b"},
		`{"parent_ids":{"$contains":"a"}}`:           {"b"},
		`{"parent_ids":["base"]}`:                    {"a"},
		`{"raw_config.locale":"fr_FR"}`:              {"a"},
		`{"raw_config.sip_lines.1.username":"ann"}`:  {"a"},
		`{"raw_config.vlan_id":"12"}`:                {"b"},
		`{"transient":{"$exists":true}}`:             {},
		`{"id":"b"}`:                                 {"b"},
		`{"id":{"$in":["a","b","c"]},"X_type":null}`: {},
	} {
		if got := s.list("/cfg_mgr/configs?q=" + url.QueryEscape(q)); !sameSet(got, want) {
			t.Errorf("%s finds %v, not %v", q, got, want)
		}
	}
	if got := s.list("/cfg_mgr/configs?sort=id&sort_ord=DESC&limit=1&recurse=true"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("the last is %v", got)
	}
}
