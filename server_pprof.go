package main

// This file owns what "ipcd run --pprof" adds: profiles of the daemon below /debug/pprof/, in the forms of net/http/pprof, for the user
// that it runs as and at a local endpoint alone. A profile has addresses, stacks and names of what others do, and costs time.
//
// net/http/pprof itself would cost each start of the program 2.5 % of its page faults, "ipcd call" included: its init adds to a mux
// that nobody serves, and it has its own template and symbol table.

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	pprofPath   = "/debug/pprof"
	profileTime = 30 * time.Second // of a CPU profile whose seconds are not said, as elsewhere
	profileMost = 5 * time.Minute

	profileEvery = 512 << 10 // bytes of memory that are taken for each stack that the profile of the heap keeps: Go's own choice
)

// init switches the profile of the heap off, which Go keeps in every program that could show it. "ipcd run --pprof" switches it on.
func init() { runtime.MemProfileRate = 0 }

// pprof answers with a profile, or the list of those that there are.
func (c *httpConn) pprof(rw http.ResponseWriter, r *http.Request) {
	switch name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, pprofPath), "/"); {
	case !c.c.server.life.pprof:
		c.notFound(rw, r)
	case !c.local || !c.c.peer.owns:
		c.refuse(rw, r, http.StatusForbidden, faultf(codeDenied, "access denied: profiles are for the user that the daemon runs as and %s, at a local endpoint", masters))
	case r.Method != http.MethodGet:
		c.wrongMethod(rw, r, "GET")
	case name == "":
		c.audit(r, nil)
		c.listProfiles(rw)
	case name == "profile":
		c.audit(r, nil)
		c.profileCPU(rw, r)
	default:
		c.audit(r, nil)
		c.profile(rw, r, name)
	}
}

// listProfiles lists the profiles, each with how many entries it has.
func (c *httpConn) listProfiles(rw http.ResponseWriter) {
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(rw, "profile?seconds=%d\n", profileTime/time.Second)
	for _, p := range pprof.Profiles() {
		fmt.Fprintf(rw, "%s?debug=1\t%d\n", p.Name(), p.Count())
	}
}

// profile answers with a profile of what is. With debug it is text.
func (c *httpConn) profile(rw http.ResponseWriter, r *http.Request, name string) {
	p := pprof.Lookup(name)
	if p == nil {
		var names []string
		for _, p := range pprof.Profiles() {
			names = append(names, p.Name())
		}
		slices.Sort(names)
		c.refuse(rw, r, http.StatusNotFound, faultf(codeNoMethod, "there is no profile %s; there are profile, %s", shorten(name, 40), strings.Join(names, ", ")))
		return
	}
	if r.FormValue("gc") != "" && name == "heap" {
		runtime.GC()
	}
	debug, _ := strconv.Atoi(r.FormValue("debug"))
	var b bytes.Buffer
	if err := p.WriteTo(&b, debug); err != nil {
		c.problem(rw, r, http.StatusInternalServerError, faultf(codeInternal, "%w", err))
		return
	}
	c.sendProfile(rw, name, b.Bytes(), debug != 0)
}

// profileCPU answers with what the daemon computes within the seconds that r asks for. It ends early if the caller goes, or the daemon
// stops.
func (c *httpConn) profileCPU(rw http.ResponseWriter, r *http.Request) {
	span := profileTime
	if text := r.FormValue("seconds"); text != "" {
		n, err := strconv.ParseFloat(text, 64)
		if span = time.Duration(n * float64(time.Second)); err != nil || !(n > 0 && n <= profileMost.Seconds()) {
			c.refuse(rw, r, http.StatusBadRequest, faultf(codeBadArgument, "seconds: %q is not a number up to %d", shorten(text, 40), profileMost/time.Second))
			return
		}
	}
	c.setWaiting(false)
	c.Conn.SetReadDeadline(time.Time{}) // it may take longer than a request
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil { // there is one at a time
		c.refuse(rw, r, http.StatusTooManyRequests, &fault{Code: codeBusy, Text: "a CPU profile is being taken", Data: faultData{Retry: true}.json()})
		return
	}
	over, look := time.NewTimer(span), time.NewTicker(goneInterval)
	defer over.Stop()
	defer look.Stop()
	for more := true; more && !c.left.Load() && r.Context().Err() == nil; {
		select {
		case <-over.C:
			more = false
		case <-look.C:
		}
	}
	pprof.StopCPUProfile()
	c.sendProfile(rw, "profile", b.Bytes(), false)
}

func (c *httpConn) sendProfile(rw http.ResponseWriter, name string, b []byte, text bool) {
	rw.Header().Set("Content-Type", "application/octet-stream")
	if text {
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	} else {
		rw.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	}
	rw.Header().Set("Content-Length", strconv.Itoa(len(b)))
	rw.Write(b)
}
