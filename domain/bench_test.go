package domain_test

import (
	"testing"
	"time"

	"ledgerline/domain"
)

// BenchmarkDecode decodes the events of one phone from its user to its first file; one turn is one event.
func BenchmarkDecode(b *testing.B) {
	names := []string{"key.created", "user.defined", "key.created", "line.defined", "key.created", "device.discovered", "device.assigned",
		"device.line_associated", "device.config_regenerated", "device.config_delivered"}
	frozen := samples(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		name := names[i%len(names)]
		if _, err := domain.Decode(name, frozen[name]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMeta(b *testing.B) {
	r := domain.Recorded{Metadata: []byte(`{"$correlationId":"018f3a1c-9b7d-7e21-a4c5-d6e7f8091a2b","actor":"system:bench","tenant_id":"bench","recorded_at":"2026-11-21T02:50:14.123456789Z"}`)}
	b.ReportAllocs()
	for b.Loop() {
		if m, err := r.Meta(); err != nil || m.RecordedAt.Before(time.Time{}) {
			b.Fatal(err)
		}
	}
}
