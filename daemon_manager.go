package main

// This file owns what a daemon tells its service manager of itself: sd_notify(3). It is the only one
// that knows go-systemd's daemon. Where $NOTIFY_SOCKET names no manager, nothing is told.

import (
	"context"
	"net"
	"strings"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
)

// A herald tells the service manager how the daemon is. It forgets nothing that has to be told once,
// and does not repeat itself.
type herald struct {
	log  *logger
	last string // the status that the manager knows
}

func (h *herald) tell(lines ...string) {
	if _, err := sdnotify.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		h.log.warn("the service manager was not told how the daemon is", "error", err)
	}
}

func statusLine(status string) string { return "STATUS=" + shorten(oneLine(status), maxStatus) }

const maxStatus = 1 << 10 // bytes; "systemctl status" shows a line

// ready says that every endpoint listens, or that the settings have been read again.
func (h *herald) ready(status string) {
	h.last = status
	h.tell(sdnotify.SdNotifyReady, statusLine(status))
}

func (h *herald) status(status string) {
	if status != h.last {
		h.last = status
		h.tell(statusLine(status))
	}
}

// reloading says when, since a manager that has asked for it has to tell an old answer from a new one.
func (h *herald) reloading() {
	h.tell(sdnotify.SdNotifyReloading, strings.TrimSpace(sdnotify.SdNotifyMonotonicUsec()), statusLine("reading the settings again"))
}

func (h *herald) stopping() {
	h.tell(sdnotify.SdNotifyStopping, statusLine("stopping: calls in flight may finish"))
}

func (h *herald) alive() { h.tell(sdnotify.SdNotifyWatchdog) }

// watchItself calls the daemon as its clients do, three times in the interval that the service
// manager has set, and tells the manager of each answer that came in time. Where none comes any
// more, the manager ends the daemon and starts another one: sd_watchdog_enabled(3).
func (s *server) watchItself(ctx context.Context, h *herald) {
	interval, err := sdnotify.SdWatchdogEnabled(false)
	if err != nil {
		s.log.warn("the watchdog of the service manager was not understood", "error", err)
	}
	if interval <= 0 {
		return
	}
	every := interval / 3
	s.wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			err := s.callItself(ctx, every)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				h.alive()
			default:
				s.log.error("the daemon does not answer itself in time; the service manager is not told that it is well", "error", err, "max", every)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

// callItself calls Ipcd.Ping by a connection in memory: through detection, codec, session and router,
// and the locks on the way. It counts neither as a connection, which would keep the daemon from being
// idle, nor as a call.
func (s *server) callItself(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ours, theirs := net.Pipe()
	s.wg.Go(func() {
		defer theirs.Close()
		s.attend(theirs)
	})
	in := newInput(ours, *s.limits())
	c := newClient(endpoint{Scheme: "fork", Proto: protoAuto, Command: []string{"itself"}}, ours, newJSONCodec(in, *s.limits(), framingValue), in, *s.limits())
	defer c.close()
	err := c.call(ctx, "Ipcd.Ping", nil, nil)
	if err == nil {
		s.counts.calls.Add(-1)
	}
	return err
}

// notices are what they tell each other. The zero value is for a daemon that no manager has started:
// nobody wants to hear, and nothing is heard.
type notices struct {
	ready     func()                     // every endpoint listens
	stopping  func()                     // calls in flight may finish, new ones are refused
	reload    <-chan struct{}            // read the settings again
	inForce   func(set settings)         // settings with which the daemon goes on
	log       func(set settings) *logger // where to log; whoever gave it closes it. With nil it is stderr
	noSignals bool                       // the manager stops us by ctx alone, and signals mean something else
}

// tell calls a function that may be nil.
func tell(f func()) {
	if f != nil {
		f()
	}
}

// underManager runs serve as the service of that name for the manager that has started this process, and
// without one as in a terminal. It is nil where nothing has to be done to be a service.
var underManager func(ctx context.Context, name string, serve func(context.Context, notices) error) error
