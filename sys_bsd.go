//go:build darwin || freebsd

package main

// This file owns the directories in which services live on macOS and FreeBSD, see hier(7), and how a process is watched there.

import "golang.org/x/sys/unix"

const (
	runDir      = "/var/run"         // of the sockets of services
	varDir      = "/var/db"          // of the state of services
	groupRunDir = "/private/var/run" // macOS's runDir, writable by a group; FreeBSD has no such directory
	etcDir      = "/usr/local/etc"   // of the configuration of services that did not come with the system
)

// isZombie does not ask these systems, whose lists of processes are read in other ways: a daemon that was killed and whose
// parent takes no note is then called busy for a moment longer.
func isZombie(int) bool { return false }

// watchProcess returns what tells whether a process has ended, by EVFILT_PROC of kqueue(2). It fails if that cannot be seen;
// otherwise release has to be called in the end.
func watchProcess(pid int) (ended func() bool, release func(), err error) {
	queue, err := unix.Kqueue()
	if err != nil {
		return nil, nil, err
	}
	unix.CloseOnExec(queue)
	exit := make([]unix.Kevent_t, 1)
	unix.SetKevent(&exit[0], pid, unix.EVFILT_PROC, unix.EV_ADD)
	exit[0].Fflags = unix.NOTE_EXIT
	if _, err := unix.Kevent(queue, exit, nil, nil); err != nil {
		unix.Close(queue)
		return nil, nil, err
	}
	over := false // the system says it once
	return func() bool {
		n, _ := unix.Kevent(queue, nil, exit, &unix.Timespec{})
		over = over || n > 0
		return over
	}, func() { unix.Close(queue) }, nil
}

func init() {
	figuresOfProcess = func() processFigures { return processFigures{mostOpen: mostDescriptors()} }
}
