package eventstoredb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/contract"
)

// image is the server the suite runs against; docker-compose.yml pins the same.
const image = "eventstore/eventstore:24.10.0-bookworm-slim"

// TestContractOnARealServer runs the suites against the server of LEDGERLINE_TEST_ESDB, or one in a
// container. Without either it says so in one line; with LEDGERLINE_REQUIRE_ESDB=1 it fails.
func TestContractOnARealServer(t *testing.T) {
	server, why := serverFor(t)
	if server == "" {
		if os.Getenv("LEDGERLINE_REQUIRE_ESDB") == "1" {
			t.Fatal(why)
		}
		t.Log("not run against a real EventStoreDB: " + why)
		return
	}
	connect := func(t *testing.T) *Store {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s, err := Open(ctx, server, Credentials{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	t.Run("Log", func(t *testing.T) {
		contract.Log(t, func(t *testing.T) contract.LogUnderTest {
			return contract.LogUnderTest{Log: connect(t), Reopen: func(t *testing.T) commands.Log { return connect(t) }, Shared: true}
		})
	})
	t.Run("Leases", func(t *testing.T) {
		contract.Leases(t, func(t *testing.T) commands.Leases { return connect(t) })
	})
	t.Run("SharedGroups", func(t *testing.T) {
		contract.SharedGroups(t, func(t *testing.T) contract.SharedUnderTest {
			s := connect(t)
			return contract.SharedUnderTest{Log: s, Groups: s}
		})
	})
	t.Run("ReactorStore", func(t *testing.T) {
		contract.ReactorStore(t, func(t *testing.T) contract.ReactorUnderTest {
			return contract.ReactorUnderTest{Store: connect(t), Reopen: func(t *testing.T) commands.ReactorStore { return connect(t) }}
		})
	})
	atWire := func(t *testing.T) contract.WireUnderTest {
		t.Helper()
		config, err := esdb.ParseConnectionString(server)
		if err != nil {
			t.Fatal(err)
		}
		config.Logger = esdb.NoopLogging()
		c, err := esdb.NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return contract.WireUnderTest{Client: c}
	}
	t.Run("Wire", func(t *testing.T) { contract.Wire(t, atWire) })
	t.Run("Groups", func(t *testing.T) { contract.Groups(t, atWire) })
}

// serverFor is a connection string, or why there is none.
func serverFor(t *testing.T) (server, why string) {
	if s := os.Getenv("LEDGERLINE_TEST_ESDB"); s != "" {
		return s, ""
	}
	if err := dockerAnswers(t.Context()); err != nil {
		return "", "LEDGERLINE_TEST_ESDB is not set and no Docker engine answers"
	}
	c, err := testcontainers.Run(t.Context(), image,
		testcontainers.WithExposedPorts("2113/tcp"),
		testcontainers.WithEnv(map[string]string{"EVENTSTORE_INSECURE": "true", "EVENTSTORE_MEM_DB": "true", "EVENTSTORE_CLUSTER_SIZE": "1"}),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/health/live").WithPort("2113/tcp").WithStatusCodeMatcher(func(code int) bool { return code < 300 })))
	testcontainers.CleanupContainer(t, c)
	if err != nil {
		return "", "the container does not start: " + err.Error()
	}
	host, err := c.Endpoint(t.Context(), "")
	if err != nil {
		return "", err.Error()
	}
	return "esdb://" + host + "?tls=false", ""
}

// dockerAnswers asks the engine for a sign of life; the library panics where it finds none.
func dockerAnswers(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return err
	}
	defer provider.Close()
	return provider.Health(ctx)
}

// TestErrorsOfTheClient: the port's errors stand behind every code the client can give, however wrapped.
// esdb.Error cannot be made outside its package, so codes are reached through a server's answers where
// there is one; here, what arrives as a raw status.
func TestErrorsOfTheClient(t *testing.T) {
	for code, want := range map[codes.Code]error{
		codes.Unauthenticated:  ErrDenied,
		codes.PermissionDenied: ErrDenied,
		codes.Unavailable:      ErrUnavailable,
		codes.Aborted:          ErrUnavailable,
		codes.DeadlineExceeded: ErrUnavailable,
	} {
		raw := fmt.Errorf("dropped: %w", status.Error(code, "text"))
		if got := translate(raw); !errors.Is(got, want) || !strings.Contains(got.Error(), "text") {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
	odd := status.Error(codes.InvalidArgument, "odd")
	if got := translate(odd); got != odd {
		t.Errorf("an error without a meaning became %v", got)
	}
	if translate(nil) != nil {
		t.Error("no error became one")
	}
}

// TestUnsettledAppends: where an append may have been written, the caller learns that it must repeat.
func TestUnsettledAppends(t *testing.T) {
	for _, err := range []error{ErrUnavailable, errLeft, io.EOF, context.DeadlineExceeded, context.Canceled} {
		if got := unsettled(fmt.Errorf("x: %w", err)); !errors.Is(got, domain.ErrOutcomeUnknown) || !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got)
		}
	}
	for _, err := range []error{domain.ErrConflict, ErrDenied, ErrGone, errors.New("malformed")} {
		if got := unsettled(err); errors.Is(got, domain.ErrOutcomeUnknown) {
			t.Errorf("%v is settled, but became %v", err, got)
		}
	}
}

func TestExpectations(t *testing.T) {
	for r, want := range map[domain.Revision]esdb.ExpectedRevision{
		domain.NoStream: esdb.NoStream{}, domain.Any: esdb.Any{}, domain.StreamExists: esdb.StreamExists{}, 0: esdb.Revision(0), 1 << 40: esdb.Revision(1 << 40),
	} {
		if got, err := expectation(r); err != nil || got != want {
			t.Errorf("%d: %v, %v", r, got, err)
		}
	}
	if _, err := expectation(-3); err == nil {
		t.Error("-3 was taken")
	}
}

// TestTranslatedEvents: both halves of the position, the bytes and the id come over.
func TestTranslatedEvents(t *testing.T) {
	id := uuid.MustParse("018f3a1c-9b7d-7e21-a4c5-d6e7f8091a2b")
	got, ok := recorded(&esdb.ResolvedEvent{Event: &esdb.RecordedEvent{EventID: id, EventType: "device.assigned", StreamID: "device-0015651a2b3c.2", EventNumber: 7,
		Position: esdb.Position{Commit: 900, Prepare: 880}, Data: []byte(`{"a":1}`), UserMetadata: []byte(`{"actor":"cli:root"}`)}})
	want := domain.Recorded{Stream: "device-0015651a2b3c.2", Revision: 7, Position: domain.Position{Commit: 900, Prepare: 880}, ID: id, Type: "device.assigned",
		Data: []byte(`{"a":1}`), Metadata: []byte(`{"actor":"cli:root"}`)}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Fatal(ok, diff)
	}
	if _, ok := recorded(&esdb.ResolvedEvent{Link: &esdb.RecordedEvent{}}); ok {
		t.Error("a link without its target was taken for an event")
	}
	if allPosition(domain.Position{}) != (esdb.Start{}) || allPosition(want.Position) != (esdb.Position{Commit: 900, Prepare: 880}) {
		t.Error("a subscription would begin at another position")
	}
	for stream, visible := range map[domain.StreamID]bool{"device-x": true, "$stats-x": false, "$$device-x": false, "reactor-notify": false, "lease-reactor": false} {
		if shown(domain.Recorded{Stream: stream, Type: "t"}) != visible {
			t.Errorf("%s: shown is not %v", stream, visible)
		}
	}
}

// TestRefusedBeforeSending: nothing of these reaches a server; there is none.
func TestRefusedBeforeSending(t *testing.T) {
	s := lone(t, "127.0.0.1:1")
	id := uuid.New()
	for name, c := range map[string]struct {
		events []domain.NewEvent
		want   error
	}{
		"too big":      {[]domain.NewEvent{{ID: id, Type: "t", Data: make([]byte, domain.MaxAppend)}, {ID: uuid.New(), Type: "t", Data: []byte("1")}}, domain.ErrTooBig},
		"no id":        {[]domain.NewEvent{{Type: "t"}}, nil},
		"no type":      {[]domain.NewEvent{{ID: id}}, nil},
		"one id twice": {[]domain.NewEvent{{ID: id, Type: "t"}, {ID: id, Type: "t"}}, nil},
	} {
		_, err := s.Append(t.Context(), "device-1", domain.Any, c.events)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || errors.Is(err, domain.ErrOutcomeUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p, err := s.Append(t.Context(), "device-1", domain.NoStream, nil); err != nil || !p.IsZero() {
		t.Errorf("no events: %v, %v", p, err)
	}
}

// TestNoCallOutlivesItsContext is K4: against a server that takes connections and never answers, and
// against none at all, every call ends with its context, many at once too.
func TestNoCallOutlivesItsContext(t *testing.T) {
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { deaf.Close() })
	for name, address := range map[string]string{"a deaf server": deaf.Addr().String(), "no server": "127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			s := lone(t, address)
			for what, do := range map[string]func(context.Context) error{
				"append": func(ctx context.Context) error {
					_, err := s.Append(ctx, "device-1", domain.NoStream, []domain.NewEvent{{ID: uuid.New(), Type: "t"}})
					if !errors.Is(err, domain.ErrOutcomeUnknown) {
						t.Errorf("append: %v, want its outcome unknown", err)
					}
					return err
				},
				"head": func(ctx context.Context) error { _, err := s.Head(ctx); return err },
				"read": func(ctx context.Context) error {
					for _, err := range s.Read(ctx, "device-1", 0) {
						return err
					}
					return nil
				},
				"subscribe": func(ctx context.Context) error {
					for _, err := range s.Subscribe(ctx, domain.Position{}) {
						return err
					}
					return nil
				},
				"save": func(ctx context.Context) error { return s.SaveReactor(ctx, "x", commands.ReactorState{}) },
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				ended := make(chan error, 16)
				for range cap(ended) {
					go func() { ended <- do(ctx) }()
				}
				for range cap(ended) {
					select {
					case err := <-ended:
						if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnavailable) {
							t.Errorf("%s ended with %v", what, err)
						}
					case <-time.After(10 * time.Second):
						t.Fatalf("%s outlived its context", what)
					}
				}
				cancel()
			}
		})
	}
}

// TestPanicsBecomeErrors is K8.
func TestPanicsBecomeErrors(t *testing.T) {
	s := lone(t, "127.0.0.1:1")
	_, err := call(t.Context(), s, func(context.Context, *esdb.Client) (int, error) { panic("unreachable code") })
	if err == nil || !strings.Contains(err.Error(), "unreachable code") {
		t.Fatalf("call: %v", err)
	}
	for _, err := range s.pump(t.Context(), "read", func(context.Context, *esdb.Client, func(domain.Recorded) bool) error { panic("unreachable code") }) {
		if err == nil || !strings.Contains(err.Error(), "unreachable code") {
			t.Fatalf("read: %v", err)
		}
	}
}

// TestADeadClientIsReplaced: a client that has closed itself for good is replaced by the call that finds out.
func TestADeadClientIsReplaced(t *testing.T) {
	s := over(t, &scripted{readAnswer: func(_ *streams.ReadReq, out streams.Streams_ReadServer) error {
		return out.Send(wireEvent("device-1", 0, 100))
	}})
	old := s.current().client
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if head, err := s.Head(t.Context()); err != nil || head != domain.At(100) {
		t.Fatalf("head over a closed client: %s, %v", head, err)
	}
	if s.current().client == old {
		t.Fatal("the dead client is still there")
	}
}

// TestCredentialsWithoutTLS is K6, and no error shows a password.
func TestCredentialsWithoutTLS(t *testing.T) {
	const password = "gh-7Rk2-secret"
	for _, c := range []struct {
		conn string
		c    Credentials
	}{
		{"esdb://127.0.0.1:2113?tls=false", Credentials{"admin", password}},
		{"esdb://admin:" + password + "@127.0.0.1:2113?tls=false", Credentials{}},
	} {
		if _, err := Open(t.Context(), c.conn, c.c); !errors.Is(err, ErrInsecure) || strings.Contains(err.Error(), password) {
			t.Errorf("open: %v", err)
		}
	}
	for _, conn := range []string{"esdb://admin:" + password + "@:x:y", "http://admin:" + password + "@h", "esdb://admin:" + password + "@h?tls=maybe", "esdb://admin:" + password + "@h:%zz", ""} {
		if _, err := Open(t.Context(), conn, Credentials{}); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("open: %v", err)
		}
	}
}

// lone is a store that has not spoken to its server.
func lone(t *testing.T, address string) *Store {
	t.Helper()
	s, err := newStore("esdb://"+address+"?tls=false", Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
