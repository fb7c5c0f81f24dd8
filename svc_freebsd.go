package main

// This file owns which service managers FreeBSD has: rc(8), and no other.

func init() { supervisors = []supervisor{rcD{}} }

// copyPlace is where --copy-to puts the program unless it is told.
const copyPlace = "/usr/local/bin/ipcd"
