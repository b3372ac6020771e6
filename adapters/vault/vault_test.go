package vault

import (
	"testing"

	"ledgerline/commands"
	"ledgerline/tests/contract"
)

func TestContract(t *testing.T) {
	contract.Vault(t, func(t testing.TB, place string) (commands.Vault, func()) {
		v := open(t, Options{Dir: place})
		return v, func() { closeVault(t, v) }
	})
}

func open(t testing.TB, o Options) *Vault {
	t.Helper()
	v, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func closeVault(t testing.TB, v *Vault) {
	t.Helper()
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}
