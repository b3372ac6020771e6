package domain

import (
	"fmt"
	"reflect"
	"slices"
)

// The catalogue maps wire names to event types. Rules of evolution, for every event in it:
//
//   - a wire name and the meaning of its fields never change; fields may be added, optional, and absent
//     means what it meant before they existed;
//   - a field is never renamed, never reused, never retyped;
//   - a new meaning is a new wire name ("code.redeemed.v2") with an entry of its own;
//   - every entry has a frozen sample in testdata/events, and a test decodes and re-encodes it to the
//     same bytes; when the type gains a field the sample moves to testdata/earlier, and is tested there;
//   - a type this program does not know decodes to Unknown: replay shows it, a projection skips and
//     counts it, a command refuses to decide over it.
var catalog = index()

type entry struct {
	name   string
	decode func([]byte) (Event, error)
}

func index() map[string]entry {
	m := make(map[string]entry)
	for _, e := range slices.Concat(tenantEvents, categoryEvents, codeEvents, deviceEvents, userEvents, lineEvents, layerEvents, gatewayEvents, sipUserEvents, apiKeyEvents, keyEvents, claimEvents, requestEvents, parameterEvents, checkpointEvents, pluginEvents, cloudIDEvents, softphoneEvents, registryEvents, tokenEvents, updateEvents, sysclientEvents,
		jobEvents, deviceJobEvents,
		rolloutEvents, noticeEvents) {
		if _, twice := m[e.name]; twice {
			panic("domain: two events named " + e.name)
		}
		m[e.name] = e
	}
	return m
}

// of is the catalogue entry of one event type.
func of[E Event]() entry {
	var zero E
	p := planFor(reflect.TypeFor[E]())
	return entry{zero.EventType(), func(data []byte) (Event, error) {
		e := new(E)
		if err := p.unmarshal(data, reflect.ValueOf(e).Elem()); err != nil {
			return nil, err
		}
		return *e, nil
	}}
}

// Decode turns a payload into its event; Unknown for a wire name not in the catalogue.
func Decode(name string, data []byte) (Event, error) {
	e, ok := catalog[name]
	if !ok {
		return Unknown{Type: name, Data: data}, nil
	}
	ev, err := e.decode(data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", name, err)
	}
	return ev, nil
}

// EventTypes lists every wire name, sorted.
func EventTypes() []string {
	names := make([]string, 0, len(catalog))
	for n := range catalog {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
