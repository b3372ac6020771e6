package commands

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"

	"ledgerline/domain"
)

// IdentifySysclient is what a device that is in shows of itself.
type IdentifySysclient struct {
	Device domain.DeviceID // its present life
	Facts  domain.SysclientFacts
	// Proved: it answered a challenge.
	Proved bool
}

// SysclientStanding is what a device that is in is still to get.
type SysclientStanding struct {
	// AdminPassword is the administrator's password it is to have; empty for none.
	AdminPassword string `json:"-"`
	// CheckURL: the address of Devices it has stored was never read back, or was wrong.
	CheckURL bool
}

// IdentifySysclient records what is news. Errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted.
func (s *Service) IdentifySysclient(ctx context.Context, in IdentifySysclient) (standing SysclientStanding, err error) {
	if err := checkSysclient(in.Facts); err != nil {
		return standing, err
	}
	if _, err := decide(ctx, s, in.Device.Stream(), func(d domain.Device) ([]domain.Event, error) {
		standing.CheckURL = !d.Sysclient.URLRead || d.Sysclient.URLProblem != ""
		return d.IdentifySysclient(in.Facts, in.Proved)
	}); err != nil {
		return standing, err
	}
	standing.AdminPassword, err = s.SysclientAdminPassword(ctx, in.Device)
	return standing, err
}

// Settings that say whether, and which, administrator's password devices get over the sysclient protocol.
const (
	settingAdminPassword = "admin_password"
	settingDeployAdmin   = "admin_password_deployed"
)

// SysclientAdminPassword is the administrator's password that the device is to have: that of its settings, when those
// say that devices are given it, or when the code that let it in asked for it. Empty for none.
func (s *Service) SysclientAdminPassword(ctx context.Context, id domain.DeviceID) (string, error) {
	d, _, err := load[domain.Device](ctx, s.Log, id.Stream())
	if err != nil || d.Live() != nil || !d.Assigned() {
		return "", err
	}
	stack, err := s.Settings(ctx, d)
	if err != nil {
		return "", err
	}
	merged := stack.Merged()
	password, _ := merged.Get(settingAdminPassword).(string)
	if deploy, _ := merged.Get(settingDeployAdmin).(bool); !deploy && !d.Sysclient.Password.Administrative {
		return "", nil
	}
	return password, nil
}

// DenySysclient notes that somebody claimed to be the device and could not prove it: one event an hour (D27).
func (s *Service) DenySysclient(device domain.DeviceID) {
	s.budgets().denials.add(device.Stream(), s.now())
}

// SysclientStands tells whether a device that is connected as of tenant still belongs there, with the password it has.
// password is compared in constant time.
func (s *Service) SysclientStands(ctx context.Context, device domain.DeviceID, password string) (bool, error) {
	d, _, err := load[domain.Device](ctx, s.Log, device.Stream())
	if err != nil || d.Live() != nil || !d.Assigned() || !d.Sysclient.HasPassword() {
		return false, err
	}
	now, err := s.sysclientPassword(ctx, d)
	if errors.Is(err, domain.ErrErased) {
		return false, nil
	}
	return now == password, err
}

// DiscoverSysclient makes a device known that waits to be assigned, within the hourly cap of discoveries (D25).
func (s *Service) DiscoverSysclient(ctx context.Context, mac domain.MAC, facts domain.SysclientFacts) error {
	d, _, err := s.DeviceOfMAC(ctx, mac)
	if err != nil || d.Live() == nil {
		return err
	}
	who := Recognition{Model: facts.Product, Fw: facts.Version, MAC: mac}
	if !facts.Foreign {
		who.Vendor = domain.VendorInnovaphone
	}
	if _, _, err = s.discover(ctx, who); errors.Is(err, ErrNoFile) {
		return nil // the cap is reached, which is told by a metric
	}
	return err
}

// CheckSysclientURL records whether the address of Devices that the device has stored is right; an empty problem says
// that it is.
func (s *Service) CheckSysclientURL(ctx context.Context, device domain.DeviceID, problem string) error {
	_, err := decide(ctx, s, device.Stream(), func(d domain.Device) ([]domain.Event, error) { return d.CheckURL(problem), nil })
	return err
}

// ProvisionPort uses a code up for an analog port of a device.
type ProvisionPort struct {
	Device domain.DeviceID // its present life, which is in
	Port   string          // "TEL1"
	Code   string
}

// ProvisionPort makes the port a device of its own, which the code assigns as it would a phone. Errors: ErrInvalid for
// a name that no port has, and those of RedeemCode.
func (s *Service) ProvisionPort(ctx context.Context, in ProvisionPort) (domain.DeviceID, error) {
	whole, _, err := load[domain.Device](ctx, s.Log, in.Device.Stream())
	if err != nil {
		return "", err
	}
	if err := whole.Live(); err != nil {
		return "", err
	}
	if _, ok := in.Device.PortID(in.Port); !ok {
		return "", &InvalidError{"id", "must be the name of a port"}
	}
	redeemed, out, err := s.RedeemCode(ctx, RedeemCode{Code: in.Code, MAC: whole.MAC, Vendor: whole.Vendor, Model: whole.Model, Firmware: whole.Firmware, Port: in.Port})
	if err != nil {
		return "", err
	}
	return redeemed.DeviceID, s.settleRedemption(ctx, out)
}

// port is the device that an analog port of the phone with this MAC is; one not known yet is made known first.
func (s *Service) port(ctx context.Context, mac domain.MAC, in RedeemCode) (domain.Device, error) {
	whole, wholeID, err := s.DeviceOfMAC(ctx, mac)
	if err != nil {
		return whole, err
	}
	id, ok := wholeID.PortID(in.Port)
	if !ok || whole.Live() != nil {
		return whole, domain.ErrDeviceUnknown
	}
	live, _, err := s.DiscoverDevice(ctx, DiscoverDevice{ID: id, Vendor: in.Vendor, Model: in.Model, Firmware: in.Firmware, Added: "auto"})
	if err != nil {
		return whole, err
	}
	base, _ := wholeID.Life()
	if _, err := decide(ctx, s, live.Stream(), func(d domain.Device) ([]domain.Event, error) {
		return d.AttachPort(domain.DevicePortAttached{PartOf: base, Port: in.Port}), nil
	}); err != nil {
		return whole, err
	}
	d, _, err := load[domain.Device](ctx, s.Log, live.Stream())
	return d, err
}

// ShowCodeForm asks a connected phone to show the form for a provisioning code again.
type ShowCodeForm struct {
	ID domain.DeviceID `json:"id" validate:"required,id"`
}

// codeForm is the command that makes a phone ask for a code; it needs neither restart nor saving.
const codeForm = "/!vars%20create%20UPDATE/PROVISIONING-CODE%20h%20prompt"

var (
	// ErrPhone: the phone answered, and refused.
	ErrPhone = errors.New("the phone did not take the command")
	// ErrNoAnswer: the device is connected, and did not answer in time, or not with HTTP, or with too much.
	ErrNoAnswer = errors.New("the device did not answer")
)

// ShowCodeForm records the request before the phone is told, and that it took the command afterwards. Errors:
// ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, ErrOffline, ErrPhone, ErrNoAnswer.
func (s *Service) ShowCodeForm(ctx context.Context, in ShowCodeForm) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	id, err := s.liveID(ctx, in.ID)
	if err != nil {
		return Outcome{}, err
	}
	if s.Sysclients == nil || !s.Sysclients.Connected(id) {
		return Outcome{}, ErrOffline
	}
	out, err := s.record(ctx, id, domain.DeviceCodeFormRequested{})
	if err != nil {
		return out, err
	}
	status, _, err := s.Sysclients.Fetch(ctx, id, http.MethodGet, codeForm, nil)
	if err != nil {
		return out, err
	}
	if status != http.StatusOK {
		return out, ErrPhone
	}
	return s.record(ctx, id, domain.DeviceCodeFormShown{})
}

// record notes a fact about a live device that no rule can refuse.
func (s *Service) record(ctx context.Context, id domain.DeviceID, e domain.Event) (Outcome, error) {
	return decide(ctx, s, id.Stream(), func(d domain.Device) ([]domain.Event, error) {
		if err := d.Live(); err != nil {
			return nil, err
		}
		return []domain.Event{e}, nil
	})
}

// OpenPage fetches one page of a connected device's own web server, or sends it one.
type OpenPage struct {
	ID     domain.DeviceID `json:"id" validate:"required,id"`
	Method string          `json:"method" validate:"required,oneof=GET POST"`
	// Path begins with "/" and is as it goes to the device, escaped, with its query.
	Path string `json:"path" validate:"required,max=4096"`
	Body []byte `json:"-" validate:"max=1048576"`
}

// Page is what the device answered.
type Page struct {
	Status int
	Body   []byte
}

// PagePolicy is the Content-Security-Policy that a page of a device is to be shown with: it is somebody else's, and a browser
// must not let it run anything, send anything, or be framed, for it comes from the same place as we.
const PagePolicy = "sandbox; default-src 'none'; img-src 'self'; style-src 'self' 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// pageTypes are the types of pages by the ending of their names; of the device's headers none comes through.
var pageTypes = map[string]string{".css": "text/css", ".xsl": "text/xml", ".xml": "text/xml", ".txt": "text/plain", ".gif": "image/gif", ".png": "image/png", ".ico": "image/x-icon"}

// ContentType is the type of the page that was asked for by target, its path and query.
func (p Page) ContentType(target string) string {
	target, _, _ = strings.Cut(target, "?")
	if t, ok := pageTypes[path.Ext(target)]; ok {
		return t
	}
	return http.DetectContentType(p.Body)
}

// OpenPage records what is asked before it asks, and what came of it. Errors: ErrInvalid, domain.ErrDeviceUnknown,
// domain.ErrDeviceDeleted, ErrOffline, ErrNoAnswer.
func (s *Service) OpenPage(ctx context.Context, in OpenPage) (Page, Outcome, error) {
	if err := check(in); err != nil {
		return Page{}, Outcome{}, err
	}
	if target, err := url.ParseRequestURI(in.Path); err != nil || !strings.HasPrefix(in.Path, "/") || target.Host != "" {
		return Page{}, Outcome{}, &InvalidError{"path", "must be the path of a page, escaped"}
	}
	id, err := s.liveID(ctx, in.ID)
	if err != nil {
		return Page{}, Outcome{}, err
	}
	if s.Sysclients == nil || !s.Sysclients.Connected(id) {
		return Page{}, Outcome{}, ErrOffline
	}
	asked := domain.DevicePageRequested{RequestID: newID(), Method: in.Method, Path: pageName(in.Path), Size: len(in.Body)}
	if asked.Target, err = s.secret(ctx, id.Subject(), in.Path); err != nil {
		return Page{}, Outcome{}, err
	}
	if _, err := s.record(ctx, id, asked); err != nil {
		return Page{}, Outcome{}, err
	}
	answered := domain.DevicePageAnswered{RequestID: asked.RequestID}
	status, body, fetchErr := s.Sysclients.Fetch(ctx, id, in.Method, in.Path, in.Body)
	if fetchErr != nil {
		answered.Failure = fetchErr.Error()
	} else {
		answered.Status, answered.Size = status, len(body)
	}
	out, err := s.record(context.WithoutCancel(ctx), id, answered)
	return Page{status, body}, out, errors.Join(fetchErr, err)
}

// pageName is what of a page's path may be read by everybody: nothing behind a "?", and of a command its first two words.
func pageName(path string) string {
	path, _, _ = strings.Cut(path, "?")
	clear, err := url.PathUnescape(path)
	if err != nil {
		return "/"
	}
	if strings.HasPrefix(clear, "/!") {
		words := strings.Fields(clear)
		clear = strings.Join(words[:min(2, len(words))], " ")
	}
	return clear[:min(len(clear), 200)]
}
