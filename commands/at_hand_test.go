package commands

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestPiecesReadAsTheFileTheyAreOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.StringN(0, 3000, 3000), 0, 40).Draw(t, "lines")
		file := strings.Join(lines, "\n")
		var h atHand
		kept := h.put("a", []byte(file))
		if err := iotest.TestReader(kept.reader(len(file)), []byte(file)); err != nil {
			t.Fatal(err)
		}
		if again, ok := h.get("a"); !ok || strings.Join(again, "") != file {
			t.Fatal("another file came back")
		}
	})
}

func TestFilesOfAFamilyShareTheirPieces(t *testing.T) {
	var common strings.Builder
	for i := range 250 {
		fmt.Fprintf(&common, "setting.%d.of_the_family = some value %d\n", i, i*i)
	}
	phone := func(i int) (mac string, file []byte) {
		return fmt.Sprint(i), fmt.Appendf(nil, "account.1.user_name = user%d\n%saccount.1.password = secret%d\n", i, &common, i)
	}
	var h atHand
	const phones = 5000
	for i := range phones {
		h.put(phone(i))
	}
	if h.newer.size+h.older.size > phones*common.Len()/4 {
		t.Errorf("%d files of %d bytes take %d", phones, common.Len(), h.newer.size)
	}
	for i := range phones {
		mac, file := phone(i)
		kept, ok := h.get(mac)
		if got, err := io.ReadAll(kept.reader(len(file))); !ok || err != nil || string(got) != string(file) {
			t.Fatalf("file %d: %v %q", i, err, got)
		}
	}
}

func TestWhatIsAtHandIsBounded(t *testing.T) {
	var h atHand
	const files = 80
	for i := range files {
		var own []byte
		for line := range 1 << 15 {
			own = fmt.Appendf(own, "%d of this file is %d\n", line, i)
		}
		h.put(fmt.Sprint(i), own)
	}
	if size := h.newer.size + h.older.size; size > bytesAtHand+2<<20 {
		t.Errorf("%d bytes", size)
	}
	if _, ok := h.get(fmt.Sprint(files - 1)); !ok {
		t.Error("the latest is gone")
	}
	if _, ok := h.get("0"); ok {
		t.Error("the first is still there")
	}
}

func TestDroppedFilesLeaveNoPieces(t *testing.T) {
	var h atHand
	h.put("a", []byte("common line\n"+strings.Repeat("own line of a\n", 50)))
	b := h.put("b", []byte("common line\n"+strings.Repeat("own line of b\n", 50)))
	h.drop([]string{"a"})
	for _, p := range h.newer.pieces {
		if strings.Contains(p, "line of a") {
			t.Errorf("left: %q", p)
		}
	}
	if kept, ok := h.get("b"); !ok || strings.Join(kept, "") != strings.Join(b, "") {
		t.Error("another file went along")
	}
}
