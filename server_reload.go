package main

// This file owns how a server applies reloaded settings. Open connections keep the limits they began with.

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// prepare implements reloader.
func (s *server) prepare(old, now settings) (commit func(), err error) {
	turnKeys, err := s.keys.prepare(now)
	if err != nil {
		return nil, err
	}
	another := now.auditFile() != old.auditFile()
	if another {
		if err := s.newAudit(now, (*auditFile).try); err != nil {
			return nil, err
		}
	}
	return func() {
		turnKeys()
		s.inForce.Store(&now.Limits)
		s.quotas.Store(&now.quotas)
		s.router.obey(now.Limits)
		s.budget.obey(now.Limits)
		s.foreman.set(ceilingOf(now.Limits))
		s.meter.book.obey(now.Limits.MaxMetered)
		s.router.events.keep(now.Topics)
		s.obey(&now.policy)
		s.audit.obey(now.Audit)
		if file := s.audit.file.Load(); file != nil && !another {
			file.bound(now.Limits.AuditSize, now.Limits.AuditFiles)
		}
		if another {
			if err := s.openAudit(now); err != nil { // it could be opened a moment ago
				s.log.error("the audit log goes on as before", "error", err)
			}
		}
	}, nil
}

// auditFile is the file of the audit log, or empty if there is none to be written.
func (st *settings) auditFile() string {
	if st.Audit == auditOff {
		return ""
	}
	return st.AuditFile
}

// checkAudit returns why there can be no file of the audit log, as far as that can be told by one who is not the daemon.
func checkAudit(set settings) error {
	if set.auditFile() == "" {
		return nil
	}
	dir := filepath.Dir(set.AuditFile)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return usagef("audit_file: the directory %s is not there", dir).withHint("make it: %s", makeDirLine(dir))
	case err == nil && !info.IsDir():
		return usagef("audit_file: %s is no directory", dir).withHint("name a file in another directory")
	}
	return nil
}

// openAudit has the audit log go to the file of the settings, or to the daemon's log if there is none.
func (s *server) openAudit(set settings) error {
	return s.newAudit(set, func(file *auditFile) error {
		if file != nil {
			if err := file.begin(isFull); err != nil {
				return err
			}
		}
		return s.audit.file.Swap(file).close()
	})
}

// openAuditAgain is openAudit for a daemon that takes the place of another one in its process, which must not end for want of a file that
// was there. What keeps it from being written may pass, and is told; only where others could change it the lines go to the daemon's log.
func (s *server) openAuditAgain(set settings) error {
	err := s.openAudit(set)
	if err == nil {
		return nil
	}
	file := s.auditFileOf(set)
	if dir := filepath.Dir(file.name); distrusted(dir) != nil {
		if _, gone := os.Lstat(dir); !errors.Is(gone, fs.ErrNotExist) {
			s.log.error("the audit log is part of this one", "error", err)
			return nil
		}
	}
	if err := file.begin(func(error) bool { return true }); err != nil {
		return err
	}
	return s.audit.file.Swap(file).close()
}

// tryAudit returns why a daemon could not begin with the file of the audit log in the settings.
func tryAudit(set settings) error {
	return useAudit(&auditFile{name: set.auditFile()}, func(file *auditFile) error {
		if err := file.try(); err != nil && !isFull(err) {
			return err
		}
		return nil
	})
}

// auditFileOf returns the file of the audit log, which has not been opened.
func (s *server) auditFileOf(set settings) *auditFile {
	file := &auditFile{name: set.auditFile(), tell: s.audit.tell, wrote: &s.audit.wrote, lost: &s.audit.lost}
	file.bound(set.Limits.AuditSize, set.Limits.AuditFiles)
	return file
}

// newAudit calls use with the file of the audit log, which has not been opened, or with nil if there is none.
func (s *server) newAudit(set settings, use func(*auditFile) error) error {
	return useAudit(s.auditFileOf(set), use)
}

func useAudit(file *auditFile, use func(*auditFile) error) error {
	if file.name == "" {
		return use(nil)
	}
	err := distrusted(filepath.Dir(file.name))
	if err == nil {
		err = use(file)
	}
	if err == nil {
		return nil
	}
	hint := hintFor(err)
	if hint == "" {
		hint = "make a directory that is the daemon's alone, or leave audit_file out: the audit log is then part of the daemon's log"
	}
	return usagef("audit_file: %s cannot be written: %w", file.name, withoutPath(err)).withHint("%s", hint)
}
