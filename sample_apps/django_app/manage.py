"""Django's command line: ``python sample_apps/django_app/manage.py check`` in the checkout's root."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sample_apps.django_app.settings")

    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
