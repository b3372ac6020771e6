package commands

// Service carries out commands: one method per command, in a file of its own.
type Service struct{}
