// Package appsim simulates the app of Cloud Softphone: it scans or is told who signs in, calls the web services its portal
// defines, merges what they answer into what it has, refreshes it when it is due, and signs out when it is told to.
//
// It is written from the vendor's documentation, and where that is silent from what is seen in the field; it shares no code
// with the server, for a simulator that used the server's would only prove that the server agrees with itself. What nobody
// outside the vendor knows is a switch of Behaviour, so that a test can try the server with each.
//
// What holds: time is what Config.Now says, and nothing happens by itself: Due tells when the next refresh is due, Tick
// does what is due. An answer that is not accepted changes nothing. No error holds a password.
//
// Not here: SIP, the portal itself (Config.Portal is what its page would hold), push notifications, messages.
package appsim
