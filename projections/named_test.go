package projections

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/domain"
)

// A timeline shows every event that names its noun, however deep, and each once.
func TestWhatAnEventTouches(t *testing.T) {
	for _, c := range []struct {
		what  string
		event domain.Event
		want  []domain.StreamID
	}{
		{"ids of its own", domain.CodeRedeemed{DeviceID: "d1", CodeID: "c1", UserID: "u1"}, []domain.StreamID{"device-d1", "code-c1", "user-u1"}},
		{"empty ones are none", domain.CodeRedeemed{CodeID: "c1"}, []domain.StreamID{"code-c1"}},
		{"inside another struct", domain.SoftphoneDefined{UserID: "u1", SoftphoneSpec: domain.SoftphoneSpec{LineID: "l1"}}, []domain.StreamID{"user-u1", "line-l1"}},
		{"in a list, each once", domain.DeviceJobsSelected{Jobs: []domain.SelectedJob{{JobRef: domain.JobRef{JobID: "j1"}}, {JobRef: domain.JobRef{JobID: "j2"}}, {JobRef: domain.JobRef{JobID: "j1"}}}},
			[]domain.StreamID{"job-j1", "job-j2"}},
		{"erased", domain.SubjectErased{Subjects: []domain.Subject{"user-u1"}}, []domain.StreamID{"user-u1"}},
		{"tenants are found otherwise", domain.TenantRenamed{Name: "x"}, nil},
		{"of a plan each has its own event", domain.RolloutRowsPlanned{Rows: []domain.RolloutPlan{{UserID: "u1"}}}, nil},
		{"nothing known", domain.Unknown{Type: "x.y"}, nil},
	} {
		if diff := cmp.Diff(c.want, touched(c.event)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}
