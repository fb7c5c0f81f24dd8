package main

// This file owns "ipcd config": show and check.

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// newConfigCmd returns "ipcd config". Its parent has to have the flags of addConfigFlags.
func newConfigCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "show the settings in force, or check a file",
		Long: `Settings come from a TOML file, the environment and flags; each of these overrides the
ones before it. The file is the one that --config or IPCD_CONFIG names, or else that of
the user, which for root is that of the service. contrib/config.toml has every key
with its default. The key limits.max_message is IPCD_LIMITS_MAX_MESSAGE in the environment
and --set limits.max_message=VALUE among the flags.`,
		Example: `  ipcd config show
  ipcd config check /etc/ipcd/config.toml`,
	}
	cmd.AddCommand(newConfigShowCmd(), newConfigCheckCmd())
	return cmd
}

func newConfigShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "print every setting and where its value comes from",
		Long: `Print every setting with its value and where the value comes from: default, FILE:LINE,
the environment variable or the flag. It reads what "ipcd run" with the same flags would
read, and opens nothing else.

The fields of the first [[worker]] are worker[1].name and so on.

The JSON is {"KEY": {"value": VALUE, "from": "ORIGIN"}, ...}, with sizes in bytes and durations as text.`,
		Example: `  $ ipcd config show --set limits.drain=3s | grep -e drain -e KEY
  KEY                     VALUE               FROM
  limits.drain            3s                  flag --set`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, from, err := settingsFrom(cmd)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return showJSON(cmd.OutOrStdout(), &st, from)
			}
			return showTable(cmd.OutOrStdout(), &st, from)
		},
	}
	addSettingFlags(cmd, "listen", "endpoint", "allow_group", "idle", "timeout")
	addInstanceFlags(cmd)
	return cmd
}

func newConfigCheckCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "check a configuration file",
		Long: `Read the file as "ipcd run --config FILE" would and print "FILE: ok", or exit with 2 and
print of each mistake the line, the key, what is wrong and what was expected. The
environment is ignored. Of the system it looks at what the file names: that allow_group is a
group, that run_as of a worker is a user, that its program can be run and its directory is
there, and that nobody else could change those; that the files of [tls] can be used, fit together
and are nobody else's; that there is a directory for audit_file. No program is started, and whether a port or a socket is free is
not looked at. Workers without run_as, which are as trusted as the daemon, certificates that expire within
30 days, and rules for endpoints where nobody listens are named on standard error.

Without FILE it checks everything that "ipcd run" with the same flags would read: its
file, the environment and the flags.`,
		Example: `  $ ipcd config check contrib/config.toml
  contrib/config.toml: ok
  $ ipcd config check --service ipcd
  the settings: ok`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				set, from, err := daemonSettings(cmd)
				unusable := checkTLS(set, from)
				if set.instance.name != "" && errors.Is(unusable, fs.ErrPermission) {
					// systemd 252 hands credentials to the daemon, and not to what ExecReload= runs.
					fmt.Fprintf(linesOf(cmd, cmd.ErrOrStderr()), "ipcd: note: left to the daemon: %s\n", oneLine(unusable.Error()))
					unusable = nil
				}
				if err := gather(err, unusable, checkWorkers(set), checkAudit(set)); err != nil {
					return err
				}
				if set.instance.name == "" { // a service calls nobody, and may not be able to read what its user has for that
					if err := checkClientTLS(set, from); err != nil {
						return err
					}
				}
				return passed(cmd, "the settings", set)
			}
			none := func(string) (string, bool) { return "", false }
			set, from, err := loadSettings(args[0], true, none, nil)
			_, unservable := servable(set, from)
			if err := gather(err, set.resolve(from), unservable, checkTLS(set, from), checkClientTLS(set, from), checkWorkers(set), checkAudit(set)); err != nil {
				return err
			}
			return passed(cmd, args[0], set)
		},
	}
	addSettingFlags(cmd, "listen", "allow_group", "idle")
	addInstanceFlags(cmd)
	return cmd
}

// passed says that nothing is wrong with the settings, and which workers are trusted as the daemon is.
func passed(cmd *cobra.Command, what string, set settings) error {
	var trusted []string
	for i := range set.Workers {
		if w := &set.Workers[i]; w.RunAs == "" {
			trusted = append(trusted, w.Name)
		}
	}
	if len(trusted) > 0 {
		fmt.Fprintf(linesOf(cmd, cmd.ErrOrStderr()), "ipcd: note: a worker without run_as can do whatever the daemon can, and is as trusted: %s\n", strings.Join(trusted, ", "))
	}
	if served, err := endpointsOf(set); err == nil {
		for _, e := range set.elsewhere(served) {
			fmt.Fprintf(linesOf(cmd, cmd.ErrOrStderr()), "ipcd: note: %s\n", oneLine(e.warning(&set)))
		}
	}
	if k, err := set.TLS.keys(wordOf); err == nil && k != nil {
		for _, x := range k.expiring(set.TLS, time.Now()) {
			fmt.Fprintf(linesOf(cmd, cmd.ErrOrStderr()), "ipcd: note: %s\n", oneLine(fmt.Sprintf("a certificate in %s expires on %s: %s", x.file, day(x.cert.NotAfter), x.cert.Subject)))
		}
	}
	_, err := fmt.Fprintf(outputOf(cmd), "%s: ok\n", oneLine(what))
	return err
}

// oneFile refuses more than one argument.
func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("config %s: has %d arguments; expected one file at most", cmd.Name(), len(args))
	}
	return nil
}

// showTable prints the settings as a table.
func showTable(w io.Writer, st *settings, from origins) error {
	return table(w, func(t io.Writer) {
		fmt.Fprintln(t, "KEY\tVALUE\tFROM")
		for key, s := range everySetting(st) {
			text := s.text(st)
			switch {
			case text != "":
			case s.kind == ofEndpoint, s.kind == ofEndpoints:
				text = "(default endpoint)"
			default:
				text = "(none)"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", key, oneLine(text), oneLine(cmp.Or(from[key], "default")))
		}
	})
}

// everySetting returns each setting with its key, those of records as well. While a field of a record is at hand, st has
// that record as its last.
func everySetting(st *settings) iter.Seq2[string, *setting] {
	return func(yield func(string, *setting) bool) {
		for i := range settingTable {
			if !yield(settingTable[i].key, &settingTable[i]) {
				return
			}
		}
		all := *st
		defer func() { *st = all }()
		for r := range records {
			r := &records[r]
			for n := range r.count(&all) {
				*st = r.only(&all, n)
				for i := range r.fields {
					if !yield(r.place(n, r.fields[i].key), &r.fields[i]) {
						return
					}
				}
			}
		}
	}
}

// showJSON prints the settings as JSON.
func showJSON(w io.Writer, st *settings, from origins) error {
	type shown struct {
		Value any    `json:"value"`
		From  string `json:"from"`
	}
	all := map[string]shown{}
	for key, s := range everySetting(st) {
		v := shown{From: cmp.Or(from[key], "default")}
		switch field := s.at(st).(type) {
		case *time.Duration:
			v.Value = s.text(st)
		case *[]string:
			v.Value = append([]string{}, *field...) // never null
		default:
			v.Value = field
		}
		all[key] = v
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(all)
}
