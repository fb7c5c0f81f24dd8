package main

// This file owns the values of settings: how each kind is typed, checked and shown.

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// split splits a list that is written as one text. Endpoints contain no spaces, because URLs
// percent-encode them.
func (s *setting) split(text string) []string {
	if s.kind.isList() {
		return strings.Fields(text)
	}
	return []string{text}
}

// set sets the field, or returns what is wrong with the values.
func (s *setting) set(st *settings, values []string) (wrong *fault) {
	if s.kind.isList() {
		if int64(len(values)) < s.min {
			return usagef("is empty")
		}
		for _, v := range values {
			if wrong = s.checkText(v); wrong != nil {
				return wrong
			}
		}
		*s.at(st).(*[]string) = values
		return nil
	}
	if len(values) != 1 {
		return usagef("has %d values", len(values))
	}
	text := values[0]
	switch s.kind {
	case ofSize, ofCount:
		n, wrong := s.number(text)
		if wrong == nil {
			*s.at(st).(*int) = int(n)
		}
		return wrong
	case ofDuration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return usagef("%q is not a duration", text)
		}
		if wrong = s.inRange(int64(d), text); wrong == nil {
			*s.at(st).(*time.Duration) = d
		}
		return wrong
	case ofBool:
		b, err := strconv.ParseBool(text)
		if err != nil || text != strconv.FormatBool(b) {
			return usagef("%q is neither", text)
		}
		*s.at(st).(*bool) = b
		return nil
	case ofEndpoint:
		if text == "" {
			break
		}
		fallthrough
	default:
		wrong = s.checkText(text)
	}
	if wrong == nil {
		*s.at(st).(*string) = text
	}
	return wrong
}

// checkText returns what is wrong with the text of a setting, or with one of its texts, or nil.
func (s *setting) checkText(text string) *fault {
	switch {
	case s.kind == ofEndpoint, s.kind == ofEndpoints:
		return checkEndpoint(text)
	case s.words != nil && !slices.Contains(s.words, text):
		return usagef("%q is not one of its values", text)
	case s.check != nil:
		return s.check(text)
	case s.kind == ofFile:
		return checkArgument(text)
	}
	return nil
}

// refuse returns the error for an invalid value; where is the place at which the user has set it.
func (s *setting) refuse(where string, wrong *fault) error {
	f := usagef("%s: %s; expected %s", where, wrong.Text, s.expected())
	f.hint = wrong.hint
	return f
}

// sizeUnits are the binary units of IEC 80000-13. "MB" and "M" are ambiguous and therefore refused.
var sizeUnits = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// number parses a size or a count.
func (s *setting) number(text string) (n int64, wrong *fault) {
	digits, unit := text, int64(1)
	if s.kind == ofSize {
		for _, u := range sizeUnits {
			if rest, ok := strings.CutSuffix(text, u.name); ok {
				digits, unit = strings.TrimRight(rest, " "), u.size
				break
			}
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && n < 0:
		return 0, usagef("%s is too small", text)
	case errors.Is(err, strconv.ErrRange), err == nil && n > s.max/unit:
		return 0, usagef("%s is too large", text)
	case err != nil && s.kind == ofSize:
		return 0, usagef("%q is not a size", text)
	case err != nil:
		return 0, usagef("%q is not a whole number", text)
	case n < 0: // times the unit it could overflow
		return 0, usagef("%s is too small", text)
	}
	return n * unit, s.inRange(n*unit, text)
}

func (s *setting) inRange(n int64, text string) (wrong *fault) {
	switch {
	case n < s.min:
		return usagef("%s is too small", text)
	case n > s.max:
		return usagef("%s is too large", text)
	}
	return nil
}

// checkEndpoint returns what is wrong with an endpoint, or nil.
func checkEndpoint(text string) (wrong *fault) {
	if text == "" {
		return usagef("an endpoint is empty")
	}
	_, err := parseEndpoint(text)
	errors.As(err, &wrong)
	return wrong
}

// checkAuditFile returns what is wrong with the path of the audit log, or nil. Whoever starts the daemon chooses its directory.
func checkAuditFile(text string) *fault {
	if text != "" && !filepath.IsAbs(text) {
		return usagef("%q is not an absolute path", text)
	}
	return nil
}

// expected describes the valid values.
func (s *setting) expected() string {
	if s.want != "" {
		return s.want
	}
	switch s.kind {
	case ofSize:
		return fmt.Sprintf(`a size from %s to %s, such as 65536 or "64KiB"`, formatSize(s.min), formatSize(s.max))
	case ofCount:
		return fmt.Sprintf("a whole number from %d to %d", s.min, s.max)
	case ofDuration:
		return fmt.Sprintf(`a duration from %s to %s, such as "1m30s"`, formatDuration(time.Duration(s.min)), formatDuration(time.Duration(s.max)))
	case ofBool:
		return "true or false"
	case ofWord:
		last := len(s.words) - 1
		return strings.Join(s.words[:last], ", ") + " or " + s.words[last]
	case ofText:
		return "a text"
	case ofFile:
		return "the name of a file"
	case ofTexts:
		if s.words != nil {
			return "a list of " + strings.Join(s.words, ", ")
		}
		return "a list of texts"
	case ofEndpoint:
		return fmt.Sprintf(`an endpoint, such as "%s"`, serviceEndpoint(defaultName))
	case ofGroup:
		return "the name of a group of this system, or its number"
	}
	return fmt.Sprintf(`a list of endpoints, such as ["%s"]`, serviceEndpoint(defaultName))
}

// text returns the setting's value in the form that set takes.
func (s *setting) text(st *settings) string {
	switch v := s.at(st).(type) {
	case *int:
		if s.kind == ofSize {
			return formatSize(int64(*v))
		}
		return strconv.Itoa(*v)
	case *time.Duration:
		return formatDuration(*v)
	case *[]string:
		return strings.Join(*v, " ")
	case *string:
		return *v
	case *bool:
		return strconv.FormatBool(*v)
	}
	panic("setting " + s.key + " has a field of no known type")
}

// formatSize formats n in the largest unit of which it is a multiple.
func formatSize(n int64) string {
	for _, u := range sizeUnits {
		if n >= u.size && n%u.size == 0 && u.size > 1 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// formatDuration formats d as time.Duration.String does, but writes 15m for 15m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
