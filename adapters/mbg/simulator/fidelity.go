package simulator

// Behaviour is one thing the simulator does, and how it is known: D documented by the vendor, I inferred, P a proposal
// of ours.
type Behaviour struct {
	Mark string `json:"mark"`
	What string `json:"what"`
	Why  string `json:"why,omitempty"`
}

// Fidelity lists every simulated behaviour.
var Fidelity = []Behaviour{
	{"D", "web services are started and stopped by the administrator", ""},
	{"P", "stopped web services answer 404, or cut the connection", "the product's answer is not known"},
	{"D", "consumers have a name, an id, an active flag and permissions, among them Base/managetoken", ""},
	{"P", "the permissions Icps/read, SipUsers/read and SipUsers/write", "the rest of the list is not known"},
	{"I", "a consumer has a secret", "the token exchange needs one"},
	{"I", "temporary token, verifier and final token are OAuth 1.0a with an out-of-band verifier", "they are precisely its parts"},
	{"P", "paths, media types and field names", "those of the mapping it was given"},
	{"D", "a verifier is read on the gateway and typed in at the client", ""},
	{"P", "verifiers have 8 digits and live 10 minutes, with 20 minutes for the approval", ""},
	{"D", "a final token lives 12 months; Renew extends the same token", ""},
	{"P", "Renew gives 12 months from the press", "may be from the old end"},
	{"P", "timestamps may be off by 300 seconds and never go back; nonces are remembered", "RFC 5849 section 3.3"},
	{"P", "refusals carry oauth_problem, or not, as the switch says", ""},
	{"D", "an ICP has a name and an address", ""},
	{"D", "creating a SIP user answers an id", ""},
	{"I", "passwords are never read back", "so it is on the product's page"},
	{"D", "blank ICP-side fields take the set-side values", ""},
	{"D", "a blank password keeps the old one", ""},
	{"P", "set-side user names are unique: 409", "known of one mode of the product only"},
	{"D", "weak passwords are refused unless permitted", ""},
	{"P", "weak is: less than 8 characters, fewer than three classes, or the user name", ""},
	{"P", "an unknown ICP is 422, no licence left is 409", ""},
	{"P", "a full write takes away what it does not name", "the strictest reading"},
	{"P", "ids grow, and are used again after a restore", ""},
	{"I", "members of a cluster may lag: reads after a write can be stale", "there is a cluster zone field"},
}
