package main

// This file owns which service managers Linux may have. One that is installed beside another is
// told by what has brought the system up; SysV's scripts, which every manager can run, are none.

func init() { supervisors = []supervisor{systemd{}, openRC{}} }

// copyPlace is where --copy-to puts the program unless it is told.
const copyPlace = "/usr/local/bin/ipcd"
