package domain

import (
	"errors"
	"slices"
	"strings"
)

// JobID names a job, of software or of configuration.
type JobID string

// JobCreated: the devices of a tenant, or of some of its categories, are to have a software or a configuration. All
// jobs of a tenant stand in one stream, whose revisions are their order (D21).
type JobCreated struct {
	JobID    JobID    `json:"job_id"`
	TenantID TenantID `json:"tenant_id"`
	JobSpec
}

// JobAmended: the job is now as described, whole. It counts from here on as if it were created now: a device that had
// it gets it again. Its type stays.
type JobAmended struct {
	JobID JobID `json:"job_id"`
	JobSpec
}

// JobCancelled: the job is no candidate for any device any more. What it has brought stays where it is, until another
// job takes its place.
type JobCancelled struct {
	JobID JobID `json:"job_id"`
}

// JobSpec is what a job wants.
type JobSpec struct {
	Name string `json:"name,omitempty"`
	// Type is JobSoftware, or one of the types of configuration that JobTypes lists.
	Type string `json:"type"`
	// Categories are whose devices it is for; none: all of the tenant.
	Categories []CategoryID `json:"categories,omitempty"`
	Software   SoftwareJob  `json:"software,omitzero"`
	Config     ConfigJob    `json:"config,omitzero"`
}

// SoftwareJob is a release out of a catalogue as it stood when the job was made.
type SoftwareJob struct {
	// Release is an id of the catalogue's versions, Build the newest build it names for that release, Products the
	// devices it names for it, in the catalogue's spelling.
	Release  string   `json:"release"`
	Build    string   `json:"build"`
	Products []string `json:"products"`
	// BaseURL is where builds lie, one folder each: <base>/<build>/<file>. Native sysclients need it.
	BaseURL string `json:"base_url,omitempty"`
	// The catalogue itself, as it was given, is kept under its SHA-256 (hex) among the tenant's contents.
	CatalogueSHA256 string `json:"catalogue_sha256"`
	CatalogueSize   int    `json:"catalogue_size"`
}

// ConfigJob is the content of a job of configuration.
type ConfigJob struct {
	// Parameters by the names JobTypes lists; but for the secret ones, which stand beside.
	Parameters   JobParameters `json:"parameters,omitempty"`
	TurnPassword Secret        `json:"turn_password,omitzero"`
	LogPassword  Secret        `json:"log_password,omitzero"`
	Script       JobScript     `json:"script,omitzero"`
	// Zone is a time zone that keeps the rule tz, by its name in the IANA database, for phones that go by names; empty if
	// there is none.
	Zone string `json:"zone,omitempty"`
}

// Shown are the parameters for readers: Redacted stands for what is secret.
func (c ConfigJob) Shown() JobParameters {
	out := JobParameters{}
	for k, v := range c.Parameters {
		out[k] = v
	}
	for name, has := range map[string]bool{ParamTurnPassword: !c.TurnPassword.IsZero(), ParamLogPassword: !c.LogPassword.IsZero(), ParamScript: c.Script.MAC != ""} {
		if has {
			out[name] = Redacted
		}
	}
	return out
}

// JobScript is the script of an EXPERT job. It may hold secrets, so it is kept sealed among the tenant's contents, under
// MAC: the HMAC-SHA-256 (hex) of its bytes under the tenant's key.
type JobScript struct {
	MAC   string `json:"mac"`
	Size  int    `json:"size"`  // bytes
	Lines int    `json:"lines"` // commands: neither empty nor comments
}

func (JobCreated) EventType() string   { return "job.created" }
func (JobAmended) EventType() string   { return "job.amended" }
func (JobCancelled) EventType() string { return "job.cancelled" }

var jobEvents = []entry{of[JobCreated](), of[JobAmended](), of[JobCancelled]()}

// JobSoftware is the type of software jobs.
const JobSoftware = "software"

// Limits of jobs. A tenant's stream takes MaxJobEvents events; a catalogue and a script are counted in bytes.
const (
	MaxJobEvents    = 10_000
	MaxJobCatalogue = 512 << 10
	MaxJobScript    = 512 << 10
)

// JobsStream is where all jobs of a tenant stand.
func JobsStream(tenant TenantID) StreamID { return Stream("jobs", string(tenant)) }

// Stream names the timeline of a job: its own events, which stand in the tenant's stream, and those of devices that got it.
func (id JobID) Stream() StreamID { return Stream("job", string(id)) }

// JobRef names a job as it was at one place of its tenant's stream: created, or amended, at revision Sequence.
type JobRef struct {
	JobID    JobID    `json:"job_id"`
	Sequence Revision `json:"sequence"`
}

// Job is the reference itself: what the events of a device tell whose job they are about by.
func (r JobRef) Job() JobRef { return r }

// JobVersion is a job as it stands from one revision on.
type JobVersion struct {
	JobRef
	JobSpec
	Cancelled bool
}

// Jobs is what a tenant's stream of jobs adds up to: every version of every job.
type Jobs struct {
	TenantID TenantID
	events   Revision
	versions []*JobVersion // in order of Sequence; neither they nor the list are written to after Apply
}

// Apply returns the jobs after e.
func (j Jobs) Apply(e Event) Jobs {
	ref := func(id JobID) JobRef { return JobRef{id, j.events} }
	add := func(v JobVersion) { j.versions = append(slices.Clip(j.versions), &v) }
	switch e := e.(type) {
	case JobCreated:
		j.TenantID = e.TenantID
		add(JobVersion{JobRef: ref(e.JobID), JobSpec: e.JobSpec})
	case JobAmended:
		add(JobVersion{JobRef: ref(e.JobID), JobSpec: e.JobSpec})
	case JobCancelled:
		if before, ok := j.Job(e.JobID); ok {
			add(JobVersion{JobRef: ref(e.JobID), JobSpec: before.JobSpec, Cancelled: true})
		}
	default:
		return j
	}
	j.events++
	return j
}

// Revision is that of the stream's last event, NoStream when there is none.
func (j Jobs) Revision() Revision { return j.events - 1 }

// Job is the present version of a job; ok is false when there never was one.
func (j Jobs) Job(id JobID) (JobVersion, bool) {
	for _, v := range slices.Backward(j.versions) {
		if v.JobID == id {
			return *v, true
		}
	}
	return JobVersion{}, false
}

// Version is a job as it was at its reference.
func (j Jobs) Version(ref JobRef) (JobVersion, bool) {
	i, found := slices.BinarySearchFunc(j.versions, ref.Sequence, func(v *JobVersion, at Revision) int { return int(v.Sequence - at) })
	if !found || j.versions[i].JobID != ref.JobID {
		return JobVersion{}, false
	}
	return *j.versions[i], true
}

// Select is which jobs a device of that category gets when it registers: of software the latest that is for it, of every
// type of configuration the latest of that type. They come in the order they are carried out.
func (j Jobs) Select(category CategoryID) []JobVersion {
	decided, won := map[JobID]bool{}, map[string]JobVersion{}
	for _, v := range slices.Backward(j.versions) {
		if decided[v.JobID] {
			continue
		}
		decided[v.JobID] = true
		if _, taken := won[v.Type]; !taken && !v.Cancelled && v.For(category) {
			won[v.Type] = *v
		}
	}
	var out []JobVersion
	for _, t := range jobOrder {
		if v, ok := won[t]; ok {
			out = append(out, v)
		}
	}
	return out
}

// For tells whether a device of that category is among those the job is for.
func (s JobSpec) For(category CategoryID) bool {
	return len(s.Categories) == 0 || slices.Contains(s.Categories, category)
}

// Same tells whether both describe the same job.
func (s JobSpec) Same(t JobSpec) bool {
	a, b := s.Config, t.Config
	return s.Name == t.Name && s.Type == t.Type && slices.Equal(s.Categories, t.Categories) &&
		s.Software.BaseURL == t.Software.BaseURL && s.Software.Release == t.Software.Release && s.Software.CatalogueSHA256 == t.Software.CatalogueSHA256 &&
		a.Parameters.equal(b.Parameters) && a.TurnPassword.Same(b.TurnPassword.Sealed) && a.LogPassword.Same(b.LogPassword.Sealed) && a.Script == b.Script
}

var (
	ErrJobUnknown   = errors.New("no such job")
	ErrJobExists    = errors.New("job exists already")
	ErrJobCancelled = errors.New("job is cancelled")
	ErrTooManyJobs  = errors.New("the tenant has too many jobs on record")
)

// Create makes a job.
func (j Jobs) Create(id JobID, tenant TenantID, spec JobSpec) ([]Event, error) {
	if _, exists := j.Job(id); exists {
		return nil, ErrJobExists
	}
	if j.events >= MaxJobEvents {
		return nil, ErrTooManyJobs
	}
	return []Event{JobCreated{id, tenant, spec}}, nil
}

// Amend describes a job anew; as it is already is no news.
func (j Jobs) Amend(id JobID, spec JobSpec) ([]Event, error) {
	v, ok := j.Job(id)
	switch {
	case !ok:
		return nil, ErrJobUnknown
	case v.Cancelled:
		return nil, ErrJobCancelled
	case v.JobSpec.Same(spec):
		return nil, nil
	case j.events >= MaxJobEvents:
		return nil, ErrTooManyJobs
	}
	return []Event{JobAmended{id, spec}}, nil
}

// Cancel ends a job; ending it twice is no news.
func (j Jobs) Cancel(id JobID) ([]Event, error) {
	v, ok := j.Job(id)
	if !ok {
		return nil, ErrJobUnknown
	}
	if v.Cancelled {
		return nil, nil
	}
	return []Event{JobCancelled{id}}, nil
}

// Owner is the tenant the jobs are of; empty before the first.
func (j Jobs) Owner() TenantID { return j.TenantID }

// Offers tells whether the catalogue of the job has a build for the product, whatever the case.
func (s SoftwareJob) Offers(product string) bool {
	return product != "" && slices.ContainsFunc(s.Products, func(p string) bool { return strings.EqualFold(p, product) })
}
