package main

// This file says which service managers Linux may have.

func init() { supervisors = []supervisor{systemd{}} }
