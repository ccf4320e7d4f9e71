//! Asks a gRPC service whether a request may pass, and waits for the answer.
//!
//! Shows: a unary call from a request callback; with `"stream": true` the same question by a
//! stream, whose messages are gathered until the service closes it; and with `"fetch": "Keys"`
//! a call of the root context while it is configured.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

fn log(line: &str) {
    let _ = hostcalls::log(LogLevel::Info, &format!("grpc_auth: {line}"));
}

#[derive(Clone, Deserialize)]
#[serde(default)]
struct Conf {
    upstream: String,
    service: String,
    method: String,
    timeout_ms: u64,
    stream: bool,
    fetch: Option<String>,
}

impl Default for Conf {
    fn default() -> Self {
        Conf {
            upstream: "auth".into(),
            service: "test.Auth".into(),
            method: "Check".into(),
            timeout_ms: 1000,
            stream: false,
            fetch: None,
        }
    }
}

#[derive(Default)]
struct Root {
    conf: Conf,
}

impl Context for Root {
    fn on_grpc_call_response(&mut self, _token: u32, status: u32, size: usize) {
        log(&format!("fetched {size} bytes, status {status}"));
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        self.conf = match serde_json::from_slice(&text) {
            Ok(conf) => conf,
            Err(_) if text.is_empty() => Conf::default(),
            Err(error) => {
                let _ = hostcalls::log(LogLevel::Error, &format!("grpc_auth: {error}"));
                return false;
            }
        };
        if let Some(method) = &self.conf.fetch {
            let conf = &self.conf;
            let timeout = Duration::from_millis(conf.timeout_ms);
            if let Err(status) = self.dispatch_grpc_call(&conf.upstream, &conf.service, method, vec![], None, timeout) {
                log(&format!("cannot fetch: {status:?}"));
            }
        }
        true
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { conf: self.conf.clone(), answers: vec![] }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    conf: Conf,
    answers: Vec<String>,
}

impl Stream {
    fn message(&self, size: usize) -> String {
        let bytes = self.get_grpc_call_response_body(0, size).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn allow(&self, answer: &str) {
        self.set_http_request_header("x-auth", Some(answer));
        self.resume_http_request();
    }

    fn deny(&self, status: u32) {
        let (code, message) = self.get_grpc_status();
        log(&format!("denied: status {status}, {code} {}", message.unwrap_or_default()));
        self.send_http_response(403, vec![("x-auth-status", &status.to_string())], Some(b"denied"));
    }
}

impl Context for Stream {
    fn on_grpc_call_response(&mut self, _token: u32, status: u32, size: usize) {
        if status == 0 {
            self.allow(&self.message(size));
        } else {
            self.deny(status);
        }
    }

    fn on_grpc_stream_initial_metadata(&mut self, _token: u32, _elements: u32) {
        let realm = self.get_grpc_stream_initial_metadata_value("x-realm").unwrap_or_default();
        log(&format!("realm {}", String::from_utf8_lossy(&realm)));
    }

    fn on_grpc_stream_message(&mut self, _token: u32, size: usize) {
        let answer = self.message(size);
        self.answers.push(answer);
    }

    fn on_grpc_stream_trailing_metadata(&mut self, _token: u32, _elements: u32) {
        let cost = self.get_grpc_stream_trailing_metadata_value("x-cost").unwrap_or_default();
        log(&format!("cost {}", String::from_utf8_lossy(&cost)));
    }

    fn on_grpc_stream_close(&mut self, _token: u32, status: u32) {
        if status == 0 {
            self.allow(&self.answers.join(","));
        } else {
            self.deny(status);
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let user = self.get_http_request_header("x-user").unwrap_or_else(|| "nobody".into());
        let conf = &self.conf;
        let metadata = vec![("x-user", user.as_bytes()), ("x-raw-bin", b"\x00\xff".as_slice())];
        let started = if conf.stream {
            self.open_grpc_stream(&conf.upstream, &conf.service, &conf.method, metadata).map(|token| {
                self.send_grpc_stream_message(token, Some(user.as_bytes()), true);
            })
        } else {
            let timeout = Duration::from_millis(conf.timeout_ms);
            let message = Some(user.as_bytes());
            self.dispatch_grpc_call(&conf.upstream, &conf.service, &conf.method, metadata, message, timeout).map(|_| ())
        };
        if let Err(status) = started {
            log(&format!("cannot ask: {status:?}"));
            self.send_http_response(500, vec![], Some(b"cannot ask"));
        }
        Action::Pause
    }
}
