"""``asgi-wasm new``: a folder with a plugin that builds with one command, and is tested."""

from __future__ import annotations

import re
from pathlib import Path

from asgi_wasm.cli import console
from asgi_wasm.errors import SettingsError

_TEMPLATES = Path(__file__).resolve().parent / "templates"
LANGUAGES = {"rust": "Rust", "go": "Go", "c": "C", "assemblyscript": "AssemblyScript"}
# It becomes a crate, a module, a package and part of a header's name.
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_SUFFIX = ".tmpl"
# Where a template goes that cannot stand under its own name in a package.
_PLACES = {"gitignore": ".gitignore", "ci.yml": ".github/workflows/ci.yml"}
_SETUP = "setup.yml"


def create(language: str, name: str, folder: Path) -> int:
    """Write it into a folder of its name, and say how to go on. Raises `SettingsError`."""
    if language not in LANGUAGES:
        raise SettingsError(f"{language!r} is no language that there is a start for: choose {', '.join(LANGUAGES)}")
    if not _NAME.fullmatch(name) or len(name) > 60:
        raise SettingsError(f"{name!r} is no name for a plugin: use small letters, digits, '-' and '_', as my-plugin")
    target = folder / name
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        raise SettingsError(f"{target} is there already: choose another name, or remove it") from None
    except OSError as error:
        raise SettingsError(f"{target} cannot be made: {error.strerror or error}") from None
    texts = {
        "@NAME@": name,
        "@MODULE@": name.replace("-", "_"),
        "@LANGUAGE@": LANGUAGES[language],
        "@SETUP@": (_TEMPLATES / language / f"{_SETUP}{_SUFFIX}").read_text(encoding="utf-8").rstrip("\n"),
    }
    for source in (_TEMPLATES / "common", _TEMPLATES / language):
        for template in sorted(source.rglob(f"*{_SUFFIX}")):
            place = template.relative_to(source).as_posix().removesuffix(_SUFFIX)
            if place != _SETUP:
                _write(target / _PLACES.get(place, place), template, texts)
    console.line(f"made {target}: a plugin in {LANGUAGES[language]} that blocks the path of its conf", "green")
    console.line(f"  cd {target}")
    console.line(f"  ./build      # makes {name}.wasm; says what to install where the compiler is missing")
    console.line("  pytest       # pip install 'asgi-wasm[cli,testing,watch]', for this and the rest")
    console.line(f"  asgi-wasm test tests.textpb --conf /admin --root-id {name}")
    console.line(f"  asgi-wasm run {name}.wasm --conf /admin --root-id {name} --watch --trace")
    return 0


def _write(path: Path, template: Path, texts: dict[str, str]) -> None:
    text = template.read_text(encoding="utf-8")
    for mark, value in texts.items():
        text = text.replace(mark, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if text.startswith("#!"):
        path.chmod(0o755)
