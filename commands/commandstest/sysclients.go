package commandstest

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Sysclients is commands.Sysclients: devices that are connected as Connect says, and remember what they were sent.
type Sysclients struct {
	Faults *Faults // may be nil: calls are named "Fetch" and "Configure"

	mu     sync.Mutex
	on     map[domain.DeviceID]bool
	sent   map[domain.DeviceID][]string
	answer func(device domain.DeviceID, command string) int
	dump   func(device domain.DeviceID) string
}

// Connect puts a device there, or takes it away.
func (s *Sysclients) Connect(id domain.DeviceID, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on == nil {
		s.on, s.sent = map[domain.DeviceID]bool{}, map[domain.DeviceID][]string{}
	}
	s.on[id] = on
}

// Answering makes devices answer commands with the status f gives.
func (s *Sysclients) Answering(f func(device domain.DeviceID, command string) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// Showing makes devices show their configuration, in the text f gives; they do not without.
func (s *Sysclients) Showing(f func(device domain.DeviceID) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dump = f
}

// Sent is what a device was sent, in order: the commands in clear, or the messages; and forgets it.
func (s *Sysclients) Sent(id domain.DeviceID) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := slices.Clone(s.sent[id])
	delete(s.sent, id)
	return sent
}

// Connected implements commands.Sysclients.
func (s *Sysclients) Connected(id domain.DeviceID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on[id]
}

// Fetch implements commands.Sysclients: it undoes one layer of percent-encoding, as devices do.
func (s *Sysclients) Fetch(_ context.Context, id domain.DeviceID, method, path string, _ []byte) (status int, body []byte, err error) {
	status = 404
	err = s.Faults.around(Call{Method: "Fetch", Stream: id.Stream()}, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.on[id] {
			return commands.ErrOffline
		}
		if path == "/cfg.txt" && s.dump != nil {
			status, body = 200, []byte(s.dump(id))
			return nil
		}
		command, ok := strings.CutPrefix(path, "/!")
		clear, err := url.PathUnescape(command)
		if method != "GET" || !ok || err != nil || strings.ContainsAny(path, " \r\n") {
			return nil
		}
		s.sent[id] = append(s.sent[id], clear)
		if status = 200; s.answer != nil {
			f := s.answer
			s.mu.Unlock() // f may ask whether a device is there
			status = f(id, clear)
			s.mu.Lock()
		}
		return nil
	})
	return status, body, err
}

// Configure implements commands.Sysclients.
func (s *Sysclients) Configure(_ context.Context, id domain.DeviceID, configs []json.RawMessage) error {
	return s.Faults.around(Call{Method: "Configure", Stream: id.Stream()}, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.on[id] {
			return commands.ErrOffline
		}
		for _, c := range configs {
			s.sent[id] = append(s.sent[id], string(c))
		}
		return nil
	})
}
