package projectiontest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"ledgerline/domain"
)

// World grows a history: each Step asks one rule of domain for one change and appends what it answers.
// Steps that a rule refuses append nothing.
type World struct {
	Log *Log
	Now time.Time
	// Choose returns a number from 0 to n-1; from math/rand or from a property test's generator.
	Choose func(n int) int

	Tenants    []*Tenant
	Devices    []*domain.Device
	deviceRevs map[domain.DeviceID]domain.Revision
	leaves     int64
	plugin     domain.Plugin
	n          int
}

// Tenant is one tenant with what belongs to it.
type Tenant struct {
	domain.Tenant
	Categories []*domain.Category
	Users      []*domain.User
	Lines      []*domain.Line
	Layers     []*domain.Layer
	Softphones []*domain.Softphone
	Clouds     []*domain.Cloud
	Codes      []*domain.Code
	Gateways   []*domain.Gateway
	SIPUsers   []*domain.SIPUser
	Jobs       domain.Jobs
	JobIDs     []*domain.JobID
	Rows       []*domain.RolloutRow
	digests    []string
}

// NewWorld begins a history with the master tenant and one more.
func NewWorld(log *Log, choose func(n int) int) *World {
	w := &World{Log: log, Now: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC), Choose: choose, deviceRevs: make(map[domain.DeviceID]domain.Revision)}
	w.newTenant(domain.Master)
	w.newTenant("t1")
	return w
}

// Sealed looks like clear text sealed under subject's key.
func Sealed(subject domain.Subject, clear string) domain.Sealed {
	sum := sha256.Sum256([]byte(string(subject) + "\x00" + clear))
	return domain.Sealed{KeyID: string(subject) + ".1", Nonce: sum[:12], Ciphertext: append(sum[:], sum[:len(clear)%16]...), Fingerprint: hex.EncodeToString(sum[:16])}
}

func secret(s domain.Subject, clear string) domain.Secret {
	return domain.Secret{Sealed: Sealed(s, clear)}
}
func personal(s domain.Subject, clear string) domain.Personal {
	return domain.Personal{Sealed: Sealed(s, clear)}
}

// Grow takes steps until the log has at least n events.
func (w *World) Grow(n int) {
	for w.Log.Len() < n {
		w.Step()
	}
}

func (w *World) next(prefix string) string {
	w.n++
	return fmt.Sprintf("%s%06x", prefix, w.n)
}

// pick returns one of several, nil if there is none; mostly one of the latest, as in life.
func pick[T any](w *World, of []*T) *T {
	if len(of) == 0 {
		return nil
	}
	if older := len(of) - 200; older > 0 && w.Choose(8) > 0 {
		of = of[older:]
	}
	return of[w.Choose(len(of))]
}

// record appends events and folds them into state.
func record[S domain.State[S]](w *World, state *S, stream domain.StreamID, tenant domain.TenantID, events []domain.Event) {
	if len(events) == 0 {
		return
	}
	w.Now = w.Now.Add(time.Duration(w.Choose(2000)-100) * time.Millisecond) // clocks step back at times
	w.Log.Append(stream, tenant, w.Now, events...)
	for _, e := range events {
		*state = (*state).Apply(e)
	}
}

func (w *World) newTenant(id domain.TenantID) {
	t := &Tenant{}
	events, _ := t.Create(id, "Tenant "+string(id), string(id)+".example")
	record(w, &t.Tenant, id.Stream(), id, events)
	w.Tenants = append(w.Tenants, t)
}

// Step makes one random change. Devices change most, as in life.
func (w *World) Step() {
	t := w.Tenants[w.Choose(len(w.Tenants))]
	switch w.Choose(22) {
	case 21:
		w.stepJob(t)
	case 20:
		if w.Choose(2) == 0 {
			w.stepSoftphone(t)
		} else {
			w.stepRollout(t)
		}
	case 0:
		w.stepTenant(t)
	case 1:
		w.stepCategory(t)
	case 2, 3:
		w.stepUser(t)
	case 4, 5, 6:
		w.stepLine(t)
	case 7:
		w.stepLayer(t)
	case 8, 9, 10:
		w.stepCode(t)
	case 11:
		if w.Choose(2) == 0 {
			w.stepGateway(t)
		} else {
			w.stepOdd(t)
		}
	default:
		w.stepDevice(t)
	}
}

// stepRollout starts a rollout with a row or two, or moves a row of one.
func (w *World) stepRollout(t *Tenant) {
	row := pick(w, t.Rows)
	if row == nil || w.Choose(4) == 0 {
		id := domain.RolloutID(w.next("r"))
		r, plan := domain.Rollout{}, []domain.RolloutPlan{{UserID: "u1"}, {UserID: "u2", MAC: "0015650000aa"}}
		record(w, &r, id.Stream(), t.ID, []domain.Event{domain.RolloutRowsPlanned{RolloutID: id, TenantID: t.ID, From: 1, Rows: plan},
			domain.RolloutStarted{RolloutID: id, TenantID: t.ID, CategoryID: "c1", ValidForS: 60, Rows: len(plan)}})
		events, _ := r.Cancel()
		record(w, &r, id.Stream(), t.ID, append(events, domain.RolloutExported{Format: "csv"}))
		for i, p := range plan {
			row := &domain.RolloutRow{RolloutRowIssued: domain.RolloutRowIssued{RolloutID: id, Row: i + 1, TenantID: t.ID, UserID: p.UserID, MAC: p.MAC}}
			t.Rows = append(t.Rows, row)
		}
		return
	}
	stream := row.RolloutID.Row(row.Row)
	if row.State == "" || w.Choose(4) == 0 && row.Issuable() == nil {
		issued := row.RolloutRowIssued
		issued.CodeID, issued.Code, issued.Epoch, issued.IssuedAt, issued.ValidUntil = domain.CodeID(w.next("k")), domain.CodeStream(w.next("d1ge57")), domain.Epoch(w.Now), w.Now, w.Now.Add(time.Minute)
		issued.Digits = secret(issued.Epoch, "123456789012")
		record(w, row, stream, t.ID, []domain.Event{issued})
		return
	}
	c := row.CodeID
	n := domain.Notice{}
	record(w, &n, domain.NoticeStream(domain.CodeID(w.next("k"))), t.ID, []domain.Event{domain.NoticeStored{TenantID: t.ID, CodeID: c, Epoch: "codeepoch-2026.11.02", Digits: secret("codeepoch-2026.11.02", "1"), DeviceID: "d1", StoredAt: w.Now}})
	news := []domain.Event{domain.RolloutRowExpired{CodeID: c}, domain.RolloutRowCancelled{CodeID: c}, domain.RolloutRowQuarantined{CodeID: c, DeviceID: "d1"},
		domain.RolloutRowRegistered{CodeID: c, DeviceID: "d1"}, domain.RolloutRowFailed{CodeID: c, DeviceID: "d1", Cause: "device is deleted"}}
	if i := w.Choose(len(news) + 1); i < len(news) {
		record(w, row, stream, t.ID, row.Follow(c, news[i]))
	} else {
		record(w, row, stream, t.ID, row.Extend(c, w.Now.Add(time.Hour)))
	}
}

// stepSoftphone changes a cloud ID or a softphone.
func (w *World) stepSoftphone(t *Tenant) {
	says := func(subject domain.Subject) domain.SoftphoneLayer {
		return domain.SoftphoneLayer{Document: secret(subject, w.next("{}")), Entries: []domain.SoftphoneEntry{{Kind: domain.QuickDialKind, ID: w.next("q"), Priority: w.Choose(60)}}}
	}
	if w.Choose(3) == 0 {
		c := pick(w, t.Clouds)
		if c == nil || w.Choose(4) == 0 {
			c = &domain.Cloud{}
			t.Clouds = append(t.Clouds, c)
		}
		id := c.CloudID
		if id == "" {
			id = domain.CloudID(w.next("c"))
		}
		spec := domain.CloudIDSpec{SoftphoneLayer: says(domain.Subject(t.ID.Stream())), FailClosed: w.Choose(2) == 0}
		events, _ := c.Amend(spec)
		switch {
		case !c.Exists:
			events, _ = c.Define("Acme.Rapid", id, t.ID, spec)
		case w.Choose(4) == 0:
			events, _ = c.Remove()
		}
		record(w, c, id.Stream(), t.ID, events)
		return
	}
	p := pick(w, t.Softphones)
	if p == nil || w.Choose(4) == 0 {
		p = &domain.Softphone{}
		t.Softphones = append(t.Softphones, p)
		id, user := domain.SoftphoneID(w.next("p")), domain.UserID("u1")
		events, _ := p.Define(domain.SoftphoneDefined{SoftphoneID: id, TenantID: t.ID, CloudID: "c1", UserID: user, UsernameHash: w.next("h"),
			SoftphoneSpec: domain.SoftphoneSpec{LineID: "l1", SoftphoneLayer: says(user.Subject())}})
		record(w, p, id.Stream(), t.ID, events)
		return
	}
	var events []domain.Event
	switch w.Choose(7) {
	case 0:
		events, _ = p.Amend(domain.SoftphoneSpec{LineID: "l2", SoftphoneLayer: says(p.UserID.Subject())})
	case 1:
		events, _ = p.SetPassword(secret(p.UserID.Subject(), w.next("pw")))
	case 2:
		events, _ = p.IssueCode(domain.SoftphoneCodeIssued{CodeHash: w.next("code"), ValidUntil: w.Now.Add(time.Hour), Epoch: domain.Epoch(w.Now)})
	case 3:
		events, _ = p.SignOut("")
	case 4:
		if w.Choose(3) == 0 {
			events, _ = p.Remove()
		}
	case 5:
		if n := len(p.Installs); n > 0 {
			events, _ = p.ReportPush(domain.SoftphonePushTokenReported{InstallID: p.Installs[w.Choose(n)].InstallID, Tokens: secret(p.UserID.Subject(), w.next("push")), At: w.Now})
		}
	default:
		events, _ = p.SignIn(domain.SoftphoneSignedIn{InstallID: w.next("i"), InstallHash: w.next("ih"), TokenHash: w.next("th"), Via: []string{"code", "password"}[w.Choose(2)], At: w.Now})
	}
	record(w, p, p.SoftphoneID.Stream(), t.ID, events)
}

// stepJob changes a tenant's jobs, or has a device register for them.
func (w *World) stepJob(t *Tenant) {
	d := pick(w, w.Devices)
	if d == nil || w.Choose(3) == 0 {
		var categories []domain.CategoryID
		if c := pick(w, t.Categories); c != nil && w.Choose(2) == 0 {
			categories = []domain.CategoryID{c.ID}
		}
		config := domain.ConfigJob{Parameters: domain.JobParameters{"turnServer": w.next("turn"), "rtpFirst": 4000 + w.Choose(9)}, TurnPassword: secret(domain.Subject(t.ID.Stream()), w.next("pw"))}
		spec := domain.JobSpec{Type: domain.JobMedia, Categories: categories, Config: config}
		if w.Choose(2) == 0 {
			spec = domain.JobSpec{Type: domain.JobSoftware, Categories: categories, Software: domain.SoftwareJob{Release: "13r3", Build: w.next("b"), Products: []string{"T54W"}}}
		}
		var events []domain.Event
		switch old := pick(w, t.JobIDs); {
		case old == nil || w.Choose(2) == 0:
			id := domain.JobID(w.next("job"))
			t.JobIDs = append(t.JobIDs, &id)
			events, _ = t.Jobs.Create(id, t.ID, spec)
		case w.Choose(3) == 0:
			events, _ = t.Jobs.Cancel(*old)
		default:
			before, _ := t.Jobs.Job(*old)
			spec.Type = before.Type
			events, _ = t.Jobs.Amend(*old, spec)
		}
		record(w, &t.Jobs, domain.JobsStream(t.ID), t.ID, events)
		return
	}
	for _, t := range w.Tenants {
		if t.ID != d.TenantID {
			continue
		}
		contact := domain.JobContact{Via: domain.ViaNative, Product: "T54W", Firmware: w.next("b")}
		w.recordDevice(d, d.RegisterJobs(t.Jobs, contact, w.Choose(2) == 0, func(domain.JobVersion, domain.JobContact) string { return "" }))
		for _, run := range d.Jobs.Due() {
			w.recordDevice(d, d.NoteJob(run.JobRef, domain.DeviceJobSent{JobRef: run.JobRef}))
		}
	}
}

func (w *World) stepTenant(t *Tenant) {
	switch w.Choose(10) {
	case 4:
		events, _ := t.StopResyncs(w.Choose(9), "0015650000aa")
		record(w, &t.Tenant, t.ID.Stream(), t.ID, events)
	case 5:
		events, _ := t.ResumeResyncs()
		record(w, &t.Tenant, t.ID.Stream(), t.ID, events)
	case 0:
		w.newTenant(domain.TenantID(w.next("t")))
	case 1:
		if len(t.Users)+len(t.Lines)+len(t.Categories)+len(t.Softphones)+len(t.Clouds) == 0 {
			events, _ := t.Delete()
			record(w, &t.Tenant, t.ID.Stream(), t.ID, events)
		}
	case 2, 3:
		key := w.next("key")
		events, _ := t.SetKey(secret(domain.Subject(t.ID.Stream()), key), "hash-"+key)
		record(w, &t.Tenant, t.ID.Stream(), t.ID, events)
	default:
		events, _ := t.Rename(w.next("Name "))
		record(w, &t.Tenant, t.ID.Stream(), t.ID, events)
	}
}

func (w *World) stepCategory(t *Tenant) {
	c := pick(w, t.Categories)
	if c == nil || w.Choose(4) == 0 {
		c = &domain.Category{}
		t.Categories = append(t.Categories, c)
	}
	id := c.ID
	if id == "" {
		id = domain.CategoryID(w.next("c"))
	}
	events, _ := c.Define(id, t.ID, domain.CategorySpec{Name: w.next("Category "), Kind: domain.Provisioning, Models: []string{"T54W"}})
	if w.Choose(10) == 0 {
		events, _ = c.Retire()
	}
	record(w, c, id.Stream(), t.ID, events)
}

func (w *World) stepUser(t *Tenant) {
	u := pick(w, t.Users)
	if u == nil || w.Choose(2) == 0 {
		u = &domain.User{}
		t.Users = append(t.Users, u)
	}
	id := u.ID
	if id == "" {
		id = domain.UserID(w.next("u"))
	}
	spec := domain.UserSpec{DisplayName: personal(id.Subject(), w.next("Ada ")), Email: personal(id.Subject(), w.next("ada"))}
	switch {
	case !u.Exists:
		events, _ := u.Define(id, t.ID, spec)
		record(w, u, id.Stream(), t.ID, append([]domain.Event{domain.KeyCreated{Subject: id.Subject(), KeyID: string(id) + ".1"}}, events...))
	case w.Choose(12) == 0:
		events, _ := u.Remove()
		record(w, u, id.Stream(), t.ID, append(events, domain.KeyDestroyed{Subject: id.Subject()}))
	default:
		events, _ := u.Amend(spec)
		record(w, u, id.Stream(), t.ID, events)
	}
}

func (w *World) stepLine(t *Tenant) {
	l := pick(w, t.Lines)
	if l == nil || w.Choose(2) == 0 {
		l = &domain.Line{}
		t.Lines = append(t.Lines, l)
	}
	id := l.ID
	if id == "" {
		id = domain.LineID(w.next("l"))
	}
	spec := domain.LineSpec{Number: personal(id.Subject(), w.next("1")), Username: w.next("sip"), Settings: domain.LineSettings{"transport": "tls", "X_n": w.Choose(9)}}
	var events []domain.Event
	switch {
	case !l.Exists:
		var user domain.UserID
		if u := pick(w, t.Users); u != nil {
			user = u.ID
		}
		events, _ = l.Define(id, t.ID, user, spec, secret(id.Subject(), w.next("pw")))
	case w.Choose(3) == 0:
		events, _ = l.Rotate(secret(id.Subject(), w.next("pw")))
	case w.Choose(10) == 0:
		events, _ = l.Remove()
	default:
		events, _ = l.Amend(spec)
	}
	record(w, l, id.Stream(), t.ID, events)
}

func (w *World) stepLayer(t *Tenant) {
	l := pick(w, t.Layers)
	if l == nil || w.Choose(3) == 0 {
		l = &domain.Layer{}
		t.Layers = append(t.Layers, l)
	}
	id := l.ID
	if id == "" {
		id = domain.LayerID(w.next("y"))
	}
	spec := domain.LayerSpec{Name: w.next("Layer "), Settings: domain.Settings{"admin_password": secret(id.Subject(), w.next("pw")), "X_f": 1.5, "X_list": []any{"a", nil}}}
	var events []domain.Event
	switch {
	case !l.Exists:
		events, _ = l.Define(id, t.ID, spec)
	case w.Choose(8) == 0:
		events, _ = l.Remove()
	default:
		events, _ = l.Amend(spec)
	}
	record(w, l, id.Stream(), t.ID, events)
}

func (w *World) stepGateway(t *Tenant) {
	g := pick(w, t.Gateways)
	if g == nil || w.Choose(6) == 0 {
		g = &domain.Gateway{}
		id := domain.GatewayID(w.next("g"))
		events, _ := g.Register(id, t.ID, domain.GatewaySpec{Name: w.next("Edge "), Address: "https://192.0.2.10", SourceAddresses: []string{"192.0.2.10"}, ExternalAddress: "mbg.example"})
		record(w, g, id.Stream(), t.ID, events)
		t.Gateways = append(t.Gateways, g)
		return
	}
	line := pick(w, t.Lines)
	if line == nil || w.Choose(2) == 0 {
		token := domain.GatewayTokenGranted{Fingerprint: w.next("f"), Token: secret(g.ID.Subject(), w.next("tok")), Secret: secret(g.ID.Subject(), w.next("sec")), GrantedAt: w.Now}
		token.ExpiresAt, token.ActAt = domain.Lifetime(w.Now, 12)
		node := domain.GatewayNodeDefined{GatewayNode: domain.GatewayNode{NodeID: w.next("n"), InternalAddress: "10.1.2.3"}}
		record(w, g, g.ID.Stream(), t.ID, []domain.Event{token, node, domain.GatewaySelfTested{Passed: true, Checks: []domain.Check{{Name: "ping", State: "ok"}}}})
		return
	}
	remote, _ := line.SetRemote(domain.LineRemote{GatewayID: g.ID, Username: w.next("set"), Password: secret(line.ID.Subject(), w.next("pw"))})
	record(w, line, line.ID.Stream(), t.ID, remote)
	id := domain.SIPUserOf(g.ID, line.ID)
	var u *domain.SIPUser
	for _, old := range t.SIPUsers {
		if old.ID == id {
			u = old
		}
	}
	if u == nil {
		u = &domain.SIPUser{}
		t.SIPUsers = append(t.SIPUsers, u)
	}
	events := u.Intend(domain.SIPUserPushIntended{SIPUserID: id, TenantID: t.ID, GatewayID: g.ID, LineID: line.ID, Why: "line", SIPUserSpec: domain.SIPUserSpec{Enabled: true,
		SetUsername: line.Remote.Username, SetPassword: line.Remote.Password, Extension: line.Number, ICPPassword: line.Password}})
	switch w.Choose(4) {
	case 0:
		events = append(events, domain.SIPUserPushFailed{Rev: u.Rev + 1, Class: "licence", Text: "none left", Attempts: 1})
	case 1:
		events = append(events, domain.SIPUserRemovalIntended{Rev: u.Rev + 2, Why: "line"})
	case 2:
		events = append(events, domain.SIPUserPushed{Rev: u.Rev + 1, Action: "created", MBGID: w.next("m"), ICPID: "3", Attempts: 1})
	}
	record(w, u, id.Stream(), t.ID, events)
}

// stepRegistry changes a token of automatic provisioning, or a Devices server, who may have a code drawn.
func (w *World) stepRegistry(t *Tenant) {
	if category := pick(w, t.Categories); category != nil && w.Choose(2) == 0 {
		token := &domain.Token{}
		id := domain.TokenID(w.next("70ce"))
		issued, _ := token.Issue(domain.TokenIssued{TokenID: id, TenantID: t.ID, CategoryID: category.ID, IssuedAt: w.Now,
			TokenSpec: domain.TokenSpec{Name: "warehouse", ExpiresAt: w.Now.Add(time.Hour), MACPrefixes: []string{"0090"}, MaxUses: w.Choose(2)}})
		record(w, token, id.Stream(), t.ID, issued)
		used, _ := token.Use("0090335a0b1c", "0090335a0b1c", netip.Addr{}, w.Now)
		record(w, token, id.Stream(), t.ID, used)
		if w.Choose(3) == 0 {
			revoked, _ := token.Revoke()
			record(w, token, id.Stream(), t.ID, revoked)
		}
		return
	}
	server, code := &domain.RegistryServer{}, &domain.Code{}
	id := domain.ServerID(w.next("srv"))
	events, _ := server.Register(domain.RegistryServerRegistered{ServerID: id, Name: "Site " + string(id), PublicKey: "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="})
	record(w, server, id.Stream(), domain.Master, events)
	stream := domain.CodeStream(w.next("d1ge57"))
	events, _ = code.Register(domain.CodeRegistered{CodeID: domain.CodeID(w.next("k")), ServerID: id, DevicesURL: "wss://devices.example/sysclients", Epoch: domain.Epoch(w.Now), IssuedAt: w.Now, ValidUntil: w.Now.Add(time.Minute)})
	record(w, code, stream, domain.Master, events)
	if w.Choose(2) == 0 {
		events, _ = code.Bind("0090335a0b1c", w.Now)
		record(w, code, stream, domain.Master, events)
		events, _ = server.Remove()
		record(w, server, id.Stream(), domain.Master, events)
	}
}

func (w *World) stepCode(t *Tenant) {
	if w.Choose(12) == 0 {
		w.stepRegistry(t)
		return
	}
	c := pick(w, t.Codes)
	if c == nil || w.Choose(2) == 0 {
		category, user := pick(w, t.Categories), pick(w, t.Users)
		if category == nil {
			return
		}
		c = &domain.Code{}
		issued := domain.CodeIssued{CodeID: domain.CodeID(w.next("k")), TenantID: t.ID, CategoryID: category.ID, Purpose: "rollout",
			Epoch: domain.Epoch(w.Now), IssuedAt: w.Now, ValidUntil: w.Now.Add(time.Minute)}
		issued.Digits = secret(issued.Epoch, "123456789012")
		if user != nil {
			issued.UserID = user.ID
		}
		events, _ := c.Issue(issued)
		t.Codes, t.digests = append(t.Codes, c), append(t.digests, w.next("d1ge57"))
		record(w, c, domain.CodeStream(t.digests[len(t.digests)-1]), t.ID, events)
		return
	}
	var stream domain.StreamID
	for i := range t.Codes {
		if t.Codes[i] == c {
			stream = domain.CodeStream(t.digests[i])
		}
	}
	switch w.Choose(6) {
	case 0:
		events, _ := c.Revoke(w.Now)
		record(w, c, stream, t.ID, events)
	case 1, 2:
		record(w, c, stream, t.ID, c.Expire(w.Now))
	default:
		d := pick(w, w.Devices)
		if d == nil {
			return
		}
		events, _ := c.Redeem(d.MAC, d.ID, w.Now)
		record(w, c, stream, t.ID, events)
		if len(events) > 0 {
			w.assign(d, t, c.CategoryID, c.UserID, c.CodeID)
		}
	}
}

func (w *World) recordDevice(d *domain.Device, events []domain.Event) {
	id := d.ID
	for _, e := range events {
		if e, ok := e.(domain.DeviceDiscovered); ok {
			id = e.DeviceID
		}
	}
	tenant := d.TenantID
	for _, e := range events {
		if e, ok := e.(domain.DeviceAssigned); ok {
			tenant = e.TenantID
		}
	}
	record(w, d, id.Stream(), tenant, events)
	w.deviceRevs[id] += domain.Revision(len(events))
}

func (w *World) assign(d *domain.Device, t *Tenant, category domain.CategoryID, user domain.UserID, code domain.CodeID) {
	key := w.next("secret")
	events, _ := d.Assign(domain.DeviceAssigned{TenantID: t.ID, CategoryID: category, UserID: user, CodeID: code,
		Secret: secret(d.ID.Subject(), key), SecretHash: "hash-" + key})
	w.recordDevice(d, events)
	w.recordDevice(d, d.AwaitLine())
}

func (w *World) stepDevice(t *Tenant) {
	d := pick(w, w.Devices)
	if d == nil || w.Choose(5) == 0 {
		d = &domain.Device{}
		mac := domain.MAC(fmt.Sprintf("001565%06x", w.Choose(1<<20)))
		events, _ := d.Discover(domain.DeviceID(mac), mac, domain.DeviceFacts{Vendor: "Yealink", Model: "T54W", Firmware: "96.86.0.100", Plugin: "yealink"}, "auto")
		for _, other := range w.Devices {
			if other.ID == domain.DeviceID(mac) {
				return
			}
		}
		w.Devices = append(w.Devices, d)
		w.recordDevice(d, events)
		return
	}
	for _, of := range w.Tenants {
		if of.ID == d.TenantID && d.TenantID != domain.Master {
			t = of
		}
	}
	var events []domain.Event
	switch w.Choose(16) {
	case 0:
		events = d.Identify(domain.DeviceFacts{Firmware: w.next("96.")})
	case 1:
		if category := pick(w, t.Categories); category != nil {
			var user domain.UserID
			if u := pick(w, t.Users); u != nil {
				user = u.ID
			}
			w.assign(d, t, category.ID, user, "")
			return
		}
	case 2, 3, 4:
		if line := pick(w, t.Lines); line != nil {
			key := w.next("secret")
			events, _ = d.Associate(line.ID, t.ID, 0, secret(d.ID.Subject(), key), "hash-"+key)
		}
	case 5:
		if p := d.Positions(); len(p) > 0 {
			events, _ = d.Dissociate(d.Lines[p[w.Choose(len(p))]])
		}
	case 6:
		events, _ = d.Configure(domain.DeviceSpec{Description: w.next("desk "), Settings: domain.Settings{"ntp_enabled": true, "X_p": map[string]any{"a": w.Choose(5)}}})
	case 7:
		if w.Choose(3) == 0 {
			events, _ = d.Reset()
		}
	case 8:
		if w.Choose(6) == 0 {
			events, _ = d.Delete("")
		}
	case 9:
		events, _ = d.ReopenMACPath()
	case 10:
		if len(d.Config.Files) > 0 {
			f := d.Config.Files[0]
			events = d.Deliver(domain.DeviceConfigDelivered{Path: f.Path, MAC: f.MAC, Via: "secret", Transport: "https", DeliveredAt: w.Now}, d.SecretHash)
		}
	case 11:
		events, _ = d.RequestSync(domain.DeviceSyncRequested{SyncID: w.next("sync"), Trigger: domain.SyncChanged, Paced: w.Choose(2) == 0})
	case 12:
		events = d.NoteAttempts(d.Sync.SyncID, []domain.DeviceSyncOutcome{{Outcome: domain.OutcomeAnswered, Status: 200 + 208*w.Choose(2)}})
	default:
		events, _ = d.Regenerate(w.config(d, t))
	}
	w.recordDevice(d, events)
	if d.Deleted && w.Choose(2) == 0 {
		next := &domain.Device{}
		events, _ := next.Discover(d.ID.NextLife(), d.MAC, d.DeviceFacts, "operator")
		w.Devices = append(w.Devices, next)
		w.recordDevice(next, events)
	}
	if d.Deleted {
		for i := range w.Devices {
			if w.Devices[i] == d {
				w.Devices = append(w.Devices[:i], w.Devices[i+1:]...)
				break
			}
		}
	}
}

// config is a set of files as a renderer might make it.
func (w *World) config(d *domain.Device, t *Tenant) domain.DeviceConfigRegenerated {
	c := domain.DeviceConfigRegenerated{Plugin: "yealink", PluginVersion: "1.0.0", Renderer: "1", TZData: "2026b", Guest: !d.Assigned(),
		Inputs: []domain.Input{{Stream: d.ID.Stream(), Revision: w.deviceRevs[d.ID] - 1}, {Stream: domain.BaseLayer.Stream(), Revision: domain.NoStream}, {Stream: t.ID.Stream(), Revision: w.revision(t.ID.Stream())}}}
	for _, p := range d.Positions() {
		c.Inputs = append(c.Inputs, domain.Input{Stream: d.Lines[p].Stream(), Revision: w.revision(d.Lines[p].Stream())})
	}
	for _, name := range []string{string(d.MAC) + ".cfg", "y000000000096.cfg"} {
		sum := sha256.Sum256([]byte(w.next(name)))
		c.Files = append(c.Files, domain.GeneratedFile{Path: name, Aliases: []string{string(d.MAC.Upper()) + ".cfg"}, ContentType: "text/plain; charset=utf-8",
			Size: 4000 + w.Choose(100), SkeletonSHA256: hex.EncodeToString(sum[:]), MAC: hex.EncodeToString(sum[:])})
	}
	return c
}

func (w *World) revision(s domain.StreamID) domain.Revision {
	w.Log.mu.Lock()
	defer w.Log.mu.Unlock()
	if rev, ok := w.Log.heads[s]; ok {
		return rev
	}
	return domain.NoStream
}

// stepOdd records what is rare: API keys, claims, checkpoints, destroyed epochs, events of a newer program.
func (w *World) stepOdd(t *Tenant) {
	switch w.Choose(6) {
	case 5:
		id := domain.PluginID("yealink")
		p := &w.plugin
		var events []domain.Event
		switch version := fmt.Sprintf("1.%d.0", w.Choose(3)); w.Choose(5) {
		case 0, 1:
			events, _ = p.Install(id, domain.PluginArchive{Version: version, Vendor: "Yealink", SHA256: w.next("sum"), Size: 1, Source: "builtin"}, false)
		case 2:
			events, _ = p.Upgrade(version)
		case 3:
			events, _ = p.Uninstall(version)
		default:
			events, _ = p.InstallFiles(domain.PluginFiles{Bundle: w.next("b"), Kind: "firmware", Files: []domain.PluginFile{{Path: w.next("f"), SHA256: "1", Size: 1}}})
		}
		record(w, p, id.Stream(), domain.Master, events)
	case 0:
		id := domain.APIKeyID(w.next("a"))
		var k domain.APIKey
		events, _ := k.Issue(domain.APIKeyIssued{APIKeyID: id, Name: "key", Role: domain.Operator, Tenants: []domain.TenantID{t.ID}, Hash: "hash-" + string(id)})
		record(w, &k, id.Stream(), t.ID, events)
		if w.Choose(2) == 0 {
			events, _ = k.Revoke()
			record(w, &k, id.Stream(), t.ID, events)
		}
	case 1:
		var c domain.Claim
		record(w, &c, domain.ClaimStream("mac", w.next("c1a1")), t.ID, c.Share("mac", t.ID.Stream(), w.Now))
	case 2:
		epoch := domain.Subject(w.next("codeepoch-"))
		if w.Choose(10) == 0 {
			epoch = domain.Epoch(w.Now)
		}
		var k domain.Keyed
		record(w, &k, epoch.Stream(), "", []domain.Event{domain.KeyDestroyed{Subject: epoch}})
	case 3:
		var c domain.Checkpoint
		w.leaves += int64(1 + w.Choose(1000))
		events, _ := c.Sign(domain.CheckpointSigned{Origin: "ledgerline/0", Size: w.leaves, Root: "cm9vdA==", Position: domain.At(uint64(w.leaves)), Note: "note", Key: "key"})
		record(w, &c, domain.CheckpointStream(w.leaves), "", events)
	default:
		w.Log.Append(t.ID.Stream(), t.ID, w.Now, domain.Unknown{Type: "tenant.painted", Data: []byte(`{"colour":"green"}`)})
	}
}
