package commands_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
)

// A phone's story comes to its end while a thousand others record theirs.
func BenchmarkSettleAmongOthers(b *testing.B) {
	k := start(b)
	_, out, err := k.DefineLine(k.ctx, commands.DefineLine{ID: "l1", TenantID: "acme", Number: "201", Username: "u201", Password: "secret"})
	k.ok(err)
	k.settle()
	for i := range 1000 {
		_, err := k.Log.Append(k.ctx, domain.StreamID(fmt.Sprintf("checkpoint-%d", i)), domain.NoStream, []domain.NewEvent{{ID: uuid.New(), Type: "checkpoint.signed", Data: []byte("{}"),
			Metadata: fmt.Appendf(nil, `{"$correlationId":%q,"$causationId":%q,"reaction":"regenerate-assigned-device","actor":"system:regenerate-assigned-device","tenant_id":"acme","recorded_at":"2026-11-02T09:30:00Z"}`, uuid.NewString(), uuid.NewString())}})
		k.ok(err)
	}
	for b.Loop() {
		k.ok(k.service.Settle(k.ctx, out.Events))
	}
}
