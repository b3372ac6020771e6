package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"ledgerline/domain"
)

// Jobs reach connected devices by what they understand: native ones by the text commands of an update script, one request
// to their web server each (reference "innovaphone provisioning" §2.3, the safe choice), foreign ones by configuration messages.

// JobCommands says which option of which module sets a parameter of native devices: "MODULE /option" by type and
// parameter. What is not in it is not set. That the vendor publishes none of this is why it can be changed.
type JobCommands map[string]map[string]string

// DefaultJobCommands is our best knowledge of the options; see docs/jobs.md for how sure each is.
func DefaultJobCommands() JobCommands {
	calls := map[string]string{"gk1": "PHONE /gk-addr", "gk2": "PHONE /gk-addr-alt", "gkId": "PHONE /gk-id", "coder": "PHONE /coder", "frameSize": "PHONE /frame", "exclusive": "PHONE /exclusive",
		"silenceComp": "PHONE /sc", "srtpKey": "PHONE /srtp-key", "srtpCipher": "PHONE /srtp-cipher", "recordingUrl": "PHONE /recording-url", "dialTone": "PHONE /dial-tone"}
	return JobCommands{
		domain.JobNTP: {"ntp1": "NTP0 /addr", "ntp2": "NTP0 /alt-addr", "tz": "NTP0 /tz"},
		domain.JobMedia: {"stunServer": "MEDIA /stun", "turnServer": "MEDIA /turn", "turnUser": "MEDIA /turn-user", "turnPassword": "MEDIA /turn-pwd", "tosRtp": "MEDIA /tos-rtp", "tosSig": "MEDIA /tos-sig",
			"rtpFirst": "MEDIA /rtp-first", "rtpNum": "MEDIA /rtp-num", "natFirst": "MEDIA /nat-first", "natNum": "MEDIA /nat-num"},
		domain.JobPhone:       calls,
		domain.JobTLSProfile:  {"profile": "TLS0 /profile"},
		domain.JobAlarmServer: {"url": "LOG0 /alarm-url", "logUrl": "LOG0 /url", "logUser": "LOG0 /user", "logPassword": "LOG0 /pwd"},
	}
}

// Check is nil when every row can be put into a command: a module and an option of letters, digits and dashes, for a
// parameter there is.
func (c JobCommands) Check() error {
	word := func(s string) bool {
		return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		})
	}
	for kind, options := range c {
		i := slices.IndexFunc(domain.JobTypes(), func(t domain.JobType) bool { return t.Type == kind && kind != domain.JobExpert })
		if i < 0 {
			return fmt.Errorf("%q is no type of configuration that is put into commands", kind)
		}
		for param, option := range options {
			module, name, ok := strings.Cut(option, " /")
			if !ok || !word(module) || !word(name) {
				return fmt.Errorf("%s of %s must be set by MODULE /option, not %q", param, kind, option)
			}
			if !slices.ContainsFunc(domain.JobTypes()[i].Parameters, func(d domain.SettingDef) bool { return d.Path == param }) {
				return fmt.Errorf("%q is no parameter of %s", param, kind)
			}
		}
	}
	return nil
}

const (
	// jobTime bounds the sending of all a device's jobs in one go. A single command is bounded by what carries it (Sysclients).
	jobTime  = 10 * time.Minute
	jobPause = time.Minute      // before a job that failed is tried again, times the attempts so far
	noteTime = 30 * time.Second // to record what came of it, also when the device's time is up
)

// JobWorkers is how many should call SendDueJobs side by side: a device may take its time, jobTime at most.
const JobWorkers = 16

// jobs is the volatile part of sending: which devices wait for it, and since when they may, and which are being sent to. A
// device that is lost with a restart registers again.
type jobs struct {
	mu   sync.Mutex
	due  map[domain.DeviceID]time.Time
	busy map[domain.DeviceID]bool
}

// wait has a device looked at by SendDueJobs once it is at, whatever was due before.
func (j *jobs) wait(id domain.DeviceID, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.due == nil {
		j.due = make(map[domain.DeviceID]time.Time)
	}
	j.due[id] = at
}

// take answers the device that has waited longest, of those that are not being sent to; ok is false when there is none.
func (j *jobs) take(now time.Time) (id domain.DeviceID, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var since time.Time
	for d, at := range j.due {
		if !now.Before(at) && !j.busy[d] && (!ok || at.Before(since) || at.Equal(since) && d < id) {
			id, since, ok = d, at, true
		}
	}
	delete(j.due, id)
	return id, ok
}

// begin is false while somebody is sending to the device.
func (j *jobs) begin(id domain.DeviceID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.busy[id] {
		return false
	}
	if j.busy == nil {
		j.busy = make(map[domain.DeviceID]bool)
	}
	j.busy[id] = true
	return true
}

func (j *jobs) end(id domain.DeviceID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.busy, id)
}

// SendDueJobs sends what devices connected here wait for, one after the other: those that registered or got other jobs, and
// those whose last attempt failed a while ago. Every replica has JobWorkers of it called for its own devices, every second or so. Of several
// errors it joins all.
func (s *Service) SendDueJobs(ctx context.Context) error {
	var errs []error
	var again []domain.DeviceID
	for ctx.Err() == nil {
		id, ok := s.jobs.take(s.now())
		if !ok {
			break
		}
		if err := unlessGone(s.SendJobs(ctx, id)); err != nil {
			errs, again = append(errs, err), append(again, id)
		}
	}
	for _, id := range again {
		s.jobs.wait(id, s.now().Add(jobPause))
	}
	return errors.Join(errs...)
}

// SendJobs sends a connected device what it waits for, software before configuration, and records what came of it. For
// one that is not connected here it does nothing: the jobs wait until it registers. A device is sent to by one caller at
// a time: what another finds to be sent meanwhile, SendDueJobs looks after. Errors are ours; what the device makes of a job
// is a fact on record, and so is that it did not answer in time.
func (s *Service) SendJobs(ctx context.Context, id domain.DeviceID) error {
	if s.Sysclients == nil || !s.Sysclients.Connected(id) {
		return nil
	}
	if !s.jobs.begin(id) {
		s.jobs.wait(id, s.now())
		return nil
	}
	defer s.jobs.end(id)
	ctx, cancel := context.WithTimeout(ctx, jobTime)
	defer cancel()
	return s.sendJobs(WithCaller(ctx, Caller{Actor: "system:jobs", correlation: CallerFrom(ctx).correlation}), id)
}

func (s *Service) sendJobs(ctx context.Context, id domain.DeviceID) error {
	d, _, err := load[domain.Device](ctx, s.Log, id.Stream())
	due := d.Jobs.Due()
	if err != nil || d.Live() != nil || len(due) == 0 {
		return err
	}
	list, _, err := s.jobLists.now(ctx, s.Log, domain.JobsStream(d.TenantID))
	if err != nil {
		return err
	}
	send := sending{s: s, d: d}
	for _, run := range due {
		v, ok := list.Version(run.JobRef)
		if !ok {
			return fmt.Errorf("send job %s to %s: %w", run.JobID, id, domain.ErrJobUnknown)
		}
		send.jobs, send.runs = append(send.jobs, v), append(send.runs, run)
	}
	switch {
	case send.jobs[0].Type == domain.JobSoftware:
		err = send.software(ctx)
	case d.Jobs.Selected.Via == domain.ViaForeign:
		err = send.messages(ctx)
	default:
		err = send.commands(ctx)
	}
	if errors.Is(err, ErrOffline) {
		return nil // they wait until it registers
	}
	return err
}

// sending is what one device is sent now.
type sending struct {
	s    *Service
	d    domain.Device
	jobs []domain.JobVersion
	runs []domain.JobRun
}

// note records what came of one job, unless it has been overtaken.
func (x sending) note(ctx context.Context, ref domain.JobRef, e ...domain.Event) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTime)
	defer cancel()
	_, err := decide(ctx, x.s, x.d.ID.Stream(), func(d domain.Device) ([]domain.Event, error) { return d.NoteJob(ref, e...), nil })
	return err
}

// fail records that an attempt came to nothing, and has it repeated in a while.
func (x sending) fail(ctx context.Context, run domain.JobRun, reason string) error {
	attempt, pause := run.Attempt+1, time.Duration(0) // after the last one, what waited for this job follows
	if attempt < domain.JobAttempts {
		pause = time.Duration(attempt) * jobPause
	}
	x.s.jobs.wait(x.d.ID, x.s.now().Add(pause))
	return x.note(ctx, run.JobRef, domain.DeviceJobFailed{JobRef: run.JobRef, Attempt: attempt, Reason: reason})
}

// software has the device load boot code and firmware and restart when it is idle. That it has them, it shows when it comes back.
func (x sending) software(ctx context.Context) error {
	job, run := x.jobs[0].Software, x.runs[0]
	firmware, bootCode, skip := job.SoftwareNeed(x.d.Jobs.Selected.JobContact)
	if skip != "" {
		return x.note(ctx, run.JobRef, domain.DeviceJobSkipped{JobRef: run.JobRef, Reason: skip})
	}
	var lines []string
	load := func(what, file string) {
		lines = append(lines, "mod cmd UP0 "+what+" "+strings.TrimSuffix(job.BaseURL, "/")+"/"+job.Build+"/"+file+" ser "+job.Build)
	}
	boot, image := domain.SoftwareFiles(x.d.Jobs.Selected.Product)
	if bootCode {
		load("boot", boot)
	}
	if firmware {
		load("prot", image)
	}
	switch reason, err := x.run(ctx, lines); {
	case reason != "":
		return x.fail(ctx, run, reason)
	case err != nil:
		return err
	}
	// That it has the software is on record before it is told to restart, so that it is known why it comes back with it. Whoever
	// dies in between sends all again, and the device has no use for what it has.
	if run.State != domain.JobSent {
		if err := x.note(ctx, run.JobRef, domain.DeviceJobSent{JobRef: run.JobRef}); err != nil {
			return err
		}
	}
	switch reason, err := x.run(ctx, []string{"iresetn"}); {
	case errors.Is(err, ErrOffline), errors.Is(err, ErrNoAnswer): // it may be gone before it has answered
	case reason != "":
		return x.fail(ctx, run, reason)
	case err != nil:
		return err
	}
	return x.note(ctx, run.JobRef, domain.DeviceJobRebooting{JobRef: run.JobRef})
}

// commands sets each configuration by text commands. One that the device does not take keeps no other back; a device that does
// not answer is left alone until the next attempt.
func (x sending) commands(ctx context.Context) error {
	for i, v := range x.jobs {
		lines, err := x.lines(ctx, v)
		if err != nil {
			return err
		}
		reason, err := x.run(ctx, slices.Concat(lines, []string{"config write", "config activate"}))
		switch {
		case errors.Is(err, ErrNoAnswer):
			return x.fail(ctx, x.runs[i], reason)
		case err != nil:
			return err
		case reason != "":
			err = x.fail(ctx, x.runs[i], reason)
		default:
			if err = x.note(ctx, v.JobRef, domain.DeviceJobSent{JobRef: v.JobRef}); err == nil {
				err = x.readBack(ctx, v, x.runs[i], lines)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// run has the device carry out lines; reason tells why it did not carry out all of them. ErrOffline: it carried out none, and
// there is no reason. ErrNoAnswer, with a reason: it is there and did not answer, or not before its time was up.
func (x sending) run(ctx context.Context, lines []string) (reason string, err error) {
	for i, line := range lines {
		status, _, err := x.s.Sysclients.Fetch(ctx, x.d.ID, http.MethodGet, "/!"+escapeCommand(line), nil)
		switch {
		case err != nil && errors.Is(ctx.Err(), context.Canceled):
			return "", ctx.Err()
		case errors.Is(err, ErrOffline) && i > 0:
			return fmt.Sprintf("it went away after %d of %d commands", i, len(lines)), nil
		case errors.Is(err, ErrNoAnswer):
			return fmt.Sprintf("it did not answer command %d of %d: %s …", i+1, len(lines), twoWords(line)), ErrNoAnswer
		case err != nil:
			return "", fmt.Errorf("send a command to %s: %w", x.d.ID, err)
		case status < 200 || status >= 300:
			return fmt.Sprintf("it answered %d to command %d of %d: %s …", status, i+1, len(lines), twoWords(line)), nil
		}
	}
	return "", nil
}

// twoWords are the first words of a command, which hold no value that could be a secret.
func twoWords(line string) string {
	f := strings.Fields(line)
	return strings.Join(f[:min(2, len(f))], " ")
}

// escape is RFC 3986's percent-encoding of everything but unreserved characters, as arguments of commands want it.
func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// escapeCommand makes a command the path of a URL. The device undoes one layer; that of the command's own arguments stays.
func escapeCommand(line string) string { return strings.ReplaceAll(escape(line), "%2F", "/") }

// lines are the commands of a configuration.
func (x sending) lines(ctx context.Context, v domain.JobVersion) ([]string, error) {
	if v.Type == domain.JobExpert {
		script, err := x.s.JobScript(ctx, x.d.TenantID, v.Config.Script)
		return domain.ScriptLines(script), err
	}
	params, err := x.s.openParameters(ctx, v.Config)
	return x.s.jobLines(v.Type, params), err
}

// JobScript is the text of an EXPERT job. domain.ErrErased when the tenant was.
func (s *Service) JobScript(ctx context.Context, tenant domain.TenantID, kept domain.JobScript) (string, error) {
	b, err := s.Blobs.Get(ctx, domain.Subject(tenant.Stream()), kept.MAC)
	if err != nil {
		return "", fmt.Errorf("read a job's script: %w", err)
	}
	return string(b), nil
}

// openParameters are the parameters of a configuration with its secrets in clear text.
func (s *Service) openParameters(ctx context.Context, c domain.ConfigJob) (domain.JobParameters, error) {
	out := domain.JobParameters{}
	for k, v := range c.Parameters {
		out[k] = v
	}
	for name, sealed := range map[string]domain.Secret{domain.ParamTurnPassword: c.TurnPassword, domain.ParamLogPassword: c.LogPassword} {
		clear, err := s.Open(ctx, sealed.Sealed)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		if clear != "" {
			out[name] = clear
		}
	}
	return out, nil
}

// gates are the parameters that say whether others count.
var gates = map[string]string{"rtpFirst": "setRtpPorts", "rtpNum": "setRtpPorts", "natFirst": "setNatPorts", "natNum": "setNatPorts",
	"recordingUrl": "setRecordingUrl", "logUrl": "setLogUrl", "logUser": "setLogUrl", domain.ParamLogPassword: "setLogUrl"}

// jobOptions are the options in use.
func (s *Service) jobOptions() JobCommands {
	if s.JobCommands == nil {
		return DefaultJobCommands()
	}
	return s.JobCommands
}

// jobLines are the commands that set the parameters of a type on a native device: one option each, so that the others of
// its module stay.
func (s *Service) jobLines(kind string, params domain.JobParameters) (lines []string) {
	options := s.jobOptions()
	i := slices.IndexFunc(domain.JobTypes(), func(t domain.JobType) bool { return t.Type == kind })
	for _, def := range domain.JobTypes()[i].Parameters {
		option, value := options[kind][def.Path], params[def.Path]
		gate := gates[def.Path]
		switch {
		case option == "" || value == nil || gate != "" && !params.Flag(gate):
		case value == false:
			lines = append(lines, "config rem "+option)
		case value == true:
			lines = append(lines, "config add "+option)
		default:
			lines = append(lines, "config add "+option+" "+escape(fmt.Sprint(value)))
		}
	}
	return lines
}

// messages sends a foreign device all its configurations at once, the last marked as last.
func (x sending) messages(ctx context.Context) error {
	var configs []json.RawMessage
	for _, v := range x.jobs {
		message, err := x.message(ctx, v)
		if err != nil {
			return err
		}
		configs = append(configs, message)
	}
	if err := x.s.Sysclients.Configure(ctx, x.d.ID, configs); err != nil {
		return err
	}
	sent := make([]domain.Event, len(x.runs))
	for i, run := range x.runs {
		sent[i] = domain.DeviceJobSent{JobRef: run.JobRef}
	}
	_, err := decide(ctx, x.s, x.d.ID.Stream(), func(d domain.Device) (events []domain.Event, _ error) {
		for i, run := range x.runs {
			events = append(events, d.NoteJob(run.JobRef, sent[i])...)
		}
		return events, nil
	})
	return err
}

// seeds are the names under which foreign devices are told what a password was encrypted with.
var seeds = map[string]string{domain.ParamTurnPassword: "turnSeed", domain.ParamLogPassword: "logSeed"}

var errNoCipher = errors.New("it has no password of its own")

// message is a configuration as a foreign device gets it: passwords encrypted under its own (reference §2.2).
func (x sending) message(ctx context.Context, v domain.JobVersion) (json.RawMessage, error) {
	params, err := x.s.openParameters(ctx, v.Config)
	if err != nil {
		return nil, err
	}
	params["type"] = v.Type
	for name, seed := range seeds {
		clear := params.Text(name)
		if clear == "" {
			continue
		}
		if x.s.SysclientCipher == nil || !x.d.Sysclient.HasPassword() {
			return nil, fmt.Errorf("encrypt %s for %s: %w", name, x.d.ID, errNoCipher)
		}
		password, err := x.s.sysclientPassword(ctx, x.d)
		if err != nil {
			return nil, err
		}
		text, err := drawText(x.s.random(), sysclientAlphabet, 16)
		if err != nil {
			return nil, fmt.Errorf("draw a seed: %w", err)
		}
		if params[name], err = x.s.SysclientCipher(text, password, clear); err != nil {
			return nil, fmt.Errorf("encrypt %s for %s: %w", name, x.d.ID, err)
		}
		params[seed] = text
	}
	return json.Marshal(params)
}
