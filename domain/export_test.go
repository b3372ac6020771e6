package domain

import "reflect"

// Planned tells whether the plan of e's type reads data without the help of json.Unmarshal.
func Planned(e any, data []byte) bool {
	r := payload{b: data}
	return planFor(reflect.TypeOf(e))(&r, reflect.New(reflect.TypeOf(e)).Elem()) && r.i == len(data)
}
