package main

// This file owns TCP, and HTTP over it. The kernel does not prove who calls there: a token does, within this machine, unless the endpoint
// waives proof. Where other machines could call they do not listen, unless whoever starts the daemon insists. Between machines there is
// TLS: transport_tls.go.

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

func init() {
	for _, scheme := range []string{"tcp", "http"} {
		addTransport(scheme, transport{
			listen:   func(e endpoint, _ audience) (net.Listener, error) { return listenTCP(e) },
			check:    checkTCP,
			inherits: inheritsTCP,
			dial:     dialTCP,
			identify: func(conn net.Conn, _ time.Duration) (peer, error) {
				return identifyTCP(scheme, conn, conn.LocalAddr()), nil
			},
			server:  func(conn net.Conn) (peer, error) { return identifyTCP(scheme, conn, nil), nil }, // a service manager may hold the socket that listens
			byToken: true,
		})
	}
}

const lookupWait = 5 * time.Second // for the addresses of a host name to listen on

func listenTCP(e endpoint) (net.Listener, error) {
	addr, _, port, err := addressTCP(e)
	if err != nil {
		return nil, err
	}
	return listenTCPAt(e, net.JoinHostPort(addr.String(), port))
}

// listenTCPAt listens at an address of this machine.
func listenTCPAt(e endpoint, at string) (net.Listener, error) {
	l, err := net.Listen("tcp", at)
	host, port, _ := net.SplitHostPort(e.Host)
	switch {
	case err == nil:
		return l, nil
	case isPortTaken(err):
		free := e.withHost(net.JoinHostPort(host, "0"))
		return nil, listenFault(e, "the port is taken by another program").withHint("choose another port, or a free one with %s", free)
	case errors.Is(err, fs.ErrPermission):
		return nil, listenFault(e, "the system does not let us have port %s", port).withHint("choose a port from 1024 on")
	}
	return nil, listenFault(e, "%w", err).withHint("choose another port or 127.0.0.1")
}

// inheritsTCP returns l if it listens on the address and port of e, or has done so.
func inheritsTCP(e endpoint, l inheritance) (net.Listener, error) {
	if !l.managers {
		if l.at.key() == e.key() { // with port 0, the port that it was
			return l.Listener, nil
		}
		return nil, nil
	}
	theirs, ok := l.Addr().(*net.TCPAddr)
	if !ok || !strings.HasSuffix(e.Host, ":"+strconv.Itoa(theirs.Port)) {
		return nil, nil
	}
	addr, _, port, err := addressTCP(e)
	if err == nil && theirs.IP.IsUnspecified() && !addr.IsUnspecified() {
		err = usagef("the socket that the service manager passes for %s is open to other machines: it listens at %s", e, theirs).
			withHint("write ListenStream=%s in the socket unit", net.JoinHostPort(addr.String(), port))
	}
	if err != nil || theirs.AddrPort().Addr().Unmap() != addr {
		return nil, err
	}
	return l.Listener, nil
}

// checkTCP refuses what can never be served. The name of a host may have another address by tomorrow, so it is not
// looked up.
func checkTCP(e endpoint) error {
	host, _, err := net.SplitHostPort(e.Host)
	if err != nil {
		return usagef("cannot listen on %s: %w", e, err)
	}
	if addr, err := netip.ParseAddr(host); err == nil && !addr.Unmap().IsLoopback() {
		return openToOthers(e, addr)
	}
	if e.Proto == protoEcho && !e.NoAuth {
		return usagef("cannot listen on %s: whoever speaks to an echo cannot show a token", e).withHint("let everybody speak to it: %s", e.withNoAuth())
	}
	return nil
}

// addressTCP returns the address of e, having made sure that it may be served.
func addressTCP(e endpoint) (addr netip.Addr, host, port string, err error) {
	if err := checkTCP(e); err != nil {
		return addr, "", "", err
	}
	host, port, _ = net.SplitHostPort(e.Host)
	addr, err = addressToServe(e, host)
	return addr, host, port, err
}

// openToOthers returns why e, whose address other machines reach, is not served, or nil.
func openToOthers(e endpoint, addr netip.Addr) error {
	_, port, _ := net.SplitHostPort(e.Host)
	switch {
	case !e.Insecure:
		return usagef("cannot listen on %s: %s is reached by other machines, and without TLS only loopback is served", e, addr).
			withHint("write %s, or serve other machines with TLS: %s; to serve them without, see ipcd run --help: --insecure-network", e.withHost(net.JoinHostPort("127.0.0.1", port)), e.withTLS())
	case !e.NoAuth:
		return usagef("cannot listen on %s: %s is reached by other machines, and without TLS everybody on the way could read a token", e, addr).
			withHint("serve them with TLS: %s; or let everybody who reaches it call: %s", e.withTLS(), e.withNoAuth())
	}
	return nil
}

// addressToServe looks up the address of host. All its addresses have to be loopback, or served for other machines, too: if only some
// were, it would depend on the order of the answer whether those can call.
func addressToServe(e endpoint, host string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupWait)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, listenFault(e, "there is no host %s", host).withHint("use 127.0.0.1 or [::1]")
	}
	best := addrs[0].Unmap()
	for _, a := range addrs {
		a = a.Unmap()
		if !a.IsLoopback() {
			if err := openToOthers(e, a); err != nil {
				return netip.Addr{}, err
			}
		}
		if a.Is4() && !best.Is4() {
			best = a
		}
	}
	return best, nil
}

// tcpOwner returns whose the socket at the address at is, which is connected to other, or listens if that is the zero
// address. It is nil where the system does not say. A proxy shows its own user and not the one behind it, and a
// listener may have passed its socket on: this is for logs, for limits and for a client that wants to know who
// serves, and never gives a right.
var tcpOwner func(at, other netip.AddrPort) (peer, error)

// ownerTCP is tcpOwner for the addresses of a connection within this machine. The other end of any other is not here.
func ownerTCP(at, other net.Addr) (peer, error) {
	a, ok := at.(*net.TCPAddr)
	if tcpOwner == nil || !ok || !a.IP.IsLoopback() {
		return peer{}, errors.New("the system does not say whose it is")
	}
	plain := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
	listens := netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	if o, ok := other.(*net.TCPAddr); ok {
		listens = plain(o.AddrPort())
	}
	return tcpOwner(plain(a.AddrPort()), listens)
}

// identifyTCP describes the other end of conn, as ownerTCP knows it.
func identifyTCP(scheme string, conn net.Conn, other net.Addr) peer {
	p := peer{Transport: scheme, UID: -1, GID: -1, Address: conn.RemoteAddr().String()}
	if owner, err := ownerTCP(conn.RemoteAddr(), other); err == nil {
		p.Owner, p.owner = owner.who(), owner.key()
	}
	return p
}

// checkServerTCP makes sure, as far as the system says, that whoever has the port is one whom we trust with a socket, too:
// every user may take a port that nobody serves. What is asked for is the socket that listens, since a service
// manager holds it for a service whose user we do not know.
func checkServerTCP(e endpoint, conn net.Conn, log *logger) error {
	owner := "nobody who can be told"
	server, err := ownerTCP(conn.RemoteAddr(), nil)
	if err == nil {
		if own, err := ownPeer(); isMaster(server) || err == nil && own.isUser(server) {
			return nil
		}
		owner = server.who()
	} else if _, unsaid := ownerTCP(conn.LocalAddr(), conn.RemoteAddr()); unsaid != nil { // not even of our own socket
		log.debug("whoever serves cannot be told", "endpoint", e.String(), "error", err)
		return nil
	} // the port was left as soon as we were connected
	if e.NoAuth {
		log.warn("the daemon is another user's", "endpoint", e.String(), "owner", owner)
		return nil
	}
	return faultf(codeDenied, "the daemon at %s belongs to %s; nothing was sent to it", e, owner).
		withHint("if it is the right one, name it and ask for no proof: -e %s", joinWords([]string{e.withNoAuth().String()}))
}

func dialTCP(ctx context.Context, e endpoint, o dialOptions) (net.Conn, error) {
	conn, err := connectTCP(ctx, e)
	if err != nil {
		return nil, err
	}
	if err := checkServerTCP(e, conn, o.log); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// connectTCP connects to whoever serves there.
func connectTCP(ctx context.Context, e endpoint) (net.Conn, error) {
	host, port, err := net.SplitHostPort(e.Host)
	if err != nil || port == "0" {
		return nil, usagef("the endpoint %s names no port to call", e).withHint("take the port from the log of the daemon, or from its status")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", e.Host)
	var unknown *net.DNSError
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, ctx.Err()
	case errors.As(err, &unknown):
		return nil, dialFault(err, "no daemon at %s: there is no host %s", e, host).withHint("name another endpoint with -e")
	case isRefused(err):
		f := dialFault(err, "no daemon at %s: nobody listens on the port", e)
		if _, err := addressToServe(e, host); err != nil { // of another machine
			return nil, f.withHint("start one there, or name another endpoint with -e")
		}
		return nil, f.withHint("%s, or name another endpoint with -e", startHint("start one with", e))
	case isTimeout(err):
		return nil, dialFault(err, "no answer from %s", e).withHint("see whether the host is up, or give it longer with --timeout")
	}
	return nil, dialFault(err, "cannot reach %s: %v", e, err).withHint("name another endpoint with -e")
}
