//! Asks another service whether a request may pass, and waits for the answer.
//!
//! Shows: an HTTP call from a request callback, a paused request, and what its answer may do:
//! resume (200) or answer in the app's stead. With `"fetch": "/keys"` the root context makes a call
//! of its own while it is configured, as plugins do that load keys.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

fn log(line: &str) {
    let _ = hostcalls::log(LogLevel::Info, &format!("http_auth: {line}"));
}

#[derive(Clone, Deserialize)]
#[serde(default)]
struct Conf {
    upstream: String,
    path: String,
    timeout_ms: u64,
    fetch: Option<String>,
}

impl Default for Conf {
    fn default() -> Self {
        Conf { upstream: "auth".into(), path: "/check".into(), timeout_ms: 1000, fetch: None }
    }
}

#[derive(Default)]
struct Root {
    conf: Conf,
}

impl Context for Root {
    fn on_http_call_response(&mut self, _token: u32, headers: usize, body_size: usize, _trailers: usize) {
        log(&format!("fetched {headers} headers, {body_size} bytes"));
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        self.conf = match serde_json::from_slice(&text) {
            Ok(conf) => conf,
            Err(_) if text.is_empty() => Conf::default(),
            Err(error) => {
                let _ = hostcalls::log(LogLevel::Error, &format!("http_auth: {error}"));
                return false;
            }
        };
        if let Some(path) = self.conf.fetch.clone() {
            if let Err(status) = call(self, &self.conf.clone(), &path, "root", b"") {
                log(&format!("cannot fetch: {status:?}"));
            }
        }
        true
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { conf: self.conf.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn call(
    context: &dyn Context,
    conf: &Conf,
    path: &str,
    user: &str,
    body: &[u8],
) -> Result<u32, proxy_wasm::types::Status> {
    let headers = vec![
        (":method", "POST"),
        (":path", path),
        (":authority", "auth.test"),
        (":scheme", "http"),
        ("x-user", user),
    ];
    context.dispatch_http_call(&conf.upstream, headers, Some(body), vec![], Duration::from_millis(conf.timeout_ms))
}

struct Stream {
    conf: Conf,
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _token: u32, headers: usize, body_size: usize, _trailers: usize) {
        // After a failure there are no headers, and the SDK panics when it is asked for one.
        if headers == 0 {
            log("not answered");
            self.send_http_response(502, vec![], Some(b"no answer"));
            return;
        }
        let status = self.get_http_call_response_header(":status").unwrap_or_default();
        log(&format!("answered {status} ({body_size} bytes)"));
        if status == "200" {
            let body = self.get_http_call_response_body(0, body_size).unwrap_or_default();
            self.set_http_request_header("x-auth", Some(&String::from_utf8_lossy(&body)));
            self.resume_http_request();
        } else {
            self.send_http_response(403, vec![("x-auth-status", &status)], Some(b"denied"));
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let user = self.get_http_request_header("x-user").unwrap_or_else(|| "nobody".into());
        match call(self, &self.conf, &self.conf.path, &user, user.as_bytes()) {
            Ok(_) => Action::Pause,
            Err(status) => {
                log(&format!("cannot ask: {status:?}"));
                self.send_http_response(500, vec![], Some(b"cannot ask"));
                Action::Pause
            }
        }
    }
}
