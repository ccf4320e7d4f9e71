//! Feature flags for all workers: kept in shared data, written by a request with a token, told to the app in a header.
//!
//! `PUT <path>` with a JSON object of names and percentages sets them, `GET <path>` shows them. Every other request
//! gets `x-flags: a,b`: a flag with 25 is on for a quarter of all users, the same ones each time.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

const KEY: &str = "flags";

#[derive(Deserialize)]
#[serde(default)]
struct Conf {
    path: String,
    /// Who sends it as `Authorization: Bearer` may write. Without one nobody may.
    token: Option<String>,
    /// Which header tells users apart.
    user_header: String,
}

impl Default for Conf {
    fn default() -> Self {
        Conf { path: "/_flags".into(), token: None, user_header: "x-user".into() }
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
        Some(Box::new(Stream { conf: self.conf.clone(), writes: false }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    conf: Rc<Conf>,
    writes: bool,
}

impl Context for Stream {}

/// From 0 to 99, by FNV-1a.
fn bucket(flag: &str, user: &str) -> u64 {
    let hash = flag.bytes().chain([0]).chain(user.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The low bits of it are not evenly spread.
    (hash >> 32) % 100
}

impl Stream {
    fn answer(&self, status: u32, body: &[u8]) -> Action {
        self.send_http_response(status, vec![("content-type", "application/json")], Some(body));
        Action::Pause
    }

    fn manage(&mut self, end_of_stream: bool) -> Action {
        let method = self.get_http_request_header(":method").unwrap_or_default();
        if method == "GET" {
            let flags = self.get_shared_data(KEY).0.unwrap_or_else(|| b"{}".to_vec());
            return self.answer(200, &flags);
        }
        let given = self.get_http_request_header("authorization");
        let wanted = self.conf.token.as_ref().map(|token| format!("Bearer {token}"));
        if wanted.is_none() || given != wanted {
            return self.answer(403, b"{\"error\": \"send the token\"}");
        }
        if method != "PUT" || end_of_stream {
            return self.answer(400, b"{\"error\": \"PUT an object of names and percentages\"}");
        }
        self.writes = true;
        Action::Continue
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        if path.split('?').next() == Some(self.conf.path.as_str()) {
            return self.manage(end_of_stream);
        }
        let user = self.get_http_request_header(&self.conf.user_header).unwrap_or_default();
        let kept = self.get_shared_data(KEY).0.unwrap_or_default();
        let flags: BTreeMap<String, u64> = serde_json::from_slice(&kept).unwrap_or_default();
        let on: Vec<&str> =
            flags.iter().filter(|(name, percent)| bucket(name, &user) < **percent).map(|(name, _)| name.as_str()).collect();
        self.set_http_request_header("x-flags", Some(&on.join(",")));
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !self.writes {
            return Action::Continue;
        }
        if !end_of_stream {
            return Action::Pause;
        }
        let body = self.get_http_request_body(0, size).unwrap_or_default();
        if serde_json::from_slice::<BTreeMap<String, u64>>(&body).is_err() {
            return self.answer(400, b"{\"error\": \"PUT an object of names and percentages\"}");
        }
        match self.set_shared_data(KEY, Some(&body), None) {
            Ok(()) => self.answer(200, &body),
            Err(_) => self.answer(503, b"{\"error\": \"cannot be kept now\"}"),
        }
    }
}
