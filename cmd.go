package main

// This file owns what the commands have in common: the flags of the settings, the way to a daemon, and how a
// result looks on a terminal and as JSON.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// table aligns columns that are separated by tabs. On a terminal it cuts rows that are too wide, so that the
// columns stay aligned; --json shows everything.
func table(w io.Writer, rows func(t io.Writer)) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	rows(t)
	t.Flush() // to memory: cannot fail
	width := terminalWidth(w)
	for line := range strings.Lines(b.String()) {
		if _, err := io.WriteString(w, fit(line, width)); err != nil {
			return err
		}
	}
	return nil
}

// fit cuts a line to width characters, the last of which is then an ellipsis. A width of 0 means no limit.
func fit(line string, width int) string {
	text := []rune(strings.TrimSuffix(line, "\n"))
	if width < 2 || len(text) <= width {
		return line
	}
	return string(text[:width-1]) + "…\n"
}

// terminalWidth returns the number of columns of w, or 0 if w is not a terminal.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// shown returns text that a server has sent as w may show it. On a terminal, what could control it is escaped, in a form
// that is as good in a string of JSON, save for line feeds and tabs.
func shown(w io.Writer, text string) string {
	if !isTerminal(w) {
		return text
	}
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		for i, cell := range strings.Split(line, "\t") {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(oneLine(cell))
		}
	}
	return b.String()
}

// addConfigFlags adds the flags that a command shares with its subcommands.
func addConfigFlags(cmd *cobra.Command) {
	fs := cmd.PersistentFlags()
	fs.String("config", "", "read the settings from this `file` (default: that of the user or the service)")
	fs.StringArray("set", nil, "change one setting, `key=value`; see \"ipcd config show\" (repeatable)")
	for key, usage := range map[string]string{"log_level": "log this `level` and above: ", "log_format": "`format` of the log: "} {
		s := findSetting(key)
		fs.String(s.flag(), "", usage+strings.Join(s.words, ", "))
		cobra.CheckErr(cmd.RegisterFlagCompletionFunc(s.flag(), cobra.FixedCompletions(s.words, cobra.ShellCompDirectiveNoFileComp)))
	}
	cobra.CheckErr(cmd.MarkPersistentFlagFilename("config", "toml"))
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("set", completeSet))
}

// completeSet completes the key of --set.
func completeSet(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	keys := make([]string, len(settingTable))
	for i, s := range settingTable {
		keys[i] = s.key + "=\t" + s.doc
	}
	return keys, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// addSettingFlags adds a flag for each of these settings.
func addSettingFlags(cmd *cobra.Command, keys ...string) {
	for _, key := range keys {
		s := findSetting(key)
		usage := strings.ToLower(s.doc[:1]) + strings.TrimSuffix(s.doc[1:], ".")
		switch s.kind {
		case ofEndpoints:
			cmd.Flags().StringArray(s.flag(), nil, usage+" (`URL`, repeatable)")
		case ofEndpoint:
			cmd.Flags().String(s.flag(), "", usage+" (`URL`)")
		case ofDuration:
			cmd.Flags().String(s.flag(), "", usage+" (`duration`)")
		case ofGroup:
			cmd.Flags().String(s.flag(), "", usage+" (`group`)")
		default:
			cmd.Flags().String(s.flag(), "", usage)
		}
	}
}

// settingsFrom merges the settings for a command from its file, the environment and its flags. Every
// flag with the name of a setting counts, no matter where it was declared.
func settingsFrom(cmd *cobra.Command) (settings, origins, error) {
	who, err := instanceFrom(cmd)
	if err != nil {
		return settings{}, nil, err
	}
	file, explicit, err := configFile(cmd, who)
	if err != nil {
		return settings{}, nil, err
	}
	flags, err := givenFlags(cmd)
	if err != nil {
		return settings{}, nil, err
	}
	set, from, err := loadSettings(file, explicit, os.LookupEnv, flags)
	set.instance = who
	return set, from, gather(err, misspelt(os.Environ(), os.LookupEnv))
}

// addInstanceFlags adds the flags that select a service.
func addInstanceFlags(cmd *cobra.Command) {
	cmd.Flags().String("service", "", "act as the service of this `name`, with its default endpoint and configuration")
	cmd.Flags().Bool("user", false, "with --service: a service of the user, not of the system")
}

// instanceFrom reads the flags of addInstanceFlags. It returns the zero instance if the command has none.
func instanceFrom(cmd *cobra.Command) (instance, error) {
	var who instance
	f := cmd.Flags().Lookup("service")
	if f == nil {
		return who, nil
	}
	who.name = f.Value.String()
	who.user, _ = cmd.Flags().GetBool("user")
	switch {
	case !f.Changed && who.user:
		return who, usagef("--user is for a service, but none is named").withHint("add --service %s, or leave out --user", defaultName)
	case f.Changed && !isInstanceName(who.name):
		return who, usagef("--service: %q is not a valid name for a service; expected 1 to %d of a-z, 0-9, - and _, a letter first", shorten(who.name, 100), maxName).
			withHint("the usual name is %s", defaultName)
	}
	return who, nil
}

// configFile returns the configuration file in force. IPCD_CONFIG sets one for a whole shell; with /dev/null
// there is none.
func configFile(cmd *cobra.Command, who instance) (file string, explicit bool, err error) {
	if f := cmd.Flag("config"); f != nil && f.Changed {
		if f.Value.String() == "" {
			return "", false, usagef("--config: is empty; expected the name of a file")
		}
		return f.Value.String(), true, nil
	}
	if file = os.Getenv(configVariable); file != "" {
		return file, true, nil
	}
	return who.configFile(), false, nil
}

// givenFlags returns the settings on the command line. A setting's own flag overrides --set.
func givenFlags(cmd *cobra.Command) ([]given, error) {
	var all []given
	if f := cmd.Flag("set"); f != nil && f.Changed {
		for _, text := range f.Value.(interface{ GetSlice() []string }).GetSlice() {
			g, err := parseSet(text)
			if err != nil {
				return nil, err
			}
			all = append(all, g)
		}
	}
	for i := range settingTable {
		s := &settingTable[i]
		f := cmd.Flag(s.flag())
		if f == nil || !f.Changed {
			continue
		}
		g := given{flag: "--" + f.Name, key: s.key, values: []string{f.Value.String()}}
		if list, ok := f.Value.(interface{ GetSlice() []string }); ok {
			g.values = list.GetSlice()
		}
		all = append(all, g)
	}
	return all, nil
}

// clientFlags are the flags of every command that calls a daemon.
type clientFlags struct {
	start bool
	wait  time.Duration
	json  bool
}

// addClientFlags adds the flags for reaching a daemon. --endpoint, --timeout and --idle are settings.
func addClientFlags(cmd *cobra.Command, f *clientFlags) {
	flags := cmd.Flags()
	flags.StringP("endpoint", "e", "", "where the daemon is, as a `URL` (default: your own daemon, else the service)")
	flags.BoolVar(&f.start, "start", false, "start a daemon in the background if none is there")
	flags.DurationVar(&f.wait, "wait", 0, "how long to keep trying while a daemon comes up")
	addSettingFlags(cmd, "timeout", "idle")
	cmd.Flag("idle").Usage = "with --start: how long the daemon stays without a connection (`duration`, default 15m)"
}

// reach connects to the daemon at the endpoint in the settings. By default that is the user's own daemon, or
// else the service.
func (f *clientFlags) reach(ctx context.Context, set settings, log *logger) (caller, error) {
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
	options := dialOptions{limits: set.Limits, log: log}
	var serviceErr error // nil if the service was not tried
	try := func() (caller, error) {
		c, err := dial(ctx, own, options)
		if text != "" || !errors.Is(err, nobody) {
			return c, err
		}
		c, serviceErr = dial(ctx, serviceEndpoint(defaultName), options)
		if !errors.Is(serviceErr, nobody) || errors.Is(serviceErr, fs.ErrPermission) { // the service is there, but may refuse us
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
		return nil, asFault(serviceErr).withHint(`the service is installed, but nobody listens for it there: ipcd start`)
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
	log := newLogger(os.Stderr, set.LogFormat, set.LogLevel)
	defer log.close()
	c, err := f.reach(ctx, set, log)
	if err != nil {
		return err
	}
	defer c.close()
	err = c.call(ctx, method, arg, result)
	name, own := strings.CutPrefix(method, "Ipcd.")
	// Ipcd.Describe returns the same code for an unknown argument. Only the end of the text differs.
	if _, known := ipcdDocs[name]; own && known && errors.Is(err, &fault{Code: codeNoMethod}) && strings.HasSuffix(err.Error(), method) {
		return faultf(codeNoMethod, "%w: the daemon is older than this program, which speaks protocol %d", err, protocolVersion).
			withHint(`restart the daemon; "ipcd version" and "ipcd status" tell the version of each`)
	}
	return err
}

// askJSON calls a method whose result is a T and returns the result as JSON. gob has the names of Go and omits
// zeros; over gob the result is therefore decoded into a T first.
func askJSON[T any](ctx context.Context, f *clientFlags, set settings, method string, arg any) (json.RawMessage, error) {
	if e, err := parseEndpoint(set.Endpoint); err != nil || e.Proto != protoGob {
		var answer json.RawMessage
		err := f.do(ctx, set, method, arg, &answer)
		return answer, err
	}
	var answer T
	if err := f.do(ctx, set, method, arg, &answer); err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, but was given %q", cmd.CommandPath(), args[0]).withHint("see %s --help", cmd.CommandPath())
	}
	return nil
}

func oneArg(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s takes one argument, but was given %d", cmd.CommandPath(), len(args)).withHint("usage: %s", cmd.UseLine())
	}
	return nil
}

func atLeastOneArg(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("%s needs a method or a text", cmd.CommandPath()).withHint("ipcd call hello")
	}
	return nil
}

// printResult prints a string as it is and anything else as JSON, which is indented on a terminal.
func printResult(w io.Writer, result json.RawMessage) error {
	var text string
	if len(result) > 0 && result[0] == '"' && json.Unmarshal(result, &text) == nil {
		_, err := fmt.Fprintln(w, shown(w, text))
		return err
	}
	if isTerminal(w) {
		var b bytes.Buffer
		if json.Indent(&b, result, "", "  ") == nil {
			result = b.Bytes()
		}
	}
	_, err := fmt.Fprintln(w, shown(w, string(result)))
	return err
}

// printJSON prints v as JSON, for --json.
func printJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return printResult(w, b)
}
