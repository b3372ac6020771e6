package domain_test

import (
	"testing"

	"ledgerline/domain"
)

func TestSoftphoneSignInText(t *testing.T) {
	for want, s := range map[string]domain.SoftphoneSignIn{
		"csc:ACME":                              {CloudID: "ACME"},
		"csc:ACME*":                             {CloudID: "ACME", Editable: true},
		"csc:ana@ACME":                          {CloudID: "ACME", Username: "ana"},
		"csc:ana:s3cret@ACME*":                  {CloudID: "ACME", Editable: true, Username: "ana", Password: "s3cret"},
		"csc:ana%40acme.example:p%3Aq%40r@ACME": {CloudID: "ACME", Username: "ana@acme.example", Password: "p:q@r"},
		"csc:J%C3%BCrgen%20M%2B:a%25b%3Bc~d_e-f.@A.b": {CloudID: "A.b", Username: "Jürgen M+", Password: "a%b;c~d_e-f."},
		"csc:ACME.x": {CloudID: "ACME.x", Password: "of nobody"},
	} {
		if got := s.Text(); got != want {
			t.Errorf("%+v\n got %s\nwant %s", s, got, want)
		}
	}
}
