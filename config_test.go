package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var renewGolden = flag.Bool("renew", false, "write contrib/config.toml, NOTICE and the golden logs anew")

// noEnv is an environment without variables.
func noEnv(string) (string, bool) { return "", false }

// envOf is an environment with these.
func envOf(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

// writeConfig puts a file into a directory that becomes the working directory, so that
// messages name it the same way on each machine.
func writeConfig(t testing.TB, text string) string {
	t.Helper()
	if _, err := os.Stat("go.mod"); err == nil { // unless the test has gone elsewhere already
		t.Chdir(t.TempDir())
	}
	const name = "c.toml"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// configCmd runs a command line the way that main will.
func configCmd(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := newRootCmd(args)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.Execute()
	return out.String(), err
}

func TestConfigRefusesBadFile(t *testing.T) {
	const size = `expected a size from 1KiB to 1GiB, such as 65536 or "64KiB"`
	const wait = `expected a duration from 1ms to 24h, such as "1m30s"`
	own := serviceEndpoint(defaultName).String() // such as unix:///run/ipcd/ipcd.sock
	lists := `expected a list of endpoints, such as ["` + own + `"]`
	tests := []struct{ text, want, hint string }{
		{"\nlog_levl = \"info\"\n", `c.toml:2: log_levl: unknown key; expected one that "ipcd config show" lists`, "did you mean log_level?"},
		{"[limits]\nmax_mesage = 1\n", `c.toml:2: limits.max_mesage: unknown key; expected one that "ipcd config show" lists`, "did you mean limits.max_message?"},
		{"max_message = 1\n", `c.toml:1: max_message: unknown key; expected one that "ipcd config show" lists`, "did you mean limits.max_message?"},
		{"[limits]\nlisten = []\n", `c.toml:2: limits.listen: unknown key; expected one that "ipcd config show" lists`, "did you mean listen?"},
		{"log-level = \"info\"\n", `c.toml:1: log-level: unknown key; expected one that "ipcd config show" lists`, "did you mean log_level?"},
		{"[limit]\n", `c.toml:1: limit: unknown key; expected one that "ipcd config show" lists`, "did you mean limits?"},
		{"\"a b\".words = 1\n", `c.toml:1: "a b".words: unknown key; expected one that "ipcd config show" lists`, ""},
		{"\"limits.drain\" = \"1s\"\n", `c.toml:1: "limits.drain": unknown key; expected one that "ipcd config show" lists`, "did you mean limits.drain?"},
		{"[[things]]\na = 1\n[[things]]\na = 1\n", `c.toml:1: things: unknown key; expected one that "ipcd config show" lists`, ""},
		{"[[workers]]\na = 1\n", `c.toml:1: workers: unknown key; expected one that "ipcd config show" lists`, "did you mean worker?"},
		{"worker = 3\n", `c.toml:1: worker: is not in an array of tables; expected [[worker]]`, ""},
		{"[worker]\n", `c.toml:1: worker: is not in an array of tables; expected [[worker]]`, ""},
		{"[[worker]]\ncommand = [\"a\"]\n", `c.toml:1: worker.name: is missing; expected a name, such as greeter`, ""},
		{"[[worker]]\nname = \"a\"\n", `c.toml:1: worker.command: is missing; expected a program and its arguments, such as ["node", "greeter.js"]`, ""},
		{"[[worker]]\nname = \"a\"\ncommand = []\n", `c.toml:3: worker.command: is empty; expected a program and its arguments, such as ["node", "greeter.js"]`, ""},
		{aWorker + "name = \"a\"\ncommand = [\"a\"]\n[[worker]]\nname = \"a\"\ncommand = [\"b\"]\n", `c.toml:5: worker.name: there is a worker a already, at c.toml:2; expected another name`, ""},
		{"[[quota]]\nmax_calls = 5\n", `c.toml:1: quota.of: is missing; expected ` + wantPerson, ""},
		{"[[quota]]\nof = [\"local\"]\n", `c.toml:1: quota.of: the quota changes nothing; expected a limit beside it, such as max_connections = 4096`, ""},
		{"[[quota]]\nof = [\"local\"]\nmax_calls = -1\n", `c.toml:3: quota.max_calls: -1 is too small; expected a whole number from 0 to 1000000`, ""},
		{"[[quota]]\nof = [\"ada\"]\nmax_calls = 1\n", `c.toml:2: quota.of: "ada" is nobody that a rule can name; expected ` + wantPerson, ""},
		{"[[topic]]\nkeep = 5\n", `c.toml:1: topic.name: is missing; expected a topic such as build.done, or a pattern such as build.>`, ""},
		{"[[topic]]\nname = \"a\"\n[[topic]]\nname = \"a\"\n", `c.toml:4: topic.name: there is a topic a already, at c.toml:2; expected another one`, ""},
		{"[[topic]]\nname = \"a..b\"\n", `c.toml:2: topic.name: the topic "a..b" has an empty token; expected a topic such as build.done, or a pattern such as build.>`, ""},
		{"[[topic]]\nname = \"a\"\nkeep = 0\n", `c.toml:3: topic.keep: 0 is too small; expected a whole number from 1 to 100000`, ""},
		{aWorker + "name = \"a\"\ncommand = [\"\", \"x\"]\n", `c.toml:3: worker.command: the name of the program is empty; expected a program and its arguments, such as ["node", "greeter.js"]`, ""},
		{aWorker + "name = \"A\"\ncommand = [\"a\"]\n", `c.toml:2: worker.name: "A" is none; expected a name of lower-case letters, digits, - and _ that begins with a letter, at most 32`, ""},
		{aWorker + "name = \"a\"\ncommand = \"a\"\n", `c.toml:3: worker.command: is a string; expected a program and its arguments, such as ["node", "greeter.js"]`, ""},
		{aWorker + "name = \"a\"\ncomand = [\"a\"]\ncommand = [\"a\"]\n", `c.toml:3: worker.comand: unknown key; ` + workerKeys(), "did you mean command?"},
		{aWorker + "name = \"a\"\ncommand = [\"a\"]\nenvironment = [\"IPCD_X=1\"]\n", `c.toml:4: worker.environment: IPCD_X is the daemon's own; expected a list of NAME or NAME=VALUE`, ""},
		{aWorker + "name = \"a\"\ncommand = [\"a\"]\nlazy = \"yes\"\n", `c.toml:4: worker.lazy: is a string; expected true or false`, ""},
		{aWorker + "name = \"a\"\ncommand = [\"a\"]\nneeds = [\"gpu\"]\n", `c.toml:4: worker.needs: "gpu" is not one of its values; expected a list of jit, network, home`, ""},
		{aWorker + "name = \"a\"\ncommand = [\"a\"]\nready = \"start\"\n", `c.toml:1: worker.services: is missing; expected what a worker that is ready = "start" answers to, such as ["Greeter"]`, ""},
		{aWorker + "name = \"a\"\ncommand = [\"a\"]\nservices = [\"Ipcd\"]\n", `c.toml:4: worker.services: Ipcd is the daemon's own; expected a list of services, such as ["Greeter"]: letters, digits and _, beginning with a letter`, ""},
		{aWorker + "name = \"a\"\ncommand = [\"a\"]\nservices = [\"A\"]\n" + aWorker + "name = \"b\"\ncommand = [\"b\"]\nservices = [\"A\"]\n",
			`c.toml:8: worker.services: A is offered by a as well; expected another service, or one worker with more instances`, ""},
		{"[limits]\ndrain.x = 1\n", `c.toml:2: limits.drain.x: unknown key; expected one that "ipcd config show" lists`, "did you mean limits.drain?"},

		{"limits = 5\n", `c.toml:1: limits: is an integer; expected the table [limits]`, ""},
		{"[[limits]]\n", `c.toml:1: limits: is an array of tables; expected the table [limits]`, ""},
		{"[listen]\n", `c.toml:1: listen: is a table; ` + lists, ""},
		{"[[listen]]\n", `c.toml:1: listen: its element 1 is a table; ` + lists, ""},
		{"listen = \"unix:///a\"\n", `c.toml:1: listen: is a string; ` + lists, ""},
		{"listen = [\"unix:///a\", 5]\n", `c.toml:1: listen: its element 2 is an integer; ` + lists, ""},
		{"listen = [\"\"]\n", `c.toml:1: listen: an endpoint is empty; ` + lists, ""},
		{"listen = [\"unix:///a\", \"unix:/a\"]\n", `c.toml:1: listen: the endpoint unix:/a lacks two slashes; ` + lists, hintHere("write unix:///a")},
		{"log_level = true\n", `c.toml:1: log_level: is a boolean; expected debug, info, warn or error`, ""},
		{"log_level = \"loud\"\n", `c.toml:1: log_level: "loud" is not one of its values; expected debug, info, warn or error`, ""},
		{"log_format = \"\"\n", `c.toml:1: log_format: "" is not one of its values; expected auto, text or json`, ""},
		{"endpoint = 1979-05-27\n", `c.toml:1: endpoint: is a date or a time; expected an endpoint, such as "` + own + `"`, ""},
		{"idle = 5\n", `c.toml:1: idle: is an integer; expected a duration from 0s to 8760h, such as "1m30s"`, ""},
		{"idle = \"-1s\"\n", `c.toml:1: idle: -1s is too small; expected a duration from 0s to 8760h, such as "1m30s"`, ""},

		{"# one\n\nlimits.max_message = true\n", `c.toml:3: limits.max_message: is a boolean; ` + size, ""},
		{"limits = {max_depth = 1, max_message = 1.5}\n", `c.toml:1: limits.max_message: is a float; ` + size, ""},
		{"[limits]\nmax_message = 0\n", `c.toml:2: limits.max_message: 0 is too small; ` + size, ""},
		{"[limits]\nmax_message = -1\n", `c.toml:2: limits.max_message: -1 is too small; ` + size, ""},
		{"[limits]\nmax_message = 1023\n", `c.toml:2: limits.max_message: 1023 is too small; ` + size, ""},
		{"[limits]\nmax_message = \"2GiB\"\n", `c.toml:2: limits.max_message: 2GiB is too large; ` + size, ""},
		{"[limits]\nmax_message = \"99999999999GiB\"\n", `c.toml:2: limits.max_message: 99999999999GiB is too large; ` + size, ""},
		{"[limits]\nmax_message = \"99999999999999999999\"\n", `c.toml:2: limits.max_message: 99999999999999999999 is too large; ` + size, ""},
		{"[limits]\nmax_message = \"-99999999999999999999\"\n", `c.toml:2: limits.max_message: -99999999999999999999 is too small; ` + size, ""},
		{"[limits]\nmax_message = \"-9223372036854775808GiB\"\n", `c.toml:2: limits.max_message: -9223372036854775808GiB is too small; ` + size, ""},
		{"[limits]\nmax_message = \"16MB\"\n", `c.toml:2: limits.max_message: "16MB" is not a size; ` + size, ""},
		{"[limits]\nmax_message = \"\"\n", `c.toml:2: limits.max_message: "" is not a size; ` + size, ""},
		{"[limits]\nmax_depth = \"64\"\n", `c.toml:2: limits.max_depth: is a string; expected a whole number from 1 to 1000`, ""},
		{"[limits]\nmax_depth = 0\n", `c.toml:2: limits.max_depth: 0 is too small; expected a whole number from 1 to 1000`, ""},
		{"[limits]\nmax_depth = 1001\n", `c.toml:2: limits.max_depth: 1001 is too large; expected a whole number from 1 to 1000`, ""},
		{"[limits]\ndrain = \"10\"\n", `c.toml:2: limits.drain: "10" is not a duration; ` + wait, ""},
		{"[limits]\ndrain = \"0s\"\n", `c.toml:2: limits.drain: 0s is too small; ` + wait, ""},
		{"[limits]\ndrain = \"25h\"\n", `c.toml:2: limits.drain: 25h is too large; ` + wait, ""},
		{"[limits]\ndrain = []\n", `c.toml:2: limits.drain: is an array; ` + wait, ""},

		{"idle = \"1s\"\n\nidle = \"2s\"\n", "c.toml:3: idle: is there twice; expected once, as on line 1", ""},
		{"[limits]\n[limits]\n", "c.toml:2: limits: is there twice; expected once, as on line 1", ""},
		{"limits.drain = \"1s\"\n[limits]\ndrain = \"1s\"\n", "c.toml:3: limits.drain: is there twice; expected once, as on line 1", ""},
		{"limits.drain = \"1s\"\n[limits]\nwrite = \"1s\"\n", "c.toml:2:2: is not TOML: table limits already exists as defined by a dotted key", tomlHint},

		{"idle = \"1s\n", "c.toml:1:11: is not TOML: basic strings cannot have new lines", tomlHint},
		{"idle\n", "c.toml:1:5: is not TOML: expected '=' after key", tomlHint},
		{"\n[limits\n", "c.toml:2:8: is not TOML: expected ']' to close table name", tomlHint},
		{"idle = \"1s\" x\n", "c.toml:1:13: is not TOML: expected newline but got U+0078 'x'", tomlHint},
		{"listen = [\"a\" \"b\"]\n", "c.toml:1:15: is not TOML: expected ',' or ']' after array value", tomlHint},
		{"idle = \"\xff\"\n", "c.toml:1:9: is not TOML: invalid UTF-8 character in basic string", tomlHint},
		{"\xff\xfei\x00", "c.toml: is UTF-16; expected UTF-8", utf8Hint},
		{"i\x00d\x00", "c.toml: is UTF-16; expected UTF-8", utf8Hint},
		{strings.Repeat("# long\n", maxCfgFile/7+1), "c.toml: is larger than 1MiB; expected a configuration in TOML", ""},
	}
	t.Chdir(t.TempDir())
	for _, test := range tests {
		_, _, err := loadSettings(writeConfig(t, test.text), true, noEnv, nil)
		checkUsage(t, test.text, err, test.want, test.hint)
	}
}

const tomlHint = "https://toml.io has the rules; contrib/config.toml is an example"

// checkUsage holds an error to its exact text and hint and to exit code 2.
func checkUsage(t testing.TB, what any, err error, want, hint string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("load(%.60q) = %v; want %s", what, err, want)
		return
	}
	if got := hintFor(err); got != hint {
		t.Errorf("load(%.60q) hints %q; want %q", what, got, hint)
	}
	if exitCode(err) != exitUsage {
		t.Errorf("load(%.60q): exit code %d; want %d", what, exitCode(err), exitUsage)
	}
}

// TestHintsNameWhatThisSystemHas wants examples of endpoints that can be typed here, and served, and names
// those who may always call as this system names them.
func TestHintsNameWhatThisSystemHas(t *testing.T) {
	example := regexp.MustCompile(`"([a-z]+:[^"]*)"`)
	for _, key := range []string{"endpoint", "listen"} {
		text := findSetting(key).expected()
		found := example.FindStringSubmatch(text)
		if found == nil {
			t.Errorf("%s: %q has no example", key, text)
			continue
		}
		e, err := parseEndpoint(found[1])
		if err != nil || e.String() != found[1] || !e.isLocal() || transports[e.Scheme].lacking != nil {
			t.Errorf("%s: the example %s is %+v, %v; want a local endpoint that this system serves", key, found[1], e, err)
		}
	}
	if hint := hintFor(errDenied); !strings.Contains(hint, "its own user and "+masters) {
		t.Errorf("the hint of a refusal is %q; want %s in it", hint, masters)
	}
}

func TestConfigRefusesWhatIsNoFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("dir", 0o700); err != nil {
		t.Fatal(err)
	}
	_, _, err := loadSettings("none.toml", true, noEnv, nil)
	checkUsage(t, "none.toml", err, "none.toml: no such file; expected a configuration in TOML", "")
	_, _, err = loadSettings("dir", true, noEnv, nil)
	checkUsage(t, "dir", err, "dir: is a directory; expected a file", "")
	if _, _, err = loadSettings("none.toml", false, noEnv, nil); err != nil {
		t.Errorf("a default place without a file: %v; want no error", err)
	}
	if _, _, err = loadSettings(os.DevNull, true, noEnv, nil); err != nil {
		t.Errorf("%s: %v; want no error", os.DevNull, err)
	}
}

func TestConfigRefusesBadEnvironmentAndFlags(t *testing.T) {
	tests := []struct {
		env        map[string]string
		args       []string
		want, hint string
	}{
		{map[string]string{"IPCD_LOG_LEVEL": "loud"}, nil, `IPCD_LOG_LEVEL: "loud" is not one of its values; expected debug, info, warn or error`, ""},
		{map[string]string{"IPCD_LIMITS_MAX_BATCH": "1e3"}, nil, `IPCD_LIMITS_MAX_BATCH: "1e3" is not a whole number; expected a whole number from 1 to 100000`, ""},
		{map[string]string{"IPCD_LIMITS_MAX_MESSAGE": "1"}, nil, `IPCD_LIMITS_MAX_MESSAGE: 1 is too small; expected a size from 1KiB to 1GiB, such as 65536 or "64KiB"`, ""},
		{nil, []string{"--log-level", ""}, `--log-level: "" is not one of its values; expected debug, info, warn or error`, ""},
		{nil, []string{"--idle", "x"}, `--idle: "x" is not a duration; expected a duration from 0s to 8760h, such as "1m30s"`, ""},
		{nil, []string{"--set", "limits.drain"}, `--set: "limits.drain" is not a setting; expected KEY=VALUE, such as limits.max_message=64KiB`, ""},
		{nil, []string{"--set", "=1"}, `--set: "=1" is not a setting; expected KEY=VALUE, such as limits.max_message=64KiB`, ""},
		{nil, []string{"--set", "drain=1s"}, `--set drain: unknown key; expected one that "ipcd config show" lists`, "did you mean limits.drain?"},
		{nil, []string{"--set", "limits.max_calls=0"}, `--set limits.max_calls: 0 is too small; expected a whole number from 1 to 1000000`, ""},
		{nil, []string{"--config", ""}, `--config: is empty; expected the name of a file`, ""},
		{nil, []string{"--config", "none.toml"}, `none.toml: no such file; expected a configuration in TOML`, ""},
		{map[string]string{"IPCD_CONFIG": "none.toml"}, nil, `none.toml: no such file; expected a configuration in TOML`, ""},
	}
	t.Chdir(t.TempDir())
	for _, test := range tests {
		t.Run(test.want, func(t *testing.T) {
			t.Setenv("IPCD_CONFIG", os.DevNull)
			for name, v := range test.env {
				t.Setenv(name, v)
			}
			out, err := configCmd(t, append([]string{"config", "show"}, test.args...)...)
			checkUsage(t, test.args, err, test.want, test.hint)
			if out != "" {
				t.Errorf("printed %q; want nothing", out)
			}
		})
	}
}

// clearEnv takes away what the machine that runs the test has set.
func clearEnv(t *testing.T) {
	t.Helper()
	for i := range settingTable {
		t.Setenv(settingTable[i].env(), "")
	}
	t.Setenv("IPCD_CONFIG", os.DevNull)
}

func TestConfigSourcesBeatEachOther(t *testing.T) {
	t.Chdir(t.TempDir())
	file := writeConfig(t, "\xef\xbb\xbflog_level = \"debug\"\r\nidle = \"2m\"\r\nlisten = [\"unix:///f\"]\r\n[limits]\r\nmax_depth = 10\r\nmax_calls = 0x10\r\nmax_message = \"64 KiB\"\r\n")
	env := envOf(map[string]string{"IPCD_IDLE": "3m", "IPCD_LISTEN": " unix:///e1  unix:///e2 ", "IPCD_LIMITS_MAX_CALLS": "32", "IPCD_LOG_FORMAT": ""})
	set, err := parseSet("limits.max_calls=64")
	if err != nil {
		t.Fatal(err)
	}
	flags := []given{set, {"--listen", "listen", []string{"unix:///g"}}}
	st, from, err := loadSettings(file, true, env, flags)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultSettings()
	want.LogLevel, want.Idle, want.Listen = levelDebug, 3*time.Minute, []string{"unix:///g"}
	want.Limits.MaxDepth, want.Limits.MaxCalls, want.Limits.MaxMessage = 10, 64, 64<<10
	if !reflect.DeepEqual(st, want) {
		t.Errorf("settings are %+v; want %+v", st, want)
	}
	for key, origin := range map[string]string{
		"log_level": "c.toml:1", "idle": "environment IPCD_IDLE", "listen": "flag --listen", "log_format": "default",
		"limits.max_depth": "c.toml:5", "limits.max_calls": "flag --set", "limits.max_message": "c.toml:7", "limits.drain": "default",
	} {
		if from[key] != origin {
			t.Errorf("origin of %s is %q; want %q", key, from[key], origin)
		}
	}
	st, _, err = loadSettings("", false, env, nil)
	if err != nil || !slices.Equal(st.Listen, []string{"unix:///e1", "unix:///e2"}) {
		t.Errorf("listen from the environment: %q, %v; want two endpoints", st.Listen, err)
	}
}

func TestConfigShow(t *testing.T) {
	t.Chdir(t.TempDir())
	clearEnv(t)
	file := writeConfig(t, "listen = [\"unix:///a\", \"unix:///b\"]\n[limits]\ndrain = \"90m\"\n")
	t.Setenv("IPCD_TIMEOUT", "5s")
	out, err := configCmd(t, "config", "show", "--config", file, "--idle", "1h", "--set", "limits.max_message=1000000")
	if err != nil {
		t.Fatal(err)
	}
	want := `KEY                     VALUE                  FROM
listen                  unix:///a unix:///b    c.toml:1
endpoint                (default endpoint)     default
allow_group             (none)                 default
log_level               info                   default
log_format              auto                   default
audit                   denied                 default
audit_file              (none)                 default
idle                    1h                     flag --idle
timeout                 5s                     environment IPCD_TIMEOUT
token_file              (none)                 default
tls.cert                (none)                 default
tls.key                 (none)                 default
tls.client_ca           (none)                 default
tls.ca                  (none)                 default
tls.client_cert         (none)                 default
tls.client_key          (none)                 default
limits.max_message      1000000                flag --set
limits.max_depth        64                     default
limits.max_batch        100                    default
limits.max_calls        256                    default
limits.max_connections  1024                   default
limits.max_unauthenticated 64                  default
limits.max_methods      1000                   default
limits.max_registration 1MiB                   default
limits.user_methods     10000                  default
limits.max_hops         16                     default
limits.max_waiting      1024                   default
limits.user_calls       1024                   default
limits.calls            4096                   default
limits.max_subscriptions 1024                  default
limits.max_kept         16MiB                  default
limits.max_metered      1000                   default
limits.audit_size       16MiB                  default
limits.audit_files      4                      default
limits.user_memory      64MiB                  default
limits.memory           256MiB                 default
limits.process_memory   0                      default
limits.stream_window    1MiB                   default
limits.first_bytes      5s                     default
limits.message          30s                    default
limits.write            10s                    default
limits.unknown_idle     10m                    default
limits.stream_idle      5m                     default
limits.half_close       2s                     default
limits.drain            1h30m                  c.toml:3
limits.max_call         0s                     default
`
	if squeeze(out) != squeeze(want) {
		t.Errorf("config show printed\n%s\nwant\n%s", out, want)
	}
}

// squeeze makes each run of spaces one: how wide a column is, is tabwriter's business.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.Join(strings.Fields(l), " ")
	}
	return strings.Join(lines, "\n")
}

const aWorker = "[[worker]]\n"

func workerKeys() string {
	return "expected one of " + strings.Join(findRecord("worker").keys(), ", ")
}

// Paths are relative to the file, and everything else is as it was written.
func TestWorkersOfAFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.toml")
	must(t, os.WriteFile(file, []byte(`
[[worker]]
name = "one"
command = ["node", "./a b.js"]
services = ["Greeter", "Other"]

[[worker]]
name = "two"
command = ["./bin/two", ""]
directory = "var"
environment = ["HOME", "A=b=c"]
instances = 3
lazy = true
idle = "1m"
restart = "never"
max_message = "1MiB"
needs = []
`), 0o600))
	st, from, err := loadSettings(file, true, noEnv, nil)
	must(t, err)
	one, two := defaultWorker(), defaultWorker()
	one.Name, one.Command, one.Services, one.Directory = "one", []string{"node", "./a b.js"}, []string{"Greeter", "Other"}, dir
	two.Name, two.Command, two.Directory, two.Environment = "two", []string{filepath.Join(dir, "bin", "two"), ""}, filepath.Join(dir, "var"), []string{"HOME", "A=b=c"}
	two.Instances, two.Lazy, two.Idle, two.Restart, two.MaxMessage, two.Needs = 3, true, time.Minute, restartNever, 1<<20, nil
	for i := range st.Workers {
		w := &st.Workers[i]
		w.places = nil
		if len(w.Needs) == 0 {
			w.Needs = nil
		}
	}
	if want := []workerSettings{one, two}; !reflect.DeepEqual(st.Workers, want) {
		t.Errorf("the workers are %+v; want %+v", st.Workers, want)
	}
	if got := from["worker[2].idle"]; got != file+":14" {
		t.Errorf("worker[2].idle comes from %s; want %s:14", got, file)
	}
	out, err := configCmd(t, "config", "show", "--config", file)
	must(t, err)
	for _, want := range []string{"worker[1].name           one ", "worker[2].instances      3 ", "worker[2].health         0s                                 default"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("config show lacks %q:\n%s", want, out)
		}
	}
}

func TestConfigShowJSON(t *testing.T) {
	clearEnv(t)
	out, err := configCmd(t, "config", "show", "--json", "--listen", "unix:///a?proto=gob&dir=shared")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]struct {
		Value any
		From  string
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(settingTable) {
		t.Errorf("config show --json without workers has %d keys; want %d", len(got), len(settingTable))
	}
	for key, want := range map[string]any{
		"limits.max_message": float64(16 << 20), "limits.drain": "10s", "log_level": "info", "endpoint": "", "listen": []any{"unix:///a?proto=gob&dir=shared"},
	} {
		if !reflect.DeepEqual(got[key].Value, want) {
			t.Errorf("value of %s is %v; want %v", key, got[key].Value, want)
		}
	}
	if got["listen"].From != "flag --listen" {
		t.Errorf("listen comes from %q; want flag --listen", got["listen"].From)
	}
}

func TestConfigCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	clearEnv(t)
	t.Setenv("IPCD_LOG_LEVEL", "loud") // plays no part
	if out, err := configCmd(t, "config", "check", writeConfig(t, "idle = \"1s\"\n")); err != nil || out != "c.toml: ok\n" {
		t.Errorf("config check = %q, %v; want c.toml: ok", out, err)
	}
	_, err := configCmd(t, "config", "check", writeConfig(t, "idle = 1\n"))
	checkUsage(t, "check", err, `c.toml:1: idle: is an integer; expected a duration from 0s to 8760h, such as "1m30s"`, "")
	_, err = configCmd(t, "config", "check", "a", "b")
	checkUsage(t, "check", err, "config check: has 2 arguments; expected one file at most", "")
	_, err = configCmd(t, "config", "check") // all that is in force, the environment included
	checkUsage(t, "check", err, `IPCD_LOG_LEVEL: "loud" is not one of its values; expected debug, info, warn or error`, "")
	t.Setenv("IPCD_LOG_LEVEL", "warn")
	if out, err := configCmd(t, "config", "check"); err != nil || out != "the settings: ok\n" {
		t.Errorf("config check = %q, %v; want the settings: ok", out, err)
	}
	_, err = configCmd(t, "config", "check", "--listen", "tpc://127.0.0.1:1")
	checkUsage(t, "check", err, `--listen: the endpoint tpc://127.0.0.1:1 has the unknown scheme "tpc"; expected a list of endpoints, such as ["`+serviceEndpoint(defaultName).String()+`"]`, "did you mean tcp://127.0.0.1:1?")
	_, err = configCmd(t, "config", "shwo")
	checkUsage(t, "shwo", err, `there is no command "config shwo"`, `did you mean ipcd config show?`)
}

// Whatever is wrong with a worker is told with its line, and with all else that is wrong.
func TestConfigCheckOfWorkers(t *testing.T) {
	t.Chdir(t.TempDir())
	clearEnv(t)
	const program = "\ncommand = [\"ipcd\"]\n"
	must(t, os.WriteFile("plain", []byte("text"), 0o600))
	for _, test := range []struct {
		worker string // what follows its name, on line 3
		wrong  []string
	}{
		{"", []string{"c.toml:1: worker.command: is missing"}},
		{"command = []", []string{"c.toml:3: worker.command: is empty"}},
		{"command = \"go version\"", []string{"c.toml:3: worker.command: is a string"}},
		{"command = [\"\"]", []string{"c.toml:3: worker.command: the name of the program is empty"}},
		{"command = {}\nlazy = 1\nneeds = 1", []string{"c.toml:3: worker.command: is a table", "c.toml:4: worker.lazy: ", "c.toml:5: worker.needs: "}},
		{"command = [[]]\ndirectory = \"nodir\"", []string{"c.toml:3: worker.command: its element 1 is an array", "c.toml:4: worker.directory: there is no directory "}},
		{"command = [\"./nothere\"]\nidle = \"x\"", []string{"c.toml:4: worker.idle: ", "c.toml:3: worker.command: cannot start ", "nothere: there is no such program"}},
		{"directory = \"plain\"" + program, []string{"c.toml:3: worker.directory: ", "plain is not a directory"}},
		{"run_as = \"no such user\"" + program, []string{"c.toml:3: worker.run_as: "}},
	} {
		_, err := configCmd(t, "config", "check", writeConfig(t, aWorker+"name = \"a\"\n"+test.worker+"\n"))
		for _, words := range test.wrong {
			if exitCode(err) != exitUsage || !strings.Contains(fmt.Sprint(err), words) {
				t.Errorf("%q: %v, exit code %d; want %s", test.worker, err, exitCode(err), words)
			}
		}
		if n := len(test.wrong); strings.Count(fmt.Sprint(err), "c.toml:") > n {
			t.Errorf("%q: %v; want %d mistakes", test.worker, err, n)
		}
	}
}

// TestConfigCheckRefusesWhatRunAlwaysRefuses is about endpoints that no daemon can serve, whatever the state of the system.
// What depends on that state is for run to find out.
func TestConfigCheckRefusesWhatRunAlwaysRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	clearEnv(t)
	own := localEndpoint(t)
	foreign := map[string]string{"unix": "npipe:////./pipe/x", "npipe": "unix:///run/x.sock"}[localScheme]
	for _, test := range []struct {
		listen []string
		words  string // empty for those that may be served
	}{
		{[]string{"tcp://0.0.0.0:28499?auth=none"}, "cannot listen on tcp://0.0.0.0:28499?auth=none: 0.0.0.0 is reached by other machines"},
		{[]string{"http://[::]:28499?auth=none"}, ":: is reached by other machines"},
		{[]string{"tcp://127.0.0.1:28499?proto=echo"}, "tcp://127.0.0.1:28499?proto=echo: whoever speaks to an echo cannot show a token"},
		{[]string{"tcp://127.0.0.1:28499", "http://127.0.0.1:28498"}, ""},
		{[]string{"tls://127.0.0.1:28499"}, "cannot listen on tls://127.0.0.1:28499: the daemon has no certificate"},
		{[]string{"https://[::]:28499"}, "cannot listen on https://[::]:28499: the daemon has no certificate"},
		{[]string{foreign}, "the endpoint " + foreign},
		{[]string{"fork:node x.js"}, "fork:node x.js"},
		{[]string{own.String(), own.String()}, "cannot listen on " + own.String() + ": it is where " + own.String() + " is"},
		{[]string{own.String(), own.String() + "?proto=gob"}, "cannot listen on " + own.String() + "?proto=gob: it is where " + own.String() + " is"},
		{[]string{"tcp://127.0.0.1:28499?auth=none", "http://127.0.0.1:28499?auth=none"}, "it is where tcp://127.0.0.1:28499?auth=none is"},
		{[]string{own.String(), "tcp://127.0.0.1:0?auth=none", "http://127.0.0.1:0?auth=none"}, ""},
		{[]string{"tcp://no-such-host.invalid:28499?auth=none"}, ""},
	} {
		list, err := json.Marshal(test.listen)
		must(t, err)
		file := writeConfig(t, "\nlisten = "+string(list)+"\n")
		flags := []string{"config", "check"}
		for _, e := range test.listen {
			flags = append(flags, "--listen", e)
		}
		for where, args := range map[string][]string{"c.toml:2: listen: ": {"config", "check", file}, "--listen: ": flags} {
			_, err := configCmd(t, args...)
			if test.words == "" {
				if err != nil {
					t.Errorf("%q: %v; want ok", args, err)
				}
				continue
			}
			checkRefused(t, strings.Join(args, " "), err, test.words, "")
			if !strings.HasPrefix(fmt.Sprint(err), where) || exitCode(err) != exitUsage || hintFor(err) == "" {
				t.Errorf("%q: %v, hint %q, exit code %d; want it to begin with %q", args, err, hintFor(err), exitCode(err), where)
			}
		}
	}
	_, err := configCmd(t, "config", "check", "--service", "ipcd", "--config", writeConfig(t, ""))
	checkRefused(t, "a relative path for a service", err, "is not an absolute path", "give the whole path")
}

func TestInstanceNames(t *testing.T) {
	clearEnv(t)
	for name, want := range map[string]bool{
		"ipcd": true, "a": true, "a-b_c9": true, strings.Repeat("a", 32): true,
		"": false, "A": false, "9a": false, "-a": false, "a/b": false, "..": false, "a b": false, "a.service": false, "ä": false, strings.Repeat("a", 33): false,
	} {
		if isInstanceName(name) != want {
			t.Errorf("isInstanceName(%q) = %v; want %v", name, !want, want)
		}
		if _, err := configCmd(t, "config", "check", "--service="+name); (err == nil) != want {
			t.Errorf("--service=%q: %v; want it to be right: %v", name, err, want)
		}
	}
	_, err := configCmd(t, "config", "check", "--user")
	checkUsage(t, "check", err, "--user is for a service, but none is named", "add --service ipcd, or leave out --user")
}

// TestInstanceHasItsOwnPlaces wants each service to have an endpoint and a file of its own.
func TestInstanceHasItsOwnPlaces(t *testing.T) {
	seen := map[string]instance{}
	for _, i := range []instance{{name: "ipcd"}, {name: "other"}, {name: "ipcd", user: true}, {name: "other", user: true}} {
		e, err := i.endpoint()
		if err != nil {
			t.Fatal(err)
		}
		for _, place := range []string{e.String(), i.configFile()} {
			if before, twice := seen[place]; twice {
				t.Errorf("%v and %v share %s", before, i, place)
			}
			seen[place] = i
		}
	}
	own, err := defaultEndpoint()
	none, err2 := instance{}.endpoint()
	users, err3 := instance{name: defaultName, user: true}.endpoint()
	if err != nil || err2 != nil || err3 != nil || !same(none, own) || !same(users, own) {
		t.Errorf("without a service %v, the user's own service %v; want both to be %v", none, users, own)
	}
}

// exampleConfig is what contrib/config.toml must be.
func exampleConfig() string {
	var b strings.Builder
	b.WriteString("# The configuration of ipcd. Every key is here with its default; keep only those that you change.\n" +
		"# \"ipcd config check FILE\" checks a file. \"ipcd config show\" shows the settings in force and\n" +
		"# where each comes from. The environment (IPCD_LIMITS_DRAIN=3s) overrides this file, and\n" +
		"# flags (--set limits.drain=3s) override both.\n")
	st, table := defaultSettings(), ""
	for i := range settingTable {
		s := &settingTable[i]
		key := s.key
		if in, name, ok := strings.Cut(s.key, "."); ok {
			if key = name; in != table {
				table = in
				fmt.Fprintf(&b, "\n%s[%s]\n", map[string]string{
					"tls":    "# Files of PEM for tls:// and https://, relative to the directory of this file: docs/security.md.\n",
					"limits": "# What one message, one connection and one wait may cost. The error for\n# exceeding a limit names it.\n",
				}[table], table)
			}
		}
		value := fmt.Sprintf("%q", s.text(&st))
		switch s.kind {
		case ofCount:
			value = s.text(&st)
		case ofEndpoints:
			value = "[]"
		}
		fmt.Fprintf(&b, "\n# %s\n%s = %s\n", s.doc, key, value)
	}
	for _, r := range records {
		fmt.Fprintf(&b, "\n# There may be any number of these tables. %s\n# [[%s]]\n", r.doc, r.key)
		st := settings{}
		r.begin(&st)
		for i := range r.fields {
			s := &r.fields[i]
			value := s.text(&st)
			switch s.kind {
			case ofCount, ofBool:
			case ofTexts:
				value = "[" + strings.Join(quoteAll(strings.Fields(value)), ", ") + "]"
			default:
				value = strconv.Quote(value)
			}
			fmt.Fprintf(&b, "#\n# # %s\n# %s = %s\n", s.doc, s.key, value)
		}
	}
	return b.String()
}

func quoteAll(texts []string) (quoted []string) {
	for _, text := range texts {
		quoted = append(quoted, strconv.Quote(text))
	}
	return quoted
}

func TestConfigExampleHasEveryKeyAtItsDefault(t *testing.T) {
	file := filepath.Join("contrib", "config.toml")
	if *renewGolden {
		if err := os.WriteFile(file, []byte(exampleConfig()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.ReplaceAll(string(text), "\r\n", "\n"); got != exampleConfig() {
		t.Errorf("%s differs from the table; go test -run ConfigExample -renew . writes it anew", file)
	}
	st, from, err := loadSettings(file, true, noEnv, nil)
	if err != nil {
		t.Fatal(err)
	}
	st.Listen = nil // the empty list of the file
	if !reflect.DeepEqual(st, defaultSettings()) {
		t.Errorf("%s sets %+v; want %+v", file, st, defaultSettings())
	}
	for key, origin := range from {
		if origin == "default" {
			t.Errorf("%s lacks %s", file, key)
		}
	}
}

func TestSettingTableCoversEveryField(t *testing.T) {
	var st settings
	fields := map[any]string{}
	var walk func(v reflect.Value, prefix string)
	walk = func(v reflect.Value, prefix string) {
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() { // no setting, but what follows from some
				continue
			}
			name := prefix + snake(v.Type().Field(i).Name)
			if v.Field(i).Kind() == reflect.Struct {
				walk(v.Field(i), name+".")
				continue
			}
			fields[v.Field(i).Addr().Pointer()] = name
		}
	}
	walk(reflect.ValueOf(&st).Elem(), "")
	table := slices.Clone(settingTable)
	for i := range records {
		records[i].begin(&st)
		table = append(table, records[i].fields...)
	}
	for i := range reflect.TypeFor[settings]().NumField() {
		if list := reflect.ValueOf(&st).Elem().Field(i); list.Kind() == reflect.Slice && list.Type().Elem().Kind() == reflect.Struct && list.Len() == 1 {
			delete(fields, list.Addr().Pointer())
			walk(list.Index(0), "")
		}
	}
	for i := range table {
		s := &table[i]
		p := reflect.ValueOf(s.at(&st)).Pointer()
		if fields[p] != s.key {
			t.Errorf("setting %s is field %q", s.key, fields[p])
		}
		delete(fields, p)
		if s.doc == "" || strings.Contains(s.doc, "\n") || !strings.HasSuffix(s.doc, ".") {
			t.Errorf("setting %s: doc %q is not one line that ends in a full stop", s.key, s.doc)
		}
		defaults := defaultSettings()
		for i := range records {
			records[i].begin(&defaults)
		}
		text := s.text(&defaults)
		if wrong := s.set(&defaults, s.split(text)); wrong != nil && text != "" { // the name and the command of a worker has none
			t.Errorf("setting %s refuses its own default: %s", s.key, wrong)
		}
	}
	for _, name := range slices.Sorted(maps.Values(fields)) {
		t.Errorf("field %s is in no setting", name)
	}
}

// snake is the key of a field: MaxMessage is max_message, ClientCA is client_ca.
func snake(name string) string {
	var b strings.Builder
	isUpper := func(i int) bool { return i < len(name) && name[i] >= 'A' && name[i] <= 'Z' }
	for i, r := range name {
		if isUpper(i) && i > 0 && (!isUpper(i-1) || i+1 < len(name) && !isUpper(i+1)) {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

func TestFormatSizeAndDuration(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1: "1", 1023: "1023", 1024: "1KiB", 1025: "1025", 16 << 20: "16MiB", 1 << 30: "1GiB", 3 << 19: "1536KiB"} {
		if got := formatSize(n); got != want {
			t.Errorf("formatSize(%d) = %s; want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", time.Second: "1s", 90 * time.Second: "1m30s", time.Minute: "1m", 10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Minute: "1h30m", time.Millisecond: "1ms", time.Hour + time.Second: "1h0m1s"} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%d) = %s; want %s", d, got, want)
		}
	}
}

// FuzzConfig: no file makes us panic, a refusal is the user's fault and names the file, and
// what is accepted is within its bounds.
func FuzzConfig(f *testing.F) {
	f.Add("idle = \"1s\"\n[limits]\nmax_message = \"16MiB\"\n")
	f.Add("limits = {drain = \"1s\", max_depth = 3}\nlisten = [\"unix:///a\"]\n")
	f.Add("[[limits]]\na.b.\"c d\" = 1979-05-27T07:32:00Z\n")
	f.Add("\xef\xbb\xbfidle = '''x'''\r\n")
	f.Add(exampleConfig())
	f.Fuzz(around(func(t *testing.T, text string) {
		st, from := defaultSettings(), origins{}
		err := st.loadFile("c.toml", []byte(text), from)
		if err != nil {
			if exitCode(err) != exitUsage || !strings.HasPrefix(err.Error(), "c.toml:") {
				t.Errorf("load(%q) = %v; want a usage fault of c.toml", text, err)
			}
			return
		}
		for i := range settingTable {
			s := &settingTable[i]
			if wrong := s.set(&st, s.split(s.text(&st))); wrong != nil && s.kind != ofEndpoints {
				t.Errorf("load(%q) accepts %s = %q, which is wrong: %s", text, s.key, s.text(&st), wrong)
			}
		}
	}))
}
