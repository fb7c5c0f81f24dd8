package main

import (
	"errors"
	"testing"
)

// A stubbornOverseer is a foreground that may refuse other settings.
type stubbornOverseer struct {
	*foreground
	refuse    error
	committed int
}

func (o *stubbornOverseer) prepare(_, _ settings) (commit func(), err error) {
	return func() { o.committed++ }, o.refuse
}

func TestReloadThatOneRoomRefusesChangesNothing(t *testing.T) {
	log := &logBuffer{}
	set := defaultSettings()
	set.Listen = []string{localEndpoint(t).String()}
	o := &stubbornOverseer{foreground: &foreground{stderr: log}, refuse: errors.New("not that")}
	d := &daemon{overseer: o, set: set, log: o.logger(set)}
	defer d.log.close()
	var err error
	d.server, err = newDaemonServer(newRouter(), set, d.log, nil)
	must(t, err)
	defer d.server.stop(t.Context())
	d.endpoints, err = endpointsOf(set)
	must(t, err)

	now := set
	now.Limits.MaxMessage, now.LogLevel = 1<<10, levelDebug
	if err := d.apply(now); err != o.refuse {
		t.Errorf("apply = %v; want %v", err, o.refuse)
	}
	if got := d.server.limits().MaxMessage; got != set.Limits.MaxMessage || d.log.debugging() || d.set.LogLevel != set.LogLevel || o.committed != 0 {
		t.Errorf("refused settings are in force: max_message %d, debugging %v, log_level %s, %d commits", got, d.log.debugging(), d.set.LogLevel, o.committed)
	}

	o.refuse = nil
	must(t, d.apply(now))
	if got := d.server.limits().MaxMessage; got != 1<<10 || !d.log.debugging() || d.set.LogLevel != levelDebug || o.committed != 1 {
		t.Errorf("settings that nobody refuses are not in force: max_message %d, debugging %v, log_level %s, %d commits", got, d.log.debugging(), d.set.LogLevel, o.committed)
	}
}
