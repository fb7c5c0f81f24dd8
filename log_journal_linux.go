package main

// This file owns logging to systemd's journal over its native protocol, which keeps level and fields separate. No
// other file imports go-systemd's journal package.

import (
	"os"

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
	return func(e journalEntry) error { return journal.Send(e.message, journal.Priority(e.priority), e.fields) }
}
