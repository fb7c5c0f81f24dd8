package main

// This file owns "ipcd access": what the rules of the configuration say, without asking a daemon who calls.

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newAccessCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "access",
		Short: "explain and check who may do what",
		Long: `Who may do what is said by allow_group and the [[rule]]s of the configuration: docs/security.md.
These commands read what "ipcd run" with the same flags would read.`,
		Example: `  ipcd access explain --as user:ada Greeter.Hello
  ipcd access lint`,
	}
	cmd.AddCommand(newAccessExplainCmd(), newAccessLintCmd())
	return cmd
}

// An Explanation is what "access explain --json" prints.
type Explanation struct {
	As      string `json:"as"`
	On      string `json:"on"` // the endpoint; empty for a worker, which has its channel
	Right   string `json:"right"`
	What    string `json:"what,omitempty"`
	Allowed bool   `json:"allowed"`
	Rule    string `json:"rule,omitempty"` // "rule[2] at FILE:LINE"; missing if no rule decides
	Why     string `json:"why"`
}

func newAccessExplainCmd() *cobra.Command {
	var as, on, name string
	cmd := &cobra.Command{
		Use:   "explain --as WHO [WHAT]",
		Short: "say which rule decides, and why",
		Long: `Say whether somebody may do something, and which rule decides that. WHO is user:ada, group:dev for a
user who is in that group alone, sid:S-1-..., worker:greeter, token:ci, cert:laptop, or local for a user whom no rule names.
WHAT is a method; with --right a service to register, a topic to publish to, or a topic or
pattern to subscribe to; with --right admin nothing.

The groups of a user are those that the system lists now; the daemon goes by those of the
process that calls. On Windows it lists none here. The daemon is taken to run as you. The scope of a token
is that of "ipcd token ls"; one that is not there yet is taken to have none.

The JSON is {"as", "on", "right", "what", "allowed", "rule", "why"}; "rule" is missing if no rule decides.`,
		Example: `  ipcd access explain --as user:ada Greeter.Hello
  ipcd access explain --as group:dev --right subscribe 'build.>'`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := explainAccess(cmd, as, on, name, args)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), e)
			}
			verdict := map[bool]string{false: "refused", true: "allowed"}[e.Allowed]
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", verdict, oneLine(e.Why))
			return err
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "`who` wants to do it")
	cmd.Flags().StringVar(&on, "on", "", "at which endpoint, as a `URL` (default: the first one that the daemon serves, for cert: with TLS, for token: where tokens are shown)")
	cmd.Flags().StringVar(&name, "right", rights[rightCall].key, "which `right` that takes: "+strings.Join(rightKeys(), ", "))
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("right", cobra.FixedCompletions(rightKeys(), cobra.ShellCompDirectiveNoFileComp)))
	addSettingFlags(cmd, "listen", "allow_group")
	addInstanceFlags(cmd)
	return cmd
}

func rightKeys() (keys []string) {
	for _, r := range rights {
		keys = append(keys, r.key)
	}
	return keys
}

// explainAccess decides what the daemon would decide.
func explainAccess(cmd *cobra.Command, as, on, name string, args []string) (e Explanation, err error) {
	need := right(slices.Index(rightKeys(), name))
	what := strings.Join(args, " ")
	switch {
	case need < 0:
		return e, usagef("--right: there is no right %q; expected one of %s", shorten(name, 40), strings.Join(rightKeys(), ", "))
	case as == "":
		return e, usagef("--as is missing; expected who wants to do it, such as user:ada")
	case len(args) == 0 && need != rightAdmin:
		return e, usagef("WHAT is missing; expected %s", cmp.Or(map[right]string{rightCall: "a method, such as Greeter.Hello", rightRegister: "a service, such as Greeter"}[need], "a topic, such as build.done")).
			withHint("usage: %s", cmd.UseLine())
	case len(args) > 1, (need == rightAdmin) != (len(args) == 0):
		return e, usagef("%s takes %s, but was given %d arguments", cmd.CommandPath(), map[bool]string{false: "one argument", true: "none with --right admin"}[need == rightAdmin], len(args)).
			withHint("usage: %s", cmd.UseLine())
	case need == rightCall && strings.HasPrefix(what, ownService+"."):
		return e, usagef("%s is no rule's: whoever may connect may call it, or it takes a right of its own", shorten(what, 100)).
			withHint("ask for that right: --right admin, register, publish or subscribe")
	case need == rightCall && checkMethodPattern(what) != nil:
		return e, usagef("%w; expected Service.Method", checkMethodPattern(what))
	case need == rightRegister && checkServicePattern(what) != nil:
		return e, usagef("%w", checkServicePattern(what))
	case (need == rightPublish || need == rightSubscribe) && checkPattern(what) != nil:
		return e, usagef("%w", checkPattern(what))
	}
	set, _, err := daemonSettings(cmd)
	if err != nil {
		return e, err
	}
	p, err := supposedPeer(as, set.instance)
	if err != nil {
		return e, err
	}
	e = Explanation{As: as, Right: name, What: what}
	pol := &set.policy
	if p.worker == "" {
		at, err := endpointOfRules(set, on, &p)
		if err != nil {
			return e, err
		}
		e.On, p.on = at.String(), at.key()
		if _, p.owns, err = p.isOwner(); err != nil {
			return e, err
		}
		if p.noAuth = p.cert != "" && at.NoAuth; p.cert != "" && !at.isTLS() {
			return e, usagef("%s can come to no other endpoint than tls:// and https://, and %s is none", shorten(as, 100), at).withHint("name one with --on or --listen, or in listen")
		}
	}
	d := pol.decide(&p, need, what)
	e.Allowed, e.Why = d.allowed, d.explain(pol)
	if d.rule != nil {
		e.Rule = d.rule.place
	}
	return e, nil
}

// endpointOfRules returns the endpoint that is meant: the one that was named, or the first that the daemon serves, for whoever has a
// certificate or a token of those where one can be shown, if there is one.
func endpointOfRules(set settings, on string, p *peer) (endpoint, error) {
	if on != "" {
		e, err := parseEndpoint(on)
		if err != nil {
			return e, usagef("--on: %w", err).withHint("%s", hintFor(err))
		}
		return e, nil
	}
	list, err := endpointsOf(set)
	if err != nil {
		return endpoint{}, err
	}
	suits := endpoint.isTLS
	if p.bearer() != nil {
		suits = func(e endpoint) bool { return !e.isLocal() }
	}
	if at := slices.IndexFunc(list, suits); at >= 0 && (p.bearer() != nil || p.cert != "") {
		return list[at], nil
	}
	return list[0], nil
}

// supposedPeer returns a peer as the system, or a token of the daemon of, would describe the one that a person of a rule is.
func supposedPeer(text string, of instance) (p peer, err error) {
	who, f := parsePerson(text)
	if f != nil || who.kind == personAny {
		return p, usagef("--as: %q is nobody in particular", shorten(text, 100)).withHint("name one of user:NAME, group:NAME, sid:S-1-..., worker:NAME, token:NAME, cert:NAME, local")
	}
	if err := who.find(); err != nil {
		return p, usagef("--as: %w", err)
	}
	p = peer{Known: true, UID: -1, GID: -1}
	switch who.kind {
	case personWorker:
		p.worker = who.id
	case personToken:
		var b *bearer
		b, err = supposedBearer(who.id, of)
		return peer{UID: -1, GID: -1, proof: proofOf(b)}, err
	case personCert:
		return peer{UID: -1, GID: -1, cert: who.id}, nil
	case personGroup:
		p.Groups = []string{who.id}
	case personSID:
		p.SID = who.id
	case personUser:
		err = p.suppose(strings.TrimPrefix(text, string(personUser)+":"), who.id)
	}
	return p, err
}

// supposedBearer returns the holder of the token of that name of a daemon.
func supposedBearer(name string, of instance) (*bearer, error) {
	b := &bearer{name: name, void: func() *fault { return nil }}
	store, err := newTokenStore(of)
	if err != nil {
		return nil, err
	}
	tokens, err := store.list(false)
	if err != nil {
		return nil, err
	}
	if e := tokenNamed(tokens, name); e != nil {
		b.scope = e.Scope
	}
	return b, nil
}

// isDecided reports whether an earlier rule decides all that r could decide, as far as can be told without the system.
func (r *rule) isDecided(earlier *rule) bool {
	within := func(on string) bool { return slices.Contains(earlier.on, on) }
	if earlier.on != nil && (r.on == nil || slices.ContainsFunc(r.on, func(on string) bool { return !within(on) })) {
		return false
	}
	for i := range r.people {
		if !slices.ContainsFunc(earlier.people, func(p person) bool { return p.includes(&r.people[i]) }) {
			return false
		}
	}
	switch {
	case earlier.deniesAll():
		return true
	case r.deniesAll(), r.admin && !earlier.admin:
		return false
	}
	for need := range rightAdmin {
		for _, what := range r.patterns[need] {
			if !slices.ContainsFunc(earlier.patterns[need], func(pattern string) bool { return rights[need].covers(pattern, what) }) {
				return false
			}
		}
	}
	return true
}

// A Finding is one line of "access lint".
type Finding struct {
	Rule   string `json:"rule,omitempty"` // "rule[2] at FILE:LINE"; or
	Method string `json:"method,omitempty"`
	Text   string `json:"text"`
}

func newAccessLintCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lint",
		Short: "list rules that decide nothing, and methods that no rule names",
		Long: `List the rules that can never decide anything: an earlier one does, or they are about nobody who can come.
If the daemon that serves these settings answers, list its methods that no rule names, too; who may
call those is said in docs/security.md. It exits with 1 if it has found rules.

The JSON is a list of {"rule", "method", "text"}, of which one of the first two is there.`,
		Example: `  ipcd access lint
  ipcd access lint --config /etc/ipcd/config.toml --service ipcd`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, _, err := daemonSettings(cmd)
			if err != nil {
				return err
			}
			endpoints, err := endpointsOf(set)
			if err != nil {
				return err
			}
			found := lintRules(set, endpoints)
			rules := len(found)
			var methods []string
			if len(set.Rules) > 0 {
				methods, err = methodsAt(cmd.Context(), endpoints[0], set)
			}
			if err != nil {
				fmt.Fprintf(linesOf(cmd, cmd.ErrOrStderr()), "ipcd: note: methods were not looked at: %s\n", oneLine(err.Error()))
			} else {
				for _, name := range set.policy.unnamed(methods) {
					found = append(found, Finding{Method: name, Text: "no rule names it"})
				}
			}
			if err := printFindings(cmd, found); err != nil || rules == 0 {
				return err
			}
			return faultf(codeApplication, "%d of the %d rules decide nothing", rules, len(set.Rules))
		},
	}
	addSettingFlags(cmd, "listen", "allow_group")
	addInstanceFlags(cmd)
	return cmd
}

func printFindings(cmd *cobra.Command, found []Finding) error {
	if wantsJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), append([]Finding{}, found...))
	}
	for _, f := range found {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", oneLine(f.Rule+f.Method), oneLine(f.Text)); err != nil {
			return err
		}
	}
	return nil
}

// lintRules finds the rules that decide nothing.
func lintRules(set settings, endpoints []endpoint) (found []Finding) {
	served := map[string]bool{}
	for _, e := range endpoints {
		served[e.key()] = true
	}
	var tokens []tokenEntry
	lists := false // whether they are known
	if store, err := newTokenStore(set.instance); err == nil {
		tokens, err = store.list(false)
		lists = err == nil
	}
	for i := range set.policy.rules {
		r := &set.policy.rules[i]
		earlier := slices.IndexFunc(set.policy.rules[:i], func(other rule) bool { return r.isDecided(&other) })
		stranger := func(p person) bool {
			return p.kind == personWorker && !slices.ContainsFunc(set.Workers, func(w workerSettings) bool { return w.Name == p.id }) ||
				p.kind == personToken && lists && tokenNamed(tokens, p.id) == nil
		}
		why := ""
		switch {
		case earlier >= 0:
			why = set.policy.rules[earlier].place + " decides all of it before"
		case r.on != nil && !slices.ContainsFunc(r.on, func(on string) bool { return served[on] }):
			why = "none of its endpoints is in listen"
		case !slices.ContainsFunc(r.people, func(p person) bool { return !stranger(p) }):
			first := r.people[slices.IndexFunc(r.people, stranger)]
			why = fmt.Sprintf("there is no such %s: %s", first.kind, first.id)
		case set.TLS.ClientCA == "" && !slices.ContainsFunc(r.people, func(p person) bool { return p.kind != personCert }):
			why = "it is about certificates alone, and tls.client_ca names nobody to take them from"
		case r.on != nil && !slices.ContainsFunc(r.people, func(p person) bool { return p.kind != personWorker }):
			why = "it is about workers alone, which come to no endpoint"
		default:
			continue
		}
		found = append(found, Finding{Rule: r.place, Text: why})
	}
	return found
}

// unnamed lists the methods that no pattern of a rule matches. Those of Ipcd are no rule's.
func (pol *policy) unnamed(methods []string) []string {
	return slices.DeleteFunc(methods, func(name string) bool {
		return strings.HasPrefix(name, ownService+".") || slices.ContainsFunc(pol.rules, func(r rule) bool { return !r.deniesAll() && r.fits(rightCall, name) })
	})
}

// methodsAt lists the methods of the daemon at e.
func methodsAt(ctx context.Context, e endpoint, set settings) (names []string, err error) {
	var list []Listing
	err = askOnce(ctx, e.called(), set, "Ipcd.List", &list)
	for _, m := range list {
		names = append(names, m.Method)
	}
	return names, err
}
