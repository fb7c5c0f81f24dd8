package main

// This file owns proof: what a peer has shown of itself where the kernel does not say who it is.

import "sync/atomic"

// A proof is what a peer has shown by now. Copies of the peer share it.
type proof struct {
	needed *fault // what the peer is told before, when nothing is done for it; nil where it need not show a token
	shown  atomic.Pointer[bearer]
	held   atomic.Bool // the answer to a wrong token is held back
}

// isNeeded reports whether nothing is done for the peer before it has shown a token. No proof is needed where none is taken.
func (p *proof) isNeeded() bool { return p != nil && p.needed != nil }

// A bearer is whoever holds a token. It is never modified.
type bearer struct {
	name  string
	scope []string      // the methods that the token is for, as patterns; nil for all that its holder may call
	void  func() *fault // why the token does not count any more, or nil
}

// proofOf returns the proof of a peer that has shown a token.
func proofOf(b *bearer) *proof {
	p := &proof{needed: errUnproven}
	p.shown.Store(b)
	return p
}

// proving returns p with another proof.
func (p *peer) proving(by *proof) *peer {
	other := *p
	other.proof = by
	return &other
}

// bearer returns whose token p has shown, or nil.
func (p *peer) bearer() *bearer {
	if p.proof == nil {
		return nil
	}
	return p.proof.shown.Load()
}

// token is the name of the token that p has shown, or nothing.
func (p *peer) token() string {
	if b := p.bearer(); b != nil {
		return b.name
	}
	return ""
}

// unproven returns why nothing is done for p yet, or any more, or nil.
func (p *peer) unproven() *fault {
	switch b := p.bearer(); {
	case b != nil:
		return b.void()
	case p.proof != nil:
		return p.proof.needed
	}
	return nil
}

// A liveName is the name of a peer for the log, which may yet show a token.
type liveName struct{ *peer }

func (n liveName) String() string { return n.who() }
