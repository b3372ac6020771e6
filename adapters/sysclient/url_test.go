package sysclient

import (
	"net/url"
	"testing"
)

// What a phone has stored, and what we say of it. The argument is encoded twice; a browser takes one encoding away.
func TestURLProblem(t *testing.T) {
	const path = "/example.com/devices/sysclients"
	query := url.Values{"domain": {"example.com"}, "token": {"abcdef#XYZ"}, "category": {"acme IP Phone"}}
	for _, c := range []struct{ name, dump, want string }{
		{"right", "config change UP1 /url x\r\nconfig change SYSCLIENT /sysadmin wss%3A%2F%2Fapps.example.com%2Fexample.com%2Fdevices%2Fsysclients%3Fdomain%3Dexample.com%26token%3Dabcdef%2523XYZ%26category%3Dacme%2520IP%2520Phone\r\n", ""},
		{"none", "config change UP1 /url x\r\n", "no address of Devices is stored"},
		{"half-encoded", "config change SYSCLIENT /sysadmin wss%3A%2F%2Fapps.example.com%2Fexample.com%2Fdevices%2Fsysclients%3Fdomain%3Dexample.com%26token%3Dabcdef%23XYZ%26category%3Dacme%20IP%20Phone",
			"the address stored is half-encoded: it holds characters that a URL cannot"},
		{"a # cuts it off", "config change SYSCLIENT /sysadmin wss%3A%2F%2Fapps.example.com%2Fexample.com%2Fdevices%2Fsysclients%3Fdomain%3Dexample.com%26token%3Dabcdef%23XYZ",
			"the address stored is half-encoded: a # cuts it off"},
		{"elsewhere", "config change SYSCLIENT /sysadmin wss%3A%2F%2Fapps.example.com%2Fexample.net%2Fdevices%2Fsysclients", "the address stored leads elsewhere"},
		{"another token", "config change SYSCLIENT /sysadmin wss%3A%2F%2Fapps.example.com%2Fexample.com%2Fdevices%2Fsysclients%3Fdomain%3Dexample.com%26token%3Dold", "the address stored names another token"},
		{"no URL", "config change SYSCLIENT /sysadmin http%3A%2F%2Fx", "the address stored is no websocket URL"},
		{"broken", "config change SYSCLIENT /sysadmin wss%3A%2", "the address stored is not percent-encoded"},
	} {
		if got := urlProblem(c.dump, path, query); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
