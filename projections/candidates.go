package projections

import (
	"context"
	"fmt"
	"time"

	"ledgerline/domain"
)

// Candidates answers commands.Candidates from the views (D14): every method first waits until the views
// have come to position at, as long as ctx allows. Safe for concurrent use.
type Candidates struct {
	Views Querier
	Wait  interface {
		WaitFor(ctx context.Context, at domain.Position) error
	}
}

// texts waits and collects the first column.
func texts[T ~string](ctx context.Context, c Candidates, at domain.Position, sql string, args ...any) (found []T, err error) {
	err = c.query(ctx, at, sql, args, func(r Row) error {
		found = append(found, T(r.Text(0)))
		return nil
	})
	return found, err
}

func (c Candidates) query(ctx context.Context, at domain.Position, sql string, args []any, row func(Row) error) error {
	if err := c.Wait.WaitFor(ctx, at); err != nil {
		return err
	}
	return c.Views.Query(ctx, sql, args, row)
}

// LinesOfUser lists the user's lines in creation order, removed ones too, each with the live devices that carry it.
func (c Candidates) LinesOfUser(ctx context.Context, at domain.Position, user domain.UserID) (found []domain.LineCandidate, err error) {
	const sql = `SELECT l.key, d.owner FROM lines l LEFT JOIN device_lines d ON d.line_id = l.key
		WHERE l.user_id = ? ORDER BY l.created_commit, l.created_prepare, l.key, d.owner`
	err = c.query(ctx, at, sql, []any{string(user)}, func(r Row) error {
		line := domain.LineID(r.Text(0))
		if n := len(found); n == 0 || found[n-1].Line != line {
			found = append(found, domain.LineCandidate{Line: line})
		}
		if device := domain.DeviceID(r.Text(1)); device != "" {
			last := &found[len(found)-1]
			last.Devices = append(last.Devices, device)
		}
		return nil
	})
	return found, err
}

// LinesByUsername lists the tenant's live lines with that SIP user name, by id.
func (c Candidates) LinesByUsername(ctx context.Context, at domain.Position, tenant domain.TenantID, username string) ([]domain.LineID, error) {
	return texts[domain.LineID](ctx, c, at, "SELECT key FROM lines WHERE username = ? AND tenant_id = ? AND live = 1 ORDER BY key", username, string(tenant))
}

// DevicesOfLine lists the live devices that carry the line, by id.
func (c Candidates) DevicesOfLine(ctx context.Context, at domain.Position, line domain.LineID) ([]domain.DeviceID, error) {
	return texts[domain.DeviceID](ctx, c, at, "SELECT DISTINCT owner FROM device_lines WHERE line_id = ? ORDER BY owner", string(line))
}

// DevicesEverOfLine lists the lives of devices, ended ones too, that carry the line or once did.
func (c Candidates) DevicesEverOfLine(ctx context.Context, at domain.Position, line domain.LineID) ([]domain.DeviceID, error) {
	return texts[domain.DeviceID](ctx, c, at, `SELECT DISTINCT substr(h.stream, length('device-') + 1) FROM history_links l JOIN history h ON h.seq = l.seq
		WHERE l.subject = ? AND h.type = 'device.line_associated' ORDER BY 1`, string(line.Stream()))
}

// DevicesAwaiting lists the devices assigned to the user that wait for a line, by id.
func (c Candidates) DevicesAwaiting(ctx context.Context, at domain.Position, user domain.UserID) ([]domain.DeviceID, error) {
	return texts[domain.DeviceID](ctx, c, at, "SELECT key FROM devices WHERE user_id = ? AND state = ? ORDER BY key", string(user), domain.StateAwaitingLine)
}

// StaleDevices lists up to limit live devices, by id and after after, whose current files were made from an
// older revision of stream than rev.
func (c Candidates) StaleDevices(ctx context.Context, at domain.Position, stream domain.StreamID, rev domain.Revision, after domain.DeviceID, limit int) ([]domain.DeviceID, error) {
	return texts[domain.DeviceID](ctx, c, at, "SELECT owner FROM config_inputs WHERE stream = ? AND owner > ? AND revision < ? ORDER BY owner LIMIT ?",
		string(stream), string(after), int64(rev), limit)
}

// TenantsWaiting lists the tenants with live devices of which a paced sync waits.
func (c Candidates) TenantsWaiting(ctx context.Context, at domain.Position) ([]domain.TenantID, error) {
	return texts[domain.TenantID](ctx, c, at, "SELECT DISTINCT sync_waits FROM devices WHERE sync_waits IS NOT NULL ORDER BY 1")
}

// WaitingSyncs lists up to limit live devices of the tenant of which a paced sync waits, by id and after after.
func (c Candidates) WaitingSyncs(ctx context.Context, at domain.Position, tenant domain.TenantID, after domain.DeviceID, limit int) (found []domain.WaitingSync, err error) {
	const sql = "SELECT key, category_id FROM devices WHERE sync_waits = ? AND key > ? ORDER BY key LIMIT ?"
	err = c.query(ctx, at, sql, []any{string(tenant), string(after), limit}, func(r Row) error {
		found = append(found, domain.WaitingSync{Device: domain.DeviceID(r.Text(0)), Category: domain.CategoryID(r.Text(1))})
		return nil
	})
	return found, err
}

// UsersOf lists up to limit users of the tenant that were not removed, by id and after after.
func (c Candidates) UsersOf(ctx context.Context, at domain.Position, tenant domain.TenantID, after domain.UserID, limit int) ([]domain.UserID, error) {
	return texts[domain.UserID](ctx, c, at, "SELECT key FROM users WHERE tenant_id = ? AND live = 1 AND key > ? ORDER BY key LIMIT ?", string(tenant), string(after), limit)
}

// DueNotices lists up to limit codes whose notices were stored at or before a time and wait still, the oldest first.
func (c Candidates) DueNotices(ctx context.Context, at domain.Position, before time.Time, limit int) ([]domain.CodeID, error) {
	return texts[domain.CodeID](ctx, c, at, "SELECT key FROM notices WHERE state = 'pending' AND stored_at <= ? ORDER BY stored_at, key LIMIT ?", before.UnixMicro(), limit)
}

// DevicesUnderLayer lists the live devices that name the layer as a parent of their own, by id.
func (c Candidates) DevicesUnderLayer(ctx context.Context, at domain.Position, layer domain.LayerID) ([]domain.DeviceID, error) {
	return texts[domain.DeviceID](ctx, c, at, "SELECT owner FROM device_parents WHERE layer_id = ? ORDER BY owner", string(layer))
}

// LayersOfRole lists the layers that exist and have the role, by id.
func (c Candidates) LayersOfRole(ctx context.Context, at domain.Position, role string) ([]domain.LayerID, error) {
	return texts[domain.LayerID](ctx, c, at, "SELECT key FROM layers WHERE role = ? AND live = 1 ORDER BY key", role)
}

// DueCodes lists up to limit live codes whose validity ends at or before now, the oldest first.
func (c Candidates) DueCodes(ctx context.Context, at domain.Position, now time.Time, limit int) (due []domain.CodeRef, err error) {
	const sql = "SELECT code_id, key FROM codes WHERE state = 'live' AND deadline <= ? ORDER BY deadline, key LIMIT ?"
	err = c.query(ctx, at, sql, []any{now.UnixMicro(), limit}, func(r Row) error {
		due = append(due, domain.CodeRef{ID: domain.CodeID(r.Text(0)), Stream: domain.CodeStream(r.Text(1))})
		return nil
	})
	return due, err
}

// CodesAlive counts the codes that are not dead yet and not a rollout's: the tenant's, and those of the user (none for "").
func (c Candidates) CodesAlive(ctx context.Context, at domain.Position, tenant domain.TenantID, user domain.UserID) (ofTenant, ofUser int, err error) {
	const sql = "SELECT count(*), count(CASE WHEN user_id = ?2 THEN 1 END) FROM codes WHERE tenant_id = ?1 AND state = 'live' AND purpose <> 'rollout'"
	err = c.query(ctx, at, sql, []any{string(tenant), string(user)}, func(r Row) error {
		ofTenant, ofUser = int(r.Int(0)), int(r.Int(1))
		return nil
	})
	return ofTenant, ofUser, err
}

// CodesDrawn counts the codes drawn for a Devices server elsewhere that are not dead yet, and that no phone was led by.
func (c Candidates) CodesDrawn(ctx context.Context, at domain.Position, server domain.ServerID) (n int, err error) {
	err = c.query(ctx, at, "SELECT count(*) FROM codes WHERE drawn_for = ? AND state = 'live'", []any{string(server)}, func(r Row) error {
		n = int(r.Int(0))
		return nil
	})
	return n, err
}

// LiveCodes counts what the key of epoch is needed for: codes that are not dead yet (issued, not expired, revoked or
// redeemed); of softphones, not used and good after now; and codes whose notice still waits.
func (c Candidates) LiveCodes(ctx context.Context, at domain.Position, epoch domain.Subject, now time.Time) (n int, err error) {
	const sql = "SELECT (SELECT count(*) FROM codes WHERE epoch = ?1 AND state = 'live') + (SELECT count(*) FROM softphones WHERE code_epoch = ?1 AND code_until > ?2)" +
		" + (SELECT count(*) FROM notices WHERE epoch = ?1 AND state = 'pending')"
	err = c.query(ctx, at, sql, []any{string(epoch), now.UnixMicro()}, func(r Row) error {
		n = int(r.Int(0))
		return nil
	})
	return n, err
}

// CodeByID finds the stream of a code; ok is false when there is none.
func (c Candidates) CodeByID(ctx context.Context, at domain.Position, id domain.CodeID) (ref domain.CodeRef, ok bool, err error) {
	err = c.query(ctx, at, "SELECT code_id, key FROM codes WHERE code_id = ?", []any{string(id)}, func(r Row) error {
		ref, ok = domain.CodeRef{ID: domain.CodeID(r.Text(0)), Stream: domain.CodeStream(r.Text(1))}, true
		return nil
	})
	return ref, ok, err
}

// TenantOfJob finds whose job it is; ok is false when there is no such job.
func (c Candidates) TenantOfJob(ctx context.Context, at domain.Position, id domain.JobID) (tenant domain.TenantID, ok bool, err error) {
	err = c.query(ctx, at, "SELECT tenant_id FROM jobs WHERE key = ?", []any{string(id)}, func(r Row) error {
		tenant, ok = domain.TenantID(r.Text(0)), true
		return nil
	})
	return tenant, ok, err
}

// DevicesOfJob lists up to limit live devices of whose own jobs it is one that failed, by id and after after.
func (c Candidates) DevicesOfJob(ctx context.Context, at domain.Position, id domain.JobID, after domain.DeviceID, limit int) ([]domain.DeviceID, error) {
	return texts[domain.DeviceID](ctx, c, at, "SELECT owner FROM device_jobs WHERE job_id = ? AND state = ? AND pinned = 1 AND owner > ? ORDER BY owner LIMIT ?",
		string(id), domain.JobFailed, string(after), limit)
}

// DevicesOfPlugin lists up to q.Limit live devices that q selects, by id and after q.After.
func (c Candidates) DevicesOfPlugin(ctx context.Context, at domain.Position, q domain.PluginDevices) ([]domain.DeviceID, error) {
	var w clause
	w.is("live = 1")
	equal(&w, "plugin", q.Plugin)
	equal(&w, "plugin_version", q.Version)
	if q.Not != "" {
		w.is("plugin_version IS NOT ?", q.Not)
	}
	equal(&w, "tenant_id", q.Tenant)
	equal(&w, "category_id", q.Category)
	if len(q.Devices) > 0 {
		in(&w, "key", q.Devices)
	}
	w.is("key > ?", string(q.After))
	return texts[domain.DeviceID](ctx, c, at, "SELECT key FROM devices"+w.sql()+" ORDER BY key LIMIT ?", append(w.args, q.Limit)...)
}

// ChildrenOf names what still stands under a tenant ("devices", "lines", "users", "categories", "layers",
// "softphones", "clouds")
// with counts; what has none is left out.
func (c Candidates) ChildrenOf(ctx context.Context, at domain.Position, tenant domain.TenantID) (map[string]int, error) {
	if err := c.Wait.WaitFor(ctx, at); err != nil {
		return nil, err
	}
	counts := make(map[string]int)
	for _, table := range []string{"devices", "lines", "users", "categories", "layers", "softphones", "clouds"} {
		err := c.Views.Query(ctx, "SELECT count(*) FROM "+table+" WHERE tenant_id = ? AND live = 1", []any{string(tenant)}, func(r Row) error {
			if n := int(r.Int(0)); n > 0 {
				counts[table] = n
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("count %s of %s: %w", table, tenant, err)
		}
	}
	return counts, nil
}
