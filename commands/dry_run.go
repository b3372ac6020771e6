package commands

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"slices"
	"sync"

	"github.com/google/uuid"

	"ledgerline/domain"
)

// Plan is what a command would do: the events of it and of every reaction that follows, and the files
// that would change.
type Plan struct {
	Events []domain.Recorded
	Files  []FileChange
	// MoreFiles counts the changed files beyond those shown.
	MoreFiles int
}

// FileChange is one file of one device before and after, with every secret replaced by a placeholder.
// Before is empty for a new file, After for one that goes.
type FileChange struct {
	Device domain.DeviceID
	Path   string
	Before string
	After  string
}

// shownFiles bounds the files a plan shows whole.
const shownFiles = 100

// DryRun runs do against an overlay of the log, follows the reactions to the end, and answers what would
// be recorded; nothing is. It is the same code with the same rules, so it fails on everything the real run
// would fail on. Equal to the real run in streams, types and payloads, but for ids, times, ciphertext and
// random values (D22).
func (s *Service) DryRun(ctx context.Context, do func(context.Context, *Service) error) (Plan, error) {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return Plan{}, err
	}
	log := &overlayLog{base: s.Log, head: head, added: make(map[domain.StreamID][]domain.Recorded)}
	over := &Service{Log: log, Blobs: noBlobs{}, Renderer: s.Renderer, Recognizer: s.Recognizer, Candidates: s.Candidates, Shelf: s.Shelf, Notifier: noNotifier{},
		Now: s.Now, Rand: s.Rand, PublicURL: s.PublicURL, Base: s.Base, CodeTTL: s.CodeTTL, CodeLength: s.CodeLength, CodesPerTenant: s.CodesPerTenant, CodesPerUser: s.CodesPerUser, CodesPerServer: s.CodesPerServer, DiscoveryCap: s.DiscoveryCap,
		SysclientCipher: s.SysclientCipher, ZoneOf: s.ZoneOf, JobCommands: s.JobCommands, planning: true}
	over.DevicesURL = s.DevicesURL
	if s.Registry != nil {
		over.Registry = plannedRegistry{s.Registry, over}
	}
	if s.Sysclients != nil {
		over.Sysclients = patientSysclients{s.Sysclients}
	}
	over.planned = s
	if s.Borders != nil {
		over.Borders = plannedBorders{s.Borders}
	}
	over.Vault = &overlayVault{Vault: s.Vault, log: log, own: make(map[domain.Subject]*passingKey)}
	var events []domain.Recorded
	err = do(noting(ctx, func(r []domain.Recorded) { events = append(events, r...) }), over)
	if err != nil {
		return Plan{}, err
	}
	if err := over.Settle(ctx, events); err != nil {
		return Plan{}, err
	}
	plan := Plan{Events: log.order}
	return plan, s.diffFiles(ctx, over, &plan)
}

// diffFiles renders every device the plan regenerates, before and after.
func (s *Service) diffFiles(ctx context.Context, over *Service, plan *Plan) error {
	seen := map[domain.StreamID]bool{}
	for _, r := range plan.Events {
		if r.Type != "device.config_regenerated" || seen[r.Stream] {
			continue
		}
		seen[r.Stream] = true
		if len(plan.Files) >= shownFiles {
			plan.MoreFiles++
			continue
		}
		before, err := s.skeletons(ctx, r.Stream)
		if err != nil {
			return err
		}
		after, err := over.skeletons(ctx, r.Stream)
		if err != nil {
			return err
		}
		id := domain.DeviceID(r.Stream.ID())
		for path, text := range before {
			if after[path] != text {
				plan.Files = append(plan.Files, FileChange{id, path, text, after[path]})
			}
		}
		for path, text := range after {
			if _, old := before[path]; !old {
				plan.Files = append(plan.Files, FileChange{id, path, "", text})
			}
		}
	}
	slices.SortFunc(plan.Files, func(a, b FileChange) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Path, b.Path))
	})
	return nil
}

// skeletons are the device's files by path as they would be rendered now, secrets replaced.
func (s *Service) skeletons(ctx context.Context, stream domain.StreamID) (map[string]string, error) {
	d, _, err := load[domain.Device](ctx, s.Log, stream)
	if err != nil || d.Live() != nil || d.Plugin == "" || len(d.Config.Files) == 0 {
		return nil, err
	}
	r, err := s.RenderDevice(ctx, d)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(r.Rendered.Files))
	for _, f := range r.Rendered.Files {
		out[f.Path] = string(f.Skeleton)
	}
	return out, nil
}

// overlayLog is a log whose appends stay in memory, on top of one that is only read.
type overlayLog struct {
	base Log
	head domain.Position

	mu    sync.Mutex
	added map[domain.StreamID][]domain.Recorded
	order []domain.Recorded
}

func (o *overlayLog) Append(ctx context.Context, stream domain.StreamID, expected domain.Revision, events []domain.NewEvent) (domain.Position, error) {
	at := domain.NoStream
	for r, err := range o.Read(ctx, stream, 0) {
		if errors.Is(err, domain.ErrNoStream) {
			break
		}
		if err != nil {
			return domain.Position{}, err
		}
		at = r.Revision
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if expected != domain.Any && expected != at && !(expected == domain.StreamExists && at >= 0) {
		return domain.Position{}, domain.ErrConflict
	}
	for i, e := range events {
		r := domain.Recorded{Stream: stream, Revision: at + domain.Revision(i) + 1, Position: o.head, ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata}
		o.added[stream] = append(o.added[stream], r)
		o.order = append(o.order, r)
	}
	return o.head, nil
}

func (o *overlayLog) Read(ctx context.Context, stream domain.StreamID, from domain.Revision) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		o.mu.Lock()
		added := slices.Clone(o.added[stream])
		o.mu.Unlock()
		for r, err := range o.base.Read(ctx, stream, from) {
			if errors.Is(err, domain.ErrNoStream) && len(added) > 0 {
				break
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
		for _, r := range added {
			if r.Revision >= from && !yield(r, nil) {
				return
			}
		}
	}
}

func (o *overlayLog) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return o.base.ReadAll(ctx, after)
}

func (o *overlayLog) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return o.base.Subscribe(ctx, after)
}

func (o *overlayLog) Head(context.Context) (domain.Position, error) { return o.head, nil }

// noBlobs keeps nothing.
type noBlobs struct{}

func (noBlobs) Put(context.Context, domain.Subject, string, []byte) error       { return nil }
func (noBlobs) PutAll(context.Context, domain.Subject, map[string][]byte) error { return nil }
func (noBlobs) Erase(context.Context, domain.Subject, ...string) error          { return nil }
func (noBlobs) Get(context.Context, domain.Subject, string) ([]byte, error) {
	return nil, ErrNoBlob
}

// noNotifier tells nobody anything: what would come of it, only the phone knows.
type noNotifier struct{}

func (noNotifier) Notify(context.Context, Notification) ([]domain.DeviceSyncOutcome, error) {
	return nil, nil
}

// patientSysclients reach nobody, and take everything.
type patientSysclients struct{ Sysclients }

func (patientSysclients) Fetch(context.Context, domain.DeviceID, string, string, []byte) (int, []byte, error) {
	return http.StatusOK, nil, nil
}

func (patientSysclients) Configure(context.Context, domain.DeviceID, []json.RawMessage) error {
	return nil
}

// plannedBorders reads mappings and asks no gateway.
type plannedBorders struct{ Borders }

func (plannedBorders) Dial(BorderAccess) (Border, error) { return nil, ErrNoBorders }

// overlayVault uses the real keys of subjects that have one, and passing keys for those that only the
// plan knows; it makes and destroys nothing.
type overlayVault struct {
	Vault
	log *overlayLog

	mu  sync.Mutex
	own map[domain.Subject]*passingKey
}

// passingKey is the key of a subject that may never come to be.
type passingKey struct {
	id     string
	key    []byte
	values map[string]string // nonce -> clear text
	erased bool
}

// passing is the subject's passing key; nil when the real vault has one.
func (v *overlayVault) passing(ctx context.Context, subject domain.Subject) (*passingKey, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p, ok := v.own[subject]; ok {
		if p != nil && p.erased {
			return nil, domain.ErrErased
		}
		return p, nil
	}
	keyed, _, err := load[domain.Keyed](ctx, v.log.base, subject.Stream())
	if errors.Is(err, ErrUnknownHistory) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if keyed.Created[subject] {
		v.own[subject] = nil
		return nil, nil
	}
	p := &passingKey{id: "dry-run-" + newID(), key: make([]byte, 32), values: make(map[string]string)}
	_, _ = rand.Read(p.key) // never fails
	v.own[subject] = p
	return p, nil
}

func (v *overlayVault) Ensure(ctx context.Context, subject domain.Subject) (string, bool, error) {
	p, err := v.passing(ctx, subject)
	if err != nil {
		return "", false, err
	}
	if p == nil {
		return v.Vault.Ensure(ctx, subject)
	}
	return p.id, false, nil
}

func (v *overlayVault) Seal(ctx context.Context, subject domain.Subject, clear, aad string) (domain.Sealed, error) {
	p, err := v.passing(ctx, subject)
	if err != nil || p == nil {
		if err != nil {
			return domain.Sealed{}, err
		}
		return v.Vault.Seal(ctx, subject, clear, aad)
	}
	nonce := uuid.New()
	v.mu.Lock()
	defer v.mu.Unlock()
	p.values[string(nonce[:])] = clear
	return domain.Sealed{KeyID: p.id, Nonce: nonce[:], AAD: aad}, nil
}

func (v *overlayVault) Open(ctx context.Context, s domain.Sealed) (string, error) {
	v.mu.Lock()
	for _, p := range v.own {
		if p != nil && p.id == s.KeyID {
			defer v.mu.Unlock()
			if p.erased {
				return "", domain.ErrErased
			}
			return p.values[string(s.Nonce)], nil
		}
	}
	v.mu.Unlock()
	return v.Vault.Open(ctx, s)
}

func (v *overlayVault) Hash(ctx context.Context, subject domain.Subject, purpose string, value []byte) ([]byte, error) {
	p, err := v.passing(ctx, subject)
	if err != nil || p == nil {
		if err != nil {
			return nil, err
		}
		return v.Vault.Hash(ctx, subject, purpose, value)
	}
	h := hmac.New(sha256.New, p.key)
	h.Write([]byte(purpose + "\x00"))
	h.Write(value)
	return h.Sum(nil), nil
}

// Erase makes what the subject sealed unreadable within the plan, also under its real key, which stays.
func (v *overlayVault) Erase(ctx context.Context, subject domain.Subject) error {
	p, err := v.passing(ctx, subject)
	if err != nil {
		if errors.Is(err, domain.ErrErased) {
			return nil
		}
		return err
	}
	gone := &passingKey{erased: true}
	if p != nil {
		gone.id = p.id
	} else if gone.id, _, err = v.Vault.Ensure(ctx, subject); err != nil && !errors.Is(err, domain.ErrErased) {
		return err // it has a key: Ensure makes none
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.own[subject] = gone
	return nil
}
