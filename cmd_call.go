package main

// This file owns "ipcd call": parsing a method and its argument from the command line, and completing methods.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const completionLimit = 500 * time.Millisecond // the shell waits for completions; --timeout on the line is another limit

func newCallCmd() *cobra.Command {
	var f clientFlags
	var argument string
	var raw bool
	cmd := &cobra.Command{
		Use:   "call METHOD|TEXT [ARGUMENT | key=text | key:=JSON ...]",
		Short: "call a method and print its result",
		Long: `Call a method and print its result: a string as it is, anything else as JSON.

A word that is not a method (Service.Method) is sent to Echo.Say. The argument is one of
  TEXT                      a string
  key=text key:=JSON ...    an object; := takes a number, true, a list and so on
  --json JSON               any JSON
  -                         JSON from standard input

On a terminal JSON is indented, and what could control the terminal is escaped; with --raw the result is printed as
into a pipe.

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
			if raw {
				cmd.SetOut(struct{ io.Writer }{cmd.OutOrStdout()}) // which is no terminal
			}
			return printResult(cmd.OutOrStdout(), result)
		},
	}
	addClientFlags(cmd, &f)
	cmd.Flags().StringVar(&argument, "json", "", "the argument as JSON")
	cmd.Flags().BoolVar(&raw, "raw", false, "print the result unchanged, on a terminal too")
	return cmd
}

// An argumentParser parses the arguments of "ipcd call".
type argumentParser struct {
	limits limits
	stdin  io.Reader
}

// parse returns the method and its argument, which is nil if there is none.
func (p argumentParser) parse(args []string, argument string, given bool) (method string, arg any, err error) {
	method, rest := args[0], args[1:]
	if !isMethodName(method) {
		if len(rest) > 0 || given {
			return "", nil, usagef("%q is not a method", method).withHint("methods look like Service.Method; quote a text of several words: ipcd call 'two words'")
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

// json checks JSON that a person typed. Its error says where it is invalid.
func (p argumentParser) json(source string, text []byte) (any, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return nil, usagef("%s: is empty; expected JSON", source).withHint(`a string needs its quotes: '"hello"'`)
	}
	if err := checkJSON(text, p.limits); err != nil {
		return nil, usagef("%s: %s", source, err).withHint(`a string needs its quotes: '"hello"'`)
	}
	return json.RawMessage(text), nil
}

// object makes a JSON object from key=text and key:=JSON words, in their order.
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
			return nil, usagef("%q: the key is missing or a duplicate", word)
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

// isMethodName reports whether s has the form Service.Method.
func isMethodName(s string) bool {
	service, name, ok := strings.Cut(s, ".")
	return ok && isServiceName(service) && isServiceName(name)
}

// completeMethods completes the methods of the running daemon. If there is none, it offers nothing and stays
// silent, since the user is in the middle of typing.
func completeMethods(f *clientFlags) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		set, _, err := settingsFrom(cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		limit := completionLimit
		if cmd.Flags().Changed("timeout") {
			limit = set.Timeout
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		f.start, f.wait = false, 0
		c, err := f.reach(ctx, set, nil)
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
				names = append(names, oneLine(l.Method)+"\t"+oneLine(l.Doc))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
