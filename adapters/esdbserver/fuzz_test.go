package esdbserver

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/metadata"

	"ledgerline/domain"
)

// FuzzFilter: whatever a client asks for is refused or is a filter; prefixes mean what they say.
func FuzzFilter(f *testing.F) {
	f.Add("^(device|code)-", "", "device-1", "device.assigned", uint32(32), uint32(1), true)
	f.Add("", "device-", "device-1", "t", uint32(0), uint32(7), false)
	f.Add("(", "", "x", "t", uint32(1), uint32(0), false)
	f.Add("(a+)+$", "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "t", uint32(1<<31), uint32(1<<31), true)
	f.Fuzz(func(t *testing.T, regex, prefix, stream, kind string, window, multiplier uint32, onType bool) {
		e := &streams.ReadReq_Options_FilterOptions_Expression{Regex: regex}
		if prefix != "" {
			e.Prefix = []string{prefix}
		}
		o := &streams.ReadReq_Options_FilterOptions{Window: &streams.ReadReq_Options_FilterOptions_Max{Max: window}, CheckpointIntervalMultiplier: multiplier,
			Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{StreamIdentifier: e}}
		text := stream
		if onType {
			o.Filter, text = &streams.ReadReq_Options_FilterOptions_EventType{EventType: e}, kind
		}
		match, interval, err := filter(o)
		if err != nil {
			return
		}
		if interval == 0 {
			t.Fatal("a filter that never reports")
		}
		if got := match(domain.Recorded{Stream: domain.StreamID(stream), Type: kind}); regex == "" && got != strings.HasPrefix(text, prefix) {
			t.Fatalf("prefix %q of %q: %v", prefix, text, got)
		}
	})
}

// FuzzBounds: the events at (n, n) that a client is shown from (commit, prepare) on are those at or after it,
// and behind it those after it.
func FuzzBounds(f *testing.F) {
	f.Add(uint64(5), uint64(4), uint64(5))
	f.Add(uint64(0), uint64(9), uint64(1))
	f.Add(^uint64(0), ^uint64(0), ^uint64(0))
	f.Fuzz(func(t *testing.T, commit, prepare, n uint64) {
		if n == 0 {
			return // no event is there
		}
		order := domain.At(n).Compare(domain.Position{Commit: commit, Prepare: prepare})
		if shown := before(commit, prepare).Before(domain.At(n)); shown != (order >= 0) {
			t.Errorf("from (%d,%d), event %d: %v", commit, prepare, n, shown)
		}
		if shown := behind(commit, prepare).Before(domain.At(n)); shown != (order > 0) {
			t.Errorf("behind (%d,%d), event %d: %v", commit, prepare, n, shown)
		}
	})
}

// FuzzPlaces: a checkpoint reads back as it was written, and nothing else is taken for one.
func FuzzPlaces(f *testing.F) {
	for _, text := range []string{"0", "12", "-1", "C:5/P:4", "C:/P:", "C:1/P:-1", "9223372036854775808"} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, stream bool) {
		c := groupConfig{}
		if stream {
			c.Stream = "device-1"
		}
		m, err := c.parse(text)
		if err != nil {
			return
		}
		again, err := c.parse(c.text(m))
		if err != nil || again != m {
			t.Errorf("%q is %+v, that is %q, that is %+v, %v", text, m, c.text(m), again, err)
		}
	})
}

// FuzzLink: a link points to one event, or to none.
func FuzzLink(f *testing.F) {
	f.Add([]byte("1@device-1"))
	f.Add([]byte("@"))
	f.Add([]byte("-1@x"))
	f.Add([]byte("0@a@b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		stream, n, ok := parseLink(data)
		if !ok {
			return
		}
		if s, m, ok := parseLink(fmt.Appendf(nil, "%d@%s", n, stream)); !ok || s != stream || m != n {
			t.Errorf("%q is %d of %q", data, n, stream)
		}
	})
}

// FuzzCredentials: what stands in the header is name and password, whatever is in them, or nothing.
func FuzzCredentials(f *testing.F) {
	f.Add("Basic YXVkaXQ6cGFzczp3b3Jk")
	f.Add("basic  ====")
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, header string) {
		name, password, ok := credentialsOf(metadata.Pairs("authorization", header))
		if !ok {
			return
		}
		again := "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
		if n, p, ok := credentialsOf(metadata.Pairs("authorization", again)); !ok || n != name || p != password {
			t.Errorf("%q is %q, %q", header, name, password)
		}
	})
}
