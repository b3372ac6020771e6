package phonehttp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"
)

// CertPair names the files of one certificate (its chain, leaf first) and its key, both PEM.
type CertPair struct{ Cert, Key string }

// CertFiles is a CertSource that follows its files. Several pairs serve phones of several ages: a handshake
// gets the first certificate that the phone can use, else the first. Safe for concurrent use.
type CertFiles struct {
	pairs   []CertPair
	current atomic.Pointer[loaded]
	every   time.Duration
}

type loaded struct {
	certs []*tls.Certificate
	sum   []byte
}

// pollCerts is how often the files are looked at besides being watched: network file systems tell nothing.
const pollCerts = time.Minute

// OpenCerts reads the files. Watch follows them.
func OpenCerts(pairs ...CertPair) (*CertFiles, error) {
	if len(pairs) == 0 {
		return nil, errors.New("open certificates: none named")
	}
	c := &CertFiles{pairs: pairs, every: pollCerts}
	next, err := c.load()
	if err != nil {
		return nil, fmt.Errorf("open certificates: %w", err)
	}
	c.current.Store(next)
	return c, nil
}

// GetCertificate implements CertSource.
func (c *CertFiles) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certs := c.current.Load().certs
	for _, cert := range certs {
		if hello.SupportsCertificate(cert) == nil {
			return cert, nil
		}
	}
	return certs[0], nil
}

// NotAfter is when the first of the certificates ends.
func (c *CertFiles) NotAfter() time.Time {
	var end time.Time
	for _, cert := range c.current.Load().certs {
		if end.IsZero() || cert.Leaf.NotAfter.Before(end) {
			end = cert.Leaf.NotAfter
		}
	}
	return end
}

// Reload reads the files again. A bad file is an error and the certificates stay as they were.
func (c *CertFiles) Reload() (changed bool, err error) {
	next, err := c.load()
	if err != nil {
		return false, fmt.Errorf("reload certificates: %w", err)
	}
	if bytes.Equal(next.sum, c.current.Load().sum) {
		return false, nil
	}
	c.current.Store(next)
	return true, nil
}

func (c *CertFiles) load() (*loaded, error) {
	next := new(loaded)
	sum := sha256.New()
	for _, p := range c.pairs {
		cert, err := os.ReadFile(p.Cert)
		if err != nil {
			return nil, err
		}
		key, err := os.ReadFile(p.Key)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Cert, err)
		}
		sum.Write(cert)
		sum.Write(key)
		next.certs = append(next.certs, &pair)
	}
	next.sum = sum.Sum(nil)
	return next, nil
}

// Watch reloads when a file changes, until ctx ends, and answers ctx's error. A bad file is logged once and
// the certificates in use stay. Where the system cannot watch, it looks once a minute.
func (c *CertFiles) Watch(ctx context.Context) error {
	log := zerolog.Ctx(ctx)
	var changes chan fsnotify.Event
	var problems chan error
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer watcher.Close()
		changes, problems = watcher.Events, watcher.Errors
		for _, p := range c.pairs {
			for _, f := range []string{p.Cert, p.Key} { // folders: files are replaced, not rewritten
				err = errors.Join(err, watcher.Add(filepath.Dir(f)))
			}
		}
	}
	if err != nil {
		log.Warn().Err(err).Msg("certificates cannot be watched, looking once a minute")
	}
	poll := time.NewTicker(c.every)
	defer poll.Stop()
	settle := time.NewTimer(time.Hour)
	defer settle.Stop()
	complained := ""
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changes:
			settle.Reset(100 * time.Millisecond) // certificate and key are written one after the other
			continue
		case err := <-problems:
			log.Warn().Err(err).Msg("watch certificates")
			continue
		case <-settle.C:
		case <-poll.C:
		}
		switch changed, err := c.Reload(); {
		case err != nil && err.Error() != complained:
			complained = err.Error()
			log.Error().Err(err).Msg("certificates are bad, keeping the old ones")
		case err == nil && changed:
			complained = ""
			log.Info().Time("not_after", c.NotAfter()).Msg("certificates reloaded")
		case err == nil:
			complained = ""
		}
	}
}
