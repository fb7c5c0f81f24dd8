package main

// This file owns the overseer of a daemon in a terminal, in a container or in the background: signals stop
// it, it logs to stderr, and nobody asks how it is.

import (
	"io"
	"os"
	"os/signal"
	"slices"
	"time"
)

// A foreground is that overseer, and on Unix a part of the one that speaks to service managers.
type foreground struct {
	stderr       io.Writer
	stop, reload chan os.Signal
	log          *logger // nil until the daemon has settings
}

// newForeground takes the signals from here on. A service does not stop at those that have it read its
// settings again. Whoever calls it calls close.
func newForeground(who instance, stderr io.Writer) *foreground {
	f := &foreground{stderr: stderr, stop: make(chan os.Signal, 2), reload: make(chan os.Signal, 1)}
	stop := stopSignals
	if who.name != "" && len(reloadSignals) > 0 { // Notify takes none for all
		stop = slices.DeleteFunc(slices.Clone(stop), func(s os.Signal) bool { return slices.Contains(reloadSignals, s) })
		signal.Notify(f.reload, reloadSignals...)
	}
	signal.Notify(f.stop, stop...)
	return f
}

func (f *foreground) close() {
	signal.Stop(f.stop)
	signal.Stop(f.reload)
	f.log.close()
}

func (f *foreground) logger(set settings) *logger {
	f.log = newLogger(f.stderr, set.LogFormat, set.LogLevel)
	return f.log
}

func (f *foreground) prepare(old, now settings) (commit func(), err error) { return func() {}, nil }

func (f *foreground) stops() <-chan os.Signal   { return f.stop }
func (f *foreground) reloads() <-chan os.Signal { return f.reload }
func (f *foreground) watchdog() time.Duration   { return 0 }

func (f *foreground) ready(string)  {}
func (f *foreground) status(string) {}
func (f *foreground) reloading()    {}
func (f *foreground) stopping()     {}
func (f *foreground) alive()        {}
