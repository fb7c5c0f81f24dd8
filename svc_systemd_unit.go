package main

// This file owns the text of systemd's units: what the lines mean is in systemd.service(5), systemd.socket(5), systemd.exec(5)
// and systemd.unit(5); contrib/ has the units as they come out. svc_systemd.go puts them into the system.

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// systemdSocket is the text of the socket unit. It is empty if there is no endpoint that systemd can listen on.
func systemdSocket(d *deployment) (string, error) {
	var streams []string
	for _, e := range d.Endpoints {
		at, err := systemdStream(e)
		if err != nil {
			return "", err
		}
		if at != "" {
			streams = append(streams, "ListenStream="+strings.ReplaceAll(at, "%", "%%"))
		}
	}
	if streams == nil {
		return "", nil
	}
	b := newUnitText(d)
	b.line("")
	b.line("[Socket]")
	b.line("# systemd listens, so that no call is refused while the service starts, or starts anew.")
	b.lines(streams...)
	mode := "0600"
	if d.AllowGroup != "" {
		mode = "0660"
	}
	if slices.ContainsFunc(d.Endpoints, func(e endpoint) bool { return d.Settings.policy.audienceOf(e.key()).all }) {
		mode = "0666" // the daemon decides, when they connect
	}
	b.line("SocketMode=%s", mode)
	if d.AllowGroup != "" {
		b.line("SocketGroup=%s", systemdWord(d.AllowGroup))
	}
	b.line("DirectoryMode=%s", map[bool]string{false: "0755", true: "0700"}[d.user])
	b.line("RemoveOnStop=yes")
	b.line("")
	b.line("[Install]")
	b.line("WantedBy=sockets.target")
	return b.String(), nil
}

// systemdStream is the value of ListenStream= for an endpoint; empty if systemd cannot listen there.
func systemdStream(e endpoint) (string, error) {
	switch e.Scheme {
	case "unix":
		if strings.ContainsFunc(e.Path, isControl) {
			return "", usagef("the path of %s has a control character, which no unit of systemd can have", e).withHint("choose another path")
		}
		if strings.HasSuffix(e.Path, `\`) || strings.TrimSpace(e.Path) != e.Path { // would continue on the next line, or be trimmed
			return "", usagef("the path of %s ends as no line in a unit of systemd can", e).withHint("choose another path")
		}
		return e.Path, nil
	case "tcp", "http":
		host, port, err := net.SplitHostPort(e.Host)
		if err != nil || port == "0" {
			return "", err
		}
		addr, err := addressToServe(e, strings.Trim(host, "[]"))
		return net.JoinHostPort(addr.String(), port), err
	case "tls", "https":
		_, port, err := net.SplitHostPort(e.Host)
		if err != nil || port == "0" {
			return "", err
		}
		addr, err := addressTLS(e)
		return net.JoinHostPort(addr.String(), port), err
	}
	return "", nil
}

// systemdUnit is the text of the service unit.
func systemdUnit(d *deployment, socket bool) (string, error) {
	start, err := systemdCommand(d.command())
	if err != nil {
		return "", err
	}
	check, err := systemdCommand(append([]string{d.Program, "config", "check", "--service", d.name}, d.options()...))
	if err != nil {
		return "", err
	}
	b := newUnitText(d)
	if socket {
		b.line("Requires=%s.socket", d.name)
		b.line("After=%s.socket", d.name)
	}
	b.line("# One that ends again and again is given up after a minute: \"ipcd start\" forgives it. A person who")
	b.line("# restarts it counts, too, hence so many.")
	b.line("StartLimitIntervalSec=60")
	b.line("StartLimitBurst=50")
	b.line("")
	b.line("[Service]")
	b.line("# It says itself when every endpoint listens, and that it still answers.")
	b.line("Type=notify")
	b.line("NotifyAccess=main")
	b.line("WatchdogSec=30")
	b.line("ExecStart=%s", start)
	b.line("# A configuration that is wrong is refused before the daemon hears of it.")
	b.line("ExecReload=%s", check)
	b.line("ExecReload=/bin/sh -c 'kill -HUP $MAINPID'")
	if d.Settings.Idle > 0 { // it may end by itself, and the next call starts it again
		b.line("Restart=on-failure")
	} else {
		b.line("Restart=always")
	}
	b.line("RestartSec=1")
	b.line("# Bad usage or configuration would only fail again.")
	b.line("RestartPreventExitStatus=%d", exitUsage)
	b.line("TimeoutStartSec=30")
	b.line("# The drain limit and some.")
	b.line("TimeoutStopSec=%d", int(d.stopLimit().Round(time.Second).Seconds()))
	b.line("# One that hangs says where, for the journal, and is killed.")
	b.line("TimeoutAbortSec=5")
	b.line("KillMode=mixed")
	if len(d.Settings.Workers) > 0 {
		b.line("# A worker that takes too much memory is the daemon's to start again.")
		b.line("OOMPolicy=continue")
	}
	b.line("UMask=0077")
	b.line("")
	if !d.user {
		if err := systemdAccount(b, d); err != nil {
			return "", err
		}
	}
	systemdSandbox(b, d)
	b.line("")
	b.line("[Install]")
	b.line("WantedBy=%s", map[bool]string{false: "multi-user.target", true: "default.target"}[d.user])
	return b.String(), nil
}

// systemdAccount writes which user a service of the system runs as, and its directories.
func systemdAccount(b *unitText, d *deployment) error {
	if d.RunAs != "" {
		b.line("User=%s", systemdWord(d.RunAs))
	} else {
		b.line("# A user that is there while the service runs.")
		b.line("DynamicUser=yes")
	}
	// No RuntimeDirectory: systemd would remove it when the service stops, while the socket in it stays.
	b.line("StateDirectory=%s", d.name)
	b.line("StateDirectoryMode=0700")
	first := true
	for _, c := range d.Settings.TLS.credentials() {
		file := *c.file
		if file == "" {
			continue
		}
		if strings.ContainsFunc(file, isControl) || strings.TrimSpace(file) != file || strings.HasSuffix(file, `\`) {
			return usagef("%s: %q is no path that a unit of systemd can have", c.key, file).withHint("give the file another name")
		}
		if first {
			b.line("# Copies that are made when it starts, and that it can read: the files are root's.")
			first = false
		}
		b.line("LoadCredential=%s:%s", c.name(), systemdWord(file))
	}
	b.line("")
	return nil
}

// systemdSandbox takes away what the daemon and its workers do not need, see "systemd-analyze security". PrivateUsers= is
// missing because with it the kernel would no longer say who calls: every caller would be "nobody".
func systemdSandbox(b *unitText, d *deployment) {
	served := slices.ContainsFunc(d.Endpoints, func(e endpoint) bool { return e.Scheme != "unix" })
	network, jit, home, runAs := d.needs(needNetwork), d.needs(needJIT), d.needs(needHome), d.needs(needRunAs) && !d.user
	b.line("# As few rights as a program needs that talks on sockets.")
	for _, n := range workerNeeds(d.Settings) {
		if lines := sandboxLines(d.user, n.need); len(lines) > 0 {
			b.line("# Left out, since %s: %s", n.who(), strings.Join(lines, " "))
		}
	}
	b.lines("NoNewPrivileges=yes", "LockPersonality=yes")
	if !jit {
		b.line("MemoryDenyWriteExecute=yes")
	}
	b.lines("RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "SystemCallArchitectures=native",
		"SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources")
	if runAs {
		b.line("SystemCallFilter=@setuid")
	}
	b.line("SystemCallErrorNumber=EPERM")
	if served || network {
		b.line("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK") // the last is asked who calls, see tcpOwner
	} else {
		b.line("RestrictAddressFamilies=AF_UNIX")
	}
	if d.user { // a user's systemd has no privileges to take away
		return
	}
	if runAs {
		b.lines("CapabilityBoundingSet=CAP_SETUID CAP_SETGID", "AmbientCapabilities=CAP_SETUID CAP_SETGID")
	} else {
		b.lines("CapabilityBoundingSet=", "AmbientCapabilities=")
	}
	b.line("ProtectSystem=strict")
	if home {
		b.line("ReadWritePaths=-/home -/root") // whoever the worker is still has to be allowed to
	} else {
		b.line("ProtectHome=yes")
	}
	b.lines("ProtectProc=invisible",
		"ProcSubset=pid", "ProtectClock=yes", "ProtectControlGroups=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes",
		"ProtectKernelModules=yes", "ProtectKernelTunables=yes", "PrivateDevices=yes", "DevicePolicy=closed", "PrivateTmp=yes",
		"KeyringMode=private")
	far := slices.ContainsFunc(d.Endpoints, endpoint.isFar)
	if !network && !far {
		b.line("IPAddressDeny=any")
	}
	if d.RunAs == "" {
		b.line("RemoveIPC=yes") // it removes all IPC objects of the user, not only those of the service
	}
	switch {
	case network, far: // callers come from any address
	case served:
		b.line("IPAddressAllow=localhost")
	default:
		b.line("PrivateNetwork=yes")
	}
}

// sandboxLines are the lines of a unit that keep a need from workers.
func sandboxLines(user bool, need string) []string {
	switch need {
	case needJIT:
		return []string{"MemoryDenyWriteExecute=yes"}
	case needNetwork:
		if user {
			return []string{"RestrictAddressFamilies=AF_UNIX"}
		}
		return []string{"RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes", "IPAddressDeny=any"}
	case needHome:
		if !user {
			return []string{"ProtectHome=yes"}
		}
	case needRunAs:
		if !user {
			return []string{"CapabilityBoundingSet=", "AmbientCapabilities="}
		}
	}
	return nil
}

// A unitText builds the text of a unit.
type unitText struct{ strings.Builder }

// newUnitText begins a unit of the service.
func newUnitText(d *deployment) *unitText {
	b := &unitText{}
	b.line("# %s", d.mark())
	b.line("# Change it with \"ipcd install --force\", or add to it with \"systemctl edit\".")
	b.line("[Unit]")
	b.line("Description=Calls between the programs of this machine (%s)", d.name)
	return b
}

func (b *unitText) line(format string, args ...any) {
	fmt.Fprintf(b, format, args...)
	b.WriteByte('\n')
}

func (b *unitText) lines(lines ...string) {
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
}

// systemdWord escapes a word so that systemd takes no part of it for a specifier (systemd.unit(5)).
func systemdWord(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// systemdCommand writes a command line as systemd reads it: "COMMAND LINES" and "QUOTING" in systemd.service(5) and
// systemd.syntax(7). It does not expand variables in the path of the program.
func systemdCommand(words []string) (string, error) {
	var quoted []string
	for i, w := range words {
		if strings.ContainsFunc(w, isControl) {
			return "", usagef("%q has a control character, which no unit of systemd can have", w)
		}
		dollar := "$$"
		if i == 0 {
			if strings.ContainsAny(w, `"'\`) {
				return "", usagef("systemd runs no program whose path has quotation marks or a backslash: %s", w).withHint("put it somewhere else: ipcd install --copy-to")
			}
			dollar = "$"
		}
		w = strings.NewReplacer("%", "%%", "$", dollar, `\`, `\\`, `"`, `\"`).Replace(w)
		if w == "" || strings.ContainsAny(w, " '\";") {
			w = `"` + w + `"`
		}
		quoted = append(quoted, w)
	}
	return strings.Join(quoted, " "), nil
}
