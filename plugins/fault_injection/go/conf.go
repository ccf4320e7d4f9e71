package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"
)

type conf struct {
	httpStatus int
	body       string
	percentage int
}

func parseConf(text []byte) (*conf, error) {
	if len(text) == 0 {
		return nil, errors.New("conf is empty")
	}
	value, err := parseJSON(text)
	if err != nil {
		return nil, errors.New("conf is not JSON")
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("conf is not an object")
	}
	read := &conf{}
	if read.httpStatus, ok = integer(object, "http_status", 200, 599, 200); !ok {
		return nil, errors.New("http_status is not an integer from 200 to 599")
	}
	if body, given := object["body"]; given {
		if read.body, ok = body.(string); !ok {
			return nil, errors.New("body is not a string")
		}
	}
	if read.percentage, ok = integer(object, "percentage", 0, 100, 100); !ok {
		return nil, errors.New("percentage is not an integer from 0 to 100")
	}
	return read, nil
}

// integer accepts digits alone: neither 200.0 nor 2e2.
func integer(object map[string]any, key string, least, most, absent int) (int, bool) {
	value, given := object[key]
	if !given {
		return absent, true
	}
	number, _ := value.(json.Number)
	parsed, err := strconv.ParseUint(number.String(), 10, 31)
	return int(parsed), err == nil && int(parsed) >= least && int(parsed) <= most
}

// parseJSON is as strict as the readers of the other languages: encoding/json would
// replace what is not UTF-8 and half surrogate pairs, and nest without a limit.
func parseJSON(text []byte) (value any, err error) {
	if !utf8.Valid(text) || !acceptable(text) {
		return nil, errors.New("not JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err = decoder.Decode(&value); err != nil {
		return nil, err
	}
	// What is left must be space: a second value or anything else is an error.
	if rest := bytes.TrimLeft(text[decoder.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, errors.New("more than one value")
	}
	return value, nil
}

const deepest = 127

// acceptable looks at the two things that encoding/json does not look at: the depth,
// and whether every \ud800 to \udbff is followed by its \udc00 to \udfff.
func acceptable(text []byte) bool {
	depth, inString, wantLow := 0, false, false
	for at := 0; at < len(text); at++ {
		escaped := inString && text[at] == '\\'
		if wantLow && !(escaped && at+1 < len(text) && text[at+1] == 'u') {
			return false
		}
		switch {
		case escaped:
			at++
			if at >= len(text) || text[at] != 'u' || at+4 >= len(text) {
				continue
			}
			unit, _ := strconv.ParseUint(string(text[at+1:at+5]), 16, 16)
			low := unit >= 0xdc00 && unit <= 0xdfff
			if low != wantLow {
				return false
			}
			wantLow = unit >= 0xd800 && unit <= 0xdbff
			at += 4
		case text[at] == '"':
			inString = !inString
		case inString:
		case text[at] == '{' || text[at] == '[':
			depth++
		case text[at] == '}' || text[at] == ']':
			depth--
		}
		if depth > deepest {
			return false
		}
	}
	return true
}
