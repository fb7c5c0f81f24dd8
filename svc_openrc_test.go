package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOpenRCScript(t *testing.T) {
	for name, d := range map[string]*deployment{"openrc": plainDeployment(), "openrc-odd": oddDeployment()} {
		text := openRC{}.script(d)
		checkGolden(t, golden(name), text)
		checkMark(t, d, text)
		t.Run(name, func(t *testing.T) { checkShell(t, text) })
		// What supervise-daemon.sh does with them, once the script has been read in.
		script := strings.NewReplacer("export ", "", "#!/sbin/openrc-run", "").Replace(text) +
			`eval printf "'%s\\0'" $command -- $command_args $command_user`
		want := slices.Insert(d.command(), 1, "--")
		want = append(want, map[string]string{"openrc": "ipcd", "openrc-odd": "ada:staff"}[name])
		t.Run(name+" is run", func(t *testing.T) {
			if got := shellWords(t, script); !slices.Equal(got, want) {
				t.Errorf("supervise-daemon gets %q; want %q", got, want)
			}
		})
	}
}

func TestOpenRCState(t *testing.T) {
	noted := map[string]string{"child_pid": "4711", "start_count": "2", "start_time": "2026-11-25 14:03:07"}
	since := time.Date(2026, 11, 25, 14, 3, 7, 0, time.Local)
	for _, test := range []struct {
		code   int
		failed bool
		want   unitState
	}{
		{openRCStopped, true, unitState{Active: activeFailed, Why: "it did not start, or ended too often and was given up"}},
		{openRCStarted, false, unitState{Active: activeRunning, PID: 4711, Restarts: 2, Since: since}},
		{openRCStopped, false, unitState{Active: activeStopped}},
		{openRCStopping, false, unitState{Active: activeStopping, PID: 4711, Restarts: 2, Since: since}},
		{openRCStarting, false, unitState{Active: activeStarting, PID: 4711, Restarts: 2, Since: since}},
		{openRCCrashed, false, unitState{Active: activeFailed, PID: 4711, Restarts: 2, Since: since, Why: "it has crashed"}},
	} {
		got, known := openRCState(test.code, test.failed, func(option string) string { return noted[option] })
		if !known || got != test.want {
			t.Errorf("openRCState(%d) = %+v, %v; want %+v", test.code, got, known, test.want)
		}
	}
	if got, known := openRCState(1, false, func(string) string { return "" }); known {
		t.Errorf("openRCState(1) = %+v; want that it is not known", got)
	}
	if got, _ := openRCState(openRCStarted, true, func(string) string { return "" }); got != (unitState{Active: activeRunning}) {
		t.Errorf("without notes the state is %+v", got)
	}
}
