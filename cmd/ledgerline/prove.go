package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"ledgerline/adapters/proof"
	"ledgerline/domain"
)

// checkpointsIn are the signed checkpoints a log holds as events, in order.
func checkpointsIn(ctx context.Context, log proof.Log) ([]domain.CheckpointSigned, error) {
	var out []domain.CheckpointSigned
	for r, err := range log.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return nil, damaged(err)
		}
		if r.Stream.Category() != "checkpoint" {
			continue
		}
		e, err := r.Event()
		if err != nil {
			return nil, err
		}
		if c, ok := e.(domain.CheckpointSigned); ok {
			out = append(out, c)
		}
	}
	return out, nil
}

// auditCheckpointCmd prints the latest checkpoint as it can be given away.
func (a *app) auditCheckpointCmd() *cobra.Command {
	var data string
	var key bool
	cmd := &cobra.Command{Use: "checkpoint", Short: "Print the latest signed checkpoint of the log, or the key to check them with", Args: cobra.NoArgs,
		Long: "A checkpoint says: the first N events of the log have this root. Give it, and once the key, to somebody else: what stood in the log\nthen can never be changed unnoticed again. The server appends every checkpoint to checkpoints.log in its data directory."}
	cmd.Flags().StringVar(&data, "data", "", "read this data directory instead of asking the server")
	cmd.Flags().BoolVar(&key, "key", false, "print the verifier key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var latest struct {
			Note string `json:"note"`
			Key  string `json:"key"`
		}
		if data == "" {
			ans, err := a.call(cmd.Context(), http.MethodGet, "/audit/checkpoints/latest", nil, nil)
			if err != nil {
				return err
			}
			if err := json.Unmarshal(ans.body, &latest); err != nil {
				return fmt.Errorf("read the server's answer: %w", err)
			}
		} else {
			l, err := openToRead(cmd.Context(), data, false)
			if err != nil {
				return err
			}
			defer l.Close()
			signed, err := checkpointsIn(cmd.Context(), l)
			if err != nil {
				return err
			}
			if len(signed) == 0 {
				return exitError{exitNotFound, errors.New("no checkpoint has been signed yet: the server signs one a minute while there is something new")}
			}
			latest.Note, latest.Key = signed[len(signed)-1].Note, signed[len(signed)-1].Key
		}
		if key {
			_, err := fmt.Fprintln(a.out, latest.Key)
			return err
		}
		_, err := fmt.Fprint(a.out, latest.Note)
		return err
	}
	return cmd
}

// auditProveCmd writes a proof that can be checked without us.
func (a *app) auditProveCmd() *cobra.Command {
	var data, event, checkpoint, from, to, out string
	cmd := &cobra.Command{Use: "prove", Short: "Write a proof about the log that anyone can check offline", Args: cobra.NoArgs,
		Long: "With --event: that this event stands in the log, under a signed checkpoint (the latest, or the one in --checkpoint FILE).\nWith --from and --to: that everything under the checkpoint of one file stands unchanged under that of the other (--to: the latest).",
		Example: "  ledgerline audit prove --event 019a…  -w event.proof\n" +
			"  ledgerline audit prove --from kept-in-march.txt -w since-march.proof"}
	f := cmd.Flags()
	f.StringVar(&data, "data", envOr(a.getenv, "LEDGERLINE_DATA", "./data"), "data directory; the server may be running")
	f.StringVar(&event, "event", "", "event id, or STREAM@REVISION")
	f.StringVar(&checkpoint, "checkpoint", "", "file with the signed checkpoint to prove against")
	f.StringVar(&from, "from", "", "file with the earlier signed checkpoint")
	f.StringVar(&to, "to", "", "file with the later one")
	f.StringVarP(&out, "write", "w", "", "file to write the proof to; default standard output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if (event == "") == (from == "") {
			return usageError("say either --event, or --from and perhaps --to")
		}
		ctx := cmd.Context()
		l, err := openToRead(ctx, data, true)
		if err != nil {
			return err
		}
		defer l.Close()
		against, err := a.checkpointFile(ctx, l, checkpoint+to)
		if err != nil {
			return err
		}
		var p *proof.Proof
		if event != "" {
			is, err := eventNamed(event)
			if err != nil {
				return err
			}
			p, err = proof.ProveInclusion(ctx, l, against, is)
			if errors.Is(err, proof.ErrNotInLog) {
				return exitError{exitNotFound, fmt.Errorf("event %s: %w", event, err)}
			}
			if err != nil {
				return rewritten(err)
			}
		} else {
			earlier, err := a.checkpointFile(ctx, l, from)
			if err != nil {
				return err
			}
			if p, err = proof.ProveConsistency(ctx, l, earlier, against); err != nil {
				return rewritten(err)
			}
		}
		b, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			return err
		}
		if out == "" {
			_, err = fmt.Fprintf(a.out, "%s\n", b)
			return err
		}
		return renameio.WriteFile(out, append(b, '\n'), 0o644)
	}
	return cmd
}

// rewritten gives a log that contradicts its checkpoints the exit code of a damaged one.
func rewritten(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, proof.ErrRewritten) || errors.Is(err, proof.ErrNotProven) || errors.Is(err, proof.ErrBadCheckpoint) || errors.Is(err, proof.ErrBadArchive) {
		return exitError{exitDamaged, err}
	}
	return damaged(err)
}

// checkpointFile is the signed checkpoint in a file, the last one if it holds several; without a file the
// latest of the log itself.
func (a *app) checkpointFile(ctx context.Context, log proof.Log, path string) (string, error) {
	if path == "" {
		signed, err := checkpointsIn(ctx, log)
		if err != nil {
			return "", err
		}
		if len(signed) == 0 {
			return "", exitError{exitNotFound, errors.New("no checkpoint has been signed yet: the server signs one a minute while there is something new")}
		}
		return signed[len(signed)-1].Note, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the checkpoint: %w", err)
	}
	signed := proof.Checkpoints(string(b))
	if len(signed) == 0 {
		return "", fmt.Errorf("%s: %w", path, proof.ErrBadCheckpoint)
	}
	return signed[len(signed)-1], nil
}

// eventNamed recognises an event by its id, or by stream@revision.
func eventNamed(name string) (func(domain.Recorded) bool, error) {
	if id, err := uuid.Parse(name); err == nil {
		return func(r domain.Recorded) bool { return r.ID == id }, nil
	}
	i := strings.LastIndexByte(name, '@')
	var revision domain.Revision
	if i < 1 {
		return nil, usageError("%q is neither an event id nor STREAM@REVISION", name)
	}
	if _, err := fmt.Sscanf(name[i+1:], "%d", &revision); err != nil || revision < 0 {
		return nil, usageError("%q is neither an event id nor STREAM@REVISION", name)
	}
	stream := domain.StreamID(name[:i])
	return func(r domain.Recorded) bool { return r.Stream == stream && r.Revision == revision }, nil
}

// auditCheckCmd checks a proof with the key alone: no server, no data.
func (a *app) auditCheckCmd() *cobra.Command {
	var key string
	cmd := &cobra.Command{Use: "check PROOF --key KEY", Short: "Check a proof offline", Args: cobra.ExactArgs(1),
		Long: "Checks the signature of the proof's checkpoints and the hashes from there to what it proves. KEY is the verifier key, or a file\nwith it, as you got it once from a hand you trust (ledgerline audit checkpoint --key)."}
	cmd.Flags().StringVar(&key, "key", "", "verifier key, or a file with it (required)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := verifierKey(key)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		var p proof.Proof
		if err := json.Unmarshal(b, &p); err != nil {
			return exitError{exitDamaged, fmt.Errorf("%s is no proof: %w", args[0], err)}
		}
		if err := proof.Check(&p, v); err != nil {
			return rewritten(err)
		}
		c, err := proof.OpenCheckpoint(p.Checkpoint, v)
		if err != nil {
			return rewritten(err)
		}
		shown := map[string]any{"proven": true, "kind": p.Kind, "origin": c.Origin, "events": c.Size, "signed_at": c.At}
		if p.Event != nil {
			shown["event"] = fmt.Sprintf("%s, revision %d of %s, %s", p.Event.ID, p.Event.Revision, p.Event.Stream, p.Event.Type)
		} else if older, err := proof.OpenCheckpoint(p.From, v); err == nil {
			shown["unchanged_since"] = fmt.Sprintf("%d events, signed %s", older.Size, older.At.Format("2006-01-02 15:04:05 MST"))
		}
		return a.printValue(shown)
	}
	return cmd
}

// verifierKey reads a verifier key from a flag's value or from the file it names.
func verifierKey(text string) (note.Verifier, error) {
	if text == "" {
		return nil, usageError("--key is required: the signer's verifier key, or a file with it")
	}
	b, err := os.ReadFile(text)
	switch {
	case err == nil:
		text = string(b)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the key: %w", err)
	}
	v, err := note.NewVerifier(strings.TrimSpace(text))
	if err != nil {
		return nil, usageError("--key: %w", err)
	}
	return v, nil
}

// verifyTree compares the log with every checkpoint it holds and with those of a file kept elsewhere. With a
// key, each must be signed by it.
func verifyTree(ctx context.Context, log proof.Log, file, key string) (proof.Report, error) {
	var v note.Verifier
	var err error
	if key != "" {
		if v, err = verifierKey(key); err != nil {
			return proof.Report{}, err
		}
	}
	signed, err := checkpointsIn(ctx, log)
	if err != nil {
		return proof.Report{}, err
	}
	var texts []string
	for _, c := range signed {
		texts = append(texts, c.Note)
	}
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return proof.Report{}, fmt.Errorf("read the checkpoints: %w", err)
		}
		kept := proof.Checkpoints(string(b))
		if len(kept) == 0 {
			return proof.Report{}, fmt.Errorf("%s: %w", file, proof.ErrBadCheckpoint)
		}
		texts = append(texts, kept...)
	}
	given := make([]proof.Checkpoint, len(texts))
	for i, t := range texts {
		if given[i], err = proof.OpenCheckpoint(t, v); err != nil {
			return proof.Report{}, rewritten(err)
		}
	}
	report, err := proof.Verify(ctx, log, given)
	return report, rewritten(err)
}
