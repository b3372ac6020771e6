package projections

import (
	"reflect"
	"slices"
	"sync"

	"ledgerline/domain"
)

// kinds are the nouns whose timeline shows every event that names them by id, whatever the event. Tenants are found by the
// event's metadata; a category, a layer or a plugin is named by so much that it would show the whole fleet. A code's
// stream carries a digest of the digits, which readers do not know: its timeline goes by its id.
var kinds = map[reflect.Type]string{
	reflect.TypeFor[domain.CodeID]():      "code",
	reflect.TypeFor[domain.UserID]():      "user",
	reflect.TypeFor[domain.DeviceID]():    "device",
	reflect.TypeFor[domain.LineID]():      "line",
	reflect.TypeFor[domain.GatewayID]():   "gateway",
	reflect.TypeFor[domain.JobID]():       "job",
	reflect.TypeFor[domain.TokenID]():     "token",
	reflect.TypeFor[domain.RolloutID]():   "rollout",
	reflect.TypeFor[domain.SoftphoneID](): "softphone",
}

// touched are the further streams whose timeline shows e: those it names besides its own; each once.
func touched(e domain.Event) (streams []domain.StreamID) {
	switch e := e.(type) {
	case domain.RolloutRowsPlanned, domain.PluginDeviceUpgradeStarted:
		return nil // of each they name, an event of its own follows
	case domain.SubjectErased:
		for _, s := range e.Subjects {
			streams = append(streams, s.Stream())
		}
		return streams
	}
	if find := idsIn(reflect.TypeOf(e)); find != nil {
		find(reflect.ValueOf(e), func(s domain.StreamID) {
			if !slices.Contains(streams, s) {
				streams = append(streams, s)
			}
		})
	}
	return streams
}

// finder hands the stream of every id in a value to found.
type finder func(v reflect.Value, found func(domain.StreamID))

var finders sync.Map // of reflect.Type; what was compiled

// idsIn is the finder of a type, nil when no value of it holds an id.
func idsIn(t reflect.Type) finder {
	if t == nil {
		return nil
	}
	if f, ok := finders.Load(t); ok {
		return f.(finder)
	}
	f := compile(t)
	finders.Store(t, f)
	return f
}

func compile(t reflect.Type) finder {
	if kind, ok := kinds[t]; ok {
		return func(v reflect.Value, found func(domain.StreamID)) {
			if id := v.String(); id != "" {
				found(domain.Stream(kind, id))
			}
		}
	}
	switch t.Kind() {
	case reflect.Struct:
		type field struct {
			index int
			find  finder
		}
		var fields []field
		for i := range t.NumField() {
			if !t.Field(i).IsExported() {
				continue
			}
			if f := idsIn(t.Field(i).Type); f != nil {
				fields = append(fields, field{i, f})
			}
		}
		if fields == nil {
			return nil
		}
		return func(v reflect.Value, found func(domain.StreamID)) {
			for _, f := range fields {
				f.find(v.Field(f.index), found)
			}
		}
	case reflect.Slice:
		if of := idsIn(t.Elem()); of != nil {
			return func(v reflect.Value, found func(domain.StreamID)) {
				for i := range v.Len() {
					of(v.Index(i), found)
				}
			}
		}
	case reflect.Pointer:
		if of := idsIn(t.Elem()); of != nil {
			return func(v reflect.Value, found func(domain.StreamID)) {
				if !v.IsNil() {
					of(v.Elem(), found)
				}
			}
		}
	}
	return nil
}
