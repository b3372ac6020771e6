package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// problem is an RFC 9457 problem document. Code is stable and for programs, Detail for people.
type problem struct {
	Type      string       `json:"type" doc:"urn:ledgerline:problem: and the code" example:"urn:ledgerline:problem:not-found"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail,omitempty"`
	Code      string       `json:"code" example:"not-found"`
	Errors    []fieldError `json:"errors,omitempty"`
	RequestID string       `json:"request_id,omitempty"`

	retryAfter int
}

// fieldError names one field and the rule it breaks.
type fieldError struct {
	Field string `json:"field"`
	Rule  string `json:"rule"`
}

func (p *problem) Error() string  { return p.Title + ": " + p.Detail }
func (p *problem) GetStatus() int { return p.Status }

// GetHeaders makes huma send Retry-After.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", fmt.Sprint(p.retryAfter))
	}
	return h
}

// ContentType makes every problem application/problem+json.
func (p *problem) ContentType(string) string { return "application/problem+json" }

func newProblem(status int, code, detail string, fields ...fieldError) *problem {
	return &problem{Type: "urn:ledgerline:problem:" + code, Title: http.StatusText(status), Status: status, Code: code, Detail: detail, Errors: fields}
}

// useProblems makes huma's own errors (a body that is no JSON, a parameter of the wrong type) our problems.
var useProblems = sync.OnceFunc(func() {
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		if status == http.StatusUnprocessableEntity {
			status = http.StatusBadRequest // bad input is 400 here; 422 is an idempotency key used twice
		}
		code := codeOf(status)
		p := newProblem(status, code, message)
		for _, err := range errs {
			if status >= http.StatusInternalServerError {
				break // what went wrong inside is for the log
			}
			var d huma.ErrorDetailer
			if errors.As(err, &d) {
				detail := d.ErrorDetail()
				p.Errors = append(p.Errors, fieldError{fieldName(detail.Location), detail.Message})
			} else if err != nil {
				p.Errors = append(p.Errors, fieldError{"", err.Error()})
			}
		}
		return p
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
		p, _ := huma.NewError(status, message, errs...).(*problem)
		p.RequestID = requestOf(ctx.Context()).id
		return p
	}
})

// codeOf is the code of a problem that huma found.
func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "invalid"
	case http.StatusRequestEntityTooLarge:
		return "too-big"
	}
	return strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "-")
}

// fieldName is huma's "query.limit" or "body.settings.locale" in the caller's words.
func fieldName(location string) string {
	for _, where := range []string{"body.", "query.", "path.", "header."} {
		if name, ok := strings.CutPrefix(location, where); ok {
			return name
		}
	}
	return location
}

// Sentinels by what they mean to a caller. Everything else is our trouble.
var (
	unknown = []error{domain.ErrTenantUnknown, domain.ErrCategoryUnknown, domain.ErrCodeUnknown, domain.ErrDeviceUnknown, domain.ErrUserUnknown,
		domain.ErrLineUnknown, domain.ErrGatewayUnknown, domain.ErrNodeUnknown, domain.ErrSIPUserUnknown, domain.ErrLayerUnknown, domain.ErrAPIKeyUnknown, domain.ErrNoStream, domain.ErrLineNotOnDevice, domain.ErrPluginUnknown, domain.ErrUpgradeUnknown, domain.ErrBundleUnknown,
		domain.ErrJobUnknown, domain.ErrSoftphoneUnknown, domain.ErrInstallUnknown, domain.ErrCloudIDUnknown, domain.ErrTokenUnknown, domain.ErrServerUnknown, commands.ErrOperationUnknown, domain.ErrRolloutUnknown, domain.ErrRolloutRow, errNotFound}
	// elsewhere are things of other tenants. To a key bound to tenants they are as unknown as what is not.
	elsewhere = []error{domain.ErrGatewayOfOtherTenant, domain.ErrDeviceOfOtherTenant, domain.ErrLineOfOtherTenant, domain.ErrUserOfOtherTenant, domain.ErrCategoryOfOtherTenant, domain.ErrLayerOfOtherTenant, domain.ErrCloudIDForeign}
	// exists are ids and addresses in use. A key bound to tenants is not told what uses them.
	exists   = []error{domain.ErrGatewayExists, domain.ErrTenantExists, domain.ErrDeviceExists, domain.ErrUserExists, domain.ErrLineExists, domain.ErrLayerExists, domain.ErrAPIKeyExists, domain.ErrSoftphoneExists, domain.ErrCloudIDExists, domain.ErrRolloutExists}
	errTaken = newProblem(http.StatusConflict, "id-taken", "this id or address is taken")
	// broken are broken rules with their codes; of several in one error the first here is answered.
	broken = []struct {
		rule error
		code string
	}{
		{domain.ErrTenantExists, "tenant-exists"},
		{domain.ErrTenantDeleted, "tenant-deleted"},
		{domain.ErrMasterTenant, "master-tenant"},
		{domain.ErrTenantOccupied, "tenant-occupied"},
		{domain.ErrDomainTaken, "domain-taken"},
		{domain.ErrKeyTaken, "key-taken"},
		{domain.ErrCategoryRetired, "category-retired"},
		{domain.ErrCategoryOfOtherTenant, "category-of-other-tenant"},
		{domain.ErrNotProvisioning, "not-provisioning"},
		{domain.ErrModelNotAllowed, "model-not-allowed"},
		{domain.ErrCodeExpired, "code-expired"},
		{domain.ErrCodeRedeemed, "code-redeemed"},
		{domain.ErrCodeRevoked, "code-revoked"},
		{domain.ErrCodeRefused, "code-refused"},
		{domain.ErrTooManyCodes, "too-many-codes"},
		{commands.ErrNoDevicesURL, "no-devices-url"},
		{domain.ErrTokenExists, "token-exists"},
		{domain.ErrTokenDead, "token-dead"},
		{domain.ErrTokenRotated, "token-rotated"},
		{domain.ErrDeviceExists, "device-exists"},
		{domain.ErrDeviceDeleted, "device-deleted"},
		{domain.ErrDeviceOfOtherTenant, "device-of-other-tenant"},
		{domain.ErrLineOfOtherTenant, "line-of-other-tenant"},
		{domain.ErrPositionTaken, "position-taken"},
		{domain.ErrPosition, "position"},
		{domain.ErrReplacementInUse, "replacement-in-use"},
		{domain.ErrReplaceSelf, "replace-self"},
		{domain.ErrSameTenant, "same-tenant"},
		{domain.ErrUserExists, "user-exists"},
		{domain.ErrUserRemoved, "user-removed"},
		{domain.ErrUserOfOtherTenant, "user-of-other-tenant"},
		{domain.ErrLineExists, "line-exists"},
		{domain.ErrLineRemoved, "line-removed"},
		{domain.ErrLayerExists, "layer-exists"},
		{domain.ErrLayerOfOtherTenant, "layer-of-other-tenant"},
		{domain.ErrLayerCycle, "layer-cycle"},
		{domain.ErrLayerParent, "layer-parent"},
		{domain.ErrAPIKeyExists, "api-key-exists"},
		{domain.ErrJobCancelled, "job-cancelled"},
		{domain.ErrJobNotFailed, "job-not-failed"},
		{domain.ErrTooManyJobs, "too-many-jobs"},
		{domain.ErrSoftphoneExists, "softphone-exists"},
		{domain.ErrSoftphoneRemoved, "softphone-removed"},
		{domain.ErrSoftphoneNameTaken, "softphone-name-taken"},
		{domain.ErrCloudIDExists, "cloud-id-exists"},
		{domain.ErrCloudIDForeign, "cloud-id-of-other-tenant"},
		{commands.ErrSignInBusy, "busy"},
		{domain.ErrGatewayExists, "gateway-exists"},
		{domain.ErrGatewayRemoved, "gateway-removed"},
		{domain.ErrGatewayEnabled, "gateway-enabled"},
		{domain.ErrGatewayOfOtherTenant, "gateway-of-other-tenant"},
		{domain.ErrGatewayNoConsumer, "gateway-no-consumer"},
		{domain.ErrGatewayNoMapping, "gateway-no-mapping"},
		{domain.ErrGatewayNoRequest, "gateway-no-request"},
		{domain.ErrGatewayNoToken, "gateway-no-token"},
		{domain.ErrRenewalDate, "renewal-date"},
		{domain.ErrTooManyNodes, "too-many-nodes"},
		{domain.ErrSIPUserSettled, "sip-user-settled"},
		{commands.ErrNoBorders, "not-plannable"},
		{commands.ErrStopped, "gateway-stopped"},
		{commands.ErrBraked, "gateway-braked"},
		{commands.ErrDrawnElsewhere, "drawn-elsewhere"},
		{domain.ErrRolloutExists, "rollout-exists"},
		{domain.ErrRolloutRowRegistered, "row-registered"},
		{domain.ErrRolloutRowOpen, "row-open"},
		{domain.ErrNoUsers, "no-users"},
		{domain.ErrRolloutRowPlain, "row-not-quarantined"},
		{domain.ErrRolloutRowSettled, "row-settled"},
		{domain.ErrErased, "erased"},
		{commands.ErrOffline, "offline"},
		{commands.ErrPhone, "refused-by-phone"},
		{commands.ErrNoAnswer, "no-answer"},
		{commands.ErrBusy, "busy"},
		{commands.ErrNoPlugin, "no-plugin"},
		{domain.ErrPluginInstalled, "plugin-installed"},
		{domain.ErrPluginInUse, "plugin-in-use"},
		{domain.ErrPluginPinned, "plugin-pinned"},
		{domain.ErrPluginNewest, "plugin-newest"},
		{domain.ErrUpgradeUnderWay, "upgrade-under-way"},
		{domain.ErrPathInUse, "path-in-use"},
		{commands.ErrNoIndex, "no-index"},
		{commands.ErrNoPackage, "no-package"},
		{commands.ErrPackageRefused, "package-refused"},
		{commands.ErrOperationRunning, "operation-running"},
		{commands.ErrTooManyOperations, "too-many-operations"},
	}
	errNotFound = errors.New("not found")
)

// problemOf is the one place where errors become answers. What is our trouble is logged here, once, and
// answered without detail.
func (a *api) problemOf(ctx context.Context, err error) error {
	p := *a.translate(ctx, err) // some problems are shared
	p.RequestID = requestOf(ctx).id
	return &p
}

func (a *api) translate(ctx context.Context, err error) *problem {
	var already *problem
	var guess *commands.GuessError
	switch fields := fieldsOf(err); {
	case errors.As(err, &already):
		return already
	case len(fields) > 0:
		return newProblem(http.StatusBadRequest, "invalid", fields[0].Field+" "+fields[0].Rule, fields...)
	case errors.Is(err, commands.ErrPrecondition):
		return newProblem(http.StatusPreconditionFailed, "precondition-failed", "it has been changed since it was read: read it again")
	case errors.As(err, &guess):
		p := newProblem(http.StatusTooManyRequests, "too-many-guesses", "too many wrong codes: try again later")
		p.retryAfter = int(guess.RetryAfter.Seconds()) + 1
		return p
	case errors.Is(err, domain.ErrBadKey):
		return newProblem(http.StatusBadRequest, "invalid", err.Error(), fieldError{"key", err.Error()})
	case errors.Is(err, domain.ErrTooBig):
		return newProblem(http.StatusRequestEntityTooLarge, "too-big", "more than one change can hold")
	case errors.Is(err, projections.ErrBadCursor):
		return newProblem(http.StatusBadRequest, "invalid", "cursor "+projections.ErrBadCursor.Error(), fieldError{"cursor", projections.ErrBadCursor.Error()})
	case errors.Is(err, commands.ErrRegistry):
		zerolog.Ctx(ctx).Error().Err(err).Msg("registry cannot be asked")
		p := newProblem(http.StatusServiceUnavailable, "registry-unavailable", "the registry that draws the codes cannot be asked: try again shortly")
		p.retryAfter = 5
		return p
	case errors.Is(err, projections.ErrNotReady):
		p := newProblem(http.StatusServiceUnavailable, "rebuilding", "views are being rebuilt: try again shortly")
		p.retryAfter = 1
		return p
	}
	if p := gatewayProblem(err); p != nil {
		return p
	}
	is := func(sentinel error) bool { return errors.Is(err, sentinel) }
	switch {
	case slices.ContainsFunc(unknown, is), bound(ctx) && slices.ContainsFunc(elsewhere, is):
		return newProblem(http.StatusNotFound, "not-found", "no such thing")
	case bound(ctx) && slices.ContainsFunc(exists, is):
		return errTaken
	}
	for _, b := range broken {
		if errors.Is(err, b.rule) {
			return newProblem(http.StatusConflict, b.code, err.Error())
		}
	}
	if ctx.Err() != nil {
		return newProblem(http.StatusServiceUnavailable, "canceled", "the request ended before its answer")
	}
	if errors.Is(err, domain.ErrReadOnly) || errors.Is(err, domain.ErrOutcomeUnknown) {
		zerolog.Ctx(ctx).Error().Err(err).Msg("log does not take writes")
		p := newProblem(http.StatusServiceUnavailable, "log-unavailable", "the log does not take writes at the moment; repeat the request with the same Idempotency-Key")
		p.retryAfter = 5
		return p
	}
	zerolog.Ctx(ctx).Error().Err(err).Msg("request failed")
	return newProblem(http.StatusInternalServerError, "internal", "something went wrong here; the log has it under this request_id")
}

// fieldsOf collects every field error in a tree of joined errors.
func fieldsOf(err error) []fieldError {
	switch e := err.(type) {
	case nil:
		return nil
	case *commands.InvalidError:
		return []fieldError{{e.Field, e.Rule}}
	case *commands.DocumentError:
		var out []fieldError
		for _, f := range e.Findings {
			if f.Error {
				text := f.Text + " (" + f.Code + ")"
				if f.Hint != "" {
					text += "; did you mean " + f.Hint + "?"
				}
				if f.Line > 0 {
					text = fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, text)
				}
				out = append(out, fieldError{"document." + f.At, text})
			}
		}
		return out
	case *domain.SettingsError:
		return []fieldError{{"settings." + strings.TrimPrefix(e.Field, "settings."), e.Rule}}
	case interface{ Unwrap() []error }:
		var out []fieldError
		for _, part := range e.Unwrap() {
			out = append(out, fieldsOf(part)...)
		}
		return out
	case interface{ Unwrap() error }:
		return fieldsOf(e.Unwrap())
	}
	return nil
}
