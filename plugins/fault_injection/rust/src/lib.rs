//! Answers a share of the requests by itself: the plugin that exists in four languages.
//!
//! Shows: JSON configuration, a refused configuration, a local reply, and state that a
//! root context hands to its stream contexts.

use std::rc::Rc;
use std::time::UNIX_EPOCH;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde_json::Value;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { conf: Rc::new(Conf::default()) }));
}}

#[derive(Default)]
struct Conf {
    http_status: u32,
    body: String,
    percentage: u64,
}

impl Conf {
    fn parse(text: &[u8]) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("conf is empty");
        }
        let value: Value = serde_json::from_slice(text).map_err(|_| "conf is not JSON")?;
        let object = value.as_object().ok_or("conf is not an object")?;

        let http_status = match object.get("http_status") {
            None => 200,
            Some(value) => integer(value, 200, 599).ok_or("http_status is not an integer from 200 to 599")?,
        };
        let body = match object.get("body") {
            None => "",
            Some(value) => value.as_str().ok_or("body is not a string")?,
        };
        let percentage = match object.get("percentage") {
            None => 100,
            Some(value) => integer(value, 0, 100).ok_or("percentage is not an integer from 0 to 100")?,
        };
        Ok(Self { http_status: http_status as u32, body: body.to_owned(), percentage })
    }
}

fn integer(value: &Value, least: u64, most: u64) -> Option<u64> {
    value.as_u64().filter(|number| (least..=most).contains(number))
}

struct Root {
    conf: Rc<Conf>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match Conf::parse(&self.get_plugin_configuration().unwrap_or_default()) {
            Ok(conf) => {
                self.conf = Rc::new(conf);
                true
            }
            Err(reason) => {
                let _ = hostcalls::log(LogLevel::Error, &format!("fault_injection: {reason}"));
                false
            }
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { context_id, conf: Rc::clone(&self.conf) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    context_id: u32,
    conf: Rc<Conf>,
}

impl Stream {
    /// A number from 0 to 99: the clock alone would repeat itself where it is coarse.
    fn roll(&self) -> u64 {
        let nanoseconds = self.get_current_time().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos() as u64);
        let mut mixed = nanoseconds.wrapping_add(u64::from(self.context_id).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 100
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        if self.roll() >= self.conf.percentage {
            return Action::Continue;
        }
        self.send_http_response(
            self.conf.http_status,
            vec![("x-wasm-plugin", "fault_injection/rust")],
            Some(self.conf.body.as_bytes()),
        );
        Action::Pause
    }
}
