package main

// This file owns colours on the console of Windows, which shows escape sequences as text until it is told to
// obey them ("Console Virtual Terminal Sequences").

import (
	"os"

	"golang.org/x/sys/windows"
)

func init() { enableColours = enableEscapeSequences }

func enableEscapeSequences(f *os.File) error {
	console := windows.Handle(f.Fd())
	var mode uint32
	if err := windows.GetConsoleMode(console, &mode); err != nil {
		return err
	}
	return windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING)
}
