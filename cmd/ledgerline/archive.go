package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"ledgerline/adapters/ledger"
	"ledgerline/adapters/proof"
	"ledgerline/adapters/views"
	"ledgerline/domain"
)

// auditExportCmd writes a range of the history that proves itself.
func (a *app) auditExportCmd() *cobra.Command {
	var data, from, until, out string
	cmd := &cobra.Command{Use: "export -w FILE", Short: "Write a range of the history as an archive that proves itself", Args: cobra.NoArgs,
		Long: "The archive is a gzipped tar of the events as NDJSON and the signed checkpoint over them: one signature covers every byte, and it\ncan be read and checked without this program. It ends with the first checkpoint at or after --until. What is sealed stays sealed."}
	f := cmd.Flags()
	f.StringVar(&data, "data", envOr(a.getenv, "LEDGERLINE_DATA", "./data"), "data directory; the server may be running")
	f.StringVar(&from, "from", "0", "after this time (RFC 3339) or position")
	f.StringVar(&until, "until", "", "up to this time or position; default the latest checkpoint")
	f.StringVarP(&out, "write", "w", "", "file to write")
	_ = cmd.MarkFlagRequired("write")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		l, err := openToRead(ctx, data, true)
		if err != nil {
			return err
		}
		defer l.Close()
		after, err := moment(ctx, l, from)
		if err != nil {
			return err
		}
		var to domain.Position
		if until != "" {
			if to, err = moment(ctx, l, until); err != nil {
				return err
			}
		}
		signed, err := checkpointsIn(ctx, l)
		if err != nil {
			return err
		}
		notes := make([]string, len(signed))
		for i, c := range signed {
			notes[i] = c.Note
		}
		chosen, ok := proof.ChooseCheckpoint(notes, to)
		if !ok {
			return exitError{exitNotFound, errors.New("no checkpoint covers that range yet: the server signs one a minute while there is something new")}
		}
		file, err := renameio.NewPendingFile(out, renameio.WithPermissions(0o644))
		if err != nil {
			return err
		}
		defer file.Cleanup()
		made, err := proof.Export(ctx, l, after, chosen, file)
		if errors.Is(err, proof.ErrNotInLog) {
			return exitError{exitNotFound, errors.New("there is no event in that range")}
		}
		if err != nil {
			return rewritten(err)
		}
		if err := file.CloseAtomicallyReplace(); err != nil {
			return err
		}
		return a.printValue(archived(made))
	}
	return cmd
}

func archived(m proof.Archive) map[string]any {
	return map[string]any{"events": m.Events, "first_leaf": m.First, "from": m.From, "until": m.Until, "origin": m.Checkpoint.Origin,
		"checkpoint": m.Checkpoint.Size, "signed_at": m.Checkpoint.At.Format(time.RFC3339)}
}

// auditOpenCmd checks an archive and lets it be studied.
func (a *app) auditOpenCmd() *cobra.Command {
	var key, into string
	cmd := &cobra.Command{Use: "open ARCHIVE [NOUN]", Short: "Check an archive and show what it says: counts, or one noun's list", Args: cobra.RangeArgs(1, 2),
		Long: "Checks every event of the archive against its checkpoint, and the checkpoint against KEY. Then it folds the events into views of their\nown and lists a noun (devices, users …) or counts all. With --into the events become a ledger of their own, for audit replay, state,\nverify and prove; that needs an archive from the beginning of the log."}
	cmd.Flags().StringVar(&key, "key", "", "verifier key, or a file with it (required)")
	cmd.Flags().StringVar(&into, "into", "", "empty directory to make a ledger for study in")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		v, err := verifierKey(key)
		if err != nil {
			return err
		}
		events := archiveLog{path: args[0]}
		if events.Archive, err = events.read(v, nil); err != nil {
			return rewritten(err)
		}
		if into != "" {
			if err := events.into(ctx, into); err != nil {
				return err
			}
			return a.printValue(archived(events.Archive))
		}
		if len(args) == 1 {
			if err := a.printValue(archived(events.Archive)); err != nil {
				return err
			}
		}
		dir, err := os.MkdirTemp("", "ledgerline-archive-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		store, err := views.Fold(ctx, events, events.Until, dir)
		if err != nil {
			return err
		}
		defer store.Close()
		return a.printState(ctx, store, events.Until, args[1:])
	}
	return cmd
}

// archiveLog is a log of the events in an archive that was checked.
type archiveLog struct {
	proof.Archive
	path string
}

func (l archiveLog) read(v note.Verifier, each func(domain.Recorded) error) (proof.Archive, error) {
	f, err := os.Open(l.path)
	if err != nil {
		return proof.Archive{}, err
	}
	defer f.Close()
	return proof.ReadArchive(f, v, each)
}

// ReadAll yields the archive's events after a position.
func (l archiveLog) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		_, err := l.read(nil, func(r domain.Recorded) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if after.Before(r.Position) && !yield(r, nil) {
				return io.EOF
			}
			return nil
		})
		if err != nil && !errors.Is(err, io.EOF) {
			yield(domain.Recorded{}, err)
		}
	}
}

// Subscribe is ReadAll: an archive does not grow.
func (l archiveLog) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return l.ReadAll(ctx, after)
}

// Head is the position of the last event.
func (l archiveLog) Head(context.Context) (domain.Position, error) { return l.Until, nil }

// into appends the events to a new ledger, one stream's run at a time; the leaves come out the same.
func (l archiveLog) into(ctx context.Context, dir string) error {
	if l.First != 0 {
		return usageError("this archive begins after event %d: only one from the beginning of the log becomes a ledger", l.First)
	}
	if _, err := os.Stat(filepath.Join(dir, "ledger.db")); !errors.Is(err, fs.ErrNotExist) {
		return exitError{exitConflict, fmt.Errorf("%s has a ledger already", dir)}
	}
	to, err := ledger.Open(ctx, ledger.Options{Dir: dir})
	if err != nil {
		return err
	}
	err = l.appendTo(ctx, to)
	return errors.Join(err, to.Close())
}

func (l archiveLog) appendTo(ctx context.Context, to *ledger.Ledger) error {
	const most = 500
	var run []domain.Recorded
	size := 0
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		fresh := make([]domain.NewEvent, len(run))
		for i, r := range run {
			fresh[i] = domain.NewEvent{ID: r.ID, Type: r.Type, Data: r.Data, Metadata: r.Metadata}
		}
		_, err := to.Append(ctx, run[0].Stream, run[0].Revision-1, fresh)
		run, size = run[:0], 0
		return err
	}
	for r, err := range l.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return err
		}
		more := len(r.Data) + len(r.Metadata)
		if len(run) > 0 && (run[0].Stream != r.Stream || len(run) == most || size+more > domain.MaxAppend) {
			if err := flush(); err != nil {
				return err
			}
		}
		run, size = append(run, r), size+more
	}
	return flush()
}
