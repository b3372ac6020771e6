package commands

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"ledgerline/domain"
)

// PastConfig is what one life of a device could fetch at a moment, with the proof of it.
type PastConfig struct {
	Device   domain.DeviceID
	Position domain.Position // of the regeneration
	Revision domain.Revision
	At       time.Time
	Config   domain.DeviceConfigRegenerated
	Files    []PastFile
	// Settings the files followed from, redacted; what was erased since is "[erased]". Nil when they cannot be
	// followed any more; Note says why.
	Settings domain.Settings
	// Erased is where the first key this device's history needs was destroyed; zero when none was.
	Erased domain.Position
	Note   string

	stack Stack
}

// PastFile is one file of then, and how sure we are of it.
type PastFile struct {
	domain.GeneratedFile
	// Text is the file with every secret in it replaced by domain.Redacted, rendered again from the history.
	Text []byte
	// Bytes tells of the bytes kept since: "verified" (they have the recorded mac), "unverifiable: key
	// destroyed at POSITION", "changed", "missing".
	Bytes string
	// Rendered tells of rendering again: "equal" (the same bytes), "equal but for secrets" (the same skeleton; the
	// bytes are gone), "differs: …", "impossible: …".
	Rendered string
}

// Proven tells whether these are the bytes of then beyond doubt.
func (f PastFile) Proven() bool { return f.Bytes == "verified" }

var (
	// ErrNoConfig: the device had no files at that moment.
	ErrNoConfig = errors.New("device had no files then")
	errNoInput  = errors.New("not among the recorded inputs: the rules of merging were others then")
)

// ConfigAt is what a life of a device could fetch at a position. The bytes are the ones kept then; rendering
// again from the history is the check of them, not their source (D4). Errors: domain.ErrNoStream, ErrNoConfig.
func (s *Service) ConfigAt(ctx context.Context, id domain.DeviceID, at domain.Position) (PastConfig, error) {
	past := PastConfig{Device: id}
	var d, then domain.Device
	for r, err := range s.Log.Read(ctx, id.Stream(), 0) {
		if err != nil {
			return past, fmt.Errorf("load %s: %w", id.Stream(), err)
		}
		if at.Before(r.Position) {
			break
		}
		e, err := r.Event()
		if err != nil {
			return past, err
		}
		if c, ok := e.(domain.DeviceConfigRegenerated); ok {
			m, err := r.Meta()
			if err != nil {
				return past, err
			}
			then, past.Config, past.Position, past.Revision, past.At = d, c, r.Position, r.Revision, m.RecordedAt
		}
		d = d.Apply(e)
	}
	if past.Position.IsZero() || d.Deleted || len(d.Config.Files) == 0 {
		return past, ErrNoConfig
	}
	return past, s.provePast(ctx, then, &past)
}

// provePast fills in files, settings and what can be said of them.
func (s *Service) provePast(ctx context.Context, d domain.Device, past *PastConfig) error {
	var err error
	if past.Erased, err = s.erasedAmong(ctx, past); err != nil {
		return err
	}
	made, note, err := s.renderPast(ctx, d, past)
	if err != nil {
		return err
	}
	past.Note = note
	for _, g := range past.Config.Files {
		f := PastFile{GeneratedFile: g}
		kept, err := s.Blobs.Get(ctx, d.ID.Subject(), g.MAC)
		var sum []byte
		if err == nil {
			sum, err = s.Vault.Hash(ctx, d.ID.Subject(), "mac", kept)
		}
		switch {
		case errors.Is(err, domain.ErrErased):
			kept, f.Bytes = nil, fmt.Sprintf("unverifiable: key destroyed at %s", past.Erased)
		case errors.Is(err, ErrNoBlob):
			kept, f.Bytes = nil, "missing"
		case err != nil:
			return fmt.Errorf("read %s as of %s: %w", g.Path, past.Position, err)
		case hmac.Equal([]byte(hex.EncodeToString(sum)), []byte(g.MAC)):
			f.Bytes = "verified"
		default:
			f.Bytes = "changed"
		}
		i := slices.IndexFunc(made.Rendered.Files, func(m File) bool { return m.Path == g.Path })
		switch {
		case note != "":
			f.Rendered = "impossible: " + note
		case i < 0:
			f.Rendered = "differs: this program does not make it"
		default:
			m := made.Rendered.Files[i]
			f.Text = m.Skeleton
			skeleton := sha256.Sum256(m.Skeleton)
			same := hex.EncodeToString(skeleton[:]) == g.SkeletonSHA256
			switch {
			case kept != nil && string(kept) == string(m.Data):
				f.Rendered = "equal"
			case kept == nil && same:
				f.Rendered = "equal but for secrets"
			case kept == nil && !past.Erased.IsZero():
				f.Rendered = "differs: what was erased stood in it"
			case same:
				f.Rendered = "differs: in a secret"
			default:
				f.Rendered = fmt.Sprintf("differs: made by renderer %s with tzdata %s, now %s with %s, or server settings that are no events were others",
					past.Config.Renderer, past.Config.TZData, made.Rendered.Renderer, made.Rendered.TZData)
			}
		}
		past.Files = append(past.Files, f)
	}
	return nil
}

// renderPast renders the files again from the recorded inputs. note says why that cannot be done.
func (s *Service) renderPast(ctx context.Context, d domain.Device, past *PastConfig) (made Revealed, note string, err error) {
	r := s.newResolver()
	r.past = make(map[domain.StreamID]domain.Revision, len(past.Config.Inputs))
	for _, in := range past.Config.Inputs {
		r.past[in.Stream] = in.Revision
	}
	r.open = func(ctx context.Context, sealed domain.Settings) (domain.Settings, error) {
		return s.revealAs(ctx, sealed, domain.Redacted, domain.Erased)
	}
	past.stack, err = r.settings(ctx, d)
	if errors.Is(err, errNoInput) {
		return made, err.Error(), nil
	}
	if err != nil {
		return made, "", err
	}
	past.Settings = past.stack.Merged().Redacted()
	secret := ""
	if d.Assigned() {
		if secret, err = s.openAs(ctx, d.Secret.Sealed, domain.Redacted); err != nil {
			return made, "", fmt.Errorf("open the path secret of %s: %w", d.ID, err)
		}
	}
	d.Plugin, d.PluginVersion = past.Config.Plugin, past.Config.PluginVersion
	made, err = s.render(ctx, d, past.stack, secret)
	if errors.Is(err, ErrNoPlugin) {
		return made, fmt.Sprintf("plugin %s %s is not installed", d.Plugin, d.PluginVersion), nil
	}
	return made, "", err
}

// erasedAmong is the position at which the first of the keys behind the files was destroyed.
func (s *Service) erasedAmong(ctx context.Context, past *PastConfig) (first domain.Position, err error) {
	streams := []domain.StreamID{past.Device.Stream()}
	for _, in := range past.Config.Inputs {
		streams = append(streams, in.Stream)
	}
	for _, stream := range streams {
		for r, err := range s.Log.Read(ctx, stream, 0) {
			if errors.Is(err, domain.ErrNoStream) {
				break
			}
			if err != nil {
				return first, fmt.Errorf("load %s: %w", stream, err)
			}
			if r.Type == (domain.KeyDestroyed{}).EventType() && (first.IsZero() || r.Position.Before(first)) {
				first = r.Position
			}
		}
	}
	return first, nil
}

// SettingChange is one key that differs between two moments; secrets are redacted, and a secret that differs
// says so. Before or After is nil where the key was not set.
type SettingChange struct {
	Key    string `json:"key"`
	Before any    `json:"before"`
	After  any    `json:"after"`
	Secret bool   `json:"secret,omitempty"` // differs in a secret that is not shown
}

// Changes are the settings that differ from past to later, by key.
func (past PastConfig) Changes(later PastConfig) []SettingChange {
	clearA, clearB := past.stack.Merged(), later.stack.Merged()
	a, b := clearA.Redacted(), clearB.Redacted()
	keys := append(a.Paths(), b.Paths()...)
	slices.Sort(keys)
	var out []SettingChange
	for _, k := range slices.Compact(keys) {
		before, after := a.Get(k), b.Get(k)
		hidden := !reflect.DeepEqual(clearA.Get(k), clearB.Get(k))
		if !reflect.DeepEqual(before, after) || hidden {
			out = append(out, SettingChange{k, before, after, hidden && reflect.DeepEqual(before, after)})
		}
	}
	return out
}

// BlamedLine is one line of a file as it stood, and what brought it.
type BlamedLine struct {
	Text string `json:"text"` // secrets redacted
	// Since is the regeneration from which on the line stood there without a break; Causes are the facts that came
	// between it and the one before, empty when the line was there from the first.
	Since  domain.Position `json:"since"`
	At     time.Time       `json:"at"`
	Causes []LineCause     `json:"causes,omitempty"`
}

// LineCause is a fact the files followed from, new since the regeneration before.
type LineCause struct {
	Position domain.Position `json:"position"`
	Stream   domain.StreamID `json:"stream"`
	Revision domain.Revision `json:"revision"`
	Type     string          `json:"type"`
	Actor    string          `json:"actor"`
	Reason   string          `json:"reason,omitempty"`
	At       time.Time       `json:"at"`
}

// maxBlame bounds how many regenerations Blame goes back.
const maxBlame = 500

// Blame tells for every line of a file, as it stood at a position, since when it stood there and what brought
// it: who changed what. It goes back 500 regenerations at most; a line older than that is dated to the oldest
// looked at. Errors: as ConfigAt; ErrNoBlob when there was no such file.
func (s *Service) Blame(ctx context.Context, id domain.DeviceID, path string, at domain.Position) ([]BlamedLine, error) {
	newer, err := s.ConfigAt(ctx, id, at)
	if err != nil {
		return nil, err
	}
	text, ok := newer.lines(path)
	if !ok {
		return nil, fmt.Errorf("%s of %s: %w", path, id, ErrNoBlob)
	}
	out := make([]BlamedLine, len(text))
	open := make(map[int]bool, len(text))
	for i, t := range text {
		out[i] = BlamedLine{Text: t, Since: newer.Position, At: newer.At}
		open[i] = true
	}
	for n := 0; n < maxBlame && len(open) > 0; n++ {
		older, err := s.ConfigAt(ctx, id, newer.before())
		if errors.Is(err, ErrNoConfig) {
			break
		}
		if err != nil {
			return nil, err
		}
		was, _ := older.lines(path)
		stood := make(map[string]bool, len(was))
		for _, t := range was {
			stood[t] = true
		}
		var causes []LineCause
		for i := range open {
			if stood[out[i].Text] {
				out[i].Since, out[i].At = older.Position, older.At
				continue
			}
			if causes == nil {
				if causes, err = s.causes(ctx, older, newer); err != nil {
					return nil, err
				}
			}
			out[i].Causes = causes
			delete(open, i)
		}
		newer = older
	}
	return out, nil
}

// before is a position ahead of this regeneration and behind the event before it.
func (past PastConfig) before() domain.Position {
	p := past.Position
	if p.Prepare > 0 {
		return domain.Position{Commit: p.Commit, Prepare: p.Prepare - 1}
	}
	return domain.Position{Commit: p.Commit - 1, Prepare: p.Commit - 1}
}

func (past PastConfig) lines(path string) ([]string, bool) {
	i := slices.IndexFunc(past.Files, func(f PastFile) bool { return f.Path == path || slices.Contains(f.Aliases, path) })
	if i < 0 {
		return nil, false
	}
	return strings.Split(strings.TrimSuffix(string(past.Files[i].Text), "\n"), "\n"), true
}

// causes are the facts that a regeneration followed from and the one before it did not.
func (s *Service) causes(ctx context.Context, older, newer PastConfig) ([]LineCause, error) {
	from := map[domain.StreamID]domain.Revision{newer.Device.Stream(): older.Revision}
	until := map[domain.StreamID]domain.Revision{newer.Device.Stream(): newer.Revision - 1}
	for _, in := range newer.Config.Inputs {
		from[in.Stream], until[in.Stream] = domain.NoStream, in.Revision
	}
	for _, in := range older.Config.Inputs {
		if _, still := until[in.Stream]; still {
			from[in.Stream] = in.Revision
		}
	}
	out := []LineCause{}
	for stream, last := range until {
		if last <= from[stream] {
			continue
		}
		for r, err := range s.Log.Read(ctx, stream, from[stream]+1) {
			if err != nil {
				return nil, fmt.Errorf("load %s: %w", stream, err)
			}
			if r.Revision > last {
				break
			}
			if strings.HasPrefix(r.Type, "device.config_") || strings.HasPrefix(r.Type, "key.") {
				continue
			}
			m, err := r.Meta()
			if err != nil {
				return nil, err
			}
			out = append(out, LineCause{r.Position, stream, r.Revision, r.Type, m.Actor, m.Reason, m.RecordedAt})
		}
	}
	slices.SortFunc(out, func(a, b LineCause) int { return a.Position.Compare(b.Position) })
	return out, nil
}
