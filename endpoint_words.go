package main

// This file owns the words of a command line, as fork: has them in an endpoint and hints show them.

import (
	"fmt"
	"strings"
)

// cutWords splits a command into words, up to the first unquoted byte of stop, with which rest begins. It
// splits as a shell does, and does nothing else that a shell does. Blanks separate words. Single quotes
// keep everything between them. In double quotes a backslash escapes " and \; outside of quotes also
// ', ? and a blank. Before any other byte a backslash stands for itself, so
// that C:\node\node.exe needs no quotes.
func cutWords(text, stop string) (words []string, rest string, err error) {
	var word []byte
	var quote byte // that is open
	inWord := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		escapes := ` '"\?` + "\t"
		if quote == '"' {
			escapes = `"\`
		}
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(text) && strings.IndexByte(escapes, text[i+1]) >= 0:
			i++
			word, inWord = append(word, text[i]), true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inWord = c, true
		case quote == 0 && strings.IndexByte(stop, c) >= 0:
			rest = text[i:]
			i = len(text)
		case quote == 0 && (c == ' ' || c == '\t'):
			if inWord {
				words = append(words, string(word))
			}
			word, inWord = nil, false
		default:
			word, inWord = append(word, c), true
		}
	}
	if quote != 0 {
		return nil, "", fmt.Errorf("a %c is not closed", quote)
	}
	if inWord {
		words = append(words, string(word))
	}
	return words, rest, nil
}

// joinWords is the inverse of cutWords, and a shell cuts what it returns in the same way.
func joinWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\r\n'\"\\?*[]{}()<>|&;$`!#~^") { // the last ones for the shell alone
			w = quoteWord(w)
		}
		quoted[i] = w
	}
	return strings.Join(quoted, " ")
}

// quoteWord puts single quotes around w, between which neither cutWords nor a shell takes anything for
// special but the next single quote.
func quoteWord(w string) string { return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'" }
