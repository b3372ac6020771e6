// Package wire is the language that innovaphone devices ("sysclients") and a Devices server speak over a binary
// websocket: frames, messages, digests and the encryption of passwords. Pure: no network, no clock.
//
// Source: the vendor's published SysClient protocol (SDK, 13r2 and 13r3). Integers are big-endian, one protocol
// message is one websocket message; both were observed, not documented.
//
// What always holds: a frame that parses is written back as the same bytes; nothing here panics on foreign bytes;
// what is unknown is left to the caller to ignore, as the protocol wants it.
//
// RC4 without integrity and a bare hash are what the devices speak. They hide nothing from who can read the
// connection: confidentiality comes from TLS, and a password is one device's own.
package wire

import (
	"crypto/rc4"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Kinds of a frame: its first byte.
const (
	kindAdmin  = 1
	kindTunnel = 2
)

// Types of admin messages, with the struct each carries.
const (
	TypeIdentify      = 0 // device to Devices: Identify
	TypePassword      = 1 // Devices to device: Password
	TypeChallenge     = 2 // Devices to device: Challenge
	TypeAdminPassword = 3 // Devices to device: AdminPassword
	TypePort          = 4 // device to Devices: Port
	TypePortResult    = 5 // Devices to device: PortResult
	TypeConfig        = 6 // Devices to a foreign device: Config
)

// Events of a tunnel.
const (
	EventSend          = 0 // Devices to device: bytes of an HTTP request
	EventReceive       = 1 // Devices to device: dword, the bytes wanted; 0 for whatever there is
	EventReceiveResult = 2 // device to Devices: bytes of the answer
	EventSendResult    = 3 // device to Devices: acknowledges one send
	EventShutdown      = 4 // either way; the device confirms with its own
)

// Limits of frames.
const (
	// MaxAdmin is the largest JSON of an admin message, in bytes; an Identify has some hundred.
	MaxAdmin = 64 << 10
	// MaxTunnel is the most bytes one tunnel frame carries here; the known device sends 8,000.
	MaxTunnel = 64 << 10
	// MaxFrame is the largest frame.
	MaxFrame = 9 + MaxTunnel
)

// ErrFrame: bytes are no frame of this protocol.
var ErrFrame = errors.New("not a frame of the sysclient protocol")

// Frame is one websocket message: an admin message when Tunnel is nil.
type Frame struct {
	Type   uint16 // of an admin message
	JSON   []byte // of an admin message
	Tunnel *Tunnel
}

// Tunnel is one step of an HTTP exchange with the device's own web server.
type Tunnel struct {
	ID    uint32
	Event uint32
	Data  []byte
}

// Parse reads one frame. The frame aliases b. Errors: ErrFrame.
func Parse(b []byte) (Frame, error) {
	switch {
	case len(b) > MaxFrame:
		return Frame{}, fmt.Errorf("%d bytes: %w", len(b), ErrFrame)
	case len(b) >= 3 && b[0] == kindAdmin:
		if len(b)-3 > MaxAdmin {
			return Frame{}, fmt.Errorf("%d bytes of JSON: %w", len(b)-3, ErrFrame)
		}
		return Frame{Type: binary.BigEndian.Uint16(b[1:]), JSON: b[3:]}, nil
	case len(b) >= 9 && b[0] == kindTunnel:
		return Frame{Tunnel: &Tunnel{ID: binary.BigEndian.Uint32(b[1:]), Event: binary.BigEndian.Uint32(b[5:]), Data: b[9:]}}, nil
	}
	return Frame{}, ErrFrame
}

// Bytes is the frame as it travels.
func (f Frame) Bytes() []byte {
	if t := f.Tunnel; t != nil {
		b := append(make([]byte, 0, 9+len(t.Data)), kindTunnel)
		b = binary.BigEndian.AppendUint32(b, t.ID)
		b = binary.BigEndian.AppendUint32(b, t.Event)
		return append(b, t.Data...)
	}
	b := append(make([]byte, 0, 3+len(f.JSON)), kindAdmin)
	b = binary.BigEndian.AppendUint16(b, f.Type)
	return append(b, f.JSON...)
}

// Admin is an admin message on its way out. It panics when v cannot be JSON, which no type of this package is.
func Admin(kind uint16, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return Frame{Type: kind, JSON: b}.Bytes()
}

// Receive is the event that asks for want bytes of the answer, 0 for whatever there is.
func Receive(tunnel, want uint32) []byte {
	return Frame{Tunnel: &Tunnel{ID: tunnel, Event: EventReceive, Data: binary.BigEndian.AppendUint32(nil, want)}}.Bytes()
}

// Identify is what a device says of itself (type 0). ID, Product, Version and Platform.Type are required.
type Identify struct {
	ID       string   `json:"id"` // 12 lower-case hex digits
	Product  string   `json:"product"`
	Version  string   `json:"version"` // "13r2 dvl [13.4250/131286/1300]"
	Platform Platform `json:"platform"`
	// Name is the device's own; one set at the server wins.
	Name      string `json:"name,omitempty"`
	FwBuild   string `json:"fwBuild,omitempty"`
	BcBuild   string `json:"bcBuild,omitempty"`
	Major     string `json:"major,omitempty"` // "13r2"
	Fw        string `json:"fw,omitempty"`    // "ip222.bin"
	Bc        string `json:"bc,omitempty"`    // "boot222.bin"
	Mini      bool   `json:"mini,omitempty"`  // its emergency firmware runs
	PBXActive bool   `json:"pbxActive,omitempty"`
	// Other is not an innovaphone device: it wants Config messages, and has no tunnel to speak of.
	Other            bool        `json:"other,omitempty"`
	ProvisioningCode string      `json:"provisioningCode,omitempty"`
	Digest           string      `json:"digest,omitempty"` // after a challenge
	EthIfs           []Interface `json:"ethIfs,omitempty"`
}

// Platform is the kind of a device: PHONE, GW, VA, DECT or APP_PLATFORM, and its analog ports if it has any.
type Platform struct {
	Type string          `json:"type"`
	FXS  json.RawMessage `json:"fxs,omitempty"`
}

// HasFXS tells whether the device says it has analog ports, in whatever form: how fxs looks is not documented.
func (p Platform) HasFXS() bool {
	var v any
	if json.Unmarshal(p.FXS, &v) != nil {
		return false
	}
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != "" && v != "0" && v != "false"
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

// Interface is one network interface of a device.
type Interface struct {
	If   string `json:"if"`
	IPv4 string `json:"ipv4,omitempty"`
	IPv6 string `json:"ipv6,omitempty"`
}

// Password is the device's own password, which it keeps (type 1).
type Password struct {
	Password string `json:"password"`
}

// Challenge is answered by an Identify with a digest (type 2).
type Challenge struct {
	Challenge string `json:"challenge"`
}

// AdminPassword is the password of the device's administrator, encrypted with Encrypt (type 3).
type AdminPassword struct {
	Seed string `json:"seed"`
	Pwd  string `json:"pwd"`
}

// Port asks to provision an analog port with a code (type 4).
type Port struct {
	ID   string `json:"id"` // "TEL1"
	Code string `json:"code"`
}

// PortResult is the answer to Port; an empty Error is success (type 5).
type PortResult struct {
	Error string `json:"error,omitempty"`
}

// Config is one configuration for a foreign device (type 6).
type Config struct {
	Config json.RawMessage `json:"config"`
	Last   bool            `json:"last,omitempty"`
}

// Digest is the answer to a challenge: lower-case hex SHA-256 over the five, joined by colons. product and version
// are exactly those of the Identify message that carries it.
func Digest(id, product, version, challenge, password string) string {
	sum := sha256.Sum256([]byte(id + ":" + product + ":" + version + ":" + challenge + ":" + password))
	return hex.EncodeToString(sum[:])
}

// Proves tells, in constant time, whether the digest of the message answers the challenge.
func (i Identify) Proves(challenge, password string) bool {
	want := Digest(i.ID, i.Product, i.Version, challenge, password)
	return password != "" && challenge != "" && subtle.ConstantTimeCompare([]byte(want), []byte(i.Digest)) == 1
}

// ErrPassword: a password that was to be decrypted is not hex, or there is no key.
var ErrPassword = errors.New("not an encrypted password")

// Encrypt hides text for one device: hex of RC4 under "<seed>:<sysclient password>". Seeds are 16 characters.
func Encrypt(seed, sysclientPassword, text string) (string, error) {
	b, err := stream(seed, sysclientPassword, []byte(text))
	return hex.EncodeToString(b), err
}

// Decrypt is the text that Encrypt hid. Errors: ErrPassword; a wrong password gives other text, not an error.
func Decrypt(seed, sysclientPassword, hidden string) (string, error) {
	b, err := hex.DecodeString(hidden)
	if err != nil {
		return "", ErrPassword
	}
	b, err = stream(seed, sysclientPassword, b)
	return string(b), err
}

func stream(seed, password string, in []byte) ([]byte, error) {
	key := seed + ":" + password
	if len(key) > 256 { // the most RC4 takes
		return nil, ErrPassword
	}
	c, err := rc4.NewCipher([]byte(key))
	if err != nil {
		return nil, ErrPassword
	}
	out := make([]byte, len(in))
	c.XORKeyStream(out, in)
	return out, nil
}
