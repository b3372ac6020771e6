package provd

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

const devicesPath = "/0.2/dev_mgr/devices"

// servers are the keys of a device only the server writes.
var servers = []string{"id", "configured", "added", "tenant_uuid", "is_new", "remote_state_sip_username"}

// device is the document of a device. The rows come from one view; what it does not know is asked once per request.
type deviceDocs struct {
	*call
	layers map[domain.LayerID]domain.TenantID // that exist
	loaded map[string]commands.LoadedPackage
	seen   map[domain.DeviceID]Seen
}

func (d deviceDocs) doc(row projections.Device) (map[string]any, error) {
	base, _ := row.ID.Life()
	doc := map[string]any{}
	if extra, err := d.extra(row.Extra); err != nil {
		return nil, err
	} else {
		maps.Copy(doc, extra)
	}
	put := func(key, value string) {
		if value != "" {
			doc[key] = value
		}
	}
	put("id", string(base))
	put("mac", row.MAC.Colons())
	put("vendor", row.Vendor)
	put("model", row.Model)
	put("version", row.Firmware)
	put("plugin", row.Plugin)
	put("sn", row.Serial)
	put("uuid", row.UUID)
	put("description", row.Description)
	config := commands.LastParent(row.Parents)
	put("config", string(config))
	ip, err := d.Service.Open(d.ctx, row.Address.Sealed)
	if err != nil {
		return nil, err
	}
	if seen, ok := d.seen[row.ID]; ok && (ip == "" || seen.At.After(row.UpdatedAt)) {
		ip = seen.IP
	}
	put("ip", ip)
	if row.Added == "auto" {
		doc["added"] = "auto"
	}
	owner, exists := d.layers[config]
	_, loaded := d.loaded[row.Plugin]
	doc["configured"] = exists && loaded && (owner == domain.Master || owner == row.TenantID)
	doc["tenant_uuid"] = d.Authority.Outside(row.TenantID)
	doc["is_new"] = row.TenantID == domain.Master
	put("remote_state_sip_username", row.Remote)
	return doc, nil
}

// extra is what a document holds beyond what we have a place for.
func (c *call) extra(sealed domain.Secret) (map[string]any, error) {
	if sealed.IsZero() {
		return nil, nil
	}
	text, err := c.Service.Open(c.ctx, sealed.Sealed)
	if err != nil || text == "" {
		return nil, err
	}
	return domain.DecodeObject([]byte(text))
}

func (c *call) listDevices() error {
	s, err := readSearch(c.r.URL.Query())
	if err != nil {
		return err
	}
	if err := c.catchUp(); err != nil {
		return err
	}
	docs := deviceDocs{call: c, loaded: c.loaded()}
	if s.mentions("configured") {
		if docs.layers, err = projections.LayerTenants(c.ctx, c.Views, ""); err != nil {
			return err
		}
	}
	if s.mentions("ip") && c.Seen != nil {
		if docs.seen, err = c.Seen(c.ctx); err != nil {
			return err
		}
	}
	wanted := projections.Wanted{Tenants: []domain.TenantID{c.grant.Tenant}, ID: s.equals("id"), Vendor: s.equals("vendor"), Model: s.equals("model"), Plugin: s.equals("plugin")}
	if r := c.r.URL.Query().Get("recurse"); r == "true" || r == "True" {
		wanted.Tenants = c.grant.Below
	}
	if mac, err := domain.ParseMAC(s.equals("mac")); err == nil {
		wanted.MAC = mac
	}
	if config := s.equals("config"); domain.CheckID(config) == nil {
		wanted.Config = domain.LayerID(config)
	}
	found := []map[string]any{}
	err = projections.EachDevice(c.ctx, c.Views, wanted, func(row projections.Device) error {
		doc, err := docs.doc(row)
		if err == nil && s.matches(doc) {
			found = append(found, doc)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.answer(http.StatusOK, map[string]any{"devices": s.arrange(found)})
	return nil
}

// device finds the device named, if the request may see it; else errNoResource.
func (c *call) device(id string) (projections.Device, error) {
	if domain.CheckID(id) != nil {
		return projections.Device{}, errNoResource
	}
	if err := c.catchUp(); err != nil {
		return projections.Device{}, err
	}
	if _, life := domain.DeviceID(id).Life(); life > 1 {
		return projections.Device{}, errNoResource
	}
	row, found, err := projections.DeviceByID(c.ctx, c.Views, domain.DeviceID(id))
	if err != nil {
		return row, err
	}
	if !found || row.State == domain.StateDeleted || row.State == domain.StateReplaced || !c.grant.Sees(row.TenantID) {
		return row, errNoResource
	}
	return row, nil
}

func (c *call) getDevice() error {
	row, err := c.device(c.params["id"])
	if err != nil {
		return err
	}
	docs := deviceDocs{call: c, loaded: c.loaded()}
	if config := commands.LastParent(row.Parents); config != "" {
		if docs.layers, err = projections.LayerTenants(c.ctx, c.Views, config); err != nil {
			return err
		}
	}
	if c.Seen != nil {
		if docs.seen, err = c.Seen(c.ctx); err != nil {
			return err
		}
	}
	doc, err := docs.doc(row)
	if err != nil {
		return err
	}
	c.answer(http.StatusOK, map[string]any{"device": doc})
	return nil
}

func (c *call) createDevice() error {
	doc, err := c.object("device")
	if err != nil {
		return err
	}
	in, err := readDevice(doc)
	if err != nil {
		return err
	}
	switch id, given := doc["id"]; {
	case !given || id == nil:
		in.ID = domain.DeviceID(hexID())
	default:
		text, _ := id.(string)
		if domain.CheckID(text) != nil {
			return refuse(http.StatusBadRequest, "id "+domain.ErrBadID.Error())
		}
		in.ID = domain.DeviceID(text)
	}
	in.New, in.TenantID = true, c.grant.Tenant
	if _, _, err := c.Service.AmendDevice(c.ctx, in); err != nil {
		return err
	}
	c.created(devicesPath+"/"+string(in.ID), string(in.ID))
	return nil
}

// hexID is a fresh id of 32 hex digits.
func hexID() string {
	id := uuid.New()
	return hex.EncodeToString(id[:])
}

// changeable is nil when the request may change the device: it sees it, or the device is new, which everybody may
// take to a tenant they may act in.
func (c *call) changeable(id string) error {
	if domain.CheckID(id) != nil {
		return errNoResource
	}
	d, _, err := c.Service.CurrentDevice(c.ctx, domain.DeviceID(id))
	if err != nil {
		return err
	}
	if d.Live() != nil || d.TenantID != domain.Master && !c.grant.Sees(d.TenantID) {
		return errNoResource
	}
	return nil
}

func (c *call) putDevice() error {
	id := c.params["id"]
	if err := c.changeable(id); err != nil {
		return err
	}
	doc, err := c.object("device")
	if err != nil {
		return orServerError(err)
	}
	in, err := readDevice(doc)
	if err != nil {
		return orServerError(err)
	}
	in.ID, in.TenantID = domain.DeviceID(id), c.grant.Tenant
	if _, _, err := c.Service.AmendDevice(c.ctx, in); err != nil {
		return orServerError(err)
	}
	c.answer(http.StatusNoContent, nil)
	return nil
}

// owned is nil when the request may see the device, decided from its stream.
func (c *call) owned(id string) error {
	if domain.CheckID(id) != nil {
		return errNoResource
	}
	d, _, err := c.Service.CurrentDevice(c.ctx, domain.DeviceID(id))
	if err == nil && (d.Live() != nil || !c.grant.Sees(d.TenantID)) {
		err = errNoResource
	}
	return err
}

func (c *call) deleteDevice() error {
	id := c.params["id"]
	if err := c.owned(id); err != nil {
		return err
	}
	out, err := c.Service.DeleteDevice(c.ctx, commands.DeleteDevice{ID: domain.DeviceID(id)})
	if err != nil {
		return err
	}
	for _, r := range out.Events {
		if err := c.Service.DropTransientLayer(c.ctx, commands.DropTransientLayer{After: r}); err != nil {
			return err
		}
	}
	c.answer(http.StatusNoContent, nil)
	return nil
}

// named is the id in a body that names a device.
func (c *call) named() (string, error) {
	id, ok := c.body["id"].(string)
	if !ok || id == "" {
		return "", refuse(http.StatusBadRequest, "body must have an id")
	}
	return id, nil
}

func (c *call) reconfigure() error {
	id, err := c.named()
	if err != nil {
		return err
	}
	if err := c.owned(id); err != nil {
		if errors.Is(err, errNoResource) {
			return refuse(http.StatusBadRequest, "invalid device id")
		}
		return err
	}
	_, current, err := c.Service.CurrentDevice(c.ctx, domain.DeviceID(id))
	if err != nil {
		return err
	}
	_, _, err = c.Service.RegenerateConfig(c.ctx, commands.RegenerateConfig{ID: current})
	if err != nil && !errors.Is(err, commands.ErrNoPlugin) {
		return err
	}
	c.answer(http.StatusNoContent, nil)
	return nil
}

// dhcpInfo takes what a DHCP server tells of one lease.
func (c *call) dhcpInfo() error {
	doc, err := c.object("dhcp_info")
	if err != nil {
		return err
	}
	text := func(key string) string {
		v, _ := doc[key].(string)
		return v
	}
	switch text("op") {
	case "commit":
	case "expiry", "release":
		c.answer(http.StatusNoContent, nil)
		return nil
	default:
		return refuse(http.StatusBadRequest, "op must be commit, expiry or release")
	}
	ip, err := netip.ParseAddr(text("ip"))
	if err != nil {
		return refuse(http.StatusBadRequest, "ip must be an IP address")
	}
	mac, err := domain.ParseMAC(text("mac"))
	if err != nil {
		return refuse(http.StatusBadRequest, "mac "+domain.ErrBadMAC.Error())
	}
	list, ok := doc["options"].([]any)
	if !ok {
		return refuse(http.StatusBadRequest, "options must be a list")
	}
	options := make(map[int][]byte, len(list))
	for _, o := range list {
		text, _ := o.(string)
		number, value, err := dhcpOption(text)
		if err != nil {
			return refuse(http.StatusBadRequest, err.Error())
		}
		options[number] = value
	}
	if err := c.Service.NoteLease(c.ctx, commands.NoteLease{MAC: mac, IP: ip.String(), Class: string(options[60])}); err != nil {
		return err
	}
	c.answer(http.StatusNoContent, nil)
	return nil
}

// dhcpOption reads "06041.62": option 60 with the bytes 41 62.
func dhcpOption(text string) (int, []byte, error) {
	bad := errors.New("an option must be three digits and hex bytes joined with dots")
	if len(text) < 3 || len(text) > 3+3*255 {
		return 0, nil, bad
	}
	number, err := strconv.ParseUint(text[:3], 10, 8)
	if err != nil {
		return 0, nil, bad
	}
	var value []byte
	for part := range strings.SplitSeq(text[3:], ".") {
		if part == "" && text[3:] == "" {
			break
		}
		b, err := strconv.ParseUint(part, 16, 8)
		if err != nil {
			return 0, nil, bad
		}
		value = append(value, byte(b))
	}
	return int(number), value, nil
}

// readDevice reads the document of a device. What has no place here, or not in that form, goes into Extra as it is.
func readDevice(doc map[string]any) (commands.AmendDevice, error) {
	var in commands.AmendDevice
	extra := maps.Clone(doc)
	for _, key := range servers {
		delete(extra, key)
	}
	if v, has := doc["mac"]; has && v != nil {
		text, _ := v.(string)
		switch mac, err := domain.ParseMAC(text); {
		case err == nil:
			in.MAC = mac
			delete(extra, "mac")
		case text == "00:00:00:00:00:00" || text == "ff:ff:ff:ff:ff:ff": // an address, but nobody's
		default:
			return in, refuse(http.StatusBadRequest, "mac "+domain.ErrBadMAC.Error())
		}
	}
	if v, has := doc["ip"]; has && v != nil {
		text, _ := v.(string)
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" {
			return in, refuse(http.StatusBadRequest, "ip must be an IP address")
		}
		in.Address = ip.Unmap().String()
		delete(extra, "ip")
	}
	take := func(key string, into *string, fits func(string) bool) {
		if text, ok := doc[key].(string); ok && text != "" && fits(text) {
			*into = text
			delete(extra, key)
		}
	}
	short := func(most int) func(string) bool {
		return func(text string) bool {
			return len(text) <= most && !strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd })
		}
	}
	take("vendor", &in.Vendor, short(64))
	take("model", &in.Model, short(64))
	take("version", &in.Firmware, short(64))
	take("sn", &in.Serial, short(128))
	take("uuid", &in.UUID, short(128))
	take("description", &in.Description, short(500))
	id := func(text string) bool { return domain.CheckID(text) == nil }
	take("plugin", &in.Plugin, id)
	var config string
	take("config", &config, id)
	in.Config = domain.LayerID(config)
	return in, keep(extra, &in.Extra)
}

// keep writes what is left of a document; empty for nothing.
func keep(extra map[string]any, into *string) error {
	if len(extra) == 0 {
		return nil
	}
	b, err := json.Marshal(extra)
	*into = string(b)
	return err
}
