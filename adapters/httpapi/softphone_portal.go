package httpapi

import (
	"context"

	"ledgerline/domain"
	"ledgerline/projections"
)

// definitions are what belongs into the vendor's portal, and what is to be said of it.
type definitions struct {
	CloudID     string                    `json:"cloud_id" doc:"as the portal spells it"`
	PublicURL   string                    `json:"public_url" doc:"how apps reach this server"`
	Definitions []domain.PortalValue      `json:"definitions" doc:"in the portal's order"`
	Warnings    []domain.SoftphoneFinding `json:"warnings"`
}

// portal registers what belongs into the vendor's portal for a cloud ID.
func (a *api) portal() {
	read(a, op{"GET", "/cloudids/{id}/definitions", "get-portal-definitions", "The web service definitions to paste into the vendor's portal", readers, 0}, func(ctx context.Context, in *ByID) (*one[definitions], error) {
		cloud, known, err := projections.CloudByID(ctx, a.Views, domain.CloudID(in.ID))
		if err == nil && (!known || cloud.State != projections.StateLive || sees(ctx, cloud.TenantID) != nil) {
			err = errNotFound
		}
		if err != nil {
			return nil, err
		}
		d := domain.PortalDefinitions(a.Service.PublicURL, cloud.Spelling)
		return &one[definitions]{Body: definitions{cloud.Spelling, a.Service.PublicURL, d, warnings("", domain.CheckDefinitions(d, a.Service.PublicURL, cloud.Spelling)).Warnings}}, nil
	})
}
