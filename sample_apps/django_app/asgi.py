"""Django behind a fault-injection plugin.

In the checkout's root: ``uvicorn sample_apps.django_app.asgi:application``.
"""

import os
from pathlib import Path

from django.core.asgi import get_asgi_application

from asgi_wasm import WasmMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sample_apps.django_app.settings")

application = WasmMiddleware(get_asgi_application(), settings=Path(__file__).with_name("asgi-wasm.yaml"))
