package commands

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"ledgerline/domain"
)

// JobWish is what a job is to bring.
type JobWish struct {
	Name string `json:"name" validate:"max=200,text"`
	// Categories are whose devices it is for; none: all of the tenant.
	Categories []domain.CategoryID `json:"categories" validate:"max=100,unique,dive,id"`
	// Release, Catalogue and BaseURL are of a software job. Catalogue is firmware.json, or a JSON string that holds it: so it
	// is kept to the byte.
	Release   string          `json:"release" validate:"max=64,text"`
	Catalogue json.RawMessage `json:"catalogue" validate:"-"`
	BaseURL   string          `json:"base_url" validate:"max=1000,text"`
	// Parameters are of a job of configuration, by the names domain.JobTypes lists. A secret sent as "[redacted]" keeps its value.
	Parameters domain.JobParameters `json:"parameters" validate:"-"`
}

// CreateJob makes a job. It is carried out on each device when that registers.
type CreateJob struct {
	TenantID domain.TenantID `json:"tenant_id" validate:"required,id"`
	Type     string          `json:"type" validate:"required"`
	JobWish
}

// CreateJob answers the job's id. Errors: ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted, domain.ErrCategoryUnknown,
// domain.ErrCategoryOfOtherTenant, domain.ErrTooManyJobs.
func (s *Service) CreateJob(ctx context.Context, in CreateJob) (domain.JobID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return "", Outcome{}, err
	}
	spec, err := s.jobSpec(ctx, in.TenantID, in.JobWish, domain.JobSpec{Type: in.Type})
	if err != nil {
		return "", Outcome{}, err
	}
	id := domain.JobID(newID())
	out, err := decide(ctx, s, domain.JobsStream(in.TenantID), func(j domain.Jobs) ([]domain.Event, error) { return j.Create(id, in.TenantID, spec) })
	return id, out, err
}

// AmendJob describes a job anew, whole; its tenant and type stay. A software job without a catalogue keeps the one it
// has, an EXPERT job without a script likewise.
type AmendJob struct {
	ID domain.JobID `json:"id" validate:"required,id"`
	JobWish
}

// AmendJob errors: ErrInvalid, domain.ErrJobUnknown, domain.ErrJobCancelled, domain.ErrCategoryUnknown, domain.ErrCategoryOfOtherTenant,
// domain.ErrTooManyJobs.
func (s *Service) AmendJob(ctx context.Context, in AmendJob) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.onJob(ctx, in.ID, func(tenant domain.TenantID, j domain.Jobs) ([]domain.Event, error) {
		before, ok := j.Job(in.ID)
		if !ok {
			return nil, domain.ErrJobUnknown
		}
		if before.Cancelled {
			return nil, domain.ErrJobCancelled
		}
		spec, err := s.jobSpec(ctx, tenant, in.JobWish, before.JobSpec)
		if err != nil {
			return nil, err
		}
		return j.Amend(in.ID, spec)
	})
}

// CancelJob ends a job: no device gets it from now on. What it brought stays until another job takes its place.
type CancelJob struct {
	ID domain.JobID `json:"id" validate:"required,id"`
}

// CancelJob errors: ErrInvalid, domain.ErrJobUnknown.
func (s *Service) CancelJob(ctx context.Context, in CancelJob) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.onJob(ctx, in.ID, func(_ domain.TenantID, j domain.Jobs) ([]domain.Event, error) { return j.Cancel(in.ID) })
}

// RetryJob has a job tried again, from the first attempt, on a device where it failed; on all of them when none is named.
type RetryJob struct {
	ID       domain.JobID    `json:"id" validate:"required,id"`
	DeviceID domain.DeviceID `json:"device_id" validate:"omitempty,id"`
}

// retryBatch bounds the devices one RetryJob without a device looks at.
const retryBatch = 1000

// RetryJob answers on how many devices it is tried again: of those it failed on, the first thousand. Errors: ErrInvalid,
// domain.ErrJobUnknown, and for a named device domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrJobNotFailed.
func (s *Service) RetryJob(ctx context.Context, in RetryJob) (n int, out Outcome, err error) {
	if err := check(in); err != nil {
		return 0, Outcome{}, err
	}
	tenant, at, err := s.jobTenant(ctx, in.ID)
	if err != nil {
		return 0, Outcome{}, err
	}
	again := func(d domain.Device) ([]domain.Event, error) {
		if d.TenantID != tenant {
			return nil, domain.ErrDeviceUnknown
		}
		return d.RetryJob(in.ID)
	}
	if in.DeviceID != "" {
		out, err = s.onDevice(ctx, in.DeviceID, again)
		return min(len(out.Events), 1), out, err
	}
	devices, err := s.Candidates.DevicesOfJob(ctx, at, in.ID, "", retryBatch)
	if err != nil {
		return 0, out, err
	}
	for _, id := range devices {
		one, err := decide(ctx, s, id.Stream(), again)
		switch {
		case errors.Is(err, domain.ErrJobNotFailed), unlessGone(err) == nil && err != nil:
			continue // not any more
		case err != nil:
			return n, out, err
		}
		n, out = n+1, one
	}
	return n, out, nil
}

// jobTenant finds whose job it is, as of the log's end.
func (s *Service) jobTenant(ctx context.Context, id domain.JobID) (domain.TenantID, domain.Position, error) {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return "", head, err
	}
	tenant, ok, err := s.Candidates.TenantOfJob(ctx, head, id)
	if err == nil && !ok {
		err = domain.ErrJobUnknown
	}
	return tenant, head, err
}

func (s *Service) onJob(ctx context.Context, id domain.JobID, ask func(domain.TenantID, domain.Jobs) ([]domain.Event, error)) (Outcome, error) {
	tenant, _, err := s.jobTenant(ctx, id)
	if err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, domain.JobsStream(tenant), func(j domain.Jobs) ([]domain.Event, error) { return ask(tenant, j) })
}

// jobSpec checks a wish and puts it into the form that is recorded. before is the job as it was, or its type alone.
func (s *Service) jobSpec(ctx context.Context, tenant domain.TenantID, in JobWish, before domain.JobSpec) (domain.JobSpec, error) {
	spec := domain.JobSpec{Name: in.Name, Type: before.Type, Categories: in.Categories}
	for _, id := range in.Categories {
		c, _, err := load[domain.Category](ctx, s.Log, id.Stream())
		switch {
		case err != nil:
			return spec, err
		case !c.Exists:
			return spec, domain.ErrCategoryUnknown
		case c.TenantID != tenant:
			return spec, domain.ErrCategoryOfOtherTenant
		}
	}
	var err error
	if before.Type == domain.JobSoftware {
		spec.Software, err = s.softwareJob(ctx, tenant, in, before.Software)
	} else {
		spec.Config, err = s.configJob(ctx, tenant, in, before)
	}
	return spec, err
}

func (s *Service) softwareJob(ctx context.Context, tenant domain.TenantID, in JobWish, before domain.SoftwareJob) (domain.SoftwareJob, error) {
	job := domain.SoftwareJob{Release: in.Release, BaseURL: in.BaseURL}
	if len(in.Parameters) > 0 {
		return job, &InvalidError{"parameters", "are not for software"}
	}
	if in.Release == "" {
		return job, &InvalidError{"release", "is required"}
	}
	if u, err := url.Parse(in.BaseURL); in.BaseURL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Contains(in.BaseURL, " ") || u.RawQuery != "" || u.Fragment != "") {
		return job, &InvalidError{"base_url", "must be an http or https URL without blanks, query and fragment"}
	}
	catalogue := []byte(in.Catalogue)
	var text string
	if json.Unmarshal(catalogue, &text) == nil {
		catalogue = []byte(text)
	}
	switch {
	case len(catalogue) > 0:
	case before.CatalogueSHA256 == "":
		return job, &InvalidError{"catalogue", "is required"}
	default:
		kept, err := s.Blobs.Get(ctx, domain.Subject(tenant.Stream()), before.CatalogueSHA256)
		if err != nil {
			return job, fmt.Errorf("read the catalogue kept: %w", err)
		}
		catalogue = kept
	}
	var problem *domain.SettingsError
	if job.Build, job.Products, problem = domain.ReadCatalogue(catalogue, in.Release); problem != nil {
		return job, &InvalidError{problem.Field, problem.Rule}
	}
	sum := sha256.Sum256(catalogue)
	job.CatalogueSHA256, job.CatalogueSize = hex.EncodeToString(sum[:]), len(catalogue)
	if job.CatalogueSHA256 == before.CatalogueSHA256 {
		return job, nil
	}
	return job, s.keepContent(ctx, tenant, job.CatalogueSHA256, catalogue)
}

// keepContent stores something large of a tenant's, under its key, which is made if there is none yet.
func (s *Service) keepContent(ctx context.Context, tenant domain.TenantID, name string, content []byte) error {
	subject := domain.Subject(tenant.Stream())
	if err := s.Blobs.Put(ctx, subject, name, content); err != nil {
		return fmt.Errorf("keep contents of %s: %w", subject, err)
	}
	return nil
}

func (s *Service) configJob(ctx context.Context, tenant domain.TenantID, in JobWish, before domain.JobSpec) (domain.ConfigJob, error) {
	var job domain.ConfigJob
	if len(in.Catalogue) > 0 || in.Release != "" || in.BaseURL != "" {
		return job, &InvalidError{"type", "must be software for a job with catalogue, release or base_url"}
	}
	subject := domain.Subject(tenant.Stream())
	params := domain.JobParameters{}
	for k, v := range in.Parameters {
		params[k] = v
	}
	keepScript := before.Type == domain.JobExpert && before.Config.Script.MAC != "" && (params[domain.ParamScript] == nil || params[domain.ParamScript] == domain.Redacted)
	if keepScript {
		params[domain.ParamScript] = "nop" // stands for the script kept, and goes below
	}
	kept := map[string]domain.Secret{domain.ParamTurnPassword: before.Config.TurnPassword, domain.ParamLogPassword: before.Config.LogPassword}
	for name, old := range kept {
		if params[name] == domain.Redacted && old.IsZero() {
			return job, &InvalidError{"parameters." + name, "is redacted, and there is no value to keep"}
		}
	}
	clean, problems := domain.CleanJob(before.Type, unredacted(params))
	if len(problems) > 0 {
		errs := make([]error, len(problems))
		for i, p := range problems {
			field := "parameters." + p.Field
			if p.Field == "type" || p.Field == "parameters" {
				field = p.Field
			}
			errs[i] = &InvalidError{field, p.Rule}
		}
		return job, errors.Join(errs...)
	}
	secret := func(name string) (domain.Secret, error) {
		clear := clean.Text(name)
		delete(clean, name)
		switch {
		case params[name] == domain.Redacted:
			return kept[name], nil
		case clear == "":
			return domain.Secret{}, nil
		}
		return s.secretUnless(ctx, subject, clear, kept[name])
	}
	var err error
	if job.TurnPassword, err = secret(domain.ParamTurnPassword); err != nil {
		return job, err
	}
	if job.LogPassword, err = secret(domain.ParamLogPassword); err != nil {
		return job, err
	}
	if before.Type == domain.JobExpert {
		script := clean.Text(domain.ParamScript)
		delete(clean, domain.ParamScript)
		if keepScript {
			job.Script = before.Config.Script
		} else if job.Script, err = s.keepScript(ctx, tenant, script); err != nil {
			return job, err
		}
	}
	if rule := clean.Text("tz"); rule != "" && s.ZoneOf != nil {
		job.Zone = s.ZoneOf(rule)
	}
	if len(clean) > 0 {
		job.Parameters = clean
	}
	return job, nil
}

// unredacted puts a text in the place of secrets that keep their value, for the rules of parameters to see that there is one.
func unredacted(in domain.JobParameters) domain.JobParameters {
	out := domain.JobParameters{}
	for k, v := range in {
		if v == domain.Redacted && (k == domain.ParamTurnPassword || k == domain.ParamLogPassword) {
			v = "kept"
		}
		out[k] = v
	}
	return out
}

func (s *Service) keepScript(ctx context.Context, tenant domain.TenantID, script string) (domain.JobScript, error) {
	sum, err := s.Vault.Hash(ctx, domain.Subject(tenant.Stream()), "mac", []byte(script))
	if err != nil {
		return domain.JobScript{}, fmt.Errorf("sign a script: %w", err)
	}
	kept := domain.JobScript{MAC: hex.EncodeToString(sum), Size: len(script), Lines: len(domain.ScriptLines(script))}
	return kept, s.keepContent(ctx, tenant, kept.MAC, []byte(script))
}
