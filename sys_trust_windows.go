package main

// This file owns whom we trust on Windows, and whom we grant what: the SIDs of services, the security
// descriptors of pipes, and what the descriptors of pipes, files and directories say about who could change
// them. Its counterpart is sys_trust_unix.go.

import (
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	sidAuthenticated  = "S-1-5-11" // whoever has proved who they are
	sidEveryone       = "S-1-1-0"
	sidCreatorOwner   = "S-1-3-0"                                                        // in what a directory hands down: whoever makes the file
	sidInstaller      = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464" // NT SERVICE\TrustedInstaller
)

// isServiceAccount reports whether sid is one of the users that services run as and nobody logs in as.
func isServiceAccount(sid string) bool {
	return sid == sidSystem || sid == sidLocalService || sid == sidNetworkService
}

// Access rights for which SDDL has no word ("ACE Strings").
const (
	// rightsRead and rightsModify are what Explorer calls "Read & execute" and "Modify":
	// FILE_GENERIC_READ and FILE_GENERIC_EXECUTE; FILE_GENERIC_WRITE and DELETE as well.
	rightsRead   = "0x1200a9"
	rightsModify = "0x1301bf"
	// rightsCall is what the caller of a pipe needs: FILE_GENERIC_READ and FILE_GENERIC_WRITE, without
	// FILE_CREATE_PIPE_INSTANCE, which is the bit of FILE_APPEND_DATA ("Named Pipe Security and Access
	// Rights"). A client that asks for GENERIC_WRITE gets in all the same. .NET's
	// PipeAccessRights.ReadWrite is the same set.
	rightsCall uint32 = windows.FILE_GENERIC_READ | windows.FILE_GENERIC_WRITE&^windows.FILE_APPEND_DATA
)

// serviceSIDs is how the SIDs of services begin: SECURITY_SERVICE_ID_BASE_RID in "Well-known SIDs".
const serviceSIDs = "S-1-5-80-"

// serviceSID is the SID of the service NT SERVICE\name, whether or not there is one: the SHA-1 of the name in
// upper case and UTF-16 ("SERVICE_SID_INFO structure" says what it is for, "sc showsid" prints it). Nobody else
// can take it: only the service control manager puts it into the token of a process, and only an
// administrator can create a service.
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

// isServiceSID reports whether sid is that of one service; S-1-5-80-0 stands for all of them.
func isServiceSID(sid string) bool {
	rest, ok := strings.CutPrefix(sid, serviceSIDs)
	return ok && strings.Count(rest, "-") == 4
}

// asService is the SID of the service that p runs as, or nothing. The token has it among its groups unless
// the type of the service's SID is "none"; that of a virtual account has it as the user as well.
func (p peer) asService() string {
	for _, sid := range p.Groups {
		if isServiceSID(sid) {
			return sid
		}
	}
	return ""
}

// pipeService is the service that may serve the pipe of e, apart from the user: the one that the pipe is named
// after. NAME.more and NAME\more are its pipes as well; NAME-more may belong to another one.
func pipeService(e endpoint) (name string, ok bool) {
	name = strings.TrimPrefix(e.Path, pipePrefix)
	if i := strings.IndexAny(name, `.\`); i >= 0 {
		name = name[:i]
	}
	return name, isInstanceName(name)
}

// pipeSecurity is the security descriptor of the pipe, in SDDL: nobody gets in but those named here, whatever a
// parent would hand down (P). Whoever serves the pipe has to be among them, or could create no second
// instance. They also own it, since clients look at the owner, which the system would make the administrators
// for some and the user for others. A service has its own SID own the pipe, as its token allows
// (SE_GROUP_OWNER), rather than an account that others share. The audience may call, but not serve.
func pipeSecurity(e endpoint, own peer, to audience) string {
	server := own.SID
	if named := own.asService(); named != "" && own.SID != sidSystem {
		server = named
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
	switch {
	case to.all: // whoever has proved who they are, which anonymous callers and guests have not
		fmt.Fprintf(&b, "(A;;%#x;;;AU)", rightsCall)
	case to.group.id != "":
		fmt.Fprintf(&b, "(A;;%#x;;;%s)", rightsCall, to.group.id)
	}
	return b.String()
}

// checkPipeOwner makes sure, before a byte is sent, that the pipe is ours, the system's, or that of the service
// that it is named after: any user may take the name of a pipe that nobody serves. The owner cannot be
// forged: a process can give what it makes to its user, or to a group of its token that is marked for it, and to
// nobody else. The pid of the server proves nothing: it is that of whoever made the instance, who may have
// ended, and whose number may be another's by now.
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
	expected, err := expectedOwner(e)
	if err != nil {
		return err
	}
	if mayServe(e, expected, sid) {
		return nil
	}
	p := peer{Known: true, SID: sid, User: accountName(owner)}
	f := faultf(codeDenied, "the daemon at %s belongs to %s; nothing was sent to it", e, p.who())
	name, ok := pipeService(e)
	switch {
	case expected != "":
		f.Text = fmt.Sprintf("the daemon at %s belongs to %s, whom the endpoint does not expect; nothing was sent to it", e.withOwner(""), p.who())
		return f.withHint("if that is the right one: -e %s", joinWords([]string{e.withOwner(sid).String()}))
	case isServiceSID(sid):
		return f.withHint("a service is trusted with the pipe of its own name: //./pipe/NAME or //./pipe/NAME.more")
	case ok && isServiceAccount(sid): // "The change takes effect the next time the system is started", says its page; a restart of the service has been enough
		return f.withHint("if that is the service %s, it runs without its SID (sc qsidtype %s): ipcd install makes it so, a restart puts it into force", name, name)
	}
	return f.withHint(`if you expect that user there, say so: -e %s; or start one of your own with "ipcd run"`, joinWords([]string{e.withOwner(sid).String()}))
}

// expectedOwner returns the SID of the user whom ?owner= names, or nothing.
func expectedOwner(e endpoint) (string, error) {
	if e.Owner == "" {
		return "", nil
	}
	if sid, err := windows.StringToSid(e.Owner); err == nil {
		return sid.String(), nil
	}
	sid, err := userID(e.Owner)
	if errors.Is(err, fs.ErrNotExist) {
		return "", usagef("the owner of the endpoint %s is unknown: there is no user %q", e, shorten(e.Owner, 100)).withHint("name the user who runs the daemon, or the SID")
	}
	return sid, err
}

// mayServe reports whether a client takes answers at e from the owner sid: the system, or the one that the endpoint expects. If
// it names none, that is ourselves, or the service of the name.
func mayServe(e endpoint, expected, sid string) bool {
	if expected != "" {
		return sid == expected || sid == sidSystem || sid == sidAdministrators
	}
	name, ok := pipeService(e)
	return isOurs(sid) || ok && sid == serviceSID(name)
}

// isOurs reports whether sid is ourselves, or somebody who could become us.
func isOurs(sid string) bool {
	own, err := ownPeer()
	return sid == sidSystem || sid == sidAdministrators || err == nil && sid == own.SID
}

// isTrustedOwner reports whether only an administrator, or we, can have made what belongs to sid.
func isTrustedOwner(sid string) bool { return isOurs(sid) || sid == sidInstaller }

// ownerOfFile is the SID of the owner of a file or directory.
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

// Sets of rights for othersIn.
const (
	handedDown uint32 = 1 << 27   // no right: a flag that counts what a directory only hands down to what will be in it
	anyRight   uint32 = 1<<32 - 1 // handed down or not
	// fileReplace are the rights with which a file can be replaced or changed, dirReplace those with which what
	// is in a directory can: with DELETE the directory can be renamed away, with FILE_DELETE_CHILD what is in it
	// ("File Access Rights Constants"). dirAdd lets something be added.
	fileReplace     = windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER
	dirReplace      = fileDeleteChild | windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER
	dirAdd          = windows.FILE_WRITE_DATA // FILE_ADD_FILE
	fileDeleteChild = 0x40                    // FILE_DELETE_CHILD
	// ACCESS_ALLOWED_CALLBACK_ACE_TYPE has a condition behind the SID, which we assume to be met.
	allowedCallback = 9
)

// othersIn returns the SIDs that have any of the rights to a file or directory, except SYSTEM, the administrators,
// ourselves and the SIDs in known. An owner among them comes first, who may take any right.
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
	granted, err := grantedBy(sd, rights)
	for _, sid := range granted {
		note(sid)
	}
	return others, err
}

// grantedBy returns the SIDs of those whom the list of access of sd gives any of these rights.
func grantedBy(sd *windows.SECURITY_DESCRIPTOR, rights uint32) (sids []string, err error) {
	acl, _, err := sd.DACL()
	if err != nil || acl == nil { // without a list everybody may do everything: "Null DACLs and Empty DACLs"
		return []string{sidEveryone}, nil
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
			sids = append(sids, (*windows.SID)(unsafe.Pointer(&ace.SidStart)).String())
		}
	}
	return sids, nil
}

// distrustFile says who could have written a configuration besides us, SYSTEM and the administrators, or is nil. It
// looks at the file that path leads to, and at its directory.
func distrustFile(path string) *fault { return distrustBut(path) }

// distrustState is distrustFile for a file in the state directory of the daemon who, which may write it. Who can read it is up to the
// directory.
func distrustState(path string, who instance) *fault {
	return distrustBut(path, serviceSID(cmp.Or(who.name, defaultName)))
}

// distrustBut is distrustFile where the SIDs in known may write, too.
func distrustBut(path string, known ...string) *fault {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return faultf(codeApplication, "%w", err)
	}
	hint := "put it where only you can write: " + userConfigFile(defaultName)
	for _, at := range []struct {
		path   string
		rights uint32
	}{{real, fileReplace}, {filepath.Dir(real), dirReplace}} {
		others, err := othersIn(at.path, at.rights, known...)
		switch {
		case err != nil:
			return faultf(codeApplication, "ask who may write to %s: %w", at.path, err).withHint("%s", hint)
		case len(others) > 0:
			return faultf(codeApplication, "%s can change %s", nameSIDs(others), at.path).withHint("%s", hint)
		}
	}
	return nil
}

// exposedFile says who besides us, SYSTEM and the administrators can read a file that is to be a secret, or is nil.
func exposedFile(path string) *fault {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return faultf(codeApplication, "%w", err)
	}
	var known []string
	if own, err := ownPeer(); err == nil && own.asService() != "" {
		known = append(known, own.asService())
	}
	others, err := othersIn(real, windows.FILE_READ_DATA|windows.GENERIC_READ|fileReplace, known...)
	switch {
	case err != nil:
		return faultf(codeApplication, "ask who may read %s: %w", real, err)
	case len(others) > 0:
		return faultf(codeApplication, "%s can use %s", nameSIDs(others), real).withHint(`close it: icacls "%s" /inheritance:r /grant:r "%%USERNAME%%:F" *S-1-5-18:F *S-1-5-32-544:F`, real)
	}
	return nil
}

// giveTo does nothing: a new file has what its directory hands down.
func giveTo(*os.File, string) error { return nil }

// createSecret creates a file that nobody but us, SYSTEM and the administrators can read. It must not exist.
func createSecret(path string) (*os.File, error) {
	own, err := ownPeer()
	if err != nil {
		return nil, err
	}
	sd, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;" + own.SID + ")")
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	h, err := windows.CreateFile(name, windows.GENERIC_WRITE, 0, securityOf(sd), windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
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

// securityOf wraps a descriptor as the functions that create something take it.
func securityOf(sd *windows.SECURITY_DESCRIPTOR) *windows.SecurityAttributes {
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	return sa
}

// askService asks the service control manager for the status of a service. Everybody who has logged in may ask
// ("Service Security and Access Rights").
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
	h, err := windows.OpenService(manager, text, windows.SERVICE_QUERY_STATUS)
	if err != nil {
		return status, os.NewSyscallError("OpenService", err)
	}
	defer windows.CloseServiceHandle(h)
	return queryStatus(h)
}

// queryStatus returns the status of an open service.
func queryStatus(service windows.Handle) (windows.SERVICE_STATUS_PROCESS, error) {
	var status windows.SERVICE_STATUS_PROCESS
	size := uint32(unsafe.Sizeof(status))
	err := windows.QueryServiceStatusEx(service, windows.SC_STATUS_PROCESS_INFO, (*byte)(unsafe.Pointer(&status)), size, &size)
	return status, os.NewSyscallError("QueryServiceStatusEx", err)
}

// describe fills in what a token says about its user.
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

// accountName returns DOMAIN\USER, or nothing.
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
