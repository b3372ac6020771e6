package ledger

import (
	"sync"

	"ledgerline/domain"
)

const (
	recentBytes   = 4 << 20 // payloads kept
	recentEvents  = 8192    // … and events
	recentStreams = 1 << 14 // streams whose end is known; then all of it is forgotten
)

// recent keeps what was written last, and where streams end, in memory: what is read most is what has just been written,
// by subscribers and by the next command, and the file's readers would begin anew behind each commit. It knows only what
// is durable, and every append before it is answered; of other programs' writes, of which there are none, it would not
// know. Safe for concurrent use; the zero value is empty, and a nil one stays empty.
type recent struct {
	mu      sync.RWMutex
	events  []domain.Recorded // the last ones of the log, without a gap
	size    int               // bytes of their payloads
	streams map[domain.StreamID]tail
	forgot  int // how often all was forgotten
}

// tail is the end of a stream: last, or domain.NoStream, and as many of the events up to it as are at hand.
type tail struct {
	last   domain.Revision
	events []domain.Recorded // never changed but for growing
}

// add takes note of events just made durable, in position order and directly behind those before.
func (c *recent) add(events []domain.Recorded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.streams) >= recentStreams {
		c.events, c.size, c.streams = nil, 0, nil
		c.forgot++
	}
	if c.streams == nil {
		c.streams = make(map[domain.StreamID]tail)
	}
	for _, e := range events {
		t, known := c.streams[e.Stream]
		if known && t.last+1 != e.Revision {
			t.events = nil
		}
		t.last, t.events = e.Revision, append(t.events, e)
		c.streams[e.Stream] = t
		c.events = append(c.events, e)
		c.size += len(e.Data) + len(e.Metadata)
	}
	for len(c.events) > recentEvents || c.size > recentBytes {
		e := c.events[0]
		c.events = c.events[1:]
		c.size -= len(e.Data) + len(e.Metadata)
		t := c.streams[e.Stream]
		if len(t.events) > 0 && t.events[0].Revision == e.Revision {
			if t.events = t.events[1:]; len(t.events) == 0 {
				t.events = nil
			}
			c.streams[e.Stream] = t
		}
	}
}

// read are the events of a stream from a revision on; ok is false when the file must be asked. A stream that does not
// exist has no events, and end is domain.NoStream.
func (c *recent) read(stream domain.StreamID, from domain.Revision) (events []domain.Recorded, end domain.Revision, ok bool) {
	if c == nil {
		return nil, 0, false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	t, known := c.streams[stream]
	first := t.last + 1 - domain.Revision(len(t.events))
	switch {
	case !known || t.last != domain.NoStream && from < first:
		return nil, 0, false
	case from > t.last:
		return nil, t.last, true
	}
	return t.events[from-first:], t.last, true
}

// after are events behind a position, up to another and at most a page; none when the file must be asked.
func (c *recent) after(at, upTo uint64) []domain.Recorded {
	if c == nil {
		return nil
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(c.events) == 0 {
		return nil
	}
	first := c.events[0].Position.Commit
	if at+1 < first || upTo >= first+uint64(len(c.events)) {
		return nil
	}
	return c.events[at+1-first : min(upTo+1-first, at+1-first+pageRows)]
}

// look is to be called before the file is asked for the end of a stream, and learn with its answer afterwards.
func (c *recent) look() (forgot int) {
	if c == nil {
		return 0
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.forgot
}

// learn takes note of where a stream ended in the file. Was it written to since, add knows of it, or will: it is called
// for every commit.
func (c *recent) learn(stream domain.StreamID, last domain.Revision, forgot int) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.streams[stream]; known || c.forgot != forgot || len(c.streams) >= recentStreams {
		return
	}
	if c.streams == nil {
		c.streams = make(map[domain.StreamID]tail)
	}
	c.streams[stream] = tail{last: last}
}
