// Package lines has the lines in which every client program takes and gives records; tests/compat/src/contract.rs is the
// other side.
//
// A record to publish is `PARTITION TIME KEY VALUE [HEADER...]`, a record that was read has its offset after the partition.
// A key or a value is `-` for none, or `=` and its text. A header is `name=text`. Texts have no spaces.
package lines

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
)

// UnacknowledgedMax is how many records a producer hands over before it waits for all their acknowledgements.
const UnacknowledgedMax = 50

// Header is one header of a record.
type Header struct{ Name, Text string }

// Record is one record; the key and the value are nil for none.
type Record struct {
	Partition int
	Offset    int64
	// Milliseconds since the epoch.
	Time       int64
	Key, Value []byte
	Headers    []Header
}

// Chunks gives `publish` the records on stdin, in lists that are published and waited for as one.
func Chunks(publish func([]Record)) {
	input := bufio.NewReader(os.Stdin)
	var chunk []Record
	for {
		line, err := input.ReadString('\n')
		if err == io.EOF {
			break
		}
		Check(err)
		chunk = append(chunk, parse(strings.TrimSuffix(line, "\n")))
		if len(chunk) == UnacknowledgedMax {
			publish(chunk)
			chunk = nil
		}
	}
	if len(chunk) > 0 {
		publish(chunk)
	}
}

func parse(line string) Record {
	fields := strings.Split(line, " ")
	record := Record{Partition: int(Number(fields[0])), Time: Number(fields[1]), Key: optional(fields[2]), Value: optional(fields[3])}
	for _, field := range fields[4:] {
		name, text, _ := strings.Cut(field, "=")
		record.Headers = append(record.Headers, Header{name, text})
	}
	return record
}

func optional(field string) []byte {
	if field == "-" {
		return nil
	}
	return []byte(field[1:])
}

var output sync.Mutex

// Say writes one line, at once.
func Say(words ...any) {
	output.Lock()
	defer output.Unlock()
	fmt.Println(words...)
}

// SayRecord writes the line of a record that was read.
func SayRecord(record Record) {
	words := []any{record.Partition, record.Offset, record.Time, shown(record.Key), shown(record.Value)}
	for _, header := range record.Headers {
		words = append(words, header.Name+"="+header.Text)
	}
	Say(words...)
}

func shown(data []byte) string {
	if data == nil {
		return "-"
	}
	return "=" + string(data)
}

// Number parses an argument.
func Number(text string) int64 {
	number, err := strconv.ParseInt(text, 10, 64)
	Check(err)
	return number
}

// Configs parses `KEY=VALUE` arguments.
func Configs(arguments []string) map[string]string {
	configs := map[string]string{}
	for _, argument := range arguments {
		key, value, _ := strings.Cut(argument, "=")
		configs[key] = value
	}
	return configs
}

// StdinEnd is closed at the end of stdin.
func StdinEnd() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	return ended
}

// Check ends the program with the client's error, if there is one.
func Check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Run calls the case that the command line names: `PROGRAM ADDRESS CASE [ARGUMENT...]`.
func Run(cases map[string]func(arguments []string)) {
	run, known := cases[os.Args[2]]
	if !known {
		Check(fmt.Errorf("no case %s", os.Args[2]))
	}
	run(os.Args[3:])
}
