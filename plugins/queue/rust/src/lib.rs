//! Puts the path of each request into a shared queue and logs what comes out of it.
//!
//! Shows: a shared queue between stream contexts and their root context, `on_queue_ready`,
//! and a timer: with `{"tick_ms": 50}` every tick is logged.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;
use std::time::Duration;

const QUEUE: &str = "requests";

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

fn log(line: &str) {
    let _ = hostcalls::log(LogLevel::Info, &format!("queue: {line}"));
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Conf {
    tick_ms: u64,
}

#[derive(Default)]
struct Root {
    queue: u32,
    ticks: u64,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        let conf: Conf = match serde_json::from_slice(&text) {
            Ok(conf) => conf,
            Err(_) if text.is_empty() => Conf::default(),
            Err(error) => {
                let _ = hostcalls::log(LogLevel::Error, &format!("queue: {error}"));
                return false;
            }
        };
        self.queue = self.register_shared_queue(QUEUE);
        self.set_tick_period(Duration::from_millis(conf.tick_ms));
        true
    }

    fn on_tick(&mut self) {
        self.ticks += 1;
        log(&format!("tick {}", self.ticks));
    }

    /// Called once for each entry, but an earlier call may have taken it out already.
    fn on_queue_ready(&mut self, queue: u32) {
        while let Ok(Some(entry)) = self.dequeue_shared_queue(queue) {
            log(&format!("dequeued {}", String::from_utf8_lossy(&entry)));
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { queue: self.queue }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    queue: u32,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        let path = self.get_http_request_header_bytes(":path");
        if self.enqueue_shared_queue(self.queue, path.as_deref()).is_err() {
            log("not enqueued");
        }
        Action::Continue
    }
}
