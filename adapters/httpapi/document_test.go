package httpapi_test

import (
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// The document is what OpenAPI says it must be, and every operation has a name of its own.
func TestDocumentIsOpenAPI(t *testing.T) {
	o := open(t)
	doc, err := openapi3.NewLoader().LoadFromData(o.ask("", "GET", "/openapi.json", nil).body)
	o.ok(err)
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	files := doc.Paths.Value("/api/v1/devices/{id}/files/{path}")
	if files == nil || files.Get == nil {
		t.Fatal("the path of a file is not published")
	}
	if p := files.Get.Parameters.GetByInAndName("path", "path"); p == nil || p.Description == "" {
		t.Error("nothing says that it may contain slashes")
	}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if method == "POST" && operation.Parameters.GetByInAndName("header", "Idempotency-Key") == nil {
				t.Errorf("%s %s does not publish Idempotency-Key", method, path)
			}
			if operation.Responses.Status(401) == nil {
				t.Errorf("%s %s does not publish its refusals", method, path)
			}
		}
	}
}
