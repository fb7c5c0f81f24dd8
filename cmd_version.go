package main

// This file owns "ipcd version": what this program is, and whether it and the daemon are of one version.

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// A Build is what "version --json" prints. All of it comes from the build, see go help buildvcs.
type Build struct {
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	Commit   string `json:"commit,omitempty"` // of the version control; empty where the build had none
	Date     string `json:"date,omitempty"`   // of the commit, RFC 3339
	Go       string `json:"go"`
	System   string `json:"system"` // GOOS/GOARCH
}

// A Comparison is what "version --check --json" prints.
type Comparison struct {
	Program Build  `json:"program"`
	Daemon  Status `json:"daemon"`
	Same    bool   `json:"same"`            // they are of one version
	Older   string `json:"older,omitempty"` // which of the two speaks the older protocol: "program" or "daemon"
}

func newVersionCmd() *cobra.Command {
	var f clientFlags
	check := false
	cmd := &cobra.Command{
		Use: "version", Short: "print the version of this program",
		Long: `Print the version of this program, of the protocol it speaks, of Go, and the system it is built for.

With --check it asks the daemon, too, and tells which of the two is older. A daemon and a client
understand each other across versions; what the older one lacks is an error that says so. Exit codes
with --check: 0 the same version, 1 another one, 3 no daemon reached.`,
		Example: "  ipcd version\n  ipcd version --json\n  ipcd version --check || ipcd restart",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			b := thisBuild()
			switch {
			case check:
				return f.checkVersion(cmd, b)
			case f.json:
				return printJSON(cmd.OutOrStdout(), b)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "ipcd %s (protocol %d, %s, %s)\n", b.Version, b.Protocol, b.Go, b.System)
			return err
		},
	}
	addClientFlags(cmd, &f)
	cmd.Flags().BoolVar(&f.json, "json", false, "print it as JSON")
	cmd.Flags().BoolVar(&check, "check", false, "compare it with the daemon's")
	return cmd
}

// checkVersion compares this program with the daemon that calls reach.
func (f *clientFlags) checkVersion(cmd *cobra.Command, b Build) error {
	set, _, err := settingsFrom(cmd)
	if err != nil {
		return err
	}
	c := Comparison{Program: b}
	if err := f.do(cmd.Context(), set, "Ipcd.Status", nil, &c.Daemon); err != nil {
		return err
	}
	c.Same = c.Daemon.Version == b.Version
	switch {
	case c.Daemon.Protocol < b.Protocol:
		c.Older = "daemon"
	case c.Daemon.Protocol > b.Protocol:
		c.Older = "program"
	}
	if f.json {
		err = printJSON(cmd.OutOrStdout(), c)
	} else {
		err = table(cmd.OutOrStdout(), func(t io.Writer) {
			fmt.Fprintf(t, "program\t%s\tprotocol %d\n", b.Version, b.Protocol)
			fmt.Fprintf(t, "daemon\t%s\tprotocol %d\n", oneLine(c.Daemon.Version), c.Daemon.Protocol)
		})
	}
	return errors.Join(err, c.verdict())
}

// verdict says which side to upgrade.
func (c *Comparison) verdict() error {
	switch {
	case c.Older == "daemon":
		return faultf(codeApplication, "the daemon is older than this program").withHint(`"ipcd restart" starts this version as the service; a daemon that is no service is stopped and started again`)
	case c.Older == "program":
		return faultf(codeApplication, "this program is older than the daemon").withHint("upgrade the program")
	case !c.Same:
		return faultf(codeApplication, "the daemon is another version; the two speak the same protocol").withHint(`"ipcd restart" starts this version as the service`)
	}
	return nil
}

func thisBuild() Build {
	b := Build{Version: version(), Protocol: protocolVersion}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	build := map[string]string{}
	for _, s := range info.Settings {
		build[s.Key] = s.Value
	}
	b.System = build["GOOS"] + "/" + build["GOARCH"]
	b.Commit, b.Date = build["vcs.revision"], build["vcs.time"]
	return b
}
