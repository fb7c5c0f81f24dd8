package main

// This file owns the records [[quota]] of the configuration file, which give some users other limits than [limits] does.

import (
	"cmp"
	"errors"
	"slices"
)

// A quotaSettings is a [[quota]].
type quotaSettings struct {
	Of               []string // people
	MaxConnections   int      // as in limits, of which 0 leaves what is there; likewise the next ones
	MaxCalls         int
	UserCalls        int
	UserMemory       int
	MaxSubscriptions int
	UserMethods      int

	place string // FILE:LINE of the people
}

// A quota is the limits of some people. Of several the first that is about somebody holds.
type quota struct {
	people []person
	limits limits
}

func lastQuota(s *settings) *quotaSettings { return &s.Quotas[len(s.Quotas)-1] }

// quotaTable lists the fields of a quota: the people, and the limits that it may change, as settingTable has them.
var quotaTable = func() []setting {
	table := []setting{{key: "of", kind: ofTexts, at: func(s *settings) any { return &lastQuota(s).Of }, min: 1, check: checkPerson, want: wantPerson,
		doc: "The people whose limits these are, as a [[rule]] names them; it has to be given."}}
	for _, field := range []struct {
		key string
		at  func(*quotaSettings) *int
	}{
		{"max_connections", func(q *quotaSettings) *int { return &q.MaxConnections }},
		{"max_calls", func(q *quotaSettings) *int { return &q.MaxCalls }},
		{"user_calls", func(q *quotaSettings) *int { return &q.UserCalls }},
		{"user_memory", func(q *quotaSettings) *int { return &q.UserMemory }},
		{"max_subscriptions", func(q *quotaSettings) *int { return &q.MaxSubscriptions }},
		{"user_methods", func(q *quotaSettings) *int { return &q.UserMethods }},
	} {
		s := *findSetting("limits." + field.key)
		s.key, s.at = field.key, func(s *settings) any { return field.at(lastQuota(s)) }
		s.min, s.doc = 0, "In place of limits."+field.key+"; 0 leaves that."
		table = append(table, s)
	}
	return table
}()

// finishQuotas reports quotas that are about nobody, or change nothing.
func finishQuotas(r *record, st *settings, f recordFile) (wrongs []error) {
	for i := range st.Quotas {
		q := &st.Quotas[i]
		at := f.from[r.place(i, "")]
		q.place = cmp.Or(f.from[r.place(i, "of")], at)
		switch {
		case f.from[r.place(i, "of")] == "":
			wrongs = append(wrongs, usagef("%s: quota.of: is missing; expected %s", at, wantPerson))
		case !slices.ContainsFunc(quotaTable[1:], func(s setting) bool { return f.from[r.place(i, s.key)] != "" }):
			wrongs = append(wrongs, usagef("%s: quota.of: the quota changes nothing; expected a limit beside it, such as max_connections = 4096", at))
		}
	}
	return wrongs
}

// quotasOf returns the quotas of these settings, with the people that only this system knows.
func (st *settings) quotasOf() (list []quota, _ error) {
	for i := range st.Quotas {
		s := &st.Quotas[i]
		q := quota{limits: st.Limits}
		for _, field := range []struct {
			own int
			of  *int
		}{
			{s.MaxConnections, &q.limits.MaxConnections}, {s.MaxCalls, &q.limits.MaxCalls},
			{s.UserCalls, &q.limits.UserCalls}, {s.UserMemory, &q.limits.UserMemory}, {s.MaxSubscriptions, &q.limits.MaxSubscriptions},
			{s.UserMethods, &q.limits.UserMethods},
		} {
			if field.own > 0 {
				*field.of = field.own
			}
		}
		for _, text := range s.Of {
			p, f := parsePerson(text)
			if f != nil {
				return nil, f // it has been checked
			}
			if err := p.find(); err != nil {
				wrong := (*fault)(nil)
				if errors.As(err, &wrong) {
					return nil, usagef("%s: quota.of: %w", s.place, wrong).withHint("%s", hintFor(wrong))
				}
				return nil, err
			}
			q.people = append(q.people, p)
		}
		list = append(list, q)
	}
	return list, nil
}

// limitsOf returns the limits of p among those quotas, or else the common ones.
func limitsOf(quotas []quota, p *peer, common *limits) *limits {
	for i := range quotas {
		for k := range quotas[i].people {
			if quotas[i].people[k].is(p) {
				return &quotas[i].limits
			}
		}
	}
	return common
}
