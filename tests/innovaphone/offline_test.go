package innovaphone

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"ledgerline/adapters/updateserver/script"
	"ledgerline/tests/phonesim/innovaphone"
	"ledgerline/tests/ports"
	"ledgerline/tests/proc"
)

// island is the network of a site that leads nowhere else: its DNS server knows these names, and no packet gets out.
type island struct {
	names map[string]string // host:port to address

	mu      sync.Mutex
	outside []string // what a phone has tried to reach
}

func (n *island) client() *http.Client {
	dial := func(ctx context.Context, network, target string) (net.Conn, error) {
		at, known := n.names[target]
		if !known {
			n.mu.Lock()
			n.outside = append(n.outside, target)
			n.mu.Unlock()
			return nil, fmt.Errorf("%s is not of this site", target)
		}
		var d net.Dialer
		return d.DialContext(ctx, network, at)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial}}
}

// Flow D: a site without any way out, with the registry and Devices of its own program. A phone from the factory finds
// them by the vendor's name in the site's DNS; one that DHCP reached first, by the option we make for it. At each step the
// lights go out in the whole site: server and phone lose their power at once. Users is told of all in the end.
func TestOfflineSite(t *testing.T) {
	phones, registry := ports.Address(t), ports.Address(t)
	_, port, err := net.SplitHostPort(phones)
	if err != nil {
		t.Fatal(err)
	}
	base := "http://prov.site.example:" + port
	n := &island{names: map[string]string{"config.innovaphone.com:80": registry, "prov.site.example:" + port: phones}}
	s := newSite(t, "--phones", phones, "--registry", registry, "--public-url", base)
	in := s.asUsers()
	option, err := exec.CommandContext(t.Context(), proc.Binary(t), "innovaphone", "option43", base+"/init").Output()
	if err != nil {
		t.Fatal(err)
	}
	type told struct {
		code string
		p    *phone
	}
	var all []told
	for i, at := range steps {
		t.Run(at, func(t *testing.T) {
			url := "http://config.innovaphone.com/init"
			if i%2 == 1 {
				url = urlOfOption43(t, string(option))
			}
			code := s.code(s.tenant, s.desk)
			p := s.darkAt(at, mac(0x300+i), func(c *innovaphone.Config) {
				c.UpdateURL, c.HTTP, c.EnterCode = url, n.client(), enters(code, code)
			})
			s.kill()
			p.on()
			s.expectIn(p)
			s.once(p.MAC(), "device.discovered", "device.assigned", "device.sysclient_password_set", "device.sysclient_identified")
			proc.Eventually(t, "its address is read back", func() bool { return s.history(p.MAC())["device.url_checked"] > 0 })
			if sys, _ := s.device(p.MAC())["sysclient"].(map[string]any); sys["url_problem"] != nil {
				t.Errorf("its address is wrong: %v", sys["url_problem"])
			}
			all = append(all, told{code, p})
		})
	}
	hearing := s.listens(in)
	for _, of := range all {
		s.hears(hearing, of.code, of.p.MAC())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.outside) > 0 {
		t.Errorf("phones were led out of the site: %q", n.outside)
	}
}

// urlOfOption43 is the update URL in option 43, as a phone reads it: suboptions of code, length, value.
func urlOfOption43(t *testing.T, text string) string {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	for err == nil && len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == script.OptionUpdateURL {
			return string(b[2 : 2+int(b[1])])
		}
		b = b[2+int(b[1]):]
	}
	t.Fatalf("option 43 %q has no update URL: %v", text, err)
	return ""
}
