package provd

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// described is what the document says of a path's purpose; paths without a line say their own name.
var described = map[string]string{
	"/0.2":                                 "Links to the parts of the interface",
	"/0.2/dev_mgr/devices":                 "Devices: find them, make one",
	"/0.2/dev_mgr/devices/{id}":            "One device",
	"/0.2/dev_mgr/synchronize":             "Have a device fetch its files again",
	"/0.2/dev_mgr/reconfigure":             "Make a device's files anew",
	"/0.2/dev_mgr/dhcpinfo":                "Tell of a DHCP lease",
	"/0.2/cfg_mgr/configs":                 "Configs: find them, make one",
	"/0.2/cfg_mgr/configs/{id}":            "One config",
	"/0.2/cfg_mgr/configs/{id}/raw":        "A config merged with its ancestors",
	"/0.2/cfg_mgr/autocreate":              "Make a config for a new device from the mould",
	"/0.2/pg_mgr/install/installable":      "Plugins of the index",
	"/0.2/pg_mgr/install/installed":        "Plugins that are installed",
	"/0.2/pg_mgr/install/install":          "Install a plugin",
	"/0.2/pg_mgr/install/upgrade":          "Upgrade a plugin",
	"/0.2/pg_mgr/install/uninstall":        "Uninstall a plugin",
	"/0.2/pg_mgr/install/update":           "Fetch the index anew",
	"/0.2/pg_mgr/plugins":                  "Plugins that are loaded",
	"/0.2/pg_mgr/plugins/{id}/info":        "A plugin's version and abilities",
	"/0.2/pg_mgr/reload":                   "Load a plugin again",
	"/0.2/configure":                       "Parameters of the server",
	"/0.2/configure/{param}":               "One parameter",
	"/0.2/status":                          "How the server is doing",
	"/0.2/api/api.yml":                     "This document",
	"/0.2/pg_mgr/plugins/{id}/install":     "Links to a plugin's packages",
	"/0.2/pg_mgr/plugins/{id}":             "Links to a plugin's parts",
	"/0.2/pg_mgr/install":                  "Links to the installation of plugins",
	"/0.2/dev_mgr/synchronize/{operation}": "How far an operation has come",
}

// description answers the OpenAPI 2.0 document, made from the table of routes.
func (c *call) description() error {
	doc, err := c.document()
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/x-yaml")
	h.Set("Content-Length", strconv.Itoa(len(doc)))
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(doc) // whoever asked has gone, if this fails
	return nil
}

// document is made once.
func (s *Server) document() ([]byte, error) {
	s.doc.once.Do(func() { s.doc.text, s.doc.err = yaml.Marshal(s.openAPI()) })
	return s.doc.text, s.doc.err
}

type document struct {
	once sync.Once
	text []byte
	err  error
}

func (s *Server) openAPI() object {
	paths := object{}
	for _, r := range s.routes {
		item := object{}
		for method, act := range r.methods {
			item[strings.ToLower(method)] = operationOf(r, method, act)
		}
		paths[strings.TrimPrefix(r.path, "/0.2")+map[bool]string{true: "/"}[r.path == "/0.2"]] = item
	}
	return object{
		"swagger":  "2.0",
		"info":     object{"title": "wazo-provd", "description": "Provisioning of telephones: wazo-provd's interface, served by Ledgerline", "version": "0.2"},
		"basePath": "/0.2", "schemes": []string{"http", "https"}, "consumes": []string{MediaType}, "produces": []string{MediaType},
		"securityDefinitions": object{"wazo_auth_token": object{"type": "apiKey", "name": "X-Auth-Token", "in": "header"}},
		"security":            []object{{"wazo_auth_token": []string{}}},
		"definitions": object{
			"Document": object{"type": "object", "description": "A device, a config or a parameter within the member of its name"},
			"Created":  object{"type": "object", "properties": object{"id": object{"type": "string"}}},
		},
		"paths": paths,
	}
}

func operationOf(r route, method string, act action) object {
	summary := described[r.path]
	if summary == "" {
		summary = strings.TrimPrefix(r.path, "/0.2/")
	}
	op := object{"summary": summary, "operationId": strings.ToLower(method) + strings.NewReplacer("/", "_", "{", "", "}", "", ".", "_").Replace(r.path),
		"tags": []string{strings.SplitN(strings.TrimPrefix(strings.TrimPrefix(r.path, "/0.2"), "/")+"/", "/", 2)[0] + ""}}
	if tags := op["tags"].([]string); tags[0] == "" {
		op["tags"] = []string{"index"}
	}
	text := func(name, in, about string, required bool) object {
		return object{"name": name, "in": in, "description": about, "required": required, "type": "string"}
	}
	var params []object
	for _, p := range r.parts {
		if name, is := strings.CutPrefix(p, "{"); is {
			params = append(params, text(strings.TrimSuffix(name, "}"), "path", "which one", true))
		}
	}
	responses := object{}
	answer := func(code, about string, schema bool) {
		responses[code] = object{"description": about}
		if schema {
			responses[code] = object{"description": about, "schema": object{"$ref": "#/definitions/Document"}}
		}
	}
	if act.permission == "" {
		op["security"] = []object{}
	} else {
		op["description"] = "**Required ACL:** `" + act.permission + "`"
		params = append(params, text("Wazo-Tenant", "header", "the tenant to act in; the token's own by default", false))
		answer("401", "Unauthorized", false)
		answer("503", "The token service does not answer", false)
	}
	if len(r.parts) > 0 && strings.Contains(r.path, "{") {
		answer("404", "No such resource", false)
	}
	switch method {
	case http.MethodGet:
		answer("200", "OK", true)
		if strings.HasSuffix(r.path, "/devices") || strings.HasSuffix(r.path, "/configs") {
			for _, q := range [][2]string{{"q", "selector, a JSON object"}, {"q64", "selector, base64"}, {"fields", "keys to show, separated by commas"}, {"skip", "how many to pass over"},
				{"limit", "how many to show"}, {"sort", "key to sort by"}, {"sort_ord", "ASC or DESC"}, {"recurse", "true: tenants below too"}} {
				params = append(params, text(q[0], "query", q[1], false))
			}
		}
	case http.MethodPost:
		answer("201", "Created", false)
		answer("204", "Done", false)
		answer("400", "Bad input", false)
	case http.MethodPut:
		answer("204", "Done", false)
		answer("400", "Bad input", false)
	case http.MethodDelete:
		answer("204", "Done", false)
	}
	if method == http.MethodPost || method == http.MethodPut {
		params = append(params, object{"name": "body", "in": "body", "required": true, "schema": object{"$ref": "#/definitions/Document"}})
	}
	if len(params) > 0 {
		op["parameters"] = params
	}
	op["responses"] = responses
	return op
}
