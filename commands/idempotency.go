package commands

import (
	"context"
	"encoding/hex"
	"fmt"

	"ledgerline/domain"
)

// Answer is what a request was answered.
type Answer struct {
	Status int
	Header domain.Headers
	Body   string
}

// requestSubject seals the answers of one day; its key is of no use two days later.
func (s *Service) requestSubject() domain.Subject {
	return domain.Subject("requests-" + s.now().Format("2006.01.02"))
}

func (s *Service) requestStream(ctx context.Context, credential, key string) (domain.StreamID, error) {
	hash, err := s.lookup(ctx, "request", credential+"\x00"+key)
	return domain.Stream("request", hash), err
}

// Recall is the answer an earlier request of the same credential and idempotency key got within a day. same
// is false when that request was another one; known is false when there was none.
func (s *Service) Recall(ctx context.Context, credential, key string, request []byte) (a Answer, same, known bool, err error) {
	stream, err := s.requestStream(ctx, credential, key)
	if err != nil {
		return a, false, false, err
	}
	r, _, err := load[domain.Request](ctx, s.Log, stream)
	if err != nil || !r.Fresh(s.now()) {
		return a, false, false, err
	}
	sum, err := s.Vault.Hash(ctx, lookups, "request-body", request)
	if err != nil {
		return a, false, false, err
	}
	if hex.EncodeToString(sum) != r.Fingerprint {
		return a, false, true, nil
	}
	body, err := s.Vault.Open(ctx, r.Answer.Sealed)
	return Answer{r.Status, r.Header, body}, true, true, err
}

// Remember keeps the answer to a request for a day.
func (s *Service) Remember(ctx context.Context, credential, key string, request []byte, a Answer) error {
	stream, err := s.requestStream(ctx, credential, key)
	if err != nil {
		return err
	}
	sum, err := s.Vault.Hash(ctx, lookups, "request-body", request)
	if err != nil {
		return fmt.Errorf("hash a request: %w", err)
	}
	answer, err := s.secret(ctx, s.requestSubject(), a.Body)
	if err != nil {
		return err
	}
	_, err = decide(ctx, s, stream, func(r domain.Request) ([]domain.Event, error) {
		if r.Fresh(s.now()) {
			return nil, nil
		}
		return []domain.Event{domain.RequestAnswered{Fingerprint: hex.EncodeToString(sum), Status: a.Status, Header: a.Header, Answer: answer, AnsweredAt: s.now()}}, nil
	})
	return err
}

// ForgetAnswers destroys the keys of days whose answers nobody may ask for any more. Run on a schedule.
func (s *Service) ForgetAnswers(ctx context.Context) error {
	for day := 2; day <= 9; day++ {
		subject := domain.Subject("requests-" + s.now().AddDate(0, 0, -day).Format("2006.01.02"))
		keyed, h, err := load[domain.Keyed](ctx, s.Log, subject.Stream())
		if err != nil {
			return err
		}
		if h.revision == domain.NoStream || keyed.Destroyed[subject] {
			continue
		}
		if _, err := s.DestroyKey(ctx, DestroyKey{Subject: subject}); err != nil {
			return err
		}
	}
	return nil
}
