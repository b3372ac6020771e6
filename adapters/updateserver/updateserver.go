// Package updateserver answers the update client of innovaphone phones (UP0, UP1) below /update/ on the phone plane: a
// phone that does not say who it is is told a URL that does; one that is known gets its script; it brings its configuration
// by PUT, chunked or not; it fetches firmware and boot code.
//
//	GET  /update/…                  first contact: the name behind it (update-ip222.htm) says nothing
//	GET  /update/script             with sn, type, hwid, ip: by MAC, from a trusted network, or by client certificate
//	GET  /update/d/<secret>/script  by the device's path secret, where its first script moves it
//	PUT  /update/backup, /update/d/<secret>/backup
//	GET  /update/files/<build>/<file>
//
// What always holds: what a script is made from are the settings of the device, so that explain and history tell where it
// came from; its bytes are kept, and recorded when the phone has them. The commands that are done once have a serial, their
// hash: a phone that shows it as CHECK is not told them again. Secrets go over TLS or within trusted networks only, and to
// no phone whose certificate names another one. No query is logged.
//
// Certain and not: the order of a script and its commands are the vendor's; that "#d" is no serial, what boot code needs,
// and User-Agents wait for a phone (innovaphone reference §3, §4.8).
//
// Not here: the language (script), codes and the Devices URL of a fresh phone (adapters/registry), jobs (adapters/sysclient).
package updateserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"ledgerline/adapters/updateserver/script"
	"ledgerline/commands"
	"ledgerline/domain"
)

// Service decides: *commands.Service.
type Service interface {
	UpdatePhone(ctx context.Context, in commands.AskUpdate) (commands.UpdatePhone, error)
	ScriptDelivered(ctx context.Context, p commands.UpdatePhone, serial string, script []byte) error
	StoreBackup(ctx context.Context, p commands.UpdatePhone, config, stable []byte) error
}

// Peer is where a request comes from.
type Peer struct {
	IP              string
	Trusted, Secure bool
	// MAC and Name are what a client certificate proved: an address, and its common name.
	MAC  domain.MAC
	Name string
}

// Options of New. Service, Peer and Base are needed.
type Options struct {
	Service Service
	Peer    func(ctx context.Context) Peer
	// Base is how phones reach the phone plane, without a slash at the end: "http://192.0.2.1:8667".
	Base string
	// Files holds <build>/<file>, firmware and boot code; nil for none.
	Files fs.FS
	Now   func() time.Time // nil means time.Now
}

// Segment is the first path segment to hang the handler in at.
const Segment = "update"

const files = "files"

// Limits of one request.
const (
	maxQuery   = 8 << 10
	maxBackup  = 4 << 20
	backupTime = 2 * time.Minute
	fileTime   = 30 * time.Minute
)

type handler struct {
	Options
	mux *http.ServeMux
}

// New makes the handler of everything below /update/.
func New(o Options) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Base = strings.TrimSuffix(o.Base, "/")
	h := &handler{Options: o, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET /"+Segment+"/{name...}", h.script)
	h.mux.HandleFunc("GET /"+Segment+"/d/{secret}/{name...}", h.script)
	h.mux.HandleFunc("PUT /"+Segment+"/backup", h.backup)
	h.mux.HandleFunc("PUT /"+Segment+"/d/{secret}/backup", h.backup)
	h.mux.HandleFunc("GET /"+Segment+"/"+files+"/{build}/{file}", h.file)
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := h.Now()
	seen := &status{ResponseWriter: w, code: http.StatusOK}
	w.Header().Set("Cache-Control", "no-store")
	if len(r.URL.RawQuery) > maxQuery {
		refuse(seen, http.StatusNotFound)
	} else {
		h.mux.ServeHTTP(seen, r)
	}
	zerolog.Ctx(r.Context()).Info().Str("route", r.Pattern).Int("status", seen.code).Str("ip", h.Peer(r.Context()).IP).
		Int64("elapsed_ms", h.Now().Sub(begun).Milliseconds()).Msg("update client asked")
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// refuse is the one answer to everything that is not to be had.
func refuse(w http.ResponseWriter, code int) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, "not found\n") // the phone has gone, if this fails
}

// own is the address of a phone's own requests.
func (h *handler) own(p commands.UpdatePhone) string {
	return h.Base + "/" + Segment + "/d/" + p.Secret
}

// script answers an update client.
func (h *handler) script(w http.ResponseWriter, r *http.Request) {
	v := read(script.Arguments(r.URL.RawQuery))
	if v.mac == "" {
		place := h.Base + "/" + Segment + "/script"
		if secret := r.PathValue("secret"); secret != "" {
			place = h.Base + "/" + Segment + "/d/" + url.PathEscape(secret) + "/script"
		}
		h.send(w, r, script.Rewrite(place+"?"+script.Identity))
		return
	}
	p, ok := h.phone(w, r, v)
	if !ok {
		return
	}
	if !p.Assigned {
		h.send(w, r, []byte("# nobody has configured this phone"))
		return
	}
	c, err := h.compose(p, v, h.Now())
	if err != nil {
		zerolog.Ctx(r.Context()).Error().Err(err).Str("mac", string(v.mac)).Msg("compose an update script")
		busy(w)
		return
	}
	if !h.send(w, r, c.body) || !c.commands {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 10*time.Second)
	defer cancel()
	if err := h.Service.ScriptDelivered(ctx, p, c.serial, c.body); err != nil {
		zerolog.Ctx(ctx).Error().Err(err).Str("mac", string(v.mac)).Msg("record an update script") // the next poll makes it good
	}
}

// phone finds who asks, or answers why not.
func (h *handler) phone(w http.ResponseWriter, r *http.Request, v shown) (commands.UpdatePhone, bool) {
	peer := h.Peer(r.Context())
	transport := "http"
	if peer.Secure {
		transport = "https"
	}
	in := commands.AskUpdate{MAC: v.mac, Proved: peer.MAC, Secret: r.PathValue("secret"), Transport: transport, IP: peer.IP, Trusted: peer.Trusted, Check: v.check}
	if peer.Name != "" {
		if !names(peer.Name, v.mac) {
			zerolog.Ctx(r.Context()).Warn().Str("mac", string(v.mac)).Str("certificate", peer.Name).Msg("a phone's certificate names another phone")
			refuse(w, http.StatusNotFound)
			return commands.UpdatePhone{}, false
		}
		in.Proved = v.mac
	}
	p, err := h.Service.UpdatePhone(r.Context(), in)
	switch {
	case err == nil:
		return p, true
	case errors.Is(err, commands.ErrNoFile), errors.Is(err, commands.ErrInvalid):
		refuse(w, http.StatusNotFound)
	default:
		zerolog.Ctx(r.Context()).Error().Err(err).Str("mac", string(v.mac)).Msg("answer an update client")
		busy(w)
	}
	return p, false
}

// vendorOUI is innovaphone's part of an address.
const vendorOUI = "009033"

// names tells whether a certificate's common name is a phone's: its MAC, or its hardware id, of which the last three bytes
// count: in some early phones the model before them is wrong (reference §3.2).
func names(name string, mac domain.MAC) bool {
	if named, err := domain.ParseMAC(name); err == nil {
		return named == mac
	}
	parts := strings.Split(strings.ToLower(name), "-")
	return len(parts) >= 4 && mac.OUI() == vendorOUI && strings.Join(parts[len(parts)-3:], "") == string(mac[6:])
}

// send writes a script; whole tells that the phone has all of it.
func (h *handler) send(w http.ResponseWriter, r *http.Request, body []byte) (whole bool) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return false
	}
	n, err := w.Write(body)
	if err == nil {
		err = http.NewResponseController(w).Flush()
	}
	return n == len(body) && (err == nil || errors.Is(err, http.ErrNotSupported))
}

func busy(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "30")
	w.WriteHeader(http.StatusServiceUnavailable)
}

// backup keeps the configuration a phone uploads.
func (h *handler) backup(w http.ResponseWriter, r *http.Request) {
	p, ok := h.phone(w, r, read(script.Arguments(r.URL.RawQuery)))
	if !ok {
		return
	}
	if !p.Assigned {
		refuse(w, http.StatusNotFound)
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(backupTime)) // a connection without deadlines is a test's
	_ = control.SetWriteDeadline(time.Now().Add(backupTime))
	config, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBackup))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		http.Error(w, "larger than 4 MiB", http.StatusRequestEntityTooLarge)
		return
	case err != nil, len(bytes.TrimSpace(config)) == 0:
		http.Error(w, "nothing whole has arrived", http.StatusBadRequest)
		return
	}
	switch err := h.Service.StoreBackup(r.Context(), p, config, script.Stable(config)); {
	case errors.Is(err, commands.ErrBackupTooSoon):
		w.Header().Set("Retry-After", strconv.Itoa(int(commands.BackupSpacing.Seconds())))
		http.Error(w, err.Error(), http.StatusTooManyRequests)
	case err != nil:
		zerolog.Ctx(r.Context()).Error().Err(err).Str("device_id", string(p.Device)).Msg("keep a backup")
		busy(w)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

var fileName = regexp.MustCompile(`^(?:(?:ip|boot)[a-z0-9]{1,16}\.bin|mypbx\.apk)$`)

// has tells whether there is such a file.
func (h *handler) has(build, name string) bool {
	if h.Files == nil || build == "" || script.Build(build) != build || !fileName.MatchString(name) {
		return false
	}
	info, err := fs.Stat(h.Files, build+"/"+name)
	return err == nil && info.Mode().IsRegular()
}

// file sends firmware or boot code. It is nobody's secret, but not for the world to fetch either.
func (h *handler) file(w http.ResponseWriter, r *http.Request) {
	build, name := r.PathValue("build"), r.PathValue("file")
	if peer := h.Peer(r.Context()); !peer.Trusted && !peer.Secure || !h.has(build, name) {
		refuse(w, http.StatusNotFound)
		return
	}
	f, err := h.Files.Open(build + "/" + name)
	if err != nil {
		refuse(w, http.StatusNotFound)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	body, ok := f.(io.ReadSeeker)
	if err != nil || !ok {
		busy(w)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(fileTime)) // a connection without deadlines is a test's
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, name, info.ModTime(), body)
}
