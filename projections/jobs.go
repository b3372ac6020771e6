package projections

import (
	"context"
	"encoding/json"
	"strings"

	"ledgerline/domain"
)

// Job is a job as readers see it; its secrets are sealed.
type Job struct {
	domain.JobVersion
	TenantID domain.TenantID
	State    string // live, cancelled
	Head            // of the latest event about the job, in the stream of all jobs of its tenant
}

// StateCancelled is the state of a job that was.
const StateCancelled = "cancelled"

// jobDoc is a job as it is stored.
type jobDoc struct {
	Version  domain.JobVersion
	TenantID domain.TenantID
	Head     Head

	size int
}

// jobProjection makes rows of the jobs in their tenants' streams: one for each job, under its id.
type jobProjection struct{ schema Schema }

var jobs = &jobProjection{Schema{
	Name:    "jobs",
	Columns: []string{"tenant_id TEXT NOT NULL", "type TEXT NOT NULL", "live INTEGER NOT NULL", "revision INTEGER NOT NULL", "name TEXT"},
	Indexes: []string{"CREATE INDEX jobs_tenant ON jobs (tenant_id, key)"},
	Encode:  encoderOf[jobDoc](),
	Decode: func(doc []byte) (any, error) {
		d := &jobDoc{size: len(doc)}
		return d, json.Unmarshal(doc, d)
	},
	Size: func(row any) int { return row.(*jobDoc).size },
	Values: func(_ string, row any) []any {
		d := row.(*jobDoc)
		return []any{string(d.TenantID), d.Version.Type, flag(!d.Version.Cancelled), int64(d.Head.Revision), orNull(d.Version.Name)}
	},
}}

func (*jobProjection) Name() string        { return "jobs" }
func (*jobProjection) Version() int        { return 1 }
func (p *jobProjection) Tables() []*Schema { return []*Schema{&p.schema} }

func (p *jobProjection) Apply(tx Tx, f *Fact) error {
	var id domain.JobID
	switch e := f.Event.(type) {
	case domain.JobCreated:
		id = e.JobID
	case domain.JobAmended:
		id = e.JobID
	case domain.JobCancelled:
		id = e.JobID
	default:
		return nil
	}
	row, err := tx.Get(&p.schema, string(id))
	if err != nil {
		return err
	}
	d, _ := row.(*jobDoc)
	if d == nil {
		d = &jobDoc{TenantID: domain.TenantID(f.Stream.ID()), Head: Head{CreatedAt: f.At}}
	}
	switch e := f.Event.(type) {
	case domain.JobCreated:
		d.Version.JobSpec = e.JobSpec
	case domain.JobAmended:
		d.Version.JobSpec = e.JobSpec
	case domain.JobCancelled:
		d.Version.Cancelled = true
	}
	d.Version.JobRef = domain.JobRef{JobID: id, Sequence: f.Revision}
	d.Head.Revision, d.Head.Position, d.Head.UpdatedAt = f.Revision, f.Position, f.At
	d.size = max(d.size, 300+len(f.Data))
	tx.Put(&p.schema, string(id), d)
	return nil
}

func jobRow(d *jobDoc) Job {
	j := Job{JobVersion: d.Version, TenantID: d.TenantID, State: StateLive, Head: d.Head}
	if d.Version.Cancelled {
		j.State = StateCancelled
	}
	return j
}

// JobByID finds a job, also a cancelled one.
func JobByID(ctx context.Context, q Querier, id domain.JobID) (j Job, ok bool, err error) {
	err = q.Query(ctx, "SELECT doc FROM jobs WHERE key = ?", []any{string(id)}, func(r Row) error {
		d := new(jobDoc)
		if err := r.Doc(0, d); err != nil {
			return err
		}
		j, ok = jobRow(d), true
		return nil
	})
	return j, ok, err
}

// JobFilter narrows a list of jobs; nil Tenants means all, empty fields are no condition.
type JobFilter struct {
	Tenants   []domain.TenantID
	Type      string
	Text      string
	Cancelled bool // cancelled ones too
}

// ListJobs lists jobs by id, which is the order they were made in.
func ListJobs(ctx context.Context, q Querier, f JobFilter, p Page) (Listed[Job], error) {
	var c clause
	if !f.Cancelled {
		c.is("live = 1")
	}
	in(&c, "tenant_id", f.Tenants)
	equal(&c, "type", f.Type)
	c.contains(f.Text, "key", "name")
	return paged(ctx, q, "jobs", "jobs", "doc", "key", c, p, func(r Row) (Job, error) {
		d := new(jobDoc)
		err := r.Doc(0, d)
		return jobRow(d), err
	})
}

// JobDevice is a job on one device.
type JobDevice struct {
	Device   domain.DeviceID `json:"device"`
	MAC      domain.MAC      `json:"mac,omitempty"`
	Vendor   string          `json:"vendor,omitempty"`
	Model    string          `json:"model,omitempty"`
	State    string          `json:"state"` // domain.JobQueued and its like
	Reason   string          `json:"reason,omitempty"`
	Attempt  int             `json:"attempt,omitempty"` // attempts that failed
	Sequence domain.Revision `json:"sequence"`          // which version of the job
}

// JobDevices lists the live devices that have, or had, the job, by id; state narrows it to one state.
func JobDevices(ctx context.Context, q Querier, id domain.JobID, state string, p Page) (Listed[JobDevice], error) {
	var c clause
	c.is("j.job_id = ?", string(id))
	equal(&c, "j.state", state)
	return paged(ctx, q, "job_devices", "device_jobs j JOIN devices d ON d.key = j.owner", "d.mac, d.vendor, d.model, j.state, j.reason, j.attempt, j.sequence", "j.owner", c, p,
		func(r Row) (JobDevice, error) {
			return JobDevice{Device: domain.DeviceID(r.Text(7)), MAC: domain.MAC(r.Text(0)), Vendor: r.Text(1), Model: r.Text(2), State: r.Text(3), Reason: r.Text(4),
				Attempt: int(r.Int(5)), Sequence: domain.Revision(r.Int(6))}, nil
		})
}

// JobStates counts the live devices of a job by state.
func JobStates(ctx context.Context, q Querier, id domain.JobID) (map[string]int, error) {
	counts := map[string]int{}
	err := q.Query(ctx, "SELECT state, count(*) FROM device_jobs WHERE job_id = ? GROUP BY state", []any{string(id)}, func(r Row) error {
		counts[r.Text(0)] = int(r.Int(1))
		return nil
	})
	return counts, err
}

// JobCount is how many devices a job concerns.
type JobCount struct {
	Devices    int            `json:"devices"`    // assigned ones of its tenant and categories
	Registered int            `json:"registered"` // those that have, or had, its present version
	Open       int            `json:"open"`       // those of them on which it is still to be carried out
	Counts     map[string]int `json:"counts"`     // those that have, or had, the job at all, by state
}

// CountJob counts the live devices of a job.
func CountJob(ctx context.Context, q Querier, j Job) (n JobCount, err error) {
	var c clause
	c.is("live = 1 AND assigned_at IS NOT NULL")
	equal(&c, "tenant_id", j.TenantID)
	if len(j.Categories) > 0 {
		in(&c, "category_id", j.Categories)
	}
	if err := q.Query(ctx, "SELECT count(*) FROM devices WHERE "+strings.Join(c.terms, " AND "), c.args, func(r Row) error {
		n.Devices = int(r.Int(0))
		return nil
	}); err != nil {
		return n, err
	}
	n.Counts = map[string]int{}
	err = q.Query(ctx, "SELECT state, sequence, attempt, count(*) FROM device_jobs WHERE job_id = ? GROUP BY state, sequence, attempt", []any{string(j.JobID)}, func(r Row) error {
		many := int(r.Int(3))
		n.Counts[r.Text(0)] += many
		if run := (domain.JobRun{State: r.Text(0), Attempt: int(r.Int(2))}); domain.Revision(r.Int(1)) == j.Sequence {
			n.Registered += many
			if run.Open() {
				n.Open += many
			}
		}
		return nil
	})
	return n, err
}
