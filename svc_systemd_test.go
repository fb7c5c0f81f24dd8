package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// testDeployment is a service as install would make it, on a system that need not be this one.
func testDeployment(t *testing.T, name string, listen ...string) *deployment {
	t.Helper()
	d := &deployment{instance: instance{name: name}, Program: "/usr/local/bin/ipcd", Settings: defaultSettings()}
	if len(listen) == 0 {
		e, err := parseEndpoint("unix:///run/" + name + "/" + name + ".sock")
		must(t, err)
		d.Endpoints = []endpoint{e}
	}
	for _, text := range listen {
		e, err := parseEndpoint(text)
		must(t, err)
		d.Endpoints = append(d.Endpoints, e)
	}
	if listen != nil {
		d.Given = []given{{flag: "--listen", key: "listen", values: listen}}
	}
	return d
}

// checkGolden compares a text with a file, or makes it that text.
func checkGolden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(text), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if text != string(want) {
		t.Errorf("%s is not what is written now; go test -run %s -u renews it. Now it is:\n%s", file, t.Name(), text)
	}
}

func TestSystemdUnits(t *testing.T) {
	full := testDeployment(t, "second", "unix:///srv/50%25 off/a b.sock", "http://127.0.0.1:80?auth=none", "tcp://127.0.0.1:0?auth=none")
	full.Program, full.Config = "/opt/my programs/ipcd", `/etc/second/it's "mine" $HOME.toml`
	full.RunAs, full.AllowGroup, full.Copied = "daemon", "users", true
	full.Given = append(full.Given, given{key: "allow_group", values: []string{"users"}})
	own := testDeployment(t, "ipcd", "unix:///run/user/1000/ipcd/ipcd.sock")
	own.user, own.Given = true, nil
	far := testDeployment(t, "ipcd", "unix:///run/ipcd/ipcd.sock", "tls://0.0.0.0:8443", "https://[::]:443", "tls://127.0.0.1:8444")
	far.Settings.TLS = tlsSettings{Cert: "/etc/ipcd/tls/50% off.pem", Key: "/etc/ipcd/tls/key.pem", CA: "/etc/ipcd/tls/ca.pem"}
	for _, test := range []struct {
		file string
		d    *deployment
	}{
		{"contrib/ipcd", testDeployment(t, "ipcd")}, // what packagers and readers look at
		{"testdata/service/systemd-full", full},
		{"testdata/service/systemd-user", own},
		{"testdata/service/systemd-tls", far},
	} {
		t.Run(filepath.Base(test.file), func(t *testing.T) {
			socket, err := systemdSocket(test.d)
			must(t, err)
			unit, err := systemdUnit(test.d, socket != "")
			must(t, err)
			checkGolden(t, test.file+".socket", socket)
			checkGolden(t, test.file+".service", unit)
			for _, text := range []string{socket, unit} {
				command, copied, err := readMark(text)
				if err != nil || !slices.Equal(command, test.d.command()[1:]) {
					t.Errorf("the mark reads as %q, %v; want %q", command, err, test.d.command()[1:])
				}
				if (copied == test.d.Program) != test.d.Copied {
					t.Errorf("the mark says that the program was copied to %q", copied)
				}
			}
		})
	}
}

func TestSystemdRefusesControlCharacters(t *testing.T) {
	d := testDeployment(t, "ipcd", "unix:///run/a%0Ab.sock")
	if _, err := systemdSocket(d); exitCode(err) != exitUsage {
		t.Errorf("a line feed in a path: %v; want bad usage", err)
	}
	d = testDeployment(t, "ipcd")
	d.Config = "/etc/a\nExecStart=/bin/sh"
	if _, err := systemdUnit(d, true); exitCode(err) != exitUsage {
		t.Errorf("a line feed in the name of the configuration: %v; want bad usage", err)
	}
}

// TestSystemdOpensTheNetworkAsFarAsEndpointsAsk wants a unit to let callers of other machines in where there are such endpoints, and
// to keep them out otherwise.
func TestSystemdOpensTheNetworkAsFarAsEndpointsAsk(t *testing.T) {
	for _, test := range []struct {
		listen string
		lines  []string // of those below that the unit has
	}{
		{"unix:///run/ipcd/ipcd.sock", []string{"PrivateNetwork=yes", "IPAddressDeny=any", "RestrictAddressFamilies=AF_UNIX\n"}},
		{"tls://127.0.0.1:8443", []string{"IPAddressDeny=any", "IPAddressAllow=localhost", "AF_INET AF_INET6"}},
		{"https://[::1]:8443", []string{"IPAddressDeny=any", "IPAddressAllow=localhost", "AF_INET AF_INET6"}},
		{"https://localhost:8443", []string{"IPAddressDeny=any", "IPAddressAllow=localhost", "AF_INET AF_INET6"}},
		{"tls://0.0.0.0:8443", []string{"AF_INET AF_INET6"}},
		{"https://[::]:8443", []string{"AF_INET AF_INET6"}},
		{"tls://192.0.2.7:8443", []string{"AF_INET AF_INET6"}},
		{"tls://box.example:8443", []string{"AF_INET AF_INET6"}},
	} {
		unit, err := systemdUnit(testDeployment(t, "ipcd", test.listen), false)
		must(t, err)
		for _, line := range []string{"PrivateNetwork=yes", "IPAddressDeny=any", "IPAddressAllow=localhost", "AF_INET AF_INET6", "RestrictAddressFamilies=AF_UNIX\n"} {
			if got, want := strings.Contains(unit, line), slices.Contains(test.lines, line); got != want {
				t.Errorf("the unit for %s has %q: %t; want %t", test.listen, line, got, want)
			}
		}
	}
	d := testDeployment(t, "ipcd")
	d.Settings.TLS.Key = "/etc/a\nUser=root"
	if _, err := systemdUnit(d, true); exitCode(err) != exitUsage {
		t.Errorf("a line feed in the name of a key: %v; want bad usage", err)
	}
}

func TestSystemdState(t *testing.T) {
	for _, test := range []struct {
		show   string
		socket string
		want   unitState
	}{
		{"LoadState=not-found ActiveState=inactive", "inactive", unitState{Active: activeStopped}},
		{"LoadState=loaded ActiveState=inactive UnitFileState=enabled", "active", unitState{Installed: true, Enabled: true, Active: activeStopped, Waiting: true}},
		{"LoadState=loaded ActiveState=inactive", "failed", unitState{Installed: true, Active: activeFailed,
			Why: "systemd cannot listen for it: the system does not let it have what it needs"}},
		{"LoadState=loaded ActiveState=active MainPID=7 NRestarts=2", "active", unitState{Installed: true, Active: activeRunning, PID: 7, Restarts: 2, Waiting: true}},
		{"LoadState=loaded ActiveState=reloading MainPID=7", "", unitState{Installed: true, Active: activeRunning, PID: 7}},
		{"LoadState=loaded ActiveState=deactivating", "", unitState{Installed: true, Active: activeStopping}},
		{"LoadState=loaded ActiveState=activating SubState=auto-restart Result=signal ExecMainStatus=9", "",
			unitState{Installed: true, Active: activeStarting, Why: "it was ended by signal 9"}},
		{"LoadState=loaded ActiveState=failed Result=exit-code ExecMainStatus=2", "failed",
			unitState{Installed: true, Active: activeFailed, Why: "it ended with exit code 2"}},
		{"LoadState=loaded ActiveState=failed Result=watchdog", "", unitState{Installed: true, Active: activeFailed, Why: "it did not answer, and was ended by the watchdog"}},
		{"LoadState=loaded ActiveState=failed Result=oom-kill", "", unitState{Installed: true, Active: activeFailed, Why: "oom-kill"}},
	} {
		show := map[string]string{}
		for _, pair := range strings.Fields(test.show) {
			key, value, _ := strings.Cut(pair, "=")
			show[key] = value
		}
		if got := systemdState(show, map[string]string{"ActiveState": test.socket, "Result": "resources"}); got != test.want {
			t.Errorf("%s, socket %s:\n got %+v\nwant %+v", test.show, test.socket, got, test.want)
		}
	}
}

// TestSystemdSocketOpensToWhomRulesLetIn wants the socket unit to let those reach the daemon about whom it decides itself.
func TestSystemdSocketOpensToWhomRulesLetIn(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, test := range []struct{ rules, mode string }{
		{"", "SocketMode=0600\n"},
		{"[[rule]]\ndeny = [\"local\"]\ncall = [\"Secret.*\"]\n", "SocketMode=0600\n"},
		{"[[rule]]\nallow = [\"local\"]\ncall = [\"Greeter.*\"]\n", "SocketMode=0666\n"},
		{"[[rule]]\nallow = [\"local\"]\non = [\"unix:///run/ipcd/ipcd.sock\"]\ncall = [\"Greeter.*\"]\n", "SocketMode=0666\n"},
		{"[[rule]]\nallow = [\"local\"]\non = [\"unix:///run/other.sock\"]\ncall = [\"Greeter.*\"]\n", "SocketMode=0600\n"},
	} {
		d := testDeployment(t, "ipcd")
		d.Settings.policy = *policyFrom(t, test.rules)
		if text, err := systemdSocket(d); err != nil || !strings.Contains(text, test.mode) {
			t.Errorf("with %q the unit is %s, %v; want %s", test.rules, text, err, test.mode)
		}
	}
}
