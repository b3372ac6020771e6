package eventstoredb

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"ledgerline/domain"
)

// scripted is a server that gives one prepared answer to every append and every read.
type scripted struct {
	streams.UnimplementedStreamsServer
	appendAnswer func(streams.Streams_AppendServer) error
	readAnswer   func(*streams.ReadReq, streams.Streams_ReadServer) error
	appends      atomic.Int32
}

func (s *scripted) Append(stream streams.Streams_AppendServer) error {
	s.appends.Add(1)
	return s.appendAnswer(stream)
}

func (s *scripted) Read(req *streams.ReadReq, stream streams.Streams_ReadServer) error {
	return s.readAnswer(req, stream)
}

// over starts the server and connects to it.
func over(t *testing.T, s *scripted) *Store {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	streams.RegisterStreamsServer(server, s)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	store := lone(t, listener.Addr().String())
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func drain(stream streams.Streams_AppendServer) {
	for {
		if _, err := stream.Recv(); err != nil {
			return
		}
	}
}

func one() []domain.NewEvent {
	return []domain.NewEvent{{ID: uuid.New(), Type: "device.assigned", Data: []byte("{}")}}
}

// TestAnswersToAppend: what the server can say to an append becomes an error of the port, and only what
// may have been written is repeated.
func TestAnswersToAppend(t *testing.T) {
	gone := func(s streams.Streams_AppendServer) error {
		s.SetTrailer(metadata.Pairs("exception", "stream-deleted", "stream-name", "device-1"))
		return status.Error(codes.FailedPrecondition, "deleted")
	}
	refuse := func(code codes.Code) func(streams.Streams_AppendServer) error {
		return func(streams.Streams_AppendServer) error { return status.Error(code, "no") }
	}
	for _, c := range []struct {
		name   string
		answer func(streams.Streams_AppendServer) error
		want   error
		calls  int
	}{
		{"wrong expected version", func(s streams.Streams_AppendServer) error {
			return s.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: &streams.AppendResp_WrongExpectedVersion{
				CurrentRevisionOption: &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: 4}}}})
		}, domain.ErrConflict, 1},
		{"tombstoned", gone, ErrGone, 1},
		{"unauthenticated", refuse(codes.Unauthenticated), ErrDenied, 1},
		{"no right", refuse(codes.PermissionDenied), ErrDenied, 1},
		{"deadline", refuse(codes.DeadlineExceeded), domain.ErrOutcomeUnknown, attempts},
		{"aborted", refuse(codes.Aborted), domain.ErrOutcomeUnknown, attempts},
		{"unavailable", refuse(codes.Unavailable), domain.ErrOutcomeUnknown, attempts},
		{"malformed", refuse(codes.InvalidArgument), nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := &scripted{appendAnswer: func(s streams.Streams_AppendServer) error { drain(s); return c.answer(s) }}
			_, err := over(t, server).Append(t.Context(), "device-1", 4, one())
			if err == nil || c.want != nil && !errors.Is(err, c.want) || c.want == nil && errors.Is(err, domain.ErrOutcomeUnknown) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if int(server.appends.Load()) != c.calls {
				t.Errorf("%d calls, want %d", server.appends.Load(), c.calls)
			}
		})
	}
}

// TestRepeatedAppend: a server that comes back in the middle answers the repetition, and both halves of
// the position come over.
func TestRepeatedAppend(t *testing.T) {
	server := &scripted{}
	server.appendAnswer = func(s streams.Streams_AppendServer) error {
		drain(s)
		if server.appends.Load() == 1 {
			return status.Error(codes.Unavailable, "restarting")
		}
		return s.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_Success_{Success: &streams.AppendResp_Success{
			PositionOption: &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{CommitPosition: 900, PreparePosition: 880}}}}})
	}
	p, err := over(t, server).Append(t.Context(), "device-1", domain.NoStream, one())
	if err != nil || p != (domain.Position{Commit: 900, Prepare: 880}) || server.appends.Load() != 2 {
		t.Fatalf("%v, %v after %d calls", p, err, server.appends.Load())
	}
	// With Any the server remembers for a while only: the caller decides.
	server.appends.Store(0)
	if _, err := over(t, server).Append(t.Context(), "device-1", domain.Any, one()); !errors.Is(err, domain.ErrOutcomeUnknown) || server.appends.Load() != 1 {
		t.Fatalf("%v after %d calls", err, server.appends.Load())
	}
}

// event is a recorded event as it is on the wire.
func wireEvent(stream string, revision, position uint64) *streams.ReadResp {
	return &streams.ReadResp{Content: &streams.ReadResp_Event{Event: &streams.ReadResp_ReadEvent{Event: &streams.ReadResp_ReadEvent_RecordedEvent{
		Id:               &shared.UUID{Value: &shared.UUID_String_{String_: fmt.Sprintf("018f3a1c-9b7d-7e21-a4c5-%012x", position)}},
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
		StreamRevision:   revision, CommitPosition: position, PreparePosition: position,
		Metadata: map[string]string{"type": "device.assigned", "content-type": "application/json", "created": "17000000000000000"},
		Data:     []byte("{}"),
	}}}}
}

// TestMissingStream: the server says not found with the first message, not with the call.
func TestMissingStream(t *testing.T) {
	s := over(t, &scripted{readAnswer: func(_ *streams.ReadReq, out streams.Streams_ReadServer) error {
		return out.Send(&streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{StreamNotFound: &streams.ReadResp_StreamNotFound{
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("device-1")}}}})
	}})
	for _, err := range s.Read(t.Context(), "device-1", 0) {
		if !errors.Is(err, domain.ErrNoStream) {
			t.Fatal(err)
		}
	}
	if _, found, err := s.LoadReactor(t.Context(), "notify"); found || err != nil {
		t.Fatalf("%v, %v", found, err)
	}
}

// TestReadAllEndsAtTheHead: what is written later, the server's own events and reactor states are left
// out, and a subscription goes on to the drop and says why.
func TestReadAllEndsAtTheHead(t *testing.T) {
	log := []*streams.ReadResp{wireEvent("device-1", 0, 100), wireEvent("$stats-x", 0, 200), wireEvent("reactor-notify", 0, 300), wireEvent("device-2", 0, 400), wireEvent("$scavenges", 0, 500)}
	server := &scripted{readAnswer: func(req *streams.ReadReq, out streams.Streams_ReadServer) error {
		if req.Options.GetReadDirection() == streams.ReadReq_Options_Backwards {
			for i := len(log) - 1; i >= 0; i-- {
				if err := out.Send(log[i]); err != nil {
					return err
				}
			}
			return nil
		}
		if err := out.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: "s"}}}); err != nil {
			return err
		}
		for _, e := range append(log[:len(log):len(log)], wireEvent("device-3", 0, 600)) {
			if err := out.Send(e); err != nil {
				return err
			}
		}
		return status.Error(codes.Unavailable, "leader change")
	}}
	s := over(t, server)
	if head, err := s.Head(t.Context()); err != nil || head != domain.At(400) {
		t.Fatalf("head is %s, %v", head, err)
	}
	var got []domain.StreamID
	for r, err := range s.ReadAll(t.Context(), domain.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Stream)
	}
	if fmt.Sprint(got) != "[device-1 device-2]" {
		t.Fatalf("read all shows %v", got)
	}
	got = nil
	var last error
	for r, err := range s.Subscribe(t.Context(), domain.Position{}) {
		if last = err; err == nil {
			got = append(got, r.Stream)
		}
	}
	if fmt.Sprint(got) != "[device-1 device-2 device-3]" || !errors.Is(last, ErrUnavailable) {
		t.Fatalf("the subscription shows %v and ends with %v", got, last)
	}
}

// TestMessagesTheClientDoesNotKnow is K8 from the wire: the client panics in its receive, we get an error.
func TestMessagesTheClientDoesNotKnow(t *testing.T) {
	s := over(t, &scripted{readAnswer: func(_ *streams.ReadReq, out streams.Streams_ReadServer) error {
		if err := out.Send(wireEvent("device-1", 0, 100)); err != nil {
			return err
		}
		return out.Send(&streams.ReadResp{Content: &streams.ReadResp_FirstStreamPosition{FirstStreamPosition: 0}})
	}})
	events, last := 0, error(nil)
	for _, err := range s.Read(t.Context(), "device-1", 0) {
		if last = err; err == nil {
			events++
		}
	}
	if events != 1 || last == nil || !strings.Contains(last.Error(), "panicked") {
		t.Fatalf("%d events, then %v", events, last)
	}
}

// TestDroppedReads: a read goes on behind what it has shown, as long as each attempt shows something, and
// gives up after a few that do not.
func TestDroppedReads(t *testing.T) {
	var from []uint64
	s := over(t, &scripted{readAnswer: func(req *streams.ReadReq, out streams.Streams_ReadServer) error {
		at := req.Options.GetStream().GetRevision()
		if from = append(from, at); at < 6 {
			for i := range uint64(2) {
				if err := out.Send(wireEvent("device-1", at+i, 100+at+i)); err != nil {
					return err
				}
			}
		}
		return status.Error(codes.Unavailable, "leader change")
	}})
	var got []domain.Revision
	var last error
	for r, err := range s.Read(t.Context(), "device-1", 0) {
		if last = err; err == nil {
			got = append(got, r.Revision)
		}
	}
	if fmt.Sprint(got) != "[0 1 2 3 4 5]" || !errors.Is(last, ErrUnavailable) {
		t.Errorf("read %v, then %v", got, last)
	}
	// The fourth asks first, and is one of the attempts that show nothing.
	if want := fmt.Sprint(append([]uint64{0, 2, 4, 6}, slices.Repeat([]uint64{6}, attempts-2)...)); fmt.Sprint(from) != want {
		t.Errorf("asked from %v, want %s", from, want)
	}
}

// TestLeaderChange is K7: a node that is no leader any more names the new one; the append goes there.
func TestLeaderChange(t *testing.T) {
	server := &scripted{}
	s := over(t, server)
	host, port, err := net.SplitHostPort(s.config.Address)
	if err != nil {
		t.Fatal(err)
	}
	server.appendAnswer = func(out streams.Streams_AppendServer) error {
		drain(out)
		if server.appends.Load() == 1 {
			out.SetTrailer(metadata.Pairs("exception", "not-leader", "leader-endpoint-host", host, "leader-endpoint-port", port))
			return status.Error(codes.NotFound, "not leader")
		}
		return out.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_Success_{Success: &streams.AppendResp_Success{
			PositionOption: &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{CommitPosition: 900, PreparePosition: 900}}}}})
	}
	before := s.current()
	if p, err := s.Append(t.Context(), "device-1", domain.NoStream, one()); err != nil || p != domain.At(900) || server.appends.Load() != 2 {
		t.Fatalf("%v, %v after %d calls", p, err, server.appends.Load())
	}
	if s.current() != before {
		t.Error("the client was replaced, though it can follow the leader")
	}
}
