package phonesim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pin/tftp/v3"
)

// Errors of fetching.
var (
	// ErrTooBig: a file is larger than MaxBody.
	ErrTooBig = fmt.Errorf("file is larger than %d bytes", MaxBody)
	// ErrBusy: the server was still busy after all the waiting a phone does.
	ErrBusy = errors.New("server is busy")
	// ErrStatus: the server's answer is neither a file nor "no such file".
	ErrStatus = errors.New("unexpected answer")
	// ErrRedirect: too many redirects, or one from https to http.
	ErrRedirect = errors.New("redirect refused")
)

const (
	maxTries     = 5
	maxRedirects = 5
)

// fetcher asks for files over whatever the URL says.
type fetcher struct {
	userAgent string
	client    *http.Client
	own       *http.Transport // nil when the caller brought a client
	timeout   time.Duration
	maxWait   time.Duration

	block       int
	tftpTimeout time.Duration
	transfers   sync.WaitGroup
}

// request is one question. Empty fields are not sent.
type request struct {
	method         string
	url            *url.URL
	user           string
	etag, modified string
	byteRange      string
}

func newFetcher(c Config, userAgent string) (*fetcher, error) {
	f := &fetcher{userAgent: userAgent, timeout: c.Timeout, maxWait: c.MaxWait, block: c.BlockSize, tftpTimeout: c.TFTPTimeout}
	if f.timeout <= 0 {
		f.timeout = 30 * time.Second
	}
	if f.maxWait <= 0 {
		f.maxWait = 10 * time.Second
	}
	if f.tftpTimeout <= 0 {
		f.tftpTimeout = 4 * time.Second
	}
	if f.block == 0 {
		f.block = 1428
	}
	if f.block < 512 || f.block > 65464 {
		return nil, fmt.Errorf("TFTP block size %d must be 512 to 65464", f.block)
	}
	if c.HTTP != nil {
		copied := *c.HTTP
		f.client = &copied
	} else {
		f.own = http.DefaultTransport.(*http.Transport).Clone()
		f.own.Proxy = nil
		f.own.Protocols = new(http.Protocols)
		f.own.Protocols.SetHTTP1(true)
		f.client = &http.Client{Transport: f.own}
	}
	f.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects || via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
			return ErrRedirect
		}
		r.Header.Del("Referer") // phones send none, and it could hold a code
		return nil
	}
	return f, nil
}

func (f *fetcher) close() {
	f.transfers.Wait()
	if f.own != nil {
		f.own.CloseIdleConnections()
	}
}

// fetch asks, waiting while the server is busy. A missing file is no error: see File.Found.
func (f *fetcher) fetch(ctx context.Context, r request) (File, error) {
	ask := f.overHTTP
	if r.url.Scheme == "tftp" {
		ask = f.overTFTP
	}
	for try := 1; ; try++ {
		file, wait, err := ask(ctx, r)
		file.Path, file.Name = redact(r.url.EscapedPath()), path.Base(r.url.Path)
		if err == nil && wait > 0 {
			err = ErrBusy
			if try < maxTries && pause(ctx, min(wait, f.maxWait)) {
				continue
			}
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if err != nil {
			return file, fmt.Errorf("fetch %s: %w", file.Path, err)
		}
		return file, nil
	}
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// overHTTP asks once. wait is positive when the server is busy.
func (f *fetcher) overHTTP(ctx context.Context, r request) (file File, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), nil)
	if err != nil {
		return file, 0, ErrBadServer
	}
	f.headers(q, r)
	resp, err := f.client.Do(q)
	if err != nil {
		return file, 0, withoutURL(err)
	}
	defer resp.Body.Close()
	file.Status, file.ETag, file.modified = resp.StatusCode, resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	switch {
	case resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent && r.byteRange != "":
		if r.method == http.MethodHead {
			file.Size = max(resp.ContentLength, 0)
			return file, 0, nil
		}
		var body bytes.Buffer
		if _, err = io.Copy(&bounded{w: &body}, resp.Body); err == nil {
			file.content(body.Bytes())
		}
		return file, 0, err
	case resp.StatusCode == http.StatusNotModified && (r.etag != "" || r.modified != ""):
		return file, 0, nil
	case resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests:
		return file, retryAfter(resp.Header.Get("Retry-After")), nil
	case resp.StatusCode >= 400 && resp.StatusCode < 500:
		return file, 0, nil
	}
	return file, 0, fmt.Errorf("%w: status %d", ErrStatus, resp.StatusCode)
}

func (f *fetcher) headers(q *http.Request, r request) {
	q.Header.Set("User-Agent", f.userAgent)
	q.Header.Set("Accept-Encoding", "identity") // phones take no compressed files
	if r.user != "" {
		q.SetBasicAuth(r.user, "")
	}
	if r.byteRange != "" {
		q.Header.Set("Range", r.byteRange)
	}
	if r.etag != "" {
		q.Header.Set("If-None-Match", r.etag)
	} else if r.modified != "" {
		q.Header.Set("If-Modified-Since", r.modified)
	}
}

// content takes the bytes and measures them.
func (f *File) content(b []byte) {
	sum := sha256.Sum256(b)
	f.Body, f.Size, f.SHA256 = b, int64(len(b)), hex.EncodeToString(sum[:])
}

// retryAfter reads seconds or a date (RFC 9110 §10.2.3); at least a second.
func retryAfter(header string) time.Duration {
	wait := time.Second
	if s, err := strconv.Atoi(strings.TrimSpace(header)); err == nil && s < 1<<20 {
		wait = time.Duration(s) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		wait = time.Until(at)
	}
	return max(wait, time.Second)
}

// withoutURL drops the URL net/http puts before an error: it may hold a code.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// bounded refuses what goes beyond MaxBody, and everything once ctx has ended.
type bounded struct {
	ctx context.Context // may be nil
	w   *bytes.Buffer
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.ctx != nil && b.ctx.Err() != nil {
		return 0, b.ctx.Err()
	}
	if b.w.Len()+len(p) > MaxBody {
		return 0, ErrTooBig
	}
	return b.w.Write(p)
}

// overTFTP asks once. The library cannot be interrupted: when ctx ends, the transfer is left to fail by
// itself, which it does at its next block or after two timeouts.
func (f *fetcher) overTFTP(ctx context.Context, r request) (file File, wait time.Duration, err error) {
	if r.method != http.MethodGet || r.byteRange != "" {
		return file, 0, fmt.Errorf("%w: TFTP has whole files only", ErrBadServer)
	}
	if err := ctx.Err(); err != nil {
		return file, 0, err
	}
	type outcome struct {
		body []byte
		err  error
	}
	done := make(chan outcome, 1)
	f.transfers.Go(func() {
		body, err := f.transfer(ctx, r.url)
		done <- outcome{body, err}
	})
	select {
	case <-ctx.Done():
		return file, 0, ctx.Err()
	case o := <-done:
		return tftpAnswer(o.body, o.err)
	}
}

func (f *fetcher) transfer(ctx context.Context, u *url.URL) ([]byte, error) {
	port := u.Port()
	if port == "" {
		port = "69"
	}
	c, err := tftp.NewClient(net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	c.SetTimeout(f.tftpTimeout)
	c.SetRetries(1)
	c.SetBackoff(func(int) time.Duration { return 0 })
	c.SetBlockSize(f.block)
	c.RequestTSize(true)
	from, err := c.Receive(strings.TrimPrefix(u.Path, "/"), "octet")
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if _, err := from.WriteTo(&bounded{ctx, &body}); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// tftpAnswer puts the outcome of a transfer in HTTP's words (error codes: RFC 1350 §5).
func tftpAnswer(body []byte, err error) (file File, wait time.Duration, _ error) {
	var code int
	switch {
	case err == nil:
		file.Status = http.StatusOK
		file.content(body)
		return file, 0, nil
	case errors.Is(err, ErrTooBig):
		return file, 0, err
	}
	if n, _ := fmt.Sscanf(err.Error(), "code: %d,", &code); n != 1 {
		return file, 0, err
	}
	switch code {
	case 1:
		file.Status = http.StatusNotFound
	case 2:
		file.Status = http.StatusForbidden
	case 0, 3:
		file.Status = http.StatusServiceUnavailable
		return file, time.Second, nil
	default:
		return file, 0, fmt.Errorf("%w: TFTP error %d", ErrStatus, code)
	}
	return file, 0, nil
}
