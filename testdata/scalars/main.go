// Prints what gopkg.in/yaml.v3 reads from values, a line each: what is wanted, the value, the outcome.
//
// outcomes.tsv was made by version 3.0.1, as Debian 12 has it (golang-gopkg-yaml.v3-dev):
// GO111MODULE=off GOPATH=/usr/share/gocode go run main.go >outcomes.tsv
package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	yaml "gopkg.in/yaml.v3"
)

var tags = []string{
	"", "! ", "!!str ", "!!int ", "!!float ", "!!bool ", "!!null ", "!!timestamp ", "!!binary ", "!!merge ",
	"!!seq ", "!other ", "!<tag:yaml.org,2002:int> ",
}

var values = []string{
	`5`, `"5"`, `true`, `"true"`, `yes`, `"yes"`, `""`, `~`, `"~"`, `x`, `"x"`, `1.5`, `"1.5"`, `"0x1f"`, `"aGk="`,
	`2001-01-01`, `"2001-01-01"`, `0644`, `"0644"`, `null`,
}

var others = []string{
	`0o17`, `0b11`, `-0b11`, `1_000`, `_1`, `1e3`, `1.9`, `-1.9`, `.5`, `5.`, `+5`, `-0x1`, `0x1_0`, `017`, `-017`,
	`08`, `0_8`, `0x`, `1__0`, `12:30`, `0X10`, `0B1`, `0O7`, `1e`, `inf`, `.inf`, `.nan`, `0x1p4`, `1.5_0`, `-.5`,
	`+.5`, `1E400`, `1e30`, `9223372036854775807`, `9223372036854775808`, `18446744073709551616`, `--5`, `+-5`,
	`y`, `Y`, `n`, `N`, `On`, `oN`, `"on"`, `'off'`, `|\n  yes`, `TRUE`, `tRUE`, `True`,
	`!!int 1_0`, `!!int 08`, `!!int 9999999999999999999999`, `!!float 9999999999999999999999`, `!!float .inf`,
	`!!float 1.5.5`, `!!binary "aG k="`, `!!binary |\n  aG\n  k=`, `!!binary "aGk"`, `!!binary NQ==`, `!!bool True`,
	`!!timestamp 2001-1-1`, `!!timestamp 2001-01-01T00:00:00Z`, `!!timestamp x`, `!!str`, `!!null`, `!!int`,
}

func outcome(field, value string) string {
	var read struct {
		Text   *string
		Switch *bool
		Number *int64
	}
	text := field + ": " + strings.ReplaceAll(value, `\n`, "\n") + "\n"
	if err := yaml.Unmarshal([]byte(text), &read); err != nil {
		return "refused"
	}
	switch {
	case read.Text != nil && !utf8.ValidString(*read.Text):
		return "bytes"
	case read.Text != nil:
		return fmt.Sprintf("%q", *read.Text)
	case read.Switch != nil:
		return "switch"
	case read.Number != nil:
		return fmt.Sprint(*read.Number)
	}
	return "null"
}

func main() {
	for _, tag := range tags {
		for _, value := range values {
			others = append(others, tag+value)
		}
	}
	for _, field := range []string{"text", "switch", "number"} {
		for _, value := range others {
			fmt.Printf("%s\t%s\t%s\n", field, value, outcome(field, value))
		}
	}
}
