package main

// This file owns the people that rules name, and what makes a peer one of them.

import (
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A person is whom a rule is about, or a group of them.
type person struct {
	kind personKind
	id   string // of a user: the uid or SID; of a group: as in peer.Groups; of a worker or a token: its name
}

// A personKind is what is before the colon, or all there is.
type personKind string

const (
	personUser   personKind = "user"
	personGroup  personKind = "group"
	personSID    personKind = "sid"
	personWorker personKind = "worker"
	personToken  personKind = "token"
	personCert   personKind = "cert"  // whoever has the key of a certificate of that name
	personLocal  personKind = "local" // whoever the system names
	personAny    personKind = "*"
)

// wantPerson is what people may be, for messages.
const wantPerson = `people, such as ["user:ada", "group:dev", "worker:greeter", "token:ci", "cert:laptop", "local", "*"]`

// parsePerson splits the text of a person. What only this system knows is for find.
func parsePerson(text string) (person, *fault) {
	kind, name, named := strings.Cut(text, ":")
	p := person{kind: personKind(kind), id: name}
	wrong := usagef("%q is nobody that a rule can name", shorten(text, 100))
	switch p.kind {
	case personLocal, personAny:
		if named {
			return p, wrong
		}
	case personUser, personGroup, personSID, personWorker, personToken:
		if f := checkArgument(name); f != nil {
			return p, f
		}
		if name == "" || (p.kind == personWorker || p.kind == personToken) && !isInstanceName(name) || p.kind == personSID && !strings.HasPrefix(name, "S-1-") {
			return p, wrong
		}
	case personCert:
		if f := checkCertName(name); f != nil {
			return p, f
		}
	case "node":
		return p, usagef("%q comes with a later release", shorten(text, 100))
	default:
		return p, wrong
	}
	return p, nil
}

// checkPerson returns what is wrong with the text of a person, or nil.
func checkPerson(text string) *fault {
	_, f := parsePerson(text)
	return f
}

// checkArgument refuses what no argument, path or name can have.
func checkArgument(text string) *fault {
	if strings.ContainsRune(text, 0) {
		return usagef("%q has a zero byte", shorten(text, 100))
	}
	return nil
}

// maxCertName is how long the name in a certificate may be. The name of a host has 253 characters at most.
const maxCertName = 253

// checkCertName returns why rules and logs cannot name somebody so, or nil.
func checkCertName(name string) *fault {
	switch {
	case name == "":
		return usagef("the name is empty")
	case name == anything: // which somebody would take for all of them
		return usagef("%q is no name; whoever has a certificate is * at the endpoint", name)
	case len(name) > maxCertName:
		return usagef("%q is too long: a name has %d bytes at most", shorten(name, 100), maxCertName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, isUnseen) || strings.TrimSpace(name) != name:
		return usagef("%+q has a character that is not to be seen, or blanks around it", shorten(name, 100))
	}
	return nil
}

// isUnseen reports whether r is a control character, or one of those that show nothing or a blank that is none: a name with it would
// look like another one, in a rule as in the log. What is visible may look alike as well, and is up to the authority.
func isUnseen(r rune) bool {
	return !unicode.IsPrint(r) || r == 0x2800 || // BRAILLE PATTERN BLANK
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// find looks up whom only this system knows.
func (p *person) find() error {
	switch p.kind {
	case personGroup:
		g, err := findGroup(p.id)
		p.id = g.id
		return err
	case personUser:
		id, err := userID(p.id)
		if errors.Is(err, fs.ErrNotExist) {
			f := usagef("there is no user %q", shorten(p.id, 100)).withHint("name one that the system has")
			f.err = err
			return f
		}
		if err != nil {
			return usagef("%w", err)
		}
		p.id = id
	}
	return nil
}

// is reports whether the kernel, or a token, says that who is the person, or one of them. A worker is what is at the other end of its own
// channel, and nobody else: there the kernel names the daemon itself.
func (p *person) is(who *peer) bool {
	switch p.kind {
	case personAny:
		return true
	case personWorker:
		return who.worker == p.id
	case personToken:
		return who.token() == p.id
	case personCert:
		return who.certified() == p.id
	}
	if who.worker != "" || !who.Known {
		return false
	}
	switch p.kind {
	case personLocal:
		return true
	case personGroup:
		return slices.Contains(who.Groups, p.id)
	case personSID:
		return who.SID == p.id || slices.Contains(who.Groups, p.id)
	}
	return who.SID == p.id && p.id != "" || who.SID == "" && strconv.Itoa(who.UID) == p.id
}

// isLocal reports whether the person may come to a local endpoint.
func (p *person) isLocal() bool {
	return p.kind != personWorker && p.kind != personToken && p.kind != personCert
}

// isGroup reports whether the person is the members of g.
func (p *person) isGroup(g group) bool { return p.kind == personGroup && p.id == g.id }

// includes reports whether everybody who is other is p as well, as far as can be told without the system.
func (p *person) includes(other *person) bool {
	switch p.kind {
	case personAny:
		return true
	case personLocal:
		return other.kind != personAny && other.isLocal()
	}
	return p.kind == other.kind && p.id == other.id
}
