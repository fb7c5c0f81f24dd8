package main

// This file owns identity: what the kernel says about a peer, or the authority of its certificate. What a peer has to show where neither
// says anything is in peer_proof.go.

import (
	"cmp"
	"slices"
	"strconv"
)

// A peer is the program at the other end of a connection, as the kernel described it when it connected, or a certificate that
// it has the key of. Nothing else here comes from the peer itself, save that it may have shown a token. Ipcd.Whoami returns it.
type peer struct {
	Transport string `json:"transport"`          // unix, npipe, tcp, tls, http, https, fork
	Name      string `json:"name,omitempty"`     // user:ada, token:ci, cert:laptop; empty if nobody is named. Only named sets it
	Known     bool   `json:"known"`              // the kernel vouches for the user; always false on TCP
	UID       int    `json:"uid"`                // -1 on a system that has none
	GID       int    `json:"gid"`                // -1 likewise
	PID       int    `json:"pid"`                // 0 if unknown; pids are reused, so it proves nothing
	User      string `json:"user,omitempty"`     // the name of UID or SID
	SID       string `json:"sid,omitempty"`      // Windows: the security identifier
	Elevated  bool   `json:"elevated,omitempty"` // Windows: runs with administrator rights
	Address   string `json:"address,omitempty"`  // TCP: the remote address
	Owner     string `json:"owner,omitempty"`    // TCP within this machine, on Linux: whose socket that is; it gives no right

	// Groups are those of the process: decimal gids, the effective one first, or SIDs. FreeBSD and macOS
	// report no more than 16.
	Groups []string `json:"groups,omitempty"`

	on     string // the key of the endpoint at which it has connected; empty on a channel
	at     string // that endpoint as a URL
	noAuth bool   // that one is for everybody who reaches it
	owns   bool   // it is the user that the daemon runs as, or could become that user
	owner  string // the key of Owner; empty if there is none
	cert   string // the name in its certificate, for which an authority vouches that the daemon takes; empty for all others
	worker string // the name of the worker that this is, by which it is known rather than by its user; empty for all others
	proof  *proof // nil where no token is taken
}

// A group is a group of users who may call. The zero value is none.
type group struct {
	name string // as it was configured
	id   string // as in peer.Groups
}

// An audience is to whom the system has to open a local endpoint, besides the user that the daemon runs as: what it keeps out, no
// rule lets in.
type audience struct {
	group group
	all   bool // everybody on this machine; the daemon decides at connect
}

// isNobody reports whether there is no audience.
func (a audience) isNobody() bool { return a.group.id == "" && !a.all }

func (a audience) String() string {
	if a.all {
		return "all users"
	}
	return cmp.Or(a.group.name, "nobody else")
}

// isMember reports whether the kernel counts p among the members of g.
func (p peer) isMember(g group) bool {
	return p.Known && g.id != "" && slices.Contains(p.Groups, g.id)
}

// key identifies the user in the counts of per-user limits.
func (p peer) key() string {
	switch {
	case p.worker != "", p.bearer() != nil, p.cert != "":
		return p.name()
	case p.SID != "":
		return p.SID
	case p.Known:
		return "uid " + strconv.Itoa(p.UID)
	case p.owner != "":
		return p.owner
	}
	return p.Transport
}

// who names the peer for people.
func (p peer) who() string {
	id := p.SID
	if id == "" {
		id = "uid " + strconv.Itoa(p.UID)
	}
	switch {
	case p.worker != "":
		return "the worker " + p.worker
	case p.bearer() != nil:
		return "the holder of the token " + p.token() + " at " + p.Address
	case p.cert != "":
		return p.name() + " at " + p.Address
	case p.Owner != "":
		return p.Owner + " at " + p.Address
	case !p.Known && p.Address != "":
		return "an unknown user at " + p.Address
	case !p.Known:
		return "an unknown user"
	case p.User != "":
		return "user " + p.User + " (" + id + ")"
	}
	return "the user with " + id
}

// name is what p is called where rules name people: user:ada, user:1000 if the user has no name, sid:S-1-5-21-… likewise,
// worker:greeter, token:ci, cert:laptop; empty if nobody is named.
func (p peer) name() string {
	switch {
	case p.worker != "":
		return "worker:" + p.worker
	case p.bearer() != nil: // whatever certificate it has
		return "token:" + p.token()
	case p.cert != "":
		return "cert:" + p.cert
	case !p.Known:
		return ""
	case p.User != "":
		return "user:" + p.User
	case p.SID != "":
		return "sid:" + p.SID
	}
	return "user:" + strconv.Itoa(p.UID)
}

// certified is the name in the certificate by which p is known. Whoever has shown a token is known by that.
func (p *peer) certified() string {
	if p.cert == "" || p.worker != "" || p.bearer() != nil {
		return ""
	}
	return p.cert
}

// named returns p with its name.
func (p peer) named() peer {
	p.Name = p.name()
	return p
}

// isUser reports whether p and b are both known, and the same user, or the same worker or certificate.
func (p peer) isUser(b peer) bool {
	if theirs, own := b.certified(), p.certified(); theirs != "" || own != "" {
		return theirs == own
	}
	return p.worker == b.worker && p.Known && b.Known && p.UID == b.UID && p.SID == b.SID
}
