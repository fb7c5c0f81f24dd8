package main

// This file owns the overseer of a daemon that no service manager has started: in a terminal, in a container,
// or in the background of a client. Signals stop it, it logs to stderr, and nobody watches it.

import (
	"io"
	"os"
	"os/signal"
	"slices"
	"time"
)

// A foreground handles signals and logs to stderr. On Unix a notifier embeds it.
type foreground struct {
	stderr       io.Writer
	stop, reload chan os.Signal
	log          *logger // nil until the settings have been read
}

// newForeground starts to catch signals. In a service those that ask for a reload do not stop it. The caller
// has to call close.
func newForeground(who instance, stderr io.Writer) *foreground {
	f := &foreground{stderr: stderr, stop: make(chan os.Signal, 2), reload: make(chan os.Signal, 1)}
	stop := stopSignals
	if who.name != "" && len(reloadSignals) > 0 { // with no signals, Notify would relay all
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
