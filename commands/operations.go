package commands

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ledgerline/domain"
)

// Operations are pieces of work too long for one request: fetching an index, a package, firmware; moving many devices.
// They are volatile, handles to poll and no facts: what came of one is in the log. One that has ended is kept for an hour,
// at most 1,000 are kept at all. The zero value is ready; safe for concurrent use.
type Operations struct {
	mu      sync.Mutex
	byID    map[string]*operation
	order   []string            // oldest first
	live    map[*operation]bool // under way, forgotten ones too
	running sync.WaitGroup
	stopped bool
}

const (
	operationsAtMost = 1000
	operationKept    = time.Hour
)

var (
	// ErrOperationUnknown: no such operation, or it was forgotten.
	ErrOperationUnknown = errors.New("no such operation")
	// ErrOperationRunning: the same work is under way already.
	ErrOperationRunning = errors.New("the same operation is already running")
	// ErrTooManyOperations: 1,000 operations are under way.
	ErrTooManyOperations = errors.New("too many operations are running")
)

// Work describes an operation to start.
type Work struct {
	// Label says what is done: letters, digits, underscores ("install").
	Label string
	// TenantID is whose operation it is; empty for the whole instance.
	TenantID domain.TenantID
	// Key, when set, lets one operation of that key run at a time; ErrOperationRunning else.
	Key string
	Do  func(ctx context.Context, p *Progress) error
}

// Operation is the state of one piece of work.
type Operation struct {
	ID        string          `json:"id"`
	TenantID  domain.TenantID `json:"tenant_id,omitempty"`
	Actor     string          `json:"actor"`
	StartedAt time.Time       `json:"started_at"`
	EndedAt   *time.Time      `json:"ended_at,omitempty"`
	// Error is why it failed, in words for people. Never holds a secret.
	Error string `json:"error,omitempty"`
	Step
}

// States of a step; they go forward only: waiting, progress, then success or fail.
const (
	StepWaiting  = "waiting"
	StepProgress = "progress"
	StepSuccess  = "success"
	StepFail     = "fail"
)

// Step is how far a piece of work, or a part of it, has come. Current and End count whatever the work counts (bytes,
// devices); End is 0 when nobody knows.
type Step struct {
	Label    string `json:"label,omitempty"`
	State    string `json:"state"`
	Current  int64  `json:"current,omitempty"`
	End      int64  `json:"end,omitempty"`
	Children []Step `json:"children,omitempty"`
}

// String is the text form of wazo-provd (its §1.10): "install|progress(download|progress;8192/16072)".
func (s Step) String() string {
	var b strings.Builder
	s.write(&b)
	return b.String()
}

func (s Step) write(b *strings.Builder) {
	if s.Label != "" {
		b.WriteString(s.Label + "|")
	}
	b.WriteString(s.State)
	if s.Current > 0 || s.End > 0 {
		b.WriteString(";" + strconv.FormatInt(s.Current, 10))
	}
	if s.End > 0 {
		b.WriteString("/" + strconv.FormatInt(s.End, 10))
	}
	for _, c := range s.Children {
		b.WriteByte('(')
		c.write(b)
		b.WriteByte(')')
	}
}

// Progress is what work tells of itself: one step and the parts it has. A nil Progress takes everything and shows
// nothing. Safe for concurrent use.
type Progress struct {
	mu       *sync.Mutex // one for the whole tree
	step     Step
	children []*Progress
}

// NewProgress is a tree of its own, for work that runs in the foreground.
func NewProgress(label string) *Progress {
	return &Progress{mu: &sync.Mutex{}, step: Step{Label: label, State: StepProgress}}
}

// Part adds a part that waits. label may be empty.
func (p *Progress) Part(label string) *Progress {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &Progress{mu: p.mu, step: Step{Label: label, State: StepWaiting}}
	p.children = append(p.children, c)
	return c
}

// Expect begins the step and says how much there will be; 0 if that is not known.
func (p *Progress) Expect(end int64) {
	p.do(func() { p.step.End = max(end, p.step.Current) })
}

// Size says how much there will be, of a step that still waits.
func (p *Progress) Size(end int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step.End = end
}

// Add begins the step if need be and adds n to what is done.
func (p *Progress) Add(n int64) {
	p.do(func() {
		p.step.Current += n
		if p.step.End > 0 {
			p.step.End = max(p.step.End, p.step.Current)
		}
	})
}

func (p *Progress) do(change func()) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.step.State == StepWaiting {
		p.step.State = StepProgress
	}
	change()
}

// Done ends the step and every part that has not ended: as a success when err is nil.
func (p *Progress) Done(err error) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	state := StepSuccess
	if err != nil {
		state = StepFail
	}
	p.end(state)
}

func (p *Progress) end(state string) {
	if p.step.State == StepSuccess || p.step.State == StepFail {
		return
	}
	p.step.State = state
	for _, c := range p.children {
		c.end(state)
	}
}

// Step is the state of the tree now; the zero Step of a nil Progress.
func (p *Progress) Step() Step {
	if p == nil {
		return Step{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot()
}

func (p *Progress) snapshot() Step {
	s := p.step
	for _, c := range p.children {
		s.Children = append(s.Children, c.snapshot())
	}
	return s
}

type operation struct {
	head     Operation // all but the steps
	key      string
	progress *Progress
	cancel   context.CancelFunc
}

// Operations are the long-running operations of this process.
func (s *Service) Operations() *Operations { return &s.operations }

// Start begins w and returns its id at once. The work runs on behalf of ctx's caller, and goes on when ctx ends.
// Errors: ErrOperationRunning, ErrTooManyOperations.
func (o *Operations) Start(ctx context.Context, w Work) (id string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweep(time.Now())
	switch {
	case o.stopped, len(o.live) >= operationsAtMost:
		return "", ErrTooManyOperations
	case w.Key != "" && o.runs(w.Key):
		return "", ErrOperationRunning
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	op := &operation{key: w.Key, progress: NewProgress(w.Label), cancel: cancel,
		head: Operation{ID: newID(), TenantID: w.TenantID, Actor: CallerFrom(ctx).Actor, StartedAt: time.Now().UTC()}}
	if o.byID == nil {
		o.byID, o.live = make(map[string]*operation), make(map[*operation]bool)
	}
	o.byID[op.head.ID], o.live[op] = op, true
	o.order = append(o.order, op.head.ID)
	o.running.Add(1)
	go func() {
		defer o.running.Done()
		defer cancel()
		err := w.Do(ctx, op.progress)
		op.progress.Done(err)
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.live, op)
		now := time.Now().UTC()
		op.head.EndedAt = &now
		if err != nil {
			op.head.Error = err.Error()
		}
	}()
	return op.head.ID, nil
}

func (o *Operations) runs(key string) bool {
	for op := range o.live {
		if op.key == key {
			return true
		}
	}
	return false
}

// sweep forgets what ended an hour ago and, when there are too many, the oldest that have ended.
func (o *Operations) sweep(now time.Time) {
	over := len(o.order) - operationsAtMost + 1
	o.order = slices.DeleteFunc(o.order, func(id string) bool {
		ended := o.byID[id].head.EndedAt
		if ended == nil || over <= 0 && now.Sub(*ended) < operationKept {
			return false
		}
		over--
		delete(o.byID, id)
		return true
	})
}

// Get answers the operation's state now. Errors: ErrOperationUnknown.
func (o *Operations) Get(id string) (Operation, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweep(time.Now())
	op, ok := o.byID[id]
	if !ok {
		return Operation{}, ErrOperationUnknown
	}
	return op.state(), nil
}

func (op *operation) state() Operation {
	s := op.head
	s.Step = op.progress.Step()
	return s
}

// List answers all operations, oldest first.
func (o *Operations) List() []Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweep(time.Now())
	out := make([]Operation, len(o.order))
	for i, id := range o.order {
		out[i] = o.byID[id].state()
	}
	return out
}

// Cancel stops the work, which ends as a failure unless it was done already, and forgets it. Errors: ErrOperationUnknown.
func (o *Operations) Cancel(id string) error { return o.drop(id, true) }

// Forget drops the handle; the work goes on. Errors: ErrOperationUnknown.
func (o *Operations) Forget(id string) error { return o.drop(id, false) }

func (o *Operations) drop(id string, cancel bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	op, ok := o.byID[id]
	if !ok {
		return ErrOperationUnknown
	}
	if cancel {
		op.cancel()
	}
	delete(o.byID, id)
	o.order = slices.DeleteFunc(o.order, func(other string) bool { return other == id })
	return nil
}

// Stop cancels all work, takes no more, and returns when all has ended, or ctx.
func (o *Operations) Stop(ctx context.Context) error {
	o.mu.Lock()
	o.stopped = true
	for op := range o.live {
		op.cancel()
	}
	o.mu.Unlock()
	done := make(chan struct{})
	go func() { o.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
