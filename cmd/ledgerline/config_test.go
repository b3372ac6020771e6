package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// load is loadConfig with these flags, environment and file.
func load(t *testing.T, file string, env map[string]string, args ...string) (Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	(&Config{}).flags(fs)
	if file != "" {
		path := filepath.Join(t.TempDir(), "ledgerline.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return loadConfig(fs, func(name string) string { return env[name] })
}

// Flags beat the environment, that beats the file, that beats the default.
func TestConfigPrecedence(t *testing.T) {
	file := "admin: 127.0.0.1:1\nphones: 127.0.0.1:2\ntftp: 127.0.0.1:3\ntrusted-networks: [10.0.0.0/8, 192.0.2.1]\n"
	env := map[string]string{"LEDGERLINE_PHONES": "127.0.0.1:22", "LEDGERLINE_TFTP": "127.0.0.1:33"}
	c, err := load(t, file, env, "--tftp", "127.0.0.1:333")
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []struct{ what, got, want string }{
		{"file", c.Admin, "127.0.0.1:1"}, {"environment", c.Phones, "127.0.0.1:22"}, {"flag", c.TFTP, "127.0.0.1:333"}, {"default", c.Ops, "127.0.0.1:8668"},
		{"list", strings.Join(c.TrustedNetworks, " "), "10.0.0.0/8 192.0.2.1"},
	} {
		if got.got != got.want {
			t.Errorf("%s: %q, want %q", got.what, got.got, got.want)
		}
	}
}

// What cannot work is refused with its name.
func TestConfigRefuses(t *testing.T) {
	for _, c := range []struct {
		file string
		env  map[string]string
		args []string
		want string
	}{
		{file: "admn: 127.0.0.1:1\n", want: `unknown setting "admn"`},
		{file: "admin: [\n", want: "config file"},
		{args: []string{"--code-length", "13"}, want: "code-length must be 12 or 16"},
		{args: []string{"--code-ttl-rollout", "200h"}, want: "at most 168h"},
		{env: map[string]string{"LEDGERLINE_CODE_TTL_ROLLOUT": "soon"}, want: "LEDGERLINE_CODE_TTL_ROLLOUT"},
		{args: []string{"--discovery-cap", "many"}, want: `"many" is not a number`},
		{args: []string{"--phones-tls", ":1"}, want: "needs tls-cert"},
		{args: []string{"--reactor-from", "middle"}, want: "reactor-from must be head or start"},
		{args: []string{"--trusted-networks", "10.0.0.0/33"}, want: "is not a network"},
		{args: []string{"--trusted-proxies", "proxy"}, want: "is not a network"},
		{args: []string{"--discovery-cap", "0"}, want: "at least 1"},
	} {
		_, err := load(t, c.file, c.env, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("file %q, env %v, flags %v: %v, want %q", c.file, c.env, c.args, err, c.want)
		}
	}
}

// The README's table has every setting with its default, and no other.
func TestReadmeNamesEverySetting(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(b), "| setting | default | meaning |")
	if !ok {
		t.Fatal("README.md has no table of settings")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) == 5 && strings.Contains(cells[1], "`") {
			rows[strings.Trim(strings.TrimSpace(cells[1]), "`")] = strings.TrimSpace(cells[2])
		}
	}
	(&Config{}).settings(func(key string, tag reflect.StructTag, _ reflect.Value) {
		want := "none"
		if d := tag.Get("default"); d != "" {
			want = "`" + d + "`"
		}
		if key == "trusted-networks" {
			want = "loopback and private ranges"
		}
		if got, ok := rows[key]; !ok || got != want {
			t.Errorf("setting %s: the README says %q, want %q", key, got, want)
		}
		delete(rows, key)
	})
	for key := range rows {
		t.Errorf("the README names %q, which is no setting", key)
	}
}
