package main

// This file owns the tests of /debug/pprof/.

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestProfilesAreForTheOwner(t *testing.T) {
	at := localEndpoint(t).String()
	const zipped = "\x1f\x8b"
	for _, row := range []struct {
		name, endpoint string
		on             bool
		path           string
		status         int
		words          string
	}{
		{"off", at, false, "/debug/pprof/heap", http.StatusNotFound, `"code":-32601`},
		{"on", at, true, "/debug/pprof/heap", http.StatusOK, zipped},
		{"as text", at, true, "/debug/pprof/goroutine?debug=1", http.StatusOK, "goroutine profile: total "},
		{"of the processor", at, true, "/debug/pprof/profile?seconds=0.01", http.StatusOK, zipped},
		{"for no time", at, true, "/debug/pprof/profile?seconds=0", http.StatusBadRequest, "is not a number up to 300"},
		{"for too long", at, true, "/debug/pprof/profile?seconds=1e300", http.StatusBadRequest, "is not a number up to 300"},
		{"for no number", at, true, "/debug/pprof/profile?seconds=NaN", http.StatusBadRequest, "is not a number up to 300"},
		{"the list", at, true, "/debug/pprof/", http.StatusOK, "profile?seconds=30\n"},
		{"the list without its slash", at, true, "/debug/pprof", http.StatusOK, "heap?debug=1\t"},
		{"none of that name", at, true, "/debug/pprof/heat", http.StatusNotFound, "there is no profile heat; there are profile, allocs"},
		{"over TCP", "tcp://127.0.0.1:0?auth=none", true, "/debug/pprof/heap", http.StatusForbidden, `"code":-32005`},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, row.endpoint)
			s.life.pprof = row.on
			answer, body := s.get(row.path)
			if answer.StatusCode != row.status || !strings.Contains(body, row.words) {
				t.Errorf("%s is answered with %s: %.200q; want %d and %q", row.path, answer.Status, body, row.status, row.words)
			}
		})
	}
}

// Who is no owner gets none at a local endpoint either.
func TestProfilesAreNotForOthers(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	s.life.pprof = true
	c := &connection{server: s.server, shared: s.shared, endpoint: s.endpoints[0], limits: s.limits(), peer: peer{Known: true, UID: 12345}}
	answer := httptest.NewRecorder()
	(&httpConn{c: c, local: true, log: s.server.log}).pprof(answer, httptest.NewRequest(http.MethodGet, "http://localhost/debug/pprof/heap", nil))
	if answer.Code != http.StatusForbidden {
		t.Errorf("one who is not the owner is answered with %d", answer.Code)
	}
}
