package main

// This file owns the directories that a service of Windows has of its own, and that nobody else has
// anything to do in.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// programDir is where install puts a copy of the program: Program Files, whatever it is called here, has
// a directory for each.
func programDir() (string, error) {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramFiles, 0)
	if err != nil {
		return "", fmt.Errorf("find the directory for programs: %w", err)
	}
	return filepath.Join(dir, "ipcd"), nil
}

// A dirPart is a directory of the service that is closed to others: everybody may make directories in
// %ProgramData%, and read what is there.
type dirPart struct {
	path    string
	service string // whose SID gets rights in it, whatever account the service has
	rights  string
}

func (p *dirPart) name() string   { return p.path }
func (p *dirPart) does() []string { return nil }

func (p *dirPart) want() string { return "a directory that is closed to others\n" }

// have looks at who is let in, rather than how the list of those is spelled.
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

// put makes the directory as it should be, or closes one of ours. What is in a directory of another's
// is theirs too.
func (p *dirPart) put() error {
	if have, err := p.have(); err == nil && have == p.want() {
		return nil
	}
	// Its owner is the administrators, and not the one of them who installs: the service would not trust that one's.
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

// remove takes it away when nothing is in it.
func (p *dirPart) remove() error {
	os.Remove(p.path)
	return nil
}

// save: to have closed one that was there does no harm.
func (p *dirPart) save() (restore func() error) {
	if _, err := os.Lstat(p.path); err != nil {
		return p.remove
	}
	return func() error { return nil }
}
