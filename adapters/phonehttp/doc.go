// Package phonehttp is what phones fetch over HTTP and HTTPS. It reads who asks for what, lets one command
// decide (Files.ServeFile), and writes the answer in the form old phones can live with.
//
// One dispatcher (D23). The first path segment chooses how a phone proves itself, because ServeMux cannot
// hold these patterns together:
//
//	/t/<tenant-key>/<file>     tenant_key    also /<tenant-key>/<file>, as wazo prints it
//	/d/<device-secret>/<file>  secret
//	/c/<code>/<file>           code
//	/<file>                    mac           with HTTP Basic or Digest whose user name is a code: code
//
//	/enter/<plugin>/<mac>      a page for the browser of a phone nobody has configured; with ?code= or a form: code
//
// Other first segments ("update", "init", …) and requests matched by function come from the caller as Mounts.
//
// What always holds:
//   - Everything that is not this phone's to have is one 404: same bytes, same headers, and the same work,
//     whether the address is unknown, the tenant wrong, the secret wrong, the path closed or the file missing.
//     Our own trouble is 503 with Retry-After: a phone that is told "no such file" falls back to defaults,
//     one that is told "later" keeps what it has.
//   - Wrong codes. In a path they are the same 404, also when the guess budget is spent: a phone cannot type
//     another one, and 429 would only tell a guesser that he is counted. With Basic they are one 401 with
//     one challenge, because then phones ask their user to type again. On the page at /enter they are that page
//     again, with one sentence more: same bytes for every reason.
//   - Answers have an exact Content-Length and are never chunked; ETag and Last-Modified come from the file,
//     so the same file is the same bytes on every poll. HTTP/1 only: no phone speaks HTTP/2.
//   - Delivered is called when a whole body has been handed to the network, or for 304 on the file's ETag
//     (D26); not for HEAD and not for parts.
//   - Logs and metrics name the route pattern, never a code, key or secret.
//   - Every size, count and time is bounded: see Options.
//
// Where a client is. Only peers in Options.TrustedProxies may say for whom they ask, by PROXY protocol or by
// the one header Options.ForwardedHeader names; the rightmost hop that is no trusted proxy counts. Only one
// header is believed, for a proxy that appends to one passes the other on as the client wrote it. A trusted
// proxy itself is never in a trusted network (D24).
//
// Caching. "Cache-Control: private, no-cache": a phone may keep the file and ask again with its ETag; a
// shared cache may not keep it. Refusals are no-store, so that no cache makes them outlive their reason.
//
// Enumeration. Outside trusted networks, a source (IPv4 /24, IPv6 /56) may miss with 30 different identities
// an hour; then its weak identities (address alone, tenant key with address) are refused unasked and slowly,
// except those that have had a file before. Secrets of 128 bits and certificates are never held up: nobody
// enumerates them, and a victim behind the same address goes on working. Volatile: a restart forgives.
//
// Not here: which file is whose and all rules about it (commands), TFTP (phonetftp), certificates by ACME.
package phonehttp
