package main

// This file owns the settings that there may be any number of: the records of the configuration file. Those of [[worker]]
// are here, those of [[topic]] in config_topic.go, of [[rule]] in config_rule.go, and of [[quota]] in config_quota.go.

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A record is a table that may be in the file any number of times. Its fields are settings of the record that was begun
// last.
type record struct {
	key    string
	doc    string // one line
	fields []setting
	begin  func(*settings)                              // adds a record with the defaults
	count  func(*settings) int                          // how many there are
	only   func(*settings, int) settings                // settings whose last record is that one
	finish func(*record, *settings, recordFile) []error // checks the records once they have been read
}

// A recordFile is the file that records come from.
type recordFile struct {
	path string
	from origins
}

// A workerSettings is a [[worker]]: a program that the daemon starts and looks after.
type workerSettings struct {
	Name         string
	Command      []string
	Directory    string
	Environment  []string // NAME of a variable of the daemon's, or NAME=VALUE
	Services     []string
	Ready        string
	Instances    int
	Lazy         bool
	Idle         time.Duration
	Restart      string
	Overlap      bool
	StartTimeout time.Duration
	StopTimeout  time.Duration
	Health       time.Duration
	MaxCalls     int
	MaxMessage   int // 0 for limits.max_message
	MaxMemory    int // 0 for no limit
	Check        bool
	Needs        []string
	RunAs        string

	places map[string]string // FILE:LINE of each field that was given and, by the empty key, of the record
}

// When a worker is started again after it has ended.
const (
	restartAlways    = "always"
	restartOnFailure = "on-failure" // not after exit code 0
	restartNever     = "never"
)

// When a worker is ready for calls.
const (
	readyRegister = "register" // once it has called Ipcd.Register
	readyStart    = "start"    // once it runs
)

// What a worker needs beyond what the sandbox of an installed service leaves to the daemon.
const (
	needJIT     = "jit"     // memory that it writes and then executes, as V8 in Node.js does
	needNetwork = "network" // sockets other than Unix ones
	needHome    = "home"    // the home directories of users
)

// records lists the records of the file.
var records = []record{{
	key: "worker", doc: "Each is a program that the daemon starts and looks after: docs/services.md.", fields: workerTable,
	begin:  func(s *settings) { s.Workers = append(s.Workers, defaultWorker()) },
	count:  func(s *settings) int { return len(s.Workers) },
	only:   func(s *settings, i int) settings { return settings{Workers: s.Workers[i : i+1 : i+1]} },
	finish: finishWorkers,
}, {
	key: "topic", doc: "The last events of each are kept, in memory, for those who subscribe with after: docs/protocol.md, section 14.", fields: topicTable,
	begin:  func(s *settings) { s.Topics = append(s.Topics, topicSettings{Keep: 100}) },
	count:  func(s *settings) int { return len(s.Topics) },
	only:   func(s *settings, i int) settings { return settings{Topics: s.Topics[i : i+1 : i+1]} },
	finish: finishTopics,
}, {
	key: "rule", doc: "Who may do what; the first rule that is about a caller and fits decides: docs/security.md.", fields: ruleTable,
	begin:  func(s *settings) { s.Rules = append(s.Rules, ruleSettings{}) },
	count:  func(s *settings) int { return len(s.Rules) },
	only:   func(s *settings, i int) settings { return settings{Rules: s.Rules[i : i+1 : i+1]} },
	finish: finishRules,
}, {
	key: "quota", doc: "Limits of some users in place of those that all have; the first that is about a user holds.", fields: quotaTable,
	begin:  func(s *settings) { s.Quotas = append(s.Quotas, quotaSettings{}) },
	count:  func(s *settings) int { return len(s.Quotas) },
	only:   func(s *settings, i int) settings { return settings{Quotas: s.Quotas[i : i+1 : i+1]} },
	finish: finishQuotas,
}}

func defaultWorker() workerSettings {
	return workerSettings{Ready: readyRegister, Instances: 1, Idle: 5 * time.Minute, Restart: restartAlways, Overlap: true,
		StartTimeout: 30 * time.Second, StopTimeout: 5 * time.Second, MaxCalls: 256, Needs: []string{needJIT}}
}

func lastWorker(s *settings) *workerSettings { return &s.Workers[len(s.Workers)-1] }

// ending is how long a daemon with these workers takes to stop at most: its drain limit, and after that, for the sake of its
// workers, calls of theirs, and each of the three ways in which a process is asked to end.
func (l limits) ending(workers []workerSettings) time.Duration {
	longest := time.Duration(0)
	for i := range workers {
		longest = max(longest, l.Drain+3*workers[i].StopTimeout)
	}
	return l.Drain + longest
}

const maxInstances = 64 // of one worker: no machine has use for more copies of a program that serves many calls at a time

var workerTable = []setting{
	{key: "name", kind: ofText, at: func(s *settings) any { return &lastWorker(s).Name }, check: checkWorkerName,
		want: fmt.Sprintf("a name of lower-case letters, digits, - and _ that begins with a letter, at most %d", maxName),
		doc:  "The name of the worker, for the log, the ipcd worker command and rules; it has to be given."},
	{key: "command", kind: ofTexts, at: func(s *settings) any { return &lastWorker(s).Command }, min: 1, check: checkArgument,
		want: `a program and its arguments, such as ["node", "greeter.js"]`,
		doc:  "The program and its arguments, which no shell looks at; a program with a slash is relative to the directory of this file. It has to be given."},
	{key: "directory", kind: ofText, at: func(s *settings) any { return &lastWorker(s).Directory }, check: checkArgument,
		doc: "The working directory, relative to that of this file, which is the default."},
	{key: "environment", kind: ofTexts, at: func(s *settings) any { return &lastWorker(s).Environment }, check: checkEnvironment, want: "a list of NAME or NAME=VALUE",
		doc: "Variables that the worker gets, besides those that every program needs: NAME for that of the daemon, or NAME=VALUE."},
	{key: "services", kind: ofTexts, at: func(s *settings) any { return &lastWorker(s).Services }, check: checkWorkerService,
		want: "a list of services, such as [\"Greeter\"]: letters, digits and _, beginning with a letter",
		doc:  "The services that the worker may offer; it has none of others."},
	{key: "ready", kind: ofWord, at: func(s *settings) any { return &lastWorker(s).Ready }, words: []string{readyRegister, readyStart},
		doc: "When calls may come: register, once it has called Ipcd.Register, or start, once it runs, for a program that only answers messages."},
	{key: "instances", kind: ofCount, at: func(s *settings) any { return &lastWorker(s).Instances }, min: 1, max: maxInstances,
		doc: "How many processes share the calls."},
	{key: "lazy", kind: ofBool, at: func(s *settings) any { return &lastWorker(s).Lazy },
		doc: "Whether the worker is started by the first call, rather than with the daemon."},
	{key: "idle", kind: ofDuration, at: func(s *settings) any { return &lastWorker(s).Idle }, min: oneTick, max: oneYear,
		doc: "How long a lazy worker stays without a call."},
	{key: "restart", kind: ofWord, at: func(s *settings) any { return &lastWorker(s).Restart }, words: []string{restartAlways, restartOnFailure, restartNever},
		doc: "When it is started again after it has ended: always, on-failure, which is not after exit code 0, or never."},
	{key: "overlap", kind: ofBool, at: func(s *settings) any { return &lastWorker(s).Overlap },
		doc: "Whether a new process may be started before the old one has ended, when the worker is replaced."},
	{key: "start_timeout", kind: ofDuration, at: func(s *settings) any { return &lastWorker(s).StartTimeout }, min: oneTick, max: oneDay,
		doc: "How long it may take to be ready."},
	{key: "stop_timeout", kind: ofDuration, at: func(s *settings) any { return &lastWorker(s).StopTimeout }, min: oneTick, max: oneDay,
		doc: "How long it may take to end, once its channel is closed, and once more after SIGTERM."},
	{key: "health", kind: ofDuration, at: func(s *settings) any { return &lastWorker(s).Health }, max: oneDay,
		doc: "How often the worker is asked Ipcd.Ping; without any answer until the next time it is ended. An error is an answer, too; 0s for never."},
	{key: "max_calls", kind: ofCount, at: func(s *settings) any { return &lastWorker(s).MaxCalls }, min: 1, max: 1_000_000,
		doc: "Calls in flight at one process; more wait."},
	{key: "max_memory", kind: ofSize, at: func(s *settings) any { return &lastWorker(s).MaxMemory }, max: oneTiB,
		doc: "Memory of one process, without those that it starts; one with more is replaced, and one with twice as much ended at once. 0 for no limit; Linux alone."},
	{key: "max_message", kind: ofSize, at: func(s *settings) any { return &lastWorker(s).MaxMessage }, max: oneGiB,
		doc: "The size of one message of the worker; 0 for limits.max_message."},
	{key: "check", kind: ofBool, at: func(s *settings) any { return &lastWorker(s).Check },
		doc: "Whether arguments and results are checked against the schemas that the worker has registered."},
	{key: "needs", kind: ofTexts, at: func(s *settings) any { return &lastWorker(s).Needs }, words: []string{needJIT, needNetwork, needHome},
		doc: "What ipcd install leaves to the service for this worker: jit, network, home."},
	{key: "run_as", kind: ofText, at: func(s *settings) any { return &lastWorker(s).RunAs }, check: checkArgument,
		doc: "The user that the worker runs as, where the daemon may choose that; empty for the daemon's own."},
}

// findRecord returns the record with the key, or nil.
func findRecord(key string) *record {
	for i := range records {
		if records[i].key == key {
			return &records[i]
		}
	}
	return nil
}

// field returns the field of a record with the key, or nil.
func (r *record) field(key string) *setting {
	for i := range r.fields {
		if r.fields[i].key == key {
			return &r.fields[i]
		}
	}
	return nil
}

// place names a record, or a field of it, in origins and for people: worker[1].command.
func (r *record) place(i int, key string) string {
	text := fmt.Sprintf("%s[%d]", r.key, i+1)
	if key != "" {
		text += "." + key
	}
	return text
}

// load sets the field that a key of the file is, or begins the record.
func (r *record) load(st *settings, where string, k tomlKey, values map[string]any, from origins) error {
	name := k.String()
	switch {
	case len(k.path) == 1 && k.array:
		r.begin(st)
		from[r.place(r.count(st)-1, "")] = where
		return nil
	case r.count(st) == 0:
		return usagef("%s: %s: is not in an array of tables; expected [[%s]]", where, name, r.key)
	}
	all, _ := values[r.key].([]any)
	i := r.count(st) - 1
	s := r.field(strings.Join(k.path[1:], "."))
	if s == nil || i >= len(all) {
		f := usagef("%s: %s: unknown key; expected one of %s", where, name, strings.Join(r.keys(), ", "))
		if near := nearest(strings.Join(k.path[1:], "."), r.keys()); near != "" {
			f.Data = faultData{Near: near}.json()
			return f.withHint("did you mean %s?", near)
		}
		return f
	}
	from[r.place(i, s.key)] = where // even if it is refused: then it is not missing
	texts, wrong := s.fromTOML(all[i].(map[string]any)[s.key])
	if wrong == nil {
		wrong = s.set(st, texts)
	}
	if wrong != nil {
		return s.refuse(where+": "+name, wrong)
	}
	return nil
}

func (r *record) keys() (keys []string) {
	for i := range r.fields {
		keys = append(keys, r.fields[i].key)
	}
	return keys
}

// finishWorkers makes the paths absolute, and reports what is missing and what does not fit together.
func finishWorkers(r *record, st *settings, f recordFile) (wrongs []error) {
	dir, err := filepath.Abs(filepath.Dir(f.path))
	if err != nil {
		return []error{usagef("%s: %w", f.path, err)}
	}
	names, services := map[string]int{}, map[string]int{}
	for i := range st.Workers {
		w := &st.Workers[i]
		w.places = map[string]string{}
		for _, key := range append(r.keys(), "") {
			if at, given := f.from[r.place(i, key)]; given {
				w.places[key] = at
			}
		}
		given := func(key string) bool { return w.places[key] != "" }
		refuse := func(key, format string, args ...any) { wrongs = append(wrongs, w.refuse(key, usagef(format, args...))) }
		before, taken := names[w.Name]
		switch {
		case w.Name == "" && !given("name"):
			refuse("name", "is missing; expected a name, such as greeter")
		case w.Name == "":
		case taken:
			refuse("name", "there is a worker %s already, at %s; expected another name", w.Name, st.Workers[before].places["name"])
		default:
			names[w.Name] = i
		}
		for _, s := range w.Services {
			if before, taken := services[s]; taken {
				refuse("services", "%s is offered by %s as well; expected another service, or one worker with more instances", s, cmp.Or(st.Workers[before].Name, "another worker"))
				continue
			}
			services[s] = i
		}
		if w.Ready == readyStart && len(w.Services) == 0 && !given("services") {
			refuse("services", `is missing; expected what a worker that is ready = "start" answers to, such as ["Greeter"]`)
		}
		if !filepath.IsAbs(w.Directory) {
			w.Directory = filepath.Join(dir, w.Directory)
		}
		switch {
		case len(w.Command) == 0 && !given("command"):
			refuse("command", "is missing; expected %s", r.field("command").want)
		case len(w.Command) == 0:
		case w.Command[0] == "":
			refuse("command", "the name of the program is empty; expected %s", r.field("command").want)
			w.Command = nil
		case filepath.Base(w.Command[0]) != w.Command[0] && !filepath.IsAbs(w.Command[0]):
			w.Command = slices.Clone(w.Command)
			w.Command[0] = filepath.Join(dir, w.Command[0])
		}
	}
	return wrongs
}

// readyAtOnce reports whether a process counts as ready as soon as it runs, though it may be one that cannot.
func (w *workerSettings) readyAtOnce() bool { return w.Ready == readyStart || len(w.Services) == 0 }

// refuse returns the error of a field of the worker, with its place in the file.
func (w *workerSettings) refuse(key string, wrong error) error {
	return usagef("%s: worker.%s: %w", cmp.Or(w.places[key], w.places[""]), key, wrong).withHint("%s", hintFor(wrong))
}

// checkWorkerName returns what is wrong with the name of a worker, or nil.
func checkWorkerName(text string) *fault {
	if !isInstanceName(text) {
		return usagef("%q is none", shorten(text, 100))
	}
	return nil
}

// checkEnvironment returns what is wrong with an entry of environment, or nil.
func checkEnvironment(text string) *fault {
	name, _, _ := strings.Cut(text, "=")
	switch {
	case name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return usagef("%q is neither", shorten(text, 100))
	case strings.HasPrefix(strings.ToUpper(name), ownPrefix) || isOneOf(name, ownEnviron) || isOneOf(name, channelVariables):
		return usagef("%s is the daemon's own", name)
	}
	return checkArgument(text)
}

// checkWorkerService returns what is wrong with a name in services, or nil.
func checkWorkerService(text string) *fault {
	switch {
	case !isServiceName(text):
		return usagef("%q is no name of a service", shorten(text, 100))
	case text == ownService:
		return usagef("%s is the daemon's own", ownService)
	}
	return nil
}
