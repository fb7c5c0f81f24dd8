package main

// This file owns whom we trust on Windows, and to whom things are open: the SIDs of services, the
// security descriptors of pipes and directories, and what they say of those that are there.

import (
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Well-known SIDs, see "Well-known SIDs" in the Windows security documentation.
const (
	sidSystem         = "S-1-5-18"
	sidLocalService   = "S-1-5-19"
	sidNetworkService = "S-1-5-20"
	sidAdministrators = "S-1-5-32-544"
	sidEveryone       = "S-1-1-0"
	sidCreatorOwner   = "S-1-3-0"                                                        // stands for whoever makes a file, in what a directory hands down
	sidInstaller      = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464" // NT SERVICE\TrustedInstaller
)

// isServiceAccount tells the users that services run as and nobody logs in as.
func isServiceAccount(sid string) bool {
	return sid == sidSystem || sid == sidLocalService || sid == sidNetworkService
}

// Rights for which SDDL has no word ("ACE Strings"), and those of a pipe.
const (
	// rightsRead and rightsModify are those that Explorer calls "Read & execute" and "Modify":
	// FILE_GENERIC_READ and FILE_GENERIC_EXECUTE, then FILE_GENERIC_WRITE and DELETE too.
	rightsRead   = "0x1200a9"
	rightsModify = "0x1301bf"
	// rightsCall are what a caller of a pipe needs: FILE_GENERIC_READ and FILE_GENERIC_WRITE without
	// FILE_CREATE_PIPE_INSTANCE, which is the bit of FILE_APPEND_DATA: see "Named Pipe Security and Access
	// Rights". A client that asks for GENERIC_WRITE gets in all the same, as it does with .NET's
	// PipeAccessRights.ReadWrite, which are these.
	rightsCall uint32 = windows.FILE_GENERIC_READ | windows.FILE_GENERIC_WRITE&^windows.FILE_APPEND_DATA
)

// serviceSIDs begins the SIDs of services: SECURITY_SERVICE_ID_BASE_RID in "Well-known SIDs".
const serviceSIDs = "S-1-5-80-"

// serviceSID is that of the service NT SERVICE\name, whether there is one or not: the SHA-1 of the
// name, in upper case and UTF-16 ("SERVICE_SID_INFO structure" says what it is good for, "sc
// showsid" prints it). Only the service control manager puts it into the token of a process, and only an
// administrator can make a service, so that it cannot be taken by anyone else.
func serviceSID(name string) string {
	var b []byte
	for _, c := range utf16.Encode([]rune(strings.ToUpper(name))) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	sum := sha1.Sum(b)
	var sid strings.Builder
	sid.WriteString(strings.TrimSuffix(serviceSIDs, "-"))
	for i := 0; i < len(sum); i += 4 {
		fmt.Fprintf(&sid, "-%d", binary.LittleEndian.Uint32(sum[i:]))
	}
	return sid.String()
}

// isServiceSID tells the SID of one service from that of all of them, S-1-5-80-0, and others.
func isServiceSID(sid string) bool {
	rest, ok := strings.CutPrefix(sid, serviceSIDs)
	return ok && strings.Count(rest, "-") == 4
}

// asService is the SID of the service that p is, or nothing. It is in the groups of the token when the
// type of the service's SID is not "none"; a virtual account has it as the user, too.
func (p peer) asService() string {
	for _, sid := range p.Groups {
		if isServiceSID(sid) {
			return sid
		}
	}
	return ""
}

// pipeService is the service that may serve the pipe of e, besides its user: the one after which the
// pipe is named. NAME.more and NAME\more are its pipes, too; NAME-more may be another's.
func pipeService(e endpoint) (name string, ok bool) {
	name = strings.TrimPrefix(e.Path, pipePrefix)
	if i := strings.IndexAny(name, `.\`); i >= 0 {
		name = name[:i]
	}
	return name, isInstanceName(name)
}

// pipeSecurity is the security descriptor of the pipe, in SDDL: nobody but those named here,
// whatever a parent would hand down (P). Whoever serves it has to be among them, or could make no
// instance after the first, and owns it, which is what clients look at: left to the system, the owner is
// the administrators for some and the user for others. Of a service that is the SID of the service,
// which its token lets it make an owner (SE_GROUP_OWNER), rather than an account that others share. The
// group that may call can do that, and not serve.
func pipeSecurity(e endpoint, own peer, allow group) string {
	server := own.SID
	if service := own.asService(); service != "" && own.SID != sidSystem {
		server = service
	}
	full := []string{"SY"}
	if _, ok := pipeService(e); ok || isServiceAccount(own.SID) || isServiceSID(server) {
		full = append(full, "BA")
	}
	if server != sidSystem {
		full = append(full, server)
	}
	var b strings.Builder
	b.WriteString("O:" + server + "D:P")
	for _, who := range full {
		b.WriteString("(A;;GA;;;" + who + ")")
	}
	if allow.id != "" {
		fmt.Fprintf(&b, "(A;;%#x;;;%s)", rightsCall, allow.id)
	}
	return b.String()
}

// checkPipeOwner makes sure before a byte is sent that the pipe is ours, the system's, or that of the
// service after which it is named: any user may take the name of a pipe that nobody serves. The owner
// cannot be made up: a process can give what it makes to its user and to those groups of its token that
// are marked for that, and to no other. The pid of the server can be (it is that of whoever made the
// instance, may have ended, and the number may be another's by now), so that it plays no part.
func checkPipeOwner(e endpoint, pipe windows.Handle) error {
	sd, err := windows.GetSecurityInfo(pipe, windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return faultf(codeDenied, "the system does not say who serves %s: %w", e, err).withHint("try again, or name another endpoint with -e")
	}
	owner, _, err := sd.Owner()
	if err != nil || owner == nil {
		return faultf(codeDenied, "the pipe of %s has no owner; nothing was sent to it", e).withHint("name another endpoint with -e")
	}
	sid := owner.String()
	if mayServe(e, sid) {
		return nil
	}
	p := peer{Known: true, SID: sid, User: accountName(owner)}
	f := faultf(codeDenied, "the daemon at %s belongs to %s; nothing was sent to it", e, p.who())
	service, ok := pipeService(e)
	switch {
	case isServiceSID(sid):
		return f.withHint("a service is trusted with the pipe of its own name: //./pipe/NAME or //./pipe/NAME.more")
	case ok && isServiceAccount(sid): // "The change takes effect the next time the system is started", says its page; a restart of the service has been enough
		return f.withHint("if that is the service %s, it runs without its SID (sc qsidtype %s): ipcd install makes it so, a restart puts it into force", service, service)
	}
	return f.withHint(`start one of your own with "ipcd run", or call as that user`)
}

// mayServe tells the owners from whom the client takes answers at e.
func mayServe(e endpoint, sid string) bool {
	service, ok := pipeService(e)
	return isOurs(sid) || ok && sid == serviceSID(service)
}

// isOurs tells the owners whom we trust: ourselves, and those who could become us.
func isOurs(sid string) bool {
	own, err := ownPeer()
	return sid == sidSystem || sid == sidAdministrators || err == nil && sid == own.SID
}

// isTrustedOwner tells the owners of things in the system's directories that none but an
// administrator can have made.
func isTrustedOwner(sid string) bool { return isOurs(sid) || sid == sidInstaller }

// ownerOfFile is the SID of whose a file or directory is.
func ownerOfFile(path string) (string, error) {
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return "", err
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return "", err
	}
	return owner.String(), nil
}

// The rights that a list of others is made for.
const (
	handedDown uint32 = 1 << 27   // none by itself: also those that a directory only hands down to what will be in it
	anyRight   uint32 = 1<<32 - 1 // handed down or not
	// fileReplace are those with which a file becomes another, dirReplace those with which what is in a
	// directory does: DELETE lets it be renamed away, FILE_DELETE_CHILD what is in it ("File Access Rights
	// Constants"), dirAdd puts something beside it.
	fileReplace     = windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER
	dirReplace      = fileDeleteChild | windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER
	dirAdd          = windows.FILE_WRITE_DATA // FILE_ADD_FILE
	fileDeleteChild = 0x40                    // FILE_DELETE_CHILD
	// ACCESS_ALLOWED_CALLBACK_ACE_TYPE, one with a condition behind the SID, which we take for met.
	allowedCallback = 9
)

// othersIn names those besides SYSTEM, the administrators, ourselves and the SIDs of known who have one of
// the rights to a file or directory; its owner first, who may take them all, if it is one of others.
func othersIn(path string, rights uint32, known ...string) ([]string, error) {
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return nil, err
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return nil, err
	}
	var others []string
	note := func(sid string) {
		if !isTrustedOwner(sid) && sid != sidCreatorOwner && !slices.Contains(known, sid) && !slices.Contains(others, sid) {
			others = append(others, sid)
		}
	}
	note(owner.String())
	acl, _, err := sd.DACL()
	if err != nil || acl == nil { // without one everybody may do everything: "Null DACLs and Empty DACLs"
		return append(others, sidEveryone), nil
	}
	for i := range uint32(acl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(acl, i, &ace); err != nil {
			return nil, err
		}
		mask := uint32(ace.Mask)
		if mask&(windows.GENERIC_ALL|windows.GENERIC_WRITE) != 0 {
			mask = anyRight
		}
		counts := ace.Header.AceFlags&windows.INHERIT_ONLY_ACE == 0 || rights&handedDown != 0
		allows := ace.Header.AceType == windows.ACCESS_ALLOWED_ACE_TYPE || ace.Header.AceType == allowedCallback
		if allows && mask&rights != 0 && counts {
			note((*windows.SID)(unsafe.Pointer(&ace.SidStart)).String())
		}
	}
	return others, nil
}

// nameSIDs names users and groups for people.
func nameSIDs(sids []string) string {
	var names []string
	for _, text := range sids {
		name := text
		if sid, err := windows.StringToSid(text); err == nil {
			name = cmp.Or(accountName(sid), text)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// securityOf is how the system takes a descriptor for what it makes.
func securityOf(sd *windows.SECURITY_DESCRIPTOR) *windows.SecurityAttributes {
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	return sa
}

// askService is how the service control manager sees a service, and where it is in that: everybody who has
// logged in may ask ("Service Security and Access Rights").
func askService(name string) (windows.SERVICE_STATUS_PROCESS, error) {
	var status windows.SERVICE_STATUS_PROCESS
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return status, os.NewSyscallError("OpenSCManager", err)
	}
	defer windows.CloseServiceHandle(manager)
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return status, err
	}
	service, err := windows.OpenService(manager, text, windows.SERVICE_QUERY_STATUS)
	if err != nil {
		return status, os.NewSyscallError("OpenService", err)
	}
	defer windows.CloseServiceHandle(service)
	return queryStatus(service)
}

// queryStatus asks for the status of an open service.
func queryStatus(service windows.Handle) (windows.SERVICE_STATUS_PROCESS, error) {
	var status windows.SERVICE_STATUS_PROCESS
	size := uint32(unsafe.Sizeof(status))
	err := windows.QueryServiceStatusEx(service, windows.SC_STATUS_PROCESS_INFO, (*byte)(unsafe.Pointer(&status)), size, &size)
	return status, os.NewSyscallError("QueryServiceStatusEx", err)
}

// describe fills in what a token says.
func (p *peer) describe(token windows.Token) error {
	user, err := token.GetTokenUser()
	if err != nil {
		return os.NewSyscallError("GetTokenInformation", err)
	}
	p.SID, p.User, p.Elevated = user.User.Sid.String(), accountName(user.User.Sid), token.IsElevated()
	groups, err := token.GetTokenGroups()
	if err != nil {
		return os.NewSyscallError("GetTokenInformation", err)
	}
	for _, g := range groups.AllGroups() {
		if g.Attributes&windows.SE_GROUP_ENABLED != 0 && g.Attributes&windows.SE_GROUP_USE_FOR_DENY_ONLY == 0 {
			p.Groups = append(p.Groups, g.Sid.String())
		}
	}
	return nil
}

// accountName is DOMAIN\USER, or nothing.
func accountName(sid *windows.SID) string {
	name, domain, _, err := sid.LookupAccount("")
	switch {
	case err != nil:
		return ""
	case domain == "":
		return name
	}
	return domain + `\` + name
}
