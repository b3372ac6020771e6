package softphone

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"ledgerline/adapters/softphone/wire"
)

// send answers a document. tagged ones have an ETag, and are not sent again to who has them.
func send(w http.ResponseWriter, r *http.Request, body []byte, tagged bool) int {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if tagged {
		sum := sha256.Sum256(body)
		tag := `"` + hex.EncodeToString(sum[:16]) + `"`
		h.Set("ETag", tag)
		if has(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return http.StatusNotModified
		}
	}
	write(w, http.StatusOK, body)
	return http.StatusOK
}

// fail answers an error the app shows to its user.
func fail(w http.ResponseWriter, _ *http.Request, status int, message string) int {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	write(w, status, wire.Error(message))
	return status
}

func write(w http.ResponseWriter, status int, body []byte) {
	writeAs(w, status, "application/xml; charset=utf-8", body)
}

func writeAs(w http.ResponseWriter, status int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// has tells whether a tag is among those of an If-None-Match.
func has(header, tag string) bool {
	for t := range strings.SplitSeq(header, ",") {
		if strings.TrimPrefix(strings.TrimSpace(t), "W/") == tag {
			return true
		}
	}
	return false
}
