// Counts requests by their path, over all VMs that share data with this one.
//
// Shows: shared data changed by compare-and-swap, metrics of the three kinds, a property that is read
// and a property that is set, a response header, and plain text as configuration: the name of the count.
export * from "@gcoredev/proxy-wasm-sdk-as/assembly/proxy";

import {
  BufferTypeValues,
  Context,
  Counter,
  FilterHeadersStatusValues,
  Gauge,
  Histogram,
  LogLevelValues,
  RootContext,
  WasmResultValues,
  get_buffer_bytes,
  get_property,
  get_shared_data,
  registerRootContext,
  set_property,
  set_shared_data,
  stream_context,
} from "@gcoredev/proxy-wasm-sdk-as/assembly";
// The SDK's own log() prints to standard output; a host has levels.
import { proxy_log } from "@gcoredev/proxy-wasm-sdk-as/assembly/imports";
import { deleteContext, getBaseContext, getRootContext } from "@gcoredev/proxy-wasm-sdk-as/assembly/runtime";

class Root extends RootContext {
  name: string = "counter";
  requests: Counter | null = null;
  inFlight: Gauge | null = null;
  pathLength: Histogram | null = null;

  onConfigure(size: u32): bool {
    if (size > 0) {
      this.name = String.UTF8.decode(get_buffer_bytes(BufferTypeValues.PluginConfiguration, 0, size));
    }
    this.requests = new Counter(this.name + ".requests");
    this.inFlight = new Gauge(this.name + ".in_flight");
    this.pathLength = new Histogram(this.name + ".path_length");
    return true;
  }

  createContext(id: u32): Context {
    return new Stream(id, this);
  }
}

/**
 * Adds one; somebody else may have done so in between, then once more. 0 when it cannot be read or written now:
 * a count that starts again at 1 because a store was away would be lost.
 */
function count(key: string): u32 {
  while (true) {
    const read = get_shared_data(key);
    if (read.result != WasmResultValues.Ok && read.result != WasmResultValues.NotFound) {
      return refused("read", read.result);
    }
    const value = read.value;
    const counted: u32 = value == null ? 1 : <u32>parseInt(String.UTF8.decode(value)) + 1;
    const cas = read.result == WasmResultValues.Ok ? read.cas : 0;
    const written = set_shared_data(key, String.UTF8.encode(counted.toString()), cas);
    if (written == WasmResultValues.Ok) {
      return counted;
    }
    if (written != WasmResultValues.CasMismatch) {
      return refused("written", written);
    }
  }
}

function refused(what: string, status: WasmResultValues): u32 {
  const line = String.UTF8.encode("counter: the count cannot be " + what + ": status " + (<u32>status).toString());
  proxy_log(LogLevelValues.error, changetype<usize>(line), line.byteLength);
  return 0;
}

class Stream extends Context {
  private root: Root;
  private counted: u32 = 0;
  private begun: bool = false;

  constructor(id: u32, root: Root) {
    super(id, root);
    this.root = root;
  }

  onRequestHeaders(headers: u32, end_of_stream: bool): FilterHeadersStatusValues {
    // The parts of a property's path are joined by NUL.
    const path = String.UTF8.decode(get_property("request\0url_path"));
    this.counted = count(this.root.name + ":" + path);

    const histogram = this.root.pathLength!;
    this.root.requests!.increment(1);
    this.root.inFlight!.increment(1);
    this.begun = true;
    histogram.record(histogram.metric_id, path.length);

    const user = stream_context.headers.request.get("x-user");
    set_property("user", String.UTF8.encode(user.length > 0 ? user : "nobody"));
    return FilterHeadersStatusValues.Continue;
  }

  onResponseHeaders(headers: u32, end_of_stream: bool): FilterHeadersStatusValues {
    if (this.counted > 0) {
      stream_context.headers.response.add("x-count", this.counted.toString());
    }
    stream_context.headers.response.add("x-count-user", String.UTF8.decode(get_property("user")));
    return FilterHeadersStatusValues.Continue;
  }

  onLog(): void {
    if (this.begun) {
      this.root.inFlight!.increment(-1);
    }
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

registerRootContext((id: u32) => new Root(id), "counter");
