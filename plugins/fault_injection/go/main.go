// Answers a share of the requests by itself: the plugin that exists in four languages.
//
// Shows: JSON configuration, a refused configuration, a local reply, and state that a
// plugin context hands to its stream contexts.
package main

import (
	"math/rand"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() {
	proxywasm.SetVMContext(&vm{})
}

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type plugin struct {
	types.DefaultPluginContext
	conf *conf
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	text, err := proxywasm.GetPluginConfiguration()
	if err != nil {
		text = nil // an empty conf is "not found"
	}
	p.conf, err = parseConf(text)
	if err != nil {
		proxywasm.LogErrorf("fault_injection: %v", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) NewHttpContext(uint32) types.HttpContext { return &stream{conf: p.conf} }

type stream struct {
	types.DefaultHttpContext
	conf *conf
}

func (s *stream) OnHttpRequestHeaders(int, bool) types.Action {
	if rand.Intn(100) >= s.conf.percentage {
		return types.ActionContinue
	}
	headers := [][2]string{{"x-wasm-plugin", "fault_injection/go"}}
	if err := proxywasm.SendHttpResponse(uint32(s.conf.httpStatus), headers, []byte(s.conf.body), -1); err != nil {
		proxywasm.LogErrorf("fault_injection: no reply: %v", err)
	}
	return types.ActionPause
}
