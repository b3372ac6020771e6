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
		if f.Error && f.Line > 0 {
			return fmt.Sprintf("%s: line %d, column %d: %s %s", f.Code, f.Line, f.Column, f.At, f.Text)
		}
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

// softphoneBelow is what lies below a softphone: the levels of its cloud ID and category, the lowest first.
type softphoneBelow struct {
	cloud    domain.Cloud
	category domain.Category
	levels   []domain.SoftphoneLevel
	inputs   []domain.Input
}

// document is the levels as one.
func (b softphoneBelow) document() domain.SoftphoneDocument {
	d, _ := domain.Layered(b.levels...)
	return d
}

// context is what a document above is checked against.
func (b softphoneBelow) context() domain.SoftphoneContext {
	return domain.SoftphoneContext{Below: b.document(), Policy: b.cloud.Policy}
}

// belowSoftphone reads what lies below softphones of a cloud ID and category; the category may be empty, and one that is
// not the tenant's says nothing.
func (s *Service) belowSoftphone(ctx context.Context, id domain.CloudID, category domain.CategoryID) (softphoneBelow, error) {
	cloud, h, err := load[domain.Cloud](ctx, s.Log, id.Stream())
	if err != nil {
		return softphoneBelow{}, err
	}
	cloud.CloudID = id // also of one that was given back
	return s.belowCloud(ctx, cloud, h, category)
}

// belowCloud is belowSoftphone for a cloud ID that has been loaded, with its history.
func (s *Service) belowCloud(ctx context.Context, cloud domain.Cloud, h history, category domain.CategoryID) (softphoneBelow, error) {
	b := softphoneBelow{cloud: cloud}
	add := func(h history, stream domain.StreamID, layer domain.SoftphoneLayer) error {
		d, err := s.softphoneDocument(ctx, layer)
		b.levels = append(b.levels, domain.SoftphoneLevel{Name: stream, SoftphoneDocument: d})
		b.inputs = append(b.inputs, domain.Input{Stream: stream, Revision: h.revision})
		return err
	}
	if err := add(h, cloud.CloudID.Stream(), cloud.SoftphoneLayer); err != nil || category == "" {
		return b, err
	}
	c, h, err := load[domain.Category](ctx, s.Log, category.Stream())
	if err != nil {
		return b, err
	}
	if c.TenantID == cloud.TenantID {
		b.category = c
	}
	return b, add(h, category.Stream(), b.category.Softphone)
}

// usableSoftphoneCategory is nil for no category, and for one whose softphone document a softphone of tenant may get.
func (s *Service) usableSoftphoneCategory(ctx context.Context, tenant domain.TenantID, id domain.CategoryID) error {
	if id == "" {
		return nil
	}
	c, _, err := load[domain.Category](ctx, s.Log, id.Stream())
	if err != nil {
		return err
	}
	return c.Takes(tenant, "", "")
}

// softphoneLayer checks a document and makes it ready to be sealed for subject. before is what it replaces.
func (s *Service) softphoneLayer(ctx context.Context, subject domain.Subject, d, before domain.SoftphoneDocument, in domain.SoftphoneContext) (domain.SoftphoneLayer, []domain.SoftphoneFinding, error) {
	d, ok := d.Unredacted(before)
	if !ok {
		return domain.SoftphoneLayer{}, nil, &InvalidError{"document", "is redacted where there is no value to keep"}
	}
	found := d.Check(in)
	if slices.ContainsFunc(found, func(f domain.SoftphoneFinding) bool { return f.Error }) {
		return domain.SoftphoneLayer{}, found, &DocumentError{found}
	}
	if d.IsZero() {
		return domain.SoftphoneLayer{}, found, nil
	}
	text, err := json.Marshal(d)
	if err != nil {
		return domain.SoftphoneLayer{}, found, err
	}
	sealed, err := s.secret(ctx, subject, string(text))
	return domain.SoftphoneLayer{Document: sealed, Entries: d.EntriesOf()}, found, err
}

// SoftphoneLevel is what the level of a stream (a cloud ID, a category, a softphone) itself says, opened, secrets redacted,
// and the stream's revision. What does not exist says nothing.
func (s *Service) SoftphoneLevel(ctx context.Context, stream domain.StreamID) (domain.SoftphoneDocument, domain.Revision, error) {
	var layer domain.SoftphoneLayer
	var h history
	var err error
	switch id := stream.ID(); stream {
	case domain.CloudID(id).Stream():
		var c domain.Cloud
		c, h, err = load[domain.Cloud](ctx, s.Log, stream)
		layer = c.SoftphoneLayer
	case domain.CategoryID(id).Stream():
		var c domain.Category
		c, h, err = load[domain.Category](ctx, s.Log, stream)
		layer = c.Softphone
	default:
		var p domain.Softphone
		p, h, err = load[domain.Softphone](ctx, s.Log, stream)
		layer = p.SoftphoneLayer
	}
	if err != nil {
		return domain.SoftphoneDocument{}, 0, err
	}
	d, err := s.SoftphoneDocument(ctx, layer)
	return d, h.revision, err
}

// SoftphoneDocument is what a level says, opened, secrets redacted.
func (s *Service) SoftphoneDocument(ctx context.Context, l domain.SoftphoneLayer) (domain.SoftphoneDocument, error) {
	d, err := s.softphoneDocument(ctx, l)
	return d.Redacted(), err
}
