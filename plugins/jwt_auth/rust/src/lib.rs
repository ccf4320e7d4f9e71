//! Has another service check the `authorization` header, and tells the app who it is.
//!
//! The service answers 200 with the header `x-user`, or anything else for no. What a client writes into `x-user`
//! itself never reaches the app.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use serde::Deserialize;
use std::rc::Rc;
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

#[derive(Deserialize)]
#[serde(default)]
struct Conf {
    upstream: String,
    path: String,
    timeout_ms: u64,
}

impl Default for Conf {
    fn default() -> Self {
        Conf { upstream: "auth".into(), path: "/verify".into(), timeout_ms: 1000 }
    }
}

#[derive(Default)]
struct Root {
    conf: Rc<Conf>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        match serde_json::from_slice(&text) {
            Ok(conf) => self.conf = Rc::new(conf),
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

impl Stream {
    fn refuse(&self, status: u32, body: &str) {
        self.send_http_response(status, vec![("www-authenticate", "Bearer")], Some(body.as_bytes()));
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        self.set_http_request_header("x-user", None);
        let Some(token) = self.get_http_request_header("authorization") else {
            self.refuse(401, "send a token");
            return Action::Pause;
        };
        let headers = vec![
            (":method", "GET"),
            (":path", self.conf.path.as_str()),
            (":authority", self.conf.upstream.as_str()),
            ("authorization", token.as_str()),
        ];
        let timeout = Duration::from_millis(self.conf.timeout_ms);
        if self.dispatch_http_call(&self.conf.upstream, headers, None, vec![], timeout).is_err() {
            self.refuse(503, "nobody can check tokens now");
        }
        Action::Pause
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _token: u32, headers: usize, _body_size: usize, _trailers: usize) {
        // After a failure there are no headers, and the SDK panics when it is asked for one.
        let status = if headers == 0 { None } else { self.get_http_call_response_header(":status") };
        match status.as_deref() {
            Some("200") => {
                let user = self.get_http_call_response_header("x-user").unwrap_or_default();
                self.set_http_request_header("x-user", Some(&user));
                self.set_property(vec!["user"], Some(user.as_bytes()));
                self.resume_http_request();
            }
            Some("401" | "403") => self.refuse(401, "the token is not valid"),
            _ => self.refuse(503, "nobody can check tokens now"),
        }
    }
}
