// Answers by itself in the phase that the conf names, and logs every callback it gets.
//
// Shows: a local reply from every phase with details, headers and a body; that the plugin sees its
// own reply; the end of a stream in onLog. A conf that is not JSON aborts the VM: assemblyscript-json
// does so (fault_injection shows how to be safe from that).
export * from "@gcoredev/proxy-wasm-sdk-as/assembly/proxy";

import {
  BufferTypeValues,
  Context,
  FilterDataStatusValues,
  FilterHeadersStatusValues,
  FilterTrailersStatusValues,
  GrpcStatusValues,
  HeaderPair,
  LogLevelValues,
  RootContext,
  get_buffer_bytes,
  makeHeaderPair,
  registerRootContext,
  send_local_response,
  stream_context,
} from "@gcoredev/proxy-wasm-sdk-as/assembly";
import { deleteContext, getBaseContext, getRootContext } from "@gcoredev/proxy-wasm-sdk-as/assembly/runtime";
// The SDK's own log() prints to standard output; a host has levels.
import { proxy_log } from "@gcoredev/proxy-wasm-sdk-as/assembly/imports";
import { JSON } from "assemblyscript-json/assembly";

function say(text: string): void {
  const line = String.UTF8.encode("local_reply: " + text);
  proxy_log(LogLevelValues.info, changetype<usize>(line), line.byteLength);
}

class Root extends RootContext {
  phase: string = "request_headers";
  httpStatus: u32 = 403;
  details: string = "";
  body: string = "";
  headers: HeaderPair[] = [];
  grpcStatus: i32 = GrpcStatusValues.InvalidCode;

  onConfigure(size: u32): bool {
    if (size == 0) {
      return true;
    }
    const value = JSON.parse(String.UTF8.decode(get_buffer_bytes(BufferTypeValues.PluginConfiguration, 0, size)));
    if (!value.isObj) {
      return false;
    }
    const conf = value as JSON.Obj;
    const phase = conf.getString("phase");
    const httpStatus = conf.getInteger("http_status");
    const details = conf.getString("details");
    const body = conf.getString("body");
    const headers = conf.getObj("headers");
    const grpcStatus = conf.getInteger("grpc_status");
    if (phase != null) this.phase = phase.valueOf();
    if (httpStatus != null) this.httpStatus = <u32>httpStatus.valueOf();
    if (details != null) this.details = details.valueOf();
    if (body != null) this.body = body.valueOf();
    if (grpcStatus != null) this.grpcStatus = <i32>grpcStatus.valueOf();
    if (headers != null) {
      const names = headers.keys;
      for (let i = 0; i < names.length; i++) {
        const header = headers.getString(names[i]);
        if (header != null) this.headers.push(makeHeaderPair(names[i], header.valueOf()));
      }
    }
    return true;
  }

  createContext(id: u32): Context {
    return new Stream(id, this);
  }
}

class Stream extends Context {
  private root: Root;
  private replied: bool = false;

  constructor(id: u32, root: Root) {
    super(id, root);
    this.root = root;
  }

  /** True when this was the phase to answer in. The reply itself comes by here as well. */
  private reply(phase: string): bool {
    say(phase);
    const root = this.root;
    if (this.replied || phase != root.phase) {
      return false;
    }
    this.replied = true;
    const body = String.UTF8.encode(root.body);
    send_local_response(root.httpStatus, root.details, body, root.headers, root.grpcStatus);
    return true;
  }

  onRequestHeaders(headers: u32, end_of_stream: bool): FilterHeadersStatusValues {
    return this.reply("request_headers") ? FilterHeadersStatusValues.StopIteration : FilterHeadersStatusValues.Continue;
  }

  onRequestBody(size: usize, end_of_stream: bool): FilterDataStatusValues {
    return this.reply("request_body") ? FilterDataStatusValues.StopIterationNoBuffer : FilterDataStatusValues.Continue;
  }

  onRequestTrailers(trailers: u32): FilterTrailersStatusValues {
    return this.reply("request_trailers") ? FilterTrailersStatusValues.StopIteration : FilterTrailersStatusValues.Continue;
  }

  onResponseHeaders(headers: u32, end_of_stream: bool): FilterHeadersStatusValues {
    return this.reply("response_headers") ? FilterHeadersStatusValues.StopIteration : FilterHeadersStatusValues.Continue;
  }

  onResponseBody(size: usize, end_of_stream: bool): FilterDataStatusValues {
    return this.reply("response_body") ? FilterDataStatusValues.StopIterationNoBuffer : FilterDataStatusValues.Continue;
  }

  onLog(): void {
    say("on_log " + stream_context.headers.response.get(":status"));
  }
}

// The SDK looks for a root context among those of streams when its VM is stopped, and aborts.
export function proxy_on_done(id: u32): u32 {
  const isRoot = getRootContext(id).context_id == id;
  return isRoot || getBaseContext(id).onDone() ? 1 : 0;
}

export function proxy_on_delete(id: u32): void {
  if (getRootContext(id).context_id == id) {
    return;
  }
  getBaseContext(id).onDelete();
  deleteContext(id);
}

registerRootContext((id: u32) => new Root(id), "local_reply");
