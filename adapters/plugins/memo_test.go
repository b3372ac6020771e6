package plugins

import (
	"fmt"
	"strings"
	"testing"

	"ledgerline/commands"
)

// What is remembered is what was found, nobody included, and only so much of it.
func TestMemo(t *testing.T) {
	set, err := Load(Builtin())
	if err != nil {
		t.Fatal(err)
	}
	asked := []commands.Asked{
		{Path: "0015651a2b3c.cfg", UserAgent: "Yealink SIP-T54W 96.86.0.70 00:15:65:1a:2b:3c"},
		{Path: "0015651a2b3c.cfg", UserAgent: "Yealink SIP-T46S 66.86.0.15 00:15:65:1a:2b:3c"},
		{Path: "favicon.ico", UserAgent: "curl/8.0"},
		{Path: strings.Repeat("x", shortAsked+1)},
	}
	for _, a := range asked {
		first, ok := set.now.Load().recognize(a)
		for range 2 {
			if again, okAgain := set.Recognize(a); again != first || okAgain != ok {
				t.Errorf("%.40q: %+v %v, then %+v %v", a.Path, first, ok, again, okAgain)
			}
		}
	}
	if n := len(set.now.Load().memo.newer); n != 3 {
		t.Errorf("%d requests remembered, want 3: the long one is not", n)
	}
	for i := range 3 * memoEntries {
		set.now.Load().memo.put(commands.Asked{Path: fmt.Sprint(i)}, commands.Recognition{}, false)
	}
	if n := len(set.now.Load().memo.newer) + len(set.now.Load().memo.old); n > 2*memoEntries {
		t.Errorf("%d requests remembered", n)
	}
}
