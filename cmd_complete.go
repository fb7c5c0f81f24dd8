package main

// This file owns what a shell completes from a daemon that runs, methods, services, the members of an argument, workers and
// endpoints, and from the configuration: topics. If there is no daemon, it offers nothing and stays silent, since the user is in the middle of typing.

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

const completionLimit = 500 * time.Millisecond // the shell waits for completions; --timeout on the line is another limit

// complete asks the daemon that the line names, and offers what begins with word.
func (f *clientFlags) complete(cmd *cobra.Command, word string, ask func(ctx context.Context, c caller) ([]string, error)) []string {
	set, _, err := settingsFrom(cmd)
	if err != nil {
		return nil
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
		return nil
	}
	defer c.close()
	words, err := ask(ctx, c)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, word) || !isHarmless(w) })
}

// isHarmless reports whether what is offered, up to its tab, means to every shell what it is. Names come from any program that
// offers a service: a shell inserts what several words begin with as it is, and bash and zsh evaluate the line at the next Tab,
// $(...) included. What begins with a - would be a flag of ours.
func isHarmless(offered string) bool {
	word, _, _ := strings.Cut(offered, "\t")
	first, _ := utf8.DecodeRuneInString(word)
	return (first == '_' || unicode.IsLetter(first) || unicode.IsDigit(first)) && !strings.ContainsFunc(word, func(r rune) bool {
		return !unicode.In(r, unicode.L, unicode.M, unicode.Nd) && !strings.ContainsRune("_.:=/+@,-", r)
	})
}

// completeMethod completes a method; with services, the name of a service as well.
func completeMethod(f *clientFlags, services bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		words := f.complete(cmd, word, func(ctx context.Context, c caller) (names []string, err error) {
			var list []Listing
			err = c.call(ctx, "Ipcd.List", nil, &list)
			for _, l := range list {
				service, short, _ := strings.Cut(l.Method, ".")
				if services && !slices.Contains(names, service) {
					names = append(names, oneLine(service))
				}
				switch {
				case short != anyMethod:
					names = append(names, oneLine(l.Method)+"\t"+oneLine(l.Doc))
				case !services: // what follows only the service knows
					names = append(names, oneLine(service)+".\t"+oneLine(l.Doc))
				}
			}
			return names, err
		})
		directive := cobra.ShellCompDirectiveNoFileComp
		if slices.ContainsFunc(words, func(w string) bool { name, _, _ := strings.Cut(w, "\t"); return strings.HasSuffix(name, ".") }) {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		return words, directive
	}
}

// completeCall completes a method, and then the members of its argument.
func completeCall(f *clientFlags) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) == 0:
			return completeMethod(f, false)(cmd, args, word)
		case strings.HasPrefix(word, "@"):
			return nil, cobra.ShellCompDirectiveDefault // a file
		case !isMethodName(args[0]), strings.Contains(word, "="):
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f.complete(cmd, word, func(ctx context.Context, c caller) (names []string, err error) {
			takes, err := (&typedCall{clientFlags: f, method: args[0]}).describe(ctx, c)
			if takes == nil {
				return nil, err
			}
			for _, m := range takes.members() {
				given := func(arg string) bool {
					return strings.HasPrefix(arg, m.name+"=") || strings.HasPrefix(arg, m.name+":=")
				}
				if !slices.ContainsFunc(args[1:], given) {
					names = append(names, oneLine(m.name)+m.sign()+"\t"+oneLine(m.full()))
				}
			}
			return names, nil
		}), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// completeEndpoint completes the endpoints that calls go to without being told, and the beginnings of all others.
func completeEndpoint(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	var places []string
	if set, _, err := settingsFrom(cmd); err == nil {
		if e, err := set.clientEndpoint(); err == nil {
			places = append(places, e.String()+"\twhere calls go")
		}
	}
	places = append(places, serviceEndpoint(defaultName).String()+"\tthe service")
	for _, scheme := range []string{localScheme, "tcp", "tls", "http", "https"} {
		places = append(places, scheme+"://")
	}
	places = append(places, "fork:\ta program with a Node.js channel")
	return slices.DeleteFunc(places, func(p string) bool { return !strings.HasPrefix(p, word) }), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeWorker completes the name of a worker.
func completeWorker(f *clientFlags) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f.complete(cmd, word, func(ctx context.Context, c caller) (names []string, err error) {
			var s Status
			err = c.call(ctx, "Ipcd.Status", nil, &s)
			for _, w := range s.Workers {
				names = append(names, oneLine(w.Name)+"\t"+oneLine(w.State))
			}
			return names, err
		}), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeTopic completes the topics that the configuration keeps, for a subscription with wildcards and the daemon's own. The
// daemon knows of others only as long as somebody subscribes to them, and does not say who that is.
func completeTopic(subscribing bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		set, _, err := settingsFrom(cmd)
		if err != nil || !subscribing && len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var topics []string
		for _, t := range set.Topics {
			topics = append(topics, t.Name)
		}
		if subscribing {
			topics = append(topics, ownTopic+"."+anyRest)
		}
		return slices.DeleteFunc(topics, func(t string) bool {
			return !strings.HasPrefix(t, word) || slices.Contains(args, t) || !subscribing && checkTopic(t) != nil
		}), cobra.ShellCompDirectiveNoFileComp
	}
}
