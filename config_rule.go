package main

// This file owns the records [[rule]] of the configuration file, which say who may do what.

import (
	"cmp"
	"errors"
	"fmt"
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
	return wrongs
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
