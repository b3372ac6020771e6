package provd_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"ledgerline/adapters/provd"
	"ledgerline/domain"
)

const yealink = "Yealink SIP-T54W 96.86.0.70 "

func lineOf(username string) object {
	return object{"sip_lines": object{"1": object{"username": username, "password": "pw-" + username, "proxy_ip": "10.0.0.1", "display_name": "Name of " + username}}}
}

// The phone gets what its config and its ancestors say, and what changes there it gets with the next request.
func TestServing(t *testing.T) {
	s := newStand(t)
	s.config(object{"id": "base", "parent_ids": []string{}, "raw_config": object{"ntp_enabled": true, "ntp_ip": "10.9.9.9", "timezone": "Europe/Paris"}})
	s.config(object{"id": "own", "parent_ids": []string{"base"}, "raw_config": lineOf("anna")})
	id := s.device(object{"mac": "00:15:65:00:01:01", "plugin": "yealink", "config": "own", "vendor": "Yealink", "model": "T54W"})
	get := func() string {
		t.Helper()
		status, text := s.fetch("/001565000101.cfg", yealink+"00:15:65:00:01:01")
		if status != 200 {
			t.Fatalf("the phone gets %d: %s", status, text)
		}
		return text
	}
	if text := get(); !strings.Contains(text, "anna") || !strings.Contains(text, "pw-anna") || !strings.Contains(text, "10.9.9.9") {
		t.Errorf("it gets %s", text)
	}
	s.must(204, "PUT", "/cfg_mgr/configs/own", object{"config": object{"parent_ids": []string{"base"}, "raw_config": lineOf("bert")}})
	s.eventually("the phone gets its new line", func() bool { return strings.Contains(get(), "pw-bert") })
	s.must(204, "PUT", "/cfg_mgr/configs/base", object{"config": object{"parent_ids": []string{}, "raw_config": object{"ntp_enabled": true, "ntp_ip": "10.8.8.8"}}})
	s.eventually("what an ancestor says changes too", func() bool { return strings.Contains(get(), "10.8.8.8") })
	s.config(object{"id": "other", "parent_ids": []string{}, "raw_config": lineOf("carl")})
	s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": object{"mac": "00:15:65:00:01:01", "plugin": "yealink", "config": "other", "vendor": "Yealink", "model": "T54W"}})
	s.eventually("another config is another file", func() bool { return strings.Contains(get(), "pw-carl") })

	// Which account the phone really has, its own fetch tells.
	s.eventually("the remote state is known", func() bool { return s.deviceDoc(id)["remote_state_sip_username"] == "carl" })

	// Another MAC is another file name.
	s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": object{"mac": "00:15:65:00:01:02", "plugin": "yealink", "config": "other"}})
	s.eventually("it is served under its new address", func() bool {
		status, text := s.fetch("/001565000102.cfg", yealink+"00:15:65:00:01:02")
		return status == 200 && strings.Contains(text, "pw-carl")
	})
	// Deleted, its file is nobody's: the phone is new again.
	s.must(204, "DELETE", "/dev_mgr/devices/"+id, nil)
	s.eventually("its file is gone", func() bool {
		_, text := s.fetch("/001565000102.cfg", yealink+"00:15:65:00:01:02")
		return !strings.Contains(text, "pw-carl")
	})
}

// An unknown phone becomes a device of the master tenant with a plugin and, where there is a mould, a config of its own,
// whose line it gets at once; a line attached as wazo-confd does takes it out, and a reset puts it back.
func TestFirstContact(t *testing.T) {
	s := newStand(t)
	s.config(object{"id": "autoprov", "role": "autocreate", "parent_ids": []string{}, "deletable": false, "raw_config": lineOf("ap12345678")})
	s.configDoc("autoprov") // what a reader sees, phones see
	agent, file := yealink+"00:15:65:00:02:01", "/001565000201.cfg"
	status, text := s.fetch(file, agent)
	if status != 200 || !strings.Contains(text, "ap12345678") {
		t.Fatalf("a new phone gets %d: %s", status, text)
	}
	ids := s.list(`/dev_mgr/devices?q={"mac":"00:15:65:00:02:01"}`)
	if len(ids) != 1 {
		t.Fatalf("devices are %v", ids)
	}
	doc := s.deviceDoc(ids[0])
	config, _ := doc["config"].(string)
	if doc["added"] != "auto" || doc["vendor"] != "Yealink" || doc["model"] != "T54W" || doc["version"] != "96.86.0.70" || doc["plugin"] != "yealink" || doc["is_new"] != true ||
		doc["configured"] != true || !regexp.MustCompile("^autoprov.+").MatchString(config) || doc["ip"] != "127.0.0.1" {
		t.Errorf("it became %v", doc)
	}
	if c := s.configDoc(config); c["transient"] != true || c["role"] != nil {
		t.Errorf("its config is %v", c)
	}
	s.eventually("the remote state is the mould's", func() bool { return s.deviceDoc(ids[0])["remote_state_sip_username"] == "ap12345678" })
	// A second look makes nothing new.
	if status, _ = s.fetch(file, agent); status != 200 || len(s.list("/dev_mgr/devices")) != 1 || len(s.list("/cfg_mgr/configs")) != 2 {
		t.Errorf("again: %d, %v, %v", status, s.list("/dev_mgr/devices"), s.list("/cfg_mgr/configs"))
	}

	// As wazo-confd attaches a line: a config of the device's id, in the line's tenant.
	id := ids[0]
	s.must(404, "PUT", "/cfg_mgr/configs/"+id, object{"config": object{"id": id, "parent_ids": []string{}, "raw_config": object{}}})
	s.config(object{"id": id, "parent_ids": []string{}, "deletable": true, "raw_config": lineOf("dora")})
	change := object{"mac": doc["mac"], "vendor": doc["vendor"], "model": doc["model"], "version": doc["version"], "plugin": doc["plugin"], "config": id, "options": object{"switchboard": false}}
	s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": change}, in(subTenant1))
	if doc := s.deviceDoc(id); doc["tenant_uuid"] != subTenant1 || doc["is_new"] != false || doc["configured"] != true {
		t.Errorf("with a line it is %v", doc)
	}
	s.must(404, "GET", "/cfg_mgr/configs/"+config, nil)
	s.eventually("the phone gets its line", func() bool { _, text := s.fetch(file, agent); return strings.Contains(text, "pw-dora") })

	// The reset: back to a copy of the mould, the tenant stays.
	fresh, _ := s.must(201, "POST", "/cfg_mgr/autocreate", object{}).json(t)["id"].(string)
	delete(change, "options")
	change["config"] = fresh
	s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": change}, in(subTenant1))
	s.must(204, "DELETE", "/cfg_mgr/configs/"+id, nil)
	if doc := s.deviceDoc(id); doc["tenant_uuid"] != subTenant1 || doc["config"] != fresh || doc["options"] != nil {
		t.Errorf("reset it is %v", doc)
	}
	s.eventually("the phone is as new", func() bool {
		_, text := s.fetch(file, agent)
		return strings.Contains(text, "ap12345678") && !strings.Contains(text, "dora")
	})
}

// Without a mould a new phone has no config, and no line; nobody's request makes a device without a plugin that knows it.
func TestFirstContactWithoutMould(t *testing.T) {
	s := newStand(t)
	if status, text := s.fetch("/001565000301.cfg", yealink+"00:15:65:00:03:01"); status != 200 || !strings.Contains(text, "account.1.enable = 0") {
		t.Errorf("a new phone gets %d: %s", status, text)
	}
	if status, _ := s.fetch("/hello", "curl/8"); status != 404 {
		t.Errorf("nobody gets %d", status)
	}
	ids := s.list("/dev_mgr/devices")
	if len(ids) != 1 {
		t.Fatalf("devices are %v", ids)
	}
	if doc := s.deviceDoc(ids[0]); doc["config"] != nil || doc["configured"] != false {
		t.Errorf("it became %v", doc)
	}
}

// A device written down before its phone comes keeps what was written, and learns the rest; the plugin chosen stays.
func TestDeviceWaitsForItsPhone(t *testing.T) {
	s := newStand(t)
	s.config(object{"id": "c", "parent_ids": []string{}, "raw_config": lineOf("emil")})
	id := s.device(object{"mac": "00:15:65:00:04:01", "config": "c", "description": "reception"}, in(subTenant1))
	if doc := s.deviceDoc(id); doc["plugin"] != nil || doc["configured"] != false {
		t.Fatalf("before: %v", doc)
	}
	if status, text := s.fetch("/001565000401.cfg", yealink+"00:15:65:00:04:01"); status != 200 || !strings.Contains(text, "pw-emil") {
		t.Errorf("the phone gets %d: %s", status, text)
	}
	doc := s.deviceDoc(id)
	if doc["plugin"] != "yealink" || doc["model"] != "T54W" || doc["description"] != "reception" || doc["added"] != nil || doc["configured"] != true {
		t.Errorf("after: %v", doc)
	}
	if n := len(s.list("/dev_mgr/devices?recurse=true")); n != 1 {
		t.Errorf("%d devices", n)
	}
}

// Association: the best score wins; a choice made stays.
func TestAssociation(t *testing.T) {
	s := newStand(t)
	agents := map[string][2]string{
		"yealink":     {"/001565000501.cfg", yealink + "00:15:65:00:05:01"},
		"snom":        {"/snomD785-000413000501.htm", "Mozilla/4.0 (compatible; snomD785-SIP 10.1.175.16 1.1.4-IFX 000413000501)"},
		"grandstream": {"/cfg000b82000501.xml", "Grandstream Model HW GXP2170 SW 1.0.11.48 DevId 000b82000501"},
	}
	for plugin, ask := range agents {
		s.fetch(ask[0], ask[1])
		if ids := s.list(fmt.Sprintf(`/dev_mgr/devices?q={"plugin":%q}`, plugin)); len(ids) != 1 {
			t.Errorf("%s has %v", plugin, ids)
		}
	}
	id := s.list(`/dev_mgr/devices?q={"plugin":"yealink"}`)[0]
	s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": object{"mac": "00:15:65:00:05:01", "plugin": "snom"}})
	s.fetch(agents["yealink"][0], agents["yealink"][1])
	if doc := s.deviceDoc(id); doc["plugin"] != "snom" {
		t.Errorf("the plugin chosen became %v", doc["plugin"])
	}
}

// A phone that shows no MAC is found by its address where it is the only one there, and not behind address translation.
func TestFoundByAddress(t *testing.T) {
	s := newStand(t)
	s.config(object{"id": "c", "parent_ids": []string{}, "raw_config": object{}})
	first := object{"mac": "00:15:65:00:06:01", "plugin": "yealink", "vendor": "Yealink", "config": "c"}
	s.device(first)
	// The common file of a device of its own leads to its own path.
	common := func() string { _, text := s.fetch("/y000000000000.cfg", "Yealink SIP-T54W 96.86.0.70"); return text }
	if strings.Contains(common(), "/d/") {
		t.Fatal("somebody else's settings are served")
	}
	s.must(204, "POST", "/dev_mgr/dhcpinfo", object{"dhcp_info": object{"op": "commit", "ip": "127.0.0.1", "mac": "00:15:65:00:06:01", "options": []string{}}})
	s.eventually("the phone at the address is found", func() bool { return strings.Contains(common(), "/d/") })
	s.must(204, "PUT", "/configure/NAT", object{"param": object{"value": "1"}})
	if strings.Contains(common(), "/d/") {
		t.Error("an address counts behind address translation")
	}
	s.must(204, "PUT", "/configure/NAT", object{"param": object{"value": "0"}})
	s.device(object{"mac": "00:15:65:00:06:02", "plugin": "yealink", "vendor": "Yealink", "config": "c", "ip": "127.0.0.1"})
	s.eventually("of two nobody is found", func() bool { return !strings.Contains(common(), "/d/") })
}

// A provisioning key opens the files of its tenant's devices and of new ones, and nothing else.
func TestKeysInPaths(t *testing.T) {
	s := newStand(t)
	for tenant, key := range map[string]string{subTenant1: "key-of-one", subTenant2: "key-of-two"} {
		s.must(204, "PUT", "/configure/provisioning_key", object{"param": object{"value": key}}, in(tenant))
	}
	s.config(object{"id": "c", "parent_ids": []string{}, "raw_config": lineOf("fred")})
	s.device(object{"mac": "00:15:65:00:07:01", "plugin": "yealink", "config": "c"}, in(subTenant1))
	own := func(path string) bool {
		_, text := s.fetch(path, yealink+"00:15:65:00:07:01")
		return strings.Contains(text, "pw-fred")
	}
	s.eventually("with its tenant's key", func() bool { return own("/key-of-one/001565000701.cfg") })
	if own("/key-of-two/001565000701.cfg") || own("/key-of-none/001565000701.cfg") {
		t.Error("with another's key too")
	}
	if status, _ := s.fetch("/key-of-two/001565000702.cfg", yealink+"00:15:65:00:07:02"); status != 200 {
		t.Errorf("a new phone with a key gets %d", status)
	}
	if ids := s.list(`/dev_mgr/devices?q={"mac":"00:15:65:00:07:02"}`); len(ids) != 1 || s.deviceDoc(ids[0])["tenant_uuid"] != mainTenant {
		t.Errorf("the new phone is %v", ids)
	}
	if status, _ := s.fetch("/key-of-none/001565000703.cfg", yealink+"00:15:65:00:07:03"); status != 404 {
		t.Errorf("with nobody's key a phone gets %d", status)
	}
}

// Tenants the token service names are tenants here; what belongs to one it does not list any more goes.
func TestTenantsComeAndGo(t *testing.T) {
	s := newStand(t)
	s.config(object{"id": "c", "parent_ids": []string{}, "raw_config": object{}}, in(subTenant2))
	gone, stays := s.device(object{"config": "c"}, in(subTenant2)), s.device(object{}, in(subTenant1))
	s.must(204, "PUT", "/configure/provisioning_key", object{"param": object{"value": "key-of-two"}}, in(subTenant2))
	tenant, err := s.rig.Service.Owner(t.Context(), domain.TenantID(subTenant2).Stream())
	if err != nil || tenant == "" {
		t.Fatalf("the tenant is not here: %v", err)
	}
	if err := s.tokens.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.must(200, "GET", "/dev_mgr/devices/"+gone, nil)
	s.auth.change(func() { delete(s.auth.parents, subTenant2) })
	if err := s.tokens.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.must(404, "GET", "/dev_mgr/devices/"+gone, nil)
	s.must(404, "GET", "/cfg_mgr/configs/c", nil)
	s.must(200, "GET", "/dev_mgr/devices/"+stays, nil)
	// A list that lacks the platform's own tenant is damage, not news.
	s.auth.change(func() { s.auth.parents = map[string]string{} })
	if err := s.tokens.Tidy(t.Context()); err == nil {
		t.Error("an empty list was believed")
	}
	s.auth.change(func() { s.auth.parents[mainTenant] = mainTenant })
	s.must(200, "GET", "/dev_mgr/devices/"+stays, nil)
}

// What the token service says, counts with the next call: a token taken away, its own token forgotten.
func TestTokensChange(t *testing.T) {
	s := newStand(t)
	s.must(200, "GET", "/dev_mgr/devices", nil, as(sub1Token))
	s.auth.change(func() { delete(s.auth.tokens, sub1Token) })
	s.must(401, "GET", "/dev_mgr/devices", nil, as(sub1Token))
	s.auth.change(func() { delete(s.auth.tokens, "own-token") })
	s.must(200, "GET", "/dev_mgr/devices", nil)
	s.auth.change(func() { s.auth.tokens["sub-sub"] = subSub })
	s.must(200, "GET", "/dev_mgr/devices", nil, as("sub-sub"))
}

// Without a token service the tokens are Ledgerline's API keys.
func TestAPIKeysAsTokens(t *testing.T) {
	s := newStand(t)
	tokens := map[domain.Role]string{}
	for _, role := range domain.Roles {
		tokens[role] = s.apiKey(role)
	}
	bound := s.apiKey(domain.Operator, subTenant1)
	s.must(200, "GET", "/dev_mgr/devices", nil, in(subTenant1)) // makes the tenant
	s.useAuthority(provd.Keys{Service: s.rig.Service})
	config := object{"id": "c", "parent_ids": []string{}, "raw_config": object{"admin_password": "s3cret"}}
	s.must(201, "POST", "/cfg_mgr/configs", object{"config": config}, as(tokens[domain.Operator]))
	for role, want := range map[domain.Role]int{domain.Admin: 201, domain.Operator: 201, domain.Auditor: 401, domain.Helpdesk: 401, domain.OwnUser: 401} {
		s.must(want, "POST", "/dev_mgr/devices", object{"device": object{}}, as(tokens[role]))
	}
	for role, want := range map[domain.Role]string{domain.Admin: "s3cret", domain.Auditor: "[redacted]", domain.Helpdesk: "[redacted]"} {
		doc, _ := s.must(200, "GET", "/cfg_mgr/configs/c", nil, as(tokens[role])).json(t)["config"].(object)
		if got := doc["raw_config"].(object)["admin_password"]; got != want {
			t.Errorf("%s reads %v", role, got)
		}
	}
	s.must(401, "GET", "/dev_mgr/devices", nil, as(tokens[domain.OwnUser]))
	s.must(401, "GET", "/dev_mgr/devices", nil)
	one, _ := s.must(201, "POST", "/dev_mgr/devices", object{"device": object{}}, as(bound)).json(t)["id"].(string)
	doc, _ := s.must(200, "GET", "/dev_mgr/devices/"+one, nil, as(tokens[domain.Admin])).json(t)["device"].(object)
	if doc["tenant_uuid"] != subTenant1 {
		t.Errorf("a bound key's device is of %v", doc["tenant_uuid"])
	}
	s.must(404, "GET", "/cfg_mgr/configs/c", nil, as(bound))
	s.must(401, "GET", "/dev_mgr/devices", nil, as(bound), in("master"))
	s.must(401, "GET", "/dev_mgr/devices", nil, as(tokens[domain.Admin]), in("nobody-s"))
}

// Of several devices that carry one address the one assigned last is served, from the moment it is there to the moment it
// is gone, also while rows are kept at hand and other devices change.
func TestLatestDeviceOfAnAddress(t *testing.T) {
	s := newStand(t)
	const mac, agent = "00:15:65:1a:2b:77", "Yealink SIP-T54W 96.86.0.70 00:15:65:1a:2b:77"
	account := func(name string) string {
		return s.config(object{"id": name, "parent_ids": []string{}, "raw_config": object{"sip_lines": object{"1": object{"username": "of-" + name, "password": "p", "proxy_ip": "10.0.0.1"}}}})
	}
	serves := func(name string) {
		t.Helper()
		s.eventually("the phone gets the file of "+name, func() bool {
			status, text := s.fetch("/001565"+"1a2b77.cfg", agent)
			return status == 200 && strings.Contains(text, "of-"+name)
		})
		for range 3 { // from what is at hand
			if status, text := s.fetch("/0015651a2b77.cfg", agent); status != 200 || !strings.Contains(text, "of-"+name) {
				t.Fatalf("not the file of %s: %d %.100s", name, status, text)
			}
		}
	}
	s.device(object{"id": "alpha", "mac": mac, "plugin": "yealink", "config": account("alpha")})
	serves("alpha")
	for i := range 3 {
		s.device(object{"id": fmt.Sprintf("other%d", i), "mac": fmt.Sprintf("00:15:65:1a:2b:8%d", i), "plugin": "yealink", "config": "alpha"})
	}
	serves("alpha")
	s.device(object{"id": "beta", "mac": mac, "plugin": "yealink", "config": account("beta")})
	serves("beta")
	s.must(204, "DELETE", "/dev_mgr/devices/beta", nil)
	serves("alpha")
	s.must(204, "PUT", "/dev_mgr/devices/other1", object{"device": object{"id": "other1", "mac": mac, "plugin": "yealink", "config": account("gamma")}})
	s.must(204, "DELETE", "/dev_mgr/devices/alpha", nil)
	serves("gamma")
}

// A phone that shows its serial number and no address (an older Linksys, Cisco's with the number behind the address) is the
// device of that number; the number is learnt from a request that shows both.
func TestFoundBySerialShownInUserAgent(t *testing.T) {
	s := newStand(t)
	config := s.config(object{"parent_ids": []string{}, "raw_config": object{"sip_lines": object{"1": object{"username": "of-linksys", "password": "p", "proxy_ip": "10.0.0.1"}}}})
	id := s.device(object{"mac": "00:0e:08:aa:bb:cc", "plugin": "cisco-spa", "model": "SPA942", "config": config})
	if status, _ := s.fetch("/spa942.cfg", "Linksys/SPA-942-6.1.5 (000e08aabbcc)(FM500I123456)"); status != 200 {
		t.Fatalf("with both: %d", status)
	}
	s.eventually("the number is learnt", func() bool { return s.deviceDoc(id)["sn"] == "FM500I123456" })
	if status, text := s.fetch("/spa942.cfg", "Linksys/SPA-942-6.1.5 (FM500I123456)"); status != 200 || !strings.Contains(text, "000e08aabbcc") && !strings.Contains(text, "000E08AABBCC") && !strings.Contains(text, "/d/") {
		t.Errorf("with the number alone: %d %.300s", status, text)
	}
	if ids := s.list("/dev_mgr/devices"); len(ids) != 1 {
		t.Errorf("devices are %v", ids)
	}
}
