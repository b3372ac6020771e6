//go:build ignore

// Gen writes zones.txt and ../../../domain/zones.go from the Go distribution's zoneinfo.zip and, for countries,
// the system's tzdata.zi and zone.tab. Run it after an upgrade of Go: go run gen.go
package main

import (
	"archive/zip"
	"bytes"
	"io"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

func main() {
	lib := filepath.Join(runtime.GOROOT(), "lib", "time")
	update, err := os.ReadFile(filepath.Join(lib, "update.bash"))
	check(err)
	version := regexp.MustCompile(`(?m)^DATA=(\S+)`).FindSubmatch(update)[1]
	countries := countries()

	z, err := zip.OpenReader(filepath.Join(lib, "zoneinfo.zip"))
	check(err)
	var lines, names []string
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") || f.Name == "Factory" {
			continue
		}
		r, err := f.Open()
		check(err)
		data, err := io.ReadAll(r)
		check(err)
		trimmed := bytes.TrimSuffix(data, []byte("\n"))
		footer := string(trimmed[bytes.LastIndexByte(trimmed, '\n')+1:])
		names = append(names, f.Name)
		lines = append(lines, f.Name+"\t"+footer+"\t"+country(countries, f.Name))
	}
	slices.Sort(lines)
	slices.Sort(names)
	check(os.WriteFile("zones.txt", []byte(string(version)+"\n"+strings.Join(lines, "\n")+"\n"), 0o644))
	check(os.WriteFile("../../../domain/zones.go", domainFile(names), 0o644))
}

func country(m map[string]string, name string) string {
	if c := m[name]; c != "" {
		return c
	}
	return "-"
}

// countries reads zone.tab and follows the links of tzdata.zi.
func countries() map[string]string {
	m := map[string]string{}
	tab, err := os.ReadFile("/usr/share/zoneinfo/zone.tab")
	check(err)
	for line := range strings.Lines(string(tab)) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) >= 3 && !strings.HasPrefix(line, "#") {
			m[f[2]] = f[0]
		}
	}
	zi, err := os.ReadFile("/usr/share/zoneinfo/tzdata.zi")
	check(err)
	for range 2 {
		for line := range strings.Lines(string(zi)) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "L" {
				switch {
				case m[f[2]] == "" && m[f[1]] != "":
					m[f[2]] = m[f[1]]
				case m[f[1]] == "" && m[f[2]] != "":
					m[f[1]] = m[f[2]]
				}
			}
		}
	}
	return m
}

func domainFile(names []string) []byte {
	var b bytes.Buffer
	b.WriteString("package domain\n\nimport (\n\t\"slices\"\n\t\"strings\"\n)\n\n" +
		"// Zones lists the time zone names of the IANA database, links included, sorted. Written by\n" +
		"// adapters/plugins/tz/gen.go; a test there holds the names to the rules we have.\n" +
		"func Zones() []string { return slices.Clone(zones) }\n\n" +
		"// KnownZone tells whether name is a time zone of the IANA database, spelled as it spells it.\n" +
		"func KnownZone(name string) bool {\n\t_, ok := slices.BinarySearch(zones, name)\n\treturn ok\n}\n\n" +
		"var zones = strings.Fields(`\n")
	line := ""
	for _, n := range names {
		if len(line)+len(n) > 117 {
			b.WriteString(line + "\n")
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += n
	}
	b.WriteString(line + "\n`)\n")
	return b.Bytes()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
