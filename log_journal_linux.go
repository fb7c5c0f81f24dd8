package main

// This file owns logging to systemd's journal by its native protocol, which keeps the level and the fields apart from
// the text. It is the only one that imports go-systemd's journal.

import (
	"os"

	"github.com/coreos/go-systemd/v22/journal"
)

func init() { openJournal = journalBehind }

// journalBehind returns a function that sends a line to the journal, if f leads there. systemd says so in
// $JOURNAL_STREAM, with the identity of the file, by which a later redirection shows (systemd.exec(5)).
func journalBehind(f *os.File) func(journalEntry) error {
	if f != os.Stderr {
		return nil
	}
	if is, err := journal.StderrIsJournalStream(); err != nil || !is || !journal.Enabled() {
		return nil
	}
	return func(e journalEntry) error { return journal.Send(e.message, journal.Priority(e.priority), e.fields) }
}
