package main

// This file owns which service managers Linux may have.

func init() { supervisors = []supervisor{systemd{}} }
