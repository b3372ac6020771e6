package commands

import (
	"context"
	"errors"
	"fmt"

	"ledgerline/domain"
)

// SetProvisioningExtension gives a line the number to dial on a new phone: a standing one, unlike a code. Empty
// Extension draws one, of as many digits as the tenant's settings say; Remove takes it away.
type SetProvisioningExtension struct {
	ID        domain.LineID `json:"id" validate:"required,id"`
	Extension string        `json:"extension" validate:"omitempty,numeric,min=4,max=12"`
	Remove    bool          `json:"remove"`
}

// drawnExtensions bounds how often a number that is taken is drawn again.
const drawnExtensions = 100

// SetProvisioningExtension answers the number. Drawing for a line that has one keeps it. Errors: ErrInvalid,
// domain.ErrLineUnknown, domain.ErrLineRemoved, domain.ErrExtensionTaken (also when a hundred drawn numbers were
// all taken: the tenant needs longer ones).
func (s *Service) SetProvisioningExtension(ctx context.Context, in SetProvisioningExtension) (extension string, out Outcome, err error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	l, h, err := load[domain.Line](ctx, s.Log, in.ID.Stream())
	if err == nil {
		err = l.Live()
	}
	if err != nil {
		return "", Outcome{}, err
	}
	var secret domain.Secret
	var hash string
	switch {
	case in.Remove:
	case in.Extension == "" && l.ExtensionHash != "":
		extension, err = s.Vault.Open(ctx, l.Extension.Sealed)
		return extension, Outcome{Stream: in.ID.Stream(), Revision: h.revision, Position: h.position}, err
	default:
		if extension, hash, err = s.takeExtension(ctx, l, in.Extension); err != nil {
			return "", Outcome{}, err
		}
		if secret, err = s.secret(ctx, in.ID.Subject(), extension); err != nil {
			return "", Outcome{}, err
		}
	}
	var before string
	out, err = decide(ctx, s, in.ID.Stream(), func(l domain.Line) ([]domain.Event, error) {
		before = l.ExtensionHash
		return l.SetExtension(secret, hash)
	})
	if err == nil && before != "" && before != hash {
		err = s.release(ctx, claimExtension, before, in.ID.Stream())
	}
	return extension, out, err
}

// takeExtension claims the number wanted for a line, or a drawn one.
func (s *Service) takeExtension(ctx context.Context, l domain.Line, wanted string) (extension, hash string, err error) {
	digits := 6
	if wanted == "" {
		stack, err := s.Settings(ctx, domain.Device{TenantID: l.TenantID})
		if err != nil {
			return "", "", err
		}
		if n, ok := stack.Merged()["provisioning_extension_digits"].(int); ok {
			digits = n
		}
	}
	for range drawnExtensions {
		extension = wanted
		if wanted == "" {
			if extension, err = drawDigits(s.random(), digits); err != nil {
				return "", "", err
			}
		}
		err = s.take(ctx, claimExtension, extensionValue(l.TenantID, extension), l.ID.Stream(), domain.ErrExtensionTaken)
		if wanted != "" || !errors.Is(err, domain.ErrExtensionTaken) {
			break
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("take an extension for line %s: %w", l.ID, err)
	}
	hash, err = s.lookup(ctx, claimExtension, extensionValue(l.TenantID, extension))
	return extension, hash, err
}

func extensionValue(tenant domain.TenantID, digits string) string {
	return string(tenant) + "/" + digits
}

// ReleaseExtension takes a removed line off its number's claim.
func (s *Service) ReleaseExtension(ctx context.Context, id domain.LineID) error {
	l, _, err := load[domain.Line](ctx, s.Log, id.Stream())
	if err != nil || !l.Removed || l.ExtensionHash == "" {
		return err
	}
	return s.release(ctx, claimExtension, l.ExtensionHash, id.Stream())
}
