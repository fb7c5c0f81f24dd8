package main

// This file owns what a service leaves behind: what is removed with it, what is kept for the user, and how that is
// told from what belongs to others.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// clean removes what a service has left behind, and says what it keeps. If no service was installed, it removes nothing
// that has no receipt: names are short, and /var/lib has directories of others.
func (i *installer) clean(installed bool) (removed bool) {
	gone, kept := i.sup.remains(i.d)
	if claimed := i.claimed(kept); !claimed && !installed && !i.d.user {
		for _, path := range kept {
			if _, err := os.Lstat(path); err == nil && i.purge {
				i.say("left %s: nothing tells that a service of ipcd has made it", path)
			}
		}
		return false
	}
	sweep(gone)
	if i.d.Copied {
		kept = append(kept, i.d.Program)
	}
	left := slices.ContainsFunc(kept, func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && !(info.IsDir() && onlyHas(path))
	})
	for _, path := range kept {
		info, err := os.Lstat(path)
		switch {
		case err != nil:
		case i.purge:
			later, err := i.removeKept(path)
			switch {
			case err != nil:
				i.say("left %s: %s", path, err)
				continue
			case later:
				i.say("%s goes when the computer is started again: it is this program", path)
			default:
				i.say("removed %s", path)
			}
			removed = true
		case info.Mode()&fs.ModeSymlink != 0 && slices.Contains(kept, resolved(path)): // what it leads to is reported
		case info.IsDir() && !left: // nothing is in it but the receipt, which nobody needs
			os.Remove(filepath.Join(path, receipt))
			os.Remove(path)
		default:
			i.say("left %s; \"ipcd uninstall%s --purge\" removes it", path, i.d.flags())
		}
	}
	for _, path := range kept { // a link to a directory that has just been removed
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				os.Remove(path)
			}
		}
	}
	sweep(gone) // what has become empty
	return removed
}

// removeKept removes what --purge is for. What is at the path of the program may be another one by now.
func (i *installer) removeKept(path string) (later bool, err error) {
	switch {
	case !i.d.Copied || path != i.d.Program:
		return false, os.RemoveAll(path)
	case !isOurProgram(path):
		return false, errors.New("it is not the program that install has put there")
	}
	return removeProgram(path)
}

// receipt is a file in each directory that uninstall keeps. By it, a later uninstall, which finds no service, knows
// whose the directory was.
const receipt = ".ipcd"

// claim writes receipts. Call it before the parts are removed: until then they show that the directories are ours.
func (i *installer) claim() {
	if i.d.user { // the directories are the user's anyway
		return
	}
	_, kept := i.sup.remains(i.d)
	for _, dir := range kept {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
			continue
		}
		if f, err := os.OpenFile(filepath.Join(dir, receipt), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
			fmt.Fprintln(f, i.d.mark())
			f.Close()
		}
	}
}

// claimed reports whether there is a receipt, and learns from it where the program was copied to.
func (i *installer) claimed(kept []string) bool {
	for _, dir := range kept {
		text, err := readUnit(filepath.Join(dir, receipt))
		if err != nil || !isOurText(text) || mayBeForged != nil && mayBeForged(filepath.Join(dir, receipt)) {
			continue
		}
		if _, copied, err := readMark(text); err == nil && copied != "" {
			i.d.Program, i.d.Copied = copied, true
		}
		return true
	}
	return false
}

// onlyHas reports whether a directory contains nothing but the receipt and paths.
func onlyHas(dir string, paths ...string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return e.Name() != receipt && !slices.Contains(paths, filepath.Join(dir, e.Name()))
	})
}

func resolved(path string) string {
	to, err := os.Readlink(path)
	if err == nil && !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(path), to)
	}
	return to
}

// sweep removes files and empty directories, and ignores what it cannot remove.
func sweep(paths []string) {
	for _, p := range paths {
		os.Remove(p) // what does not exist, or is not empty, is no error
	}
}

// undoRemains returns a function that removes what a service that did not start has created since.
func (i *installer) undoRemains() func() error {
	gone, kept := i.sup.remains(i.d)
	paths := slices.DeleteFunc(append(gone, kept...), func(p string) bool {
		_, err := os.Lstat(p)
		return err == nil
	})
	return func() error {
		var errs []error
		for _, p := range paths {
			errs = append(errs, os.RemoveAll(p))
		}
		return errors.Join(errs...)
	}
}

// checkState refuses a name that another program's directory has: the service manager would give the service that
// directory, with all that is in it.
func (i *installer) checkState(installed bool) error {
	gone, kept := i.sup.remains(i.d)
	if installed || i.d.user || i.claimed(kept) {
		return nil
	}
	for _, dir := range kept {
		if info, err := os.Stat(dir); err == nil && info.IsDir() && filepath.Base(dir) == i.d.name && !onlyHas(dir, append(gone, i.d.ConfigFile, filepath.Join(dir, startLog), filepath.Join(dir, tokenFile))...) {
			return faultf(codeApplication, "there is a directory %s that no service of ipcd has left; nothing was changed", dir).
				withHint("choose another name: --name ipcd-2")
		}
	}
	return nil
}
