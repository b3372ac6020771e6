package domain

import "errors"

// UserDefined: a tenant has a user. Name and e-mail are personal and sealed under the user's key.
type UserDefined struct {
	UserID   UserID   `json:"user_id"`
	TenantID TenantID `json:"tenant_id"`
	UserSpec
}

// UserSpec is what can be changed of a user.
type UserSpec struct {
	DisplayName Personal `json:"display_name,omitzero"`
	Email       Personal `json:"email,omitzero"`
}

// UserAmended: the user is now as described, whole.
type UserAmended struct{ UserSpec }

// UserRemoved: the user is gone; lines and devices are told apart by their own facts.
type UserRemoved struct{}

func (UserDefined) EventType() string { return "user.defined" }
func (UserAmended) EventType() string { return "user.amended" }
func (UserRemoved) EventType() string { return "user.removed" }

var userEvents = []entry{of[UserDefined](), of[UserAmended](), of[UserRemoved]()}

// User is what a user stream adds up to.
type User struct {
	ID       UserID
	TenantID TenantID
	UserSpec
	Exists  bool
	Removed bool
}

// Stream is where the user's facts stand.
func (id UserID) Stream() StreamID { return Stream("user", string(id)) }

// Subject is the owner of the user's data key.
func (id UserID) Subject() Subject { return Subject(id.Stream()) }

// Apply returns the user after e.
func (u User) Apply(e Event) User {
	switch e := e.(type) {
	case UserDefined:
		u.ID, u.TenantID, u.UserSpec, u.Exists, u.Removed = e.UserID, e.TenantID, e.UserSpec, true, false
	case UserAmended:
		u.UserSpec = e.UserSpec
	case UserRemoved:
		u.Removed = true
	}
	return u
}

var (
	ErrUserUnknown       = errors.New("no such user")
	ErrUserExists        = errors.New("user exists already")
	ErrUserRemoved       = errors.New("user was removed")
	ErrUserOfOtherTenant = errors.New("user belongs to another tenant")
)

// Live is nil for a user of tenant that things can be done with.
func (u User) Live(tenant TenantID) error {
	switch {
	case !u.Exists:
		return ErrUserUnknown
	case u.TenantID != tenant:
		return ErrUserOfOtherTenant
	case u.Removed:
		return ErrUserRemoved
	}
	return nil
}

// Define makes the user.
func (u User) Define(id UserID, tenant TenantID, spec UserSpec) ([]Event, error) {
	if u.Exists {
		return nil, ErrUserExists
	}
	return []Event{UserDefined{id, tenant, spec}}, nil
}

// Amend changes the user; an unchanged description is no news.
func (u User) Amend(spec UserSpec) ([]Event, error) {
	if err := u.Live(u.TenantID); err != nil {
		return nil, err
	}
	if u.DisplayName.Same(spec.DisplayName.Sealed) && u.Email.Same(spec.Email.Sealed) {
		return nil, nil
	}
	return []Event{UserAmended{spec}}, nil
}

// Remove ends the user. Removing again is no news.
func (u User) Remove() ([]Event, error) {
	if !u.Exists {
		return nil, ErrUserUnknown
	}
	if u.Removed {
		return nil, nil
	}
	return []Event{UserRemoved{}}, nil
}

// Owner is the tenant the user belongs to; empty before its first event.
func (u User) Owner() TenantID { return u.TenantID }
