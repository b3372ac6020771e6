// Package esdbserver shows a log as an EventStoreDB server: the gRPC services Streams,
// PersistentSubscriptions, ServerFeatures and Gossip, as version 24.10 speaks them to official clients
// (read: client v4.2.0 for Go). Auditors read the embedded ledger with the tools they have; tests hold
// adapters/eventstoredb to its contract without a cluster; replicas on one machine share a ledger through
// it. It is never the engine's own path to its log: a call costs some 60 µs.
//
// What holds:
//
//   - Read-only unless Options.Write. With users, every call but ServerFeatures and Gossip (the official
//     client sends no credentials there) needs one of them, over TLS.
//   - A protected stream is never deleted, truncated or tombstoned (D11): such calls, and metadata with
//     $tb, $maxCount or $maxAge, are refused, and should such metadata be there all the same, reads of
//     the stream ignore it.
//   - Every event is sent with a creation time, in 100 ns ticks as decimal text: without it the client
//     ends its process. The log keeps none, so it is the event's own: recorded_at of its metadata, else
//     the time in its UUIDv7, else when this server wrote it; 1970 if none is known (and then the event
//     does not grow old by $maxAge). The content type is what the data is: JSON, or not.
//   - Only messages the client knows are sent. It panics on others.
//   - Groups (persistent subscriptions) live in the log, so they survive what the log survives: settings in
//     $persistentSubscriptionConfig, checkpoints and parked messages in $persistentsubscription-… streams,
//     which nobody else may write. Delivery is at least once; nothing is passed over: a checkpoint never
//     passes a message that is neither answered nor durably parked, and a replayed message stays parked
//     until it is answered.
//
// Where it differs from a cluster: $all shows "$" streams only over a log that shows them (ledger.Whole);
// there is no scavenge: what truncation hides stays in the log; a tombstone has the next revision, not the
// highest; $acl is kept but nobody is held to it; an append is at most domain.MaxAppend bytes; "stream
// exists" and "any" remember ids for ever, as the log does. Groups: one over the whole log never shows
// the streams groups keep themselves; "from the end" means the end when the group was created, also after a
// restart; two events with one id wait for each other instead of the second being lost; a nack "stop" skips.
//
// Not here: projections, operations, monitoring, management of users. They answer UNIMPLEMENTED.
package esdbserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Version is the server version clients are told: they choose features by it.
const Version = "24.10.0"

// ErrInsecure: users without TLS. Their passwords would travel in clear text.
var ErrInsecure = errors.New("users of the EventStoreDB face need TLS")

// User may come in. Hash is the bcrypt hash of the password (HashPassword).
type User struct {
	Name string
	Hash string
}

// Options say what is shown to whom.
type Options struct {
	// Log is the log behind the face. It must count with one number (domain.At), as the ledger does; if it
	// is one that can show its system streams too (ledger.Whole), so does $all.
	Log commands.Log
	// Write lets clients append; without it they only read.
	Write bool
	// Users may come in; none means that everybody may.
	Users []User
	// TLS holds the certificate; nil means clear text, which is for loopback.
	TLS *tls.Config
	// Protected tells which streams no client may delete, truncate or tombstone (D11). Nil protects this
	// program's history (domain.StreamID.History).
	Protected func(domain.StreamID) bool
	// Advertise is the "host:port" that Gossip names; empty means the address the client came to.
	Advertise string
	// Clock judges $maxAge; time.Now if nil.
	Clock func() time.Time
}

const (
	maxMessage = 17 << 20 // as the client takes them
	pingEvery  = 5 * time.Second
	grace      = 2 * time.Second // for calls under way when the server closes
	maxStreams = 2048            // calls and subscriptions of one connection
	stripes    = 64
	maxHints   = 1 << 16
)

// Server is the face. Safe for concurrent use.
type Server struct {
	grpc    *grpc.Server
	service *service
	end     context.CancelFunc
	done    chan struct{} // closed when the follower has ended
}

// service answers the calls.
type service struct {
	streams.UnimplementedStreamsServer
	gossip.UnimplementedGossipServer
	serverfeatures.UnimplementedServerFeaturesServer

	o      Options
	users  *users // nil: everybody may come in
	id     uuid.UUID
	base   context.Context // ends when the server closes
	news   news
	groups groups
	locks  [stripes]sync.Mutex // of streams that can be deleted
	seed   maphash.Seed

	mu    sync.Mutex
	ends  map[domain.StreamID]domain.Revision // revisions that exist, near the end of their stream
	times map[place]time.Time                 // when events without a time of their own were written
}

// New makes a server over o.Log. The context is only for looking at the log. Errors: ErrInsecure, the log's.
func New(ctx context.Context, o Options) (*Server, error) {
	if len(o.Users) > 0 && o.TLS == nil {
		return nil, ErrInsecure
	}
	if o.Protected == nil {
		o.Protected = domain.StreamID.History
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	head, err := o.Log.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the log: %w", err)
	}
	users, err := newUsers(o.Users)
	if err != nil {
		return nil, err
	}
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	s := &service{o: o, users: users, id: uuid.New(), base: base, seed: maphash.MakeSeed(), ends: map[domain.StreamID]domain.Revision{}, times: map[place]time.Time{}}
	s.news.dead = make(chan struct{})
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		// The client pings every 10 s, also when idle; gRPC's stock policy cuts it off for that.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
			defer s.survive(info.FullMethod, &err)
			if err := s.admit(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
			defer s.survive(info.FullMethod, &err)
			if err := s.admit(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return next(srv, stream)
		}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(stream)
			return status.Errorf(codes.Unimplemented, "%s is not offered: this server has streams and subscriptions only", strings.TrimPrefix(method, "/"))
		}),
	}
	if o.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(o.TLS)))
	}
	server := &Server{grpc: grpc.NewServer(options...), service: s, end: end, done: make(chan struct{})}
	streams.RegisterStreamsServer(server.grpc, s)
	persistent.RegisterPersistentSubscriptionsServer(server.grpc, groupsService{s: s})
	gossip.RegisterGossipServer(server.grpc, gossipService{s: s})
	serverfeatures.RegisterServerFeaturesServer(server.grpc, s)
	go func() {
		defer close(server.done)
		s.follow(head)
	}()
	if err := s.loadGroups(ctx); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	return server, nil
}

// Serve answers on l until Close, which makes it return nil. It closes l.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve EventStoreDB clients: %w", err)
	}
	return nil
}

// Close ends subscriptions, gives other calls a moment to finish, and closes every connection. The log
// stays open. Closing again is no error.
func (s *Server) Close() error {
	s.end()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.grpc.GracefulStop()
	}()
	select {
	case <-finished:
	case <-time.After(grace):
		s.grpc.Stop()
		<-finished
	}
	<-s.done
	s.service.groups.mu.Lock()
	defer s.service.groups.mu.Unlock()
	s.service.stopGroups() // each writes its last checkpoint
	return nil
}

// survive makes an error of a panic: a client must not be able to end the engine beside.
func (s *service) survive(method string, err *error) {
	if p := recover(); p != nil {
		zerolog.Ctx(s.base).Error().Str("method", method).Any("panic", p).Bytes("stack", debug.Stack()).Msg("call ended by a panic")
		*err = status.Error(codes.Internal, "internal error")
	}
}

// groupFeatures are what the methods of persistent subscriptions can do, in the words clients look for.
var groupFeatures = map[string][]string{
	"create": {"stream", "all"}, "update": {"stream", "all"}, "delete": {"stream", "all"}, "read": {"stream", "all"},
	"getinfo": {"stream", "all"}, "replayparked": {"stream", "all"},
}

// GetSupportedMethods tells what is here, in the lower case clients look for.
func (s *service) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	m := &serverfeatures.SupportedMethods{EventStoreServerVersion: Version}
	for service, methods := range map[string][]string{
		streams.Streams_ServiceDesc.ServiceName:                    {"read", "append", "delete", "tombstone", "batchappend"},
		persistent.PersistentSubscriptions_ServiceDesc.ServiceName: {"create", "update", "delete", "read", "getinfo", "list", "replayparked", "restartsubsystem"},
		gossip.Gossip_ServiceDesc.ServiceName:                      {"read"},
		serverfeatures.ServerFeatures_ServiceDesc.ServiceName:      {"getsupportedmethods"},
	} {
		for _, name := range methods {
			method := &serverfeatures.SupportedMethod{MethodName: name, ServiceName: strings.ToLower(service)}
			if service == streams.Streams_ServiceDesc.ServiceName && name == "batchappend" {
				method.Features = []string{"deadline_duration"}
			}
			if service == persistent.PersistentSubscriptions_ServiceDesc.ServiceName {
				method.Features = groupFeatures[name]
			}
			m.Methods = append(m.Methods, method)
		}
	}
	return m, nil
}

// gossipService is apart, for its method is named as one of Streams is.
type gossipService struct {
	gossip.UnimplementedGossipServer
	s *service
}

// Read names the one member there is: the leader.
func (g gossipService) Read(ctx context.Context, _ *shared.Empty) (*gossip.ClusterInfo, error) {
	address := g.s.o.Advertise
	if p, ok := peer.FromContext(ctx); ok && address == "" && p.LocalAddr != nil {
		address = p.LocalAddr.String()
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "this server's address is not known")
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "this server's port is not known")
	}
	return &gossip.ClusterInfo{Members: []*gossip.MemberInfo{{
		InstanceId:   wireID(g.s.id, false),
		TimeStamp:    ticks(g.s.o.Clock()),
		State:        gossip.MemberInfo_Leader,
		IsAlive:      true,
		HttpEndPoint: &gossip.EndPoint{Address: host, Port: uint32(number)},
	}}}, nil
}

// follow wakes who waits for a stream, until the server closes or the log ends.
func (s *service) follow(head domain.Position) {
	for r, err := range s.o.Log.Subscribe(s.base, head) {
		if err != nil {
			close(s.news.dead)
			return
		}
		s.news.wake(r.Stream)
	}
}

// news wakes those who wait for events of one stream.
type news struct {
	dead    chan struct{} // closed when no news come any more
	mu      sync.Mutex
	waiting map[domain.StreamID]map[chan struct{}]bool
}

// join returns a channel that says "look again" after every event of stream.
func (n *news) join(stream domain.StreamID) (look <-chan struct{}, leave func()) {
	ch := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting == nil {
		n.waiting = map[domain.StreamID]map[chan struct{}]bool{}
	}
	if n.waiting[stream] == nil {
		n.waiting[stream] = map[chan struct{}]bool{}
	}
	n.waiting[stream][ch] = true
	return ch, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if delete(n.waiting[stream], ch); len(n.waiting[stream]) == 0 {
			delete(n.waiting, stream)
		}
	}
}

func (n *news) wake(stream domain.StreamID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ch := range n.waiting[stream] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
