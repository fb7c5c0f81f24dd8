package main

// This file owns which service managers macOS has: launchd, and no other.

func init() { supervisors = []supervisor{launchd{}} }
