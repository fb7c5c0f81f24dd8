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
	stopOn       []os.Signal    // those that stop it
	hangups      chan os.Signal // those that mean a reload, unless the terminal is gone; nil if they only stop
	mayStop      bool           // by a hangup, once the terminal is gone
	sorted       chan struct{}  // closed once all hangups are sorted into stop and reload
	log          *logger        // nil until the settings have been read
}

// newForeground starts to catch signals. If there is something to read again, those that ask for a reload do not stop
// the daemon, except that its terminal has been closed. The caller has to call close.
func newForeground(rereads bool, stderr io.Writer) *foreground {
	f := &foreground{stderr: stderr, stop: make(chan os.Signal, 2), reload: make(chan os.Signal, 1)}
	stop := stopSignals
	if rereads && len(reloadSignals) > 0 { // with no signals, Notify would relay all
		isReload := func(s os.Signal) bool { return slices.Contains(reloadSignals, s) }
		_, had := heldHangups()
		f.mayStop = slices.ContainsFunc(stop, isReload) && (had || hasTerminal())
		stop = slices.DeleteFunc(slices.Clone(stop), isReload)
		f.hangups, f.sorted = make(chan os.Signal, 1), make(chan struct{})
		signal.Notify(f.hangups, reloadSignals...)
		go f.sort()
		if had {
			f.lookForTerminal()
		}
	}
	os.Unsetenv(hangupVariable)
	f.stopOn = stop
	signal.Notify(f.stop, stop...)
	return f
}

// sort passes on the hangups until close.
func (f *foreground) sort() {
	defer close(f.sorted)
	for s := range f.hangups {
		to := f.reload
		if f.mayStop && !hasTerminal() {
			to = f.stop
		}
		select {
		case to <- s:
		default: // one waits already
		}
	}
}

// lookForTerminal stops the daemon if its terminal was closed while hangups were ignored.
func (f *foreground) lookForTerminal() {
	if f.mayStop && !hasTerminal() {
		select {
		case f.stop <- reloadSignals[0]:
		default:
		}
	}
}

func (f *foreground) close() {
	signal.Stop(f.stop)
	if f.hangups != nil {
		signal.Stop(f.hangups)
		close(f.hangups)
		<-f.sorted
	}
	f.log.close()
}

func (f *foreground) logger(set settings) *logger {
	f.log.close() // of an earlier daemon in this process
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
func (f *foreground) restarting()   {}
func (f *foreground) stopping()     {}
func (f *foreground) alive()        {}

// unguarded implements overseer. A signal that asks for a reload is ignored, by the next program, too, until that handles it: it may be
// lost, since whoever comes next reads the settings anyway. If it would also have told that the terminal was closed, the next program
// looks for that itself. What was ignored when we came, as under nohup(1), is ignored by the next program like that.
func (f *foreground) unguarded(do func() error) error {
	signal.Stop(f.stop)
	defer signal.Notify(f.stop, f.stopOn...)
	if f.hangups != nil {
		signal.Ignore(reloadSignals...)
		if slices.ContainsFunc(stopSignals, func(s os.Signal) bool { return slices.Contains(reloadSignals, s) }) {
			holdHangups(f.mayStop)
		}
		defer func() {
			os.Unsetenv(hangupVariable)
			signal.Notify(f.hangups, reloadSignals...)
			f.lookForTerminal()
		}()
	}
	select {
	case <-f.stop:
		return errAsked
	default:
		return do()
	}
}
