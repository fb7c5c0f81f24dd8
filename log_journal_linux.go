package main

// This file owns logging to systemd's journal over its native protocol, which keeps level and fields separate. No
// other file imports go-systemd's journal package.

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

func init() { openJournal = journalBehind }

// journalBehind is openJournal for systemd. $JOURNAL_STREAM says which file leads to the journal, so that a stderr
// that has been redirected since is noticed (systemd.exec(5)).
func journalBehind(f *os.File) func(journalEntry) error {
	if f != os.Stderr {
		return nil
	}
	if is, err := journal.StderrIsJournalStream(); err != nil || !is || !journal.Enabled() {
		return nil
	}
	return sendToJournal
}

const journalSocket = "/run/systemd/journal/socket" // systemd.io/JOURNAL_NATIVE_PROTOCOL

// sendToJournal sends a line, and waits while the journal does not read. Send of go-systemd's journal does not wait but try
// again and again, with all of a processor: its socket is not connected, and of such a one the kernel always says that it
// can be written to. A line that is too long for a datagram is an error.
func sendToJournal(e journalEntry) error {
	conn, err := net.Dial("unixgram", journalSocket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write(e.native())
	return err
}

// native is e in the journal's protocol: a field a line, save for those of several lines, whose length comes first.
func (e journalEntry) native() []byte {
	b := fmt.Appendf(nil, "PRIORITY=%d\nMESSAGE=%s\n", e.priority, e.message)
	for name, value := range e.fields {
		if !strings.Contains(value, "\n") {
			b = fmt.Appendf(b, "%s=%s\n", name, value)
			continue
		}
		b = binary.LittleEndian.AppendUint64(append(b, name+"\n"...), uint64(len(value)))
		b = append(append(b, value...), '\n')
	}
	return b
}
