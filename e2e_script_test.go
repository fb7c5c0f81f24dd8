package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("u", false, "renew the golden files in testdata/script")

func init() { testPrograms["stay"] = stay }

// stay is a program that writes a file, stays until it is told to end, and removes the file.
func stay() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM)
	if err := os.WriteFile(os.Args[1], []byte("still here\n"), 0o600); err != nil {
		complain(os.Stderr, err)
		os.Exit(exitFailed)
	}
	<-told
	os.Remove(os.Args[1])
}

// TestScripts runs testdata/script/*.txtar. Beyond testscript's own commands and conditions
// (go doc github.com/rogpeppe/go-internal/testscript) a script has
//
//	$ENDPOINT           an endpoint of its own: a socket, or a pipe on Windows
//	$PIPE               the path of it, as other programs know it
//	$SOCKDIR            a 0700 directory with a short path, which is $XDG_RUNTIME_DIR too
//	$EXAMPLES           the directory examples/
//	$HOME               a directory of its own below $WORK
//	terminate [WORD]    SIGTERM (Windows: the end) to the commands in the background, or to
//	                    those with the argument WORD; "wait" then checks how they ended
//	[!] waitfor FILE [REGEXP]   waits until the file is there (gone) and matches (does not)
//	settle [ENDPOINT]   goes before the first call of it, or of $ENDPOINT; see settle
//	capture NAME REGEXP [FILE]   sets a variable to what the group matches in the file, or in the last output
//	exits N COMMAND...  runs it, as exec does, and wants that exit code
//	[tool:NAME]         the program NAME is there; without it CI fails
//	[wine]              this is Wine and not Windows
//
// On Windows the default endpoint is the user's and not the script's: say -e $ENDPOINT.
func TestScripts(t *testing.T) {
	if matches, _ := filepath.Glob("testdata/script/*.txtar"); len(matches) == 0 {
		t.Fatal("no script in testdata/script")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         t.TempDir(), // which goes even where -run picks one script
		Setup:               setupScript,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"terminate": cmdTerminate,
			"waitfor":   cmdWaitfor,
			"exits":     cmdExits,
			"settle":    cmdSettle,
			"capture":   cmdCapture,
		},
		Condition: func(cond string) (bool, error) {
			if cond == "wine" {
				return underWine, nil
			}
			name, ok := strings.CutPrefix(cond, "tool:")
			if !ok {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			_, err := exec.LookPath(name)
			if err != nil && os.Getenv("IPCD_CI") != "" {
				return false, err
			}
			return err == nil, nil
		},
	})
}

func setupScript(env *testscript.Env) error {
	dir, err := os.MkdirTemp("", "s") // MkdirTemp makes it 0700
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(dir) })
	home := filepath.Join(env.WorkDir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	pipe := filepath.Join(dir, "ipcd.sock")
	endpoint := "unix://" + pipe
	if runtime.GOOS == "windows" {
		pipe = fmt.Sprintf(`\\.\pipe\ipcd-test-%d-%s`, os.Getpid(), filepath.Base(dir))
		endpoint = "npipe://" + filepath.ToSlash(pipe)
	}
	for name, value := range map[string]string{
		"ENDPOINT": endpoint, "PIPE": pipe, "SOCKDIR": dir, "XDG_RUNTIME_DIR": dir,
		"HOME": home, "USERPROFILE": home, "APPDATA": home, "LOCALAPPDATA": home, "XDG_STATE_HOME": filepath.Join(home, "state"),
		"EXAMPLES": filepath.ToSlash(here) + "/examples",
		leakMark:   os.Getenv(leakMark), "IPCD_CI": os.Getenv("IPCD_CI"),
	} {
		env.Setenv(name, value)
	}
	return nil
}

func cmdTerminate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: terminate [WORD]")
	}
	found := false
	for _, cmd := range ts.BackgroundCmds() {
		if len(args) == 1 && !slices.Contains(cmd.Args, args[0]) {
			continue
		}
		found = true
		if runtime.GOOS == "windows" { // which has no signals
			ts.Check(cmd.Process.Kill())
		} else if err := cmd.Process.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			ts.Check(err)
		}
	}
	if !found {
		ts.Fatalf("no such command in the background")
	}
}

func cmdSettle(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: settle [ENDPOINT]")
	}
	e, err := parseEndpoint(append(args, ts.Getenv("ENDPOINT"))[0])
	ts.Check(err)
	first, err := settle(e)
	ts.Check(err)
	ts.Defer(func() { first.Close() })
}

func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: capture NAME REGEXP [FILE]")
	}
	text := ts.ReadFile(append(args, "stdout")[2])
	found := regexp.MustCompile(args[1]).FindStringSubmatch(text)
	if len(found) != 2 {
		ts.Fatalf("%s is not in %q", args[1], text)
	}
	ts.Setenv(args[0], found[1])
}

func cmdWaitfor(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: [!] waitfor FILE [REGEXP]")
	}
	pattern := regexp.MustCompile("")
	if len(args) == 2 {
		var err error
		pattern, err = regexp.Compile("(?m)" + args[1])
		ts.Check(err)
	}
	ts.Check(poll(func() error {
		info, err := os.Stat(ts.MkAbs(args[0]))
		found := err == nil
		var text []byte
		if found && info.Mode().IsRegular() {
			text, err = os.ReadFile(ts.MkAbs(args[0]))
			found = err == nil && pattern.Match(text)
		}
		if found == neg {
			return fmt.Errorf("waitfor %s: found = %v; last error %v; the file has %q", strings.Join(args, " "), found, err, text)
		}
		return nil
	}))
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND [ARGUMENT ...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	var failed *exec.ExitError
	code := 0
	if errors.As(err, &failed) {
		code = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d; want %s", code, args[0])
	}
}
