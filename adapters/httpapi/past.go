package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aymanbagabas/go-udiff"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// evidence is what a device could fetch at a moment, and how sure that is.
type evidence struct {
	DeviceID      domain.DeviceID `json:"device_id" doc:"the life it was then"`
	Position      domain.Position `json:"position" doc:"of the regeneration the files are from"`
	RecordedAt    time.Time       `json:"recorded_at"`
	Plugin        string          `json:"plugin"`
	PluginVersion string          `json:"plugin_version"`
	Renderer      string          `json:"renderer"`
	TZData        string          `json:"tzdata"`
	Guest         bool            `json:"guest,omitempty"`
	Inputs        []domain.Input  `json:"inputs" doc:"streams the files followed from, and the revisions they stood at"`
	Files         []provenFile    `json:"files"`
	Proven        bool            `json:"proven" doc:"the bytes of every file are kept and have the recorded mac"`
	Note          string          `json:"note,omitempty"`
}

type provenFile struct {
	Path           string   `json:"path"`
	Aliases        []string `json:"aliases,omitempty"`
	Size           int      `json:"size"`
	SkeletonSHA256 string   `json:"skeleton_sha256"`
	MAC            string   `json:"mac"`
	Bytes          string   `json:"bytes" doc:"verified; unverifiable: key destroyed at a position; changed; missing"`
	Rendered       string   `json:"rendered" doc:"made again from the history: equal; equal but for secrets; differs: …; impossible: …"`
}

// lifeAt is the life of a device that was under way at a position, of which the caller reaches the tenant. A
// device's lives may be in different tenants (D20).
func (a *api) lifeAt(ctx context.Context, named, asOf string) (domain.DeviceID, domain.Position, error) {
	row, err := a.ownDevice(ctx, named, "", sees)
	if err != nil {
		return "", domain.Position{}, err
	}
	at, now, err := a.position(ctx, asOf)
	if err == nil && now {
		at, err = a.Log.Head(ctx)
	}
	if err != nil {
		return "", at, err
	}
	_, life := row.ID.Life()
	for ; life > 0; life-- {
		id := row.ID.InLife(life)
		then, ok, err := projections.DeviceAt(a.Log.Read(ctx, id.Stream(), 0), at)
		if errors.Is(err, domain.ErrNoStream) || err == nil && !ok {
			continue
		}
		if err != nil {
			return "", at, err
		}
		return id, at, errors.Join(mine(ctx, then.UserID), sees(ctx, then.TenantID))
	}
	return "", at, errNotFound
}

// pastOf is what a device could fetch as of a moment.
func (a *api) pastOf(ctx context.Context, named, asOf string) (commands.PastConfig, error) {
	id, at, err := a.lifeAt(ctx, named, asOf)
	if err != nil {
		return commands.PastConfig{}, err
	}
	past, err := a.Service.ConfigAt(ctx, id, at)
	if errors.Is(err, commands.ErrNoConfig) || errors.Is(err, domain.ErrNoStream) {
		err = errNotFound
	}
	return past, err
}

func evidenceOf(past commands.PastConfig) evidence {
	c := past.Config
	out := evidence{DeviceID: past.Device, Position: past.Position, RecordedAt: past.At, Plugin: c.Plugin, PluginVersion: c.PluginVersion, Renderer: c.Renderer,
		TZData: c.TZData, Guest: c.Guest, Inputs: append([]domain.Input{}, c.Inputs...), Files: []provenFile{}, Proven: true, Note: past.Note}
	for _, f := range past.Files {
		out.Files = append(out.Files, provenFile{f.Path, f.Aliases, f.Size, f.SkeletonSHA256, f.MAC, f.Bytes, f.Rendered})
		out.Proven = out.Proven && f.Proven()
	}
	return out
}

func (a *api) pastFile(ctx context.Context, named, path, asOf string) (*text, error) {
	past, err := a.pastOf(ctx, named, asOf)
	if err != nil {
		return nil, err
	}
	for _, f := range past.Files {
		if f.Path == path {
			return &text{f.ContentType, "true", f.Bytes, f.Rendered, f.Text}, nil
		}
	}
	return nil, errNotFound
}

// difference is what changed between two moments.
type difference struct {
	From     domain.Position          `json:"from" doc:"of the regeneration the files of the first moment are from"`
	To       domain.Position          `json:"to"`
	Settings []commands.SettingChange `json:"settings" doc:"secrets are redacted; one that differs says so"`
	Files    []changedFile            `json:"files"`
}

type changedFile struct {
	Path string `json:"path"`
	Diff string `json:"diff" doc:"unified, secrets replaced; empty when only secrets differ"`
}

func differenceOf(older, newer commands.PastConfig) (difference, error) {
	out := difference{From: older.Position, To: newer.Position, Settings: append([]commands.SettingChange{}, older.Changes(newer)...), Files: []changedFile{}}
	was := map[string]commands.PastFile{}
	for _, f := range older.Files {
		was[f.Path] = f
	}
	add := func(path string, before, after commands.PastFile) error {
		if before.MAC == after.MAC {
			return nil
		}
		diff, err := udiff.ToUnified(path+"@"+older.Position.String(), path+"@"+newer.Position.String(), string(before.Text), udiff.Lines(string(before.Text), string(after.Text)), udiff.DefaultContextLines)
		out.Files = append(out.Files, changedFile{path, diff})
		return err
	}
	for _, f := range newer.Files {
		if err := add(f.Path, was[f.Path], f); err != nil {
			return out, fmt.Errorf("compare %s: %w", f.Path, err)
		}
		delete(was, f.Path)
	}
	for _, f := range older.Files {
		if _, gone := was[f.Path]; gone {
			if err := add(f.Path, f, commands.PastFile{}); err != nil {
				return out, fmt.Errorf("compare %s: %w", f.Path, err)
			}
		}
	}
	return out, nil
}

// past registers what is asked about the configuration of earlier days.
func (a *api) past() {
	read(a, op{"GET", "/devices/{id}/evidence", "get-evidence", "What it could fetch at a moment, and how sure that is", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		Moment
	}) (*one[evidence], error) {
		past, err := a.pastOf(ctx, in.ID, in.AsOf)
		if err != nil {
			return nil, err
		}
		return &one[evidence]{Body: evidenceOf(past)}, nil
	})
	read(a, op{"GET", "/devices/{id}/diff", "diff-device", "What changed between two moments: settings and files, secrets masked", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		From        string `query:"from" required:"true" doc:"time (RFC 3339) or log position"`
		To          string `query:"to" doc:"time or position; now when absent"`
		MinPosition string `query:"min_position"`
	}) (*one[difference], error) {
		older, err := a.pastOf(ctx, in.ID, in.From)
		if err != nil {
			return nil, err
		}
		newer, err := a.pastOf(ctx, in.ID, in.To)
		if err != nil {
			return nil, err
		}
		d, err := differenceOf(older, newer)
		return &one[difference]{Body: d}, err
	})
	type blamed struct {
		Lines []commands.BlamedLine `json:"lines"`
	}
	read(a, op{"GET", "/devices/{id}/blame/{path}", "blame-file", "Who and what brought each line of a file", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		Moment
		Path string `path:"path" doc:"may contain slashes, as they stand"`
	}) (*one[blamed], error) {
		id, at, err := a.lifeAt(ctx, in.ID, in.AsOf)
		if err != nil {
			return nil, err
		}
		lines, err := a.Service.Blame(ctx, id, in.Path, at)
		if errors.Is(err, commands.ErrNoConfig) || errors.Is(err, commands.ErrNoBlob) {
			err = errNotFound
		}
		return &one[blamed]{Body: blamed{lines}}, err
	})
	type found struct {
		Items []had  `json:"items"`
		Next  string `json:"next,omitempty"`
	}
	read(a, op{"GET", "/audit/devices", "find-devices-by-setting", "Which phones had this value, then?", readers, 0}, func(ctx context.Context, in *struct {
		Moment
		Tenant domain.TenantID `query:"tenant"`
		Key    string          `query:"key" required:"true" maxLength:"200" doc:"dotted key: sip_lines.1.transport"`
		Value  string          `query:"value" maxLength:"1000" doc:"as text; any value when absent. Secrets cannot be asked for"`
		Limit  int             `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"devices looked at in one page"`
		Cursor string          `query:"cursor" maxLength:"1000" doc:"next of the page before"`
	}) (*one[found], error) {
		of, err := tenants(ctx, in.Tenant)
		if err != nil {
			return nil, err
		}
		l, err := projections.ListDevices(ctx, a.Views, projections.DeviceFilter{Tenants: of, Ended: true}, projections.Page{Cursor: in.Cursor, Limit: in.Limit})
		if err != nil {
			return nil, err
		}
		out := &one[found]{Body: found{Items: []had{}, Next: l.Next}}
		for _, row := range l.Items {
			past, err := a.pastOf(ctx, string(row.ID), in.AsOf)
			if errors.Is(err, errNotFound) || errors.Is(err, errForbidden) {
				continue
			}
			if err != nil {
				return nil, err
			}
			v := past.Settings.Get(in.Key)
			if v == nil || in.Value != "" && (fmt.Sprint(v) != in.Value || v == domain.Redacted) {
				continue
			}
			out.Body.Items = append(out.Body.Items, had{past.Device, row.MAC, v, past.Position, past.At})
		}
		return out, nil
	})
	a.reveal()
}

// had is a phone with the value it had.
type had struct {
	DeviceID domain.DeviceID `json:"device_id"`
	MAC      domain.MAC      `json:"mac,omitempty"`
	Value    any             `json:"value"`
	Since    domain.Position `json:"position" doc:"of the regeneration it had its files from"`
	At       time.Time       `json:"recorded_at"`
}

// revealed is a file with everything in it.
type revealed struct {
	ContentType string `header:"Content-Type"`
	Bytes       string `header:"X-Bytes"`
	Store       string `header:"Cache-Control"`
	Position    string `header:"Ledger-Position"`
	Body        []byte
}

// reveal registers POST /devices/{id}/reveal.
func (a *api) reveal() {
	read(a, op{"POST", "/devices/{id}/reveal", "reveal-file", "The very bytes of a file at a moment, secrets and all; recorded", admins, http.StatusOK}, func(ctx context.Context, in *struct {
		ByID
		Body struct {
			Path   string `json:"path" minLength:"1" maxLength:"500"`
			AsOf   string `json:"as_of,omitempty" doc:"time or position; now when absent"`
			Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"why, for the record"`
		}
	}) (*revealed, error) {
		id, at, err := a.lifeAt(ctx, in.ID, in.Body.AsOf)
		if err != nil {
			return nil, err
		}
		c := a.caller(ctx)
		c.Reason = in.Body.Reason
		f, data, out, err := a.Service.RevealConfig(commands.WithCaller(ctx, c), commands.RevealConfig{ID: id, Path: in.Body.Path, At: at})
		switch {
		case errors.Is(err, domain.ErrErased):
			return nil, newProblem(http.StatusGone, "erased", "its key was destroyed: "+f.Bytes)
		case errors.Is(err, commands.ErrNoConfig), errors.Is(err, commands.ErrNoBlob), errors.Is(err, domain.ErrNoStream):
			return nil, errNotFound
		case err != nil:
			return nil, err
		}
		return &revealed{strings.TrimSpace(f.ContentType), f.Bytes, "no-store", out.Position.String(), data}, nil
	})
}
