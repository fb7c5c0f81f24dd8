package main

// This file owns the private authority of "ipcd tls": its certificate, and those that it issues. It is for people who have no
// other, and does no more than that: it keeps no list, and revokes nothing.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour // it can be replaced only everywhere at once
	leafLife      = 825 * 24 * time.Hour      // Apple's systems take no longer ones: support.apple.com/103769
	clocksApart   = time.Hour                 // for clocks of other machines that are slow
	maxCommonName = 64                        // ub-common-name in RFC 5280
)

// An authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// A madePair is a certificate and its key in PEM.
type madePair struct{ cert, key []byte }

// newAuthority makes an authority. Keys are of P-256, since no browser takes Ed25519, nor does Windows.
func newAuthority(name string, now time.Time) (*authority, madePair, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-clocksApart), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	return sign(template, nil)
}

// issue makes a certificate for the hosts of a server or, if there are none, for a client of that name.
func (a *authority) issue(name string, hosts []string, now time.Time) (madePair, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-clocksApart), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	if len(hosts) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	_, made, err := sign(template, a)
	return made, err
}

// sign makes a key and the certificate for it, which by signs, or the key itself if that is nil.
func sign(template *x509.Certificate, by *authority) (*authority, madePair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, madePair{}, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, madePair{}, err
	}
	if by == nil {
		by = &authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		return nil, madePair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, madePair{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, madePair{}, err
	}
	made := madePair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})}
	return &authority{cert, key}, made, nil
}

// readAuthority reads the authority of a directory.
func readAuthority(dir string) (*authority, error) {
	certFile, keyFile := pairFiles(dir, authorityName)
	if _, err := os.Stat(keyFile); errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("there is no authority in %s: the file %s is missing", dir, filepath.Base(keyFile)).withHint("make one with \"ipcd tls init\", or name its directory with --dir")
	}
	pair, err := readPair(certFile, certFile, keyFile, keyFile)
	if err != nil {
		return nil, err
	}
	return authorityOf(pair, certFile)
}

func authorityOf(pair *tls.Certificate, file string) (*authority, error) {
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, usagef("%s is no authority that ipcd has made", file).withHint("name the directory of one with --dir, or make one with \"ipcd tls init\"")
	}
	if time.Now().After(pair.Leaf.NotAfter) {
		return nil, usagef("the authority in %s has expired on %s", file, day(pair.Leaf.NotAfter)).withHint("make another one with \"ipcd tls init --dir DIR\"")
	}
	return &authority{pair.Leaf, key}, nil
}

// authorityName is what the files of the authority are named for.
const authorityName = "ca"

// pairFiles are where a certificate and its key are.
func pairFiles(dir, name string) (cert, key string) {
	return filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
}

// A secretDir is a directory to which files are added that nobody else can read.
type secretDir struct {
	path string
	made []string // the files, for taking them back
}

// openSecretDir creates the directory if it is not there.
func openSecretDir(path string) (*secretDir, error) {
	err := os.MkdirAll(filepath.Dir(path), 0o755) // the configuration may be there, which a service has to read
	if err == nil {
		err = os.Mkdir(path, 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, faultf(codeApplication, "make %s: %w", path, withoutPath(err)).withHint("name another directory with --dir")
	}
	return &secretDir{path: path}, nil
}

// refuse returns an error if there are files for one of the names already.
func (d *secretDir) refuse(names ...string) error {
	for _, name := range names {
		cert, key := pairFiles(d.path, name)
		for _, file := range []string{cert, key} {
			if _, err := os.Lstat(file); err == nil {
				return usagef("there is %s already, and nothing was changed", file).withHint("choose another name or, with --dir, another directory, or move that file away")
			}
		}
	}
	return nil
}

// add writes the files of a pair. It replaces none.
func (d *secretDir) add(name string, made madePair) error {
	cert, key := pairFiles(d.path, name)
	for _, file := range []struct {
		path string
		text []byte
	}{{key, made.key}, {cert, made.cert}} {
		f, err := createSecret(file.path)
		if err != nil {
			return faultf(codeApplication, "make %s: %w", file.path, withoutPath(err))
		}
		d.made = append(d.made, file.path)
		_, err = f.Write(file.text)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return faultf(codeApplication, "write %s: %w", file.path, withoutPath(err))
		}
		if f := distrustFile(file.path); f != nil { // as whoever uses it will
			return usagef("%s would not be trusted: %w", file.path, f).withHint("%s, or name another directory with --dir", f.hint)
		}
	}
	return nil
}

// takeBack removes what was added.
func (d *secretDir) takeBack() {
	for _, file := range d.made {
		os.Remove(file)
	}
}

// isHostLabel reports whether text can be between the dots in the name of a host: RFC 1123, section 2.1.
func isHostLabel(text string) bool {
	return text != "" && len(text) <= 63 && text[0] != '-' && text[len(text)-1] != '-' && isOf(text, "_-")
}

// isOf reports whether text has no other characters than letters and digits of ASCII, and these.
func isOf(text, others string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune(others, r))
	})
}

// checkHost returns why no certificate can be for a host, or nil.
func checkHost(host string) *fault {
	if net.ParseIP(host) != nil {
		return nil
	}
	labels := strings.Split(strings.TrimPrefix(host, "*."), ".")
	if len(host) > maxCertName || slices.ContainsFunc(labels, func(l string) bool { return !isHostLabel(l) }) {
		return usagef("%q is neither the name of a host nor an address", shorten(host, 100)).withHint("write it as callers do, without scheme and port: laptop.example.com or 192.0.2.7")
	}
	return nil
}

// checkPairName returns why files cannot be named for somebody, or nil.
func checkPairName(name string) *fault {
	switch {
	case len(name) > maxCommonName:
		return usagef("%q is too long: a name has %d characters at most", shorten(name, 100), maxCommonName)
	case name == "" || strings.Contains("._@-", name[:1]) || !isOf(name, "._@-"):
		return usagef("%q cannot be the name of a certificate here", shorten(name, 100)).withHint("use letters, digits and . _ @ -, with a letter or a digit at the beginning")
	}
	return nil
}

// hostsOf returns the hosts of the certificate of a server on this machine: those that were named, or the name that it has itself;
// and those by which it calls itself.
func hostsOf(named []string) (hosts []string, err error) {
	if hosts = slices.Clone(named); len(hosts) == 0 {
		if own, err := os.Hostname(); err == nil && checkHost(own) == nil {
			hosts = append(hosts, own)
		}
	}
	for _, host := range hosts {
		if f := checkHost(host); f != nil {
			return nil, usagef("--name: %w", f).withHint("%s", f.hint)
		}
	}
	for _, own := range []string{"localhost", "127.0.0.1", "::1"} {
		if !slices.Contains(hosts, own) {
			hosts = append(hosts, own)
		}
	}
	return hosts, nil
}

// commonName is host, or nothing if that is too long for a subject; the hosts are what counts.
func commonName(host string) string {
	if len(host) > maxCommonName {
		return ""
	}
	return host
}

// ownAuthority is what an authority made here is called.
func ownAuthority() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "this machine"
	}
	return fmt.Sprintf("ipcd of %.40s", host)
}
