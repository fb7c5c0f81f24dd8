package main

// This file owns the settings. Each source overrides the ones before it: default, file, environment, flag.
// settingTable describes every setting once; the checks, the names in the environment, the flags
// and "config show" all follow from it, and a test compares it with contrib/config.toml.

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

// settings is everything that can be configured.
type settings struct {
	Listen     []string // endpoints to serve; empty for the default endpoint
	Endpoint   string   // the endpoint that a client calls; empty for the default
	AllowGroup string   // whose members may call, besides the daemon's user and root; empty for none
	LogLevel   logLevel
	LogFormat  logFormat
	Audit      auditMode
	AuditFile  string        // where the audit log is; empty for the daemon's log
	Idle       time.Duration // stop after this long without connections; 0 for never
	Timeout    time.Duration // of a client's call; 0 for none
	TokenFile  string        // has the token that a client shows; empty for none
	TLS        tlsSettings
	Limits     limits

	Workers []workerSettings // see config_record.go
	Topics  []topicSettings
	Rules   []ruleSettings
	Quotas  []quotaSettings

	// These cannot be configured.
	instance  instance // decides some defaults; see instanceFrom
	file      string   // that they were read from, absolute; empty if there is none
	named     bool     // --config has named the file
	token     string   // of the environment; see clientToken
	fileFirst bool     // TokenFile was named on the command line
	stays     bool     // the command line says that the daemon stays for ever; see launch
	insecure  bool     // --insecure-network: endpoints may be open to other machines without TLS
	policy    policy   // of AllowGroup and Rules, once resolve has looked them up
	quotas    []quota  // of Quotas, likewise
}

// tlsSettings are the files of PEM that TLS needs. Empty is for none.
type tlsSettings struct {
	Cert       string // the daemon's, with those between it and its authority
	Key        string // of Cert
	ClientCA   string // the authorities of the certificates that the daemon takes for callers
	CA         string // the authorities that a client trusts, besides the system's
	ClientCert string // that a client shows
	ClientKey  string // of ClientCert
}

// A reloader holds a copy of some settings. prepare checks new ones without changing anything, and returns the
// function that puts them into force. If any reloader returns an error, no commit is called.
type reloader interface {
	prepare(old, now settings) (commit func(), err error)
}

// limits bounds every message, queue, count and wait. Except in MaxCall, zero does not mean "no limit".
type limits struct {
	MaxMessage         int           // bytes of one message, framing excluded
	MaxDepth           int           // nesting of a JSON value or a gob type
	MaxBatch           int           // requests in one JSON-RPC batch
	MaxCalls           int           // calls in flight on one connection
	MaxConnections     int           // connections of one user
	MaxUnauthenticated int           // connections that have shown no token where one is needed
	MaxMethods         int           // methods that one provider offers
	MaxRegistration    int           // bytes of one registration
	UserMethods        int           // methods that the connections of one user offer
	MaxHops            int           // providers that one call passes
	MaxWaiting         int           // calls that wait for the providers of one method to have room
	UserCalls          int           // of one user that run in the daemon, and are not quick
	Calls              int           // of all users, likewise
	MaxSubscriptions   int           // of one user
	MaxKept            int           // bytes of the events that are kept of one [[topic]]
	MaxMetered         int           // methods that are counted by name
	AuditSize          int           // bytes of AuditFile before it is rotated
	AuditFiles         int           // rotated files that are kept
	UserMemory         int           // bytes that the connections of one user may hold
	Memory             int           // bytes that the connections of all users may hold
	ProcessMemory      int           // bytes that the daemon may take of the system; 0 for what that leaves it
	StreamWindow       int           // bytes of parts on their way to one call that have not been acknowledged
	FirstBytes         time.Duration // from accept to the first bytes
	Message            time.Duration // from the first byte of a message to its last
	Write              time.Duration // one blocked write
	UnknownIdle        time.Duration // a connection of a user whom nobody knows, without a call
	StreamIdle         time.Duration // one blocked write, and acknowledgement, while parts alone wait for it
	HalfClose          time.Duration // calls of a caller that has closed its sending side
	Drain              time.Duration // calls in flight once the daemon is told to stop
	MaxCall            time.Duration // a call whose caller sets no deadline; 0 for no limit
}

// defaultLimits returns the limits that docs/protocol.md documents.
func defaultLimits() limits {
	return limits{
		MaxMessage: 16 << 20, MaxDepth: 64, MaxBatch: 100, MaxCalls: 256, MaxConnections: 1024, MaxUnauthenticated: 64, MaxMethods: 1000, MaxRegistration: 1 << 20, UserMethods: 10_000, MaxHops: 16, MaxWaiting: 1024, UserCalls: 1024, Calls: 4096, MaxSubscriptions: 1024, MaxKept: 16 << 20, MaxMetered: 1000, AuditSize: 16 << 20, AuditFiles: 4, UserMemory: 64 << 20, Memory: 256 << 20, StreamWindow: 1 << 20,
		FirstBytes: 5 * time.Second, Message: 30 * time.Second, Write: 10 * time.Second, UnknownIdle: 10 * time.Minute, StreamIdle: 5 * time.Minute,
		HalfClose: 2 * time.Second, Drain: 10 * time.Second,
	}
}

// defaultSettings returns the settings before any source is read.
func defaultSettings() settings {
	return settings{LogLevel: levelInfo, LogFormat: formatAuto, Audit: auditDenied, Timeout: time.Minute, Limits: defaultLimits()}
}

// A settingKind is the syntax of a setting and the type of its field.
type settingKind int

const (
	ofSize      settingKind = iota // bytes: an integer, or "16MiB"; the field is an int
	ofCount                        // an integer; the field is an int
	ofDuration                     // "5s"; the field is a time.Duration
	ofWord                         // one of words; the field is a string
	ofEndpoint                     // a URL; the field is a string
	ofEndpoints                    // a list of URLs; the field is a []string
	ofGroup                        // a group of users; the field is a string
	ofBool                         // true or false; the field is a bool
	ofText                         // what check takes; the field is a string
	ofTexts                        // a list of such; the field is a []string
	ofFile                         // a file, in the configuration relative to its directory; the field is a string
)

// isList reports whether a setting of this kind is a list of texts.
func (k settingKind) isList() bool { return k == ofEndpoints || k == ofTexts }

// A setting describes one field of settings.
type setting struct {
	key   string // in the file, and in --set: "limits.max_message"
	kind  settingKind
	at    func(*settings) any // a pointer to the field, of the kind's type
	min   int64
	max   int64
	words []string
	check func(text string) *fault // of each text, unless there are words; may be nil
	want  string                   // what check takes, for people
	doc   string                   // one line
}

const (
	oneDay     = int64(24 * time.Hour)
	oneTick    = int64(time.Millisecond) // the shortest useful wait between two programs
	oneKiB     = 1 << 10
	oneMiB     = 1 << 20
	oneGiB     = 1 << 30
	oneTiB     = 1 << 40
	oneYear    = 365 * oneDay
	maxCfgFile = 1 << 20 // bytes of a configuration file; a real one has a few thousand
)

// settingTable lists every setting, in the order in which people read them. Those of tables that may be there any number
// of times are in config_record.go.
var settingTable = []setting{
	{key: "listen", kind: ofEndpoints, at: func(s *settings) any { return &s.Listen },
		doc: "The endpoints that the daemon serves; an empty list means the default endpoint of the user or the service."},
	{key: "endpoint", kind: ofEndpoint, at: func(s *settings) any { return &s.Endpoint },
		doc: "The endpoint that a client calls; if it is empty, the user's own daemon (at an endpoint of listen, or the default), or else the service."},
	{key: "allow_group", kind: ofGroup, at: func(s *settings) any { return &s.AllowGroup },
		doc: "A group whose members may call, besides the user that the daemon runs as and root (on Windows SYSTEM); empty for none."},
	{key: "log_level", kind: ofWord, at: func(s *settings) any { return (*string)(&s.LogLevel) }, words: []string{"debug", "info", "warn", "error"},
		doc: "The lowest level that is logged: debug, info, warn or error."},
	{key: "log_format", kind: ofWord, at: func(s *settings) any { return (*string)(&s.LogFormat) }, words: []string{"auto", "text", "json"},
		doc: "The format of the log: text, json, or auto, which is text on a terminal, fields in systemd's journal, and JSON elsewhere."},
	{key: "audit", kind: ofWord, at: func(s *settings) any { return (*string)(&s.Audit) }, words: []string{"off", "denied", "all"},
		doc: "What the audit log has: nothing (off), what callers were denied, or all that they do."},
	{key: "audit_file", kind: ofText, at: func(s *settings) any { return &s.AuditFile }, check: checkAuditFile, want: "an absolute path",
		doc: "The file of the audit log, which is rotated; empty for the daemon's own log."},
	{key: "idle", kind: ofDuration, at: func(s *settings) any { return &s.Idle }, max: oneYear,
		doc: "How long the daemon stays without a connection; 0s for ever."},
	{key: "timeout", kind: ofDuration, at: func(s *settings) any { return &s.Timeout }, max: oneYear,
		doc: "How long a client waits for the answer to a call; 0s for ever."},
	{key: "token_file", kind: ofText, at: func(s *settings) any { return &s.TokenFile }, check: checkTokenFile, want: "the absolute path of a file that has a token and nothing else",
		doc: "The file with the token that a client shows over TLS, or within this machine over TCP and HTTP; IPCD_TOKEN has one in place of that."},

	{key: "tls.cert", kind: ofFile, at: func(s *settings) any { return &s.TLS.Cert },
		doc: "The certificate of the daemon for tls:// and https://, in PEM, with those between it and its authority; \"ipcd tls init\" makes one."},
	{key: "tls.key", kind: ofFile, at: func(s *settings) any { return &s.TLS.Key },
		doc: "The key of that certificate, in PEM, which nobody else may read."},
	{key: "tls.client_ca", kind: ofFile, at: func(s *settings) any { return &s.TLS.ClientCA },
		doc: "The authorities whose certificates make callers cert:NAME, for a [[rule]] to let in; empty for none."},
	{key: "tls.ca", kind: ofFile, at: func(s *settings) any { return &s.TLS.CA },
		doc: "The authorities that a client takes certificates of daemons from, besides those of the system."},
	{key: "tls.client_cert", kind: ofFile, at: func(s *settings) any { return &s.TLS.ClientCert },
		doc: "The certificate by which a client proves who it is."},
	{key: "tls.client_key", kind: ofFile, at: func(s *settings) any { return &s.TLS.ClientKey },
		doc: "The key of that certificate, which nobody else may read."},

	{key: "limits.max_message", kind: ofSize, at: func(s *settings) any { return &s.Limits.MaxMessage }, min: oneKiB, max: oneGiB,
		doc: "The size of one message."},
	{key: "limits.max_depth", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxDepth }, min: 1, max: 1000,
		doc: "How deeply the values in a message may be nested."},
	{key: "limits.max_batch", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxBatch }, min: 1, max: 100_000,
		doc: "Requests in one JSON-RPC batch."},
	{key: "limits.max_calls", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxCalls }, min: 1, max: 1_000_000,
		doc: "Calls in flight on one connection."},
	{key: "limits.max_connections", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxConnections }, min: 1, max: 1_000_000,
		doc: "Connections of one user."},
	{key: "limits.max_unauthenticated", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxUnauthenticated }, min: 1, max: 1_000_000,
		doc: "Connections over TCP and HTTP, with TLS or without, of all users, that have to show a token and have not yet."},
	{key: "limits.max_methods", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxMethods }, min: 1, max: 1_000_000,
		doc: "Methods that one provider may offer."},
	{key: "limits.max_registration", kind: ofSize, at: func(s *settings) any { return &s.Limits.MaxRegistration }, min: oneKiB, max: oneGiB,
		doc: "The size of one registration, with all that it says of its methods."},
	{key: "limits.user_methods", kind: ofCount, at: func(s *settings) any { return &s.Limits.UserMethods }, min: 1, max: 1_000_000,
		doc: "Methods that one user may offer, each counted once for every connection that does."},
	{key: "limits.max_hops", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxHops }, min: 1, max: 1000,
		doc: "Providers that one call may pass, on its way from one to the next."},
	{key: "limits.max_waiting", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxWaiting }, min: 1, max: 1_000_000,
		doc: "Calls that may wait for the providers of one method, while those have as many as they take."},
	{key: "limits.user_calls", kind: ofCount, at: func(s *settings) any { return &s.Limits.UserCalls }, min: 1, max: 1_000_000,
		doc: "Calls of one user that methods of the daemon itself work on at the same time, save those that take less than a millisecond."},
	{key: "limits.calls", kind: ofCount, at: func(s *settings) any { return &s.Limits.Calls }, min: 1, max: 1_000_000,
		doc: "The same of all users together."},
	{key: "limits.max_subscriptions", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxSubscriptions }, min: 1, max: 1_000_000,
		doc: "Topics that one user has subscribed to, wherever and however often."},
	{key: "limits.max_kept", kind: ofSize, at: func(s *settings) any { return &s.Limits.MaxKept }, min: oneKiB, max: oneGiB,
		doc: "The events that are kept of one [[topic]], for those who ask for them later."},
	{key: "limits.max_metered", kind: ofCount, at: func(s *settings) any { return &s.Limits.MaxMetered }, min: 1, max: 5000,
		doc: "Methods whose calls are counted by name, in the order of their first calls; all others count as one."},
	{key: "limits.audit_size", kind: ofSize, at: func(s *settings) any { return &s.Limits.AuditSize }, min: oneKiB, max: oneTiB,
		doc: "How large audit_file grows before it is renamed, and a new one begins."},
	{key: "limits.audit_files", kind: ofCount, at: func(s *settings) any { return &s.Limits.AuditFiles }, max: 1000,
		doc: "Renamed files of the audit log that are kept: audit_file.1, the newest, and so on."},
	{key: "limits.user_memory", kind: ofSize, at: func(s *settings) any { return &s.Limits.UserMemory }, min: oneMiB, max: oneTiB,
		doc: "What the connections of one user may hold of messages that arrive, and of answers and events that wait to be read."},
	{key: "limits.memory", kind: ofSize, at: func(s *settings) any { return &s.Limits.Memory }, min: oneMiB, max: oneTiB,
		doc: "What the connections of all users together may hold."},
	{key: "limits.process_memory", kind: ofSize, at: func(s *settings) any { return &s.Limits.ProcessMemory }, max: oneTiB,
		doc: "What the daemon itself may take of memory; near it calls are refused. 0 is what the system sets: MemoryMax= of the unit, or that of a container."},
	{key: "limits.stream_window", kind: ofSize, at: func(s *settings) any { return &s.Limits.StreamWindow }, min: oneKiB, max: oneGiB,
		doc: "Parts of one answer that may be on their way before their reader has acknowledged them, and events that may wait for one subscriber."},
	{key: "limits.first_bytes", kind: ofDuration, at: func(s *settings) any { return &s.Limits.FirstBytes }, min: oneTick, max: oneDay,
		doc: "How long a new connection may stay silent, and may take to show a token where one is needed."},
	{key: "limits.message", kind: ofDuration, at: func(s *settings) any { return &s.Limits.Message }, min: oneTick, max: oneDay,
		doc: "How long a message may take to arrive once it has begun."},
	{key: "limits.write", kind: ofDuration, at: func(s *settings) any { return &s.Limits.Write }, min: oneTick, max: oneDay,
		doc: "How long a peer may leave an answer unread."},
	{key: "limits.unknown_idle", kind: ofDuration, at: func(s *settings) any { return &s.Limits.UnknownIdle }, min: oneTick, max: oneYear,
		doc: "How long a connection over TCP may be without a call where nobody says who the peer is; close to max_connections they make room for each other before."},
	{key: "limits.stream_idle", kind: ofDuration, at: func(s *settings) any { return &s.Limits.StreamIdle }, min: oneTick, max: oneDay,
		doc: "How long a peer may leave the parts of an answer, or events, unread."},
	{key: "limits.half_close", kind: ofDuration, at: func(s *settings) any { return &s.Limits.HalfClose }, min: oneTick, max: oneDay,
		doc: "How long calls may go on once their caller has closed its sending side."},
	{key: "limits.drain", kind: ofDuration, at: func(s *settings) any { return &s.Limits.Drain }, min: oneTick, max: oneDay,
		doc: "How long calls in flight may go on once the daemon is told to stop."},
	{key: "limits.max_call", kind: ofDuration, at: func(s *settings) any { return &s.Limits.MaxCall }, max: oneYear,
		doc: "How long a call may take if its caller sets no deadline; 0s for no limit."},
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

// env returns the setting's name in the environment.
func (s *setting) env() string {
	return ownPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// flag returns the name of the setting's own flag, which not every command has.
func (s *setting) flag() string { return strings.ReplaceAll(s.key, "_", "-") }

// origins maps each key to where its value comes from: "default", "FILE:LINE",
// "environment IPCD_X" or "flag --x".
type origins map[string]string

// A given is a setting that was set on the command line.
type given struct {
	flag   string // "--log-level", "--set"
	key    string
	values []string // more than one for a list
}

// configVariable is the variable that names the configuration file for a whole shell.
const configVariable = ownPrefix + "CONFIG"

// loadSettings merges all sources, and reports all that is wrong with them. An empty file name stands for no file; the file must exist if it is
// explicit. An error that is a fault was made by the user and leads to exit code 2.
func loadSettings(file string, explicit bool, env func(string) (string, bool), flags []given) (settings, origins, error) {
	st, from := defaultSettings(), origins{}
	var wrongs []error
	for i := range settingTable {
		from[settingTable[i].key] = "default"
	}
	if file != "" {
		data, err := readConfig(file, explicit)
		if err == nil {
			err = st.loadFile(file, data, from)
		}
		wrongs = append(wrongs, err)
	}
	for i := range settingTable {
		s := &settingTable[i]
		text, ok := env(s.env())
		if !ok || text == "" { // unit files and shells unset a variable by leaving it empty
			continue
		}
		if wrong := s.set(&st, s.split(text)); wrong != nil {
			wrongs = append(wrongs, s.refuse(s.env(), wrong))
			continue
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
			wrongs = append(wrongs, unknownKey(where, g.key))
			continue
		}
		if wrong := s.set(&st, g.values); wrong != nil {
			wrongs = append(wrongs, s.refuse(where, wrong))
			continue
		}
		from[s.key] = "flag " + g.flag
	}
	st.token, _ = env(tokenVariable)
	st.stays = st.Idle == 0 && strings.HasPrefix(from["idle"], "flag ")
	st.fileFirst = strings.HasPrefix(from["token_file"], "flag ")
	return st, from, gather(wrongs...)
}

// misspelt returns an error for each variable of the environment that has almost the name of one of ours. All others
// that begin with IPCD_ are left alone: programs around ipcd have their own.
func misspelt(environ []string, env func(string) (string, bool)) error {
	names := []string{configVariable, tokenVariable}
	for i := range settingTable {
		names = append(names, settingTable[i].env())
	}
	var wrongs []error
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if value == "" || !strings.HasPrefix(name, ownPrefix) || slices.Contains(names, name) {
			continue
		}
		near := nearest(name, names)
		if same, _ := env(near); near == "" || same == value { // on Windows the case of a name does not matter
			continue
		}
		f := usagef("%s: unknown variable; expected that of a setting, which \"ipcd config show\" lists", name)
		f.Data = faultData{Near: near}.json()
		wrongs = append(wrongs, f.withHint("did you mean %s?", near))
	}
	return gather(wrongs...)
}

// clientEndpoint returns the endpoint that a client calls. If none is named, it is that of the user's own daemon: where
// these settings have it listen, or else the default. Of several it is a local one, if there is one, since the kernel
// says who is there.
func (st *settings) clientEndpoint() (endpoint, error) {
	if st.Endpoint != "" {
		return parseEndpoint(st.Endpoint)
	}
	var own endpoint
	for _, text := range st.Listen {
		e, err := parseEndpoint(text)
		if err != nil {
			return endpoint{}, err
		}
		if own.Scheme == "" && !strings.HasSuffix(e.Host, ":0") || e.isLocal() && !own.isLocal() {
			own = e
		}
	}
	if own.Scheme == "" {
		return defaultEndpoint()
	}
	return own.called(), nil
}

// resolve looks up the names in the settings that only this system knows: those of the group, and of the people in rules.
func (st *settings) resolve(from origins) (err error) {
	var allow group
	if st.AllowGroup != "" {
		allow, err = findGroup(st.AllowGroup)
	}
	if wrong := (*fault)(nil); errors.As(err, &wrong) {
		s := findSetting("allow_group")
		return s.refuse(s.place(from[s.key]), wrong)
	}
	if err == nil {
		st.policy, err = st.policyOf(allow)
	}
	if err == nil {
		st.quotas, err = st.quotasOf()
	}
	return err
}

// place returns where the user has set s, for an error message; origin is where its value came from.
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
		return given{}, usagef("--set: %q is not a setting; expected KEY=VALUE, such as limits.max_message=64KiB", text)
	}
	g := given{flag: "--set", key: key, values: []string{value}}
	if s := findSetting(key); s != nil {
		g.values = s.split(value)
	}
	return g, nil
}

// unknownKey returns the error for an unknown key. Its hint is the nearest key that exists.
func unknownKey(where, key string) error {
	f := usagef(`%s: unknown key; expected one that "ipcd config show" lists`, where)
	if near := nearestKey(key); near != "" {
		f.Data = faultData{Near: near}.json()
		return f.withHint("did you mean %s?", near)
	}
	return f
}

// nearestKey guesses which key or table was meant: by its spelling, or by its last part if it is
// in the wrong table.
func nearestKey(key string) string {
	names := map[string]bool{}
	last := map[string]string{}
	for _, r := range records {
		names[r.key] = true
	}
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
