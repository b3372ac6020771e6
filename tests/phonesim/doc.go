// Package phonesim simulates telephones: they boot, ask for files, read them and poll for changes the
// way the vendor's own firmware does, over HTTP, HTTPS and TFTP.
//
// Its parsers are written from the vendors' manuals and share no code with the plugins that write the
// files: a simulator that used the writer's code would only prove that the writer agrees with itself.
// They are stricter than most firmware, so that a file which some phone would drop is refused here, with
// the line named.
//
// What holds: a phone applies a whole boot or nothing of it; a malformed file is refused whole and leaves
// the settings it would have changed; settings survive a boot as they do in flash memory, so a value that is
// no longer sent stays until it is cleared; nothing printed shows a password, a file's content or a
// provisioning code. A server's busy answer is waited for, within bounds.
//
// One vendor is one file (yealink.go, snom.go, grandstream.go) and one line in the slice in vendor.go.
//
// Not here: SIP (no phone registers; "configured" means it has a complete enabled account), DHCP and
// redirect services, firmware download, encrypted configuration files.
package phonesim
