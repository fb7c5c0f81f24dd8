package main

// This file owns what goes wrong: the one error type that crosses a connection, its
// stable codes, the hints that are printed below a complaint and the exit codes.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// The codes of faults. A code never changes its meaning; docs/protocol.md lists them. Those from
// -32768 to -32600 are JSON-RPC 2.0's own (section 5.1), -32800 is LSP's RequestCancelled.
const (
	codeParse         = -32700 // not JSON, not UTF-8, or the same member twice
	codeInvalid       = -32600 // JSON, but not a request
	codeNoMethod      = -32601
	codeBadArgument   = -32602
	codeInternal      = -32603 // a bug: the method panicked, or its result has no encoding
	codeApplication   = -32000 // the method itself returned an error
	codeTooLarge      = -32001 // a limit that the same message will always exceed
	codeBusy          = -32002 // a limit that is reached only for a time: try again
	codeShuttingDown  = -32003 // not started; another daemon may take the call
	codeDeadline      = -32004
	codeDenied        = -32005
	codeGone          = -32006 // the provider has gone; without retry nobody knows whether the call was done
	codeHops          = -32007 // the call has passed too many providers, perhaps in a circle
	codeUnproven      = -32008 // the caller has not shown a token that counts
	codeCancelled     = -32800
	codeNotReachable  = -32010 // only in the client: no daemon answered
	codeConnection    = -32011 // only in the client: the connection ended while a call was waiting
	codeWrongProtocol = -32012 // only in the client: what answered is not ipcd
	codeUsage         = -32013 // only on the command line: exit code 2
)

// Exit codes of every command, except that "ipcd fork" passes on the one of its child.
const (
	exitDone   = 0
	exitFailed = 1 // the call or the daemon failed
	exitUsage  = 2 // bad usage or configuration; a service manager must not retry it
	exitNobody = 3 // no daemon reached
	exitForced = 4 // stopped by force: a second signal, or the drain limit

	exitNoService = 4 // only of status, like systemctl: there is no such service
)

// A Diagnosis is what "ipcd doctor" says of one thing.
type Diagnosis struct {
	Check string       `json:"check"`
	State findingState `json:"state"`
	Text  string       `json:"text"`           // what was found
	Hint  string       `json:"hint,omitempty"` // what to do about it
}

// A findingState is how bad it is.
type findingState string

const (
	findingOK      findingState = "ok"
	findingWarning findingState = "warning" // it works, and will not for ever or for everybody
	findingError   findingState = "error"
)

// A fault is the only error that crosses a connection. Its code is stable and documented
// in docs/protocol.md; its text may change in any release.
type fault struct {
	Code int             `json:"code"`
	Text string          `json:"message"`
	Data json.RawMessage `json:"data,omitempty"` // whatever its maker says; ours is a faultData
	hint string          // what to do next; for the command line, never sent
	err  error           // what caused it, for errors.Is; never sent
}

// faultData is what a program may want to know about a fault of ours.
type faultData struct {
	Limit   string `json:"limit,omitempty"`   // the configuration key of the limit that was reached
	Max     int64  `json:"max,omitempty"`     // its value: bytes, a count, or the milliseconds of a wait
	Retry   bool   `json:"retry,omitempty"`   // the call was not started and may be sent again
	Near    string `json:"near,omitempty"`    // the nearest existing name
	Field   string `json:"field,omitempty"`   // which part of the argument
	Pointer string `json:"pointer,omitempty"` // which part of what does not fit its schema, as a JSON Pointer; missing for the whole
	Worker  string `json:"worker,omitempty"`  // which one would have answered
	State   string `json:"state,omitempty"`   // of that worker, as in its status
}

// json is d as the Data of a fault.
func (d faultData) json() json.RawMessage {
	b, err := json.Marshal(d)
	if err != nil {
		panic(err) // texts, numbers and booleans have a form
	}
	return b
}

// data reads what ipcd says with a fault. Where somebody else made the fault it may be anything, and what
// is not there is zero. The names are looked up, since encoding/json would take them in any case.
func (f *fault) data() (d faultData) {
	var said map[string]json.RawMessage
	if len(f.Data) == 0 || json.Unmarshal(f.Data, &said) != nil {
		return faultData{}
	}
	for name, member := range map[string]any{"limit": &d.Limit, "max": &d.Max, "retry": &d.Retry, "near": &d.Near, "field": &d.Field, "pointer": &d.Pointer, "worker": &d.Worker, "state": &d.State} {
		if text, ok := said[name]; ok && json.Unmarshal(text, member) != nil {
			return faultData{}
		}
	}
	return d
}

func (f *fault) Error() string { return f.Text }
func (f *fault) Unwrap() error { return f.err }

// isOwn reports whether the code is one of a service's own, by which a program tells its errors apart.
func (f *fault) isOwn() bool {
	return f.Code != 0 && f.Code != codeCancelled && (f.Code < -32768 || f.Code > -32000)
}

// Is matches on the code, so a fault decoded from the wire equals its sentinel.
func (f *fault) Is(target error) bool {
	t, ok := target.(*fault)
	return ok && t.Code == f.Code
}

var (
	errShuttingDown = &fault{Code: codeShuttingDown, Text: "the daemon is shutting down; the call was not begun and may be retried", Data: faultData{Retry: true}.json()}
	errCutShort     = &fault{Code: codeShuttingDown, Text: "the daemon stopped while the call ran; whether it was done is not known"}
	errLeaving      = &fault{Code: codeShuttingDown, Text: "the daemon is shutting down, and this ends with it; call again", Data: faultData{Retry: true}.json()}
	errCancelled    = &fault{Code: codeCancelled, Text: "the call was cancelled"}
	errDeadline     = &fault{Code: codeDeadline, Text: "the deadline of the call has passed"}
	errInternal     = &fault{Code: codeInternal, Text: "internal error; the daemon's log has the details"}
	errDenied       = &fault{Code: codeDenied, Text: "access denied"}
	errUnproven     = &fault{Code: codeUnproven, Text: "a token is needed here: call Ipcd.Authenticate with it first, or over HTTP send it as Authorization: Bearer"}
	errNoCert       = &fault{Code: codeUnproven, Text: "there was no certificate, and so a token is needed here: call Ipcd.Authenticate with it first, or over HTTP send it as Authorization: Bearer"}
	errWantsTLS     = &fault{Code: codeDenied, Text: "access denied: this endpoint speaks TLS; begin with a handshake, as tls:// and https:// do"}
	errForced       = errors.New("stopped by force")
	errNoService    = errors.New("")                        // from the service manager: there is no service of that name
	errOwnLimit     = errors.New("a limit of this program") // and not of the other end, whose fault came over the wire
)

// faultf returns a fault whose text is formatted; %w keeps the cause.
func faultf(code int, format string, args ...any) *fault {
	err := fmt.Errorf(format, args...)
	return &fault{Code: code, Text: err.Error(), err: errors.Unwrap(err)}
}

// codeOnWire returns code, which came from the other end, as it may be used here. The codes that only the
// client uses mean nothing on the wire, and must not decide the exit code of a command.
func codeOnWire(code int) int {
	if code <= codeNotReachable && code >= codeUsage {
		return codeApplication
	}
	return code
}

// passedOn is a fault of a provider as its caller sees it. A code that means something of this daemon's
// would say so of the wrong program: one that it has made up must not have a call sent twice.
func (f *fault) passedOn() *fault {
	c := *f
	if f.Code <= -32001 && f.Code >= -32019 {
		c.Code = codeApplication
	}
	return &c
}

// goneFault is the fault for a call whose provider is not there any more. With retry the call was not begun.
func goneFault(what string, retry bool) *fault {
	f := &fault{Code: codeGone, Text: what}
	if retry {
		f.Data = faultData{Retry: true}.json()
	}
	return f
}

// tooFar returns the fault of a call that has passed too many providers.
func tooFar(method string, most int) *fault {
	return &fault{Code: codeHops, Text: fmt.Sprintf("the call of %s has passed %d providers, perhaps in a circle (limit max_hops = %d)", shorten(method, 100), most, most),
		Data: faultData{Limit: "max_hops", Max: int64(most)}.json()}
}

// tooLarge returns the fault of a message that exceeds a limit and always will.
func tooLarge(limit string, max int64, what string) *fault {
	return &fault{Code: codeTooLarge, Text: fmt.Sprintf("%s (limit %s = %d)", what, limit, max), Data: faultData{Limit: limit, Max: max}.json(), err: errOwnLimit}
}

// busy returns the fault of a limit that is reached only for a time.
func busy(limit string, max int64, what string) *fault {
	return &fault{Code: codeBusy, Text: fmt.Sprintf("%s (limit %s = %d)", what, limit, max), Data: faultData{Limit: limit, Max: max, Retry: true}.json()}
}

// withHint returns a copy of f with a hint about what to do next.
func (f *fault) withHint(format string, args ...any) *fault {
	c := *f
	c.hint = fmt.Sprintf(format, args...)
	return &c
}

// usagef returns the fault of bad usage or configuration: exit code 2.
func usagef(format string, args ...any) *fault { return faultf(codeUsage, format, args...) }

// asUsage returns err as bad usage or configuration, with its hint and what became of it.
func asUsage(err error, format string, args ...any) *fault {
	f := usagef("%w; "+format, append([]any{err}, args...)...)
	f.hint = hintFor(err)
	return f
}

// asFault turns any error of ours into one that may go over the wire. Context errors have their own codes, because
// callers act on them.
func asFault(err error) *fault {
	var f *fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.DeadlineExceeded):
		return errDeadline
	case errors.Is(err, context.Canceled):
		return errCancelled
	}
	return &fault{Code: codeApplication, Text: err.Error(), err: err}
}

// A programEnd is the error of a program that we ran for somebody, whose exit code is passed on.
type programEnd struct {
	code int
	text string
}

func (e *programEnd) Error() string { return e.text }

// exitCode returns the exit code of a command that returned err.
func exitCode(err error) int {
	var f *fault
	var end *programEnd
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &end):
		return end.code
	case errors.Is(err, errForced):
		return exitForced
	case errors.Is(err, errNoService):
		return exitNoService
	case errors.As(err, &f) && (f.Code == codeUsage || f.Code == codeBadArgument): // whoever finds out that it is wrong
		return exitUsage
	case errors.As(err, &f) && f.Code == codeNotReachable:
		return exitNobody
	}
	return exitFailed
}

// problems are several errors of which none caused another, such as the mistakes in a configuration.
type problems []error

// gather returns the errors that are not nil, as one.
func gather(errs ...error) error {
	var all problems
	for _, err := range errs {
		if more, ok := err.(problems); ok {
			all = append(all, more...)
		} else if err != nil {
			all = append(all, err)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

func (p problems) Error() string {
	texts := make([]string, len(p))
	for i, err := range p {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap is for errors.Is and errors.As, which look at the first one first.
func (p problems) Unwrap() []error { return p }

// tokenVariable is the variable of the environment that has the token of a client. It is no setting: "ipcd config show" shows those.
const tokenVariable = "IPCD_TOKEN"

// complain prints the last word of a command: the error, and below it what can be typed.
func complain(w io.Writer, err error) { complainAs(w, "error", err) }

// complainAs is complain for what is an error, or a warning.
func complainAs(w io.Writer, kind string, err error) {
	if err == nil {
		return
	}
	if all, ok := err.(problems); ok {
		for _, err := range all {
			complainAs(w, kind, err)
		}
		return
	}
	text := oneLine(err.Error())
	if f := (*fault)(nil); errors.As(err, &f) && f.isOwn() {
		text += fmt.Sprintf(" (code %d)", f.Code)
	}
	fmt.Fprintf(w, "ipcd: %s: %s\n", kind, text)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(w, "ipcd: hint: %s\n", oneLine(hint))
	}
}

// hintFor returns what can be typed next. A fault from the wire has no hint; its code determines one.
func hintFor(err error) string {
	var f *fault
	if !errors.As(err, &f) {
		return ""
	}
	if f.hint != "" {
		return f.hint
	}
	switch f.Code {
	case codeShuttingDown:
		if !f.data().Retry { // it may have been done, and over gob the text alone says so
			return ""
		}
		fallthrough
	case codeBusy:
		if d := f.data(); d.Limit != "" && !d.Retry { // it has been done
			return ""
		}
		return "try again; --wait 5s does it for you while a daemon comes up"
	case codeTooLarge:
		switch limit := f.data().Limit; {
		case limit == "": // over gob, which carries no data
			return "send or ask for less, or raise that limit in the daemon's configuration"
		case errors.Is(f, errOwnLimit):
			return fmt.Sprintf("raise the client's own limit: --set limits.%s=...", limit)
		default:
			return fmt.Sprintf("send or ask for less, or raise limits.%s in the daemon's configuration", limit)
		}
	case codeDenied:
		if f.Text == errWantsTLS.Text {
			return "name it with tls:// or https:// in place of tcp:// or http://"
		}
		if f.Text != errDenied.Text { // of a caller who is let in, and was told who may
			return ""
		}
		return "the daemon serves its own user and " + masters + "; its --allow-group lets the members of a group call, too, and a [[rule]] of its configuration whom it names"
	case codeUnproven:
		if f.Text == errNoCert.Text {
			return "show a certificate: --set tls.client_cert=FILE --set tls.client_key=FILE, or these keys in the configuration; or a token: " + tokenVariable + ", or token_file"
		}
		return "make one with \"ipcd token new NAME\" where the daemon runs, and give it in " + tokenVariable + " or by token_file"
	case codeDeadline:
		return "give it longer with --timeout"
	case codeInternal:
		return "this is a bug of the service; the daemon's log has the details"
	}
	return ""
}

// withoutPath returns an error of the file system without what was done to which file.
func withoutPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// oneLine escapes what text from outside could use to control a terminal or to forge a second line. So does a byte that is no
// UTF-8: on some terminals a lone 0x9b begins an escape sequence (ECMA-48 §5.4).
func oneLine(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, isControl) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case isControl(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// shorten cuts text from outside to at most most bytes, for an error or a log line.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// isControl reports whether r is in C0 or C1, DEL, or a character that changes the direction of text
// (Unicode TR #9) and so can make a line read as something else.
func isControl(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// nearest returns the name that was probably meant: the one with the fewest edits, at most two, and of several the one whose edit is
// the likelier slip; or "".
func nearest(name string, names []string) string {
	const most = 3
	best, least := "", slip(most, "", "")
	name = strings.ToLower(name)
	for _, n := range names {
		low := strings.ToLower(n)
		if d := edits(name, low, most); d < most && slip(d, name, low) < least {
			best, least = n, slip(d, name, low)
		}
	}
	return best
}

// slip ranks that typed, which is so many edits from a name, was meant to be that. Where one edit is all: two letters were swapped,
// the end left out or a letter typed twice or too much, a letter left out, and least likely another one typed.
func slip(edits int, typed, name string) int {
	const kinds = 4
	rank := kinds * edits
	switch {
	case edits != 1:
	case len(typed) > len(name), strings.HasPrefix(name, typed):
		rank++
	case len(typed) < len(name):
		rank += 2
	case !isSwap(typed, name):
		rank += 3
	}
	return rank
}

// isSwap reports whether two texts of one length differ in two letters alone, which have changed places.
func isSwap(a, b string) bool {
	for i := range len(a) - 1 {
		if a[i] != b[i] {
			return a[i] == b[i+1] && a[i+1] == b[i]
		}
	}
	return false
}

// edits returns how many edits lead from a to b, but at most most: a letter inserted, left out or replaced, or two
// neighbours swapped, which is what fingers do most.
func edits(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, row[j]+1, last[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		if slices.Min(row) >= most && slices.Min(last) >= most { // what follows is no less
			return most
		}
	}
	return min(row[len(b)], most)
}

// isTimeout reports whether err means that a deadline has passed.
func isTimeout(err error) bool {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err != nil // without an allocation
	}
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
