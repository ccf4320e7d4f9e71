// Answers a share of the requests by itself: the plugin that exists in four languages.
//
// Shows: JSON configuration, a refused configuration, a local reply, and state that a
// root context hands to its stream contexts.
export * from "@gcoredev/proxy-wasm-sdk-as/assembly/proxy";

import {
  BufferTypeValues,
  Context,
  FilterHeadersStatusValues,
  LogLevelValues,
  RootContext,
  get_buffer_bytes,
  get_current_time_nanoseconds,
  makeHeaderPair,
  registerRootContext,
  send_http_response,
} from "@gcoredev/proxy-wasm-sdk-as/assembly";
import { deleteContext, getBaseContext, getRootContext } from "@gcoredev/proxy-wasm-sdk-as/assembly/runtime";
// The SDK's own log() prints to standard output; a host has levels.
import { proxy_log } from "@gcoredev/proxy-wasm-sdk-as/assembly/imports";
import { JSON } from "assemblyscript-json/assembly";

import { parse } from "./json";

class Conf {
  httpStatus: u32 = 200;
  body: ArrayBuffer = new ArrayBuffer(0);
  percentage: u32 = 100;

  /** What is wrong with the text, or nothing. */
  read(text: ArrayBuffer): string {
    if (text.byteLength == 0) {
      return "conf is empty";
    }
    const value = parse(text);
    if (value == null) {
      return "conf is not JSON";
    }
    if (!value.isObj) {
      return "conf is not an object";
    }
    const object = value as JSON.Obj;

    const httpStatus = integer(object, "http_status", 200, 599, 200);
    if (httpStatus < 0) {
      return "http_status is not an integer from 200 to 599";
    }
    const body = object.getString("body");
    if (body == null && object.has("body")) {
      return "body is not a string";
    }
    const percentage = integer(object, "percentage", 0, 100, 100);
    if (percentage < 0) {
      return "percentage is not an integer from 0 to 100";
    }
    this.httpStatus = <u32>httpStatus;
    if (body != null) {
      this.body = String.UTF8.encode(body.valueOf());
    }
    this.percentage = <u32>percentage;
    return "";
  }
}

/** The number under a key, or -1 when what stands there is none within the limits. */
function integer(object: JSON.Obj, key: string, least: i64, most: i64, absent: i64): i64 {
  if (!object.has(key)) {
    return absent;
  }
  const found = object.getInteger(key);
  if (found == null) {
    return -1;
  }
  const number = found.valueOf();
  return number >= least && number <= most ? number : -1;
}

class Root extends RootContext {
  conf: Conf = new Conf();

  onConfigure(size: u32): bool {
    const conf = new Conf();
    const reason = conf.read(size > 0 ? get_buffer_bytes(BufferTypeValues.PluginConfiguration, 0, size) : new ArrayBuffer(0));
    if (reason.length > 0) {
      const line = String.UTF8.encode("fault_injection: " + reason);
      proxy_log(LogLevelValues.error, changetype<usize>(line), line.byteLength);
      return false;
    }
    this.conf = conf;
    return true;
  }

  createContext(id: u32): Context {
    return new Stream(id, this);
  }
}

class Stream extends Context {
  private conf: Conf;

  constructor(id: u32, root: Root) {
    super(id, root);
    this.conf = root.conf;
  }

  /** A number from 0 to 99: the clock alone would repeat itself where it is coarse. */
  private roll(): u32 {
    let mixed: u64 = get_current_time_nanoseconds() + <u64>this.context_id * 0x9e3779b97f4a7c15;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return <u32>((mixed ^ (mixed >> 31)) % 100);
  }

  onRequestHeaders(headers: u32, end_of_stream: bool): FilterHeadersStatusValues {
    if (this.roll() >= this.conf.percentage) {
      return FilterHeadersStatusValues.Continue;
    }
    const added = [makeHeaderPair("x-wasm-plugin", "fault_injection/assemblyscript")];
    send_http_response(this.conf.httpStatus, "", this.conf.body, added);
    return FilterHeadersStatusValues.StopIteration;
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

registerRootContext((id: u32) => new Root(id), "fault_injection");
