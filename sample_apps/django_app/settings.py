"""Django's settings: no database, no sessions. A sample's secret is no secret."""

DEBUG = False
SECRET_KEY = "a sample has nothing to sign"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "sample_apps.django_app.urls"
USE_TZ = True

# Plugins log to asgi_wasm.plugin.NAME, the host to asgi_wasm.host.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"asgi_wasm": {"handlers": ["console"], "level": "INFO"}},
}
