package domain

// KeyCreated: a subject has a data key in the vault. Stands in the subject's own stream, without material.
type KeyCreated struct {
	Subject Subject `json:"subject"`
	KeyID   string  `json:"key_id"`
}

// KeyDestroyed: the subject's key is gone; what it sealed cannot be read any more, anywhere.
type KeyDestroyed struct {
	Subject Subject `json:"subject"`
}

// SubjectErased: somebody ordered the erasure of these subjects; their keys are destroyed in consequence.
type SubjectErased struct {
	Subjects []Subject `json:"subjects"`
}

func (KeyCreated) EventType() string    { return "key.created" }
func (KeyDestroyed) EventType() string  { return "key.destroyed" }
func (SubjectErased) EventType() string { return "subject.erased" }

var keyEvents = []entry{of[KeyCreated](), of[KeyDestroyed](), of[SubjectErased]()}

// Stream is where the facts about the subject's key stand.
func (s Subject) Stream() StreamID { return StreamID(s) }

// Keyed is what the key events of a stream add up to.
type Keyed struct {
	Created   map[Subject]bool
	Destroyed map[Subject]bool
}

// Apply returns the keys after e.
func (k Keyed) Apply(e Event) Keyed {
	switch e := e.(type) {
	case KeyCreated:
		k.Created = with(k.Created, e.Subject)
	case KeyDestroyed:
		k.Destroyed = with(k.Destroyed, e.Subject)
	}
	return k
}

// with returns a copy of set that also holds s.
func with[K comparable](set map[K]bool, s K) map[K]bool {
	out := make(map[K]bool, len(set)+1)
	for k := range set {
		out[k] = true
	}
	out[s] = true
	return out
}
