// Ipcd gives every program on a machine one fast, safe place to call every other.
//
//	ipcd run                  serve in the foreground
//	ipcd call hello           call Echo.Say with "hello" and print the answer
//	ipcd ls, describe, status, whoami
//	ipcd install, uninstall, start, stop, restart   the service of the operating system
//	ipcd logs                 its log, or that of one's own daemon
//	ipcd stats, doctor        what it has counted; what is wrong
//	ipcd pub, sub             events
//	ipcd serve                offer a program as a method
//	ipcd worker               the programs that the daemon starts and looks after
//	ipcd child, fork          the two ends of the Node.js IPC channel
//	ipcd config show, check   show the settings in force, check a file
//	ipcd access explain, lint say which rule decides, find rules that decide nothing
//	ipcd token new, ls, rm    the tokens that programs show over TCP, HTTP and TLS
//	ipcd tls init, issue      certificates for those who have none
//	ipcd version, completion
//
// The README says how to use it, docs/protocol.md what goes over the wire.
//
// The program is one package of rooms. A file belongs to the room that its name begins with. The file with
// the bare name, or the pair for Unix and Windows, is the room's door: it says what the room is for, and
// where the next of its kind plugs in if there can be one. The rooms are listed bottom first: a file uses its
// own room and those listed before it, never those listed after it. A file that begins with no room's name is a fork's own: what
// the house asks of its files is not asked of it, and only rpc_services.go and main.go use it.
//
//	errors     what goes wrong: the fault that crosses a connection, exit codes, hints
//	log        log lines, and where they go
//	peer       who is at the other end of a connection
//	endpoint   the URLs by which everything is addressed
//	sys        the operating system: directories, users, signals, whom files can be trusted to
//	access     who may call
//	config     the settings: file, environment, flags
//	wire       bytes to messages and back: codecs, and how a protocol is recognised
//	transport  where connections come from: TCP, TLS, sockets that a service manager opened
//	pipe       the local transport: Unix sockets, Windows named pipes
//	rpc        services and their methods, calls, and providers that answer elsewhere
//	session    one end of a connection: calls of the peer, and calls of ours
//	child      the Node.js IPC channel, and the programs that are started with one
//	server     the listeners, and the stages of each connection
//	client     calls to a daemon
//	daemon     the life of a daemon, and what it tells whoever started it
//	svc        installing the service: systemd, OpenRC, launchd, rc.d, Windows
//	cmd        the commands
//	main       this file
//
// A request arrives at a listener of transport or pipe. The server asks access who may call, looks at the first
// bytes and gives the connection to a session, or to HTTP, which makes a session of each request. The
// session's codec turns bytes into messages; the router (rpc) finds the method, which runs here or hands the
// call on to a provider by a session of the provider's own: that over which it has registered. The answer
// goes back through the session by which the request came.
//
// Where the next one goes:
//
//	transport         a file transport_*.go, whose init calls addTransport; its scheme in endpoint.go
//	protocol          a row of protocols in wire.go, a codec in wire_*.go, its name in endpoint.go
//	without a codec   such a row, and one of takers in server_conn.go; what begins as HTTP is a route of server_http.go
//	built-in service  a Go type in a file of its own, and a line in services of rpc_services.go: docs/services.md
//	provider          a type that implements provider of rpc_pool.go
//	service manager   a type that implements supervisor of svc.go, in svc_*.go, and a line in svc_linux.go or its like
//	command           a file cmd_*.go, and a line in commands below
//	setting           a row of settingTable in config.go
//	right             a row of rights in access.go, and a question where it is used
//	error code        errors.go, its HTTP status in server_http.go, its row in docs/protocol.md
//	figure of status  server_builtin.go; it is counted by the meter of session_meter.go
//	metric            a row of figures in server_stats.go, and of docs/operations.md
//
// Tests lie beside their file, under its name with _test. e2e_*_test.go run the whole program, kit_*_test.go are what
// tests share, and testdata/script has the commands. bench/ is a program of its own, which measures.
package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands has what makes each command, by its name.
var commands = map[string]func() *cobra.Command{
	"run": newRunCmd, "call": newCallCmd, "bench": newBenchCmd, "ls": newLsCmd, "describe": newDescribeCmd, "status": newStatusCmd, "stats": newStatsCmd,
	"doctor": newDoctorCmd, "whoami": newWhoamiCmd, "install": newInstallCmd, "uninstall": newUninstallCmd, "start": newStartCmd,
	"stop": newStopCmd, "restart": newRestartCmd, "logs": newLogsCmd, "fork": newForkCmd, "child": newChildCmd, "pub": newPubCmd,
	"sub": newSubCmd, "serve": newServeCmd, "worker": newWorkerCmd, "config": newConfigCmd, "access": newAccessCmd, "token": newTokenCmd,
	"tls": newTLSCmd, "version": newVersionCmd,
}

func main() {
	root := newRootCmd(os.Args[1:])
	unprinted := keepHelpError(root)
	if len(os.Args) > 1 && slices.Contains(printedByCobra, os.Args[1]) {
		root.SetOut(keptErrorWriter{os.Stdout, unprinted})
	}
	cmd, err := root.ExecuteContextC(context.Background())
	if err == nil {
		err = *unprinted
	}
	if out := (*fs.PathError)(nil); errors.As(err, &out) && out.Path == os.Stdout.Name() && isBrokenPipe(err) {
		os.Exit(exitDone) // the reader of our output has had enough, as head -1 does
	}
	if by := (*interruption)(nil); errors.As(err, &by) {
		endBySignal(by.sig)
	}
	complainTo(errorStream{os.Stderr}, cmd, err)
	os.Exit(exitCode(err))
}

// newRootCmd returns the program for these arguments. If the first one is the name of a command, it has that one alone: to make
// all of them takes a short call a tenth of its page faults.
func newRootCmd(args []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ipcd",
		Short: "one fast, safe place for every program on a machine to call every other",
		Long: `One fast, safe place for every program on a machine to call every other.

"ipcd run" serves; "ipcd call hello" calls. Programs in Go, Node.js, Python, a shell or curl
call with the standard library that they have: see the README and docs/protocol.md.`,
		Example:           "  ipcd call --start hello\n  ipcd ls",
		Version:           thisBuild().line(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	cmd.SetFlagErrorFunc(unknownFlag)
	cmd.SetVersionTemplate("{{.Version}}\n")
	addConfigFlags(cmd)
	addJSONFlag(cmd)
	if len(args) > 0 && commands[args[0]] != nil {
		cmd.AddCommand(commands[args[0]]())
	} else {
		for _, each := range commands {
			cmd.AddCommand(each())
		}
		cmd.InitDefaultCompletionCmd() // which cobra would do later
		cmd.InitDefaultHelpCmd()
		refuseUnknownHelp(cmd)
	}
	for _, c := range append(cmd.Commands(), cmd) {
		if c.HasSubCommands() {
			c.Args, c.RunE = knownCommand, func(cmd *cobra.Command, args []string) error { return cmd.Help() }
		}
	}
	return cmd
}

// refuseUnknownHelp has "help" refuse what is no command: cobra's own shows the help of something else, and all is well.
func refuseUnknownHelp(root *cobra.Command) {
	for _, help := range root.Commands() {
		if help.Name() != "help" {
			continue
		}
		help.Run = nil
		help.RunE = func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			switch {
			case err != nil:
				return usagef("%w", err)
			case len(rest) > 0 && cmd.HasSubCommands():
				return knownCommand(cmd, rest)
			}
			cmd.InitDefaultHelpFlag() // so that it is shown
			cmd.InitDefaultVersionFlag()
			return cmd.Help()
		}
	}
}

// keepHelpError returns where the error will be with which help could not be printed, which cobra prints and forgets.
func keepHelpError(root *cobra.Command) *error {
	show, unprinted := root.HelpFunc(), new(error)
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		out := cmd.OutOrStdout()
		var b bytes.Buffer
		cmd.SetOut(&b)
		show(cmd, args)
		cmd.SetOut(out)
		_, *unprinted = out.Write(b.Bytes())
	})
	return unprinted
}

// printedByCobra begin command lines that cobra answers by itself. Where it cannot write it prints that in words of its own, or not at all.
var printedByCobra = []string{"--version", "-v", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}

// A keptErrorWriter takes everything, and keeps its first error for whoever looks at the end.
type keptErrorWriter struct {
	w   io.Writer
	err *error
}

func (k keptErrorWriter) Write(b []byte) (int, error) {
	if *k.err == nil {
		_, *k.err = k.w.Write(b)
	}
	return len(b), nil
}

// knownCommand refuses a word that is not a command. cobra calls it for no others.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	f := usagef("there is no command %q", strings.TrimPrefix(cmd.CommandPath()+" "+args[0], cmd.Root().Name()+" "))
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	near := nearest(args[0], names)
	begun := func(name string) bool { return len(args[0]) > 1 && strings.HasPrefix(name, args[0]) }
	if i := slices.IndexFunc(names, begun); i >= 0 && (near == "" || edits(args[0], near, 2) > 1) { // which is likelier than two slips
		near = names[i]
	}
	if near != "" {
		return f.withHint("did you mean %s %s?", cmd.CommandPath(), near)
	}
	if cmd.HasParent() {
		return f.withHint("see %s --help", cmd.CommandPath())
	}
	return f.withHint(`see ipcd --help; to send a text: ipcd call %s`, args[0])
}

// unknownFlag refuses a flag that a command does not have, or whose value it does not take.
func unknownFlag(cmd *cobra.Command, err error) error {
	f := usagef("%w", err)
	var bad *pflag.InvalidValueError
	if errors.As(err, &bad) {
		return refuseFlag(bad).withHint("see %s --help", cmd.CommandPath())
	}
	var missing *pflag.NotExistError
	if errors.As(err, &missing) {
		var names []string
		cmd.Flags().VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
		name, near := missing.GetSpecifiedName(), nearest(missing.GetSpecifiedName(), names)
		switch takesMembers := cmd.Name() == "call" || cmd.Name() == "pub"; {
		case near != "" && takesMembers:
			return f.withHint("did you mean --%s? a member of the argument is typed without dashes: %s=...", near, name)
		case takesMembers:
			return f.withHint("a member of the argument is typed without dashes: %s=...", name)
		case near != "":
			return f.withHint("did you mean --%s?", near)
		}
		if typed := missing.GetSpecifiedShortnames(); slices.Contains(names, typed) { // with one dash
			return f.withHint("did you mean --%s?", typed)
		}
	}
	return f.withHint("see %s --help", cmd.CommandPath())
}

// refuseFlag says what is wrong with the value of a flag that is no setting, as settings do, and without the words of Go's libraries.
func refuseFlag(bad *pflag.InvalidValueError) *fault {
	if own := (*fault)(nil); errors.As(bad, &own) {
		return usagef("--%s: %s", bad.GetFlag().Name, own.Text)
	}
	what, expected := "is not what it takes", "what --help says"
	switch flag := bad.GetFlag(); {
	case errors.Is(bad, strconv.ErrRange):
		what, expected = "is too much", "a number such as 10"
	case flag.Value.Type() == "int":
		what, expected = "is not a whole number", "one such as 10"
	case flag.Value.Type() == "bool":
		what, expected = "is neither", "true or false, or the flag alone"
	}
	return usagef("--%s: %q %s; expected %s", bad.GetFlag().Name, shorten(bad.GetValue(), 100), what, expected)
}
