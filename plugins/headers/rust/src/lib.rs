//! Adds, sets and removes headers of the request and of the response.
//!
//! Shows: header maps, pseudo headers read and written (`:path`), values that need not be
//! UTF-8, and a configuration read into structs.

use std::collections::BTreeMap;
use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

/// Applied in this order: remove, set, add.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Changes {
    remove: Vec<String>,
    set: BTreeMap<String, String>,
    add: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Conf {
    request: Changes,
    response: Changes,
    /// The new `:path`.
    path: Option<String>,
}

#[derive(Default)]
struct Root {
    conf: Rc<Conf>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        if text.is_empty() {
            return true;
        }
        match serde_json::from_slice(&text) {
            Ok(conf) => {
                self.conf = Rc::new(conf);
                true
            }
            Err(error) => {
                let _ = hostcalls::log(LogLevel::Error, &format!("headers: {error}"));
                false
            }
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { conf: Rc::clone(&self.conf) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    conf: Rc<Conf>,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, num_headers: usize, end_of_stream: bool) -> Action {
        for pseudo in ["method", "path", "authority", "scheme"] {
            if let Some(value) = self.get_http_request_header_bytes(&format!(":{pseudo}")) {
                self.add_http_request_header_bytes(&format!("x-seen-{pseudo}"), &value);
            }
        }
        self.add_http_request_header("x-seen-count", &num_headers.to_string());
        self.add_http_request_header("x-seen-end-of-stream", &end_of_stream.to_string());

        let changes = &self.conf.request;
        changes.remove.iter().for_each(|name| self.remove_http_request_header(name));
        changes.set.iter().for_each(|(name, value)| self.set_http_request_header(name, Some(value)));
        changes.add.iter().for_each(|(name, value)| self.add_http_request_header(name, value));
        if let Some(path) = &self.conf.path {
            self.set_http_request_header(":path", Some(path));
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, num_headers: usize, end_of_stream: bool) -> Action {
        if let Some(status) = self.get_http_response_header_bytes(":status") {
            self.add_http_response_header_bytes("x-seen-status", &status);
        }
        self.add_http_response_header("x-seen-count", &num_headers.to_string());
        self.add_http_response_header("x-seen-end-of-stream", &end_of_stream.to_string());

        let changes = &self.conf.response;
        changes.remove.iter().for_each(|name| self.remove_http_response_header(name));
        changes.set.iter().for_each(|(name, value)| self.set_http_response_header(name, Some(value)));
        changes.add.iter().for_each(|(name, value)| self.add_http_response_header(name, value));
        Action::Continue
    }
}
