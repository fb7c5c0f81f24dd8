//go:build unix

package main

// This file owns the overseer that speaks sd_notify(3), as systemd does and managers after its example. It is
// the only one that knows go-systemd's daemon. Where $NOTIFY_SOCKET names no manager, it says nothing. Its
// twin is daemon_scm_windows.go.

import (
	"context"
	"io"
	"strings"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
)

const maxStatus = 1 << 10 // bytes; "systemctl status" shows a line

// oversee runs serve with the overseer of this process.
func oversee(ctx context.Context, who instance, stderr io.Writer, serve func(context.Context, overseer) error) error {
	if who.name != "" {
		crashAsSignal()
	}
	n := &notifier{foreground: newForeground(who, stderr)}
	defer n.close()
	return serve(ctx, n)
}

// A notifier is a foreground that says how the daemon is.
type notifier struct {
	*foreground
	last string // the status that the manager knows
}

func (n *notifier) notify(lines ...string) {
	if _, err := sdnotify.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		n.log.warn("the service manager was not told how the daemon is", "error", err)
	}
}

func statusLine(text string) string { return "STATUS=" + shorten(oneLine(text), maxStatus) }

func (n *notifier) ready(status string) {
	n.last = status
	n.notify(sdnotify.SdNotifyReady, statusLine(status))
}

// status does not repeat itself.
func (n *notifier) status(text string) {
	if text != n.last {
		n.last = text
		n.notify(statusLine(text))
	}
}

// reloading gives the time: a manager that has asked for the reload has to tell this answer from an old one.
func (n *notifier) reloading() {
	n.notify(sdnotify.SdNotifyReloading, strings.TrimSpace(sdnotify.SdNotifyMonotonicUsec()), statusLine("reading the settings again"))
}

func (n *notifier) stopping() {
	n.notify(sdnotify.SdNotifyStopping, statusLine("stopping: calls in flight may finish"))
}

func (n *notifier) alive() { n.notify(sdnotify.SdNotifyWatchdog) }

// watchdog is a third of the interval after which the manager takes the daemon for dead:
// sd_watchdog_enabled(3) advises half.
func (n *notifier) watchdog() time.Duration {
	interval, err := sdnotify.SdWatchdogEnabled(false)
	if err != nil {
		n.log.warn("the watchdog of the service manager was not understood", "error", err)
		return 0
	}
	return interval / 3
}
