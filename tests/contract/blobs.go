package contract

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"ledgerline/commands"
	"ledgerline/domain"
)

// OpenBlobs opens the blobs kept at place, a directory of the test's own, sealed by v; the same place
// later answers as the blobs closed before left it. close is called once, before the place is opened again.
type OpenBlobs func(t testing.TB, place string, v commands.Vault) (b commands.Blobs, close func())

// Blobs holds an implementation of commands.Blobs to its contract.
func Blobs(t *testing.T, open OpenBlobs) {
	for _, c := range []struct {
		fact string
		test func(t *testing.T, b commands.Blobs, v commands.Vault)
	}{
		{"what was put comes back byte for byte", blobsEqual},
		{"nothing is found under another subject or mac", blobsMissing},
		{"putting again is no error and changes nothing", blobsAgain},
		{"blobs of an erased subject are erased, also for Put", blobsErased},
		{"many can be put at once, also the same one", blobsAtOnce},
		{"the caller may reuse its bytes, before and after", blobsOwnBytes},
		{"several of a subject are kept together, or none", blobsTogether},
		{"an ended context ends the call", blobsCancelled},
	} {
		t.Run(c.fact, func(t *testing.T) {
			v := &MemoryVault{}
			b, done := open(t, t.TempDir(), v)
			defer done()
			c.test(t, b, v)
		})
	}
	t.Run("what was put outlives a restart", func(t *testing.T) { blobsReopen(t, open) })
}

const blobMAC = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func blobsEqual(t *testing.T, b commands.Blobs, _ commands.Vault) {
	noise := make([]byte, 1<<20)
	rand.Read(noise)
	for name, data := range map[string][]byte{
		"empty":  {},
		"config": []byte("#!version:1.0.0.1\r\naccount.1.enable = 1\r\naccount.1.user_name = 4711\r\n"),
		"long":   bytes.Repeat([]byte("linekey.1.type = 15\n"), 100_000),
		"noise":  noise,
		"binary": {0, 255, 0, 254},
	} {
		blobPut(t, b, "device-0015651a2b3c", name, data)
		blobWant(t, b, "device-0015651a2b3c", name, data)
	}
}

func blobsMissing(t *testing.T, b commands.Blobs, _ commands.Vault) {
	blobPut(t, b, "device-0015651a2b3c", blobMAC, []byte("x"))
	for _, at := range []struct {
		subject domain.Subject
		mac     string
	}{{"device-0015651a2b3c.2", blobMAC}, {"device-0015651a2b3c", strings.ToUpper(blobMAC)}, {"device-0015651a2b3c", blobMAC[:63]}} {
		if _, err := b.Get(t.Context(), at.subject, at.mac); !errors.Is(err, commands.ErrNoBlob) {
			t.Errorf("Get of %s %s: %v, want ErrNoBlob", at.subject, at.mac, err)
		}
	}
}

func blobsAgain(t *testing.T, b commands.Blobs, _ commands.Vault) {
	blobPut(t, b, "device-1", blobMAC, []byte("first"))
	blobPut(t, b, "device-1", blobMAC, []byte("first"))
	blobPut(t, b, "device-2", blobMAC, []byte("of another device"))
	blobWant(t, b, "device-1", blobMAC, []byte("first"))
	blobWant(t, b, "device-2", blobMAC, []byte("of another device"))
}

func blobsErased(t *testing.T, b commands.Blobs, v commands.Vault) {
	blobPut(t, b, "device-1", blobMAC, []byte("gone"))
	blobPut(t, b, "device-2", blobMAC, []byte("kept"))
	if err := v.Erase(t.Context(), "device-1"); err != nil {
		t.Fatal(err)
	}
	if data, err := b.Get(t.Context(), "device-1", blobMAC); !errors.Is(err, domain.ErrErased) || data != nil {
		t.Errorf("Get = %q, %v; want ErrErased", data, err)
	}
	for _, mac := range []string{blobMAC, "another"} {
		if err := b.Put(t.Context(), "device-1", mac, []byte("gone")); !errors.Is(err, domain.ErrErased) {
			t.Errorf("Put: %v, want ErrErased", err)
		}
	}
	blobWant(t, b, "device-2", blobMAC, []byte("kept"))
}

func blobsAtOnce(t *testing.T, b commands.Blobs, _ commands.Vault) {
	same := []byte("the same file for everybody")
	vaultAtOnce(t, 64, func(ctx context.Context, i int) error {
		if err := b.Put(ctx, "device-all", blobMAC, same); err != nil {
			return err
		}
		for j := range 5 {
			subject, mac, data := domain.Subject(fmt.Sprint("device-", i)), fmt.Sprint("mac", j), []byte(fmt.Sprint("file ", i, j))
			if err := b.Put(ctx, subject, mac, data); err != nil {
				return err
			}
			if got, err := b.Get(ctx, subject, mac); err != nil || !bytes.Equal(got, data) {
				return fmt.Errorf("get %q, %w; want %q", got, err, data)
			}
		}
		return nil
	})
	blobWant(t, b, "device-all", blobMAC, same)
}

// Several of a subject in one call: what stands there already stays as it is, and of what cannot be kept nothing is.
func blobsTogether(t *testing.T, b commands.Blobs, v commands.Vault) {
	blobPut(t, b, "device-1", "m1", []byte("first"))
	if err := b.PutAll(t.Context(), "device-1", map[string][]byte{"m1": []byte("second"), "m2": {}, "m3": []byte("third")}); err != nil {
		t.Fatal(err)
	}
	if err := b.PutAll(t.Context(), "device-1", nil); err != nil {
		t.Errorf("none at all: %v", err)
	}
	for mac, want := range map[string]string{"m1": "first", "m2": "", "m3": "third"} {
		blobWant(t, b, "device-1", mac, []byte(want))
	}
	if _, _, err := v.Ensure(t.Context(), "device-2"); err != nil {
		t.Fatal(err)
	}
	if err := v.Erase(t.Context(), "device-2"); err != nil {
		t.Fatal(err)
	}
	if err := b.PutAll(t.Context(), "device-2", map[string][]byte{"m1": nil, "m2": nil}); !errors.Is(err, domain.ErrErased) {
		t.Errorf("of an erased subject: %v, want ErrErased", err)
	}
}

func blobsOwnBytes(t *testing.T, b commands.Blobs, _ commands.Vault) {
	data := []byte("mine")
	blobPut(t, b, "device-1", blobMAC, data)
	data[0] = 'X'
	got, err := b.Get(t.Context(), "device-1", blobMAC)
	if err != nil {
		t.Fatal(err)
	}
	clear(got)
	blobWant(t, b, "device-1", blobMAC, []byte("mine"))
}

func blobsCancelled(t *testing.T, b commands.Blobs, _ commands.Vault) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Get(ctx, "device-1", blobMAC); err == nil || errors.Is(err, commands.ErrNoBlob) {
		t.Errorf("Get: %v, want the context's error", err)
	}
	blobPut(t, b, "device-1", blobMAC, []byte("x")) // and the next call is served
	blobWant(t, b, "device-1", blobMAC, []byte("x"))
}

func blobsReopen(t *testing.T, open OpenBlobs) {
	place, v := t.TempDir(), &MemoryVault{}
	b, done := open(t, place, v)
	blobPut(t, b, "device-1", blobMAC, []byte("kept"))
	done()
	b, done = open(t, place, v)
	defer done()
	blobWant(t, b, "device-1", blobMAC, []byte("kept"))
	blobPut(t, b, "device-1", blobMAC, []byte("kept"))
}

func blobPut(t testing.TB, b commands.Blobs, subject domain.Subject, mac string, data []byte) {
	t.Helper()
	if err := b.Put(t.Context(), subject, mac, data); err != nil {
		t.Fatal(err)
	}
}

func blobWant(t testing.TB, b commands.Blobs, subject domain.Subject, mac string, want []byte) {
	t.Helper()
	got, err := b.Get(t.Context(), subject, mac)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("Get of %s %s: %d bytes, want the %d that were put", subject, mac, len(got), len(want))
	}
}
