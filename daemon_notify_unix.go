//go:build unix

package main

// This file owns the overseer for service managers that understand sd_notify(3), which are systemd and a few
// others. Without $NOTIFY_SOCKET it notifies nobody. No other file imports go-systemd's daemon package. Its
// twin is daemon_scm_windows.go.

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
)

const (
	maxStatus  = 1 << 10     // bytes; "systemctl status" shows one line
	noticeWait = time.Second // how long a manager that reads nothing may hold up the daemon, each time
)

// oversee calls serve with the overseer of this process. rereads says that there are settings to read again.
func oversee(ctx context.Context, who instance, rereads bool, stderr io.Writer, serve func(context.Context, overseer) error) error {
	if who.name != "" {
		crashAsSignal()
	}
	n := &notifier{foreground: newForeground(rereads, stderr)}
	defer n.close()
	return serve(ctx, n)
}

// A notifier is a foreground that reports the daemon's state to a service manager.
type notifier struct {
	*foreground
	last string // the last status that was sent
	owed bool   // the manager has yet to hear that the daemon is ready
}

// notify reports whether the manager has been told. SdNotify of go-systemd waits without end for one that does not read.
func (n *notifier) notify(lines ...string) bool {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return true
	}
	conn, err := net.Dial("unixgram", path)
	if err == nil {
		defer conn.Close()
		conn.SetWriteDeadline(time.Now().Add(noticeWait))
		_, err = io.WriteString(conn, strings.Join(lines, "\n"))
	}
	if err != nil {
		n.log.warn("the service manager could not be notified", "error", err)
	}
	return err == nil
}

func statusLine(text string) string { return "STATUS=" + shorten(oneLine(text), maxStatus) }

func (n *notifier) ready(status string) {
	n.last = status
	n.owed = !n.notify(sdnotify.SdNotifyReady, statusLine(status))
}

// status sends text unless it is the same as the last time.
func (n *notifier) status(text string) {
	switch {
	case n.owed: // a manager ends what does not get ready
		n.ready(text)
	case text != n.last:
		n.last = text
		n.notify(statusLine(text))
	}
}

// reloading sends the time as well, by which the manager knows that this is the reload it asked for: see
// RELOADING=1 in sd_notify(3).
func (n *notifier) reloading() {
	n.notify(sdnotify.SdNotifyReloading, strings.TrimSpace(sdnotify.SdNotifyMonotonicUsec()), statusLine("reading the settings again"))
}

// restarting says that the daemon will be ready again, as the next program in this process.
func (n *notifier) restarting() {
	n.notify(sdnotify.SdNotifyReloading, strings.TrimSpace(sdnotify.SdNotifyMonotonicUsec()), statusLine("restarting: calls in flight may finish"))
}

func (n *notifier) stopping() {
	n.notify(sdnotify.SdNotifyStopping, statusLine("stopping: calls in flight may finish"))
}

func (n *notifier) alive() { n.notify(sdnotify.SdNotifyWatchdog) }

// watchdog returns a third of the time after which the manager takes a silent daemon for dead.
// sd_watchdog_enabled(3) recommends half.
func (n *notifier) watchdog() time.Duration {
	interval, err := sdnotify.SdWatchdogEnabled(false)
	if err != nil {
		n.log.warn("the watchdog interval of the service manager is invalid", "error", err)
		return 0
	}
	return interval / 3
}
