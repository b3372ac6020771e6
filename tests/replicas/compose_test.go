package replicas

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"ledgerline/tests/ports"
	"ledgerline/tests/proc"
)

func top(path ...string) string { return filepath.Join(append([]string{"..", ".."}, path...)...) }

// TestComposeFile: what docker-compose.yml tells a replica are settings it has, images are pinned, the
// EventStoreDB is the one the contract suite tests; and docker compose takes the file, where there is one.
func TestComposeFile(t *testing.T) {
	b, err := os.ReadFile(top("docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Image       string
			Environment map[string]string
		}
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	for name, s := range file.Services {
		if _, tag, _ := strings.Cut(s.Image, ":"); tag == "" || tag == "latest" {
			t.Errorf("%s: image %q is not pinned", name, s.Image)
		}
	}
	contract, err := os.ReadFile(top("adapters", "eventstoredb", "eventstoredb_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	if image := file.Services["eventstoredb"].Image; !strings.Contains(string(contract), `"`+image+`"`) {
		t.Errorf("the contract suite runs against another image than %s", image)
	}
	for _, name := range []string{"replica-a", "replica-b"} {
		env := file.Services[name].Environment
		if len(env) < 8 {
			t.Fatalf("%s has %d settings", name, len(env))
		}
		cmd := exec.Command(proc.Binary(t), "config", "show", "-o", "json")
		for key, value := range env {
			value = strings.ReplaceAll(value, "${PUBLIC_URL:-http://127.0.0.1:8667/}", "http://127.0.0.1:8667/")
			cmd.Env = append(cmd.Env, key+"="+value)
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		var got map[string]any
		if err := yaml.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		for key := range env {
			if _, known := got[strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(key, "LEDGERLINE_")), "_", "-")]; !known {
				t.Errorf("%s: there is no setting %s", name, key)
			}
		}
	}
	if err := exec.Command("docker", "compose", "version").Run(); err != nil {
		t.Log("docker compose does not answer: its own check of docker-compose.yml was not run")
		return
	}
	if out, err := exec.Command("docker", "compose", "-f", top("docker-compose.yml"), "config", "--quiet").CombinedOutput(); err != nil {
		t.Errorf("docker compose config: %v\n%s", err, out)
	}
}

// TestProxy runs a real haproxy with the file of docker-compose.yml before two replicas: a phone's own address
// passes through by PROXY protocol, without which the proxy is trusted with nothing; and while a replica is
// down the other answers.
func TestProxy(t *testing.T) {
	haproxy, err := exec.LookPath("haproxy")
	if err != nil {
		haproxy = "/usr/sbin/haproxy"
	}
	if _, err := os.Stat(haproxy); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("haproxy is not installed; .ci/run installs it")
		}
		t.Log("haproxy is not installed: not tried")
		return
	}
	s, ok := open(t, 2, "--trusted-proxies", "127.0.0.1")
	if !ok {
		return
	}
	api, phones := strconv.Itoa(ports.Free(t)), strconv.Itoa(ports.Free(t))
	cmd := exec.Command(haproxy, "-db", "-f", top("deploy", "haproxy.cfg"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	port := func(addr string) string {
		_, p, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	cmd.Env = []string{"BIND=127.0.0.1", "BIND_API=" + api, "BIND_PHONES=" + phones}
	for i, name := range []string{"A", "B"} {
		r := s.replica(i)
		cmd.Env = append(cmd.Env, "REPLICA_"+name+"=127.0.0.1", "ADMIN_"+name+"="+port(r.Admin), "PHONES_"+name+"="+port(r.Phones), "OPS_"+name+"="+port(r.Ops))
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	// The phone is at 127.0.0.2, in a trusted network; 127.0.0.1 is the proxy's.
	phone := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}}
	ask := func(client *http.Client, addr string) (int, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/001565000001.cfg", nil)
		if err != nil {
			return 0, err
		}
		req.Header.Set("User-Agent", "Yealink SIP-T54W 96.86.0.70 00:15:65:00:00:01")
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	proc.Eventually(t, "the proxy lets a phone through", func() bool {
		status, err := ask(phone, "127.0.0.1:"+phones)
		return err == nil && status == http.StatusOK
	})
	for i := range 2 {
		if status, err := ask(http.DefaultClient, s.replica(i).Phones); err != nil || status != http.StatusNotFound {
			t.Errorf("a trusted proxy that does not say for whom it asks: %d, %v; want 404", status, err)
		}
	}
	for i := range 2 {
		down := s.replica(i)
		down.Kill()
		proc.Eventually(t, fmt.Sprintf("with replica %d down the other answers, ten times in a row", i), func() bool {
			for range 10 {
				status, err := ask(phone, "127.0.0.1:"+phones)
				resp, apiErr := http.Get("http://127.0.0.1:" + api + "/docs")
				if apiErr == nil {
					apiErr = resp.Body.Close()
				}
				if err = errors.Join(err, apiErr); err != nil || status != http.StatusOK || resp.StatusCode != http.StatusOK {
					return false
				}
			}
			return true
		})
		// It comes back at the ports the proxy knows.
		if i == 0 {
			args := []string{"--admin", down.Admin, "--phones", down.Phones, "--ops", down.Ops}
			s.args = append(s.args, args...)
			if err := s.launch(0, down.Dir); err != nil {
				t.Fatal(err)
			}
			proc.Eventually(t, "the proxy sees the first again", func() bool {
				status, err := ask(phone, "127.0.0.1:"+phones)
				return err == nil && status == http.StatusOK
			})
		}
	}
}
