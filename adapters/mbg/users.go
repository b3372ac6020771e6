package mbg

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"ledgerline/adapters/mbg/oauth"
	"ledgerline/adapters/mbg/wire"
	"ledgerline/commands"
)

// list reads every page of a list.
func (c *client) list(ctx context.Context, name string, values map[string]string) ([]map[string]any, error) {
	op := c.m.Operations[name]
	var all []map[string]any
	for page := range maxPages {
		k := call{name: name, op: op, creds: c.credentials(), values: values}
		if p := op.Paging; p != nil {
			k.query = oauth.Encode(p.Limit) + "=" + strconv.Itoa(p.Size) + "&"
			if p.Style == "offset" {
				k.query += oauth.Encode(p.Offset) + "=" + strconv.Itoa(len(all))
			} else {
				k.query += oauth.Encode(p.Page) + "=" + strconv.Itoa(page+1)
			}
		}
		a, err := c.do(ctx, k)
		if err != nil {
			return nil, err
		}
		more, err := wire.Items(a.tree, op.Items)
		if err != nil {
			return nil, &commands.BorderError{Class: commands.ClassProtocol, Status: a.status, Text: err.Error(), Err: err}
		}
		all = append(all, more...)
		if op.Paging == nil || len(more) < op.Paging.Size {
			return all, nil
		}
		if total, err := strconv.Atoi(wire.Scalar(wire.At(a.tree, op.Paging.Total))); op.Paging.Total != "" && err == nil && len(all) >= total {
			return all, nil
		}
	}
	return nil, &commands.BorderError{Class: commands.ClassProtocol, Text: fmt.Sprintf("%s has more than %d pages", name, maxPages)}
}

// get reads one field of an object by our name; empty where the mapping has none.
func (c *client) get(kind, name string, object map[string]any) string {
	f, ok := c.m.Fields[kind][name]
	if !ok || f.Access == "write" {
		return ""
	}
	text := wire.Scalar(f.Of(object))
	for ours, theirs := range f.Enum {
		if strings.EqualFold(theirs, text) {
			return ours
		}
	}
	return text
}

// ICPs implements commands.Border.
func (c *client) ICPs(ctx context.Context) ([]commands.BorderICP, error) {
	list, err := c.list(ctx, "list_icps", nil)
	out := make([]commands.BorderICP, len(list))
	for i, o := range list {
		out[i] = commands.BorderICP{ID: c.get("icp", "id", o), Name: c.get("icp", "name", o), Address: c.get("icp", "address", o)}
	}
	return out, err
}

func (c *client) user(o map[string]any) commands.BorderUser {
	get := func(name string) string { return c.get("sip_user", name, o) }
	u := commands.BorderUser{ID: get("id"), Description: get("description"), ICPID: get("icp_id"), Availability: get("availability"),
		SetUsername: get("set_username"), ICPUsername: get("icp_username"), Enabled: true, Raw: o}
	if f, ok := c.m.Fields["sip_user"]["enabled"]; ok {
		u.Enabled = f.Truth(f.Of(o))
	}
	return u
}

// Users implements commands.Border.
func (c *client) Users(ctx context.Context) ([]commands.BorderUser, error) {
	list, err := c.list(ctx, "list_users", nil)
	out := make([]commands.BorderUser, len(list))
	for i, o := range list {
		out[i] = c.user(o)
	}
	return out, err
}

// FindUser implements commands.Border; without a search it lists all.
func (c *client) FindUser(ctx context.Context, setUsername string) ([]commands.BorderUser, error) {
	var all []commands.BorderUser
	if c.m.On("find_user") {
		list, err := c.list(ctx, "find_user", map[string]string{"set_username": setUsername})
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			all = append(all, c.user(o))
		}
	} else {
		var err error
		if all, err = c.Users(ctx); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(all, func(u commands.BorderUser) bool { return u.SetUsername != setUsername }), nil
}

// User implements commands.Border.
func (c *client) User(ctx context.Context, id string) (commands.BorderUser, error) {
	op := c.m.Operations["get_user"]
	a, err := c.do(ctx, call{name: "get_user", op: op, creds: c.credentials(), values: map[string]string{"id": id}})
	if err != nil {
		return commands.BorderUser{}, err
	}
	object, ok := wire.At(a.tree, op.Item).(map[string]any)
	if !ok {
		return commands.BorderUser{}, &commands.BorderError{Class: commands.ClassProtocol, Status: a.status, Text: "the answer has no " + op.Item}
	}
	return c.user(object), nil
}

// object is a wish on the wire.
func (c *client) object(w commands.BorderWish, withPasswords bool) map[string]any {
	o := map[string]any{}
	put := func(name, value string) {
		f, ok := c.m.Fields["sip_user"][name]
		if !ok || f.Access == "read" {
			return
		}
		if theirs, ok := f.Enum[value]; ok {
			value = theirs
		}
		if r := []rune(value); f.Max > 0 && len(r) > f.Max {
			value = string(r[:f.Max])
		}
		o[f.Wire] = value
	}
	if f, ok := c.m.Fields["sip_user"]["enabled"]; ok && f.Access != "read" {
		switch {
		case w.Enabled && f.True != nil:
			o[f.Wire] = f.True
		case !w.Enabled && f.False != nil:
			o[f.Wire] = f.False
		default:
			o[f.Wire] = w.Enabled
		}
	}
	put("description", c.description(w))
	put("icp_id", w.ICPID)
	put("availability", c.availability(w))
	put("set_username", w.SetUsername)
	put("icp_username", w.Extension)
	if withPasswords {
		put("set_password", w.SetPassword)
		put("icp_password", w.ICPPassword)
	}
	return o
}

func (c *client) availability(w commands.BorderWish) string {
	if w.Availability != "" {
		return w.Availability
	}
	return c.m.Defaults.Availability
}

func (c *client) description(w commands.BorderWish) string {
	if w.Description != "" {
		return w.Description
	}
	text := strings.NewReplacer("{extension}", w.Extension, "{display_name}", w.DisplayName).Replace(c.m.Defaults.Description)
	return strings.Join(strings.Fields(text), " ")
}

// send writes an object.
func (c *client) send(ctx context.Context, name, id string, object map[string]any) (answer, error) {
	op := c.m.Operations[name]
	if op.Wrap != "" {
		object = map[string]any{op.Wrap: object}
	}
	body, kind, err := wire.Encode(c.m.Codec.Request, c.m.Codec.XMLRoot["sip_user"], object)
	if err != nil {
		return answer{}, &commands.BorderError{Class: commands.ClassProtocol, Text: err.Error(), Err: err}
	}
	return c.do(ctx, call{name: name, op: op, creds: c.credentials(), values: map[string]string{"id": id}, body: body, kind: kind})
}

// CreateUser implements commands.Border.
func (c *client) CreateUser(ctx context.Context, w commands.BorderWish) (string, error) {
	a, err := c.send(ctx, "create_user", "", c.object(w, true))
	if err != nil {
		return "", c.without(err, w)
	}
	id := wire.Scalar(wire.At(a.tree, c.m.Operations["create_user"].IDFrom))
	if id == "" {
		return "", &commands.BorderError{Class: commands.ClassProtocol, Status: a.status, Unclear: true, Text: "the answer to the creation holds no id"}
	}
	return id, nil
}

// UpdateUser implements commands.Border: a full update is what was read with ours laid over it.
func (c *client) UpdateUser(ctx context.Context, now commands.BorderUser, w commands.BorderWish, withPasswords bool) error {
	object := c.object(w, withPasswords)
	raw, _ := now.Raw.(map[string]any)
	if c.m.Operations["update_user"].Send == "full" {
		merged := maps.Clone(raw)
		if merged == nil {
			merged = map[string]any{}
		}
		for name, f := range c.m.Fields["sip_user"] {
			// What can be written only is not in what was read, or is a mask that must not be written back.
			if f.Access == "write" || name == "id" && !strings.HasPrefix(f.Wire, "@") {
				delete(merged, f.Wire)
			}
		}
		maps.Copy(merged, object)
		object = merged
	} else {
		for k, v := range object {
			if before, ok := raw[k]; ok && wire.Scalar(before) == wire.Scalar(v) {
				delete(object, k)
			}
		}
	}
	_, err := c.send(ctx, "update_user", now.ID, object)
	return c.without(err, w)
}

// without takes a wish's passwords out of an error, should the gateway have repeated them.
func (c *client) without(err error, w commands.BorderWish) error {
	if b, ok := err.(*commands.BorderError); ok {
		for _, secret := range []string{w.SetPassword, w.ICPPassword} {
			if secret != "" {
				b.Text = strings.ReplaceAll(b.Text, secret, "[redacted]")
			}
		}
	}
	return err
}

// DeleteUser implements commands.Border.
func (c *client) DeleteUser(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{name: "delete_user", op: c.m.Operations["delete_user"], creds: c.credentials(), values: map[string]string{"id": id}})
	return err
}

// Differs implements commands.Border.
func (c *client) Differs(now commands.BorderUser, w commands.BorderWish) (fields []string) {
	raw, _ := now.Raw.(map[string]any)
	want := c.object(w, false)
	for name, f := range c.m.Fields["sip_user"] {
		v, ours := want[f.Wire]
		if !ours || f.Access == "write" || f.Access == "read" {
			continue
		}
		same := wire.Scalar(f.Of(raw)) == wire.Scalar(v)
		if f.Type == "bool" || name == "enabled" {
			same = f.Truth(f.Of(raw)) == w.Enabled
		}
		if !same {
			fields = append(fields, name)
		}
	}
	slices.Sort(fields)
	return fields
}

// TokenExpiry implements commands.Border.
func (c *client) TokenExpiry(ctx context.Context) (time.Time, bool, error) {
	if !c.m.On("token_status") {
		return time.Time{}, false, nil
	}
	op := c.m.Operations["token_status"]
	a, err := c.do(ctx, call{name: "token_status", op: op, creds: c.credentials()})
	if err != nil {
		return time.Time{}, true, err
	}
	text := wire.Scalar(wire.At(a.tree, op.Expires))
	for _, layout := range []string{time.RFC3339, time.DateOnly, time.DateTime} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), true, nil
		}
	}
	return time.Time{}, true, &commands.BorderError{Class: commands.ClassProtocol, Status: a.status, Text: fmt.Sprintf("expires is %.40q, which is no date", text)}
}

// RenewToken implements commands.Border.
func (c *client) RenewToken(ctx context.Context) (bool, error) {
	if !c.m.On("token_renew") {
		return false, nil
	}
	_, err := c.do(ctx, call{name: "token_renew", op: c.m.Operations["token_renew"], creds: c.credentials(), form: true})
	return true, err
}
