package main

// This file owns the tests of what Linux alone tells of a connection over TCP: that its peer has shut its sending side, behind what has
// not been read.

import (
	"context"
	"strings"
	"testing"
)

// The calls of a caller over TCP who goes while the reader waits for memory, with more behind that, end after half_close as they do of
// one whose end has been read; who has shut the sending side alone hears that.
func TestCallerOverTCPWhoWaitsForMemoryAndGoes(t *testing.T) {
	for name, half := range map[string]bool{"gone": false, "half-closed": true} {
		t.Run(name, func(t *testing.T) {
			s, end := waitsHeavilyAt(t, mustParse(t, "tcp://127.0.0.1:0?auth=none"), heavyCall(`"id":3,`))
			send(t, end.Conn, heavyCall(`"id":4,`))
			if half {
				must(t, end.Conn.(interface{ CloseWrite() error }).CloseWrite())
			} else {
				must(t, end.Close())
			}
			for range 2 {
				if err := receive(t, s.trial.left); err != context.Canceled {
					t.Errorf("a call of one who has gone ends with %v", err)
				}
			}
			for answers := 0; half && answers < 4; answers++ {
				if line, err := end.lines.ReadString('\n'); err != nil || !strings.Contains(line, `"code":-32800`) {
					t.Errorf("there comes %s, %v", shorten(line, 100), err)
				}
			}
			end.Close()
			s.idle()
		})
	}
}
