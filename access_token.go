package main

// This file owns tokens: the file in the state directory of a daemon that says which there are, and what it takes to be the holder of
// one. The file has hashes alone: whoever reads it can show no token. How a token goes over the wire is for the server.

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	tokenFile     = "tokens.json"
	tokenPrefix   = "ipcd_"                // by which people, and programs that look for secrets, know one
	tokenBytes    = 32                     // 256 bits: nobody guesses that, and a hash without salt is enough
	maxToken      = 256                    // characters of what is shown as a token; one of ours has 48
	maxTokens     = 1024                   // in one file
	maxTokenFile  = 1 << 20                // bytes
	tokenLook     = 100 * time.Millisecond // between looks at the file for the calls of those who have shown a token
	tokenPatience = 5 * time.Second        // for another command that changes the file
	tokenMoment   = time.Second            // for one that replaces it, where nobody can read it meanwhile
)

// A tokenEntry is what the file says of a token.
type tokenEntry struct {
	Name    string    `json:"name"`
	Hash    string    `json:"sha256"` // of the whole token, in hexadecimal
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // the zero time is never
	Scope   []string  `json:"scope,omitempty"`  // patterns of methods; none are all that the holder may call
}

// isOver reports whether the token has expired.
func (t *tokenEntry) isOver(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// newToken returns a token of that name, and the text that is shown for it.
func newToken(name string) (e tokenEntry, text string) {
	var secret [tokenBytes]byte
	rand.Read(secret[:]) // which never fails
	text = tokenPrefix + base64.RawURLEncoding.EncodeToString(secret[:])
	return tokenEntry{Name: name, Hash: hashOfToken(text), Created: time.Now().UTC().Truncate(time.Second)}, text
}

func hashOfToken(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// checkScope returns what is wrong with a pattern of the scope of a token, or nil. Those of Ipcd stand for the rights that its methods
// take: see rights.
func checkScope(pattern string) *fault {
	if service, short, _ := strings.Cut(pattern, "."); service == ownService && (short == anything || isServiceName(short)) {
		return nil
	}
	return checkMethodPattern(pattern)
}

// isFor reports whether the token of b is for what takes that right.
func (b *bearer) isFor(need right, what string) bool {
	if b.scope == nil {
		return true
	}
	if rights[need].method != "" {
		what = rights[need].method
	}
	return slices.ContainsFunc(b.scope, func(pattern string) bool { return coversMethod(pattern, what) })
}

// A tokenStore is the tokens that a daemon takes, as its file has them at the moment.
type tokenStore struct {
	path string
	who  instance // whose they are

	mu     sync.Mutex  // held while the file is looked at
	info   fs.FileInfo // of the file that was read; nil for none
	looked atomic.Int64
	now    atomic.Pointer[tokenList]
}

// A tokenList is what a look at the file has found. It is never modified.
type tokenList struct {
	tokens []tokenEntry
	err    error // why nobody knows
}

// newTokenStore returns the store of the daemon who.
func newTokenStore(who instance) (*tokenStore, error) {
	dir, err := who.stateDir()
	if err != nil {
		return nil, err
	}
	return &tokenStore{path: filepath.Join(dir, tokenFile), who: who}, nil
}

// owner names for people whose tokens these are.
func (s *tokenStore) owner() string {
	switch {
	case s.who.name == "":
		return "your own daemon"
	case s.who.user:
		return "your service " + s.who.name
	}
	return "the service " + s.who.name
}

// refused words an error of the file system, which is usually that the tokens are somebody else's.
func (s *tokenStore) refused(doing string, err error) *fault {
	f := faultf(codeApplication, "%s: %w", doing, err)
	if !errors.Is(err, fs.ErrPermission) {
		return f
	}
	f = faultf(codeApplication, "the tokens of %s are not yours: %w", s.owner(), withoutPath(err))
	if s.who.name != "" && !s.who.user {
		return f.withHint("run it as one of those who may control the service: %s", masters)
	}
	return faultf(codeApplication, "the place for the tokens of %s is closed to you: %w", s.owner(), err).withHint("%s", stateHint)
}

// line is a command line about these tokens, for a hint.
func (s *tokenStore) line(words ...string) string {
	text := "ipcd token " + strings.Join(words, " ")
	if s.who.name != "" {
		text += " --service " + s.who.name + s.who.scope()
	}
	return text
}

// list returns the tokens. The file is read again when it has changed; with lazy, it was perhaps not looked at just now.
func (s *tokenStore) list(lazy bool) ([]tokenEntry, error) {
	now := time.Now().UnixNano()
	if l := s.now.Load(); l != nil && lazy && now-s.looked.Load() < int64(tokenLook) {
		return l.tokens, l.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.path)
	l := s.now.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		info, l = nil, &tokenList{}
	case err == nil && l != nil && l.err == nil && s.info != nil && os.SameFile(info, s.info) && info.ModTime().Equal(s.info.ModTime()) && info.Size() == s.info.Size():
	default:
		l = &tokenList{}
		l.tokens, l.err = s.read()
	}
	s.info = info
	s.now.Store(l)
	s.looked.Store(now)
	return l.tokens, l.err
}

// read reads the file. One that others can read or could have written is refused.
func (s *tokenStore) read() ([]tokenEntry, error) {
	var f *os.File
	ctx, cancel := context.WithTimeout(context.Background(), tokenMoment)
	defer cancel()
	_, err := again(ctx, time.Millisecond, 20*time.Millisecond, func() (bool, error) {
		var err error
		f, err = os.Open(s.path)
		return !isInUse(err), err // a command replaces it at the moment
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.refused("the tokens cannot be read", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, faultf(codeApplication, "the tokens cannot be read: %w", err)
	case !info.Mode().IsRegular():
		return nil, faultf(codeApplication, "%s, where the tokens should be, is no file", s.path).withHint("see what it is, and remove it")
	}
	if wrong := distrustState(s.path, s.who); wrong != nil {
		return nil, faultf(codeApplication, "the tokens are not taken: %w", wrong).withHint("%s", hintFor(wrong))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return nil, faultf(codeApplication, "the tokens cannot be read: %w", err)
	}
	tokens, err := parseTokens(text)
	if err != nil {
		return nil, faultf(codeApplication, "%s is not as ipcd writes it: %w", s.path, err).withHint("put back a copy, or remove the file and make new tokens")
	}
	return tokens, nil
}

// parseTokens reads the text of the file.
func parseTokens(text []byte) ([]tokenEntry, error) {
	var file struct {
		Tokens []tokenEntry `json:"tokens"`
	}
	if len(text) > maxTokenFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxTokenFile)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows")
	}
	seen := map[string]bool{}
	for i := range file.Tokens {
		t := &file.Tokens[i]
		hash, err := hex.DecodeString(t.Hash)
		switch {
		case !isInstanceName(t.Name):
			return nil, fmt.Errorf("%q is no name", shorten(t.Name, 40))
		case seen[t.Name]:
			return nil, fmt.Errorf("%s is there twice", t.Name)
		case err != nil || len(hash) != sha256.Size:
			return nil, fmt.Errorf("the hash of %s is none", t.Name)
		}
		for _, pattern := range t.Scope {
			if f := checkScope(pattern); f != nil {
				return nil, fmt.Errorf("the scope of %s: %w", t.Name, f)
			}
		}
		t.Hash = hex.EncodeToString(hash)
		seen[t.Name] = true
	}
	return file.Tokens, nil
}

// errUnreadTokens is the error of a daemon that does not know its tokens. Its callers are not told why.
var errUnreadTokens = &fault{Code: codeUnproven, Text: "the daemon cannot read its tokens; its log says why"}

// find returns whose token the text is. The error is a fault for whoever has shown it, and cause what the log is told.
func (s *tokenStore) find(text string) (b *bearer, f *fault, cause error) {
	tokens, err := s.list(false)
	if err != nil {
		return nil, errUnreadTokens, err
	}
	if len(text) > maxToken {
		text = "" // which has no hash in the file
	}
	hash := []byte(hashOfToken(text))
	var found *tokenEntry
	for i := range tokens { // all of them, so that the time tells nothing
		if subtle.ConstantTimeCompare(hash, []byte(tokens[i].Hash)) == 1 {
			found = &tokens[i]
		}
	}
	switch {
	case found == nil:
		f = &fault{Code: codeUnproven, Text: "the token is not one of this daemon's, or not any more"}
	case found.isOver(time.Now()):
		f = found.expired()
	default:
		name, hash := found.Name, found.Hash
		return &bearer{name: name, scope: found.Scope, void: func() *fault { return s.void(name, hash) }}, nil, nil
	}
	return nil, f, f
}

func (t *tokenEntry) expired() *fault {
	return &fault{Code: codeUnproven, Text: "the token " + t.Name + " has expired, at " + t.Expires.UTC().Format(time.RFC3339)}
}

// void says why a token that has been shown does not count any more, or is nil.
func (s *tokenStore) void(name, hash string) *fault {
	tokens, err := s.list(true)
	if err != nil {
		return errUnreadTokens
	}
	at := slices.IndexFunc(tokens, func(t tokenEntry) bool { return t.Name == name && t.Hash == hash })
	switch {
	case at < 0:
		return &fault{Code: codeUnproven, Text: "the token " + name + " was removed"}
	case tokens[at].isOver(time.Now()):
		return tokens[at].expired()
	}
	return nil
}

// tokenNamed returns the token of that name, or nil.
func tokenNamed(tokens []tokenEntry, name string) *tokenEntry {
	if at := slices.IndexFunc(tokens, func(t tokenEntry) bool { return t.Name == name }); at >= 0 {
		return &tokens[at]
	}
	return nil
}

// change changes the file by what change makes of its tokens, as a whole: whoever reads it finds the old one or the new. The file that
// is being written keeps others from doing the same meanwhile.
func (s *tokenStore) change(ctx context.Context, change func(tokens []tokenEntry) ([]tokenEntry, error)) (err error) {
	dir, next := filepath.Dir(s.path), s.path+".new"
	_, err = os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return s.refused("look for the state directory", err)
	case errors.Is(err, fs.ErrNotExist) && s.who.name != "" && !s.who.user: // its manager makes it for the user that the service runs as
		return faultf(codeApplication, "the service %s has no state directory yet, %s", s.who.name, dir).withHint("install it first: ipcd install --name %s", s.who.name)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s.refused("make the state directory", err)
	}
	ctx, cancel := context.WithTimeout(ctx, tokenPatience)
	defer cancel()
	var f *os.File
	_, err = again(ctx, 5*time.Millisecond, 200*time.Millisecond, func() (bool, error) {
		f, err = os.OpenFile(next, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrPermission) { // on Windows also of one that is being removed
			if _, there := os.Lstat(next); there == nil {
				return false, err
			}
		}
		return !errors.Is(err, fs.ErrExist), err
	})
	switch {
	case errors.Is(err, fs.ErrExist):
		return faultf(codeBusy, "another command changes the tokens, or was ended while it did: %s is there", next).withHint("if none runs, remove it: %s", removeLine(next))
	case err != nil:
		return s.refused("write the tokens", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(next)
		}
	}()
	tokens, err := s.list(false)
	if err != nil {
		return err
	}
	if tokens, err = change(slices.Clone(tokens)); err != nil {
		return err
	}
	if len(tokens) > maxTokens {
		return faultf(codeTooLarge, "there are %d tokens, and a daemon takes no more", maxTokens).withHint("remove some: ipcd token rm NAME")
	}
	if tokens == nil {
		tokens = []tokenEntry{}
	}
	text, err := json.MarshalIndent(map[string]any{"tokens": tokens}, "", "  ")
	for _, do := range []func() error{
		func() error { _, err := f.Write(append(text, '\n')); return err }, func() error { return giveTo(f, dir) }, f.Sync, f.Close,
	} {
		if err == nil {
			err = do()
		}
	}
	if err != nil {
		return faultf(codeApplication, "write the tokens: %w", err)
	}
	// Windows does not replace a file that the daemon is reading.
	_, err = again(ctx, 5*time.Millisecond, 200*time.Millisecond, func() (bool, error) {
		err := os.Rename(next, s.path)
		return err == nil, err
	})
	if err != nil {
		return faultf(codeApplication, "write the tokens: %w", err)
	}
	return nil
}
