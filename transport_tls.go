package main

// This file owns TLS over TCP, tls:// and https://: the handshake of a connection at either end, who the other end is by its
// certificate, and what it means when that fails. The keys and certificates are in transport_keyring.go.
//
// What is spoken inside is told by its first bytes, as over TCP. Whoever begins without TLS is answered without.

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func init() {
	for _, scheme := range []string{"tls", "https"} {
		addTransport(scheme, transport{
			listen: func(e endpoint, _ audience) (net.Listener, error) { return listenTCPAt(e, e.Host) },
			secure: func(l net.Listener, keys *keyring) net.Listener {
				return &tlsListener{Listener: l, keys: keys, scheme: scheme}
			},
			inherits: inheritsTLS,
			byToken:  true,
			sealed:   true,
			dial:     dialTLS,
			identify: func(conn net.Conn, wait time.Duration) (peer, error) { return identifyTLS(scheme, conn, wait) },
			server: func(conn net.Conn) (peer, error) {
				p := identifyTCP(scheme, conn, nil)
				p.cert, _ = certName(conn.(*tlsConn).shown)
				return p, nil
			},
		})
	}
}

// webALPN is what is spoken at https://: RFC 7301. With tls:// the first bytes say it.
var webALPN = []string{"http/1.1"}

// inheritsTLS returns l if it listens on the address and port of e, or has done so.
func inheritsTLS(e endpoint, l inheritance) (net.Listener, error) {
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
	addr, err := addressTLS(e)
	if err != nil || theirs.AddrPort().Addr().Unmap().WithZone("") != addr.WithZone("") {
		return nil, err
	}
	return l.Listener, nil
}

// addressTLS returns the address on which e is served: of those that its host has the one that net.Listen takes.
func addressTLS(e endpoint) (netip.Addr, error) {
	host, _, err := net.SplitHostPort(e.Host)
	if err != nil {
		return netip.Addr{}, usagef("cannot listen on %s: %w", e, err)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap(), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupWait)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, listenFault(e, "there is no host %s", host).withHint("use an address of this machine, or 0.0.0.0 for all of them")
	}
	if i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Unmap().Is4() }); i >= 0 {
		return addrs[i].Unmap(), nil
	}
	return addrs[0], nil
}

// A tlsListener is a listener whose connections begin with a handshake, which identify waits for.
type tlsListener struct {
	net.Listener
	keys   *keyring
	scheme string

	mu      sync.Mutex
	hurried bool
	shaking []*tlsConn // those that are at it, the oldest first
}

// How many handshakes there may be at a time before the slowest have to go, as many as connections of one user by default; and what
// is slow then: to have the daemon wait for the next bytes for so long. Handshakes that wait for a processor are not slow.
const (
	maxHandshakes = 1024
	slowHandshake = time.Second
	lastHandshake = time.Second // for those that are at it when the daemon stops
)

// Accept implements net.Listener.
func (l *tlsListener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tlsConn{raw: raw, listener: l}, nil
}

// Close implements net.Listener. Whoever has been accepted gets a moment for its handshake.
func (l *tlsListener) Close() error {
	l.hurry()
	return l.Listener.Close()
}

// hurry gives whoever has been accepted a moment for its handshake: the daemon stops.
func (l *tlsListener) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hurried = true
	for _, c := range l.shaking {
		c.raw.SetDeadline(time.Now().Add(lastHandshake))
	}
}

// left implements leaver: the next program has keys of its own.
func (l *tlsListener) left() (net.Listener, *os.File) { return l.Listener, nil }

// SetDeadline is for turnAway and halt.
func (l *tlsListener) SetDeadline(t time.Time) error {
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		return d.SetDeadline(t)
	}
	return errors.ErrUnsupported
}

// begin notes that c is at its handshake. If there are too many, that one ends which is the slowest of the address that has most
// of them: who opens many connections and says nothing on them keeps out nobody else.
func (l *tlsListener) begin(c *tlsConn, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.from = hostOf(c.raw.RemoteAddr())
	if l.hurried {
		wait = min(wait, lastHandshake)
	}
	c.raw.SetDeadline(time.Now().Add(wait))
	if l.shaking = append(l.shaking, c); len(l.shaking) <= maxHandshakes {
		return
	}
	have := map[string]int{}
	for _, other := range l.shaking {
		have[other.from]++
	}
	var slowest *tlsConn
	late := time.Now().Add(-slowHandshake).UnixNano()
	for _, other := range l.shaking { // the oldest first
		if since := other.waits.Load(); since != 0 && since < late && (slowest == nil || have[other.from] > have[slowest.from]) {
			slowest = other
		}
	}
	if slowest != nil {
		slowest.raw.Close()
	}
}

// end notes that the handshake of c is over.
func (l *tlsListener) end(c *tlsConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shaking = slices.DeleteFunc(l.shaking, func(other *tlsConn) bool { return other == c })
	c.raw.SetDeadline(time.Time{})
}

// hostOf returns the address without its port.
func hostOf(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	return a.String()
}

// A tlsConn is a TCP connection with TLS, or one whose peer does not speak it. It has no SyscallConn, by which others would write
// past TLS.
type tlsConn struct {
	raw      net.Conn
	tls      *tls.Conn // nil before the handshake has begun, and where there is none
	listener *tlsListener
	at       endpoint          // that we have dialled
	shown    *x509.Certificate // this end's, or at the end that dials the other's
	early    []byte            // read from raw to see whether it is TLS; nobody has taken it yet
	asked    bool              // the other end could have shown a certificate
	broken   bool              // the handshake has failed: nothing is said any more
	waits    atomic.Int64      // since when a read waits for the peer, in nanoseconds; 0 if none does
	from     string            // the address of the peer; guarded by listener.mu
	pace     pacer             // of the handshake, and nil when there is none; may be nil
}

// A pacer says when what takes a processor may go on, and is told when that waits for the peer.
type pacer interface {
	take(before func())
	end()
}

// paceBy has a handshake that is still to come go on as p says.
func (c *tlsConn) paceBy(p pacer) { c.pace = p }

// A failedHandshake ends a connection on which nothing can be said any more.
type failedHandshake struct {
	err    error
	silent bool // it was the end, before anything had come
}

func (f *failedHandshake) Error() string { return f.err.Error() }
func (f *failedHandshake) Unwrap() error { return f.err }

// shake does the handshake of a connection that was accepted, within wait. Whoever does not begin with one can be answered; the
// error is a turned then.
func (c *tlsConn) shake(wait time.Duration) error {
	c.listener.begin(c, wait)
	defer c.listener.end(c)
	if c.pace != nil {
		defer func() {
			c.pace.end()
			c.pace = nil
		}()
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(&earlyConn{c.raw, c}, first); err != nil {
		if isTimeout(err) {
			return err
		}
		return &failedHandshake{err, err == io.EOF}
	}
	if c.early = first; beginsTLS(first) == verdictNo {
		return turned{errWantsTLS}
	}
	keys := c.listener.keys.current()
	conn := tls.Server(&earlyConn{c.raw, c}, keys.config[c.listener.scheme])
	if err := conn.Handshake(); err != nil {
		c.broken = true
		if isTimeout(err) {
			return err
		}
		if err == io.EOF {
			err = errors.New("the peer has closed the connection; perhaps it does not trust the certificate")
		}
		return &failedHandshake{err: err}
	}
	c.tls, c.shown, c.asked = conn, keys.certs[0], keys.authorities != nil
	return nil
}

// An earlyConn is the TCP connection below one of which something has been read.
type earlyConn struct {
	net.Conn
	c *tlsConn
}

// Read implements net.Conn.
func (e *earlyConn) Read(b []byte) (int, error) {
	if len(e.c.early) > 0 {
		n := copy(b, e.c.early)
		e.c.early = e.c.early[n:]
		return n, nil
	}
	pace := e.c.pace
	if pace != nil {
		pace.end()
	}
	e.c.waits.Store(time.Now().UnixNano())
	n, err := e.Conn.Read(b)
	e.c.waits.Store(0)
	if pace != nil {
		pace.take(nil)
	}
	return n, err
}

// Read implements net.Conn. Where the other end has ended TLS with an alert, the error is a fault that says why.
func (c *tlsConn) Read(b []byte) (int, error) {
	if c.tls == nil {
		return (&earlyConn{c.raw, c}).Read(b)
	}
	n, err := c.tls.Read(b)
	if err != nil && c.listener == nil && isAlert(err) {
		err = explainTLS(c.at, err) // a daemon looks at our certificate when we take the handshake for done: RFC 8446, section 4.4.2.4
	}
	return n, err
}

// Write implements net.Conn.
func (c *tlsConn) Write(b []byte) (int, error) {
	switch {
	case c.broken:
		return 0, net.ErrClosed
	case c.tls == nil:
		return c.raw.Write(b)
	}
	return c.tls.Write(b)
}

// CloseWrite says that nothing more is sent: as TLS has it, and as TCP has it for those who look at that alone.
func (c *tlsConn) CloseWrite() (err error) {
	if c.tls != nil {
		err = c.tls.CloseWrite()
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		return cmp.Or(err, half.CloseWrite())
	}
	return err
}

// Close closes the connection at once. That of tls.Conn waits until the peer reads.
func (c *tlsConn) Close() error { return c.raw.Close() }

// NetConn returns the connection below.
func (c *tlsConn) NetConn() net.Conn { return c.raw }

// The rest implements net.Conn.
func (c *tlsConn) LocalAddr() net.Addr                { return c.raw.LocalAddr() }
func (c *tlsConn) RemoteAddr() net.Addr               { return c.raw.RemoteAddr() }
func (c *tlsConn) SetDeadline(t time.Time) error      { return c.raw.SetDeadline(t) }
func (c *tlsConn) SetReadDeadline(t time.Time) error  { return c.raw.SetReadDeadline(t) }
func (c *tlsConn) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }

// certifies reports whether the certificate of this end is for a host.
func (c *tlsConn) certifies(host string) bool {
	return c.listener != nil && c.shown != nil && c.shown.VerifyHostname(host) == nil
}

// identifyTLS does the handshake, and returns who the certificate of the peer says it is. Without one it is known by its address
// alone.
func identifyTLS(scheme string, conn net.Conn, wait time.Duration) (p peer, err error) {
	c := conn.(*tlsConn)
	p = peer{Transport: scheme, UID: -1, GID: -1, Address: c.raw.RemoteAddr().String()}
	if err := c.shake(wait); err != nil {
		return p, err
	}
	p = identifyTCP(scheme, c.raw, c.raw.LocalAddr())
	chains := c.tls.ConnectionState().VerifiedChains
	if len(chains) == 0 {
		return p, nil
	}
	name, f := certName(chains[0][0])
	if f != nil {
		return p, turned{faultf(codeDenied, "access denied: nobody can be known by the certificate: %w", f)}
	}
	p.cert = name
	return p, nil
}

// oidCommonName is what an attribute of a subject is that is its common name: RFC 5280, appendix A.1.
var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// certName returns what rules call whom a certificate is for: the common name of its subject or, if that is empty, the first name
// of a host in it.
func certName(cert *x509.Certificate) (string, *fault) {
	if cert == nil {
		return "", usagef("there is none")
	}
	name := cert.Subject.CommonName
	names := 0
	for _, attribute := range cert.Subject.Names {
		if attribute.Type.Equal(oidCommonName) {
			names++
		}
	}
	if names > 1 { // which of them counts would be up to each program that reads it, the authority's too
		return "", usagef("it has %d common names", names)
	}
	if name == "" && len(cert.DNSNames) > 0 {
		name = cert.DNSNames[0]
	}
	if f := checkCertName(name); f != nil {
		return "", f
	}
	return name, nil
}

// dialTLS connects, and makes sure by the certificate that it is who was asked for.
func dialTLS(ctx context.Context, e endpoint, o dialOptions) (net.Conn, error) {
	config, err := clientTLS(e, o.tls)
	if err != nil {
		return nil, err
	}
	raw, err := connectTCP(ctx, e)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, ctx.Err()
		}
		return nil, explainTLS(e, err)
	}
	return &tlsConn{raw: raw, tls: conn, at: e, shown: conn.ConnectionState().PeerCertificates[0]}, nil
}

// isAlert reports whether err is an alert that the other end has sent. Package tls has no type for it.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// explainTLS says why there is no TLS with the daemon at e, and what can be done.
func explainTLS(e endpoint, err error) *fault {
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
		header  tls.RecordHeaderError
	)
	host, _, _ := net.SplitHostPort(e.Host)
	denied := func(format string, args ...any) *fault {
		f := faultf(codeDenied, "the daemon at %s: "+format, append([]any{e}, args...)...)
		f.err = err
		return f
	}
	switch {
	case errors.As(err, &unknown):
		return denied("its certificate comes from an authority that is not trusted here; nothing was sent to it").
			withHint("if it is your own, name the file of that authority: --set tls.ca=ca.pem, or tls.ca in the configuration")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		leaf := invalid.Cert
		if time.Now().Before(leaf.NotBefore) {
			return denied("its certificate is valid from %s on; nothing was sent to it", day(leaf.NotBefore)).withHint("see whether the clock of this machine is right")
		}
		return denied("its certificate has expired on %s; nothing was sent to it", day(leaf.NotAfter)).
			withHint("it needs a new one; where it is from ipcd tls init: ipcd tls issue --server %s", host)
	case errors.As(err, &name):
		return denied("its certificate is for %s and not for %s; nothing was sent to it", namesOf(name.Certificate), host).
			withHint("call it by a name that the certificate has, or make it one that has this name; where it is from ipcd tls init: ipcd tls issue --server %s", host)
	case errors.As(err, &header):
		return faultf(codeWrongProtocol, "what answers at %s does not speak TLS", e).withHint("if it is the daemon, it serves that port without: %s", e.withoutTLS())
	case isTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return dialFault(err, "no answer from %s: the handshake of TLS did not end in time", e).withHint("see whether that port speaks TLS, or give it longer with --timeout")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isBrokenPipe(err):
		return faultf(codeConnection, "the daemon at %s closed the connection in the middle of the handshake", e).withHint("its log says why")
	case isAlert(err):
		return explainAlert(e, err)
	}
	return denied("its certificate cannot be taken: %v; nothing was sent to it", err).withHint("name the file of its authority: --set tls.ca=ca.pem, or tls.ca in the configuration")
}

// explainAlert says what an alert of the other end means: RFC 8446, section 6.2.
func explainAlert(e endpoint, err error) *fault {
	_, what, _ := strings.Cut(err.Error(), "tls: ")
	f := faultf(codeDenied, "the daemon at %s ended the handshake: %s", e, what)
	f.err = err
	switch what {
	case "handshake failure", "protocol version not supported":
		f.Code = codeWrongProtocol
		return f.withHint("if it serves that port without TLS: %s; ipcd speaks TLS 1.3", e.withoutTLS())
	case "no application protocol":
		f.Code = codeWrongProtocol
		return f.withHint("it may be an endpoint for something else than %s", e.Scheme)
	case "certificate required":
		return f.withHint("%s", hintFor(errNoCert))
	}
	return f.withHint("it does not take the certificate of this client: see tls.client_cert; it has to come from an authority in the daemon's tls.client_ca, and be one for clients")
}

// day writes a day for people.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// namesOf lists the hosts that a certificate is for.
func namesOf(cert *x509.Certificate) string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	switch len(names) {
	case 0:
		return "no host"
	default:
		return shorten(strings.Join(names, ", "), 200)
	}
}

// clientTLS is what a client brings to the handshake with the daemon at e.
func clientTLS(e endpoint, set tlsSettings) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(e.Host)
	if err != nil {
		return nil, usagef("the endpoint %s: %w", e, err)
	}
	host, _, _ = strings.Cut(host, "%") // of an address no certificate has the zone
	config := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: strings.TrimSuffix(host, ".")}
	if e.isHTTP() {
		config.NextProtos = webALPN
	}
	if set.CA != "" {
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool()
		}
		list, err := readCertificates("tls.ca", set.CA)
		if err != nil {
			return nil, err
		}
		for _, cert := range list {
			config.RootCAs.AddCert(cert)
		}
	}
	pair, err := readPair("tls.client_cert", set.ClientCert, "tls.client_key", set.ClientKey)
	if err != nil {
		return nil, err
	}
	if pair != nil {
		// Whoever asks for certificates of some authorities alone gets ours all the same, and says what is wrong with it.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	return config, nil
}
