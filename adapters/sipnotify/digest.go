package sipnotify

import (
	"context"
	"strings"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// rounds bounds the challenges answered for one request: a proxy's, the phone's, and a nonce gone stale.
const rounds = 3

// do sends a request to the next hop and returns the final response, challenges answered.
func (x *exchange) do(ctx context.Context, req *sip.Request) (*sip.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, x.n.opt.Try)
	defer cancel()
	res, err := x.client.Do(ctx, req)
	answered := map[string]bool{}
	for round := 0; err == nil && round < rounds && x.answer(req, res, answered); round++ {
		req.CSeq().SeqNo++
		req.RemoveHeader("Via")
		res, err = x.client.Do(ctx, req, sipgo.ClientRequestAddVia)
	}
	return res, err
}

// answer puts credentials into req if res is a challenge it can answer and has not answered before.
func (x *exchange) answer(req *sip.Request, res *sip.Response, answered map[string]bool) bool {
	challenge, credentials := "WWW-Authenticate", "Authorization"
	switch res.StatusCode {
	case sip.StatusUnauthorized:
	case sip.StatusProxyAuthRequired:
		challenge, credentials = "Proxy-Authenticate", "Proxy-Authorization"
	default:
		return false
	}
	user := x.account.AuthUsername
	if user == "" {
		user = x.account.Username
	}
	for _, h := range res.GetHeaders(challenge) {
		c, err := digest.ParseChallenge(h.Value())
		if err != nil {
			continue
		}
		c.Algorithm = strings.ToUpper(c.Algorithm)
		place := credentials + " " + c.Realm
		if !digest.CanDigest(c) || answered[place] && !c.Stale {
			continue
		}
		answer, err := digest.Digest(c, digest.Options{Method: string(req.Method), URI: req.Recipient.String(), Username: user, Password: x.account.Password})
		if err != nil {
			continue
		}
		answered[place] = true
		req.RemoveHeader(credentials)
		req.AppendHeader(sip.NewHeader(credentials, answer.String()))
		return true
	}
	return false
}
