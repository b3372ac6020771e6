// Package qr draws QR codes: as SVG for pages and mails, as PNG for letters, and for a terminal.
//
// Why our own SVG: the library (boombuler/barcode) makes pixels only. What always holds: the quiet zone of four modules that
// readers need is part of every picture, the text is encoded as it stands, byte for byte, and nothing is kept.
//
// Not here: what the text says. Its writer (a softphone's sign-in, a phone's provisioning line) answers for it.
package qr

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// MaxText is the longest text that is drawn, in bytes; a phone's camera has trouble long before.
const MaxText = 1024

// ErrText: the text is empty or longer than MaxText.
var ErrText = errors.New("a QR code holds 1 to 1024 bytes")

const quiet = 4 // modules around the code (ISO/IEC 18004)

// Code is one drawn text. It can be read by many at once.
type Code struct {
	side int // in modules, quiet zone included
	dark [][]bool
}

// New encodes text, with error correction level M (15 % may be unreadable). Errors: ErrText.
func New(text string) (Code, error) {
	if text == "" || len(text) > MaxText {
		return Code{}, ErrText
	}
	drawn, err := qr.Encode(text, qr.M, qr.Unicode)
	if err != nil {
		return Code{}, fmt.Errorf("draw a QR code: %w", err)
	}
	inner := drawn.Bounds().Dx()
	c := Code{side: inner + 2*quiet}
	c.dark = make([][]bool, c.side)
	for y := range c.dark {
		c.dark[y] = make([]bool, c.side)
	}
	for y := range inner {
		for x := range inner {
			c.dark[y+quiet][x+quiet] = drawn.At(x, y) == color.Black
		}
	}
	return c, nil
}

// SVG is a document of one path; its size follows where it is placed, and is 240 pixels where nothing says so.
func (c Code) SVG() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="240" height="240" viewBox="0 0 %[1]d %[1]d" shape-rendering="crispEdges">`+
		`<path fill="#fff" d="M0 0h%[1]dv%[1]dH0z"/><path d="`, c.side)
	for y, row := range c.dark {
		for x := 0; x < c.side; x++ {
			run := 0
			for x+run < c.side && row[x+run] {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", x, y, run, run)
				x += run
			}
		}
	}
	b.WriteString(`"/></svg>` + "\n")
	return b.String()
}

// PNG is a picture in black and white whose modules are scale pixels wide; below 1 means 8, above 40 means 40.
func (c Code) PNG(scale int) []byte {
	if scale < 1 {
		scale = 8
	}
	scale = min(scale, 40)
	img := image.NewPaletted(image.Rect(0, 0, c.side*scale, c.side*scale), color.Palette{color.White, color.Black})
	for y := range img.Rect.Dy() {
		row := img.Pix[y*img.Stride:]
		for x := range img.Rect.Dx() {
			if c.dark[y/scale][x/scale] {
				row[x] = 1
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic("qr: write PNG: " + err.Error()) // into memory
	}
	return b.Bytes()
}

// Terminal is the picture in half blocks, two modules above each other in one character. With colour it is black on white
// whatever the terminal's colours; without, the light modules are printed, which is right on a dark background, and readers
// of today understand the inverse as well.
func (c Code) Terminal(colour bool) string {
	blocks := [4]string{"█", "▄", "▀", " "} // light above and below, light below, light above, dark
	var b strings.Builder
	for y := 0; y < c.side; y += 2 {
		if colour {
			b.WriteString("\x1b[38;5;231;48;5;16m")
		}
		for x := range c.side {
			i := 0
			if c.dark[y][x] {
				i |= 1
			}
			if y+1 == c.side || c.dark[y+1][x] {
				i |= 2
			}
			b.WriteString(blocks[i])
		}
		if colour {
			b.WriteString("\x1b[0m")
		}
		b.WriteByte('\n')
	}
	return b.String()
}
