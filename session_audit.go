package main

// This file owns what the audit log says: who did what, by which right, with what outcome. It never has arguments, results or the texts
// of errors, which may repeat those. Names from outside are cut and escaped, so that none can make a line of its own or reach a terminal.
// The file that the lines go to is in log_audit.go; without one they are lines of the daemon's log, and in systemd's journal the field
// IPCD_AUDIT finds them.

import (
	"cmp"
	"strconv"
	"sync/atomic"
	"time"
)

// An auditor writes the audit log. A nil one writes nothing.
type auditor struct {
	log    *logger
	denied atomic.Bool               // what is denied is recorded
	all    atomic.Bool               // what is allowed, too
	file   atomic.Pointer[auditFile] // nil for the daemon's log

	wrote, lost atomic.Int64 // lines
}

// obey puts a mode into force.
func (a *auditor) obey(mode auditMode) {
	a.denied.Store(mode != auditOff)
	a.all.Store(mode == auditAll)
}

// tell says in the daemon's log that lines begin to be lost, or no longer are.
func (a *auditor) tell(name string, err error) {
	if err != nil {
		a.log.error("the audit log cannot be written, and lines of it are lost", "file", name, "error", err)
		return
	}
	a.log.info("the audit log is written again", "file", name, "lost", a.lost.Load())
}

// wants reports whether something is recorded that was denied, or allowed.
func (a *auditor) wants(denied bool) bool {
	return a != nil && (a.all.Load() || denied && a.denied.Load())
}

// marks reports whether what is denied is recorded in the daemon's log.
func (a *auditor) marks() bool { return a.wants(true) && a.file.Load() == nil }

// The actions of the audit log are those of rights, and this one.
const actionConnect = "connect"

// An auditEntry is a line.
type auditEntry struct {
	peer   *peer
	action string
	what   string // the method, service, topic or path; empty for none
	denied bool
	by     string // the basis of the decision; empty if that is not known
	code   int    // of the error; 0 for none
	took   time.Duration
	behalf string // the caller for whom the peer calls; empty for none
}

const maxAudited = 256 // bytes of what one line is about

// write writes a line.
func (a *auditor) write(e *auditEntry) {
	decision := "allowed"
	if e.denied {
		decision = "denied"
	}
	at, what := cmp.Or(e.peer.at, e.peer.Transport), shorten(e.what, maxAudited)
	who := cmp.Or(e.peer.name(), e.peer.who())
	file := a.file.Load()
	if file == nil {
		a.wrote.Add(1)
		kv := []any{"audit", 1, "endpoint", at, "peer", who, "action", e.action, "decision", decision}
		for _, more := range []struct {
			key   string
			value any
			is    bool
		}{{"pid", e.peer.PID, e.peer.PID != 0}, {"what", what, what != ""}, {"by", e.by, e.by != ""}, {"code", e.code, e.code != 0},
			{"took", e.took, e.took != 0}, {"for", e.behalf, e.behalf != ""}} {
			if more.is {
				kv = append(kv, more.key, more.value)
			}
		}
		if e.denied {
			a.log.warn("denied", kv...)
		} else {
			a.log.info("allowed", kv...)
		}
		return
	}
	b := make([]byte, 0, 384)
	text := func(key, value string) {
		if value != "" {
			b = appendJSONText(append(append(append(b, `,"`...), key...), `":`...), value)
		}
	}
	b = time.Now().UTC().AppendFormat(append(b, `{"time":"`...), logTime)
	b = append(b, '"')
	text("peer", who)
	if e.peer.PID != 0 {
		b = strconv.AppendInt(append(b, `,"pid":`...), int64(e.peer.PID), 10)
	}
	text("address", e.peer.Address)
	text("endpoint", at)
	text("action", e.action)
	text("what", what)
	text("decision", decision)
	text("by", e.by)
	if e.code != 0 {
		b = strconv.AppendInt(append(b, `,"code":`...), int64(e.code), 10)
	}
	if e.took != 0 {
		b = strconv.AppendFloat(append(b, `,"ms":`...), float64(e.took.Microseconds())/1e3, 'f', -1, 64)
	}
	text("for", e.behalf)
	file.put(append(b, '}', '\n'))
}

// judge notes, for the audit log, what the caller of c needs, and why it has that.
func (s *session) judge(c *call) {
	if from, ok := s.finder.(interface {
		decideCall(who *peer, name string) decision
	}); ok {
		c.judged.Store(&judgement{rightCall, c.method, from.decideCall(s.peer, c.method)})
	}
}

// check returns nil if p may do what it takes a right for, and notes that for the audit log. c is its call, or nil.
func (sh *shared) check(pol *policy, c *call, p *peer, need right, what string) *fault {
	if c == nil || sh.audit == nil || !sh.audit.denied.Load() {
		return pol.check(p, need, what)
	}
	d := pol.decide(p, need, what)
	all := what
	if before := c.judged.Load(); before != nil && before.right == need && before.what != "" { // one of several
		all = before.what + " " + what
	}
	c.judged.Store(&judgement{need, all, d})
	if d.allowed {
		return nil
	}
	return d.refusal(p, need, what)
}

// auditCall records a call that is over.
func (s *session) auditCall(c *call, f *fault, took time.Duration) {
	e := auditEntry{peer: s.peer, action: rights[rightCall].key, what: c.method, took: max(took, 1)} // a coarse clock may say 0
	if f != nil {
		e.code = f.Code
	}
	e.denied = e.code == codeDenied // of a provider it is another one
	if j := c.judged.Load(); j != nil {
		e.action, e.what = rights[j.right].key, j.what
		if j.right == rightAdmin {
			e.what = c.method
		}
		if j.decision.allowed != e.denied {
			e.by = j.decision.basis()
		}
	}
	if c.parent != nil {
		first := c.parent
		for first.parent != nil {
			first = first.parent
		}
		e.behalf = cmp.Or(first.peer.name(), first.peer.who())
	}
	s.audit.write(&e)
}

// auditRefused records a call that has not begun, because its caller may not make it.
func (s *session) auditRefused(method string) {
	e := auditEntry{peer: s.peer, action: rights[rightCall].key, what: method, denied: true, code: codeDenied}
	if from, ok := s.finder.(interface {
		decideCall(who *peer, name string) decision
	}); ok {
		e.by = from.decideCall(s.peer, method).basis()
	}
	s.audit.write(&e)
}
