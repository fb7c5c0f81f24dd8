package main

// This file owns the commands of a client: call, ls, describe, status, whoami, version, and
// how their output looks.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const completionLimit = 500 * time.Millisecond // the shell waits while we ask the daemon for names

// clientFlags are those of all commands that call a daemon.
type clientFlags struct {
	start bool
	wait  time.Duration
	json  bool
}

// addClientFlags adds what reaching a daemon takes. --endpoint and --timeout are settings.
func addClientFlags(cmd *cobra.Command, f *clientFlags) {
	flags := cmd.Flags()
	flags.StringP("endpoint", "e", "", "where the daemon is, as a `URL` (default: your own daemon, else the service)")
	flags.BoolVar(&f.start, "start", false, "start a daemon in the background if none is there")
	flags.DurationVar(&f.wait, "wait", 0, "how long to try while a daemon comes up")
	addSettingFlags(cmd, "timeout", "idle")
	cmd.Flag("idle").Usage = "with --start: the daemon leaves after so long without a connection (`duration`, default 15m)"
}

// reach connects to the daemon that the settings mean.
func (f *clientFlags) reach(ctx context.Context, set settings) (caller, error) {
	var own endpoint
	var err error
	text := set.Endpoint
	if text != "" {
		own, err = parseEndpoint(text)
	} else {
		own, err = defaultEndpoint()
	}
	if err != nil {
		return nil, err
	}
	nobody := &fault{Code: codeNotReachable}
	var serviceErr error // nil where the service was not asked
	try := func() (caller, error) {
		c, err := dial(ctx, own, set.Limits)
		if text != "" || !errors.Is(err, nobody) {
			return c, err
		}
		c, serviceErr = dial(ctx, serviceEndpoint(defaultName), set.Limits)
		if !errors.Is(serviceErr, nobody) || errors.Is(serviceErr, fs.ErrPermission) { // it is there, perhaps not for us
			return c, serviceErr
		}
		return nil, asFault(err).withHint(`start one with "ipcd run", or let "ipcd call --start" do it, or name another endpoint with -e`)
	}
	var c caller
	if f.start {
		c, err = try()
	} else {
		c, err = persist(ctx, f.wait, try)
	}
	switch {
	case !errors.Is(err, nobody):
	case f.start:
		return startDaemon(ctx, own, set)
	case serviceErr != nil && !errors.Is(serviceErr, fs.ErrPermission) && serviceInstalled():
		return nil, asFault(serviceErr).withHint(`the service is installed and does not run: ipcd start`)
	}
	return c, err
}

// do reaches a daemon, calls one method and decodes its result.
func (f *clientFlags) do(ctx context.Context, set settings, method string, arg, result any) error {
	if set.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, set.Timeout+f.wait)
		defer cancel()
	}
	c, err := f.reach(ctx, set)
	if err != nil {
		return err
	}
	defer c.close()
	err = c.call(ctx, method, arg, result)
	name, own := strings.CutPrefix(method, "Ipcd.")
	// Ipcd.Describe says the same of its argument; only the end of the text tells the two apart.
	if _, known := ipcdDocs[name]; own && known && errors.Is(err, &fault{Code: codeNoMethod}) && strings.HasSuffix(err.Error(), method) {
		return faultf(codeNoMethod, "%w: the daemon is older than this program, which speaks protocol %d", err, protocolVersion).
			withHint(`restart the daemon; "ipcd version" and "ipcd status" tell the version of each`)
	}
	return err
}

func newCallCmd() *cobra.Command {
	var f clientFlags
	var argument string
	cmd := &cobra.Command{
		Use:   "call METHOD|TEXT [ARGUMENT | key=text | key:=JSON ...]",
		Short: "call a method and print its result",
		Long: `Call a method and print its result: a string as it is, anything else as JSON.

A word that is no method (Service.Method) is sent to Echo.Say. The argument is one of
  TEXT                      a string
  key=text key:=JSON ...    an object; := takes a number, true, a list and so on
  --json JSON               any JSON
  -                         JSON from standard input

Exit codes: 0 done, 1 the call failed, 2 bad usage, 3 no daemon reached.`,
		Example: `  ipcd call hello
  ipcd call --start hello
  ipcd call Echo.Say 'two words'
  ipcd call Greeter.Hello name=Ada age:=36
  echo '"hello"' | ipcd call Echo.Say -
  ipcd call -e 'fork:node greeter.js' Greeter.Hello name=Ada`,
		Args:              atLeastOneArg,
		ValidArgsFunction: completeMethods(&f),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, _, err := settingsFrom(cmd)
			if err != nil {
				return err
			}
			p := argumentParser{limits: set.Limits, stdin: cmd.InOrStdin()}
			method, arg, err := p.parse(args, argument, cmd.Flags().Changed("json"))
			if err != nil {
				return err
			}
			var result json.RawMessage
			if err := f.do(cmd.Context(), set, method, arg, &result); err != nil {
				return err
			}
			return printResult(cmd.OutOrStdout(), result)
		},
	}
	addClientFlags(cmd, &f)
	cmd.Flags().StringVar(&argument, "json", "", "the argument as JSON")
	return cmd
}

// An argumentParser reads what a person, or a script, wants to call.
type argumentParser struct {
	limits limits
	stdin  io.Reader
}

// parse reads a method and its argument from the command line. The argument is nil where none is
// given.
func (p argumentParser) parse(args []string, argument string, given bool) (method string, arg any, err error) {
	method, rest := args[0], args[1:]
	if !isMethodName(method) {
		if len(rest) > 0 || given {
			return "", nil, usagef("%q is no method", method).withHint("methods look like Service.Method; quote a text of several words: ipcd call 'two words'")
		}
		return "Echo.Say", method, nil
	}
	switch {
	case given && len(rest) > 0:
		return "", nil, usagef("the argument is given twice: by --json and by %q", rest[0]).withHint("keep one of them")
	case given:
		arg, err = p.json("--json", []byte(argument))
	case len(rest) == 1 && rest[0] == "-":
		most := p.limits.MaxMessage
		text, err := io.ReadAll(io.LimitReader(p.stdin, int64(most)+1))
		switch {
		case err != nil:
			return "", nil, fmt.Errorf("read standard input: %w", err)
		case len(text) > most:
			return "", nil, tooLarge("max_message", int64(most), "standard input is too large").withHint("send less, or raise limits.max_message here and in the daemon")
		}
		arg, err := p.json("standard input", text)
		return method, arg, err
	case len(rest) == 1 && !strings.Contains(rest[0], "="):
		arg = rest[0]
	case len(rest) > 0:
		arg, err = p.object(rest)
	}
	return method, arg, err
}

// json checks JSON that a person typed, and says where it is wrong.
func (p argumentParser) json(source string, text []byte) (any, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return nil, usagef("%s: there is nothing; expected JSON", source).withHint(`a string needs its quotes: '"hello"'`)
	}
	if err := checkJSON(text, p.limits); err != nil {
		return nil, usagef("%s: %s", source, err).withHint(`a string needs its quotes: '"hello"'`)
	}
	return json.RawMessage(text), nil
}

// object reads key=text and key:=JSON, in the order given.
func (p argumentParser) object(words []string) (any, error) {
	object := []byte{'{'}
	seen := map[string]bool{}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, usagef("%q is neither key=text nor key:=JSON", word).withHint("quote a text of several words")
		}
		key, isJSON := strings.CutSuffix(key, ":")
		if key == "" || seen[key] {
			return nil, usagef("%q: the key is missing or there twice", word)
		}
		seen[key] = true
		if len(object) > 1 {
			object = append(object, ',')
		}
		object = append(appendJSONString(object, key), ':')
		if !isJSON {
			object = appendJSONString(object, value)
			continue
		}
		v, err := p.json(key+":=", []byte(value))
		if err != nil {
			return nil, err
		}
		object = append(object, v.(json.RawMessage)...)
	}
	return json.RawMessage(append(object, '}')), nil
}

// isMethodName tells Service.Method from a text.
func isMethodName(s string) bool {
	service, name, ok := strings.Cut(s, ".")
	return ok && isServiceName(service) && isServiceName(name)
}

// printResult prints a string as it is and anything else as JSON, indented for a person.
func printResult(w io.Writer, result json.RawMessage) error {
	var text string
	if len(result) > 0 && result[0] == '"' && json.Unmarshal(result, &text) == nil {
		_, err := fmt.Fprintln(w, text)
		return err
	}
	if isTerminal(w) {
		var b bytes.Buffer
		if json.Indent(&b, result, "", "  ") == nil {
			result = b.Bytes()
		}
	}
	_, err := fmt.Fprintf(w, "%s\n", result)
	return err
}

// printJSON prints what --json promises.
func printJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return printResult(w, b)
}

// newAskCmd makes a command that asks the daemon one question. The answer is shown by show,
// or as the daemon gave it with --json.
func newAskCmd[T any](use, short, long, example, method string, args cobra.PositionalArgs, show func(w io.Writer, answer T) error) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: args,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, _, err := settingsFrom(cmd)
			if err != nil {
				return err
			}
			var arg any
			if len(args) > 0 {
				arg = args[0]
			}
			var answer T
			if e, err := parseEndpoint(set.Endpoint); err == nil && e.Proto == protoGob {
				// gob has the names of Go, and leaves out zeros; the type knows better.
				if err := f.do(cmd.Context(), set, method, arg, &answer); err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), answer)
				}
				return show(cmd.OutOrStdout(), answer)
			}
			var raw json.RawMessage
			if err := f.do(cmd.Context(), set, method, arg, &raw); err != nil {
				return err
			}
			if f.json {
				return printResult(cmd.OutOrStdout(), raw)
			}
			if err := json.Unmarshal(raw, &answer); err != nil {
				return faultf(codeWrongProtocol, "the answer of %s is not as expected: %w", method, err).withHint("the daemon may be of another version: see ipcd version and ipcd status")
			}
			return show(cmd.OutOrStdout(), answer)
		},
	}
	addClientFlags(cmd, &f)
	cmd.Flags().BoolVar(&f.json, "json", false, "print the answer as JSON")
	if len(use) > len("describe") && strings.HasPrefix(use, "describe") {
		cmd.ValidArgsFunction = completeMethods(&f)
	}
	return cmd
}

func newLsCmd() *cobra.Command {
	return newAskCmd("ls", "list the methods that can be called",
		"List the methods that can be called, in alphabetical order.\n\nThe JSON is a list of {\"method\": \"Service.Method\", \"doc\": \"...\"}.",
		"  ipcd ls\n  ipcd ls --json", "Ipcd.List", noArgs,
		func(w io.Writer, list []Listing) error {
			return table(w, func(t io.Writer) {
				for _, l := range list {
					fmt.Fprintf(t, "%s\t%s\n", oneLine(l.Method), oneLine(l.Doc))
				}
			})
		})
}

func newDescribeCmd() *cobra.Command {
	return newAskCmd("describe SERVICE|METHOD", "tell what a method takes and returns",
		"Tell what a method, or each method of a service, takes and returns.\n\nThe JSON is a list of {\"method\", \"doc\", \"argument\", \"result\"}; the last two are JSON Schema,\nand argument is null where a method takes none.",
		"  ipcd describe Echo\n  ipcd describe Echo.Say --json", "Ipcd.Describe", oneArg,
		func(w io.Writer, list []Description) error {
			for _, d := range list {
				fmt.Fprintf(w, "%s(%s) %s\n", oneLine(d.Method), oneLine(d.Argument.shape()), oneLine(d.Result.shape()))
				if d.Doc != "" {
					fmt.Fprintf(w, "    %s\n", oneLine(d.Doc))
				}
			}
			return nil
		})
}

func newWhoamiCmd() *cobra.Command {
	return newAskCmd("whoami", "tell what the kernel says of you to the daemon",
		"Tell what the kernel says of the caller to the daemon: what its access rules go by.\n\nThe JSON is the answer of Ipcd.Whoami, see docs/protocol.md.",
		"  ipcd whoami\n  ipcd whoami --json", "Ipcd.Whoami", noArgs,
		func(w io.Writer, p peer) error {
			text := p.who()
			if p.PID != 0 {
				text += fmt.Sprintf(", process %d", p.PID)
			}
			_, err := fmt.Fprintf(w, "%s, over %s\n", oneLine(text), p.Transport)
			return err
		})
}

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

// completeMethods offers the names that the daemon knows right now. Where there is none, it
// offers nothing, and says nothing into the middle of a command line.
func completeMethods(f *clientFlags) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionLimit)
		defer cancel()
		set, _, err := settingsFrom(cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		f.start, f.wait = false, 0
		c, err := f.reach(ctx, set)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer c.close()
		var list []Listing
		if err := c.call(ctx, "Ipcd.List", nil, &list); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, l := range list {
			if strings.HasPrefix(l.Method, word) {
				names = append(names, l.Method+"\t"+l.Doc)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
