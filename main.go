// Ipcd gives every program on a machine one fast, safe place to call every other.
//
//	ipcd run                  serve in the foreground
//	ipcd call hello           call Echo.Say with "hello" and print the answer
//	ipcd ls, describe, status, whoami
//	ipcd install, uninstall, start, stop, restart   the service of the operating system
//	ipcd child, fork          the two ends of the Node.js IPC channel
//	ipcd config show, check   the settings in force, and a look at a file
//	ipcd version, completion
//
// The README says how to use it, docs/protocol.md what goes over the wire. Those who read
// the code begin with rpc.go for a service, session.go for what happens to a call, and
// transport.go for where bytes come from.
package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	err := newRootCmd().ExecuteContext(context.Background())
	if out := (*fs.PathError)(nil); errors.As(err, &out) && out.Path == os.Stdout.Name() && isBrokenPipe(err) {
		os.Exit(exitDone) // whoever read our output has had enough: | head -1
	}
	complain(errorStream{os.Stderr}, err)
	os.Exit(exitCode(err))
}

func newRootCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ipcd",
		Short: "one fast, safe place for every program on a machine to call every other",
		Long: `One fast, safe place for every program on a machine to call every other.

"ipcd run" serves; "ipcd call hello" calls. Programs in Go, Node.js, Python, a shell or curl
call with the standard library that they have: see the README and docs/protocol.md.`,
		Example:           "  ipcd call --start hello\n  ipcd ls",
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              knownCommand,
		RunE:              func(cmd *cobra.Command, args []string) error { return cmd.Help() },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w", err).withHint("see %s --help", c.CommandPath())
	})
	addConfigFlags(cmd)
	cmd.AddCommand(newRunCmd(), newCallCmd(), newLsCmd(), newDescribeCmd(), newStatusCmd(), newWhoamiCmd(),
		newInstallCmd(), newUninstallCmd(), newStartCmd(), newStopCmd(), newRestartCmd(),
		newForkCmd(), newChildCmd(serveChannel), newConfigCmd(), newVersionCmd())
	return cmd
}

// knownCommand complains of a word that is no command; cobra calls it for those alone.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	f := usagef("there is no command %q", args[0])
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return f.withHint("did you mean ipcd %s?", near[0])
	}
	return f.withHint(`see ipcd --help; to say a text, "ipcd call %s"`, args[0])
}
