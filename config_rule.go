package main

// This file owns the records [[rule]] of the configuration file, which say who may do what.

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A ruleSettings is a [[rule]].
type ruleSettings struct {
	Allow     []string // people; or
	Deny      []string
	On        []string // endpoints; nil for all
	Call      []string // patterns, of this right and the next ones
	Register  []string
	Publish   []string
	Subscribe []string
	Admin     bool

	place  string            // "rule[2] at FILE:LINE"
	places map[string]string // FILE:LINE of the fields that name people
}

// patterns returns those of each right but the last.
func (s *ruleSettings) patterns() [rightAdmin]*[]string {
	return [...]*[]string{rightCall: &s.Call, rightRegister: &s.Register, rightPublish: &s.Publish, rightSubscribe: &s.Subscribe}
}

func lastRule(s *settings) *ruleSettings { return &s.Rules[len(s.Rules)-1] }

// ruleTable lists the fields of a rule: those of each right are made from rights.
var ruleTable = func() []setting {
	table := []setting{
		{key: "allow", kind: ofTexts, at: func(s *settings) any { return &lastRule(s).Allow }, min: 1, check: checkPerson, want: wantPerson,
			doc: "The people who may: user:NAME, group:NAME, sid:S-1-…, worker:NAME, token:NAME, cert:NAME, local for whoever the system names, * for everybody."},
		{key: "deny", kind: ofTexts, at: func(s *settings) any { return &lastRule(s).Deny }, min: 1, check: checkPerson, want: wantPerson,
			doc: "In place of allow: the people who may not. Without any right the rule denies them all."},
		{key: "on", kind: ofTexts, at: func(s *settings) any { return &lastRule(s).On }, min: 1, check: checkEndpoint,
			want: `endpoints, such as ["` + exampleEndpoint + `"]`,
			doc:  "The endpoints of listen where the rule holds; without it, all."},
	}
	for i := range rightAdmin {
		table = append(table, setting{key: rights[i].key, kind: ofTexts, at: func(s *settings) any { return lastRule(s).patterns()[i] }, min: 1,
			check: rights[i].check, want: rights[i].want, doc: rights[i].doc})
	}
	return append(table, setting{key: rights[rightAdmin].key, kind: ofBool, at: func(s *settings) any { return &lastRule(s).Admin }, doc: rights[rightAdmin].doc})
}()

// finishRules reports rules that are about nobody, or say nothing of them.
func finishRules(r *record, st *settings, f recordFile) (wrongs []error) {
	for i := range st.Rules {
		rule := &st.Rules[i]
		given := func(key string) bool { return f.from[r.place(i, key)] != "" }
		rule.places = map[string]string{"allow": f.from[r.place(i, "allow")], "deny": f.from[r.place(i, "deny")]}
		rule.place = fmt.Sprintf("%s at %s", r.place(i, ""), f.from[r.place(i, "")])
		refuse := func(key, format string, args ...any) {
			wrong := usagef(format, args...)
			wrongs = append(wrongs, usagef("%s: rule.%s: %w", cmp.Or(f.from[r.place(i, key)], f.from[r.place(i, "")]), key, wrong))
		}
		says := rule.Admin
		for right := range rightAdmin {
			says = says || given(rights[right].key)
		}
		switch {
		case given("allow") && given("deny"):
			refuse("deny", "stands beside allow; expected one of them in a rule")
		case !given("allow") && !given("deny"):
			refuse("allow", "is missing; expected allow or deny, with %s", wantPerson)
		case given("allow") && !says:
			refuse("allow", "the rule allows nothing; expected what they may: call, register, publish, subscribe or admin, such as call = [\"Greeter.*\"]")
		}
	}
	if f.from["listen"] == "" {
		return wrongs // what is served is not for this file to say
	}
	var listen []endpoint
	for _, text := range st.Listen {
		if e, err := parseEndpoint(text); err == nil { // it has been checked
			listen = append(listen, e)
		}
	}
	for _, e := range st.elsewhere(listen) {
		at := cmp.Or(f.from[r.place(e.rule, "on")], f.from[r.place(e.rule, "")])
		wrongs = append(wrongs, usagef("%s: rule.on: %s is not in listen, at %s, so that the rule would not hold anywhere there", at, e.on, f.from["listen"]).
			withHint("%s", e.hint()))
	}
	return wrongs
}

// An elsewhere is an endpoint of a rule where nobody listens.
type elsewhere struct {
	rule int // its index
	on   string
	near string // the endpoint of those that was probably meant
}

// elsewhere lists the endpoints of rules that are none of those which are served. They are compared as they are spelled: which address a
// name has, or where a link leads, is another thing at another time.
func (st *settings) elsewhere(served []endpoint) (list []elsewhere) {
	for i := range st.Rules {
		for _, text := range st.Rules[i].On {
			e, err := parseEndpoint(text)
			if err == nil && len(served) > 0 && !slices.ContainsFunc(served, func(s endpoint) bool { return s.key() == e.key() }) {
				list = append(list, elsewhere{i, e.String(), e.nearest(served).String()})
			}
		}
	}
	return list
}

// warning says what is wrong with it, in a place that names the rule.
func (e *elsewhere) warning(st *settings) string {
	return fmt.Sprintf("%s is for %s, where nobody listens: it does not hold anywhere there", st.Rules[e.rule].place, e.on)
}

func (e *elsewhere) hint() string {
	return "name it as listen does, such as " + e.near + ", or listen there"
}

// nearest returns the one of some endpoints that has the same port or the same name, and the same scheme, or else one of them.
func (e endpoint) nearest(list []endpoint) (near endpoint) {
	tail := func(e endpoint) string {
		text := e.Host + e.Path
		return text[strings.LastIndexAny(text, `:/\`)+1:]
	}
	best := -1
	for _, other := range list {
		rank := 0
		if tail(other) == tail(e) {
			rank += 2
		}
		if other.Scheme == e.Scheme {
			rank++
		}
		if rank > best {
			best, near = rank, other
		}
	}
	return near
}

// policyOf returns the policy of these settings for the members of allow, with the people that only this system knows.
func (st *settings) policyOf(allow group) (pol policy, _ error) {
	pol.group = allow
	for i := range st.Rules {
		s := &st.Rules[i]
		r := rule{place: s.place, deny: len(s.Deny) > 0, admin: s.Admin}
		for i, list := range s.patterns() {
			r.patterns[i] = *list
		}
		people, key := s.Allow, "allow"
		if r.deny {
			people, key = s.Deny, "deny"
		}
		for _, text := range people {
			p, f := parsePerson(text)
			if f != nil {
				return pol, f // it has been checked
			}
			if err := p.find(); err != nil {
				wrong := (*fault)(nil)
				if errors.As(err, &wrong) {
					return pol, usagef("%s: rule.%s: %w", s.places[key], key, wrong).withHint("%s", hintFor(wrong))
				}
				return pol, err
			}
			r.people = append(r.people, p)
		}
		for _, text := range s.On {
			e, err := parseEndpoint(text)
			if err != nil {
				return pol, err // likewise
			}
			r.on = append(r.on, e.key())
		}
		pol.rules = append(pol.rules, r)
	}
	return pol, nil
}
