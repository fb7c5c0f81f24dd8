package main

// This file owns who makes a request over HTTP: whoever holds the token in its header Authorization (RFC 6750). Nothing else is
// looked at: a browser sends cookies, and what stands in a URL, for pages that know of neither.

import (
	"net/http"
	"strings"
)

// forget has nobody be known by what an earlier request has shown: a proxy passes on the requests of several callers over one connection.
func (c *httpConn) forget() {
	c.caller = &c.c.peer
	if by := c.caller.proof; by != nil {
		by.shown.Store(nil)
	}
}

// admits finds out who makes a request, or answers it and returns false. The health check is for load balancers, which have no token; a
// CONNECT may show its token behind it, since rpc.DialHTTP sends no header.
func (c *httpConn) admits(rw http.ResponseWriter, r *http.Request, place string) bool {
	own := c.caller
	if own.Known {
		return true
	}
	text, shown := tokenIn(r)
	switch {
	case shown && own.proof == nil:
		f := c.c.server.mayProve(own, nil)
		c.log.warn("a token came where none is taken, and others may have read it on the way")
		c.refuse(rw, r, statusOf(f), f)
		return false
	case shown:
		return c.take(rw, r, text)
	case own.proof == nil, place == healthPath:
		return true
	case own.proof.isNeeded() && r.Method != http.MethodConnect:
		if own.proof.needed.Code == codeUnproven {
			rw.Header().Set("WWW-Authenticate", "Bearer")
		}
		c.refuse(rw, r, statusOf(own.proof.needed), own.proof.needed)
		return false
	}
	if c.c.quota != nil { // an earlier request was another one's
		if f := c.c.server.countFor(c.c, own); f != nil {
			c.refuse(rw, r, statusOf(f), f)
			return false
		}
	}
	if !own.proof.isNeeded() {
		c.caller = own.proving(&proof{})
	}
	return true
}

// take finds out who holds the token of a request, or answers it and returns false.
func (c *httpConn) take(rw http.ResponseWriter, r *http.Request, text string) bool {
	s := c.c.server
	b, f, slow := s.gate.check(text, &c.c.peer, c.log)
	if f == nil {
		f = c.c.prove(b)
	}
	if f == nil {
		c.caller = c.c.peer.proving(proofOf(b)) // a method of an earlier request may still look at its own
		return true
	}
	if f.Code == codeUnproven {
		s.hold(slow, r.Context().Done())
		rw.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="`+strings.ReplaceAll(f.Text, `"`, "'")+`"`)
	}
	c.refuse(rw, r, statusOf(f), f)
	return false
}

// tokenIn returns the token in the header of a request. That of another scheme is none.
func tokenIn(r *http.Request) (text string, shown bool) {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(text), strings.EqualFold(scheme, "Bearer")
}
