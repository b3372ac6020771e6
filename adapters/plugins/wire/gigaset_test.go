package wire_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

func TestGigaset(t *testing.T) {
	const head, tail = `<?xml version="1.0" encoding="ISO-8859-1"?><ProviderFrame><Provider>`, `</Provider></ProviderFrame>`
	got, err := wire.Parse("gigaset", []byte(head+`<MAC_ADDRESS value="7C2F80AABBCC"/><SYMB_ITEM ID="A[0].x" class="symb_item" value='"`+wire.Escape("gigaset", `Zoë "<Z>" & '漢'`)+`"'/>`+tail))
	want := []wire.Entry{{Key: "MAC_ADDRESS", Value: "7C2F80AABBCC"}, {Key: "A[0].x", Value: `Zoë '<Z>' & '漢'`}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "<a/>", head, head + "é" + tail, head + "x" + tail, head + `<SYMB_ITEM ID="a" value='"x"y"'/>` + tail, head + `<SYMB_ITEM ID="a" value='"x'/>` + tail} {
		if _, err := wire.Parse("gigaset", []byte(bad)); !errors.Is(err, wire.ErrSyntax) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
