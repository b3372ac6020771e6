package qr

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// texts are what is drawn in practice, and what is hard to.
var texts = []string{
	"csc:ana%40acme.example:p%3Aq%40r@ACME",
	"csc:ACME",
	"000123456789",
	"https://prov.example.net/d/ab12?x=1&y=%20",
	"Jürgen Müßig, Zürich – Ελλάδα 🙂",
	strings.Repeat("0123456789abcdef", MaxText/16),
}

func TestPicturesSayTheSame(t *testing.T) {
	for _, text := range texts {
		c, err := New(text)
		if err != nil {
			t.Fatal(err)
		}
		for name, grid := range map[string][][]bool{"SVG": gridOfSVG(t, c.SVG()), "PNG": gridOfPNG(t, c.PNG(3), 3), "terminal": gridOfText(c.Terminal(false)),
			"colour": gridOfText(strings.NewReplacer("\x1b[38;5;231;48;5;16m", "", "\x1b[0m", "").Replace(c.Terminal(true)))} {
			if fmt.Sprint(grid[:len(c.dark)]) != fmt.Sprint(c.dark) {
				t.Errorf("%s of %.20q differs from what was drawn", name, text)
			}
		}
		for i := range c.side {
			for j := range quiet {
				if c.dark[i][j] || c.dark[j][i] || c.dark[i][c.side-1-j] || c.dark[c.side-1-j][i] {
					t.Fatalf("%.20q: the quiet zone is not quiet", text)
				}
			}
		}
	}
}

// A reader that is not ours (Debian: zbar-tools) reads back what was drawn.
func TestReadBack(t *testing.T) {
	reader, err := exec.LookPath("zbarimg")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("zbarimg (Debian: zbar-tools) is not installed")
		}
		t.Log("zbarimg (Debian: zbar-tools) is not installed: nothing was read back")
		return
	}
	for i, text := range texts {
		c, err := New(text)
		if err != nil {
			t.Fatal(err)
		}
		for name, picture := range map[string][]byte{"png": c.PNG(0), "svg": pngOf(t, gridOfSVG(t, c.SVG()))} {
			path := filepath.Join(t.TempDir(), name+".png")
			if err := os.WriteFile(path, picture, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), reader, "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", path).Output()
			if err != nil || strings.TrimSuffix(string(out), "\n") != text {
				t.Errorf("text %d as %s reads %q, %v", i, name, out, err)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	for _, text := range []string{"", strings.Repeat("a", MaxText+1)} {
		if _, err := New(text); !errors.Is(err, ErrText) {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
}

func TestScales(t *testing.T) {
	c, err := New("x")
	if err != nil {
		t.Fatal(err)
	}
	for scale, width := range map[int]int{-1: 8, 0: 8, 1: 1, 40: 40, 1 << 40: 40} {
		img, err := png.Decode(bytes.NewReader(c.PNG(scale)))
		if err != nil || img.Bounds().Dx() != width*c.side {
			t.Errorf("scale %d: %v, %v", scale, img.Bounds(), err)
		}
	}
}

func gridOfPNG(t *testing.T, b []byte, scale int) [][]bool {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var grid [][]bool
	for y := 0; y < img.Bounds().Dy(); y += scale {
		var row []bool
		for x := 0; x < img.Bounds().Dx(); x += scale {
			r, _, _, _ := img.At(x, y).RGBA()
			row = append(row, r == 0)
		}
		grid = append(grid, row)
	}
	return grid
}

// gridOfSVG fills the runs of the second path.
func gridOfSVG(t *testing.T, text string) [][]bool {
	t.Helper()
	var doc struct {
		ViewBox string `xml:"viewBox,attr"`
		Paths   []struct {
			D string `xml:"d,attr"`
		} `xml:"path"`
	}
	if err := xml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Paths) != 2 {
		t.Fatalf("%v\n%s", err, text)
	}
	var side int
	if _, err := fmt.Sscanf(doc.ViewBox, "0 0 %d", &side); err != nil {
		t.Fatal(err)
	}
	grid := make([][]bool, side)
	for y := range grid {
		grid[y] = make([]bool, side)
	}
	for _, run := range strings.Split(strings.TrimSuffix(doc.Paths[1].D, "z"), "z") {
		var x, y, width, back int
		if _, err := fmt.Sscanf(run, "M%d %dh%dv1h-%d", &x, &y, &width, &back); err != nil || width != back {
			t.Fatalf("%q: %v", run, err)
		}
		for i := range width {
			grid[y][x+i] = true
		}
	}
	return grid
}

func gridOfText(text string) [][]bool {
	var grid [][]bool
	for line := range strings.Lines(text) {
		var above, below []bool
		for _, r := range strings.TrimSuffix(line, "\n") {
			above = append(above, r == ' ' || r == '▄')
			below = append(below, r == ' ' || r == '▀')
		}
		grid = append(grid, above, below)
	}
	return grid
}

func pngOf(t *testing.T, grid [][]bool) []byte {
	t.Helper()
	const scale = 6
	img := image.NewGray(image.Rect(0, 0, len(grid)*scale, len(grid)*scale))
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			if !grid[y/scale][x/scale] {
				img.SetGray(x, y, color.Gray{Y: 255})
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
