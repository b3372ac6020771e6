package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// takeLock takes the advisory lock that keeps a second server out (D9). SQLite's own locks stay free for
// readers. The kernel drops it when the process ends, however it ends.
func takeLock(path string, now time.Time) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		holder := make([]byte, 512)
		n, _ := f.ReadAt(holder, 0)
		who := string(bytes.TrimSpace(holder[:n]))
		if who == "" {
			who = "another process"
		}
		return nil, fmt.Errorf("%w by %s", ErrLocked, who)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	note := fmt.Appendf(nil, "pid %d on host %s since %s\n", os.Getpid(), host, now.UTC().Format(time.RFC3339))
	if err := errors.Join(f.Truncate(0), writeAt(f, note)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// dropLock empties the note and lets go. The file stays: removing it would let two processes lock two files.
func dropLock(f *os.File) error { return errors.Join(f.Truncate(0), f.Close()) }

func writeAt(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
