package provd

import (
	"encoding/json"
	"fmt"
	"maps"

	"ledgerline/domain"
)

// CheckConfig tells what the interface would refuse of a config's document, before it is sent.
func CheckConfig(id string, doc map[string]any) error {
	if domain.CheckID(id) != nil {
		return fmt.Errorf("id %w", domain.ErrBadID)
	}
	_, err := readConfig(doc)
	return err
}

// CheckDevice is CheckConfig for a device.
func CheckDevice(id string, doc map[string]any) error {
	if domain.CheckID(id) != nil {
		return fmt.Errorf("id %w", domain.ErrBadID)
	}
	if _, life := domain.DeviceID(id).Life(); life > 1 {
		return fmt.Errorf("id must not end in a dot and a number")
	}
	_, err := readDevice(doc)
	return err
}

// SameDocument tells whether an answer of the interface holds, under member, what doc says; what only the server
// writes is passed over.
func SameDocument(member string, answer []byte, doc map[string]any) bool {
	tree, err := domain.DecodeObject(answer)
	if err != nil {
		return false
	}
	now, ok := tree[member].(map[string]any)
	if !ok {
		return false
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return false
	}
	want, err := domain.DecodeObject(b)
	if err != nil {
		return false
	}
	if member == "param" { // NAT is written as text and read as a number
		return fmt.Sprint(now["value"]) == fmt.Sprint(want["value"])
	}
	now = maps.Clone(now)
	for _, key := range servers {
		delete(now, key)
		delete(want, key)
	}
	if member == "device" {
		if mac, err := domain.ParseMAC(fmt.Sprint(want["mac"])); err == nil {
			want["mac"] = mac.Colons()
		}
		if want["ip"] == nil {
			delete(now, "ip") // where the phone was seen
			delete(want, "ip")
		}
	}
	if member == "config" && want["X_type"] == "device" {
		if raw, ok := want["raw_config"].(map[string]any); ok {
			want["raw_config"] = withoutNulls(raw)
		}
	}
	return same(now, want)
}
