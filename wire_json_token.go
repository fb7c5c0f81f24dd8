package main

// This file owns the tokens for parts of an answer that stand in an argument, as the Language Server Protocol has them:
// LSP 3.17, "Work Done Progress" and "Partial Result Progress".

// eachToken calls found for each of the two tokens in an argument that is an object, with where it begins and ends. A member
// that is neither a string nor a number is no token: null says that no parts are wanted.
func eachToken(argument []byte, found func(workDone bool, start, end int)) {
	if len(argument) == 0 || argument[0] != '{' {
		return
	}
	w := enter(argument)
	for {
		name, value, ok := w.member()
		if !ok {
			return
		}
		if !isToken(value) {
			continue
		}
		switch string(unquoteJSON(name)) {
		case "partialResultToken":
			found(false, w.at-len(value), w.at)
		case "workDoneToken":
			found(true, w.at-len(value), w.at)
		}
	}
}

// isToken reports whether a value can be a token for parts.
func isToken(b []byte) bool { return b[0] == '"' || b[0] == '-' || b[0] >= '0' && b[0] <= '9' }

// tokens returns the tokens in the argument of the last request, whose body has not been taken; empty where there is none.
func (c *jsonCodec) tokens() (partial, workDone string) {
	argument := c.raw
	if len(argument) > 0 && argument[0] == '[' {
		w := enter(argument)
		argument, _ = w.element()
	}
	eachToken(argument, func(isWorkDone bool, start, end int) {
		if token := string(argument[start:end]); isWorkDone {
			workDone = token
		} else {
			partial = token
		}
	})
	return partial, workDone
}

// withTokens returns an argument with these in place of the tokens in it. Everything else of it stays as it is.
func withTokens(argument document, partial, workDone string) document {
	var out document
	last := 0
	eachToken(argument, func(isWorkDone bool, start, end int) {
		out = append(out, argument[last:start]...)
		if last = end; isWorkDone {
			out = append(out, workDone...)
		} else {
			out = append(out, partial...)
		}
	})
	if last == 0 {
		return argument
	}
	return append(out, argument[last:]...)
}

// isProgress reports whether a part tells how far its method is, in the form {"progress": SHARE, "message": TEXT}.
func isProgress(part document) bool {
	if len(part) == 0 || part[0] != '{' {
		return false
	}
	w := enter(part)
	for {
		name, _, ok := w.member()
		if !ok || string(unquoteJSON(name)) == "progress" {
			return ok
		}
	}
}
