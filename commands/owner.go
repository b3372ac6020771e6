package commands

import (
	"context"
	"errors"

	"ledgerline/domain"
)

// owners is who a noun belongs to, by the category of its stream.
var owners = map[string]func(context.Context, *Service, domain.StreamID) (domain.TenantID, error){
	"tenant":    owner[domain.Tenant],
	"category":  owner[domain.Category],
	"user":      owner[domain.User],
	"line":      owner[domain.Line],
	"layer":     owner[domain.Layer],
	"gateway":   owner[domain.Gateway],
	"sipuser":   owner[domain.SIPUser],
	"softphone": owner[domain.Softphone],
	"cloudid":   owner[domain.Cloud],
	"code":      owner[domain.Code],
	"token":     owner[domain.Token],
	"registry":  owner[domain.RegistryServer],
	"job": func(ctx context.Context, s *Service, stream domain.StreamID) (domain.TenantID, error) {
		tenant, _, err := s.jobTenant(ctx, domain.JobID(stream.ID()))
		if errors.Is(err, domain.ErrJobUnknown) {
			err = nil
		}
		return tenant, err
	},
	"notice":     owner[domain.Notice],
	"rollout":    owner[domain.Rollout],
	"rolloutrow": owner[domain.RolloutRow],
	"device": func(ctx context.Context, s *Service, stream domain.StreamID) (domain.TenantID, error) {
		d, _, err := s.CurrentDevice(ctx, domain.DeviceID(stream.ID()))
		return d.Owner(), err
	},
}

// Owner is the tenant a noun belongs to, decided from its stream: "" for one that never was. The edge asks
// it before a command, so that what is another tenant's is as unknown as what does not exist. A device is
// looked up by the id its creator knows, in its present life.
func (s *Service) Owner(ctx context.Context, stream domain.StreamID) (domain.TenantID, error) {
	ask, ok := owners[stream.Category()]
	if !ok {
		return "", nil
	}
	return ask(ctx, s, stream)
}

func owner[S interface {
	domain.State[S]
	Owner() domain.TenantID
}](ctx context.Context, s *Service, stream domain.StreamID) (domain.TenantID, error) {
	state, _, err := load[S](ctx, s.Log, stream)
	return state.Owner(), err
}
