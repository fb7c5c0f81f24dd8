package main

// This file owns how requests over HTTP are refused: what a web page or a proxy must not get through, what starts no call, and the form
// of an error outside of JSON-RPC. A new header that decides something is a row of deciders.

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// deciders are the headers that decide whether and how a request is served. With two of one kind it would be up to each
// reader which of them counts. net/http itself refuses a second Host, and a Content-Length or Transfer-Encoding that
// differs from the first.
var deciders = []string{"Authorization", "Origin", "Referer", "Sec-Fetch-Site", "Content-Type", timeoutHeader, lastEventHeader}

// refusal returns why a request is refused whatever it asks for, or nil.
func (c *httpConn) refusal(r *http.Request) (status int, f *fault) {
	if f := c.c.refusal; f != nil {
		return statusOf(f), f
	}
	if r.ProtoMajor != 1 { // the preface of HTTP/2, which net/http passes on as a request
		return http.StatusHTTPVersionNotSupported, &fault{Code: codeInvalid, Text: "HTTP/1.1 is spoken here"}
	}
	for _, name := range deciders {
		if len(r.Header.Values(name)) > 1 {
			c.log.warn("an HTTP request was refused", "reason", "the header "+name+" is there more than once", "host", r.Host)
			return http.StatusBadRequest, &fault{Code: codeInvalid, Text: "the header " + name + " is there more than once"}
		}
	}
	if why := c.foreign(r); why != "" {
		c.log.warn("an HTTP request was refused", "reason", why, "host", r.Host, "origin", r.Header.Get("Origin"))
		return http.StatusForbidden, &fault{Code: codeDenied, Text: why}
	}
	return 0, nil
}

// foreign refuses what a web page from elsewhere could make a browser send: a request to a name that was made to point
// here (DNS rebinding), a request to another origin, a form. No browser sends a Content-Type of JSON to another origin
// without a preflight request (Fetch standard, CORS), and we never grant one. It returns nothing for any other request.
func (c *httpConn) foreign(r *http.Request) (why string) {
	if r.Method == http.MethodConnect && r.Host == "" {
		r.Host = r.URL.Host
	}
	if !c.local && !isLoopbackHost(r.Host) && !c.isOwnHost(r.Host) && !c.isCertified(r.Host) && r.Method != http.MethodConnect {
		return "the Host is not this machine's; use localhost, 127.0.0.1 or [::1]"
	}
	scheme := "http"
	if c.c.endpoint.isTLS() {
		scheme = "https"
	}
	for _, name := range []string{"Origin", "Referer"} {
		value := r.Header.Get(name)
		if value == "" {
			continue
		}
		u, err := url.Parse(value)
		if err != nil || u.Scheme != scheme || u.Host != r.Host {
			return "the " + name + " is not this daemon's own"
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return "a page of another site may not call"
	}
	return ""
}

// isOwnHost reports whether a Host is that of an endpoint which other machines may call: the address at which the connection has come,
// or the name that the endpoint has. No other name can be told from one that was made to point here.
func (c *httpConn) isOwnHost(host string) bool {
	if strings.EqualFold(host, c.c.endpoint.Host) {
		return true
	}
	own, _ := c.c.LocalAddr().(*net.TCPAddr)
	at, err := netip.ParseAddrPort(host)
	return own != nil && err == nil && at.Addr() == own.AddrPort().Addr().Unmap() && int(at.Port()) == own.Port
}

// isCertified reports whether the certificate that this end has shown is for a Host.
func (c *httpConn) isCertified(hostport string) bool {
	shown, ok := c.Conn.(interface{ certifies(host string) bool })
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return ok && shown.certifies(host)
}

// isLoopbackHost reports whether a Host can only mean this machine.
func isLoopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// acceptable checks a request before its body is read. If it returns false, it has answered the request.
func (c *httpConn) acceptable(rw http.ResponseWriter, r *http.Request) bool {
	switch most := c.c.limits.MaxMessage; {
	case r.Method != http.MethodPost:
		c.wrongMethod(rw, r, "POST")
	case !c.local && !isJSONType(mediaType(r.Header.Get("Content-Type"))):
		c.refuse(rw, r, http.StatusUnsupportedMediaType, &fault{Code: codeInvalid, Text: "the Content-Type must be " + jsonType})
	case r.ContentLength > int64(most):
		c.log.warn("a message was refused", "limit", "max_message", "max", most)
		c.refuse(rw, r, http.StatusRequestEntityTooLarge, tooLarge("max_message", int64(most), "the body is too large"))
	default:
		return true
	}
	return false
}

func (c *httpConn) wrongMethod(rw http.ResponseWriter, r *http.Request, allowed string) {
	rw.Header().Set("Allow", allowed)
	c.refuse(rw, r, http.StatusMethodNotAllowed, &fault{Code: codeInvalid, Text: "the method must be " + allowed})
}

// refuse answers a request that starts no call.
func (c *httpConn) refuse(rw http.ResponseWriter, r *http.Request, status int, f *fault) {
	if f.Code == codeDenied {
		c.audit(r, f)
	}
	c.c.shared.meter.reject(f)
	c.c.shared.tellLimit("", c.caller, f)
	c.problem(rw, r, status, f)
}

// audit records a request for what is no call: that it was refused with f, or served. The refusal of a whole connection has been
// recorded.
func (c *httpConn) audit(r *http.Request, f *fault) {
	a := c.c.shared.audit
	if c.c.refusal != nil || !a.wants(f != nil) {
		return
	}
	e := auditEntry{peer: &c.c.peer, action: rights[rightCall].key, what: r.URL.Path, denied: f != nil}
	if e.what == metricsPath || strings.HasPrefix(e.what, pprofPath) {
		e.action = rights[rightAdmin].key
		e.by = c.c.server.policy().decide(&c.c.peer, rightAdmin, "").basis()
	}
	if f != nil {
		e.code = f.Code
	}
	a.write(&e)
}

// problem answers with a fault: to JSON-RPC as a response whose id is null, and to anything else as
// {"code":...,"message":...,"data":...}.
func (c *httpConn) problem(rw http.ResponseWriter, r *http.Request, status int, f *fault) {
	if f.data().Retry {
		rw.Header().Set("Retry-After", "1")
	}
	if status == http.StatusRequestEntityTooLarge || status == http.StatusHTTPVersionNotSupported || c.c.refusal != nil {
		rw.Header().Set("Connection", "close") // what follows is not wanted
	}
	body := appendFault(nil, f)
	if isRPC(r) {
		body, _ = appendMessage(nil, &message{kind: response, id: callID{json: nullID}, fault: f}, nil)
	}
	sendJSON(rw, r, status, append(body, '\n'))
}

// statusOf returns the HTTP status for a fault outside of JSON-RPC.
func statusOf(f *fault) int {
	switch f.Code {
	case codeParse, codeInvalid, codeBadArgument:
		return http.StatusBadRequest
	case codeUnproven:
		return http.StatusUnauthorized
	case codeDenied:
		return http.StatusForbidden
	case codeNoMethod:
		return http.StatusNotFound
	case codeTooLarge:
		return http.StatusRequestEntityTooLarge
	case codeBusy:
		return http.StatusTooManyRequests
	case codeGone:
		return http.StatusBadGateway
	case codeHops:
		return http.StatusLoopDetected
	case codeShuttingDown, codeCancelled:
		return http.StatusServiceUnavailable
	case codeDeadline:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}
