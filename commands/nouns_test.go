package commands_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
	"ledgerline/domain"
)

// said is one command said to a service: what it records, or the error it answers having recorded nothing.
type said struct {
	what string
	do   func(*kit) (commands.Outcome, error)
	news []string
	err  error
}

// story says commands one after the other, to one service.
func story(t *testing.T, lines []said) *kit {
	t.Helper()
	k := start(t)
	for _, l := range lines {
		t.Run(l.what, func(t *testing.T) {
			k.t, k.ctx = t, t.Context()
			if l.err != nil {
				k.refused(l.err, func() error { _, err := l.do(k); return err })
				return
			}
			out, err := l.do(k)
			k.news(out, err, l.news...)
		})
	}
	k.t, k.ctx = t, t.Context()
	return k
}

func createTenant(in commands.CreateTenant) func(*kit) (commands.Outcome, error) {
	return func(k *kit) (commands.Outcome, error) { _, out, err := k.CreateTenant(k.ctx, in); return out, err }
}

func setKey(id domain.TenantID, key string) func(*kit) (commands.Outcome, error) {
	return func(k *kit) (commands.Outcome, error) {
		return k.SetProvisioningKey(k.ctx, commands.SetProvisioningKey{ID: id, Key: key})
	}
}

func deleteTenant(id domain.TenantID) func(*kit) (commands.Outcome, error) {
	return func(k *kit) (commands.Outcome, error) { return k.DeleteTenant(k.ctx, commands.DeleteTenant{ID: id}) }
}

func TestTenants(t *testing.T) {
	rename := func(id domain.TenantID, name string) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) {
			return k.RenameTenant(k.ctx, commands.RenameTenant{ID: id, Name: name})
		}
	}
	k := story(t, []said{
		{"a tenant is created", createTenant(commands.CreateTenant{ID: "initech", Name: "Initech", Domain: "Initech.Example"}), []string{"tenant.created"}, nil},
		{"again alike is no news", createTenant(commands.CreateTenant{ID: "initech", Name: "Initech", Domain: "initech.example"}), nil, nil},
		{"the id is taken", createTenant(commands.CreateTenant{ID: "initech", Name: "Other"}), nil, domain.ErrTenantExists},
		{"the domain is taken", createTenant(commands.CreateTenant{ID: "other", Name: "Other", Domain: "INITECH.example"}), nil, domain.ErrDomainTaken},
		{"it is renamed", rename("initech", "Initrode"), []string{"tenant.renamed"}, nil},
		{"to the same name is no news", rename("initech", "Initrode"), nil, nil},
		{"nobody is not renamed", rename("nobody", "x"), nil, domain.ErrTenantUnknown},
		{"a key is set", setKey("initech", "key-of-initech"), []string{"tenant.provisioning_key_set"}, nil},
		{"the same key is no news", setKey("initech", "key-of-initech"), nil, nil},
		{"another tenant cannot have it", setKey("acme", "key-of-initech"), nil, domain.ErrKeyTaken},
		{"it is replaced", setKey("initech", "new-key-of-initech"), []string{"tenant.provisioning_key_set"}, nil},
		{"then another tenant can have the old one", setKey("acme", "key-of-initech"), []string{"tenant.provisioning_key_set"}, nil},
		{"it is taken away", setKey("initech", ""), []string{"tenant.provisioning_key_set"}, nil},
		{"again is no news", setKey("initech", ""), nil, nil},
		{"then another tenant can have it", setKey("globex", "new-key-of-initech"), []string{"tenant.provisioning_key_set"}, nil},
		{"nobody has no key", setKey("nobody", "key-of-nobody"), nil, domain.ErrTenantUnknown},
		{"nobody's is not taken away", setKey("nobody", ""), nil, domain.ErrTenantUnknown},
		{"it is deleted", deleteTenant("initech"), []string{"tenant.deleted"}, nil},
		{"once", deleteTenant("initech"), nil, domain.ErrTenantDeleted},
		{"nobody is not", deleteTenant("nobody"), nil, domain.ErrTenantUnknown},
		{"the master tenant stays", deleteTenant(domain.Master), nil, domain.ErrMasterTenant},
		{"the occupied stays", deleteTenant("acme"), nil, domain.ErrTenantOccupied},
		{"its domain is free again", createTenant(commands.CreateTenant{ID: "heirs", Name: "Heirs", Domain: "initech.example"}), []string{"tenant.created"}, nil},
		{"its id is not", createTenant(commands.CreateTenant{ID: "initech", Name: "Initech"}), nil, domain.ErrTenantDeleted},
		{"the deleted is not renamed", rename("initech", "x"), nil, domain.ErrTenantDeleted},
		{"the deleted gets no key", setKey("initech", "another-key"), nil, domain.ErrTenantDeleted},
		{"deleting frees the key", deleteTenant("globex"), []string{"tenant.deleted"}, nil},
		{"for another tenant", setKey("heirs", "new-key-of-initech"), []string{"tenant.provisioning_key_set"}, nil},
	})
	if _, err := k.DeleteTenant(k.ctx, commands.DeleteTenant{ID: "acme"}); err == nil || !strings.HasSuffix(err.Error(), "1 categories, 1 users") {
		t.Errorf("%v does not name what is left", err)
	}
	id, _, err := k.CreateTenant(k.ctx, commands.CreateTenant{Name: "Unnamed"})
	k.ok(err)
	if len(id) != 32 {
		t.Errorf("made the id %q", id)
	}
}

func TestCategories(t *testing.T) {
	define := func(change func(*commands.DefineCategory)) func(*kit) (commands.Outcome, error) {
		in := commands.DefineCategory{ID: "lobby", TenantID: "acme", Name: "Lobby", Kind: "plain", LayerID: "quiet"}
		change(&in)
		return func(k *kit) (commands.Outcome, error) { _, out, err := k.DefineCategory(k.ctx, in); return out, err }
	}
	layer := func(id domain.LayerID, tenant domain.TenantID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) {
			_, out, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: id, TenantID: tenant})
			return out, err
		}
	}
	retire := func(id domain.CategoryID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) {
			return k.RetireCategory(k.ctx, commands.RetireCategory{ID: id})
		}
	}
	same := func(*commands.DefineCategory) {}
	story(t, []said{
		{"its layer must be there", define(same), nil, domain.ErrLayerUnknown},
		{"a layer", layer("quiet", "acme"), []string{"layer.defined"}, nil},
		{"a layer of another", layer("loud", "globex"), []string{"layer.defined"}, nil},
		{"a layer of all", layer("all", domain.Master), []string{"layer.defined"}, nil},
		{"a category is defined", define(same), []string{"category.defined"}, nil},
		{"again alike is no news", define(same), nil, nil},
		{"it is amended", define(func(in *commands.DefineCategory) { in.Models, in.LayerID = []string{"T1"}, "all" }), []string{"category.amended"}, nil},
		{"not with another's layer", define(func(in *commands.DefineCategory) { in.LayerID = "loud" }), nil, domain.ErrLayerOfOtherTenant},
		{"not by another tenant", define(func(in *commands.DefineCategory) { in.TenantID, in.LayerID = "globex", "" }), nil, domain.ErrCategoryOfOtherTenant},
		{"not for nobody", define(func(in *commands.DefineCategory) { in.TenantID = "nobody" }), nil, domain.ErrTenantUnknown},
		{"it is retired", retire("lobby"), []string{"category.retired"}, nil},
		{"once", retire("lobby"), nil, nil},
		{"nobody is not", retire("nobody"), nil, domain.ErrCategoryUnknown},
		{"the retired is not changed", define(same), nil, domain.ErrCategoryRetired},
	})
}

func TestUsersAndLines(t *testing.T) {
	user := func(in commands.DefineUser) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) { _, out, err := k.DefineUser(k.ctx, in); return out, err }
	}
	amendUser := func(in commands.AmendUser) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) { return k.AmendUser(k.ctx, in) }
	}
	removeUser := func(id domain.UserID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) { return k.RemoveUser(k.ctx, commands.RemoveUser{ID: id}) }
	}
	line := func(change func(*commands.DefineLine)) func(*kit) (commands.Outcome, error) {
		in := commands.DefineLine{ID: "l1", TenantID: "acme", UserID: "bert", Number: "1201", DisplayName: "Desk", Username: "1201", Password: "pw",
			Settings: domain.LineSettings{"label": "Bert", "transport": "tls", "registrar_port": "5061"}}
		change(&in)
		return func(k *kit) (commands.Outcome, error) { _, out, err := k.DefineLine(k.ctx, in); return out, err }
	}
	amendLine := func(change func(*commands.AmendLine)) func(*kit) (commands.Outcome, error) {
		in := commands.AmendLine{ID: "l1", Number: "1201", DisplayName: "Desk", Username: "1201",
			Settings: domain.LineSettings{"label": "Bert", "transport": "tls", "registrar_port": 5061}}
		change(&in)
		return func(k *kit) (commands.Outcome, error) { return k.AmendLine(k.ctx, in) }
	}
	rotate := func(id domain.LineID, pw string) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) {
			return k.RotateLineSecret(k.ctx, commands.RotateLineSecret{ID: id, Password: pw})
		}
	}
	removeLine := func(id domain.LineID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) { return k.RemoveLine(k.ctx, commands.RemoveLine{ID: id}) }
	}
	same, sameAmend := func(*commands.DefineLine) {}, func(*commands.AmendLine) {}
	k := story(t, []said{
		{"a user is defined", user(commands.DefineUser{ID: "bert", TenantID: "acme", DisplayName: "Bert", Email: "bert@acme.example"}), []string{"user.defined"}, nil},
		{"once", user(commands.DefineUser{ID: "bert", TenantID: "acme", DisplayName: "Bert"}), nil, domain.ErrUserExists},
		{"not below nobody", user(commands.DefineUser{TenantID: "nobody"}), nil, domain.ErrTenantUnknown},
		{"they are amended", amendUser(commands.AmendUser{ID: "bert", DisplayName: "Bert B.", Email: "bert@acme.example"}), []string{"user.amended"}, nil},
		{"the same is no news", amendUser(commands.AmendUser{ID: "bert", DisplayName: "Bert B.", Email: "bert@acme.example"}), nil, nil},
		{"no e-mail is", amendUser(commands.AmendUser{ID: "bert", DisplayName: "Bert B."}), []string{"user.amended"}, nil},
		{"nobody is not amended", amendUser(commands.AmendUser{ID: "nobody"}), nil, domain.ErrUserUnknown},
		{"a line is defined", line(same), []string{"line.defined"}, nil},
		{"once", line(same), nil, domain.ErrLineExists},
		{"not for another's user", line(func(in *commands.DefineLine) { in.ID, in.TenantID = "l2", "globex" }), nil, domain.ErrUserOfOtherTenant},
		{"not for nobody", line(func(in *commands.DefineLine) { in.ID, in.UserID = "l2", "nobody" }), nil, domain.ErrUserUnknown},
		{"not below nobody", line(func(in *commands.DefineLine) { in.ID, in.TenantID = "l2", "nobody" }), nil, domain.ErrTenantUnknown},
		{"not with wrong settings", line(func(in *commands.DefineLine) { in.ID, in.Settings = "l2", domain.LineSettings{"transport": "smoke"} }), nil, domain.ErrSettings},
		{"nor with those of a phone", line(func(in *commands.DefineLine) { in.ID, in.Settings = "l2", domain.LineSettings{"vlan_id": 1} }), nil, domain.ErrSettings},
		{"the same is no news", amendLine(sameAmend), nil, nil},
		{"it is amended", amendLine(func(in *commands.AmendLine) { in.Number = "1202" }), []string{"line.amended"}, nil},
		{"a setting is", amendLine(func(in *commands.AmendLine) { in.Number, in.Settings = "1202", nil }), []string{"line.amended"}, nil},
		{"nobody is not amended", amendLine(func(in *commands.AmendLine) { in.ID = "nobody" }), nil, domain.ErrLineUnknown},
		{"not with wrong settings either", amendLine(func(in *commands.AmendLine) { in.Settings = domain.LineSettings{"x": 1} }), nil, domain.ErrSettings},
		{"its password is rotated", rotate("l1", "new"), []string{"line.secret_rotated"}, nil},
		{"the same is no news", rotate("l1", "new"), nil, nil},
		{"nobody has none", rotate("nobody", "new"), nil, domain.ErrLineUnknown},
		{"it is removed", removeLine("l1"), []string{"line.removed"}, nil},
		{"again is no news", removeLine("l1"), nil, nil},
		{"nobody is not", removeLine("nobody"), nil, domain.ErrLineUnknown},
		{"the removed is not amended", amendLine(sameAmend), nil, domain.ErrLineRemoved},
		{"nor rotated", rotate("l1", "newer"), nil, domain.ErrLineRemoved},
		{"a user is removed", removeUser("bert"), []string{"user.removed"}, nil},
		{"again is no news", removeUser("bert"), nil, nil},
		{"nobody is not", removeUser("nobody"), nil, domain.ErrUserUnknown},
		{"the removed is not amended", amendUser(commands.AmendUser{ID: "bert"}), nil, domain.ErrUserRemoved},
		{"and has no line", line(func(in *commands.DefineLine) { in.ID = "l3" }), nil, domain.ErrUserRemoved},
	})
	if got := state[domain.Line](k, "line-l1"); got.Username != "1201" || got.UserID != "bert" {
		t.Errorf("%+v", got)
	}
}

func TestLayers(t *testing.T) {
	define := func(id domain.LayerID, tenant domain.TenantID, settings domain.Settings, parents ...domain.LayerID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) {
			_, out, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: id, TenantID: tenant, Settings: settings, Parents: parents})
			return out, err
		}
	}
	amend := func(id domain.LayerID, settings domain.Settings, parents ...domain.LayerID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) {
			return k.AmendLayer(k.ctx, commands.AmendLayer{ID: id, Settings: settings, Parents: parents})
		}
	}
	remove := func(id domain.LayerID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) { return k.RemoveLayer(k.ctx, commands.RemoveLayer{ID: id}) }
	}
	pw := domain.Settings{"admin_password": "s3cret"}
	k := story(t, []said{
		{"a layer is defined", define("a", "acme", pw), []string{"layer.defined"}, nil},
		{"once", define("a", "acme", nil), nil, domain.ErrLayerExists},
		{"not with wrong settings", define("x", "acme", domain.Settings{"vlan_id": 99999}), nil, domain.ErrSettings},
		{"not below nobody", define("x", "nobody", nil), nil, domain.ErrTenantUnknown},
		{"base belongs to master", define("base", "acme", nil), nil, domain.ErrLayerOfOtherTenant},
		{"a tenant's belongs to the tenant", define("tenant.globex", "acme", nil), nil, domain.ErrLayerOfOtherTenant},
		{"a tenant has its own", define("tenant.acme", "acme", nil), []string{"layer.defined"}, nil},
		{"base", define("base", domain.Master, nil), []string{"layer.defined"}, nil},
		{"a child of both", define("b", "acme", nil, "base", "a"), []string{"layer.defined"}, nil},
		{"not of a stranger's", define("x", "globex", nil, "a"), nil, domain.ErrLayerParent},
		{"not of nobody's", define("x", "acme", nil, "nobody"), nil, domain.ErrLayerParent},
		{"not of itself", amend("a", pw, "a"), nil, domain.ErrLayerCycle},
		{"not of its child", amend("a", pw, "b"), nil, domain.ErrLayerCycle},
		{"a grandchild", define("c", "acme", nil, "b"), []string{"layer.defined"}, nil},
		{"not of its grandchild", amend("a", pw, "c"), nil, domain.ErrLayerCycle},
		{"the same is no news", amend("a", pw), nil, nil},
		{"the same, redacted, is no news", amend("a", domain.Settings{"admin_password": domain.Redacted}), nil, nil},
		{"a redacted value that was none is refused", amend("a", domain.Settings{"user_password": domain.Redacted}), nil, domain.ErrSettings},
		{"another password is news", amend("a", domain.Settings{"admin_password": "0ther"}), []string{"layer.amended"}, nil},
		{"not with wrong settings", amend("a", domain.Settings{"x": 1}), nil, domain.ErrSettings},
		{"nobody is not amended", amend("nobody", nil), nil, domain.ErrLayerUnknown},
		{"it is removed", remove("a"), []string{"layer.removed"}, nil},
		{"once", remove("a"), nil, domain.ErrLayerUnknown},
		{"its children stay", amend("b", domain.Settings{"vlan_id": 7}, "base"), []string{"layer.amended"}, nil},
		{"it is not defined again by another", define("a", "globex", nil), nil, domain.ErrLayerOfOtherTenant},
		{"it is defined again, below what was its child", define("a", "acme", nil, "b"), []string{"layer.defined"}, nil},
	})
	if got := k.count("layer-a", "key.created"); got != 1 {
		t.Errorf("a layer has %d keys", got)
	}
}

// What a caller leaves as "[redacted]" keeps its value and its very seal.
func TestARedactedSecretKeepsItsSeal(t *testing.T) {
	k := start(t)
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "a", TenantID: "acme", Settings: domain.Settings{"admin_password": "s3cret", "vlan_id": 1}})
	k.ok(err)
	before := state[domain.Layer](k, "layer-a").Settings["admin_password"].(domain.Secret)
	_, err = k.AmendLayer(k.ctx, commands.AmendLayer{ID: "a", Settings: domain.Settings{"admin_password": domain.Redacted, "vlan_id": 2}})
	k.ok(err)
	after := state[domain.Layer](k, "layer-a").Settings["admin_password"].(domain.Secret)
	if string(before.Ciphertext) != string(after.Ciphertext) || before.AAD != after.AAD {
		t.Error("it was sealed anew")
	}
	if clear, err := k.Open(k.ctx, after.Sealed); err != nil || clear != "s3cret" {
		t.Errorf("it opens with %v", err)
	}
}

// Ciphertext that somebody sends, seen in another's history, is no value.
func TestSealedValuesAreNotTakenFromOutside(t *testing.T) {
	k := start(t)
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "theirs", TenantID: "globex", Settings: domain.Settings{"admin_password": "s3cret"}})
	k.ok(err)
	stolen := state[domain.Layer](k, "layer-theirs").Settings["admin_password"].(domain.Secret)
	for _, v := range []any{stolen, domain.Personal(stolen)} {
		k.refused(domain.ErrSettings, func() error {
			_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "ours", TenantID: "acme", Settings: domain.Settings{"admin_password": v}})
			return err
		})
	}
	k.refused(domain.ErrSettings, func() error {
		_, _, err := k.DefineLine(k.ctx, commands.DefineLine{TenantID: "acme", Username: "x", Password: "x", Settings: domain.LineSettings{"label": stolen}})
		return err
	})
}

// What is on which level of a device's settings, and what wins.
func TestExplain(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "anna")
	for layer, in := range map[domain.LayerID]commands.DefineLayer{
		"base":        {TenantID: domain.Master, Settings: domain.Settings{"ntp_ip": "192.0.2.1", "vlan_id": 1, "locale": "de_DE"}},
		"tenant.acme": {TenantID: "acme", Settings: domain.Settings{"vlan_id": 2, "admin_password": "s3cret"}},
	} {
		in.ID = layer
		_, _, err := k.DefineLayer(k.ctx, in)
		k.ok(err)
	}
	k.line("l1", "acme", "anna")
	_, err := k.AssociateLine(k.ctx, commands.AssociateLine{DeviceID: id, LineID: "l1"})
	k.ok(err)
	_, err = k.ConfigureDevice(k.ctx, commands.ConfigureDevice{ID: id, Settings: domain.Settings{"vlan_id": 3}})
	k.ok(err)
	got, err := k.Explain(k.ctx, id, "vlan_id")
	k.ok(err)
	if len(got) != 1 || got[0].Value != 3 || len(got[0].Levels) != 3 || got[0].Levels[0].Name != "base" || got[0].Levels[1].Name != "tenant" || got[0].Levels[2].Name != "device" {
		t.Errorf("%+v", got)
	}
	all, err := k.Explain(k.ctx, id, "")
	k.ok(err)
	var keys []string
	for _, x := range all {
		keys = append(keys, x.Key)
		if strings.Contains(x.Key, "password") && x.Value != domain.Redacted {
			t.Errorf("%s shows its value", x.Key)
		}
	}
	if joined := strings.Join(keys, " "); !strings.Contains(joined, "sip_lines.1.password") || !strings.Contains(joined, "admin_password") {
		t.Errorf("explained %s", joined)
	}
	if _, err := k.Explain(k.ctx, "nobody", ""); !errors.Is(err, domain.ErrDeviceUnknown) {
		t.Error(err)
	}
}

// D-order: server < base < tenant < category < parents < lines < device; every layer once, loops and dangling
// parents are harmless, and a layer of another tenant does not count.
func TestLevelsMergeInOrder(t *testing.T) {
	k := start(t)
	k.service.Service.Base = domain.Settings{"ntp_ip": "server", "locale": "en_US"}
	define := func(id domain.LayerID, tenant domain.TenantID, parents ...domain.LayerID) {
		t.Helper()
		_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: id, TenantID: tenant, Parents: parents, Settings: domain.Settings{"ntp_ip": strings.ReplaceAll(string(id), ".", "-")}})
		k.ok(err)
	}
	define("grand", domain.Master)
	define("base", domain.Master, "grand")
	define("tenant.acme", "acme")
	define("quiet", "acme", "grand")
	define("own", "acme")
	_, _, err := k.DefineCategory(k.ctx, commands.DefineCategory{ID: desk, TenantID: "acme", Name: "Desk", Kind: "provisioning", LayerID: "quiet"})
	k.ok(err)
	id := k.discover(phone)
	_, err = k.AssignDevice(k.ctx, commands.AssignDevice{ID: id, TenantID: "acme", CategoryID: desk})
	k.ok(err)
	_, err = k.ConfigureDevice(k.ctx, commands.ConfigureDevice{ID: id, Parents: []domain.LayerID{"own"}, Settings: domain.Settings{"ntp_ip": "device"}})
	k.ok(err)
	// A loop, and a parent that is gone.
	_, err = k.AmendLayer(k.ctx, commands.AmendLayer{ID: "own", Parents: []domain.LayerID{"quiet"}, Settings: domain.Settings{"ntp_ip": "own"}})
	k.ok(err)
	_, err = k.RemoveLayer(k.ctx, commands.RemoveLayer{ID: "grand"})
	k.ok(err)
	// A stranger's layer, which no command would let in.
	_, _, err = k.DefineLayer(k.ctx, commands.DefineLayer{ID: "theirs", TenantID: "globex", Settings: domain.Settings{"vlan_id": 666}})
	k.ok(err)
	d := k.device(id)
	d.Parents = append(d.Parents, "theirs")
	stack, err := k.Settings(k.ctx, d)
	k.ok(err)
	var names []string
	for _, l := range stack.Levels {
		names = append(names, l.Name)
	}
	if diff := cmp.Diff([]string{"server", "base", "tenant", "category", "layer own", "device"}, names); diff != "" {
		t.Errorf("levels (-want +got):\n%s", diff)
	}
	if m := stack.Merged(); m["ntp_ip"] != "device" || m["locale"] != "en_US" {
		t.Errorf("%v", m)
	}
	inputs := map[domain.StreamID]int{}
	for _, in := range stack.Inputs {
		inputs[in.Stream]++
	}
	for _, s := range []domain.StreamID{"layer-base", "layer-grand", "layer-tenant.acme", "category-desk", "layer-quiet", "layer-own"} {
		if inputs[s] != 1 {
			t.Errorf("%s is read %d times", s, inputs[s])
		}
	}
}
