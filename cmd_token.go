package main

// This file owns "ipcd token": the tokens that a daemon takes, in the file in its state directory. It asks no daemon: one that runs
// reads the file again when it has changed.

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newTokenCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "make, list and remove the tokens by which programs prove who they are over TCP, HTTP and TLS",
		Long: `Where the system does not say who calls, over TCP, HTTP and TLS, a caller shows a token. Its holder is token:NAME
to the [[rule]]s of the configuration, and may call and subscribe without any: docs/security.md.

The tokens are those of your own daemon, or of the service that --service names; of a service of the system
root changes them (on Windows an administrator). A daemon that runs sees a change at once. What is stored are hashes.`,
		Example: `  ipcd token new ci --expires 30d > ci.token
  IPCD_TOKEN=$(cat ci.token) ipcd call -e tcp://127.0.0.1:8888 hello
  sudo ipcd token new web --service ipcd --scope 'Greeter.*,Clock.Now'
  ipcd token ls`,
	}
	cmd.AddCommand(newTokenNewCmd(), newTokenLsCmd(), newTokenRmCmd())
	return cmd
}

// tokensOf returns the tokens of the daemon that the flags of cmd name.
func tokensOf(cmd *cobra.Command) (*tokenStore, error) {
	who, err := instanceFrom(cmd)
	if err != nil {
		return nil, err
	}
	return newTokenStore(who)
}

// oneToken wants the name of one token.
func oneToken(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) != 1:
		return usagef("%s takes the name of one token, but was given %d words", cmd.CommandPath(), len(args)).withHint("usage: %s", cmd.UseLine())
	case !isInstanceName(args[0]):
		return usagef("%q is no name for a token; expected 1 to %d of a-z, 0-9, - and _, a letter first", shorten(args[0], 100), maxName)
	}
	return nil
}

func newTokenNewCmd() *cobra.Command {
	var expires string
	var scope []string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "make a token, and print it",
		Long: `Make a token and print it, this once: it is stored nowhere. Whoever has it is token:NAME.

With --expires it ends by itself, in days (30d) or as 12h30m. With --scope it is for those methods alone, whatever
rules allow: Service.Method, Service.*, and Ipcd.Subscribe, Ipcd.Publish, Ipcd.Register and Ipcd.* (to control the
daemon) for what those do. What every caller may, such as Ipcd.Ping, it may as well.

The JSON is {"name", "token", "created", "expires", "scope"}; the last two are missing where there is none.`,
		Example: `  ipcd token new ci --expires 30d > ci.token
  sudo ipcd token new web --service ipcd --scope 'Greeter.*,Clock.Now'`,
		Args: oneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := tokensOf(cmd)
			if err != nil {
				return err
			}
			e, text := newToken(args[0])
			if cmd.Flags().Changed("expires") {
				d, f := parseExpiry(expires)
				if f != nil {
					return f
				}
				e.Expires = e.Created.Add(d)
			}
			for _, pattern := range scope {
				if f := checkScope(pattern); f != nil {
					return usagef("--scope: %w; expected methods, such as Greeter.* or Clock.Now", f)
				}
			}
			e.Scope = scope
			err = store.change(cmd.Context(), func(tokens []tokenEntry) ([]tokenEntry, error) {
				if tokenNamed(tokens, e.Name) != nil {
					return nil, faultf(codeApplication, "there is a token %s already", e.Name).withHint("choose another name, or remove it: %s", store.line("rm", e.Name))
				}
				return append(tokens, e), nil
			})
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				err = printJSON(cmd.OutOrStdout(), NewToken{TokenNote: noteOf(&e), Token: text})
			} else {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			}
			if err != nil {
				return unshown(cmd, store, e.Name, err)
			}
			if wantsJSON(cmd) {
				return nil
			}
			fmt.Fprintf(linesOf(cmd, cmd.ErrOrStderr()), `ipcd: this is the token %s of %s; it is shown this once
ipcd: programs show it with %s=TOKEN, a file that token_file names, the header "Authorization: Bearer TOKEN", or a first call of %s
ipcd: %s removes it
`, e.Name, store.owner(), tokenVariable, authenticateMethod, store.line("rm", e.Name))
			return nil
		},
	}
	cmd.Flags().StringVar(&expires, "expires", "", "how long it counts, as `30d` or 12h (default: until it is removed)")
	cmd.Flags().StringSliceVar(&scope, "scope", nil, "the `methods` that it is for, such as 'Greeter.*,Clock.Now' (default: all)")
	addInstanceFlags(cmd)
	return cmd
}

// unshown takes back a token that could not be printed for why: nobody has it, and its name is free for the next try.
func unshown(cmd *cobra.Command, store *tokenStore, name string, why error) error {
	f := faultf(codeApplication, "the token %s could not be printed, and was removed again: %w", name, withoutPath(why))
	err := store.change(cmd.Context(), func(tokens []tokenEntry) ([]tokenEntry, error) {
		return slices.DeleteFunc(tokens, func(e tokenEntry) bool { return e.Name == name }), nil
	})
	if err != nil {
		return faultf(codeApplication, "the token %s could not be printed: %w; and is still there: %w", name, withoutPath(why), err).withHint("remove it: %s", store.line("rm", name))
	}
	return f
}

// parseExpiry parses a duration that may be in days.
func parseExpiry(text string) (time.Duration, *fault) {
	const most = 100 * 365 * 24 * time.Hour
	d, err := time.ParseDuration(text)
	if days, inDays := strings.CutSuffix(text, "d"); inDays {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d <= 0 || d > most {
		return 0, usagef("--expires: %q is not how long a token can count; expected days or a duration, such as 30d or 12h", shorten(text, 40))
	}
	return d, nil
}

// A TokenNote is what "ipcd token ls --json" prints of a token.
type TokenNote struct {
	Name    string   `json:"name"`
	Created string   `json:"created"`           // RFC 3339
	Expires string   `json:"expires,omitempty"` // likewise; missing for never
	Expired bool     `json:"expired,omitempty"`
	Scope   []string `json:"scope,omitempty"`
}

// A NewToken is what "ipcd token new --json" prints.
type NewToken struct {
	TokenNote
	Token string `json:"token"`
}

func noteOf(e *tokenEntry) TokenNote {
	n := TokenNote{Name: e.Name, Created: e.Created.UTC().Format(time.RFC3339), Expired: e.isOver(time.Now()), Scope: e.Scope}
	if !e.Expires.IsZero() {
		n.Expires = e.Expires.UTC().Format(time.RFC3339)
	}
	return n
}

func newTokenLsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "list the tokens",
		Long: `List the tokens with their age and scope. What they are is not stored.

The JSON is a list of {"name", "created", "expires", "expired", "scope"}, where what there is none of is missing.`,
		Example: "  ipcd token ls\n  sudo ipcd token ls --service ipcd --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := tokensOf(cmd)
			if err != nil {
				return err
			}
			tokens, err := store.list(false)
			if err != nil {
				return err
			}
			notes := []TokenNote{}
			for i := range tokens {
				notes = append(notes, noteOf(&tokens[i]))
			}
			switch {
			case wantsJSON(cmd):
				return printJSON(cmd.OutOrStdout(), notes)
			case len(notes) == 0:
				fmt.Fprintf(linesOf(cmd, cmd.ErrOrStderr()), "ipcd: %s has no tokens; to make one: %s\n", store.owner(), store.line("new", "NAME"))
				return nil
			}
			return table(cmd.OutOrStdout(), func(t io.Writer) {
				fmt.Fprintln(t, "NAME\tCREATED\tEXPIRES\tSCOPE")
				for _, n := range notes {
					expires, scope := "never", "all"
					if n.Expires != "" {
						expires = n.Expires
					}
					if n.Expired {
						expires += " (over)"
					}
					if n.Scope != nil {
						scope = strings.Join(n.Scope, ",")
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", oneLine(n.Name), n.Created, expires, oneLine(scope))
				}
			})
		},
	}
	addInstanceFlags(cmd)
	return cmd
}

func newTokenRmCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "remove a token",
		Long: `Remove a token. A daemon that runs takes no call of its holder from then on, on open connections either, and within
a second or two ends what runs for them.`,
		Example: "  ipcd token rm ci",
		Args:    oneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := tokensOf(cmd)
			if err != nil {
				return err
			}
			return store.change(cmd.Context(), func(tokens []tokenEntry) ([]tokenEntry, error) {
				if tokenNamed(tokens, args[0]) != nil {
					return slices.DeleteFunc(tokens, func(e tokenEntry) bool { return e.Name == args[0] }), nil
				}
				f := faultf(codeApplication, "%s has no token %s", store.owner(), args[0])
				var names []string
				for _, e := range tokens {
					names = append(names, e.Name)
				}
				if near := nearest(args[0], names); near != "" {
					return nil, f.withHint("did you mean %s?", near)
				}
				return nil, f.withHint("see which there are: %s", store.line("ls"))
			})
		},
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
		if store, err := tokensOf(cmd); err == nil && len(args) == 0 {
			tokens, _ := store.list(false)
			for _, e := range tokens {
				names = append(names, e.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	addInstanceFlags(cmd)
	return cmd
}
