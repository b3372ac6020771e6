package commands

import (
	"context"
	"strings"

	"ledgerline/domain"
)

// autoprovInterval is how often, in minutes, a phone with the autoprovisioning account looks for files of its own,
// where its settings do not say.
const autoprovInterval = 5

// autoprovUser is the user name of the autoprovisioning account of a device: the setting autoprov_username, with
// {mac} and {id} put in; empty when there is none.
func autoprovUser(settings domain.Settings, d domain.Device) string {
	name, _ := settings["autoprov_username"].(string)
	if strings.Contains(name, "{mac}") && d.MAC == "" {
		return ""
	}
	return strings.NewReplacer("{mac}", string(d.MAC), "{id}", string(baseID(d.ID))).Replace(name)
}

// autoprovSettings are the settings of a phone nobody has configured, which can dial a provisioning extension and
// nothing else: what its tenant gives everybody, no secret but the account's password.
func autoprovSettings(settings domain.Settings, d domain.Device) (domain.Settings, bool) {
	user := autoprovUser(settings, d)
	if user == "" {
		return settings, false
	}
	password, _ := settings["autoprov_password"].(string)
	out := settings.WithoutSecrets()
	delete(out, "autoprov_username")
	delete(out, "funckeys")
	out["sip_lines"] = map[string]any{"1": map[string]any{"username": user, "password": password, "label": "autoprov"}}
	if out["provisioning_interval"] == nil {
		out["provisioning_interval"] = autoprovInterval
	}
	return out.FillDefaults(), true
}

// runningAccounts are the accounts a phone may be registered with now: its own once it has fetched them; before
// that, those a reset took off it and the autoprovisioning account.
func (s *Service) runningAccounts(ctx context.Context, d domain.Device) ([]SIPAccount, error) {
	stack, err := s.Settings(ctx, d)
	if err != nil {
		return nil, err
	}
	settings := stack.Merged()
	own := accounts(settings)
	if d.Assigned() && len(d.Delivered) > 0 {
		return own, nil
	}
	var running []SIPAccount
	if guest, ok := autoprovSettings(settings, d); ok {
		running = accounts(guest)
	}
	if len(d.PastLines) > 0 {
		before := d
		before.SecretHash, before.Lines = d.PastHash, make(map[int]domain.LineID)
		for i, line := range d.PastLines {
			before.Lines[i+1] = line
		}
		stack, err := s.Settings(ctx, before)
		if err != nil {
			return nil, err
		}
		running = append(accounts(stack.Merged()), running...)
	}
	return append(running, own...), nil
}

// phoneOfAccount is the device that registers with a SIP account: with an autoprovisioning account that names it, or
// with a line of the tenant that it alone carries. Where several phones use the account, those of them at the address
// count. known tells that the account is one of those, whoever uses it.
func (s *Service) phoneOfAccount(ctx context.Context, tenant domain.TenantID, account, address string) (found []domain.DeviceID, known bool, err error) {
	for _, of := range []domain.TenantID{tenant, domain.Master} {
		stack, err := s.Settings(ctx, domain.Device{TenantID: of})
		if err != nil {
			return nil, false, err
		}
		pattern, _ := stack.Merged()["autoprov_username"].(string)
		if id, ok := s.namedBy(ctx, pattern, account); ok {
			return []domain.DeviceID{id}, true, nil
		}
	}
	lines, err := s.Candidates.LinesByUsername(ctx, domain.Position{}, tenant, account)
	for _, line := range lines {
		devices, err := s.Candidates.DevicesOfLine(ctx, domain.Position{}, line)
		if err != nil {
			return nil, true, err
		}
		found = append(found, devices...)
	}
	if err != nil || len(found) < 2 || address == "" {
		return found, len(lines) > 0, err
	}
	there, err := s.phonesAt(ctx, address)
	var both []domain.DeviceID
	for _, id := range found {
		if there[id] {
			both = append(both, id)
		}
	}
	return both, true, err
}

// namedBy reads the device out of an account's user name.
func (s *Service) namedBy(ctx context.Context, pattern, account string) (domain.DeviceID, bool) {
	between := func(macro string) (string, bool) {
		before, after, ok := strings.Cut(pattern, macro)
		if !ok || len(account) <= len(before)+len(after) || !strings.HasPrefix(account, before) || !strings.HasSuffix(account, after) {
			return "", false
		}
		return account[len(before) : len(account)-len(after)], true
	}
	if text, ok := between("{mac}"); ok {
		if mac, err := domain.ParseMAC(text); err == nil {
			d, id, err := s.DeviceOfMAC(ctx, mac)
			return id, err == nil && d.Live() == nil
		}
	}
	if text, ok := between("{id}"); ok && domain.CheckID(text) == nil {
		d, id, err := s.CurrentDevice(ctx, domain.DeviceID(text))
		return id, err == nil && d.Live() == nil
	}
	return "", false
}

// phonesAt are the devices last seen at an address; a stranger among them stands under the empty id.
func (s *Service) phonesAt(ctx context.Context, address string) (map[domain.DeviceID]bool, error) {
	if s.Whereabouts == nil || address == "" {
		return nil, nil
	}
	seen, err := s.Whereabouts.At(ctx, address)
	if err != nil {
		return nil, err
	}
	there := make(map[domain.DeviceID]bool)
	for _, at := range seen {
		if at.Device != "" {
			if now, err := s.Whereabouts.Where(ctx, at.Device); err != nil {
				return nil, err
			} else if len(now) > 0 && now[0].IP != address {
				continue // it was there once
			}
		}
		there[at.Device] = true
	}
	return there, nil
}
