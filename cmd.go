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
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// table aligns columns that are separated by tabs. It cuts nothing: what does not fit on a terminal is worth a second
// line there. No line ends with blanks, whichever of its last columns are empty.
func table(w io.Writer, rows func(t io.Writer)) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	rows(t)
	t.Flush() // a buffer takes everything
	var text []byte
	for line := range bytes.Lines(b.Bytes()) {
		text = append(append(text, bytes.TrimRight(line, " \n")...), '\n')
	}
	_, err := w.Write(text)
	return err
}

// fit cuts a text to width columns, the last of which then has an ellipsis. A width that shows nothing of use is none.
func fit(s string, width int) string {
	if width < leastFit {
		return s
	}
	return cut(s, width)
}

const leastFit = 10 // columns

// cut is fit to any width. What may take two columns, as everything from Hangul on, counts as that: a line that is shorter than
// it might be does no harm.
func cut(s string, width int) string {
	used, end := 0, 0 // the bytes that leave a column for the ellipsis
	for i, r := range s {
		columns := 1
		if r >= 0x1100 && r != '…' {
			columns = 2
		}
		if used += columns; used > width {
			return s[:end] + "…"[:min(max(width, 0), 1)*len("…")]
		}
		if used < width {
			end = i + utf8.RuneLen(r)
		}
	}
	return s
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

// addJSONFlag adds the flag --json for all commands.
func addJSONFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().Bool("json", false, "print what there is to print as JSON, errors included")
}

// wantsJSON reports whether cmd was given --json.
func wantsJSON(cmd *cobra.Command) bool {
	f := cmd.Flag("json")
	return f != nil && f.Value.String() == "true"
}

// A Complaint is an error as --json prints it: {"error": ...} on standard error.
type Complaint struct {
	Code    int             `json:"code"` // see docs/protocol.md
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"` // what whoever made the error says besides
	Hint    string          `json:"hint,omitempty"` // what can be typed next
}

// complainTo prints an error of cmd, in the form that it was asked for.
func complainTo(w io.Writer, cmd *cobra.Command, err error) { complainToAs(w, cmd, "error", err) }

// warnTo is complainTo for what does not keep cmd from its work.
func warnTo(w io.Writer, cmd *cobra.Command, err error) { complainToAs(w, cmd, "warning", err) }

func complainToAs(w io.Writer, cmd *cobra.Command, kind string, err error) {
	if err == nil || !wantsJSON(cmd) {
		complainAs(w, kind, err)
		return
	}
	if all, ok := err.(problems); ok {
		for _, err := range all {
			complainToAs(w, cmd, kind, err)
		}
		return
	}
	f := asFault(err)
	b, wrong := json.Marshal(map[string]Complaint{kind: {Code: f.Code, Message: err.Error(), Data: f.Data, Hint: hintFor(err)}})
	if wrong != nil { // the data is no JSON
		complainAs(w, kind, err)
		return
	}
	fmt.Fprintf(w, "%s\n", oneLine(string(b))) // \u0085 is as good in a string of JSON
}

// outputOf returns where a command that does something says what it has done. With --json each line is {"text": LINE}.
func outputOf(cmd *cobra.Command) io.Writer { return linesOf(cmd, cmd.OutOrStdout()) }

// linesOf is w for lines of cmd, in the form that it was asked for.
func linesOf(cmd *cobra.Command, w io.Writer) io.Writer {
	if wantsJSON(cmd) {
		return jsonLines{w}
	}
	return w
}

// jsonLines writes each line as an object of JSON. What is written to it ends with a line feed.
type jsonLines struct{ w io.Writer }

func (l jsonLines) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		text := append(appendJSONString([]byte(`{"text":`), strings.TrimSuffix(line, "\n")), "}\n"...)
		if _, err := l.w.Write(text); err != nil {
			return 0, err
		}
	}
	return len(b), nil
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
	set.named = cmd.Flag("config") != nil && cmd.Flag("config").Changed
	if _, missing := os.Stat(file); missing == nil && file != os.DevNull {
		abs, wrong := filepath.Abs(file)
		if wrong != nil {
			return settings{}, nil, fmt.Errorf("find the configuration: %w", wrong)
		}
		set.file = abs
	}
	return set, from, gather(err, misspelt(os.Environ(), os.LookupEnv))
}

// settingsDespite is settingsFrom for commands that are wanted most when something is wrong with the settings: what is wrong in the
// file or in the environment is not in force, and is returned as wrong. What was typed has to be right.
func settingsDespite(cmd *cobra.Command) (set settings, wrong, err error) {
	set, _, wrong = settingsFrom(cmd)
	if wrong == nil {
		return set, nil, nil
	}
	who, err := instanceFrom(cmd)
	if err == nil {
		_, _, err = configFile(cmd, who)
	}
	flags, inFlags := givenFlags(cmd)
	if err = gather(err, inFlags); err == nil {
		_, _, err = loadSettings("", false, func(string) (string, bool) { return "", false }, flags)
	}
	if named := cmd.Flag("config"); err == nil && named != nil && named.Changed {
		if _, missing := os.Stat(named.Value.String()); missing != nil {
			err = wrong
		}
	}
	return set, wrong, err
}

// settingsLike returns the settings of a daemon in place of another: those of the command, with the other's file unless
// --config has named one. A daemon without a file may be given one that is there by now.
func settingsLike(cmd *cobra.Command, set settings, was Status) (settings, error) {
	if set.named || was.Config == "" {
		return set, nil
	}
	if err := cmd.Flags().Set("config", was.Config); err != nil {
		return settings{}, err
	}
	set, _, err := settingsFrom(cmd)
	return set, err
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
	cmd   *cobra.Command
	at    endpoint  // where calls go, once reach has been called
	until time.Time // when wait is over; zero without one
}

// addEndpointFlag adds the flag that says which daemon.
func addEndpointFlag(cmd *cobra.Command, f *clientFlags) {
	f.cmd = cmd
	cmd.Flags().StringP("endpoint", "e", "", "where the daemon is, as a `URL` (default: your own daemon, else the service)")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("endpoint", completeEndpoint))
}

// addClientFlags adds the flags for reaching a daemon. --endpoint, --timeout and --idle are settings.
func addClientFlags(cmd *cobra.Command, f *clientFlags) {
	addEndpointFlag(cmd, f)
	flags := cmd.Flags()
	flags.BoolVar(&f.start, "start", false, "start a daemon in the background if none is there")
	flags.DurationVar(&f.wait, "wait", 0, "how long to keep trying while a daemon, or the provider of a method, comes up")
	addSettingFlags(cmd, "timeout", "idle")
	cmd.Flag("idle").Usage = "with --start: how long the daemon stays without a connection (`duration`, default 15m)"
}

// reach connects to the daemon at the endpoint in the settings. By default that is the user's own daemon, or
// else the service.
func (f *clientFlags) reach(ctx context.Context, set settings, log *logger) (caller, error) {
	own, err := set.clientEndpoint()
	f.at = own
	if err != nil {
		return nil, err
	}
	nobody := &fault{Code: codeNotReachable}
	options := optionsOf(&set, log)
	var serviceErr error // nil if the service was not tried
	try := func() (caller, error) {
		c, err := dial(ctx, own, options)
		if set.Endpoint != "" || !errors.Is(err, nobody) {
			return c, err
		}
		c, serviceErr = dial(ctx, serviceEndpoint(defaultName), options)
		if serviceErr == nil {
			f.at = serviceEndpoint(defaultName)
		}
		if !errors.Is(serviceErr, nobody) || errors.Is(serviceErr, fs.ErrPermission) { // the service is there, but may refuse us
			return c, serviceErr
		}
		hint := `start one with "ipcd run", or let "ipcd call --start" do it, or name another endpoint with -e`
		if user := os.Getenv("SUDO_USER"); user != "" {
			hint += "; the daemon of " + user + " is called without sudo"
		}
		return nil, asFault(err).withHint("%s", hint)
	}
	var c caller
	if f.start {
		if c, err = try(); err == nil {
			err = ping(ctx, c)
		}
	} else {
		c, err = persist(ctx, f.wait, try)
	}
	switch {
	case err == nil && f.start:
		return renew(ctx, own, c, set, log, func(was Status) (settings, error) { return settingsLike(f.cmd, set, was) })
	case !errors.Is(err, nobody):
	case f.start:
		return startDaemon(ctx, own, set.started(own), set)
	case serviceErr != nil && !errors.Is(serviceErr, fs.ErrPermission) && serviceInstalled():
		return nil, asFault(serviceErr).withHint(`the service is installed, but nobody listens for it there: ipcd start`)
	}
	return c, err
}

// line is a command line that concerns the same daemon, for a hint.
func (f *clientFlags) line(command string, words ...string) string {
	line := "ipcd " + command
	if e := f.cmd.Flag("endpoint"); e.Changed {
		line += " -e " + joinWords([]string{e.Value.String()})
	}
	return strings.Join(append([]string{line}, words...), " ")
}

// with reaches a daemon and talks to it, both within the timeout.
func (f *clientFlags) with(ctx context.Context, set settings, talk func(ctx context.Context, c caller) error) error {
	if set.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, set.Timeout+f.wait)
		defer cancel()
	}
	log := newLogger(os.Stderr, set.LogFormat, set.LogLevel)
	defer log.close()
	if f.wait > 0 {
		f.until = time.Now().Add(f.wait)
	}
	c, err := f.reach(ctx, set, log)
	if err != nil {
		return err
	}
	defer func() { c.close() }() // which may be another one by then
	if f.wait <= 0 {
		return talk(ctx, c)
	}
	patience, cancel := context.WithDeadline(ctx, f.until)
	defer cancel()
	again(patience, 5*time.Millisecond, 200*time.Millisecond, func() (bool, error) { // a provider may be on its way, or the next daemon
		err = talk(ctx, c)
		var why *fault
		switch {
		case !errors.As(err, &why):
		case why.Code == codeShuttingDown && why.data().Retry:
			c.close()
			next, lost := f.reach(patience, set, log)
			if lost != nil {
				err = lost
				return true, err
			}
			c = next
			return false, err
		case why.Code == codeNoMethod, why.Code == codeGone && why.data().Retry:
			return false, err
		}
		return true, err
	})
	return err
}

// briefly returns the settings for a question that a daemon which is well answers at once: nobody waits for as long as for a call,
// unless --timeout says so.
func (f *clientFlags) briefly(set settings) settings {
	if !f.start && !f.cmd.Flag("timeout").Changed && (set.Timeout <= 0 || set.Timeout > askLimit) {
		set.Timeout = askLimit
	}
	return set
}

// asUnreached is err for a command whose exit code says whether a daemon answers: one that is silent does not.
func asUnreached(err error) error {
	var f *fault
	if !errors.As(err, &f) || f.Code != codeDeadline {
		return err
	}
	c := *f
	c.Code = codeNotReachable
	return &c
}

// do reaches a daemon, calls one method and decodes its result.
func (f *clientFlags) do(ctx context.Context, set settings, method string, arg, result any) error {
	return f.with(ctx, set, func(ctx context.Context, c caller) error { return f.ask(ctx, c, method, arg, result) })
}

// ask calls a method and says of an error what can be typed next.
func (f *clientFlags) ask(ctx context.Context, c caller, method string, arg, result any) error {
	return f.withHint(ctx, c, method, f.patiently(ctx, c, method, func(ctx context.Context) error { return c.call(ctx, method, arg, result) }))
}

// askParts is ask for an answer in parts.
func (f *clientFlags) askParts(ctx context.Context, c caller, method string, arg, result any, part func(document) error) error {
	return f.withHint(ctx, c, method, f.patiently(ctx, c, method, func(ctx context.Context) error { return c.askParts(ctx, method, arg, result, part) }))
}

// patiently calls a method, and ends that once --wait is over if the call still waits at the daemon for a worker to come up.
func (f *clientFlags) patiently(ctx context.Context, c caller, method string, call func(ctx context.Context) error) error {
	if f.until.IsZero() || strings.HasPrefix(method, "Ipcd.") || f.at.Scheme == "fork" || f.at.Proto == protoEcho {
		return call(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	looked := make(chan struct{})
	late := time.AfterFunc(time.Until(f.until), func() {
		defer close(looked)
		if w := f.workerNotThere(ctx, c, method); w != nil && w.Waiting > 0 {
			why := faultf(codeDeadline, "the call was not begun within %s (--wait): the worker %s is %s", formatDuration(f.wait), w.Name, w.summary())
			why.Data = faultData{Retry: true, Worker: w.Name, State: w.State}.json()
			cancel(why)
		}
	})
	err := call(ctx)
	var why *fault
	if err != nil {
		errors.As(context.Cause(ctx), &why)
	}
	cancel(nil)
	if !late.Stop() {
		<-looked
	}
	if why != nil {
		return why
	}
	return err
}

// withHint says of an error of a method what can be typed next.
func (f *clientFlags) withHint(ctx context.Context, c caller, method string, err error) error {
	var refused *fault
	if !errors.As(err, &refused) || refused.hint != "" {
		return err
	}
	name, own := strings.CutPrefix(method, "Ipcd.")
	_, known := ipcdDocs[name]
	isOwn := own && known
	if refused.Code == codeDeadline { // the client's own: the daemon knows of none
		if refused = f.awaited(ctx, c, method, refused); refused.hint != "" {
			return refused
		}
		err = refused
	}
	switch {
	case isOwn && f.at.Scheme == "fork" && (refused.Code == codeNoMethod || refused.Code == codeDeadline):
		return faultf(refused.Code, "%s is not answered by the program of %s, which may have methods all the same: %w", method, f.at, err).
			withHint("call one that you know: %s", f.line("call", "Service.Method"))
	// Ipcd.Describe returns the same code for an unknown argument. Only the end of the text differs.
	case refused.Code == codeNoMethod && isOwn && strings.HasSuffix(err.Error(), method):
		return faultf(codeNoMethod, "%w: the daemon is older than this program, which speaks protocol %d", err, protocolVersion).
			withHint(`restart the daemon; "ipcd version" and "ipcd status" tell the version of each`)
	case refused.Code == codeNoMethod && f.at.Scheme == "fork":
		return refused.withHint("the program of %s answers it", f.at)
	case refused.Code == codeNoMethod && f.isOtherBuild(ctx, c):
		return refused.withHint(`the daemon runs another build of this program, and "%s" starts this one`, f.line("restart"))
	case refused.Code == codeNoMethod && refused.data().Near != "":
		return refused.withHint(`did you mean %s? "%s" lists what there is`, refused.data().Near, f.line("ls"))
	case refused.Code == codeNoMethod:
		return refused.withHint(`run "%s" to see what there is`, f.line("ls"))
	case (refused.Code == codeGone || refused.Code == codeDeadline) && refused.data().Worker != "":
		return refused.withHint("%s", f.workerHint(refused.data().Worker, refused.data().State))
	case refused.Code == codeGone && refused.data().Retry:
		return refused.withHint(`run "%s" to see whether a worker answers it, and what has become of that`, f.line("worker ls"))
	case refused.Code == codeInvalid && method == subscribeMethod:
		return refused.withHint("%s", f.line("sub", "'build.>'"))
	case refused.Code == codeDenied && method == "Ipcd.Register" && !strings.HasPrefix(refused.Text, errDenied.Text):
		return refused.withHint(`choose another name; "%s" lists those that are taken`, f.line("ls"))
	case refused.Code == codeBadArgument:
		return refused.withHint(`run "%s" to see its argument`, f.line("describe", method))
	}
	return err
}

// awaited adds to late, the error of a call whose deadline has passed, what the call waited for, if that is a worker, or a daemon that
// does not answer at all.
func (f *clientFlags) awaited(ctx context.Context, c caller, method string, late *fault) *fault {
	if late.data().Worker != "" || f.at.Scheme == "fork" || f.at.Proto == protoEcho {
		return late
	}
	if isSilent(ctx, c) {
		return silent(ctx, f.at, c, dialOptions{}, late)
	}
	if w := f.workerNotThere(context.WithoutCancel(ctx), c, method); w != nil {
		late = faultf(late.Code, "%w; the worker %s is %s", late, w.Name, w.summary())
		late.Data = faultData{Worker: w.Name, State: w.State}.json()
	}
	return late
}

// workerNotThere returns the worker that would answer the method, if that does not run and we may know.
func (f *clientFlags) workerNotThere(ctx context.Context, c caller, method string) *WorkerStatus {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	var s Status
	if c.call(ctx, "Ipcd.Status", nil, &s) != nil {
		return nil
	}
	service, _, _ := strings.Cut(method, ".")
	for i := range s.Workers {
		if w := &s.Workers[i]; w.State != "running" && slices.Contains(w.Services, service) {
			return w
		}
	}
	return nil
}

// workerHint is what can be typed next about a worker that does not answer.
func (f *clientFlags) workerHint(name, state string) string {
	if state == "stopped" || state == "stopping" {
		return "start it: " + f.line("worker start", joinWords([]string{name}))
	}
	return "see its output: " + f.line("worker logs", joinWords([]string{name}))
}

// isOtherBuild reports whether the daemon was started from another build of this program.
func (f *clientFlags) isOtherBuild(ctx context.Context, c caller) bool {
	var s Status
	return c.call(ctx, "Ipcd.Status", nil, &s) == nil && s.isOtherBuild()
}

// askJSON calls a method whose result is a T and returns the result as JSON. gob has the names of Go and omits
// zeros; over gob the result is therefore decoded into a T first.
func askJSON[T any](ctx context.Context, f *clientFlags, set settings, method string, arg any) (json.RawMessage, error) {
	if e, err := set.clientEndpoint(); err != nil || e.Proto != protoGob {
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

// printResult prints a string as it is and anything else as JSON, which is indented on a terminal.
func printResult(w io.Writer, result json.RawMessage) error {
	var text string
	if len(result) > 0 && result[0] == '"' && json.Unmarshal(result, &text) == nil {
		_, err := fmt.Fprintln(w, shown(w, text))
		return err
	}
	return printDocument(w, result)
}

// printDocument prints JSON, indented on a terminal.
func printDocument(w io.Writer, result json.RawMessage) error {
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
	return printDocument(w, b)
}
