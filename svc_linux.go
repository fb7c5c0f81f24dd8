package main

// This file owns which service managers Linux may have. If two are installed, the one that booted the system counts.
// SysV's scripts, which every manager can run, are not a manager.

func init() { supervisors = []supervisor{systemd{}, openRC{}} }

// copyPlace is where --copy-to puts the program by default.
const copyPlace = "/usr/local/bin/ipcd"
