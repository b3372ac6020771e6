package blobs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/contract"
	"ledgerline/tests/postgres"
)

func openShared(t testing.TB, server *postgres.Server, place string, v Sealer) (*Shared, func()) {
	t.Helper()
	sum := sha256.Sum256([]byte(place))
	pool := server.Pool(t, "p"+hex.EncodeToString(sum[:8]))
	b, err := OpenShared(t.Context(), SharedOptions{Pool: pool, Sealer: v})
	if err != nil {
		t.Fatal(err)
	}
	return b, func() {
		for range 2 { // closing again is no error
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
		pool.Close()
	}
}

func TestSharedContract(t *testing.T) {
	server, ok := postgres.Start(t)
	if !ok {
		return
	}
	contract.Blobs(t, func(t testing.TB, place string, v commands.Vault) (commands.Blobs, func()) {
		return openShared(t, server, place, v)
	})

	t.Run("what one replica put another gets, and erased is erased for both", func(t *testing.T) {
		place, v := t.TempDir(), &contract.MemoryVault{}
		a, closeA := openShared(t, server, place, v)
		defer closeA()
		b, closeB := openShared(t, server, place, v)
		defer closeB()
		for i := range 5 {
			if err := a.Put(t.Context(), "device-1", fmt.Sprint(i), fmt.Append(nil, "file ", i)); err != nil {
				t.Fatal(err)
			}
		}
		sum, err := a.PutContent(t.Context(), "tenant-1", []byte("abc"))
		if err != nil {
			t.Fatal(err)
		}
		if data, err := b.GetContent(t.Context(), "tenant-1", sum); err != nil || string(data) != "abc" {
			t.Fatalf("%q, %v", data, err)
		}
		if err := b.Erase(t.Context(), "device-1", "3", "none"); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			data, err := a.Get(t.Context(), "device-1", fmt.Sprint(i))
			if i == 3 && !errors.Is(err, domain.ErrErased) || i != 3 && (err != nil || string(data) != fmt.Sprint("file ", i)) {
				t.Errorf("%d: %q, %v", i, data, err)
			}
		}
		if err := b.Erase(t.Context(), "device-1"); err != nil {
			t.Fatal(err)
		}
		stats, err := a.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Stats{Blobs: 1, Erased: 5, ClearBytes: 3, StoredBytes: stats.StoredBytes}, stats); diff != "" {
			t.Error(diff)
		}
		var bytes int
		if err := a.pool.QueryRow(t.Context(), `SELECT count(*) FROM ledgerline_blobs WHERE subject = 'device-1' AND (nonce IS NOT NULL OR ciphertext IS NOT NULL)`).Scan(&bytes); err != nil || bytes != 0 {
			t.Errorf("%d rows still have bytes, %v", bytes, err)
		}
	})
}
