package main

// This file owns the keys and certificates of TLS: the files that they are in, what is wrong with those, when a daemon reads them
// again, and the warning before a certificate expires. The handshake is in transport_tls.go; cmd_authority.go makes such files.

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	maxPEM     = 1 << 20             // bytes of a file; the authorities of a whole system have 250 KB
	keysLook   = time.Second         // between looks whether the files have changed
	expirySoon = 30 * 24 * time.Hour // before a certificate expires: who renews one does so by then
	expiryTold = 24 * time.Hour      // between warnings of that
)

// A keyring has what a daemon brings to its handshakes. It reads the files again when they have changed; as long as they cannot be
// used, what was there before stays in force.
type keyring struct {
	log *logger

	mu      sync.Mutex
	set     tlsSettings
	now     *keys
	looked  time.Time
	doubted string    // the stamp of files that could not be used at the last look: they may be half written
	refused string    // the stamp of files of which that was said
	told    time.Time // when it was looked last what expires
}

// keys are what has been read, which nobody changes.
type keys struct {
	pair        *tls.Certificate
	certs       []*x509.Certificate // of the pair, its own first
	authorities []*x509.Certificate // that callers may have their certificates from
	config      map[string]*tls.Config
	stamp       string // of the files
}

// takeCredentials has a service use the copies of its files that its manager has handed over: those themselves are root's.
func (set *settings) takeCredentials() {
	if credential == nil || set.instance.name == "" {
		return
	}
	for _, c := range set.TLS.credentials() {
		if *c.file == "" {
			continue
		}
		if copied := credential(c.name()); copied != "" {
			*c.file = copied
		}
	}
}

// A handedOver is a file that the service manager hands over to a service.
type handedOver struct {
	key  string // of its setting
	file *string
}

// name is under which it does. It has a sum of the path: where a configuration names another file by now than the one that was
// installed, that is not to be taken for it.
func (c handedOver) name() string {
	return fmt.Sprintf("%s.%08x", c.key, crc32.ChecksumIEEE([]byte(*c.file)))
}

// credentials are the files of a daemon.
func (set *tlsSettings) credentials() []handedOver {
	return []handedOver{{"tls.cert", &set.Cert}, {"tls.key", &set.Key}, {"tls.client_ca", &set.ClientCA}}
}

// newKeyring returns a keyring of these files, or nil if none are configured.
func newKeyring(set tlsSettings, log *logger) (*keyring, error) {
	if set.Cert == "" && set.Key == "" && set.ClientCA == "" {
		return nil, nil
	}
	now, err := set.keys(wordOf)
	if err != nil {
		return nil, err
	}
	k := &keyring{log: log, set: set, now: now, looked: time.Now()}
	k.remind()
	return k, nil
}

// wordOf says where a setting was given if that is not known.
func wordOf(key string) string { return key }

// keys reads the files of a daemon. where says where a setting was given, for errors.
func (set tlsSettings) keys(where func(key string) string) (*keys, error) {
	k := &keys{stamp: set.stamp(), config: map[string]*tls.Config{}}
	var err error
	if k.pair, err = readPair(where("tls.cert"), set.Cert, where("tls.key"), set.Key); err != nil {
		return nil, err
	}
	if k.pair == nil {
		return nil, usagef("%s: there is no tls.cert beside it; expected the certificate of the daemon", where("tls.client_ca")).withHint(`name one; "ipcd tls init" makes one`)
	}
	for _, der := range k.pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, usagef("%s: %s: %w", where("tls.cert"), set.Cert, err)
		}
		k.certs = append(k.certs, cert)
	}
	if k.authorities, err = readCertificates(where("tls.client_ca"), set.ClientCA); err != nil {
		return nil, err
	}
	for scheme, alpn := range map[string][]string{"tls": nil, "https": webALPN} {
		config := &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*k.pair}, NextProtos: alpn,
			// A session would be resumed with a certificate that is no longer taken.
			SessionTicketsDisabled: true,
		}
		if k.authorities != nil {
			// One who has none is refused later, in words, or has a token.
			config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, poolOf(k.authorities)
		}
		k.config[scheme] = config
	}
	return k, nil
}

func poolOf(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool
}

// has returns an error if the daemon cannot serve e for want of a certificate.
func (k *keyring) has(e endpoint) error {
	if k == nil {
		return noCertificate(e)
	}
	return nil
}

func noCertificate(e endpoint) *fault {
	return usagef("cannot listen on %s: the daemon has no certificate", e).withHint(`name one with tls.cert and tls.key in the configuration; "ipcd tls init" makes one`)
}

// current returns what is in force.
func (k *keyring) current() *keys {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lookLocked()
	return k.now
}

// lookLocked reads the files again if they have changed. A pair is written as two files, so what cannot be used is looked at once
// more before anything is said.
func (k *keyring) lookLocked() {
	if time.Since(k.looked) < keysLook {
		return
	}
	k.looked = time.Now()
	stamp := k.set.stamp()
	if stamp == k.now.stamp || stamp == k.refused {
		return
	}
	now, err := k.set.keys(wordOf)
	switch {
	case err == nil:
		k.now, k.doubted, k.refused = now, "", ""
		k.log.info("the certificate was read again", "file", k.set.Cert, "names", namesOf(now.certs[0]), "expires", day(now.certs[0].NotAfter))
		k.told = time.Time{}
	case stamp != k.doubted:
		k.doubted = stamp
	default:
		k.refused = stamp
		k.log.warn("the files of TLS have changed and cannot be used; what was there before stays in force", "error", err, "hint", hintFor(err))
	}
}

// remind warns of certificates that expire soon, once a day.
func (k *keyring) remind() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lookLocked()
	if time.Since(k.told) < expiryTold {
		return
	}
	k.told = time.Now()
	for _, x := range k.now.expiring(k.set, k.told) {
		left := x.cert.NotAfter.Sub(k.told)
		if left <= 0 {
			k.log.error("a certificate has expired", "file", x.file, "subject", x.cert.Subject.String(), "expired", day(x.cert.NotAfter))
		} else {
			k.log.warn("a certificate expires soon", "file", x.file, "subject", x.cert.Subject.String(), "expires", day(x.cert.NotAfter), "days", int(left/(24*time.Hour)))
		}
	}
}

// An expiring is a certificate that expires soon, or has.
type expiring struct {
	file string
	cert *x509.Certificate
}

// expiring lists those that were read from the files of set.
func (k *keys) expiring(set tlsSettings, now time.Time) (list []expiring) {
	for file, certs := range map[string][]*x509.Certificate{set.Cert: k.certs, set.ClientCA: k.authorities} {
		for _, cert := range certs {
			if cert.NotAfter.Sub(now) <= expirySoon {
				list = append(list, expiring{file, cert})
			}
		}
	}
	return list
}

// prepare reads the files that now names, and returns what puts them into force.
func (k *keyring) prepare(now settings) (commit func(), err error) {
	if k == nil { // and there is no endpoint that needs one, since endpoints do not change
		return func() {}, nil
	}
	read, err := now.TLS.keys(wordOf)
	if err != nil {
		return nil, err
	}
	return func() {
		k.mu.Lock()
		k.set, k.now, k.looked, k.doubted, k.refused, k.told = now.TLS, read, time.Now(), "", "", time.Time{}
		k.mu.Unlock()
		k.remind()
	}, nil
}

// takesCertificates reports whether callers can prove with a certificate who they are.
func (k *keyring) takesCertificates() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now.authorities != nil
}

// stamp tells one state of the files of a daemon from another.
func (set tlsSettings) stamp() string {
	var b strings.Builder
	for _, file := range []string{set.Cert, set.Key, set.ClientCA} {
		if info, err := os.Stat(file); err == nil {
			fmt.Fprintf(&b, "%d %d, ", info.Size(), info.ModTime().UnixNano())
		} else {
			b.WriteString("none, ")
		}
	}
	return b.String()
}

// checkTLS returns what is wrong with the files of TLS that the settings of a daemon name. That there are none is for servable to say.
func checkTLS(set settings, from origins) error {
	if t := set.TLS; t.Cert != "" || t.Key != "" || t.ClientCA != "" {
		_, err := t.keys(from.where)
		return err
	}
	return nil
}

// where says where a setting was given, as far as that is known.
func (from origins) where(key string) string {
	if origin := from[key]; origin != "" && origin != "default" {
		return findSetting(key).place(origin)
	}
	return key
}

// checkClientTLS returns what is wrong with the files of TLS that a client with these settings uses.
func checkClientTLS(set settings, from origins) error {
	_, wrong := readCertificates(from.where("tls.ca"), set.TLS.CA)
	_, err := readPair(from.where("tls.client_cert"), set.TLS.ClientCert, from.where("tls.client_key"), set.TLS.ClientKey)
	return gather(wrong, err)
}

// readPair reads a certificate and its key. It returns nil if neither is configured.
func readPair(whereCert, certFile, whereKey, keyFile string) (*tls.Certificate, error) {
	switch {
	case certFile == "" && keyFile == "":
		return nil, nil
	case certFile == "":
		return nil, usagef("%s: there is no certificate for it; expected both", whereKey)
	case keyFile == "":
		return nil, usagef("%s: there is no key for it; expected both", whereCert)
	}
	cert, err := readPEM(whereCert, certFile)
	if err != nil {
		return nil, err
	}
	if _, err := parseCertificates(whereCert, certFile, cert); err != nil {
		return nil, err
	}
	key, err := readPEM(whereKey, keyFile)
	if err != nil {
		return nil, err
	}
	if f := exposedFile(keyFile); f != nil {
		return nil, usagef("%s: the key is no secret: %w", whereKey, f).withHint("%s", f.hint)
	}
	if err := hasKey(whereKey, keyFile, key); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "tls: ")
		if text == "private key does not match public key" {
			return nil, usagef("%s: the key in %s is not that of the certificate in %s", whereKey, keyFile, certFile).withHint("name the two files that belong together")
		}
		return nil, usagef("%s: %s: %s", whereKey, keyFile, text)
	}
	return &pair, nil
}

// hasKey returns an error if there is no key in a file that can be read without a password.
func hasKey(where, file string, text []byte) error {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return usagef("%s: there is no key in %s; expected one in PEM, that begins with -----BEGIN PRIVATE KEY-----", where, file)
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["DEK-Info"] != "":
			return usagef("%s: the key in %s has a password, for which nobody can be asked", where, file).withHint("write it without one: openssl pkey -in %s -out KEY.pem", file)
		case block.Type == "PRIVATE KEY", strings.HasSuffix(block.Type, " PRIVATE KEY"):
			return nil
		}
	}
}

// readCertificates reads the certificates of a file. It returns none if no file is configured.
func readCertificates(where, file string) ([]*x509.Certificate, error) {
	if file == "" {
		return nil, nil
	}
	text, err := readPEM(where, file)
	if err != nil {
		return nil, err
	}
	return parseCertificates(where, file, text)
}

func parseCertificates(where, file string, text []byte) (list []*x509.Certificate, err error) {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, usagef("%s: a certificate in %s is broken: %w", where, file, err)
		}
		list = append(list, cert)
	}
	if list == nil {
		return nil, usagef("%s: there is no certificate in %s; expected one in PEM, that begins with -----BEGIN CERTIFICATE-----", where, file)
	}
	return list, nil
}

// readPEM reads a file that says whom we trust, or who we are: nobody else may be able to write it.
func readPEM(where, file string) ([]byte, error) {
	cannot := func(err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return usagef("%s: there is no file %s; expected one in PEM", where, file)
		}
		f := usagef("%s: %s cannot be read: %w", where, file, withoutPath(err))
		if errors.Is(err, fs.ErrPermission) && credential != nil {
			return f.withHint("a service of systemd is given it by ipcd install --force; otherwise make it its user's: chown USER %s", file)
		}
		return f
	}
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, cannot(err)
	case !info.Mode().IsRegular():
		return nil, usagef("%s: %s is no file; expected one in PEM", where, file)
	}
	if f := distrustFile(file); f != nil {
		return nil, usagef("%s: %s is not trusted: %w", where, file, f).withHint("%s", f.hint)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, cannot(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	switch {
	case err != nil:
		return nil, cannot(err)
	case len(text) > maxPEM:
		return nil, usagef("%s: %s is larger than %s; expected a file in PEM", where, file, formatSize(maxPEM))
	}
	return text, nil
}
