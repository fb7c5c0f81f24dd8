package main

// This file owns the decision who may call a daemon.

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
	own, err := ownPeer()
	if err != nil {
		return faultf(codeDenied, "access denied: the daemon cannot tell who it is: %w", err)
	}
	if p.isUser(own) || isMaster(p) || p.isMember(allow) {
		return nil
	}
	f := faultf(codeDenied, "access denied: %s may not call the daemon of %s", p.who(), own.who())
	if allow.id != "" {
		f.Text += " and is not a member of the group " + allow.name
	}
	return f.withHint("let a group of theirs call with --allow-group, or have them run a daemon of their own")
}
