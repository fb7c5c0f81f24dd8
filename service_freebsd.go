package main

// This file owns which service managers FreeBSD has: rc(8), and no other.

func init() { supervisors = []supervisor{rcD{}} }
