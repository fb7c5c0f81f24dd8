package main

// This file owns the decision who may call a daemon, and who may offer it services.

// mayConnect returns nil if p may call on the endpoint e at all: the user that the daemon runs as, those who could
// become that user, and the members of allow. A peer without a known user is admitted only where e waives proof.
func (p peer) mayConnect(e endpoint, allow group) error {
	if !p.Known {
		if e.NoAuth {
			return nil
		}
		return faultf(codeDenied, "access denied: the system does not say who calls on %s", e).
			withHint("call on a local endpoint, or add auth=none to the endpoint of the daemon")
	}
	own, is, err := p.isOwner()
	if err != nil || is || p.isMember(allow) {
		return err
	}
	f := faultf(codeDenied, "access denied: %s may not call the daemon of %s", p.who(), own.who())
	if allow.id != "" {
		f.Text += " and is not a member of the group " + allow.name
	}
	return f.withHint("let a group of theirs call with --allow-group, or have them run a daemon of their own")
}

// mayRegister returns nil if p may offer services to all callers of the daemon: its owner, or a worker, which may offer what
// its settings say.
func (p peer) mayRegister() error {
	if p.worker != "" {
		return nil
	}
	own, is, err := p.isOwner()
	if err != nil || is {
		return err
	}
	return faultf(codeDenied, "access denied: %s may not offer services to the callers of %s", p.who(), own.who()).
		withHint("offer it as %s, or as %s", own.who(), masters)
}

// mayPublish returns nil if p may publish events, which all callers of the daemon can get: whoever may offer services to them.
func (p peer) mayPublish() error {
	if p.mayRegister() == nil {
		return nil
	}
	return faultf(codeDenied, "access denied: %s may not publish events to the callers of the daemon; the user that it runs as, %s and workers may", p.who(), masters)
}

// isOwner reports whether p is the user that the daemon runs as, own, or could become that user. A worker is neither,
// whoever it runs as.
func (p peer) isOwner() (own peer, is bool, err error) {
	if own, err = ownPeer(); err != nil {
		return own, false, faultf(codeDenied, "access denied: the daemon cannot tell who it is: %w", err)
	}
	return own, p.worker == "" && (p.isUser(own) || isMaster(p)), nil
}
