package wire_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

func TestObihai(t *testing.T) {
	const head, tail = `<?xml version="1.0"?><ParameterList><Object><Name>A.1.</Name>`, `</Object></ParameterList>`
	got, err := wire.Parse("obihai", []byte(head+`<ParameterValueStruct><Name>X</Name><Value>`+wire.Escape("obihai", "a & <b>")+`</Value></ParameterValueStruct><ParameterValueStruct><Name>Y</Name><Value X_UseDefault="Yes"/></ParameterValueStruct>`+tail))
	want := []wire.Entry{{Key: "A.1.X", Value: "a & <b>"}, {Key: "A.1.Y"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "<x/>", "<ParameterList><Object><Name>A</Name></Object></ParameterList>", head + "<ParameterValueStruct><Name>X</Name></ParameterValueStruct>" + tail,
		head + "<ParameterValueStruct><Value>X</Value></ParameterValueStruct>" + tail, "<!DOCTYPE x>" + head + tail, head} {
		if got, err := wire.Parse("obihai", []byte(bad)); !errors.Is(err, wire.ErrSyntax) {
			t.Errorf("%q: %v %v", bad, got, err)
		}
	}
}
