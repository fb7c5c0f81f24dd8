//go:build unix

package main

// This file owns the cases of where a daemon has its state.

import (
	"os"
	"path/filepath"
	"testing"
)

// A command and the daemon find the same state directory, whatever else their environments have.
func TestStateDirectories(t *testing.T) {
	t.Setenv("HOME", "/home/ada")
	own := "/home/ada/.local/state/ipcd"
	if os.Getuid() == 0 {
		own = filepath.Join(varDir, "ipcd")
	}
	for _, test := range []struct {
		who        instance
		state, xdg string
		want       string
	}{
		{instance{}, "", "", own},
		{instance{}, "", "/xdg", "/xdg/ipcd"},
		{instance{}, "", "relative", own},
		{instance{}, "/state:/other", "/xdg", "/state"},
		{instance{name: "ipcd"}, "", "/xdg", filepath.Join(varDir, "ipcd")},
		{instance{name: "second"}, "", "", filepath.Join(varDir, "second")},
		{instance{name: "second"}, "/state", "", "/state"},
		{instance{name: "second", user: true}, "", "", "/home/ada/.local/state/second"},
		{instance{name: "second", user: true}, "/home/ada/.config/second", "", "/home/ada/.local/state/second"}, // where an older systemd has it
		{instance{name: "second", user: true}, "", "/xdg", "/xdg/second"},
	} {
		t.Setenv("STATE_DIRECTORY", test.state)
		t.Setenv("XDG_STATE_HOME", test.xdg)
		if got, err := test.who.stateDir(); err != nil || got != test.want {
			t.Errorf("of %+v with %q and %q: %q, %v; want %q", test.who, test.state, test.xdg, got, err, test.want)
		}
	}
}

// Without a home of one's own, what is kept has no place, and the error says how to name one.
func TestStateNeedsAPlace(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "")
	for home, words := range map[string]string{"": "$HOME is not set", "relative": `$HOME is "relative", which is no absolute path`} {
		t.Setenv("HOME", home)
		_, err := userStateDir("ipcd")
		checkRefused(t, "HOME="+home, err, words, "export XDG_STATE_HOME=DIR")
	}
}
