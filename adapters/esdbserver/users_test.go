package esdbserver

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// TestPasswords: hashes as this program and as htpasswd -B write them ($2y$) are the same thing; an unknown
// user and a password bcrypt would cut are refused, and what was right once is right again without a look.
func TestPasswords(t *testing.T) {
	b, err := bcrypt.GenerateFromPassword([]byte("correct horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", maxPassword)
	l, err := bcrypt.GenerateFromPassword([]byte(long), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	u, err := newUsers([]User{{"kim", string(b)}, {"pat", strings.Replace(string(b), "$2a$", "$2y$", 1)}, {"max", string(l)}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, c := range []struct {
			name, password string
			want           bool
		}{
			{"kim", "correct horse", true}, {"pat", "correct horse", true}, {"max", long, true},
			{"max", long + "y", false}, {"kim", "correct", false}, {"kim", "", false}, {"", "correct horse", false}, {"nobody", "correct horse", false},
			{"ki", "mcorrect horse", false}, // name and password are not one text
		} {
			if got := u.right(t.Context(), c.name, c.password); got != c.want {
				t.Errorf("%q with %q: %v", c.name, c.password, got)
			}
		}
	}
	if len(u.known) != 3 {
		t.Errorf("%d passwords are remembered", len(u.known))
	}
	if _, err := newUsers([]User{{"kim", "correct horse"}}); err == nil {
		t.Error("a password in clear text is taken for a hash")
	}
}
