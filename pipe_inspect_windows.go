package main

// This file owns what "ipcd doctor" looks at of a pipe: whom it lets in.

import (
	"context"
	"fmt"
	"slices"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// inspectPipe implements transport.inspect.
func inspectPipe(e endpoint, to audience, known bool) []Diagnosis {
	ctx, cancel := context.WithTimeout(context.Background(), dialPatience)
	defer cancel()
	conn, err := winio.DialPipeAccessImpLevel(ctx, e.Path, windows.READ_CONTROL, winio.PipeImpLevelIdentification)
	if err != nil { // whoever calls hears of it
		return nil
	}
	defer conn.Close()
	owner, err := serverPipe(conn)
	var admitted []string
	if err == nil {
		admitted, err = admittedTo(handleOf(conn))
	}
	if err != nil {
		return []Diagnosis{{"pipe", findingWarning, fmt.Sprintf("the system does not say whom %s lets in: %v", e, err), ""}}
	}
	return []Diagnosis{inspectAdmitted(e, to, known, owner.SID, admitted)}
}

// admittedTo returns the SIDs of those whom a pipe lets in.
func admittedTo(pipe windows.Handle) ([]string, error) {
	sd, err := windows.GetSecurityInfo(pipe, windows.SE_KERNEL_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return nil, err
	}
	return grantedBy(sd, anyRight)
}

// inspectAdmitted compares those whom a pipe lets in with its owner, SYSTEM, the administrators and its audience.
func inspectAdmitted(e endpoint, to audience, known bool, owner string, admitted []string) Diagnosis {
	const restart = "restart the daemon, which makes the pipe anew"
	guest := to.group.id
	if to.all {
		guest = sidAuthenticated
	}
	others := slices.DeleteFunc(slices.Clone(admitted), func(sid string) bool {
		return slices.Contains([]string{owner, sidSystem, sidAdministrators, guest}, sid)
	})
	text := fmt.Sprintf("%s lets in %s", e, nameSIDs(admitted))
	switch {
	case known && len(others) > 0:
		return Diagnosis{"pipe", findingError, fmt.Sprintf("%s; it should not let in %s: only the daemon keeps them out", text, nameSIDs(others)), restart}
	case known && guest != "" && !slices.Contains(admitted, guest):
		return Diagnosis{"pipe", findingError, fmt.Sprintf("%s; %s cannot connect", text, to), restart}
	}
	return Diagnosis{"pipe", findingOK, text, ""}
}
