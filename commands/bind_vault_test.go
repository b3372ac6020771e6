package commands_test

import (
	"errors"
	"testing"

	"ledgerline/commands"
	"ledgerline/domain"
)

// A log belongs to one vault: the first to say so. A rotated master key is recorded, another vault refused.
func TestBindVault(t *testing.T) {
	k := start(t)
	for _, c := range []struct {
		vault, key string
		events     int
		err        error
	}{
		{"v1", "aaaa", 1, nil},
		{"v1", "aaaa", 0, nil},
		{"v2", "aaaa", 0, domain.ErrForeignVault},
		{"v1", "bbbb", 1, nil},
		{"v2", "bbbb", 0, domain.ErrForeignVault},
		{"", "bbbb", 0, commands.ErrInvalid},
	} {
		out, err := k.BindVault(k.ctx, commands.BindVault{VaultID: c.vault, MasterFingerprint: c.key})
		if !errors.Is(err, c.err) || len(out.Events) != c.events {
			t.Errorf("%s under %s: %d events, %v; want %d, %v", c.vault, c.key, len(out.Events), err, c.events, c.err)
		}
	}
}
