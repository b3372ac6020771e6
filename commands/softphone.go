package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ledgerline/domain"
)

// cloudIDRule is the rule of a cloud ID in words.
const cloudIDRule = "must be 1 to 64 letters, digits, dots, dashes and underscores, and begin with a letter or digit"

// DocumentError: a softphone document has findings that keep it from being taken.
type DocumentError struct{ Findings []domain.SoftphoneFinding }

func (e *DocumentError) Error() string {
	for _, f := range e.Findings {
		if f.Error {
			return fmt.Sprintf("%s: %s %s", f.Code, f.At, f.Text)
		}
	}
	return "bad document"
}

// Is makes errors.Is(err, ErrInvalid) hold.
func (e *DocumentError) Is(target error) bool { return target == ErrInvalid }

// softphoneName is what is claimed of a user name below a cloud ID; names differ by more than case.
func softphoneName(cloud domain.CloudID, name string) string {
	return string(cloud) + "\x00" + strings.ToLower(strings.TrimSpace(name))
}

// userOfSoftphone checks the line, and answers the user the softphone is of: the one named, or the line's.
func (s *Service) userOfSoftphone(ctx context.Context, tenant domain.TenantID, id domain.LineID, user domain.UserID) (domain.UserID, error) {
	line, _, err := load[domain.Line](ctx, s.Log, id.Stream())
	if err != nil {
		return "", err
	}
	if err := line.Live(); err != nil {
		return "", err
	}
	if line.TenantID != tenant {
		return "", domain.ErrLineOfOtherTenant
	}
	if user == "" {
		user = line.UserID
	}
	if user == "" {
		return "", &InvalidError{"user_id", "is required for a line without a user"}
	}
	if line.UserID != "" && line.UserID != user {
		return "", &InvalidError{"line_id", "is the line of another user"}
	}
	u, _, err := load[domain.User](ctx, s.Log, user.Stream())
	if err != nil {
		return "", err
	}
	return user, u.Live(tenant)
}

// softphoneDocument opens what one level says; empty for nothing, and for what was erased.
func (s *Service) softphoneDocument(ctx context.Context, l domain.SoftphoneLayer) (domain.SoftphoneDocument, error) {
	var d domain.SoftphoneDocument
	text, err := s.Open(ctx, l.Document.Sealed)
	if err != nil || text == "" {
		return d, err
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d, errors.New("read a softphone document: it is not what was written")
	}
	return d, nil
}

// softphoneLayer checks a document and makes it ready to be sealed for subject. before is what it replaces.
func (s *Service) softphoneLayer(ctx context.Context, subject domain.Subject, d, before domain.SoftphoneDocument, known ...domain.DialAction) (domain.SoftphoneLayer, []domain.SoftphoneFinding, error) {
	d, ok := d.Unredacted(before)
	if !ok {
		return domain.SoftphoneLayer{}, nil, &InvalidError{"document", "is redacted where there is no value to keep"}
	}
	found := d.Check(known...)
	if slices.ContainsFunc(found, func(f domain.SoftphoneFinding) bool { return f.Error }) {
		return domain.SoftphoneLayer{}, found, &DocumentError{found}
	}
	if len(d.Nodes)+len(d.QuickDials)+len(d.DialActions) == 0 {
		return domain.SoftphoneLayer{}, found, nil
	}
	text, err := json.Marshal(d)
	if err != nil {
		return domain.SoftphoneLayer{}, found, err
	}
	sealed, err := s.secret(ctx, subject, string(text))
	return domain.SoftphoneLayer{Document: sealed, Entries: d.EntriesOf()}, found, err
}

// SoftphoneDocument is what a level says, opened, secrets redacted.
func (s *Service) SoftphoneDocument(ctx context.Context, l domain.SoftphoneLayer) (domain.SoftphoneDocument, error) {
	d, err := s.softphoneDocument(ctx, l)
	return d.Redacted(), err
}
