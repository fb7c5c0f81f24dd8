package main

// This file owns what the account of a peer knows of an output before it is written: answers that were promised room, and the
// arguments of calls that a provider has yet to read.

// promise has the account of the peer hold n bytes of an answer, or of a part of one, which append or offer is to add: so nothing that
// waits for that is forgotten. The fault says that there is no room for them. What is little is told when it has been added, unless it is
// an answer to m, of a batch that keeps more than that already: it may be long until the last one of those comes.
func (o *output) promise(n int, m *message) (promised int, _ *fault) {
	if n < accountStep && (m == nil || m.batch == nil || n == 0) {
		return 0, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if n < accountStep && n+m.aside() < accountStep {
		return 0, nil
	}
	if f := o.account.owe(n); f != nil {
		return 0, f
	}
	o.promised.Add(int64(n))
	return n, nil
}

// mayPromise reports whether there is room for n bytes, as far as one can tell.
func (o *output) mayPromise(n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return n < accountStep || o.account.mayOwe(n)
}

// renounce takes back a promise.
func (o *output) renounce(n int) {
	if n > 0 {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.account.holdUnread(-o.keepLocked(n))
	}
}

// keepLocked returns what was promised, which is no promise any more.
func (o *output) keepLocked(promised int) int {
	if promised > 0 {
		o.promised.Add(-int64(promised))
	}
	return promised
}

// noteCall has the account of the peer, a provider, know of n bytes of the argument of a call that is to be added by offerCall or appendCall.
// The fault says that those of its user have not read too much of that already. What is little need not be known.
func (o *output) noteCall(n int, method string) (noted int, _ *fault) {
	if n < accountStep {
		return 0, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.account.hasAll(unsentCalls) {
		return 0, busy(userMemoryLimit, o.account.limit(), "the calls that wait for the provider of "+method+" to read them, and others of its user, take too much memory")
	}
	o.noteCallsLocked(n)
	return n, nil
}

func (o *output) noteCallsLocked(n int) {
	o.calls += n
	if o.account != nil && n != 0 {
		o.account.small[unsentCalls].Add(int64(n))
	}
}

// forgetCall undoes noteCall for a call that is not added.
func (o *output) forgetCall(noted int) {
	if noted > 0 {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.noteCallsLocked(-noted)
	}
}

// dropLocked drops what is in buf.
func (o *output) dropLocked() {
	o.account.holdUnread(-o.told)
	o.noteCallsLocked(-o.callsIn)
	o.buf, o.told, o.callsIn = nil, 0, 0
}

// chargeTo has another account bear what the output holds.
func (o *output) chargeTo(a *account) {
	o.mu.Lock()
	defer o.mu.Unlock()
	held := o.told + o.aside + int(o.promised.Load())
	if o.batch != nil {
		held += o.owed
	}
	calls := o.calls
	o.account.holdUnread(-held)
	o.noteCallsLocked(-calls)
	o.account = a
	o.account.holdUnread(held)
	o.noteCallsLocked(calls)
}
