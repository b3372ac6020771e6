package eventstoredb

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ledgerline/domain"
)

var (
	// ErrUnavailable: the server does not answer now. Reading again later is right.
	ErrUnavailable = errors.New("EventStoreDB does not answer")
	// ErrDenied: the server knows the user not, or not with this right. Do not retry.
	ErrDenied = errors.New("EventStoreDB denies access")
	// ErrGone: the stream was tombstoned; its name can never be used again.
	ErrGone = errors.New("stream was tombstoned")
	// ErrInsecure: credentials without TLS. The client would silently leave them out.
	ErrInsecure = errors.New("EventStoreDB credentials need TLS: remove tls=false or the user")
)

// errLeft marks a call whose caller left it: its outcome is unknown.
var errLeft = errors.New("left before the answer")

// translate turns an error of the client into one the port documents. What has no meaning of its own
// there stays as it is.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if meaning := meaningOf(err); meaning != nil {
		return fmt.Errorf("%w: %w", meaning, err)
	}
	return err
}

func meaningOf(err error) error {
	// errors.As, for many calls wrap; the client's own helper looks at the outermost error only.
	if e := (*esdb.Error)(nil); errors.As(err, &e) {
		switch e.Code() {
		case esdb.ErrorCodeWrongExpectedVersion:
			return domain.ErrConflict
		case esdb.ErrorCodeResourceNotFound:
			return domain.ErrNoStream
		case esdb.ErrorCodeStreamDeleted:
			return ErrGone
		case esdb.ErrorCodeUnauthenticated, esdb.ErrorCodeAccessDenied:
			return ErrDenied
		case esdb.ErrorCodeDeadlineExceeded, esdb.ErrorAborted, esdb.ErrorUnavailable, esdb.ErrorCodeNotLeader, esdb.ErrorCodeConnectionClosed:
			return ErrUnavailable
		}
	}
	// Subscription drops carry the raw status.
	switch s, ok := status.FromError(err); {
	case !ok:
		return nil
	case s.Code() == codes.Unauthenticated || s.Code() == codes.PermissionDenied:
		return ErrDenied
	case s.Code() == codes.Unavailable || s.Code() == codes.Aborted || s.Code() == codes.DeadlineExceeded:
		return ErrUnavailable
	}
	return nil
}

// unsettled adds domain.ErrOutcomeUnknown where an append may or may not have been written. The client
// reports a stream cut while sending as a bare EOF.
func unsettled(err error) error {
	switch {
	case errors.Is(err, domain.ErrConflict), errors.Is(err, ErrDenied), errors.Is(err, ErrGone), errors.Is(err, domain.ErrNoStream):
		return err
	case errors.Is(err, ErrUnavailable), errors.Is(err, errLeft), errors.Is(err, io.EOF), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", domain.ErrOutcomeUnknown, err)
	}
	return err
}

// dead tells whether the client that said err will never work again.
func dead(err error) bool {
	e := (*esdb.Error)(nil)
	return errors.As(err, &e) && e.Code() == esdb.ErrorCodeConnectionClosed
}
