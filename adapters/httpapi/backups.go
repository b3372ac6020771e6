package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aymanbagabas/go-udiff"

	"ledgerline/commands"
	"ledgerline/domain"
)

// backup is one configuration a phone uploaded, without its bytes.
type backup struct {
	Backup    domain.Revision `json:"backup" doc:"names it"`
	StoredAt  time.Time       `json:"stored_at"`
	Size      int             `json:"size"`
	MAC       string          `json:"mac" doc:"HMAC of the bytes"`
	Via       string          `json:"via" doc:"how the phone proved itself"`
	Transport string          `json:"transport"`
}

func backupOf(b commands.Backup) backup {
	return backup{b.Revision, b.StoredAt, b.Size, b.MAC, b.Via, b.Transport}
}

// shownBackup is a backup to be looked at: secrets are replaced by words, equal ones by equal words.
type shownBackup struct {
	backup
	Text string `json:"text,omitempty"`
	Diff string `json:"diff,omitempty" doc:"unified, against the one named by with"`
}

// backups registers what innovaphone phones upload of themselves.
func (a *api) backups() {
	read(a, op{"GET", "/devices/{id}/backups", "list-device-backups", "List the configurations a phone has uploaded, oldest first; of the last 30 the bytes are kept", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		MinPosition string `query:"min_position"`
	}) (*page[backup], error) {
		id, _, err := a.lifeAt(ctx, in.ID, "")
		if err != nil {
			return nil, err
		}
		all, err := a.Service.Backups(ctx, id)
		if err != nil {
			return nil, err
		}
		p := &page[backup]{}
		p.Body.Items = make([]backup, len(all))
		for i, b := range all {
			p.Body.Items[i] = backupOf(b)
		}
		return p, nil
	})
	read(a, op{"GET", "/devices/{id}/backups/{backup}", "get-device-backup", "Show a configuration a phone has uploaded, secrets replaced, or compare it with an earlier one", auditors, 0}, func(ctx context.Context, in *struct {
		ByID
		Backup int64 `path:"backup" minimum:"0"`
		With   int64 `query:"with" default:"-1" doc:"the earlier one"`
	}) (*one[shownBackup], error) {
		id, _, err := a.lifeAt(ctx, in.ID, "")
		if err != nil {
			return nil, err
		}
		b, after, err := a.backup(ctx, id, in.Backup)
		if err != nil {
			return nil, err
		}
		mask := a.Mask()
		out := &one[shownBackup]{Body: shownBackup{backup: backupOf(b)}}
		if in.With < 0 {
			out.Body.Text = mask(after)
			return out, nil
		}
		_, before, err := a.backup(ctx, id, in.With)
		if err != nil {
			return nil, err
		}
		from, to := mask(before), mask(after)
		out.Body.Diff, err = udiff.ToUnified(fmt.Sprint(in.With), fmt.Sprint(in.Backup), from, udiff.Lines(from, to), udiff.DefaultContextLines)
		return out, err
	})
	read(a, op{"POST", "/devices/{id}/backups/{backup}/reveal", "reveal-device-backup", "The very bytes of a configuration a phone has uploaded, secrets and all; recorded", admins, http.StatusOK}, func(ctx context.Context, in *struct {
		ByID
		Backup int64 `path:"backup" minimum:"0"`
		Body   struct {
			Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"why, for the record"`
		}
	}) (*revealed, error) {
		id, _, err := a.lifeAt(ctx, in.ID, "")
		if err != nil {
			return nil, err
		}
		c := a.caller(ctx)
		c.Reason = in.Body.Reason
		data, out, err := a.Service.RevealBackup(commands.WithCaller(ctx, c), commands.RevealBackup{ID: id, Revision: domain.Revision(in.Backup)})
		if err != nil {
			return nil, gone(err)
		}
		return &revealed{"text/plain", "verified", "no-store", out.Position.String(), data}, nil
	})
}

// backup is one upload with its bytes.
func (a *api) backup(ctx context.Context, id domain.DeviceID, revision int64) (commands.Backup, []byte, error) {
	b, data, err := a.Service.BackupBytes(ctx, id, domain.Revision(revision))
	return b, data, gone(err)
}

// gone tells that there never was such an upload, or that its bytes are not kept any more.
func gone(err error) error {
	switch {
	case errors.Is(err, commands.ErrNoBlob):
		return errNotFound
	case errors.Is(err, domain.ErrErased):
		return newProblem(http.StatusGone, "erased", "its bytes are not kept any more")
	}
	return err
}
