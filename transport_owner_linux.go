package main

// This file owns whose a TCP socket of this machine is: the kernel tells, see sock_diag(7).

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

func init() { tcpOwner = socketOwner }

// A diagRequest is struct inet_diag_req_v2 of linux/inet_diag.h behind a struct nlmsghdr. The addresses and ports are
// in the byte order of the network.
type diagRequest struct {
	unix.NlMsghdr
	Family, Protocol, Extensions, _ uint8
	States                          uint32
	ID                              diagSocket
}

// A diagSocket is struct inet_diag_sockid.
type diagSocket struct {
	SourcePort, DestinationPort [2]byte
	Source, Destination         [16]byte
	Interface                   uint32
	Cookie                      [2]uint32
}

// A diagAnswer is struct inet_diag_msg.
type diagAnswer struct {
	Family, State, Timer, Retransmissions uint8
	ID                                    diagSocket
	Expires, Received, Unsent             uint32
	UID, Inode                            uint32
}

const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY of linux/sock_diag.h
	anyCookie        = ^uint32(0)
	everyState       = ^uint32(0)
)

// socketOwner is tcpOwner. A socket that no process has any more, or none yet, is nobody's: to older kernels it would be
// root's.
func socketOwner(at, other netip.AddrPort) (peer, error) {
	request := diagRequest{Family: unix.AF_INET6, Protocol: unix.IPPROTO_TCP, States: everyState}
	if at.Addr().Is4() {
		request.Family = unix.AF_INET
	}
	id := &request.ID
	binary.BigEndian.PutUint16(id.SourcePort[:], at.Port())
	binary.BigEndian.PutUint16(id.DestinationPort[:], other.Port())
	copy(id.Source[:], at.Addr().AsSlice())
	copy(id.Destination[:], other.Addr().AsSlice())
	id.Cookie = [2]uint32{anyCookie, anyCookie}
	request.NlMsghdr = unix.NlMsghdr{Len: uint32(binary.Size(request)), Type: sockDiagByFamily, Flags: unix.NLM_F_REQUEST}
	var answer diagAnswer
	if err := askDiag(request, &answer); err != nil {
		return peer{}, fmt.Errorf("ask whose socket %s is: %w", at, err)
	}
	if answer.Inode == 0 || answer.ID.SourcePort != id.SourcePort || answer.ID.DestinationPort != id.DestinationPort {
		return peer{}, fmt.Errorf("the socket %s is nobody's", at) // somebody else may listen at its port by now
	}
	return peer{Known: true, UID: int(answer.UID), User: userName(int(answer.UID))}, nil
}

// askDiag sends one request and reads the one answer, which is there when the request has been sent: netlink(7).
func askDiag(request diagRequest, answer *diagAnswer) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b, err := binary.Append(nil, binary.NativeEndian, request)
	if err != nil {
		return err
	}
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	b = make([]byte, os.Getpagesize())
	n, _, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return err
	}
	in := bytes.NewReader(b[:n])
	var header unix.NlMsghdr
	var code int32
	if err := binary.Read(in, binary.NativeEndian, &header); err != nil {
		return err
	}
	if header.Type != unix.NLMSG_ERROR {
		return binary.Read(in, binary.NativeEndian, answer)
	}
	if err := binary.Read(in, binary.NativeEndian, &code); err != nil {
		return err
	}
	return unix.Errno(-code)
}
