package main

// This file owns which service managers macOS has: launchd only.

func init() { supervisors = []supervisor{launchd{}} }

// copyPlace is where --copy-to puts the program by default. Homebrew makes /usr/local belong to a user on Intel
// Macs; this is where Apple wants programs that run as services.
const copyPlace = "/Library/PrivilegedHelperTools/ipcd"
