package provd

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// handles are the names under which callers know operations: the path that started them and a number that counts from 1
// per path. Volatile, as operations are; the zero value is ready; safe for concurrent use.
type handles struct {
	mu   sync.Mutex
	next map[string]int
	ids  map[string]string // path and number -> operation
	all  []string          // oldest first
}

const handlesAtMost = 10_000

// add names an operation and answers its path.
func (h *handles) add(path, id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next == nil {
		h.next, h.ids = map[string]int{}, map[string]string{}
	}
	h.next[path]++
	at := path + "/" + strconv.Itoa(h.next[path])
	h.ids[at] = id
	h.all = append(h.all, at)
	if len(h.all) > handlesAtMost {
		delete(h.ids, h.all[0])
		h.all = h.all[1:]
	}
	return at
}

func (h *handles) find(path string) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id, ok := h.ids[path]
	return id, ok
}

func (h *handles) drop(path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.ids, path)
	h.all = slices.DeleteFunc(h.all, func(other string) bool { return other == path })
}

// operation finds the operation of the path, if the request may see it.
func (c *call) operation() (commands.Operation, error) {
	id, ok := c.handles.find(strings.TrimSuffix(c.r.URL.Path, "/"))
	if !ok {
		return commands.Operation{}, errNoResource
	}
	o, err := c.Service.Operations().Get(id)
	if errors.Is(err, commands.ErrOperationUnknown) || err == nil && o.TenantID != "" && !c.grant.Sees(o.TenantID) {
		return o, errNoResource
	}
	return o, err
}

func (c *call) getOperation() error {
	o, err := c.operation()
	if err != nil {
		return err
	}
	c.answer(http.StatusOK, object{"status": o.Step.String()})
	return nil
}

// deleteOperation forgets the handle; the work goes on.
func (c *call) deleteOperation() error {
	o, err := c.operation()
	if err != nil {
		return err
	}
	c.handles.drop(c.r.URL.Path)
	if err := c.Service.Operations().Forget(o.ID); err != nil && !errors.Is(err, commands.ErrOperationUnknown) {
		return err
	}
	c.answer(http.StatusNoContent, nil)
	return nil
}

const (
	// syncTime is how long a synchronization is watched.
	syncTime = time.Minute
	syncLook = 50 * time.Millisecond
)

// errNotTold: nobody took the message to the phone.
var errNotTold = errors.New("the phone could not be told")

// synchronize tells a phone to fetch; the operation ends when somebody took the message, or nobody did.
func (c *call) synchronize() error {
	id, err := c.named()
	if err != nil {
		return err
	}
	if err := c.owned(id); err != nil {
		return err
	}
	service := c.Service
	d, _, err := service.CurrentDevice(c.ctx, domain.DeviceID(id))
	if err != nil {
		return err
	}
	return c.begin(commands.Work{TenantID: d.TenantID, Do: func(ctx context.Context, _ *commands.Progress) error {
		ctx, cancel := context.WithTimeout(ctx, syncTime)
		defer cancel()
		sync, _, err := service.SynchronizeDevice(ctx, commands.SynchronizeDevice{ID: domain.DeviceID(id)})
		if err != nil {
			return err
		}
		tick := time.NewTicker(syncLook)
		defer tick.Stop()
		for {
			d, _, err := service.CurrentDevice(ctx, domain.DeviceID(id))
			switch {
			case err != nil:
				return err
			case d.Sync.SyncID != sync, d.Sync.State == domain.SyncSent, d.Sync.State == domain.SyncApplied:
				return nil // a later request carries on with it
			case d.Sync.State == domain.SyncFailed:
				return errNotTold
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}})
}
