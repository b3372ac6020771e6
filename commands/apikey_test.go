package commands_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

func TestAPIKeys(t *testing.T) {
	k := start(t)
	end := commandstest.Start.Add(time.Hour)
	id, token, out, err := k.IssueAPIKey(k.ctx, commands.IssueAPIKey{Name: "ops", Role: domain.Operator, Tenants: []domain.TenantID{"acme"}, ExpiresAt: &end})
	k.news(out, err, "apikey.issued")
	if !strings.HasPrefix(token, "ll_"+string(id)+"_") || len(token) != 3+32+1+43 {
		t.Errorf("a token of %d characters", len(token))
	}
	key, err := k.Authenticate(k.ctx, token)
	if err != nil || key.APIKeyID != id || key.Role != domain.Operator || !key.Sees("acme") || key.Sees("globex") {
		t.Errorf("%+v %v", key, err)
	}
	_, other, _, err := k.IssueAPIKey(k.ctx, commands.IssueAPIKey{Name: "other", Role: domain.Admin})
	k.ok(err)
	if other[36:] == token[36:] {
		t.Error("two keys have one secret")
	}
	for _, bad := range []string{"", "ll_", "ll__", "x", token[3:], "ll_nobody_" + token[36:], "LL" + token[2:], "ll_" + string(id), "ll_../x_" + token[36:], token + strings.Repeat("x", 100), "Bearer " + token} {
		if got, err := k.Authenticate(k.ctx, bad); !errors.Is(err, domain.ErrAPIKeyUnknown) || got.Exists {
			t.Errorf("%q: %v", bad, err)
		}
	}
	k.ok(k.RecordDenials(k.ctx, true))
	if n := k.count("apikey-", "apikey.denied"); n != 0 {
		t.Errorf("unknown credentials made %d events", n)
	}
	for _, bad := range []string{token[:len(token)-1], token[:36] + other[36:], token + "x", "ll_" + string(id) + "_"} {
		if _, err := k.Authenticate(k.ctx, bad); !errors.Is(err, domain.ErrAPIKeyDead) {
			t.Errorf("a wrong secret: %v", err)
		}
	}
	k.Clock.Advance(time.Hour)
	if _, err := k.Authenticate(k.ctx, token); !errors.Is(err, domain.ErrAPIKeyDead) {
		t.Errorf("at its end: %v", err)
	}
	k.ok(k.RecordDenials(k.ctx, false)) // 10:30: the hour of nine is over
	r, denied := last[domain.APIKeyDenied](k)
	if denied.Count != 4 || !denied.Hour.Equal(commandstest.Start.Truncate(time.Hour)) || r.Stream != id.Stream() {
		t.Errorf("%+v", denied)
	}
	k.ok(k.RecordDenials(k.ctx, true))
	if n := k.count("apikey-", "apikey.denied"); n != 2 {
		t.Errorf("%d events of two hours", n)
	}
}

func TestRevokingAnAPIKey(t *testing.T) {
	k := start(t)
	id, token, _, err := k.IssueAPIKey(k.ctx, commands.IssueAPIKey{ID: commands.BootstrapKey, Name: "bootstrap", Role: domain.Admin})
	k.ok(err)
	k.refused(domain.ErrAPIKeyExists, func() error {
		_, _, _, err := k.IssueAPIKey(k.ctx, commands.IssueAPIKey{ID: commands.BootstrapKey, Name: "bootstrap", Role: domain.Admin})
		return err
	})
	if _, err := k.Authenticate(k.ctx, token); err != nil {
		t.Errorf("the second took the first one's place: %v", err)
	}
	out, err := k.RevokeAPIKey(k.ctx, commands.RevokeAPIKey{ID: id})
	k.news(out, err, "apikey.revoked")
	out, err = k.RevokeAPIKey(k.ctx, commands.RevokeAPIKey{ID: id})
	k.news(out, err)
	if _, err := k.Authenticate(k.ctx, token); !errors.Is(err, domain.ErrAPIKeyDead) {
		t.Error(err)
	}
	k.refused(domain.ErrAPIKeyUnknown, func() error { _, err := k.RevokeAPIKey(k.ctx, commands.RevokeAPIKey{ID: "nobody"}); return err })
}

// Credentials are compared in constant time: Authenticate asks crypto/subtle, and compares no Hash with ==.
func TestCredentialsAreComparedInConstantTime(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "apikey.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constant := false
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			constant = constant || n.Sel.Name == "ConstantTimeCompare"
		case *ast.BinaryExpr:
			for _, side := range []ast.Expr{n.X, n.Y} {
				if s, ok := side.(*ast.SelectorExpr); ok && s.Sel.Name == "Hash" {
					t.Error("a hash is compared with an operator")
				}
			}
		}
		return true
	})
	if !constant {
		t.Error("nothing is compared in constant time")
	}
}
