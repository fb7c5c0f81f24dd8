package main

// This file owns where a client has its token from. It is in the environment or in a file, and in no setting: "ipcd config show" and a
// list of processes show those.

import (
	"io"
	"os"
	"path/filepath"
	"strings"
)

// checkTokenFile returns what is wrong with the name of a file that has a token, or nil.
func checkTokenFile(text string) *fault {
	if text != "" && !filepath.IsAbs(text) {
		return usagef("%q is not an absolute path", shorten(text, 200))
	}
	return checkArgument(text)
}

// clientToken returns the token that a client shows, or nothing. A file that the command line names goes before the environment, and that
// before any other file.
func (st *settings) clientToken() (string, error) {
	if st.token != "" && !st.fileFirst {
		return tokenFrom(tokenVariable, st.token)
	}
	if st.TokenFile == "" {
		return "", nil
	}
	f, err := os.Open(st.TokenFile)
	if err != nil {
		return "", usagef("token_file: %w", cannotRead(st.TokenFile, err))
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", usagef("token_file: %s is no file", st.TokenFile)
	}
	if wrong := exposedFile(st.TokenFile); wrong != nil {
		return "", usagef("token_file: %w", wrong).withHint("%s", hintFor(wrong))
	}
	text, err := io.ReadAll(io.LimitReader(f, 2*maxToken))
	if err != nil {
		return "", usagef("token_file: %w", cannotRead(st.TokenFile, err))
	}
	return tokenFrom("token_file: "+st.TokenFile, string(text))
}

// tokenFrom returns the token in a text. It says of a wrong one where it stands, and not what it is.
func tokenFrom(place, text string) (string, error) {
	text = strings.TrimSpace(text)
	strange := func(r rune) bool { // RFC 6750, section 2.1
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/=", r))
	}
	if text == "" || len(text) > maxToken || strings.ContainsFunc(text, strange) {
		return "", usagef("%s: has no token; expected what \"ipcd token new\" has printed, and nothing else", place)
	}
	return text, nil
}
