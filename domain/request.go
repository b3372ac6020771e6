package domain

import "time"

// RequestAnswered: a program's request with an idempotency key was answered so; the same request again is
// answered the same for a day (D10). Answer is sealed, for it may hold a code or a key.
type RequestAnswered struct {
	Fingerprint string    `json:"fingerprint"` // keyed hash of method, path and body
	Status      int       `json:"status"`
	Header      Headers   `json:"header,omitempty"`
	Answer      Secret    `json:"answer"`
	AnsweredAt  time.Time `json:"answered_at"`
}

// Headers are the headers of an answer that are worth repeating, by name.
type Headers map[string]string

func (RequestAnswered) EventType() string { return "request.answered" }

var requestEvents = []entry{of[RequestAnswered]()}

// AnswerAge is how long an answer is remembered.
const AnswerAge = 24 * time.Hour

// Request is what a request stream adds up to: the latest answer.
type Request struct {
	RequestAnswered
	Exists bool
}

// Apply returns the request after e.
func (r Request) Apply(e Event) Request {
	if e, ok := e.(RequestAnswered); ok {
		return Request{e, true}
	}
	return r
}

// Fresh tells whether the answer is still to be repeated at now.
func (r Request) Fresh(now time.Time) bool {
	return r.Exists && now.Before(r.AnsweredAt.Add(AnswerAge))
}
