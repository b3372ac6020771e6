package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The frames of the protocol description, byte for byte.
func TestFrames(t *testing.T) {
	for _, c := range []struct {
		name string
		hex  string
		want Frame
	}{
		{"receive of tunnel 13", "020000000d0000000100000000", Frame{Tunnel: &Tunnel{ID: 13, Event: EventReceive, Data: []byte{0, 0, 0, 0}}}},
		{"send result carries nothing", "020000000100000003", Frame{Tunnel: &Tunnel{ID: 1, Event: EventSendResult, Data: []byte{}}}},
		{"shutdown of the highest id", "02ffffffff00000004", Frame{Tunnel: &Tunnel{ID: 1<<32 - 1, Event: EventShutdown, Data: []byte{}}}},
		{"challenge", "010002" + hex.EncodeToString([]byte(`{"challenge":"1807264531"}`)), Frame{Type: TypeChallenge, JSON: []byte(`{"challenge":"1807264531"}`)}},
		{"an admin message of a later release", "010100", Frame{Type: 256, JSON: []byte{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := hex.DecodeString(c.hex)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if !bytes.Equal(got.Bytes(), b) {
				t.Errorf("written back as %x", got.Bytes())
			}
		})
	}
	if got := hex.EncodeToString(Receive(13, 0)); got != "020000000d0000000100000000" {
		t.Errorf("Receive(13, 0) = %s", got)
	}
	if got := string(Admin(TypePortResult, PortResult{})); got != "\x01\x00\x05{}" {
		t.Errorf("an empty port result is %q", got)
	}
}

func TestNoFrames(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, {1, 0}, {2, 0, 0, 0, 1, 0, 0, 0}, {0, 0, 0}, {3, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		append([]byte{1, 0, 0}, make([]byte, MaxAdmin+1)...), append([]byte{2}, make([]byte, MaxFrame)...)} {
		if _, err := Parse(b); !errors.Is(err, ErrFrame) {
			t.Errorf("%d bytes %.9x: %v", len(b), b, err)
		}
	}
}

// Vectors of our reference and of a real installation (public test data).
func TestDigest(t *testing.T) {
	for _, c := range []struct{ id, product, version, challenge, password, want string }{
		{"0090335a0b1c", "IP222", "13r3 sr1 [13.5421/135421/1300]", "1807264531", "Zq7w!mP0_kR4tYb2Xc9vLn6Hs3Jd8Fg5",
			"e8f13dfef045767105291e38143234e47c1e07bb7f971a115d498dd064c61b14"},
		{"f19033480af9", "IP232", "13r2 dvl [13.4250/131286/1300]", "1446931255", "2jjH!u3ucXscEzHq8X!l83BX3!U8TPwA",
			"13cc86b3f0691e2ce1a626a9963a5aefeefcb78f7e5b23a8ede10e8204247c97"},
	} {
		if got := Digest(c.id, c.product, c.version, c.challenge, c.password); got != c.want {
			t.Errorf("digest of %s is %s", c.id, got)
		}
		i := Identify{ID: c.id, Product: c.product, Version: c.version, Digest: c.want}
		if !i.Proves(c.challenge, c.password) {
			t.Errorf("%s does not prove itself", c.id)
		}
		for what, other := range map[string]Identify{
			"id":      {ID: "f19033480afa", Product: c.product, Version: c.version, Digest: c.want},
			"product": {ID: c.id, Product: "IP112", Version: c.version, Digest: c.want},
			"version": {ID: c.id, Product: c.product, Version: "13r2", Digest: c.want},
			"digest":  {ID: c.id, Product: c.product, Version: c.version},
		} {
			if other.Proves(c.challenge, c.password) {
				t.Errorf("another %s passes", what)
			}
		}
		if i.Proves("", c.password) || i.Proves(c.challenge, "") || i.Proves(c.challenge, c.password+"x") {
			t.Error("an empty or wrong secret passes")
		}
	}
	// No password and no challenge must not be a password and a challenge that anybody can answer.
	nobody := Identify{ID: "0090335a0b1c", Product: "IP222", Version: "v"}
	nobody.Digest = Digest(nobody.ID, nobody.Product, nobody.Version, "", "")
	if nobody.Proves("", "") {
		t.Error("the digest over nothing passes")
	}
}

func TestPasswords(t *testing.T) {
	for _, c := range []struct{ seed, password, hidden, clear string }{
		{"wJQog70GUK!GPTN2", "7iICN04agQq38j!hmbN7P5LLI1YePz1w", "22f91ebb", "test"},
		{"RlGIgQj2j!LUIgPL", "N803pDZVpL_ccS_1tGwFjIN0cfw75MNo", "cfa78653", "test"},
		{"aB3dE6gH9jK2mN5p", "Zq7w!mP0_kR4tYb2Xc9vLn6Hs3Jd8Fg5", "11618b47f67f6448f3b565df", "s3cr3t-Admin"},
	} {
		if got, err := Decrypt(c.seed, c.password, c.hidden); err != nil || got != c.clear {
			t.Errorf("decrypted %q, %v; want %q", got, err, c.clear)
		}
		if got, err := Encrypt(c.seed, c.password, c.clear); err != nil || got != c.hidden {
			t.Errorf("encrypted %s, %v; want %s", got, err, c.hidden)
		}
	}
	if _, err := Decrypt("s", "p", "not hex"); !errors.Is(err, ErrPassword) {
		t.Errorf("no hex: %v", err)
	}
	if _, err := Encrypt("s", string(make([]byte, 300)), "x"); !errors.Is(err, ErrPassword) {
		t.Errorf("a key too long: %v", err)
	}
}

// An Identify as a device sends it, with what a later release may add.
func TestIdentify(t *testing.T) {
	const sent = `{"id":"0090335a0b1c","product":"IP222","version":"13r3 sr1 [13.5421/135421/1300]","platform":{"type":"PHONE","later":1},"fwBuild":"135421",` +
		`"bcBuild":"135421","major":"13r3","fw":"ip222.bin","bc":"boot222.bin","ethIfs":[{"if":"ETH0","ipv4":"10.0.0.7"}],"provisioningCode":"000123456789","unheard":{"of":[]}}`
	var got Identify
	if err := json.Unmarshal([]byte(sent), &got); err != nil {
		t.Fatal(err)
	}
	want := Identify{ID: "0090335a0b1c", Product: "IP222", Version: "13r3 sr1 [13.5421/135421/1300]", Platform: Platform{Type: "PHONE"}, FwBuild: "135421", BcBuild: "135421",
		Major: "13r3", Fw: "ip222.bin", Bc: "boot222.bin", ProvisioningCode: "000123456789", EthIfs: []Interface{{If: "ETH0", IPv4: "10.0.0.7"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Receive(13, 0))
	f.Add(Admin(TypeIdentify, Identify{ID: "0090335a0b1c"}))
	f.Add([]byte{2, 0, 0, 0, 1, 0, 0, 0, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(got.Bytes(), b) {
			t.Errorf("%x is written back as %x", b, got.Bytes())
		}
	})
}
