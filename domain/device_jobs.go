package domain

import (
	"cmp"
	"errors"
	"slices"
	"strings"
)

// DeviceJobsSelected: the device registered, and of its tenant's jobs these are its own from now on (D21). It registers
// with its first contact after its assignment, after a reset, and after a change of the tenant's jobs. Those not there
// before begin as queued.
type DeviceJobsSelected struct {
	// JobsRevision is how far the tenant's jobs were looked at.
	JobsRevision Revision      `json:"jobs_revision"`
	CategoryID   CategoryID    `json:"category_id,omitempty"`
	Jobs         []SelectedJob `json:"jobs"`
	JobContact
}

// SelectedJob is one winner.
type SelectedJob struct {
	JobRef
	Type string `json:"type"`
}

// JobContact is how the device is reached, and what it showed of itself.
type JobContact struct {
	// Via is ViaNative, ViaForeign or ViaFiles.
	Via string `json:"via"`
	// Product is its model as a catalogue names it; Firmware and BootCode are the builds it runs, empty if unknown.
	Product  string `json:"product,omitempty"`
	Firmware string `json:"firmware,omitempty"`
	BootCode string `json:"boot_code,omitempty"`
}

// How a device gets its jobs.
const (
	ViaNative  = "native"  // a sysclient: commands through its tunnel
	ViaForeign = "foreign" // a sysclient of another vendor: configuration messages
	ViaFiles   = "files"   // files it fetches
)

// DeviceJobQueued: an operator wants a job that failed tried again, from the first attempt.
type DeviceJobQueued struct{ JobRef }

// DeviceJobSent: the device took the commands or messages of the job; of a software job by ViaFiles, the files that name it, by
// ViaNative the commands to load it, and that it restarts is still to come.
type DeviceJobSent struct{ JobRef }

// DeviceJobRebooting: the device has the software and was told to restart when it is idle.
type DeviceJobRebooting struct{ JobRef }

// DeviceJobApplied: the device shows a configuration that was sent, or has come back since, or has fetched the files that
// hold it. Proof is one of the Proof… constants.
type DeviceJobApplied struct {
	JobRef
	Proof string `json:"proof"`
}

// How it is known that a configuration is applied.
const (
	ProofReadBack   = "read_back"  // the device's dump of its configuration shows what was set
	ProofIdentified = "identified" // it has come back
	ProofFetched    = "fetched"    // it has fetched the files
)

// DeviceJobVerified: the device shows the builds the software job wants.
type DeviceJobVerified struct {
	JobRef
	Firmware string `json:"firmware"`
	BootCode string `json:"boot_code,omitempty"`
}

// DeviceJobSkipped: there is nothing to do for this device. Reason is one of the Skip… constants.
type DeviceJobSkipped struct {
	JobRef
	Reason string `json:"reason"`
}

// DeviceJobFailed: attempt number Attempt came to nothing. The device is tried again until attempt number JobAttempts.
type DeviceJobFailed struct {
	JobRef
	Attempt int    `json:"attempt"`
	Reason  string `json:"reason"`
}

// DeviceJobSuperseded: another job, By, takes the place of one that was not done yet; By is zero when none does.
type DeviceJobSuperseded struct {
	JobRef
	By JobRef `json:"by,omitzero"`
}

func (DeviceJobsSelected) EventType() string  { return "device.jobs_selected" }
func (DeviceJobQueued) EventType() string     { return "device.job_queued" }
func (DeviceJobSent) EventType() string       { return "device.job_sent" }
func (DeviceJobRebooting) EventType() string  { return "device.job_rebooting" }
func (DeviceJobApplied) EventType() string    { return "device.job_applied" }
func (DeviceJobVerified) EventType() string   { return "device.job_verified" }
func (DeviceJobSkipped) EventType() string    { return "device.job_skipped" }
func (DeviceJobFailed) EventType() string     { return "device.job_failed" }
func (DeviceJobSuperseded) EventType() string { return "device.job_superseded" }

var deviceJobEvents = []entry{of[DeviceJobsSelected](), of[DeviceJobQueued](), of[DeviceJobSent](), of[DeviceJobRebooting](), of[DeviceJobApplied](),
	of[DeviceJobVerified](), of[DeviceJobSkipped](), of[DeviceJobFailed](), of[DeviceJobSuperseded]()}

// States of a job on a device.
const (
	JobQueued     = "queued"
	JobSent       = "sent"
	JobRebooting  = "rebooting"
	JobApplied    = "applied"  // a configuration: done
	JobVerified   = "verified" // a software: done
	JobSkipped    = "skipped"
	JobFailed     = "failed"
	JobSuperseded = "superseded"
)

// Why a job has nothing to do for a device.
const (
	SkipCurrent      = "current"       // it runs the builds wanted
	SkipNoBuild      = "no-build"      // the catalogue has none for its product
	SkipNoSource     = "no-source"     // the job does not say where the files lie
	SkipNotPushed    = "not-pushed"    // software is not pushed to foreign sysclients
	SkipNotSupported = "not-supported" // devices of this kind have nothing that this type sets
)

// JobAttempts is how often a job is tried on a device before it is left alone.
const JobAttempts = 3

// keptRuns bounds the jobs a device remembers beyond its own.
const keptRuns = 50

// JobRun is one job on one device.
type JobRun struct {
	SelectedJob
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`  // of skipped and failed
	Attempt int    `json:"attempt,omitempty"` // attempts that failed
	// Pinned: it is among the device's jobs now.
	Pinned bool `json:"pinned"`
}

// Open tells whether something is still to come: the job is not done, skipped, superseded or failed for good.
func (r JobRun) Open() bool {
	switch r.State {
	case JobQueued, JobSent, JobRebooting:
		return true
	case JobFailed:
		return r.Attempt < JobAttempts
	}
	return false
}

// Due tells whether it waits to be sent.
func (r JobRun) Due() bool { return r.Open() && (r.State == JobQueued || r.State == JobFailed) }

// DeviceJobs is what a device knows of jobs. The zero value: it never registered.
type DeviceJobs struct {
	// Selected is the latest selection; its Jobs and JobsRevision are zero after a reset.
	Selected DeviceJobsSelected
	// Known tells that there is a selection that still stands: neither assignment nor reset came after it.
	Known bool
	// Runs are the device's jobs and those it had, the latest selected last; one for each job. Never written to after Apply.
	Runs []JobRun
}

func (j DeviceJobs) apply(e Event) DeviceJobs {
	switch e := e.(type) {
	case DeviceAssigned:
		j.Known = false
	case DeviceReset:
		j.Known, j.Selected = false, DeviceJobsSelected{JobContact: j.Selected.JobContact}
		j.Runs = slices.Clone(j.Runs)
		for i := range j.Runs {
			if j.Runs[i].Open() {
				j.Runs[i].State, j.Runs[i].Reason = JobSuperseded, ""
			}
			j.Runs[i].Pinned = false
		}
	case DeviceJobsSelected:
		return j.selected(e)
	case DeviceJobQueued:
		return j.moved(e.JobRef, func(r *JobRun) { r.State, r.Reason, r.Attempt = JobQueued, "", 0 })
	case DeviceJobSent:
		return j.moved(e.JobRef, func(r *JobRun) { r.State, r.Reason = JobSent, "" })
	case DeviceJobRebooting:
		return j.moved(e.JobRef, func(r *JobRun) { r.State, r.Reason = JobRebooting, "" })
	case DeviceJobApplied:
		return j.moved(e.JobRef, func(r *JobRun) { r.State, r.Reason = JobApplied, "" })
	case DeviceJobVerified:
		return j.moved(e.JobRef, func(r *JobRun) { r.State, r.Reason = JobVerified, "" })
	case DeviceJobSkipped:
		return j.moved(e.JobRef, func(r *JobRun) { r.State, r.Reason = JobSkipped, e.Reason })
	case DeviceJobFailed:
		return j.moved(e.JobRef, func(r *JobRun) { r.State, r.Reason, r.Attempt = JobFailed, e.Reason, e.Attempt })
	case DeviceJobSuperseded:
		return j.moved(e.JobRef, func(r *JobRun) { r.State, r.Reason = JobSuperseded, "" })
	}
	return j
}

// moved changes the run of a job in a copy.
func (j DeviceJobs) moved(ref JobRef, change func(*JobRun)) DeviceJobs {
	if i := slices.IndexFunc(j.Runs, func(r JobRun) bool { return r.JobRef == ref }); i >= 0 {
		j.Runs = slices.Clone(j.Runs)
		change(&j.Runs[i])
	}
	return j
}

func (j DeviceJobs) selected(e DeviceJobsSelected) DeviceJobs {
	var others, own []JobRun
	for _, r := range j.Runs {
		if !slices.ContainsFunc(e.Jobs, func(s SelectedJob) bool { return s.JobID == r.JobID }) {
			r.Pinned = false
			others = append(others, r)
		}
	}
	for _, s := range e.Jobs {
		run, had := j.run(s.JobRef)
		if !had || !run.Pinned {
			run = JobRun{SelectedJob: s, State: JobQueued, Pinned: true}
		}
		own = append(own, run)
	}
	others = others[max(0, len(others)-keptRuns):]
	return DeviceJobs{Selected: e, Known: true, Runs: slices.Concat(others, own)}
}

func (j DeviceJobs) run(ref JobRef) (JobRun, bool) {
	i := slices.IndexFunc(j.Runs, func(r JobRun) bool { return r.JobRef == ref })
	if i < 0 {
		return JobRun{}, false
	}
	return j.Runs[i], true
}

// Pinned are the device's own jobs in the order they are carried out.
func (j DeviceJobs) Pinned() []JobRun {
	var out []JobRun
	for _, r := range j.Runs {
		if r.Pinned {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b JobRun) int {
		return cmp.Compare(slices.Index(jobOrder, a.Type), slices.Index(jobOrder, b.Type))
	})
	return out
}

// Due are the jobs to be sent now to a sysclient: software alone, also when it is not known that the device was told to restart
// with it, and configuration only when the software is done or left alone.
func (j DeviceJobs) Due() (due []JobRun) {
	for _, r := range j.Pinned() {
		if r.Due() || r.loaded(j.Selected.Via) {
			due = append(due, r)
		}
		if r.Type == JobSoftware && r.Open() {
			break
		}
	}
	return due
}

// loaded tells whether a device has the software of the job, and not that it was told to restart with it.
func (r JobRun) loaded(via string) bool {
	return via == ViaNative && r.Type == JobSoftware && r.State == JobSent
}

// Waiting tells whether a job is still to be carried out.
func (j DeviceJobs) Waiting() bool {
	return slices.ContainsFunc(j.Runs, func(r JobRun) bool { return r.Pinned && r.Open() })
}

// JobNeed tells what a job asks of a device, by its contact: what must be sent, or why there is nothing to send.
type JobNeed func(v JobVersion, c JobContact) (skip string)

// RegisterJobs is the device's contact: it pins its jobs anew if they were not looked at since its assignment, a reset
// or a change of the tenant's jobs, and settles those that wait for a sign. back tells that it has come back, rather
// than just being there.
func (d Device) RegisterJobs(jobs Jobs, c JobContact, back bool, need JobNeed) []Event {
	if d.Live() != nil || !d.Assigned() || jobs.Revision() == NoStream {
		return nil
	}
	var events []Event
	record := func(e ...Event) {
		for _, e := range e {
			events, d = append(events, e), d.Apply(e)
		}
	}
	if !d.Jobs.Known || d.Jobs.Selected.JobsRevision != jobs.Revision() || d.Jobs.Selected.Via != c.Via {
		before := d.Jobs
		e := DeviceJobsSelected{JobsRevision: jobs.Revision(), CategoryID: d.CategoryID, Jobs: []SelectedJob{}, JobContact: c}
		for _, v := range jobs.Select(d.CategoryID) {
			e.Jobs = append(e.Jobs, SelectedJob{v.JobRef, v.Type})
		}
		for _, r := range before.Pinned() {
			if r.Open() && !slices.Contains(e.Jobs, r.SelectedJob) {
				i := slices.IndexFunc(e.Jobs, func(s SelectedJob) bool { return s.Type == r.Type })
				superseded := DeviceJobSuperseded{JobRef: r.JobRef}
				if i >= 0 {
					superseded.By = e.Jobs[i].JobRef
				}
				record(superseded)
			}
		}
		record(e)
	}
	for _, r := range d.Jobs.Pinned() {
		if v, ok := jobs.Version(r.JobRef); ok && r.Open() {
			record(r.settle(v, c, back, need)...)
		}
	}
	return events
}

// settle is what a contact says of an open job.
func (r JobRun) settle(v JobVersion, c JobContact, back bool, need JobNeed) []Event {
	skip := need(v, c)
	switch {
	case v.Type == JobSoftware && skip == SkipCurrent && (!r.Due() || r.Attempt > 0): // it has it from us
		return []Event{DeviceJobVerified{r.JobRef, c.Firmware, c.BootCode}}
	case r.Due() && skip != "":
		return []Event{DeviceJobSkipped{r.JobRef, skip}}
	case r.Due(), r.loaded(c.Via):
		return nil
	case !back || c.Via == ViaFiles: // a phone that has its files may still be fetching the rest
		return nil
	case v.Type == JobSoftware:
		return []Event{DeviceJobFailed{r.JobRef, r.Attempt + 1, "it came back with firmware " + cmp.Or(c.Firmware, "unknown") + ", boot code " + cmp.Or(c.BootCode, "unknown")}}
	}
	return []Event{DeviceJobApplied{r.JobRef, ProofIdentified}}
}

// SoftwareNeed is what a software job has to do for a device: boot code, firmware, both, or nothing, and why.
func (s SoftwareJob) SoftwareNeed(c JobContact) (firmware, bootCode bool, skip string) {
	if !s.Offers(c.Product) {
		return false, false, SkipNoBuild
	}
	firmware, bootCode = parts(c)
	if !firmware && !bootCode {
		return false, false, SkipNoBuild
	}
	firmware = firmware && !strings.EqualFold(c.Firmware, s.Build)
	bootCode = bootCode && !strings.EqualFold(c.BootCode, s.Build)
	switch {
	case !firmware && !bootCode:
		return false, false, SkipCurrent
	case c.Via == ViaForeign:
		return false, false, SkipNotPushed
	case c.Via == ViaNative && s.BaseURL == "":
		return false, false, SkipNoSource
	}
	return firmware, bootCode, ""
}

// parts tells what of a product is updated: reference "innovaphone provisioning" §1.2. Only native sysclients have a
// boot code of their own.
func parts(c JobContact) (firmware, bootCode bool) {
	switch strings.ToLower(c.Product) {
	case "swphone", "mypbxi", "ipbs", "ipbs2", "pbl":
		return false, false
	case "mypbxa":
		return true, false
	}
	return true, c.Via != ViaFiles
}

// SoftwareFiles are the names of a product's boot code and firmware: reference "innovaphone provisioning" §3.4.
func SoftwareFiles(product string) (bootCode, firmware string) {
	rest, _, _ := strings.Cut(strings.ToLower(product), "-")
	if rest == "mypbxa" {
		return "", "mypbx.apk"
	}
	rest = strings.TrimPrefix(rest, "ip")
	return "boot" + rest + ".bin", "ip" + rest + ".bin"
}

// ErrJobNotFailed: the job has not failed on the device, so there is nothing to try again.
var ErrJobNotFailed = errors.New("the job has not failed on this device")

// RetryJob has a job that failed tried again from the first attempt.
func (d Device) RetryJob(id JobID) ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(d.Jobs.Runs, func(r JobRun) bool { return r.JobID == id && r.Pinned && r.State == JobFailed })
	if i < 0 {
		return nil, ErrJobNotFailed
	}
	return []Event{DeviceJobQueued{d.Jobs.Runs[i].JobRef}}, nil
}

// NoteJob records what came of sending a job, unless it is not the device's any more or is done.
func (d Device) NoteJob(ref JobRef, e ...Event) []Event {
	r, ok := d.Jobs.run(ref)
	if d.Live() != nil || !ok || !r.Pinned || !r.Open() {
		return nil
	}
	return e
}

// FetchedJobs is what the device's latest fetch says of its jobs by ViaFiles: it has what its files follow from.
func (d Device) FetchedJobs() (events []Event) {
	if !d.Jobs.Known || d.Jobs.Selected.Via != ViaFiles || d.Config.Guest || len(d.Delivered) == 0 || len(d.outdated()) > 0 {
		return nil
	}
	i := slices.IndexFunc(d.Config.Inputs, func(in Input) bool { return in.Stream == JobsStream(d.TenantID) })
	if i < 0 || d.Config.Inputs[i].Revision < d.Jobs.Selected.JobsRevision {
		return nil
	}
	for _, r := range d.Jobs.Pinned() {
		switch {
		case !r.Due():
		case r.Type == JobSoftware:
			events = append(events, DeviceJobSent{r.JobRef})
		default:
			events = append(events, DeviceJobApplied{r.JobRef, ProofFetched})
		}
	}
	return events
}
