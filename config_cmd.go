package main

// This file owns "ipcd config" and the flags by which every command takes its settings.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// addConfigFlags gives a command and those below it the flags that all of them have.
func addConfigFlags(cmd *cobra.Command) {
	fs := cmd.PersistentFlags()
	fs.String("config", "", "read the settings from this `file` (default: that of the user or the service)")
	fs.StringArray("set", nil, "change one setting, `key=value`; see \"ipcd config show\" (repeatable)")
	for key, usage := range map[string]string{"log_level": "log this `level` and what is worse: ", "log_format": "`format` of the log: "} {
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

// addSettingFlags gives a command a flag for each of these settings.
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

// settingsFrom merges the settings for a command: its file, the environment, its flags. Any
// flag that has the name of a setting counts, whoever declared it.
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
	return set, from, err
}

// addInstanceFlags gives a command the flags that say which service it is about.
func addInstanceFlags(cmd *cobra.Command) {
	cmd.Flags().String("service", "", "as the service of this `name`: its endpoint and its file are the defaults")
	cmd.Flags().Bool("user", false, "with --service: a service of one's own, not of the system")
}

// instanceFrom reads them. A command that has none is about no service.
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
		return who, usagef("--user is for a service, and none is named").withHint("add --service %s, or leave out --user", defaultName)
	case f.Changed && !isInstanceName(who.name):
		return who, usagef("--service: %q is no name of a service; expected 1 to %d of a-z, 0-9, - and _, a letter first", shorten(who.name, 100), maxName).
			withHint("the usual name is %s", defaultName)
	}
	return who, nil
}

// configFile is the file that is in force. IPCD_CONFIG is for a shell that uses one
// throughout; /dev/null there is no file at all.
func configFile(cmd *cobra.Command, who instance) (file string, explicit bool, err error) {
	if f := cmd.Flag("config"); f != nil && f.Changed {
		if f.Value.String() == "" {
			return "", false, usagef("--config: is empty; expected the name of a file")
		}
		return f.Value.String(), true, nil
	}
	if file = os.Getenv("IPCD_CONFIG"); file != "" {
		return file, true, nil
	}
	return who.configFile(), false, nil
}

// givenFlags are the settings on the command line; a flag of its own beats --set.
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

// newConfigCmd is "ipcd config". It needs the flags of addConfigFlags from its parent.
func newConfigCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "show the settings that are in force, or check a file",
		Long: `Settings come from a TOML file, from the environment and from flags; each of these
beats the one before it. The file is the one that --config or IPCD_CONFIG names, else that
of the user, or that of the service where root asks. contrib/config.toml has every key
with its default. The key limits.max_message is IPCD_LIMITS_MAX_MESSAGE in the environment
and --set limits.max_message=VALUE among the flags.`,
		Example: `  ipcd config show
  ipcd config check /etc/ipcd/config.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				f := usagef("config: unknown command %q; expected show or check", args[0])
				return f.withHint("run \"ipcd help config\"")
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newConfigShowCmd(), newConfigCheckCmd())
	return cmd
}

func newConfigShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "print every setting and where its value comes from",
		Long: `Print every setting with the value that is in force and where that comes from:
default, FILE:LINE, the variable in the environment, or the flag. It reads what "ipcd run"
with the same flags would read, and opens nothing else.`,
		Example: `  $ ipcd config show --set limits.drain=3s | grep -e drain -e KEY
  KEY                     VALUE               FROM
  limits.drain            3s                  flag --set`,
		Args: configArgs(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, from, err := settingsFrom(cmd)
			if err != nil {
				return err
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				return showJSON(cmd.OutOrStdout(), &st, from)
			}
			return showTable(cmd.OutOrStdout(), &st, from)
		},
	}
	cmd.Flags().Bool("json", false, `print {"KEY": {"value": VALUE, "from": "ORIGIN"}, ...}; sizes in bytes, durations as text`)
	addSettingFlags(cmd, "listen", "endpoint", "allow_group", "idle", "timeout")
	addInstanceFlags(cmd)
	return cmd
}

func newConfigCheckCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "say whether a configuration file is right",
		Long: `Read the file as "ipcd run --config FILE" would and print "FILE: ok", or what is
wrong with the line, the key and what was expected; then the exit code is 2. The
environment plays no part.

Without FILE it checks all that "ipcd run" with the same flags would read: its file,
the environment and the flags.`,
		Example: `  $ ipcd config check contrib/config.toml
  contrib/config.toml: ok
  $ ipcd config check --service ipcd
  the settings: ok`,
		Args: configArgs(0, 1, "one file at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				set, from, err := settingsFrom(cmd)
				if err == nil {
					err = set.resolve(from)
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "the settings: ok")
				return err
			}
			none := func(string) (string, bool) { return "", false }
			set, from, err := loadSettings(args[0], true, none, nil)
			if err == nil {
				err = set.resolve(from)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", oneLine(args[0]))
			return err
		},
	}
	addSettingFlags(cmd, "listen", "allow_group", "idle")
	addInstanceFlags(cmd)
	return cmd
}

// configArgs makes a wrong number of arguments bad usage.
func configArgs(least, most int, expected string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usagef("config %s: has %d arguments; expected %s", cmd.Name(), len(args), expected)
		}
		return nil
	}
}

// showTable prints the settings for people.
func showTable(w io.Writer, st *settings, from origins) error {
	return table(w, func(t io.Writer) {
		fmt.Fprintln(t, "KEY\tVALUE\tFROM")
		for i := range settingTable {
			s := &settingTable[i]
			text := s.text(st)
			switch {
			case text != "":
			case s.kind == ofGroup:
				text = "(none)"
			default:
				text = "(default endpoint)"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", s.key, oneLine(text), oneLine(from[s.key]))
		}
	})
}

// showJSON prints them for programs.
func showJSON(w io.Writer, st *settings, from origins) error {
	type shown struct {
		Value any    `json:"value"`
		From  string `json:"from"`
	}
	all := map[string]shown{}
	for i := range settingTable {
		s := &settingTable[i]
		v := shown{From: from[s.key]}
		switch field := s.at(st).(type) {
		case *time.Duration:
			v.Value = s.text(st)
		case *[]string:
			v.Value = append([]string{}, *field...) // never null
		default:
			v.Value = field
		}
		all[s.key] = v
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(all)
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument, and %q is one", cmd.CommandPath(), args[0]).withHint("see %s --help", cmd.CommandPath())
	}
	return nil
}

func oneArg(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s takes one argument, and there are %d", cmd.CommandPath(), len(args)).withHint("usage: %s", cmd.UseLine())
	}
	return nil
}

func atLeastOneArg(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("%s wants to know what to call", cmd.CommandPath()).withHint("ipcd call hello")
	}
	return nil
}
