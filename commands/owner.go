package commands

import (
	"context"

	"ledgerline/domain"
)

// Owner is the tenant a noun belongs to, decided from its stream: "" for one that never was. The edge asks
// it before a command, so that what is another tenant's is as unknown as what does not exist. A device is
// looked up by the id its creator knows, in its present life.
func (s *Service) Owner(ctx context.Context, stream domain.StreamID) (domain.TenantID, error) {
	switch stream.Category() {
	case "device":
		d, _, err := s.CurrentDevice(ctx, domain.DeviceID(stream.ID()))
		return d.Owner(), err
	case "tenant":
		return owner[domain.Tenant](ctx, s, stream)
	case "category":
		return owner[domain.Category](ctx, s, stream)
	case "user":
		return owner[domain.User](ctx, s, stream)
	case "line":
		return owner[domain.Line](ctx, s, stream)
	case "layer":
		return owner[domain.Layer](ctx, s, stream)
	case "gateway":
		return owner[domain.Gateway](ctx, s, stream)
	case "sipuser":
		return owner[domain.SIPUser](ctx, s, stream)
	case "softphone":
		return owner[domain.Softphone](ctx, s, stream)
	case "cloudid":
		return owner[domain.Cloud](ctx, s, stream)
	case "code":
		return owner[domain.Code](ctx, s, stream)
	}
	return "", nil
}

func owner[S interface {
	domain.State[S]
	Owner() domain.TenantID
}](ctx context.Context, s *Service, stream domain.StreamID) (domain.TenantID, error) {
	state, _, err := load[S](ctx, s.Log, stream)
	return state.Owner(), err
}
