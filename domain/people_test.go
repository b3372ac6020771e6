package domain_test

import (
	"testing"

	"ledgerline/domain"
)

func TestUser(t *testing.T) {
	spec := domain.UserSpec{DisplayName: name("aa"), Email: name("bb")}
	defined := domain.UserDefined{UserID: "anna", TenantID: "acme", UserSpec: spec}
	amend := func(spec domain.UserSpec) func(domain.User) ([]domain.Event, error) {
		return func(u domain.User) ([]domain.Event, error) { return u.Amend(spec) }
	}
	renamed := domain.UserSpec{DisplayName: name("cc"), Email: name("bb")}
	define := func(u domain.User) ([]domain.Event, error) { return u.Define("anna", "acme", spec) }
	live := func(tenant domain.TenantID) func(domain.User) ([]domain.Event, error) {
		return only(func(u domain.User) error { return u.Live(tenant) })
	}
	check(t, []rule[domain.User]{
		{"a user is defined", nil, define, past(defined), nil},
		{"an id is defined once", past(defined), define, nil, domain.ErrUserExists},
		{"also when removed", past(defined, domain.UserRemoved{}), define, nil, domain.ErrUserExists},
		{"another name is news", past(defined), amend(renamed), past(domain.UserAmended{UserSpec: renamed}), nil},
		{"no e-mail is news", past(defined), amend(domain.UserSpec{DisplayName: name("aa")}), past(domain.UserAmended{UserSpec: domain.UserSpec{DisplayName: name("aa")}}), nil},
		{"the same is no news", past(defined), amend(spec), nil, nil},
		{"nobody is not amended", nil, amend(spec), nil, domain.ErrUserUnknown},
		{"nor the removed", past(defined, domain.UserRemoved{}), amend(renamed), nil, domain.ErrUserRemoved},
		{"they are removed", past(defined), domain.User.Remove, past(domain.UserRemoved{}), nil},
		{"removing again is no news", past(defined, domain.UserRemoved{}), domain.User.Remove, nil, nil},
		{"nobody is not removed", nil, domain.User.Remove, nil, domain.ErrUserUnknown},
		{"they live in their tenant", past(defined), live("acme"), nil, nil},
		{"and in no other", past(defined), live("globex"), nil, domain.ErrUserOfOtherTenant},
		{"not when removed", past(defined, domain.UserRemoved{}), live("acme"), nil, domain.ErrUserRemoved},
		{"nobody does not live", nil, live("acme"), nil, domain.ErrUserUnknown},
	})
}

func TestLine(t *testing.T) {
	spec := domain.LineSpec{Number: name("aa"), DisplayName: name("bb"), Username: "1201", AuthUsername: "a", Settings: domain.LineSettings{"transport": "udp"}}
	defined := domain.LineDefined{LineID: "l1", TenantID: "acme", UserID: "anna", LineSpec: spec, Password: stored("pw")}
	define := func(l domain.Line) ([]domain.Event, error) { return l.Define("l1", "acme", "anna", spec, stored("pw")) }
	amend := func(spec domain.LineSpec) func(domain.Line) ([]domain.Event, error) {
		return func(l domain.Line) ([]domain.Event, error) { return l.Amend(spec) }
	}
	rotate := func(fp string) func(domain.Line) ([]domain.Event, error) {
		return func(l domain.Line) ([]domain.Event, error) { return l.Rotate(stored(fp)) }
	}
	removed := past(defined, domain.LineRemoved{})
	rules := []rule[domain.Line]{
		{"a line is defined", nil, define, past(defined), nil},
		{"an id is defined once", removed, define, nil, domain.ErrLineExists},
		{"the same is no news", past(defined), amend(spec), nil, nil},
		{"nobody is not amended", nil, amend(spec), nil, domain.ErrLineUnknown},
		{"nor the removed", removed, amend(spec), nil, domain.ErrLineRemoved},
		{"its password is rotated", past(defined), rotate("new"), past(domain.LineSecretRotated{Password: stored("new")}), nil},
		{"the same password is no news", past(defined), rotate("pw"), nil, nil},
		{"the same password as since is no news", past(defined, domain.LineSecretRotated{Password: stored("new")}), rotate("new"), nil, nil},
		{"nobody's is not rotated", nil, rotate("x"), nil, domain.ErrLineUnknown},
		{"nor the removed one's", removed, rotate("x"), nil, domain.ErrLineRemoved},
		{"it is removed", past(defined), domain.Line.Remove, past(domain.LineRemoved{}), nil},
		{"removing again is no news", removed, domain.Line.Remove, nil, nil},
		{"nobody is not removed", nil, domain.Line.Remove, nil, domain.ErrLineUnknown},
		{"amending leaves the password", past(defined, domain.LineAmended{LineSpec: domain.LineSpec{Username: "x"}}), rotate("pw"), nil, nil},
	}
	for what, change := range map[string]func(*domain.LineSpec){
		"number": func(s *domain.LineSpec) { s.Number = name("x") }, "name": func(s *domain.LineSpec) { s.DisplayName = domain.Personal{} },
		"user name": func(s *domain.LineSpec) { s.Username = "x" }, "digest user": func(s *domain.LineSpec) { s.AuthUsername = "" },
		"setting": func(s *domain.LineSpec) { s.Settings = domain.LineSettings{"transport": "tls"} }, "no setting": func(s *domain.LineSpec) { s.Settings = nil }} {
		changed := spec
		change(&changed)
		rules = append(rules, rule[domain.Line]{"another " + what + " is news", past(defined), amend(changed), past(domain.LineAmended{LineSpec: changed}), nil})
	}
	check(t, rules)
}

func TestLayer(t *testing.T) {
	spec := domain.LayerSpec{Name: "Desk", Parents: []domain.LayerID{"base"}, Settings: domain.Settings{"vlan_id": 1, "admin_password": stored("pw")}}
	defined := domain.LayerDefined{LayerID: "desk", TenantID: "acme", LayerSpec: spec}
	define := func(tenant domain.TenantID) func(domain.Layer) ([]domain.Event, error) {
		return func(l domain.Layer) ([]domain.Event, error) { return l.Define("desk", tenant, spec) }
	}
	amend := func(spec domain.LayerSpec) func(domain.Layer) ([]domain.Event, error) {
		return func(l domain.Layer) ([]domain.Event, error) { return l.Amend(spec) }
	}
	removed := past(defined, domain.LayerRemoved{})
	rules := []rule[domain.Layer]{
		{"a layer is defined", nil, define("acme"), past(defined), nil},
		{"an id is defined once", past(defined), define("acme"), nil, domain.ErrLayerExists},
		{"a removed one can be defined again", removed, define("acme"), past(defined), nil},
		{"but not by another tenant", removed, define("globex"), nil, domain.ErrLayerOfOtherTenant},
		{"the same is no news", past(defined), amend(spec), nil, nil},
		{"nobody is not amended", nil, amend(spec), nil, domain.ErrLayerUnknown},
		{"nor the removed", removed, amend(spec), nil, domain.ErrLayerUnknown},
		{"it is removed", past(defined), domain.Layer.Remove, past(domain.LayerRemoved{}), nil},
		{"the removed is gone", removed, domain.Layer.Remove, nil, domain.ErrLayerUnknown},
	}
	for what, change := range map[string]func(*domain.LayerSpec){
		"name": func(s *domain.LayerSpec) { s.Name = "x" }, "parent": func(s *domain.LayerSpec) { s.Parents = []domain.LayerID{"base", "x"} },
		"value": func(s *domain.LayerSpec) { s.Settings = domain.Settings{"vlan_id": 2, "admin_password": stored("pw")} },
		"secret": func(s *domain.LayerSpec) {
			s.Settings = domain.Settings{"vlan_id": 1, "admin_password": stored("other")}
		}} {
		changed := spec
		change(&changed)
		rules = append(rules, rule[domain.Layer]{"another " + what + " is news", past(defined), amend(changed), past(domain.LayerAmended{LayerSpec: changed}), nil})
	}
	check(t, rules)
	if domain.TenantLayer("acme") != "tenant.acme" {
		t.Error(domain.TenantLayer("acme"))
	}
}
