package main

// This file owns the error of a method: what it may tell its caller, and what the caller is told.

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"
)

// An Error is how a method tells its caller more than a text: a code by which a program can tell its errors apart, and
// whatever else helps it.
type Error struct {
	Code    int    // the service's own, outside -32768 to -32000; without one it is -32000
	Message string // for people
	Data    any    // sent where the protocol has a place for it; nil is not
}

func (e *Error) Error() string { return e.Message }

// fault returns the error of the method as its caller sees it. An error of a context is the call's own only if the call is
// over; any other context is the method's business. What a method heard from another daemon says nothing of this one, see
// passedOn.
func (m *method) fault(ctx context.Context, err error) *fault {
	deadline, limited := ctx.Deadline()
	var own *Error
	var f *fault
	switch {
	case limited && !time.Now().Before(deadline) && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errDeadline)):
		return errDeadline
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return errCancelled
	case errors.As(err, &own):
		f = &fault{Code: cmp.Or(own.Code, codeApplication), Text: err.Error(), err: err}
		if own.Data != nil {
			data, err := appendBody(nil, leaving(own.Data))
			if err != nil { // better than neither
				data = appendJSONString(nil, "the data cannot be encoded: "+err.Error())
			}
			f.Data = data
		}
	case !errors.As(err, &f):
		f = &fault{Code: codeApplication, Text: err.Error(), err: err}
	}
	if strings.HasPrefix(m.name, ownService+".") {
		return f
	}
	return f.passedOn()
}
