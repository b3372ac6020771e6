package projections

import (
	"context"
	"time"

	"ledgerline/domain"
)

// Cloud is a cloud ID of Cloud Softphone as readers see it; the document is sealed, the edge opens it.
type Cloud struct {
	ID       domain.CloudID
	TenantID domain.TenantID
	Spelling string // as the vendor's portal writes it
	domain.CloudIDSpec
	State string // live, removed
	Head
}

var clouds = newNoun("cloudid", "clouds", 3, []string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "tenant_id TEXT", "revision INTEGER NOT NULL"},
	func(_ string, d *Doc[domain.Cloud]) []any {
		return []any{flag(d.State.Exists), flag(d.State.CloudID != ""), orNull(d.State.TenantID), int64(d.Head.Revision)}
	},
	"CREATE INDEX clouds_tenant ON clouds (tenant_id, key)")

func cloudRow(key string, d *Doc[domain.Cloud]) Cloud {
	c := Cloud{ID: domain.CloudID(key), TenantID: d.State.TenantID, Spelling: d.State.Spelled(), CloudIDSpec: d.State.CloudIDSpec, State: StateLive, Head: d.Head}
	if !d.State.Exists {
		c.State = StateRemoved
	}
	return c
}

// CloudByID finds a cloud ID, also one that was given back.
func CloudByID(ctx context.Context, q Querier, id domain.CloudID) (Cloud, bool, error) {
	return one(ctx, q, clouds, cloudRow, "key = ? AND known = 1", string(id))
}

// CloudFilter narrows a list of cloud IDs; nil Tenants means all.
type CloudFilter struct {
	Tenants []domain.TenantID
	Text    string
	Removed bool // those given back too
}

// ListClouds lists cloud IDs by id.
func ListClouds(ctx context.Context, q Querier, f CloudFilter, p Page) (Listed[Cloud], error) {
	var c clause
	c.is(present(f.Removed))
	in(&c, "tenant_id", f.Tenants)
	c.contains(f.Text, "key")
	return list(ctx, q, clouds, cloudRow, "key", c, p)
}

// Softphone is a user's Cloud Softphone as readers see it; name and document are sealed, the edge opens them.
type Softphone struct {
	domain.SoftphoneDefined
	HasPassword bool
	CodeUntil   time.Time // zero when there is no code that can be used
	Installs    []domain.SoftphoneInstall
	State       string // live, removed
	Head
}

var softphones = newNoun("softphone", "softphones", 4, []string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "tenant_id TEXT", "user_id TEXT", "cloud_id TEXT", "code_epoch TEXT", "code_until INTEGER",
	"revision INTEGER NOT NULL"},
	func(_ string, d *Doc[domain.Softphone]) []any {
		s := d.State
		epoch, until := s.OpenCode()
		return []any{flag(s.Live() == nil), flag(s.Exists), orNull(s.TenantID), orNull(s.UserID), orNull(s.CloudID), orNull(epoch), micros(until), int64(d.Head.Revision)}
	},
	"CREATE INDEX softphones_code ON softphones (code_epoch) WHERE code_epoch IS NOT NULL",
	"CREATE INDEX softphones_tenant ON softphones (tenant_id, key)",
	"CREATE INDEX softphones_user ON softphones (user_id) WHERE user_id IS NOT NULL")

func softphoneRow(_ string, d *Doc[domain.Softphone]) Softphone {
	s := d.State
	p := Softphone{SoftphoneDefined: s.SoftphoneDefined, HasPassword: !s.Password.IsZero(), Installs: s.Installs, State: StateLive, Head: d.Head}
	if s.CodeUse.InstallID == "" {
		p.CodeUntil = s.Code.ValidUntil
	}
	if s.Removed {
		p.State = StateRemoved
	}
	return p
}

// SoftphoneByID finds a softphone, also a removed one.
func SoftphoneByID(ctx context.Context, q Querier, id domain.SoftphoneID) (Softphone, bool, error) {
	return one(ctx, q, softphones, softphoneRow, "key = ? AND known = 1", string(id))
}

// SoftphoneFilter narrows a list of softphones; nil Tenants means all, empty fields are no condition.
type SoftphoneFilter struct {
	Tenants []domain.TenantID
	User    domain.UserID
	Cloud   domain.CloudID
	Text    string
	Removed bool // removed ones too
}

// ListSoftphones lists softphones by id.
func ListSoftphones(ctx context.Context, q Querier, f SoftphoneFilter, p Page) (Listed[Softphone], error) {
	var c clause
	c.is(present(f.Removed))
	in(&c, "tenant_id", f.Tenants)
	equal(&c, "user_id", f.User)
	equal(&c, "cloud_id", f.Cloud)
	c.contains(f.Text, "key")
	return list(ctx, q, softphones, softphoneRow, "key", c, p)
}
