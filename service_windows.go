package main

// This file owns what a service needs of Windows before it is installed: who may, who may change the
// program of the service and its configuration, and one installation at a time.
// Its twin is service_unix.go.

import "context"

const copyPlace = `C:\Program Files\ipcd\ipcd.exe`

func noServices() *fault { return faultf(codeApplication, "services of Windows come next") }

func checkRights(user bool) error                                 { return noServices() }
func checkProgram(d *deployment) error                            { return noServices() }
func checkCopy(d *deployment) error                               { return noServices() }
func checkServiceConfig(d *deployment) error                      { return noServices() }
func copyPlaceFor(user bool) string                               { return copyPlace }
func lockServices(ctx context.Context, user bool) (func(), error) { return nil, noServices() }
