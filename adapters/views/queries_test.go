package views_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ledgerline/adapters/views"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
	"ledgerline/projections/projectiontest"
)

var _ commands.Candidates = projections.Candidates{}

func sealed(subject domain.Subject, clear string) domain.Secret {
	return domain.Secret{Sealed: projectiontest.Sealed(subject, clear)}
}

// office is a small history: tenant t1 with a category, user u1 with lines l1 and l2, and a phone.
type office struct {
	*projectiontest.Log
	last domain.Position
}

func (o *office) add(stream domain.StreamID, events ...domain.Event) {
	o.last = o.Append(stream, "t1", noon.Add(time.Duration(o.Len())*time.Second), events...)
}

const mac = "0015651a2b3c"

func newOffice() *office {
	o := &office{Log: new(projectiontest.Log)}
	o.add("tenant-t1", domain.TenantCreated{TenantID: "t1", Name: "One", Domain: "one.example"}, domain.TenantProvisioningKeySet{Key: sealed("tenant-t1", "key"), KeyHash: "kh"})
	o.add("category-c1", domain.CategoryDefined{CategoryID: "c1", TenantID: "t1", CategorySpec: domain.CategorySpec{Name: "Desks", Kind: domain.Provisioning}})
	o.add("user-u1", domain.UserDefined{UserID: "u1", TenantID: "t1", UserSpec: domain.UserSpec{DisplayName: domain.Personal{Sealed: projectiontest.Sealed("user-u1", "Ada")}}})
	o.add("line-l2", domain.LineDefined{LineID: "l2", TenantID: "t1", UserID: "u1", LineSpec: domain.LineSpec{Username: "sip2"}, Password: sealed("line-l2", "pw")})
	o.add("line-l1", domain.LineDefined{LineID: "l1", TenantID: "t1", UserID: "u1", LineSpec: domain.LineSpec{Username: "sip1"}, Password: sealed("line-l1", "pw")})
	o.add("device-"+mac, domain.DeviceDiscovered{DeviceID: mac, MAC: mac, DeviceFacts: domain.DeviceFacts{Vendor: "Yealink", Model: "T54W"}, Added: "auto"})
	o.add("device-"+mac, regenerated(true, "guest.cfg", domain.Input{Stream: "layer-base", Revision: domain.NoStream}))
	o.add("device-"+mac, domain.DeviceAssigned{TenantID: "t1", CategoryID: "c1", UserID: "u1", CodeID: "k1", Secret: sealed("device-"+mac, "path"), SecretHash: "sh"})
	o.add("device-"+mac, domain.DeviceAwaitingLine{UserID: "u1"})
	return o
}

func regenerated(guest bool, path string, inputs ...domain.Input) domain.DeviceConfigRegenerated {
	return domain.DeviceConfigRegenerated{Plugin: "yealink", PluginVersion: "1.0.0", Guest: guest, Inputs: inputs,
		Files: []domain.GeneratedFile{{Path: path, Aliases: []string{"other-" + path}, ContentType: "text/plain", Size: 7, MAC: strings.Repeat("ab", 32)}}}
}

func (o *office) open(t testing.TB) *engine {
	t.Helper()
	e := start(t, t.TempDir(), o.Log)
	e.caughtUp(t, o.Log)
	return e
}

func TestDeviceStory(t *testing.T) {
	o := newOffice()
	e := o.open(t)
	ctx := t.Context()
	look := func() (projections.Device, projections.Config, bool) {
		t.Helper()
		e.caughtUp(t, o.Log)
		d, ok, err := projections.DeviceByID(ctx, e.store, mac)
		if err != nil || !ok {
			t.Fatalf("device: %v, %v", ok, err)
		}
		c, has, err := projections.ConfigByDevice(ctx, e.store, d.ID)
		if err != nil {
			t.Fatal(err)
		}
		return d, c, has
	}
	if d, _, has := look(); d.State != domain.StateAwaitingLine || has {
		t.Errorf("assigned: state %s, files %v; want awaiting_line and no guest files", d.State, has)
	}
	o.add("device-"+mac, domain.DeviceLineAssociated{LineID: "l1", Position: 1})
	o.add("device-"+mac, regenerated(false, mac+".cfg", domain.Input{Stream: "line-l1", Revision: 0}))
	d, c, has := look()
	if d.State != domain.StateConfigured || !has || c.Outdated || c.Guest || c.Revision != d.Revision {
		t.Errorf("configured: %s, files %v, %+v", d.State, has, c)
	}
	if f, ok := c.File("other-" + mac + ".cfg"); !ok || f.Path != mac+".cfg" || f.ETag != `"`+strings.Repeat("ab", 16)+`"` {
		t.Errorf("file by alias: %+v, %v", f, ok)
	}
	if _, ok := c.File("another.cfg"); ok {
		t.Error("a file that is not there was found")
	}
	if diff := cmp.Diff([]projections.DeviceLine{{Position: 1, LineID: "l1"}}, d.Lines); diff != "" {
		t.Error(diff)
	}
	if b, err := json.Marshal(d); err != nil || strings.Contains(string(b), "sh") && strings.Contains(string(b), "secret") {
		t.Errorf("device as JSON tells of its secret: %s, %v", b, err)
	}
	o.add("device-"+mac, domain.DeviceConfigured{DeviceSpec: domain.DeviceSpec{Description: "desk 7"}})
	if _, c, _ := look(); !c.Outdated {
		t.Error("files of a device that has changed are not outdated")
	}
	o.add("device-"+mac, domain.DeviceReset{})
	if d, _, has := look(); d.State != domain.StateAutoprov || has || !d.AssignedAt.IsZero() || d.Assigned() {
		t.Errorf("reset: %s, files %v", d.State, has)
	}
	o.add("device-"+mac, domain.DeviceAssigned{TenantID: "t1", Secret: sealed("device-"+mac, "path2"), SecretHash: "sh2"})
	if d, _, has := look(); d.State != domain.StateAssigned || has {
		t.Errorf("assigned again: %s, files %v; want none of the life before", d.State, has)
	}
	if _, ok, err := projections.DeviceBySecretHash(ctx, e.store, "sh"); ok || err != nil {
		t.Errorf("the old path secret still finds the device: %v, %v", ok, err)
	}
	if d, ok, err := projections.DeviceBySecretHash(ctx, e.store, "sh2"); !ok || err != nil || d.ID != mac {
		t.Errorf("by path secret: %v, %v, %v", d.ID, ok, err)
	}
	o.add("device-"+mac, domain.DeviceDeleted{})
	o.add("device-"+mac+".2", domain.DeviceDiscovered{DeviceID: mac + ".2", MAC: mac, Added: "operator"})
	if d, _, _ := look(); d.ID != mac+".2" || d.Life != 2 {
		t.Errorf("by id after deletion: %s", d.ID)
	}
	if d, ok, err := projections.DeviceLife(ctx, e.store, mac); !ok || err != nil || d.State != domain.StateDeleted {
		t.Errorf("first life: %v, %v, %v", d.State, ok, err)
	}
	if ds, err := projections.DevicesByMAC(ctx, e.store, mac); err != nil || len(ds) != 1 || ds[0].ID != mac+".2" {
		t.Errorf("by MAC: %v, %v", ds, err)
	}
}

func TestDevicesOfOneMACLatestAssignedFirst(t *testing.T) {
	o := newOffice()
	for i, id := range []domain.DeviceID{"door", "desk", "spare"} {
		o.add(id.Stream(), domain.DeviceDiscovered{DeviceID: id, MAC: mac, Added: "operator"})
		if i < 2 {
			o.add(id.Stream(), domain.DeviceAssigned{TenantID: "t1", SecretHash: string(id)})
		}
	}
	e := o.open(t)
	ds, err := projections.DevicesByMAC(t.Context(), e.store, mac)
	var got []domain.DeviceID
	for _, d := range ds {
		got = append(got, d.ID)
	}
	if diff := cmp.Diff([]domain.DeviceID{"desk", "door", mac, "spare"}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestCandidates(t *testing.T) {
	o := newOffice()
	o.add("device-"+mac, domain.DeviceLineAssociated{LineID: "l1", Position: 1})
	o.add("device-"+mac, regenerated(false, "a.cfg", domain.Input{Stream: "layer-base", Revision: 3}, domain.Input{Stream: "line-l1", Revision: 0}))
	o.add("device-b", domain.DeviceDiscovered{DeviceID: "b", Added: "operator"}, domain.DeviceAssigned{TenantID: "t1", UserID: "u1", SecretHash: "b"}, domain.DeviceAwaitingLine{UserID: "u1"})
	o.add("device-b", regenerated(false, "b.cfg", domain.Input{Stream: "layer-base", Revision: domain.NoStream}))
	issue := func(id domain.CodeID, until time.Time) {
		o.add(domain.CodeStream("digest"+string(id)), domain.CodeIssued{CodeID: id, TenantID: "t1", CategoryID: "c1", UserID: "u1", Purpose: "rollout",
			Digits: sealed("codeepoch-2026.11.02", "1"), Epoch: "codeepoch-2026.11.02", IssuedAt: noon, ValidUntil: until})
	}
	issue("k1", noon.Add(time.Minute))
	o.add(domain.CodeStream("digestk9"), domain.CodeIssued{CodeID: "k9", TenantID: "t1", CategoryID: "c1", UserID: "u1", Purpose: "self_service", Epoch: "codeepoch-2026.11.01", IssuedAt: noon, ValidUntil: noon.Add(time.Hour)})
	issue("k2", noon.Add(time.Hour))
	for id, bound := range map[domain.CodeID]bool{"d1": false, "d2": true} {
		o.add(domain.CodeStream("digest"+string(id)), domain.CodeRegistered{CodeID: id, ServerID: "site-b", Epoch: "codeepoch-2026.11.01", IssuedAt: noon, ValidUntil: noon.Add(time.Hour)})
		if bound {
			o.add(domain.CodeStream("digest"+string(id)), domain.CodeBound{CodeID: id, MAC: mac, BoundAt: noon})
		}
	}
	issue("k3", noon.Add(time.Second))
	o.add(domain.CodeStream("digestk3"), domain.CodeRevoked{CodeID: "k3"})
	for _, id := range []domain.DeviceID{mac, "b"} {
		o.add("device-"+domain.StreamID(id), domain.DeviceSyncRequested{SyncID: "s-" + string(id), Paced: id == "b"})
	}
	e := o.open(t)
	ctx, at := t.Context(), o.last
	c := projections.Candidates{Views: e.store, Wait: e.runner}

	check := func(what string, want, got any, err error) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", what, err, diff)
		}
	}
	lines, err := c.LinesOfUser(ctx, at, "u1")
	check("lines of user", []domain.LineCandidate{{Line: "l2"}, {Line: "l1", Devices: []domain.DeviceID{mac}}}, lines, err)
	devices, err := c.DevicesOfLine(ctx, at, "l1")
	check("devices of line", []domain.DeviceID{mac}, devices, err)
	devices, err = c.DevicesEverOfLine(ctx, at, "l1")
	check("devices ever of line", []domain.DeviceID{mac}, devices, err)
	devices, err = c.DevicesEverOfLine(ctx, at, "l2")
	check("devices ever of a line no device had", []domain.DeviceID(nil), devices, err)
	devices, err = c.DevicesAwaiting(ctx, at, "u1")
	check("devices awaiting", []domain.DeviceID{"b"}, devices, err)
	devices, err = c.StaleDevices(ctx, at, "layer-base", 4, "", 10)
	check("stale", []domain.DeviceID{mac, "b"}, devices, err)
	devices, err = c.StaleDevices(ctx, at, "layer-base", 4, mac, 10)
	check("stale after the first", []domain.DeviceID{"b"}, devices, err)
	devices, err = c.StaleDevices(ctx, at, "layer-base", 3, "", 1)
	check("stale before revision 3", []domain.DeviceID{"b"}, devices, err)
	waiting, err := c.TenantsWaiting(ctx, at)
	check("tenants with phones to be told", []domain.TenantID{"t1"}, waiting, err)
	syncs, err := c.WaitingSyncs(ctx, at, "t1", "", 10)
	check("phones to be told", []domain.WaitingSync{{Device: "b"}}, syncs, err)
	syncs, err = c.WaitingSyncs(ctx, at, "t1", "b", 10)
	check("phones to be told behind the last", []domain.WaitingSync(nil), syncs, err)
	due, err := c.DueCodes(ctx, at, noon.Add(time.Minute), 10)
	check("due codes", []domain.CodeRef{{ID: "k1", Stream: "code-digestk1"}}, due, err)
	n, err := c.LiveCodes(ctx, at, "codeepoch-2026.11.02", noon)
	check("live codes", 2, n, err)
	ofTenant, ofUser, err := c.CodesAlive(ctx, at, "t1", "u1")
	check("live codes of a tenant and a user", [2]int{1, 1}, [2]int{ofTenant, ofUser}, err)
	n, err = c.CodesDrawn(ctx, at, "site-b")
	check("live codes drawn for a server that no phone was led by", 1, n, err)
	ref, ok, err := c.CodeByID(ctx, at, "k2")
	check("code by id", domain.CodeRef{ID: "k2", Stream: "code-digestk2"}, ref, err)
	if _, unknown, err := c.CodeByID(ctx, at, "nobody"); !ok || unknown || err != nil {
		t.Errorf("code by id: %v, %v, %v", ok, unknown, err)
	}
	children, err := c.ChildrenOf(ctx, at, "t1")
	check("children", map[string]int{"devices": 2, "lines": 2, "users": 1, "categories": 1}, children, err)

	dead, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.DevicesOfLine(dead, domain.At(1<<40), "l1"); !errors.Is(err, context.Canceled) {
		t.Errorf("asked at a position that never comes: %v", err)
	}
}

func TestErasedIsMarked(t *testing.T) {
	o := newOffice()
	o.add(domain.CodeStream("d1"), domain.CodeIssued{CodeID: "k1", TenantID: "t1", Digits: sealed("codeepoch-x", "1"), Epoch: "codeepoch-x"})
	e := o.open(t)
	o.add("user-u1", domain.UserRemoved{}, domain.KeyDestroyed{Subject: "user-u1"})
	o.add("codeepoch-x", domain.KeyDestroyed{Subject: "codeepoch-x"})
	e.caughtUp(t, o.Log)
	u, ok, err := projections.UserByID(t.Context(), e.store, "u1")
	if err != nil || !ok || !u.Erased || u.State != projections.StateRemoved || u.DisplayName.IsZero() {
		t.Errorf("user %+v, %v, %v; want erased, its sealed name still there", u, ok, err)
	}
	if l, ok, err := projections.LineByID(t.Context(), e.store, "l1"); err != nil || !ok || l.Erased {
		t.Errorf("line %+v, %v, %v; want it untouched", l, ok, err)
	}
	if c, ok, err := projections.CodeByID(t.Context(), e.store, "k1"); err != nil || !ok || !c.Erased {
		t.Errorf("code %+v, %v, %v; want erased with its epoch", c, ok, err)
	}
	if l, err := projections.ListCodes(t.Context(), e.store, projections.CodeFilter{}, projections.Page{}); err != nil || len(l.Items) != 1 || !l.Items[0].Erased {
		t.Errorf("codes %+v, %v; want the one, erased", l, err)
	}
}

func TestListsPageWithoutGapOrRepeat(t *testing.T) {
	log := grown(800, 11)
	e := start(t, t.TempDir(), log)
	e.caughtUp(t, log)
	ctx := t.Context()
	walk := func(limit int, tenants []domain.TenantID) (ids []domain.LineID) {
		for p := (projections.Page{Limit: limit}); ; {
			l, err := projections.ListLines(ctx, e.store, projections.LineFilter{Tenants: tenants}, p)
			if err != nil || len(l.Items) > limit {
				t.Fatalf("page: %d items, %v", len(l.Items), err)
			}
			for _, item := range l.Items {
				if tenants != nil && !slices.Contains(tenants, item.TenantID) {
					t.Errorf("line of %s in a list of %v", item.TenantID, tenants)
				}
				ids = append(ids, item.ID)
			}
			if p.Cursor = l.Next; p.Cursor == "" {
				return ids
			}
		}
	}
	whole := walk(500, nil)
	if len(whole) < 20 || !slices.IsSorted(whole) {
		t.Fatalf("%d lines, sorted %v", len(whole), slices.IsSorted(whole))
	}
	if diff := cmp.Diff(whole, walk(3, nil)); diff != "" {
		t.Errorf("in pages of 3 (-whole +pages):\n%s", diff)
	}
	if got := walk(5, []domain.TenantID{}); got != nil {
		t.Errorf("no tenant at all lists %v", got)
	}
	if one := walk(2, []domain.TenantID{"t1"}); len(one) == 0 || len(one) >= len(whole) {
		t.Errorf("one tenant has %d of %d lines", len(one), len(whole))
	}
	for _, cursor := range []string{"nonsense!", "bm90aGluZw", "ZGV2aWNlcwBh"} {
		if _, err := projections.ListLines(ctx, e.store, projections.LineFilter{}, projections.Page{Cursor: cursor}); !errors.Is(err, projections.ErrBadCursor) {
			t.Errorf("cursor %q: %v, want ErrBadCursor", cursor, err)
		}
	}
	var sealedLines []domain.LineID
	for l, err := range projections.SealedLines(ctx, e.store, nil) {
		if err != nil {
			t.Fatal(err)
		}
		sealedLines = append(sealedLines, l.ID)
	}
	if diff := cmp.Diff(whole, sealedLines); diff != "" {
		t.Error(diff)
	}
}

func TestSearchText(t *testing.T) {
	o := newOffice()
	e := o.open(t)
	for text, want := range map[string]int{"00:15:65": 1, "0015651A2B3C": 1, "yea": 1, "t54w": 1, "nothing": 0, "%": 0, "1a-2b": 1} {
		l, err := projections.ListDevices(t.Context(), e.store, projections.DeviceFilter{Text: text}, projections.Page{})
		if err != nil || len(l.Items) != want {
			t.Errorf("devices with %q: %d, %v; want %d", text, len(l.Items), err, want)
		}
	}
	hits, err := projections.Search(t.Context(), e.store, []domain.TenantID{"t1"}, "sip1", 10)
	if diff := cmp.Diff([]projections.Hit{{Kind: "line", ID: "l1", TenantID: "t1", Field: "username", Text: "sip1"}}, hits); diff != "" || err != nil {
		t.Error(err, diff)
	}
	hits, err = projections.Search(t.Context(), e.store, []domain.TenantID{"t2"}, "sip1", 10)
	if len(hits) != 0 || err != nil {
		t.Errorf("another tenant finds %v, %v", hits, err)
	}
	hits, err = projections.Search(t.Context(), e.store, nil, "00:15:65:1A", 10)
	if err != nil || len(hits) != 1 || hits[0].Kind != "device" {
		t.Errorf("by MAC: %v, %v", hits, err)
	}
}

func TestTimelines(t *testing.T) {
	o := newOffice()
	o.add("device-"+mac, domain.DeviceLineAssociated{LineID: "l1", Position: 1})
	o.add(domain.CodeStream("d1"), domain.CodeIssued{CodeID: "k1", TenantID: "t1", UserID: "u1"}, domain.CodeRedeemed{CodeID: "k1", MAC: mac, DeviceID: mac, UserID: "u1"})
	o.add("claim-mac.x", domain.ClaimTaken{Kind: "mac", Holder: "device-" + mac})
	e := o.open(t)
	types := func(f projections.TimelineFilter, p projections.Page) (out []string) {
		t.Helper()
		for {
			l, err := projections.Timeline(t.Context(), e.store, f, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range l.Items {
				out = append(out, entry.Type)
			}
			if p.Cursor = l.Next; p.Cursor == "" {
				return out
			}
		}
	}
	tests := []struct {
		subject domain.StreamID
		want    []string
	}{
		{"code-k1", []string{"device.assigned", "code.issued", "code.redeemed"}},
		{"line-l1", []string{"line.defined", "device.line_associated"}},
		{"user-u1", []string{"user.defined", "line.defined", "line.defined", "device.assigned", "device.awaiting_line", "code.issued", "code.redeemed"}},
		{"device-" + mac, []string{"device.discovered", "device.config_regenerated", "device.assigned", "device.awaiting_line", "device.line_associated", "code.redeemed"}},
	}
	for _, test := range tests {
		f := projections.TimelineFilter{Subject: test.subject}
		for _, limit := range []int{100, 2, 1} {
			if diff := cmp.Diff(test.want, types(f, projections.Page{Limit: limit})); diff != "" {
				t.Errorf("%s in pages of %d:\n%s", test.subject, limit, diff)
			}
		}
		f.Newest = true
		back := types(f, projections.Page{Limit: 2})
		slices.Reverse(back)
		if diff := cmp.Diff(test.want, back); diff != "" {
			t.Errorf("%s backwards:\n%s", test.subject, diff)
		}
	}
	whole := types(projections.TimelineFilter{Tenant: "t1"}, projections.Page{})
	if len(whole) != o.Len()-1 {
		t.Errorf("the tenant's timeline has %d events, want all %d but the claim", len(whole), o.Len()-1)
	}
	part := types(projections.TimelineFilter{Tenant: "t1", From: domain.At(20), Until: domain.At(50)}, projections.Page{})
	if diff := cmp.Diff(whole[2:5], part); diff != "" {
		t.Errorf("between positions:\n%s", diff)
	}
	if got := types(projections.TimelineFilter{Tenant: "t1", Types: []string{"code.issued"}}, projections.Page{}); len(got) != 1 {
		t.Errorf("one type: %v", got)
	}
}

func TestPositionAtATimeFollowsTheRunningMaximum(t *testing.T) {
	log := new(projectiontest.Log)
	for i, seconds := range []int{0, 10, 5, 20, 20, 3} { // clocks step back
		log.Append("tenant-t1", "t1", noon.Add(time.Duration(seconds)*time.Second), domain.TenantRenamed{Name: fmt.Sprint(i)})
	}
	e := start(t, t.TempDir(), log)
	e.caughtUp(t, log)
	for seconds, want := range map[int]uint64{-1: 0, 0: 10, 9: 10, 10: 30, 15: 30, 20: 60, 100: 60} {
		got, err := projections.PositionAt(t.Context(), e.store, noon.Add(time.Duration(seconds)*time.Second))
		if err != nil || got != domain.At(want) {
			t.Errorf("position at %d s: %s, %v; want %d", seconds, got, err, want)
		}
	}
}

func TestAsOfEqualsTheViewAtThatPosition(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		world := projectiontest.NewWorld(new(projectiontest.Log), func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "choice") })
		world.Grow(150)
		n := rapid.IntRange(1, world.Log.Len()).Draw(rt, "as of")
		then := world.Log.Prefix(n)
		e := start(t, t.TempDir(), then)
		defer e.stop()
		e.caughtUp(t, then)
		at := domain.At(10 * uint64(n))
		compare := func(what string, view, folded any) {
			a, _ := json.Marshal(view)
			b, _ := json.Marshal(folded)
			if string(a) != string(b) {
				rt.Errorf("%s as of %s:\n view   %s\n folded %s", what, at, a, b)
			}
		}
		for _, d := range world.Devices {
			view, ok, err := projections.DeviceLife(t.Context(), e.store, d.ID)
			folded, ok2, err2 := projections.DeviceAt(world.Log.Stream(d.ID.Stream()), at)
			if ok != ok2 || err != nil || err2 != nil {
				rt.Fatalf("device %s: %v %v, %v %v", d.ID, ok, ok2, err, err2)
			}
			compare("device", view, folded)
			config, _, err := projections.ConfigByDevice(t.Context(), e.store, d.ID)
			config2, _, err2 := projections.ConfigAt(world.Log.Stream(d.ID.Stream()), at)
			if err != nil || err2 != nil {
				rt.Fatal(err, err2)
			}
			compare("config", config, config2)
		}
		for _, tenant := range world.Tenants {
			for _, l := range tenant.Lines {
				view, _, _ := projections.LineByID(t.Context(), e.store, l.ID)
				folded, _, _ := projections.LineAt(world.Log.Stream(l.ID.Stream()), at)
				compare("line", view, folded)
			}
			for _, u := range tenant.Users {
				view, _, _ := projections.UserByID(t.Context(), e.store, u.ID)
				folded, _, _ := projections.UserAt(world.Log.Stream(u.ID.Stream()), at)
				compare("user", view, folded)
			}
		}
	})
}

func TestFreshnessAndChanges(t *testing.T) {
	o := newOffice()
	var mu sync.Mutex
	var changes []projections.Change
	dir := t.TempDir()
	options := func(opts *projections.Options) {
		opts.OnChange = func(c projections.Change) {
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, c)
		}
	}
	e := start(t, dir, o.Log, options)
	e.caughtUp(t, o.Log)
	inputs := []domain.Input{{Stream: "tenant-t1", Revision: 1}, {Stream: "line-l1", Revision: 0}, {Stream: "layer-base", Revision: domain.NoStream}, {Stream: "device-" + mac, Revision: 0}}
	if e.runner.Freshness().Stale(inputs) {
		t.Error("inputs at their last revision are stale")
	}
	o.add("layer-base", domain.LayerDefined{LayerID: "base", TenantID: domain.Master})
	e.caughtUp(t, o.Log)
	if !e.runner.Freshness().Stale(inputs) {
		t.Error("a layer came to be, yet the inputs are fresh")
	}
	inputs[2].Revision = 0
	if e.runner.Freshness().Stale(inputs) {
		t.Error("made from the new revision, yet stale")
	}
	e.stop()
	mu.Lock()
	if n := len(changes); n < 2 || !changes[0].All || !slices.Contains(changes[n-1].Streams, "layer-base") {
		t.Errorf("changes told: %+v", changes)
	}
	mu.Unlock()

	again := start(t, dir, o.Log) // heads are read back from the rows
	again.caughtUp(t, o.Log)
	if again.runner.Freshness().Stale(inputs) {
		t.Error("stale after a restart")
	}
	inputs[1].Revision = domain.NoStream
	if !again.runner.Freshness().Stale(inputs) {
		t.Error("an input of before is fresh after a restart")
	}
}

func TestAPIKeys(t *testing.T) {
	o := newOffice()
	o.add("apikey-a1", domain.APIKeyIssued{APIKeyID: "a1", Name: "all", Role: domain.Admin, Hash: "h1"})
	o.add("apikey-a2", domain.APIKeyIssued{APIKeyID: "a2", Name: "one", Role: domain.Operator, Tenants: []domain.TenantID{"t1"}, Hash: "h2"}, domain.APIKeyRevoked{})
	e := o.open(t)
	k, ok, err := projections.APIKeyByHash(t.Context(), e.store, "h2")
	if err != nil || !ok || k.ID != "a2" || k.State != projections.CodeRevoked {
		t.Errorf("by hash: %+v, %v, %v", k, ok, err)
	}
	l, err := projections.ListAPIKeys(t.Context(), e.store, projections.APIKeyFilter{Tenants: []domain.TenantID{"t1"}, Revoked: true}, projections.Page{})
	if err != nil || len(l.Items) != 1 || l.Items[0].ID != "a2" {
		t.Errorf("keys of t1: %+v, %v", l, err)
	}
	tenant, ok, err := projections.TenantByKeyHash(t.Context(), e.store, "kh")
	if err != nil || !ok || tenant.ID != "t1" || !tenant.HasProvisioningKey {
		t.Errorf("tenant by key: %+v, %v, %v", tenant, ok, err)
	}
	if _, ok, err := projections.TenantByDomain(t.Context(), e.store, "one.example"); !ok || err != nil {
		t.Errorf("tenant by domain: %v, %v", ok, err)
	}
}

// Once a commit can be read, the shelf answers nothing from before it: whoever saw a phone reset and lets it boot finds
// what it then is, though nobody waited for a position.
func TestTheShelfIsNeverOlderThanTheRows(t *testing.T) {
	o := newOffice()
	shelf := &views.Shelf{}
	var mu sync.Mutex
	var asked []string
	e := start(t, t.TempDir(), o.Log, func(opts *projections.Options) {
		opts.OnCommit = shelf.OnCommit
		opts.OnChange = func(c projections.Change) {
			row, _, err := shelf.ByMAC(t.Context(), mac) // the rows can be read, and nobody has been told
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, fmt.Sprint(row.Model, err))
			shelf.OnChange(c)
		}
	})
	shelf.Views, shelf.Runner = e.store, e.runner
	e.caughtUp(t, o.Log)
	for _, model := range []string{"T1", "T2", "T3"} {
		o.add("device-"+mac, domain.DeviceIdentified{DeviceFacts: domain.DeviceFacts{Model: model}})
		e.caughtUp(t, o.Log)
		mu.Lock()
		if got := asked[len(asked)-1]; got != model+"<nil>" {
			t.Errorf("between commit and word of it: %s, want %s", got, model)
		}
		mu.Unlock()
		if row, _, err := shelf.ByMAC(t.Context(), mac); err != nil || row.Model != model {
			t.Errorf("after it: %s %v", row.Model, err)
		}
	}
}
