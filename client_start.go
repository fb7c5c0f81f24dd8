package main

// This file owns the background daemon that a client starts for itself.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	startLimit  = 10 * time.Second // for a background daemon to answer
	startLog    = "daemon.log"     // the log of a background daemon, in its state directory
	startGrace  = 2 * time.Second  // for another client's daemon to answer, after ours has found the endpoint taken
	defaultIdle = 15 * time.Minute // a background daemon stops after so long without connections
	maxStartLog = 1 << 20          // bytes; a log longer than that is truncated at the next start
)

// startDaemon starts "ipcd run" in the background on e and connects to it. If many clients do so at once, one daemon
// gets the endpoint, the others find it taken, and all clients connect to that one.
func startDaemon(ctx context.Context, e endpoint, set settings) (caller, error) {
	if !e.isLocal() {
		return nil, usagef("--start starts a daemon on a local endpoint, which %s is not", e).withHint("leave out -e, or name a unix:// or npipe:// endpoint")
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	running, ended := context.WithCancel(ctx)
	defer ended()
	logFile, err := launch(e, set, ended)
	if err != nil {
		return nil, err
	}
	var c caller
	connect := func() (bool, error) {
		var err error
		c, err = dial(ctx, e, dialOptions{limits: set.Limits})
		return err == nil || ctx.Err() == nil && !errors.Is(err, &fault{Code: codeNotReachable}), err
	}
	done, err := again(running, 2*time.Millisecond, 50*time.Millisecond, connect)
	if !done && ctx.Err() == nil { // ours has exited: a daemon that is still starting may have taken the endpoint
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), startGrace)
		defer cancel()
		done, err = again(ctx, 2*time.Millisecond, 50*time.Millisecond, connect)
	}
	if !done {
		return nil, faultf(codeNotReachable, "the daemon that was started at %s does not answer: %w", e, err).
			withHint("its log is %s; \"ipcd run\" in a terminal shows what is wrong", logFile)
	}
	return c, err
}

// launch starts the daemon, and calls ended once it has exited.
func launch(e endpoint, set settings, ended func()) (logFile string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find our own program: %w", err)
	}
	dir, err := stateDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the directory for the daemon's log: %w", err)
	}
	logFile = filepath.Join(dir, startLog)
	log, err := openStartLog(logFile)
	if err != nil {
		return "", err
	}
	defer log.Close()
	idle := set.Idle
	if idle <= 0 {
		idle = defaultIdle
	}
	// The daemon gets our settings, wherever each of them came from, and looks for none itself.
	args := []string{"run", "--config", os.DevNull, "--listen", e.String(), "--idle", idle.String()}
	for i := range settingTable {
		s := &settingTable[i]
		if strings.HasPrefix(s.key, "limits.") || s.key == "allow_group" || strings.HasPrefix(s.key, "log_") {
			args = append(args, "--set", s.key+"="+s.text(&set))
		}
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = filepath.VolumeName(dir) + string(filepath.Separator) // so that it keeps no mount busy
	cmd.Stderr = log
	cmd.Env = childEnviron("JOURNAL_STREAM") // which is about a stderr that the daemon does not get
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start a daemon: %w", err)
	}
	go func() {
		cmd.Wait()
		ended()
	}()
	return logFile, nil
}

// openStartLog opens the log of background daemons, and truncates it if it is long.
func openStartLog(name string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	info, err := os.Lstat(name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, faultf(codeApplication, "the log of the daemon, %s, is not a regular file", name).withHint("remove it: rm %s", name)
	case err == nil && info.Size() > maxStartLog:
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of the daemon: %w", err)
	}
	return f, nil
}
