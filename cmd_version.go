package main

// This file owns "ipcd version": the version of this program, and its comparison with the daemon's.

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// A Build is what "version --json" prints. Everything in it was recorded by the build: see go help buildvcs.
type Build struct {
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	Commit   string `json:"commit,omitempty"` // empty if the build had no version control
	Date     string `json:"date,omitempty"`   // of the commit, RFC 3339
	Go       string `json:"go"`
	System   string `json:"system"` // GOOS/GOARCH
}

// A Comparison is what "version --check --json" prints.
type Comparison struct {
	Program Build  `json:"program"`
	Daemon  Status `json:"daemon"`
	Same    bool   `json:"same"`            // they have the same version, and as far as is known are the same build
	Older   string `json:"older,omitempty"` // the side with the older protocol: "program" or "daemon"
}

func newVersionCmd() *cobra.Command {
	var f clientFlags
	check := false
	cmd := &cobra.Command{
		Use: "version", Short: "print the version of this program",
		Long: `Print the version of this program, of its protocol and of Go, and the system it was built for.

With --check it asks the daemon too, and says which of the two is older. A daemon and a client
understand each other across versions; for what the older one lacks, an error says so. Exit codes
with --check: 0 same version, 1 different version or another build of it, 3 no daemon reached.`,
		Example: "  ipcd version\n  ipcd version --json\n  ipcd version --check || ipcd restart",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			b := thisBuild()
			switch {
			case check:
				return f.checkVersion(cmd, b)
			case wantsJSON(cmd):
				return printJSON(cmd.OutOrStdout(), b)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), b.line())
			return err
		},
	}
	addQuestionFlags(cmd, &f)
	cmd.Flags().BoolVar(&check, "check", false, "compare it with the daemon's version")
	return cmd
}

// checkVersion compares the version of this program with that of the daemon.
func (f *clientFlags) checkVersion(cmd *cobra.Command, b Build) error {
	set, wrong, err := settingsDespite(cmd)
	if err != nil {
		return err
	}
	warnTo(cmd.ErrOrStderr(), cmd, wrong)
	c := Comparison{Program: b}
	if err := f.do(cmd.Context(), f.briefly(set), "Ipcd.Status", nil, &c.Daemon); err != nil {
		return asUnreached(err)
	}
	c.Same = c.Daemon.Version == b.Version && !c.Daemon.isOtherBuild()
	switch {
	case c.Daemon.Protocol < b.Protocol:
		c.Older = "daemon"
	case c.Daemon.Protocol > b.Protocol:
		c.Older = "program"
	}
	if wantsJSON(cmd) {
		err = printJSON(cmd.OutOrStdout(), c)
	} else {
		err = table(cmd.OutOrStdout(), func(t io.Writer) {
			fmt.Fprintf(t, "program\t%s\tprotocol %d\n", b.Version, b.Protocol)
			fmt.Fprintf(t, "daemon\t%s\tprotocol %d\n", oneLine(c.Daemon.Version), c.Daemon.Protocol)
		})
	}
	return errors.Join(err, c.verdict())
}

// verdict returns an error that says which side to upgrade, or nil.
func (c *Comparison) verdict() error {
	switch {
	case c.Older == "daemon":
		return faultf(codeApplication, "the daemon is older than this program").withHint(`"ipcd restart" starts this version; whoever has started a daemon with "ipcd run" has to restart it`)
	case c.Older == "program":
		return faultf(codeApplication, "this program is older than the daemon").withHint("upgrade the program")
	case !c.Same:
		what := "the daemon has a different version, but the same protocol"
		if c.Daemon.Version == c.Program.Version {
			what = "the daemon is another build of the same version"
		}
		return faultf(codeApplication, "%s", what).withHint(`"ipcd restart" starts this one; whoever has started a daemon with "ipcd run" has to restart it`)
	}
	return nil
}

// line is what "ipcd version" and "ipcd --version" print.
func (b Build) line() string {
	return fmt.Sprintf("ipcd %s (protocol %d, %s, %s)", b.Version, b.Protocol, b.Go, b.System)
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
