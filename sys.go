package main

// This file is the door to the operating system: which service a daemon is, where that one listens and is
// configured, the environment, and waiting. What differs between systems is in the twins sys_unix.go and
// sys_windows.go: signals, directories, users, kinds of error. How a process is watched to its end is in those, or in
// sys_linux.go and sys_bsd.go. The system's databases of users and groups are in sys_users_unix.go, whom we trust with a path
// or a pipe in sys_trust_unix.go and sys_trust_windows.go, the lock of a socket in sys_lock_unix.go.

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// credential returns the file that the service manager has handed over under a name, in place of one that this process may not be
// able to read; empty if there is none. It is nil on systems where no service manager does.
var credential func(name string) string

// An instance names the service that a daemon runs as. The zero value is none: a daemon that somebody
// has started in a terminal.
type instance struct {
	name string
	user bool // the user's own service, from login to logout, not the system's
}

// endpoint is where it listens by default.
func (i instance) endpoint() (endpoint, error) {
	switch {
	case i.name == "":
		return defaultEndpoint()
	case i.user:
		return userEndpoint(i.name)
	}
	return serviceEndpoint(i.name), nil
}

// configFile is where its configuration is looked for; empty if there is no such place.
func (i instance) configFile() string {
	switch {
	case i.name != "" && i.user:
		return userConfigFile(i.name)
	case i.name != "":
		return serviceConfigFile(i.name)
	case areMaster():
		return serviceConfigFile(defaultName)
	}
	return userConfigFile(defaultName)
}

// stateDir is where it keeps what must outlive it. Commands find the same place, in an environment of their own. The directory
// need not exist.
func (i instance) stateDir() (string, error) {
	switch {
	case i.name == "":
		return stateDir()
	case i.user:
		return userStateDir(i.name)
	}
	return serviceStateDir(i.name)
}

// flags returns the flags that name the service to a command, for a hint; each begins with a space.
func (i instance) flags() string {
	text := ""
	if i.name != defaultName {
		text += " --name " + i.name
	}
	return text + i.scope()
}

// scope returns the flag of a service of the user's own, for a hint; it begins with a space.
func (i instance) scope() string {
	if i.user {
		return " --user"
	}
	return ""
}

// defaultName is the name of the service, and of its files, unless --name says otherwise.
const defaultName = "ipcd"

const maxName = 32 // characters of a service's name: it is part of paths, and a socket's path has about 100 bytes

// isInstanceName reports whether a service may have this name: [a-z][a-z0-9_-]{0,31} is what every service
// manager takes, and a plain file name everywhere.
func isInstanceName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for i, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-')) {
			return false
		}
	}
	return true
}

// ownService is the service that speaks for the daemon; others cannot use its codes.
const ownService = "Ipcd"

// isServiceName reports whether name can stand before the dot in every protocol and shell.
func isServiceName(name string) bool {
	if len(name) == 0 || len(name) > 64 {
		return false
	}
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r != '_' && (r < '0' || r > '9')) {
			return false
		}
	}
	return true
}

// A userEntry is a user as the system knows it.
type userEntry struct {
	name     string
	uid, gid int // -1 on a system that has none
	comment  string
	home     string
}

// toolPath finds a tool of the system even if $PATH has no sbin, as on some systems a user's has not, or is not set. A
// name that is found nowhere is returned as it is.
func toolPath(name string) string {
	if _, err := exec.LookPath(name); err == nil {
		return name
	}
	for _, dir := range []string{"/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"} {
		if _, err := exec.LookPath(dir + name); err == nil {
			return dir + name
		}
	}
	return name
}

// ownEnviron are the environment variables that are meant for one process, not for its children: sd_notify(3),
// sd_watchdog_enabled(3) and sd_listen_fds(3).
var ownEnviron = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"}

// hangupVariable tells the next program in this process that SIGHUP is ignored until it handles that, and meant something before: it has
// the number of the process, and a word if a closed terminal was to stop the daemon.
const hangupVariable = ownPrefix + "HANGUP"

// holdHangups sets the variable.
func holdHangups(terminal bool) {
	text := strconv.Itoa(os.Getpid())
	if terminal {
		text += " terminal"
	}
	os.Setenv(hangupVariable, text)
}

// heldHangups reports whether the program before us in this process has set the variable, and with a terminal.
func heldHangups() (held, terminal bool) {
	pid, word, _ := strings.Cut(os.Getenv(hangupVariable), " ")
	held = pid == strconv.Itoa(os.Getpid())
	return held, held && word != ""
}

// The variables by which a child learns of the channel that it has inherited.
const (
	channelFD   = "NODE_CHANNEL_FD" // the number of the descriptor, for Node.js
	channelMode = "NODE_CHANNEL_SERIALIZATION_MODE"
	ownFD       = ownPrefix + "CHANNEL_FD"   // that number, for everybody else on Unix
	ownPipe     = ownPrefix + "CHANNEL_PIPE" // and on Windows the name of a pipe, which can be opened once
)

const ownPrefix = "IPCD_" // of the variables that are our settings, such as an endpoint that would make a child call itself

// channelVariables name the channel of a child to it.
var channelVariables = []string{channelFD, channelMode, ownFD, ownPipe}

// childEnviron returns the environment for a child: ours without what is meant for us, and without the variables names.
// It ignores case, as Windows does.
func childEnviron(names ...string) []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasPrefix(strings.ToUpper(name), ownPrefix) || isOneOf(name, ownEnviron) || isOneOf(name, names)
	})
}

// isOneOf reports whether names has a variable of the environment. It ignores case.
func isOneOf(name string, names []string) bool {
	return slices.ContainsFunc(names, func(other string) bool { return strings.EqualFold(name, other) })
}

// tryWrite writes to a descriptor that does not block, as much as there is room for; nil where there is no such thing.
var tryWrite func(fd uintptr, b []byte) (n int, err error)

// usageOf returns the memory of a process, in bytes, and the time that it has computed; nil where the system does not tell.
var usageOf func(pid int) (memory uint64, cpu time.Duration)

// programOf returns the path of the program that a process runs; replaced says that another file is there by now. It is nil where the
// system does not tell.
var programOf func(pid int) (path string, replaced bool, err error)

// stderrOf returns what a process has as its standard error: a file, a terminal, or what the system calls anything else. It is nil
// where the system does not tell.
var stderrOf func(pid int) (string, error)

// processFigures are what the system says of this process. What it does not tell is 0.
type processFigures struct {
	resident       int64 // bytes
	open, mostOpen int   // descriptors
}

// figuresOfProcess returns them; nil where the system tells nothing.
var figuresOfProcess func() processFigures

// The variables by which a daemon knows what its workers have started: the endpoint that it serves, and the daemon itself as
// lifeOf names it.
const (
	markEndpoint = ownPrefix + "DAEMON"
	markProcess  = ownPrefix + "DAEMON_PROCESS"
)

// A system that tells the environment of other processes has both of these; elsewhere both are nil.
var (
	// lifeOf names a process as no other will be named while the system runs: its number, and when it began. It is empty once the
	// process has ended, even if its parent has not taken note.
	lifeOf func(pid int) string
	// endLeft kills the processes whose markEndpoint is this and whose markProcess has ended, and returns how many.
	endLeft func(endpoint string) (ended int)
)

// again calls try until it is done or ctx ends, and at least once. In between it pauses: for first, then twice
// as long each time, up to most. It returns what the last call of try returned: if done is false, ctx has
// ended (ctx.Err says how), and err is what try was still waiting out.
func again(ctx context.Context, first, most time.Duration, try func() (done bool, err error)) (done bool, err error) {
	for pause := first; ; pause = min(2*pause, most) {
		if done, err = try(); done {
			return true, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false, err
		}
	}
}

// programExitCode returns the exit code of a program that has ended, or what a shell makes of the signal that ended it.
func programExitCode(p *os.ProcessState) int {
	if status, ok := p.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.ExitCode()
}

// sameFile reports whether two names are of one file, which is there.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// systemMemory returns how much memory the system lets the daemon have, 0 if it does not say. It is nil where that cannot be found
// out.
var systemMemory func() int64
