package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// plainDeployment is what "ipcd install" asks for, oddDeployment has all that can be asked for, with
// names that need quotes in every language.
func plainDeployment() *deployment {
	return &deployment{instance: instance{name: "ipcd"}, Program: "/usr/local/bin/ipcd", Settings: defaultSettings()}
}

func oddDeployment() *deployment {
	set := defaultSettings()
	set.Limits.Drain = 2500 * time.Millisecond
	return &deployment{
		instance: instance{name: "ipcd-2"}, Program: `/opt/it's here/<ipcd> & "co" $HOME`, Copied: true, Config: `/etc/ipcd 2/a;b|c.toml`,
		Given: []given{
			{key: "listen", values: []string{"unix:///run/ipcd-2/`x`.sock", `tcp://127.0.0.1:8888?auth=none&proto=\gob`}},
			{key: "allow_group", values: []string{"staff"}},
		},
		RunAs: "ada", AllowGroup: "staff", Settings: set,
	}
}

func golden(name string) string { return "testdata/service/" + name + ".golden" }

// needShellTool is needTool for what reads our scripts, which no Windows does. What takes a while
// is not run in the short run.
func needShellTool(t testing.TB, name string) string {
	t.Helper()
	if testing.Short() && name != "sh" {
		t.Skip("in the short run nothing but a shell reads it")
	}
	if runtime.GOOS == "windows" {
		t.Skipf("%s is of Unix", name)
	}
	return needTool(t, name)
}

// replaceOnce replaces a word that a text has exactly once.
func replaceOnce(t *testing.T, text, old, new string) string {
	t.Helper()
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%q is there %d times; want once:\n%s", old, n, text)
	}
	return strings.Replace(text, old, new, 1)
}

// checkShell has the shells and shellcheck read a script. What the one who reads it in defines or
// uses is unknown to them: SC1091, SC2034, SC2154; openrc-run they do not know: SC1008. What looks as if
// it should be expanded, or have other quotes, is meant: SC2016, SC1003.
func checkShell(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{{"sh", "-n"}, {"shellcheck", "-s", "sh", "-e", "SC1091,SC2034,SC2154,SC1008,SC2016,SC1003"}} {
		cmd := exec.Command(needShellTool(t, words[0]), append(words[1:], file)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s\n%s", strings.Join(words, " "), err, out, text)
		}
	}
}

// shellWords has a shell run a program of ours with the arguments that come out of a line, after eval
// where a script's reader does that, and returns them.
func shellWords(t *testing.T, script string) []string {
	t.Helper()
	out, err := exec.Command(needShellTool(t, "sh"), "-c", script).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, script)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

func TestShellLineIsWhatWasMeant(t *testing.T) {
	words := append(oddDeployment().command(), "", "-x", "a\tb", "~", "a=b", "{a,b}", "a=~", "$HOME", "`a`", "a;b", "a\nb", "ä")
	words = append(words, strings.Split("!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "")...)
	for _, line := range []string{shellLine(words...), joinWords(words)} {
		if got := shellWords(t, `printf '%s\0' `+line); !slices.Equal(got, words) {
			t.Errorf("a shell reads %s as %q; want %q", line, got, words)
		}
	}
	if got := shellLine("rc-update", "add", "ipcd"); got != "rc-update add ipcd" {
		t.Errorf("shellLine quotes what needs no quotes: %s", got)
	}
}

// fakeTools puts shell scripts before the tools of the system, each of which notes how it was called
// and keeps what it knows in $FAKE. What it returns reads the calls since the last time.
func fakeTools(t *testing.T, scripts map[string]string) (calls func() []string) {
	t.Helper()
	sh := needShellTool(t, "sh")
	dir := t.TempDir()
	for name, text := range scripts {
		text = "#!" + sh + "\necho \"${0##*/} $*\" >>\"$FAKE/calls\"\n" + text
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Setenv("FAKE", dir)
	return func() []string {
		b, err := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil {
			return nil
		}
		os.Remove(filepath.Join(dir, "calls"))
		return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	}
}

// take takes the steps, and returns what was asked of the tools meanwhile, without the questions.
func take(t *testing.T, calls func() []string, steps []step) (changes []string) {
	t.Helper()
	calls()
	if err := perform(t.Context(), steps); err != nil {
		t.Fatal(err)
	}
	for _, call := range calls() {
		if !strings.Contains(call, " print") && !strings.Contains(call, " onestatus") && !strings.Contains(call, "sysrc -n") {
			changes = append(changes, call)
		}
	}
	return changes
}

// checkTaken compares what take returns.
func checkTaken(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s asks for %q; want %q", what, got, want)
	}
}

// checkMark wants the command line of the daemon to be known from a text.
func checkMark(t *testing.T, d *deployment, text string) {
	t.Helper()
	if strings.Contains(text, "{{") {
		t.Errorf("kardianos/service would take {{ for its own:\n%s", text)
	}
	got, copied, err := readMark(text)
	if want := d.command()[1:]; err != nil || !slices.Equal(got, want) {
		t.Errorf("readMark = %q, %v; want %q", got, err, want)
	}
	if want := map[bool]string{true: d.Program}[d.Copied]; copied != want {
		t.Errorf("readMark says that %q was copied; want %q", copied, want)
	}
}

// FuzzShellWord wants a word that a shell gives back.
func FuzzShellWord(f *testing.F) {
	for _, w := range oddDeployment().command() {
		f.Add(w)
	}
	sh := needShellTool(f, "sh")
	f.Fuzz(func(t *testing.T, word string) {
		if strings.ContainsRune(word, 0) || len(word) > 1000 {
			t.Skip("no argument of a program has it")
		}
		for _, quoted := range []string{shellWord(word), joinWords([]string{word})} {
			out, err := exec.Command(sh, "-c", "printf '%s' "+quoted).Output()
			if err != nil || string(out) != word {
				t.Errorf("a shell reads %q as %q, %v", quoted, out, err)
			}
		}
	})
}

func TestScriptRefusesWhatCouldBeMore(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(d *deployment)
		want   string
	}{
		{"user with a command", func(d *deployment) { d.RunAs = "ada;reboot" }, "cannot be the name of a user"},
		{"user with an option", func(d *deployment) { d.RunAs = "-g0" }, "cannot be the name of a user"},
		{"user and group", func(d *deployment) { d.RunAs = "ada:wheel" }, "cannot be the name of a user"},
		{"long user", func(d *deployment) { d.RunAs = strings.Repeat("a", 300) }, "cannot be the name of a user"},
		{"group", func(d *deployment) { d.AllowGroup = "$(id)" }, "cannot be the name of a group"},
		{"relative program", func(d *deployment) { d.Program = "bin/ipcd" }, "no absolute path"},
		{"program on two lines", func(d *deployment) { d.Program = "/bin/ipcd\n. /tmp/x" }, "do not show"},
		{"configuration with a reset", func(d *deployment) { d.Config = "/etc/\x1bc" }, "do not show"},
		{"endpoint with no text", func(d *deployment) { d.Given = []given{{key: "listen", values: []string{"unix:///\xff"}}} }, "do not show"},
		{"endpoint that reads backwards", func(d *deployment) { d.Given = []given{{key: "listen", values: []string{"unix:///run/\u202ex"}}} }, "do not show"},
	} {
		d := plainDeployment()
		test.change(d)
		err := checkScript(d)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: checkScript = %v; want %q", test.name, err, test.want)
			continue
		}
		if code := exitCode(err); code != exitUsage {
			t.Errorf("%s: exit code %d; want %d", test.name, code, exitUsage)
		}
	}
	for _, d := range []*deployment{plainDeployment(), oddDeployment()} {
		if err := checkScript(d); err != nil {
			t.Errorf("%s: %v", d.name, err)
		}
	}
}

func TestCommandSaysWhatWentWrong(t *testing.T) {
	needShellTool(t, "sh")
	out, err := runCommand(t.Context(), "sh", "-c", "echo first; echo no such thing >&2; exit 7")
	if commandCode(err) != 7 || !strings.HasSuffix(err.Error(), "exit 7': no such thing") || out != "first\n" {
		t.Errorf("runCommand = %q, %v (code %d)", out, err, commandCode(err))
	}
	_, err = runCommand(t.Context(), "no-such-tool", "x y")
	if commandCode(err) != -1 || !strings.HasPrefix(err.Error(), "no-such-tool 'x y': ") {
		t.Errorf("a tool that is missing: %v (code %d)", err, commandCode(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = runCommand(ctx, "sh", "-c", "exit 0"); err == nil {
		t.Error("a command whose time was over was run")
	}
	if commandCode(nil) != 0 {
		t.Error("no error has an exit code")
	}
}

func TestLastLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"\n\n", nil},
		{"a", []string{"a"}},
		{"a\nb\nc\n", []string{"b", "c"}},
		{strings.Repeat("x", maxTail) + "\nlast\n", []string{"last"}},
	} {
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastLines(file, 2); !slices.Equal(got, test.want) {
			t.Errorf("lastLines(%.20q) = %.40q; want %.40q", test.text, got, test.want)
		}
	}
	if got := lastLines(filepath.Dir(file), 2); got != nil {
		t.Errorf("the last lines of a directory are %q", got)
	}
	if got := lastLines(file+".gone", 2); got != nil {
		t.Errorf("the last lines of nothing are %q", got)
	}
}

func TestForeignFile(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	for file, text := range map[string]string{ours: "# " + plainDeployment().mark() + "\n", theirs: "#!/bin/sh\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := foreignFile(filepath.Join(dir, "gone"), ours); got != "" {
		t.Errorf("foreignFile = %q; want none", got)
	}
	if got := foreignFile(ours, theirs); got != theirs {
		t.Errorf("foreignFile = %q; want %q", got, theirs)
	}
	if got := foreignFile(dir); got != dir {
		t.Errorf("a directory in the place of a script is ours")
	}
}

// TestAccountOfAnother has users who are not there, or not ours, and no command is run for them.
func TestAccountOfAnother(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the managers that take an account are those of Unix")
	}
	own, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	bad := [][]string{{"no-such-tool", "x"}}
	for _, name := range []string{"no-such-user", own.Username} {
		p := &accountPart{user: name, add: bad, del: bad, state: t.TempDir()}
		if _, err := p.have(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: have = %v; want %v", name, err, fs.ErrNotExist)
		}
		if err := p.remove(); err != nil {
			t.Errorf("%s: remove: %v", name, err)
		}
		if err := p.put(); err == nil {
			t.Errorf("%s: put did not run its command", name)
		}
		if got := p.does(); !slices.Equal(got, []string{"no-such-tool x"}) {
			t.Errorf("does = %q", got)
		}
	}
	if got := foreignUser("no-such-user"); got != "" {
		t.Errorf("foreignUser of nobody is %q", got)
	}
	if got := foreignUser(own.Username); got != "the user "+own.Username {
		t.Errorf("foreignUser of ourselves is %q", got)
	}
}
