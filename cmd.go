package main

// This file owns what the commands have in common: the flags of the settings, and how a result looks on a terminal and as
// JSON. Their way to a daemon is in cmd_reach.go.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// A durationFlag is the value of a flag that is no setting. It is typed and refused as those are.
type durationFlag struct{ setting }

// addDurationFlag adds a flag for *at, which has its default.
func addDurationFlag(cmd *cobra.Command, at *time.Duration, name string, least, most int64, usage string) {
	cmd.Flags().Var(durationFlag{setting{kind: ofDuration, at: func(*settings) any { return at }, min: least, max: most}}, name, usage)
}

func (d durationFlag) Set(text string) error {
	if wrong := d.set(nil, []string{text}); wrong != nil {
		return usagef("%s; expected %s", wrong.Text, d.expected())
	}
	return nil
}

func (d durationFlag) String() string {
	if v := *d.at(nil).(*time.Duration); v != 0 {
		return formatDuration(v)
	}
	return "" // which --help takes for no default
}

func (durationFlag) Type() string { return "duration" }

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
