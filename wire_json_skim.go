package main

// This file owns the jsonSkim, which finds the id of a message that is not taken.

import "bytes"

// A jsonSkim reads a message as it passes and keeps only the members of its envelope. A message over a limit is then
// refused with its id, wherever that stands: many clients write it last.
type jsonSkim struct {
	envelope jsonEnvelope
	whole    bool

	scan jsonScan
	err  error  // the message is not JSON, or too deep
	held []byte // of what has passed: the member of the outermost object that has begun, unless it is long
}

// skimDepth is how deep such a message may be for a skim to get to its end: 64 Ki levels take 1.5 MiB.
const skimDepth = 64 << 10

func newJSONSkim() *jsonSkim {
	k := &jsonSkim{}
	k.scan.reset(skimDepth)
	k.scan.lax, k.scan.outer = true, k.keep
	return k
}

// pass looks at the next bytes of the message and returns how many of them belong to it: all, unless it ends. After an
// error the envelope is what has come so far.
func (k *jsonSkim) pass(b []byte) (n int, err error) {
	if k.whole || k.err != nil {
		return 0, k.err
	}
	before := len(k.held)
	k.held = append(k.held, b...)
	if k.scan.gone+k.scan.pos == 0 {
		k.held = trimFront(k.held)
	}
	if k.whole, k.err = k.scan.scan(k.held, false); k.err != nil {
		return 0, k.err
	}
	n = len(b)
	if k.whole {
		n = k.scan.pos - before
	}
	gone := k.scan.pos
	if m := k.scan.member; m >= 0 {
		if gone = m; k.scan.pos-m > inputLarge {
			gone = k.scan.pos
			k.miss(k.held[m:gone])
			k.scan.member = -1
		}
	}
	if gone > 0 {
		k.held = append(k.held[:0], k.held[gone:]...)
		k.scan.forget(gone)
	}
	return n, nil
}

// keep takes a member that has passed as a whole, with the byte behind it.
func (k *jsonSkim) keep(member []byte) {
	if len(member)-1 > inputLarge { // as if it had come in pieces
		k.miss(member)
		return
	}
	w := jsonWalk{b: member}
	if name, value, ok := w.member(); ok {
		if at := k.envelope.member(name); at != nil {
			*at = bytes.Clone(value)
		}
	}
}

// miss notes a member whose value is too long to be kept. Only that it is there can matter.
func (k *jsonSkim) miss(begun []byte) { k.envelope.begin(begun) }

// begin notes a member of whose value nothing is known.
func (e *jsonEnvelope) begin(member []byte) {
	w := jsonWalk{b: member}
	if name, ok := w.element(); ok && name[0] == '"' {
		if at := e.member(name[1 : len(name)-1]); at != nil {
			*at = []byte(nullID)
		}
	}
}

// known returns the envelope with the member that has begun.
func (k *jsonSkim) known() jsonEnvelope {
	e := k.envelope
	if at := k.scan.member; at >= 0 && at < len(k.held) && !k.whole {
		e.begin(k.held[at:])
	}
	return e
}

// knownAnswer is how much is known of a message that may be an answer.
type knownAnswer uint8

const (
	answerUnknown knownAnswer = iota
	answerToSome              // it is an answer, but its id has yet to come
	answerTo                  // its id is known, too
)

// answer returns whether what has passed shows that the message is an answer.
func (k *jsonSkim) answer() knownAnswer {
	switch e := k.known(); {
	case e.method != nil || e.result == nil && e.fault == nil:
		return answerUnknown
	case k.envelope.id == nil:
		return answerToSome
	}
	return answerTo
}
