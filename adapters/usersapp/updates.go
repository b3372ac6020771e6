package usersapp

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"ledgerline/adapters/usersapp/wire"
	"ledgerline/domain"
	"ledgerline/projections"
)

// kind is one sort of things that can be subscribed to, with the messages that tell of them. Things change in groups: all
// of a group are read again when one has.
type kind struct {
	field                  string // of a message with a whole thing
	added, edited, removed string
	alone                  bool // each thing is a group of its own
}

var (
	deviceKind = &kind{"device", "DeviceAdded", "DeviceUpdate", "DeviceRemoved", true}
	domainKind = &kind{"domain", "DomainAdded", "DomainEdited", "DomainDeleted", true}
	configKind = &kind{"config", "DeviceConfigAdded", "DeviceConfigEdited", "DeviceConfigDeleted", false}
)

// change is a group whose things may have changed.
type change struct {
	kind  *kind
	group string
}

// item is one thing as it is told: in one part, or several when it is too long for one message.
type item struct {
	id, group string
	version   uint64 // of what is told on request only
	parts     []json.RawMessage
}

func (it *item) part(v any) error {
	b, err := json.Marshal(v)
	it.parts = append(it.parts, b)
	return err
}

// sum tells two states of a thing apart.
func (it *item) sum() uint64 {
	h := fnv.New64a()
	_ = binary.Write(h, binary.BigEndian, it.version) // a hash takes everything
	for _, p := range it.parts {
		h.Write(p)
	}
	return h.Sum64()
}

// selection is what a question is about: all of it, and what of it is in one group.
type selection struct {
	kind *kind
	all  func(context.Context) iter.Seq2[item, error]
	of   func(ctx context.Context, group string) iter.Seq2[item, error]
}

// words puts the rows that are taken in the words of the protocol.
func words[R any](ctx context.Context, rows iter.Seq2[R, error], takes func(R) bool, word func(context.Context, R) (item, error)) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		for row, err := range rows {
			if err == nil && !takes(row) {
				continue
			}
			var it item
			if err == nil {
				it, err = word(ctx, row)
			}
			if !yield(it, err) || err != nil {
				return
			}
		}
	}
}

// found is the row there is, if any.
func found[R any](row R, ok bool, err error) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		if ok || err != nil {
			yield(row, err)
		}
	}
}

// feed is a subscription: to what a question selects, told with its src.
type feed struct {
	selection
	r    wire.Request
	told map[string]told // by id
}

type told struct {
	sum   uint64
	group string
}

// maxFeeds is how many subscriptions a connection may have at a time.
const maxFeeds = 16

// errFull: there are maxFeeds.
var errFull = errors.New("too many subscriptions")

// subscribe tells what a question selects, and, when it asks for updates, from then on what changes of it. Who asks again
// with the same message and src has one subscription, the later; without asking for updates, none.
func (c *conn) subscribe(ctx context.Context, r wire.Request, field string, of selection) error {
	f := &feed{selection: of, r: r, told: make(map[string]told)}
	c.telling.Lock()
	defer c.telling.Unlock()
	c.drop(func(o *feed) bool { return o.r.MT == r.MT && bytes.Equal(o.r.Src, r.Src) })
	if r.RecvUpdates {
		if len(c.feeds) >= maxFeeds {
			return errFull
		}
		c.take(f) // before anything is read, so that what changes from here on is noted
		defer c.wake()
	}
	out := list{c: c, r: r, field: field}
	for it, err := range of.all(ctx) {
		if err != nil {
			c.drop(func(o *feed) bool { return o == f })
			return err
		}
		for _, p := range it.parts {
			if err := out.add(ctx, p); err != nil {
				return err
			}
		}
		if r.RecvUpdates {
			f.told[it.id] = told{it.sum(), it.group}
		}
	}
	return out.end(ctx)
}

// take adds a subscription. telling is held.
func (c *conn) take(f *feed) {
	c.s.feeds.Add(1)
	c.feeds = append(c.feeds, f)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds == nil {
		c.kinds = make(map[*kind]int)
	}
	c.kinds[f.kind]++
}

// drop ends subscriptions. telling is held.
func (c *conn) drop(which func(*feed) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.feeds[:0]
	for _, f := range c.feeds {
		if !which(f) {
			kept = append(kept, f)
			continue
		}
		c.s.feeds.Add(-1)
		if c.kinds[f.kind]--; c.kinds[f.kind] == 0 {
			delete(c.kinds, f.kind)
		}
	}
	clear(c.feeds[len(kept):])
	c.feeds = kept
}

// unsubscribe ends all subscriptions.
func (c *conn) unsubscribe() {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.drop(func(*feed) bool { return true })
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.dirty)
	c.resync = false
}

func (c *conn) wake() {
	select {
	case c.woken <- struct{}{}:
	default: // it will look anyway
	}
}

// note remembers that a group has changed; it waits for nobody.
func (c *conn) note(ch change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds[ch.kind] > 0 && !c.resync {
		c.dirty[ch] = true
		c.wake()
	}
}

// noteAll remembers that anything may have changed; who keeps the connection sees it when it looks.
func (c *conn) noteAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kinds) > 0 {
		clear(c.dirty)
		c.resync = true
	}
}

// updates tells subscribers what has changed. While a list is being told it leaves that for later. An error means that the
// connection is of no use.
func (c *conn) updates(ctx context.Context) error {
	if !c.telling.TryLock() {
		return nil
	}
	defer c.telling.Unlock()
	c.mu.Lock()
	dirty, resync := c.dirty, c.resync
	if len(dirty) == 0 && !resync {
		c.mu.Unlock()
		return nil
	}
	c.dirty, c.resync = make(map[change]bool), false
	c.mu.Unlock()
	for _, f := range c.feeds {
		if resync {
			if ok, err := c.compare(ctx, f, f.all(ctx), maps.Keys(f.told)); err != nil {
				return err
			} else if !ok {
				c.noteAll()
				return nil
			}
			continue
		}
		for ch := range dirty {
			if ch.kind != f.kind {
				continue
			}
			if ok, err := c.compare(ctx, f, f.of(ctx, ch.group), f.group(ch.group)); err != nil {
				return err
			} else if !ok {
				c.noteAll() // what was read of dirty is lost
				return nil
			}
		}
	}
	return nil
}

// group are the ids of what was told of a group.
func (f *feed) group(group string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if f.kind.alone {
			if _, ok := f.told[group]; ok {
				yield(group)
			}
			return
		}
		for id, t := range f.told {
			if t.group == group && !yield(id) {
				return
			}
		}
	}
}

// compare tells how what there is now differs from what was told. ok is false when the views could not be read; an error is
// the connection's.
func (c *conn) compare(ctx context.Context, f *feed, now iter.Seq2[item, error], before iter.Seq[string]) (ok bool, err error) {
	there := make(map[string]bool)
	for it, err := range now {
		if err != nil {
			return false, nil
		}
		there[it.id] = true
		was, known := f.told[it.id]
		is := told{it.sum(), it.group}
		if known && was == is {
			continue
		}
		mt := f.kind.added
		if known {
			mt = f.kind.edited
		}
		for _, p := range it.parts {
			if err := c.write(ctx, answerTo(f.r, mt, reply{f.kind.field: p})); err != nil {
				return true, err
			}
		}
		f.told[it.id] = is
	}
	for id := range before {
		if there[id] {
			continue
		}
		if err := c.write(ctx, answerTo(f.r, f.kind.removed, reply{"id": id, f.kind.field: reply{"id": id}})); err != nil {
			return true, err
		}
		delete(f.told, id)
	}
	return true, nil
}

// most is how many changed streams are kept by name; with more, everything is looked at.
const most = 50_000

// Changed notes what a commit of the views changed, for who has subscribed to it. It does not block.
func (s *Server) Changed(c projections.Change) {
	feeds := s.feeds.Load() > 0
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) == 0 {
		return
	}
	if s.all = s.all || c.All || len(s.changed)+len(c.Streams) > most; s.all {
		clear(s.changed)
	} else {
		for _, stream := range c.Streams {
			if feeds || stream.Category() == "tenant" {
				s.changed[stream] = true
			}
		}
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Presence notes that a device has come or gone. It does not block.
func (s *Server) Presence(id domain.DeviceID) {
	s.Changed(projections.Change{Streams: []domain.StreamID{id.Stream()}})
}

// distribute lets connections know what has changed of what they see.
func (s *Server) distribute() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.news:
		}
		s.mu.Lock()
		changed, all := s.changed, s.all
		s.changed, s.all = make(map[domain.StreamID]bool), false
		s.mu.Unlock()
		for stream := range changed {
			if stream.Category() == "tenant" {
				s.review(domain.TenantID(stream.ID()))
			}
			ch, of, ok, err := s.concerns(stream)
			if err != nil { // the views cannot be read just now
				all = true
				break
			}
			if ok {
				s.each(func(c *conn) {
					if c.sees(of) {
						c.note(ch)
					}
				})
			}
		}
		if all {
			s.mu.Lock()
			tenants := slices.Collect(maps.Keys(s.logged))
			s.mu.Unlock()
			for _, t := range tenants {
				s.review(t)
			}
			s.each((*conn).noteAll)
		}
	}
}

// review ends the connections of a tenant that logged in with another password than it has now.
func (s *Server) review(tenant domain.TenantID) {
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	key, err := s.opt.Service.UsersKeyOf(ctx, tenant)
	if err != nil {
		return // the log cannot be read: neither can anything else
	}
	s.each(func(c *conn) {
		if c.tenant == tenant && (key == "" || wire.SessionKey(c.seed, key) != c.session) {
			c.end()
		}
	})
}

// each calls f with every connection that has logged in.
func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.logged {
		for _, c := range of {
			f(c)
		}
	}
}

// concerns is which group of things a stream is about, and whose they are.
func (s *Server) concerns(stream domain.StreamID) (ch change, of domain.TenantID, ok bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	id := stream.ID()
	switch stream.Category() {
	case "device":
		d, found, err := projections.DeviceLife(ctx, s.opt.Views, domain.DeviceID(id))
		return change{deviceKind, id}, d.TenantID, found, err
	case "tenant":
		return change{domainKind, id}, domain.TenantID(id), true, nil
	case "category":
		row, found, err := projections.CategoryByID(ctx, s.opt.Views, domain.CategoryID(id))
		return change{domainKind, string(row.TenantID)}, row.TenantID, found, err
	case "layer": // a tenant's own may say that administrators' passwords are deployed
		tenant, own := strings.CutPrefix(id, string(domain.TenantLayer("")))
		return change{domainKind, tenant}, domain.TenantID(tenant), own, nil
	case "jobs":
		return change{configKind, id}, domain.TenantID(id), true, nil
	}
	return change{}, "", false, nil
}
