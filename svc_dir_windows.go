package main

// This file owns the directories of a service on Windows: where they are, and that nobody else gets into them.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// programDir is where install puts a copy of the program: our directory in Program Files, whatever that is called here.
func programDir() (string, error) {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramFiles, 0)
	if err != nil {
		return "", fmt.Errorf("find the directory for programs: %w", err)
	}
	return filepath.Join(dir, "ipcd"), nil
}

// A dirPart is a directory of the service that is closed to others. In %ProgramData% everybody may create directories,
// and by default read what is in them.
type dirPart struct {
	path    string
	service string // its SID gets rights, under whatever account the service runs
	rights  string // of the service: rightsRead or rightsModify
}

func (p *dirPart) name() string   { return p.path }
func (p *dirPart) does() []string { return nil }

func (p *dirPart) want() string { return "a directory that is closed to others\n" }

// have compares who has access, not how the list is spelled.
func (p *dirPart) have() (string, error) {
	info, err := os.Lstat(p.path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", faultf(codeApplication, "%s is no directory", p.path).withHint("see what it is, and remove it")
	}
	others, err := othersIn(p.path, anyRight, serviceSID(p.service))
	if err != nil {
		return "", fmt.Errorf("ask who may use %s: %w", p.path, err)
	}
	if len(others) > 0 {
		return "a directory that is open to " + nameSIDs(others) + "\n", nil
	}
	return p.want(), nil
}

// put creates the directory as it should be, or closes one of ours. It refuses one that belongs to somebody else, to
// whom everything in it may belong as well.
func (p *dirPart) put() error {
	if have, err := p.have(); err == nil && have == p.want() {
		return nil
	}
	// The owner is the group of administrators, not the one who installs: the service would not trust that user.
	sd, err := windows.SecurityDescriptorFromString("O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;" + p.rights + ";;;" + serviceSID(p.service) + ")")
	if err != nil {
		return fmt.Errorf("make %s: %w", p.path, err)
	}
	name, err := windows.UTF16PtrFromString(p.path)
	if err != nil {
		return fmt.Errorf("make %s: %w", p.path, err)
	}
	if err = windows.CreateDirectory(name, securityOf(sd)); err == nil {
		return nil
	}
	if !isAny(err, windows.ERROR_ALREADY_EXISTS) {
		return fmt.Errorf("make %s: %w", p.path, err)
	}
	if owner, err := ownerOfFile(p.path); err != nil || !isTrustedOwner(owner) {
		return errors.Join(faultf(codeApplication, "%s belongs to %s, and is in the place of a directory of the service", p.path, nameSIDs([]string{owner})).
			withHint("see what is in it, and remove it: rmdir /s %q", p.path), err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return fmt.Errorf("close %s: %w", p.path, err)
	}
	err = windows.SetNamedSecurityInfo(p.path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil)
	if err != nil {
		return fmt.Errorf("close %s: %w", p.path, err)
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return fmt.Errorf("close %s: %w", p.path, err)
	}
	err = windows.SetNamedSecurityInfo(p.path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION, owner, nil, nil, nil)
	if err != nil {
		return fmt.Errorf("take %s over: %w", p.path, err)
	}
	return nil
}

// remove removes the directory if it is empty.
func (p *dirPart) remove() error {
	os.Remove(p.path)
	return nil
}

// save leaves a directory that was there closed: that does no harm.
func (p *dirPart) save() (restore func() error) {
	if _, err := os.Lstat(p.path); err != nil {
		return p.remove
	}
	return func() error { return nil }
}
