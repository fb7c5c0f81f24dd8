package main

// This file owns which service managers FreeBSD has: rc(8) only.

func init() { supervisors = []supervisor{rcD{}} }

// copyPlace is where --copy-to puts the program by default.
const copyPlace = "/usr/local/bin/ipcd"
