package main

// This file is the local transport on Windows: named pipes, who may use them, and who is at the other end. Whom
// we trust with one is in sys_trust_windows.go. Its twin is pipe_unix.go.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

func init() {
	addTransport("npipe", transport{listen: listenPipe, dial: dialPipe, identify: identifyPipe, server: serverPipe, serves: servesPipe, inspect: inspectPipe})
	addTransport("unix", transport{lacking: noSockets})
}

// noSockets refuses Unix sockets. Windows has them, but nothing like SO_PEERCRED to go with them.
func noSockets(e endpoint) *fault {
	return usagef("the endpoint %s is a Unix socket, whose callers Windows does not name; it has named pipes instead", e).
		withHint("use a pipe here: %s", serviceEndpoint(defaultName))
}

// A pipeListener is a named pipe that we serve.
type pipeListener struct {
	net.Listener
	endpoint endpoint
	closing  context.Context // ends with Close; ends the wait for callers that are not identified yet
	close    context.CancelFunc
}

func (l *pipeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &pipeConn{Conn: conn, closing: l.closing}, nil
}

func (l *pipeListener) Close() error {
	l.close()
	return l.Listener.Close()
}

// openTo opens the pipe to another audience than before, or to none. All instances of a pipe share
// one security descriptor. go-winio does not give us its handles, so we connect to get one.
func (l *pipeListener) openTo(to audience) error {
	own, err := ownPeer()
	if err != nil {
		return err
	}
	sd, err := windows.SecurityDescriptorFromString(pipeSecurity(l.endpoint, own, to))
	if err != nil {
		return err
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(l.closing, takenPatience)
	defer cancel()
	conn, err := winio.DialPipeAccessImpLevel(ctx, l.endpoint.Path, windows.READ_CONTROL|windows.WRITE_DAC, winio.PipeImpLevelIdentification)
	if err != nil {
		return err
	}
	defer conn.Close()
	return windows.SetSecurityInfo(handleOf(conn), windows.SE_KERNEL_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil)
}

// A pipeConn is a connection from which the first bytes may have been read already, see identifyPipe.
type pipeConn struct {
	net.Conn
	closing context.Context
	first   []byte // read from Conn, and not yet by our reader
}

func (c *pipeConn) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// privateEndpoint returns a local endpoint for whoever has a directory of their own, by whose name nobody else calls theirs.
func privateEndpoint(dir, name string) endpoint {
	return endpoint{Scheme: "npipe", Path: pipePrefix + filepath.Base(dir) + "-" + name, Proto: protoAuto}
}

// listenPipe listens on the pipe e.Path. The first instance of a pipe decides who may create others and who may
// connect, and go-winio creates the first one or fails. So there is no need of a lock file, and a daemon that
// was killed leaves nothing behind.
func listenPipe(e endpoint, to audience) (net.Listener, error) {
	own, err := ownPeer()
	if err != nil {
		return nil, listenFault(e, "%w", err)
	}
	// A stream of bytes, as on every other transport; go-winio always rejects remote clients.
	config := &winio.PipeConfig{
		SecurityDescriptor: pipeSecurity(e, own, to),
		InputBufferSize:    pipeBuffer,
		OutputBufferSize:   pipeBuffer,
	}
	ctx, cancel := context.WithTimeout(context.Background(), leftPatience)
	defer cancel()
	var l net.Listener
	_, err = again(ctx, leftLook, leftLook, func() (bool, error) {
		var err error
		l, err = winio.ListenPipe(e.Path, config)
		return !isAny(err, windows.ERROR_ACCESS_DENIED) || !isLeft(e), err
	})
	switch {
	case err == nil:
		closing, cancel := context.WithCancel(context.Background())
		return &pipeListener{Listener: l, endpoint: e, closing: closing, close: cancel}, nil
	case isAny(err, windows.ERROR_ACCESS_DENIED, windows.ERROR_PIPE_BUSY, windows.ERROR_ALREADY_EXISTS, windows.ERROR_FILE_EXISTS):
		// Windows says that access is denied if the name is taken.
		return nil, pipeTaken(e, own)
	case isAny(err, windows.ERROR_INVALID_NAME, windows.ERROR_PATH_NOT_FOUND, windows.ERROR_BAD_PATHNAME):
		return nil, listenFault(e, "no pipe can have that name: %w", err).withHint("choose a name such as %s", serviceEndpoint(defaultName))
	}
	return nil, listenFault(e, "%w", err).withHint("name another endpoint with --listen")
}

const (
	leftPatience = 3 * time.Second // for callers of a daemon that has ended to notice and close
	leftLook     = 20 * time.Millisecond
)

// isLeft reports whether nobody serves the pipe. If its name is taken all the same, a caller of a daemon that has
// ended has not closed its end yet: "An instance of a named pipe is always deleted when the last handle to the
// instance of the named pipe is closed" ("CreateNamedPipeW function"), and that may be the caller's.
func isLeft(e endpoint) bool {
	ctx, cancel := context.WithTimeout(context.Background(), takenPatience)
	defer cancel()
	conn, err := winio.DialPipeAccessImpLevel(ctx, e.Path, windows.GENERIC_READ, winio.PipeImpLevelIdentification)
	if err == nil {
		conn.Close()
	}
	return isAny(err, windows.ERROR_FILE_NOT_FOUND)
}

const pipeBuffer = 64 << 10 // bytes that a pipe holds each way, about as many as a socket does

// pipeTaken says who serves the pipe.
func pipeTaken(e endpoint, own peer) error {
	ctx, cancel := context.WithTimeout(context.Background(), takenPatience)
	defer cancel()
	conn, err := winio.DialPipeAccessImpLevel(ctx, e.Path, windows.GENERIC_READ, winio.PipeImpLevelIdentification)
	switch {
	case isAny(err, windows.ERROR_FILE_NOT_FOUND): // see isLeft
		return listenFault(e, "a caller of a daemon that has ended still has it open").withHint("end that program, or name another endpoint with --listen")
	case err != nil:
		return listenFault(e, "another program serves it").withHint("name another endpoint with --listen")
	}
	defer conn.Close()
	var pid uint32
	if err := windows.GetNamedPipeServerProcessId(handleOf(conn), &pid); err != nil {
		return listenFault(e, "another program serves it").withHint("name another endpoint with --listen")
	}
	return listenFault(e, "it is held by pid %d%s", pid, startOf(pid)).
		withHint("call it, stop it (%s), or name another endpoint with --listen", endLine(int(pid)))
}

const takenPatience = 300 * time.Millisecond // for whoever serves the pipe, ourselves included, to accept a connection that only looks

// startOf says when a process began, for people; nothing if we may not ask.
func startOf(pid uint32) string {
	began, err := processStart(pid)
	if err != nil {
		return ""
	}
	return " since " + began.Format(time.DateTime)
}

// processStart returns when a process began.
func processStart(pid uint32) (time.Time, error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return time.Time{}, err
	}
	defer windows.CloseHandle(h)
	var began, ended, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &began, &ended, &kernel, &user); err != nil {
		return time.Time{}, err
	}
	return time.Unix(0, began.Nanoseconds()), nil
}

// handleOf returns the handle of a connection of go-winio.
func handleOf(conn net.Conn) windows.Handle {
	if c, ok := conn.(*pipeConn); ok {
		conn = c.Conn
	}
	if f, ok := conn.(interface{ Fd() uintptr }); ok {
		return windows.Handle(f.Fd())
	}
	return windows.InvalidHandle
}

// dialPatience is how long to keep trying while a daemon is busy; --wait makes it longer.
const dialPatience = 900 * time.Millisecond

// dialPipe connects to the pipe e.Path and makes sure who serves it. The daemon learns who we are and no more: at
// Identification level it cannot act as us.
func dialPipe(ctx context.Context, e endpoint, _ dialOptions) (net.Conn, error) {
	conn, err := openPipe(ctx, e)
	if name, ok := pipeService(e); ok && mayComeBack(ctx, err) {
		awaitService(ctx, func() (windows.SERVICE_STATUS_PROCESS, error) { return askService(name) }, func() bool {
			conn, err = openPipe(ctx, e)
			return mayComeBack(ctx, err)
		})
	}
	if err != nil {
		return nil, dialPipeFault(ctx, e, err)
	}
	if err := checkPipeOwner(e, handleOf(conn)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func openPipe(ctx context.Context, e endpoint) (net.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	return winio.DialPipeAccessImpLevel(limited, e.Path, rightsCall, winio.PipeImpLevelIdentification)
}

const (
	restartPatience = 5 * time.Second       // for the next pipe of a service that restarts; --wait makes it longer, --timeout shorter
	restartLook     = 50 * time.Millisecond // between two looks at it
	restartLooks    = 10                    // at a service that is stopped, for who restarts it to start it
)

// mayComeBack reports whether there may be a pipe in a moment: there is none, or one of a daemon that accepts nobody any more,
// as while it finishes its calls.
func mayComeBack(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (isTimeout(err) || isAny(err, windows.ERROR_FILE_NOT_FOUND, windows.ERROR_PIPE_BUSY, windows.ERROR_SEM_TIMEOUT))
}

// awaitService calls try until it reports false, for no longer than restartPatience and while the service is being stopped or
// started. Nobody waits for one that is stopped, or not installed, unless it has been seen to stop just now; nor for one that
// runs: it says so once it listens, and if that is somewhere else, one more try shows it. A client that looks in
// the very instant between the stop and the start of a restart is told that nobody is there.
func awaitService(ctx context.Context, look func() (windows.SERVICE_STATUS_PROCESS, error), try func() (more bool)) {
	ctx, cancel := context.WithTimeout(ctx, restartPatience)
	defer cancel()
	changes, stopped := false, 0
	again(ctx, restartLook, restartLook, func() (done bool, err error) {
		status, err := look()
		if err != nil {
			return true, err
		}
		switch status.CurrentState {
		case windows.SERVICE_START_PENDING, windows.SERVICE_STOP_PENDING:
			changes, stopped = true, 0
		case windows.SERVICE_RUNNING:
			try()
			return true, nil
		default:
			if stopped++; !changes || stopped > restartLooks {
				return true, nil
			}
		}
		return !try(), nil
	})
}

// serverPipe returns the owner of the pipe, which is whoever may serve it; see checkPipeOwner.
func serverPipe(conn net.Conn) (peer, error) {
	p := peer{Transport: "npipe", UID: -1, GID: -1}
	sd, err := windows.GetSecurityInfo(handleOf(conn), windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return p, err
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return p, err
	}
	var pid uint32
	if windows.GetNamedPipeServerProcessId(handleOf(conn), &pid) == nil {
		p.PID = int(pid)
	}
	p.Known, p.SID, p.User = true, owner.String(), accountName(owner)
	return p, nil
}

// servesPipe reports whether this process serves the pipe.
func servesPipe(conn net.Conn, pid int) bool {
	var server uint32
	return windows.GetNamedPipeServerProcessId(handleOf(conn), &server) == nil && server == uint32(pid)
}

// whosePipe says whose the pipe is, for somebody who may not open it, and so cannot ask the pipe. But its name
// contains the SID of a user, or is that of a service, which the system knows.
func whosePipe(e endpoint) string {
	if i := strings.LastIndex(e.Path, "-S-1-"); i >= 0 {
		if sid, err := windows.StringToSid(e.Path[i+1:]); err == nil {
			return ": it is that of " + peer{Known: true, SID: sid.String(), User: accountName(sid)}.who()
		}
	}
	name, ok := pipeService(e)
	if !ok {
		return ""
	}
	status, err := askService(name)
	switch {
	case err != nil:
		return ""
	case status.ProcessId == 0:
		return fmt.Sprintf(": another program than the service %s has it, which is stopped", name)
	}
	return fmt.Sprintf(": it is that of the service %s (pid %d)", name, status.ProcessId)
}

// dialPipeFault says why the connection failed and what can be done about it.
func dialPipeFault(ctx context.Context, e endpoint, err error) *fault {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return asFault(ctx.Err())
	case isAny(err, windows.ERROR_FILE_NOT_FOUND):
		return dialFault(err, "no daemon at %s", e).withHint("%s, or name another endpoint with -e", startHint("start one with", e))
	case isAny(err, windows.ERROR_ACCESS_DENIED):
		return dialFault(err, "no permission for %s%s", e, whosePipe(e)).
			withHint(`call as the user who runs that daemon, have it let a group of yours call (--allow-group), or start one of your own with "ipcd run"`)
	case isAny(err, windows.ERROR_PIPE_BUSY, windows.ERROR_SEM_TIMEOUT), errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return dialFault(err, "the daemon at %s is busy: it accepts no connection now", e).withHint("try again; --wait 5s does it for you")
	}
	return dialFault(err, "cannot reach %s: %v", e, err).withHint("name another endpoint with -e")
}

// identifyPipe asks the kernel who the caller is. Until something has been read, the answer is "Unable to impersonate
// using a named pipe until data has been read from that pipe"; so the first bytes are read here, and kept for
// whoever reads next.
func identifyPipe(conn net.Conn, wait time.Duration) (peer, error) {
	p := peer{Transport: "npipe", UID: -1, GID: -1}
	c, ok := conn.(*pipeConn)
	if !ok {
		return p, fmt.Errorf("a %T is no pipe", conn)
	}
	if err := c.readFirst(wait); err != nil {
		return p, fmt.Errorf("wait for the first bytes of the caller: %w", err)
	}
	var pid uint32
	if windows.GetNamedPipeClientProcessId(handleOf(c), &pid) == nil {
		p.PID = int(pid)
	}
	done := make(chan error)
	go func() { done <- p.impersonate(handleOf(c)) }()
	if err := <-done; err != nil {
		return p, fmt.Errorf("ask who is at the other end: %w", err)
	}
	p.Known = true
	return p, nil
}

// readFirst reads the first bytes of the caller into c.first, unless the listener closes before they come.
func (c *pipeConn) readFirst(wait time.Duration) error {
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(c.closing, func() {
		defer close(closed)
		c.SetReadDeadline(time.Now().Add(closingPatience))
	})
	buf := make([]byte, inputFirst)
	n, err := c.Conn.Read(buf)
	if !stop() {
		<-closed
		if isTimeout(err) {
			return net.ErrClosed
		}
	}
	if err != nil {
		return err
	}
	c.first = buf[:n]
	return c.SetReadDeadline(time.Time{})
}

const (
	inputFirst      = 512         // bytes of a small call; the rest waits in the pipe
	closingPatience = time.Second // for a caller who has just connected to speak, after the listener closes: as session.go has it
)

var impersonateNamedPipeClient = windows.NewLazySystemDLL("advapi32.dll").NewProc("ImpersonateNamedPipeClient")

// impersonate takes on the identity of the caller for as long as it takes to read its token. It must run in a
// goroutine of its own: a thread that cannot be given back its own identity ends with that goroutine.
func (p *peer) impersonate(pipe windows.Handle) (err error) {
	runtime.LockOSThread()
	if ok, _, err := impersonateNamedPipeClient.Call(uintptr(pipe)); ok == 0 {
		runtime.UnlockOSThread()
		return os.NewSyscallError("ImpersonateNamedPipeClient", err)
	}
	var token windows.Token
	err = windows.OpenThreadToken(windows.CurrentThread(), windows.TOKEN_QUERY, true, &token)
	if err := windows.RevertToSelf(); err != nil {
		return os.NewSyscallError("RevertToSelf", err)
	}
	runtime.UnlockOSThread()
	if err != nil {
		return os.NewSyscallError("OpenThreadToken", err)
	}
	defer token.Close()
	return p.describe(token)
}

// peerGone reports, after the end of the input, whether the peer has closed the connection. It has, unless that is
// TCP: a pipe cannot be closed in one direction alone. The channel of a fork is a pipe as well.
func peerGone(conn net.Conn) bool {
	_, tcp := conn.LocalAddr().(*net.TCPAddr)
	return !tcp
}

// peerLeft is peerGone at any time.
func peerLeft(conn net.Conn) bool {
	info, err := pipeInfoOf(handleOf(conn))
	return err == nil && info.state != pipeConnected
}

// inputShut reports whether the peer has shut its sending side, whatever is still to be read. Nothing tells of TCP, and a pipe has no
// sides.
func inputShut(net.Conn) bool { return false }

// unread returns how many bytes conn has to read without waiting.
func unread(conn syscall.Conn) (n int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var info pipeInfo
	if e := raw.Control(func(fd uintptr) { info, err = pipeInfoOf(windows.Handle(fd)) }); e != nil {
		err = e
	}
	return int(info.bytesToRead), err
}
