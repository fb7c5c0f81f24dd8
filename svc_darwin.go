package main

// This file owns which service managers macOS has: launchd, and no other.

func init() { supervisors = []supervisor{launchd{}} }

// copyPlace is where --copy-to puts the program unless it is told: Homebrew makes /usr/local a user's
// own on Macs with Intel, and this is where Apple has programs that run as services.
const copyPlace = "/Library/PrivilegedHelperTools/ipcd"
