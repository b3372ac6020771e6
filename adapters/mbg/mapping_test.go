package mbg_test

import (
	"errors"
	"strings"
	"testing"

	"ledgerline/adapters/mbg"
	"ledgerline/adapters/mbg/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// xmlMapping speaks XML both ways, with ids in attributes and 1/0 for booleans.
func xmlMapping(t *testing.T) string {
	return mappingWith(t, "request: json ", "request: xml ", "response: json ", "response: xml ",
		"items: /icps, ok", "items: /icps/icp, ok", "items: /sip_users, ok: [200],\n", "items: /sip_users/sipuser, ok: [200],\n",
		"total: /total", "total: /sip_users/total", "items: /sip_users, ok", "items: /sip_users/sipuser, ok", "item: /,", "item: /sipuser,", "id_from: /id", `id_from: "/sipuser/@id"`,
		"id:           {wire: id, access: read}", `id:           {wire: "@id", access: read}`, `"true": true, "false": false`, `"true": 1, "false": 0`)
}

// The same story in every language a mapping can describe.
func TestLanguages(t *testing.T) {
	for name, mapping := range map[string]string{
		"XML":                  xmlMapping(t),
		"forms":                mappingWith(t, "request: json ", "request: form "),
		"forms, OAuth in them": mappingWith(t, "request: json ", "request: form ", "send_in: header", "send_in: body"),
		"OAuth in the query":   mappingWith(t, "send_in: header", "send_in: query"),
		"HMAC-SHA256":          mappingWith(t, "signature_method: HMAC-SHA1", "signature_method: HMAC-SHA256"),
		"PLAINTEXT":            mappingWith(t, "signature_method: HMAC-SHA1", "signature_method: PLAINTEXT"),
		"tokens as JSON":       mappingWith(t, "token_reply: form", "token_reply: json"),
		"wrapped":              mappingWith(t, "path: /api/v1/sip_users, ok: [200, 201]", "path: /api/v1/sip_users, wrap: user, ok: [200, 201]"),
		"changes only":         mappingWith(t, "send: full", "send: changed"),
		"pages":                mappingWith(t, "style: offset, offset: offset, limit: limit, size: 200", "style: page, page: page, limit: per_page, size: 3"),
		"no search":            mappingWith(t, "find_user:   {method", "find_user:   {enabled: false, method"),
		"signed as another":    mappingWith(t, `sign_base_url: ""`, "sign_base_url: https://mbg.internal.example"),
	} {
		t.Run(name, func(t *testing.T) {
			o := open(t, mapping)
			o.do("start", nil)
			o.consumer()
			o.exchange()
			o.node("10.1.2.3")
			o.switchTo("enabled")
			for i, id := range []string{"l1", "l2", "l3", "l4", "l5", "l6", "l7"} {
				o.remote(o.extension(id, []string{"4001", "4002", "4003", "4004", "4005", "4006", "4007"}[i]))
			}
			o.do("fault", map[string]string{"operation": "create_user", "kind": "drop_after", "count": "2"})
			o.settle()
			_, err := o.Service.RotateLineSecret(o.ctx, commands.RotateLineSecret{ID: "l2", Password: "canary-<&\"ü +%"})
			o.ok(err)
			o.settle()
			for i, id := range []domain.LineID{"l1", "l2", "l3", "l4", "l5", "l6", "l7"} {
				o.holds(id, []string{"4001", "4002", "4003", "4004", "4005", "4006", "4007"}[i])
			}
			if u := o.onGateway()["4002"]; u.Extra["codec"] != "default" {
				t.Errorf("what we know nothing of is gone: %v", u.Extra)
			}
			for set, n := range o.sim.State().Created {
				if n != 1 {
					t.Errorf("%s was created %d times", set, n)
				}
			}
			plan, _, err := o.Service.ReconcileGateway(o.ctx, commands.ReconcileGateway{ID: edge, PlanOnly: true})
			if err != nil || len(plan.Drift.Items) != 0 {
				t.Errorf("%+v %v", plan, err)
			}
			o.clear("l1")
			o.settle()
			if len(o.sim.State().Users) != 6 {
				t.Errorf("%d users", len(o.sim.State().Users))
			}
			o.noSecrets()
		})
	}
}

// A mapping that breaks a rule is refused with the line and the rule.
func TestMappingRules(t *testing.T) {
	if _, err := (mbg.Borders{}).ReadMapping(""); err != nil {
		t.Fatalf("the generic mapping: %v", err)
	}
	line := func(text, part string) int { return 1 + strings.Count(text[:strings.Index(text, part)], "\n") }
	for _, c := range []struct{ before, after, at, says string }{
		{"version: 1", "version: 0", "version:", "version must be 1 or more"},
		{"send_in: header", "send_in: cookie", "send_in:", "must be one of: header query body"},
		{"  request: json ", "  reqest: json ", "reqest:", "reqest not found"},
		{"connect_timeout: 5s", "connect_timeout: soon", "connect_timeout:", "is not a duration"},
		{"lifetime_months: 12", "lifetime_months: twelve", "lifetime_months:", "cannot unmarshal"},
		{`path: "/api/v1/sip_users/{id}", item: /`, `path: "/api/v1/sip_users/{uid}", item: /`, "get_user:", "{uid}, which is not known"},
		{"send: full", "send: some", "update_user:", "must be full or changed"},
		{"  delete_user: {", "  remove_user: {", "remove_user:", "is not known"},
		{"set_password: {wire: set_side_password, access: write}", "set_secret: {wire: x}", "set_secret:", "is not known"},
		{`licence:       ["(?i)licen[cs]e"]`, `licence:       ["("]`, "licence:", "is not a pattern"},
		{"{display_name} [prov]", "{surname}", "description: \"", "{surname}"},
		{"sign_base_url: \"\"", "sign_base_url: mbg", "sign_base_url:", "must be a URL"},
	} {
		text := mappingWith(t, c.before, c.after)
		_, err := mbg.Borders{}.ReadMapping(text)
		if !errors.Is(err, wire.ErrMapping) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", c.after, err)
			continue
		}
		want := "line " + itoa(line(text, c.at)) + ":"
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", c.after, err, want)
		}
	}
	for _, bad := range []string{"a: b: c", "[]", strings.Repeat("#", wire.MaxMapping+1), wire.Generic + "---\nmapping: x\n"} {
		if _, err := (mbg.Borders{}).ReadMapping(bad); !errors.Is(err, wire.ErrMapping) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func itoa(n int) string {
	const d = "0123456789"
	if n < 10 {
		return d[n : n+1]
	}
	return itoa(n/10) + d[n%10:n%10+1]
}

// The generic mapping speaks to the simulator only; the gateway is known by chain or by pin, and by nothing else.
func TestWhoIsSpokenTo(t *testing.T) {
	o := open(t, "")
	o.do("start", nil)
	o.consumer()
	for name, c := range map[string]struct {
		change func(w *commands.GatewayWish)
		class  string
	}{
		"no CA":          {func(w *commands.GatewayWish) { w.CA = "" }, commands.ClassTLS},
		"the wrong pin":  {func(w *commands.GatewayWish) { w.CA, w.Pins = "", []string{strings.Repeat("00", 32)} }, commands.ClassTLS},
		"the right pin":  {func(w *commands.GatewayWish) { w.CA, w.Pins = "", []string{o.pin()} }, ""},
		"CA and no pin":  {func(*commands.GatewayWish) {}, ""},
		"both":           {func(w *commands.GatewayWish) { w.Pins = []string{o.pin()} }, ""},
		"CA, other pin":  {func(w *commands.GatewayWish) { w.Pins = []string{strings.Repeat("00", 32)} }, commands.ClassTLS},
		"nobody there":   {func(w *commands.GatewayWish) { w.Address = "https://127.0.0.1:1" }, commands.ClassTransport},
		"cloud metadata": {func(w *commands.GatewayWish) { w.Address = "https://169.254.169.254" }, commands.ClassTransport},
	} {
		w := o.wish()
		c.change(&w)
		_, err := o.Service.AmendGateway(o.ctx, commands.AmendGateway{ID: edge, GatewayWish: w})
		o.ok(err)
		err = o.request()
		var b *commands.BorderError
		if c.class == "" && err != nil || c.class != "" && (!errors.As(err, &b) || b.Class != c.class) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := strings.Replace(wire.Generic, "X-MBG-Simulator ", "X-Somebody-Else ", 1)
	_, err := o.Service.SelectMapping(o.ctx, commands.SelectMapping{ID: edge, Text: other})
	o.ok(err)
	w := o.wish()
	_, err = o.Service.AmendGateway(o.ctx, commands.AmendGateway{ID: edge, GatewayWish: w})
	o.ok(err)
	var b *commands.BorderError
	if err := o.request(); !errors.As(err, &b) || !strings.Contains(b.Text, "X-Somebody-Else") {
		t.Errorf("%v", err)
	}
	for _, address := range []string{"http://192.0.2.1", "ftp://192.0.2.1", "https://u:p@192.0.2.1", "https://192.0.2.1?x=1", "192.0.2.1"} {
		w := o.wish()
		w.Address = address
		if _, err := o.Service.AmendGateway(o.ctx, commands.AmendGateway{ID: edge, GatewayWish: w}); !errors.Is(err, commands.ErrInvalid) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func FuzzMapping(f *testing.F) {
	f.Add(wire.Generic)
	f.Add("mapping: x\nversion: 1\noperations: {ping: {path: \"{\"}}")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := wire.ParseMapping(text)
		if err != nil && !errors.Is(err, wire.ErrMapping) {
			t.Error(err)
		}
		if err == nil && m.Name == "" {
			t.Error("a mapping without a name")
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("json", `{"a":[1,{"b":null}]}`)
	f.Add("xml", `<a x="1"><b>t</b><b/></a>`)
	f.Add("xml", `<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>`)
	f.Fuzz(func(t *testing.T, codec, body string) {
		tree, err := wire.Decode(codec, []byte(body))
		if err != nil {
			return
		}
		if codec == "xml" && strings.Contains(body, "<!DOCTYPE") && tree != nil {
			t.Error("a document type was taken")
		}
		_, _ = wire.Items(tree, "/a/b") // must not panic
		_ = wire.Scalar(wire.At(tree, "/a/0/b"))
	})
}
