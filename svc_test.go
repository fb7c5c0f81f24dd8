package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestServicePlace(t *testing.T) {
	for _, test := range []struct {
		path  string
		lasts bool
	}{
		{"/usr/local/bin/ipcd", true},
		{"/opt/ipcd/bin/ipcd", true},
		{"/opt/homebrew/bin/ipcd", true},
		{"/tmp/go-build1234/b001/exe/ipcd", false},
		{"/opt/homebrew/Cellar/ipcd/1.2.0/bin/ipcd", false},
		{"/nix/store/abc-ipcd-1.2/bin/ipcd", false},
		{"/home/ada/.asdf/installs/ipcd/latest/bin/ipcd", false},
		{"/opt/ipcd-tools/v1.2.3/ipcd", false},
	} {
		if err := checkPlace(test.path); (err == nil) != test.lasts {
			t.Errorf("checkPlace(%q) = %v; want it to last: %v", test.path, err, test.lasts)
		}
	}
}

func TestServiceMark(t *testing.T) {
	d := testDeployment(t, "second", "unix:///srv/a b.sock")
	d.Config = `/etc/it's "mine".toml`
	for _, copied := range []bool{false, true} {
		d.Copied, d.Program = copied, "/opt/my ipcd"
		command, where, err := readMark("# " + d.mark() + "\nrest: for: ipcd run\n")
		if err != nil || !slices.Equal(command, d.command()[1:]) || (where == d.Program) != copied {
			t.Errorf("copied %v: readMark = %q, %q, %v", copied, command, where, err)
		}
	}
	for _, text := range []string{"", "[Service]\nExecStart=/bin/true\n", "# Written by \"ipcd install\n", "# Written by somebody for: ipcd run"} {
		if command, _, err := readMark(text); err == nil {
			t.Errorf("readMark(%q) = %q; want an error", text, command)
		}
	}
}

func TestServiceFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "units", "ipcd.socket")
	p := &filePart{path: path, text: "one\n", mode: 0o644}
	if _, err := p.have(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("have before anything is there: %v", err)
	}
	undo := p.save()
	must(t, p.put())
	if text, err := p.have(); err != nil || text != "one\n" {
		t.Errorf("have = %q, %v", text, err)
	}
	p.text = "two\n"
	back := p.save()
	must(t, p.put())
	must(t, back())
	if text, _ := p.have(); text != "one\n" {
		t.Errorf("after it was taken back there is %q", text)
	}
	must(t, undo())
	must(t, p.remove()) // nothing is there
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	must(t, os.Mkdir(path, 0o755))
	if _, err := p.have(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory in its place: %v; want an error that says so", err)
	}
}

func TestServiceCopy(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "new"), filepath.Join(dir, "bin", "ipcd")
	must(t, os.WriteFile(from, []byte("new"), 0o755))
	p := &copyPart{from: from, path: to}
	undo := p.save()
	must(t, p.put())
	if have, err := p.have(); err != nil || have != p.want() {
		t.Errorf("have = %q, %v; want %q", have, err, p.want())
	}
	must(t, undo())
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after it was taken back: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(to)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory that was made for it: %v", err)
	}
	must(t, os.Mkdir(filepath.Dir(to), 0o755))
	must(t, os.WriteFile(to, []byte("old"), 0o755))
	undo = p.save()
	must(t, p.put())
	must(t, undo())
	if b, _ := os.ReadFile(to); string(b) != "old" {
		t.Errorf("after it was taken back there is %q", b)
	}
}

// What cannot be printed keeps nothing from being done, and is what the command fails with in the end.
func TestInstallerKeepsWhatItCouldNotSay(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	r.Close()
	w.Close()
	i := &installer{out: w}
	i.say("one")
	first := i.unsaid
	i.say("two")
	if !errors.Is(first, os.ErrClosed) || i.unsaid != first {
		t.Errorf("after what could not be said the installer has %v, and then %v; want the first error", first, i.unsaid)
	}
}
