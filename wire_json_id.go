package main

// This file owns the ids of JSON-RPC and the tokens for parts of an answer. Either is a string or a number, is sent back
// as it was spelled, and is compared by its value: 1, 1.0 and 1e0 are one id. See RFC 8259, section 8.3.

import (
	"strconv"
	"strings"
)

// sameID reports whether two ids, which are JSON, have the same value.
func sameID(a, b string) bool { return a == b || canonicalID(a) == canonicalID(b) }

// canonicalID returns the one spelling for all ids with the value of id. Nearly every id has it already.
func canonicalID(id string) string {
	switch {
	case id == "":
	case id[0] == '"':
		if strings.Contains(id, `\`) {
			return `"` + string(unquoteJSON([]byte(id[1:len(id)-1]))) + `"`
		}
	case id == "-0", strings.ContainsAny(id, ".eE"):
		return canonicalNumber(id)
	}
	return id
}

// canonicalNumber returns the number with as many digits as it needs, and an exponent if that is shorter than digits
// may be. It compares exactly: of two numbers that a double cannot tell apart each is itself.
func canonicalNumber(number string) string {
	exponent := 0
	mantissa := number
	if at := strings.IndexAny(number, "eE"); at >= 0 {
		n, err := strconv.Atoi(number[at+1:])
		if mantissa = number[:at]; err != nil && strings.ContainsAny(mantissa, "123456789") { // more than an exponent can be in earnest
			return number
		}
		exponent = n
	}
	digits, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	exponent -= len(fraction)
	digits = strings.TrimLeft(whole+fraction, "0")
	short := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(short)
	switch {
	case short == "":
		return "0"
	case exponent > 0 && exponent <= maxJSONNumber: // no more digits can be written out
		short += strings.Repeat("0", exponent)
	case exponent != 0:
		short += "e" + strconv.Itoa(exponent)
	}
	if negative {
		return "-" + short
	}
	return short
}

// seqOf returns the number that we gave to a call, from the id of its answer or the token of a part; 0 if it is none of
// ours.
func seqOf(id []byte) uint64 {
	n, err := strconv.ParseUint(string(id), 10, 64)
	if err != nil {
		n, err = strconv.ParseUint(canonicalID(string(id)), 10, 64)
	}
	if err != nil {
		return 0
	}
	return n
}
