package vault

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"ledgerline/domain"
)

const (
	keyFileName    = "master.key"
	credentialName = "ledgerline-master-key"
	nextSuffix     = ".next"
	wrappedSize    = nonceSize + keySize + tagSize
)

// Errors of the master key. Each text says what to do; none holds key material.
var (
	// ErrWrongMasterKey: the vault belongs to another master key than the one found.
	ErrWrongMasterKey = errors.New("wrong master key")
	// ErrMasterKeyLost: there is a vault but no master key. A new key could open nothing, so none is made.
	ErrMasterKeyLost = errors.New("master key is missing: what is sealed (passwords, names, generated files) cannot be read without it; " +
		"restore the file from where you keep it; a new key would not help and none has been made")
	// ErrNoMasterKey: the file the operator named does not exist, and it is never made by itself.
	ErrNoMasterKey = errors.New("master key file does not exist; make one with: (umask 077; head -c 32 /dev/urandom > FILE)")
	// ErrBadMasterKey: the file does not hold a key.
	ErrBadMasterKey = errors.New("must hold 32 random bytes, raw or as 64 hex digits or as base64")
	// ErrKeyExposed: others than its owner may read or write the key file.
	ErrKeyExposed = errors.New("master key file must be accessible to its owner only: chmod 600 FILE")
	// ErrFixedMasterKey: the master key is a systemd credential, which the program cannot replace.
	ErrFixedMasterKey = errors.New("master key is a systemd credential and cannot be replaced here; " +
		"copy it to a file, rotate with --master-key-file FILE, then make that file the credential")
)

// master wraps data keys. Immutable.
type master struct {
	aead        cipher.AEAD
	fingerprint string
}

func newMaster(secret []byte) (*master, error) {
	aead, err := newAEAD(secret, "ledgerline vault wrap")
	if err != nil {
		return nil, err
	}
	sum, err := hkdf.Key(sha256.New, secret, nil, "ledgerline vault master fingerprint", 8)
	if err != nil {
		return nil, err
	}
	return &master{aead: aead, fingerprint: hex.EncodeToString(sum)}, nil
}

// wrap is nonce, ciphertext and tag in one: always wrappedSize bytes.
func (m *master) wrap(k *key) []byte {
	nonce := make([]byte, nonceSize, wrappedSize)
	rand.Read(nonce)
	return m.aead.Seal(nonce, nonce, k.data, wrapAAD(k.subject, k.id))
}

func (m *master) unwrap(r row) (*key, error) {
	if len(r.wrapped) != wrappedSize {
		return nil, fmt.Errorf("key of %s is damaged in the vault", r.subject)
	}
	data, err := m.aead.Open(nil, r.wrapped[:nonceSize], r.wrapped[nonceSize:], wrapAAD(r.subject, r.keyID))
	if err != nil {
		return nil, fmt.Errorf("key of %s is damaged in the vault", r.subject)
	}
	return newKey(r.subject, r.keyID, data)
}

// keyOf is the key in a row: nil for a row that is none, domain.ErrErased for a tombstone.
func (m *master) keyOf(r row) (*key, error) {
	switch {
	case !r.exists:
		return nil, nil
	case r.destroyed:
		return nil, domain.ErrErased
	}
	return m.unwrap(r)
}

// wrapAAD binds a wrapped key to its row. A key id has no NUL.
func wrapAAD(subject domain.Subject, keyID string) []byte {
	return []byte(keyID + "\x00" + string(subject))
}

// source is where the master key is kept.
type source struct {
	path       string
	make       bool // may be made for a new vault
	credential bool // placed by systemd: read-only, with an access list that shows as group bits
}

func locate(o Options) source {
	if o.MasterKeyFile != "" {
		return source{path: o.MasterKeyFile}
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		path := filepath.Join(dir, credentialName)
		if _, err := os.Stat(path); err == nil {
			return source{path: path, credential: true}
		}
	}
	return source{path: filepath.Join(o.Dir, keyFileName), make: true}
}

func (s source) read(path string) (*master, error) {
	secret, err := readMasterKey(path, s.credential)
	if err != nil {
		return nil, err
	}
	return newMaster(secret)
}

// find is the master key with the expected fingerprint (empty: any). Next to the key file there may be
// one ending in ".next", left by a rotation that was cut off: whichever of both the database belongs to
// is the right one. Next tells that it was that one.
func (s source) find(expected string) (m *master, next bool, err error) {
	m, err = s.read(s.path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, false, err
	}
	if !missing && (expected == "" || m.fingerprint == expected) {
		return m, false, nil
	}
	if expected != "" {
		if n, err := s.read(s.target() + nextSuffix); err == nil && n.fingerprint == expected {
			return n, true, nil
		}
	}
	switch {
	case !missing:
		return nil, false, fmt.Errorf("%w: the vault belongs to the key with fingerprint %s, %s holds the one with %s; name the right file with --master-key-file",
			ErrWrongMasterKey, expected, s.path, m.fingerprint)
	case expected != "":
		return nil, false, fmt.Errorf("%s (fingerprint %s): %w", s.path, expected, ErrMasterKeyLost)
	}
	return nil, false, fmt.Errorf("%s: %w", s.path, ErrNoMasterKey)
}

// unlock finds the master key, finishes a rotation that was cut off, and makes a key for a new vault.
func (s source) unlock(expected string) (m *master, created bool, err error) {
	m, next, err := s.find(expected)
	switch {
	case errors.Is(err, ErrNoMasterKey) && s.make:
		secret := make([]byte, keySize)
		rand.Read(secret)
		if err := writeKeyFile(s.path, secret); err != nil {
			return nil, false, err
		}
		m, err = newMaster(secret)
		return m, true, err
	case err != nil:
		return nil, false, err
	case next:
		return m, false, s.promote()
	}
	return m, false, s.dropNext()
}

// promote makes the next key file the key file.
func (s source) promote() error {
	path := s.target()
	if err := os.Rename(path+nextSuffix, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (s source) dropNext() error {
	if s.credential {
		return nil
	}
	err := os.Remove(s.target() + nextSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// target is the key file's real path: a rotation replaces the file, not the symbolic link to it.
func (s source) target() string {
	path, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return s.path
	}
	return path
}

// ReadMasterKey reads a master key file: exactly 32 raw bytes, or text with 64 hex digits or the base64
// (standard or URL alphabet, padded or not) of 32 bytes, white space around it ignored. Errors:
// ErrBadMasterKey, ErrKeyExposed, fs.ErrNotExist.
func ReadMasterKey(path string) ([]byte, error) { return readMasterKey(path, false) }

func readMasterKey(path string, credential bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !credential && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o: %w", path, info.Mode().Perm(), ErrKeyExposed)
	}
	content, err := io.ReadAll(io.LimitReader(f, 257))
	if err != nil {
		return nil, err
	}
	secret, err := parseMasterKey(content)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return secret, nil
}

func parseMasterKey(content []byte) ([]byte, error) {
	secret := content
	if len(content) != keySize {
		secret = decodeText(strings.TrimSpace(string(content)))
	}
	if len(secret) != keySize || strings.Count(string(secret), string(secret[:1])) == keySize {
		return nil, ErrBadMasterKey
	}
	return secret, nil
}

// decodeText is the bytes behind hex or base64, nil for anything else.
func decodeText(text string) []byte {
	if b, err := hex.DecodeString(text); err == nil {
		return b
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return b
}

// writeKeyFile writes secret as hex, readable by its owner only; durable, and whole or not at all.
func writeKeyFile(path string, secret []byte) error {
	text := []byte(hex.EncodeToString(secret) + "\n")
	if err := renameio.WriteFile(path, text, 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("write master key: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
