//! Lets each client make so many requests in so many seconds, counted over all workers in shared data.
//!
//! One key a client: the number of the window, and the requests in it.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, Status};
use serde::Deserialize;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

// Two workers that count at once: one of them tries again.
const TRIES: usize = 10;

#[derive(Deserialize)]
#[serde(default)]
struct Conf {
    /// Which header names the client; without it the client's address does.
    header: Option<String>,
    limit: u64,
    seconds: u64,
}

impl Default for Conf {
    fn default() -> Self {
        Conf { header: None, limit: 100, seconds: 60 }
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
        match serde_json::from_slice::<Conf>(&text) {
            Ok(conf) if conf.seconds > 0 => self.conf = Rc::new(conf),
            Ok(_) => return false,
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

impl Stream {
    fn client(&self) -> String {
        if let Some(name) = &self.conf.header {
            return self.get_http_request_header(name).unwrap_or_default();
        }
        let address = self.get_property(vec!["source", "address"]).unwrap_or_default();
        let text = String::from_utf8_lossy(&address).into_owned();
        // Without the port, which is another one for each connection.
        text.rsplit_once(':').map_or(text.clone(), |(host, _)| host.to_string())
    }

    /// How many requests this client has made in this window, with this one.
    fn count(&self, window: u64) -> Result<u64, Status> {
        let key = format!("rate_limit:{}", self.client());
        for _ in 0..TRIES {
            let (value, cas) = self.get_shared_data(&key);
            let kept = value.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(u128::from_le_bytes).unwrap_or(0);
            let (then, so_far) = ((kept >> 64) as u64, kept as u64);
            let now = if then == window { so_far + 1 } else { 1 };
            let new = (u128::from(window) << 64 | u128::from(now)).to_le_bytes();
            match self.set_shared_data(&key, Some(&new), cas) {
                Ok(()) => return Ok(now),
                Err(Status::CasMismatch) => continue,
                Err(status) => return Err(status),
            }
        }
        Err(Status::CasMismatch)
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let seconds = self.get_current_time().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        match self.count(seconds / self.conf.seconds) {
            Ok(count) if count > self.conf.limit => {
                let wait = (self.conf.seconds - seconds % self.conf.seconds).to_string();
                self.send_http_response(429, vec![("retry-after", &wait)], Some(b"too many requests"));
                Action::Pause
            }
            Ok(_) => Action::Continue,
            Err(status) => {
                // Whoever wants requests refused when nobody can count writes another plugin.
                let _ = hostcalls::log(LogLevel::Error, &format!("rate_limit: cannot count: {status:?}"));
                Action::Continue
            }
        }
    }
}
