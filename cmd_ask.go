package main

// This file owns the commands that ask a daemon about itself: ls, describe, whoami.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// newAskCmd returns a command that calls one method of the daemon. show prints the answer for people;
// --json prints it as the daemon sent it.
func newAskCmd[T any](f *clientFlags, use, short, long, example, method string, args cobra.PositionalArgs, show func(w io.Writer, answer T) error) *cobra.Command {
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
			raw, err := askJSON[T](cmd.Context(), f, f.briefly(set), method, arg)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printDocument(cmd.OutOrStdout(), raw)
			}
			var answer T
			if err := decodeValue("it", raw, &answer); err != nil {
				return faultf(codeWrongProtocol, "the answer of %s is not as expected: %w", method, err).withHint("the daemon may be of another version: see ipcd version and ipcd status")
			}
			return show(cmd.OutOrStdout(), answer)
		},
	}
	addQuestionFlags(cmd, f)
	return cmd
}

func newLsCmd() *cobra.Command {
	return newAskCmd(&clientFlags{}, "ls", "list the methods that can be called",
		`List the methods that can be called, in alphabetical order, and who answers each: ipcd itself, or the programs that
have registered it, by the name that rules call them and the ids that the daemon has given them.

The JSON is a list of {"method": "Service.Method", "doc", "providers": [{"provider", "name", "version"}]}; ipcd itself has
no "provider", and what a program has not said is missing.`,
		"  ipcd ls\n  ipcd ls --json", "Ipcd.List", noArgs,
		func(w io.Writer, list []Listing) error {
			methods, answerers := 0, 0
			for _, l := range list {
				methods, answerers = max(methods, len(oneLine(l.Method))), max(answerers, len(l.answeredBy()))
			}
			return table(w, func(t io.Writer) {
				for _, l := range list { // on a terminal a line each; describe shows everything
					fmt.Fprintf(t, "%s\t%s\t%s\n", oneLine(l.Method), l.answeredBy(), fit(oneLine(l.Doc), terminalWidth(w)-methods-answerers-4))
				}
			})
		})
}

// answeredBy says who answers the method: "ipcd", "user:ada (p7)", "worker:greeter (p1 p2)", "worker:greeter (12 instances)".
func (l *Listing) answeredBy() string {
	var names []string
	ids := map[string][]string{}
	for _, p := range l.Providers {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
		if p.Provider != "" {
			ids[p.Name] = append(ids[p.Name], p.Provider)
		}
	}
	for i, name := range names {
		switch n := len(ids[name]); {
		case n > maxNamed:
			names[i] += fmt.Sprintf(" (%d instances)", n)
		case n > 0:
			names[i] += " (" + strings.Join(ids[name], " ") + ")"
		}
	}
	return oneLine(strings.Join(names, ", "))
}

const maxNamed = 4 // instances; of more, ls tells the number

func newDescribeCmd() *cobra.Command {
	var f clientFlags
	var openRPC bool
	cmd := newAskCmd(&f, "describe SERVICE|METHOD", "show what a method takes and returns",
		`Show what a method, or each method of a service, takes and returns: the type, and a line for each member; what else is
known of it; and an example of a call that can be pasted into a shell. Where no example is found for a schema, that is the
form of the call.

The JSON is a list of {"method", "doc", "argument", "result"}, with "part", "since", "idempotent", "readOnly", "destructive" and "errors"
where there is something to say; argument, result and part are JSON Schema, and argument is null if the method takes none.

With --openrpc the result is one OpenRPC document of the method or the service, or of everything.`,
		"  ipcd describe Echo\n  ipcd describe Echo.Say --json\n  ipcd describe --openrpc >api.json", "Ipcd.Describe", oneArg,
		func(w io.Writer, list []Description) error {
			return table(w, func(t io.Writer) {
				for i, d := range list {
					if i > 0 {
						fmt.Fprintln(t)
					}
					d.show(t)
					if _, short, _ := strings.Cut(d.Method, "."); isServiceName(short) { // otherwise nobody knows a name
						what, line := f.example(&d)
						fmt.Fprintf(t, "  %s\n    %s\n", what, oneLine(line))
						if d.takesAnything() {
							fmt.Fprintf(t, "    %s\n    %s\n", oneLine(f.line("call", joinWords([]string{d.Method}), "name=Ada", "age:=36")), oneLine(f.line("call", joinWords([]string{d.Method}), "--arg", "'[1, true, null]'")))
						}
					}
				}
			})
		})
	cmd.ValidArgsFunction = completeMethod(&f, true)
	cmd.Flags().BoolVar(&openRPC, "openrpc", false, "print an OpenRPC document, of everything if nothing is named")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if openRPC && len(args) == 0 {
			return nil
		}
		return oneArg(cmd, args)
	}
	show := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !openRPC {
			return show(cmd, args)
		}
		set, _, err := settingsFrom(cmd)
		if err != nil {
			return err
		}
		var doc []byte
		if err := f.with(cmd.Context(), f.briefly(set), func(ctx context.Context, c caller) error {
			all, err := f.openRPC(ctx, c, strings.Join(args, ""))
			if err == nil {
				doc, err = json.Marshal(all)
			}
			return err
		}); err != nil {
			return err
		}
		return printDocument(cmd.OutOrStdout(), doc)
	}
	return cmd
}

// show writes the description for people: a line for the method, and one for each member of its argument and its result.
func (d *Description) show(t io.Writer) {
	argument, result := shapeOf(d.Argument), shapeOf(d.Result)
	takes := ""
	if d.Argument != nil {
		takes = argument.full()
	}
	returns := ""
	if d.Result["type"] != "null" {
		returns = " " + result.full()
	}
	fmt.Fprintf(t, "%s(%s)%s\n", oneLine(d.Method), oneLine(takes), oneLine(returns))
	if d.Doc != "" {
		fmt.Fprintf(t, "    %s\n", oneLine(d.Doc))
	}
	if notes := d.notes(); notes != "" {
		fmt.Fprintf(t, "    %s\n", oneLine(notes))
	}
	for _, part := range []struct {
		name string
		shape
	}{{"argument", argument}, {"result", result}, {"part", shapeOf(d.Part)}} {
		if len(part.innermost().members()) > 0 {
			fmt.Fprintf(t, "  %s\n", part.name)
			part.show(t, "    ", map[string]bool{wholeShape: true})
		}
	}
	if len(d.Errors) > 0 {
		fmt.Fprintf(t, "  errors\n")
		for _, e := range d.Errors {
			fmt.Fprintf(t, "    %d\t%s\n", e.Code, oneLine(e.Doc))
		}
	}
}

// notes are what else a provider has said of the method, in a line; empty if that is nothing.
func (d *Description) notes() string {
	var list []string
	for _, note := range []struct {
		said bool
		text string
	}{
		{d.Since != "", "since " + d.Since},
		{d.Idempotent, "idempotent: twice does what once does"},
		{d.ReadOnly, "read-only: changes nothing"},
		{d.Destructive, "destructive: what it changes cannot be had back"},
		{d.Cut, "cut: there is no room for its schemas beside others; describe it by itself"},
		{d.Part != nil, "answers in parts: " + shapeOf(d.Part).full()},
	} {
		if note.said {
			list = append(list, note.text)
		}
	}
	return strings.Join(list, "; ")
}

func newWhoamiCmd() *cobra.Command {
	f := &clientFlags{}
	cmd := newAskCmd(f, "whoami", "show your identity as the daemon sees it",
		`Show the identity that the kernel reports of you to the daemon, or your certificate or token, by which it decides who may call:
docs/security.md. With --server show what the kernel reports of the daemon to you: whose it is, and which process. Where a
service manager holds the socket, that is the manager; with TLS it is what the certificate of the daemon says.

The JSON is the answer of Ipcd.Whoami, see docs/protocol.md; with --server the same of the daemon.`,
		"  ipcd whoami\n  ipcd whoami --json\n  ipcd whoami --server", "Ipcd.Whoami", noArgs, printPeer)
	own := cmd.RunE
	server := cmd.Flags().Bool("server", false, "show the identity of the daemon as the system sees it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !*server {
			return own(cmd, args)
		}
		set, _, err := settingsFrom(cmd)
		if err != nil {
			return err
		}
		var p peer
		if err := f.with(cmd.Context(), f.briefly(set), func(ctx context.Context, c caller) (err error) {
			p, err = serverOf(ctx, f.at, c, optionsOf(&set, nil))
			return err
		}); err != nil {
			return err
		}
		if wantsJSON(cmd) {
			return printJSON(cmd.OutOrStdout(), p)
		}
		return printPeer(cmd.OutOrStdout(), p)
	}
	return cmd
}

func printPeer(w io.Writer, p peer) error {
	text := p.who()
	switch name, ok := strings.CutPrefix(p.Name, string(personToken)+":"); {
	case ok:
		text = p.Name + ": " + p.proving(proofOf(&bearer{name: name})).who()
	case strings.HasPrefix(p.Name, string(personCert)+":"):
		text = p.Name + " at " + p.Address
	case p.Owner != "":
		text += ", which is shown and gives no right"
	}
	if p.PID != 0 {
		text += fmt.Sprintf(", process %d", p.PID)
	}
	_, err := fmt.Fprintf(w, "%s, over %s\n", oneLine(text), oneLine(p.Transport))
	return err
}
