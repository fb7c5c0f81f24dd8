package main

// This file owns "ipcd call": parsing a method and its argument from the command line. Where the words alone do not say
// what the argument is, the daemon is asked what the method takes; cmd_shape.go reads the answer.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func newCallCmd() *cobra.Command {
	var f clientFlags
	var given givenArgument
	var raw, stream bool
	cmd := &cobra.Command{
		Use:   "call METHOD|TEXT [ARGUMENT | key=text | key:=JSON ...]",
		Short: "call a method and print its result",
		Long: `Call a method and print its result: a string as it is, anything else as JSON.

A word that is not a method (Service.Method) is sent to Echo.Say. The argument is one of
  TEXT                      a string
  key=text key:=JSON ...    an object. The daemon is asked what the method takes (Ipcd.Describe), and a text
                            becomes that: a string, a number, true, or a list or an object typed as JSON,
                            tags='["a"]'. := takes JSON whatever the method takes
  --arg JSON                any JSON
  @FILE, -                  JSON from a file, or from standard input, in UTF-8; a byte order mark is skipped
  --text TEXT, -- TEXT      a string, whatever it looks like

An error that has a code of the service's own ends in it, as (code 7).

With --json a string keeps its quotes, and an error is {"error": {"code", "message", "data", "hint"}} on
standard error.

On a terminal JSON is indented, and what could control the terminal is escaped; with --raw the result is printed as
into a pipe.

With --stream the parts of an answer are asked for: each is a line of JSON as soon as it comes, and the result is the last
line, which is there only if the call has not failed. With --json they are {"part": ...} and {"result": ...}. Where standard
error is a terminal, and without --json, parts that tell the progress are one line there that changes, and no output:
{"progress": 0.4, "message": "..."}.

--timeout bounds the call from when there is somebody to answer it. --wait is for the time before that, until a daemon, the method
and a worker that serves it are there; without it a call waits for a worker within --timeout. It all ends within the two together.

Ctrl-C cancels the call, and so does the end of whoever reads what --stream prints (| head -1).

Exit codes: 0 done, 1 the call failed, 2 bad usage, also of the method: an argument that it does not take (-32602); 3 no daemon reached; as after any program that Ctrl-C has ended, a
shell's 130.`,
		Example: `  ipcd call hello
  ipcd call --start hello
  ipcd call Echo.Say 'two words'
  ipcd call Greeter.Hello name=Ada age=36
  ipcd call Greeter.Hello --arg '{"name": "Ada"}'
  echo '"hello"' | ipcd call Echo.Say -
  ipcd call --stream Files.Sum dir=/etc
  ipcd call -e 'fork:node greeter.js' Greeter.Hello name=Ada`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !cmd.Flags().Changed("text") {
				return usagef("%s needs a method or a text", cmd.CommandPath()).withHint("ipcd call hello")
			}
			return nil
		},
		ValidArgsFunction: completeCall(&f),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, _, err := settingsFrom(cmd)
			if err != nil {
				return err
			}
			p := given.parser(cmd, set)
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				p.after = len(args) - dash
			}
			t := typedCall{clientFlags: &f, limits: set.Limits}
			if t.method, t.arg, err = p.parse(args); err != nil {
				return err
			}
			if stream {
				return t.stream(cmd, set, raw)
			}
			ctx, end := attend(cmd.Context(), nil)
			defer end()
			var result json.RawMessage
			if err := f.with(ctx, set, func(ctx context.Context, c caller) error { return t.call(ctx, c, &result) }); err != nil {
				return reasonFor(ctx, err)
			}
			if raw {
				cmd.SetOut(struct{ io.Writer }{cmd.OutOrStdout()}) // which is no terminal
			}
			if wantsJSON(cmd) {
				return printDocument(cmd.OutOrStdout(), result)
			}
			return printResult(cmd.OutOrStdout(), result)
		},
	}
	addClientFlags(cmd, &f)
	given.add(cmd, "the argument")
	cmd.Flags().BoolVar(&raw, "raw", false, "print the result unchanged, on a terminal too")
	cmd.Flags().BoolVar(&stream, "stream", false, "ask for the answer in parts, and print each as a line of JSON")
	return cmd
}

// A givenArgument is an argument that flags give.
type givenArgument struct{ json, text string }

// add adds the flags for what is called that.
func (g *givenArgument) add(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&g.json, "arg", "", what+" as `JSON`")
	cmd.Flags().StringVar(&g.text, "text", "", what+" as a `text`, whatever it looks like")
}

// parser returns a parser for the words of cmd, which knows what the flags give.
func (g *givenArgument) parser(cmd *cobra.Command, set settings) argumentParser {
	p := argumentParser{limits: set.Limits, stdin: cmd.InOrStdin()}
	if cmd.Flags().Changed("arg") {
		p.given = &g.json
	}
	if cmd.Flags().Changed("text") {
		p.text = &g.text
	}
	return p
}

// A typedCall is a call as it was typed.
type typedCall struct {
	*clientFlags
	limits limits
	method string
	arg    any                  // typedWords, or what is sent
	part   func(document) error // handles a part of the answer; nil if none are asked for
}

// stream calls the method and prints the parts of the answer as they come, and then the result.
func (t *typedCall) stream(cmd *cobra.Command, set settings, raw bool) error {
	out := cmd.OutOrStdout()
	ctx, end := attend(cmd.Context(), out)
	defer end()
	if raw {
		out = struct{ io.Writer }{out} // which is no terminal
	}
	p := partPrinter{out: out, tagged: wantsJSON(cmd)}
	if !p.tagged {
		p.live = newLiveLine(cmd.ErrOrStderr())
	}
	t.part = p.part
	var result json.RawMessage
	err := t.with(ctx, set, func(ctx context.Context, c caller) error {
		p.ctx = ctx
		return t.call(ctx, c, &result)
	})
	p.live.clear()
	if p.ctx = ctx; err == nil {
		err = p.print("result", result)
	}
	return reasonFor(ctx, err)
}

// call asks what the method takes if the words can mean several things, and calls it. All other calls take one round trip.
func (t *typedCall) call(ctx context.Context, c caller, result any) error {
	arg := t.arg
	if words, ok := arg.(typedWords); ok {
		var takes *taking
		var err error
		if words.areOpen() {
			if takes, err = t.describe(ctx, c); err != nil {
				return err
			}
		}
		if arg, err = words.value(t.method, takes, t.limits); err != nil && hintFor(err) == "" {
			return t.explain(err, takes)
		} else if err != nil {
			return err
		}
	}
	var err error
	if t.part == nil {
		err = t.ask(ctx, c, t.method, arg, result)
	} else {
		err = t.askParts(ctx, c, t.method, arg, result, t.part)
	}
	if errors.Is(err, &fault{Code: codeBadArgument}) { // now what it takes is worth a question
		if takes, wrong := t.describe(ctx, c); wrong == nil {
			return t.explain(err, takes)
		}
	}
	return err
}

// A taking is what a method takes.
type taking struct {
	shape
	nothing bool // it takes no argument
}

// describe asks what the method takes. It returns nil if nobody can say: there is no such method, or what answers is not
// ipcd. A program with a channel is not asked, since it need not answer what it does not know.
func (t *typedCall) describe(ctx context.Context, c caller) (*taking, error) {
	switch {
	case t.at.Proto == protoEcho:
		return &taking{shape: shapeOf(schema{"type": "string"})}, nil
	case t.at.Scheme == "fork":
		return nil, nil
	}
	var list []Description
	err := c.call(ctx, "Ipcd.Describe", t.method, &list)
	switch {
	case err == nil && len(list) == 1:
		return &taking{shape: shapeOf(list[0].Argument), nothing: list[0].Argument == nil}, nil
	case err == nil, errors.Is(err, &fault{Code: codeNoMethod}), errors.Is(err, &fault{Code: codeApplication}):
		return nil, nil
	}
	return nil, err
}

// explain adds to an error about the argument how the call is typed, where somebody has described that. The form for any
// value at all would be what has just been refused, and "ipcd describe" would not say more.
func (t *typedCall) explain(err error, takes *taking) error {
	if takes == nil || !takes.nothing && len(takes.at) == 0 {
		if !errors.Is(err, &fault{Code: codeBadArgument}) {
			return err
		}
		return asFault(err).withHint("%s has not described what it takes: look into its program", t.method)
	}
	line := t.line("call", t.method)
	if text, ok := t.arg.(string); ok && !takes.nothing && !takes.isText() {
		if value := takes.typed(text, t.limits); value != nil {
			return asFault(err).withHint("one word is a text; anything else is JSON: %s --arg %s", line, joinWords([]string{string(value)}))
		}
	}
	if !takes.nothing {
		line += " " + takes.form()
	}
	f := asFault(err)
	if near := f.data().Near; near != "" {
		return f.withHint("did you mean %s? the form is: %s", near, line)
	}
	return f.withHint("the form is: %s", line)
}

// An argumentParser parses the arguments of "ipcd call".
type argumentParser struct {
	limits limits
	stdin  io.Reader
	given  *string // --arg
	text   *string // --text
	after  int     // how many words come after --, which makes them texts
	asJSON bool    // a single word is JSON, and not a text
}

// parse returns the method and its argument, which is nil if there is none, and typedWords if the words say no more.
func (p argumentParser) parse(args []string) (method string, arg any, err error) {
	method, rest := "Echo.Say", args
	if len(args) > 0 && isMethodName(args[0]) && !(len(args) == 1 && p.after == 1) {
		method, rest = args[0], args[1:]
	} else if len(args) > 1 {
		return "", nil, usagef("%q is not a method", args[0]).withHint("methods look like Service.Method; quote a text of several words: ipcd call 'two words'")
	} else if len(args) == 1 {
		p.after = 1
	}
	arg, err = p.argument(rest)
	return method, arg, err
}

// argument returns the argument that is given by these words, or by a flag: see parse.
func (p argumentParser) argument(rest []string) (arg any, err error) {
	var ways []string
	if p.given != nil {
		ways = append(ways, "--arg")
	}
	if p.text != nil {
		ways = append(ways, "--text")
	}
	if len(rest) > 0 {
		ways = append(ways, strconv.Quote(rest[0]))
	}
	switch {
	case len(ways) > 1:
		return nil, usagef("the argument is given twice: by %s and by %s", ways[0], ways[1]).withHint("keep one of them")
	case p.given != nil:
		arg, err = typedJSON("--arg", []byte(*p.given), p.limits)
	case p.text != nil:
		arg = *p.text
	case len(rest) == 0:
	case p.after > 0 && len(rest) > 1:
		err = usagef("what follows -- is one text, and there are %d words", len(rest)).withHint("quote them: '%s'", strings.Join(rest, " "))
	case p.after > 0:
		arg = rest[0]
	case len(rest) > 1:
		arg, err = typedWords(rest), typedWords(rest).check()
	case rest[0] == "-":
		arg, err = p.read("standard input", p.stdin)
	case len(rest[0]) > 1 && rest[0][0] == '@':
		arg, err = p.file(rest[0][1:])
	case strings.Contains(rest[0], "=") && !(p.asJSON && strings.ContainsAny(rest[0][:1], "{[\"")):
		arg = typedWords(rest)
	case p.asJSON:
		arg, err = typedJSON("the data", []byte(rest[0]), p.limits)
	default:
		arg = rest[0]
	}
	return arg, err
}

// file reads JSON from a file.
func (p argumentParser) file(name string) (any, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("@%s: %w", name, withoutPath(err)).withHint("a text that begins with @ follows --text")
	}
	defer f.Close()
	return p.read(name, f)
}

// read reads JSON.
func (p argumentParser) read(source string, r io.Reader) (any, error) {
	most := p.limits.MaxMessage
	text, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", source, withoutPath(err))
	case len(text) > most:
		return nil, tooLarge("max_message", int64(most), source+" is too large").withHint("send less, or raise limits.max_message here and in the daemon")
	}
	return typedJSON(source, text, p.limits)
}

// typedJSON checks JSON that a person typed. Its error says where it is invalid.
func typedJSON(source string, text []byte, l limits) (json.RawMessage, error) {
	if isUTF16(text) {
		return nil, usagef("%s: is UTF-16; expected UTF-8", source).withHint("%s", utf8Hint)
	}
	text = bytes.TrimSpace(trimFront(text))
	if len(text) == 0 {
		return nil, usagef("%s: is empty; expected JSON", source).withHint(`an empty string is '""'`)
	}
	if err := checkJSON(text, l); err != nil {
		f := usagef("%s: %s", source, err)
		if first, _ := utf8.DecodeRune(text); unicode.IsLetter(first) { // a text, and not JSON with a slip
			return nil, f.withHint(`a string needs its quotes: '"hello"'`)
		}
		return nil, f
	}
	return json.RawMessage(text), nil
}

// typedWords are words with a = in them. They make up an object; a single one may as well be a text.
type typedWords []string

// areOpen reports whether what the words mean depends on what the method takes.
func (words typedWords) areOpen() bool {
	return slices.ContainsFunc(words, func(word string) bool {
		key, _, _ := strings.Cut(word, "=")
		return !strings.HasSuffix(key, ":")
	})
}

// cut splits a word into its key and its value, which may be JSON.
func (typedWords) cut(word string) (key, value string, isJSON bool) {
	key, value, _ = strings.Cut(word, "=")
	key, isJSON = strings.CutSuffix(key, ":")
	return key, value, isJSON
}

// check refuses words that can be no object, whatever the method takes.
func (words typedWords) check() error {
	seen := map[string]bool{}
	for _, word := range words {
		if !strings.Contains(word, "=") {
			return usagef("%q is neither key=text nor key:=JSON", word).withHint("quote a text of several words")
		}
		key, _, _ := words.cut(word)
		if key == "" {
			return usagef("%q: the key is missing", word).withHint("a text with a = in it follows --text")
		}
		if seen[key] {
			return usagef("%q: the key %s is there twice", word, key).withHint("several values are a list: %s:='[...]'", key)
		}
		seen[key] = true
	}
	return nil
}

// value is what the words mean to a method that takes this; nil if that is not known, and each text then stays one.
func (words typedWords) value(method string, takes *taking, l limits) (any, error) {
	switch {
	case takes == nil:
	case takes.nothing:
		return nil, usagef("%s takes no argument", method)
	case len(words) == 1 && takes.isText() && len(takes.types()) > 0:
		return words[0], nil
	case len(takes.types()) > 0 && !slices.Contains(takes.types(), "object"):
		return nil, usagef("%s takes %s, and members were given", method, takes.full())
	}
	if err := words.check(); err != nil {
		return nil, err
	}
	object := []byte{'{'}
	for _, word := range words {
		key, value, isJSON := words.cut(word)
		var v json.RawMessage
		var err error
		switch {
		case isJSON:
			v, err = typedJSON("the value of "+key, []byte(value), l)
		case takes == nil:
			v = appendJSONString(nil, value)
		default:
			v, err = takes.member(method, key, value, l)
		}
		if err != nil {
			return nil, err
		}
		if len(object) > 1 {
			object = append(object, ',')
		}
		object = append(append(appendJSONString(object, key), ':'), v...)
	}
	return json.RawMessage(append(object, '}')), nil
}

// member is the value of a member that was typed as a text.
func (t *taking) member(method, key, text string, l limits) (json.RawMessage, error) {
	of, ok := t.others()
	var names []string
	for _, m := range t.members() {
		if names = append(names, m.name); m.name == key {
			of, ok = m.shape, true
		}
	}
	if !ok {
		f := usagef("%s has no member %s", method, shorten(key, 100))
		if near := nearest(key, names); near != "" {
			f.Data = faultData{Near: near}.json()
		}
		return nil, f
	}
	if v := of.typed(text, l); v != nil {
		return v, nil
	}
	return nil, usagef("%s=%s: expected %s", key, shorten(text, 100), of.full())
}

// isMethodName reports whether s has the form Service.Method.
func isMethodName(s string) bool {
	service, name, ok := strings.Cut(s, ".")
	return ok && isServiceName(service) && isServiceName(name)
}
