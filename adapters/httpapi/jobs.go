package httpapi

import (
	"context"
	"encoding/json"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// job is a job in the API's words; its secrets are redacted.
type job struct {
	ID         domain.JobID        `json:"id"`
	TenantID   domain.TenantID     `json:"tenant_id"`
	Type       string              `json:"type" doc:"software, or a type of configuration"`
	Name       string              `json:"name,omitempty"`
	Categories []domain.CategoryID `json:"categories" doc:"whose devices it is for; none: all of the tenant"`
	JobSoftware
	Parameters domain.JobParameters `json:"parameters,omitempty"`
	Script     *domain.JobScript    `json:"script,omitempty" doc:"of an EXPERT job: how long it is; it may hold secrets and is not shown"`
	State      string               `json:"state" doc:"live or cancelled"`
	Sequence   domain.Revision      `json:"sequence" doc:"its place among the tenant's jobs: the latest wins"`
	Devices    map[string]int       `json:"devices,omitempty" doc:"how many devices that registered have it in which state"`
	projections.Head
}

// JobSoftware is what a software job has beside; the members of JobBody by the same names.
type JobSoftware struct {
	Release         string   `json:"release,omitempty"`
	Build           string   `json:"build,omitempty" doc:"the catalogue's newest build of the release"`
	Products        []string `json:"products,omitempty" doc:"those the catalogue has the release for"`
	BaseURL         string   `json:"base_url,omitempty"`
	CatalogueSHA256 string   `json:"catalogue_sha256,omitempty" doc:"of the catalogue as it was given"`
	CatalogueSize   int      `json:"catalogue_size,omitempty"`
}

func jobOf(_ context.Context, row projections.Job) (job, error) {
	j := job{ID: row.JobID, TenantID: row.TenantID, Type: row.Type, Name: row.Name, Categories: append([]domain.CategoryID{}, row.Categories...), State: row.State, Sequence: row.Sequence, Head: row.Head}
	if row.Type == domain.JobSoftware {
		j.JobSoftware = JobSoftware(row.Software)
		return j, nil
	}
	j.Parameters = row.Config.Shown()
	if row.Type == domain.JobExpert {
		j.Script = &row.Config.Script
	}
	return j, nil
}

// JobBody is what a job is to bring.
type JobBody struct {
	Name       string               `json:"name,omitempty"`
	Categories []domain.CategoryID  `json:"categories,omitempty" doc:"whose devices it is for; none: all of the tenant"`
	Release    string               `json:"release,omitempty" doc:"of software: a version of the catalogue"`
	Catalogue  json.RawMessage      `json:"catalogue,omitempty" doc:"of software: firmware.json; as text it is kept to the byte"`
	BaseURL    string               `json:"base_url,omitempty" doc:"of software for innovaphone devices: where builds lie, <base_url>/<build>/<file>"`
	Parameters domain.JobParameters `json:"parameters,omitempty" doc:"of configuration: by the type's names; a secret sent as [redacted] keeps its value"`
}

func (b JobBody) wish() commands.JobWish {
	return commands.JobWish{Name: b.Name, Categories: b.Categories, Release: b.Release, Catalogue: b.Catalogue, BaseURL: b.BaseURL, Parameters: b.Parameters}
}

// jobProgress is how far a job has come.
type jobProgress struct {
	State string `json:"state" doc:"live or cancelled"`
	projections.JobCount
}

// jobs registers jobs of software and configuration.
func (a *api) jobs() {
	lists(a, op{"GET", "/jobs", "list-jobs", "List jobs of software and configuration", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		TextFilter
		Type      string `query:"type" doc:"software, or a type of configuration"`
		Cancelled bool   `query:"cancelled" doc:"cancelled ones too"`
	}) (projections.Listed[projections.Job], error) {
		return projections.ListJobs(ctx, l.views, projections.JobFilter{Tenants: l.tenants, Type: in.Type, Text: in.Text, Cancelled: in.Cancelled}, l.page)
	}, jobOf)
	read(a, op{"GET", "/jobs/{id}", "get-job", "Show a job, and how far it has come", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		Moment
	}) (*one[job], error) {
		ctx, views, release, err := a.views(ctx, in.AsOf)
		if err != nil {
			return nil, err
		}
		defer release()
		row, err := reachedJob(ctx, views, domain.JobID(in.ID))
		if err != nil {
			return nil, err
		}
		body, _ := jobOf(ctx, row) // it answers no error
		body.Devices, err = projections.JobStates(ctx, views, row.JobID)
		return &one[job]{Body: body}, err
	})
	progress(a, op{"GET", "/jobs/{id}/progress", "job-progress", "How far a job has come; with Accept: text/event-stream as a feed that ends when no device is awaited any more", readers, 0},
		func(ctx context.Context, id string) (p jobProgress, done bool, err error) {
			row, err := reachedJob(ctx, a.Views, domain.JobID(id))
			if err != nil {
				return p, false, err
			}
			counted, err := projections.CountJob(ctx, a.Views, row)
			p = jobProgress{row.State, counted}
			return p, counted.Open == 0 && (row.Cancelled || counted.Registered > 0 && counted.Registered >= counted.Devices), err
		})
	lists(a, op{"GET", "/jobs/{id}/devices", "list-job-devices", "List the devices that registered and got a job, with its state on each", readers, 0}, func(ctx context.Context, l listed, in *struct {
		ByID
		Present
		State string `query:"state" doc:"queued, sent, rebooting, applied, verified, skipped, failed or superseded"`
	}) (projections.Listed[projections.JobDevice], error) {
		row, err := reachedJob(ctx, l.views, domain.JobID(in.ID))
		if err != nil {
			return projections.Listed[projections.JobDevice]{}, err
		}
		return projections.JobDevices(ctx, l.views, row.JobID, in.State, l.page)
	}, plain)
	change(a, op{"POST", "/jobs", "create-job", "Create a job; every device it is for gets it when it registers", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			TenantID domain.TenantID `json:"tenant_id"`
			Type     string          `json:"type" doc:"software, NTP, MEDIA, PHONE, FXS_PHONE, TLS_PROFILE, ALARM_SERVER or EXPERT"`
			JobBody
		}
	}) (commands.Outcome, string, made, error) {
		if err := sees(ctx, in.Body.TenantID); err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		id, out, err := s.CreateJob(ctx, commands.CreateJob{TenantID: in.Body.TenantID, Type: in.Body.Type, JobWish: in.Body.wish()})
		return out, "/api/v1/jobs/" + string(id), made{string(id)}, err
	})
	amends(a, op{"PUT", "/jobs/{id}", "amend-job", "Describe a job anew, whole; it counts as the latest from then on", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.JobID, b JobBody) (commands.Outcome, error) {
		return s.AmendJob(ctx, commands.AmendJob{ID: id, JobWish: b.wish()})
	})
	removes(a, op{"DELETE", "/jobs/{id}", "cancel-job", "Cancel a job: no device gets it from now on", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.JobID) (commands.Outcome, error) {
		return s.CancelJob(ctx, commands.CancelJob{ID: id})
	})
	type retried struct {
		Devices int `json:"devices" doc:"on how many it is tried again"`
	}
	type retry struct {
		Device domain.DeviceID `json:"device,omitempty" doc:"only there; all it failed on, a thousand at a time, when absent"`
	}
	alters(a, op{"POST", "/jobs/{id}/retry", "retry-job", "Have a job that failed tried again", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.JobID, b retry) (commands.Outcome, retried, error) {
		n, out, err := s.RetryJob(ctx, commands.RetryJob{ID: id, DeviceID: b.Device})
		return out, retried{n}, err
	})
}

// reachedJob is a job the caller reaches.
func reachedJob(ctx context.Context, views projections.Querier, id domain.JobID) (projections.Job, error) {
	row, ok, err := projections.JobByID(ctx, views, id)
	if err == nil && !ok {
		err = errNotFound
	}
	if err == nil {
		err = sees(ctx, row.TenantID)
	}
	return row, err
}
