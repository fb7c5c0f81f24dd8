package main

import "testing"

// TestEveryTransportAnswers wants a row for each scheme, from which listening and dialling get an answer
// whatever this system has, and a peer where there can be a connection.
func TestEveryTransportAnswers(t *testing.T) {
	for _, scheme := range schemes {
		row, ok := transports[scheme]
		if !ok {
			t.Errorf("there is no transport for %s:", scheme)
			continue
		}
		e := endpoint{Scheme: scheme, Path: "/nowhere", Host: "127.0.0.1:1", Command: []string{"program"}}
		if row.listen == nil || row.dial == nil {
			t.Errorf("the transport of %s: has no listen, or no dial", scheme)
		}
		if (row.identify == nil) != (row.lacking != nil && scheme != "fork") {
			t.Errorf("the transport of %s: identifies peers: %t; want that where there are connections alone", scheme, row.identify != nil)
		}
		if row.lacking == nil {
			continue
		}
		_, err := row.listen(e, audience{})
		checkCode(t, "listen on "+scheme, err, codeUsage, "")
		checkCode(t, "check "+scheme, row.check(e), codeUsage, "")
		if scheme != "fork" {
			_, err = row.dial(t.Context(), e, dialOptions{})
			checkCode(t, "dial "+scheme, err, codeUsage, "")
		}
	}
}
