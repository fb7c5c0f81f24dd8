package main

// This file owns the configuration file. It reads the TOML and reports what is not TOML, an unknown key, or of
// the wrong type, with its line. What the keys mean is in config.go.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// readConfig reads the file. A missing file counts as empty unless it was named explicitly. One that somebody else could
// have written is refused, whoever named it: what it says is done with our rights, and endpoint = "fork:..." in it
// runs a program.
func readConfig(file string, explicit bool) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !explicit:
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, usagef("%s: no such file; expected a configuration in TOML", file)
	case err != nil:
		return nil, cannotRead(file, err)
	case info.IsDir():
		return nil, usagef("%s: is a directory; expected a file", file)
	case info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) != 0: // opening one can block for ever; a device such as /dev/null is fine
		return nil, usagef("%s: is a pipe or a socket; expected a file", file)
	}
	if info.Mode().IsRegular() {
		if f := distrustFile(file); f != nil {
			return nil, usagef("%s: is not obeyed: %w", file, f).withHint("%s", f.hint)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, cannotRead(file, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCfgFile+1))
	switch {
	case err != nil:
		return nil, cannotRead(file, err)
	case len(data) > maxCfgFile:
		return nil, usagef("%s: is larger than %s; expected a configuration in TOML", file, formatSize(maxCfgFile))
	case isUTF16(data):
		return nil, usagef("%s: is UTF-16; expected UTF-8", file).withHint("%s", utf8Hint)
	}
	return bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), nil // the byte order mark of Windows editors
}

// isUTF16 reports whether a text begins as UTF-16 does, which PowerShell 5 writes with >: with a byte order mark or, in what
// ipcd reads, an ASCII character.
func isUTF16(text []byte) bool {
	return bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) || len(text) > 1 && (text[0] == 0) != (text[1] == 0)
}

// utf8Hint says how to write a file anew, in a shell that wrote UTF-16.
const utf8Hint = "in PowerShell: (Get-Content FILE) | Set-Content -Encoding utf8 FILE"

// cannotRead returns why a file cannot be read, without the name of the system call.
func cannotRead(file string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return usagef("%s: %w; expected a file that can be read", file, err)
}

// A tomlKey is a key or a table header in a file, with its position.
type tomlKey struct {
	path   []string
	offset int
	table  bool
	array  bool // it is an array of tables: [[name]]
}

// String returns the key as TOML spells it.
func (k tomlKey) String() string {
	parts := make([]string, len(k.path))
	for i, p := range k.path {
		bare := p != "" && !strings.ContainsFunc(p, func(r rune) bool {
			return !(r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
		})
		if parts[i] = p; !bare {
			parts[i] = strconv.Quote(p)
		}
	}
	return strings.Join(parts, ".")
}

// tomlKeys lists the keys of a document in order. It uses go-toml's parser because its decoder
// reports positions only for what it refuses, and valid TOML can still be an invalid setting.
func tomlKeys(data []byte) ([]tomlKey, error) {
	var p unstable.Parser
	p.Reset(data)
	var keys []tomlKey
	var collect func(table []string, n *unstable.Node) []string
	collect = func(table []string, n *unstable.Node) []string {
		k := tomlKey{path: slices.Clone(table), offset: -1, table: n.Kind != unstable.KeyValue, array: n.Kind == unstable.ArrayTable}
		for it := n.Key(); it.Next(); {
			if k.offset < 0 {
				k.offset = int(it.Node().Raw.Offset)
			}
			k.path = append(k.path, string(it.Node().Data))
		}
		inline := n.Kind == unstable.KeyValue && n.Value().Kind == unstable.InlineTable
		k.table = k.table || inline
		keys = append(keys, k)
		if inline {
			for it := n.Value().Children(); it.Next(); {
				collect(k.path, it.Node())
			}
		}
		return k.path
	}
	var table []string
	for p.NextExpression() {
		switch n := p.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = collect(nil, n)
		case unstable.KeyValue:
			collect(table, n)
		}
	}
	return keys, p.Error()
}

// loadFile sets the settings of a file.
func (st *settings) loadFile(file string, data []byte, from origins) error {
	line := func(offset int) string { return fmt.Sprintf("%s:%d", file, 1+bytes.Count(data[:offset], []byte("\n"))) }
	keys, syntax := tomlKeys(data)
	seen := map[string]int{}
	for _, k := range keys {
		name := k.String()
		if k.array { // each [[name]] begins a new table
			clear(seen)
			continue
		}
		if before, twice := seen[name]; twice {
			return usagef("%s: %s: is there twice; expected once, as on line %d", line(k.offset), name, 1+bytes.Count(data[:before], []byte("\n")))
		}
		seen[name] = k.offset
	}
	var values map[string]any
	if err := toml.Unmarshal(data, &values); err != nil {
		return notTOML(file, err)
	}
	if syntax != nil { // go-toml's two parsers disagree; no such input is known
		return usagef("%s: %w; expected TOML", file, syntax)
	}
	var wrongs []error
	var refused []string // a table that is refused is refused once, with all that is in it
	for _, k := range keys {
		name := k.String()
		if k.array { // what was refused in the one before is not refused in this one
			refused = slices.DeleteFunc(refused, func(inner string) bool { return strings.HasPrefix(inner, name+".") })
		}
		if slices.ContainsFunc(refused, func(outer string) bool { return name == outer || strings.HasPrefix(name, outer+".") }) {
			continue
		}
		load := st.loadKey
		if r := findRecord(k.path[0]); r != nil {
			load = func(where string, k tomlKey, values map[string]any, from origins) error {
				return r.load(st, where, k, values, from)
			}
		}
		if err := load(line(k.offset), k, values, from); err != nil {
			wrongs = append(wrongs, err)
			if findRecord(name) == nil {
				refused = append(refused, name)
			}
		}
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return usagef("%s: %w", file, err)
	}
	for i := range settingTable {
		if s := &settingTable[i]; s.kind == ofFile {
			if path := s.at(st).(*string); *path != "" && !filepath.IsAbs(*path) {
				*path = filepath.Join(dir, *path)
			}
		}
	}
	for i := range records {
		wrongs = append(wrongs, records[i].finish(&records[i], st, recordFile{file, from})...)
	}
	return gather(wrongs...)
}

// notTOML returns the error for invalid TOML, with its position and the parser's explanation.
func notTOML(file string, err error) error {
	var d *toml.DecodeError
	if !errors.As(err, &d) {
		return usagef("%s: %w; expected TOML", file, err)
	}
	row, column := d.Position()
	what := strings.TrimPrefix(d.Error(), "toml: ")
	return usagef("%s:%d:%d: is not TOML: %s", file, row, column, what).withHint("https://toml.io has the rules; contrib/config.toml is an example")
}

// loadKey sets one setting.
func (st *settings) loadKey(where string, k tomlKey, values map[string]any, from origins) error {
	name := k.String()
	s := findSetting(name)
	inTable := slices.ContainsFunc(settingTable, func(s setting) bool { return strings.HasPrefix(s.key, name+".") })
	switch {
	case s == nil && !inTable:
		return unknownKey(where+": "+name, name)
	case s == nil && k.array:
		return usagef("%s: %s: is an array of tables; expected the table [%s]", where, name, name)
	case s == nil && !k.table:
		return usagef("%s: %s: is %s; expected the table [%s]", where, name, tomlType(lookup(values, k.path)), name)
	case s == nil:
		return nil
	}
	texts, wrong := s.fromTOML(lookup(values, k.path))
	if wrong == nil {
		wrong = s.set(st, texts)
	}
	if wrong != nil {
		return s.refuse(where+": "+name, wrong)
	}
	from[s.key] = where
	return nil
}

// lookup returns a value from nested tables, or nil.
func lookup(values map[string]any, path []string) any {
	var v any = values
	for _, p := range path {
		table, _ := v.(map[string]any)
		v = table[p]
	}
	return v
}

// fromTOML converts a value of the file into the texts that set takes, or returns what is wrong with its type.
func (s *setting) fromTOML(v any) (texts []string, wrong *fault) {
	switch v := v.(type) {
	case int64:
		if s.kind == ofSize || s.kind == ofCount {
			return []string{strconv.FormatInt(v, 10)}, nil
		}
	case string:
		if s.kind != ofCount && s.kind != ofBool && !s.kind.isList() {
			return []string{v}, nil
		}
	case bool:
		if s.kind == ofBool {
			return []string{strconv.FormatBool(v)}, nil
		}
	case []any:
		if !s.kind.isList() {
			break
		}
		for i, e := range v {
			text, ok := e.(string)
			if !ok {
				return nil, usagef("its element %d is %s", i+1, tomlType(e))
			}
			texts = append(texts, text)
		}
		return texts, nil
	}
	return nil, usagef("is %s", tomlType(v))
}

// quoteTOML writes a text that has no control characters as TOML does.
func quoteTOML(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// tomlType returns TOML's name for the type of a value.
func tomlType(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	}
	return "a date or a time"
}
