package commands

import (
	"context"
	"encoding/json"
	"errors"

	"ledgerline/domain"
)

// Sysclients reaches the devices that are connected to Devices just now: adapters/sysclient. A device is only
// there when it has authenticated into its tenant. Safe for concurrent use.
type Sysclients interface {
	// Connected tells whether the device is there.
	Connected(device domain.DeviceID) bool
	// Fetch carries one HTTP exchange to the web server of a native device through its tunnel. path begins with
	// "/" and may hold a query; the answer's body is at most 8 MiB. ErrOffline when the device is not there or
	// goes away in the midst of it; it comes back within 60 seconds.
	Fetch(ctx context.Context, device domain.DeviceID, method, path string, body []byte) (status int, answer []byte, err error)
	// Configure sends configuration messages to a foreign device, the last one marked as last; each is the JSON
	// object of its config. That they were written says nothing of what the device made of them. ErrOffline.
	Configure(ctx context.Context, device domain.DeviceID, configs []json.RawMessage) error
}

// ErrOffline: the device has no authenticated connection here.
var ErrOffline = errors.New("the device is not connected")
