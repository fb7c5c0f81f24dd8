package main

// This file is where a transport plugs in: with a row for each of its schemes, added by the init of its own file.
// TCP is transport_tcp.go, TLS over it transport_tls.go and transport_keyring.go; Unix sockets and named pipes are the room pipe; fork: is child.go. Sockets that a
// service manager passes are in transport_inherit_unix.go.

import (
	"context"
	"net"
	"os"
	"strings"
	"time"
)

// A transport carries bytes between two programs.
type transport struct {
	// lacking says why this system cannot listen or dial here, and what to use instead. It answers for listen
	// and for dial where the row has none; it is nil in a row that has both.
	lacking func(e endpoint) *fault
	// listen opens the endpoint for calls by the daemon's own user and the audience. Closing the
	// listener returns all that it took: the socket file, and the lock that says whose the endpoint is.
	listen func(e endpoint, to audience) (net.Listener, error)
	// secure returns l with a handshake on each of its connections, with what the daemon has for that. It is nil if there is none.
	secure func(l net.Listener, keys *keyring) net.Listener
	// check returns an error if e can never be served, whatever the state of the system, at which it does not
	// look. It is nil if only listening can find that out.
	check func(e endpoint) error
	// inherits returns a listener for e if l is at that endpoint; otherwise nil. The function itself is nil if
	// there can be no such listener.
	inherits func(e endpoint, l inheritance) (net.Listener, error)
	// dial connects, and makes sure who is at the other end before a byte is sent. Its errors are faults with
	// hints, see dialFault.
	dial func(ctx context.Context, e endpoint, o dialOptions) (net.Conn, error)
	// identify returns what the kernel knows about the other end. If that takes the first bytes of the peer, it
	// waits for them no longer than wait, and leaves them to be read. An error is for the log; it is a turned if the peer may
	// read it, and a failedHandshake if the peer can read nothing.
	identify func(conn net.Conn, wait time.Duration) (peer, error)
	// server returns what the kernel says of the other end of a connection that we have dialled. It is nil if nothing is known of
	// the other end.
	server func(conn net.Conn) (peer, error)
	// inspect returns what there is to say of the place of e, for "ipcd doctor": who could replace it, and whether it is open to
	// the audience, if that is known, and to nobody else. It is nil where there is nothing to look at.
	inspect func(e endpoint, to audience, known bool) []Diagnosis
	// serves reports whether the other end of a connection that we have dialled is the process that we know by this number, as
	// far as the kernel tells. It is nil if nothing is known of the other end.
	serves func(conn net.Conn, pid int) bool
	// byToken says that the kernel names nobody at the other end: whoever calls there shows a token, or is not asked.
	byToken bool
	// sealed says that nobody on the way can read what goes over a connection, or change it.
	sealed bool
}

// takesTokens reports whether a token may go over conn. What anybody on the way could read is shown to nobody, and taken from nobody.
func (t *transport) takesTokens(conn net.Conn) bool {
	return t.byToken && (t.sealed || isLoopback(conn.LocalAddr()) && isLoopback(conn.RemoteAddr()))
}

// isLoopback reports whether an address is of this machine, and reached from nowhere else.
func isLoopback(a net.Addr) bool {
	at, ok := a.(*net.TCPAddr)
	return ok && at.IP.IsLoopback()
}

// dialOptions are the settings of a client that a transport may need.
type dialOptions struct {
	limits limits
	tls    tlsSettings
	log    *logger // nil logs nothing. The caller closes it, after the connection
	// token finds the token to show where the kernel names nobody; it is asked there alone. nil shows none.
	token func() (string, error)
}

// tokenFor returns the token to show at e; nothing if there is none to show there. An endpoint that is said to ask for no proof is shown
// none: a client checks there less of who serves.
func (o *dialOptions) tokenFor(e endpoint) (string, error) {
	if o.token == nil || !transports[e.Scheme].byToken || e.NoAuth || e.Proto == protoEcho {
		return "", nil
	}
	return o.token()
}

// tokenOver is tokenFor once there is a connection, over which it must not be read by others.
func (o *dialOptions) tokenOver(conn net.Conn, e endpoint) (string, error) {
	t := transports[e.Scheme]
	text, err := o.tokenFor(e)
	if err == nil && text != "" && !t.takesTokens(conn) {
		return "", usagef("the token was not sent to %s: everybody on the way could read it", e).
			withHint("call an endpoint with TLS; or if it asks for no proof, say so: -e %s", joinWords([]string{e.withNoAuth().String()}))
	}
	return text, err
}

// transports are the rows by the scheme of an endpoint, see addTransport.
var transports = map[string]transport{}

// addTransport adds the row of a scheme, and has t.lacking answer for the functions that t has not: callers
// need not know which system has which transport.
func addTransport(scheme string, t transport) {
	if t.listen == nil {
		t.listen = func(e endpoint, _ audience) (net.Listener, error) { return nil, t.lacking(e) }
		t.check = func(e endpoint) error { return t.lacking(e) }
	}
	if t.dial == nil {
		t.dial = func(_ context.Context, e endpoint, _ dialOptions) (net.Conn, error) { return nil, t.lacking(e) }
	}
	transports[scheme] = t
}

// An inheritance is a listener that was open before this program began: a service manager has opened it, or the program
// that was this process before us has served it.
type inheritance struct {
	net.Listener
	managers bool     // a service manager has opened it, whose it remains
	at       endpoint // as which it was served; the zero value if nobody has served it yet
	to       audience // to whom it was open
	lock     *os.File // of the endpoint, locked; nil if there is none
}

// What only some systems have: there both of these are set, elsewhere both are nil.
var (
	// inheritListeners takes over the listeners that are left to us.
	inheritListeners func() ([]inheritance, past, error)
	// becomeProgram makes the program of p of this process, and leaves it the listeners. It returns only if that has failed:
	// then they can be inherited by whoever serves in this process next. Without args it does no more than that.
	becomeProgram func(p past, args []string, leave []inheritance) error
)

// A past is what this process was before it was this program.
type past struct {
	programs int    // how many
	program  string // the path of this one, as the last one knew it; empty if there was none
}

// startHint is a hint to start a daemon at e, after words such as "start one with".
func startHint(words string, e endpoint) string {
	line := "ipcd run"
	if e.Owner != "" { // which a daemon is not told, but has
		words, e = strings.TrimSuffix(words, " with")+" as "+oneLine(e.Owner)+" with", e.withOwner("")
	}
	if own, err := defaultEndpoint(); err != nil || own.String() != e.String() {
		line += " --listen " + joinWords([]string{e.String()})
	}
	return words + ` "` + line + `"`
}

// listenerEndpoint returns e with the port that the system chose for :0.
func listenerEndpoint(e endpoint, l net.Listener) endpoint {
	if a, ok := l.Addr().(*net.TCPAddr); ok && strings.HasSuffix(e.Host, ":0") {
		return e.withHost(a.String())
	}
	return e
}
