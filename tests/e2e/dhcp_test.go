package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/sys/unix"

	"ledgerline/tests/proc"
)

// inside is set in the copy of this test that runs in a network of its own.
const inside = "LEDGERLINE_TEST_OWN_NETWORK"

// A phone plugged into a network asks dnsmasq, started with our file, for an address; learns where the server is; is
// made known by the lease; and fetches its file by TFTP with a client that is not ours. The network is a namespace of
// its own, with the phone in another.
func TestAPhoneFindsTheServerByDHCP(t *testing.T) {
	if os.Getenv(inside) != "" {
		dhcpStory(t)
		return
	}
	for bin, pkg := range map[string]string{"dnsmasq": "dnsmasq-base", "tftp": "tftp-hpa", "ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "curl": "curl"} {
		if _, err := lookPath(bin); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s (Debian: %s) is not installed", bin, pkg)
			}
			t.Logf("%s (Debian: %s) is not installed: nothing was tried", bin, pkg)
			return
		}
	}
	proc.Binary(t) // built once, not in both
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), inside+"=1", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := again.CombinedOutput()
	if again.ProcessState == nil {
		// Namespaces are not allowed here: at least dnsmasq must understand the file.
		t.Logf("no network of its own (%v): only the file is checked", err)
		checkFile(t, dhcpConfig(t, "192.0.2.1", ""))
		return
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func lookPath(bin string) (string, error) {
	path, err := exec.LookPath(bin)
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err != nil {
			path, err = exec.LookPath(dir + bin)
		}
	}
	return path, err
}

// run runs a program, and ends the test if it fails.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := lookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// dhcpConfig is our file for dnsmasq.
func dhcpConfig(t *testing.T, host, hook string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ledgerline.conf")
	text := run(t, proc.Binary(t), "dhcp", "config", "--server", "dnsmasq", "--url", "http://"+host+":8667/", "--tftp", host, "--hook", hook)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func checkFile(t *testing.T, file string) {
	t.Helper()
	if out := run(t, "dnsmasq", "--test", "--conf-file="+file); !strings.Contains(out, "syntax check OK") {
		t.Error(out)
	}
}

func dhcpStory(t *testing.T) {
	const host = "192.168.77.1"
	run(t, "ip", "link", "set", "lo", "up")
	run(t, "ip", "link", "add", "site", "type", "veth", "peer", "name", "phone")
	run(t, "ip", "addr", "add", host+"/24", "dev", "site")
	run(t, "ip", "link", "set", "site", "up")
	// The phone's network lasts as long as a process in it.
	holder := exec.Command("unshare", "-n", "sleep", "300")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	pid := fmt.Sprint(holder.Process.Pid)
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	proc.Eventually(t, "the phone has a network of its own", func() bool {
		theirs, err := os.Readlink("/proc/" + pid + "/ns/net")
		return err == nil && theirs != own
	})
	run(t, "ip", "link", "set", "phone", "netns", pid)
	onPhone := func(args ...string) string {
		t.Helper()
		return run(t, "nsenter", append([]string{"-t", pid, "-n"}, args...)...)
	}

	s := &site{Server: proc.Start(t, t.TempDir(), "--phones", host+":8667", "--tftp", host+":69"), password: "canary-dhcp"}
	s.tenant = s.create(t, "/tenants", map[string]any{"name": "Acme", "domain": "acme.example"})
	s.create(t, "/layers", map[string]any{"id": "tenant." + s.tenant, "tenant_id": s.tenant, "settings": map[string]any{"sip_proxy_ip": "pbx.acme.example"}})
	s.line = s.create(t, "/lines", map[string]any{"tenant_id": s.tenant, "username": "acme4711", "password": s.password})
	hook := filepath.Join(t.TempDir(), "lease")
	script := fmt.Sprintf("#!/bin/sh\nLEDGERLINE_SERVER=http://%s LEDGERLINE_TOKEN_FILE=%s/admin.token exec %s dhcp hook \"$@\"\n", s.Admin, s.Dir, proc.Binary(t))
	if err := os.WriteFile(hook, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	config := dhcpConfig(t, host, hook)
	checkFile(t, config)
	path, err := lookPath("dnsmasq")
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	server := exec.Command(path, "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--user=root", "--port=0", "--no-resolv", "--no-hosts", "--no-ping",
		"--interface=site", "--bind-interfaces", "--dhcp-authoritative", "--dhcp-range=192.168.77.10,192.168.77.99,1h", "--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"), "--conf-file="+config)
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	}()

	dir := t.TempDir()
	for _, c := range []struct {
		class, mac               string
		option                   uint8
		want, file, agent, holds string
	}{
		{"yealink", "0015651a2b03", 66, "http://192.168.77.1:8667/", "0015651a2b03.cfg", "Yealink SIP-T54W 96.86.0.15 00:15:65:1a:2b:03", "account.1.user_name = acme4711"},
		{"snom", "0004131a2b04", 66, "http://192.168.77.1:8667/", "snomD785-0004131A2B04.htm", "Mozilla/4.0 (compatible; snomD785-SIP 10.1.33.33 2010.12-00004 0004131A2B04 SXM:0 UXM:0)", "acme4711"},
		{"Cisco Systems, Inc. IP Phone CP-7942G", "0019e81a2b05", 150, "192.168.77.1", "", "", ""},
		{"Polycom-VVX450", "64167f1a2b06", 160, "http://192.168.77.1:8667/", "64167f1a2b06-user.cfg", "FileTransport PolycomVVX-VVX_450-UA/6.3.1.8427", "acme4711"},
		{"MSFT 5.0", "0200001a2b07", 66, "", "", "", ""},
	} {
		colons := strings.Join([]string{c.mac[:2], c.mac[2:4], c.mac[4:6], c.mac[6:8], c.mac[8:10], c.mac[10:]}, ":")
		onPhone("ip", "link", "set", "phone", "down")
		onPhone("ip", "link", "set", "phone", "address", colons)
		onPhone("ip", "link", "set", "phone", "up")
		ack := ask(t, pid, c.mac, c.class)
		onPhone("ip", "addr", "flush", "dev", "phone")
		onPhone("ip", "addr", "add", ack.YourIPAddr.String()+"/24", "dev", "phone")
		got := strings.TrimRight(string(ack.Options.Get(dhcpv4.GenericOptionCode(c.option))), "\x00") // dnsmasq ends 66 with a zero, for old phones
		if c.option == 150 {
			got = net.IP(got).String()
		}
		if got != c.want {
			t.Errorf("%s was told %d=%q, want %q", c.class, c.option, got, c.want)
		}
		if c.file == "" {
			continue
		}
		device := "/devices/" + c.mac
		proc.Eventually(t, c.class+" is known by its lease", func() bool {
			return s.state(t, device) == "autoprov"
		})
		s.API(t, http.StatusOK, http.MethodPost, device+"/lines", map[string]any{"line_id": s.line})
		proc.Eventually(t, c.class+" has files", func() bool { return s.state(t, device) == "configured" })
		out := filepath.Join(dir, "fetched")
		onPhone("tftp", "-4", "-m", "binary", host, "69", "-c", "get", c.file, out)
		if data, err := os.ReadFile(out); err != nil || !strings.Contains(string(data), c.holds) {
			t.Errorf("%s by TFTP: %v\n%s", c.file, err, data)
		}
		if page := onPhone("curl", "-sS", "-A", c.agent, c.want+c.file); !strings.Contains(page, c.holds) {
			t.Errorf("%s at the URL it was told: %s", c.file, page)
		}
	}
	if s.state(t, "/devices/0200001a2b07") != "" {
		t.Error("a computer's lease made a phone known")
	}
}

// ask is a phone asking for an address in the network of process pid.
func ask(t *testing.T, pid, mac, class string) *dhcpv4.DHCPv4 {
	t.Helper()
	type answer struct {
		lease *nclient4.Lease
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		// The thread goes into the phone's network, and ends with this goroutine.
		runtime.LockOSThread()
		lease, err := func() (*nclient4.Lease, error) {
			ns, err := os.Open("/proc/" + pid + "/ns/net")
			if err != nil {
				return nil, err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, err
			}
			client, err := nclient4.New("phone", nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(10))
			if err != nil {
				return nil, err
			}
			defer client.Close()
			return client.Request(t.Context(), dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)))
		}()
		done <- answer{lease, err}
	}()
	a := <-done
	if a.err != nil {
		t.Fatalf("%s (%s) got no lease: %v", mac, class, a.err)
	}
	return a.lease.ACK
}

// state is a device's state; empty for one nobody knows.
func (s *site) state(t *testing.T, device string) string {
	t.Helper()
	token, err := s.Token()
	if err != nil {
		t.Fatal(err)
	}
	status, body, err := s.Call(t.Context(), http.DefaultClient, token, http.MethodGet, device, nil)
	if err != nil {
		t.Fatal(err)
	}
	if status != http.StatusOK {
		return ""
	}
	_, rest, _ := strings.Cut(string(body), `"state":"`)
	state, _, _ := strings.Cut(rest, `"`)
	return state
}
