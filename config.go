package main

// This file owns the settings: default < file < environment < flag. One table describes each
// setting once; the file's checks, the names in the environment, the flags, "config show"
// and contrib/config.toml follow from it. cmd_config.go holds the commands.

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings is everything that can be configured.
type settings struct {
	Listen     []string // endpoints to serve; none is the default endpoint
	Endpoint   string   // the endpoint that a client calls; empty is the default
	AllowGroup string   // whose members may call, besides the daemon's user and root; empty is none
	LogLevel   logLevel
	LogFormat  logFormat
	Idle       time.Duration // leave after so long without connections; 0 is never
	Timeout    time.Duration // a client's call; 0 waits for ever
	Limits     limits

	// What is no setting, but decides the defaults of some: see instanceFrom.
	instance instance
	allow    group // AllowGroup, once resolve has looked it up
}

// A reloader keeps something of the settings. prepare looks at others, changes nothing, and returns what puts
// them into force, or why they cannot be: then none of them comes into force anywhere.
type reloader interface {
	prepare(old, now settings) (commit func(), err error)
}

// limits bounds every message, queue, count and wait. A zero is never "no limit".
type limits struct {
	MaxMessage     int           // bytes of one message, framing excluded
	MaxDepth       int           // nesting of a JSON value or a gob type
	MaxBatch       int           // requests in one JSON-RPC batch
	MaxCalls       int           // calls in flight on one connection
	MaxConnections int           // connections of one user
	FirstBytes     time.Duration // from accept to the first bytes
	Message        time.Duration // from the first byte of a message to its last
	Write          time.Duration // one blocked write
	HalfClose      time.Duration // calls of a caller that has shut its sending side
	Drain          time.Duration // calls in flight when the daemon is told to stop
	MaxCall        time.Duration // one call, where the caller sets no deadline itself; 0 leaves it to the caller
}

// defaultLimits are those of docs/protocol.md.
func defaultLimits() limits {
	return limits{
		MaxMessage: 16 << 20, MaxDepth: 64, MaxBatch: 100, MaxCalls: 256, MaxConnections: 1024,
		FirstBytes: 5 * time.Second, Message: 30 * time.Second, Write: 10 * time.Second,
		HalfClose: 2 * time.Second, Drain: 10 * time.Second,
	}
}

// defaultSettings are in force where nobody says otherwise.
func defaultSettings() settings {
	return settings{LogLevel: levelInfo, LogFormat: formatAuto, Timeout: time.Minute, Limits: defaultLimits()}
}

// A settingKind says how a setting is written.
type settingKind int

const (
	ofSize      settingKind = iota // bytes: an integer, or "16MiB"; the field is an int
	ofCount                        // an integer; the field is an int
	ofDuration                     // "5s"; the field is a time.Duration
	ofWord                         // one of words; the field is a string
	ofEndpoint                     // a URL; the field is a string
	ofEndpoints                    // a list of URLs; the field is a []string
	ofGroup                        // a group of users; the field is a string
)

// A setting describes one field of settings.
type setting struct {
	key   string // in the file, and in --set: "limits.max_message"
	kind  settingKind
	at    func(*settings) any // a pointer to the field, of the kind's type
	min   int64
	max   int64
	words []string
	doc   string // one line, for people
}

const (
	oneDay     = int64(24 * time.Hour)
	oneTick    = int64(time.Millisecond) // the shortest wait that means anything between two programs
	oneKiB     = 1 << 10
	oneGiB     = 1 << 30
	oneYear    = 365 * oneDay
	maxCfgFile = 1 << 20 // bytes of a configuration file; a real one has a few thousand
)

// settingTable is every setting, in the order in which people read them.
// Tables of which there may be several, such as [[rule]], will be a table of records beside this one: tomlKeys
// marks them as arrays already, and loadKey is where they come in.
var settingTable = []setting{
	{key: "listen", kind: ofEndpoints, at: func(s *settings) any { return &s.Listen },
		doc: "Endpoints that the daemon serves; an empty list is the default endpoint of the user or the service."},
	{key: "endpoint", kind: ofEndpoint, at: func(s *settings) any { return &s.Endpoint },
		doc: "The endpoint that a client calls; empty looks for the user's own daemon, then for the service."},
	{key: "allow_group", kind: ofGroup, at: func(s *settings) any { return &s.AllowGroup },
		doc: "A group whose members may call too, besides the user that the daemon runs as and root; empty is none."},
	{key: "log_level", kind: ofWord, at: func(s *settings) any { return (*string)(&s.LogLevel) }, words: []string{"debug", "info", "warn", "error"},
		doc: "What is logged: this level and those after it, of debug, info, warn, error."},
	{key: "log_format", kind: ofWord, at: func(s *settings) any { return (*string)(&s.LogFormat) }, words: []string{"auto", "text", "json"},
		doc: "How it is logged: text, json, or auto, which is text on a terminal, fields in the journal of systemd, and JSON otherwise."},
	{key: "idle", kind: ofDuration, at: func(s *settings) any { return &s.Idle }, max: oneYear,
		doc: "The daemon leaves after so long without a connection; 0s is never."},
	{key: "timeout", kind: ofDuration, at: func(s *settings) any { return &s.Timeout }, max: oneYear,
		doc: "How long a client waits for the answer to a call; 0s is for ever."},

	{key: "limits.max_message", kind: ofSize, at: func(s *settings) any { return &s.Limits.MaxMessage }, min: oneKiB, max: oneGiB,
		doc: "Bytes of one message."},
	{key: "limits.max_depth", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxDepth }, min: 1, max: 1000,
		doc: "How deep the values in a message may be nested."},
	{key: "limits.max_batch", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxBatch }, min: 1, max: 100_000,
		doc: "Requests in one JSON-RPC batch."},
	{key: "limits.max_calls", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxCalls }, min: 1, max: 1_000_000,
		doc: "Calls in flight on one connection."},
	{key: "limits.max_connections", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxConnections }, min: 1, max: 1_000_000,
		doc: "Connections of one user."},
	{key: "limits.first_bytes", kind: ofDuration, at: func(s *settings) any { return &s.Limits.FirstBytes }, min: oneTick, max: oneDay,
		doc: "How long a new connection may say nothing."},
	{key: "limits.message", kind: ofDuration, at: func(s *settings) any { return &s.Limits.Message }, min: oneTick, max: oneDay,
		doc: "How long a message that has begun may take to arrive."},
	{key: "limits.write", kind: ofDuration, at: func(s *settings) any { return &s.Limits.Write }, min: oneTick, max: oneDay,
		doc: "How long a peer may leave an answer unread."},
	{key: "limits.half_close", kind: ofDuration, at: func(s *settings) any { return &s.Limits.HalfClose }, min: oneTick, max: oneDay,
		doc: "How long the calls of a caller that has shut its sending side go on."},
	{key: "limits.drain", kind: ofDuration, at: func(s *settings) any { return &s.Limits.Drain }, min: oneTick, max: oneDay,
		doc: "How long calls in flight may go on when the daemon is told to stop."},
	{key: "limits.max_call", kind: ofDuration, at: func(s *settings) any { return &s.Limits.MaxCall }, max: oneYear,
		doc: "How long a call may take whose caller sets no deadline; 0s leaves it to the caller."},
}

// findSetting returns the setting with the key, or nil.
func findSetting(key string) *setting {
	for i := range settingTable {
		if settingTable[i].key == key {
			return &settingTable[i]
		}
	}
	return nil
}

// env is the setting's name in the environment.
func (s *setting) env() string {
	return "IPCD_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// flag is its name on the command line, where a command has a flag of its own for it.
func (s *setting) flag() string { return strings.ReplaceAll(s.key, "_", "-") }

// origins says for each key where its value comes from: "default", "FILE:LINE",
// "environment IPCD_X" or "flag --x".
type origins map[string]string

// A given is a setting on the command line.
type given struct {
	flag   string // "--log-level", "--set"
	key    string
	values []string // more than one for a list
}

// loadSettings merges all sources. The file must exist if it is explicit; an empty name is
// no file. A fault among its errors is the user's: it ends in exit code 2.
func loadSettings(file string, explicit bool, env func(string) (string, bool), flags []given) (settings, origins, error) {
	st, from := defaultSettings(), origins{}
	for i := range settingTable {
		from[settingTable[i].key] = "default"
	}
	if file != "" {
		data, err := readConfig(file, explicit)
		if err == nil {
			err = st.loadFile(file, data, from)
		}
		if err != nil {
			return settings{}, nil, err
		}
	}
	for i := range settingTable {
		s := &settingTable[i]
		text, ok := env(s.env())
		if !ok || text == "" { // set to nothing is how a unit file or a shell takes a variable away
			continue
		}
		if wrong := s.set(&st, s.split(text)); wrong != nil {
			return settings{}, nil, s.refuse(s.env(), wrong)
		}
		from[s.key] = "environment " + s.env()
	}
	for _, g := range flags {
		where := g.flag
		if where == "--set" {
			where += " " + g.key
		}
		s := findSetting(g.key)
		if s == nil {
			return settings{}, nil, unknownKey(where, g.key)
		}
		if wrong := s.set(&st, g.values); wrong != nil {
			return settings{}, nil, s.refuse(where, wrong)
		}
		from[s.key] = "flag " + g.flag
	}
	return st, from, nil
}

// resolve looks up what the settings name and only this system knows.
func (st *settings) resolve(from origins) error {
	st.allow = group{}
	if st.AllowGroup == "" {
		return nil
	}
	g, err := findGroup(st.AllowGroup)
	if wrong := (*fault)(nil); errors.As(err, &wrong) {
		s := findSetting("allow_group")
		return s.refuse(s.place(from[s.key]), wrong)
	}
	st.allow = g
	return err
}

// place says where a setting stands whose value came from origin.
func (s *setting) place(origin string) string {
	if name, ok := strings.CutPrefix(origin, "environment "); ok {
		return name
	}
	if name, ok := strings.CutPrefix(origin, "flag "); !ok {
		return origin + ": " + s.key
	} else if name != "--set" {
		return name
	}
	return "--set " + s.key
}

// parseSet reads the KEY=VALUE of a --set flag.
func parseSet(text string) (given, error) {
	key, value, ok := strings.Cut(text, "=")
	if key = strings.TrimSpace(key); !ok || key == "" {
		return given{}, usagef("--set: %q is no setting; expected KEY=VALUE, such as limits.max_message=64KiB", text)
	}
	g := given{flag: "--set", key: key, values: []string{value}}
	if s := findSetting(key); s != nil {
		g.values = s.split(value)
	}
	return g, nil
}

// split takes a list apart that stands in one text. An endpoint has no spaces: they are
// percent-encoded in a URL.
func (s *setting) split(text string) []string {
	if s.kind == ofEndpoints {
		return strings.Fields(text)
	}
	return []string{text}
}

// set changes the field, or returns what is wrong with the values.
func (s *setting) set(st *settings, values []string) (wrong *fault) {
	if s.kind == ofEndpoints {
		for _, v := range values {
			if wrong = checkEndpoint(v); wrong != nil {
				return wrong
			}
		}
		*s.at(st).(*[]string) = values
		return nil
	}
	if len(values) != 1 {
		return usagef("has %d values", len(values))
	}
	text := values[0]
	switch s.kind {
	case ofSize, ofCount:
		n, wrong := s.number(text)
		if wrong == nil {
			*s.at(st).(*int) = int(n)
		}
		return wrong
	case ofDuration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return usagef("%q is no duration", text)
		}
		if wrong = s.inRange(int64(d), text); wrong == nil {
			*s.at(st).(*time.Duration) = d
		}
		return wrong
	case ofWord:
		if !slices.Contains(s.words, text) {
			return usagef("%q is not one of its values", text)
		}
	case ofEndpoint:
		if text != "" {
			wrong = checkEndpoint(text)
		}
	}
	if wrong == nil {
		*s.at(st).(*string) = text
	}
	return wrong
}

// refuse is the fault for a value that is wrong, with the place where it stands.
func (s *setting) refuse(where string, wrong *fault) error {
	f := usagef("%s: %s; expected %s", where, wrong.Text, s.expected())
	f.hint = wrong.hint
	return f
}

// sizeUnits are those of IEC 80000-13. "MB" and "M" mean two things, so they are none here.
var sizeUnits = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// number reads a size or a count.
func (s *setting) number(text string) (n int64, wrong *fault) {
	digits, unit := text, int64(1)
	if s.kind == ofSize {
		for _, u := range sizeUnits {
			if rest, ok := strings.CutSuffix(text, u.name); ok {
				digits, unit = strings.TrimRight(rest, " "), u.size
				break
			}
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && n < 0:
		return 0, usagef("%s is too small", text)
	case errors.Is(err, strconv.ErrRange), err == nil && n > s.max/unit:
		return 0, usagef("%s is too large", text)
	case err != nil && s.kind == ofSize:
		return 0, usagef("%q is no size", text)
	case err != nil:
		return 0, usagef("%q is no whole number", text)
	case n < 0: // times the unit it might be anything
		return 0, usagef("%s is too small", text)
	}
	return n * unit, s.inRange(n*unit, text)
}

func (s *setting) inRange(n int64, text string) (wrong *fault) {
	switch {
	case n < s.min:
		return usagef("%s is too small", text)
	case n > s.max:
		return usagef("%s is too large", text)
	}
	return nil
}

// checkEndpoint returns what is wrong with an endpoint.
func checkEndpoint(text string) (wrong *fault) {
	if text == "" {
		return usagef("an endpoint is empty")
	}
	_, err := parseEndpoint(text)
	errors.As(err, &wrong)
	return wrong
}

// expected says what would be right.
func (s *setting) expected() string {
	switch s.kind {
	case ofSize:
		return fmt.Sprintf(`a size from %s to %s, such as 65536 or "64KiB"`, formatSize(s.min), formatSize(s.max))
	case ofCount:
		return fmt.Sprintf("a whole number from %d to %d", s.min, s.max)
	case ofDuration:
		return fmt.Sprintf(`a duration from %s to %s, such as "1m30s"`, formatDuration(time.Duration(s.min)), formatDuration(time.Duration(s.max)))
	case ofWord:
		last := len(s.words) - 1
		return strings.Join(s.words[:last], ", ") + " or " + s.words[last]
	case ofEndpoint:
		return fmt.Sprintf(`an endpoint, such as "%s"`, serviceEndpoint(defaultName))
	case ofGroup:
		return "the name of a group of this system, or its number"
	}
	return fmt.Sprintf(`a list of endpoints, such as ["%s"]`, serviceEndpoint(defaultName))
}

// text is the setting's value as set takes it.
func (s *setting) text(st *settings) string {
	switch v := s.at(st).(type) {
	case *int:
		if s.kind == ofSize {
			return formatSize(int64(*v))
		}
		return strconv.Itoa(*v)
	case *time.Duration:
		return formatDuration(*v)
	case *[]string:
		return strings.Join(*v, " ")
	case *string:
		return *v
	}
	panic("setting " + s.key + " has a field of no known type")
}

// formatSize writes n with the largest unit that leaves it whole.
func formatSize(n int64) string {
	for _, u := range sizeUnits {
		if n >= u.size && n%u.size == 0 && u.size > 1 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// formatDuration writes 15m where Go writes 15m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// unknownKey is the fault for a key that is none, with the nearest one as the hint.
func unknownKey(where, key string) error {
	f := usagef(`%s: unknown key; expected one that "ipcd config show" lists`, where)
	if near := nearestKey(key); near != "" {
		f.Data = &faultData{Near: near}
		return f.withHint("did you mean %s?", near)
	}
	return f
}

// nearestKey finds the key or the table that was meant: by its letters, or by its last part
// where it stands in the wrong table.
func nearestKey(key string) string {
	names := map[string]bool{}
	last := map[string]string{}
	for _, s := range settingTable {
		names[s.key] = true
		if table, name, ok := strings.Cut(s.key, "."); ok {
			names[table] = true
			last[name] = s.key
		} else {
			last[s.key] = s.key
		}
	}
	if near := nearest(strings.ReplaceAll(key, "-", "_"), slices.Sorted(maps.Keys(names))); near != "" {
		return near
	}
	return last[nearest(key[strings.LastIndexByte(key, '.')+1:], slices.Sorted(maps.Keys(last)))]
}
