package commandstest_test

import (
	"testing"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/tests/contract"
)

// The fakes are held to the contracts of the real ones.

func TestLog(t *testing.T) {
	contract.Log(t, func(*testing.T) contract.LogUnderTest {
		log := commandstest.NewLog()
		return contract.LogUnderTest{Log: log, Reopen: func(*testing.T) commands.Log { return log }}
	})
}

func TestReactorStore(t *testing.T) {
	contract.ReactorStore(t, func(*testing.T) contract.ReactorUnderTest {
		log := commandstest.NewLog()
		return contract.ReactorUnderTest{Store: log, Reopen: func(*testing.T) commands.ReactorStore { return log }}
	})
}

func TestVault(t *testing.T) {
	vaults := map[string]*commandstest.Vault{}
	contract.Vault(t, func(_ testing.TB, place string) (commands.Vault, func()) {
		if vaults[place] == nil {
			vaults[place] = commandstest.NewVault()
		}
		return vaults[place], func() {}
	})
}

func TestBlobs(t *testing.T) {
	places := map[string]*commandstest.Blobs{}
	contract.Blobs(t, func(_ testing.TB, place string, v commands.Vault) (commands.Blobs, func()) {
		if places[place] == nil {
			places[place] = commandstest.NewBlobs()
			places[place].Vault = v
		}
		return places[place], func() {}
	})
}
