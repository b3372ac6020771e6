package commands

import (
	"context"
	"errors"
	"maps"

	"ledgerline/domain"
)

// SoftphonePreview is what the apps of a softphone are told now, and why. It is a read: nothing is recorded.
type SoftphonePreview struct {
	// Document is the account, quick dials and dial actions; secrets are redacted, and tokens are not in it.
	Document domain.SoftphoneDocument
	// From names the level each thing comes from, by the paths of domain.Layered; what is in no level (the line's user name)
	// is not named.
	From     map[string]domain.StreamID
	Findings []domain.SoftphoneFinding // of the whole, all levels laid over each other
	// Dialled is what becomes of the number asked for; zero without one.
	Dialled domain.Dialled
	// Emergency tells that it is an emergency number of the tenant's country.
	Emergency bool
}

// PreviewSoftphone lays the levels of a softphone over each other, and dials a number if one is given. Errors:
// domain.ErrSoftphoneUnknown, domain.ErrSoftphoneRemoved.
func (s *Service) PreviewSoftphone(ctx context.Context, id domain.SoftphoneID, in domain.Dialling) (v SoftphonePreview, err error) {
	p, _, err := load[domain.Softphone](ctx, s.Log, id.Stream())
	if err != nil {
		return v, err
	}
	if err := p.Live(); err != nil {
		return v, err
	}
	b, err := s.belowSoftphone(ctx, p.CloudID, p.CategoryID)
	if err != nil {
		return v, err
	}
	own, err := s.softphoneDocument(ctx, p.SoftphoneLayer)
	if err != nil {
		return v, err
	}
	v.Document, v.From = domain.Layered(append(b.levels, domain.SoftphoneLevel{Name: id.Stream(), SoftphoneDocument: own})...)
	if in.Number != "" {
		v.Dialled = v.Document.Dial(in, v.From)
		for _, n := range b.cloud.Policy.Emergency() {
			v.Emergency = v.Emergency || n == in.Number
		}
		return v, nil
	}
	levels := v.Document.Nodes
	nodes, _, err := s.accountNodes(ctx, p, b.document(), own)
	if err != nil && !errors.Is(err, ErrNoAccount) {
		return v, err
	}
	if v.Document.Nodes = nodes; nodes == nil {
		v.Document.Nodes = levels
	}
	whole := v.Document
	whole.Nodes = maps.Clone(whole.Nodes)
	delete(whole.Nodes, "cloud_username") // the server's own nodes are not for a document
	delete(whole.Nodes, "extProvLogoutStatusCode")
	v.Findings = whole.CheckWhole(b.cloud.Policy)
	for name, value := range levels {
		if v.Document.Nodes[name] != value {
			delete(v.From, "account/"+name) // the line's, or the user's
		}
	}
	v.Document = v.Document.Redacted()
	return v, nil
}
