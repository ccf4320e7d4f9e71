//! Refuses requests in whose path, query or body one of a list of texts stands. A sketch of a firewall: it shows how
//! one holds a body back until it has seen it. Coraza is a real one.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Conf {
    deny: Vec<String>,
    /// Bodies beyond so many bytes are not looked at: uploads.
    body_bytes: Option<usize>,
}

#[derive(Default)]
struct Root {
    conf: Rc<Conf>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        match serde_json::from_slice::<Conf>(&text) {
            Ok(mut conf) => {
                conf.deny.iter_mut().for_each(|text| *text = text.to_lowercase());
                self.conf = Rc::new(conf);
            }
            Err(_) => return text.is_empty(),
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

struct Stream {
    conf: Rc<Conf>,
}

impl Context for Stream {}

/// `+` and `%XX` as what they stand for.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    out
}

impl Stream {
    fn refuses(&self, what: &str, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(&decoded(bytes)).to_lowercase();
        let found = self.conf.deny.iter().find(|denied| text.contains(denied.as_str()));
        if let Some(denied) = found {
            let _ = hostcalls::log(LogLevel::Warn, &format!("waf: {denied:?} in the {what}"));
            self.send_http_response(403, vec![], Some(b"refused"));
        }
        found.is_some()
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        if self.refuses("path", path.as_bytes()) { Action::Pause } else { Action::Continue }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if size > self.conf.body_bytes.unwrap_or(usize::MAX) {
            return Action::Continue;
        }
        if !end_of_stream {
            return Action::Pause;
        }
        let body = self.get_http_request_body(0, size).unwrap_or_default();
        if self.refuses("body", &body) { Action::Pause } else { Action::Continue }
    }
}
