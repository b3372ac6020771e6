package commands

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"ledgerline/domain"
)

// ServeFile is one phone asking for one file. It is the one way to a file, for HTTP and TFTP alike.
type ServeFile struct {
	Asked
	// Via is how the phone proves itself and Credential what with: "mac" (nothing but its address, from a
	// trusted network), "secret", "tenant_key", "code".
	Via        string
	Credential string
	Transport  string // http, https, tftp
	IP         string
	// Trusted: the peer is in a trusted network (D24). A proxy itself never is.
	Trusted bool

	request string // id of the request
}

// Served is a file on its way to a phone.
type Served struct {
	Device  domain.DeviceID // empty for a common guest file
	File    domain.GeneratedFile
	Data    []byte // for whoever makes one; Content is for whoever gets one
	ModTime time.Time
	// Body, when not nil, is the file in place of Data, File.Size bytes of it. Whoever gets it closes it.
	Body io.ReadSeekCloser
	// Guest: the file holds nothing of anybody's.
	Guest bool

	kept   pieces // in place of Data, File.Size bytes
	in     ServeFile
	under  string // hash of the path secret of the device
	closes bool   // the first use of a secret path, as far as the view knows
	synced bool   // the phone was asked to fetch, and does
	vendor *domain.DeviceFileDelivered
}

// Content is the file and its size in bytes, to be read once.
func (v Served) Content() (io.ReadSeeker, int) {
	switch {
	case v.Body != nil:
		return v.Body, v.File.Size
	case v.kept != nil:
		return v.kept.reader(v.File.Size), v.File.Size
	}
	return bytes.NewReader(v.Data), len(v.Data)
}

var (
	// ErrNoFile is the one answer to everything that is not this phone's to have.
	ErrNoFile = errors.New("no such file")
	// ErrNotYet: the file is being made; ask again in a moment (503 with Retry-After).
	ErrNotYet = errors.New("file is not ready yet")
)

// redemptionWait is how long a phone that redeemed a code waits for its file (D17).
const redemptionWait = 3 * time.Second

// ServeFile finds who asks and answers with that phone's file, made anew first if something it follows
// from has changed. Errors: ErrNoFile for anything not to be had, ErrNotYet, ErrGuesses; others are our trouble.
func (s *Service) ServeFile(ctx context.Context, in ServeFile) (Served, error) {
	in.request = CallerFrom(ctx).RequestID
	ctx = WithCaller(ctx, Caller{Actor: "phone:unknown", IP: in.IP, Listener: in.listener()})
	who, known := s.Recognizer.Recognize(in.Asked)
	if in.ClientMAC != "" {
		who.MAC = in.ClientMAC
	}
	if who.MAC != "" {
		c := CallerFrom(ctx)
		c.Actor = "phone:" + string(who.MAC)
		ctx = WithCaller(ctx, c)
	}
	row, found, err := s.identify(ctx, in, who, known)
	if err != nil {
		if known {
			s.sighted(in, who, Shelved{}) // of whom it is refused nothing is known but what it shows
		}
		return Served{}, err
	}
	byOther := false
	if !found && known && who.MAC == "" && in.Via == "mac" {
		if row, byOther, err = s.byOtherSigns(ctx, in, who); err != nil {
			return Served{}, err
		}
	}
	s.sighted(in, who, row)
	if byOther {
		if v, err := s.serveOwn(ctx, in, who, row); !errors.Is(err, ErrNoFile) {
			return v, err
		}
	}
	if !found {
		return s.serveCommon(ctx, in, who, known)
	}
	return s.serveOwn(ctx, in, who, row)
}

func (in ServeFile) listener() string {
	switch in.Transport {
	case "https":
		return "phones-tls"
	case "tftp":
		return "tftp"
	}
	return "phones"
}

// private tells whether the answer may hold secrets: over TLS, or within a trusted network (D24).
func (in ServeFile) private() bool { return in.Transport == "https" || in.Trusted }

// identify finds the device of the phone that asks; a phone not known yet is made known where that is
// allowed. found is false when there is none, and the phone may at best have a common guest file.
func (s *Service) identify(ctx context.Context, in ServeFile, who Recognition, known bool) (row Shelved, found bool, err error) {
	switch in.Via {
	case "secret":
		if !in.private() {
			return row, false, ErrNoFile
		}
		hash, err := s.lookup(ctx, "device-secret", in.Credential)
		if err != nil {
			return row, false, err
		}
		row, found, err = s.Shelf.BySecret(ctx, hash)
		if err == nil && (!found || who.MAC != "" && row.MAC != "" && who.MAC != row.MAC) {
			err = ErrNoFile
		}
		return row, found, err
	case "code":
		return s.redeemOnPhone(ctx, in, who, known)
	case "tenant_key":
		hash, err := s.lookup(ctx, claimKey, in.Credential)
		if err != nil {
			return row, false, err
		}
		tenant, ok, err := s.Shelf.TenantByKey(ctx, hash)
		if err != nil || !ok {
			return row, false, orNoFile(err)
		}
		row, found, err = s.byMAC(ctx, in, who, known)
		if err == nil && found && row.TenantID != tenant && (row.Assigned || row.TenantID != domain.Master) {
			err = ErrNoFile
		}
		return row, found, err
	}
	if !in.Trusted {
		return row, false, ErrNoFile
	}
	return s.byMAC(ctx, in, who, known)
}

// unlessNoFile drops ErrNoFile.
func unlessNoFile(err error) error {
	if errors.Is(err, ErrNoFile) {
		return nil
	}
	return err
}

func orNoFile(err error) error {
	if err != nil {
		return err
	}
	return ErrNoFile
}

func (s *Service) byMAC(ctx context.Context, in ServeFile, who Recognition, known bool) (Shelved, bool, error) {
	if who.MAC == "" {
		if known {
			return Shelved{}, false, nil
		}
		return Shelved{}, false, ErrNoFile
	}
	row, found, err := s.Shelf.ByMAC(ctx, who.MAC)
	switch {
	case err != nil:
		return row, false, err
	case found && (row.MACPathClosed || row.Assigned && !in.private()):
		return row, false, ErrNoFile
	case found:
		return row, true, nil
	case !known:
		return row, false, ErrNoFile
	}
	defer s.serving.making.begin(domain.DeviceID(who.MAC))() // from before there is anything the reaction could make files of
	row, found, err = s.discover(ctx, who)
	if err == nil && found && (row.MACPathClosed || row.Assigned && !in.private()) {
		return row, false, ErrNoFile
	}
	return row, found, err
}

// byOtherSigns finds the device of a phone that shows no MAC, in a trusted network: by serial number, by UUID, and by
// address where it is the only one there and what it shows does not contradict. Behind an address translation, which the
// parameter NAT tells of, an address says nothing.
func (s *Service) byOtherSigns(ctx context.Context, in ServeFile, who Recognition) (Shelved, bool, error) {
	if !in.Trusted {
		return Shelved{}, false, nil
	}
	fits := func(row Shelved) bool { return !row.MACPathClosed && (!row.Assigned || in.private()) }
	if who.Serial != "" || who.UUID != "" {
		row, found, err := s.Shelf.BySign(ctx, who.Serial, who.UUID)
		if err != nil || found {
			return row, found && fits(row), err
		}
	}
	if s.Whereabouts == nil || in.IP == "" {
		return Shelved{}, false, nil
	}
	seen, err := s.Whereabouts.At(ctx, in.IP)
	if err != nil || len(seen) == 0 {
		return Shelved{}, false, err
	}
	if nat, err := s.Parameter(ctx, domain.ParamNAT); err != nil || nat == "1" {
		return Shelved{}, false, err
	}
	var found Shelved
	here := 0
	for _, v := range seen {
		if v.Device == "" || v.MAC == "" {
			continue
		}
		row, ok, err := s.Shelf.ByMAC(ctx, v.MAC)
		if err != nil {
			return Shelved{}, false, err
		}
		differs := func(a, b string) bool { return a != "" && b != "" && !strings.EqualFold(a, b) }
		if !ok || row.Device != v.Device || differs(who.Vendor, row.Vendor) || differs(who.Model, row.Model) {
			continue
		}
		found = row
		here++
	}
	return found, here == 1 && fits(found), nil
}

// discover makes an unknown phone known, within the cap; requests of the same phone share it, and it goes on when the
// phone hangs up.
func (s *Service) discover(ctx context.Context, who Recognition) (Shelved, bool, error) {
	v, err, _ := s.serving.flight.Do("discover "+string(who.MAC), func() (any, error) {
		row, found, err := s.meet(context.WithoutCancel(ctx), who)
		if !found {
			return (*Shelved)(nil), err
		}
		return &row, err
	})
	if row := v.(*Shelved); row != nil {
		return *row, true, err
	}
	return Shelved{}, false, err
}

// meet makes an unknown phone known, gives it its copy of the mould, and makes its files: the copy beside the claim of the
// address, everything of the device in one append, so that it waits for the disk as seldom as can be. What goes wrong
// with copy and files is answered, and the phone is known all the same.
func (s *Service) meet(ctx context.Context, who Recognition) (Shelved, bool, error) {
	// A device with an id of its own may carry the address already, and the view not know of it yet.
	d, _, err := s.DeviceOfMAC(ctx, who.MAC)
	if err != nil {
		return Shelved{}, false, err
	}
	if d.Live() == nil {
		return unshelved(d), true, nil
	}
	limit := s.DiscoveryCap
	if limit == 0 {
		limit = 2000
	}
	if !s.discovery.take(s.now(), limit) {
		return Shelved{}, false, ErrNoFile
	}
	var copied domain.LayerID
	var beside errgroup.Group
	if s.Shelf.HasMould() {
		beside.Go(func() error {
			layer, _, err := s.AutocreateLayer(ctx, AutocreateLayer{TenantID: domain.Master})
			if errors.Is(err, ErrNoMould) {
				return nil
			}
			copied = layer
			return err
		})
	}
	var made Regenerated
	var trouble error
	id, out, err := s.discoverDevice(ctx, DiscoverDevice{MAC: who.MAC, Vendor: who.Vendor, Model: who.Model, Firmware: who.Fw, Plugin: who.Plugin,
		Serial: who.Serial, UUID: who.UUID, Added: "auto"}, func(now domain.Device, begins bool) (events []domain.Event, _ error) {
		d, made = now, Regenerated{}
		if trouble = beside.Wait(); trouble != nil || !begins {
			return nil, nil
		}
		if copied != "" {
			if events, trouble = standOn(d, copied); trouble != nil {
				return nil, nil
			}
		}
		for _, e := range events {
			d = d.Apply(e)
		}
		var files []domain.Event
		if files, made, trouble = s.remake(ctx, d, true); trouble != nil {
			return events, nil
		}
		return append(events, files...), nil
	})
	_ = beside.Wait() // its error is trouble's, or of no use to a phone that err sends away
	if copied != "" && (err != nil || !recorded(out, "device.configured")) {
		err = errors.Join(err, s.dropCopy(ctx, cmp.Or(id, domain.DeviceID(who.MAC)), copied, err))
	}
	if err = errors.Join(err, trouble); err != nil {
		return Shelved{}, false, err
	}
	row := unshelved(d)
	if recorded(out, "device.discovered") {
		row.Bare, row.Revision = false, out.Revision
		row.Files, row.Guest, row.Inputs, row.GeneratedAt, row.Dirty = made.Config.Files, made.Config.Guest, made.Config.Inputs, s.now(), false
	}
	return row, true, nil
}

// unshelved is the row of a device the shelf does not know yet: at no revision it would know.
func unshelved(d domain.Device) Shelved {
	return Shelved{Device: d.ID, MAC: d.MAC, TenantID: d.TenantID, Vendor: d.Vendor, Model: d.Model, Fw: d.Firmware, Plugin: d.Plugin, Serial: d.Serial,
		UUID: d.UUID, Assigned: d.Assigned(), Bare: d.Bare(), MACPathClosed: d.MACPathClosed, SecretHash: d.SecretHash, Dirty: true, Revision: -1}
}

// discovery counts the phones made known within the running hour (D25).
type discovery struct {
	mu    sync.Mutex
	hour  time.Time
	count int
	// Refused counts those beyond the cap since the program started.
	Refused int
}

func (d *discovery) take(now time.Time, limit int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h := now.Truncate(time.Hour); !h.Equal(d.hour) {
		d.hour, d.count = h, 0
	}
	if d.count >= limit {
		d.Refused++
		return false
	}
	d.count++
	return true
}

// DiscoveryRefused is how many phones were not made known because the hourly cap was reached.
func (s *Service) DiscoveryRefused() int {
	s.discovery.mu.Lock()
	defer s.discovery.mu.Unlock()
	return s.discovery.Refused
}

// redeemOnPhone redeems the code a phone shows and follows the story to the phone's own files (D17).
func (s *Service) redeemOnPhone(ctx context.Context, in ServeFile, who Recognition, known bool) (Shelved, bool, error) {
	if who.MAC == "" || !known || !in.private() {
		return Shelved{}, false, ErrNoFile
	}
	redeemed, out, err := s.RedeemCode(ctx, RedeemCode{Code: in.Credential, MAC: who.MAC, Vendor: who.Vendor, Model: who.Model, Firmware: who.Fw, Plugin: who.Plugin})
	switch {
	case errors.Is(err, ErrGuesses), errors.Is(err, domain.ErrCodeRefused):
		return Shelved{}, false, err
	case err != nil:
		return Shelved{}, false, errors.Join(domain.ErrCodeRefused, err)
	}
	ctx, cancel := context.WithTimeout(ctx, redemptionWait)
	defer cancel()
	if err := s.settleRedemption(ctx, out); err != nil {
		if ctx.Err() != nil {
			return Shelved{}, false, ErrNotYet
		}
		return Shelved{}, false, err
	}
	if err := s.CatchUp(ctx); err != nil {
		return Shelved{}, false, errors.Join(ErrNotYet, err)
	}
	row, found, err := s.Shelf.ByMAC(ctx, who.MAC)
	if err == nil && (!found || row.Device != redeemed.DeviceID || !row.Assigned || row.TenantID != redeemed.TenantID) {
		err = ErrNotYet // the assignment failed, or is not through: never the guest file
	}
	return row, found, err
}

// CatchUp returns when the views show what is recorded now, or with ctx's error: for a caller who was just told that
// something is recorded, elsewhere, and counts on finding it.
func (s *Service) CatchUp(ctx context.Context) error {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return err
	}
	return s.Shelf.WaitFor(ctx, head)
}

// serveOwn answers with one of the device's own files.
func (s *Service) serveOwn(ctx context.Context, in ServeFile, who Recognition, row Shelved) (Served, error) {
	if moved, err := s.place(ctx, in, row); err != nil {
		return Served{}, err
	} else if moved {
		row.Dirty, row.Revision = true, -1
	}
	if who.MAC == row.MAC && s.news(who, row) {
		if _, _, err := s.DiscoverDevice(ctx, DiscoverDevice{ID: baseID(row.Device), MAC: row.MAC, Vendor: who.Vendor, Model: who.Model,
			Firmware: who.Fw, Plugin: who.Plugin, Serial: who.Serial, UUID: who.UUID, Added: "auto"}); err != nil {
			return Served{}, err
		}
		row.Dirty = true
		row.Revision = -1
	}
	if row.Bare && s.Shelf.HasMould() {
		if _, err := s.AutocreateConfig(ctx, AutocreateConfig{ID: row.Device}); err != nil {
			return Served{}, err
		}
		row.Dirty, row.Revision = true, -1
	}
	files, guest, modified := row.Files, row.Guest, row.GeneratedAt
	if row.Dirty || len(files) == 0 || s.Shelf.Stale(row.Inputs) {
		if c, ok := s.serving.fresh(row, s.Shelf.Stale); ok {
			files, guest = c.Files, c.Guest
		} else {
			c, err := s.regenerateNow(ctx, row.Device)
			if err != nil {
				return Served{}, err
			}
			files, guest = c.Config.Files, c.Config.Guest
			if c.Changed {
				modified = s.now()
			}
		}
	}
	file, ok := pick(files, in.Path, who.File)
	if !ok {
		return s.serveVendor(in, row.Device, row.Plugin, in.Path, who.File)
	}
	kept, err := s.bytes(ctx, row.Device, file)
	if err != nil {
		return Served{}, err
	}
	return Served{Device: row.Device, File: file, kept: kept, ModTime: modified, Guest: guest, in: in,
		under: row.SecretHash, closes: in.Via == "secret" && !row.MACPathClosed, synced: row.Syncing}, nil
}

func baseID(id domain.DeviceID) domain.DeviceID {
	base, _ := id.Life()
	return base
}

// news tells whether the phone shows a fact of itself that we do not have.
func (s *Service) news(who Recognition, row Shelved) bool {
	return who.Model != "" && who.Model != row.Model || who.Fw != "" && who.Fw != row.Fw || who.Vendor != "" && who.Vendor != row.Vendor ||
		row.Plugin == "" && who.Plugin != "" || who.Serial != "" && who.Serial != row.Serial || who.UUID != "" && who.UUID != row.UUID
}

// pick finds a file by the path asked for, or by its name in the plugin's file table.
func pick(files []domain.GeneratedFile, paths ...string) (domain.GeneratedFile, bool) {
	for _, p := range paths {
		for _, f := range files {
			if p != "" && (f.Path == p || slices.Contains(f.Aliases, p)) {
				return f, true
			}
		}
	}
	return domain.GeneratedFile{}, false
}

// regenerateNow makes a device's files while a phone waits; phones that ask for the same device share it.
// It goes on when the phone hangs up, for the next one wants it too.
func (s *Service) regenerateNow(ctx context.Context, id domain.DeviceID) (Regenerated, error) {
	defer s.serving.making.begin(id)()
	v, err, _ := s.serving.flight.Do(string(id), func() (any, error) {
		made, _, err := s.RegenerateConfig(context.WithoutCancel(ctx), RegenerateConfig{ID: id, Fetching: true})
		return made, err
	})
	made, _ := v.(Regenerated)
	return made, err
}

// making are the devices whose files are being made while their phones wait. The reaction that would make them too waits
// for that, for a while, and then mostly finds that they are made; it does not rely on it.
type making struct {
	mu      sync.Mutex
	devices map[domain.DeviceID]*underWay
	none    chan struct{} // closed when no phone waits any more; nil while nobody wants to know
}

type underWay struct {
	phones int
	over   chan struct{}
}

// begin tells that a phone of the device waits, until end is called.
func (m *making) begin(id domain.DeviceID) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.devices == nil {
		m.devices = map[domain.DeviceID]*underWay{}
	}
	u := m.devices[id]
	if u == nil {
		u = &underWay{over: make(chan struct{})}
		m.devices[id] = u
	}
	u.phones++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if u.phones--; u.phones == 0 {
			delete(m.devices, id)
			close(u.over)
		}
		if len(m.devices) == 0 && m.none != nil {
			close(m.none)
			m.none = nil
		}
	}
}

// giveWay returns when no phone waits at all, or after most, or with ctx: for work that can wait a little (D16).
func (m *making) giveWay(ctx context.Context, most time.Duration) {
	m.mu.Lock()
	if len(m.devices) == 0 {
		m.mu.Unlock()
		return
	}
	if m.none == nil {
		m.none = make(chan struct{})
	}
	none := m.none
	m.mu.Unlock()
	patience := time.NewTimer(most)
	defer patience.Stop()
	select {
	case <-none:
	case <-patience.C:
	case <-ctx.Done():
	}
}

// wait returns when no phone of the device waits, or after redemptionWait, or with ctx.
func (m *making) wait(ctx context.Context, id domain.DeviceID) {
	m.mu.Lock()
	u := m.devices[id]
	m.mu.Unlock()
	if u == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, redemptionWait)
	defer cancel()
	select {
	case <-u.over:
	case <-ctx.Done():
	}
}

func (s *Service) bytes(ctx context.Context, id domain.DeviceID, f domain.GeneratedFile) (pieces, error) {
	if kept, ok := s.serving.atHand.get(f.MAC); ok {
		return kept, nil
	}
	data, err := s.Blobs.Get(ctx, id.Subject(), f.MAC)
	if err != nil {
		return nil, err
	}
	return s.serving.atHand.put(f.MAC, data), nil
}

// serveCommon answers a phone that shows no address (a TFTP client asking for its model's common file)
// with the guest form of that file, which is the same for everybody.
func (s *Service) serveCommon(ctx context.Context, in ServeFile, who Recognition, known bool) (Served, error) {
	if !known || who.MAC != "" || in.Via == "secret" || in.Via == "code" {
		return Served{}, ErrNoFile
	}
	if v, err := s.serveVendor(in, "", who.Plugin, in.Path, who.File); !errors.Is(err, ErrNoFile) {
		return v, err
	}
	stack, err := s.Settings(ctx, domain.Device{TenantID: domain.Master})
	if err != nil {
		return Served{}, err
	}
	settings := stack.Merged()
	r, err := s.Renderer.Render(ctx, Render{Plugin: PluginRef{Name: who.Plugin}, Model: who.Model, Fw: who.Fw, Settings: settings,
		BaseURL: s.baseURL(settings), Guest: true})
	if err != nil {
		return Served{}, err
	}
	for _, f := range r.Files {
		for _, p := range []string{in.Path, who.File} {
			if p != "" && (f.Path == p || slices.Contains(f.Aliases, p)) {
				mac, err := s.lookup(ctx, "guest-file", string(f.Data))
				return Served{File: domain.GeneratedFile{Path: f.Path, ContentType: f.ContentType, Size: len(f.Data), MAC: mac},
					Data: f.Data, Guest: true, in: in}, err
			}
		}
	}
	return Served{}, ErrNoFile
}

// serveVendor answers with a file of the plugin's vendor: firmware, a language. They are nobody's secret, and for every
// phone of that vendor.
func (s *Service) serveVendor(in ServeFile, id domain.DeviceID, plugin string, paths ...string) (Served, error) {
	if s.Packages == nil || plugin == "" {
		return Served{}, ErrNoFile
	}
	for _, p := range paths {
		bundle, f, ok := s.Packages.File(plugin, p)
		if p == "" || !ok {
			continue
		}
		body, err := s.Packages.Open(f.SHA256)
		if errors.Is(err, ErrNoPackage) {
			return Served{}, ErrNotYet // another replica was given it; it is on its way
		}
		if err != nil {
			return Served{}, fmt.Errorf("open %s of %s: %w", f.Path, plugin, err)
		}
		return Served{Device: id, Body: body, in: in, File: domain.GeneratedFile{Path: f.Path, ContentType: "application/octet-stream", Size: int(f.Size), MAC: f.SHA256},
			vendor: &domain.DeviceFileDelivered{Path: f.Path, SHA256: f.SHA256, Size: f.Size, Plugin: plugin, Bundle: bundle.Bundle, Kind: bundle.Kind,
				Release: bundle.Release, Via: in.Via, Transport: in.Transport}}, nil
	}
	return Served{}, ErrNoFile
}

func (s *Service) sighted(in ServeFile, who Recognition, row Shelved) {
	if s.Sightings == nil {
		return
	}
	s.Sightings.Seen(Sighting{Device: row.Device, MAC: who.MAC, IP: in.IP, UserAgent: in.UserAgent, Transport: in.Transport, Path: in.Via, At: s.now()})
}

// Delivered is to be called when the phone has the file for sure (D26). What it notes is recorded off the
// path, by RunDeliveries; when that is far behind, a delivery is dropped, and the next poll restores it.
func (s *Service) Delivered(v Served) {
	if v.Device == "" || v.Guest && !v.synced {
		return
	}
	if v.vendor != nil {
		v.vendor.DeliveredAt = s.now()
	}
	d := delivery{v.Device, domain.DeviceConfigDelivered{Path: v.File.Path, MAC: v.File.MAC, Via: v.in.Via,
		Transport: v.in.Transport, DeliveredAt: s.now()}, v.vendor, Caller{Actor: "phone:" + string(baseID(v.Device)), IP: v.in.IP, Listener: v.in.listener(), RequestID: v.in.request}, v.under}
	if v.closes || v.synced {
		s.serving.forget(d) // since it was noted an operator may have reopened the MAC path, or asked the phone to fetch again
	}
	s.serving.deliver(d)
}

// deliveryTime bounds the recording of one delivery, and of all those left when the program ends.
const deliveryTime = 5 * time.Second

// RunDeliveries records deliveries until ctx ends, then those already noted.
func (s *Service) RunDeliveries(ctx context.Context) error {
	queue := s.serving.deliveries()
	for {
		select {
		case d := <-queue:
			s.recordDelivery(ctx, *d)
		case <-ctx.Done():
			rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliveryTime)
			defer cancel()
			for rest.Err() == nil {
				select {
				case d := <-queue:
					s.recordDelivery(rest, *d)
				default:
					return ctx.Err()
				}
			}
			return ctx.Err()
		}
	}
}

// recordDelivery also records what was noted before ctx ended. What cannot be recorded is forgotten: the
// next poll notes it again.
func (s *Service) recordDelivery(ctx context.Context, d delivery) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliveryTime)
	defer cancel()
	_, err := decide(WithCaller(ctx, d.by), s, d.id.Stream(), func(state domain.Device) ([]domain.Event, error) {
		if d.vendor != nil {
			return state.DeliverFile(*d.vendor), nil
		}
		return state.Deliver(d.event, d.under), nil
	})
	if err != nil {
		s.serving.forget(d)
	}
}

type delivery struct {
	id    domain.DeviceID
	event domain.DeviceConfigDelivered
	// vendor is what to record of a vendor's file, in place of event.
	vendor *domain.DeviceFileDelivered
	by     Caller
	under  string // hash of the path secret it was asked with
}

// serving is the volatile part of the phone plane: bytes at hand, deliveries noted, files found unchanged.
type serving struct {
	flight singleflight.Group
	making making
	atHand atHand

	mu        sync.Mutex
	noted     map[deliveryKey]bool
	queue     chan *delivery
	unchanged map[domain.DeviceID]checked
}

type deliveryKey struct {
	id        domain.DeviceID
	path, mac string
	secret    bool
}

// checked: at this device revision and these inputs, rendering gave the files the device already had.
type checked struct {
	revision domain.Revision
	config   domain.DeviceConfigRegenerated
}

const (
	notedAtMost   = 200_000
	deliveryQueue = 4096
	checkedAtMost = 50_000
)

func (v *serving) deliveries() chan *delivery {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.queue == nil {
		v.queue = make(chan *delivery, deliveryQueue)
	}
	return v.queue
}

func (d delivery) key() deliveryKey {
	return deliveryKey{d.id, d.event.Path, d.event.MAC, d.event.Via == "secret"}
}

// deliver notes a delivery unless it was noted before.
func (v *serving) deliver(d delivery) {
	queue := v.deliveries()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.noted[d.key()] {
		return
	}
	queued := d
	select {
	case queue <- &queued:
		if v.noted == nil || len(v.noted) >= notedAtMost {
			v.noted = make(map[deliveryKey]bool)
		}
		v.noted[d.key()] = true
	default:
	}
}

func (v *serving) forget(d delivery) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.noted, d.key())
}

func (v *serving) same(id domain.DeviceID, at domain.Revision, c domain.DeviceConfigRegenerated) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.unchanged == nil || len(v.unchanged) >= checkedAtMost {
		v.unchanged = make(map[domain.DeviceID]checked)
	}
	v.unchanged[id] = checked{at, c}
}

// fresh tells whether rendering was tried at the row's very state and changed nothing.
func (v *serving) fresh(row Shelved, stale func([]domain.Input) bool) (domain.DeviceConfigRegenerated, bool) {
	v.mu.Lock()
	c, ok := v.unchanged[row.Device]
	v.mu.Unlock()
	return c.config, ok && c.revision == row.Revision && !stale(c.config.Inputs)
}

// CodeOfUser reads a provisioning code from the user name of HTTP Basic credentials: only something that
// can be a code counts, so that a phone's other passwords are no guesses.
func (s *Service) CodeOfUser(user string) (string, bool) {
	digits, err := domain.NormalizeCode(strings.TrimSpace(user), s.codeLength())
	return digits, err == nil
}
