// Package sipnotify tells phones to fetch their files again: the port commands.Notifier, with a SIP NOTIFY out of
// any dialog (Event: check-sync and its kin) or through the manager interface of an Asterisk.
//
// Which way a message goes, each until somebody takes it:
//
//   - an Asterisk manager connection, where one is configured: action PJSIPNotify for the account's endpoint;
//   - through the account's outbound proxy or registrar, for at most two accounts. First the registrar is asked,
//     with the account's own credentials, which contacts are registered (a REGISTER without Contact, RFC 3261
//     §10.2.3). One contact, or none told: the message goes to the address of record. Several (two phones with
//     one account): to the contact that is this phone's, by the MAC in its +sip.instance or by the address the
//     phone last fetched from, so that each phone gets its own. Where that cannot be told it goes to all of them;
//   - to the phone itself, at the address it last fetched from, under the account's user name: of several phones
//     behind one address the others refuse a user that is not theirs.
//
// Digest challenges (401 by the phone or registrar, 407 by a proxy) are answered with the account's credentials.
//
// Why not keep a registration of our own: we are no phone. Why a user agent per message: nothing is left behind,
// neither sockets nor connections, and TLS roots may differ from one message to the next.
//
// Always holds: a message takes at most 25 seconds, and an outcome's text holds no address and no credential; the
// address asked is in DeviceSyncOutcome.To, which is sealed before it is recorded.
//
// Not here: which event a family wants (plugin.yaml), and whether the phone then fetches (domain.Sync).
package sipnotify
