package main

// This file owns the records [[topic]] of the configuration file, which say how much is kept of the events of some topics.

import "cmp"

// A topicSettings is a [[topic]]: how much is kept of the events of some topics.
type topicSettings struct {
	Name string // a pattern
	Keep int
}

func lastTopic(s *settings) *topicSettings { return &s.Topics[len(s.Topics)-1] }

var topicTable = []setting{
	{key: "name", kind: ofText, at: func(s *settings) any { return &lastTopic(s).Name }, check: checkTopicName,
		want: "a topic such as build.done, or a pattern such as build.>",
		doc:  "The topic, in which * stands for one token and > at the end for all that follow; it has to be given."},
	{key: "keep", kind: ofCount, at: func(s *settings) any { return &lastTopic(s).Keep }, min: 1, max: 100_000,
		doc: "How many events are kept of all topics that match together; limits.max_kept bounds their bytes."},
}

// finishTopics reports topics that have no name, or that of another one.
func finishTopics(r *record, st *settings, f recordFile) (wrongs []error) {
	places := map[string]string{}
	for i, t := range st.Topics {
		at := cmp.Or(f.from[r.place(i, "name")], f.from[r.place(i, "")])
		switch before := places[t.Name]; {
		case t.Name == "" && f.from[r.place(i, "name")] == "":
			wrongs = append(wrongs, usagef("%s: topic.name: is missing; expected %s", at, r.field("name").want))
		case t.Name == "": // it has been refused
		case before != "":
			wrongs = append(wrongs, usagef("%s: topic.name: there is a topic %s already, at %s; expected another one", at, t.Name, before))
		default:
			places[t.Name] = at
		}
	}
	return wrongs
}
