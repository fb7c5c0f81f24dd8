package main

// This file owns the journal of systemd as a place for the log: its native protocol, which keeps
// level and fields apart. It is the only one that knows go-systemd's journal.

import (
	"os"

	"github.com/coreos/go-systemd/v22/journal"
)

func init() { openJournal = journalBehind }

// journalBehind returns what sends a line to the journal, where that is what f leads to: systemd says so
// in $JOURNAL_STREAM, and a file that has been redirected since is another one (systemd.exec(5)).
func journalBehind(f *os.File) func(journalEntry) error {
	if f != os.Stderr {
		return nil
	}
	if is, err := journal.StderrIsJournalStream(); err != nil || !is || !journal.Enabled() {
		return nil
	}
	return func(e journalEntry) error { return journal.Send(e.message, journal.Priority(e.priority), e.fields) }
}
