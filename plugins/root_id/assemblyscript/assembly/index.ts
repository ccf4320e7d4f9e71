// Says hello under two root ids, each with a header of its own.
//
// Shows: several plugins in one binary, told apart by `root_id`, and a root id that none of them has; the
// older AssemblyScript SDK, whose modules begin in a start section and import from `wasi_unstable`.
export * from "@solo-io/proxy-runtime/proxy";

import { Context, FilterHeadersStatusValues, RootContext, registerRootContext, stream_context } from "@solo-io/proxy-runtime";

class Root extends RootContext {
  name: string;

  constructor(id: u32, name: string) {
    super(id);
    this.name = name;
  }

  // The SDK's own puts the conf's size where a pointer belongs, and so writes to a random address.
  onConfigure(size: u32): bool {
    return true;
  }

  createContext(id: u32): Context {
    return new Stream(id, this);
  }
}

class Stream extends Context {
  private root: Root;

  constructor(id: u32, root: Root) {
    super(id, root);
    this.root = root;
  }

  onResponseHeaders(headers: u32, end_of_stream: bool): FilterHeadersStatusValues {
    stream_context.headers.response.add("x-root-id", this.root.name);
    return FilterHeadersStatusValues.Continue;
  }
}

registerRootContext((id: u32) => new Root(id, "first"), "first");
registerRootContext((id: u32) => new Root(id, "second"), "second");
