// Changes the bodies of requests, of responses, or of both.
//
// Shows: a body that passes chunk by chunk, a body that is held back until it is whole,
// the content-length that has to go before, and bodies that end in trailers.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() {
	proxywasm.SetVMContext(&vm{})
}

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type conf struct {
	// request, response or both
	Direction string `json:"direction"`
	// append, prepend, replace, upper or buffer
	Mode string `json:"mode"`
	// what append, prepend and replace write
	Text              string `json:"text"`
	KeepContentLength bool   `json:"keep_content_length"`
}

func (c *conf) check() error {
	switch c.Direction {
	case "request", "response", "both":
	default:
		return fmt.Errorf("direction is neither request nor response nor both: %q", c.Direction)
	}
	switch c.Mode {
	case "append", "prepend", "replace", "upper", "buffer":
		return nil
	}
	return fmt.Errorf("no such mode: %q", c.Mode)
}

type plugin struct {
	types.DefaultPluginContext
	conf conf
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	p.conf = conf{Direction: "both", Mode: "append", Text: "appended"}
	// No configuration at all is an error as well: "not found".
	if text, err := proxywasm.GetPluginConfiguration(); err == nil {
		if err = json.Unmarshal(text, &p.conf); err != nil {
			proxywasm.LogErrorf("body: %v", err)
			return types.OnPluginStartStatusFailed
		}
	}
	if err := p.conf.check(); err != nil {
		proxywasm.LogErrorf("body: %v", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) NewHttpContext(uint32) types.HttpContext {
	return &stream{
		conf: &p.conf,
		request: changer{
			conf: &p.conf,
			get:  proxywasm.GetHttpRequestBody,
			set:  proxywasm.ReplaceHttpRequestBody, append: proxywasm.AppendHttpRequestBody,
			prepend: proxywasm.PrependHttpRequestBody,
		},
		response: changer{
			conf: &p.conf,
			get:  proxywasm.GetHttpResponseBody,
			set:  proxywasm.ReplaceHttpResponseBody, append: proxywasm.AppendHttpResponseBody,
			prepend: proxywasm.PrependHttpResponseBody,
		},
	}
}

type stream struct {
	types.DefaultHttpContext
	conf              *conf
	request, response changer
}

func (s *stream) OnHttpRequestHeaders(int, bool) types.Action {
	if s.conf.Direction != "response" && !s.conf.KeepContentLength {
		warn(proxywasm.RemoveHttpRequestHeader("content-length"))
	}
	return types.ActionContinue
}

func (s *stream) OnHttpRequestBody(_ int, endOfStream bool) types.Action {
	if s.conf.Direction == "response" {
		return types.ActionContinue
	}
	return s.request.onBody(endOfStream)
}

func (s *stream) OnHttpRequestTrailers(int) types.Action {
	if s.conf.Direction != "response" {
		s.request.onTrailers()
	}
	return types.ActionContinue
}

func (s *stream) OnHttpResponseHeaders(int, bool) types.Action {
	if s.conf.Direction != "request" && !s.conf.KeepContentLength {
		warn(proxywasm.RemoveHttpResponseHeader("content-length"))
	}
	return types.ActionContinue
}

func (s *stream) OnHttpResponseBody(_ int, endOfStream bool) types.Action {
	if s.conf.Direction == "request" {
		return types.ActionContinue
	}
	return s.response.onBody(endOfStream)
}

func (s *stream) OnHttpResponseTrailers(int) types.Action {
	if s.conf.Direction != "request" {
		s.response.onTrailers()
	}
	return types.ActionContinue
}

// A changer does to one body of a stream what the conf says.
type changer struct {
	conf                 *conf
	started              bool
	get                  func(start, most int) ([]byte, error)
	set, append, prepend func([]byte) error
}

func (c *changer) onBody(endOfStream bool) types.Action {
	first := !c.started
	c.started = true
	switch c.conf.Mode {
	case "append":
		if endOfStream {
			warn(c.append([]byte(c.conf.Text)))
		}
	case "prepend":
		if first {
			warn(c.prepend([]byte(c.conf.Text)))
		}
	case "replace":
		if first {
			warn(c.set([]byte(c.conf.Text)))
		} else {
			warn(c.set(nil))
		}
	case "upper":
		warn(c.set(bytes.ToUpper(c.all())))
	case "buffer":
		if !endOfStream {
			return types.ActionPause
		}
		c.frame()
	}
	return types.ActionContinue
}

// onTrailers is the end of a body that is followed by trailers. What was held back is still here.
func (c *changer) onTrailers() {
	if c.conf.Mode == "buffer" && c.started {
		c.frame()
	}
}

// frame writes the size before the body: both are only known when the body is whole.
func (c *changer) frame() {
	whole := c.all()
	warn(c.set(fmt.Appendf(nil, "%d:%s", len(whole), whole)))
}

// all is what has arrived and was not passed on yet; nothing at all is an error to the SDK.
func (c *changer) all() []byte {
	chunk, err := c.get(0, math.MaxInt32)
	if err != nil {
		return nil
	}
	return chunk
}

func warn(err error) {
	if err != nil {
		proxywasm.LogWarnf("body: %v", err)
	}
}
