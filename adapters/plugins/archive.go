package plugins

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"ledgerline/commands"
)

// An archive is a tar.gz whose first entry, MANIFEST, names package, version and every other entry with size and SHA-256:
//
//	ledgerline plugin package v1
//	name yealink
//	version 1.2.0
//	file 5b0c… 1204 models.csv
//
// Signed, MANIFEST is a signed note (golang.org/x/mod/sumdb/note, Ed25519) of that text; a signature so covers every byte
// that is unpacked. Packing the same files gives the same bytes.
const (
	manifestName = "MANIFEST"
	manifestHead = "ledgerline plugin package v1"
)

// Limits of an archive. MaxArchive is of the archive itself, the size a blob may have.
const (
	MaxArchive      = commands.MaxPluginArchive
	maxFiles        = 10_000
	maxUnpacked     = 128 << 20
	maxRatio        = 100
	ratioFree       = 1 << 20 // unpacked bytes below which the ratio is of no concern
	maxManifest     = 4 << 20
	maxPathInPacked = 200
)

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{commands.ErrPackageRefused}, args...)...)
}

type packedFile struct {
	sha256 string
	size   int64
}

// manifest is what an archive says of itself.
type manifest struct {
	name, version string
	files         map[string]packedFile
}

func (m manifest) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nname %s\nversion %s\n", manifestHead, m.name, m.version)
	for _, p := range slices.Sorted(maps.Keys(m.files)) {
		fmt.Fprintf(&b, "file %s %d %s\n", m.files[p].sha256, m.files[p].size, p)
	}
	return b.String()
}

func parseManifest(text string) (manifest, error) {
	m := manifest{files: map[string]packedFile{}}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case i == 0 && line == manifestHead:
		case i == 1 && word == "name":
			m.name = rest
		case i == 2 && word == "version":
			m.version = rest
		case i > 2 && word == "file":
			f := strings.SplitN(rest, " ", 3)
			if len(f) != 3 {
				return m, refused("line %d of its manifest", i+1)
			}
			size, err := strconv.ParseInt(f[1], 10, 64)
			if _, twice := m.files[f[2]]; err != nil || size < 0 || twice || !packable(f[2]) || len(f[0]) != 64 {
				return m, refused("line %d of its manifest", i+1)
			}
			m.files[f[2]] = packedFile{f[0], size}
		default:
			return m, refused("line %d of its manifest", i+1)
		}
	}
	if len(m.files) == 0 || len(m.files) > maxFiles {
		return m, refused("its manifest must name 1 to %d files", maxFiles)
	}
	return m, nil
}

// packable tells whether a path may stand in an archive: relative, clean, of plain characters.
func packable(p string) bool {
	if !fs.ValidPath(p) || p == "." || p == manifestName || len(p) > maxPathInPacked {
		return false
	}
	for _, c := range []byte(p) {
		if c <= ' ' || c > '~' || c == '\\' || c == ':' {
			return false
		}
	}
	return true
}

// Pack makes an unsigned archive of the package in dir of fsys, having checked that it is one. Sign signs it.
func Pack(fsys fs.FS, dir string) ([]byte, error) {
	sub, err := fs.Sub(fsys, dir)
	if err != nil {
		return nil, err
	}
	p, err := loadPackage(sub, ".")
	if err != nil {
		return nil, err
	}
	return pack(sub, p.Name, p.Version, gzip.BestCompression)
}

func pack(fsys fs.FS, name, version string, level int) ([]byte, error) {
	contents := map[string][]byte{}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || d.IsDir():
			return err
		case !d.Type().IsRegular() || !packable(p):
			return refused("%s cannot be packed", p)
		}
		contents[p], err = fs.ReadFile(fsys, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	return packContents(contents, name, version, level)
}

func packContents(contents map[string][]byte, name, version string, level int) ([]byte, error) {
	m := manifest{name: name, version: version, files: map[string]packedFile{}}
	for p, b := range contents {
		m.files[p] = packedFile{sumOf(b), int64(len(b))}
	}
	return writeArchive(m, m.text(), contents, level)
}

func writeArchive(m manifest, head string, contents map[string][]byte, level int) ([]byte, error) {
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, level)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	entry := func(name string, data []byte) error {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err := t.Write(data)
		return err
	}
	if err := entry(manifestName, []byte(head)); err != nil {
		return nil, err
	}
	for _, p := range slices.Sorted(maps.Keys(m.files)) {
		if err := entry(p, contents[p]); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return nil, err
	}
	if buf.Len() > MaxArchive {
		return nil, refused("more than %d bytes packed", MaxArchive)
	}
	return buf.Bytes(), nil
}

// Sign adds a signature to an archive. key is as KeyGen made it.
func Sign(archive []byte, key string) ([]byte, error) {
	signer, err := note.NewSigner(strings.TrimSpace(key))
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	u, err := unpackAll(archive)
	if err != nil {
		return nil, err
	}
	text := u.note.Text
	signed, err := note.Sign(&note.Note{Text: text, Sigs: u.note.UnverifiedSigs, UnverifiedSigs: nil}, signer)
	if err != nil {
		return nil, err
	}
	return writeArchive(u.manifest, string(signed), u.contents, gzip.BestCompression)
}

// KeyGen makes a key pair named name ("acme.example"): the signing key is to be kept secret, the verifier is a line of
// the file of trusted keys.
func KeyGen(rand io.Reader, name string) (signing, verifier string, err error) {
	return note.GenerateKey(rand, name)
}

// Keys are the signers whose packages are let in.
type Keys []note.Verifier

// ParseKeys reads verifiers, one a line; blank lines and those beginning with # are left out.
func ParseKeys(text string) (Keys, error) {
	var keys Keys
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		v, err := note.NewVerifier(line)
		if err != nil {
			return nil, fmt.Errorf("trusted key %.40q: %w", line, err)
		}
		keys = append(keys, v)
	}
	return keys, nil
}

// unpacked is an archive in memory, every byte checked against its manifest.
type unpacked struct {
	manifest
	note     note.Note // of a package without signatures only the text
	contents map[string][]byte
}

// signer is the name of a trusted key that signed it; empty for none.
func (u unpacked) signer(trusted Keys) (string, error) {
	if len(u.note.UnverifiedSigs) == 0 {
		return "", nil
	}
	var msg strings.Builder
	msg.WriteString(u.note.Text + "\n")
	for _, s := range u.note.UnverifiedSigs {
		msg.WriteString("— " + s.Name + " " + s.Base64 + "\n")
	}
	n, err := note.Open([]byte(msg.String()), note.VerifierList(trusted...))
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		return "", nil
	}
	if err != nil {
		return "", refused("its signature: %v", err)
	}
	return n.Sigs[0].Name, nil
}

// signedBy are the names of the keys it says it is signed with.
func (u unpacked) signedBy() []string {
	var names []string
	for _, s := range u.note.UnverifiedSigs {
		names = append(names, s.Name)
	}
	return names
}

// unpackAll reads an archive whole. Errors are commands.ErrPackageRefused.
func unpackAll(archive []byte) (unpacked, error) {
	u := unpacked{contents: map[string][]byte{}}
	if len(archive) > MaxArchive {
		return u, refused("larger than %d bytes", MaxArchive)
	}
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return u, refused("not a tar.gz")
	}
	limit := min(int64(maxUnpacked), max(ratioFree, maxRatio*int64(len(archive))))
	limited := &io.LimitedReader{R: z, N: limit + 1}
	t := tar.NewReader(limited)
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF && n > 0 {
			break
		}
		switch {
		case limited.N <= 0:
			return u, refused("it unpacks to more than %d bytes", limit)
		case err != nil:
			return u, refused("damaged: %v", err)
		case h.Typeflag != tar.TypeReg:
			return u, refused("%q is neither a file nor anything else an archive may hold", h.Name)
		case n > maxFiles:
			return u, refused("more than %d files", maxFiles)
		case n == 0:
			err = u.readManifest(h, t)
		default:
			err = u.readFile(h, t)
		}
		if err != nil {
			return u, err
		}
	}
	for p := range u.files {
		if _, there := u.contents[p]; !there {
			return u, refused("%s is missing", p)
		}
	}
	return u, nil
}

func (u *unpacked) readManifest(h *tar.Header, r io.Reader) error {
	if h.Name != manifestName || h.Size > maxManifest {
		return refused("its first entry must be %s", manifestName)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return refused("damaged: %v", err)
	}
	u.note.Text = string(b)
	if strings.Contains(u.note.Text, "\n\n— ") {
		_, err := note.Open(b, note.VerifierList())
		var unverified *note.UnverifiedNoteError
		if !errors.As(err, &unverified) {
			return refused("its signature: %v", err)
		}
		u.note = *unverified.Note
	}
	u.manifest, err = parseManifest(u.note.Text)
	return err
}

func (u *unpacked) readFile(h *tar.Header, r io.Reader) error {
	want, listed := u.files[h.Name]
	if _, twice := u.contents[h.Name]; !listed || twice || h.Size != want.size {
		return refused("%q is not as its manifest says", h.Name)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return refused("damaged: %v", err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want.sha256 {
		return refused("%q is not as its manifest says", h.Name)
	}
	u.contents[h.Name] = b
	return nil
}

// writeTo writes the files below root, which keeps them there whatever their names.
func (u unpacked) writeTo(root *os.Root) error {
	for _, p := range slices.Sorted(maps.Keys(u.contents)) {
		if dir := path.Dir(p); dir != "." {
			if err := root.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if err := root.WriteFile(p, u.contents[p], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// load writes the files below dir, made if missing, and loads the package from there.
func (u unpacked) load(dir string) (_ *Package, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := u.writeTo(root); err != nil {
		return nil, err
	}
	p, err := loadPackage(root.FS(), ".")
	if err != nil {
		return nil, refused("%w", err)
	}
	if p.Name != u.name || p.Version != u.version {
		return nil, refused("its manifest says %s %s, its plugin.yaml %s %s", u.name, u.version, p.Name, p.Version)
	}
	return p, nil
}

// passing is load in a directory that goes away.
func (u unpacked) passing() (_ *Package, err error) {
	dir, err := os.MkdirTemp("", "ledgerline-plugin-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return u.load(dir)
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Identify reads name and version of an archive, all of it checked but its signature.
func Identify(archive []byte) (name, version string, err error) {
	if isWazo(archive) {
		w, err := readWazo(archive)
		return w.id, w.info.Version, err
	}
	u, err := unpackAll(archive)
	return u.name, u.version, err
}
