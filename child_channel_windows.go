package main

// This file is the Node.js IPC channel on Windows: a named pipe, of which the child inherits one
// end as an entry of a table of descriptors that the C runtime and libuv share. The frames on it
// are in child_frames.go. Its twin is child_channel_unix.go.

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

const (
	forkedFD = 3 // what Node's own fork gives

	// The table in STARTUPINFO.lpReserved2: a count, a byte of flags each, a handle each, all
	// without padding. See libuv, src/win/process-stdio.c, and lowio/osfinfo.cpp in Microsoft's CRT.
	fdOpen   = 0x01
	fdPipe   = 0x08
	fdDevice = 0x40

	fdCount      = 4 // the size of the count
	handleSize   = int(unsafe.Sizeof(windows.Handle(0)))
	handlesMost  = 2048     // that the table can hold: _NHANDLE_ in the CRT
	channelBytes = 64 << 10 // that wait in the pipe each way, as with libuv
)

// A startupInfo is STARTUPINFOEXW of processthreadsapi.h; x/sys has no names for the table.
type startupInfo struct {
	size       uint32
	_          *uint16
	_, _       *uint16 // desktop and title
	_          [7]uint32
	flags      uint32
	_          uint16 // how the window is shown
	tableSize  uint16
	table      *byte
	std        [3]windows.Handle
	attributes *windows.ProcThreadAttributeList
}

// openChannel opens the channel that this process has inherited from its parent.
func openChannel(l limits, log *logger) (*channel, error) {
	fd, err := givenChannel()
	if err != nil {
		return nil, err
	}
	h, err := inherited(inheritedTable(), fd)
	if err == nil {
		err = checkChannel(h)
	}
	if err != nil {
		return nil, noChannel(fd, err)
	}
	windows.SetHandleInformation(h, windows.HANDLE_FLAG_INHERIT, 0) // our children are given a list of handles at any rate
	conn, err := connOf(h)
	if err != nil {
		return nil, faultf(codeConnection, "take over the IPC channel: %w", err)
	}
	return newChannel(newFrames(conn, dropSocket), l, log), nil
}

// inheritedTable returns the table that we have inherited from our parent, or nil.
func inheritedTable() []byte {
	var si startupInfo
	windows.GetStartupInfo((*windows.StartupInfo)(unsafe.Pointer(&si)))
	if si.table == nil {
		return nil
	}
	return unsafe.Slice(si.table, si.tableSize) // it belongs to the process, and lives as long
}

// inherited returns the handle of a descriptor. Programs other than Node, such as Cygwin, put other data in place of
// the table; it does not begin with a count that fits.
func inherited(table []byte, fd int) (windows.Handle, error) {
	if len(table) < fdCount {
		return 0, errors.New("this process has inherited no descriptors")
	}
	n := binary.LittleEndian.Uint32(table)
	if n > handlesMost || len(table) < fdCount+int(n)*(1+handleSize) {
		return 0, errors.New("what this process has inherited is no table of descriptors")
	}
	if fd >= int(n) {
		return 0, fmt.Errorf("this process has inherited %d descriptors", n)
	}
	flags := table[fdCount+fd]
	at := table[fdCount+int(n)+fd*handleSize:]
	h := windows.Handle(binary.LittleEndian.Uint32(at))
	if handleSize == 8 {
		h = windows.Handle(binary.LittleEndian.Uint64(at))
	}
	switch {
	case flags&fdOpen == 0, h == windows.InvalidHandle, h == 0:
		return 0, errors.New("it is not open")
	case flags&fdPipe == 0:
		return 0, errors.New("it is no pipe")
	}
	return h, nil
}

// checkChannel makes sure that h is what Node creates, a named pipe that is open both ways; anything else
// is an unrelated file that has the same number.
func checkChannel(h windows.Handle) error {
	kind, err := windows.GetFileType(h)
	if err != nil {
		return err
	}
	if kind != windows.FILE_TYPE_PIPE {
		return errors.New("it is no pipe")
	}
	if err := windows.GetNamedPipeInfo(h, nil, nil, nil, nil); err != nil {
		return fmt.Errorf("it is no named pipe: %w", err)
	}
	const fileAccessInformation = 8 // its class in wdm.h
	var access uint32               // FILE_ACCESS_INFORMATION
	var status windows.IO_STATUS_BLOCK
	err = windows.NtQueryInformationFile(h, &status, (*byte)(unsafe.Pointer(&access)), uint32(unsafe.Sizeof(access)), fileAccessInformation)
	const both = windows.FILE_READ_DATA | windows.FILE_WRITE_DATA
	if err != nil || access&both != both {
		return errors.New("it is not open for reading and writing")
	}
	return nil
}

// A channelPipe is one end of the pipe.
type channelPipe struct{ *os.File }

// Read returns io.EOF once the other end is gone, whatever Windows calls that.
func (p channelPipe) Read(b []byte) (int, error) {
	n, err := p.File.Read(b)
	if isBrokenPipe(err) {
		err = io.EOF
	}
	return n, err
}

func (p channelPipe) LocalAddr() net.Addr  { return channelAddr{} }
func (p channelPipe) RemoteAddr() net.Addr { return channelAddr{} }

// channelAddr is the address of a channel, which has none.
type channelAddr struct{}

func (channelAddr) Network() string { return "fork" }
func (channelAddr) String() string  { return "channel" }

// connOf makes a connection from h, which it owns from now on.
func connOf(h windows.Handle) (net.Conn, error) {
	f := os.NewFile(uintptr(h), "channel")
	if err := f.SetDeadline(time.Time{}); err != nil { // os has asked the kernel
		f.Close()
		return nil, fmt.Errorf("the pipe is not open for overlapped I/O: %w", err)
	}
	return channelPipe{f}, nil
}

// startSockets initialises Winsock: nothing else in this process may have done so yet.
var startSockets = sync.OnceValue(func() error {
	var data windows.WSAData
	return windows.WSAStartup(0x202, &data)
})

// dropSocket closes a socket that came along. WSADuplicateSocket has already made it ours: otherwise
// it would stay open as long as this process lives.
func dropSocket(info []byte) {
	if startSockets() != nil {
		return
	}
	var protocol windows.WSAProtocolInfo
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&protocol)), unsafe.Sizeof(protocol)), info)
	const fromInfo = -1 // FROM_PROTOCOL_INFO
	s, err := windows.WSASocket(fromInfo, fromInfo, fromInfo, &protocol, 0, windows.WSA_FLAG_OVERLAPPED)
	if err == nil {
		windows.Closesocket(s)
	}
}

// startForked starts cmd, which the spec has made, with a channel and returns our end. os/exec cannot fill in the table
// (golang/go#53686); it still finds the program and waits for it.
func startForked(cmd *exec.Cmd, s *childSpec) (net.Conn, error) {
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	path, err := exec.LookPath(cmd.Path)
	if err != nil {
		return nil, err
	}
	if isBatch(path) {
		return nil, usagef("cannot start %s: it is a batch file, which takes its arguments for commands and hands no channel on", cmd.Args[0]).
			withHint("name the program that it starts: node.exe, and the script")
	}
	ours, theirs, err := pipePair()
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(theirs)
	conn, err := connOf(ours)
	if err != nil {
		return nil, err
	}
	channel := net.Conn(newFrames(&programConn{Conn: conn}, dropSocket))
	if s.either {
		named, name, err := newNamedChannel()
		if err != nil {
			conn.Close()
			return nil, err
		}
		cmd.Env = append(cmd.Env, ownPipe+"="+name)
		channel = newEither(channel, named)
	}
	if err := createForked(path, cmd, theirs, s.group); err != nil {
		channel.Close()
		return nil, err
	}
	return channel, nil
}

// isBatch reports whether CreateProcess would run path with cmd.exe, which has its own rules for quoting.
func isBatch(path string) bool {
	ext := strings.ToLower(filepath.Ext(strings.TrimRight(path, ". "))) // Windows trims names
	return ext == ".bat" || ext == ".cmd"
}

// newPipe creates our end of a pipe that only processes of this user can open, and only once.
func newPipe() (ours windows.Handle, name string, err error) {
	own, err := ownPeer()
	if err != nil {
		return 0, "", err
	}
	sd, err := windows.SecurityDescriptorFromString("O:" + own.SID + "D:P(A;;GA;;;" + own.SID + ")")
	if err != nil {
		return 0, "", os.NewSyscallError("ConvertStringSecurityDescriptorToSecurityDescriptor", err)
	}
	name = fmt.Sprintf(`\\.\pipe\ipcd-fork-%d-%s`, os.Getpid(), rand.Text())
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, "", err
	}
	// The first instance, or none; and no second one, so that whoever connects to it is the one.
	ours, err = windows.CreateNamedPipe(text, windows.PIPE_ACCESS_DUPLEX|windows.FILE_FLAG_OVERLAPPED|windows.FILE_FLAG_FIRST_PIPE_INSTANCE,
		windows.PIPE_TYPE_BYTE|windows.PIPE_READMODE_BYTE|windows.PIPE_WAIT|windows.PIPE_REJECT_REMOTE_CLIENTS,
		1, channelBytes, channelBytes, 0, securityOf(sd))
	return ours, name, os.NewSyscallError("CreateNamedPipe", err)
}

// pipePair creates a pipe of which children inherit only their end.
func pipePair() (ours, theirs windows.Handle, err error) {
	ours, name, err := newPipe()
	if err != nil {
		return 0, 0, err
	}
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		windows.CloseHandle(ours)
		return 0, 0, err
	}
	sa := windows.SecurityAttributes{Length: uint32(unsafe.Sizeof(windows.SecurityAttributes{})), InheritHandle: 1}
	theirs, err = windows.CreateFile(text, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, &sa, windows.OPEN_EXISTING, windows.FILE_FLAG_OVERLAPPED, 0)
	if err != nil {
		windows.CloseHandle(ours)
		return 0, 0, os.NewSyscallError("CreateFile", err)
	}
	var o windows.Overlapped
	if err = windows.ConnectNamedPipe(ours, &o); err != nil && err != windows.ERROR_PIPE_CONNECTED {
		windows.CloseHandle(ours)
		windows.CloseHandle(theirs)
		return 0, 0, os.NewSyscallError("ConnectNamedPipe", err)
	}
	return ours, theirs, nil
}

// createForked starts the program with its end of the channel as descriptor 3, and sets cmd.Process, to
// wait for. The program inherits its channel and its standard handles, and nothing else.
func createForked(path string, cmd *exec.Cmd, channel windows.Handle, group *processGroup) error {
	program, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	line, err := windows.UTF16PtrFromString(windows.ComposeCommandLine(cmd.Args))
	if err != nil {
		return err
	}
	environ, err := environBlock(cmd.Environ())
	if err != nil {
		return err
	}
	var dir *uint16 // ours
	if cmd.Dir != "" {
		if dir, err = windows.UTF16PtrFromString(cmd.Dir); err != nil {
			return err
		}
	}
	handles, err := forkedHandles(cmd, channel)
	if err != nil {
		return err
	}
	defer func() {
		for _, h := range handles[:forkedFD] {
			windows.CloseHandle(h)
		}
	}()
	attributes, err := windows.NewProcThreadAttributeList(1)
	if err != nil {
		return os.NewSyscallError("InitializeProcThreadAttributeList", err)
	}
	defer attributes.Delete()
	err = attributes.Update(windows.PROC_THREAD_ATTRIBUTE_HANDLE_LIST, unsafe.Pointer(&handles[0]), uintptr(len(handles)*handleSize))
	if err != nil {
		return os.NewSyscallError("UpdateProcThreadAttribute", err)
	}
	table := descriptorTable(handles)
	si := startupInfo{
		flags:      windows.STARTF_USESTDHANDLES,
		std:        [3]windows.Handle(handles),
		tableSize:  uint16(len(table)),
		table:      &table[0],
		attributes: attributes.List(),
	}
	si.size = uint32(unsafe.Sizeof(si))
	// A group of its own lets askToEnd reach the child and what it has started, and nobody else.
	flags := uint32(windows.CREATE_UNICODE_ENVIRONMENT | windows.EXTENDED_STARTUPINFO_PRESENT | windows.CREATE_NEW_PROCESS_GROUP)
	if group != nil { // it starts nothing before it is in the job
		flags |= windows.CREATE_SUSPENDED
	}
	var pi windows.ProcessInformation
	if err := windows.CreateProcess(program, line, nil, nil, true, flags, &environ[0], dir, (*windows.StartupInfo)(unsafe.Pointer(&si)), &pi); err != nil {
		return &os.PathError{Op: "CreateProcess", Path: path, Err: err}
	}
	defer windows.CloseHandle(pi.Thread)
	defer windows.CloseHandle(pi.Process) // as long as it is open the pid is that of the child
	if group != nil {
		group.id = pi.ProcessId
		if err = group.take(pi.Process); err == nil {
			_, err = windows.ResumeThread(pi.Thread)
		}
	}
	if err == nil {
		cmd.Process, err = os.FindProcess(int(pi.ProcessId))
	}
	if err != nil {
		windows.TerminateProcess(pi.Process, 1)
	}
	return err
}

// forkedHandles returns the handles that the child inherits, by descriptor. The first three are duplicates, which the caller closes.
func forkedHandles(cmd *exec.Cmd, channel windows.Handle) ([]windows.Handle, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	self := windows.CurrentProcess()
	var handles []windows.Handle
	for _, std := range []any{cmd.Stdin, cmd.Stdout, cmd.Stderr} {
		var h windows.Handle
		f, ok := std.(*os.File) // a service has none of its own
		// What is closed, or never was open, has the number that stands for this process: the child would get us.
		if ok = ok && windows.Handle(f.Fd()) != windows.InvalidHandle; ok {
			ok = windows.DuplicateHandle(self, windows.Handle(f.Fd()), self, &h, 0, true, windows.DUPLICATE_SAME_ACCESS) == nil
		}
		if !ok {
			if err := windows.DuplicateHandle(self, windows.Handle(null.Fd()), self, &h, 0, true, windows.DUPLICATE_SAME_ACCESS); err != nil {
				for _, h := range handles {
					windows.CloseHandle(h)
				}
				return nil, os.NewSyscallError("DuplicateHandle", err)
			}
		}
		handles = append(handles, h)
	}
	return append(handles, channel), nil
}

// descriptorTable returns the table for a child; see fdOpen.
func descriptorTable(handles []windows.Handle) []byte {
	table := binary.LittleEndian.AppendUint32(nil, uint32(len(handles)))
	for _, h := range handles {
		flags := byte(fdOpen)
		switch kind, _ := windows.GetFileType(h); kind {
		case windows.FILE_TYPE_PIPE:
			flags |= fdPipe
		case windows.FILE_TYPE_DISK:
		default:
			flags |= fdDevice
		}
		table = append(table, flags)
	}
	for _, h := range handles {
		if handleSize == 8 {
			table = binary.LittleEndian.AppendUint64(table, uint64(h))
		} else {
			table = binary.LittleEndian.AppendUint32(table, uint32(h))
		}
	}
	return table
}

// environBlock returns the environment in the form that CreateProcess takes: each entry ends with a zero, and so
// does the block.
func environBlock(environ []string) ([]uint16, error) {
	var block []uint16
	for _, entry := range environ {
		text, err := windows.UTF16FromString(entry)
		if err != nil {
			return nil, fmt.Errorf("the environment variable %q: %w", entry, err)
		}
		block = append(block, text...)
	}
	return append(block, 0), nil
}

// identifyChannel asks the kernel who created the channel.
func identifyChannel(conn net.Conn) (peer, error) {
	p := peer{Transport: "fork", UID: -1, GID: -1}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return p, fmt.Errorf("a %T is no channel", conn)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return p, err
	}
	if e := raw.Control(func(fd uintptr) { err = p.madePipe(windows.Handle(fd)) }); e != nil {
		return p, e
	}
	return p, err
}

// madePipe fills in who created the pipe: the process, or only the owner if we may not query the process.
func (p *peer) madePipe(pipe windows.Handle) error {
	var pid uint32
	if windows.GetNamedPipeServerProcessId(pipe, &pid) == nil {
		p.PID = int(pid)
		if p.describeProcess(pid) == nil {
			p.Known = true
			return nil
		}
	}
	sd, err := windows.GetSecurityInfo(pipe, windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return os.NewSyscallError("GetSecurityInfo", err)
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return os.NewSyscallError("GetSecurityDescriptorOwner", err)
	}
	p.Known, p.SID, p.User = true, owner.String(), accountName(owner)
	return nil
}

// describeProcess fills in what the token of a process says, if that is older than this process. A
// younger one has merely been given the pid of a parent that has exited.
func (p *peer) describeProcess(pid uint32) error {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return os.NewSyscallError("OpenProcess", err)
	}
	defer windows.CloseHandle(h)
	var theirs, ours, ended, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &theirs, &ended, &kernel, &user); err != nil {
		return os.NewSyscallError("GetProcessTimes", err)
	}
	if err := windows.GetProcessTimes(windows.CurrentProcess(), &ours, &ended, &kernel, &user); err != nil {
		return os.NewSyscallError("GetProcessTimes", err)
	}
	if theirs.Nanoseconds() > ours.Nanoseconds() {
		return errors.New("the parent has ended")
	}
	var token windows.Token
	if err := windows.OpenProcessToken(h, windows.TOKEN_QUERY, &token); err != nil {
		return os.NewSyscallError("OpenProcessToken", err)
	}
	defer token.Close()
	return p.describe(token)
}

// askToEnd asks a child to exit: Ctrl-Break is SIGBREAK in Node.js and C, os.Interrupt in Go. Without
// a console over which to send it, the child is killed.
func askToEnd(p *os.Process) error {
	if err := windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(p.Pid)); err != nil {
		return p.Kill()
	}
	return nil
}
