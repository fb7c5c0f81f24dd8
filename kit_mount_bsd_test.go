//go:build unix && !linux

package main

import "testing"

// mountTemp is Linux's.
func mountTemp(t *testing.T, options string) string { t.Skip("only tried on Linux"); return "" }
