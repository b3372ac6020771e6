package httpapi

import (
	"context"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// extension is the number to dial on a new phone.
type extension struct {
	Extension string `json:"extension"`
}

// dialling registers provisioning extensions, what comes of dialling one, and what DHCP servers tell of phones.
func (a *api) dialling() {
	change(a, op{"POST", "/dialled-codes", "dial-code", "Somebody dialled a provisioning extension, or the word for reset, on a phone", supporters, 200}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			TenantID domain.TenantID `json:"tenant_id" doc:"whose switch asks"`
			Code     string          `json:"code" doc:"the number; autoprov or reset brings the phone back to the unconfigured state"`
			Account  string          `json:"account,omitempty" doc:"the SIP user the phone called with"`
			Address  string          `json:"address,omitempty" doc:"where the call came from; counts only where it is the only phone there"`
		}
	}) (commands.Outcome, string, commands.Dialled, error) {
		b := in.Body
		if err := sees(ctx, b.TenantID); err != nil {
			return commands.Outcome{}, "", commands.Dialled{}, err
		}
		dialled, out, err := s.DialCode(ctx, commands.DialCode{TenantID: b.TenantID, Code: b.Code, Account: b.Account, Address: b.Address})
		return out, "", dialled, err
	})
	act(a, op{"POST", "/dhcp-leases", "note-lease", "A DHCP server gave a phone an address: makes a phone known that a plugin recognises by its vendor class", supporters, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			MAC   domain.MAC `json:"mac"`
			IP    string     `json:"ip"`
			Class string     `json:"vendor_class,omitempty" doc:"option 60"`
		}
	}) (commands.Outcome, error) {
		if bound(ctx) { // where phones are is the whole instance's business
			return commands.Outcome{}, errForbidden
		}
		mac, err := domain.ParseMAC(string(in.Body.MAC))
		if err != nil {
			return commands.Outcome{}, &commands.InvalidError{Field: "mac", Rule: domain.ErrBadMAC.Error()}
		}
		return commands.Outcome{}, s.NoteLease(ctx, commands.NoteLease{MAC: mac, IP: in.Body.IP, Class: in.Body.Class})
	})
	alters(a, op{"POST", "/lines/{id}/provisioning-extension", "set-provisioning-extension", "Give it a number to dial on a new phone, drawn unless one is named", operators, 200}, func(ctx context.Context, s *commands.Service, id domain.LineID, b struct {
		Extension string `json:"extension,omitempty" doc:"4 to 12 digits, of no other line of the tenant"`
	}) (commands.Outcome, extension, error) {
		number, out, err := s.SetProvisioningExtension(ctx, commands.SetProvisioningExtension{ID: id, Extension: b.Extension})
		return out, extension{number}, err
	})
	removes(a, op{"DELETE", "/lines/{id}/provisioning-extension", "remove-provisioning-extension", "Take its number to dial away", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.LineID) (commands.Outcome, error) {
		_, out, err := s.SetProvisioningExtension(ctx, commands.SetProvisioningExtension{ID: id, Remove: true})
		return out, err
	})
	read(a, op{"GET", "/lines/{id}/provisioning-extension", "get-provisioning-extension", "Show its number to dial on a new phone", supporters, 0}, func(ctx context.Context, in *struct {
		ByID
		MinPosition string `query:"min_position"`
	}) (*one[extension], error) {
		row, ok, err := projections.LineByID(ctx, a.Views, domain.LineID(in.ID))
		if err != nil || !ok || row.State != projections.StateLive || !row.HasExtension {
			return nil, orNotFound(err)
		}
		if err := sees(ctx, row.TenantID); err != nil {
			return nil, err
		}
		number, err := a.Service.Open(ctx, row.Extension.Sealed)
		return &one[extension]{etag(row.Revision), extension{number}}, err
	})
}
